"""LoRA adapters in PEFT's folder format: put on a model, and written after training."""

import dataclasses
import os
from typing import Any, TypeVar

from jaxtyping import PyTree

from jsbert.checkpoint import CrossEncoderParts, find_folder, merge_adapter, write_adapter
from jsbert.cross_encoder import CrossEncoder
from jsbert.sentence_transformer import SentenceTransformer

Model = TypeVar("Model", SentenceTransformer, CrossEncoder)


def load_adapter(model: Model, folder: str | os.PathLike) -> Model:
    """A new model, with an adapter merged into the weights of `model`; everything else is as there.

    What peft's LoraConfig can ask for is done, DoRA included, or refused with the field's name.
    Adapters are for layers of the encoder, and of a cross-encoder's head; what is behind a
    bi-encoder's encoder (Dense, say) stays as it is.

    Args:
        model: what the adapter was trained on, in float32.
        folder: with adapter_config.json and adapter_model.safetensors; or a hub name.

    Raises:
        OSError: for files that are not there.
        ValueError: for an adapter that cannot be merged; for tensors that do not fit, with all
            their names.
    """
    parts, found = model.parts, find_folder(folder)
    if getattr(parts, "router", None) is not None:
        raise ValueError(
            "the model's routes have encoders of their own, and the adapter does not say which it "
            "is for"
        )
    if isinstance(parts, CrossEncoderParts):
        params = merge_adapter(parts.config.encoder, parts.params, found, head=True)
    else:
        params = parts.params | {
            "encoder": merge_adapter(parts.config.encoder, parts.params["encoder"], found)
        }
    computed_as: dict[str, Any] = {
        "device": model.devices,
        "dtype": model.dtype,
        "attn_implementation": model.config.encoder.compute.attn_implementation,
    }
    return type(model).from_parts(dataclasses.replace(parts, params=params), **computed_as)


def save_adapter(
    model: SentenceTransformer | CrossEncoder,
    lora: PyTree,
    folder: str | os.PathLike,
    *,
    alpha: float,
    base: str | None = None,
) -> None:
    """Writes trained low-rank matrices as a folder that peft opens on the base model with the
    merged encoder's vectors.

    Of a cross-encoder the head goes along. Of a bi-encoder nothing behind the encoder does: what
    training changed there, in a Dense module, say, is in the model's folder alone
    (`Recipe(frozen=("^head/",))` leaves it as it was).

    Args:
        model: the base model or the merged one, for the layers' names.
        lora: the matrices, as `train.init_lora` makes them.
        folder: where to.
        alpha: that of the training.
        base: what the adapter calls its base model: a folder or a hub name.

    Raises:
        OSError: if the folder cannot be written.
    """
    parts = model.parts
    if isinstance(parts, CrossEncoderParts):
        write_adapter(
            folder, parts.config.encoder, lora, alpha=alpha, head=parts.params["head"], base=base
        )
    else:
        write_adapter(folder, parts.config.encoder, lora, alpha=alpha, base=base)
