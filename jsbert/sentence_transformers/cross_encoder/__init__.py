"""`CrossEncoder` with the peer's signatures."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jsbert import cross_encoder
from jsbert.cross_encoder import Pairs, Scores
from jsbert.engine import Device
from jsbert.inputs import renamed
from jsbert.pool import Pool
from jsbert.sentence_transformers.missing import CARD, raise_for, refuse
from jsbert.sentence_transformers.options import activation_of, constructor_options
from jsbert.sentence_transformers.shared import DropIn, check_saving

Activation = str | Callable[[jax.Array], jax.Array]
"""A name of `jsbert.activations.ACTIVATIONS`, a function of the logits, or an activation of torch,
whose class counts."""

WAYS = {"modules": "CrossEncoder.from_parts takes config and params"}


class CrossEncoder(DropIn, cross_encoder.CrossEncoder):
    """jsbert's `CrossEncoder`, whose methods take their arguments in the peer's order."""

    @renamed("model_name_or_path", "model_name")
    @renamed("processor_kwargs", "tokenizer_kwargs")
    @renamed("model_kwargs", "automodel_args")
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
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        keep_in_fp32_modules: Sequence[str] | None = None,
    ):
        """Open a model; see `jsbert.CrossEncoder`. The further options are those of
        `jsbert.sentence_transformers.SentenceTransformer`.

        Raises:
            OSError: if the model or a file does not exist.
            ValueError: if files are broken, and for an option that jsbert does not have.
        """
        if model_name_or_path is None:
            raise ValueError("model_name_or_path is None; give a folder or a hub name")
        refuse("the model", {"modules": modules}, WAYS)
        options, limit = constructor_options(
            model_kwargs,
            processor_kwargs,
            backend,
            trust_remote_code=trust_remote_code,
            config_kwargs=config_kwargs,
            model_card_data=model_card_data,
            keep_in_fp32_modules=keep_in_fp32_modules,
        )
        super().__init__(
            model_name_or_path,
            device=device,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            num_labels=num_labels,
            max_length=max_length if max_length is not None else limit,
            activation_fn=_activation(activation_fn),
            prompts=prompts,
            default_prompt_name=default_prompt_name,
            **options,
        )

    @renamed("inputs", "sentences", "pairs")
    def predict(  # type: ignore[override]
        self,
        inputs: Pairs | tuple[str, str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        **options: Any,
    ) -> Scores:
        """Return the scores of pairs; see `jsbert.CrossEncoder.predict`.

        Args:
            **options: on_truncate, as in jsbert.
        """
        return super().predict(
            inputs,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            activation_fn=_activation(activation_fn),
            apply_softmax=bool(apply_softmax),
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            **options,
        )

    def rank(  # type: ignore[override]
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
    ) -> list[dict[str, Any]]:
        """Sort documents by their score with the query; see `jsbert.CrossEncoder.rank`."""
        return super().rank(
            query,
            documents,
            top_k,
            return_documents,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            activation_fn=_activation(activation_fn),
            device=device,
            pool=pool,
            chunk_size=chunk_size,
        )

    def is_singular_input(self, inputs: Any) -> bool:
        """Return whether `inputs` is one pair of texts."""
        return len(inputs) == 2 and all(isinstance(text, str) for text in inputs)

    def get_default_activation_fn(self) -> str:
        """Return the name of the model's activation."""
        return self.activation_fn

    @property
    def default_activation_function(self) -> str:
        """The name of the model's activation."""
        return self.activation_fn

    def save_pretrained(  # type: ignore[override]
        self,
        path: str | os.PathLike,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model as a folder; see `jsbert.CrossEncoder.save_pretrained`.

        Raises:
            ValueError: for `model_name` and `train_datasets`, and without `safe_serialization`.
        """
        check_saving(safe_serialization, train_datasets, model_name)
        super().save_pretrained(path, create_model_card=create_model_card)

    save = save_pretrained


def _activation(activation: Activation | None) -> Any:
    """Return what jsbert takes: an activation of torch becomes its name."""
    if type(activation).__module__.startswith("torch."):
        return activation_of(activation)
    return activation


_LAZY = {"CrossEncoderTrainer": "trainer", "CrossEncoderTrainingArguments": "training_args"}

_missing = raise_for(
    __name__,
    {
        "CrossEncoderDataCollator": "the trainer puts batches together itself",
        "CrossEncoderModelCardData": CARD,
    },
)


def __getattr__(name: str) -> Any:
    if name in ("evaluation", "losses"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _LAZY:
        return _missing(name)
    return getattr(importlib.import_module(f"jsbert.sentence_transformers.{_LAZY[name]}"), name)
