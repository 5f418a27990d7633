"""How an encoder is computed, apart from what it is."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import DTypeLike

ATTENTIONS = ("eager", "xla", "cudnn")
"""How attention is computed. "eager" (transformers' word) writes it out, which is the fastest on a
CPU. "xla" and "cudnn" call `jax.nn.dot_product_attention`: as XLA compiles it, or as one fused
kernel of cuDNN. Attention with dropout is always written out."""


@dataclasses.dataclass(frozen=True)
class Compute:
    """What of a forward pass may change without a change of the model.

    Attributes:
        dtype: of the operands of matrix products: "float32", "bfloat16" or "int8". Tests also use
            "float64".
        remat: recompute each layer in the backward pass instead of keeping what is inside it.
        attn_implementation: one of `ATTENTIONS`.
    """

    dtype: str = "float32"
    remat: bool = False
    attn_implementation: str = "eager"

    def __post_init__(self):
        if self.attn_implementation not in ATTENTIONS:
            raise ValueError(
                f"attn_implementation is {self.attn_implementation!r}; possible: {ATTENTIONS}"
            )

    @property
    def attention_dtype(self) -> str:
        """The dtype of attention's operands. With "int8" it is bfloat16: both operands are
        activations, for which int8 is too coarse."""
        return "bfloat16" if self.dtype == "int8" else self.dtype

    @property
    def sum_dtype(self) -> DTypeLike:
        """The dtype of sums, statistics and the residual stream: at least float32."""
        return jnp.promote_types(self.dtype, jnp.float32)
