"""`jsbert convert`: write a checkpoint from elsewhere as a jsbert folder, and check the folder."""

import json
import pathlib
from typing import Annotated, Any

import typer

from jsbert.cli import options

TEXTS = (
    "A man is eating food.",
    "",
    "The quick brown fox jumps over the lazy dog, twice: 3.14 and 1,000!",
    "Ein größerer Satz, 他们在吃饭 🙂",
    "long " * 600,
)
"""The texts on which the written model and the source model must agree. One text is empty, and one
is so long that it is truncated."""

TOLERANCE = 1e-6
"""The largest difference allowed. Both models have the same float32 weights; only the shapes of the
batches may differ."""

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

    The command opens the model, writes it, opens the written folder, and compares both models on a
    few texts. manifest.json lists each file with its size and sha256, and the largest difference
    found. Weights that exist only as a pickle (.bin) are read without torch.
    """
    import jax

    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder
    from jsbert.cli.output import check_new
    from jsbert.files import check_space, sha256, staged_folder

    check_new(output)
    with staged_folder(output) as staging:
        folder = find_model(_folder_of(source), revision=revision)
        is_cross = is_cross_encoder(folder)
        if is_cross and pooling is not None:
            raise typer.BadParameter(
                f"{source} holds a cross-encoder, which does not pool", param_hint="'--pooling'"
            )
        # Write the model into the staging folder, and compare the copy with the model.
        model = open_cross_encoder(folder) if is_cross else open_bi_encoder(folder, pooling=pooling)
        check_space(staging.parent, sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)))
        model.save_pretrained(staging)
        again = open_cross_encoder(staging) if is_cross else open_bi_encoder(staging)
        difference = _difference(model, again, is_cross)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the model written differs from {source} by {difference}; nothing is kept"
            )
        # List the files in the manifest. The staging folder becomes `output` when the block ends.
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
                    "sha256": sha256(path),
                }
                for path in files
            },
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (staging / MANIFEST).write_text(text, encoding="utf8")
    print(
        json.dumps({"folder": str(output), "largest_difference": difference, "files": len(files)})
    )


def _folder_of(source: str) -> str | pathlib.Path:
    """Return the folder of a weights file. Return any other source unchanged."""
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        return source
    # The reader of checkpoints takes the first of these files that exists.
    readable = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
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


def _difference(model: Any, again: Any, is_cross: bool) -> float:
    """Return the largest difference between the outputs of two models on `TEXTS`; NaN if the shapes
    differ or the outputs of `model` are not finite."""
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
