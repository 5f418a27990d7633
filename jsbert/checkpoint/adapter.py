"""Read LoRA adapters in PEFT's format, and merge them into params.

Hu et al. 2021, https://arxiv.org/abs/2106.09685; DoRA: Liu et al. 2024,
https://arxiv.org/abs/2402.09353. The reference is peft 0.21.
"""

import pathlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import numpy as np
from jaxtyping import PyTree

from jsbert.checkpoint.adapter_config import CONFIG, AdapterConfig, read_adapter_config
from jsbert.checkpoint.find import find_folder
from jsbert.checkpoint.tensors import Named, read_tensors
from jsbert.checks import typed
from jsbert.config import EncoderConfig
from jsbert.encoders import family, tensor_names
from jsbert.json_files import has_file, read_json

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

PEFT_PREFIX = "base_model.model."
"""The prefix that peft puts in front of every name."""

MATRICES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "kernel": ("lora_A.weight", "lora_B.weight"),
        "embedding": ("lora_embedding_A", "lora_embedding_B"),
    }
)
"""{our name of a matrix: peft's names of its A and B}, for linear layers and embeddings."""

Modules = Mapping[str, Mapping[str, tuple]]
"""{peft's name of a module: {"weight" or "bias": path in the params}}."""


def is_adapter(folder: pathlib.Path) -> bool:
    """Whether a folder holds an adapter, alone or together with its base model."""
    return has_file(folder / CONFIG)


def base_folder(folder: pathlib.Path) -> pathlib.Path:
    """The folder with config.json and weights: the folder of the base model if `folder` holds an
    adapter alone, else `folder` itself.

    Raises:
        OSError: if the base model is not found.
        ValueError: if the adapter names no base model.
    """
    file = folder / CONFIG
    if not has_file(file) or has_file(folder / "config.json"):
        return folder
    values = read_json(file)
    name = typed(values, "base_model_name_or_path", str, None, where=file)
    if not name:
        raise ValueError(
            f"{file}: base_model_name_or_path is {name!r}; open the base model, and put the "
            "adapter on it with jsbert.adapters.load_adapter"
        )
    try:
        return find_folder(
            name, revision=typed(values, "revision", str, None, where=file), organization=None
        )
    except OSError as error:
        raise OSError(f"{file}: its base model is not to be found: {error}") from error


def full_names(config: EncoderConfig, *, head: bool) -> dict[tuple, str]:
    """For each path in the params, the name of the tensor with the family's prefix.

    The params are those of the encoder; with `head`, {"encoder": ..., "head": ...} of a
    cross-encoder.
    """
    module = family(config)
    names = {path: module.PREFIX + name for path, name in tensor_names(config).items()}
    if not head:
        return names
    own = {("head", *path): name for path, name in module.head(config).tensor_names().items()}
    return {("encoder", *path): name for path, name in names.items()} | own


