"""mteb's protocol, with tasks of local data, beside the peer's model of the same folder."""

import numpy as np
import pytest

from tests import models

PROMPTS = {"LocalRetrieval-query": "query : ", "document": "passage : ", "STS": "it is "}


@pytest.fixture(scope="module")
def tasks(client):
    """Two tasks of made-up data: similarity and retrieval."""
    client("mteb")
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    def described(name, kind, score):
        return TaskMetadata(
            name=name,
            description="made up",
            dataset={"path": "local", "revision": "1"},
            type=kind,
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score=score,
        )

    texts = [text for text in models.sentences(90, seed=5) if text]

    class LocalSTS(AbsTaskSTS):
        metadata = described("LocalSTS", "STS", "cosine_spearman")
        min_score, max_score = 0, 5

        def load_data(self, **options):
            pairs = {"sentence1": texts[:30], "sentence2": texts[30:60]}
            pairs["score"] = [float(i * 7 % 6) for i in range(30)]
            self.dataset = {"test": Dataset.from_dict(pairs)}
            self.data_loaded = True

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = described("LocalRetrieval", "Retrieval", "ndcg_at_10")

        def load_data(self, **options):
            corpus = [
                {"id": f"d{i}", "text": text, "title": ""} for i, text in enumerate(texts[:40])
            ]
            queries = [{"id": f"q{i}", "text": text} for i, text in enumerate(texts[40:50])]
            split = {
                "corpus": Dataset.from_list(corpus),
                "queries": Dataset.from_list(queries),
                "relevant_docs": {f"q{i}": {f"d{3 * i}": 1, f"d{i + 9}": 1} for i in range(10)},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return LocalSTS, LocalRetrieval


def scores(client, model, task, folder):
    mteb = client("mteb")
    results = mteb.evaluate(model, task(), cache=mteb.ResultCache(folder), show_progress_bar=False)
    return results.task_results[0].scores["test"][0]


@pytest.mark.parametrize("prompts", [{}, PROMPTS], ids=["plain", "prompts"])
@pytest.mark.parametrize("which", [0, 1], ids=["STS", "Retrieval"])
def test_scores_are_those_of_the_peer(client, tasks, tiny_folder, tmp_path, which, prompts):
    from mteb.models import SentenceTransformerEncoderWrapper

    from jsbert.integrations.mteb import JsbertEncoder

    peer = client("sentence_transformers").SentenceTransformer(
        str(tiny_folder), device="cpu", prompts={"query": "", "document": ""} | prompts
    )
    wrapped = SentenceTransformerEncoderWrapper(peer)
    wrapped.model_prompts = peer.prompts  # it drops names of tasks that mteb does not know
    ours = scores(
        client, JsbertEncoder(str(tiny_folder), prompts=prompts), tasks[which], tmp_path / "ours"
    )
    theirs = scores(client, wrapped, tasks[which], tmp_path / "theirs")
    numbers = {key: value for key, value in theirs.items() if isinstance(value, float)}
    assert len(numbers) > 5
    assert {key: ours[key] for key in numbers} == pytest.approx(numbers, abs=1e-5, nan_ok=True)


def test_prompts_change_the_scores(client, tasks, tiny_folder, tmp_path):
    from jsbert.integrations.mteb import JsbertEncoder

    first, second = (
        scores(client, JsbertEncoder(str(tiny_folder), prompts=prompts), tasks[1], tmp_path / name)
        for name, prompts in (("plain", {}), ("prompts", PROMPTS))
    )
    assert first != second


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_each_similarity_is_that_of_the_peer(client, tiny_folder, name):
    client("mteb")
    from mteb.models import SentenceTransformerEncoderWrapper

    from jsbert.integrations.mteb import JsbertEncoder

    peer = client("sentence_transformers").SentenceTransformer(
        str(tiny_folder), device="cpu", similarity_fn_name=name
    )
    theirs = SentenceTransformerEncoderWrapper(peer)
    ours = JsbertEncoder(str(tiny_folder), similarity_fn_name=name)
    assert ours.mteb_model_meta.similarity_fn_name == theirs.mteb_model_meta.similarity_fn_name
    first, second = np.random.default_rng(0).standard_normal((2, 5, 24), np.float32)
    for method in ("similarity", "similarity_pairwise"):
        wanted = getattr(peer, method)(first, second).numpy()
        np.testing.assert_allclose(getattr(ours, method)(first, second), wanted, atol=1e-5)


def test_a_cross_encoder_scores_as_the_peer(client, tasks, tiny_cross, tiny_cross_folder):
    from mteb.models import CrossEncoderWrapper
    from mteb.models.models_protocols import CrossEncoderProtocol

    from jsbert.integrations.mteb import JsbertCrossEncoder

    peer = client("sentence_transformers").CrossEncoder(str(tiny_cross_folder), device="cpu")
    ours = JsbertCrossEncoder(tiny_cross)
    assert isinstance(ours, CrossEncoderProtocol)
    from datasets import Dataset
    from torch.utils.data import DataLoader

    texts = [text for text in models.sentences(30, seed=8) if text][:20]
    loaders = [
        DataLoader(Dataset.from_dict({"text": part}), batch_size=4)
        for part in (texts[:10], texts[10:])
    ]
    about = {"task_metadata": tasks[1].metadata, "hf_split": "test", "hf_subset": "default"}
    wrapped = CrossEncoderWrapper(peer)
    assert ours.predict(*loaders, **about) == pytest.approx(
        wrapped.predict(*loaders, **about), abs=1e-5
    )


def test_what_mteb_writes_of_the_model(client, tiny, tiny_folder):
    client("mteb")
    from mteb.models.models_protocols import EncoderProtocol

    from jsbert.integrations.mteb import JsbertEncoder

    encoder = JsbertEncoder(tiny, name="owner/tiny")
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.framework, meta.embed_dim) == ("owner/tiny", ["JAX"], 24)
    meta.to_dict()
    assert JsbertEncoder(tiny).mteb_model_meta.name == "jsbert/model"
