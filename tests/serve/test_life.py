"""A server's life: warming, a full queue, clients that leave, errors, keys and the end."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest

from jsbert.serve.settings import KEYS_VARIABLE, Settings, read_keys
from jsbert.serve.worker import Worker
from tests import programs
from tests.serve.conftest import running, until

SECRET = "a-text-that-no-log-may-hold"


@pytest.fixture
def held(monkeypatch):
    """Let the worker wait before each round until the event is set."""
    go, compute = threading.Event(), Worker._compute

    def wait(self, taken):
        assert go.wait(30)
        return compute(self, taken)

    monkeypatch.setattr(Worker, "_compute", wait)
    yield go
    go.set()


def metric(address, name):
    text = httpx.get(f"{address}/metrics").text
    return float(re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)[1])


def raw(address, body, *, promised=None):
    """Open a connection and send a request to /embed, of which `promised` bytes are announced."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    size = len(body) if promised is None else promised
    head = f"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {size}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return connection


def test_it_listens_at_once_and_is_healthy_when_it_is_warm(tiny):
    go = threading.Event()
    with running({"tiny": tiny}, wait_for=go) as (serving, address):
        answer = httpx.get(f"{address}/health")
        assert (answer.status_code, answer.json()) == (503, {"status": "warming"})
        answer = httpx.post(f"{address}/v1/embeddings", json={"input": "a"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["code"] == "unavailable"
        go.set()
        until(lambda: httpx.get(f"{address}/health").status_code == 200)
        assert httpx.post(f"{address}/v1/embeddings", json={"input": "a"}).status_code == 200
        assert serving.state == "ready"


def test_a_full_queue_answers_429_and_recovers(tiny, held):
    with (
        running({"tiny": tiny}, max_queue_tokens=100) as (serving, address),
        concurrent.futures.ThreadPoolExecutor(4) as threads,
        httpx.Client() as client,
    ):
        ask = {"inputs": ["the cat"] * 20}  # 80 tokens
        first = threads.submit(httpx.post, f"{address}/embed", json=ask, timeout=30)
        until(lambda: serving.scheduler.num_tokens == 80)
        answer = client.post(f"{address}/embed", json=ask)
        assert answer.status_code == 429
        assert answer.json()["error_type"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1
        answer = client.post(f"{address}/v1/embeddings", json={"input": ask["inputs"]})
        assert answer.json()["error"]["type"] == "rate_limit_error"
        # A request that never fits is another error.
        answer = client.post(f"{address}/embed", json={"inputs": ["the cat"] * 30})
        assert (answer.status_code, "tokens" in answer.text) == (413, True)
        held.set()
        assert first.result().status_code == 200
        assert client.post(f"{address}/embed", json=ask).status_code == 200
        assert serving.scheduler.num_tokens == 0


def test_a_client_that_goes_away_leaves_the_queue(tiny, held):
    with running({"tiny": tiny}) as (serving, address):
        connections = [raw(address, b'{"inputs": "a cat"}') for _ in range(5)]
        until(lambda: serving.scheduler.num_jobs == 5)
        for connection in connections:
            connection.close()
        until(lambda: serving.scheduler.num_jobs == 0)
        assert serving.scheduler.num_tokens == 0
        assert metric(address, "jsbert_dropped_requests_total") == 5
        held.set()
        assert httpx.post(f"{address}/embed", json={"inputs": "a"}).status_code == 200


def test_no_answer_in_time_is_503(tiny, held):
    with running({"tiny": tiny}, timeout_seconds=0.2) as (serving, address):
        answer = httpx.post(f"{address}/embed", json={"inputs": "a"})
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert "0.2 seconds" in answer.json()["error"]
        assert serving.scheduler.num_tokens == 0


def test_a_body_that_comes_slowly_is_408(tiny):
    with running({"tiny": tiny}, timeout_seconds=0.3) as (_, address):
        with contextlib.closing(raw(address, b'{"inputs"', promised=20)) as connection:
            connection.settimeout(10)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408")
            assert connection.recv(65536) == b""  # closed
        assert httpx.get(f"{address}/health").status_code == 200


def test_an_error_in_a_batch_is_told_without_the_text(tiny, monkeypatch, caplog):
    compute = Worker._compute

    def fail(self, taken):
        raise RuntimeError(f"about {SECRET}")

    with running({"tiny": tiny}) as (serving, address), httpx.Client(base_url=address) as client:
        monkeypatch.setattr(Worker, "_compute", fail)
        answer = client.post("/v1/embeddings", json={"input": SECRET})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert SECRET not in answer.text
        monkeypatch.setattr(Worker, "_compute", compute)
        assert client.post("/v1/embeddings", json={"input": SECRET}).status_code == 200
        assert serving.scheduler.num_tokens == 0
    assert "RuntimeError in " in caplog.text
    assert SECRET not in caplog.text


def test_keys(tiny, caplog, capfd):
    caplog.set_level("DEBUG")
    keys = ("first-key", "second-key")
    with (
        running({"tiny": tiny}, keys=keys) as (_, address),
        httpx.Client(base_url=address) as client,
    ):
        ask = {"input": SECRET}
        for header in ({}, {"authorization": "Bearer no"}, {"authorization": "Basic first-key"},
                       {"authorization": "Bearer first-keysecond-key"},
                       {"authorization": b"Bearer \xff"}):  # fmt: skip
            answer = client.post("/v1/embeddings", json=ask, headers=header)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        for key in keys:
            answer = client.post(
                "/v1/embeddings", json=ask, headers={"authorization": f"Bearer {key}"}
            )
            assert answer.status_code == 200
        assert client.post("/rerank", json={}).json()["error_type"] == "unauthorized"
        assert client.get("/health").status_code == 200
        assert client.get("/docs").status_code == 200
        assert client.get("/metrics").status_code == client.get("/v1/models").status_code == 401
    logged = caplog.text + "".join(capfd.readouterr())
    assert not any(word in logged for word in (*keys, SECRET))


def test_keys_come_from_a_file_and_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nfirst\n\n  second \n")
    assert read_keys(file, {}) == ("first", "second")
    assert read_keys(file, {KEYS_VARIABLE: "third, first"}) == ("third", "first", "second")
    assert read_keys(None, {}) == ()
    file.write_text("# none\n")
    with pytest.raises(ValueError, match="has no key; write one key a line"):
        read_keys(file, {})
    file.write_text("geheimß\n")
    with pytest.raises(ValueError, match="key 1 has a character") as error:
        read_keys(file, {})
    assert "geheim" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        read_keys(tmp_path / "nothing", {})
    assert "first" not in repr(Settings(keys=("first",)))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"max_queue_tokens": 0}, "max_queue_tokens is 0"),
        ({"port": 70000}, "port is 70000"),
        ({"timeout_seconds": 0.0}, "timeout is 0.0 seconds"),
    ],
)
def test_settings_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        Settings(**options)


