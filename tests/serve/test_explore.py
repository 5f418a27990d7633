"""What the page asks the server, without a browser."""

import base64

import httpx
import numpy as np
import pytest

from jsbert.serve import explore
from jsbert.serve.corpus import read_corpus
from tests.serve.conftest import running


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_files_come_with_a_strict_policy(client):
    for path, (_, media_type) in explore.FILES.items():
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text.replace("http://www.w3.org", "")
        assert "https://" not in answer.text


def test_the_page_embeds_queries_and_documents(client, tiny):
    texts = ["a boat", "the harbour " * 60]
    found = client.post("/page/embed", json={"texts": texts}).json()
    expected = tiny.encode_document(texts, normalize_embeddings=True, on_truncate="ignore")
    np.testing.assert_allclose(floats(found["vectors"]).reshape(2, -1), expected, atol=1e-6)
    assert found["truncated"] == [1]
    found = client.post("/page/embed", json={"texts": ["a boat"], "query": True}).json()
    expected = tiny.encode_query("a boat", normalize_embeddings=True)
    np.testing.assert_allclose(floats(found["vectors"]), expected, atol=1e-6)


def test_the_axes_are_those_of_pca(client, tiny):
    vectors = np.random.default_rng(0).standard_normal((50, tiny.get_embedding_dimension()))
    vectors = (vectors * np.linspace(1, 3, vectors.shape[1])).astype("<f4")
    found = client.post("/page/axes", content=vectors.tobytes()).json()
    np.testing.assert_allclose(floats(found["mean"]), vectors.mean(0), atol=1e-5)
    axes = floats(found["axes"]).reshape(2, -1)
    _, _, rows = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    for mine, other in zip(axes, rows, strict=False):
        assert abs(float(mine @ other)) == pytest.approx(1, abs=1e-4)
        assert mine[np.abs(mine).argmax()] > 0


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"123", 400), (b"\x00" * 8, 400), (b"nan", 400)]
)
def test_bodies_that_hold_no_vectors_are_refused(client, body, status):
    answer = client.post("/page/axes", content=body)
    assert answer.status_code == status
    assert "rows of" in answer.json()["error"]


def test_numbers_that_are_not_finite_are_refused(client, tiny):
    row = np.full(tiny.get_embedding_dimension(), np.nan, "<f4").tobytes()
    assert client.post("/page/axes", content=row).status_code == 422
    too_many = row * (explore.MAX_POINTS + 1)
    assert client.post("/page/axes", content=too_many).status_code == 413


def test_a_corpus_is_read_and_served(tiny, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('id,Sentence\n1,"a, b"\n2,\n3,c\n', encoding="utf8")
    corpus = read_corpus(file)
    assert corpus == ("rows.csv", ["a, b", "c"])
    (tmp_path / "rows.tsv").write_text("word\tnumber\none\t1\n\ntwo\t2\n")
    assert read_corpus(tmp_path / "rows.tsv").texts == ["one", "two"]
    (tmp_path / "lines.txt").write_text("one\n\n two \n")
    assert read_corpus(tmp_path / "lines.txt").texts == ["one", "two"]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="has 0 texts; the page takes 1 to 50,000"):
        read_corpus(tmp_path / "none.txt")
    with running({"tiny": tiny}, corpus=corpus) as (_, address):
        assert httpx.get(address + "/page/info").json()["corpus"] == "rows.csv"
        assert httpx.get(address + "/page/corpus").json()["texts"] == ["a, b", "c"]


def test_without_a_corpus_there_is_none(client):
    assert client.get("/page/info").json()["corpus"] is None
    assert client.get("/page/corpus").status_code == 404
