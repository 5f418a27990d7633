"""Each endpoint answers in the form of its API, with the vectors of `encode`."""

import base64
import json

import numpy as np
import pytest

from tests.models import sentences
from tests.serve.conftest import until

TEXTS = ["the cat sat", "", "a red dog ran quickly under the blue tree", "query: house"]
NEAR = dict(rtol=0, atol=1e-6)  # float32: other shapes add in another order


def post(client, path, **body):
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_openai_embeddings(client, tiny):
    answer = post(client, "/v1/embeddings", input=TEXTS, model="tiny", user="me")
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    assert [one["index"] for one in answer["data"]] == [0, 1, 2, 3]
    assert {one["object"] for one in answer["data"]} == {"embedding"}
    vectors = [one["embedding"] for one in answer["data"]]
    np.testing.assert_allclose(vectors, tiny.encode(TEXTS), **NEAR)
    count = int(tiny.tokenize(TEXTS)["attention_mask"].sum())
    assert answer["usage"] == {"prompt_tokens": count, "total_tokens": count}


@pytest.mark.parametrize("value", ["the cat sat", ["the cat sat"]])
def test_openai_takes_one_text_too_and_a_model_by_default(client, tiny, value):
    (found,) = post(client, "/v1/embeddings", input=value)["data"]
    np.testing.assert_allclose(found["embedding"], tiny.encode("the cat sat"), **NEAR)


def test_openai_takes_token_ids_unchanged(client, tiny):
    ids = [[2, 10, 11, 3], [2, 3], [2, 15, 15, 15, 15, 15, 3]]
    found = post(client, "/v1/embeddings", input=ids)["data"]
    np.testing.assert_allclose([one["embedding"] for one in found], tiny.encode(ids), **NEAR)
    (found,) = post(client, "/v1/embeddings", input=ids[0])["data"]
    np.testing.assert_allclose(found["embedding"], tiny.encode(ids[0]), **NEAR)


def test_openai_base64_is_float32(client, tiny):
    found = post(client, "/v1/embeddings", input=TEXTS, encoding_format="base64")["data"]
    vectors = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in found]
    np.testing.assert_allclose(vectors, tiny.encode(TEXTS), **NEAR)


def test_openai_dimensions_are_cut_and_normalised(client, tiny):
    found = post(client, "/v1/embeddings", input=TEXTS, dimensions=5)["data"]
    wanted = tiny.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    np.testing.assert_allclose([one["embedding"] for one in found], wanted, **NEAR)


def test_openai_models(client):
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    assert [one["id"] for one in answer["data"]] == ["tiny", "tiny-cross"]


def test_tei_embed(client, tiny):
    np.testing.assert_allclose(post(client, "/embed", inputs=TEXTS), tiny.encode(TEXTS), **NEAR)
    found = post(client, "/embed", inputs="the cat sat")
    np.testing.assert_allclose(found, tiny.encode(["the cat sat"]), **NEAR)
    cut = tiny.encode(TEXTS, truncate_dim=7)
    found = post(client, "/embed", inputs=TEXTS, dimensions=7, normalize=False)
    np.testing.assert_allclose(found, cut, **NEAR)
    found = post(client, "/embed", inputs=TEXTS, dimensions=7)
    np.testing.assert_allclose(found, unit(cut), **NEAR)
    found = post(client, "/", inputs=TEXTS, prompt_name="query", truncate=True)
    np.testing.assert_allclose(found, tiny.encode(TEXTS, prompt_name="query"), **NEAR)


def test_tei_embed_all(client, tiny):
    found = post(client, "/embed_all", inputs=TEXTS)
    wanted = tiny.encode(TEXTS, output_value="token_embeddings")
    assert [len(one) for one in found] == [len(one) for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)  # not normalised


def test_tei_similarity(client, tiny):
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    found = post(client, "/similarity", inputs=inputs, parameters={"truncate": True})
    vectors = tiny.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], **NEAR)


def test_tei_rerank(client, tiny_cross):
    found = post(client, "/rerank", query="a cat", texts=TEXTS, return_text=True)
    wanted = tiny_cross.rank("a cat", TEXTS, return_documents=True)
    assert [one["index"] for one in found] == [one["corpus_id"] for one in wanted]
    assert [one["text"] for one in found] == [one["text"] for one in wanted]
    scores = [one["score"] for one in found]
    np.testing.assert_allclose(scores, [one["score"] for one in wanted], **NEAR)
    raw = post(client, "/rerank", query="a cat", texts=TEXTS, raw_scores=True)
    logits = tiny_cross.predict([("a cat", text) for text in TEXTS], activation_fn="identity")
    found = [one["score"] for one in raw]
    np.testing.assert_allclose(found, sorted(logits, reverse=True), rtol=0, atol=1e-5)
    assert "text" not in raw[0]


