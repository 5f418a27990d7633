"""StableHLO by jax.export: one program for every batch, length and platform, read by JAX alone.

The params lie beside the program, not in it: each batch and length is compiled anew, and every
compiled program would hold its own copy of constants. So the folder is as large as the params, 4
bytes each (matrices of bfloat16 2, of int8 1), and the program adds some 10 kB a layer, whatever
the number of platforms. JAX reads what was written up to six months before its release and three
weeks after it, see "compatibility guarantees" in https://docs.jax.dev/en/latest/export/export.html.
Without jsbert:

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
from jsbert.cross_encoder import CrossEncoder
from jsbert.export.pipeline import SHAPES, pipeline
from jsbert.files import staged_folder
from jsbert.sentence_transformer import SentenceTransformer

PROGRAM, PARAMS, FACTS = "program.jax_export", "params.npz", "export.json"
"""The folder's files."""

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What jax.export knows."""


def to_stablehlo(
    model: SentenceTransformer | CrossEncoder,
    path: str | os.PathLike,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    task: str | None = None,
) -> None:
    """Writes the model from token ids to its final vector (of a CrossEncoder: to its logits) as a
    folder for `load`.

    The inputs are int32: input_ids and attention_mask (batch, length), then token_type_ids for
    cross-encoders whose encoder has types, or prompt_length () for models that leave the prompt out
    of the pooling. The output is float32. All files are complete before the first reaches `path`;
    an existing folder keeps its other files.

    Args:
        model: of any dtype; float32, bfloat16 and int8 matrices are written as they are.
        path: the folder.
        platforms: where the program shall run; of "cpu", "cuda", "rocm", "tpu".
        task: for a model with several routes, the one to take.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: for unknown platforms or tasks.
    """
    unknown = set(platforms) - set(PLATFORMS)
    if isinstance(platforms, str) or not platforms or unknown:
        raise ValueError(f"platforms is {platforms!r}; give some of {list(PLATFORMS)}")
    source = pipeline(model, task)

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
    """What `to_stablehlo` wrote, to be called. A batch and length that are new are compiled first.

    Attributes:
        facts: the folder's export.json: inputs, output, "max_tokens", "embedding_dimension",
            versions.
        params: the arrays by name.
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
        """The vectors, or logits; inputs in the order of `facts["inputs"]`, or by name.

        Raises:
            TypeError: for other inputs than these.
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
    """The program that `to_stablehlo` wrote to this folder, on JAX's first device.

    Raises:
        FileNotFoundError: if one of its files is not there.
        ValueError: if JAX is too new or too old for it.
    """
    folder = pathlib.Path(path).expanduser()
    facts = json.loads((folder / FACTS).read_text(encoding="utf8"))
    program = jax.export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    with np.load(folder / PARAMS) as params:
        return Program(program, params, facts)


def _to_bits(leaf):
    """NumPy's file format knows no bfloat16: its 16 bits go there as an integer."""
    return leaf.view(np.uint16) if leaf.dtype == jnp.bfloat16 else leaf


def _from_bits(leaf, dtype):
    return leaf if leaf.dtype == dtype else jax.lax.bitcast_convert_type(leaf, dtype)
