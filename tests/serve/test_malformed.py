"""Malformed requests, made from the OpenAPI description and from bytes: none of them breaks, blocks
or grows the server."""

import contextlib
import json
import random
import re
import socket
import time

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.serve.conftest import running, until

VALID = {
    "/v1/embeddings": {"input": ["a cat", "a dog"], "model": "tiny"},
    "/v1/rerank": {"query": "a", "documents": ["a cat", {"text": "a dog"}], "top_n": 1},
    "/embed": {"inputs": ["a cat"], "truncate": True, "normalize": True, "prompt_name": "query"},
    "/embed_all": {"inputs": [[2, 7, 3]]},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {}},
    "/rerank": {"query": "a", "texts": ["a cat", "a dog"], "raw_scores": False},
    "/predict": {"inputs": [["a cat", "a dog"], ["a"]]},
    "/tokenize": {"inputs": "a cat", "add_special_tokens": True},
}
FIELDS = sorted({field for body in VALID.values() for field in body} | {
    "dimensions", "encoding_format", "user", "truncation_direction", "return_text",
    "return_documents",
})  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats()
    | st.text(alphabet=st.characters(exclude_categories=()), max_size=60)
    | st.sampled_from(["a cat " * 3000, "\ud800", "\0", "query", "tiny", "float", "base64"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=12,
)
large = st.sampled_from(
    [["a"] * 5000, [[5]] * 5000, list(range(20_000)), [1.5] * 20_000, [None] * 20_000]
)


@st.composite
def bodies(draw):
    """(path, bytes): a valid body of the path with some fields changed; or any bytes."""
    path = draw(st.sampled_from(sorted(VALID)))
    kind = draw(st.sampled_from(["changed"] * 6 + ["value", "cut", "bytes", "deep"]))
    body = dict(VALID[path])
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from(FIELDS))
        if draw(st.booleans()):
            body[field] = draw(values | large)
        else:
            body.pop(field, None)
    text = json.dumps(body).encode()
    if kind == "value":
        text = json.dumps(draw(values)).encode()
    if kind == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    if kind == "bytes":
        text = draw(st.binary(max_size=200))
    if kind == "deep":
        text = draw(st.sampled_from([b"[", b'{"input":', b'{"a":['])) * draw(st.integers(1, 20_000))
    return path, text


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Request:
    """The bytes of a request in pieces, and whether the connection is closed after them."""

    def __init__(self, pieces, leaves):
        self.pieces, self.leaves = pieces, leaves

    def __repr__(self):
        return f"Request({b''.join(self.pieces)[:500]!r}, {self.leaves})"


