"""What a sentence encoder is made of: frozen, hashable, static under `jit`."""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

from jsbert.activations import ACTIVATIONS


@runtime_checkable
class EncoderConfig(Protocol):
    """What every encoder family's config has; the families' own files add the rest."""

    model_type: ClassVar[str]
    vocab_size: int
    hidden_size: int
    max_position_embeddings: int
    type_vocab_size: int
    dtype: str


@dataclasses.dataclass(frozen=True)
class Dense:
    """A linear layer and an activation behind the pooling (sentence-transformers' module of that name)."""

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "tanh"

    def __post_init__(self):
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}; supported: {', '.join(sorted(ACTIVATIONS))}")


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Scaling to Euclidean length 1."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A bi-encoder from token ids to vectors: encoder, pooling, and what follows the pooling.

    Its params are `{"encoder": ..., "head": {i: {"kernel", "bias"}}}`, with an entry `i` for each Dense at `head[i]`.

    Attributes:
        encoder: the encoder family's config.
        pooling: the pooling modes, concatenated in this order; names as in `pooling.POOLINGS`.
        include_prompt: False leaves the prompt's tokens out of the pooling.
        head: the modules behind the pooling, in order.
    """

    encoder: EncoderConfig
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    head: tuple[Dense | Normalize, ...] = ()

    @property
    def embedding_dimension(self) -> int:
        """Length of the vectors that `siamese.encode` returns."""
        widths = [module.out_features for module in self.head if isinstance(module, Dense)]
        return widths[-1] if widths else len(self.pooling) * self.encoder.hidden_size

    @property
    def is_normalized(self) -> bool:
        """Whether the vectors come out with length 1."""
        return bool(self.head) and isinstance(self.head[-1], Normalize)
