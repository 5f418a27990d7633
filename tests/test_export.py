"""Models as programs of jax.export and as ONNX files."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

import jsbert
from jsbert import encoders, export, siamese
from jsbert.activations import ACTIVATIONS
from jsbert.checkpoint import BiEncoderParts, CrossEncoderParts, Settings
from jsbert.config import Config, CrossConfig, Router
from jsbert.cross import logits
from jsbert.export import onnx as onnx_export
from jsbert.export.pipeline import Pipeline
from jsbert.modules import Dense, Normalize
from tests import command_line, models
from tests.command_line import is_one_line

HEAD = (Dense(24, 17), Normalize())
SHAPES = [(1, 5, "right"), (4, 13, "left")]
"""Rows, length and the side of the padding of batches."""

FAMILIES = sorted({module: name for name, (module, _) in encoders.FAMILIES.items()}.values())
"""A model_type for each family's file."""

OWN_SIZES = {
    "deberta-v2": {
        **{"relative_attention": True, "pos_att_type": ("c2p", "p2c"), "position_buckets": 6},
        **{"norm_rel_ebd": "layer_norm", "conv_kernel_size": 3, "share_att_key": True},
    },
    "modernbert": {"local_attention": 8, "num_hidden_layers": 2},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 8},
    "qwen2": {"num_key_value_heads": 1, "head_dim": 8, "rope_llama3": (8.0, 1.0, 4.0, 16.0)},
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "t5": {"head_dim": 10, "is_gated_act": True, "hidden_act": "gelu_new"},
}

TOKEN_VECTORS = jax.jit(encoders.forward, static_argnums=0)

WITHOUT_HEAD = {"static-embedding", "t5"}


def batch(rows, length, side, *, seed=0):
    """Return random inputs by name, with rows of unequal lengths. If there are several rows, one is
    all padding."""
    generator = np.random.default_rng(seed)
    lengths = np.linspace(length, 0 if rows > 1 else length, rows).astype(int)[:, None]
    places = np.arange(length)[None]
    mask = places < lengths if side == "right" else places >= length - lengths
    return {
        "input_ids": generator.integers(5, models.SIZES["vocab_size"], (rows, length)),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": generator.integers(0, 2, (rows, length)),
        "prompt_length": np.asarray(2),
    }


def bi_encoder(folder, dtype="float32", **options):
    return jsbert.SentenceTransformer.from_parts(models.parts(folder, **options), dtype=dtype)


def vectors(model, inputs, config=None):
    """Return what `siamese.encode` computes."""
    arrays = (inputs[name].astype(np.int32) for name in ("input_ids", "attention_mask"))
    return np.asarray(siamese.encode(config or model.config, model.params, *arrays))


