"""Masked language modelling: choose the tokens to hide, and keep their ids as targets."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Masked(NamedTuple):
    """A batch whose chosen tokens are hidden. K, the number of columns, is the same for all batches
    of one length. Rows with fewer chosen tokens are filled with position 0, target 0 and weight
    0."""

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
    """Choose `share` of the tokens of each row, and hide them in a copy of `ids`. Of the chosen
    tokens 80 % become `mask_id`, 10 % become a random id of the vocabulary, and 10 % do not change.

    Padding and special tokens are never chosen. Each row with other tokens has at least one chosen
    token. The draw depends only on (seed, epoch, index) and the tokens of the row, not on the batch
    or its length. Source: BERT (Devlin et al. 2019), appendix A.1.

    Args:
        ids: (B, L), padded on the right.
        lengths: the number of tokens of each row, (B,).
        seed, epoch: the draw depends on them.
        indices: the places of the rows in the data set, (B,); the draw depends on them.
        mask_id: the id that replaces a hidden token.
        vocab_size: random ids are 0 to vocab_size - 1.
        special_ids: the ids that are never chosen, such as those of [CLS] and [SEP].
        share: the share of tokens that are chosen, above 0 and at most 1.

    Returns:
        ids (B, L), positions (B, K) and targets (B, K) int32, and weights (B, K) float32, 1 for
        each target, with K = ceil(share * L).

    Raises:
        ValueError: if `share` is outside of its range.
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
        # A generator for each row: so the draw does not depend on the batch.
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
