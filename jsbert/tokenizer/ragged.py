"""Token ids of many texts in one array."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ragged(NamedTuple):
    """The token ids of N texts, one text after the other, without padding."""

    ids: np.ndarray  # (total,) int32
    starts: np.ndarray  # (N + 1,) int64: text i is ids[starts[i]:starts[i + 1]]
    token_types: np.ndarray | None  # (total,) int32, or None: all 0
    truncated: Sequence[int] = ()  # the texts that were cut

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each text, (N,) int64."""
        return np.diff(self.starts)

    @classmethod
    def from_lists(
        cls, ids: Sequence, token_types: Sequence | None = None, truncated: Sequence[int] = ()
    ) -> "Ragged":
        """The ragged tokens of texts, given one sequence of ids for each text."""
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        return cls(
            _flat(ids), starts, None if token_types is None else _flat(token_types), truncated
        )

    def take(self, indices: np.ndarray) -> "Ragged":
        """The texts at `indices`, in that order. `truncated` of the result is empty."""
        sizes = self.lengths[indices]
        ends = np.cumsum(sizes)
        source = np.repeat(self.starts[indices] - (ends - sizes), sizes) + np.arange(sizes.sum())
        types = None if self.token_types is None else self.token_types[source]
        return Ragged(self.ids[source], np.concatenate([[0], ends]), types)

    @classmethod
    def join(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """The texts of all parts, one part after the other. If only some parts have token types,
        those of the others are 0."""
        sizes = np.asarray([len(part.ids) for part in parts], np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        starts = [part.starts[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]
        counts = np.concatenate([[0], np.cumsum([len(part.lengths) for part in parts])]).tolist()
        types = None
        if any(part.token_types is not None for part in parts):
            types = _flat(
                [np.zeros_like(p.ids) if p.token_types is None else p.token_types for p in parts]
            )
        truncated = [
            count + place
            for part, count in zip(parts, counts, strict=False)
            for place in part.truncated
        ]
        return cls(
            _flat([part.ids for part in parts]),
            np.concatenate([*starts, offsets[-1:]]),
            types,
            truncated,
        )


def _flat(rows):
    return (
        np.concatenate([np.asarray(row, np.int32) for row in rows])
        if len(rows)
        else np.zeros(0, np.int32)
    )