def merge_adapter(
    config: EncoderConfig, params: PyTree, folder: pathlib.Path, *, head: bool = False
) -> PyTree:
    """Return the params with the adapter of a folder merged. The weight of a target becomes
    W + scale * B A; other tensors of the adapter replace those of the model.

    Args:
        config: the config of the encoder.
        params: the params of the encoder, float32; with `head`, {"encoder": ..., "head": ...} of a
            cross-encoder.
        folder: the folder with adapter_config.json and adapter_model.safetensors.
        head: whether `params` are those of a cross-encoder.

    Raises:
        OSError: for files that are not there.
        ValueError: for an adapter that cannot be merged, with the name of the field; and for
            tensors that do not fit, with all their names.
    """
    # Our params under the names that the adapter's file uses.
    adapter, prefix = read_adapter_config(folder), family(config).PREFIX
    tensors, source = read_tensors(folder, WEIGHTS)
    tensors = [(name.removeprefix(PEFT_PREFIX), array) for name, array in tensors]
    wrapper, prefixed = _wrapping([name for name, _ in tensors], prefix)
    modules: dict[str, dict[str, tuple]] = {}
    for path, name in full_names(config, head=head).items():
        module, _, part = (wrapper + (name if prefixed else name.removeprefix(prefix))).rpartition(
            "."
        )
        modules.setdefault(module, {})[part] = path
    leaves = {
        _keys(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }

    def is_dropped(name):
        bare = re.sub(
            r"\.lora_\w+(\.\w+)?$", ".weight", name.removeprefix(wrapper).removeprefix(prefix)
        )
        return any(re.fullmatch(pattern, bare) for pattern in family(config).DROPPED)

    # peft changes the module of one name only, and leaves the module of the other as it is.
    tied = {name.rpartition(".")[0] for name in getattr(family(config), "TIED", {}).values()}
    for module in modules:
        is_changed = adapter.is_target(module, is_linear=False) or adapter.is_saved(module)
        if is_changed and module.removeprefix(wrapper).removeprefix(prefix) in tied:
            raise ValueError(
                f"{folder / CONFIG}: the adapter changes {module}, which has two names in a "
                f"{config.model_type}; such adapters are not supported, train one for other modules"
            )

    # Check every tensor against config and model, then merge.
    targets = _targets(adapter, modules, folder / CONFIG)
    shapes, required = _expected(adapter, modules, targets, leaves)
    found = _fitting(tensors, shapes, required, is_dropped, where=source)
    return _merged(adapter, params, leaves, modules, targets, found)


def _wrapping(names, prefix):
    """(the prefix of a SentenceTransformer around the model, or ""; whether the family's prefix
    follows)."""
    match = re.match(r"0\.(auto_)?model\.", names[0]) if names else None
    wrapper = match[0] if match else ""
    return wrapper, any(name.startswith(wrapper + prefix) for name in names)


def _targets(adapter: AdapterConfig, modules: Modules, file: pathlib.Path) -> list[str]:
    targets = []
    for module, parts in modules.items():
        kind = parts["weight"][-1] if "weight" in parts else None
        if adapter.is_target(module, is_linear=kind == "kernel"):
            targets.append(module)
            if kind not in MATRICES:
                raise ValueError(
                    f"{file}: the target {module} is neither a linear layer nor an embedding"
                )
            if adapter.lora_bias and "bias" not in parts:
                raise ValueError(f"{file}: lora_bias is True, but {module} has no bias to add to")
    return targets


def _expected(adapter: AdapterConfig, modules: Modules, targets, leaves):
    """(the shape of every tensor that has a place, the names of those that must be there)."""
    shapes: dict[str, tuple[int, ...]] = {}
    required: set[str] = set()
    for module, parts in modules.items():
        for part, path in parts.items():
            shapes[f"{module}.{part}"] = leaves[path].shape[:: -1 if path[-1] == "kernel" else 1]
            if adapter.is_saved(module) or (part == "bias" and adapter.has_bias(module in targets)):
                required.add(f"{module}.{part}")
    for module in targets:
        path, rank = modules[module]["weight"], adapter.rank(module)
        inputs, outputs = leaves[path].shape
        matrices = [(rank, inputs), (outputs, rank)]
        own: dict[str, tuple[int, ...]] = dict(zip(MATRICES[path[-1]], matrices, strict=True))
        own |= {"lora_magnitude_vector": (outputs,)} if adapter.use_dora else {}
        own |= {"lora_B.bias": (outputs,)} if adapter.lora_bias else {}
        shapes |= {f"{module}.{name}": shape for name, shape in own.items()}
        required |= {f"{module}.{name}" for name in own}
    return shapes, required


def _fitting(
    tensors: Named,
    shapes: Mapping[str, tuple[int, ...]],
    required: set[str],
    is_dropped: Callable[[str], bool],
    *,
    where: pathlib.Path,
) -> dict[str, np.ndarray]:
    """{name: tensor, float32}. Raises ValueError with a list of all tensors that have no place,
    have the wrong shape, are double, or are missing."""
    problems, found = [], {}
    for full_name, array in tensors:
        name = full_name.replace(".base_layer.", ".")
        # With bias="all" the file holds copies of the modules in modules_to_save.
        if re.search(r"\.(modules_to_save|original_module)\.", name):
            continue
        if name in found:
            problems.append(f"double: {full_name}")
        elif name not in shapes:
            if not is_dropped(name):
                problems.append(f"without a place: {full_name} {list(array.shape)}")
        elif array.shape != shapes[name]:
            problems.append(
                f"misshapen: {full_name} is {list(array.shape)}, not {list(shapes[name])}"
            )
        found[name] = np.asarray(array, np.float32)
    problems += [f"missing: {name}" for name in sorted(required - found.keys())]
    if problems:
        raise ValueError(
            f"{where}: the tensors do not fit {CONFIG} and the model ({len(problems)} of them):\n  "
            + "\n  ".join(problems)
        )
    return found


def _merged(adapter: AdapterConfig, params, leaves, modules: Modules, targets, found):
    changed = {}
    for module, parts in modules.items():
        for part, path in parts.items():
            if (own := found.get(f"{module}.{part}")) is not None:
                changed[path] = own.T if path[-1] == "kernel" else own
    for module in targets:
        path, scale = modules[module]["weight"], np.float32(adapter.scale(module))
        first, second = (found[f"{module}.{name}"] for name in MATRICES[path[-1]])
        weight = changed.get(path, leaves[path]) + scale * (second @ first).T
        if adapter.use_dora:
            weight *= (found[f"{module}.lora_magnitude_vector"] / np.linalg.norm(weight, axis=0))[
                None
            ]
        changed[path] = weight
        if adapter.lora_bias:
            path = modules[module]["bias"]
            changed[path] = changed.get(path, leaves[path]) + scale * found[f"{module}.lora_B.bias"]
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: changed.get(_keys(path), leaf), params
    )


def _keys(path):
    return tuple(entry.key for entry in path)
