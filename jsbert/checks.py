"""Check values from files and callers. The errors say what was given and what is allowed."""

import reprlib
import sys
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

_MISSING = object()

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxlong, _short.maxother = 4, 200, 60, 200
_short.maxlist = _short.maxdict = _short.maxtuple = 12


class Range(NamedTuple):
    """Numbers from `least` up to, but not including, `end`; `words` describe them in messages."""

    least: float
    end: float
    words: str


SIZE = Range(1, 2**31, "a positive integer below 2**31")
COUNT = Range(0, 2**31, "an integer from 0 to 2**31 - 1")
RATE = Range(0, 1, "a number from 0 to 1")
POSITIVE = Range(1e-30, 1e30, "a positive number, from 1e-30 to 1e30")

Allowed = Range | Collection[str] | None
"""The allowed numbers or strings for a value, or for each value of a dict; None: all."""


def typed(
    values: Mapping[str, Any],
    key: str,
    kind: Any,
    default: Any = _MISSING,
    *,
    where: Any,
    allowed: Allowed = None,
) -> Any:
    """Return `values[key]`, or `default` if the value is missing or null.

    Args:
        values: an object from json.
        key: the name of the value in the object.
        kind: the type; see `check_value`.
        default: without a default the value must exist.
        where: the file, for messages.
        allowed: the allowed numbers or strings.

    Raises:
        ValueError: if the value is of another type or not allowed, or if it is missing and there is
            no default; the message names the file.
    """
    value = values.get(key)
    if value is None and default is not _MISSING:
        return default
    return check_value(value, kind, name=f"{where}: {key}", allowed=allowed)


def check_value(value: Any, kind: Any, *, name: str, allowed: Allowed = None) -> Any:
    """Return `value` if it is of the type `kind` and allowed.

    Args:
        value: a value from json or from a caller.
        kind: a type, a union of types, or a tuple of types. A bool is not an int. A float is
            finite; an int is a float too. A list is a tuple too.
        name: the name of the value, for messages.
        allowed: the allowed numbers or strings.

    Raises:
        ValueError: if the value is of another type, or not allowed.

    >>> check_value(True, int | None, name="config.json: pad_token_id")
    Traceback (most recent call last):
    ValueError: config.json: pad_token_id is True; it must be of type int or null
    """
    if not _conforms(value, kind) or not _is_allowed(value, allowed):
        raise ValueError(f"{name} is {shown(value)}; it must be {_words(value, kind, allowed)}")
    return value


def shown(value: Any) -> str:
    """`repr(value)`, shortened if it is long or deep."""
    return _short.repr(value)


def _conforms(value, kind):
    """Whether `value` is of the type `kind`, by the rules of `check_value`."""
    alternatives = _alternatives(kind)
    if len(alternatives) > 1:
        return any(_conforms(value, one) for one in alternatives)
    (kind,) = alternatives
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_conforms(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_conforms(one, inner[1]) for one in value.values())
    # The comparison with the largest float is exact for ints of any size, and false for NaN.
    if kind is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and abs(value) <= sys.float_info.max
    # In Python a bool is an int; in json it is not.
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _alternatives(kind):
    """The types of a union or a tuple of types; a tuple of one for a single type."""
    if isinstance(kind, tuple):
        return kind
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def _is_allowed(value, allowed):
    if allowed is None or value is None:
        return True
    if isinstance(value, dict):
        return all(_is_allowed(one, allowed) for one in value.values())
    return allowed.least <= value < allowed.end if isinstance(allowed, Range) else value in allowed


def _words(value, kind, allowed):
    """What `value` must be, for the message."""
    kinds = _alternatives(kind)
    null = " or null" if types.NoneType in kinds else ""
    if isinstance(allowed, Range):
        each = "a dict whose values are each " if isinstance(value, dict) else ""
        return each + allowed.words + null
    if allowed is not None:
        *others, last = map(repr, allowed)
        return (f"{', '.join(others)} or {last}" if others else last) + null
    if isinstance(value, float) and float in kinds:
        return f"a finite number{null}"
    names = [name for one in kinds if one is not types.NoneType for name in _names(one)]
    return f"of type {' or '.join(dict.fromkeys(names))}{null}"


def _names(kind):
    """The names of a type in messages."""
    if typing.get_origin(kind) is None:
        return ["int", "float"] if kind is float else [kind.__name__]
    inner = typing.get_args(kind)[-1 if typing.get_origin(kind) is dict else 0]
    inner = " or ".join(name for one in _alternatives(inner) for name in _names(one))
    return [f"{'dict' if typing.get_origin(kind) is dict else 'list'} of {inner}"]
