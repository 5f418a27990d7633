"""Losses of logits, for cross-encoders and other models that end in a classifier: one number for
each example, (B,).

The losses are computed in at least float32. Reference: sentence-transformers' CrossEncoder losses.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from jsbert.arrays import AnyArray, at_least_float32

Logits = Float[AnyArray, "batch classes"]
Scores = Num[AnyArray, " batch"] | Bool[AnyArray, " batch"]


def binary_cross_entropy(
    logits: Logits, labels: Scores, *, pos_weight: float | None = None
) -> Float[Array, " batch"]:
    """-(w y log s(x) + (1 - y) log(1 - s(x))), with s the logistic function; as ST's
    BinaryCrossEntropyLoss.

    Args:
        logits: x, (B, 1).
        labels: y, 0 to 1: the classes 0 and 1, or scores between them.
        pos_weight: w, the weight of the positive part; 1 by default.

    Raises:
        ValueError: if an example has more than one logit.

    >>> print(binary_cross_entropy(jnp.zeros((2, 1)), jnp.array([0, 1])).round(3))  # log 2
    [0.693 0.693]
    """
    x, y = _only(logits), at_least_float32(labels)
    positive, negative = y * jax.nn.softplus(-x), (1.0 - y) * jax.nn.softplus(x)
    return negative + (positive if pos_weight is None else pos_weight * positive)


def cross_entropy(logits: Logits, labels: Int[AnyArray, " batch"]) -> Float[Array, " batch"]:
    """-log softmax(logits)[label]; as ST's CrossEntropyLoss.

    Args:
        logits: (B, C).
        labels: classes, 0 to C - 1. Any other label gives NaN, and is never read as another class.
            For example, -1 marks a pair without a gold label.
    """
    logits, labels = at_least_float32(logits), jnp.asarray(labels)
    # A negative index would count from the end. An index past the end is filled with NaN.
    index = jnp.where(labels < 0, logits.shape[1], labels)[:, None]
    chosen = jnp.take_along_axis(logits, index, axis=1, mode="fill", fill_value=jnp.nan)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - chosen


def mse(logits: Logits, labels: Scores) -> Float[Array, " batch"]:
    """(logit - label)^2, for logits (B, 1); as ST's cross-encoder MSELoss.

    Raises:
        ValueError: if an example has more than one logit.
    """
    return jnp.square(_only(logits) - at_least_float32(labels))


def _only(logits):
    if logits.shape[1] != 1:
        raise ValueError(
            f"logits have shape {logits.shape}; this loss takes one an example, (B, 1): "
            "use cross_entropy, or a model with one label"
        )
    return at_least_float32(logits)[:, 0]
