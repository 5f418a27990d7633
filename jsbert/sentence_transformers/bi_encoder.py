"""`SentenceTransformer` with the peer's signatures."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jsbert import sentence_transformer
from jsbert.engine import Device
from jsbert.inputs import renamed
from jsbert.outputs import OutputValue
from jsbert.pool import Pool
from jsbert.quantization import Precision
from jsbert.sentence_transformer import Encoded, Texts, with_settings
from jsbert.sentence_transformers.assembly import modules_of, put_together
from jsbert.sentence_transformers.modules import Module
from jsbert.sentence_transformers.options import constructor_options
from jsbert.sentence_transformers.shared import DropIn, check_saving


def _encode_for(task: str) -> Callable[..., Encoded]:
    """Return the method `encode_query` or `encode_document`, with the arguments of `encode`."""

    @renamed("inputs", "sentences")
    def encode_for(
        self: "SentenceTransformer",
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Device | Sequence[Device] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        **options: Any,
    ) -> Encoded:
        options |= {
            "prompt_name": prompt_name,
            "prompt": prompt,
            "batch_size": batch_size,
            "show_progress_bar": show_progress_bar,
            "output_value": output_value,
            "precision": precision,
            "convert_to_numpy": convert_to_numpy,
            "convert_to_tensor": convert_to_tensor,
            "device": device,
            "normalize_embeddings": normalize_embeddings,
            "truncate_dim": truncate_dim,
            "pool": pool,
            "chunk_size": chunk_size,
        }
        method = getattr(sentence_transformer.SentenceTransformer, f"encode_{task}")
        return method(self, inputs, **options)

    encode_for.__name__ = f"encode_{task}"
    encode_for.__qualname__ = f"SentenceTransformer.encode_{task}"
    encode_for.__doc__ = f"Encode for the {task}s; see `jsbert.SentenceTransformer.encode_{task}`."
    return encode_for


class SentenceTransformer(DropIn, sentence_transformer.SentenceTransformer):
    """jsbert's `SentenceTransformer`, whose methods take their arguments in the peer's order.

    `batch_size` is a cap, as in jsbert. "int8" and "uint8" take the ranges of the texts of a call,
    as the peer does.
    """

    @renamed("processor_kwargs", "tokenizer_kwargs")
    def __init__(
        self,
        model_name_or_path: str | os.PathLike | None = None,
        *,
        modules: Sequence[Any] | None = None,
        device: Device | Sequence[Device] | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        use_auth_token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
    ):
        """Open a model; see `jsbert.SentenceTransformer`.

        Args:
            modules: put the model together from these, in place of a folder; see `modules`.
            model_kwargs: "dtype" (or "torch_dtype") and "attn_implementation".
            processor_kwargs: "model_max_length". `tokenizer_kwargs` is another name.
            backend: "torch" and "jax" both mean JAX; "onnx" and "openvino" are jsbert's backends of
                these names, which take only the folder's own weights.

        Raises:
            OSError: if the model or a file does not exist.
            ValueError: if files are broken, and for an option that jsbert does not have:
                trust_remote_code, use_auth_token, config_kwargs, model_card_data, other backends.
            TypeError: if an object of `modules` is no module.
        """
        options, limit = constructor_options(
            model_kwargs,
            processor_kwargs,
            backend,
            trust_remote_code=trust_remote_code,
            use_auth_token=use_auth_token,
            config_kwargs=config_kwargs,
            model_card_data=model_card_data,
        )
        settings: dict[str, Any] = {
            "prompts": prompts,
            "default_prompt_name": default_prompt_name,
            "similarity_fn_name": similarity_fn_name,
            "truncate_dim": truncate_dim,
        }
        if modules is None:
            super().__init__(
                model_name_or_path,
                device=device,
                cache_folder=cache_folder,
                revision=revision,
                local_files_only=local_files_only,
                token=token,
                **settings,
                **options,
            )
        elif model_name_or_path is not None:
            raise ValueError("give model_name_or_path or modules, not both")
        else:
            if options.pop("backend") != "jax":
                raise ValueError(
                    f"modules with backend={backend!r}; save the model, and open its folder with "
                    "that backend"
                )
            parts, own = put_together(modules)
            options = {"dtype": "float32", "attn_implementation": "auto"} | own | options
            changed = with_settings(parts.settings, **settings)
            parts = dataclasses.replace(parts, settings=changed)
            self._set_up_from(parts, device, **options, shard_params=False)
        if limit is not None:
            self.max_seq_length = min(limit, self.max_seq_length)

    @renamed("inputs", "sentences")
    def encode(  # type: ignore[override]
        self,
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Device | Sequence[Device] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        **options: Any,
    ) -> Encoded:
        """Return the vectors of texts; see `jsbert.SentenceTransformer.encode`.

        Args:
            **options: task, ranges and on_truncate, as in jsbert.
        """
        if precision in ("int8", "uint8"):
            options.setdefault("ranges", "batch")
        return super().encode(
            inputs,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            **options,
        )

    encode_query = _encode_for("query")  # type: ignore[assignment]
    encode_document = _encode_for("document")  # type: ignore[assignment]

    def encode_multi_process(
        self,
        sentences: Sequence[str],
        pool: Pool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> np.ndarray:
        """Return `encode(sentences, pool=pool)`, with the arguments in the peer's order."""
        return np.asarray(
            self.encode(
                sentences,
                prompt_name,
                prompt,
                batch_size,
                show_progress_bar,
                precision=precision,
                normalize_embeddings=normalize_embeddings,
                truncate_dim=truncate_dim,
                pool=pool,
                chunk_size=chunk_size,
            )
        )

    def __bool__(self) -> bool:
        return True  # also for a model with routes, which has no length

    def __len__(self) -> int:
        """Return the number of modules."""
        return len(list(modules_of(self)))

    def __getitem__(self, index: int) -> Module:
        """Return a module; see `modules`. A new object each time.

        Raises:
            IndexError: if there is no such module.
            ValueError: if the model has routes.
        """
        return list(modules_of(self))[index]

    def __iter__(self) -> Iterator[Module]:
        """Yield the modules in order."""
        return modules_of(self)

    def is_singular_input(self, inputs: Any) -> bool:
        """Return whether `inputs` is one text."""
        return isinstance(inputs, str)

    def save_pretrained(  # type: ignore[override]
        self,
        path: str | os.PathLike,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model as a folder; see `jsbert.SentenceTransformer.save_pretrained`.

        Raises:
            ValueError: for `model_name` and `train_datasets`, and without `safe_serialization`.
        """
        check_saving(safe_serialization, train_datasets, model_name)
        super().save_pretrained(path, create_model_card=create_model_card)

    save = save_pretrained
