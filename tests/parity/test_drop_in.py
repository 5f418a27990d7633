"""`jsbert.sentence_transformers` has each public name of the peer, or says what to use instead."""

import importlib
import inspect
import warnings

import numpy as np
import pytest
import sentence_transformers as peer

import jsbert.sentence_transformers as ours
from jsbert.sentence_transformers import shared, util

pytestmark = pytest.mark.parity

CLASSES = ["SentenceTransformer", "CrossEncoder"]
TEXTS = ["a cat", "the old house", "green hills and rain"]


def peers_members(cls):
    """The public members that the peer's own classes define."""
    own = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("sentence_transformers")
        for name in vars(base)
    }
    return sorted(name for name in own if not name.startswith("_"))


def signature(function):
    return inspect.signature(inspect.unwrap(function)).parameters


@pytest.mark.parametrize("name", CLASSES)
def test_each_member_of_the_peers_object_is_there_or_refused_by_name(name):
    mine = getattr(ours, name)
    for member in peers_members(getattr(peer, name)):
        if hasattr(mine, member):
            assert member not in shared.WAYS, f"{member} is there; take it out of WAYS"
        elif member not in IGNORED:
            assert member in shared.WAYS, f"{name}.{member} is neither there nor refused"


IGNORED = {
    "config_file_name", "default_huggingface_organization", "model_config_file", "default_modules",
    "model_card_data", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim",
    "backend", "module_kwargs", "activation_fn", "training", "dump_patches", "call_super_init",
    "SUPPORTED_SIMILARITY_FN_NAMES", "model_type",
}  # fmt: skip
"""Constants of the classes, and attributes that only objects have."""


@pytest.mark.parametrize("name", CLASSES)
def test_each_argument_of_the_peers_methods_is_taken_in_the_same_order(name):
    theirs, mine = getattr(peer, name), getattr(ours, name)
    for member in ["__init__", *peers_members(theirs)]:
        function, own = getattr(theirs, member), getattr(mine, member, None)
        if own is None or not inspect.isroutine(function) or not inspect.isroutine(own):
            continue
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        wanted = [n for n, p in signature(function).items() if p.kind not in kinds]
        found = [n for n, p in signature(own).items() if p.kind not in kinds]
        assert found[: len(wanted)] == wanted, f"{name}.{member}"


@pytest.mark.parametrize("module", ["", ".util", ".evaluation", ".quantization", ".cross_encoder"])
def test_each_public_name_of_a_module_is_there_or_refused_with_a_way(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the peer has moved some
        theirs = importlib.import_module("sentence_transformers" + module)
    mine = importlib.import_module("jsbert.sentence_transformers" + module)
    missing = []
    for name in getattr(theirs, "__all__", ()):
        if name.startswith("_"):
            continue
        try:
            getattr(mine, name)
        except ImportError as error:
            assert name in str(error)  # noqa: PT017
        except AttributeError:
            missing.append(name)
    assert not set(missing) - reference_names(module)


def reference_names(module):
    """Names that only the peer's own packages use."""
    return {
        ".util": {
            "LoggingHandler", "append_to_last_row", "cat_padded_token_embeddings",
            "check_package_availability", "compute_count_vector", "disable_datasets_caching",
            "disable_logging", "disabled_tqdm", "fullname", "get_device_name", "import_from_string",
            "import_module_class", "information_retrieval", "install_logger",
            "is_accelerate_available", "is_datasets_available", "is_training_available",
            "load_dir_path", "load_file_path", "repad_flattened_features", "resolve_ids",
            "save_to_hub_args_decorator", "stack_padded_token_embeddings", "to_scipy_coo",
            "all_gather", "all_gather_padded", "all_gather_with_grad", "check_teacher_targets",
            "check_version_requirements", "get_rank", "get_world_size", "is_dist_initialized",
            "ORIGINAL_TRANSFORMER_MODELS", "similarity_fct_name",
        },
    }.get(module, set())  # fmt: skip


def test_positional_arguments_give_the_peers_vectors(tiny_folder):
    theirs = peer.SentenceTransformer(str(tiny_folder), device="cpu")
    mine = ours.SentenceTransformer(str(tiny_folder), device="cpu", backend="torch")
    arguments = (TEXTS, None, "the ", 2, False, "sentence_embedding", "float32", True, False)
    np.testing.assert_allclose(mine.encode(*arguments), theirs.encode(*arguments), atol=1e-5)
    np.testing.assert_allclose(
        mine.encode_query(TEXTS, None, "q "), theirs.encode_query(TEXTS, None, "q "), atol=1e-5
    )
    codes = mine.encode(TEXTS, precision="int8").astype(int)
    assert np.abs(codes - theirs.encode(TEXTS, precision="int8").astype(int)).max() <= 1
    vectors = mine.encode(TEXTS, convert_to_tensor=True)
    tensors = theirs.encode(TEXTS, convert_to_tensor=True)
    np.testing.assert_allclose(
        mine.similarity(vectors, tensors), theirs.similarity(tensors, tensors), atol=1e-5
    )
    hits = util.semantic_search(vectors, vectors, top_k=2)
    expected = peer.util.semantic_search(tensors, tensors, top_k=2)
    assert [[hit["corpus_id"] for hit in row] for row in hits] == [
        [hit["corpus_id"] for hit in row] for row in expected
    ]
