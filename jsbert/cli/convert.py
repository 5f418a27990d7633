"""`jsbert convert`: a checkpoint from elsewhere to a checked folder of ours."""

import hashlib
import json
import pathlib
from typing import Annotated

import typer

from jsbert.cli import options

TEXTS = (
    "A man is eating food.",
    "",
    "The quick brown fox jumps over the lazy dog, twice: 3.14 and 1,000!",
    "Ein größerer Satz, 他们在吃饭 🙂",
    "long " * 600,
)
"""What the written model and the one it came from must agree on: among them an empty text and one
that is cut."""

TOLERANCE = 1e-6
"""The largest difference allowed. The weights are the same float32 numbers; only batches' shapes
may differ."""

MANIFEST = "manifest.json"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A hub name, a HuggingFace or sentence-transformers folder, or its weights file "
            "(.bin, .msgpack)."
        ),
    ],
    output: Annotated[pathlib.Path, typer.Argument(help="The folder to write; new or empty.")],
    pooling: options.Pooling = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit on the Hub.", show_default="the latest"),
    ] = None,
) -> None:
    """Write a model as a sentence-transformers folder with float32 safetensors, and check it.

    The model is opened, written, opened again and compared on a few texts. manifest.json lists each
    file with its size and sha256, and the largest difference found. Weights that are only pickled
    (.bin) need torch installed.
    """
    import jax

    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder
    from jsbert.cli.output import check_new, check_space
    from jsbert.files import staged_folder

    check_new(output)
    with staged_folder(output) as staging:
        folder = find_model(_folder_of(source), revision=revision)
        is_cross = is_cross_encoder(folder)
        if is_cross and pooling is not None:
            raise typer.BadParameter(
                f"{source} holds a cross-encoder, which does not pool", param_hint="'--pooling'"
            )
        model = open_cross_encoder(folder) if is_cross else open_bi_encoder(folder, pooling=pooling)
        check_space(staging.parent, sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)))
        model.save_pretrained(staging)
        again = open_cross_encoder(staging) if is_cross else open_bi_encoder(staging)
        difference = _difference(model, again, is_cross)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the model written differs from {source} by {difference}; nothing is kept"
            )
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        manifest = {
            "source": source,
            "revision": revision,
            "kind": "CrossEncoder" if is_cross else "SentenceTransformer",
            "texts_compared": len(TEXTS),
            "largest_difference": difference,
            "files": {
                path.relative_to(staging).as_posix(): {
                    "bytes": path.stat().st_size,
                    "sha256": _sha256(path),
                }
                for path in files
            },
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (staging / MANIFEST).write_text(text, encoding="utf8")
    print(
        json.dumps({"folder": str(output), "largest_difference": difference, "files": len(files)})
    )


def _folder_of(source):
    """The folder of a weights file; other sources as they are."""
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        return source
    readable = (
        "model.safetensors",
        "pytorch_model.bin",
        "flax_model.msgpack",
    )  # in the order in which one is taken
    if path.name not in readable:
        raise ValueError(
            f"{source}: give the model's folder, or one of its files {', '.join(readable)}"
        )
    first = next(name for name in readable if (path.parent / name).is_file())
    if first != path.name:
        raise ValueError(
            f"{path.parent} holds {first} too, which is read first; give the folder, or move it"
        )
    return path.parent


def _difference(model, again, is_cross):
    import numpy as np

    if is_cross:
        pairs = [(text, TEXTS[0]) for text in TEXTS]
        outputs = [
            one.predict(pairs, activation_fn="identity", on_truncate="ignore")
            for one in (model, again)
        ]
    else:
        outputs = [one.encode(TEXTS, on_truncate="ignore") for one in (model, again)]
    if outputs[0].shape != outputs[1].shape or not np.isfinite(outputs[0]).all():
        return float("nan")
    return float(np.abs(outputs[0] - outputs[1]).max())


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
