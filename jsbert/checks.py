"""Checks of values that others give; their errors say what was given and what is allowed."""

import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin

LARGEST = 10**18
"""No size, rate or base of a model's config is as large as this."""

_MISSING = object()


def typed(
    values: Mapping[str, Any], key: str, kinds: type | tuple[type, ...], default: Any = _MISSING, *, where: Any
) -> Any:
    """`values[key]`, or `default` if it is missing or null.

    Raises:
        ValueError: if the value is of another kind, or is missing and there is no default; the message names the file.
    """
    value = values.get(key)
    if value is None and default is not _MISSING:
        return default
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    # bool is an int to Python, not to whoever wrote the file
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(
            f"{where}: {key} is {value!r}; it must be of type {' or '.join(kind.__name__ for kind in kinds)}"
        )
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotation's type: `int`, `float | None`, `tuple[str, ...]` and the like.

    A truth value is no number. An integer is a float too; NaN and infinities are not.

    >>> fits(3, float), fits(True, int), fits(float("nan"), float), fits(("a",), tuple[str, ...])
    (True, False, False, True)
    """
    if get_origin(hint) is types.UnionType:
        return any(fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(entry, get_args(hint)[0]) for entry in value)
    if hint in (int, float):
        is_number = isinstance(value, (int, hint)) and not isinstance(value, bool)
        return is_number and -LARGEST < value < LARGEST
    return isinstance(value, hint)
