"""The cross-encoder `CrossEncoder`: pairs of texts in, scores out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack, cast, overload

import numpy as np

from jsbert.checkpoint.find import find_folder
from jsbert.engine.truncations import OnTruncate, Truncations
from jsbert.inputs import as_pairs, check_choice, check_positive, renamed
from jsbert.outputs import pair_logits, progress_bar
from jsbert.pool import Pool, check_pool
from jsbert.runtimes import Backend, Facts, check_options, graph_folder, open_graph
from jsbert.text_model import DTYPES, Dtype, TextModel, resolve_compute

# A model in another runtime does without JAX. What imports JAX is imported where it is needed.
if TYPE_CHECKING:
    import jax
    from jaxtyping import Int

    from jsbert.checkpoint import CrossEncoderParts, Settings
    from jsbert.config import CrossConfig
    from jsbert.engine import Device

ORGANIZATION = "cross-encoder"
"""The organisation of cross-encoders' hub names without a slash, as in sentence-transformers."""

Pairs = Sequence[tuple[str, str]] | np.ndarray
"""Several pairs of strings."""

Scores: TypeAlias = "np.ndarray | np.float32 | jax.Array | list[jax.Array]"
"""What `predict` can return; the options decide."""


class PredictOptions(TypedDict, total=False):
    """The options of `CrossEncoder.predict` that do not change the type of the result."""

    batch_size: int | None
    show_progress_bar: bool | None
    prompt_name: str | None
    prompt: str | None
    activation_fn: str | Callable[[jax.Array], jax.Array] | None
    apply_softmax: bool
    on_truncate: OnTruncate
    device: Device | Sequence[Device] | None
    pool: Pool | None
    chunk_size: int | None


