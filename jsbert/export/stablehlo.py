"""StableHLO by jax.export: one program for every batch, length and platform. Only JAX reads it.

The params are in a file of their own, not in the program. Each batch and length is compiled
separately, and every compiled program would hold its own copy of constants. A param takes 4 bytes
(2 in a matrix of bfloat16, 1 in a matrix of int8). The program adds some 10 kB for each layer,
whatever the number of platforms. JAX reads programs that were written up to six months before its
release and up to three weeks after it; see "compatibility guarantees" in
https://docs.jax.dev/en/latest/export/export.html. To call a program without jsbert:

    program = jax.export.deserialize(bytearray(open("model/program.jax_export", "rb").read()))
    vectors = jax.jit(program.call)(dict(numpy.load("model/params.npz")), input_ids, attention_mask)
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jsbert.arrays import AnyArray
from jsbert.export.pipeline import SHAPES, pipeline
from jsbert.files import staged_folder
from jsbert.text_model import TextModel

PROGRAM, PARAMS, FACTS = "program.jax_export", "params.npz", "export.json"
"""The files of the folder."""

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""The platforms that jax.export supports."""


def to_stablehlo(
    model: TextModel,
    path: str | os.PathLike,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    task: str | None = None,
) -> None:
    """Write the model as a folder for `load`: from token ids to the final vector, or to the logits
    of a CrossEncoder.

    The inputs are int32: input_ids and attention_mask (batch, length); then token_type_ids (batch,
    length) for cross-encoders whose encoder has token types, or prompt_length () for models that
    leave the prompt out of the pooling. The output is float32. All files are complete before the
    first reaches `path`. An existing folder keeps its other files.

    Args:
        model: an opened SentenceTransformer or CrossEncoder of any dtype; float32, bfloat16 and
            int8 matrices are written as they are.
        path: the folder to write.
        platforms: the platforms that the program runs on: some of `PLATFORMS`.
        task: chooses a route, for a model with several routes.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: for unknown platforms or tasks.
    """
    unknown = set(platforms) - set(PLATFORMS)
    if isinstance(platforms, str) or not platforms or unknown:
        raise ValueError(f"platforms is {platforms!r}; give some of {list(PLATFORMS)}")
    source = pipeline(model, task)

    # The program takes the params as the file holds them, and converts them back itself.
    def function(params, *inputs):
        dtypes = {name: leaf.dtype for name, leaf in source.params.items()}
        return source.function(
            {name: _from_bits(leaf, dtypes[name]) for name, leaf in params.items()}, *inputs
        )

    params = {name: _to_bits(np.asarray(leaf)) for name, leaf in source.params.items()}
    _, *inputs = source.arguments()
    exported = jax.export.export(jax.jit(function), platforms=tuple(platforms))(params, *inputs)
    facts = {
        "platforms": list(platforms),
        "calling_convention": exported.calling_convention_version,
    }
    with staged_folder(path) as staging:
        (staging / PROGRAM).write_bytes(exported.serialize())
        np.savez(staging / PARAMS, **params)
        text = json.dumps(dict(source.facts) | facts, indent=2, ensure_ascii=False) + "\n"
        (staging / FACTS).write_text(text, encoding="utf8")


class Program:
    """A program that `to_stablehlo` wrote. Call it; each new batch and length is compiled first.

    Attributes:
        facts: the content of export.json: inputs, output, "max_tokens", "embedding_dimension",
            versions.
        params: {name: array}.
    """

    def __init__(
        self,
        exported: jax.export.Exported,
        params: Mapping[str, ArrayLike],
        facts: Mapping[str, Any],
    ):
        self.facts, self.params = facts, jax.device_put(dict(params))
        self._call = jax.jit(exported.call)

    def __call__(
        self, *inputs: Int[AnyArray, "..."], **named: Int[AnyArray, "..."]
    ) -> Float[Array, "batch width"]:
        """The vectors or logits. Give the inputs in the order of `facts["inputs"]`, or by name.

        Raises:
            TypeError: for missing or unknown inputs.
            ValueError: for shapes that do not fit, and texts of more than `facts["max_tokens"]`
                tokens.
        """
        names = list(self.facts["inputs"])
        given = dict(zip(names, inputs, strict=False)) | named
        if len(inputs) + len(named) != len(names) or set(given) != set(names):
            raise TypeError(
                f"given {len(inputs)} inputs and {sorted(named)} by name; the program takes {names}"
            )
        arrays = [jnp.asarray(given[name], jnp.int32) for name in names]
        shapes = {name: array.shape for name, array in zip(names, arrays, strict=True)}
        rows = shapes["input_ids"]
        if len(rows) != 2 or any(
            shape != (rows if SHAPES[name] else ()) for name, shape in shapes.items()
        ):
            raise ValueError(
                f"the inputs' shapes are {shapes}; they must be {dict(self.facts['inputs'])}"
            )
        if rows[1] > self.facts["max_tokens"]:
            raise ValueError(
                f"the rows have {rows[1]} tokens; the program takes {self.facts['max_tokens']}, "
                "cut them"
            )
        return self._call(self.params, *arrays)


def load(path: str | os.PathLike) -> Program:
    """Load the program that `to_stablehlo` wrote to this folder, on JAX's first device.

    Raises:
        FileNotFoundError: if a file of the folder is missing.
        ValueError: if JAX is too new or too old for the program.
    """
    folder = pathlib.Path(path).expanduser()
    facts = json.loads((folder / FACTS).read_text(encoding="utf8"))
    program = jax.export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    with np.load(folder / PARAMS) as params:
        return Program(program, params, facts)


def _to_bits(leaf):
    """The leaf for NumPy's file format, which has no bfloat16: its 16 bits become a uint16."""
    return leaf.view(np.uint16) if leaf.dtype == jnp.bfloat16 else leaf


def _from_bits(leaf, dtype):
    return leaf if leaf.dtype == dtype else jax.lax.bitcast_convert_type(leaf, dtype)
