"""What the bi-encoder and the cross-encoder share: an engine, and the properties of what it
computes."""

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
from jsbert.encoders import stacked, unstacked
from jsbert.encoders.casting import in_dtype, in_float32
from jsbert.engine import (
    Device,
    Engine,
    Placement,
    check_attention,
    platform_of,
    resolve_attention,
    resolve_devices,
    resolve_dtype,
)
from jsbert.inputs import check_positive
from jsbert.tokenizer import SHORTEST, Tokenizer

Dtype = Literal["float32", "bfloat16", "int8", "auto"]
"""The dtypes in which an encoder's matrix products can be computed."""

DTYPES = get_args(Dtype)


class TextModel:
    """A tokenizer and params on their devices.

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
    ):
        self._encoder = encoder
        placement, vocab_size = Placement(devices), encoder.vocab_size
        self.engine = Engine(self._computed(params), tokenizer, placement, vocab_size=vocab_size)

    def save_pretrained(self, path: str | os.PathLike) -> None:
        """Write the model as a folder."""
        raise NotImplementedError

    def _described(self, *facts: str) -> str:
        """`__repr__` of a model: its encoder, `facts`, the limit, and where and how it computes."""
        encoder = self._encoder
        devices = ", ".join(f"{device.platform}:{device.id}" for device in self.devices)
        trunk = f"{encoder.model_type}, {encoder.num_layers} layers x {encoder.hidden_size}"
        everything = [
            trunk,
            *facts,
            f"at most {self.max_seq_length} tokens",
            self.dtype,
            f"on {devices}",
        ]
        return f"{type(self).__name__}({'; '.join(everything)})"

    @property
    def params(self) -> Any:
        """The params on their devices: a nested dict, for the pure functions. Matrices are in the
        model's dtype. Can be set, to a tree of the same form; the compiled programs stay, and calls
        under way go on with the old params."""
        return self.engine.params

    @params.setter
    def params(self, params: PyTree) -> None:
        self.engine.params = self._computed(params)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that compute; each batch's rows are spread over them."""
        return self.engine.placement.devices

    @property
    def dtype(self) -> str:
        """The dtype of the matrix products; "auto" is resolved."""
        return self._encoder.compute.dtype

    @property
    def attn_implementation(self) -> str:
        """How attention is computed; see `jsbert.compute.ATTENTIONS`."""
        return self._encoder.compute.described_attention

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its truncation limit."""
        return self.engine.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Tokens kept of an input, special tokens included. Can be set, up to the encoder's
        positions."""
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
        """Programs compiled (or taken from JAX's cache on disk) by this object so far."""
        return self.engine.num_compilations

    @property
    def compile_seconds(self) -> float:
        """Seconds spent so far on compiling, or on reading programs from JAX's cache."""
        return self.engine.compile_seconds

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save the model to the Hugging Face Hub; the address of the commit comes back.

        Args:
            repo_id: "owner/name".
            **options: token, private, commit_message, exist_ok, replace_model_card, revision,
                create_pr; see `jsbert.checkpoint.hub.upload_folder`.

        Raises:
            OSError: if the Hub refuses, or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(pathlib.Path(folder), repo_id, **options)

    def _computed(self, params):
        """The params as they are computed with: matrices in the model's dtype, and on accelerators
        the layers' params stacked. Heads stay in float32."""
        encoder = in_dtype(unstacked(params["encoder"]), self.dtype)
        if self._encoder.compute.scans:
            encoder = stacked(self._encoder, encoder)
        return params | {"encoder": encoder}

    def _float32_params(self):
        return self.params | {"encoder": in_float32(unstacked(self.params["encoder"]))}


def resolve_compute(
    encoder: EncoderConfig,
    device: Device | Sequence[Device] | None,
    dtype: str,
    attn_implementation: str,
) -> tuple[EncoderConfig, tuple[jax.Device, ...]]:
    """Resolve device, dtype and attention: the config with dtype and attention filled in, and the
    devices.

    Raises:
        ValueError, TypeError: for devices that are not there, and for what these devices cannot do.
    """
    devices = resolve_devices(device)
    dtype = resolve_dtype(dtype, devices)
    check_attention(attn_implementation, dtype, devices)
    attention = resolve_attention(attn_implementation, devices)
    compute = Compute(dtype, attn_implementation=attention, platform=platform_of(devices))
    return dataclasses.replace(encoder, compute=compute), devices