def test_other_origins_get_in_only_if_asked(tiny):
    origin = {"origin": "https://example.com"}
    with running({"tiny": tiny}) as (_, address):
        assert (
            "access-control-allow-origin"
            not in httpx.get(f"{address}/health", headers=origin).headers
        )
    with running({"tiny": tiny}, cors=("https://example.com",), keys=("k",)) as (_, address):
        answer = httpx.get(f"{address}/v1/models", headers=origin)
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "https://example.com"
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        answer = httpx.options(f"{address}/embed", headers=origin | asked)
        assert answer.status_code == 200
        answer = httpx.options(f"{address}/embed", headers=asked | {"origin": "https://other.com"})
        assert "access-control-allow-origin" not in answer.headers


def test_without_a_reranker_reranking_is_404(tiny):
    with running({"tiny": tiny}) as (_, address):
        for path, body in (
            ("/rerank", {"query": "a", "texts": ["b"]}),
            ("/predict", {"inputs": "a"}),
            ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ):
            answer = httpx.post(f"{address}{path}", json=body)
            assert (answer.status_code, "--reranker" in answer.text) == (404, True)


@contextlib.contextmanager
def process(*arguments):
    """`jsbert serve` in a process of its own: the process, and its address."""
    environment = os.environ | {"XLA_FLAGS": programs.quick_flags(), KEYS_VARIABLE: "k-e-y"}
    command = [sys.executable, "-m", "jsbert", "serve", "--port", "0", "--warm-tokens", "1"]
    with subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            address = started.stderr.readline().split()[-1]
            yield started, address
        finally:
            started.kill()


