"""The peer's options of a constructor, in jsbert's terms."""

from collections.abc import Mapping
from typing import Any

from jsbert.activations import activation_name
from jsbert.checks import shown
from jsbert.sentence_transformers.missing import CARD, refuse

BACKENDS = {"torch": "jax", "jax": "jax", "onnx": "onnx", "openvino": "openvino"}
"""jsbert's backend for that of the peer. The peer's default counts as JAX, so that scripts that
name it go on."""

WAYS = {
    "trust_remote_code": "jsbert never runs code from a checkpoint; leave the option out",
    "use_auth_token": "use token=",
    "config_kwargs": "change the config.json of the folder",
    "model_card_data": CARD,
    "keep_in_fp32_modules": "bfloat16 models keep statistics, softmax and heads in float32",
}
"""For each option that jsbert does not have, what to do."""

ATTENTIONS = {"eager": "eager", "sdpa": "auto", "flash_attention_2": "auto"}
"""jsbert's `attn_implementation` for that of transformers."""


def constructor_options(
    model_kwargs: Mapping[str, Any] | None,
    tokenizer_kwargs: Mapping[str, Any] | None,
    backend: str,
    **others: Any,
) -> tuple[dict[str, Any], int | None]:
    """Return (jsbert's options, the token limit or None) for the peer's options.

    Args:
        model_kwargs: "dtype" or "torch_dtype", and "attn_implementation".
        tokenizer_kwargs: "model_max_length".
        backend: "torch" or "jax", which both mean JAX; or "onnx" or "openvino".
        **others: the options of `WAYS`, which must not be given.

    Raises:
        ValueError: for an option that jsbert does not have; the message names it and says what to
            do.
    """
    refuse("the model", others, WAYS)
    if backend not in BACKENDS:
        raise ValueError(
            f"backend={backend!r} is not supported; choose one of "
            f"{', '.join(map(repr, BACKENDS))}; 'torch' means JAX"
        )
    return attended(model_kwargs) | {"backend": BACKENDS[backend]}, limit_of(tokenizer_kwargs)


def attended(model_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return jsbert's dtype and attn_implementation for the peer's `model_kwargs`.

    Raises:
        ValueError: for another option or an unknown value.
    """
    options: dict[str, Any] = {}
    for name, value in (model_kwargs or {}).items():
        if name in ("dtype", "torch_dtype"):
            options["dtype"] = _dtype(value)
        elif name == "attn_implementation" and value in ATTENTIONS:
            options["attn_implementation"] = ATTENTIONS[value]
        else:
            raise ValueError(
                f"model_kwargs: {name}={shown(value)} is not supported; allowed are dtype, and "
                f"attn_implementation {', '.join(map(repr, ATTENTIONS))}"
            )
    return options


def limit_of(processor_kwargs: Mapping[str, Any] | None) -> int | None:
    """Return the "model_max_length" of the peer's `processor_kwargs`, or None.

    Raises:
        ValueError: for another option.
    """
    limit = None
    for name, value in (processor_kwargs or {}).items():
        if name != "model_max_length":
            raise ValueError(
                f"tokenizer_kwargs: {name}={shown(value)} is not supported; allowed is "
                "model_max_length. Change tokenizer_config.json for the rest"
            )
        limit = value
    return limit


def activation_of(activation: Any) -> str:
    """Return jsbert's name of an activation: a name, an object of torch, whose class counts, or
    None, which is the identity.

    Raises:
        ValueError: for an unknown activation.
    """
    if activation is None:
        return "identity"
    if getattr(activation, "approximate", "none") == "tanh":
        return "gelu_pytorch_tanh"
    name = activation if isinstance(activation, str) else type(activation).__name__
    return activation_name(name, where="the activation")


def _dtype(value: Any) -> str:
    name = str(value).removeprefix("torch.")
    names = {name: name for name in ("float32", "bfloat16", "int8", "auto")}
    if name not in names:
        raise ValueError(
            f"model_kwargs: dtype={name} is not supported; choose float32, bfloat16, int8 or auto"
        )
    return names[name]
