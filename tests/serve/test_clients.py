"""The clients that people have get the vectors of `encode`."""

import json
import shutil
import subprocess

import httpx
import huggingface_hub
import numpy as np
import pytest

from tests.models import sentences

TEXTS = sentences(20, seed=1)
NEAR = dict(rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"dimensions": 5}])
def test_openai(served, tiny, options):
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    with openai.OpenAI(base_url=f"{served[1]}/v1", api_key="any") as client:
        answer = client.embeddings.create(model="tiny", input=TEXTS, **options)
        names = [one.id for one in client.models.list().data]
    wanted = tiny.encode(TEXTS)
    if "dimensions" in options:
        wanted = tiny.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    np.testing.assert_allclose([one.embedding for one in answer.data], wanted, **NEAR)
    assert names == ["tiny", "tiny-cross"]


def test_openai_raises_its_own_errors(served):
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    with openai.OpenAI(base_url=f"{served[1]}/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as found:
            client.embeddings.create(model="text-embedding-3-small", input="a")
        assert (found.value.code, found.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as found:
            client.embeddings.create(model="tiny", input=[])
        assert found.value.param == "input"


def test_langchain_openai(served, tiny):
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    package = pytest.importorskip(
        "langchain_openai", reason="langchain-openai is large and not in the extra `test`"
    )
    with openai.DefaultHttpxClient() as http:
        embeddings = package.OpenAIEmbeddings(
            model="tiny",
            base_url=f"{served[1]}/v1",
            api_key="any",
            check_embedding_ctx_length=False,
            http_client=http,
        )
        found = embeddings.embed_documents(TEXTS)
        np.testing.assert_allclose(found, tiny.encode(TEXTS), **NEAR)
        np.testing.assert_allclose(embeddings.embed_query(TEXTS[3]), tiny.encode(TEXTS[3]), **NEAR)


@pytest.fixture
def online(monkeypatch):
    """Let huggingface_hub send requests, which go to the tests' server only."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield
    huggingface_hub.close_session()


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("path", ["/embed", ""])
def test_huggingface_hub(served, tiny, path):
    client = huggingface_hub.InferenceClient(model=f"{served[1]}{path}")
    np.testing.assert_allclose(client.feature_extraction(TEXTS), tiny.encode(TEXTS), **NEAR)
    found = client.feature_extraction("a cat", normalize=False, prompt_name="query", truncate=True)
    np.testing.assert_allclose(found, tiny.encode(["a cat"], prompt_name="query"), **NEAR)


@pytest.mark.usefixtures("online")
def test_huggingface_hub_sentence_similarity(served, tiny):
    client = huggingface_hub.InferenceClient(model=f"{served[1]}/similarity")
    found = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    vectors = tiny.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], **NEAR)


@pytest.mark.parametrize("version", ["Client", "ClientV2"])
def test_cohere(served, tiny_cross, version):
    cohere = pytest.importorskip("cohere", reason="cohere is large and not in the extra `test`")
    with httpx.Client() as http:
        client = getattr(cohere, version)(base_url=served[1], api_key="any", httpx_client=http)
        answer = client.rerank(model="tiny-cross", query="a cat", documents=TEXTS, top_n=3)
    wanted = tiny_cross.rank("a cat", TEXTS, top_k=3)
    assert [one.index for one in answer.results] == [one["corpus_id"] for one in wanted]
    scores = [one.relevance_score for one in answer.results]
    np.testing.assert_allclose(scores, [one["score"] for one in wanted], **NEAR)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl(served, tiny):
    command = ["curl", "-s", f"{served[1]}/embed", "-H", "content-type: application/json"]
    done = subprocess.run(
        [*command, "-d", json.dumps({"inputs": TEXTS})], capture_output=True, check=True
    )
    np.testing.assert_allclose(json.loads(done.stdout), tiny.encode(TEXTS), **NEAR)
