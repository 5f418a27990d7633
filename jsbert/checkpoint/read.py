"""Read model folders: config, params, tokenizer and settings."""

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from jsbert import encoders
from jsbert.checkpoint.adapter import base_folder, is_adapter, merge_adapter
from jsbert.checkpoint.answers import answers_of
from jsbert.checkpoint.modules import (
    pooling_modes,
    read_layer_weights,
    read_module,
    read_params,
    read_pooling,
)
from jsbert.checkpoint.routes import Modules, find_router, read_modules, supported_order
from jsbert.checkpoint.static import is_model2vec, normalizes, read_static
from jsbert.checkpoint.tensors import read_tensors, to_params
from jsbert.checks import SIZE, Range, typed
from jsbert.config import Config, Router
from jsbert.json_files import has_file, read_json, read_json_if_there
from jsbert.modules import MODULES
from jsbert.similarity import SIMILARITIES
from jsbert.tokenizer import FILES, SHORTEST, Tokenizer

OTHER_INPUT = ("query_length", "document_length", "query_expansion", "config_args", "config_kwargs")
"""Settings of sentence-transformers' Transformer that change the tokens of a text, or the
encoder."""

STATIC = ["StaticEmbedding"]
"""The modules in front of `modules.MODULES` in a model of static embeddings."""