class CrossEncoder(TextModel):
    """A model that reads two texts at once and scores the pair. This is more exact than comparing
    vectors, and needs one pass for each pair.

    Names and results follow sentence_transformers.CrossEncoder. Several threads can call the same
    object.

    Attributes:
        activation_fn: name of the activation applied to the logits, a key of
            `jsbert.activations.ACTIVATIONS`.
        prompts: instructions by name. A model with a chat template puts an instruction in the
            template's place for it; other models put it in front of the first text.
        default_prompt_name: the instruction that is used if the caller gives none.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike,
        *,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        device: Device | Sequence[Device] | None = None,
        dtype: Dtype = "float32",
        cache_folder: str | os.PathLike | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        seed: int = 0,
        attn_implementation: str = "auto",
        shard_params: bool = False,
        backend: Backend = "jax",
    ):
        """Open a sequence-classification model, or a causal language model that answers with yes
        or no.

        Args:
            model_name_or_path: a folder or a hub name. A hub name without a slash belongs to the
                organisation "cross-encoder", except names such as "bert-base-uncased".
            num_labels: the number of scores for each pair. If the folder has no classifier (a plain
                BERT or a bi-encoder), the model gets a new classifier with random weights drawn
                from `seed`. Else `num_labels` must be the number of the folder's classifier.
            max_length: the number of tokens kept of a pair; by default the folder's.
            activation_fn: overrides the folder's activation. That is the one that its configs name,
                by default "sigmoid" with one label and "identity" with more.
            prompts: instructions by name, added to the folder's.
            default_prompt_name: overrides the folder's.
            seed: the seed of a new classifier.
            device, dtype, cache_folder, revision, token, local_files_only, attn_implementation,
                shard_params, backend: as for `SentenceTransformer`.

        Raises:
            ImportError, OSError, ValueError: as `SentenceTransformer`.
        """
        check_choice("dtype", dtype, DTYPES)
        check_options(backend, dtype, device, attn_implementation, shard_params)
        folder = find_folder(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            organization=ORGANIZATION,
        )
        check_positive("num_labels", num_labels)
        if backend != "jax":
            graph = graph_folder(
                folder,
                {"num_labels": num_labels, "seed": seed},
                lambda: CrossEncoder(folder, num_labels=num_labels, seed=seed, device="cpu"),
            )
            facts, self.engine = open_graph(graph, backend, dtype)  # type: ignore[assignment]
            self._encoder = facts  # type: ignore[assignment]  # it stands in for the config
            self._facts: CrossConfig | Facts = facts
            self.activation_fn = facts.activation
            self._set_prompts(facts, prompts, default_prompt_name)
            if activation_fn is not None:
                self.activation_fn = _activation_name(activation_fn)
            if max_length is not None:
                self.max_seq_length = max_length
            return
        from jsbert.checkpoint import (
            brings_classifier,
            is_cross_encoder,
            new_cross_encoder,
            read_bi_encoder,
            read_cross_encoder,
        )

        if brings_classifier(folder):
            raise ValueError(
                f"{folder} is an adapter with a classifier, for a base model without one; open "
                "that with num_labels, and put the adapter on it with jsbert.adapters.load_adapter"
            )
        if num_labels is None or is_cross_encoder(folder):
            parts = read_cross_encoder(folder)
        else:
            import jax

            parts = new_cross_encoder(
                read_bi_encoder(folder, pooling="cls"), num_labels, jax.random.key(seed)
            )
        if num_labels not in (None, parts.config.num_labels):
            raise ValueError(
                f"{folder}: num_labels is {num_labels}, but its classifier has "
                f"{parts.config.num_labels}"
            )
        if activation_fn is not None:
            name = _activation_name(activation_fn)
            parts = dataclasses.replace(
                parts, config=dataclasses.replace(parts.config, activation=name)
            )
        self._set_up_from(parts, device, dtype, attn_implementation, shard_params)
        self._set_prompts(parts.settings, prompts, default_prompt_name)
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
        shard_params: bool = False,
    ) -> CrossEncoder:
        """Make the object from config, params and tokenizer that were made elsewhere."""
        check_choice("dtype", dtype, DTYPES)
        model = cls.__new__(cls)
        model._set_up_from(parts, device, dtype, attn_implementation, shard_params)
        return model

    def _set_up_from(
        self,
        parts: CrossEncoderParts,
        device: Device | Sequence[Device] | None,
        dtype: str,
        attn_implementation: str,
        shard_params: bool,
    ) -> None:
        encoder, devices = resolve_compute(parts.config.encoder, device, dtype, attn_implementation)
        config = dataclasses.replace(parts.config, encoder=encoder)
        self._parts = dataclasses.replace(parts, config=config, params={})  # the engine has them
        self._facts = config
        self.activation_fn = parts.config.activation
        self._set_prompts(parts.settings, None, None)
        self._set_up(encoder, parts.params, parts.tokenizer, devices, shard_params)

    def _set_prompts(
        self,
        settings: Settings | Facts,
        prompts: Mapping[str, str] | None,
        default_prompt_name: str | None,
    ) -> None:
        self.prompts = {**settings.prompts, **(prompts or {})}
        self.default_prompt_name = default_prompt_name or settings.default_prompt_name
        self._resolve_prompt(None, None)  # raises for a name that is not there

    def __repr__(self) -> str:
        labels = f"{self.num_labels} label{'s' * (self.num_labels > 1)}"
        return self._described(labels, self.activation_fn)

    @property
    def config(self) -> CrossConfig:
        """The config for the pure functions of `jsbert.cross`, which take `params` too."""
        self._need_jax("config")
        return self._parts.config

    @property
    def num_labels(self) -> int:
        """The number of scores for each pair."""
        return self._facts.num_labels

    @overload
    def predict(
        self,
        inputs: Pairs,
        *,
        convert_to_numpy: Literal[True] = True,
        convert_to_tensor: Literal[False] = False,
        **options: Unpack[PredictOptions],
    ) -> np.ndarray: ...
    @overload
    def predict(
        self,
        inputs: tuple[str, str],
        *,
        convert_to_numpy: Literal[True] = True,
        convert_to_tensor: Literal[False] = False,
        **options: Unpack[PredictOptions],
    ) -> np.float32 | np.ndarray: ...
    @overload
    def predict(
        self,
        inputs: Pairs | tuple[str, str],
        *,
        convert_to_numpy: bool = True,
        convert_to_tensor: Literal[True],
        **options: Unpack[PredictOptions],
    ) -> jax.Array: ...
    @overload
    def predict(
        self,
        inputs: Pairs | tuple[str, str],
        *,
        convert_to_numpy: Literal[False],
        convert_to_tensor: Literal[False] = False,
        **options: Unpack[PredictOptions],
    ) -> jax.Array | list[jax.Array]: ...
    @overload
    def predict(
        self,
        inputs: Pairs | tuple[str, str],
        *,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **options: Unpack[PredictOptions],
    ) -> Scores: ...
    @renamed("inputs", "pairs", "sentences")
    def predict(
        self,
        inputs: Pairs | tuple[str, str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: str | Callable[[jax.Array], jax.Array] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        on_truncate: OnTruncate = "warn",
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
    ) -> Scores:
        """Return the scores of pairs of texts.

        Args:
            inputs: one pair of strings, or several. `pairs` and `sentences` are other names of
                this argument.
            prompt_name: the name of the instruction to use.
            prompt: the instruction itself; overrides `prompt_name`. "" for none.
            batch_size: cap on the rows of a batch; None leaves the size to a budget of tokens.
            show_progress_bar: show the number of pairs done and the time left.
            activation_fn: applied to the logits (N, num_labels); a name or a function; by default
                the model's.
            apply_softmax: apply softmax over the labels after the activation; ignored with one
                label.
            convert_to_numpy: False returns a list of scores.
            convert_to_tensor: return a `jax.Array`.
            on_truncate: what to do if pairs are longer than `max_seq_length`, as in
                `SentenceTransformer.encode`.
            device, pool, chunk_size: as in `SentenceTransformer.encode`.

        Returns:
            float32 of shape (N,) with one label, (N, num_labels) with more. For a single pair the
            first axis is left out.

        Raises:
            TypeError: if an input is no pair of strings.
            ValueError: if an option or a prompt does not exist, a text is invalid Unicode, or the
                model's chat template takes no instruction.
        """
        instruction = self._resolve_prompt(prompt, prompt_name)
        check_positive("batch_size", batch_size)
        check_positive("chunk_size", chunk_size)
        check_pool(pool)
        self._check_device(device)
        activation = self.activation_fn if activation_fn is None else activation_fn
        if isinstance(activation, str):
            activation = _activation(_activation_name(activation), self.backend)
        checked, is_single = as_pairs(inputs)
        # Compute the logits of all pairs, in batches.
        truncations = Truncations(on_truncate, self.max_seq_length)
        logits = np.empty((len(checked), self.num_labels), np.float32)
        with progress_bar(len(checked), "predict", "pair", show_progress_bar) as progress:
            if pool is None or not checked:
                batches = self.engine.stream(
                    pair_logits(self.config) if self.backend == "jax" else ("logits",),
                    checked,
                    packs=True,
                    prompt=instruction,
                    batch_size=batch_size,
                    truncations=truncations,
                    progress=progress,
                )
                for positions, outputs in batches:
                    logits[positions] = outputs
            else:
                options: PredictOptions = {
                    "prompt": instruction,
                    "batch_size": batch_size,
                    "on_truncate": on_truncate,
                    "activation_fn": "identity",
                }
                logits = pool.map("predict", checked, options, chunk_size).reshape(logits.shape)
        truncations.warn(stacklevel=3)
        # Turn the logits into scores, in the form that the caller asked for.
        on_host = activation in HOST_ACTIVATIONS.values()
        scores: Any = activation(cast(Any, logits if on_host else _on_device(logits)))
        if apply_softmax and self.num_labels > 1:
            import jax

            scores = jax.nn.softmax(_on_device(scores), axis=-1)
        scores = scores[:, 0] if self.num_labels == 1 else scores
        found: np.ndarray | jax.Array | list[jax.Array] = scores
        if convert_to_tensor:
            found = _on_device(scores)
        else:
            found = np.array(scores) if convert_to_numpy else list(_on_device(scores))
        return found[0] if is_single else found

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[PredictOptions],
    ) -> list[dict[str, Any]]:
        """Sort documents by their score with the query, best first, ties in the given order.

        Args:
            query: one text.
            documents: the texts to rank.
            top_k: return this many; None returns all.
            return_documents: add each document under "text".
            **options: options of `predict`: prompt_name, prompt, batch_size, show_progress_bar,
                activation_fn, on_truncate.

        Returns:
            A dict for each document: {"corpus_id": index, "score": score[, "text": document]}.

        Raises:
            TypeError: if `query` is no string, or `documents` is one string.
            ValueError: if the model has several labels, and as `predict`.
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
        ranked = []
        for i in np.argsort(-np.asarray(scores), kind="stable"):
            entry: dict[str, Any] = {"corpus_id": int(i), "score": float(scores[i])}
            ranked.append(entry | {"text": documents[i]} if return_documents else entry)
        return ranked[:top_k]

    def tokenize(
        self, texts: Pairs | tuple[str, str]
    ) -> dict[str, Int[np.ndarray, "batch length"]]:
        """Tokenise pairs of texts, with the default prompt.

        Returns:
            Padded `input_ids`, `attention_mask` and, if the model has token types,
            `token_type_ids`, each (B, L) int32, where L is the longest length.
        """
        checked, _ = as_pairs(texts)
        return self._padded(checked, self._resolve_prompt(None, None))

    def warmup(self, lengths: Sequence[int] | None = None) -> int:
        """Compile the programs that `predict` will use, for pairs of `lengths` tokens or of every
        length. Return `num_compilations`."""
        if self.backend == "jax":
            self.engine.warmup(
                pair_logits(self.config),
                lengths,
                packs=True,
                token_types=self.tokenizer.gives_types,
            )
        return self.num_compilations

    def save_pretrained(self, path: str | os.PathLike, *, create_model_card: bool = True) -> None:
        """Write the model as a folder that sentence-transformers opens with the same scores. An
        error leaves no half-written folder.

        A README.md is written if there is none, unless `create_model_card` is False.
        """
        from jsbert.checkpoint import write_cross_encoder

        write_cross_encoder(path, self.parts, create_model_card=create_model_card)

    save = save_pretrained

    @property
    def parts(self) -> CrossEncoderParts:
        """Config, params (in float32), tokenizer and settings, as `from_parts` takes them."""
        from jsbert.compute import Compute

        encoder = dataclasses.replace(self.config.encoder, compute=Compute())
        config = dataclasses.replace(self.config, encoder=encoder, activation=self.activation_fn)
        settings = dataclasses.replace(
            self._parts.settings,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
        )
        return dataclasses.replace(
            self._parts,
            config=config,
            params=self._float32_params(),
            tokenizer=self.tokenizer,
            settings=settings,
        )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


HOST_ACTIVATIONS = {"identity": lambda logits: logits, "sigmoid": _sigmoid}
"""Activations without JAX, for models in another runtime."""


def _activation_name(name: str) -> str:
    if name in HOST_ACTIVATIONS:
        return name
    from jsbert.activations import activation_name

    return activation_name(name, where="activation_fn")


def _activation(name: str, backend: str) -> Callable:
    """The activation of that name."""
    if backend != "jax" and name in HOST_ACTIVATIONS:
        return HOST_ACTIVATIONS[name]
    from jsbert.activations import ACTIVATIONS

    return ACTIVATIONS[name]


def _on_device(array: np.ndarray | jax.Array) -> jax.Array:
    import jax.numpy as jnp

    return jnp.asarray(array)
