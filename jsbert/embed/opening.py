"""Models that workers open, and the sha256 by which a model is known again."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np

from jsbert.checkpoint.find import find_folder, hash_files, model_files
from jsbert.sentence_transformer import SentenceTransformer

WITHOUT_EFFECT = frozenset({
    "device", "cache_folder", "token", "local_files_only", "revision", "shard_params",
})  # fmt: skip
"""Options of the constructor that do not change what the vectors are."""

TO_FIND = ("cache_folder", "revision", "token", "local_files_only")
"""Options of the constructor that say where a model is found."""


class Encoder(Protocol):
    """What embedding a corpus asks of a model. `SentenceTransformer` is one; a model of another
    kind also has an attribute `sha256`, a string that another model has not."""

    def encode_document(self, inputs: Sequence[str], **options: Any) -> np.ndarray: ...
    def get_embedding_dimension(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Opening:
    """A model by name, with options of the constructor: each worker opens it."""

    name: str | None
    options: Mapping[str, Any]

    def open(self) -> Encoder:
        """Open the model. Raises what `SentenceTransformer` raises."""
        return cast(Encoder, SentenceTransformer(self.name, **self.options))

    def described(self) -> dict[str, Any]:
        """Return what the vectors depend on: the sha256 of the model's files, and options.

        Raises:
            OSError: if the model does not exist.
        """
        find = {name: self.options[name] for name in TO_FIND if name in self.options}
        folder = find_folder(self.name, **find)
        options = {
            name: value for name, value in self.options.items() if name not in WITHOUT_EFFECT
        }
        return {"sha256": hash_files(folder, model_files(folder)), "options": options}


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model that is open already. Other processes get a copy of it."""

    model: Encoder

    @property
    def name(self) -> str:
        """The name for notes."""
        return repr(self.model)

    def open(self) -> Encoder:
        """Return the model."""
        return self.model

    def described(self) -> dict[str, Any]:
        """Return what the vectors depend on: the sha256 of params, config, tokenizer and prompts.

        Raises:
            ValueError: if the model has no params that could be read.
        """
        given = getattr(self.model, "sha256", None)
        return {"sha256": _hash(self.model) if given is None else given, "options": {}}  # type: ignore[arg-type]


def opening(
    model: str | os.PathLike | Encoder | None, options: Mapping[str, Any] | None
) -> Opening | Opened:
    """Return how workers open a model.

    Raises:
        TypeError: if there are options for a model that is open.
    """
    if model is None or isinstance(model, (str, os.PathLike)):
        return Opening(None if model is None else os.fspath(model), dict(options or {}))
    if options:
        raise TypeError(
            f"the model is open already, so the options {sorted(options)} cannot apply; give the "
            "model's name, or open the model with these options"
        )
    return Opened(model)


def _hash(model: SentenceTransformer) -> str:
    import jax

    parts = model.parts
    routes = [] if parts.router is None else [route for _, route in parts.router.routes]
    digest = hashlib.sha256(model.dtype.encode())
    for one in [parts, *routes]:
        facts = one.config, one.settings, one.tokenizer.description
        digest.update(repr(facts).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(one.params):
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
