"""LoRA adapters in PEFT's folder format: merge them into a model, and write them after training."""

import dataclasses
import os
from typing import Any, TypeVar

from jaxtyping import PyTree

from jsbert.checkpoint import CrossEncoderParts, find_folder, merge_adapter, write_adapter
from jsbert.cross_encoder import CrossEncoder
from jsbert.sentence_transformer import SentenceTransformer

Model = TypeVar("Model", SentenceTransformer, CrossEncoder)


def load_adapter(model: Model, folder: str | os.PathLike) -> Model:
    """Merge an adapter into the weights of `model`. Return a new model; everything else is as in
    `model`.

    Each field of peft's LoraConfig, DoRA included, is either supported or refused with an error
    that names the field. Adapters change layers of the encoder, and of a cross-encoder's head. The
    modules behind a bi-encoder's encoder, such as Dense, do not change.

    Args:
        model: the model on which the adapter was trained, in float32.
        folder: a folder with adapter_config.json and adapter_model.safetensors; or a hub name.

    Raises:
        OSError: if a file does not exist.
        ValueError: if the adapter cannot be merged, or tensors do not fit; the message names all
            tensors that do not fit.
    """
    parts, found = model.parts, find_folder(folder)
    if getattr(parts, "router", None) is not None:
        raise ValueError(
            "the model's routes have encoders of their own, and the adapter does not say which it "
            "is for"
        )
    if isinstance(parts, CrossEncoderParts):
        _refuse_answers(parts)
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
    """Write trained low-rank matrices to a folder in PEFT's format. If peft opens the folder on the
    base model, it computes the vectors of the merged encoder.

    The adapter of a cross-encoder includes the head. The adapter of a bi-encoder does not include
    the modules behind the encoder, such as Dense: what training changed there is only in the
    model's folder. `Recipe(frozen=("^head/",))` keeps training from changing these modules.

    Args:
        model: the base model or the merged model, for the names of the layers.
        lora: the matrices, as `train.init_lora` makes them.
        folder: the folder to write.
        alpha: the alpha of the training.
        base: the name of the base model in the adapter: a folder or a hub name.

    Raises:
        OSError: if the folder cannot be written.
    """
    parts = model.parts
    if isinstance(parts, CrossEncoderParts):
        _refuse_answers(parts)
        write_adapter(
            folder, parts.config.encoder, lora, alpha=alpha, head=parts.params["head"], base=base
        )
    else:
        write_adapter(folder, parts.config.encoder, lora, alpha=alpha, base=base)


def _refuse_answers(parts: CrossEncoderParts) -> None:
    if parts.config.answers:
        raise ValueError(
            "adapters of causal language models as rerankers are not supported; merge the adapter "
            "with peft, and open the result"
        )