def scores(model, inputs):
    """Return what `cross.logits` computes."""
    ids, mask, types = (
        inputs[name].astype(np.int32) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    has_types = getattr(model.config.encoder, "type_vocab_size", 0) > 1
    return np.asarray(
        logits(model.config, model.params, ids, mask, token_types=types if has_types else None)
    )


def session(file):
    """Return what onnxruntime computes from inputs by name. Inputs that the graph does not know are
    left out."""
    opened = onnxruntime.InferenceSession(file)
    names = [entry.name for entry in opened.get_inputs()]
    return lambda inputs: opened.run(None, {name: inputs[name] for name in names})[0]


def onnx_run(folder, model, **options):
    export.to_onnx(model, folder / "model.onnx", **options)
    return session(folder / "model.onnx")


def stablehlo_run(folder, model, **options):
    export.to_stablehlo(model, folder / "model", **options)
    program = export.load(folder / "model")
    return lambda inputs: np.asarray(
        program(**{name: inputs[name] for name in program.facts["inputs"]})
    )


# StableHLO


ALONE = """
import sys, jax, numpy
for folder in sys.argv[1:]:
    program = jax.export.deserialize(bytearray(open(f"{folder}/program.jax_export", "rb").read()))
    params, inputs = dict(numpy.load(f"{folder}/params.npz")), numpy.load(f"{folder}/inputs.npz")
    run = jax.jit(program.call)
    found = [run(params, inputs[f"ids{i}"], inputs[f"mask{i}"]) for i in range(len(inputs) // 2)]
    numpy.savez(f"{folder}/found.npz", *found)
assert "jsbert" not in sys.modules and "flax" not in sys.modules
"""


def test_a_process_with_jax_alone_gets_the_same_vectors_of_any_batch_and_length(tmp_path):
    batches = {"float32": [batch(*shape) for shape in SHAPES], "bfloat16": [batch(*SHAPES[1])]}
    opened = {dtype: bi_encoder(tmp_path / "v", dtype, head=HEAD) for dtype in batches}
    for dtype, model in opened.items():
        export.to_stablehlo(model, tmp_path / dtype)
        ids = {
            f"ids{i}": inputs["input_ids"].astype(np.int32)
            for i, inputs in enumerate(batches[dtype])
        }
        masks = {
            f"mask{i}": inputs["attention_mask"].astype(np.int32)
            for i, inputs in enumerate(batches[dtype])
        }
        np.savez(tmp_path / dtype / "inputs.npz", **ids, **masks)
    subprocess.run(
        [sys.executable, "-c", ALONE, *(str(tmp_path / dtype) for dtype in opened)], check=True
    )
    for dtype, model in opened.items():
        with np.load(tmp_path / dtype / "found.npz") as found:
            for one, inputs in zip(found.values(), batches[dtype], strict=True):
                assert np.abs(one - vectors(model, inputs)).max() <= 1e-6
    sizes = [(tmp_path / dtype / "params.npz").stat().st_size for dtype in opened]
    assert sizes[1] < 0.8 * sizes[0]


def test_one_program_serves_several_platforms_and_says_what_it_is(tmp_path, tiny):
    export.to_stablehlo(tiny, tmp_path / "model")
    program = jax.export.deserialize(
        bytearray((tmp_path / "model" / "program.jax_export").read_bytes())
    )
    assert program.platforms == ("cpu", "cuda", "tpu")
    facts = json.loads((tmp_path / "model" / "export.json").read_text())
    assert facts == export.load(tmp_path / "model").facts
    assert facts["inputs"] == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
    }
    assert facts["output"] == {"sentence_embedding": ["batch", 24]}
    assert (facts["kind"], facts["family"], facts["dtype"]) == (
        "SentenceTransformer",
        "bert",
        "float32",
    )
    assert (facts["embedding_dimension"], facts["normalized"], facts["similarity"]) == (
        24,
        True,
        "cosine",
    )
    assert (facts["max_tokens"], facts["max_seq_length"]) == (32, tiny.max_seq_length)
    assert facts["versions"] == {"jsbert": jsbert.__version__, "jax": jax.__version__}


def test_a_program_refuses_inputs_that_do_not_fit(tmp_path, tiny):
    export.to_stablehlo(tiny, tmp_path / "model", platforms=["cpu"])
    program = export.load(tmp_path / "model")
    ids = np.ones((2, 33), int)
    with pytest.raises(ValueError, match="33 tokens; the program takes 32"):
        program(ids, ids)
    with pytest.raises(ValueError, match=r"shapes are .*\(2, 33\).*\(2, 5\)"):
        program(ids, ids[:, :5])
    for inputs, named in [
        ((ids,), {}),
        ((ids, ids, ids), {}),
        ((ids, ids), {"input_ids": ids}),
        ((ids,), {"mask": ids}),
    ]:
        with pytest.raises(TypeError, match="the program takes"):
            program(*inputs, **named)
    for platforms in ("cpu", [], ["cpu", "abacus"]):
        with pytest.raises(ValueError, match="platforms is"):
            export.to_stablehlo(tiny, tmp_path / "other", platforms=platforms)
    with pytest.raises(FileNotFoundError, match=r"export\.json"):
        export.load(tmp_path / "other")


# ONNX


