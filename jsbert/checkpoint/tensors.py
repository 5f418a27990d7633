"""Read tensors from disk as params, and write params as tensors. One table, `tensor_names` of the
family, serves for both.

safetensors is imported only here. The pickle of a `.bin` is not run; see `pickles.py`.
"""

import collections
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jsbert.checkpoint.find import FLAX
from jsbert.checkpoint.flax_files import torch_tensors
from jsbert.checkpoint.torch_files import saved_tensors
from jsbert.checks import typed
from jsbert.json_files import has_file, inside, read_json

Named = list[tuple[str, np.ndarray]]
"""[(name, tensor)], in the order of the file. A name may occur twice."""

Shapes = Mapping[str, tuple[int, ...]]
"""{name: shape} of the tensors of a checkpoint."""


def read_tensors(
    folder: pathlib.Path,
    files: tuple[str, str] = ("model.safetensors", "pytorch_model.bin"),
    *,
    check: Callable[[Shapes, pathlib.Path], None] = lambda shapes, source: None,
) -> tuple[Named, pathlib.Path]:
    """Read the tensors of a folder: (tensors, the file that holds or lists them).

    The first of these forms that is there is read: safetensors, sharded safetensors, `.bin`,
    sharded `.bin`, `flax_model.msgpack`.

    Args:
        folder: the folder of the weights.
        files: the names of the safetensors file and of the `.bin`.
        check: called with the shapes of the tensors and the file, to refuse them. safetensors have
            a header: they are checked before a tensor is read; others are checked after reading.

    Raises:
        FileNotFoundError: if there are no weights, or a shard is missing.
        ValueError: for a file that cannot be read, such as a `.bin` of more than named tensors.
    """
    read, parts, source = _find_weights(folder, files)
    if read is _read_safetensors:
        check({name: shape for part in parts for name, shape in _read_header(part)}, source)
    tensors = [tensor for part in parts for tensor in read(part)]
    if read is not _read_safetensors:
        check({name: array.shape for name, array in tensors}, source)
    return tensors, source


def to_params(
    tensors: Named,
    names: Mapping[tuple, str],
    shapes: Any,
    *,
    where: pathlib.Path,
    prefix: str = "",
    dropped: Iterable[str] = (),
    tied: Mapping[str, str] = MappingProxyType({}),
) -> dict:
    """The float32 params in the tensors of a checkpoint.

    Args:
        tensors: names and arrays.
        names: {path in the params: name of the tensor, without prefix}. A "kernel" is stored
            transposed.
        shapes: the tree of params with a shape for each.
        where: the file, for messages.
        prefix: removed from names that begin with it.
        dropped: patterns of names, without prefix, of tensors that may be in the file and are not
            used.
        tied: {another name of a tensor: its name}, without prefix. If both are in the file, they
            must be equal.

    Raises:
        ValueError: with a list of all tensors that are unknown, double, misshapen or missing.
    """
    # Find the place of each tensor, and collect all problems.
    expected = {name: path for path, name in names.items()}
    wanted_shape = {
        _keys(path): leaf.shape for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]
    }
    problems: list[str] = []
    found: dict[tuple, np.ndarray] = {}
    for full_name, array in tensors:
        own_name = _modern_name(full_name.removeprefix(prefix))
        name = tied.get(own_name, own_name)
        if name not in expected:
            if not any(re.fullmatch(pattern, name) for pattern in dropped):
                problems.append(f"unknown: {full_name} {list(array.shape)}")
            continue
        path = expected[name]
        array = array.T if path[-1] == "kernel" else array
        if path in found:
            if name not in tied.values():
                problems.append(f"double: {full_name} (another tensor gives {name} too)")
            elif not np.array_equal(found[path], array):
                problems.append(f"double: {full_name} (differs from another tensor for {name})")
        elif array.shape != wanted_shape[path]:
            shape, wanted = (
                list(s[::-1] if path[-1] == "kernel" else s)
                for s in (array.shape, wanted_shape[path])
            )
            problems.append(f"misshapen: {full_name} is {shape}, config.json asks for {wanted}")
        elif not jax.numpy.issubdtype(array.dtype, np.floating):
            problems.append(
                f"misshapen: {full_name} holds {array.dtype}, not floating-point numbers"
            )
        found[path] = array
    problems += [f"missing: {name}" for name, path in expected.items() if path not in found]
    # Report all problems at once; else build the tree.
    if problems:
        count = collections.Counter(problem.partition(":")[0] for problem in problems)
        summary = ", ".join(f"{number} {kind}" for kind, number in count.items())
        raise ValueError(
            f"{where}: the tensors do not fit the config ({summary}):\n  " + "\n  ".join(problems)
        )
    params: dict = {}
    for path, array in found.items():
        node = params
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = np.asarray(array, np.float32)
    return params


