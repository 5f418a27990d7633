"""Read and write static embeddings: StaticEmbedding modules, and folders of model2vec."""

import pathlib
from typing import Any

import numpy as np

from jsbert.checkpoint.tensors import from_params, read_tensors, to_params, write_tensors
from jsbert.checks import typed
from jsbert.encoders import shapes, static, tensor_names
from jsbert.json_files import has_file, read_json
from jsbert.tokenizer import Tokenizer


def is_model2vec(folder: pathlib.Path) -> bool:
    """Whether a folder without modules.json was written by model2vec."""
    file = folder / "config.json"
    return has_file(file) and read_json(file).get("model_type") == "model2vec"


def normalizes(folder: pathlib.Path) -> bool:
    """Whether a model2vec folder asks for vectors of length 1."""
    return typed(
        read_json(folder / "config.json"), "normalize", bool, True, where=folder / "config.json"
    )


def read_static(folder: pathlib.Path) -> tuple[static.Config, dict[str, Any], Tokenizer]:
    """Read (config, params, tokenizer) from a folder with one vector for each token.

    The table is the tensor "embedding.weight", or model2vec's "embeddings". model2vec's "mapping"
    is the row of each token, and "weights" the factor of each token.

    Raises:
        OSError: for files that are missing.
        ValueError: for tensors that do not fit each other or the tokenizer.
    """
    if not has_file(folder / "tokenizer.json"):
        raise FileNotFoundError(f"{folder}: no tokenizer.json, which static embeddings need")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    tensors, source = read_tensors(folder)
    named = dict(tensors)
    if "embeddings" in named:
        tensors = [("embedding.weight", _folded(named, source))]
    table = dict(tensors).get("embedding.weight")
    if table is None or table.ndim != 2 or not table.size:
        raise ValueError(
            f"{source}: no matrix 'embedding.weight' or 'embeddings' among {sorted(named)}"
        )
    if tokenizer.largest_id >= len(table):
        raise ValueError(
            f"{folder}: the tokenizer has ids up to {tokenizer.largest_id}, the table {len(table)} "
            "rows"
        )
    config = static.Config(vocab_size=table.shape[0], hidden_size=table.shape[1])
    return config, to_params(tensors, tensor_names(config), shapes(config), where=source), tokenizer


def write_static(
    folder: pathlib.Path, config: static.Config, params: Any, tokenizer: Tokenizer
) -> None:
    """Write a folder that sentence-transformers' StaticEmbedding reads."""
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "model.safetensors", from_params(params, tensor_names(config)))
    tokenizer.save(folder, with_limit=True)


def _folded(named, source):
    """model2vec's tensors as one table with a row for each token."""
    unknown = sorted(named.keys() - {"embeddings", "mapping", "weights"})
    if unknown:
        raise ValueError(f"{source}: unknown tensors {unknown} next to 'embeddings'")
    table = named["embeddings"].astype(np.float32)
    if table.ndim != 2:
        raise ValueError(f"{source}: 'embeddings' is {list(table.shape)}, no matrix")
    if "mapping" in named:
        mapping = named["mapping"]
        if mapping.ndim != 1 or mapping.dtype.kind not in "iu":
            raise ValueError(
                f"{source}: 'mapping' is {mapping.dtype} {list(mapping.shape)}, not a row number a "
                "token"
            )
        if mapping.min(initial=0) < 0 or mapping.max(initial=0) >= len(table):
            raise ValueError(
                f"{source}: 'mapping' leads out of the {len(table)} rows of 'embeddings'"
            )
        table = table[mapping]
    if "weights" in named:
        weights = named["weights"].astype(np.float32)
        if weights.shape != table.shape[:1]:
            raise ValueError(f"{source}: {weights.shape} 'weights' for {len(table)} tokens")
        table = table * weights[:, None]
    return table
