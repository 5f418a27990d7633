"""Masked language modelling: which tokens are hidden, and what is to be found there."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Masked(NamedTuple):
    """A batch whose chosen tokens are hidden. K is the same for every batch of one length; rows
    that have fewer chosen tokens are filled with position 0, target 0 and weight 0."""

    ids: Int[np.ndarray, "batch length"]
    positions: Int[np.ndarray, "batch chosen"]
    targets: Int[np.ndarray, "batch chosen"]
    weights: Float[np.ndarray, "batch chosen"]


def masked(
    ids: Int[np.ndarray, "batch length"],
    lengths: Int[np.ndarray, " batch"],
    *,
    seed: int,
    epoch: int,
    indices: Sequence[int] | Int[np.ndarray, " batch"],
    mask_id: int,
    vocab_size: int,
    special_ids: Collection[int],
    share: float = 0.15,
) -> Masked:
    """A copy of `ids` with `share` of each row's tokens chosen, K = ceil(share * L) at most: 80 %
    of them become `mask_id`, 10 % any id of the vocabulary, and 10 % stay.

    Padding and special tokens are never chosen; of other rows at least one token is. What is drawn
    depends on (seed, epoch, index) and the row's own tokens alone, not on the batch or its length.
    Source: BERT (Devlin et al. 2019), appendix A.1.

    Args:
        ids: (B, L), padded on the right.
        lengths: tokens of each row.
        seed, epoch, indices: what the draw depends on; the indices are the rows' places in the data
            set.
        mask_id: what stands for a hidden token.
        vocab_size: random ids are 0 to vocab_size - 1.
        special_ids: the ids never chosen, such as those of [CLS] and [SEP].
        share: 0 to 1.

    Returns:
        ids (B, L), positions (B, K) and targets (B, K) int32, and weights (B, K) float32, 1 where
        there is a target.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1")
    ids = np.array(ids, np.int32)
    num_rows, length = ids.shape
    most = math.ceil(share * length)
    positions, targets = np.zeros((2, num_rows, most), np.int32)
    weights = np.zeros((num_rows, most), np.float32)
    maskable = (np.arange(length)[None] < np.asarray(lengths)[:, None]) & ~np.isin(
        ids, list(special_ids)
    )
    for row, index in enumerate(indices):
        places = np.flatnonzero(maskable[row])
        if not places.size:
            continue
        generator = np.random.default_rng([seed, epoch, int(index)])
        count = max(1, round(share * places.size))
        chosen = np.sort(generator.permutation(places)[:count])
        positions[row, :count] = chosen
        targets[row, :count] = ids[row, chosen]
        weights[row, :count] = 1.0
        fate = generator.random(count)
        random_ids = generator.integers(0, vocab_size, count)
        ids[row, chosen] = np.where(
            fate < 0.8, mask_id, np.where(fate < 0.9, random_ids, ids[row, chosen])
        )
    return Masked(ids, positions, targets, weights)
