"""Check what callers give as texts or options, with errors that name the position or the option."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

import numpy as np

from jsbert.tokenizer import Ragged

Function = TypeVar("Function", bound=Callable)

SIMILARITY_NAMES = ("cosine", "dot", "euclidean", "manhattan")
"""The keys of `similarity.SIMILARITIES`, for checks that do without JAX."""


def renamed(name: str, *others: str) -> Callable[[Function], Function]:
    """Return a decorator for a method: its argument `name` can also be given under `others`, the
    names that it has had.

    >>> class Model:
    ...     @renamed("inputs", "sentences")
    ...     def encode(self, inputs):
    ...         return inputs
    >>> Model().encode(sentences="a")
    'a'
    """

    def decorate(method: Function) -> Function:
        is_first = list(inspect.signature(method).parameters)[1] == name

        @functools.wraps(method)
        def called(self: Any, *args: Any, **options: Any) -> Any:
            for other in others:
                if other in options:
                    if name in options or (args and is_first):
                        raise TypeError(f"{other} is another name of {name}; give one of them")
                    options[name] = options.pop(other)
            return method(self, *args, **options)

        return called  # type: ignore[return-value]

    return decorate


def as_texts(sentences: Any) -> tuple[list, bool]:
    """Return (inputs, is_single) for one input or many. An input is a string or a sequence of token
    ids.

    Raises:
        TypeError: for anything else; the message names the position and what to give instead.
    """
    sentences = _plain(sentences)
    if isinstance(sentences, str) or _is_ids(sentences):
        return [sentences], True
    wanted = "a string, a list of strings, or token ids"
    inputs = _as_list(sentences, wanted, "encode_iter, or list(...)")
    if all(isinstance(text, str) for text in inputs):
        return inputs, False
    for index, text in enumerate(inputs):
        if not (isinstance(text, str) or _is_ids(text) or _is_empty(text)):
            _refuse_missing(text, f"text {index}")
            raise TypeError(
                f"text {index} is {_describe(text)}; give a string, or a sequence of integer token "
                "ids"
            )
    kinds = {isinstance(text, str) for text in inputs}
    if len(kinds) > 1:
        raise TypeError(
            "some texts are strings and some are token ids; encode the two kinds in calls of their "
            "own"
        )
    return inputs, False


def as_pairs(pairs: Any) -> tuple[list[tuple[str, str]], bool]:
    """Return (pairs, is_single) for one pair of strings or many.

    Raises:
        TypeError: for anything else; the message names the position.
    """
    if isinstance(pairs, str):
        raise TypeError(
            f"the input is {_describe(pairs)}; give a pair of strings, or a list of pairs"
        )
    pairs = _as_list(pairs, "a pair of strings, or a list of pairs")
    if len(pairs) == 2 and all(isinstance(text, str) for text in pairs):
        return [(pairs[0], pairs[1])], True
    for index, pair in enumerate(pairs):
        if isinstance(pair, np.ndarray):
            pair = pair.tolist()
        for text in pair if isinstance(pair, (list, tuple)) else [pair]:
            _refuse_missing(text, f"a text of pair {index}")
        if (
            not isinstance(pair, (list, tuple))
            or len(pair) != 2
            or not all(isinstance(text, str) for text in pair)
        ):
            raise TypeError(
                f"pair {index} is {_describe(pair)}; give two strings, such as ('a query', "
                "'a document')"
            )
    return [(str(a), str(b)) for a, b in pairs], False


def ragged_from_ids(
    texts: Sequence[Sequence[int]], *, vocab_size: int, max_length: int, first: int = 0
) -> Ragged:
    """Return token ids as a `Ragged`, unchanged and with their special tokens. `first` is the
    position of texts[0], for messages.

    Raises:
        ValueError: if a sequence is empty or longer than `max_length`, or an id is outside 0 ..
            vocab_size - 1.
    """
    for index, ids in enumerate(texts, first):
        if not 0 < len(ids) <= max_length:
            raise ValueError(
                f"text {index} has {len(ids)} token ids; 1 to {max_length} are allowed (the "
                "model's max_seq_length)"
            )
        if not 0 <= min(ids) <= max(ids) < vocab_size:
            raise ValueError(
                f"text {index} has token ids from {min(ids)} to {max(ids)}; 0 to {vocab_size - 1} "
                "are allowed"
            )
    return Ragged.from_lists(texts)


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")


def check_positive(name: str, value: Any, *, or_none: bool = True) -> None:
    """Raise ValueError unless `value` is a positive integer (or None)."""
    if value is None and or_none:
        return
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{name} is {value!r}; it must be a positive integer{' or None' if or_none else ''}"
        )


def _as_list(values: Any, wanted: str, way: str = "list(...)") -> list[Any]:
    """Return a sequence as a list. Raise TypeError for anything else, with `wanted` in the message,
    and for an iterator with `way`."""
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        raise TypeError(
            f"the input is a table, {type(values).__name__}; give one of its columns, such as "
            "table['text']"
        )
    if hasattr(values, "to_pylist"):  # an array of pyarrow: its items are no strings of Python
        return values.to_pylist()
    if isinstance(values, (bytes, Mapping, AbstractSet, Iterator)) or not hasattr(
        values, "__len__"
    ):
        hint = f"; for an iterator use {way}" if isinstance(values, Iterator) else ""
        raise TypeError(f"the input is {_describe(values)}; give {wanted}{hint}")
    if isinstance(values, np.ndarray):
        if values.ndim == 0:
            raise TypeError(f"the input is {_describe(values)}; give {wanted}")
        return list(values) if values.dtype.kind in "iuf" else values.tolist()
    return list(values)


def _plain(value: Any) -> Any:
    """Return the string that an array of no dimensions or a scalar of pyarrow holds; anything else
    unchanged."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and isinstance(value.item(), str):
        return value.item()
    return value.as_py() if hasattr(value, "as_py") else value


def _refuse_missing(value: Any, name: str) -> None:
    """Raise TypeError for None, NaN and the missing values of pandas."""
    is_nan = isinstance(value, float) and math.isnan(value)
    if value is None or is_nan or type(value).__name__ in ("NAType", "NaTType"):
        raise TypeError(
            f"{name} is {value}, a missing value; leave it out, or give '' in its place"
        )


def _is_ids(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(_is_int(token) for token in value)
    )


def _is_int(token: Any) -> bool:
    return isinstance(token, (int, np.integer)) and not isinstance(token, bool)


def _is_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 0


def _describe(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value:
        return f"a {type(value).__name__} of {type(value[0]).__name__}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    return "None" if value is None else f"{type(value).__name__} {value!r:.40}"
