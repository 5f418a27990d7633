"""Read and write the folders of the modules around a Transformer: their configs and params."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from jsbert.checkpoint.tensors import from_params, read_tensors, to_params, write_tensors
from jsbert.checks import typed
from jsbert.config import Config
from jsbert.json_files import read_json, read_json_if_there, write_json
from jsbert.modules import MODULES, Module
from jsbert.pooling import POOLINGS

LEGACY_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags in pooling configs that were written before sentence-transformers 5.4. The poolings are
concatenated in this order."""

_LAYERS = {("layer_weights",): "layer_weights"}
"""{path in the params: name} of WeightedLayerPooling's tensor."""

_WIDTHS = ("word_embedding_dimension", "embedding_dimension")


def read_module(kind: str, folder: pathlib.Path) -> Module:
    """Read the config of a module behind the pooling.

    Raises:
        OSError, ValueError: for files that are missing, wrong, or ask for what is not supported.
    """
    file = folder / "config.json"
    values = read_json_if_there(file)
    for name in ("module_input_name", "module_output_name"):
        if values.get(name) not in (None, "sentence_embedding"):
            raise ValueError(
                f"{file}: {name} is {values[name]!r}; only 'sentence_embedding' is supported"
            )
    if not values and dataclasses.fields(MODULES[kind]):
        raise FileNotFoundError(f"{file} is missing")
    return MODULES[kind].from_json(values, where=file)


def read_params(module: Module, folder: pathlib.Path) -> dict[str, Any] | None:
    """Read the params of a module from its folder. None for a module without params.

    Raises:
        OSError, ValueError: for tensors that are missing, or do not fit the config.
    """
    shapes = module.shapes()
    if not shapes:
        return None
    tensors, source = read_tensors(folder)
    names = {path: name for path, name in module.TENSORS.items() if path[0] in shapes}
    return to_params(tensors, names, shapes, where=source)


def write_module(folder: pathlib.Path, module: Module, params: dict[str, Any] | None) -> None:
    """Write the files that `read_module` and `read_params` read."""
    write_json(folder / "config.json", module.to_json())
    if params is not None:
        write_tensors(folder / "model.safetensors", from_params(params, module.TENSORS))


def read_pooling(folder: pathlib.Path, hidden_size: int) -> tuple[tuple[str, ...], bool]:
    """Read the config of a Pooling: (its modes, whether it includes the prompt)."""
    file = folder / "config.json"
    values = read_json(file)
    unknown = set(values) - {*_WIDTHS, "pooling_mode", "include_prompt", *LEGACY_POOLING_KEYS}
    if unknown:
        known = sorted({*_WIDTHS, *LEGACY_POOLING_KEYS})
        raise ValueError(f"{file}: unknown keys {sorted(unknown)}; supported: {known}")
    _check_width(values, hidden_size, file)
    modes = typed(values, "pooling_mode", (str, list), None, where=file)
    if modes is None:
        flags = {key: typed(values, key, bool, False, where=file) for key in LEGACY_POOLING_KEYS}
        modes = [mode for key, mode in LEGACY_POOLING_KEYS.items() if flags[key]] or ["mean"]
    return pooling_modes(modes, where=file), typed(values, "include_prompt", bool, True, where=file)


def write_pooling(folder: pathlib.Path, config: Config) -> None:
    """Write the config of a Pooling. Uses the older keys, which every version of
    sentence-transformers reads, unless the order of the modes needs the new ones."""
    values: dict[str, Any] = {"include_prompt": config.include_prompt}
    legacy_order = [mode for mode in LEGACY_POOLING_KEYS.values() if mode in config.pooling]
    if list(config.pooling) == legacy_order:
        values |= {key: mode in config.pooling for key, mode in LEGACY_POOLING_KEYS.items()}
        values["word_embedding_dimension"] = config.encoder.hidden_size
    else:
        values |= {
            "embedding_dimension": config.encoder.hidden_size,
            "pooling_mode": list(config.pooling),
        }
    write_json(folder / "config.json", values)


def pooling_modes(modes: Any, *, where: Any) -> tuple[str, ...]:
    """`modes` as a tuple of names.

    Raises:
        TypeError, ValueError: for an unknown pooling, or no pooling at all.
    """
    if not isinstance(modes, (str, list, tuple)):
        raise TypeError(
            f"{where} {modes!r}: give a pooling's name or a list of names; supported: "
            f"{', '.join(POOLINGS)}"
        )
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in modes if not isinstance(mode, str) or mode not in POOLINGS]
    if unknown or not modes:
        raise ValueError(f"{where}: unknown pooling {unknown}; supported: {', '.join(POOLINGS)}")
    return modes


def read_layer_weights(
    folder: pathlib.Path, transformer: pathlib.Path, config: Config
) -> tuple[int, dict[str, Any]]:
    """Read a WeightedLayerPooling: (`layer_start`, {"layer_weights": ...}).

    Args:
        folder: the folder of the module.
        transformer: the folder of the Transformer in front of the module.
        config: the bi-encoder's config so far.

    Raises:
        OSError, ValueError: as for `read_module`; also if sentence-transformers would skip the
            module.
    """
    file, hidden_states = folder / "config.json", config.encoder.num_layers + 1
    values = read_json(file)
    if read_json(transformer / "config.json").get("output_hidden_states") is not True:
        raise ValueError(
            f"{transformer / 'config.json'}: output_hidden_states is not true, without which "
            "sentence-transformers "
            f"passes over {folder.name}; set it, or take the module out of modules.json"
        )
    _check_width(values, config.encoder.hidden_size, file)
    num_layers, start = (
        typed(values, name, int, where=file) for name in ("num_hidden_layers", "layer_start")
    )
    if num_layers + 1 != hidden_states or not 0 <= start < hidden_states:
        raise ValueError(
            f"{file}: num_hidden_layers is {num_layers} and layer_start {start}, but the encoder "
            "has "
            f"{hidden_states - 1} layers"
        )
    tensors, source = read_tensors(folder)
    shapes = {"layer_weights": jax.ShapeDtypeStruct((hidden_states - start,), np.float32)}
    return start, to_params(tensors, _LAYERS, shapes, where=source)


def write_layer_weights(folder: pathlib.Path, config: Config, weights: Any) -> None:
    """Write a WeightedLayerPooling. The caller has to set `output_hidden_states` in the
    Transformer's config.json."""
    values = {
        "word_embedding_dimension": config.encoder.hidden_size,
        "num_hidden_layers": config.encoder.num_layers,
        "layer_start": config.layer_start,
    }
    write_json(folder / "config.json", values)
    write_tensors(folder / "model.safetensors", from_params({"layer_weights": weights}, _LAYERS))


def _check_width(values, hidden_size, file):
    for name in _WIDTHS:
        if name in values and values[name] != hidden_size:
            raise ValueError(
                f"{file}: {name} is {values[name]!r}, but config.json has hidden_size {hidden_size}"
            )
