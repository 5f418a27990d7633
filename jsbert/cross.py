"""The cross-encoder as pure functions: both texts of a pair in one sequence, token vectors to raw
scores."""

import functools

from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt32

from jsbert import encoders
from jsbert.arrays import AnyArray
from jsbert.config import CrossConfig
from jsbert.encoders.heads import answers_head
from jsbert.encoders.segments import each_segment, segments

Mask = Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"]
Keys = Key[Array, ""] | Key[Array, " batch"] | UInt32[Array, "..."]


def logits(
    config: CrossConfig,
    params: PyTree,
    ids: Int[AnyArray, "batch length"] | Float[AnyArray, "batch length dim"],
    mask: Mask,
    key: Keys | None = None,
    *,
    token_types: Int[AnyArray, "batch length"] | None = None,
) -> Float[Array, "batch labels"]:
    """The raw scores of pairs, as of transformers' models for sequence classification.

    Args:
        config: static under `jit`.
        params: {"encoder": ..., "head": ...}.
        ids, mask, key, token_types: as for `encoders.forward`.
    """
    hidden = encoders.forward(
        config.encoder, params["encoder"], ids, mask, key, token_types=token_types
    )
    return classify(config, params["head"], hidden, mask, key)


def logits_of_rows(
    config: CrossConfig,
    params: PyTree,
    ids: Int[AnyArray, "batch length"],
    lengths: Int[AnyArray, "batch pairs"],
    *,
    token_types: Int[AnyArray, "batch length"] | None = None,
) -> Float[Array, "batch pairs labels"]:
    """`logits` of rows that hold several pairs side by side, from the left: the same scores.

    Args:
        config, params, ids, token_types: as for `logits`.
        lengths: tokens of each row's pairs in their order; 0 where there is no pair, whose scores
            mean nothing.
    """
    segment_ids, positions = segments(lengths, ids.shape[1])
    hidden = encoders.forward(
        config.encoder,
        params["encoder"],
        ids,
        segment_ids,
        token_types=token_types,
        positions=positions,
    )
    head = functools.partial(classify, config, params["head"])
    return each_segment(head, hidden, segment_ids, lengths.shape[1])


def classify(
    config: CrossConfig,
    head: PyTree,
    hidden: Float[Array, "batch length dim"],
    mask: Mask,
    key: Keys | None = None,
) -> Float[Array, "batch labels"]:
    """The second part of `logits`: token vectors to raw scores, with the params of the
    classifier."""
    if config.answers:
        function = answers_head(len(config.answers))
    else:
        function = encoders.family(config.encoder).head(config.encoder)
    return function(config.encoder, head, hidden, mask, key)
