"""One call of `encode` or `predict`: the functions that compute a batch, and the functions that
collect the batches' outputs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jsbert.engine.stream import Text, TextStream
from jsbert.engine.truncations import Truncations
from jsbert.quantization import Precision, Ranges, quantize_embeddings

if TYPE_CHECKING:
    import jax
    from jaxtyping import PyTree
    from tqdm.auto import tqdm

    from jsbert.config import Config, CrossConfig
    from jsbert.runtimes.facts import Facts

OutputValue = Literal["sentence_embedding", "token_embeddings"] | None
"""What `encode` returns: sentence vectors, token vectors, or, with None, dicts of both."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One call of `encode` after its options were checked. `of` encodes texts, all at once or chunk
    by chunk.

    Attributes:
        engine: runs `function`.
        params: the model's params when the call began; None in another runtime.
        config: the model's config for one route; in another runtime the facts of the graph.
        function: computes the outputs of a batch; see `engine`.
        postprocess: changes sentence vectors on the host.
        output_value: what `of` returns.
        prompt: the text that is put in front of each text.
        batch_size: cap on the rows of a batch.
        truncations: counts the texts that are truncated.
    """

    engine: TextStream
    params: PyTree
    config: Config | Facts
    function: Any
    postprocess: Callable[[np.ndarray], np.ndarray]
    output_value: OutputValue
    prompt: str
    batch_size: int | None
    truncations: Truncations

    @property
    def scalars(self) -> dict[str, int]:
        """The integers that `function` takes: the prompt's length in tokens, if the pooling leaves
        the prompt out; else none."""
        if self.config.include_prompt:
            return {}
        return {
            "prompt_length": self.engine.tokenizer.prompt_length(self.prompt) if self.prompt else 0
        }

    def of(
        self, texts: Sequence[Text], *, first: int = 0, progress: tqdm | None = None
    ) -> np.ndarray | list:
        """Encode texts. `first` is the position of texts[0] in the caller's count, for messages.

        Raises:
            ValueError: as `Engine.stream`, and if a prompt comes with token ids.
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


def progress_bar(
    total: int, name: str, unit: str, shown: bool | tqdm | None
) -> contextlib.AbstractContextManager[tqdm | None]:
    """Return a progress bar for a `with` block; None in the block if it is not shown. A bar of the
    caller goes on after the block."""
    if not isinstance(shown, bool | None):
        return contextlib.nullcontext(shown)
    if not shown:
        return contextlib.nullcontext()
    from tqdm.auto import tqdm  # takes time to import

    return tqdm(total=total, desc=name, unit=unit)


@functools.cache  # the engine compiles once for a function
def sentence_vectors(config: Config) -> Callable:
    """Return the function that the engine compiles: it computes a batch's sentence vectors (B, D).
    Equal configs give the same function object."""

    from jsbert import siamese

    def sentence_vectors(params, ids, lengths, prompt_length=0):
        if lengths.ndim == 2:
            return siamese.encode_rows(config, params, ids, lengths, prompt_length=prompt_length)
        return siamese.encode(config, params, ids, _mask(ids, lengths), prompt_length=prompt_length)

    return sentence_vectors


@functools.cache
def all_vectors(config: Config) -> Callable:
    """Return the function that computes all outputs of a batch: ids, lengths, token vectors and
    sentence vectors. Equal configs give the same function object."""

    from jsbert import siamese

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
    """Return the function that the engine compiles for a cross-encoder: it computes a batch's
    logits (B, num_labels). Equal configs give the same function object."""

    from jsbert import cross

    def pair_logits(params, ids, lengths, token_types=None):
        if lengths.ndim == 2:
            return cross.logits_of_rows(config, params, ids, lengths, token_types=token_types)
        return cross.logits(config, params, ids, _mask(ids, lengths), token_types=token_types)

    return pair_logits


def postprocess(
    config: Config | Facts,
    dimension: int,
    normalize: bool,
    precision: Precision,
    ranges: Ranges | None,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that changes vectors on the host: it truncates, then scales to length 1,
    then quantises.

    Raises:
        ValueError: if the ranges do not fit; at the call of `postprocess`, not at the first vector.
    """

    def on_host(vectors: np.ndarray) -> np.ndarray:
        vectors = vectors[..., :dimension]
        if normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        return (
            vectors if precision == "float32" else quantize_embeddings(vectors, precision, ranges)
        )

    on_host(np.empty((0, config.embedding_dimension), np.float32))
    return on_host


def _mask(ids: jax.Array, lengths: jax.Array) -> jax.Array:
    import jax.numpy as jnp

    return jnp.arange(ids.shape[1])[None] < lengths[:, None]


def collect(
    batches: Iterable[tuple[np.ndarray, Any]],
    num_texts: int,
    postprocess: Callable[[np.ndarray], np.ndarray],
    config: Config | Facts,
) -> np.ndarray:
    """Return the vectors of all batches after `postprocess`, in the order of the texts."""
    none = postprocess(np.empty((0, config.embedding_dimension), np.float32))
    vectors = np.empty((num_texts, none.shape[1]), none.dtype)
    for positions, outputs in batches:
        vectors[positions] = postprocess(outputs)
    return vectors


def collect_tokens(
    batches: Iterable[tuple[np.ndarray, Any]],
    num_texts: int,
    postprocess: Callable[[np.ndarray], np.ndarray],
    output_value: OutputValue,
) -> list:
    """Return the token vectors of each text, or, with `output_value` None, a dict of token ids,
    mask, token vectors and sentence vector of each text."""
    found: list = [None] * num_texts
    for positions, outputs in batches:
        for row, position in enumerate(positions):
            length = outputs["lengths"][row]
            # Copy, because a view would keep the whole batch in memory.
            token_embeddings = outputs["token_embeddings"][row, :length].copy()
            found[position] = token_embeddings if output_value else {
                "input_ids": outputs["input_ids"][row, :length].copy(),
                "attention_mask": np.ones(length, np.int32),
                "token_embeddings": token_embeddings,
                "sentence_embedding": postprocess(outputs["sentence_embedding"][row]).copy(),
            }  # fmt: skip
    return found
