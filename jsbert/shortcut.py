"""The function `encode`: encode texts in one call, without making a model object."""

import collections
import functools
import os
import pathlib
import threading
from collections.abc import Hashable
from typing import Any, Literal, cast, overload

import jax
import numpy as np

from jsbert.checkpoint import find_folder
from jsbert.sentence_transformer import Encoded, SentenceTransformer, TextArrays, Texts

CONSTRUCTOR_OPTIONS = (
    "device", "prompts", "default_prompt_name", "similarity_fn_name", "cache_folder", "revision",
    "token", "local_files_only", "dtype", "pooling", "attn_implementation",
    "shard_params",
)  # fmt: skip
"""The options of `encode` that belong to the model's constructor. All other options belong to
`SentenceTransformer.encode`."""

FOLDER_OPTIONS = ("cache_folder", "revision", "token", "local_files_only")
"""The options of the constructor that say where the model's folder is."""

KEPT = 2
"""The number of models kept between calls: the ones used last."""

Model = SentenceTransformer | str | os.PathLike
"""A model, or the name or folder of a model."""

_models: collections.OrderedDict[tuple, SentenceTransformer] = collections.OrderedDict()
_lock = threading.Lock()


@overload
def encode(
    sentences: Texts,
    model: Model | None = None,
    *,
    output_value: Literal["token_embeddings"],
    **options: Any,
) -> np.ndarray | list[np.ndarray]: ...
@overload
def encode(
    sentences: Texts, model: Model | None = None, *, output_value: None, **options: Any
) -> TextArrays | list[TextArrays]: ...
@overload
def encode(
    sentences: Texts,
    model: Model | None = None,
    *,
    convert_to_tensor: Literal[True],
    **options: Any,
) -> jax.Array: ...
@overload
def encode(
    sentences: Texts,
    model: Model | None = None,
    *,
    convert_to_numpy: Literal[False],
    convert_to_tensor: Literal[False] = False,
    **options: Any,
) -> jax.Array | list[jax.Array]: ...
@overload
def encode(sentences: Texts, model: Model | None = None, **options: Any) -> np.ndarray: ...
def encode(sentences: Texts, model: Model | None = None, **options: Any) -> Encoded:
    """Return the vectors of texts in one call: `SentenceTransformer(model).encode(sentences)`. The
    model is kept between calls.

    Args:
        sentences: as for `SentenceTransformer.encode`.
        model: a model, or a name as for `SentenceTransformer`; None is the default model. If the
            files of a folder have changed, the folder is read again.
        **options: options of `SentenceTransformer.encode`. If `model` is a name, also options of
            the constructor.

    Raises:
        TypeError, ValueError, OSError: as the constructor and `SentenceTransformer.encode`.
    """
    chosen = {name: options.pop(name) for name in CONSTRUCTOR_OPTIONS if name in options}
    if not isinstance(model, SentenceTransformer):
        model = _opened(model, chosen)
    elif chosen:
        raise ValueError(
            f"{', '.join(chosen)} belong to the model that was given; choose them when making it"
        )
    return model.encode(sentences, **options)


def _opened(name: str | os.PathLike | None, chosen: dict[str, Any]) -> SentenceTransformer:
    """Return the model of that name, opened with the options `chosen`. A model that is open already
    is returned if its files have not changed."""
    with _lock:  # one thread opens the model, and the others wait for it
        where = {key: chosen[key] for key in FOLDER_OPTIONS if key in chosen}
        is_folder = name is not None and pathlib.Path(name).expanduser().is_dir()
        folder = find_folder(name) if is_folder else _find_once(cast(Hashable, name), **where)
        # The key holds the state of the files, so that a changed folder is read again.
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        key = (state, repr(sorted(chosen.items())))
        if key not in _models:
            made = {option: value for option, value in chosen.items() if option not in where}
            _models[key] = SentenceTransformer(folder, **made)
        _models.move_to_end(key)
        while len(_models) > KEPT:
            _models.popitem(last=False)
        return _models[key]


@functools.lru_cache
def _find_once(name: str | os.PathLike | None, **where: Any) -> pathlib.Path:
    """Call `find_folder`, which asks the Hub, only once in a process."""
    return find_folder(name, **where)
