"""One update, pure and jitted: the gradient of an objective over a batch, computed whole, in chunks
or accumulated.

A batch is a dict of arrays with one row for each example: `ids` (B, T, L), `lengths` (B, T),
`labels`. If a batch is sharded by rows over several devices, the program is the same, and in-batch
negatives come from all devices. A batch that one device computes whole may have packed rows in
place of `ids` (see `jsbert.engine.packing`).
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jsbert.engine.packing import is_packed
from jsbert.train.objectives import Objective

Batch = Mapping[str, Any]


class State(NamedTuple):
    """Everything that an update changes, and the frozen params.

    Attributes:
        params: the trained params, float32: {"encoder": ..., "head": ..., "objectives": {name:
            ...}}; with low-rank adaptation also "lora" (see `train.lora`).
        frozen: the frozen params, in a tree of the same form.
        opt_state: the state of the optimizer.
        step: the number of updates made so far.
    """

    params: PyTree
    frozen: PyTree
    opt_state: PyTree
    step: Int[Array, ""]


def init_state(
    params: PyTree, optimizer: optax.GradientTransformation, *, frozen: Sequence[str] = ()
) -> State:
    """The state before the first update.

    Args:
        params: all params.
        optimizer: the optimizer that `make_step` will use.
        frozen: regular expressions. A param is frozen if one of them is found in its path, such as
            "encoder/layers/0/output/kernel".

    Raises:
        ValueError: if a pattern is found in no path, or if nothing is left to train.
    """
    paths = jax.tree_util.tree_map_with_path(
        lambda path, _: "/".join(str(key.key) for key in path), params
    )
    for pattern in frozen:
        if not any(re.search(pattern, path) for path in jax.tree.leaves(paths)):
            one = max(jax.tree.leaves(paths), key=len)
            raise ValueError(
                f"frozen: {pattern!r} is found in no param's path; paths look like {one!r}"
            )
    keep = jax.tree.map(lambda path: any(re.search(pattern, path) for pattern in frozen), paths)
    trained = jax.tree.map(lambda param, keep: None if keep else param, params, keep)
    if not jax.tree.leaves(trained):
        raise ValueError(f"frozen: {list(frozen)} leave nothing to train")
    return State(
        trained,
        jax.tree.map(lambda param, keep: param if keep else None, params, keep),
        optimizer.init(trained),
        jnp.zeros((), jnp.int32),
    )


def all_params(params: PyTree, frozen: PyTree) -> PyTree:
    """The trained and the frozen params as one tree."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, params, frozen, is_leaf=lambda leaf: leaf is None
    )


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    chunk_size: int | None = None,
    accumulate: int = 1,
) -> Callable[[State, Batch, Key[Array, ""] | None], tuple[State, dict[str, Float[Array, ""]]]]:
    """Return `step(state, batch, key) -> (state, measures)`, jitted. The step reuses the memory of
    the old state for the new one (donation).

    Args:
        objective: the objective whose mean loss the step makes smaller.
        optimizer: from optax.
        chunk_size: the number of rows computed at a time. A large batch then needs the memory of a
            chunk, at the cost of one more forward pass. The gradient is that of the whole batch,
            in-batch negatives included (GradCache, Gao et al. 2021,
            https://arxiv.org/abs/2101.06983).
        accumulate: the number of micro-batches in a batch. Micro-batch i has the rows i, i +
            accumulate, i + 2 * accumulate, ... Their gradients are averaged. In-batch negatives
            come from the micro-batch only.

    Returns:
        The step. `key` draws the dropout; None: no dropout. The dropout masks of an example depend
        on (key, step, row) alone. Measures: "loss", the mean over the batch, and "grad_norm", the
        gradient's norm before any clipping.
    """

    def step(state, batch, key):
        rows = batch["lengths"].shape[0]
        keys = None if key is None else example_keys(key, state.step, rows)
        loss_of = functools.partial(
            gradients, objective, frozen=state.frozen, chunk_size=chunk_size
        )
        if accumulate == 1:
            loss, grads = loss_of(state.params, batch, keys)
        else:
            # Sum loss and gradient over the micro-batches, then divide by their number.
            _refuse_packed(batch)
            micro = _strided((batch, keys), accumulate)
            add = functools.partial(jax.tree.map, jnp.add)

            def one_more(total, part):
                return add(total, loss_of(state.params, *part)), None

            first = jax.tree.map(lambda x: x[0], micro)
            sums = jax.eval_shape(loss_of, state.params, *first)
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
            total, _ = jax.lax.scan(one_more, zeros, micro)
            loss, grads = jax.tree.map(lambda x: x / accumulate, total)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # Keep the params of other objectives, and the moments of these params: they change only
        # with batches of their own data set.
        new, old = (params, opt_state), (state.params, state.opt_state)
        params, opt_state = jax.tree_util.tree_map_with_path(
            lambda path, new, old: old if _is_others(path, objective.name) else new, new, old
        )
        measures = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return State(params, state.frozen, opt_state, state.step + 1), measures

    return jax.jit(step, donate_argnums=0)