def from_params(
    params: Any, names: Mapping[tuple, str], *, prefix: str = ""
) -> dict[str, np.ndarray]:
    """The float32 tensors of params, by HuggingFace name: the inverse of `to_params`."""
    tensors = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        keys = _keys(path)
        array = np.asarray(leaf, np.float32)
        tensors[prefix + names[keys]] = np.ascontiguousarray(
            array.T if keys[-1] == "kernel" else array
        )
    return tensors


def write_tensors(file: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file that transformers reads. Its permissions are those of any new file
    in the folder."""
    file.touch()
    mode = file.stat().st_mode
    safetensors.numpy.save_file(
        tensors, file, metadata={"format": "pt"}
    )  # sets permissions for the owner alone
    file.chmod(mode)


def write_tree(file: pathlib.Path, params: Any) -> None:
    """Write a nested dict of arrays. The name of a tensor is its path: "train/kernel"."""
    flat = {
        "/".join(map(str, _keys(path))): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    write_tensors(file, {name: np.ascontiguousarray(leaf) for name, leaf in flat.items()})


def read_tree(file: pathlib.Path) -> dict[str, Any]:
    """Read the nested dict that `write_tree` wrote.

    Raises:
        ValueError: for a file that cannot be read.
    """
    params: dict = {}
    for name, array in _read_safetensors(file):
        *path, last = name.split("/")
        node = params
        for key in path:
            node = node.setdefault(key, {})
        node[last] = array
    return params


def _keys(path):
    return tuple(entry.key for entry in path)


def _modern_name(name):
    # Checkpoints converted before 2020 have TensorFlow's names of LayerNorm's scale and bias.
    return re.sub(
        r"LayerNorm\.(gamma|beta)$",
        lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}",
        name,
    )


def _find_weights(folder, files):
    """(the function that reads the weights, their files, the file that holds or lists them)."""
    for stem, read in zip(files, (_read_safetensors, _read_saved), strict=True):
        if has_file(folder / stem):
            return read, [folder / stem], folder / stem
        index = folder / f"{stem}.index.json"
        if has_file(index):
            weight_map = typed(read_json(index), "weight_map", dict[str, str], where=index)
            shards = list(
                dict.fromkeys(inside(folder, shard, where=index) for shard in weight_map.values())
            )
            try:
                absent = [shard.name for shard in shards if not has_file(shard)]
            except OSError as error:
                raise OSError(f"{index}: weight_map: {error}") from None
            if absent:
                raise FileNotFoundError(f"{index}: the folder lacks the shards {absent}")
            return read, shards, index
    if has_file(folder / FLAX):
        return _read_flax, [folder / FLAX], folder / FLAX
    raise FileNotFoundError(
        f"{folder}: no weights; expected {files[0]} or {files[1]}, whole or in shards with an "
        f".index.json, or {FLAX}"
    )


def _read_flax(file):
    try:
        return torch_tensors(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _read_header(file):
    return _open_safetensors(file, lambda opened, name: tuple(opened.get_slice(name).get_shape()))


def _read_safetensors(file):
    return _open_safetensors(file, lambda opened, name: opened.get_tensor(name))


def _open_safetensors(file, get):
    """[(name, `get(opened file, name)`)] for all tensors."""
    try:
        with safetensors.safe_open(os.fspath(file), framework="numpy") as opened:
            return [(name, get(opened, name)) for name in opened.keys()]  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"{file}: not a readable safetensors file ({error}); fetch or convert it again"
        ) from None


def _read_saved(file):
    try:
        return saved_tensors(file)
    except ValueError as error:
        raise ValueError(
            f"{file}: not a readable checkpoint of torch.save ({error}); fetch it again, or "
            "convert it where torch is: AutoModel.from_pretrained(folder).save_pretrained(folder) "
            "writes model.safetensors"
        ) from None
