"""Build an ONNX graph: values, nodes, constants, and sizes that are known only when the graph
runs."""

import ast
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import DTypeLike, Shaped

Dim = int | str
"""The size of an axis: a number, or an expression of the input sizes as JAX prints it:
"batch*length"."""


def as_dim(size: Any) -> Dim:
    """The size of an axis of a traced array."""
    return str(size) if jax.export.is_symbolic_dim(size) else int(size)


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    `shape` may have a 1 where the shape of JAX's value has a larger number. Most ONNX operators
    broadcast by themselves; for the others see `Graph.widened`.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: np.dtype


class Graph:
    """The nodes of a graph, and the constants that they use.

    Attributes:
        nodes: the nodes in the order of computation.
        constants: {name: array}.
    """

    def __init__(self, helper: Any):
        """`helper` is the module `onnx.helper`."""
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._helper = helper
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._sizes: dict[str, str] = {}
        self._lists: dict[tuple[Dim, ...], str] = {}

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node that reads the tensors `inputs`. Return the name of its output; with several
        outputs, a list of names."""
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(self._helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def code(self, dtype: DTypeLike) -> int:
        """ONNX's number for a dtype."""
        return self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def constant(self, array: Shaped[np.ndarray, "..."]) -> str:
        """Return the name of a constant tensor, which is added if no equal one is there."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"constant_{len(self._known)}"
            self.constants[self._known[key]] = array
        return self._known[key]

    def axes(self, *numbers: int) -> str:
        """Return the name of a constant list of integers, for operators that take axes or sizes."""
        return self.constant(np.asarray(numbers, np.int64).reshape(-1))

    def add_sizes(self, name: str, shape: Sequence[Dim]) -> None:
        """Declare the sizes of the input `name`. Expressions of sizes are computed from these."""
        for axis, size in enumerate(shape):
            if isinstance(size, str) and size not in self._sizes:
                self._sizes[size] = self.node("Shape", name, start=axis, end=axis + 1)

    def size(self, dim: Dim) -> str:
        """Return the name of a tensor (1,) int64 that holds the size."""
        if isinstance(dim, int):
            return self.axes(dim)
        if dim not in self._sizes:
            # The format is documented: jax.export.symbolic_shape reads what JAX prints.
            self._sizes[dim] = self._computed(ast.parse(dim.replace("^", "**"), mode="eval").body)
        return self._sizes[dim]

    def sizes(self, dims: Sequence[Dim]) -> str:
        """The name of a tensor int64 that lists the sizes."""
        fixed = [dim for dim in dims if isinstance(dim, int)]
        if len(fixed) == len(dims):
            return self.axes(*fixed)
        if tuple(dims) not in self._lists:
            self._lists[tuple(dims)] = self.node(
                "Concat", *(self.size(dim) for dim in dims), axis=0
            )
        return self._lists[tuple(dims)]

    def widened(self, value: Value, shape: Sequence[Dim]) -> Value:
        """Return the value broadcast to `shape`."""
        if value.shape == tuple(shape):
            return value
        return Value(self.node("Expand", value.name, self.sizes(shape)), tuple(shape), value.dtype)

    def used(self, outputs: Sequence[str]) -> list[Any]:
        """Return the nodes that the outputs need."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        return kept[::-1]

    def _computed(self, tree):
        match tree:
            case ast.Constant(value=int(number)):
                return self.axes(number)
            case ast.Name(id=name) if name in self._sizes:
                return self._sizes[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.node("Neg", self._computed(operand))
            case ast.BinOp(op=operator, left=left, right=right) if type(operator) in _OPERATORS:
                return self.node(
                    _OPERATORS[type(operator)], self._computed(left), self._computed(right)
                )
            case ast.Call(
                func=ast.Name(id="floordiv" | "mod" | "max" | "min" as name), args=[left, right]
            ):
                return self._divided(name, self._computed(left), self._computed(right))
        raise ValueError(
            f"an array's size is {ast.unparse(tree)!r}, which cannot be written to ONNX"
        )

    def _divided(self, name, left, right):
        if name in ("max", "min"):
            return self.node(name.capitalize(), left, right)
        rest = self.node("Mod", left, right)  # the sign is the divisor's, as in Python
        return rest if name == "mod" else self.node("Div", self.node("Sub", left, rest), right)


_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}
