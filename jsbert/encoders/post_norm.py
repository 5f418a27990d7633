"""The layer of the original Transformer encoder, BERT and most families since: attention and a
two-layer perceptron, each added to its input and then normalised."""

from flax import nnx
from jaxtyping import Array, Float

from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen, attention
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.layers import (
    activated,
    added,
    from_heads,
    in_heads,
    layer_norm,
    linear,
)


class Attention(nnx.Module):
    """Self-attention over the tokens that are seen."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query, self.key, self.value, self.output = (
            linear(config, width, width, rngs) for _ in range(4)
        )
        self.config = config

    def __call__(self, hidden, seen, bias, dropout):
        config = self.config
        size = config.hidden_size // config.num_attention_heads
        heads = in_heads((self.query, self.key, self.value), hidden, size)
        mixed = attention(*heads, seen, config=config, dropout=dropout, bias=bias)
        return from_heads(self.output, mixed)


class Layer(nnx.Module):
    """Attention and a two-layer perceptron, each added to its input and then normalised."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        self.attention = Attention(config, rngs)
        self.attention_norm = layer_norm(config, config.hidden_size, rngs)
        self.intermediate = linear(config, config.hidden_size, config.intermediate_size, rngs)
        self.output = linear(config, config.intermediate_size, config.hidden_size, rngs)
        self.output_norm = layer_norm(config, config.hidden_size, rngs)
        self.config = config
        behind, rate = config.DROPS_BEHIND, config.hidden_dropout_prob
        self.attention_rate, self.output_rate = (
            rate if part in behind else 0.0 for part in ("attention", "output")
        )

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        seen: Seen,
        dropout: Dropout,
        bias: Float[Array, "#batch heads length length"] | None = None,
    ) -> Float[Array, "batch length dim"]:
        config = self.config
        mixed = dropout.hidden(self.attention(hidden, seen, bias, dropout), self.attention_rate)
        hidden = self.attention_norm(added(config, hidden, mixed))
        update = self.output(activated(config, self.intermediate(hidden)))
        return self.output_norm(added(config, hidden, dropout.hidden(update, self.output_rate)))
