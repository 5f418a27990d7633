"""`InputExample`: texts with a label, as the peer's older programs hold them."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass
class InputExample:
    """One example: an id, texts, and a label.

    The trainers take a list of examples in place of a data set.
    """

    guid: str = ""
    texts: Sequence[str] = ()
    label: int | float = 0
