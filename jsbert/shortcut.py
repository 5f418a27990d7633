"""`encode` in one call, without holding a model."""

import collections
import functools
import os
import pathlib
import threading
from typing import Any

from jsbert.checkpoint import find_folder
from jsbert.sentence_transformer import SentenceTransformer

CONSTRUCTOR_OPTIONS = (
    "device", "prompts", "default_prompt_name", "similarity_fn_name", "cache_folder", "revision",
    "token",
    "local_files_only", "dtype", "pooling", "attn_implementation",
)  # fmt: skip
"""The options below that belong to the model's constructor; all others are
`SentenceTransformer.encode`'s."""

KEPT = 2
"""Models kept between calls, the latest used."""

_models: collections.OrderedDict[tuple, SentenceTransformer] = collections.OrderedDict()
_lock = threading.Lock()


def encode(
    sentences: Any, model: SentenceTransformer | str | os.PathLike | None = None, **options: Any
) -> Any:
    """The vectors of texts in one call: `SentenceTransformer(model).encode(sentences)`, the model
    kept between calls.

    Args:
        sentences: as for `SentenceTransformer.encode`.
        model: a model, or a name as for `SentenceTransformer`; None is the default model. A folder
            whose files have changed is read again.
        **options: of `SentenceTransformer.encode`, and, with a name, of the constructor.

    Raises:
        TypeError, ValueError, OSError: as these two.
    """
    chosen = {name: options.pop(name) for name in CONSTRUCTOR_OPTIONS if name in options}
    if not isinstance(model, SentenceTransformer):
        model = _opened(model, chosen)
    elif chosen:
        raise ValueError(
            f"{', '.join(chosen)} belong to the model that was given; choose them when making it"
        )
    return model.encode(sentences, **options)


def _opened(name, chosen):
    with _lock:  # one thread opens it, the others wait for it
        where = {
            key: chosen[key]
            for key in ("cache_folder", "revision", "token", "local_files_only")
            if key in chosen
        }
        is_folder = name is not None and pathlib.Path(name).expanduser().is_dir()
        folder = find_folder(name) if is_folder else _find_once(name, **where)
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
def _find_once(name, **where):
    return find_folder(name, **where)  # which asks the Hub: once a process is enough
