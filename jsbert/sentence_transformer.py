"""The bi-encoder `SentenceTransformer`: texts in, vectors out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

import numpy as np

from jsbert.checkpoint.find import find_folder
from jsbert.engine.truncations import OnTruncate, Truncations
from jsbert.inputs import SIMILARITY_NAMES, as_texts, check_choice, check_positive, renamed
from jsbert.outputs import (
    Encoding,
    OutputValue,
    all_vectors,
    postprocess,
    progress_bar,
    sentence_vectors,
)
from jsbert.pool import Pool, check_pool
from jsbert.quantization import PRECISIONS, Precision, Ranges, quantize_embeddings
from jsbert.runtimes import Backend, Facts, check_options, graph_folder, open_graph
from jsbert.text_model import DTYPES, Dtype, TextModel, resolve_compute

# A model in another runtime does without JAX. What imports JAX is imported where it is needed.
if TYPE_CHECKING:
    import jax
    from jaxtyping import Array, Float, Int
    from tqdm.auto import tqdm

    from jsbert.checkpoint import BiEncoderParts, Settings
    from jsbert.config import Config, Router
    from jsbert.engine import Device

Texts = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | np.ndarray
"""One text or several, each a string or token ids."""

Vectors = Any
"""What becomes a float array: an array of NumPy or JAX, a tensor of torch, or lists of these."""

TextArrays = dict[str, np.ndarray]
"""The arrays of one text: input_ids, attention_mask, token_embeddings, sentence_embedding."""

Encoded: TypeAlias = (
    "np.ndarray | jax.Array | list[np.ndarray] | list[jax.Array] | TextArrays | list[TextArrays]"
)
"""What `encode` can return; the options decide."""


TASK_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""The names of a task's prompt; the first that a model has counts."""

SettingsOrFacts = TypeVar("SettingsOrFacts", bound="Settings | Facts")