TRANSFORMER_CONFIGS = [
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
"""The possible names of the file with `max_seq_length` and `do_lower_case`; the first found
counts."""

LIMIT = Range(SHORTEST, math.inf, f"at least {SHORTEST}, an integer")
"""The allowed values of `max_seq_length`."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The values of config_sentence_transformers.json. They are defaults for calls, and do not
    change what the model computes."""

    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None


@dataclasses.dataclass(frozen=True)
class BiEncoderParts:
    """What a sentence-transformers folder holds.

    `router` is only there if the routes have encoders of their own: each target is then a
    `BiEncoderParts`, and the other fields are those of the default route, or of the first route
    without a default.
    """

    config: Config
    params: dict[str, Any] = dataclasses.field(repr=False)
    tokenizer: Tokenizer
    settings: Settings
    router: Router | None = None


def read_bi_encoder(
    folder: pathlib.Path, *, pooling: str | Sequence[str] | None = None
) -> BiEncoderParts:
    """Read a sentence-transformers folder, or a plain HuggingFace folder, to which a pooling is
    added. An adapter in place of the weights, or next to them, is merged.

    Args:
        folder: the model's folder.
        pooling: pooling modes to use instead of those of the folder. A folder that names none is
            read with mean pooling, and a warning.

    Raises:
        OSError: for files that are not there.
        ValueError: for files that are broken, contradict each other or ask for what is not
            supported; the message names the file.
    """
    # Which modules does each route have? Without a Router there is one route.
    if pooling is not None:
        pooling = pooling_modes(pooling, where="pooling=")
    modules = read_modules(folder) or _without_modules(folder)
    router = find_router(modules)
    routes = [modules] if router is None else [route for _, route in router.routes]
    for route in routes:
        _check_order(route, folder / "modules.json")
    if [kind for kind, _ in _trunk(routes[0])] == ["Transformer"] and pooling is None:
        warnings.warn(
            f"{folder} names no pooling: taken as a plain encoder with mean pooling, as "
            "sentence-transformers does. "
            "If another pooling is right, say pooling='cls', for example.",
            stacklevel=3,
        )

    # Routes that share the encoder become one model with a `config.router`; others one model each.
    settings = _read_settings(folder)
    if router is None or all(_trunk(route) == _trunk(routes[0]) for route in routes):
        return _read_routes(routes, router, pooling, settings)
    router = router.map(lambda route: _read_routes([route], None, pooling, settings))
    first = router.routes[0][0]
    own: BiEncoderParts = dict(router.routes)[router.default or first]
    return dataclasses.replace(own, router=router)


def _without_modules(folder):
    if not is_model2vec(folder):
        file, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        file = template if has_file(template) else file
        if file == template or read_json_if_there(file).get("chat_template"):
            raise ValueError(
                f"{file}: the tokenizer has a chat template, which sentence-transformers puts "
                "around each text of a "
                "folder without modules.json; jsbert does not. Take the template away, or write a "
                "modules.json"
            )
        return [("Transformer", folder)]
    return [
        ("StaticEmbedding", folder),
        *([("Normalize", folder / "Normalize")] if normalizes(folder) else []),
    ]


def _trunk(route: Modules) -> Modules:
    return [module for module in route if module[0] not in MODULES]


def _check_order(route, file):
    kinds = [kind for kind, _ in route]
    trunk = [kind for kind, _ in _trunk(route)]
    orders = (
        ["Transformer"],
        ["Transformer", "Pooling"],
        ["Transformer", "WeightedLayerPooling", "Pooling"],
        STATIC,
    )
    in_order = (
        trunk in orders
        and kinds[: len(trunk)] == trunk
        and (trunk != ["Transformer"] or kinds == trunk)
    )
    if not in_order or len(set(route)) < len(route):
        raise ValueError(f"{file}: modules {kinds}; {supported_order()}")


def _read_routes(
    routes: Sequence[Modules], router: Router | None, pooling, settings
) -> BiEncoderParts:
    """The parts of a model whose routes share encoder and pooling (the trunk), and differ in the
    modules behind the pooling."""
    # The trunk: encoder, tokenizer, pooling and the weights of layers.
    trunk = dict(_trunk(routes[0]))
    if [*trunk] == STATIC:
        if pooling not in (None, ("mean",)):
            raise ValueError(f"pooling={pooling}: the pooling of static embeddings is 'mean'")
        encoder, params, tokenizer = read_static(trunk["StaticEmbedding"])
    else:
        base = base_folder(trunk["Transformer"])
        encoder, params = read_encoder(trunk["Transformer"], base)
        tokenizer = read_tokenizer(trunk["Transformer"], base, encoder)
    modes: tuple[str, ...] = ("mean",)
    include_prompt = True
    if "Pooling" in trunk:
        modes, include_prompt = read_pooling(trunk["Pooling"], encoder.hidden_size)
    config, params = Config(encoder, pooling or modes, include_prompt), {"encoder": params}
    if "WeightedLayerPooling" in trunk:
        start, weights = read_layer_weights(
            trunk["WeightedLayerPooling"], trunk["Transformer"], config
        )
        config, params = dataclasses.replace(config, layer_start=start), params | weights

    # The modules behind the pooling, each read once, although several routes may pass it.
    heads = [route[len(trunk) :] for route in routes]
    modules = {entry: read_module(*entry) for head in heads for entry in head}
    for head in heads:
        _check_widths(config.embedding_dimension, [(modules[entry], entry[1]) for entry in head])
    own = [read_params(module, folder) for (_, folder), module in modules.items()]
    of_modules = {place: found for place, found in enumerate(own) if found is not None}
    if router is not None:
        places = {entry: place for place, entry in enumerate(modules)}
        router = router.map(lambda route: tuple(places[entry] for entry in route[len(trunk) :]))
    config = dataclasses.replace(config, modules=tuple(modules.values()), router=router)
    params |= {"head": of_modules} if of_modules else {}
    return BiEncoderParts(config, params, tokenizer, settings)


def _check_widths(width, modules):
    for module, folder in modules:
        try:
            width = module.width(width)
        except ValueError as error:
            raise ValueError(f"{folder / 'config.json'}: {error}") from None


def read_config(folder):
    """The content of a Transformer's config.json."""
    if not has_file(folder / "config.json"):
        raise FileNotFoundError(f"{folder}: no config.json; is this a model folder?")
    return read_json(folder / "config.json")


def read_encoder(folder, base, num_labels=None, answers=()):
    """(config, params) of a Transformer's folder. An adapter, if there is one, is merged.

    `base` is `base_folder(folder)`. With `num_labels` the folder holds a cross-encoder, and the
    params are {"encoder": ..., "head": ...}. With `answers` the cross-encoder is a causal language
    model; see `CrossConfig.answers`.
    """
    file, values = base / "config.json", read_config(base)
    if not isinstance(values.get("model_type"), str):
        raise ValueError(f"{file}: lacks 'model_type'; is this a HuggingFace config?")
    try:
        module = encoders.family(values["model_type"])
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    config = module.Config.from_json(values, where=str(file))

    # Check the sizes before any tensor is read and before `encoders.shapes` makes the modules.
    def check(shapes, source):
        try:
            _check_sizes(config, module, shapes)
        except ValueError as error:
            raise ValueError(f"{file}: {error} (in {source})") from None

    # Read the tensors and convert them to params, with those of the classifier if there is one.
    tensors, source = read_tensors(base, check=check)
    names, shapes = encoders.tensor_names(config), encoders.shapes(config)
    if answers:
        if is_adapter(folder):
            raise ValueError(
                f"{folder}: an adapter of a causal language model; merge it into the model first"
            )
        head = answers_of(tensors, answers, config, values, where=source)
    elif (
        num_labels is not None
    ):  # `module` is the folder's family, not the config's: "new" is read as "gte"
        head = module.head(config)
        names = {("encoder", *path): name for path, name in names.items()}
        names |= {
            ("head", *path): name.removeprefix(module.PREFIX)
            for path, name in head.tensor_names().items()
        }
        shapes = {"encoder": shapes, "head": head.shapes(config, num_labels)}
    params = to_params(
        tensors,
        names,
        shapes,
        where=source,
        prefix=module.PREFIX,
        dropped=module.DROPPED,
        tied=getattr(module, "TIED", {}),
    )
    if is_adapter(folder):
        params = merge_adapter(config, params, folder, head=num_labels is not None)
    return config, {"encoder": params, "head": head} if answers else params


def _check_sizes(config, module, shapes):
    """Raise ValueError for sizes far above those of the tensors. Without this check, making modules
    of such sizes would take minutes; `to_params` compares the shapes only afterwards."""
    # The modules of the first layer; each has at least one tensor. Not each layer has all of the
    # family's modules.
    found = {name.removeprefix(module.PREFIX).rpartition(".")[0] for name in shapes}
    inner = [name for name in module.NAMES.values() if "{}" in name]
    modules = max(1, sum(name.format(0, 0, 0) in found for name in inner))
    layers = math.prod(getattr(config, name) for name in config.LAYERS)
    if layers * modules > len(shapes):
        raise ValueError(
            f"{' * '.join(map(config.json_name, config.LAYERS))} is {layers}, which makes "
            f"{layers * modules:,} tensors or more, but there are {len(shapes):,}"
        )
    largest = max((math.prod(shape) for shape in shapes.values()), default=0)
    for name in config.IN_TENSORS:
        if getattr(config, name) > largest:
            raise ValueError(
                f"{config.json_name(name)} is {getattr(config, name)}, but the largest tensor has "
                f"{largest:,} elements"
            )


def read_tokenizer(folder, base, encoder, *, takes_messages=False):
    """The tokenizer of a Transformer's folder, with its limit. An adapter's folder without
    tokenizer files takes the tokenizer of the base model. `takes_messages`: the caller handles a
    chat template."""
    if encoder.max_tokens < SHORTEST:
        raise ValueError(
            f"{base / 'config.json'}: max_position_embeddings is {encoder.max_position_embeddings} "
            "and pad_token_id "
            f"{encoder.pad_token_id}, which leaves {encoder.max_tokens} positions to a text; it "
            f"needs {SHORTEST}"
        )
    if not [name for name in FILES if has_file(folder / name)]:
        folder = base
    configs = [folder / name for name in TRANSFORMER_CONFIGS if has_file(folder / name)]
    file = configs[0] if configs else folder / TRANSFORMER_CONFIGS[0]
    settings = read_json_if_there(file)
    _refuse_other_input(settings, file, takes_messages)
    lower_case = typed(settings, "do_lower_case", bool, False, where=file)
    limit = typed(settings, "max_seq_length", int, None, where=file, allowed=LIMIT)
    tokenizer = Tokenizer.from_folder(folder, lower_case=lower_case)
    if tokenizer.largest_id >= encoder.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has ids up to {tokenizer.largest_id}, but config.json has "
            "vocab_size "
            f"{encoder.vocab_size}; they do not belong together"
        )
    limit = limit or tokenizer.model_max_length or encoder.max_tokens
    return tokenizer.with_max_length(min(limit, encoder.max_tokens))