def test_sigterm_answers_what_is_queued(tiny_folder, tiny):
    texts = [f"the cat {'sat on the red tree' * (i % 2)} {i % 10}" for i in range(400)]
    with process(tiny_folder) as (server, address):
        with (
            httpx.Client(
                base_url=address, headers={"authorization": "Bearer k-e-y"}, timeout=60
            ) as client,
            concurrent.futures.ThreadPoolExecutor(8) as threads,
        ):
            until(lambda: client.get("/health").status_code == 200, 60)
            asked = [
                threads.submit(client.post, "/embed", json={"inputs": texts[i : i + 100]})
                for i in range(0, 400, 100)
            ]

            def queued():
                found = re.search(
                    r"^jsbert_queue_requests (.*)$", client.get("/metrics").text, re.M
                )
                return float(found[1]) == 4

            until(queued, 30)
            server.send_signal(signal.SIGTERM)
            until(lambda: client.get("/health").status_code == 503)
            answer = client.post("/embed", json={"inputs": "a"})
            assert (answer.status_code, "ending" in answer.text) == (503, True)
            answers = [one.result() for one in asked]
        assert [answer.status_code for answer in answers] == [200] * 4
        vectors = np.concatenate([answer.json() for answer in answers])
        np.testing.assert_allclose(vectors, tiny.encode(texts), rtol=0, atol=1e-6)
        assert server.wait(30) == 0
        said = server.stderr.read()
    assert "answering what is queued" in said
    assert "k-e-y" not in said
    assert "the cat" not in said


def test_a_second_signal_ends_at_once(tiny_folder):
    with process(tiny_folder, "--timeout", "50") as (server, address):
        until(lambda: _is_ready(address), 60)
        texts = json.dumps({"inputs": ["the cat sat on the red tree"] * 2000})
        head = {"authorization": "Bearer k-e-y", "content-type": "application/json"}

        def ask():
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(f"{address}/embed", content=texts, headers=head, timeout=60)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: not _is_idle(address, head), 30)
        server.send_signal(signal.SIGINT)
        until(lambda: not _is_ready(address))
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 128 + signal.SIGINT
        asking.join()


def _is_ready(address):
    return httpx.get(f"{address}/health").status_code == 200


def _is_idle(address, headers):
    return "jsbert_queue_requests 0.0" in httpx.get(f"{address}/metrics", headers=headers).text


def test_the_command_refuses_what_cannot_be_served(tmp_path, capfd):
    from tests.command_line import is_one_line, run

    code, _, err = run(capfd, ["serve", tmp_path])
    assert code == 1
    assert is_one_line(err, "modules.json")
    code, _, err = run(capfd, ["serve", "--api-key-file", tmp_path / "none"])
    assert (code, is_one_line(err, "none")) == (1, True)
    code, _, err = run(capfd, ["serve", "--timeout", "0"])
    assert (code, is_one_line(err, "timeout is 0.0")) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run(capfd, ["serve", "--port", taken.getsockname()[1]])
        assert (code, is_one_line(err, "in use")) == (1, True)


def test_a_model_that_cannot_be_opened_ends_the_server(tiny_folder, tmp_path, capfd):
    import shutil

    from tests.command_line import run

    shutil.copytree(tiny_folder, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nothing")
    code, _, err = run(capfd, ["serve", tmp_path / "broken", "--port", "0"])
    assert code == 1
    assert "model.safetensors" in err.splitlines()[-1]
    assert json.dumps(err).count("Traceback") == 0
    assert pathlib.Path(tmp_path).exists()
