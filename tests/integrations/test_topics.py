"""BERTopic and KeyBERT, whose own choice of a backend knows no jsbert."""

import numpy as np
import pytest

from tests import models

DOCUMENTS = [
    "the red cat sat under the tree",
    "the blue dog ran to the house",
    "a query is slowly passed to the house",
    "the dog and the cat sat on the tree",
    "it was red and it ran quickly",
] * 4


def light_topics(client, embedder):
    """A BERTopic without umap and hdbscan."""
    bertopic, cluster = client("bertopic"), client("sklearn.cluster")
    return bertopic.BERTopic(
        embedding_model=embedder,
        umap_model=client("sklearn.decomposition").PCA(3),
        hdbscan_model=cluster.KMeans(2, n_init=1, random_state=0),
    )


def test_bertopic_computes_with_the_given_model(client, tiny):
    client("bertopic")
    from jsbert.integrations.bertopic import JsbertEmbedder

    topics = light_topics(client, JsbertEmbedder(tiny))
    found, _ = topics.fit_transform(DOCUMENTS)
    given, _ = light_topics(client, JsbertEmbedder(tiny)).fit_transform(
        DOCUMENTS, tiny.encode(DOCUMENTS)
    )
    assert found == given
    assert len(set(found)) == 2
    nearest, scores = topics.find_topics("red cat", top_n=2)
    centre = topics.topic_embeddings_[nearest[0] + topics._outliers]
    vector = tiny.encode("red cat")
    assert scores[0] == pytest.approx(centre @ vector / np.linalg.norm(centre), abs=1e-5)


@pytest.mark.parametrize("serialization", ["pickle", "safetensors"])
def test_a_saved_topic_model_goes_on(client, tiny, tmp_path, serialization):
    bertopic = client("bertopic")
    from jsbert.integrations.bertopic import JsbertEmbedder

    topics = light_topics(client, JsbertEmbedder(tiny))
    topics.fit(DOCUMENTS)
    topics.save(tmp_path / "topics", serialization=serialization, save_embedding_model=True)
    again = bertopic.BERTopic.load(
        str(tmp_path / "topics"),
        embedding_model=None if serialization == "pickle" else JsbertEmbedder(tiny),
    )
    assert again.find_topics("red cat") == topics.find_topics("red cat")
    assert len(again.transform(["the red cat"])[0]) == 1


@pytest.mark.parametrize("options", [{}, {"use_mmr": True}, {"use_maxsum": True}])
def test_keybert_finds_the_keywords_of_the_peer(client, tiny, tiny_folder, options):
    keybert = client("keybert")
    peer = client("sentence_transformers").SentenceTransformer(str(tiny_folder), device="cpu")
    from jsbert.integrations.keybert import JsbertEmbedder

    texts = [text for text in models.sentences(12, longest=20) if len(set(text.split())) > 8]
    options = {"keyphrase_ngram_range": (1, 2), "top_n": 4, "stop_words": None} | options
    ours, theirs = (
        keybert.KeyBERT(model=model).extract_keywords(texts, **options)
        for model in (JsbertEmbedder(tiny), peer)
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert dict(mine) == pytest.approx(dict(other), abs=2e-4)  # KeyBERT rounds to 4 digits


def test_an_embedder_takes_a_name_and_refuses_other_things(client, tiny_folder):
    client("keybert")
    from jsbert.integrations.keybert import JsbertEmbedder

    embedder = JsbertEmbedder(str(tiny_folder), truncate_dim=5, normalize_embeddings=True)
    vectors = embedder.embed(np.array(["a cat", "the dog"], dtype=object))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.shape == (2, 5)
    with pytest.raises(TypeError, match="model is list .* give a jsbert.SentenceTransformer"):
        JsbertEmbedder([1])
