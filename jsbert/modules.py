"""The modules behind the pooling. Each class holds everything about its module.

A new module is one class with the members of `Module`, and one line in `MODULES`. Losses and the
classifiers of cross-encoders use `dense` and `layer_norm`, too.
Reference: sentence-transformers' modules of these names.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jsbert.activations import ACTIVATIONS, activation_name, torch_activation
from jsbert.arrays import AnyArray, at_least_float32, normalize
from jsbert.checks import RATE, typed

Inputs = Float[AnyArray, "batch inputs"]
Outputs = Float[Array, "batch outputs"]
Tensors = Mapping[tuple[str, ...], str]


@runtime_checkable
class Module(Protocol):
    """The members of every module. A module is also a frozen dataclass: hashable, static under
    `jit`.

    The fields hold the values of config.json. A module without fields needs no config.json.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    TENSORS: ClassVar[Tensors]
    """{path in the params: name in a folder} of each tensor that the module can have. A "kernel" is
    stored transposed."""

    def __call__(self, params: PyTree | None, vectors: Inputs) -> Outputs:
        """Compute the outputs. Pure; `params` is None if `shapes` is empty."""

    def shapes(self) -> dict[str, PyTree]:
        """The tree of params with a `jax.ShapeDtypeStruct` for each; {} if there are none."""

    def width(self, inputs: int) -> int:
        """The width of the outputs, for inputs of width `inputs`.

        Raises:
            ValueError: if the module takes inputs of another width.
        """

    def normalizes(self, inputs: bool) -> bool:
        """Whether the outputs have length 1; `inputs` says whether the inputs have length 1."""

    def to_json(self) -> dict[str, Any]:
        """The config.json from which sentence-transformers builds the module."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: Any) -> "Module":
        """The module that a config.json describes.

        Raises:
            ValueError: if a value is missing or not supported; the message names `where`.
        """


def dense(params: Mapping[str, Any], vectors: Inputs, activation: str) -> Outputs:
    """`activation(vectors @ kernel + bias)`; `params`: {"kernel" (I, O)[, "bias" (O,)]}."""
    outputs = jnp.dot(vectors, params["kernel"], precision="highest")
    return ACTIVATIONS[activation](outputs + params["bias"][None] if "bias" in params else outputs)


def layer_norm(
    params: Mapping[str, Any], vectors: Float[AnyArray, "*batch dim"], epsilon: float = 1e-5
) -> Float[Array, "*batch dim"]:
    """`vectors` with mean 0 and variance 1, times "scale", plus "bias" if `params` has one."""
    vectors = at_least_float32(vectors)
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    scaled = centred / jnp.sqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    scaled = scaled * params["scale"][None]
    return scaled + params["bias"][None] if "bias" in params else scaled


@dataclasses.dataclass(frozen=True)
class Dense:
    """A linear layer and an activation.

    `use_residual` adds the input to the output, through a matrix of its own if the widths differ.
    """

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "tanh"
    use_residual: bool = False

    TENSORS: ClassVar[Tensors] = {
        ("kernel",): "linear.weight",
        ("bias",): "linear.bias",
        ("residual", "kernel"): "residual.weight",
    }

    def __post_init__(self):
        if self.activation not in ACTIVATIONS:
            supported = ", ".join(sorted(ACTIVATIONS))
            raise ValueError(f"unknown activation {self.activation!r}; supported: {supported}")

    def __call__(self, params: PyTree, vectors: Inputs) -> Outputs:
        outputs = dense(params, vectors, self.activation)
        if "residual" in params:
            vectors = jnp.dot(vectors, params["residual"]["kernel"], precision="highest")
        return outputs + vectors if self.use_residual else outputs

    def shapes(self) -> dict[str, PyTree]:
        matrix = _float32(self.in_features, self.out_features)
        shapes: dict[str, PyTree] = {"kernel": matrix}
        if self.bias:
            shapes["bias"] = _float32(self.out_features)
        if self.use_residual and self.in_features != self.out_features:
            shapes["residual"] = {"kernel": matrix}
        return shapes

    def width(self, inputs: int) -> int:
        _check_width("in_features", self.in_features, inputs)
        return self.out_features

    def normalizes(self, inputs: bool) -> bool:
        return False

    def to_json(self) -> dict[str, Any]:
        values = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "activation_function": torch_activation(self.activation),
        }
        # sentence-transformers before 5.7 does not know the key.
        return values | ({"use_residual": True} if self.use_residual else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: Any) -> "Dense":
        name = values.get("activation_function", "torch.nn.modules.activation.Tanh")
        if not isinstance(name, str) or not name.startswith("torch.nn."):
            allowed = "only classes of torch.nn are supported"
            raise ValueError(f"{where}: activation_function is {name!r}; {allowed}")
        return cls(
            in_features=typed(values, "in_features", int, where=where),
            out_features=typed(values, "out_features", int, where=where),
            bias=typed(values, "bias", bool, True, where=where),
            activation=activation_name(name, where=str(where)),
            use_residual=typed(values, "use_residual", bool, False, where=where),
        )


@dataclasses.dataclass(frozen=True)
class LayerNorm:
    """Shift and scale a vector to mean 0 and variance 1, then apply a scale and a bias for each
    dimension."""

    dimension: int

    TENSORS: ClassVar[Tensors] = {("scale",): "norm.weight", ("bias",): "norm.bias"}

    def __call__(self, params: PyTree, vectors: Inputs) -> Outputs:
        return layer_norm(params, vectors)

    def shapes(self) -> dict[str, PyTree]:
        return {"scale": _float32(self.dimension), "bias": _float32(self.dimension)}

    def width(self, inputs: int) -> int:
        _check_width("dimension", self.dimension, inputs)
        return self.dimension

    def normalizes(self, inputs: bool) -> bool:
        return False

    def to_json(self) -> dict[str, Any]:
        return {"dimension": self.dimension}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: Any) -> "LayerNorm":
        return cls(typed(values, "dimension", int, where=where))


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Scale a vector to Euclidean length 1."""

    TENSORS: ClassVar[Tensors] = {}

    def __call__(self, params: None, vectors: Inputs) -> Outputs:
        return normalize(vectors)

    def shapes(self) -> dict[str, PyTree]:
        return {}

    def width(self, inputs: int) -> int:
        return inputs

    def normalizes(self, inputs: bool) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: Any) -> "Normalize":
        return cls()


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Does nothing here. It is dropout when sentence-transformers trains; jsbert keeps the rate for
    the folder."""

    rate: float = 0.2

    TENSORS: ClassVar[Tensors] = {}

    def __call__(self, params: None, vectors: Inputs) -> Outputs:
        return jnp.asarray(vectors)

    def shapes(self) -> dict[str, PyTree]:
        return {}

    def width(self, inputs: int) -> int:
        return inputs

    def normalizes(self, inputs: bool) -> bool:
        return inputs

    def to_json(self) -> dict[str, Any]:
        return {"dropout": self.rate}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: Any) -> "Dropout":
        return cls(float(typed(values, "dropout", float, 0.2, where=where, allowed=RATE)))


MODULES: dict[str, type[Module]] = {
    "Dense": Dense,
    "LayerNorm": LayerNorm,
    "Normalize": Normalize,
    "Dropout": Dropout,
}
"""The modules under their names in sentence-transformers. The classes have the same names."""


def _float32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _check_width(name, width, inputs):
    if width != inputs:
        raise ValueError(f"{name} is {width}, but the module before gives {inputs}")
