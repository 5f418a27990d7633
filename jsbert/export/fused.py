"""Put one ONNX node in the place of the nodes that JAX writes for a LayerNorm, a softmax or a GELU.

The runtimes know these nodes, and compute each in one pass over its input. They find the nodes by
themselves in graphs that torch has exported, but not in the form that JAX writes. A pattern is the
name of a value, or (kind, *patterns of its inputs). Equal names stand for one value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jsbert.export.graph import Graph

Pattern = str | tuple

_MEAN = ("Div", ("ReduceSum", "x", "axis"), "size")
_CENTRED = ("Sub", "x", ("Unsqueeze", _MEAN, "axis"))
_VARIANCE = ("Div", ("ReduceSum", ("Mul", _CENTRED, _CENTRED), "axis"), "size")
_DEVIATION = ("Sqrt", ("Add", ("Reshape", _VARIANCE, "sizes"), "epsilon"))
_NORMED = (
    "Mul",
    ("Sub", "x", ("Reshape", _MEAN, "sizes")),
    ("Mul", ("Reciprocal", _DEVIATION), ("Reshape", "scale", "wide")),
)
_WEIGHTS = ("Exp", ("Sub", "scores", ("Unsqueeze", ("ReduceMax", "scores", "axis"), "axis")))
_MIXED = (
    "Div",
    ("MatMul", _WEIGHTS, "values"),
    ("Unsqueeze", ("ReduceSum", _WEIGHTS, "axis"), "axis"),
)
_GELU = ("Mul", ("Mul", "half", "x"), ("Add", "one", ("Erf", ("Mul", "x", "root"))))


def fuse(graph: Graph, helper: Any) -> None:
    """Add the nodes to the graph in the place of the last node of each pattern. The other nodes of
    the pattern stay, and `Graph.used` leaves them out if nothing else needs them.

    Args:
        graph: the whole graph.
        helper: the module `onnx.helper`.
    """
    made = {output: node for node in graph.nodes for output in node.output}
    nodes, graph.nodes = graph.nodes, []
    for node in nodes:
        output = node.output[0]
        for pattern, write in RULES:
            found: dict[str, str] = {}
            if _matches(made, output, pattern, found):
                values = {
                    name: graph.constants[value].reshape(-1)
                    for name, value in found.items()
                    if value in graph.constants
                }
                written = write(graph, found, values)
                if written:
                    _append(graph, helper, written, output)
                    break
        else:
            graph.nodes.append(node)


def _layer_norm(graph, found, values):
    if set(values) < {"axis", "size", "epsilon", "wide"}:
        return []
    wide = values["wide"]
    is_last = values["axis"].tolist() == [len(wide) - 1]
    if not is_last or values["size"] != wide[-1] or (wide[:-1] != 1).any():
        return []
    epsilon = float(values["epsilon"][0])
    inputs = [found[name] for name in ("x", "scale", "bias") if name in found]
    return [("LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon})]


def _softmax(graph, found, values):
    if values["axis"].tolist() != [3]:  # of the keys, the last one
        return []
    return [
        ("Softmax", [found["scores"]], {"axis": -1}),
        ("MatMul", ["", found["values"]], {}),
    ]


def _gelu(graph, found, values):
    wanted = {"half": 0.5, "one": 1.0, "root": 0.5**0.5}
    if any(not np.allclose(values.get(name, np.nan), value) for name, value in wanted.items()):
        return []
    # The form that both runtimes know.
    root, x = graph.constant(np.float32(2**0.5)), found["x"]
    return [
        ("Div", [x, root], {}),
        ("Erf", [""], {}),
        ("Add", ["", found["one"]], {}),
        ("Mul", [x, ""], {}),
        ("Mul", ["", found["half"]], {}),
    ]


Nodes = Sequence[tuple[str, Sequence[str], Mapping[str, Any]]]
"""(kind, inputs, attributes) of nodes; the input "" is the output of the node before."""

RULES: Sequence[tuple[Pattern, Callable[..., Nodes]]] = (
    (("Add", _NORMED, ("Reshape", "bias", "wide")), _layer_norm),
    (_NORMED, _layer_norm),
    (_MIXED, _softmax),
    (_GELU, _gelu),
)
"""Patterns, and what is written in their place: nothing if a constant is not as it should be."""


def _matches(made: Mapping[str, Any], name: str, pattern: Pattern, found: dict[str, str]) -> bool:
    """Whether the value `name` is computed like the pattern; `found` gets the names in it."""
    if isinstance(pattern, str):
        return found.setdefault(pattern, name) == name
    kind, *inputs = pattern
    node = made.get(name)
    if node is None or node.op_type != kind or len(node.input) != len(inputs):
        return False
    orders = [list(node.input)]
    if kind in ("Add", "Mul"):
        orders.append(orders[0][::-1])
    for order in orders:
        trial = dict(found)
        if all(_matches(made, *pair, trial) for pair in zip(order, inputs, strict=True)):
            found.update(trial)
            return True
    return False


def _append(graph, helper, written, output):
    before = ""
    for place, (kind, inputs, attributes) in enumerate(written):
        name = output if place == len(written) - 1 else f"{output}_{place}"
        inputs = [value or before for value in inputs]
        graph.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        before = name
