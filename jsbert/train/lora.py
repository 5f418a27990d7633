"""Low-rank adaptation: of each kernel W of the encoder only the update alpha / r * A B is trained,
A and B being small.

Hu et al. 2021, https://arxiv.org/abs/2106.09685. The matrices are params of their own,
params["lora"], in a tree like the encoder's; the encoder's own are frozen. Its linear layers have
such matrices, all or the chosen ones; embeddings, norms and biases have none. Nor has what is
behind the encoder (Dense, LayerNorm, the layers' weights, a classifier): it is trained whole.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jsbert.train.objectives import Objective


def init_lora(
    encoder: PyTree, key: Key[Array, ""], *, rank: int, targets: Sequence[str] | None = None
) -> dict[str, PyTree]:
    """New matrices for an encoder's kernels, which change nothing yet: A random as peft draws it, B
    zero.

    Args:
        encoder: its params.
        key: draws A.
        rank: columns of A and rows of B.
        targets: patterns of the kernels, searched in paths such as
            "encoder/layers/0/output/kernel"; None: all.

    Returns:
        {"lora_A" (I, r), "lora_B" (r, O)} in the place of each such layer's params.

    Raises:
        ValueError: for a pattern that fits no kernel.
    """
    kernels = {
        path: leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(encoder)[0]
        if path[-1].key == "kernel"
    }
    paths = {path: "/".join(["encoder", *(str(entry.key) for entry in path)]) for path in kernels}
    for pattern in targets or ():
        if not any(re.search(pattern, path) for path in paths.values()):
            one = max(paths.values(), key=len)
            raise ValueError(
                f"lora_targets: {pattern!r} is found in no kernel's path; paths look like {one!r}"
            )
    lora: dict = {}
    for number, (path, kernel) in enumerate(kernels.items()):
        if targets is None or any(re.search(pattern, paths[path]) for pattern in targets):
            node = lora
            for entry in path[:-1]:
                node = node.setdefault(entry.key, {})
            inputs, outputs = kernel.shape
            most = 1 / math.sqrt(inputs)
            node["lora_A"] = jax.random.uniform(
                jax.random.fold_in(key, number), (inputs, rank), minval=-most, maxval=most
            )
            node["lora_B"] = jnp.zeros((rank, outputs))
    return lora


def merge(encoder: PyTree, lora: PyTree, alpha: float) -> PyTree:
    """The encoder's params with alpha / r * A B added to the kernels that have matrices in `lora`.
    Pure."""
    if "lora_A" in lora:
        change = jnp.matmul(lora["lora_A"], lora["lora_B"], precision="highest")
        return encoder | {"kernel": encoder["kernel"] + alpha / lora["lora_A"].shape[1] * change}
    return encoder | {name: merge(encoder[name], part, alpha) for name, part in lora.items()}


def merged(params: PyTree, alpha: float) -> PyTree:
    """All params, with params["lora"] merged into params["encoder"]; those without one as they
    are."""
    if "lora" not in params:
        return params
    rest = {name: part for name, part in params.items() if name != "lora"}
    return rest | {"encoder": merge(params["encoder"], params["lora"], alpha)}


def adapted(objective: Objective, alpha: float) -> Objective:
    """The objective as a function of params with a "lora", by which it can be differentiated as by
    all others."""

    def forward(params, batch, keys):
        return objective.forward(merged(params, alpha), batch, keys)

    def loss(params, outputs, batch):
        return objective.loss(merged(params, alpha), outputs, batch)

    return dataclasses.replace(objective, forward=forward, loss=loss)
