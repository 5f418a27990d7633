"""Low-rank adaptation: train W + alpha / r * A B in place of each kernel W of the encoder. A and B
are small and trained; W is frozen.

Hu et al. 2021, https://arxiv.org/abs/2106.09685. The matrices A and B are params["lora"], in a tree
like the encoder's. All linear layers of the encoder, or the chosen ones, have such matrices.
Embeddings, norms and biases have none, and are frozen too. The params behind the encoder (Dense,
LayerNorm, the weights of layers, a classifier) have none either, and are trained whole.
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
    """New matrices for an encoder's kernels. A is random as in peft, and B is zero, so that the
    matrices change nothing yet.

    Args:
        encoder: the params of the encoder.
        key: draws A.
        rank: r, the number of columns of A and of rows of B.
        targets: regular expressions. A kernel gets matrices if one of them is found in its path,
            such as "encoder/layers/0/output/kernel"; None: all kernels get matrices.

    Returns:
        A tree like the encoder's, with {"lora_A" (I, r), "lora_B" (r, O)} for each such layer; its
        kernel is (I, O).

    Raises:
        ValueError: if a pattern is found in no path of a kernel.
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
    """The encoder's params, with alpha / r * A B added to each kernel that has matrices in
    `lora`."""
    if "lora_A" in lora:
        change = jnp.matmul(lora["lora_A"], lora["lora_B"], precision="highest")
        return encoder | {"kernel": encoder["kernel"] + alpha / lora["lora_A"].shape[1] * change}
    return encoder | {name: merge(encoder[name], part, alpha) for name, part in lora.items()}


def merged(params: PyTree, alpha: float) -> PyTree:
    """All params, with params["lora"] merged into params["encoder"]. Params without "lora" do not
    change."""
    if "lora" not in params:
        return params
    rest = {name: part for name, part in params.items() if name != "lora"}
    return rest | {"encoder": merge(params["encoder"], params["lora"], alpha)}


def adapted(objective: Objective, alpha: float) -> Objective:
    """The objective as a function of params with "lora". It can be differentiated by these params
    as by all others."""

    def forward(params, batch, keys):
        return objective.forward(merged(params, alpha), batch, keys)

    def loss(params, outputs, batch):
        return objective.loss(merged(params, alpha), outputs, batch)

    return dataclasses.replace(objective, forward=forward, loss=loss)
