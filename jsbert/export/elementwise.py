"""Write JAX's elementwise primitives as ONNX nodes.

A writer is called as writer(graph, operands, out, params), where `out` has the shape and dtype of
the result, and `params` are those of the equation. It adds nodes to the graph, and returns the
result.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import DTypeLike

from jsbert.export.graph import Graph, Value


def elementwise(
    graph: Graph, kind: str, operands: Sequence[Value], dtype: DTypeLike, **attributes: Any
) -> Value:
    """Add the node `kind` over operands that broadcast against each other; return its result."""
    rank = max(len(operand.shape) for operand in operands)
    shapes = [(1,) * (rank - len(operand.shape)) + operand.shape for operand in operands]
    shape = tuple(
        next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True)
    )
    return Value(
        graph.node(kind, *(operand.name for operand in operands), **attributes),
        shape,
        np.dtype(dtype),
    )


def plain(kind: str, **attributes: Any) -> Callable:
    """A writer that adds the one node `kind`."""

    def write(graph, operands, out, params):
        return elementwise(graph, kind, operands, out.dtype, **attributes)

    return write


def logical(of_bools: str, of_integers: str) -> Callable:
    """A writer that adds one node for bools, another for integers."""

    def write(graph, operands, out, params):
        return elementwise(
            graph, of_bools if out.dtype == bool else of_integers, operands, out.dtype
        )

    return write


def total_order(kind: str) -> Callable:
    """A writer that adds the node `kind` for integers. Floats are not supported: JAX orders -0.0
    before 0.0, ONNX does not."""

    def write(graph, operands, out, params):
        if not np.issubdtype(operands[0].dtype, np.integer):
            raise NotImplementedError
        return elementwise(graph, kind, operands, out.dtype)

    return write


def same(graph, operands, out, params):
    return operands[0]


def not_equal(graph, operands, out, params):
    return elementwise(graph, "Not", [elementwise(graph, "Equal", operands, bool)], bool)


def inverse_root(graph, operands, out, params):
    return elementwise(
        graph, "Reciprocal", [elementwise(graph, "Sqrt", operands, out.dtype)], out.dtype
    )


def square(graph, operands, out, params):
    return elementwise(graph, "Mul", operands * 2, out.dtype)


def integer_pow(graph, operands, out, params):
    return elementwise(graph, "Pow", [*operands, number(graph, params["y"], out.dtype)], out.dtype)


def power_of_two(graph, operands, out, params):
    return elementwise(graph, "Pow", [number(graph, 2, out.dtype), *operands], out.dtype)


def number(graph: Graph, value: float, dtype: DTypeLike) -> Value:
    """A number as a constant tensor ()."""
    return Value(graph.constant(np.asarray(value, dtype)), (), np.dtype(dtype))


def clamp(graph, operands, out, params):
    low, value, high = operands
    return elementwise(
        graph, "Min", [elementwise(graph, "Max", [low, value], out.dtype), high], out.dtype
    )


def select(graph, operands, out, params):
    which, *cases = operands
    if which.dtype != bool or len(cases) != 2:
        raise NotImplementedError
    no, yes = cases
    if out.dtype != bool:
        return elementwise(graph, "Where", [which, yes, no], out.dtype)
    # onnxruntime has no Where of bools.
    chosen = [("And", which, yes), ("And", elementwise(graph, "Not", [which], bool), no)]
    return elementwise(
        graph, "Or", [elementwise(graph, kind, pair, bool) for kind, *pair in chosen], bool
    )


def cast(graph, operands, out, params):
    (value,) = operands
    return converted(graph, value, out.dtype)


def converted(graph: Graph, value: Value, dtype: DTypeLike) -> Value:
    """The value, cast to `dtype` if need be."""
    return (
        value
        if value.dtype == dtype
        else elementwise(graph, "Cast", [value], dtype, to=graph.code(dtype))
    )


ELEMENTWISE: Mapping[str, Callable] = MappingProxyType(
    {
        "abs": plain("Abs"),
        "add": plain("Add"),
        "and": logical("And", "BitwiseAnd"),
        "ceil": plain("Ceil"),
        "clamp": clamp,
        "convert_element_type": cast,
        "copy": same,
        "cos": plain("Cos"),
        "div": plain("Div"),
        "eq": plain("Equal"),
        "erf": plain("Erf"),
        "exp": plain("Exp"),
        "exp2": power_of_two,
        "floor": plain("Floor"),
        "ge": plain("GreaterOrEqual"),
        "gt": plain("Greater"),
        "integer_pow": integer_pow,
        "le": plain("LessOrEqual"),
        "le_to": total_order("LessOrEqual"),
        "log": plain("Log"),
        "logistic": plain("Sigmoid"),
        "lt": plain("Less"),
        "lt_to": total_order("Less"),
        "max": plain("Max"),
        "min": plain("Min"),
        "mul": plain("Mul"),
        "ne": not_equal,
        "neg": plain("Neg"),
        "not": logical("Not", "BitwiseNot"),
        "optimization_barrier": same,
        "or": logical("Or", "BitwiseOr"),
        "pow": plain("Pow"),
        "rem": plain("Mod", fmod=1),
        "rsqrt": inverse_root,
        "select_n": select,
        "sign": plain("Sign"),
        "sin": plain("Sin"),
        "sqrt": plain("Sqrt"),
        "square": square,
        "stop_gradient": same,
        "sub": plain("Sub"),
        "tan": plain("Tan"),
        "tanh": plain("Tanh"),
        "xor": logical("Xor", "BitwiseXor"),
    }
)
"""{primitive: its writer}. Operands may have size 1 where JAX's operands are broadcast."""
