"""Plan the batches of texts on a platform, also on one that this machine lacks."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jsbert.checks import check_value
from jsbert.engine.batching import Batch, padding_share, plan
from jsbert.engine.ladder import TOKEN_BUDGETS
from jsbert.engine.rows import SLOTS, packed_batches


class Plan(NamedTuple):
    """The batches in which `Engine.stream` would compute texts.

    Attributes:
        batches: the batches; each text is in one of them.
        num_programs: the number of different shapes among the batches; each is compiled once.
        padding: the share of the batches' tokens that is padding, 0 to 1.
    """

    batches: list[Batch]
    num_programs: int
    padding: float


def plan_for(
    platform: str,
    lengths: Sequence[int] | np.ndarray,
    *,
    max_length: int,
    num_devices: int = 1,
    max_rows: int | None = None,
    packs: bool = True,
) -> Plan:
    """Plan batches for a platform as `Engine.stream` does.

    Args:
        platform: "cpu", "gpu" or "tpu"; this machine may lack the platform.
        lengths: the number of tokens of each text, special tokens included.
        max_length: the largest number of tokens that a text can have.
        num_devices: the number of devices that share a batch.
        max_rows: cap on the rows of a batch.
        packs: whether a row may hold several texts on an accelerator.

    Raises:
        ValueError: if the platform is unknown.

    >>> plan_for("tpu", [20] * 4000, max_length=512).num_programs
    2
    """
    check_value(platform, str, name="platform", allowed=tuple(TOKEN_BUDGETS))
    lengths = np.asarray(lengths, np.int64)
    layout: Callable[..., list[Batch]] = plan
    if platform != "cpu":
        layout = functools.partial(packed_batches, slots=SLOTS if packs else 1)
    batches = layout(
        lengths,
        max_length=max_length,
        token_budget=num_devices * TOKEN_BUDGETS[platform],
        max_rows=max_rows,
        multiple=num_devices,
    )
    num_programs = len({(batch.rows, batch.length) for batch in batches})
    return Plan(batches, num_programs, padding_share(lengths, batches))
