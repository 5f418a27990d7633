"""scikit-learn and datasets."""

import pickle

import numpy as np
import pytest

from tests import models

TEXTS = [text for text in models.sentences(60, seed=4) if text][:40]
LABELS = ["cat" in text for text in TEXTS]


@pytest.fixture
def sklearn(client):
    return client("sklearn")


def test_a_grid_search_over_the_options(sklearn, tiny_folder):
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    from jsbert.integrations.sklearn import SentenceEncoder

    pipeline = make_pipeline(SentenceEncoder(str(tiny_folder)), LogisticRegression())
    grid = {
        "sentenceencoder__truncate_dim": [2, 24],
        "sentenceencoder__normalize_embeddings": [False, True],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert len(search.cv_results_["params"]) == 4
    assert search.predict(TEXTS[:3]).shape == (3,)
    encoder = SentenceEncoder(str(tiny_folder), truncate_dim=5)
    assert clone(encoder).get_params() == encoder.get_params()
    assert clone(encoder).set_params(truncate_dim=None).transform(TEXTS).shape == (40, 24)
    assert len(pickle.dumps(search.best_estimator_)) < 20_000  # the name, not the model


def test_pandas_in_and_out(sklearn, client, tiny, tiny_folder):
    pandas = client("pandas")
    from sklearn.compose import make_column_transformer

    from jsbert.integrations.sklearn import SentenceEncoder

    table = pandas.DataFrame({"text": TEXTS, "number": range(40)}, index=range(7, 47))
    encoder = SentenceEncoder(str(tiny_folder), truncate_dim=3)
    joined = make_column_transformer((encoder, "text"), remainder="passthrough")
    joined.set_output(transform="pandas")
    found = joined.fit_transform(table)
    assert found.columns[0] == "sentenceencoder__sentenceencoder0"
    assert found.shape == (40, 4)
    np.testing.assert_allclose(
        found.to_numpy(float)[:, :3], tiny.encode(TEXTS, truncate_dim=3), atol=1e-6
    )
    assert list(encoder.fit(table["text"]).get_feature_names_out()) == [
        f"sentenceencoder{i}" for i in range(3)
    ]
    np.testing.assert_array_equal(encoder.transform(table[["text"]]), encoder.transform(TEXTS))
    with pytest.raises(ValueError, match="X has 2 columns; give one column of texts"):
        encoder.transform(table)


def test_a_model_object_can_be_given(sklearn, tiny):
    from sklearn.base import clone

    from jsbert.integrations.sklearn import SentenceEncoder

    copied = clone(SentenceEncoder(tiny, prompt="query : "))
    wanted = tiny.encode(TEXTS, prompt="query : ")
    np.testing.assert_allclose(copied.fit_transform(TEXTS), wanted, atol=1e-6)


def test_the_cache_of_datasets_knows_the_function_again(client, tiny_folder):
    datasets, fingerprint = client("datasets"), client("datasets.fingerprint")
    from jsbert.integrations.datasets import EncodeColumn

    options = {"to": "code", "truncate_dim": 8, "precision": "binary"}
    first, second = (EncodeColumn("text", str(tiny_folder), **options) for _ in range(2))
    before = fingerprint.Hasher.hash(first)
    coded = datasets.Dataset.from_dict({"text": TEXTS}).map(first, batched=True)
    assert (coded.column_names, len(coded[0]["code"])) == (["text", "code"], 1)
    assert fingerprint.Hasher.hash(first) == fingerprint.Hasher.hash(second) == before


def test_the_same_function_embeds_data_sets_and_the_frames_of_spark(client, tiny, tiny_folder):
    datasets, pandas = client("datasets"), client("pandas")
    from jsbert.integrations.datasets import EncodeColumn

    encode = EncodeColumn("text", str(tiny_folder), truncate_dim=8)
    wanted = tiny.encode(TEXTS, truncate_dim=8)
    mapped = datasets.Dataset.from_dict({"text": TEXTS}).map(encode, batched=True, batch_size=9)
    vectors = mapped.with_format("numpy")["embedding"][:]
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)

    # What mapInPandas takes: a function from an iterator of frames to one.
    def frames(batches):
        for frame in batches:
            yield frame.assign(embedding=list(encode(frame)["embedding"]))

    table = pandas.DataFrame({"id": range(40), "text": TEXTS})
    found = pandas.concat(frames(table[start : start + 16] for start in (0, 16, 32)))
    assert list(found.columns) == ["id", "text", "embedding"]
    np.testing.assert_allclose(np.stack(found["embedding"]), wanted, atol=1e-6)
