"""Read the folder of a cross-encoder, or make a new cross-encoder from a bi-encoder."""

import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from jsbert.activations import activation_name
from jsbert.checkpoint.adapter import base_folder, is_adapter
from jsbert.checkpoint.adapter_config import CONFIG
from jsbert.checkpoint.answers import check_causal, read_answers, usual_answers, with_template
from jsbert.checkpoint.read import (
    TRANSFORMER_CONFIGS,
    BiEncoderParts,
    Settings,
    read_config,
    read_encoder,
    read_prompts,
    read_tokenizer,
)
from jsbert.checkpoint.routes import SCORE, read_modules
from jsbert.checks import SIZE, shown, typed
from jsbert.config import CrossConfig
from jsbert.encoders import family
from jsbert.json_files import has_file, read_json, read_json_if_there
from jsbert.tokenizer import FILES, Tokenizer


@dataclasses.dataclass(frozen=True)
class CrossEncoderParts:
    """What a cross-encoder's folder holds. The params are {"encoder": ..., "head": ...}."""

    config: CrossConfig
    params: dict[str, Any] = dataclasses.field(repr=False)
    tokenizer: Tokenizer
    labels: tuple[str, ...] = ()
    """The names of the labels; () if the folder has none."""
    settings: Settings = dataclasses.field(default_factory=Settings)
    """The prompts, and which of them is the default."""


def is_cross_encoder(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a cross-encoder. config_sentence_transformers.json decides; without an
    answer there and without modules.json, the architecture in config.json."""
    folder = pathlib.Path(folder)
    file = folder / "config_sentence_transformers.json"
    kind = typed(read_json_if_there(file), "model_type", str, None, where=file)
    if kind is not None:
        return kind == "CrossEncoder"
    if has_file(folder / "modules.json"):
        return False
    file = folder / "config.json"
    architectures = typed(read_json_if_there(file), "architectures", list[str], [], where=file)
    return any(name.endswith("ForSequenceClassification") for name in architectures)


def brings_classifier(folder: pathlib.Path) -> bool:
    """Whether a folder holds an adapter with a classifier, for a base model without one."""
    if not is_adapter(folder) or read_json(folder / CONFIG).get("task_type") != "SEQ_CLS":
        return False
    return not is_cross_encoder(base_folder(folder))


def read_cross_encoder(folder: pathlib.Path) -> CrossEncoderParts:
    """Read a folder with a sequence-classification model or a causal language model, as
    sentence-transformers' CrossEncoder does.

    Raises:
        OSError, ValueError: as for `read_bi_encoder`.
    """
    modules = read_modules(folder)
    kinds = [kind for kind, _ in modules or ()]
    if modules is not None and kinds not in (["Transformer"], ["Transformer", SCORE]):
        raise ValueError(
            f"{folder / 'modules.json'}: modules {kinds}; a cross-encoder has a Transformer alone, "
            f"or a Transformer and a {SCORE}. Is this a bi-encoder? Open it with "
            "SentenceTransformer"
        )
    trunk = modules[0][1] if modules else folder
    base = base_folder(trunk)
    values = read_config(base)
    is_causal = kinds[1:] == [SCORE] or (modules is None and _is_language_model(values, base))
    if is_causal:
        check_causal(values, base / "config.json")
        values = {**values, "id2label": {"0": "LABEL_0"}}
    names = _label_names(values, base / "config.json")
    num_labels = (
        len(names)
        if names
        else typed(values, "num_labels", int, 2, where=base / "config.json", allowed=SIZE)
    )
    answers: tuple[int, ...] = ()
    if is_causal:
        own = _template_files(trunk, base)[0]
        answers = read_answers(modules[1][1]) if modules else usual_answers(own)
    encoder, params = read_encoder(trunk, base, num_labels, answers)
    tokenizer = read_tokenizer(trunk, base, encoder, takes_messages=True)
    tokenizer = with_template(tokenizer, *_template_files(trunk, base))
    file = folder / "config_sentence_transformers.json"
    settings = read_json_if_there(file)
    name = typed(settings, "activation_fn", str, None, where=file)
    if name is None:
        activation = _trunk_activation(values, base / "config.json", num_labels)
    else:
        activation = _activation(name, file)
    config = CrossConfig(encoder, num_labels, activation, answers)
    labels = () if is_causal else names
    return CrossEncoderParts(config, params, tokenizer, labels, read_prompts(settings, file))


def _is_language_model(values, base):
    architectures = typed(values, "architectures", list[str], [], where=base / "config.json")
    return any(name.endswith("ForCausalLM") for name in architectures[:1])


def _template_files(trunk, base):
    """(the folder of the tokenizer, the Transformer's config of sentence-transformers)."""
    configs = [trunk / name for name in TRANSFORMER_CONFIGS if has_file(trunk / name)]
    own = any(has_file(trunk / name) for name in FILES)
    return trunk if own else base, configs[0] if configs else trunk / TRANSFORMER_CONFIGS[0]


def new_cross_encoder(
    trunk: BiEncoderParts, num_labels: int, key: Key[Array, ""]
) -> CrossEncoderParts:
    """Return a cross-encoder to be trained: the encoder of the bi-encoder `trunk`, with a new
    classifier. The params of the classifier are drawn as transformers draws them. The bi-encoder's
    pooling and modules are not used."""
    encoder = trunk.config.encoder
    shapes = family(encoder).head(encoder).shapes(encoder, num_labels)
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))

    def draw(path, leaf):
        layer, kind = (entry.key for entry in path)
        if kind == "kernel":
            return encoder.initializer_range * jax.random.normal(keys[layer], leaf.shape)
        return np.full(leaf.shape, 1.0 if kind == "scale" else 0.0, np.float32)

    head = jax.tree_util.tree_map_with_path(draw, shapes)
    params = {"encoder": trunk.params["encoder"], "head": head}
    activation = "sigmoid" if num_labels == 1 else "identity"
    config = CrossConfig(encoder, num_labels, activation)
    return CrossEncoderParts(config, params, trunk.tokenizer)


def _label_names(values, file):
    """The names of the labels in the order of their numbers; () if there are none."""
    labels = typed(values, "id2label", (dict, list), (), where=file)
    if isinstance(labels, dict):
        try:
            labels = [labels[key] for key in sorted(labels, key=int)]
        except ValueError:
            raise ValueError(
                f"{file}: id2label has the keys {shown(list(labels))}; they must be numbers"
            ) from None
    return tuple(map(str, labels))


def _trunk_activation(values, file, num_labels):
    own = typed(values, "sentence_transformers", dict, {}, where=file)
    name = typed(own, "activation_fn", str, None, where=file)
    name = name or typed(values, "sbert_ce_default_activation_function", str, None, where=file)
    if name is None:
        return "sigmoid" if num_labels == 1 else "identity"
    return _activation(name, file)


def _activation(name, file):
    if not name.startswith("torch.nn."):
        raise ValueError(
            f"{file}: the activation is {name!r}; only classes of torch.nn are supported"
        )
    return activation_name(name, where=str(file))
