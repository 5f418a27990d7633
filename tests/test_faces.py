"""What a user sees of the objects and of the package; and objects that are sent to another
process."""

import copy
import inspect
import pathlib
import pickle
import shutil
import subprocess
import sys
import typing

import jax
import numpy as np
import pytest
import tqdm.auto
from jaxtyping import Float

import jsbert
from jsbert.arrays import AnyArray
from jsbert.search import top_k
from jsbert.sentence_transformer import (
    EncodeOptions,
    ToDicts,
    ToJax,
    ToList,
    ToNumpy,
    ToTokens,
)
from tests import models
from tests.test_modules import two_encoders

TEXTS = ["the red cat", "", "a dog sat under the house"]
NAMES = {
    "jax": jax,
    "Device": jsbert.engine.Device,
    "Float": Float,
    "AnyArray": AnyArray,
    "tqdm": tqdm.auto.tqdm,
}
"""Names in annotations that are imported for type checkers alone."""
PACKAGE = pathlib.Path(jsbert.__file__).parent


def test_models_say_what_they_are(tiny, tiny_cross_folder):
    assert repr(tiny) == (
        "SentenceTransformer(bert, 2 layers x 24; mean + Normalize; 24 dimensions; at most 32 tokens; float32; on cpu:0)"
    )
    cross = jsbert.CrossEncoder(tiny_cross_folder, dtype="bfloat16", device=["cpu:1", "cpu:2"])
    assert repr(cross) == (
        "CrossEncoder(bert, 2 layers x 24; 1 label; sigmoid; at most 32 tokens; bfloat16; on cpu:1, cpu:2)"
    )


def test_a_search_result_shows_its_size_and_its_best():
    found = top_k(np.float32([[1, 0], [0, 1]]), np.float32([[0, 1], [1, 1], [2, 0], [-1, 0]]), k=4)
    assert repr(found) == "TopK(2 queries x 4; of the first {2: 1.0000, 1: 0.7071, 0: 0.0000, ...})"
    assert (
        repr(top_k(np.zeros((0, 2), np.float32), np.ones((3, 2)), k=2))
        == "TopK(0 queries x 2; of the first {})"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_pickled_model_gives_the_same_vectors_on_the_default_device(tiny_folder, dtype):
    model = jsbert.SentenceTransformer(
        tiny_folder, device="cpu:3", dtype=dtype, prompts={"query": "query: "}
    )
    again = pickle.loads(pickle.dumps(model))
    assert again.devices == (jax.devices()[0],)
    assert (again.dtype, again.prompts, again.config) == (dtype, model.prompts, model.config)
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))
    again.max_seq_length = 5
    assert model.max_seq_length == 32


def test_cross_encoders_and_routers_travel_too(tiny_cross_folder, tmp_path):
    pairs = [("a cat", "the dog"), ("red", "blue tree")]
    cross = jsbert.CrossEncoder(tiny_cross_folder)
    assert np.array_equal(pickle.loads(pickle.dumps(cross)).predict(pairs), cross.predict(pairs))
    routed = jsbert.SentenceTransformer.from_parts(two_encoders(tmp_path))
    again = pickle.loads(pickle.dumps(routed))
    for task in ("query", "document"):
        assert np.array_equal(again.encode(TEXTS, task=task), routed.encode(TEXTS, task=task))


def test_a_deep_copy_stays_on_its_devices_and_shares_the_params(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, device="cpu:3")
    again = copy.deepcopy(model)
    assert again.devices == model.devices
    assert all(map(np.array_equal, *map(jax.tree.leaves, (again.params, model.params))))
    again.params = jax.tree.map(lambda leaf: leaf * 1.5, again.params)
    again.prompts["query"] = "other"
    assert model.prompts["query"] != "other"
    assert np.abs(model.encode("a cat") - again.encode("a cat")).max() > 0.01


def test_what_a_user_may_use_is_listed_and_there():
    for name in jsbert.__all__:
        assert getattr(jsbert, name) is not None
    assert {"losses", "train", "encoders", "pooling", "evaluate", "export", "data"} <= set(
        dir(jsbert)
    )
    assert not {"text_model", "inputs", "version", "importlib"} & set(dir(jsbert))
    with pytest.raises(
        AttributeError, match="module 'jsbert' has no attribute 'loses'; it has CrossEncoder"
    ):
        _ = jsbert.loses


@pytest.mark.parametrize(
    "function",
    [
        jsbert.SentenceTransformer.encode,
        jsbert.SentenceTransformer.encode_query,
        jsbert.SentenceTransformer.encode_document,
        jsbert.CrossEncoder.predict,
        jsbert.encode,
    ],
)
def test_a_type_checker_knows_what_comes_out(function):
    found = [
        typing.get_type_hints(one, localns=NAMES)["return"]
        for one in typing.get_overloads(function)
    ]
    assert {np.ndarray, jax.Array} <= set(found)


def test_the_options_that_a_type_checker_knows_are_those_of_encode():
    options = set(inspect.signature(jsbert.SentenceTransformer.encode).parameters)
    for kind in (ToNumpy, ToJax, ToList, ToTokens, ToDicts, EncodeOptions):
        assert {"self", "inputs", "task", *typing.get_type_hints(kind, localns=NAMES)} == options


def test_rooms_are_imported_at_their_first_use():
    code = (
        "import sys, jsbert\n"
        "assert not {'jsbert.train', 'jsbert.export', 'jsbert.evaluate', 'orbax'} & set(sys.modules)\n"
        "print(jsbert.losses.triplet.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "triplet\n"


def test_the_folder_works_without_an_installed_distribution(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "jsbert", ignore=shutil.ignore_patterns("__pycache__"))
    folder = models.write_folder(tmp_path / "model")
    code = (
        "import importlib.metadata, sys\n"
        "def missing(name): raise importlib.metadata.PackageNotFoundError(name)\n"
        "version, importlib.metadata.version = importlib.metadata.version, lambda name: (\n"
        "    missing(name) if name == 'jsbert' else version(name))\n"
        "import jsbert\n"
        "jsbert.SentenceTransformer(sys.argv[1]).save_pretrained(sys.argv[2])\n"
        "print(jsbert.__file__, jsbert.__version__)"
    )
    command = [sys.executable, "-c", code, folder, tmp_path / "saved"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "jsbert/__init__.py"), jsbert.__version__]
