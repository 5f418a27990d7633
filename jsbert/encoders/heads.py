"""The classifiers on top of cross-encoders: token vectors to one score for each label."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt32

from jsbert.arrays import AnyArray
from jsbert.config import EncoderConfig
from jsbert.encoders.dropout import Dropout, row_keys
from jsbert.modules import dense, layer_norm
from jsbert.pooling import POOLINGS

DRAWS = 2**31 - 1
"""Folded into the key of an example, so that the draws of the head are unrelated to those of the
encoder. No tower has this number."""


@dataclasses.dataclass(frozen=True)
class Head:
    """Four steps: a pooling; the pooler, `activation(dense(x))`; the norm, a LayerNorm; and the
    classifier, a linear layer. The pooler and the norm are left out if their attribute is None.

    The params are {"pooler": ..., "norm": ..., "classifier": ...}, without the steps left out.

    Attributes:
        classifier, pooler, norm: names of the layers in checkpoints, with the prefix.
        activation: the pooler's; a key of `activations.ACTIVATIONS`.
        pooling: a key of `pooling.POOLINGS`.
        biased: the layers that have a bias.
        dropped: the layers whose input has dropout, at the config's `classifier_rate`.
        answers: for `answers_head`: the outputs of the classifier; with two, the score is their
            difference. 0: the classifier has an output for each label.
    """

    classifier: str = "classifier"
    pooler: str | None = None
    norm: str | None = None
    activation: str = "identity"
    pooling: str = "cls"
    biased: frozenset[str] = frozenset({"pooler", "norm", "classifier"})
    dropped: frozenset[str] = frozenset({"classifier"})
    answers: int = 0

    def tensor_names(self) -> dict[tuple, str]:
        """For each path in the params, the HuggingFace name of the tensor."""
        names = {
            name: getattr(self, name)
            for name in ("pooler", "norm", "classifier")
            if getattr(self, name)
        }
        matrix = {name: "scale" if name == "norm" else "kernel" for name in names}
        weights = {(name, matrix[name]): f"{theirs}.weight" for name, theirs in names.items()}
        return weights | {
            (name, "bias"): f"{names[name]}.bias" for name in names if name in self.biased
        }

    def shapes(self, config: EncoderConfig, num_labels: int) -> PyTree:
        """The tree of params with a `jax.ShapeDtypeStruct` for each."""
        width = config.hidden_size
        outputs = {"pooler": width, "norm": width, "classifier": self.answers or num_labels}
        tree: dict[str, Any] = {}
        for name, leaf in self.tensor_names():
            shape = (width, outputs[name]) if leaf == "kernel" else (outputs[name],)
            tree.setdefault(name, {})[leaf] = jax.ShapeDtypeStruct(shape, jnp.float32)
        return tree

    def __call__(
        self,
        config: EncoderConfig,
        params: PyTree,
        hidden: Float[AnyArray, "batch length dim"],
        mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
        key: Key[Array, ""] | Key[Array, " batch"] | UInt32[Array, "..."] | None = None,
    ) -> Float[Array, "batch labels"]:
        """The raw scores. `key` draws the dropout, as for `encoders.forward`."""
        keys = row_keys(key, hidden)
        dropout = Dropout(
            None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, DRAWS))(keys)
        )

        def into(layer, vectors):
            if layer not in self.dropped:
                return vectors
            return dropout.hidden(vectors[:, None], config.classifier_rate)[:, 0]

        vectors = POOLINGS[self.pooling](hidden, mask)
        if self.pooler:
            vectors = dense(params["pooler"], into("pooler", vectors), self.activation)
        if self.norm:
            vectors = layer_norm(params["norm"], vectors, config.layer_norm_eps)
        logits = dense(params["classifier"], into("classifier", vectors), "identity")
        return logits[:, :1] - logits[:, 1:] if self.answers == 2 else logits


def answers_head(count: int) -> Head:
    """The head of a causal language model as a reranker: `count` rows of its `lm_head`, 1 or 2, at
    the last token."""
    return Head(
        classifier="lm_head",
        pooling="lasttoken",
        biased=frozenset(),
        dropped=frozenset(),
        answers=count,
    )
