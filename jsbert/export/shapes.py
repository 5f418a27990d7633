"""Write JAX's reductions and changes of shape as ONNX nodes; and the tables of all primitives."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from jsbert.export.elementwise import ELEMENTWISE, converted
from jsbert.export.graph import Graph, Value, as_dim
from jsbert.export.products import dot_general, gather, transposed


def reduction(kind: str) -> Callable:
    """A writer of the node `kind`, which removes axes. The nodes do not take bools, so bools become
    integers."""

    def write(graph, operands, out, params):
        (value,) = operands
        numbers = converted(graph, value, np.int32) if value.dtype == bool else value
        name = graph.node(kind, numbers.name, graph.axes(*params["axes"]), keepdims=0)
        return converted(graph, Value(name, out.shape, numbers.dtype), out.dtype)

    return write


def arg_reduction(kind: str) -> Callable:
    """A writer of the node `kind`: the place of the first extreme along an axis."""

    def write(graph, operands, out, params):
        (value,), (axis,) = operands, params["axes"]
        numbers = converted(graph, value, np.int32) if value.dtype == bool else value
        name = graph.node(kind, numbers.name, axis=axis, keepdims=0)
        return converted(graph, Value(name, out.shape, np.dtype(np.int64)), out.dtype)

    return write


def cumsum(graph, operands, out, params):
    axis = graph.constant(np.asarray(params["axis"], np.int64))
    name = graph.node("CumSum", operands[0].name, axis, reverse=int(params["reverse"]))
    return Value(name, out.shape, out.dtype)


def dim_as_value(graph, operands, out, params):
    name = graph.node("Squeeze", graph.size(as_dim(params["dim"])), graph.axes(0))
    return converted(graph, Value(name, (), np.dtype(np.int64)), out.dtype)


def iota(graph, operands, out, params):
    size, axis, rank = out.shape[params["dimension"]], params["dimension"], len(out.shape)
    zero, one = (graph.constant(np.asarray(number, np.int64)) for number in (0, 1))
    name = graph.node("Range", zero, graph.node("Squeeze", graph.size(size), graph.axes(0)), one)
    value = converted(graph, Value(name, (size,), np.dtype(np.int64)), out.dtype)
    return placed(graph, value, (axis,), rank)


def broadcast(graph, operands, out, params):
    return placed(graph, operands[0], params["broadcast_dimensions"], len(out.shape))


def placed(graph: Graph, value: Value, places: Sequence[int], rank: int) -> Value:
    """The value with `rank` axes: its own at `places`, and others of size 1."""
    others = [axis for axis in range(rank) if axis not in places]
    if not others:
        return value
    sizes = dict(zip(places, value.shape, strict=True))
    name = graph.node("Unsqueeze", value.name, graph.axes(*others))
    return Value(name, tuple(sizes.get(axis, 1) for axis in range(rank)), value.dtype)


def reshape(graph, operands, out, params):
    """Write a Reshape. In its list of sizes 0 keeps an axis and -1 infers one: axes that keep their
    place and size get 0, the first other axis of unknown size gets -1."""
    (value,) = operands
    sizes = [
        0 if i < len(value.shape) and value.shape[i] == size else size
        for i, size in enumerate(out.shape)
    ]
    unknown = [i for i, size in enumerate(sizes) if isinstance(size, str)]
    if unknown:
        sizes[unknown[0]] = -1
    return Value(graph.node("Reshape", value.name, graph.sizes(sizes)), out.shape, out.dtype)


def squeeze(graph, operands, out, params):
    name = graph.node("Squeeze", operands[0].name, graph.axes(*params["dimensions"]))
    return Value(name, out.shape, out.dtype)


def transpose(graph, operands, out, params):
    return transposed(graph, operands[0], params["permutation"])


def reverse(graph, operands, out, params):
    axes = params["dimensions"]
    last, before_first = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    name = graph.node(
        "Slice", operands[0].name, *(graph.axes(*row) for row in (last, before_first, axes, last))
    )
    return Value(name, out.shape, out.dtype)


def static_slice(graph, operands, out, params):
    (value,) = operands
    starts, limits = (
        [as_dim(place) for place in params[name]] for name in ("start_indices", "limit_indices")
    )
    steps = params["strides"] or [1] * len(starts)
    places = zip(starts, limits, range(len(starts)), steps, strict=True)
    cut = [
        (start, limit, axis, step)
        for start, limit, axis, step in places
        if (start, limit, step) != (0, value.shape[axis], 1)
    ]
    if not cut:
        return value
    starts, limits, axes, steps = zip(*cut, strict=True)
    name = graph.node(
        "Slice",
        value.name,
        graph.sizes(starts),
        graph.sizes(limits),
        graph.axes(*axes),
        graph.axes(*steps),
    )
    return Value(name, out.shape, out.dtype)


def concatenate(graph, operands, out, params):
    name = graph.node("Concat", *(value.name for value in operands), axis=params["dimension"])
    return Value(name, out.shape, out.dtype)


def stack(graph, operands, out, params):
    names = [graph.node("Unsqueeze", value.name, graph.axes(params["axis"])) for value in operands]
    return Value(graph.node("Concat", *names, axis=params["axis"]), out.shape, out.dtype)


def split(graph, operands, outs, params):
    sizes = graph.sizes([as_dim(size) for size in params["sizes"]])
    names = graph.node("Split", operands[0].name, sizes, outputs=len(outs), axis=params["axis"])
    return [Value(name, out.shape, out.dtype) for name, out in zip(names, outs, strict=True)]


BROADCASTING: Mapping[str, Callable] = MappingProxyType(
    {**ELEMENTWISE, "broadcast_in_dim": broadcast, "transpose": transpose}
)
"""{primitive: its writer}, for operands that may have size 1 where JAX's are broadcast."""

WHOLE: Mapping[str, Callable] = MappingProxyType(
    {
        "argmax": arg_reduction("ArgMax"),
        "argmin": arg_reduction("ArgMin"),
        "concatenate": concatenate,
        "cumsum": cumsum,
        "dim_as_value": dim_as_value,
        "dot_general": dot_general,
        "gather": gather,
        "iota": iota,
        "reduce_and": reduction("ReduceMin"),
        "reduce_max": reduction("ReduceMax"),
        "reduce_min": reduction("ReduceMin"),
        "reduce_or": reduction("ReduceMax"),
        "reduce_prod": reduction("ReduceProd"),
        "reduce_sum": reduction("ReduceSum"),
        "reshape": reshape,
        "rev": reverse,
        "slice": static_slice,
        "split": split,
        "squeeze": squeeze,
        "stack": stack,
    }
)
"""{primitive: its writer}, for operands that must have the same sizes as in JAX."""
