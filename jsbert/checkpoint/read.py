"""Model folders to configs, params, tokenizers and settings."""

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jsbert import encoders
from jsbert.activations import activation_name
from jsbert.checkpoint.paths import inside, read_json, read_json_if_there, typed
from jsbert.checkpoint.tensors import read_tensors, to_params
from jsbert.config import Config, Dense, Normalize
from jsbert.pooling import POOLINGS
from jsbert.similarity import SIMILARITIES
from jsbert.tokenizer import SHORTEST, Tokenizer

LEGACY_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of pooling configs written before sentence-transformers 5.4, in the order in which the poolings are
concatenated."""

MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
"""The modules of sentence-transformers that jsbert computes."""

TRANSFORMER_CONFIGS = [
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
"""The names under which a folder keeps `max_seq_length` and `do_lower_case`."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What config_sentence_transformers.json says of use, not of computation."""

    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None


@dataclasses.dataclass(frozen=True)
class BiEncoder:
    """What a sentence-transformers folder holds."""

    config: Config
    params: dict[str, Any] = dataclasses.field(repr=False)
    tokenizer: Tokenizer
    settings: Settings
    do_lower_case: bool = False


def read_bi_encoder(folder: pathlib.Path, *, pooling: str | Sequence[str] | None = None) -> BiEncoder:
    """A sentence-transformers folder, or a plain HuggingFace folder with pooling on top.

    Args:
        folder: the model's folder.
        pooling: pooling modes to use instead of the folder's; for a folder without `modules.json`, instead of "mean".

    Raises:
        OSError: for files that are not there.
        ValueError: for files that are broken, contradict each other or ask for what is not supported; the message names
            the file.
    """
    if pooling is not None:
        pooling = _pooling_modes(pooling, where="pooling=")
    modules = read_modules(folder) or [("Transformer", folder)]
    kinds = [kind for kind, _ in modules]
    if kinds[0] != "Transformer" or kinds[1:2] not in ([], ["Pooling"]):
        raise ValueError(
            f"{folder / 'modules.json'}: modules {kinds}; supported: Transformer, Pooling, then Dense and Normalize"
        )
    if len(kinds) == 1 and pooling is None:
        warnings.warn(
            f"{folder} names no pooling: taken as a plain encoder with mean pooling, as sentence-transformers does. "
            "If another pooling is right, say pooling='cls', for example.",
            stacklevel=3,
        )

    trunk = modules[0][1]
    encoder, params = read_encoder(trunk)
    tokenizer, do_lower_case = read_tokenizer(trunk, encoder)
    modes, include_prompt = ("mean",), True
    if kinds[1:2] == ["Pooling"]:
        modes, include_prompt = _read_pooling(modules[1][1] / "config.json", encoder.hidden_size)
    config = Config(encoder, pooling or modes, include_prompt)
    params = {"encoder": params}
    for kind, path in modules[2:]:
        config, params = _append(config, params, kind, path)
    return BiEncoder(config, params, tokenizer, _read_settings(folder), do_lower_case)


DENSE_NAMES = {("kernel",): "linear.weight", ("bias",): "linear.bias"}
"""Tensor names of a Dense module."""


def read_modules(folder):
    """[(last segment of the type, the module's folder)], or None without modules.json."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}")
    file = folder / "modules.json"
    if not file.is_file():
        return None
    entries = read_json(file, list)
    if not entries:
        raise ValueError(f"{file}: modules []; supported: Transformer, Pooling, then Dense and Normalize")
    modules = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str) or "path" not in entry:
            raise ValueError(f"{file}: an entry is {entry!r}; each needs a 'type' and a 'path'")
        package, _, kind = entry["type"].rpartition(".")
        if package.partition(".")[0] != "sentence_transformers" or kind not in (
            "Transformer",
            "Pooling",
            "Dense",
            "Normalize",
        ):
            raise ValueError(
                f"{file}: unsupported module {entry['type']!r}; of sentence_transformers: {', '.join(MODULES)}"
            )
        modules.append((kind, inside(folder, entry["path"], where=file)))
    return modules


def read_config(folder):
    """The content of a Transformer's config.json."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no config.json; is this a model folder?")
    return read_json(folder / "config.json")


def read_encoder(folder, num_labels=None):
    """(config, params) of a Transformer's folder. With `num_labels` it holds a cross-encoder, whose params are
    {"encoder", "head"}."""
    file, values = folder / "config.json", read_config(folder)
    if not isinstance(values.get("model_type"), str):
        raise ValueError(f"{file}: lacks 'model_type'; is this a HuggingFace config?")
    try:
        module = encoders.family(values["model_type"])
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    config = module.Config.from_json(values, where=str(file))
    names, shapes = encoders.tensor_names(config), encoders.shapes(config)
    if num_labels is not None:
        head = module.head(config)
        names = {("encoder", *path): name for path, name in names.items()}
        names |= {("head", *path): name.removeprefix(module.PREFIX) for path, name in head.tensor_names().items()}
        shapes = {"encoder": shapes, "head": head.shapes(config, num_labels)}
    tensors, source = read_tensors(folder)
    return config, to_params(tensors, names, shapes, where=source, prefix=module.PREFIX, dropped=module.DROPPED)


