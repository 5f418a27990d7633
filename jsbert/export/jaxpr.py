"""Write a jaxpr, JAX's trace of a function, as nodes of an ONNX graph."""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jsbert.export.graph import Graph, Value, as_dim
from jsbert.export.shapes import BROADCASTING, WHOLE

CALLS = ("jit", "remat2", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call")
"""Primitives that call another function. The nodes of that function are written in their place."""


def written(graph: Graph, closed: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Add the nodes of a jaxpr with these inputs to the graph, and return the outputs.

    Raises:
        ValueError: for a primitive without a writer, or one whose writer does not support this use.
    """
    values = dict(zip(closed.jaxpr.invars, inputs, strict=True))
    for variable, array in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        values[variable] = _constant(graph, np.asarray(array))

    def value(atom):
        return (
            _constant(graph, np.asarray(atom.val, atom.aval.dtype))
            if isinstance(atom, Literal)
            else values[atom]
        )

    for equation in closed.jaxpr.eqns:
        operands = [value(atom) for atom in equation.invars]
        if equation.primitive.name in CALLS:
            found = written(graph, _called(equation), operands)
        else:
            found = _computed(graph, equation, operands)
        values |= zip(equation.outvars, found, strict=True)
    return [value(atom) for atom in closed.jaxpr.outvars]


def _called(equation):
    (inner,) = (
        entry for entry in equation.params.values() if isinstance(entry, (ClosedJaxpr, Jaxpr))
    )
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _computed(graph, equation, operands):
    name = equation.primitive.name
    outs = [_like(variable.aval) for variable in equation.outvars]
    if name in WHOLE:
        operands = [
            graph.widened(value, _like(atom.aval).shape)
            for value, atom in zip(operands, equation.invars, strict=True)
        ]
    try:
        if name not in WHOLE and name not in BROADCASTING:
            raise NotImplementedError
        write = WHOLE.get(name) or BROADCASTING[name]
        found = write(graph, operands, outs if len(outs) > 1 else outs[0], equation.params)
    except NotImplementedError:
        raise ValueError(
            f"the model computes {str(equation)[:300]!r}; there are no ONNX nodes for {name!r}"
        ) from None
    return found if isinstance(found, list) else [found]


def _like(aval):
    return Value("", tuple(map(as_dim, aval.shape)), np.dtype(aval.dtype))


def _constant(graph, array):
    return Value(graph.constant(array), array.shape, array.dtype)
