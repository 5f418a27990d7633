"""Adaptive layers: any loss at each layer of the encoder. After training, the last layers can be
left out.

Li et al. 2024, https://arxiv.org/abs/2402.14776. Reference: ST's AdaptiveLayerLoss, which at each
step takes some layers at random; here all layers count.
"""

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from jsbert.arrays import at_least_float32
from jsbert.losses.in_batch import Loss

WEIGHTINGS: Mapping[str, Callable[[int], float]] = MappingProxyType(
    {
        "uniform": lambda layer: 1.0,
        "log": lambda layer: 1.0 / (1.0 + math.log(1 + layer)),
        "linear": lambda layer: 1.0 / (1 + layer),
    }
)
"""The weight of a layer before the last one; layer 0 is the output of the embeddings."""


def adaptive_layers(
    loss: Loss,
    *,
    last_layer_weight: float = 1.0,
    prior_layers_weight: float = 1.0,
    kl_div_weight: float = 1.0,
    kl_temperature: float = 0.3,
    layer_weighting: str = "uniform",
) -> Loss:
    """Return a loss of embeddings with an axis of layers in front, (L, T, B, D):
    a loss(last) + b mean_l(w_l loss(l)) + c t sum_l KL(p(last), p(l)), over the layers l before the
    last one.

    a, b and c are the weights in the order of the options, w_l is the weight by `layer_weighting`,
    t is `kl_temperature`, and p(l) = softmax(vector / t) over a vector's D entries. KL is the mean
    over the towers, and has no gradient by the last layer. For 2-D Matryoshka, give
    `matryoshka(loss, dims=...)`: as ST's Matryoshka2dLoss.

    Args:
        loss: any loss of this package on embeddings (T, B, D).
        last_layer_weight, prior_layers_weight, kl_div_weight: a, b and c.
        kl_temperature: t; 0 leaves the third term out.
        layer_weighting: a key of `WEIGHTINGS`.

    Raises:
        ValueError: for another `layer_weighting`, or a `kl_temperature` below 0.

    >>> from jsbert.losses import cosine_regression
    >>> layers = jnp.array([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[1.0, 0.0]], [[1.0, 0.0]]]])
    >>> layered = adaptive_layers(cosine_regression, prior_layers_weight=0.5, kl_temperature=0.0)
    >>> layered(layers, jnp.array([1.0])).tolist()  # the cosines are 0 and 1
    [0.5]
    """
    if layer_weighting not in WEIGHTINGS:
        raise ValueError(
            f"layer_weighting is {layer_weighting!r}; choose one of: {', '.join(WEIGHTINGS)}"
        )
    if kl_temperature < 0:
        raise ValueError(f"kl_temperature is {kl_temperature}; give 0 or more")

    @functools.wraps(loss)
    def layered(*arguments, **options):
        *params, embeddings, labels = arguments
        prior, last = at_least_float32(embeddings[:-1]), at_least_float32(embeddings[-1])

        def of_layer(vectors):
            return loss(*params, vectors, labels, **options)

        total = last_layer_weight * of_layer(last)
        if not len(prior):
            return total
        weights = jnp.array([WEIGHTINGS[layer_weighting](layer) for layer in range(len(prior))])
        factors = prior_layers_weight * weights.astype(total.dtype) / len(prior)
        total += jnp.sum(factors[:, None] * jax.vmap(of_layer)(prior), axis=0)
        if kl_temperature > 0:
            wanted = jax.nn.log_softmax(jax.lax.stop_gradient(last) / kl_temperature)
            differences = wanted[None] - jax.nn.log_softmax(prior / kl_temperature)
            divergence = jnp.sum(jnp.exp(wanted)[None] * differences, axis=(0, -1))  # (T, B)
            total += kl_div_weight * kl_temperature * jnp.mean(divergence, axis=0)
        return total

    return layered
