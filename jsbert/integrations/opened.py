"""Models by name, opened once in a process and shared by its adapters."""

from collections.abc import Mapping
from typing import Any, TypeVar

from jsbert.cross_encoder import CrossEncoder
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.text_model import TextModel

Model = TypeVar("Model", SentenceTransformer, CrossEncoder)

MOST = 4
"""The number of models that are kept open for adapters."""

_opened: dict[tuple[type, str | None, str], TextModel] = {}


def bi_encoder(
    model: SentenceTransformer | str | None, options: Mapping[str, Any] | None = None
) -> SentenceTransformer:
    """Return `model`, or the model of that name, opened with `options` of the constructor.

    Raises:
        TypeError: if `model` is something else, or is open and there are options.
        OSError, ValueError: as `SentenceTransformer`.
    """
    return _find(SentenceTransformer, model, options)


def cross_encoder(
    model: CrossEncoder | str | None, options: Mapping[str, Any] | None = None
) -> CrossEncoder:
    """The same for a cross-encoder."""
    return _find(CrossEncoder, model, options)


def checked_name(model: str | None) -> str | None:
    """Return `model`, for an adapter that is saved by name.

    Raises:
        TypeError: if `model` is an object.
    """
    if not (model is None or isinstance(model, str)):
        raise TypeError(
            f"model is {type(model).__name__}; this adapter is saved by name, so give the name or "
            "folder of a model"
        )
    return model


def _find(kind: type[Model], model: Any, options: Mapping[str, Any] | None) -> Model:
    options = dict(options or {})
    if isinstance(model, kind):
        if options:
            raise TypeError(
                f"the model is open already, so the options {sorted(options)} cannot apply; give "
                "the model's name, or open the model with these options"
            )
        return model
    if not (isinstance(model, str) or (model is None and kind is SentenceTransformer)):
        raise TypeError(
            f"model is {type(model).__name__} {model!r:.60}; give a jsbert.{kind.__name__}, or the "
            "name or folder of one"
        )
    key = (kind, model, repr(sorted(options.items())))
    found = _opened.pop(key, None)
    if not isinstance(found, kind):
        name: Any = model
        found = kind(name, **options)
    _opened[key] = found  # behind the others, so that it is the last to be closed
    while len(_opened) > MOST:
        _opened.pop(next(iter(_opened)), None)
    return found