def test_tei_predict(client, tiny_cross):
    pairs = [["a cat", "the dog ran"], ["red", "blue"]]
    wanted = tiny_cross.predict([tuple(pair) for pair in pairs])
    found = post(client, "/predict", inputs=pairs)
    assert [[one["label"] for one in labels] for labels in found] == [["LABEL_0"], ["LABEL_0"]]
    scores = [labels[0]["score"] for labels in found]
    np.testing.assert_allclose(scores, wanted, **NEAR)
    (single,) = post(client, "/predict", inputs=pairs[0])
    assert single["score"] == pytest.approx(wanted[0], abs=1e-6)
    texts = post(client, "/predict", inputs=[["a cat"], ["red", "blue"]])
    assert len(texts) == 2
    assert texts[1][0]["score"] == pytest.approx(wanted[1], abs=1e-6)


def test_tei_tokenize(client, tiny):
    (found,) = post(client, "/tokenize", inputs="the cats")
    assert [one["id"] for one in found] == tiny.tokenize(["the cats"])["input_ids"][0].tolist()
    assert found[0] == {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert [one["text"] for one in found[1:-1]] == ["the", "cat", "s"]
    assert (found[3]["start"], found[3]["stop"]) == (7, 8)
    found = post(client, "/tokenize", inputs=["the", "a"], add_special_tokens=False)
    assert [[one["text"] for one in text] for text in found] == [["the"], ["a"]]


def test_tei_info(client):
    found = client.get("/info").json()
    assert found["model_id"] == "tiny"
    assert found["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["max_input_length"] == 32


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_cohere_rerank(client, tiny_cross, path):
    documents = [TEXTS[0], {"text": TEXTS[2]}, TEXTS[3]]
    texts = [TEXTS[0], TEXTS[2], TEXTS[3]]
    answer = post(
        client, path, query="a cat", documents=documents, top_n=2, return_documents=True,
        model="tiny-cross",
    )  # fmt: skip
    wanted = tiny_cross.rank("a cat", texts, top_k=2)
    assert [one["index"] for one in answer["results"]] == [one["corpus_id"] for one in wanted]
    for one, other in zip(answer["results"], wanted, strict=True):
        assert one["relevance_score"] == pytest.approx(other["score"], abs=1e-6)
        assert one["document"] == {"text": texts[one["index"]]}
    assert answer["model"] == "tiny-cross"
    assert answer["usage"]["total_tokens"] > 0
    assert "document" not in post(client, path, query="a", documents=texts)["results"][0]


def test_vectors_are_those_of_encode_whatever_the_company(client, tiny):
    """Requests of all kinds and sizes at the same time do not change each other's vectors."""
    from concurrent.futures import ThreadPoolExecutor

    requests = [sentences(size, seed=seed) for seed, size in enumerate([1, 1, 2, 60, 1, 9, 200, 3])]

    def ask(texts):
        found = post(client, "/embed", inputs=texts, normalize=False)
        np.testing.assert_allclose(found, tiny.encode(texts), **NEAR)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, requests * 4))


def test_truncation_is_said_and_can_be_refused(client, served):
    long = "the cat " * 40
    answer = client.post("/embed", json={"inputs": [long, "a", long]})
    assert answer.headers["x-truncated-texts"] == "2"
    answer = client.post("/embed", json={"inputs": ["a", long], "truncate": False})
    assert answer.status_code == 413
    assert answer.json()["error_type"] == "validation"
    assert "inputs: text 1 is longer than 32 tokens" in answer.json()["error"]
    assert "jsbert_truncated_texts_total" in client.get("/metrics").text


OPENAI = "/v1/embeddings"


