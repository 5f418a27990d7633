"""Models in onnxruntime and OpenVINO, behind the same objects."""

import dataclasses
import importlib.util
import json
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

import jsbert
from jsbert import encoders, siamese
from jsbert.checkpoint import BiEncoderParts
from jsbert.config import Config
from jsbert.engine.batching import padding_share
from jsbert.export.onnx import save_graph
from jsbert.export.pipeline import pipeline
from jsbert.runtimes.engine import exact_batches
from jsbert.runtimes.graphs import model_hash
from jsbert.runtimes.sessions import open_session
from tests import models
from tests.test_export import FAMILIES, OWN_SIZES, batch

TEXTS = ["the cat", "", "a dog ran quickly under the red tree .", "it was blue", "the cat " * 40]
PAIRS = [("the cat", "a dog ran"), ("it is", "the red house and the blue tree"), ("", "x")]

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
BACKENDS = ["onnx", pytest.param("openvino", marks=needs_openvino)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_outputs_are_those_of_jax(tiny, tiny_folder, backend):
    model = jsbert.SentenceTransformer(tiny_folder, backend=backend)
    for options in (
        {},
        {"normalize_embeddings": True, "truncate_dim": 7},
        {"prompt": "query : "},
        {"batch_size": 2},
        {"output_value": "token_embeddings"},
        {"output_value": None},
    ):
        options = options | {"on_truncate": "ignore"}
        found, wanted = model.encode(TEXTS, **options), tiny.encode(TEXTS, **options)
        for one, other in zip(found, wanted, strict=True):
            one, other = (x if isinstance(x, dict) else {"": x} for x in (one, other))
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_allclose(one[name], other[name], atol=1e-5)
                assert one[name].dtype == other[name].dtype
    assert model.encode([]).shape == (0, 24)
    codes = [one.encode(TEXTS[:3], precision="ubinary") for one in (model, tiny)]
    assert np.array_equal(*codes)
    assert "by " + backend in repr(model)
    assert model.similarity(model.encode(TEXTS[:2]), model.encode(TEXTS[:2])).shape == (2, 2)
    assert list(model.encode_iter(iter(TEXTS[:2])))[1].shape == (24,)
    assert model.encode([[2, 5, 3]]).shape == (1, 24)
    assert model.encode("the cat", convert_to_tensor=True).shape == (24,)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_labels", [1, 3])
def test_scores_are_those_of_jax(tmp_path, backend, num_labels):
    folder = models.write_cross_folder(tmp_path / "cross", num_labels=num_labels)
    wanted = jsbert.CrossEncoder(folder)
    found = jsbert.CrossEncoder(folder, backend=backend)
    for options in ({}, {"activation_fn": "tanh"}, {"apply_softmax": True}):
        np.testing.assert_allclose(
            found.predict(PAIRS, **options), wanted.predict(PAIRS, **options), atol=1e-5
        )
    one = found.predict(PAIRS[0])
    np.testing.assert_allclose(one, wanted.predict(PAIRS[0]), atol=1e-5)
    assert found.predict(PAIRS[:0]).shape == wanted.predict(PAIRS[:0]).shape
    if num_labels == 1:
        ranked = [model.rank("the cat", ["a dog", "the cat sat"]) for model in (found, wanted)]
        assert [row["corpus_id"] for row in ranked[0]] == [row["corpus_id"] for row in ranked[1]]


@pytest.mark.parametrize("include_prompt", [True, False])
def test_settings_of_the_folder_and_of_the_caller_count(tmp_path, include_prompt):
    settings = jsbert.checkpoint.Settings({"query": "query : "}, "query", "dot", 9)
    folder = models.write_folder(
        tmp_path / "m", settings=settings, include_prompt=include_prompt, pooling=("mean", "max")
    )
    for options in ({}, {"prompts": {"a": "a : "}, "default_prompt_name": "a", "truncate_dim": 5}):
        wanted = jsbert.SentenceTransformer(folder, **options)
        found = jsbert.SentenceTransformer(folder, backend="onnx", **options)
        np.testing.assert_allclose(found.encode(TEXTS[:3]), wanted.encode(TEXTS[:3]), atol=1e-5)
        for name in ("prompts", "default_prompt_name", "similarity_fn_name", "max_seq_length"):
            assert getattr(found, name) == getattr(wanted, name)
        assert found.get_embedding_dimension() == wanted.get_embedding_dimension()
    other = jsbert.SentenceTransformer(folder, backend="onnx", pooling="cls")
    wanted = jsbert.SentenceTransformer(folder, pooling="cls")
    np.testing.assert_allclose(other.encode(TEXTS[:3]), wanted.encode(TEXTS[:3]), atol=1e-5)
    with pytest.raises(ValueError, match="default_prompt_name 'b' is not in the prompts"):
        jsbert.SentenceTransformer(folder, backend="onnx", default_prompt_name="b")


def test_int8_is_near_float32():
    texts = ["The weather is lovely today.", "He drove to the stadium.", "It's so sunny outside!"]
    exact = jsbert.SentenceTransformer(backend="onnx").encode(texts)
    coarse = jsbert.SentenceTransformer(backend="onnx", dtype="int8")
    assert coarse.dtype == "int8"
    cosine = np.sum(exact * coarse.encode(texts), axis=1)
    assert (cosine > 0.98).all()
    assert (cosine < 0.999999).any()


@needs_openvino
def test_openvino_computes_in_bfloat16():
    texts = ["The weather is lovely today.", "He drove to the stadium."]
    exact = jsbert.SentenceTransformer(backend="onnx").encode(texts)
    coarse = jsbert.SentenceTransformer(backend="openvino", dtype="bfloat16").encode(texts)
    assert (np.sum(exact * coarse, axis=1) > 0.999).all()
    assert np.abs(exact - coarse).max() > 1e-6


@pytest.mark.parametrize("kind", ["SentenceTransformer", "CrossEncoder"])
def test_a_second_process_does_without_jax(tiny_folder, tiny_cross_folder, kind):
    folder = {"SentenceTransformer": tiny_folder, "CrossEncoder": tiny_cross_folder}[kind]
    getattr(jsbert, kind)(folder, backend="onnx")
    code = (
        f"import sys; from jsbert import {kind}\n"
        f"model = {kind}(sys.argv[1], backend='onnx')\n"
        "run = getattr(model, 'predict', None) or model.encode\n"
        "print(run([('a cat', 'a dog')] if hasattr(model, 'predict') else ['a cat']).shape)\n"
        "heavy = {'jax', 'flax', 'jaxlib', 'scipy', 'transformers', 'torch', 'onnx', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1,")


def test_a_changed_model_has_another_graph(tmp_path):
    folder, cache = models.write_folder(tmp_path / "m"), tmp_path / "cache"
    first = model_hash(folder, cache)
    assert model_hash(folder, cache) == first  # from the note
    before = jsbert.SentenceTransformer(folder, backend="onnx").encode("the cat")
    jsbert.SentenceTransformer.from_parts(models.parts(tmp_path / "other", seed=5)).save_pretrained(
        folder
    )
    assert model_hash(folder, cache) != first
    after = jsbert.SentenceTransformer(folder, backend="onnx").encode("the cat")
    assert np.abs(before - after).max() > 1e-3
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncate_dim": 3}))
    assert jsbert.SentenceTransformer(folder, backend="onnx").encode("the cat").shape == (3,)


def test_two_processes_may_write_the_graph_at_once(tmp_path, monkeypatch):
    folder = models.write_folder(tmp_path / "m", seed=8)
    real, calls, inner = jsbert.export.onnx.save_graph, [], []

    def save_graph(source, path):
        real(source, path)
        if not calls:  # the other process is faster
            calls.append(1)
            inner.append(jsbert.SentenceTransformer(folder, backend="onnx"))

    monkeypatch.setattr("jsbert.export.onnx.save_graph", save_graph)
    model = jsbert.SentenceTransformer(folder, backend="onnx")
    assert np.array_equal(model.encode("the cat"), inner[0].encode("the cat"))


def test_a_model_can_be_pickled_and_used_in_a_pool(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, backend="onnx")
    wanted = model.encode(TEXTS[:3])
    np.testing.assert_allclose(
        pickle.loads(pickle.dumps(model)).encode(TEXTS[:3]), wanted, atol=1e-6
    )
    pool = model.start_multi_process_pool(["cpu"])
    try:
        np.testing.assert_allclose(model.encode(TEXTS[:3], pool=pool), wanted, atol=1e-6)
    finally:
        model.stop_multi_process_pool(pool)


def _encode(model, queue):
    try:
        model.encode("the cat")
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:")
def test_a_forked_process_is_told_what_to_do(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, backend="onnx")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_encode, args=(model, queue))
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert "forked after the model had been opened" in queue.get()


