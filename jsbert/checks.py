"""Checks of values that others give; their errors say what was given and what is allowed."""

from collections.abc import Mapping
from typing import Any

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
