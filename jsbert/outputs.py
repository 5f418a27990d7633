"""One call of `encode` or `predict`: what is computed of a batch, and what becomes of the batches'
outputs."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from tqdm.auto import tqdm

from jsbert import cross, siamese
from jsbert.config import Config, CrossConfig
from jsbert.engine import Engine, Text, Truncations
from jsbert.quantization import Precision, Ranges, quantize_embeddings

OutputValue = Literal["sentence_embedding", "token_embeddings"] | None
"""What `encode` returns: sentence vectors, token vectors, or, with None, a dict of all there is."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One call of `encode`, its options checked: `of` encodes texts, all at once or chunk by chunk.

    Attributes:
        engine: runs `function`.
        params: those with which the call began.
        config: of one route.
        function: what is computed of a batch.
        postprocess: what happens to sentence vectors on the host.
        output_value: what comes out.
        prompt: put in front of each text.
        batch_size: cap on the rows of a batch.
        truncations: counts the texts that are cut.
    """

    engine: Engine
    params: PyTree
    config: Config
    function: Callable
    postprocess: Callable[[np.ndarray], np.ndarray]
    output_value: OutputValue
    prompt: str
    batch_size: int | None
    truncations: Truncations

    @property
    def scalars(self) -> dict[str, int]:
        """The prompt's length in tokens, where the pooling leaves the prompt out."""
        if self.config.include_prompt:
            return {}
        return {
            "prompt_length": self.engine.tokenizer.prompt_length(self.prompt) if self.prompt else 0
        }

    def of(
        self, texts: Sequence[Text], *, first: int = 0, progress: tqdm | None = None
    ) -> np.ndarray | list:
        """Encode texts; `first` is the position of texts[0] in the caller's count, for messages.

        Raises:
            ValueError: as `Engine.stream`, and for a prompt in front of token ids.
        """
        if self.prompt and len(texts) and not isinstance(texts[0], str):
            raise ValueError(
                "a prompt cannot be put before token ids; put its ids there, or say prompt=''"
            )
        batches = self.engine.stream(
            self.function,
            texts,
            packs=self.output_value == "sentence_embedding",
            prompt=self.prompt,
            first=first,
            params=self.params,
            batch_size=self.batch_size,
            scalars=self.scalars,
            truncations=self.truncations,
            progress=progress,
        )
        if self.output_value == "sentence_embedding":
            return collect(batches, len(texts), self.postprocess, self.config)
        return collect_tokens(batches, len(texts), self.postprocess, self.output_value)


@functools.cache  # the engine compiles once for a function
def sentence_vectors(config: Config) -> Callable:
    """The function that the engine compiles: a batch's sentence vectors (B, D). The same object for
    the same config."""

    def sentence_vectors(params, ids, lengths, prompt_length=0):
        if lengths.ndim == 2:
            return siamese.encode_rows(config, params, ids, lengths, prompt_length=prompt_length)
        return siamese.encode(config, params, ids, _mask(ids, lengths), prompt_length=prompt_length)

    return sentence_vectors


@functools.cache
def all_vectors(config: Config) -> Callable:
    """The like, with all there is of a batch: ids, lengths, token vectors and sentence vectors."""

    def all_vectors(params, ids, lengths, prompt_length=0):
        mask = _mask(ids, lengths)
        hidden = siamese.token_vectors(config, params, ids, mask)
        vectors = siamese.pool_and_finish(config, params, hidden, mask, prompt_length=prompt_length)
        return {
            "input_ids": ids,
            "lengths": lengths,
            "token_embeddings": hidden,
            "sentence_embedding": vectors,
        }

    return all_vectors


@functools.cache
def pair_logits(config: CrossConfig) -> Callable:
    """The function that the engine compiles for a cross-encoder: a batch's raw scores (B,
    num_labels)."""

    def pair_logits(params, ids, lengths, token_types=None):
        if lengths.ndim == 2:
            return cross.logits_of_rows(config, params, ids, lengths, token_types=token_types)
        return cross.logits(config, params, ids, _mask(ids, lengths), token_types=token_types)

    return pair_logits


def postprocess(
    config: Config, dimension: int, normalize: bool, precision: Precision, ranges: Ranges | None
) -> Callable[[np.ndarray], np.ndarray]:
    """The function for what happens to vectors on the host: truncation, then length 1, then codes.

    Raises:
        ValueError: for ranges that do not fit, at once.
    """

    def on_host(vectors):
        vectors = vectors[..., :dimension]
        if normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        return (
            vectors if precision == "float32" else quantize_embeddings(vectors, precision, ranges)
        )

    on_host(np.empty((0, config.embedding_dimension), np.float32))
    return on_host


def _mask(ids, lengths):
    return jnp.arange(ids.shape[1])[None] < lengths[:, None]


def collect(
    batches: Iterable[tuple[np.ndarray, Any]], num_texts: int, postprocess: Callable, config: Config
) -> np.ndarray:
    """The vectors of all batches after `postprocess`, each in its text's place."""
    none = postprocess(np.empty((0, config.embedding_dimension), np.float32))
    vectors = np.empty((num_texts, none.shape[1]), none.dtype)
    for positions, outputs in batches:
        vectors[positions] = postprocess(outputs)
    return vectors


def collect_tokens(
    batches: Iterable[tuple[np.ndarray, Any]],
    num_texts: int,
    postprocess: Callable,
    output_value: str | None,
) -> list:
    """The token vectors of all texts, or with `output_value` None a dict of all there is for
    each."""
    found: list = [None] * num_texts
    for positions, outputs in batches:
        for row, position in enumerate(positions):
            length = outputs["lengths"][row]
            token_embeddings = outputs["token_embeddings"][
                row, :length
            ].copy()  # a view would keep the whole batch
            found[position] = token_embeddings if output_value else {
                "input_ids": outputs["input_ids"][row, :length].copy(),
                "attention_mask": np.ones(length, np.int32),
                "token_embeddings": token_embeddings,
                "sentence_embedding": postprocess(outputs["sentence_embedding"][row]).copy(),
            }  # fmt: skip
    return found
