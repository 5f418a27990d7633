"""Names of sentence-transformers that jsbert does not have, and what to use in their place."""

from collections.abc import Callable, Mapping
from typing import Any

from jsbert.checks import shown

CARD = "save_pretrained writes a model card; edit its README.md"
TRAIN = "train with SentenceTransformerTrainer or CrossEncoderTrainer of this package"
OTHER = "jsbert has bi-encoders with one vector for each text, and cross-encoders"
DATASETS = "a datasets.Dataset, or jsbert.data.Examples, holds examples"
"""Ways that several modules name."""


def raise_for(module: str, ways: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module that lacks some names of the peer.

    Args:
        module: the module's name.
        ways: for each name, what to use in its place.
    """

    def getattr(name: str) -> Any:
        if name in ways:  # an ImportError, because `from ... import` hides other messages
            raise ImportError(f"{module} has no {name}: {ways[name]}", name=name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattr


def refuse(owner: str, given: Mapping[str, Any], ways: Mapping[str, str]) -> None:
    """Raise ValueError for the first option in `ways` that the caller gave a value.

    Args:
        owner: what the options belong to, for the message.
        given: options by name; None, False and empty ones count as not given.
        ways: for each option that jsbert does not have, what to do.
    """
    for name, way in ways.items():
        value = given.get(name)
        if value is not None and value is not False and value != {}:
            given_as = shown(value).partition("\n")[0]
            raise ValueError(f"{owner}: {name}={given_as} is not supported; {way}")