@pytest.mark.parametrize(
    "pooling",
    [
        ("mean",),
        ("cls",),
        ("max",),
        ("lasttoken",),
        ("weightedmean",),
        ("mean_sqrt_len_tokens", "mean"),
    ],
    ids=str,
)
def test_onnxruntime_gets_the_same_vectors_of_every_pooling(tmp_path, pooling):
    model = bi_encoder(
        tmp_path / "v", pooling=pooling, head=(Dense(24 * len(pooling), 17), Normalize())
    )
    run = onnx_run(tmp_path, model)
    for inputs in (batch(*shape) for shape in SHAPES):
        ids, mask = (inputs[name].astype(np.int32) for name in ("input_ids", "attention_mask"))
        hidden = TOKEN_VECTORS(model.config.encoder, model.params["encoder"], ids, mask)
        wanted = siamese.pool_and_finish(model.config, model.params, hidden, mask)
        assert np.abs(run(inputs) - np.asarray(wanted)).max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported_as_it_is(tmp_path, family):
    module = encoders.family(family)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    sizes = {name: size for name, size in models.SIZES.items() if name in fields} | {
        "num_hidden_layers": 1
    }
    config = module.Config(**sizes | OWN_SIZES.get(family, {}), model_type=family)
    params, tokenizer = (
        {"encoder": models.perturbed(encoders.shapes(config))},
        models.tokenizer(tmp_path / "v", 20),
    )
    inputs = batch(4, 20, "left")
    if family in WITHOUT_HEAD:
        parts = BiEncoderParts(Config(config), params, tokenizer, Settings())
        model = jsbert.SentenceTransformer.from_parts(parts)
        wanted = vectors(model, inputs)
    else:
        params["head"] = models.perturbed(module.head(config).shapes(config, 3), 1)
        model = jsbert.CrossEncoder.from_parts(
            CrossEncoderParts(CrossConfig(config, 3, "identity"), params, tokenizer)
        )
        wanted = scores(model, inputs)
    for run_of in (onnx_run, stablehlo_run):
        assert np.abs(run_of(tmp_path, model)(inputs) - wanted).max() <= 1e-5 * max(
            1, np.abs(wanted).max()
        )


def test_onnx_files_say_what_they_are_and_take_any_opset(tmp_path, tiny_cross_folder):
    cross = jsbert.CrossEncoder(tiny_cross_folder)
    inputs = batch(3, 32, "right")  # the model's longest text
    for opset in (18, 21):
        run = onnx_run(tmp_path, cross, opset=opset)
        assert np.abs(run(inputs) - scores(cross, inputs)).max() <= 1e-5
        written = onnx.load(tmp_path / "model.onnx")
        assert [entry.version for entry in written.opset_import] == [opset]
    assert [entry.name for entry in written.graph.input] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    assert [entry.name for entry in written.graph.output] == ["logits"]
    facts = json.loads({entry.key: entry.value for entry in written.metadata_props}["jsbert"])
    assert (facts["kind"], facts["num_labels"], facts["activation_not_applied"]) == (
        "CrossEncoder",
        1,
        "sigmoid",
    )
    assert "encoder.layers.1.attention.query.kernel" in {
        entry.name for entry in written.graph.initializer
    }