def read_tokenizer(folder, encoder):
    """(tokenizer, do_lower_case) of a Transformer's folder."""
    file, settings = folder / TRANSFORMER_CONFIGS[0], {}
    for name in TRANSFORMER_CONFIGS:
        if not settings and (folder / name).is_file():
            file, settings = folder / name, read_json(folder / name)
    lower_case = typed(settings, "do_lower_case", bool, False, where=file)
    limit = typed(settings, "max_seq_length", int, None, where=file)
    if limit is not None and limit < SHORTEST:
        raise ValueError(f"{file}: max_seq_length is {limit}; it must be at least {SHORTEST}")
    tokenizer = Tokenizer.from_folder(folder, lower_case=lower_case)
    if tokenizer.largest_id >= encoder.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has ids up to {tokenizer.largest_id}, but config.json has vocab_size "
            f"{encoder.vocab_size}; they do not belong together"
        )
    limit = limit or tokenizer.model_max_length or encoder.max_tokens
    return tokenizer.with_max_length(min(limit, encoder.max_tokens)), lower_case


def _read_pooling(file, hidden_size):
    values = read_json(file)
    names = {"word_embedding_dimension", "embedding_dimension"}
    unknown = set(values) - names - {"pooling_mode", "include_prompt"} - set(LEGACY_POOLING_KEYS)
    if unknown:
        raise ValueError(
            f"{file}: unknown keys {sorted(unknown)}; supported: {sorted(names | set(LEGACY_POOLING_KEYS))}"
        )
    for name in names & set(values):
        if values[name] != hidden_size:
            raise ValueError(f"{file}: {name} is {values[name]!r}, but config.json has hidden_size {hidden_size}")
    modes = typed(values, "pooling_mode", (str, list), None, where=file)
    if modes is None:
        flags = {key: typed(values, key, bool, False, where=file) for key in LEGACY_POOLING_KEYS}
        modes = [mode for key, mode in LEGACY_POOLING_KEYS.items() if flags[key]] or ["mean"]
    return _pooling_modes(modes, where=file), typed(values, "include_prompt", bool, True, where=file)


def _pooling_modes(modes, where):
    if not isinstance(modes, (str, list, tuple)):
        raise TypeError(
            f"{where} {modes!r}: give a pooling's name or a list of names; supported: {', '.join(POOLINGS)}"
        )
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in modes if not isinstance(mode, str) or mode not in POOLINGS]
    if unknown or not modes:
        raise ValueError(f"{where}: unknown pooling {unknown}; supported: {', '.join(POOLINGS)}")
    return modes


def _append(config, params, kind, folder):
    values = read_json_if_there(folder / "config.json")
    for name in ("module_input_name", "module_output_name"):
        if values.get(name) not in (None, "sentence_embedding"):
            raise ValueError(
                f"{folder / 'config.json'}: {name} is {values[name]!r}; only 'sentence_embedding' is supported"
            )
    if kind == "Normalize":
        return dataclasses.replace(config, head=(*config.head, Normalize())), params
    if kind != "Dense":
        raise ValueError(f"{folder}: a {kind} module cannot stand behind the pooling")
    file = folder / "config.json"
    if not values:
        raise FileNotFoundError(f"{file} is missing")
    if typed(values, "use_residual", bool, False, where=file):
        raise ValueError(f"{file}: use_residual is not supported")
    sizes = [typed(values, name, int, where=file) for name in ("in_features", "out_features")]
    if sizes[0] != config.embedding_dimension:
        raise ValueError(f"{file}: in_features is {sizes[0]}, but the module before gives {config.embedding_dimension}")
    name = values.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not isinstance(name, str) or not name.startswith("torch.nn."):
        raise ValueError(f"{file}: activation_function is {name!r}; only classes of torch.nn are supported")
    module = Dense(
        *sizes, bias=typed(values, "bias", bool, True, where=file), activation=activation_name(name, where=str(file))
    )
    shapes = {"kernel": jax.ShapeDtypeStruct(tuple(sizes), np.float32)}
    if module.bias:
        shapes["bias"] = jax.ShapeDtypeStruct((sizes[1],), np.float32)
    tensors, source = read_tensors(folder)
    names = {path: name for path, name in DENSE_NAMES.items() if path[0] in shapes}
    head = {**params.get("head", {}), len(config.head): to_params(tensors, names, shapes, where=source)}
    return dataclasses.replace(config, head=(*config.head, module)), params | {"head": head}


def _read_settings(folder):
    file = folder / "config_sentence_transformers.json"
    values = read_json_if_there(file)
    prompts = typed(values, "prompts", dict, {}, where=file)
    prompts = {name: typed(prompts, name, str, "", where=f"{file}: prompts") for name in prompts}
    default = typed(values, "default_prompt_name", str, None, where=file)
    if default is not None and default not in prompts:
        raise ValueError(f"{file}: default_prompt_name is {default!r}, but the prompts are {sorted(prompts)}")
    similarity = typed(values, "similarity_fn_name", str, None, where=file)
    if similarity not in (*SIMILARITIES, None):
        raise ValueError(f"{file}: similarity_fn_name is {similarity!r}; supported: {', '.join(SIMILARITIES)}")
    return Settings(prompts, default, similarity, typed(values, "truncate_dim", int, None, where=file))
