"""Count the texts that were truncated at the token limit, and report them as the caller wants."""

import warnings
from collections.abc import Sequence
from typing import Literal

from jsbert.inputs import check_choice

OnTruncate = Literal["warn", "error", "ignore"]
"""What to do if texts are longer than the limit: one warning with their number, an error, or
nothing."""


class Truncations:
    """The number of texts truncated at the token limit in one call."""

    def __init__(self, on_truncate: OnTruncate, max_length: int):
        check_choice("on_truncate", on_truncate, ("warn", "error", "ignore"))
        self.on_truncate, self.max_length = on_truncate, max_length
        self.num_truncated = self.num_texts = 0

    def add(self, truncated: Sequence[int], num_texts: int) -> None:
        """Count a window of texts, and the truncated texts among them.

        Args:
            truncated: the places of the truncated texts in the window, ascending.
            num_texts: the number of texts in the window.

        Raises:
            ValueError: if a text is truncated and `on_truncate` is "error".
        """
        first = self.num_texts
        self.num_truncated += len(truncated)
        self.num_texts += num_texts
        if len(truncated) and self.on_truncate == "error":
            raise ValueError(
                f"text {first + truncated[0]} is longer than {self.max_length} tokens, and so are "
                f"{len(truncated) - 1} "
                f"more of the texts up to {self.num_texts - 1}; shorten them, raise "
                "max_seq_length, or say on_truncate='warn' or 'ignore'"
            )

    def warn(self, stacklevel: int) -> None:
        """Warn once with the number of truncated texts, if there are any and `on_truncate` is
        "warn"."""
        if self.num_truncated and self.on_truncate == "warn":
            warnings.warn(
                f"{self.num_truncated} of {self.num_texts} texts are longer than {self.max_length} "
                "tokens and were cut "
                "there; raise max_seq_length, or say on_truncate='ignore' or 'error'",
                stacklevel=stacklevel + 1,
            )