def _refuse_other_input(settings, file, takes_messages):
    """Raise ValueError for settings with which sentence-transformers would change the tokens."""
    changed = [name for name in OTHER_INPUT if settings.get(name)]
    options = typed(settings, "processing_kwargs", dict, {}, where=file)
    changed += [name for name in ("text", "common") if options.get(name)]
    modalities = typed(settings, "modality_config", dict, {}, where=file)
    if "message" in modalities and not takes_messages:
        changed.append("the modality 'message' (a chat template around each text)")
    if changed:
        raise ValueError(
            f"{file}: {', '.join(changed)} would change the vectors, and is not supported"
        )


def _read_settings(folder):
    file = folder / "config_sentence_transformers.json"
    values = read_json_if_there(file)
    prompts = read_prompts(values, file)
    similarity = typed(values, "similarity_fn_name", str, None, where=file)
    if similarity not in (*SIMILARITIES, None):
        raise ValueError(
            f"{file}: similarity_fn_name is {similarity!r}; supported: {', '.join(SIMILARITIES)}"
        )
    dim = typed(values, "truncate_dim", int, None, where=file, allowed=SIZE)
    return dataclasses.replace(prompts, similarity_fn_name=similarity, truncate_dim=dim)


def read_prompts(values, file):
    """The prompts in the content of `file`, config_sentence_transformers.json, as `Settings`."""
    prompts = typed(values, "prompts", dict, {}, where=file)
    prompts = {name: typed(prompts, name, str, "", where=f"{file}: prompts") for name in prompts}
    default = typed(values, "default_prompt_name", str, None, where=file)
    if default is not None and default not in prompts:
        raise ValueError(
            f"{file}: default_prompt_name is {default!r}, but the prompts are {sorted(prompts)}"
        )
    return Settings(prompts, default)
