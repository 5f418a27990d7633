"""`jsbert export`: write a model as a program for JAX alone or as an ONNX file, and check the
result."""

import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jsbert.cli import options

if TYPE_CHECKING:
    import numpy as np

    from jsbert.export.pipeline import Pipeline

TOLERANCE, COARSE = 1e-4, 1e-2
"""The largest difference allowed, relative to the largest entry or to 1, whichever is larger. The
first number is for float32. The second is for other dtypes, in which another order of the
operations changes the rounding more."""

ONNX_FILE = "model.onnx"

Run = Callable[[Mapping[str, "np.ndarray"]], Any]
"""A function from inputs by name to the output, an array of NumPy or JAX."""


def export(
    source: Annotated[
        str, typer.Argument(help="A folder, a bundled model's name or a hub name.", metavar="MODEL")
    ],
    output: Annotated[
        pathlib.Path, typer.Argument(help="The folder to write; new or empty.", metavar="OUT")
    ],
    format: Annotated[
        Literal["stablehlo", "onnx"],
        typer.Option(
            help="'stablehlo': a program of jax.export and its params. 'onnx': the file model.onnx."
        ),
    ],
    platform: Annotated[
        str | None,
        typer.Option(
            help="Where a stablehlo program will run: cpu, cuda, rocm, tpu; several with commas.",
            show_default="cpu,cuda,tpu",
        ),
    ] = None,
    dtype: options.Dtype = "float32",
    pooling: options.Pooling = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="The route to take, for a model with several.", show_default="the model's"
        ),
    ] = None,
) -> None:
    """Write a model from token ids to its final vector, for any batch and length, to run without
    jsbert.

    A bi-encoder is written with its pooling, Dense layers and normalisation; a cross-encoder is
    written up to its logits. The command runs the result once and compares the outputs with the
    model's. A result for other platforms than this one is not run.
    """
    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder
    from jsbert.cli.output import check_new
    from jsbert.cross_encoder import CrossEncoder
    from jsbert.export import to_onnx, to_stablehlo
    from jsbert.export.pipeline import pipeline
    from jsbert.files import check_space, staged_folder
    from jsbert.sentence_transformer import SentenceTransformer

    if format == "onnx" and platform is not None:
        raise typer.BadParameter(
            "ONNX files run wherever there is a runtime", param_hint="'--platform'"
        )
    check_new(output)
    with staged_folder(output) as staging:
        folder = find_model(source)
        is_cross = is_cross_encoder(folder)
        if is_cross and pooling is not None:
            raise typer.BadParameter(
                f"{source} holds a cross-encoder, which does not pool", param_hint="'--pooling'"
            )
        model: CrossEncoder | SentenceTransformer
        if is_cross:
            model = open_cross_encoder(folder, dtype=dtype)
        else:
            model = open_bi_encoder(folder, dtype=dtype, pooling=pooling)
        computed = pipeline(model, task)
        check_space(staging.parent, sum(leaf.nbytes for leaf in computed.params.values()))
        if format == "onnx":
            to_onnx(model, staging / ONNX_FILE, task=task)
        elif platform is None:
            to_stablehlo(model, staging, task=task)
        else:
            to_stablehlo(model, staging, task=task, platforms=options.split(platform))
        # Compare before the block ends: an error leaves no output folder.
        difference = _difference(computed, staging, format)
        if difference is not None and not difference <= (
            TOLERANCE if computed.facts["dtype"] == "float32" else COARSE
        ):
            raise ValueError(
                f"the {format} written differs from {source} by {difference}; nothing is kept"
            )
        files = {file.name: file.stat().st_size for file in sorted(staging.iterdir())}
    print(json.dumps({"folder": str(output), "largest_difference": difference, "files": files}))


def _difference(computed: "Pipeline", staging: pathlib.Path, format: str) -> float | None:
    """Return the largest difference between the exported program and the model on random rows of
    unequal length, relative to the largest output; None if the program cannot run here."""
    import numpy as np

    run = _onnx(staging / ONNX_FILE) if format == "onnx" else _stablehlo(staging)
    if run is None:
        return None
    length = min(12, computed.max_tokens)
    mask = np.arange(length)[None] < np.asarray([length, max(1, length // 2), 1])[:, None]
    ids = np.random.default_rng(0).integers(0, computed.facts["vocab_size"], mask.shape)
    made = {
        "input_ids": ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
        "prompt_length": np.asarray(1),
    }
    inputs = {name: made[name] for name in computed.inputs}
    wanted = np.asarray(
        computed.function(computed.params, *(array.astype(np.int32) for array in inputs.values()))
    )
    found = np.asarray(run(inputs))
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("nan")
    return float(np.abs(found - wanted).max() / max(1, np.abs(wanted).max()))


def _stablehlo(folder: pathlib.Path) -> Run | None:
    """Return a function that runs the exported program; None if the program is for other
    platforms."""
    import jax

    from jsbert import export

    program = export.load(folder)
    runs_here = jax.export.default_export_platform() in program.facts["platforms"]
    return (lambda inputs: program(**inputs)) if runs_here else None


def _onnx(file: pathlib.Path) -> Run:
    """Return a function that runs the ONNX file: with onnxruntime if it is installed, else with the
    slow evaluator that comes with onnx."""
    session: Any  # of a library that has no type hints
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(file))
    return lambda inputs: session.run(None, inputs)[0]
