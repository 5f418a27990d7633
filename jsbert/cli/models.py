"""Names from the command line to opened models, of the kind that the command needs."""

import os
import pathlib
from typing import Any

from jsbert.checkpoint import find_folder, is_cross_encoder
from jsbert.cli.options import split
from jsbert.cross_encoder import ORGANIZATION, CrossEncoder
from jsbert.sentence_transformer import SentenceTransformer


def find_model(name: str | os.PathLike | None, **options: Any) -> pathlib.Path:
    """The folder of a model, as `find_folder`; OSError for one without a model too."""
    folder = find_folder(name, **options)
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise FileNotFoundError(
            f"{folder}: no modules.json and no config.json; is this a model's folder?"
        )
    return folder


def open_bi_encoder(
    name: str | None, *, device: str | None = None, pooling: str | None = None, **options: Any
) -> SentenceTransformer:
    """The SentenceTransformer of that name; `device` and `pooling` may be lists with commas.

    Raises:
        OSError, ValueError: as its constructor; and for a cross-encoder's folder.
    """
    folder = find_model(name)
    if is_cross_encoder(folder):
        raise ValueError(
            f"{folder} holds a cross-encoder, which scores pairs; give a bi-encoder, which makes "
            "vectors"
        )
    return SentenceTransformer(folder, device=split(device), pooling=split(pooling), **options)


def open_cross_encoder(
    name: str, *, device: str | None = None, num_labels: int | None = None, **options: Any
) -> CrossEncoder:
    """The CrossEncoder of that name; with `num_labels`, one to be trained on any model's encoder.

    Raises:
        OSError, ValueError: as its constructor; and for a bi-encoder's folder.
    """
    folder = find_model(name, organization=ORGANIZATION)
    if num_labels is None and not is_cross_encoder(folder):
        raise ValueError(
            f"{folder} holds a bi-encoder, which makes vectors; give a cross-encoder, which scores "
            "pairs"
        )
    return CrossEncoder(folder, device=split(device), num_labels=num_labels, **options)
