"""Matryoshka: any loss at several widths at once. After training, the vectors can be truncated to
these widths.

Kusupati et al. 2022, https://arxiv.org/abs/2205.13147. Reference: ST's MatryoshkaLoss.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp

from jsbert.arrays import at_least_float32, normalize
from jsbert.losses.distillation import embedding_mse
from jsbert.losses.in_batch import Loss, unwrapped


def matryoshka(loss: Loss, *, dims: Sequence[int], weights: Sequence[float] | None = None) -> Loss:
    """Return a loss of the same signature: the weighted sum over each d in `dims` of `loss` of the
    vectors' first d entries, scaled to length 1.

    If a loss takes params before the embeddings (`softmax_classification`), the short vectors are
    padded with zeros, so that they fit the classifier. The labels of `embedding_mse` are truncated
    too, and not scaled. The labels of other losses stay whole.

    Args:
        loss: any loss of this package on embeddings. Bind its options with `functools.partial`, or
            give them in the call.
        dims: the widths, usually with the full width among them.
        weights: a number for each of `dims`; 1 by default.

    Raises:
        ValueError: if `dims` is empty or holds a value below 1, or if `weights` has another length;
            and, when the loss is called, if a width exceeds that of the embeddings.

    >>> from jsbert.losses import cosine_regression
    >>> # The cosine of the first entries is 1, that of both is -0.28.
    >>> pair = jnp.array([[[3.0, 4.0]], [[3.0, -4.0]]])
    >>> print(matryoshka(cosine_regression, dims=(2, 1))(pair, jnp.array([1.0])).round(4))
    [1.6384]
    """
    weights = [1.0] * len(dims) if weights is None else weights
    if not dims or min(dims) < 1:
        raise ValueError(f"dims are {tuple(dims)}; give one or more widths, each at least 1")
    if len(weights) != len(dims):
        raise ValueError(
            f"there are {len(weights)} weights for {len(dims)} dims; give one for each, or none"
        )
    cuts_labels = embedding_mse in unwrapped(loss)

    # `wraps` keeps the wrapped loss as `__wrapped__`, so that `unwrapped` finds its marks.
    @functools.wraps(loss)
    def nested(*arguments, **options):
        *params, embeddings, labels = arguments
        width = embeddings.shape[-1]
        if max(dims) > width:
            raise ValueError(
                f"dims are {tuple(dims)}; the embeddings have {width} dimensions: give no more "
                "than that"
            )
        total = 0.0
        for dim, weight in zip(dims, weights, strict=True):
            short = normalize(embeddings[..., :dim])
            if params:
                short = jnp.pad(short, ((0, 0), (0, 0), (0, width - dim)))
            targets = at_least_float32(labels)[..., :dim] if cuts_labels else labels
            total += weight * loss(*params, short, targets, **options)
        return total

    return nested
