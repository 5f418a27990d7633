"""A server of tiny models in a thread of the tests' process, and requests to it."""

import contextlib
import importlib.util
import socket
import threading
import time

import pytest

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "orjson", "httpx")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


@contextlib.contextmanager
def running(models, *, wait_for=None, corpus=None, **options):
    """Run a server with these models {name: model}, and give its `Serving` and its address, when it
    is ready. With an event `wait_for`, give them at once; the models open when the event is set."""
    from jsbert.serve.server import Server
    from jsbert.serve.serving import Serving
    from jsbert.serve.settings import Settings

    def open_models(catalogue):
        if wait_for is not None:
            wait_for.wait()
        for name, model in models.items():
            catalogue.add(name, model)

    options = {"warm_tokens": 4, "port": 0} | options
    serving = Serving(Settings(**options), open_models)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = Server(serving, corpus)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            if wait_for is None:
                until(lambda: serving.state != "warming", 60)
                assert serving.state == "ready", serving.error
            yield serving, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def until(condition, seconds=10.0):
    """Wait until a condition holds, for at most that time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.01)


@pytest.fixture(scope="package")
def served(tiny, tiny_cross):
    """A server of a bi-encoder "tiny" and a cross-encoder "tiny-cross": (`Serving`, address)."""
    with running({"tiny": tiny, "tiny-cross": tiny_cross}, max_body_mb=1) as found:
        yield found


@pytest.fixture
def client(served):
    """Sends requests to the server."""
    import httpx

    with httpx.Client(base_url=served[1], timeout=30) as client:
        yield client
