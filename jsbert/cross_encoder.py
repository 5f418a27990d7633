"""The cross-encoder: pairs of texts in, scores out."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from jsbert.activations import ACTIVATIONS, activation_name
from jsbert.checkpoint import (
    CrossEncoderParts,
    brings_classifier,
    find_folder,
    is_cross_encoder,
    new_cross_encoder,
    read_bi_encoder,
    read_cross_encoder,
    write_cross_encoder,
)
from jsbert.compute import Compute
from jsbert.config import CrossConfig
from jsbert.engine import Device, OnTruncate, Truncations
from jsbert.inputs import as_pairs, check_choice, check_positive
from jsbert.outputs import pair_logits
from jsbert.text_model import DTYPES, Dtype, TextModel, resolve_compute

ORGANIZATION = "cross-encoder"
"""Whose hub names those of cross-encoders without a slash are, as for sentence-transformers."""


class CrossEncoder(TextModel):
    """A model that reads two texts at once and scores the pair: more exact than comparing vectors,
    and one pass a pair.

    Names and results follow sentence_transformers.CrossEncoder. Safe to call from several threads.

    Attributes:
        activation_fn: name of the activation applied to the logits, a key of
            `jsbert.activations.ACTIVATIONS`.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike,
        *,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: str | None = None,
        device: Device | Sequence[Device] | None = None,
        dtype: Dtype = "float32",
        cache_folder: str | os.PathLike | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        seed: int = 0,
        attn_implementation: str = "auto",
    ):
        """Opens a sequence-classification model.

        Args:
            model_name_or_path: a folder or a hub name; without a slash it is "cross-encoder"'s, but
                for names such as "bert-base-uncased".
            num_labels: scores a pair. For a folder without a classifier, a plain BERT or a
                bi-encoder, it makes a new one, random until it is trained (drawn from `seed`); for
                others it must be their number.
            max_length: tokens kept of a pair; by default what the folder says.
            activation_fn: overrules the folder's: "sigmoid" with one label, else "identity", unless
                its configs name another.
            device, dtype, cache_folder, revision, token, local_files_only, attn_implementation: as
                for `SentenceTransformer`.

        Raises:
            OSError, ValueError: as `SentenceTransformer`.
        """
        check_choice("dtype", dtype, DTYPES)
        folder = find_folder(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            organization=ORGANIZATION,
        )
        check_positive("num_labels", num_labels)
        if brings_classifier(folder):
            raise ValueError(
                f"{folder} is an adapter with a classifier, for a base model without one; open "
                "that with num_labels, and put the adapter on it with jsbert.adapters.load_adapter"
            )
        if num_labels is None or is_cross_encoder(folder):
            parts = read_cross_encoder(folder)
        else:
            parts = new_cross_encoder(
                read_bi_encoder(folder, pooling="cls"), num_labels, jax.random.key(seed)
            )
        if num_labels not in (None, parts.config.num_labels):
            raise ValueError(
                f"{folder}: num_labels is {num_labels}, but its classifier has "
                f"{parts.config.num_labels}"
            )
        if activation_fn is not None:
            name = activation_name(activation_fn, where="activation_fn")
            parts = dataclasses.replace(
                parts, config=dataclasses.replace(parts.config, activation=name)
            )
        self._set_up_from(parts, device, dtype, attn_implementation)
        if max_length is not None:
            self.max_seq_length = max_length

    @classmethod
    def from_parts(
        cls,
        parts: CrossEncoderParts,
        *,
        device: Device | Sequence[Device] | None = None,
        dtype: str = "float32",
        attn_implementation: str = "auto",
    ) -> "CrossEncoder":
        """The object around config, params and tokenizer that were made elsewhere."""
        check_choice("dtype", dtype, DTYPES)
        model = cls.__new__(cls)
        model._set_up_from(parts, device, dtype, attn_implementation)
        return model

    def _set_up_from(self, parts, device, dtype, attn_implementation):
        encoder, devices = resolve_compute(parts.config.encoder, device, dtype, attn_implementation)
        self._parts = dataclasses.replace(
            parts, config=dataclasses.replace(parts.config, encoder=encoder), params=None
        )
        self.activation_fn = parts.config.activation
        self._set_up(encoder, parts.params, parts.tokenizer, devices)

    def __repr__(self) -> str:
        labels = f"{self.num_labels} label{'s' * (self.num_labels > 1)}"
        return self._described(labels, self.activation_fn)

    @property
    def config(self) -> CrossConfig:
        """What is computed, for the pure functions of `jsbert.cross`; with `params`."""
        return self._parts.config

    @property
    def num_labels(self) -> int:
        """Scores a pair."""
        return self.config.num_labels

    def predict(
        self,
        pairs: Sequence[tuple[str, str]] | tuple[str, str] | np.ndarray,
        *,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: str | Callable[[jax.Array], jax.Array] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        on_truncate: OnTruncate = "warn",
    ) -> Any:
        """The scores of pairs of texts.

        Args:
            pairs: one pair of strings, or several.
            batch_size: cap on the rows of a batch; None leaves the size to a budget of tokens.
            show_progress_bar: show the pairs done and the time left.
            activation_fn: applied to the logits (N, num_labels); a name or a function; by default
                the model's.
            apply_softmax: softmax over the labels, after the activation; nothing with one label.
            convert_to_numpy: False gives a list of scores.
            convert_to_tensor: give a `jax.Array`.
            on_truncate: what to do if pairs are longer than `max_seq_length`.

        Returns:
            float32 of shape (N,) with one label, (N, num_labels) with more; a single pair's without
            the N.

        Raises:
            TypeError: for inputs that are no pairs of strings.
            ValueError: for options that do not exist, or invalid Unicode.
        """
        check_positive("batch_size", batch_size)
        activation = self.activation_fn if activation_fn is None else activation_fn
        if isinstance(activation, str):
            activation = ACTIVATIONS[activation_name(activation, where="activation_fn")]
        pairs, is_single = as_pairs(pairs)
        truncations = Truncations(on_truncate, self.max_seq_length)
        scores = np.empty((len(pairs), self.num_labels), np.float32)
        with tqdm(
            total=len(pairs), desc="predict", unit="pair", disable=not show_progress_bar
        ) as progress:
            batches = self.engine.stream(
                pair_logits(self.config),
                pairs,
                packs=True,
                batch_size=batch_size,
                truncations=truncations,
                progress=progress,
            )
            for positions, outputs in batches:
                scores[positions] = outputs
        truncations.warn(stacklevel=2)
        scores = activation(jnp.asarray(scores))
        if apply_softmax and self.num_labels > 1:
            scores = jax.nn.softmax(scores, axis=-1)
        scores = scores[:, 0] if self.num_labels == 1 else scores
        if not convert_to_tensor:
            scores = np.array(scores) if convert_to_numpy else list(scores)
        return scores[0] if is_single else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """The documents sorted by their score with the query, best first, ties in the given order.

        Args:
            query: one text.
            documents: the texts to rank.
            top_k: keep this many; None keeps all.
            return_documents: add each document under "text".
            **options: of `predict`: batch_size, show_progress_bar, activation_fn, on_truncate.

        Returns:
            [{"corpus_id": its index, "score": its score[, "text": itself]}].

        Raises:
            ValueError: for a model with several labels.
        """
        if self.num_labels != 1:
            raise ValueError(
                f"rank needs a model with one label, this one has {self.num_labels}; use predict"
            )
        check_positive("top_k", top_k)
        if not isinstance(query, str):
            raise TypeError(f"query is {type(query).__name__} {query!r:.40}; give one string")
        if isinstance(documents, str):
            raise TypeError("documents is one string; give a list of strings")
        documents = list(documents)
        scores = self.predict([(query, document) for document in documents], **options)
        ranked = [
            {"corpus_id": int(i), "score": float(scores[i])}
            for i in np.argsort(-np.asarray(scores), kind="stable")
        ]
        if return_documents:
            ranked = [entry | {"text": documents[entry["corpus_id"]]} for entry in ranked]
        return ranked[:top_k]

    def warmup(self, lengths: Sequence[int] | None = None) -> int:
        """Compiles the programs for pairs of `lengths` tokens, or for every length, ahead of use;
        returns `num_compilations`."""
        self.engine.warmup(
            pair_logits(self.config),
            lengths,
            packs=True,
            token_types=self.tokenizer.gives_types,
        )
        return self.num_compilations

    def save_pretrained(self, path: str | os.PathLike, *, create_model_card: bool = True) -> None:
        """Writes the model as a folder that sentence-transformers opens with the same scores. All
        of it, or nothing.

        A README.md is made where there is none, but for `create_model_card=False`.
        """
        write_cross_encoder(path, self.parts, create_model_card=create_model_card)

    save = save_pretrained

    @property
    def parts(self) -> CrossEncoderParts:
        """Config, params (in float32), tokenizer and settings: what `from_parts` takes."""
        encoder = dataclasses.replace(self.config.encoder, compute=Compute())
        config = dataclasses.replace(self.config, encoder=encoder, activation=self.activation_fn)
        return dataclasses.replace(
            self._parts, config=config, params=self._float32_params(), tokenizer=self.tokenizer
        )
