"""The types that the bodies of several routes share. They are strict: a number is no string, and a
bool is no number; and a list is refused at its first wrong item."""

from typing import Annotated, cast

from pydantic import Field, StrictInt, StrictStr

Strings = Annotated[list[StrictStr], Field(fail_fast=True)]
Ids = Annotated[list[StrictInt], Field(fail_fast=True)]
ListsOfIds = Annotated[list[Ids], Field(fail_fast=True)]

Inputs = StrictStr | Strings | Ids | ListsOfIds
"""One text or several, each a string or token ids with their special tokens."""


def as_list(inputs: Inputs) -> list[str] | list[list[int]]:
    """Return one text or several as a list of texts.

    >>> as_list("a"), as_list([101, 102]), as_list(["a", "b"])
    (['a'], [[101, 102]], ['a', 'b'])
    """
    is_single = isinstance(inputs, str) or (bool(inputs) and isinstance(inputs[0], int))
    return cast(list[str] | list[list[int]], [inputs] if is_single else inputs)