@pytest.mark.parametrize(
    "path, body, status, field, words",
    [
        (OPENAI, {"input": 5}, 400, "input", "valid string"),
        (OPENAI, {"input": ["a", 5]}, 400, "input", "item 1"),
        (OPENAI, {"input": [True]}, 400, "input", "valid"),
        (OPENAI, {"input": []}, 400, "input", "no text"),
        (OPENAI, {"input": [[]]}, 400, "input", "0 token ids"),
        (OPENAI, {"input": [[1, 10**6]]}, 400, "input", "token ids from 1 to 1000000"),
        (OPENAI, {"input": [[5] * 33]}, 400, "input", "33 token ids"),
        (OPENAI, {"input": [[10**30]]}, 400, "input", "token ids"),
        (OPENAI, {}, 400, "input", "required"),
        (OPENAI, {"input": "a", "dimensions": 0}, 400, "dimensions", "24 dimensions"),
        (OPENAI, {"input": "a", "dimensions": 25}, 400, "dimensions", "24 dimensions"),
        (OPENAI, {"input": "a", "dimensions": 1.5}, 400, "dimensions", "integer"),
        (OPENAI, {"input": "a", "encoding_format": "int"}, 400, "encoding_format", "base64"),
        (OPENAI, {"input": "a", "model": "no"}, 404, "model", "'tiny'"),
        (OPENAI, {"input": "\ud800"}, 400, "input", "Unicode"),
        (OPENAI, {"input": ["a"] * 3000}, 413, "input", "at most 2048"),
        (OPENAI, {"input": [[5]], "prompt_name": "query"}, 200, None, None),
        (OPENAI, {"input": "a", "prompt_name": "no"}, 400, "prompt_name", "document"),
    ],
)
def test_openai_errors(client, path, body, status, field, words):
    answer = client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    if status != 200:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["param"] == field
        assert words in error["message"]


@pytest.mark.parametrize(
    "path, body, status, kind, words",
    [
        ("/embed", {"inputs": 5}, 422, "validation", "inputs: "),
        ("/embed", {"inputs": []}, 400, "empty", "inputs: "),
        ("/embed", {"inputs": "a", "prompt_name": "no"}, 422, "validation", "prompt_name: "),
        ("/embed", {"inputs": "a", "normalize": "yes"}, 422, "validation", "normalize: "),
        ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "validation", "right"),
        ("/embed", {"inputs": "\ud800"}, 422, "tokenizer", "inputs: "),
        ("/embed_all", {"inputs": ["a " * 40] * 300}, 413, "validation", "8192"),
        ("/similarity", {"inputs": {"source_sentence": "a"}}, 422, "validation", "inputs: "),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "empty", "one"),
        ("/rerank", {"query": "a", "texts": []}, 400, "empty", "texts: "),
        ("/rerank", {"query": "a", "texts": "b"}, 422, "validation", "texts: "),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "validation", "3 strings"),
        ("/predict", {"inputs": []}, 400, "empty", "inputs: "),
        ("/tokenize", {"inputs": 5}, 422, "validation", "inputs: "),
        ("/nowhere", {}, 404, "not_found", "/docs"),
        ("/health", {}, 405, "validation", "method"),
    ],
)
def test_tei_errors(client, path, body, status, kind, words):
    answer = client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert answer.json()["error_type"] == kind
    assert words in answer.json()["error"]


def test_cohere_errors(client):
    answer = client.post("/v1/rerank", json={"query": "a", "documents": ["b"], "top_n": 0})
    assert answer.status_code == 422
    assert answer.json() == {"message": "top_n: Input should be greater than or equal to 1"}
    answer = client.post("/v1/rerank", json={"query": "a", "documents": ["b"], "model": "no"})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[1]", "application/json"),
        (b'{"inputs": "a"}', "text/plain"),
        (b"[" * 100_000, "application/json"),
        (b'{"inputs": ' + b"1" * 10_000 + b"}", "application/json"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(client, content, kind):
    answer = client.post("/embed", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 422)
    assert "body" in answer.json()["error"]


def test_a_body_that_is_too_large_is_refused(client, served):
    for content in (b"x" * (2 << 20), (b"x" * 65536 for _ in range(32))):
        answer = client.post(OPENAI, content=content)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert "1 MiB" in answer.json()["error"]["message"]
    until(lambda: served[0].num_working == 0)


def test_the_pages_and_the_description(client):
    assert "jsbert" in client.get("/").text
    assert "POST /v1/embeddings" in client.get("/docs").text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/embeddings", "/embed", "/v1/rerank", "/health", "/metrics"} <= set(paths)
    for page in ("/", "/docs"):
        assert "http" not in client.get(page).text.replace("http-equiv", "")


def test_metrics_count_requests_batches_and_programs(client):
    client.post("/embed", json={"inputs": ["a cat", "a cat sat on the red tree"]})
    client.get("/nothing-like-this")
    text = client.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(values['jsbert_requests_total{route="/embed",status="200"}']) >= 1
    assert float(values['jsbert_requests_total{route="other",status="404"}']) >= 1
    assert "nothing-like-this" not in text
    for name in (
        "batch_tokens_total", "batch_padding_tokens_total", "compilations", "compile_seconds",
        "queue_wait_seconds_count", "request_seconds_count{route=\"/embed\"}", "texts_total",
    ):  # fmt: skip
        assert float(values[f"jsbert_{name}"]) > 0, name
    assert float(values["jsbert_queue_tokens"]) == 0
    assert float(values["jsbert_ready"]) == 1