@st.composite
def requests(draw):
    """Requests."""
    path, body = draw(bodies())
    method = draw(
        st.sampled_from([b"POST"] * 25 + [b"GET", b"PUT", b"HEAD", b"BREW", b"P\0ST", b""])
    )
    target = draw(
        st.sampled_from(
            [path.encode()] * 25 + [b"/", b"*", b"/nothing", b"/%ff%00", b"http://[", b""]
        )
    )
    kind = draw(
        st.sampled_from(
            [b"application/json"] * 25
            + [b"text/plain", b"application/json; charset=utf-16", b"\xff"]
        )
    )
    head = [method + b" " + target + b" HTTP/1.1", b"host: x", b"content-type: " + kind]
    framing = draw(
        st.sampled_from(
            ["length"] * 20
            + ["chunked", "wrong chunks", "longer", "shorter", "none", "both", "expect"]
        )
    )
    content = body
    if framing == "chunked":
        size = draw(st.integers(1, 500))
        chunks = (
            [body[i : i + size] for i in range(0, len(body), size)]
            if len(body) < 50_000
            else [body]
        )
        content = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    if framing == "wrong chunks":
        content = (
            draw(st.sampled_from([b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5\r\nab"]))
            + body[:100]
        )
    if framing in ("chunked", "wrong chunks", "both"):
        head.append(b"transfer-encoding: chunked")
    wrong = {"longer": 50, "shorter": -5}.get(framing, 0)
    if framing in ("length", "longer", "shorter", "both", "expect"):
        head.append(b"content-length: %d" % max(0, len(body) + wrong))
    if framing == "expect":
        head.append(b"expect: 100-continue")
    if draw(st.integers(0, 29)) == 7:
        head.append(draw(st.binary(max_size=30)))
    whole = b"\r\n".join([*head, b"", content])
    # The client leaves where the server waits for more; else the test would wait for a time limit.
    cut = draw(st.sampled_from([None] * 25 + [0.1, 0.5, 0.9, 0.99]))
    cut = 1.0 if framing in ("longer", "wrong chunks", "both") and cut is None else cut
    whole = whole if cut is None else whole[: int(len(whole) * cut)]
    pieces = draw(st.sampled_from([1, 1, 1, 2, 5]))
    size = -(-len(whole) // pieces) or 1
    return Request([whole[i : i + size] for i in range(0, len(whole), size)], cut is not None)


def send(address, pieces, leaves):
    """Send a request. Return the status of the answer; None if the server closed the connection
    without one, or if the client has left."""
    host, _, port = address.removeprefix("http://").partition(":")
    with contextlib.closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            answer = b""
            while not leaves and (b"\r\n" not in answer or answer.startswith(CONTINUE)):
                received = connection.recv(65536)
                if not received:
                    return None
                answer = (answer + received).removeprefix(CONTINUE)
        except TimeoutError:
            raise
        except OSError:  # the server has closed the connection
            return None
    return None if leaves else int(answer.split(b" ", 2)[1])


def memory_mb():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


def attack(served, num_examples):
    """Send that many requests; return how many got each status."""
    serving, address = served
    seen: dict = {}

    @settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def one(request):
        status = send(address, request.pieces, request.leaves)
        seen[status] = seen.get(status, 0) + 1
        assert status is None or 200 <= status < 500 or status in (429, 503)

    one()
    # Nothing stays behind, and the server answers.
    until(lambda: serving.num_working == 0 and serving.scheduler.num_tokens == 0, 30)
    answer = httpx.post(f"{address}/embed", json={"inputs": "a cat"}, timeout=30)
    assert answer.status_code == 200
    return seen


@pytest.fixture(scope="module")
def attacked(tiny, tiny_cross):
    models = {"tiny": tiny, "tiny-cross": tiny_cross}
    with running(models, max_body_mb=1, timeout_seconds=2.0) as found:
        yield found


def test_malformed_requests_get_no_server_error(attacked):
    seen = attack(attacked, 300)
    print(seen)
    assert {200, 400, 422} <= set(seen)
    text = httpx.get(f"{attacked[1]}/metrics").text
    assert not re.search(r'jsbert_requests_total\{[^}]*status="5(?!03)', text)


@pytest.mark.slow
def test_ten_thousand_malformed_requests(attacked):
    attack(attacked, 500)  # what is compiled and cached counts as no growth
    before = memory_mb()
    print(attack(attacked, 10_000))
    text = httpx.get(f"{attacked[1]}/metrics").text
    assert not re.search(r'jsbert_requests_total\{[^}]*status="5(?!03)', text)
    print(f"{memory_mb() - before:.0f} MB more")
    assert memory_mb() - before < 200


def test_slow_senders_do_not_hold_up_others(attacked):
    _, address = attacked
    host, _, port = address.removeprefix("http://").partition(":")
    generator = random.Random(0)
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    whole = head + b"content-length: 200\r\n\r\n" + b'{"inputs": "a'
    slow = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(whole[: generator.randint(0, len(whole))])
        started = time.perf_counter()
        for _ in range(10):
            assert httpx.post(f"{address}/embed", json={"inputs": "a"}).status_code == 200
        assert time.perf_counter() - started < 20
    finally:
        for connection in slow:
            connection.close()