def test_what_needs_the_params_says_to_open_the_model_with_jax(
    tiny_folder, tiny_cross_folder, tmp_path
):
    model = jsbert.SentenceTransformer(tiny_folder, backend="onnx")
    cross = jsbert.CrossEncoder(tiny_cross_folder, backend="onnx")
    source = jsbert.train.Source([("a cat", "a dog")] * 4, "in-batch")
    for call in (
        lambda: model.params,
        lambda: model.config,
        lambda: model.parts,
        lambda: model.save_pretrained(tmp_path / "x"),
        lambda: model.set_pooling_include_prompt(False),
        lambda: cross.params,
        lambda: cross.parts,
        lambda: cross.save_pretrained(tmp_path / "x"),
        lambda: jsbert.export.to_stablehlo(model, tmp_path / "x"),
        lambda: jsbert.export.to_onnx(cross, tmp_path / "x.onnx"),
        lambda: jsbert.train.fit(model, source, tmp_path / "x"),
        lambda: jsbert.adapters.load_adapter(model, tmp_path),
    ):
        with pytest.raises(ValueError, match="open the model with backend='jax'"):
            call()
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="computes the model's graph .* backend='jax'"):
        next(model.engine.stream(lambda params, ids, lengths: ids, ["a cat"]))
    assert model.warmup() == 0
    assert cross.warmup() == 0
    assert model.device == "cpu"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backend": "torch"}, "backend is 'torch'; choose one of 'jax', 'onnx', 'openvino'"),
        ({"backend": "onnx", "dtype": "bfloat16"}, "bfloat16.*backend='openvino' or"),
        ({"backend": "openvino", "dtype": "int8"}, "int8.*backend='onnx' or"),
        ({"backend": "onnx", "device": "cuda"}, "device is 'cuda' with backend='onnx'"),
        ({"backend": "onnx", "attn_implementation": "xla"}, "attn_implementation is 'xla'"),
        ({"backend": "onnx", "shard_params": True}, "shard_params is True"),
    ],
)
def test_options_that_a_runtime_lacks_are_refused_by_name(
    tiny_folder, tiny_cross_folder, options, message
):
    with pytest.raises(ValueError, match=message):
        jsbert.SentenceTransformer(tiny_folder, **options)
    with pytest.raises(ValueError, match=message):
        jsbert.CrossEncoder(tiny_cross_folder, **options)


