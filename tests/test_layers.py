"""The design as tests: which room imports which, and what is imported when."""

import ast
import pathlib
import subprocess
import sys

import pytest

import jsbert

PACKAGE = pathlib.Path(jsbert.__file__).parent

ROWS = [
    {
        "activations", "arrays", "checks", "compute", "config", "files", "json_files", "lazy", "lines",
        "modules", "pooling", "similarity", "metrics", "quantization", "version",
    },
    {"encoders", "losses", "tokenizer", "data", "corpus", "search"},
    {"siamese", "cross", "checkpoint", "inputs", "mining"},
    {"engine"},
    {
        "text_model", "pool", "outputs", "sentence_transformer", "cross_encoder", "shortcut", "train",
        "evaluate", "adapters", "export", "runtimes", "embed",
    },
    {"util", "cli", "serve"},
    {"sentence_transformers", "integrations"},
    {"__init__", "__main__"},
]  # fmt: skip
"""The rooms from the bottom up. Each room imports from its own row and the rows below."""

ONLY_IN = {
    "flax": {"encoders", "checkpoint"},  # the modules; the files that transformers' Flax left
    "safetensors": {"checkpoint"},
    "tokenizers": {"tokenizer"},
    "jinja2": {"tokenizer"},
    "huggingface_hub": {"checkpoint"},
    "optax": {"train"},
    "orbax": {"train"},
    "grain": {"train"},
    "openvino": {"runtimes"},
    "typer": {"cli"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "pydantic": {"serve", "integrations"},
    "uvicorn": {"serve"},
    "prometheus_client": {"serve"},
    "orjson": {"serve"},
    "filelock": {"corpus"},
    "fsspec": {"corpus"},
    "ray": {"embed"},
}
"""Libraries, and the rooms that may import them."""

FILES = sorted(PACKAGE.rglob("*.py"))


def room(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module
            if node.module == "jsbert":
                yield from (f"jsbert.{alias.name}" for alias in node.names)


def height(name):
    return next(index for index, row in enumerate(ROWS) if name in row)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_from_its_row_and_below(file):
    for name in imports(file):
        if name.startswith("jsbert."):
            assert height(name.split(".")[1]) <= height(room(file)), f"{file.name} imports {name}"
        library = name.split(".")[0]
        assert library not in {"torch", "sentence_transformers"}
        assert room(file) in ONLY_IN.get(library, {room(file)}), f"{file.name} imports {library}"


def test_nothing_imports_the_adapters():
    for file in FILES:
        if room(file) != "integrations":
            assert not [name for name in imports(file) if name.startswith("jsbert.integrations")]


def test_rooms_do_not_import_in_circles():
    graph = {}
    for file in FILES:
        wanted = {name.split(".")[1] for name in imports(file) if name.startswith("jsbert.")}
        graph.setdefault(room(file), set()).update(wanted - {room(file)})
    while graph:
        free = {name for name, wanted in graph.items() if not wanted & set(graph)}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: wanted for name, wanted in graph.items() if name not in free}


def test_importing_jsbert_imports_neither_torch_nor_transformers():
    code = "import sys, jsbert; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "sentence_transformers", "huggingface_hub", "matplotlib"}
    assert not (heavy | {"pandas", "datasets"}) & set(done.stdout.split())


def test_opening_and_encoding_imports_neither(tiny_folder):
    code = (
        "import sys, jsbert; jsbert.SentenceTransformer(sys.argv[1]).encode('a cat');"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny_folder], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "huggingface_hub"} & set(done.stdout.split())
