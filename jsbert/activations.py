"""Activation functions under the names that configs use."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import jax
import jax.numpy as jnp

_tanh_gelu = partial(jax.nn.gelu, approximate=True)


def _gelu(x):
    # By erf, as in HuggingFace and torch. jax.nn.gelu uses erfc, which takes twice as long. erfc is
    # more exact far below zero, where the result is almost 0.
    return 0.5 * x * (1 + jax.lax.erf(x * x.dtype.type(0.5**0.5)))


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType(
    {
        "identity": lambda x: x,
        "gelu": _gelu,
        "gelu_new": _tanh_gelu,
        "gelu_pytorch_tanh": _tanh_gelu,
        "relu": jax.nn.relu,
        "silu": jax.nn.silu,
        "swish": jax.nn.silu,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
    }
)
"""Elementwise activation functions by lower-case name: the values of HuggingFace's `hidden_act`,
and torch's class names."""

TORCH_ACTIVATIONS = {
    "identity": "torch.nn.modules.linear.Identity",
    "gelu": "torch.nn.modules.activation.GELU",
    "relu": "torch.nn.modules.activation.ReLU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "silu": "torch.nn.modules.activation.SiLU",
    "swish": "torch.nn.modules.activation.SiLU",
    "tanh": "torch.nn.modules.activation.Tanh",
}
"""{activation: the torch class that json files name}, for the activations that have a class."""


def activation_name(name: str, *, where: str) -> str:
    """The key of `ACTIVATIONS` for the activation that a config names.

    Args:
        name: a HuggingFace name ("gelu_new") or a dotted torch class
            ("torch.nn.modules.activation.Tanh"), whose last segment counts.
        where: the file that is read, for the message.

    Raises:
        ValueError: for an unknown name.

    >>> activation_name("torch.nn.modules.activation.Tanh", where="2_Dense")
    'tanh'
    """
    key = name.rsplit(".", 1)[-1].lower() if isinstance(name, str) else None
    if key not in ACTIVATIONS:
        raise ValueError(
            f"{where}: unknown activation {name!r}; supported: {', '.join(sorted(ACTIVATIONS))}"
        )
    return key


def torch_activation(name: str) -> str:
    """The torch class of an activation, the inverse of `activation_name`.

    Raises:
        ValueError: if torch has no class for the activation.
    """
    if name not in TORCH_ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} has no class in torch to name; {', '.join(TORCH_ACTIVATIONS)} "
            "can be saved"
        )
    return TORCH_ACTIVATIONS[name]