class SharedOptions(TypedDict, total=False):
    """The options of `SentenceTransformer.encode` that do not change the type of the result."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | tqdm | None
    precision: Precision
    ranges: Ranges | Literal["batch"] | None
    normalize_embeddings: bool
    truncate_dim: int | None
    on_truncate: OnTruncate
    device: Device | Sequence[Device] | None
    pool: Pool | None
    chunk_size: int | None


class EncodeOptions(SharedOptions, total=False):
    """All options of `SentenceTransformer.encode` except `task`."""

    output_value: OutputValue
    convert_to_numpy: bool
    convert_to_tensor: bool


class ToNumpy(SharedOptions, total=False):
    """The options with which `encode` returns an array of NumPy: the default."""

    output_value: Literal["sentence_embedding"]
    convert_to_numpy: Literal[True]
    convert_to_tensor: Literal[False]


class ToJax(SharedOptions, total=False):
    """The options with which `encode` returns a `jax.Array`."""

    output_value: Literal["sentence_embedding"]
    convert_to_numpy: bool
    convert_to_tensor: Required[Literal[True]]


class ToList(SharedOptions, total=False):
    """The options with which `encode` returns a list of `jax.Array`s; for one text, a
    `jax.Array`."""

    output_value: Literal["sentence_embedding"]
    convert_to_numpy: Required[Literal[False]]
    convert_to_tensor: Literal[False]


class ToTokens(SharedOptions, total=False):
    """The options with which `encode` returns token vectors: a list of arrays; for one text, an
    array."""

    output_value: Required[Literal["token_embeddings"]]
    convert_to_numpy: bool
    convert_to_tensor: bool


class ToDicts(SharedOptions, total=False):
    """The options with which `encode` returns a list of dicts; for one text, a dict."""

    output_value: Required[None]
    convert_to_numpy: bool
    convert_to_tensor: bool


class SentenceTransformer(TextModel):
    """A sentence encoder: `encode` turns texts into vectors that can be compared.

    Names and results follow sentence_transformers.SentenceTransformer. Several threads can call the
    same object.

    Attributes:
        prompts: texts that are put in front of inputs, by name.
        default_prompt_name: the prompt that `encode` uses if the caller gives none.
        truncate_dim: the number of dimensions kept of each vector; None keeps all.
        router: maps a task to the model for its texts, if each route has an encoder of its own;
            else None. This object is itself the model of the default route.
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
        shard_params: bool = False,
        backend: Backend = "jax",
    ):
        """Open a model.

        Args:
            model_name_or_path: a folder in the sentence-transformers or HuggingFace layout, a
                bundled model's name or a hub name. A hub name without a slash belongs to the
                organisation "sentence-transformers", except names such as "bert-base-uncased". None
                is the default model.
            device: "cpu", "gpu", "cuda", "cuda:1", "tpu", a `jax.Device`, or a list of these; each
                batch is spread over the devices of a list. By default JAX's first device.
            prompts: prompts by name, added to the folder's.
            default_prompt_name: overrides the folder's.
            similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; overrides the folder's.
            truncate_dim: keep this many dimensions of each vector; overrides the folder's.
            cache_folder: where hub files are kept.
            revision: branch, tag or commit on the Hub.
            token: hub token, or True for the stored one.
            local_files_only: take hub files only from the cache.
            dtype: the dtype of the matrix products. "bfloat16" keeps statistics, softmax and
                pooling in float32. "int8" holds the matrices in int8 with a scale for each column,
                and rounds the other factor to int8 with a scale for each token. "auto" is
                "bfloat16" if the device has instructions for it, else "float32".
            pooling: pooling modes; overrides the folder's. See `jsbert.pooling.POOLINGS`.
            attn_implementation: "eager", "xla", or "cudnn" (on NVIDIA GPUs and not in float32); see
                `jsbert.compute.ATTENTIONS`.
            shard_params: cut the matrices over the devices of a list, for a model that is too large
                for one device. Each layer's matrices are gathered when the layer is computed.
            backend: "jax"; or "onnx" or "openvino", with which onnxruntime or OpenVINO computes the
                graph of the model on the CPU. The first opening writes the graph to the user's
                cache folder; later ones do without JAX. "onnx" takes "int8" by onnxruntime's own
                quantisation, and "openvino" takes "bfloat16". Such a model encodes; all that needs
                the params raises.

        Raises:
            ImportError: if the packages of the backend are missing.
            OSError: if the model or a file does not exist.
            ValueError: if files are broken or contradict each other, or an option does not exist.
        """
        check_choice("dtype", dtype, DTYPES)
        check_options(backend, dtype, device, attn_implementation, shard_params)
        folder = find_folder(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        settings: dict[str, Any] = {
            "prompts": prompts,
            "default_prompt_name": default_prompt_name,
            "similarity_fn_name": similarity_fn_name,
            "truncate_dim": truncate_dim,
        }
        if backend != "jax":
            graph = graph_folder(
                folder,
                {"pooling": pooling},
                lambda: SentenceTransformer(folder, pooling=pooling, device="cpu"),
            )
            facts, self.engine = open_graph(graph, backend, dtype)  # type: ignore[assignment]
            self._encoder = facts  # type: ignore[assignment]  # it stands in for the config
            self._config: Config | Facts = facts
            self._set_settings(with_settings(facts, **settings))
            self.router = None
            return
        from jsbert.checkpoint import read_bi_encoder

        parts = read_bi_encoder(folder, pooling=pooling)
        parts = dataclasses.replace(parts, settings=with_settings(parts.settings, **settings))
        self._set_up_from(parts, device, dtype, attn_implementation, shard_params)

    @classmethod
    def from_parts(
        cls,
        parts: BiEncoderParts,
        *,
        device: Device | Sequence[Device] | None = None,
        dtype: str = "float32",
        attn_implementation: str = "auto",
        shard_params: bool = False,
    ) -> SentenceTransformer:
        """Make the object from config, params and tokenizer that were made elsewhere."""
        check_choice("dtype", dtype, DTYPES)
        model = cls.__new__(cls)
        model._set_up_from(parts, device, dtype, attn_implementation, shard_params)
        return model

    def _set_up_from(
        self,
        parts: BiEncoderParts,
        device: Device | Sequence[Device] | None,
        dtype: str,
        attn_implementation: str,
        shard_params: bool,
    ) -> None:
        self._set_settings(parts.settings)
        encoder, devices = resolve_compute(parts.config.encoder, device, dtype, attn_implementation)
        self._config = dataclasses.replace(parts.config, encoder=encoder)
        self._set_up(encoder, parts.params, parts.tokenizer, devices, shard_params)

        # A router's routes are parts: make a model of each, except of this object's own parts.
        def model(route: BiEncoderParts) -> SentenceTransformer:
            if route.params is parts.params:
                return self
            return self.from_parts(
                route,
                device=device,
                dtype=dtype,
                attn_implementation=attn_implementation,
                shard_params=shard_params,
            )

        self.router = None if parts.router is None else parts.router.map(model)

    def _set_settings(self, settings: Settings | Facts) -> None:
        """Take prompts and the like. Raise ValueError if they contradict each other."""
        if (
            settings.default_prompt_name is not None
            and settings.default_prompt_name not in settings.prompts
        ):
            raise ValueError(
                f"default_prompt_name {settings.default_prompt_name!r} is not in the prompts "
                f"{sorted(settings.prompts)}"
            )
        self.prompts = dict(settings.prompts)
        self.default_prompt_name = settings.default_prompt_name
        self.similarity_fn_name = settings.similarity_fn_name
        check_positive("truncate_dim", settings.truncate_dim)
        self.truncate_dim = settings.truncate_dim

    def __repr__(self) -> str:
        routes = (
            []
            if self.router is None
            else [f"routes {', '.join(name for name, _ in self.router.routes)}"]
        )
        dimensions = f"{self.get_embedding_dimension()} dimensions"
        return self._described(self.description, *routes, dimensions)

    @property
    def description(self) -> str:
        """Pooling and modules, for people."""
        if isinstance(self._config, Facts):
            return self._config.description
        modules = [type(module).__name__ for module in self.config.modules]
        return " + ".join(["+".join(self.config.pooling), *modules])

    @property
    def config(self) -> Config:
        """The config for the pure functions, which take `params` too. Cannot be set: make another
        model instead.

        Raises:
            ValueError: for a model in another runtime than JAX.
        """
        self._need_jax("config")
        return self._config  # type: ignore[return-value]  # `Facts` are for other runtimes

    @overload
    def encode(
        self, inputs: Texts, *, task: str | None = None, **options: Unpack[ToNumpy]
    ) -> np.ndarray: ...
    @overload
    def encode(
        self, inputs: Texts, *, task: str | None = None, **options: Unpack[ToJax]
    ) -> jax.Array: ...
    @overload
    def encode(
        self, inputs: Texts, *, task: str | None = None, **options: Unpack[ToList]
    ) -> jax.Array | list[jax.Array]: ...
    @overload
    def encode(
        self, inputs: Texts, *, task: str | None = None, **options: Unpack[ToTokens]
    ) -> np.ndarray | list[np.ndarray]: ...
    @overload
    def encode(
        self, inputs: Texts, *, task: str | None = None, **options: Unpack[ToDicts]
    ) -> TextArrays | list[TextArrays]: ...
    @overload
    def encode(
        self, inputs: Texts, *, task: str | None = None, **options: Unpack[EncodeOptions]
    ) -> Encoded: ...
    @renamed("inputs", "sentences")
    def encode(
        self,
        inputs: Texts,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | tqdm | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        ranges: Ranges | Literal["batch"] | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        on_truncate: OnTruncate = "warn",
        task: str | None = None,
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
    ) -> Encoded:
        """Return the vectors of texts.

        Args:
            inputs: one text or several: a list, an array, or a column of pandas, polars, pyarrow or
                datasets. A text is a string, or token ids. Token ids include the special tokens and
                are used unchanged. `sentences` is another name of this argument.
            prompt_name: name of the prompt to put in front of each text.
            prompt: the prompt itself; overrides `prompt_name`.
            batch_size: cap on the rows of a batch; None leaves the size to a budget of tokens.
            show_progress_bar: show the number of texts done and the time left; or a bar of tqdm
                that the call moves on.
            output_value: "sentence_embedding" for the sentence vectors; "token_embeddings" for the
                token vectors; None for a dict of both, with token ids and mask.
            precision: "float32", or codes: "int8" and "uint8" take a byte for each dimension,
                "binary" and "ubinary" a bit; see `jsbert.quantization`. Vectors are truncated, then
                normalised, then coded.
            ranges: for "int8" and "uint8": the lowest and the highest value of each dimension, (2,
                D). `jsbert.quantization.calibration_ranges` computes them from vectors that are
                truncated and normalised in the same way. "batch" takes the ranges of `inputs`.
            convert_to_numpy: False returns a list of vectors, each a `jax.Array`.
            convert_to_tensor: return a `jax.Array`.
            normalize_embeddings: scale the sentence vectors to length 1. This applies with
                `output_value` None too, unlike in sentence-transformers. Token vectors are never
                scaled.
            truncate_dim: keep this many dimensions, before normalising; by default the model's
                `truncate_dim`.
            on_truncate: what to do if texts are longer than `max_seq_length`: "warn" gives one
                warning with the number of such texts, "error" raises, "ignore" does nothing.
            task: chooses the route of a model that has a Router; other models ignore it.
            device: the model's own devices; a model on other devices is another model.
            pool: processes of `start_multi_process_pool`, which encode in place of this one.
            chunk_size: with `pool`: texts that a process gets at a time.

        Returns:
            Sentence vectors: (D,) float32 for one text, (N, D) for several in their order, (0, D)
            for none; codes with another `precision`. With "token_embeddings" an array (L, D) for
            one text, a list of arrays for several. With None a dict (input_ids, attention_mask,
            token_embeddings, sentence_embedding) for one text, a list of dicts for several.

        Raises:
            TypeError: if an input is no text.
            ValueError: if an option, a prompt name or a route does not exist, if a text is invalid
                Unicode, or if token ids are out of range.
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
        self._check_device(device)
        check_positive("chunk_size", chunk_size)
        check_pool(pool)
        texts, is_single = as_texts(inputs)
        # Encode. With ranges="batch" the vectors stay in float32 until all of them are known.
        code_later = isinstance(ranges, str) and precision != "float32"
        encoding = self._encoding(
            task,
            prompt=self._resolve_prompt(prompt, prompt_name),
            batch_size=batch_size,
            output_value=output_value,
            precision="float32" if isinstance(ranges, str) else precision,
            ranges=None if isinstance(ranges, str) else ranges,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim,
            on_truncate=on_truncate,
        )
        with progress_bar(len(texts), "encode", "text", show_progress_bar) as progress:
            if pool is None or not texts:
                found = encoding.of(texts, progress=progress)
            else:
                options = {
                    "prompt": encoding.prompt,
                    "batch_size": batch_size,
                    "output_value": output_value,
                    "precision": "float32" if code_later else precision,
                    "ranges": None if isinstance(ranges, str) else ranges,
                    "normalize_embeddings": normalize_embeddings,
                    "truncate_dim": truncate_dim or self.truncate_dim,
                    "on_truncate": on_truncate,
                    "task": task,
                }
                found = pool.map("encode", texts, options, chunk_size)
        # Convert the vectors to what the caller asked for.
        found = quantize_embeddings(found, precision, ranges) if code_later else found
        encoding.truncations.warn(stacklevel=3)
        if output_value == "sentence_embedding" and (convert_to_tensor or not convert_to_numpy):
            import jax

            found = jax.device_put(found, self.devices[0] if self.backend == "jax" else None)
            found = found if convert_to_tensor else list(found)
        return found[0] if is_single else found

    @overload
    def encode_query(self, inputs: Texts, **options: Unpack[ToNumpy]) -> np.ndarray: ...
    @overload
    def encode_query(self, inputs: Texts, **options: Unpack[ToJax]) -> jax.Array: ...
    @overload
    def encode_query(
        self, inputs: Texts, **options: Unpack[ToList]
    ) -> jax.Array | list[jax.Array]: ...
    @overload
    def encode_query(
        self, inputs: Texts, **options: Unpack[ToTokens]
    ) -> np.ndarray | list[np.ndarray]: ...
    @overload
    def encode_query(
        self, inputs: Texts, **options: Unpack[ToDicts]
    ) -> TextArrays | list[TextArrays]: ...
    @overload
    def encode_query(self, inputs: Texts, **options: Unpack[EncodeOptions]) -> Encoded: ...
    @renamed("inputs", "sentences")
    def encode_query(self, inputs: Texts, **options: Unpack[EncodeOptions]) -> Encoded:
        """Call `encode` for the task "query", with the prompt of that name unless the caller gives
        another."""
        return self.encode(
            inputs, **self._with_prompt(options, *TASK_PROMPTS["query"]), task="query"
        )

    @overload
    def encode_document(self, inputs: Texts, **options: Unpack[ToNumpy]) -> np.ndarray: ...
    @overload
    def encode_document(self, inputs: Texts, **options: Unpack[ToJax]) -> jax.Array: ...
    @overload
    def encode_document(
        self, inputs: Texts, **options: Unpack[ToList]
    ) -> jax.Array | list[jax.Array]: ...
    @overload
    def encode_document(
        self, inputs: Texts, **options: Unpack[ToTokens]
    ) -> np.ndarray | list[np.ndarray]: ...
    @overload
    def encode_document(
        self, inputs: Texts, **options: Unpack[ToDicts]
    ) -> TextArrays | list[TextArrays]: ...
    @overload
    def encode_document(self, inputs: Texts, **options: Unpack[EncodeOptions]) -> Encoded: ...
    @renamed("inputs", "sentences")
    def encode_document(self, inputs: Texts, **options: Unpack[EncodeOptions]) -> Encoded:
        """Call `encode` for the task "document", with the prompt of that name unless the caller
        gives another.

        The constructor gives a model the prompts "query" and "document". They are empty unless the
        folder or the caller defines them. An empty prompt is used too: `default_prompt_name` does
        not replace it. If `prompts` has no "document", the prompt is "passage", then "corpus".
        """
        return self.encode(
            inputs,
            **self._with_prompt(options, *TASK_PROMPTS["document"]),
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
        """Yield the vector of each text of an iterable, in order and in constant memory. The
        iterable may be endless.

        Args:
            sentences: texts.
            chunk_size: the number of texts read, sorted and batched together. The next chunk is
                read only after the vectors of a chunk were yielded.
            on_truncate: as in `encode`; the warning comes when the iterable or the iteration ends.

        The other options and the errors are those of `encode`. A wrong option raises at the call,
        not at the first vector.
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

        def vectors() -> Iterator[Float[np.ndarray, " dim"]]:
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
        """Return padded `input_ids` and `attention_mask`, each (B, L) int32, where L is the longest
        length. The pure functions take them as ids and mask."""
        texts, _ = as_texts(texts)
        return self._padded(texts)

    def similarity(
        self, embeddings1: Vectors, embeddings2: Vectors
    ) -> Float[Array, "rows columns"]:
        """Return the model's similarity of each row of `embeddings1` with each row of
        `embeddings2`: cosine, unless `similarity_fn_name` is another. Takes arrays of NumPy and
        JAX, tensors of torch, and lists of these."""
        from jsbert.similarity import SIMILARITIES

        return SIMILARITIES[self.similarity_fn_name][0](embeddings1, embeddings2)

    def similarity_pairwise(
        self, embeddings1: Vectors, embeddings2: Vectors
    ) -> Float[Array, " rows"]:
        """Return the model's similarity of embeddings1[i] with embeddings2[i] for each i."""
        from jsbert.similarity import SIMILARITIES

        return SIMILARITIES[self.similarity_fn_name][1](embeddings1, embeddings2)

    @property
    def similarity_fn_name(self) -> str:
        """The similarity's name: "cosine", "dot", "euclidean" or "manhattan". Can be set."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str | None) -> None:
        check_choice("similarity_fn_name", name, (*SIMILARITY_NAMES, None))
        self._similarity_fn_name = name or "cosine"

    def get_embedding_dimension(self) -> int:
        """Return the length of the vectors that `encode` returns."""
        whole = self._config.embedding_dimension
        return min(whole, self.truncate_dim or whole)

    get_sentence_embedding_dimension = get_embedding_dimension

    @contextlib.contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within a `with` block, keep `truncate_dim` dimensions of each vector, or all for None.

        Other threads that use the model meanwhile get vectors of that width, too.
        """
        check_positive("truncate_dim", truncate_dim)
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Set whether the prompt's tokens take part in the pooling, on all routes."""
        if not isinstance(include_prompt, bool):
            raise TypeError(f"include_prompt is {include_prompt!r}; give True or False")
        self._need_jax("set_pooling_include_prompt")
        models = [self] if self.router is None else [model for _, model in self.router.routes]
        for model in models:
            model._config = dataclasses.replace(model._config, include_prompt=include_prompt)

    def warmup(self, lengths: Sequence[int] | None = None, *, task: str | None = None) -> int:
        """Compile the programs that `encode` with that `task` will use, for texts of `lengths`
        tokens or of every length. Return `num_compilations`."""
        encoding = self._encoding(task)
        encoding.engine.warmup(encoding.function, lengths, packs=True, scalars=encoding.scalars)
        return encoding.engine.num_compilations

    def save_pretrained(self, path: str | os.PathLike, *, create_model_card: bool = True) -> None:
        """Write the model as a folder that sentence-transformers opens with the same vectors. An
        error leaves no half-written folder.

        Weights are written in float32; a bfloat16 or int8 model writes the rounded values that it
        computes with. A README.md is written if there is none, unless `create_model_card` is False.
        """
        from jsbert.checkpoint import write_bi_encoder

        write_bi_encoder(path, self.parts, create_model_card=create_model_card)

    save = save_pretrained

    @property
    def parts(self) -> BiEncoderParts:
        """Config, params (in float32), tokenizer and settings, as `from_parts` takes them."""
        from jsbert.checkpoint import BiEncoderParts, Settings
        from jsbert.compute import Compute

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
        ranges: Ranges | None = None,
        normalize: bool = False,
        truncate_dim: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> Encoding:
        """Check the options of a call, and choose the model and the route for the texts of
        `task`."""
        check_positive("batch_size", batch_size)
        check_positive("truncate_dim", truncate_dim)
        model = self if self.router is None else self.router.route(task)
        config = model._config.for_task(task)
        dimension = min(
            truncate_dim or self.truncate_dim or config.embedding_dimension,
            config.embedding_dimension,
        )
        return Encoding(
            engine=model.engine,
            params=model.engine.params,
            config=config,
            function=_function(config, output_value),
            postprocess=postprocess(config, dimension, normalize, precision, ranges),
            output_value=output_value,
            prompt=prompt,
            batch_size=batch_size,
            truncations=Truncations(on_truncate, model.max_seq_length),
        )

    def _with_prompt(self, options: EncodeOptions, *names: str) -> EncodeOptions:
        """Choose the first prompt in `names` that the model has, unless the caller chose one."""
        if options.get("prompt_name") is None and options.get("prompt") is None:
            options["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return options


def with_settings(
    settings: SettingsOrFacts,
    *,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    similarity_fn_name: str | None = None,
    truncate_dim: int | None = None,
) -> SettingsOrFacts:
    """Return the settings of a folder with the options of a caller in place of them; None keeps the
    folder's. The prompts are joined, and "query" and "document" are always there.

    Raises:
        TypeError: if the prompts do not map strings to strings.
    """
    given: dict[str, Any] = {
        "prompts": {"query": "", "document": ""}
        | dict(settings.prompts)
        | _checked_prompts(prompts),
        "default_prompt_name": default_prompt_name,
        "similarity_fn_name": similarity_fn_name,
        "truncate_dim": truncate_dim,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(settings, **given)


def _function(config: Config | Facts, output_value: OutputValue) -> Any:
    """What the model's engine computes for `output_value`."""
    if isinstance(config, Facts):
        both = ("sentence_embedding", "token_embeddings")
        return both[:1] if output_value == "sentence_embedding" else both
    return (sentence_vectors if output_value == "sentence_embedding" else all_vectors)(config)


def _checked_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """Return `prompts` as a dict. Raise TypeError unless they map strings to strings."""
    if prompts is None:
        return {}
    if not isinstance(prompts, Mapping) or not all(
        isinstance(text, str) for pair in prompts.items() for text in pair
    ):
        raise TypeError(
            f"prompts is {prompts!r:.60}; give a dict from names to texts, such as "
            "{'query': 'query: '}"
        )
    return dict(prompts)
