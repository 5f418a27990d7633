"""What the drop-in's two objects share: methods of the peer, and names that jsbert lacks."""

import os
from typing import Any, Self

from jsbert.sentence_transformers.missing import CARD, TRAIN, refuse
from jsbert.text_model import TextModel

_ADAPTER = "jsbert.adapters.load_adapter merges an adapter, and Recipe(lora=...) trains one"
_DEVICE = "open the model with device="
_PURE = "call the pure functions of jsbert.siamese and jsbert.cross with config and params"
_DTYPE = "open the model with model_kwargs={'dtype': 'bfloat16'}"

WAYS = {
    "active_adapter": _ADAPTER,
    "active_adapters": _ADAPTER,
    "add_adapter": _ADAPTER,
    "check_peft_compatible_model": _ADAPTER,
    "delete_adapter": _ADAPTER,
    "disable_adapters": _ADAPTER,
    "enable_adapters": _ADAPTER,
    "get_adapter_state_dict": _ADAPTER,
    "has_peft_compatible_model": _ADAPTER,
    "load_adapter": _ADAPTER,
    "set_adapter": _ADAPTER,
    "clear_placement_cache": "there is no such cache",
    "compile": "jsbert compiles each program at its first use; warmup() compiles all of them",
    "cpu": _DEVICE,
    "cuda": _DEVICE,
    "to": _DEVICE,
    "fit": TRAIN,
    "old_fit": TRAIN,
    "smart_batching_collate": TRAIN,
    "smart_batching_collate_text_only": TRAIN,
    "forward": _PURE,
    "get_sentence_features": _PURE,
    "model": _PURE,
    "half": _DTYPE,
    "float": _DTYPE,
    "bfloat16": _DTYPE,
    "train": TRAIN,
    "requires_grad_": "train with jsbert.train and Recipe(frozen=...)",
    "named_parameters": "model.params is the tree of params",
    "parameters": "model.params is the tree of params",
    "state_dict": "model.params is the tree of params",
    "preprocess": "model.tokenize pads and returns arrays",
    "transformers_model": _PURE,
    "gradient_checkpointing_enable": "train with Recipe(remat=True)",
    "merge": "average the trees of model.params with jax.tree.map",
    "model_card_data_class": CARD,
    "set_keep_in_fp32_modules": "bfloat16 models keep statistics, softmax and heads in float32",
}
"""For each public name of the peer's objects that jsbert does not have, what to use."""


class DropIn(TextModel):
    """Methods that both of the peer's objects have."""

    def __getattr__(self, name: str) -> Any:
        if name in WAYS:
            raise AttributeError(f"{type(self).__name__} has no {name}: {WAYS[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Raise TypeError: the forward pass is in pure functions."""
        raise TypeError(f"a {type(self).__name__} cannot be called; {_PURE}")

    @classmethod
    def load(cls, input_path: str) -> Self:
        """Open a folder."""
        return cls(input_path)  # type: ignore[call-arg]  # the two objects take it

    @property
    def processor(self) -> Any:
        """The tokenizer."""
        return self.tokenizer

    @property
    def modalities(self) -> list[str]:
        """What the model reads: text."""
        return ["text"]

    def supports(self, modality: str | tuple[str, ...]) -> bool:
        """Return whether the model reads `modality`: only "text" is read."""
        return modality == "text"

    def get_backend(self) -> str:
        """Return "jax", "onnx" or "openvino"."""
        return self.backend

    def get_model_kwargs(self) -> list[str]:
        """Return the names of further arguments of the forward pass: none."""
        return []

    def eval(self) -> Self:
        """Return the model, which never drops out."""
        return self

    def save_to_hub(
        self,
        repo_id: str,
        organization: str | None = None,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str = "Add new model.",
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
    ) -> str:
        """Call `push_to_hub`, under its former name."""
        return self.push_to_hub(
            f"{organization}/{repo_id}" if organization and "/" not in repo_id else repo_id,
            token,
            private,
            safe_serialization,
            commit_message,
            local_model_path,
            exist_ok,
            replace_model_card,
            train_datasets,
        )

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Save the model to the Hugging Face Hub. Return the address of the commit.

        Raises:
            ValueError: for `local_model_path` and `train_datasets`, and without
                `safe_serialization`.
            OSError: if the Hub refuses the model or cannot be reached.
        """
        check_saving(safe_serialization, train_datasets)
        given = {"local_model_path": local_model_path}
        refuse("push_to_hub", given, {"local_model_path": "open that folder first"})
        return super().push_to_hub(
            repo_id,
            token=token,
            private=private,
            commit_message=commit_message,
            exist_ok=exist_ok,
            replace_model_card=replace_model_card,
            revision=revision,
            create_pr=create_pr,
        )


def check_saving(
    safe_serialization: bool,
    train_datasets: list[str] | None,
    model_name: str | os.PathLike | None = None,
) -> None:
    """Raise ValueError for options of saving that jsbert does not have."""
    if not safe_serialization:
        raise ValueError("safe_serialization=False is not supported; jsbert writes safetensors")
    given = {"train_datasets": train_datasets, "model_name": model_name}
    refuse("the model card", given, dict.fromkeys(given, "edit the card README.md"))