def example_keys(key: Key[Array, ""], step: Int[Array, ""] | int, rows: int) -> Key[Array, " rows"]:
    """One key for each example of a batch. A key depends on (key, step, row) alone, not on the
    chunks or the devices."""
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


def gradients(
    objective: Objective,
    params: PyTree,
    batch: Batch,
    keys: Key[Array, " rows"] | None,
    *,
    frozen: PyTree = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, ""], PyTree]:
    """The mean loss of a batch, and the gradient of the mean loss by `params`. `frozen` are the
    frozen params of a `State`; `chunk_size` as for `make_step`."""
    whole = functools.partial(all_params, frozen=params if frozen is None else frozen)
    rows = batch["lengths"].shape[0]

    def mean_loss(params, outputs):
        return jnp.mean(objective.loss(whole(params), outputs, batch))

    def forward(params, batch, keys):
        return objective.forward(whole(params), batch, keys)

    if chunk_size is None or chunk_size >= rows:
        return jax.value_and_grad(lambda params: mean_loss(params, forward(params, batch, keys)))(
            params
        )
    _refuse_packed(batch)
    chunks = -(-rows // chunk_size)
    # Repeat the first rows to fill up the last chunk. The loss does not see the outputs of the
    # repeated rows, so that these rows have no gradient.
    filled = jax.tree.map(
        lambda x: jnp.concatenate([x, x[: chunks * chunk_size - rows]]), (batch, keys)
    )
    # First pass: the outputs of all chunks, without what a gradient needs. Then the loss of the
    # whole batch, and its gradient by the outputs.
    parts = _strided(filled, chunks)
    outputs = jax.lax.map(lambda part: forward(params, *part), parts)
    outputs, unjoin = jax.vjp(
        lambda outputs: jax.tree.map(lambda x: _joined(x)[:rows], outputs), outputs
    )
    loss, (grads, cotangents) = jax.value_and_grad(mean_loss, argnums=(0, 1))(params, outputs)

    # Second pass: compute each chunk again, and carry the gradient by its outputs to the params.
    def one_more(grads, part):
        inputs, cotangents = part
        _, pull_back = jax.vjp(lambda params: forward(params, *inputs), params)
        return jax.tree.map(jnp.add, grads, pull_back(cotangents)[0]), None

    grads, _ = jax.lax.scan(one_more, grads, (parts, unjoin(cotangents)[0]))
    return loss, grads


def per_example_grads(objective: Objective) -> Callable[[PyTree, Batch, Any], PyTree]:
    """Return `grads(params, batch, keys=None)`: the gradient of each example's own loss, with a
    leading axis B on every param.

    `grads` is a `vmap` of `grad`. It serves to select data by gradient norm, to clip gradients for
    privacy, and to measure influence. It takes B times the memory of the params. `keys` are those
    of `example_keys`.

    Raises:
        ValueError: if the examples of a batch see each other in the objective's loss.
    """
    if objective.in_batch:
        raise ValueError(
            f"{objective.kind}: a batch's examples see each other in this loss, so none has a "
            "gradient of its own; "
            "take a loss of single examples, or the gradient of the whole batch"
        )

    def own_loss(params, example, key):
        batch, keys = jax.tree.map(lambda x: x[None], (example, key))
        return objective.loss(params, objective.forward(params, batch, keys), batch)[0]

    def grads(params, batch, keys=None):
        _refuse_packed(batch)
        return jax.vmap(jax.grad(own_loss), in_axes=(None, 0, 0))(params, batch, keys)

    return jax.jit(grads)


def _is_others(path, name):
    """Whether a param belongs to an objective other than `name`."""
    keys = [getattr(entry, "key", None) for entry in path]
    return "objectives" in keys and keys[keys.index("objectives") + 1] != name


def _refuse_packed(batch):
    if is_packed(batch):
        raise ValueError(
            "packed rows are computed whole; for chunks, accumulation or gradients per example pad "
            "the rows"
        )


def _strided(tree, parts):
    """(B, ...) to (parts, B / parts, ...). Part i has the rows i, i + parts, ..., so that each part
    has rows of every device."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), tree)


def _joined(x):
    """The inverse of `_strided`."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])
