"""Write configs, params and tokenizers to model folders that sentence-transformers opens."""

import contextlib
import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jsbert.activations import torch_activation
from jsbert.checkpoint import card
from jsbert.checkpoint.adapter import PEFT_PREFIX, WEIGHTS, full_names
from jsbert.checkpoint.adapter_config import CONFIG, AdapterConfig
from jsbert.checkpoint.answers import FOLDER, lm_head, write_answers
from jsbert.checkpoint.classifier import CrossEncoderParts
from jsbert.checkpoint.modules import write_layer_weights, write_module, write_pooling
from jsbert.checkpoint.read import BiEncoderParts
from jsbert.checkpoint.routes import write_modules, write_router
from jsbert.checkpoint.static import write_static
from jsbert.checkpoint.tensors import from_params, write_tensors
from jsbert.config import EncoderConfig
from jsbert.encoders import class_name, family, static, tensor_names
from jsbert.files import staged_folder
from jsbert.json_files import read_json_if_there, write_json
from jsbert.tokenizer import FILES, VOCABULARIES, ChatTokenizer
from jsbert.version import VERSION


def write_bi_encoder(
    folder: str | os.PathLike, model: BiEncoderParts, *, create_model_card: bool = True
) -> None:
    """Write a sentence-transformers folder: float32 weights under HuggingFace names, tokenizer,
    configs.

    All files are complete before the first reaches `folder`. An existing folder keeps its other
    files, its README.md included. Exception: tokenizer files of an older model that would overrule
    the new ones are removed. `create_model_card` writes a README.md if `folder` has none.

    Raises:
        OSError: if the folder cannot be written.
    """
    _refuse_adapter(folder)
    settings = model.settings
    with _staged_model(folder) as staging:
        # The modules. Only routes with encoders of their own need a Router in front.
        if model.router is None:
            write_modules(staging, _write_pipeline(staging, model))
        else:
            routes, first = [], 0
            for name, route in model.router.routes:
                routes.append((name, _write_pipeline(staging, route, first)))
                first += len(routes[-1][1])
            write_router(staging, dataclasses.replace(model.router, routes=tuple(routes)))
            write_modules(staging, [("Router", "")])
        write_json(
            staging / "config_sentence_transformers.json",
            {
                "__version__": _version(),
                "model_type": "SentenceTransformer",
                "prompts": dict(settings.prompts),
                "default_prompt_name": settings.default_prompt_name,
                "similarity_fn_name": settings.similarity_fn_name,
            }
            | (
                {"truncate_dim": settings.truncate_dim} if settings.truncate_dim is not None else {}
            ),
        )
        # The README.md.
        if create_model_card:
            prompts = [f"`{name}`: {text!r}" for name, text in settings.prompts.items() if text]
            facts = {
                "encoder": model.config.encoder.model_type,
                "tokens kept of a text": f"{model.tokenizer.max_length:,}",
                "dimensions": model.config.embedding_dimension,
                "pooling": ", ".join(model.config.pooling),
                "modules behind it": ", ".join(
                    type(module).__name__ for module in model.config.modules
                )
                or "none",
                "similarity": settings.similarity_fn_name or "cosine",
                "prompts": ", ".join(prompts) or "none",
            }
            _write_card(folder, staging, facts, is_cross_encoder=False)


