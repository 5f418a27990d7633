"""The base class of bi-encoder and cross-encoder: an engine, and the model's properties."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from jsbert.engine.batching import Batch, pad
from jsbert.inputs import check_positive
from jsbert.pool import Pool
from jsbert.tokenizer import SHORTEST, Tokenizer

# A model in another runtime does without JAX. What imports JAX is imported where it is needed.
if TYPE_CHECKING:
    import jax
    from jaxtyping import Int, PyTree

    from jsbert.config import EncoderConfig
    from jsbert.engine import Device, Engine, Text

Dtype = Literal["float32", "bfloat16", "int8", "auto"]
"""The dtypes in which an encoder can compute matrix products. "auto" chooses one by the device."""

Results = TypeVar("Results")

DTYPES: tuple[str, ...] = get_args(Dtype)


class TextModel:
    """A tokenizer, and params on their devices.

    Attributes:
        prompts: texts that are put in front of inputs, by name.
        default_prompt_name: the prompt that is used if the caller gives none.
        engine: runs any pure function over texts with the model's params; see
            `jsbert.engine.Engine.stream`.
    """

    engine: Engine
    prompts: dict[str, str]
    default_prompt_name: str | None
    _encoder: EncoderConfig

    def _set_up(
        self,
        encoder: EncoderConfig,
        params: PyTree,
        tokenizer: Tokenizer,
        devices: Sequence[jax.Device],
        shard_params: bool,
    ) -> None:
        self._encoder = encoder
        from jsbert.engine import Engine, Placement

        placement, vocab_size = Placement(devices, shard_params=shard_params), encoder.vocab_size
        self.engine = Engine(self._computed(params), tokenizer, placement, vocab_size=vocab_size)

    def save_pretrained(self, path: str | os.PathLike) -> None:
        """Write the model as a folder."""
        raise NotImplementedError

    def _described(self, *facts: str) -> str:
        """Return the `__repr__` of a model: encoder, `facts`, token limit, dtype and devices."""
        encoder = self._encoder
        if self.backend == "jax":
            where = ", ".join(f"{device.platform}:{device.id}" for device in self.devices)
        else:
            where = f"cpu by {self.backend}"
        trunk = f"{encoder.model_type}, {encoder.num_layers} layers x {encoder.hidden_size}"
        limit = f"at most {self.max_seq_length} tokens"
        everything = [trunk, *facts, limit, self.dtype, f"on {where}"]
        return f"{type(self).__name__}({'; '.join(everything)})"

    @property
    def params(self) -> dict[str, Any]:
        """The params on their devices: a nested dict, for the pure functions. Matrices are in the
        model's dtype. Can be set to a tree of the same form. The compiled programs stay valid, and
        running calls continue with the old params.

        Raises:
            ValueError: for a model in another runtime than JAX.
        """
        self._need_jax("params")
        return self.engine.params

    @params.setter
    def params(self, params: PyTree) -> None:
        self._need_jax("params")
        self.engine.params = self._computed(params)

    @property
    def backend(self) -> str:
        """What computes: "jax", "onnx" or "openvino"."""
        return getattr(self.engine, "backend", "jax")

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that compute. The rows of each batch are spread over the devices. In another
        runtime than JAX there is one, "cpu"."""
        return self.engine.placement.devices

    @property
    def device(self) -> jax.Device:
        """The first of `devices`."""
        return self.devices[0]

    @property
    def dtype(self) -> str:
        """The dtype of the matrix products, after "auto" was resolved."""
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
    def max_length(self) -> int:
        """The same as `max_seq_length`, which it also sets."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    def get_max_seq_length(self) -> int:
        """Return `max_seq_length`."""
        return self.max_seq_length

    def evaluate(
        self, evaluator: Callable[..., Results], output_path: str | os.PathLike | None = None
    ) -> Results:
        """Return what an evaluator of `jsbert.evaluate` finds for the model.

        Args:
            evaluator: called with the model and `output_path`.
            output_path: a folder for the evaluator's csv file; it is made if it is not there.

        Raises:
            OSError: if the folder cannot be made.
        """
        if output_path is not None:
            pathlib.Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    def start_multi_process_pool(self, target_devices: Sequence[str] | None = None) -> Pool:
        """Start processes that compute for this model on the CPU: `encode(texts, pool=pool)`.

        One process already uses all cores. A pool helps where many short calls or Python's own work
        is the limit. Accelerators need no pool: open the model with `device=[...]`.

        Args:
            target_devices: "cpu" for each process; by default one process for each core, at most 4.

        Raises:
            ValueError: for another device.
        """
        devices = (
            ["cpu"] * min(4, os.cpu_count() or 1) if target_devices is None else target_devices
        )
        if isinstance(devices, str) or not len(devices) or set(devices) != {"cpu"}:
            raise ValueError(
                f"target_devices is {devices!r}; give a list with 'cpu' for each process. One "
                "process can use several accelerators: open the model with device=[...]"
            )
        return Pool(self, len(devices))

    @staticmethod
    def stop_multi_process_pool(pool: Pool) -> None:
        """Close a pool."""
        pool.close()

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
        from jsbert.checkpoint.hub import upload_folder

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(pathlib.Path(folder), repo_id, **options)

    def _padded(
        self, texts: Sequence[Text], prompt: str = ""
    ) -> dict[str, Int[np.ndarray, "batch length"]]:
        """Return the tokens of texts or pairs under transformers' names, padded to the longest."""
        tokens = self.engine.tokenize(texts, prompt=prompt)
        length = int(tokens.lengths.max(initial=1))
        arrays = pad(tokens, Batch(np.arange(len(texts)), len(texts), length))
        mask = np.arange(length) < arrays["lengths"][:, None]
        found = {"input_ids": arrays["ids"], "attention_mask": mask.astype(np.int32)}
        types = arrays.get("token_types")
        return found if types is None else found | {"token_type_ids": types}

    def _resolve_prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """Return the prompt to put in front of texts; "" for none."""
        name = self.default_prompt_name if prompt_name is None else prompt_name
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt is {prompt!r}; it must be a string")
            return prompt
        if name is not None and name not in self.prompts:
            raise ValueError(
                f"unknown prompt_name {name!r}; the model's prompts are {sorted(self.prompts)}"
            )
        return self.prompts[name] if name is not None else ""

    def _need_jax(self, what: str) -> None:
        """Raise ValueError if the model has another runtime than JAX: `what` needs the params."""
        if self.backend != "jax":
            raise ValueError(
                f"{what} needs the params of the model, and backend={self.backend!r} has only a "
                "graph; open the model with backend='jax'"
            )

    def _check_device(self, device: Device | Sequence[Device] | None) -> None:
        """Raise ValueError if a call names other devices than the model's."""
        if self.backend != "jax":
            if device not in (None, "cpu"):
                raise ValueError(
                    f"device is {device!r}, and backend={self.backend!r} computes on the CPU; open "
                    "the model with backend='jax'"
                )
            return
        from jsbert.engine import resolve_devices

        if device is not None and resolve_devices(device) != self.devices:
            raise ValueError(
                f"device is {device!r}, and the model is on {', '.join(map(str, self.devices))}; "
                "open a model with that device"
            )

    def _computed(self, params: dict[str, Any]) -> dict[str, Any]:
        """The params as they are computed with: matrices in the model's dtype, and on accelerators
        the layers' params stacked. Heads stay in float32."""
        from jsbert.encoders import stacked, unstacked
        from jsbert.encoders.casting import in_dtype

        encoder = in_dtype(unstacked(params["encoder"]), self.dtype)
        if self._encoder.compute.scans:
            encoder = stacked(self._encoder, encoder)
        return params | {"encoder": encoder}

    def _float32_params(self) -> dict[str, Any]:
        from jsbert.encoders import unstacked
        from jsbert.encoders.casting import in_float32

        return self.params | {"encoder": in_float32(unstacked(self.params["encoder"]))}


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
    from jsbert.compute import Compute
    from jsbert.engine import (
        check_attention,
        platform_of,
        resolve_attention,
        resolve_devices,
        resolve_dtype,
    )

    devices = resolve_devices(device)
    dtype = resolve_dtype(dtype, devices)
    check_attention(attn_implementation, dtype, devices)
    attention = resolve_attention(attn_implementation, devices)
    compute = Compute(dtype, attn_implementation=attention, platform=platform_of(devices))
    return dataclasses.replace(encoder, compute=compute), devices
