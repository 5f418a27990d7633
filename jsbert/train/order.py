"""The order of an epoch: the examples of each batch, and the order of the batches."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

Batch = TypeVar("Batch")

BLOCK = 16_384
"""The number of texts read at a time: a data set on disk is never in memory as a whole."""


def epoch_batches(
    num_examples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    texts: Sequence[Sequence[str]] | None = None,
    classes: Int[np.ndarray, " examples"] | None = None,
) -> list[Int[np.ndarray, " batch"]]:
    """The batches of an epoch. Each example is in one batch; the order depends on (seed, epoch)
    alone. If `batch_size` does not divide the number of examples, the last batch is smaller.

    Args:
        num_examples: N.
        batch_size: the number of examples of a batch.
        seed, epoch: not negative.
        texts: columns of N strings. With `texts`, no text is in two examples of a batch, in any of
            the columns. An example goes into the first batch with room after all batches that have
            one of its texts. If a text is in more examples than there are batches, there are
            smaller batches at the end, down to one example.
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
    """(source, batch) for the batches of several sources. The batches of a source keep their order.

    Args:
        per_source: the batches of each source.
        how: "proportional": all batches, in a random order of the sources; "round-robin": one batch
            of each source in turn, until the source with the fewest batches has no more.
        seed, epoch: the random order of "proportional" depends on them alone.

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
    """The batches of `order` in which no text is in two examples."""
    groups = _repeated_texts(texts)
    # `after` is the batch after the last one that has a text: look for an open batch only from
    # there on. This keeps the time linear. It loses little room, because all earlier batches except
    # a few at the end are full.
    after: dict[int, int] = {}
    batches: list[list[int]] = []
    # For a full batch, a later batch, and no open batch is between them; for an open batch, itself.
    next_open: list[int] = []
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
    """Find the first batch from `number` on that is not full; len(next_open) if there is none.
    Point the full batches on the way to it, so that later calls are faster."""
    passed = []
    while number < len(next_open) and next_open[number] != number:
        passed.append(number)
        number = next_open[number]
    for full in passed:
        next_open[full] = number
    return number


def _repeated_texts(texts):
    """(N, T) int64: a number for each text that occurs more than once, -1 for all other texts."""
    digests = np.stack([_digests(column) for column in texts], axis=1)
    _, groups, counts = np.unique(digests, return_inverse=True, return_counts=True)
    return np.where(counts[groups] > 1, groups, -1).reshape(digests.shape)


def _digests(column):
    """64 bits of the hash of each text, the same in every process. If two texts have the same 64
    bits, they are only kept out of one batch."""
    digests = bytearray()
    for start in range(0, len(column), BLOCK):
        for text in column[start : start + BLOCK]:
            digests += hashlib.blake2b(text.encode("utf8", "surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digests, "<u8")
