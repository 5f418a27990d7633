"""The base class of bi-encoder and cross-encoder: an engine, and the model's properties."""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
from jaxtyping import PyTree

from jsbert.checkpoint.hub import upload_folder
from jsbert.compute import Compute
from jsbert.config import EncoderConfig
from jsbert.encoders.casting import in_dtype, in_float32
from jsbert.engine import Device, Engine, Placement, check_attention, resolve_devices, resolve_dtype
from jsbert.inputs import check_positive
from jsbert.tokenizer import SHORTEST, Tokenizer

Dtype = Literal["float32", "bfloat16", "int8", "auto"]
"""The dtypes in which an encoder can compute matrix products. "auto" chooses one by the device."""

DTYPES: tuple[str, ...] = get_args(Dtype)


class TextModel:
    """A tokenizer, and params on their devices.

    Attributes:
        engine: runs any pure function over texts with the model's params; see
            `jsbert.engine.Engine.stream`.
    """

    engine: Engine
    _encoder: EncoderConfig

    def _set_up(
        self,
        encoder: EncoderConfig,
        params: PyTree,
        tokenizer: Tokenizer,
        devices: Sequence[jax.Device],
    ) -> None:
        self._encoder = encoder
        params, vocab_size = _in_dtype(params, encoder.compute.dtype), encoder.vocab_size
        self.engine = Engine(params, tokenizer, Placement(devices), vocab_size=vocab_size)

    def save_pretrained(self, path: str | os.PathLike) -> None:
        """Write the model as a folder."""
        raise NotImplementedError

    def _described(self, *facts: str) -> str:
        """Return the `__repr__` of a model: encoder, `facts`, token limit, dtype and devices."""
        encoder = self._encoder
        devices = ", ".join(f"{device.platform}:{device.id}" for device in self.devices)
        trunk = f"{encoder.model_type}, {encoder.num_layers} layers x {encoder.hidden_size}"
        limit = f"at most {self.max_seq_length} tokens"
        everything = [trunk, *facts, limit, self.dtype, f"on {devices}"]
        return f"{type(self).__name__}({'; '.join(everything)})"

    @property
    def params(self) -> dict[str, Any]:
        """The params on their devices: a nested dict, for the pure functions. Matrices are in the
        model's dtype. Can be set to a tree of the same form. The compiled programs stay valid, and
        running calls continue with the old params."""
        return self.engine.params

    @params.setter
    def params(self, params: PyTree) -> None:
        self.engine.params = _in_dtype(params, self.dtype)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that compute. The rows of each batch are spread over the devices."""
        return self.engine.placement.devices

    @property
    def dtype(self) -> str:
        """The dtype of the matrix products, after "auto" was resolved."""
        return self._encoder.compute.dtype

    @property
    def attn_implementation(self) -> str:
        """The implementation of attention; see `jsbert.compute.ATTENTIONS`."""
        return self._encoder.compute.attn_implementation

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its truncation limit."""
        return self.engine.tokenizer

    @property
    def max_seq_length(self) -> int:
        """The number of tokens kept of an input, special tokens included. Can be set, up to the
        number of the encoder's positions."""
        return self.engine.tokenizer.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        check_positive("max_seq_length", value, or_none=False)
        most = self._encoder.max_tokens
        if not SHORTEST <= value <= most:
            raise ValueError(
                f"max_seq_length is {value}; this model takes {SHORTEST} to {most} tokens"
            )
        self.engine.tokenizer = self.engine.tokenizer.with_max_length(int(value))

    @property
    def num_compilations(self) -> int:
        """The number of programs that this object has compiled or read from JAX's cache on disk."""
        return self.engine.num_compilations

    @property
    def compile_seconds(self) -> float:
        """The seconds spent so far on compiling programs or reading them from JAX's cache."""
        return self.engine.compile_seconds

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save the model to the Hugging Face Hub. Return the address of the commit.

        Args:
            repo_id: "owner/name".
            **options: token, private, commit_message, exist_ok, replace_model_card, revision,
                create_pr; see `jsbert.checkpoint.hub.upload_folder`.

        Raises:
            OSError: if the Hub refuses the model or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(pathlib.Path(folder), repo_id, **options)

    def _float32_params(self) -> dict[str, Any]:
        return self.params | {"encoder": in_float32(self.params["encoder"])}


def resolve_compute(
    encoder: EncoderConfig,
    device: Device | Sequence[Device] | None,
    dtype: str,
    attn_implementation: str,
) -> tuple[EncoderConfig, tuple[jax.Device, ...]]:
    """Resolve device, dtype and attention. Return the config with dtype and attention filled in,
    and the devices.

    Raises:
        ValueError, TypeError: if a device does not exist, or cannot do what is asked for.
    """
    devices = resolve_devices(device)
    dtype = resolve_dtype(dtype, devices)
    check_attention(attn_implementation, dtype, devices)
    compute = Compute(dtype, attn_implementation=attn_implementation)
    return dataclasses.replace(encoder, compute=compute), devices


def _in_dtype(params: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return the params with the encoder's matrices in `dtype`. The heads stay in float32."""
    return params | {"encoder": in_dtype(params["encoder"], dtype)}
