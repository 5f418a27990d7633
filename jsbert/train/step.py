"""One update, pure and jitted: gradients of an objective over a batch, whole, in chunks or
accumulated.

A batch is a dict of arrays with a row an example: `ids` (B, T, L), `lengths` (B, T), `labels`.
Sharded by rows over any number of devices it is the same program, and in-batch negatives come from
all of them. In place of `ids` there may be packed rows (see `jsbert.engine.packing`), for a batch
computed whole on one device.
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
    """All that an update changes, and the params that it leaves alone.

    Attributes:
        params: those that are trained: {"encoder": ..., "head": ..., "objectives": {name: ...}},
            float32; and "lora", see `train.lora`.
        frozen: the others, in a tree of the same form.
        opt_state: the optimizer's.
        step: updates made so far.
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
        optimizer: what `make_step` will use.
        frozen: patterns of the params to leave alone, searched in paths such as
            "encoder/layers/0/output/kernel".

    Raises:
        ValueError: for a pattern that fits no param, or if nothing is left to train.
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
    """`step(state, batch, key) -> (state, measures)`, jitted, with the old state's memory given to
    the new.

    Args:
        objective: what is made small.
        optimizer: from optax.
        chunk_size: rows computed at a time; the memory of a large batch becomes that of a chunk,
            for one more forward pass. The gradient is the whole batch's, in-batch negatives
            included (GradCache, Gao et al. 2021, https://arxiv.org/abs/2101.06983).
        accumulate: micro-batches in a batch, of rows i, i + accumulate, i + 2 * accumulate, ...;
            their gradients are averaged. In-batch negatives then come from the micro-batch only.

    Returns:
        The step. `key` draws the dropout, None for none: an example's masks depend on (key, step,
        row) alone. Measures: "loss", the mean over the batch, and "grad_norm", before any clipping.
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
        # The params of other data sets' objectives, and their moments, wait for batches of their
        # own.
        new, old = (params, opt_state), (state.params, state.opt_state)
        params, opt_state = jax.tree_util.tree_map_with_path(
            lambda path, new, old: old if _is_others(path, objective.name) else new, new, old
        )
        measures = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return State(params, state.frozen, opt_state, state.step + 1), measures

    return jax.jit(step, donate_argnums=0)


def example_keys(key: Key[Array, ""], step: Int[Array, ""] | int, rows: int) -> Key[Array, " rows"]:
    """The keys of a batch's examples: a function of (key, step, row), whatever the chunks and the
    devices."""
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
    """The mean loss of a batch and its gradient by `params`; `frozen` and `chunk_size` as for
    `make_step`."""
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
    # Rows that fill up the last chunk repeat the first ones; nothing is asked of their outputs, so
    # no gradient comes.
    filled = jax.tree.map(
        lambda x: jnp.concatenate([x, x[: chunks * chunk_size - rows]]), (batch, keys)
    )
    parts = _strided(filled, chunks)
    outputs = jax.lax.map(lambda part: forward(params, *part), parts)
    outputs, unjoin = jax.vjp(
        lambda outputs: jax.tree.map(lambda x: _joined(x)[:rows], outputs), outputs
    )
    loss, (grads, cotangents) = jax.value_and_grad(mean_loss, argnums=(0, 1))(params, outputs)

    def one_more(grads, part):
        inputs, cotangents = part
        _, pull_back = jax.vjp(lambda params: forward(params, *inputs), params)
        return jax.tree.map(jnp.add, grads, pull_back(cotangents)[0]), None

    grads, _ = jax.lax.scan(one_more, grads, (parts, unjoin(cotangents)[0]))
    return loss, grads


def per_example_grads(objective: Objective) -> Callable[[PyTree, Batch, Any], PyTree]:
    """`grads(params, batch, keys=None)`: the gradient of each example's own loss, a leading axis B
    on every param.

    A `vmap` of `grad`: for selecting data by gradient norm, clipping for privacy, influence. B
    times the memory of the params. `keys` as from `example_keys`.

    Raises:
        ValueError: for an objective whose examples see each other.
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
    keys = [getattr(entry, "key", None) for entry in path]
    return "objectives" in keys and keys[keys.index("objectives") + 1] != name


def _refuse_packed(batch):
    if is_packed(batch):
        raise ValueError(
            "packed rows are computed whole; for chunks, accumulation or gradients per example pad "
            "the rows"
        )


def _strided(tree, parts):
    """(B, ...) to (parts, B / parts, ...), part i of rows i, i + parts, ...: so each part has rows
    of every device."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), tree)


def _joined(x):
    """`_strided` undone."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])
