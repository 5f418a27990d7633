"""The order of an epoch: which examples go together in a batch, and which batch follows which."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

Batch = TypeVar("Batch")

BLOCK = 16_384
"""Texts read at a time; a data set on disk is never in memory as a whole."""


def epoch_batches(
    num_examples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    texts: Sequence[Sequence[str]] | None = None,
    classes: Int[np.ndarray, " examples"] | None = None,
) -> list[Int[np.ndarray, " batch"]]:
    """The batches of an epoch: each example once, in an order that depends on (seed, epoch) alone;
    the last one is smaller where they do not come out even.

    Args:
        num_examples: N.
        batch_size: examples of a batch.
        seed, epoch: not negative.
        texts: columns of N strings. If given, no text occurs in two examples of a batch, in
            whatever columns. An example that does not go into a batch for this reason goes into the
            next it fits in; the last batches are smaller, down to one example, if a text occurs
            oftener than there are batches.
        classes: the class of each example. If given, the examples of a class come in pairs that
            stay together in a batch, and the classes are spread over the epoch. If the number of a
            class is odd, one of its examples has no partner; such examples are in the last batches.
            `batch_size` must then be even, at least 4. It is not for use with `texts`.

    >>> [batch.tolist() for batch in epoch_batches(5, 2, seed=0, epoch=1)]
    [[1, 4], [3, 0], [2]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(num_examples)
    if texts is not None:
        return _without_duplicates(order, batch_size, texts)
    if classes is not None:
        if batch_size < 4 or batch_size % 2:
            raise ValueError(
                f"batch_size is {batch_size}; batches grouped by label need an even number, at "
                "least 4: change it, or give group_by_label=False"
            )
        order = _in_pairs(order, classes[order], generator)
    return [order[start : start + batch_size] for start in range(0, num_examples, batch_size)]


def mixed_batches(
    per_source: Sequence[Sequence[Batch]], *, how: str = "proportional", seed: int, epoch: int
) -> list[tuple[int, Batch]]:
    """(source, batch) for the batches of several sources, each source's in their order.

    Args:
        per_source: the batches of each source.
        how: "proportional": all batches, the sources drawn at random by the batches they have;
            "round-robin": a batch from each source in turn, until the shortest has no more.
        seed, epoch: on which "proportional" depends.

    >>> mixed_batches([["a", "b", "c"], ["x", "y"]], how="round-robin", seed=0, epoch=0)
    [(0, 'a'), (1, 'x'), (0, 'b'), (1, 'y')]
    """
    if how == "round-robin":
        return [
            (source, batch)
            for turn in zip(*per_source, strict=False)
            for source, batch in enumerate(turn)
        ]
    if how != "proportional":
        raise ValueError(f"unknown way to mix {how!r}; choose 'proportional' or 'round-robin'")
    sources = np.repeat(np.arange(len(per_source)), [len(batches) for batches in per_source])
    rest = [iter(batches) for batches in per_source]
    drawn = np.random.default_rng([seed, epoch, 1]).permutation(sources)
    return [(source, next(rest[source])) for source in drawn.tolist()]


def _in_pairs(order, classes, generator):
    """`order` changed so that entries 0 and 1 have the same class, entries 2 and 3, and so on; then
    the examples without partner.

    A class with n pairs has one of them, at random, in each n-th of the epoch.
    """
    order = order[np.argsort(classes, kind="stable")]  # class after class
    _, sizes = np.unique(classes, return_counts=True)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the class
    pair, num_pairs = place // 2, np.repeat(sizes // 2, sizes)
    has_partner = pair < num_pairs
    pairs = order[has_partner].reshape(-1, 2)
    first = has_partner & (place % 2 == 0)
    time = (pair[first] + generator.random(len(pairs))) / num_pairs[first]
    alone = generator.permutation(order[~has_partner])
    return np.concatenate([pairs[np.argsort(time)].ravel(), alone])


def _without_duplicates(order, batch_size, texts):
    groups = _repeated_texts(texts)
    # A text may occur again after the last batch that has it. Looking for an open batch only from
    # there keeps the time linear, and costs next to nothing: the earlier batches are full but for a
    # few at the end.
    after: dict[int, int] = {}
    batches: list[list[int]] = []
    next_open: list[int] = []  # of a full batch, a later one; of an open batch, itself
    for example, row in zip(order.tolist(), groups[order].tolist(), strict=True):
        number = _open_batch(
            next_open, max((after.get(group, 0) for group in row if group >= 0), default=0)
        )
        while number >= len(batches):
            next_open.append(len(batches))
            batches.append([])
        batches[number].append(example)
        if len(batches[number]) == batch_size:
            next_open[number] = number + 1
        after.update((group, number + 1) for group in row if group >= 0)
    return [np.asarray(batch, np.int64) for batch in batches]


def _open_batch(next_open, number):
    """The first batch from `number` on that is not full; len(next_open) if all are."""
    passed = []
    while number < len(next_open) and next_open[number] != number:
        passed.append(number)
        number = next_open[number]
    for full in passed:
        next_open[full] = number
    return number


def _repeated_texts(texts):
    """(N, T) int64: a number for each text that occurs more than once, -1 for the others."""
    digests = np.stack([_digests(column) for column in texts], axis=1)
    _, groups, counts = np.unique(digests, return_inverse=True, return_counts=True)
    return np.where(counts[groups] > 1, groups, -1).reshape(digests.shape)


def _digests(column):
    """64 bits of each text's hash, the same in every process. That two texts share them does no
    more harm than to keep them out of one batch."""
    digests = bytearray()
    for start in range(0, len(column), BLOCK):
        for text in column[start : start + BLOCK]:
            digests += hashlib.blake2b(text.encode("utf8", "surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digests, "<u8")
