"""Softmax classification of sentence pairs: the paper's objective for natural language inference.

Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3: softmax(W (u, v, |u - v|)).
Reference: ST's SoftmaxLoss.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.losses.logits import cross_entropy

Pairs = Float[AnyArray, "2 batch dim"]

PARTS: Mapping = MappingProxyType(
    {
        "u": lambda u, v: u,
        "v": lambda u, v: v,
        "|u-v|": lambda u, v: jnp.abs(u - v),
        "u*v": lambda u, v: u * v,
    }
)
"""The parts of a pair that the classifier can see, by name."""

CONCATENATION = ("u", "v", "|u-v|")
"""The paper's choice: the best in its ablation (Table 6)."""


def concatenate(
    embeddings: Pairs, concatenation: Sequence[str] = CONCATENATION
) -> Float[Array, "batch features"]:
    """The parts of each pair that the classifier sees, concatenated in the given order: (B, k * D).

    Raises:
        ValueError: if `concatenation` is empty, or holds an unknown part, or holds a part twice.

    >>> concatenate(jnp.array([[[1.0, 2.0]], [[4.0, 0.0]]]), ("u", "|u-v|", "u*v")).tolist()
    [[1.0, 2.0, 3.0, 2.0, 4.0, 0.0]]
    """
    _check(concatenation)
    u, v = at_least_float32(embeddings)
    return jnp.concatenate([PARTS[part](u, v) for part in concatenation], axis=-1)


def init_classifier(
    key: Key[Array, ""], dim: int, num_labels: int, concatenation: Sequence[str] = CONCATENATION
) -> dict[str, Float[Array, "..."]]:
    """A random classifier {"kernel" (k * D, C), "bias" (C,)}. Its numbers are uniform between
    -1 / sqrt(k * D) and 1 / sqrt(k * D), as in a new torch.nn.Linear."""
    _check(concatenation)
    features = len(concatenation) * dim
    kernel, bias = jax.random.split(key)
    bound = features**-0.5
    return {
        "kernel": jax.random.uniform(kernel, (features, num_labels), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias, (num_labels,), minval=-bound, maxval=bound),
    }


def softmax_classification(
    classifier: Mapping[str, Float[AnyArray, "..."]],
    embeddings: Pairs,
    labels: Int[AnyArray, " batch"],
    *,
    concatenation: Sequence[str] = CONCATENATION,
) -> Float[Array, " batch"]:
    """The cross-entropy of each pair's class: (B,).

    Args:
        classifier: {"kernel" (k * D, C), "bias" (C,)}, trained with the encoder.
        embeddings: u and v, (2, B, D).
        labels: classes, 0 to C - 1; any other label gives NaN.
        concatenation: the parts that the classifier sees, of "u", "v", "|u-v|" and "u*v", in the
            order of the classifier's kernel.
    """
    features = concatenate(embeddings, concatenation)
    logits = jnp.dot(features, classifier["kernel"], precision="highest") + classifier["bias"][None]
    return cross_entropy(logits, labels)


def _check(concatenation):
    known = set(concatenation) <= set(PARTS)
    if (
        isinstance(concatenation, str)
        or not concatenation
        or not known
        or len(set(concatenation)) < len(concatenation)
    ):
        raise ValueError(
            f"concatenation is {concatenation!r}; give a sequence of one or more of "
            f"{', '.join(PARTS)}, each once"
        )