def test_calls_on_another_device_and_long_texts_are_refused(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, backend="onnx")
    with pytest.raises(ValueError, match="device is 'cuda', and backend='onnx'"):
        model.encode("a", device="cuda")
    with pytest.raises(ValueError, match="text 0 is longer than 32 tokens"):
        model.encode(["the cat " * 40], on_truncate="error")
    with pytest.raises(ValueError, match="0 to 78 are allowed|token ids from"):
        model.encode([[100_000]])
    model.max_seq_length = 5
    assert model.encode("the cat " * 40, on_truncate="ignore").shape == (24,)


def test_a_missing_runtime_names_the_extra(tiny_folder, monkeypatch):
    jsbert.SentenceTransformer(tiny_folder, backend="onnx")
    for backend, module in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"pip install 'jsbert\[{backend}\]'"):
            jsbert.SentenceTransformer(tiny_folder, backend=backend)


def test_batches_are_exact_and_keep_to_the_budget():
    lengths = np.random.default_rng(0).integers(1, 90, 500)
    batches = exact_batches(lengths, 1024)
    assert np.array_equal(np.sort(np.concatenate([b.indices for b in batches])), np.arange(500))
    for one in batches:
        assert one.rows == len(one.indices)
        assert one.length == lengths[one.indices].max()
        assert one.rows * one.length <= 1024
    assert padding_share(lengths, batches) < 0.06
    assert all(one.rows <= 3 for one in exact_batches(lengths, 1024, 3))
    assert [one.rows for one in exact_batches(np.array([2000, 1500]), 1024)] == [1, 1]
    assert exact_batches(np.array([], np.int64), 1024) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_of_every_family_give_vectors_and_token_vectors(tmp_path, family):
    module = encoders.family(family)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    sizes = {name: size for name, size in models.SIZES.items() if name in fields}
    sizes |= {"num_hidden_layers": 1} | OWN_SIZES.get(family, {})
    config = Config(module.Config(**sizes, model_type=family))
    params = {"encoder": models.perturbed(encoders.shapes(config.encoder))}
    tokenizer = models.tokenizer(tmp_path / "v", 20)
    model = jsbert.SentenceTransformer.from_parts(
        BiEncoderParts(config, params, tokenizer, jsbert.checkpoint.Settings())
    )
    save_graph(pipeline(model, tokens=True), tmp_path / "model.onnx")
    inputs = batch(3, 20, "right")
    ids, mask = (inputs[name].astype(np.int32) for name in ("input_ids", "attention_mask"))
    names = ("sentence_embedding", "token_embeddings")
    wanted = (
        siamese.encode(config, params, ids, mask),
        siamese.token_vectors(config, params, ids, mask) * mask[:, :, None],
    )
    for backend in ("onnx", *["openvino"] * HAS_OPENVINO):
        session = open_session(tmp_path / "model.onnx", backend, "float32")
        found = session.run(names, {name: inputs[name] for name in session.inputs})
        found[1] = found[1] * mask[:, :, None]  # padding means nothing
        for one, other in zip(found, wanted, strict=True):
            other = np.asarray(other)
            assert np.abs(one - other).max() <= 1e-5 * max(1, np.abs(other).max())