def write_cross_encoder(
    folder: str | os.PathLike, model: CrossEncoderParts, *, create_model_card: bool = True
) -> None:
    """Write a folder that sentence-transformers' CrossEncoder opens, and transformers' class for
    sequence classification or, if the config has `answers`, for causal language models. Other files
    and README.md: as for `write_bi_encoder`.

    Raises:
        OSError: if the folder cannot be written.
    """
    _refuse_adapter(folder)
    encoder, num_labels = model.config.encoder, model.config.num_labels
    activation = torch_activation(model.config.activation)
    answers = model.config.answers
    task = "text-generation" if answers else "sequence-classification"
    settings: dict[str, Any] = {
        "transformer_task": task,
        "max_seq_length": model.tokenizer.max_length,
        "do_lower_case": model.tokenizer.lower_case,
    }
    if answers:
        values, tensors = _language_model(model)
        settings |= _modalities(model, "causal_logits")
    else:
        labels = model.labels or tuple(f"LABEL_{i}" for i in range(num_labels))
        values = encoder.to_json() | {
            "architectures": [class_name(encoder) + "ForSequenceClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
        tensors = from_params(model.params, full_names(encoder, head=True))
        if model.tokenizer.has_template:
            settings |= _modalities(model, "scores")
    values["sentence_transformers"] = {"activation_fn": activation}
    with _staged_model(folder) as staging:
        # What transformers reads: config, weights and tokenizer.
        _write_trunk(staging, values, tensors)
        model.tokenizer.save(staging)
        file = staging / "tokenizer_config.json"  # transformers looks for the limit only here
        write_json(
            file, read_json_if_there(file) | {"model_max_length": model.tokenizer.max_length}
        )
        # What sentence-transformers reads besides.
        write_json(staging / "sentence_bert_config.json", settings)
        prompts = {
            "prompts": dict(model.settings.prompts),
            "default_prompt_name": model.settings.default_prompt_name,
        }
        write_json(
            staging / "config_sentence_transformers.json",
            {"__version__": _version(), "model_type": "CrossEncoder", "activation_fn": activation}
            | (prompts if model.settings.prompts else {}),
        )
        kind = "sentence_transformers.base.modules.transformer.Transformer"
        modules = [{"idx": 0, "name": "0", "path": "", "type": kind}]
        if answers:
            write_answers(staging, answers)
            kind = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
            modules.append({"idx": 1, "name": "1", "path": FOLDER, "type": kind})
        write_json(staging / "modules.json", modules)
        if create_model_card:
            facts = {
                "encoder": encoder.model_type,
                "tokens kept of a pair": f"{model.tokenizer.max_length:,}",
                "labels": num_labels,
                "activation": model.config.activation,
            }
            _write_card(folder, staging, facts, is_cross_encoder=True)


def _language_model(model):
    """(the config.json, the tensors) of a cross-encoder that is a causal language model."""
    encoder = model.config.encoder
    head, is_tied = lm_head(model.params, model.config.answers)
    names = full_names(encoder, head=False)
    values = {"architectures": [class_name(encoder) + "ForCausalLM"]}
    values |= encoder.to_json() | {"tie_word_embeddings": is_tied}
    return values, from_params(model.params["encoder"], names) | head


def _modalities(model, output):
    """The settings of sentence-transformers' Transformer that say whether pairs are messages."""
    way = {"method": "forward", "method_output_name": "logits"}
    ways: dict[str, Any] = {"text": way}
    settings = {"modality_config": ways, "module_output_name": output}
    if isinstance(model.tokenizer, ChatTokenizer):
        template = model.tokenizer.template
        ways["message"] = way | {"format": template.form}
        if template.options:
            settings["processing_kwargs"] = {"chat_template": dict(template.options)}
    return settings


def write_adapter(
    folder: str | os.PathLike,
    config: EncoderConfig,
    lora: PyTree,
    *,
    alpha: float,
    head: PyTree | None = None,
    base: str | None = None,
) -> None:
    """Write an adapter that peft opens on the base model.

    Args:
        folder: the folder to write.
        config: the config of the encoder.
        lora: a tree like the encoder's params, with {"lora_A" (I, r), "lora_B" (r, O)} for each
            linear layer that the adapter changes.
        alpha: the kernel of such a layer is W + alpha / r * A B.
        head: the classifier's params of a cross-encoder, written whole.
        base: the adapter's name for its base model: a folder or a hub name.

    Raises:
        OSError: if the folder cannot be written.
    """
    # The low-rank matrices, under peft's names.
    prefix, names = family(config).PREFIX, full_names(config, head=head is not None)
    tensors, ranks = {}, {}
    for path, matrix in jax.tree_util.tree_flatten_with_path(lora)[0]:
        *layer, kind = (entry.key for entry in path)
        module = names[
            (*(("encoder",) if head is not None else ()), *layer, "kernel")
        ].removesuffix(".weight")
        module = module if head is not None else module.removeprefix(prefix)
        tensors[f"{PEFT_PREFIX}{module}.{kind}.weight"] = np.ascontiguousarray(
            np.asarray(matrix, np.float32).T
        )
        ranks[module] = matrix.shape[1 if kind == "lora_A" else 0]
    # The classifier.
    own = (
        {}
        if head is None
        else {path[1:]: name for path, name in names.items() if path[0] == "head"}
    )
    # peft saves a module outside the encoder whole, with all its parts; so `modules_to_save` names
    # the outermost module.
    saved = {
        name.rpartition(".")[0] if name.startswith(prefix) else name.partition(".")[0]
        for name in own.values()
    }
    rank = next(iter(ranks.values()))
    adapter_config = AdapterConfig(
        r=rank,
        lora_alpha=alpha,
        rank_pattern={module: other for module, other in ranks.items() if other != rank},
        target_modules=sorted(ranks),
        modules_to_save=sorted(saved),
    )
    values: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION" if head is None else "SEQ_CLS",
        "base_model_name_or_path": base,
        "inference_mode": True,
    }
    with _staged_model(folder) as staging:
        write_json(staging / CONFIG, values | dataclasses.asdict(adapter_config))
        write_tensors(
            staging / WEIGHTS[0], tensors | from_params(head or {}, own, prefix=PEFT_PREFIX)
        )


@contextlib.contextmanager
def _staged_model(folder):
    """`staged_folder`. If `folder` held a model, remove those of its tokenizer files that would
    overrule the new ones."""
    folder = pathlib.Path(folder).expanduser()
    held_model = any((folder / name).is_file() for name in ("modules.json", "config.json"))
    with staged_folder(folder) as staging:
        yield staging
        ours = {path.relative_to(staging) for path in staging.rglob("*") if path.name in FILES}
    for place in {path.parent for path in ours} if held_model else ():
        unread = (
            VOCABULARIES if place / "tokenizer.json" in ours else ()
        )  # not read next to tokenizer.json, and maybe not a tokenizer's: they stay
        for file in {place / name for name in FILES if name not in unread} - ours:
            (folder / file).unlink(missing_ok=True)


def _refuse_adapter(folder):
    if (pathlib.Path(folder).expanduser() / CONFIG).is_file():
        raise FileExistsError(
            f"{folder} holds an adapter, which would be merged into the model again; give another "
            "folder"
        )


def _write_card(folder, staging, facts, *, is_cross_encoder):
    if not (pathlib.Path(folder).expanduser() / card.FILE).exists():
        text = card.model_card(facts, is_cross_encoder=is_cross_encoder)
        (staging / card.FILE).write_text(text, encoding="utf8")


def _write_trunk(folder, config, tensors):
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", tensors)


def _write_pipeline(folder, model, first=None):
    """Write the modules of a model and return [(kind, name of its folder)].

    The names are numbered from `first`. Without `first` they are numbered from 0, and the first
    module is written into `folder` itself.
    """
    config, modules = model.config, []

    def place(kind):
        path = "" if first is None and not modules else f"{(first or 0) + len(modules)}_{kind}"
        modules.append((kind, path))
        return folder / path

    # Encoder and pooling.
    if isinstance(config.encoder, static.Config):
        write_static(
            place("StaticEmbedding"), config.encoder, model.params["encoder"], model.tokenizer
        )
    else:
        _write_transformer(place("Transformer"), model)
        if config.layer_start is not None:
            write_layer_weights(
                place("WeightedLayerPooling"), config, model.params["layer_weights"]
            )
        if "pooling" in model.params:
            raise ValueError(
                f"the poolings {[*model.params['pooling']]} have params, for which "
                "sentence-transformers' Pooling has "
                "no place; save model.params in a file of your own"
            )
        write_pooling(place("Pooling"), config)
    # The modules behind the pooling, inside a Router if there are routes.
    if config.router is None:
        paths = [place(type(module).__name__) for module in config.modules]
    else:
        router = place("Router")
        entries = [
            (type(module).__name__, f"{i}_{type(module).__name__}")
            for i, module in enumerate(config.modules)
        ]
        write_router(router, config.router.map(lambda route: [entries[i] for i in route]))
        paths = [router / path for _, path in entries]
    for index, (path, module) in enumerate(zip(paths, config.modules, strict=True)):
        write_module(path, module, model.params.get("head", {}).get(index))
    return modules


def _write_transformer(folder, model):
    config = model.config.encoder
    values = {"architectures": [class_name(config) + "Model"]} | config.to_json()
    if model.config.layer_start is not None:
        values["output_hidden_states"] = True
    folder.mkdir(exist_ok=True)
    _write_trunk(folder, values, from_params(model.params["encoder"], tensor_names(config)))
    model.tokenizer.save(folder)
    limits = {
        "max_seq_length": model.tokenizer.max_length,
        "do_lower_case": model.tokenizer.lower_case,
    }
    write_json(folder / "sentence_bert_config.json", limits)


def _version():
    return {"jsbert": VERSION}
