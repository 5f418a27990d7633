"""The layer of the original Transformer encoder: attention and a two-layer perceptron, each added
to its input and then normalised. BERT's, and that of most families since."""

from flax import nnx
from jaxtyping import Array, Float

from jsbert.activations import ACTIVATIONS
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import attention
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.layers import layer_norm, linear


class Attention(nnx.Module):
    """Self-attention over the tokens that the biases let through."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query, self.key, self.value, self.output = (
            linear(config, width, width, rngs) for _ in range(4)
        )
        self.config = config

    def __call__(self, hidden, biases, dropout):
        mixed = attention(
            self.query(hidden),
            self.key(hidden),
            self.value(hidden),
            biases,
            config=self.config,
            dropout=dropout,
        )
        return self.output(mixed)


class Layer(nnx.Module):
    """Attention and a two-layer perceptron."""

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
        biases: tuple[Array, ...],
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        mixed = self.attention(hidden, biases, dropout)
        hidden = self.attention_norm(hidden + dropout.hidden(mixed, self.attention_rate))
        inner = ACTIVATIONS[self.config.hidden_act](self.intermediate(hidden))
        return self.output_norm(hidden + dropout.hidden(self.output(inner), self.output_rate))
