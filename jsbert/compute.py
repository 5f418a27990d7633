"""How an encoder is computed, apart from what it is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jsbert.checks import check_value

if TYPE_CHECKING:
    from jaxtyping import DTypeLike

ATTENTIONS = ("auto", "eager", "xla", "cudnn", "flash")
"""How attention is computed. "eager" (transformers' word) writes it out, which is the fastest on a
CPU. "xla" and "cudnn" call `jax.nn.dot_product_attention`: as XLA compiles it, or as one fused
kernel of cuDNN. "flash" is the flash attention of `jax.experimental.pallas.ops.tpu`. "auto" takes
what `Compute.attention` says. Attention with dropout is always written out."""

FUSED = {"gpu": ("cudnn", 128), "tpu": ("flash", 256)}
"""What "auto" takes on an accelerator, and from how many tokens a row on. Shorter rows are written
out. On an H200 cuDNN takes .85 of eager's time at rows of 128 tokens, .62 at 512, and 1.28 at 16.
For a v5e flash attention needs 1.1 of eager's bytes at 128 tokens, and .7 at 512."""

PRECISIONS = {"cpu": "highest", "gpu": "TF32_TF32_F32_X3", "tpu": "high"}
"""The algorithm of float32 products. On an H200 three products of TF32 take .7 of the time of
"highest", and the vectors differ from those of "highest" by 1.5e-6."""


@dataclasses.dataclass(frozen=True)
class Compute:
    """What of a forward pass may change without a change of the model.

    Attributes:
        dtype: of the operands of matrix products: "float32", "bfloat16" or "int8". Tests also use
            "float64".
        remat: recompute each layer in the backward pass instead of keeping what is inside it.
        attn_implementation: one of `ATTENTIONS`.
        platform: what the program is for: "cpu", "gpu" or "tpu".
    """

    dtype: str = "float32"
    remat: bool = False
    attn_implementation: str = "eager"
    platform: str = "cpu"

    def __post_init__(self):
        check_value(self.attn_implementation, str, name="attn_implementation", allowed=ATTENTIONS)

    def attention(self, length: int) -> str:
        """How attention is computed in rows of `length` tokens; "auto" is resolved.

        In float32 "auto" writes attention out: the fused kernels round more.
        """
        if self.attn_implementation != "auto":
            return self.attn_implementation
        name, least = FUSED.get(self.platform, ("eager", 0))
        is_able = self.dtype in ("bfloat16", "int8") and length >= least
        if name == "flash":
            is_able &= length % 128 == 0  # the kernel's blocks
        return name if is_able else "eager"

    @property
    def described_attention(self) -> str:
        """How attention is computed, for people: "auto" with what it takes here."""
        name, least = FUSED.get(self.platform, ("eager", 0))
        if self.attn_implementation != "auto":
            return self.attn_implementation
        if self.attention(least) == "eager":
            return "eager"
        return f"eager; {name} in rows of {least} tokens and more"

    @property
    def scans(self) -> bool:
        """Whether layers that are alike run in `jax.lax.scan`. A scanned program compiles several
        times faster. On a CPU it is slower to run, so layers are unrolled there."""
        return self.platform != "cpu"

    @property
    def attention_dtype(self) -> str:
        """The dtype of attention's operands. With "int8" it is bfloat16: both operands are
        activations, for which int8 is too coarse."""
        return "bfloat16" if self.dtype == "int8" else self.dtype

    @property
    def activation_dtype(self) -> DTypeLike:
        """The dtype of what layers hand on, and of the results of products. On accelerators a
        bfloat16 model has bfloat16 here, which halves the bytes that go through memory. On a CPU
        float32 is as fast and more exact."""
        import jax.numpy as jnp

        is_short = self.platform != "cpu" and self.dtype in ("bfloat16", "int8")
        return jnp.bfloat16 if is_short else self.sum_dtype

    @property
    def sum_dtype(self) -> DTypeLike:
        """The dtype of sums, LayerNorm's statistics and the softmax: at least float32."""
        import jax.numpy as jnp

        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def precision(self) -> str:
        """The precision of matrix products, for `jax.default_matmul_precision`. bfloat16 products
        are exact in their float32 sums anyway."""
        import jax.numpy as jnp

        if jnp.dtype(self.dtype).itemsize < 4:
            return "default"
        return PRECISIONS.get(self.platform, "highest")
