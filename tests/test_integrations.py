"""What the adapters share, without the client libraries."""

import doctest
import importlib
import pathlib
import sys

import pytest

import jsbert.integrations
from jsbert import CrossEncoder, SentenceTransformer
from jsbert.integrations import opened

FOLDER = pathlib.Path(jsbert.integrations.__file__).parent
PACKAGES = {
    "bertopic": "bertopic",
    "chromadb": "chromadb",
    "haystack": "haystack-ai",
    "keybert": "keybert",
    "langchain": "langchain-core",
    "llama_index": "llama-index-core",
    "mteb": "mteb",
    "sklearn": "scikit-learn",
}


@pytest.fixture(autouse=True)
def _nothing_open(monkeypatch):
    monkeypatch.setattr(opened, "_opened", {})


def test_the_example_of_a_missing_library():
    assert doctest.testmod(jsbert.integrations)[:2] == (0, 1)  # failed, attempted


def test_every_adapter_is_listed():
    files = {file.stem for file in FOLDER.glob("*.py")} - {"__init__", "opened", "embedder"}
    assert files == {*PACKAGES, "datasets"}  # the last imports no library
    importlib.import_module("jsbert.integrations.datasets")


@pytest.mark.parametrize("name", PACKAGES)
def test_without_its_library_an_adapter_says_what_to_install(name, monkeypatch):
    library = "langchain_core" if name == "langchain" else name
    for module in [library, *(m for m in sys.modules if m.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"jsbert.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=f"needs .*: pip install {PACKAGES[name]}"):
        importlib.import_module(f"jsbert.integrations.{name}")


def test_a_model_is_opened_once_for_a_name_and_options(tiny_folder):
    name = str(tiny_folder)
    first = opened.bi_encoder(name, {"truncate_dim": 5})
    assert opened.bi_encoder(name, {"truncate_dim": 5}) is first
    assert opened.bi_encoder(name) is not first
    assert opened.bi_encoder(first) is first
    assert first.get_embedding_dimension() == 5


def test_only_the_last_used_models_stay_open(tiny_folder):
    name = str(tiny_folder)
    models = [opened.bi_encoder(name, {"truncate_dim": i}) for i in range(1, opened.MOST + 1)]
    assert opened.bi_encoder(name, {"truncate_dim": 1}) is models[0]
    opened.bi_encoder(name)
    assert len(opened._opened) == opened.MOST
    assert opened.bi_encoder(name, {"truncate_dim": 1}) is models[0]
    assert opened.bi_encoder(name, {"truncate_dim": 2}) is not models[1]


def test_a_wrong_model_is_refused(tiny, tiny_cross_folder):
    assert isinstance(opened.cross_encoder(str(tiny_cross_folder)), CrossEncoder)
    with pytest.raises(TypeError, match="is open already, so the options \\['dtype'\\] cannot"):
        opened.bi_encoder(tiny, {"dtype": "bfloat16"})
    with pytest.raises(TypeError, match="model is int 3; give a jsbert.SentenceTransformer, or"):
        opened.bi_encoder(3)
    with pytest.raises(TypeError, match="model is NoneType None; give a jsbert.CrossEncoder, or"):
        opened.cross_encoder(None)
    with pytest.raises(TypeError, match="give a jsbert.CrossEncoder"):
        opened.cross_encoder(tiny)
    with pytest.raises(TypeError, match="is saved by name, so give the name or folder of a model"):
        opened.checked_name(tiny)
    assert isinstance(opened.bi_encoder(None), SentenceTransformer)
