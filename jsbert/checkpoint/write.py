"""Configs, params and tokenizers to model folders that sentence-transformers opens."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

from jsbert.checkpoint.classifier import CrossEncoderParts
from jsbert.checkpoint.read import DENSE_NAMES, LEGACY_POOLING_KEYS, BiEncoder
from jsbert.checkpoint.tensors import from_params, write_tensors
from jsbert.config import Dense
from jsbert.encoders import class_name, family, tensor_names

TORCH_ACTIVATIONS = {
    "identity": "torch.nn.modules.linear.Identity",
    "gelu": "torch.nn.modules.activation.GELU",
    "relu": "torch.nn.modules.activation.ReLU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "silu": "torch.nn.modules.activation.SiLU",
    "swish": "torch.nn.modules.activation.SiLU",
    "tanh": "torch.nn.modules.activation.Tanh",
}
"""The torch class that a folder's json names for each activation."""


def write_bi_encoder(folder: str | os.PathLike, model: BiEncoder) -> None:
    """Writes a sentence-transformers folder: float32 weights under HuggingFace names, tokenizer, configs.

    All files are complete before the first reaches `folder`; an existing folder keeps its other files.

    Raises:
        OSError: if the folder cannot be written.
    """
    config, settings = model.config, model.settings
    with _staged(folder) as staging:
        values = {"architectures": [class_name(config.encoder) + "Model"]} | config.encoder.to_json()
        _write_trunk(staging, values, from_params(model.params["encoder"], tensor_names(config.encoder)))
        model.tokenizer.save(staging)
        _write_json(
            staging / "sentence_bert_config.json",
            {"max_seq_length": model.tokenizer.max_length, "do_lower_case": model.do_lower_case},
        )
        _write_json(
            staging / "config_sentence_transformers.json",
            {
                "__version__": _version(),
                "model_type": "SentenceTransformer",
                "prompts": dict(settings.prompts),
                "default_prompt_name": settings.default_prompt_name,
                "similarity_fn_name": settings.similarity_fn_name,
            }
            | ({"truncate_dim": settings.truncate_dim} if settings.truncate_dim is not None else {}),
        )
        pooling = staging / "1_Pooling"
        pooling.mkdir()
        _write_json(pooling / "config.json", _pooling_json(config))
        modules = ["Transformer", "Pooling"]
        for index, module in enumerate(config.head):
            modules.append(type(module).__name__)
            path = staging / f"{len(modules) - 1}_{modules[-1]}"
            path.mkdir()
            if isinstance(module, Dense):
                _write_dense(path, module, model.params["head"][index])
            else:
                _write_json(path / "config.json", {})
        _write_json(
            staging / "modules.json",
            [
                {
                    "idx": i,
                    "name": str(i),
                    "path": f"{i}_{kind}" if i else "",
                    "type": f"sentence_transformers.models.{kind}",
                }
                for i, kind in enumerate(modules)
            ],
        )


def write_cross_encoder(folder: str | os.PathLike, model: CrossEncoderParts) -> None:
    """Writes a folder that sentence-transformers' CrossEncoder and transformers' class for sequence classification
    open.

    Raises:
        OSError: if the folder cannot be written.
    """
    module = family(model.config)
    names = {("encoder", *path): module.PREFIX + name for path, name in tensor_names(model.config).items()}
    names |= {("head", *path): name for path, name in module.head(model.config).tensor_names().items()}
    activation = _torch_activation(model.activation)
    values = model.config.to_json() | {
        "architectures": [class_name(model.config) + "ForSequenceClassification"],
        "id2label": {str(i): f"LABEL_{i}" for i in range(model.num_labels)},
        "label2id": {f"LABEL_{i}": i for i in range(model.num_labels)},
        "sentence_transformers": {"activation_fn": activation},
    }
    with _staged(folder) as staging:
        _write_trunk(staging, values, from_params(model.params, names))
        model.tokenizer.save(staging)
        file = staging / "tokenizer_config.json"  # the limit's only place for transformers
        settings = json.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
        _write_json(file, settings | {"model_max_length": model.tokenizer.max_length})
        _write_json(
            staging / "sentence_bert_config.json",
            {
                "transformer_task": "sequence-classification",
                "max_seq_length": model.tokenizer.max_length,
                "do_lower_case": model.do_lower_case,
            },
        )
        _write_json(
            staging / "config_sentence_transformers.json",
            {"__version__": _version(), "model_type": "CrossEncoder", "activation_fn": activation},
        )
        kind = "sentence_transformers.base.modules.transformer.Transformer"
        _write_json(staging / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": kind}])


@contextlib.contextmanager
def _staged(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A folder beside `folder` to write into, moved to it when all is written, and removed if anything fails."""
    target = pathlib.Path(folder).expanduser().absolute()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give a folder to write the model to")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    try:
        yield staging
        if not target.exists():
            staging.rename(target)
            return
        files = [path.relative_to(staging) for path in sorted(staging.rglob("*")) if path.is_file()]
        for file in files:  # all that can be known to fail fails before the first file is replaced
            if (target / file).is_dir() or not os.access(target, os.W_OK):
                raise IsADirectoryError(
                    f"{target / file} is a folder or cannot be written; the model needs a file there"
                )
            (target / file).parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            (staging / file).replace(target / file)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_trunk(folder, config, tensors):
    _write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", tensors)


def _pooling_json(config) -> dict[str, Any]:
    values = {"include_prompt": config.include_prompt}
    legacy_order = [mode for mode in LEGACY_POOLING_KEYS.values() if mode in config.pooling]
    if list(config.pooling) == legacy_order:  # the older keys, which every version of sentence-transformers reads
        flags = {key: mode in config.pooling for key, mode in LEGACY_POOLING_KEYS.items()}
        return {"word_embedding_dimension": config.encoder.hidden_size} | flags | values
    return {"embedding_dimension": config.encoder.hidden_size, "pooling_mode": list(config.pooling)} | values


def _write_dense(folder, module, params):
    _write_json(
        folder / "config.json",
        {
            "in_features": module.in_features,
            "out_features": module.out_features,
            "bias": module.bias,
            "activation_function": _torch_activation(module.activation),
        },
    )
    write_tensors(folder / "model.safetensors", from_params(params, DENSE_NAMES))


def _torch_activation(name):
    if name not in TORCH_ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} has no class in torch to name; {', '.join(TORCH_ACTIVATIONS)} can be saved"
        )
    return TORCH_ACTIVATIONS[name]


def _version():
    return {"jsbert": importlib.metadata.version("jsbert")}


def _write_json(file, values):
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
