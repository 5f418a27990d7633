"""Open models by their names on the command line, of the kind that the command needs."""

import os
import pathlib
from typing import Any

from jsbert.checkpoint import find_folder, is_cross_encoder
from jsbert.cli.options import split
from jsbert.cross_encoder import ORGANIZATION, CrossEncoder
from jsbert.sentence_transformer import SentenceTransformer


def find_model(name: str | os.PathLike | None, **options: Any) -> pathlib.Path:
    """Return the folder of a model, as `find_folder` does.

    Raises:
        OSError: as `find_folder`, and if the folder holds no model.
        ValueError: as `find_folder`.
    """
    folder = find_folder(name, **options)
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise FileNotFoundError(
            f"{folder}: no modules.json and no config.json; is this a model's folder?"
        )
    return folder


def open_bi_encoder(
    name: str | os.PathLike | None,
    *,
    device: str | None = None,
    pooling: str | None = None,
    **options: Any,
) -> SentenceTransformer:
    """Open the SentenceTransformer of that name. `device` and `pooling` may be lists separated by
    commas.

    Raises:
        OSError, ValueError: as the constructor of SentenceTransformer.
        ValueError: also for the folder of a cross-encoder.
    """
    folder = find_model(name)
    if is_cross_encoder(folder):
        raise ValueError(
            f"{folder} holds a cross-encoder, which scores pairs; give a bi-encoder, which makes "
            "vectors"
        )
    return SentenceTransformer(folder, device=split(device), pooling=split(pooling), **options)


def open_cross_encoder(
    name: str | os.PathLike,
    *,
    device: str | None = None,
    num_labels: int | None = None,
    **options: Any,
) -> CrossEncoder:
    """Open the CrossEncoder of that name. With `num_labels`, make a cross-encoder from the encoder
    of any model, to be trained.

    Raises:
        OSError, ValueError: as the constructor of CrossEncoder.
        ValueError: also for the folder of a bi-encoder, unless `num_labels` is given.
    """
    folder = find_model(name, organization=ORGANIZATION)
    if num_labels is None and not is_cross_encoder(folder):
        raise ValueError(
            f"{folder} holds a bi-encoder, which makes vectors; give a cross-encoder, which scores "
            "pairs"
        )
    return CrossEncoder(folder, device=split(device), num_labels=num_labels, **options)
