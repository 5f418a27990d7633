"""`InputExample`: texts with a label, as the peer's older programs hold them."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass
class InputExample:
    """One example: an id, texts, and a label.

    `jsbert.data.Examples.from_columns` makes a data set for training from lists of texts and
    labels.
    """

    guid: str = ""
    texts: Sequence[str] = ()
    label: int | float = 0
