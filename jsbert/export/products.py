"""Write the two primitives of JAX with many forms as ONNX nodes: matrix products and indexing."""

from collections.abc import Sequence

import numpy as np

from jsbert.export.graph import Graph, Value, as_dim

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def dot_general(graph, operands, out, params):
    """Write a MatMul if the product has its form; else, such as for vectors, an Einsum."""
    left, right = operands
    (left_summed, right_summed), (left_batch, right_batch) = params["dimension_numbers"]
    left_kept = _others(left, left_summed, left_batch)
    right_kept = _others(right, right_summed, right_batch)
    rows = len(left_kept) == 1 or (len(left_kept) > 1 and not left_batch)
    if rows and len(right_kept) == len(right_summed) == 1:
        left = transposed(graph, left, (*left_batch, *left_kept, *left_summed))
        right = transposed(graph, right, (*right_batch, *right_summed, *right_kept))
        return Value(graph.node("MatMul", left.name, right.name), out.shape, out.dtype)
    # An Einsum: a letter for each axis; axes that are summed or of the batch share theirs.
    letters = iter(LETTERS)
    of_left = {axis: next(letters) for axis in range(len(left.shape))}
    pairs = zip((*right_summed, *right_batch), (*left_summed, *left_batch), strict=True)
    of_right = {axis: of_left[other] for axis, other in pairs}
    of_right |= {axis: next(letters) for axis in right_kept}
    result = [of_left[axis] for axis in (*left_batch, *left_kept)] + [
        of_right[axis] for axis in right_kept
    ]
    terms = ["".join(of[axis] for axis in range(len(of))) for of in (of_left, of_right)]
    equation = f"{terms[0]},{terms[1]}->{''.join(result)}"
    return Value(
        graph.node("Einsum", left.name, right.name, equation=equation), out.shape, out.dtype
    )


def transposed(graph: Graph, value: Value, order: Sequence[int]) -> Value:
    """The value with the axes in this order."""
    if list(order) == sorted(order):
        return value
    name = graph.node("Transpose", value.name, perm=[int(axis) for axis in order])
    return Value(name, tuple(value.shape[axis] for axis in order), value.dtype)


def gather(graph, operands, out, params):
    """Write the indexing of entries, or of one window, at computed places. An index out of bounds
    is an error of the ONNX runtime; JAX would return NaN or the nearest entry."""
    operand, indices = operands
    numbers, sizes = params["dimension_numbers"], [as_dim(size) for size in params["slice_sizes"]]
    indexed = numbers.start_index_map
    whole = _others(operand, indexed, numbers.operand_batching_dims)
    if any(sizes[axis] != operand.shape[axis] for axis in whole):
        raise NotImplementedError
    if len(indices.shape) == 1:
        return _window(graph, operand, indices, sizes, numbers, out)
    if any(sizes[axis] != 1 for axis in indexed):
        raise NotImplementedError
    return _entries(graph, operand, indices, whole, numbers, out)


def _window(graph, operand, indices, sizes, numbers, out):
    indexed = numbers.start_index_map
    starts = graph.node("Cast", indices.name, to=graph.code(np.dtype(np.int64)))
    ends = graph.node("Add", starts, graph.sizes([sizes[axis] for axis in indexed]))
    name = graph.node("Slice", operand.name, starts, ends, graph.axes(*indexed))
    if numbers.collapsed_slice_dims:
        name = graph.node("Squeeze", name, graph.axes(*numbers.collapsed_slice_dims))
    return Value(name, out.shape, out.dtype)


def _entries(graph, operand, indices, whole, numbers, out):
    indexed, batching = numbers.start_index_map, numbers.operand_batching_dims
    # Each axis of the result is an axis of `indices`, ("index", i), or one of the operand,
    # ("operand", axis). `found` is their order behind the ONNX node, `wanted` their order in JAX.
    places = [("index", i) for i in range(len(indices.shape) - 1)]
    kept = [("operand", axis) for axis in whole]
    if len(indexed) == 1 and not batching:
        (axis,) = indexed
        name = graph.node("Gather", operand.name, _without_last(graph, indices), axis=axis)
        found = (
            [entry for entry in kept if entry[1] < axis]
            + places
            + [entry for entry in kept if entry[1] > axis]
        )
    elif tuple(numbers.start_indices_batching_dims) == tuple(range(len(batching))):
        operand = transposed(graph, operand, (*batching, *indexed, *whole))
        wide = graph.node(
            "Cast", indices.name, to=graph.code(np.dtype(np.int64))
        )  # GatherND takes only int64
        name = graph.node("GatherND", operand.name, wide, batch_dims=len(batching))
        found = places + kept
    else:
        raise NotImplementedError
    windows = iter(_others(operand, numbers.collapsed_slice_dims, batching))
    rest = iter(places)
    wanted = [
        ("operand", next(windows)) if axis in numbers.offset_dims else next(rest)
        for axis in range(len(out.shape))
    ]
    order = [found.index(entry) for entry in wanted if entry in found]
    if order != sorted(order):
        name = graph.node("Transpose", name, perm=order)
    ones = [
        i for i, entry in enumerate(wanted) if entry not in found
    ]  # axes that are indexed and kept with size 1
    if ones:
        name = graph.node("Unsqueeze", name, graph.axes(*ones))
    return Value(name, out.shape, out.dtype)


def _without_last(graph, indices):
    return graph.node("Squeeze", indices.name, graph.axes(-1))


def _others(value, *axes):
    return [axis for axis in range(len(value.shape)) if not any(axis in some for some in axes)]
