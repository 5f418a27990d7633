"""What is computed of a batch, and how the batches' outputs become what `encode` returns."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jsbert import siamese
from jsbert.config import Config
from jsbert.quantization import Precision, Ranges, quantize_embeddings


@functools.cache  # the runner compiles once for a function
def sentence_vectors(config: Config) -> Callable:
    """The function that the runner compiles: a batch's sentence vectors (B, D). The same object for the same config."""

    def sentence_vectors(params, ids, lengths, prompt_length=0):
        return siamese.encode(config, params, ids, _mask(ids, lengths), prompt_length=prompt_length)

    return sentence_vectors


@functools.cache
def all_vectors(config: Config) -> Callable:
    """The like, with all there is of a batch: ids, lengths, token vectors and sentence vectors."""

    def all_vectors(params, ids, lengths, prompt_length=0):
        mask = _mask(ids, lengths)
        hidden = siamese.token_vectors(config, params, ids, mask)
        vectors = siamese.pool_and_finish(config, params, hidden, mask, prompt_length=prompt_length)
        return {"input_ids": ids, "lengths": lengths, "token_embeddings": hidden, "sentence_embedding": vectors}

    return all_vectors


def finish(
    config: Config, dimension: int, normalize: bool, precision: Precision, ranges: Ranges | None
) -> Callable[[np.ndarray], np.ndarray]:
    """What happens to vectors on the host: truncation, then length 1, then codes.

    Raises:
        ValueError: for ranges that do not fit, at once.
    """

    def finished(vectors):
        vectors = vectors[..., :dimension]
        if normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        return vectors if precision == "float32" else quantize_embeddings(vectors, precision, ranges)

    finished(np.empty((0, config.embedding_dimension), np.float32))
    return finished


def _mask(ids, lengths):
    return jnp.arange(ids.shape[1])[None] < lengths[:, None]


def collect(batches: Iterable[tuple[np.ndarray, Any]], num_texts: int, finish: Callable, config: Config) -> np.ndarray:
    """The finished vectors of all batches, each in its text's place."""
    none = finish(np.empty((0, config.embedding_dimension), np.float32))
    vectors = np.empty((num_texts, none.shape[1]), none.dtype)
    for positions, outputs in batches:
        vectors[positions] = finish(outputs)
    return vectors


def collect_tokens(
    batches: Iterable[tuple[np.ndarray, Any]], num_texts: int, finish: Callable, output_value: str | None
) -> list:
    """The token vectors of all texts, or with `output_value` None a dict of all there is for each."""
    found: list = [None] * num_texts
    for positions, outputs in batches:
        for row, position in enumerate(positions):
            length = outputs["lengths"][row]
            token_embeddings = outputs["token_embeddings"][row, :length].copy()  # a view would keep the whole batch
            found[position] = token_embeddings if output_value else {
                "input_ids": outputs["input_ids"][row, :length].copy(),
                "attention_mask": np.ones(length, np.int32),
                "token_embeddings": token_embeddings,
                "sentence_embedding": finish(outputs["sentence_embedding"][row]).copy(),
            }  # fmt: skip
    return found
