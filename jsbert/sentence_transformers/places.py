"""The peer's long and former module paths, such as `sentence_transformer.losses` and `models`.

Each is another name of a module that is here. A finder of Python's import system makes the module
when it is imported, so that each name is one line in `PLACES`.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence

from jsbert.sentence_transformers.missing import DATASETS, OTHER

ROOT = __name__.rpartition(".")[0]

PLACES = {
    "base": "",
    "base.evaluation": "evaluation",
    "base.modules": "modules",
    "base.sampler": "training_args",
    "base.training_args": "training_args",
    "cross_encoder.model": "cross_encoder",
    "cross_encoder.trainer": "trainer",
    "cross_encoder.training_args": "training_args",
    "models": "modules",
    "sampler": "training_args",
    "sentence_transformer": "",
    "sentence_transformer.evaluation": "evaluation",
    "sentence_transformer.losses": "losses",
    "sentence_transformer.model": "bi_encoder",
    "sentence_transformer.modules": "modules",
    "sentence_transformer.readers": "readers",
    "sentence_transformer.trainer": "trainer",
    "sentence_transformer.training_args": "training_args",
    "util.hard_negatives": "util",
    "util.quantization": "quantization",
    "util.retrieval": "util",
    "util.similarity": "similarity_functions",
    "util.tensor": "util",
}
"""{the peer's path: the path here}, both below this package."""

REFUSED = {
    "backend": "jsbert.export writes ONNX and StableHLO",
    "datasets": DATASETS,
    "multi_vector_encoder": OTHER,
    "sentence_transformer.datasets": DATASETS,
    "sparse_encoder": OTHER,
}
"""The peer's packages that jsbert does not have, and what to use."""


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find the modules of `PLACES`, and say for those of `REFUSED` what to use."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module of `PLACES`, None for other modules.

        Raises:
            ModuleNotFoundError: for a package of `REFUSED`.
        """
        name = fullname.removeprefix(ROOT + ".")
        if name == fullname or name not in PLACES | REFUSED:
            return None
        if name in REFUSED:
            raise ModuleNotFoundError(f"jsbert has no {fullname}: {REFUSED[name]}", name=fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill a module with the names of the module that it stands for."""
        place = PLACES[module.__name__.removeprefix(ROOT + ".")]
        own = importlib.import_module(f"{ROOT}.{place}".rstrip("."))
        module.__doc__ = own.__doc__
        names = getattr(own, "__all__", None) or [n for n in vars(own) if not n.startswith("_")]
        module.__dict__["__all__"] = list(names)
        module.__dict__["__getattr__"] = lambda name: getattr(own, name)


def install() -> None:
    """Let Python import the modules of `PLACES`."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
