"""`encode` in one call, without holding a model."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from jsbert.checkpoint import find_folder
from jsbert.device import Device
from jsbert.sentence_transformer import SentenceTransformer


def encode(
    sentences: Any,
    model: SentenceTransformer | str | os.PathLike | None = None,
    *,
    device: Device | Sequence[Device] | None = None,
    dtype: str = "float32",
    **options: Any,
) -> Any:
    """The vectors of texts in one call: `SentenceTransformer(model).encode(sentences, **options)`, the model kept
    between calls.

    Args:
        sentences: as for `SentenceTransformer.encode`.
        model: a model or its name; None is the default model. A folder whose files have changed is read again.
        device: as for `SentenceTransformer`; only with a name.
        dtype: as for `SentenceTransformer`; only with a name.
        **options: of `SentenceTransformer.encode`.
    """
    if isinstance(model, SentenceTransformer):
        if device is not None or dtype != "float32":
            raise ValueError("device and dtype belong to the model that was given; choose them when making it")
        return model.encode(sentences, **options)
    folder = find_folder(model)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    where = device if device is None or isinstance(device, (str, jax.Device)) else tuple(device)
    return _open(folder, state, where, dtype).encode(sentences, **options)


@functools.lru_cache(maxsize=2)
def _open(folder: pathlib.Path, state: tuple, device: Any, dtype: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device=device, dtype=dtype)
