"""Packages whose names are imported at their first use, so that importing a package stays fast."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package: the package's `__name__`.
        places: {name: the module that defines it}; a module that is itself the name is "".

    >>> lazy("jsbert", {"VERSION": "version"})("other")
    Traceback (most recent call last):
    AttributeError: module 'jsbert' has no attribute 'other'; it has VERSION
    """

    def getattr(name: str) -> Any:
        if name not in places:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(places))}"
            )
        module = importlib.import_module(f"{package}.{places[name] or name}")
        found = vars(module)[name] if places[name] else module
        setattr(sys.modules[package], name, found)  # the next use does not come here
        return found

    return getattr


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules (pyarrow, pyarrow.parquet).

    Raises:
        ImportError: if pyarrow is not installed; the message names the extra that installs it.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("parquet files need pyarrow: pip install 'jsbert[cli]'") from None
    return pyarrow, pyarrow.parquet