def test_what_runtimes_know_as_one_node_is_one_node(tmp_path, tiny):
    export.to_onnx(tiny, tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    counts = {kind: kinds.count(kind) for kind in ("LayerNormalization", "Softmax", "Exp", "Erf")}
    assert counts == {"LayerNormalization": 5, "Softmax": 2, "Exp": 0, "Erf": 2}
    # onnxruntime makes one node of each GELU.
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "Erf" not in kinds


def test_params_beyond_protobuf_s_limit_go_to_a_second_file(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    inputs = batch(*SHAPES[1])
    assert np.abs(onnx_run(tmp_path, tiny)(inputs) - vectors(tiny, inputs)).max() <= 1e-5
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes.keys() == {"model.onnx", "model.onnx.data"}
    assert sizes["model.onnx"] < sizes["model.onnx.data"]


WRITTEN = {
    "activations": lambda x, n: sum(function(x + i) for i, function in enumerate(ACTIVATIONS.values())),
    "signs and clamps": lambda x, n: jnp.clip(jnp.sign(x) * jnp.abs(x) ** 3, -2, 2) + jnp.exp2(-jnp.floor(x)),
    "waves": lambda x, n: jnp.sin(x) + jnp.cos(x) * jnp.ceil(x) - jnp.tan(0.1 * x),
    "integers": lambda x, n: (n % 3 - n // 4) ^ (n & 6 | ~n),
    "bools": lambda x, n: jnp.where(x > 0, n == 3, (n >= 7) ^ (x <= -1)),
    "extremes": lambda x, n: jnp.min(x, axis=1) + jnp.prod(1 + x / 9, axis=0).sum() + jnp.argmin(x, axis=1),
    "all and any": lambda x, n: (n > 5).all(axis=1) | (n > 90).any(axis=1),
    "running sums": lambda x, n: jnp.cumsum(n, axis=1) - jax.lax.cumsum(n, axis=0, reverse=True),
    "parts": lambda x, n: jnp.concatenate([jnp.flip(x, (0, 1))[:, ::2], x[1:-1].sum(0, keepdims=True) + x[:, :1]], axis=1),
    "halves": lambda x, n: jnp.stack(jnp.split(jnp.concatenate([x, 2 * x], axis=1), 2, axis=1), axis=-1).reshape(x.shape[0], -1),
    "entries": lambda x, n: x[jnp.arange(x.shape[0]), n[:, 0] % x.shape[1]][:, None] + x[:, jnp.asarray([2, 0])],
    "along an axis": lambda x, n: jnp.take_along_axis(x, n % x.shape[1], axis=1),
    "products": lambda x, n: jnp.einsum("bl,cl->bc", x, x) @ x + jnp.einsum("bl,bl->b", x, x)[:, None],
    "batched products": lambda x, n: jnp.einsum("bli,bmi->blm", x[:, :, None] + jnp.ones(3), x[:, :, None] * jnp.ones(3)),
    "calls": lambda x, n: jax.checkpoint(jnp.sin)(x) + jax.jit(jnp.square)(n),
    "sizes": lambda x, n: x * (x.shape[1] // 3 + x.shape[0] ** 2) - jnp.arange(x.size % 5 + 1).sum() - jnp.arange(x.shape[0] - 3).sum(),
}  # fmt: skip
"""Functions of floats and integers (batch, length)."""


@pytest.mark.parametrize("name", WRITTEN)
def test_primitives_compute_in_onnx_what_they_do_in_jax(name):
    def function(params, ids, mask):
        x = jnp.sin(ids.astype(jnp.float32)) * 3
        with jax.numpy_rank_promotion("allow"):
            return WRITTEN[name](x, ids).astype(jnp.float32)

    source = Pipeline(function, {}, ("input_ids", "attention_mask"), ("found",), 32, {})
    run = session(onnx_export.as_proto(onnx, source, 18).SerializeToString())
    for shape in [(2, 4, "right"), (5, 7, "right")]:
        inputs = batch(*shape)
        wanted = function({}, *(jnp.asarray(inputs[key], jnp.int32) for key in source.inputs))
        assert wanted.shape == run(inputs).shape
        assert np.abs(run(inputs) - np.asarray(wanted)).max() <= 1e-4 * max(1, np.abs(wanted).max())


def test_what_onnx_files_cannot_hold_is_refused_by_name(tmp_path, tiny, monkeypatch):
    source = Pipeline(
        lambda params, ids, mask: jnp.sort(ids),
        {},
        ("input_ids", "attention_mask"),
        ("found",),
        32,
        {},
    )
    with pytest.raises(ValueError, match="there are no ONNX nodes for 'sort'"):
        onnx_export.as_proto(onnx, source, 18)
    with pytest.raises(ValueError, match="computes in bfloat16"):
        export.to_onnx(bi_encoder(tmp_path / "v", "bfloat16"), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="opset is 17"):
        export.to_onnx(tiny, tmp_path / "model.onnx", opset=17)
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        export.to_onnx(tiny, tmp_path)
    with pytest.raises(TypeError, match="given str; give an opened SentenceTransformer"):
        export.to_onnx("model", tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"jsbert\[onnx\]"):
        export.to_onnx(tiny, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


# Both


def test_truncation_prompts_and_routes_are_part_of_it(tmp_path):
    options = {
        "head": (Dense(24, 17), Dense(24, 11), Normalize()),
        "router": Router((("query", (0,)), ("document", (1, 2)))),
        "include_prompt": False,
        "settings": Settings(truncate_dim=5),
    }
    model, inputs = bi_encoder(tmp_path / "v", **options), batch(4, 13, "right")
    arrays = (inputs[name].astype(np.int32) for name in ("input_ids", "attention_mask"))
    wanted = siamese.encode(
        model.config.for_task("document"), model.params, *arrays, prompt_length=2
    )[:, :5]
    for run_of in (onnx_run, stablehlo_run):
        assert np.abs(run_of(tmp_path, model, task="document")(inputs) - wanted).max() <= 1e-5
        with pytest.raises(ValueError, match="no route for task None"):
            run_of(tmp_path, model)
    facts = export.load(tmp_path / "model").facts
    assert facts["inputs"] == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "prompt_length": [],
    }
    assert (facts["embedding_dimension"], facts["normalized"]) == (5, False)


def test_a_failed_export_leaves_what_there_was(tmp_path, tiny, monkeypatch):
    (tmp_path / "old").mkdir()
    export.to_stablehlo(tiny, tmp_path / "old" / "model", platforms=["cpu"])
    before = {file.name: file.read_bytes() for file in (tmp_path / "old" / "model").iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(onnx.checker, "check_model", full)
    for folder in (tmp_path / "old" / "model", tmp_path / "new"):
        for write, path in [(export.to_stablehlo, folder), (export.to_onnx, folder / "model.onnx")]:
            with pytest.raises(OSError, match="No space"):
                write(tiny, path)
    assert before == {
        file.name: file.read_bytes() for file in (tmp_path / "old" / "model").iterdir()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


# The command line


@pytest.fixture
def run(capfd):
    """Run the command line, and return (exit code, stdout, stderr)."""
    return lambda *argv: command_line.run(capfd, argv)


def test_the_command_line_writes_checked_folders(
    run, tiny, tiny_folder, tiny_cross_folder, tmp_path
):
    inputs = batch(*SHAPES[1])
    code, out, err = run("export", tiny_folder, tmp_path / "onnx", "--format", "onnx")
    assert (code, err) == (0, "")
    assert json.loads(out)["largest_difference"] <= 1e-5
    assert list(json.loads(out)["files"]) == ["model.onnx"]
    assert (
        np.abs(session(tmp_path / "onnx" / "model.onnx")(inputs) - vectors(tiny, inputs)).max()
        <= 1e-5
    )
    code, out, err = run(
        *(
            f"export {tiny_cross_folder} {tmp_path / 'hlo'} --format stablehlo --platform cpu,tpu "
            "--dtype bfloat16"
        ).split()
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["largest_difference"] <= 1e-6
    facts = export.load(tmp_path / "hlo").facts
    assert (facts["platforms"], facts["dtype"], facts["kind"]) == (
        ["cpu", "tpu"],
        "bfloat16",
        "CrossEncoder",
    )
    code, out, _ = run(
        "export", tiny_folder, tmp_path / "tpu", "--format", "stablehlo", "--platform", "tpu"
    )
    assert (code, json.loads(out)["largest_difference"]) == (0, None)


def test_the_command_line_checks_without_onnxruntime_too(run, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxruntime" else True
    )
    code, out, err = run("export", tiny_folder, tmp_path / "onnx", "--format", "onnx")
    assert (code, err) == (0, "")
    assert json.loads(out)["largest_difference"] <= 1e-5


def test_exports_that_are_refused_leave_nothing(
    run, tiny_folder, tiny_cross_folder, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    for argv, code, words in [
        ((tiny_folder, out), 2, "--format"),
        ((tiny_folder, out, "--format", "gguf"), 2, "gguf"),
        ((tiny_folder, out, "--format", "onnx", "--platform", "cpu"), 2, "--platform"),
        ((tiny_cross_folder, out, "--format", "onnx", "--pooling", "cls"), 2, "does not pool"),
        ((tiny_folder, tiny_folder, "--format", "onnx"), 1, "new or empty folder"),
        ((tiny_folder, out, "--format", "onnx", "--dtype", "int8"), 1, "dtype='float32'"),
        ((tiny_folder, out, "--format", "stablehlo", "--platform", "abacus"), 1, "abacus"),
        ((tmp_path / "no-such", out, "--format", "onnx"), 1, "no-such"),
    ]:
        found = run("export", *argv)
        assert found[:2] == (code, ""), argv
        assert is_one_line(found[2], words), found[2]
    monkeypatch.setattr("jsbert.cli.export._difference", lambda *_: float("nan"))
    found = run("export", tiny_folder, out, "--format", "stablehlo")
    assert found[0] == 1
    assert is_one_line(found[2], "differs")
    assert list(tmp_path.iterdir()) == []
