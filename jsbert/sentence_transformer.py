"""The bi-encoder: texts in, vectors out."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int
from tqdm.auto import tqdm

from jsbert.checkpoint import (
    BiEncoderParts,
    Settings,
    find_folder,
    read_bi_encoder,
    write_bi_encoder,
)
from jsbert.compute import Compute
from jsbert.config import Config, Router
from jsbert.engine import Batch, Device, OnTruncate, Truncations, pad
from jsbert.inputs import as_texts, check_choice, check_positive
from jsbert.outputs import Encoding, OutputValue, all_vectors, postprocess, sentence_vectors
from jsbert.quantization import PRECISIONS, Precision, Ranges, quantize_embeddings
from jsbert.similarity import SIMILARITIES
from jsbert.text_model import DTYPES, Dtype, TextModel, resolve_compute


class SentenceTransformer(TextModel):
    """A sentence encoder: `encode` turns texts into vectors that can be compared.

    Names and results follow sentence_transformers.SentenceTransformer. Safe to call from several
    threads.

    Attributes:
        prompts: texts put in front of inputs, by name.
        default_prompt_name: the prompt used where `encode` is given none.
        truncate_dim: dimensions kept of each vector, or None for all.
        router: leads from a task to the model for its texts, where the routes have encoders of
            their own; None else. This object is itself the model of the default route.
    """

    router: Router | None

    def __init__(
        self,
        model_name_or_path: str | os.PathLike | None = None,
        *,
        device: Device | Sequence[Device] | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        cache_folder: str | os.PathLike | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        dtype: Dtype = "float32",
        pooling: str | Sequence[str] | None = None,
        attn_implementation: str = "auto",
    ):
        """Opens a model.

        Args:
            model_name_or_path: a folder in the sentence-transformers or HuggingFace layout, a
                bundled model's name or a hub name; without a slash it is "sentence-transformers"'s,
                but for names such as "bert-base-uncased". None is the default model.
            device: "cpu", "gpu", "cuda", "cuda:1", "tpu", a `jax.Device`, or a list of these, over
                which each batch is spread; by default JAX's first device.
            prompts: prompts by name, added to the folder's.
            default_prompt_name: overrules the folder's.
            similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; overrules the folder's.
            truncate_dim: keep this many dimensions of each vector; overrules the folder's.
            cache_folder: where hub files are kept.
            revision: branch, tag or commit on the Hub.
            token: hub token, or True for the stored one.
            local_files_only: take hub files from the cache alone.
            dtype: of the matrix products. "bfloat16" keeps statistics, softmax and pooling in
                float32. "int8" holds the matrices in int8, a scale a column, and rounds what they
                are multiplied with, a scale a token. "auto" is "bfloat16" where the device has
                instructions for it, else "float32".
            pooling: pooling modes, overruling the folder's; see `jsbert.pooling.POOLINGS`.
            attn_implementation: "eager", "xla", or, on NVIDIA GPUs and not in float32, "cudnn"; see
                `jsbert.compute.ATTENTIONS`.

        Raises:
            OSError: for a model or file that is not there.
            ValueError: for files that are broken or contradict each other, and options that do not
                exist.
        """
        check_choice("dtype", dtype, DTYPES)
        folder = find_folder(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        parts = read_bi_encoder(folder, pooling=pooling)
        given = {
            "prompts": {"query": "", "document": ""}
            | dict(parts.settings.prompts)
            | _checked_prompts(prompts),
            "default_prompt_name": default_prompt_name,
            "similarity_fn_name": similarity_fn_name,
            "truncate_dim": truncate_dim,
        }
        settings = dataclasses.replace(
            parts.settings, **{name: value for name, value in given.items() if value is not None}
        )
        self._set_up_from(
            dataclasses.replace(parts, settings=settings), device, dtype, attn_implementation
        )

    @classmethod
    def from_parts(
        cls,
        parts: BiEncoderParts,
        *,
        device: Device | Sequence[Device] | None = None,
        dtype: str = "float32",
        attn_implementation: str = "auto",
    ) -> "SentenceTransformer":
        """The object around config, params and tokenizer that were made elsewhere."""
        check_choice("dtype", dtype, DTYPES)
        model = cls.__new__(cls)
        model._set_up_from(parts, device, dtype, attn_implementation)
        return model

    def _set_up_from(self, parts, device, dtype, attn_implementation):
        settings = parts.settings
        if (
            settings.default_prompt_name is not None
            and settings.default_prompt_name not in settings.prompts
        ):
            raise ValueError(
                f"default_prompt_name {settings.default_prompt_name!r} is not in the prompts "
                f"{sorted(settings.prompts)}"
            )
        encoder, devices = resolve_compute(parts.config.encoder, device, dtype, attn_implementation)
        self._config: Config = dataclasses.replace(parts.config, encoder=encoder)
        self.prompts = dict(settings.prompts)
        self.default_prompt_name = settings.default_prompt_name
        self.similarity_fn_name = settings.similarity_fn_name
        check_positive("truncate_dim", settings.truncate_dim)
        self.truncate_dim = settings.truncate_dim
        self._set_up(encoder, parts.params, parts.tokenizer, devices)

        def model(route):
            if route.params is parts.params:
                return self
            return self.from_parts(
                route, device=device, dtype=dtype, attn_implementation=attn_implementation
            )

        self.router = None if parts.router is None else parts.router.map(model)

    def __repr__(self) -> str:
        routes = (
            []
            if self.router is None
            else [f"routes {', '.join(name for name, _ in self.router.routes)}"]
        )
        modules = [type(module).__name__ for module in self.config.modules]
        pooling = " + ".join(["+".join(self.config.pooling), *modules])
        return self._described(pooling, *routes, f"{self.get_embedding_dimension()} dimensions")

    @property
    def config(self) -> Config:
        """What is computed, for the pure functions; with `params`. To compute something else, make
        another model."""
        return self._config

    def encode(
        self,
        sentences: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"]
        | None = "sentence_embedding",
        precision: Precision = "float32",
        ranges: Ranges | Literal["batch"] | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        on_truncate: OnTruncate = "warn",
        task: str | None = None,
    ) -> Any:
        """The vectors of texts.

        Args:
            sentences: one text or several. A text is a string, or its token ids with their special
                tokens, used as they are.
            prompt_name: name of the prompt to put in front of each text.
            prompt: the prompt itself; goes before `prompt_name`.
            batch_size: cap on the rows of a batch; None leaves the size to a budget of tokens.
            show_progress_bar: show the texts done and the time left.
            output_value: "sentence_embedding"; "token_embeddings" for the token vectors; None for a
                dict of all there is.
            precision: "float32", or of the codes: "int8", "uint8" (a byte a dimension), "binary",
                "ubinary" (a bit); see `jsbert.quantization`. Vectors are truncated, then
                normalised, then coded.
            ranges: for "int8" and "uint8": the lowest and the highest of each dimension, (2, D), as
                `jsbert.quantization.calibration_ranges` makes them of vectors that are truncated
                and normalised alike; "batch" takes those of `sentences`.
            convert_to_numpy: False gives a list of vectors, `jax.Array`s.
            convert_to_tensor: give a `jax.Array`.
            normalize_embeddings: scale the sentence vectors to length 1, with `output_value` None
                too (where sentence-transformers leaves them); token vectors stay as they are.
            truncate_dim: keep this many dimensions, before normalising; by default the model's
                `truncate_dim`.
            on_truncate: what to do if texts are longer than `max_seq_length`: one warning with
                their number, an error, or nothing.
            task: chooses the route of a model that has a Router; other models do not ask.

        Returns:
            (D,) float32 for one text, (N, D) for several in their order, (0, D) for none; codes
            with another `precision`. With "token_embeddings" (L, D) for one text, else a list; with
            None a dict (input_ids, attention_mask, token_embeddings, sentence_embedding), else a
            list of these.

        Raises:
            TypeError: for inputs that are no texts.
            ValueError: for options, prompt names or routes that do not exist, invalid Unicode,
                token ids out of range.
        """
        check_choice("output_value", output_value, ("sentence_embedding", "token_embeddings", None))
        check_choice("precision", precision, PRECISIONS)
        if precision != "float32" and output_value != "sentence_embedding":
            raise ValueError(
                f"precision {precision!r} is for sentence embeddings; give other outputs to "
                "quantize_embeddings"
            )
        if isinstance(ranges, str):
            check_choice("ranges", ranges, ("batch",))
        texts, is_single = as_texts(sentences)
        # With ranges="batch" the codes wait until all vectors are there.
        code_later = isinstance(ranges, str) and precision != "float32"
        encoding = self._encoding(
            task,
            prompt=self._resolve_prompt(prompt, prompt_name),
            batch_size=batch_size,
            output_value=output_value,
            precision="float32" if isinstance(ranges, str) else precision,
            ranges=ranges,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim,
            on_truncate=on_truncate,
        )
        with tqdm(
            total=len(texts), desc="encode", unit="text", disable=not show_progress_bar
        ) as progress:
            found = encoding.of(texts, progress=progress)
        found = quantize_embeddings(found, precision, ranges) if code_later else found
        encoding.truncations.warn(stacklevel=2)
        if output_value == "sentence_embedding" and (convert_to_tensor or not convert_to_numpy):
            found = jax.device_put(found, self.devices[0])
            found = found if convert_to_tensor else list(found)
        return found[0] if is_single else found

    def encode_query(self, sentences: Any, **options: Any) -> Any:
        """`encode` for the task "query", with the prompt of that name, where no other is given."""
        return self.encode(sentences, **self._with_prompt(options, "query"), task="query")

    def encode_document(self, sentences: Any, **options: Any) -> Any:
        """`encode` for the task "document", with the prompt of that name, where no other is given.

        The constructor gives a model the prompts "query" and "document", empty unless the folder or
        the caller has others, and an empty one is taken too: `default_prompt_name` does not stand
        in for it. Where `prompts` has no "document", "passage" and then "corpus" are taken.
        """
        return self.encode(
            sentences,
            **self._with_prompt(options, "document", "passage", "corpus"),
            task="document",
        )

    def encode_iter(
        self,
        sentences: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        chunk_size: int = 8192,
        batch_size: int | None = None,
        precision: Precision = "float32",
        ranges: Ranges | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        on_truncate: OnTruncate = "warn",
        task: str | None = None,
    ) -> Iterator[Float[np.ndarray, " dim"]]:
        """Yields the vector of each text of an iterable, in order, in constant memory; the iterable
        may be endless.

        Args:
            sentences: texts.
            chunk_size: texts read, sorted and batched together; none is read beyond a chunk before
                its vectors are given out.
            on_truncate: as in `encode`; the warning comes when the iterable or the iteration ends.

        The other options are those of `encode`, and so are the errors; those of the options come at
        once, not at the first vector.
        """
        check_positive("chunk_size", chunk_size, or_none=False)
        check_choice("precision", precision, PRECISIONS)
        if isinstance(ranges, str):
            raise ValueError(
                f"ranges is {ranges!r}; encode_iter never has all the vectors: give an array (2, D)"
            )
        encoding = self._encoding(
            task,
            prompt=self._resolve_prompt(prompt, prompt_name),
            batch_size=batch_size,
            precision=precision,
            ranges=ranges,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim,
            on_truncate=on_truncate,
        )
        if isinstance(sentences, (str, bytes)) or not isinstance(sentences, Iterable):
            raise TypeError(
                f"encode_iter takes an iterable of strings; given {type(sentences).__name__}"
            )

        def vectors():
            rest, first = iter(sentences), 0
            try:
                while chunk := list(islice(rest, chunk_size)):
                    texts, is_single = as_texts(chunk)
                    if is_single:
                        raise TypeError(
                            f"encode_iter takes an iterable of strings; text {first} is "
                            f"{chunk[0]!r:.40}"
                        )
                    yield from encoding.of(texts, first=first)
                    first += len(texts)
            finally:
                encoding.truncations.warn(stacklevel=2)

        return vectors()

    def tokenize(self, texts: Sequence[str]) -> dict[str, Int[np.ndarray, "batch length"]]:
        """Padded `input_ids` and `attention_mask`, (B, L) int32, L the longest: what the pure
        functions take as ids and mask."""
        texts, _ = as_texts(texts)
        tokens = self.engine.tokenize(texts)
        length = int(tokens.lengths.max(initial=1))
        arrays = pad(tokens, Batch(np.arange(len(texts)), len(texts), length))
        mask = np.arange(length) < arrays["lengths"][:, None]
        return {"input_ids": arrays["ids"], "attention_mask": mask.astype(np.int32)}

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Float[Array, "rows columns"]:
        """The model's similarity of each of `a` with each of `b`; cosine unless
        `similarity_fn_name` says otherwise."""
        return SIMILARITIES[self.similarity_fn_name][0](a, b)

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> Float[Array, " rows"]:
        """The model's similarity of a[i] with b[i]."""
        return SIMILARITIES[self.similarity_fn_name][1](a, b)

    @property
    def similarity_fn_name(self) -> str:
        """ "cosine", "dot", "euclidean" or "manhattan". Can be set."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str | None) -> None:
        check_choice("similarity_fn_name", name, (*SIMILARITIES, None))
        self._similarity_fn_name = name or "cosine"

    def get_embedding_dimension(self) -> int:
        """Length of the vectors that `encode` returns."""
        return min(
            self.config.embedding_dimension, self.truncate_dim or self.config.embedding_dimension
        )

    get_sentence_embedding_dimension = get_embedding_dimension

    def warmup(self, lengths: Sequence[int] | None = None, *, task: str | None = None) -> int:
        """Compiles the programs for texts of `lengths` tokens, or for every length, ahead of use by
        `encode` with that `task`; returns `num_compilations`."""
        encoding = self._encoding(task)
        encoding.engine.warmup(encoding.function, lengths, packs=True, scalars=encoding.scalars)
        return encoding.engine.num_compilations

    def save_pretrained(self, path: str | os.PathLike, *, create_model_card: bool = True) -> None:
        """Writes the model as a folder that sentence-transformers opens with the same vectors. All
        of it, or nothing.

        Weights are written in float32; a bfloat16 or int8 model writes the rounded values that it
        computes with. A README.md is made where there is none, but for `create_model_card=False`.
        """
        write_bi_encoder(path, self.parts, create_model_card=create_model_card)

    save = save_pretrained

    @property
    def parts(self) -> BiEncoderParts:
        """Config, params (in float32), tokenizer and settings: what `from_parts` takes."""
        settings = Settings(
            self.prompts, self.default_prompt_name, self.similarity_fn_name, self.truncate_dim
        )
        encoder = dataclasses.replace(self.config.encoder, compute=Compute())
        config = dataclasses.replace(self.config, encoder=encoder)
        parts = BiEncoderParts(config, self._float32_params(), self.tokenizer, settings)
        if self.router is None:
            return parts
        return dataclasses.replace(
            parts, router=self.router.map(lambda model: parts if model is self else model.parts)
        )

    def _encoding(
        self,
        task: str | None,
        *,
        prompt: str = "",
        batch_size: int | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        ranges: Ranges | Literal["batch"] | None = None,
        normalize: bool = False,
        truncate_dim: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> Encoding:
        """Check a call's options, and choose the model and the route that encode the texts of
        `task`."""
        check_positive("batch_size", batch_size)
        check_positive("truncate_dim", truncate_dim)
        model = self if self.router is None else self.router.route(task)
        config = model.config.for_task(task)
        dimension = min(
            truncate_dim or self.truncate_dim or config.embedding_dimension,
            config.embedding_dimension,
        )
        return Encoding(
            engine=model.engine,
            params=model.params,
            config=config,
            function=(sentence_vectors if output_value == "sentence_embedding" else all_vectors)(
                config
            ),
            postprocess=postprocess(config, dimension, normalize, precision, ranges),
            output_value=output_value,
            prompt=prompt,
            batch_size=batch_size,
            truncations=Truncations(on_truncate, model.max_seq_length),
        )

    def _resolve_prompt(self, prompt, prompt_name):
        name = self.default_prompt_name if prompt_name is None else prompt_name
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt is {prompt!r}; it must be a string")
            return prompt
        if name is not None and name not in self.prompts:
            raise ValueError(
                f"unknown prompt_name {name!r}; the model's prompts are {sorted(self.prompts)}"
            )
        return self.prompts[name] if name is not None else ""

    def _with_prompt(self, options, *names):
        if options.get("prompt_name") is None and options.get("prompt") is None:
            options["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return options


def _checked_prompts(prompts):
    if prompts is None:
        return {}
    if not isinstance(prompts, Mapping) or not all(
        isinstance(text, str) for pair in prompts.items() for text in pair
    ):
        raise TypeError(
            f"prompts is {prompts!r:.60}; give a dict from names to texts, such as {{'query': "
            "'query: '}"
        )
    return dict(prompts)
