"""What is known of a model without its params: the facts that lie beside its graph."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from jsbert.compute import Compute
from jsbert.inputs import check_choice

Backend = Literal["jax", "onnx", "openvino"]
"""What computes a model: JAX, onnxruntime or OpenVINO."""

BACKENDS: tuple[str, ...] = get_args(Backend)

DTYPES = {
    "onnx": ("float32", "int8", "auto"),
    "openvino": ("float32", "bfloat16", "auto"),
}
"""The dtypes of each runtime."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """A model as its graph computes it. The names are those of `Config`, `CrossConfig` and
    `EncoderConfig`, for which it stands in.

    Attributes:
        max_seq_length, lower_case: of the tokenizer.
        inputs: the names of the graph's inputs.
        description: pooling and modules, or the number of labels, for people.
        embedding_dimension, include_prompt, similarity_fn_name, truncate_dim: of a bi-encoder.
        prompts, default_prompt_name: of both.
        chat_template: the fields of a cross-encoder's `Template`, if it has one.
        num_labels, activation: of a cross-encoder.
        dtype: of the matrix products; it is not part of the file.
    """

    model_type: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    max_tokens: int
    max_seq_length: int
    lower_case: bool
    inputs: Sequence[str]
    description: str
    embedding_dimension: int = 0
    include_prompt: bool = True
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    chat_template: Mapping[str, Any] | None = None
    num_labels: int = 1
    activation: str = "identity"
    dtype: str = "float32"

    def for_task(self, task: str | None) -> Facts:
        """The facts: a graph has one route."""
        return self

    @functools.cached_property
    def compute(self) -> Compute:
        """How the graph is computed."""
        return Compute(self.dtype)


def check_options(
    backend: str, dtype: str, device: Any, attn_implementation: str, shard_params: bool
) -> None:
    """Raise ValueError for an unknown backend, and for options that a runtime does not have."""
    check_choice("backend", backend, BACKENDS)
    if backend == "jax":
        return
    if dtype not in DTYPES[backend]:
        other = {"onnx": "openvino", "openvino": "onnx"}[backend]
        raise ValueError(
            f"dtype is {dtype!r} with backend={backend!r}, which has "
            f"{', '.join(map(repr, DTYPES[backend]))}; use one of these, backend={other!r} or "
            "backend='jax'"
        )
    if device not in (None, "cpu"):
        raise ValueError(
            f"device is {device!r} with backend={backend!r}, which computes on the CPU; leave "
            "device out, or use backend='jax'"
        )
    for name, value, allowed in (
        ("attn_implementation", attn_implementation, ("auto", "eager")),
        ("shard_params", shard_params, (False,)),
    ):
        if value not in allowed:
            raise ValueError(
                f"{name} is {value!r} with backend={backend!r}, which does not have the option; "
                "leave it out, or use backend='jax'"
            )
