"""The modules around the encoder: what they compute, how they are saved and read, routes, and what
is refused."""

import dataclasses
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsbert
from jsbert import pooling, siamese
from jsbert.checkpoint import read_bi_encoder, write_bi_encoder
from jsbert.checkpoint.find import needed_files
from jsbert.checkpoint.read import TRANSFORMER_CONFIGS
from jsbert.compute import Compute
from jsbert.config import Config, Router
from jsbert.engine import packed
from jsbert.modules import MODULES, Dense, Dropout, LayerNorm, Module, Normalize
from tests import models

HEAD = (
    Dense(24, 24, use_residual=True),
    Dense(24, 10, bias=False, activation="gelu", use_residual=True),
    Dropout(0.3),
    LayerNorm(10),
    Normalize(),
)
SHAPES = {
    0: {"kernel": (24, 24), "bias": (24,)},
    1: {"kernel": (24, 10), "residual": {"kernel": (24, 10)}},
    3: {"scale": (10,), "bias": (10,)},
}
ROUTES = Router(
    (("query", (0, 1, 2)), ("document", (0, 3, 4, 2))), "query", (("passage", "document"),)
)
ROUTED_HEAD = (HEAD[0], Dense(24, 10), Normalize(), Dense(24, 10), LayerNorm(10))


def drawn(shapes, seed=0):
    """Return random params of these shapes, every value moved off its usual initial value."""
    shapes = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, np.float32),
        shapes,
        is_leaf=lambda s: isinstance(s, tuple),
    )
    return models.perturbed(shapes, seed)


def everything(folder):
    """All modules that have no routes."""
    parts = models.parts(folder, head=())
    config = dataclasses.replace(parts.config, modules=HEAD, layer_start=1)
    weights = np.asarray([0.7, 1.9], np.float32)
    return dataclasses.replace(
        parts,
        config=config,
        params=parts.params | {"head": drawn(SHAPES), "layer_weights": weights},
    )


def routed(folder):
    """Two routes behind the pooling."""
    parts = models.parts(folder, head=())
    shapes = {i: {"kernel": (24, 10), "bias": (10,)} for i in (1, 3)} | {0: SHAPES[0], 4: SHAPES[3]}
    config = dataclasses.replace(parts.config, modules=ROUTED_HEAD, router=ROUTES)
    return dataclasses.replace(parts, config=config, params=parts.params | {"head": drawn(shapes)})


def two_encoders(folder):
    """Two routes, each of which is a model."""
    routes = tuple(
        (name, models.parts(folder / name, seed=seed))
        for seed, name in enumerate(("query", "document"))
    )
    return dataclasses.replace(routes[1][1], router=Router(routes, "document"))


def assert_same_params(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def batch():
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 12, 5).astype(np.int32)
    mask = np.arange(11) < lengths[:, None]
    return np.where(mask, generator.integers(5, 100, (5, 11)), 0).astype(np.int32), mask, lengths


def test_the_modules_by_hand():
    generator = np.random.default_rng(0)
    x, kernel, other = (
        generator.normal(size=size).astype(np.float32) for size in ((3, 4), (4, 5), (4, 5))
    )
    got = Dense(4, 5, use_residual=True)({"kernel": kernel, "residual": {"kernel": other}}, x)
    assert np.allclose(got, np.tanh(x @ kernel) + x @ other, atol=1e-6)
    got = Dense(4, 4, activation="identity", use_residual=True)({"kernel": kernel[:, :4]}, x)
    assert np.allclose(got, x @ kernel[:, :4] + x, atol=1e-6)
    scaled = LayerNorm(4)({"scale": kernel[:, 0], "bias": kernel[:, 1]}, x)
    deviation = np.sqrt(x.var(1, keepdims=True) + 1e-5)
    assert np.allclose(
        scaled, (x - x.mean(1, keepdims=True)) / deviation * kernel[:, 0] + kernel[:, 1], atol=1e-6
    )
    assert np.allclose(
        Normalize()(None, x), x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-6
    )
    assert np.array_equal(Dropout(0.9)(None, jnp.asarray(x)), x)
    layers = [jnp.full((1, 1, 2), value) for value in (1.0, 4.0)]
    assert pooling.mean_of_layers(jnp.asarray([1.0, 2.0]), layers).tolist() == [[[3.0, 3.0]]]


@pytest.mark.parametrize("make", [everything, routed, two_encoders])
def test_config_and_params_survive_the_way_through_a_folder(tmp_path, make):
    parts = make(tmp_path / "v")
    write_bi_encoder(tmp_path / "model", parts)
    again = read_bi_encoder(tmp_path / "model")
    assert again.config == parts.config
    assert_same_params(again.params, parts.params)
    if parts.router is not None:
        assert (again.router.default, [name for name, _ in again.router.routes]) == (
            "document",
            ["query", "document"],
        )
        for (_, a), (_, b) in zip(again.router.routes, parts.router.routes, strict=True):
            assert_same_params(a.params, b.params)


def test_packed_rows_bfloat16_and_gradients_of_all_modules(tmp_path):
    parts = everything(tmp_path)
    ids, mask, lengths = batch()
    encode, encode_packed = (
        jax.jit(f, static_argnums=0) for f in (siamese.encode, siamese.encode_packed)
    )
    wanted = encode(parts.config, parts.params, ids, mask)
    assert np.linalg.norm(wanted, axis=1) == pytest.approx(1, abs=1e-6)
    got = encode_packed(parts.config, parts.params, packed(ids, lengths), lengths)
    assert np.abs(got[:5] - wanted).max() <= 1e-5
    encoder = dataclasses.replace(parts.config.encoder, compute=Compute("bfloat16"))
    half = dataclasses.replace(parts.config, encoder=encoder)
    assert (encode(half, parts.params, ids, mask) * wanted).sum(1).min() >= 0.999
    target = np.random.default_rng(2).normal(size=wanted.shape)
    grads = jax.jit(
        jax.grad(lambda params: (encode(parts.config, params, ids, mask) * target).sum())
    )(parts.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert all(
        np.abs(leaf).max() > 1e-6
        for leaf in jax.tree.leaves([grads["head"], grads["layer_weights"]])
    )


def test_the_pure_functions_want_one_route(tmp_path):
    parts = routed(tmp_path)
    ids, mask, _ = batch()
    with pytest.raises(
        ValueError, match=r"the routes \['query', 'document'\]; choose one with config.for_task"
    ):
        siamese.encode(parts.config, parts.params, ids, mask)
    vectors = {
        task: siamese.encode(parts.config.for_task(task), parts.params, ids, mask)
        for task in ("query", "passage")
    }
    assert np.abs(vectors["query"] - vectors["passage"]).max() > 0.1
    assert parts.config.for_task("passage").for_task("document").active == (0, 3, 4, 2)
    plain = models.parts(tmp_path / "v").config
    assert plain.for_task("query") is plain


def test_what_is_said_of_vectors_holds_for_every_route():
    encoder = models.bert.Config(**models.SIZES)
    routes = Router((("a", (0, 1, 2)), ("b", (1, 0))))
    config = Config(encoder, modules=(Dense(24, 10), Normalize(), Dropout()), router=routes)
    assert not config.is_normalized
    assert config.for_task("a").is_normalized
    assert config.embedding_dimension == 10
    with pytest.raises(
        ValueError, match=r"no route for task None; the model's routes are \['a', 'b'\]"
    ):
        config.for_task(None)


@pytest.mark.parametrize("make", [routed, two_encoders])
def test_texts_take_the_route_of_their_task(tmp_path, make):
    model = jsbert.SentenceTransformer.from_parts(make(tmp_path))
    query, document = model.encode("a cat", task="query"), model.encode("a cat", task="document")
    assert np.abs(query - document).max() > 0.1
    assert np.array_equal(model.encode_query("a cat"), query)
    assert np.array_equal(model.encode_document("a cat"), document)
    assert np.array_equal(next(model.encode_iter(["a cat"], task="document")), document)
    assert np.array_equal(model.encode("a cat"), query if make is routed else document)
    with pytest.raises(ValueError, match="no route for task 'other'"):
        model.encode("a cat", task="other")


def test_other_models_do_not_ask_for_the_task(tiny):
    assert np.array_equal(tiny.encode("a cat", task="anything"), tiny.encode("a cat"))


@pytest.mark.parametrize("name", TRANSFORMER_CONFIGS)
def test_the_limit_stands_under_each_older_name(tmp_path, name):
    folder = models.write_folder(tmp_path / "model")
    (folder / "sentence_bert_config.json").unlink()
    (folder / name).write_text('{"max_seq_length": 17, "do_lower_case": true}')
    parts = read_bi_encoder(folder)
    assert (parts.tokenizer.max_length, parts.tokenizer.lower_case) == (17, True)


def test_a_routers_files_are_fetched():
    read = ["router_config.json", "query_0_Transformer/model.safetensors", "query_0_Transformer/tokenizer.json",
            "2_Router/router_config.json", "2_Router/query_0_Dense/config.json", "2_Asym/140_Dense/pytorch_model.bin"]  # fmt: skip
    other = [
        "onnx/model.safetensors",
        "openvino/config.json",
        "checkpoint-5/config.json",
        "a/1_Pooling/config.json",
    ]
    assert sorted(needed_files([*other, *read])) == sorted(read)


TYPE = "sentence_transformers.models."
LAYERS, ROUTER = "1_WeightedLayerPooling/config.json", "2_Router/router_config.json"
WRONG = {
    "layers that are passed over": (everything, "config.json", {"output_hidden_states": False}, "output_hidden_states is not true, without which"),
    "too few layers": (everything, LAYERS, {"num_hidden_layers": 12}, "num_hidden_layers is 12 and layer_start 1, but the encoder has 2 layers"),
    "layer start": (everything, LAYERS, {"layer_start": 4}, "layer_start 4, but the encoder has 2"),
    "layer weights": (everything, LAYERS, {"layer_start": 0}, "misshapen: layer_weights"),
    "layers' width": (everything, LAYERS, {"word_embedding_dimension": 23}, "word_embedding_dimension is 23, but"),
    "LayerNorm width": (everything, "6_LayerNorm/config.json", {"dimension": 11}, "dimension is 11, but the module before gives 10"),
    "residual": (everything, "4_Dense/config.json", {"use_residual": False}, "unknown: residual.weight"),
    "dropout": (everything, "5_Dropout/config.json", {"dropout": "much"}, "dropout is 'much'"),
    "module of a route": (routed, ROUTER, {"types": {"0_Dense": TYPE + "LSTM"}}, "unsupported module 'sentence_transformers.models.LSTM'"),
    "code in a route": (routed, ROUTER, {"types": {"0_Dense": "mine.Dense"}}, "unsupported module 'mine.Dense'"),
    "unknown module": (routed, ROUTER, {"structure": {"query": ["9_Dense"]}}, r"the route 'query' is \['9_Dense'\]; the modules are"),
    "no routes": (routed, ROUTER, {"structure": {}}, "no routes"),
    "nested": (routed, ROUTER, {"types": {"0_Router": TYPE + "Router"}, "structure": {}}, "the Router '0_Router' inside a Router"),
    "out of the folder": (routed, ROUTER, {"types": {"../x": TYPE + "Dense"}, "structure": {"a": ["../x"]}}, "leads out"),
    "default": (routed, ROUTER, {"parameters": {"default_route": "other"}}, "no route 'other'; the routes are"),
    "parameter": (routed, ROUTER, {"parameters": {"fallback": 1}}, r"unknown parameters \['fallback'\]"),
    "modality": (routed, ROUTER, {"parameters": {"route_mappings": {"(None, 'image')": "query"}}}, "only 'text' is supported"),
    "mapping": (routed, ROUTER, {"parameters": {"route_mappings": {"query": "query"}}}, "is not of the form"),
    "pooling in a route": (routed, ROUTER, {"types": {"0_Pooling": TYPE + "Pooling"}, "structure": {"query": ["0_Pooling"], "document": []}}, "'Pooling', 'Pooling'.*supported: Transformer, Pooling"),
    "route without pooling": (two_encoders, "router_config.json", {"structure": {"document": ["0_Transformer", "2_Normalize"]}}, r"modules \['Transformer', 'Normalize'\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_modules_that_are_wrong(tmp_path, name):
    make, file, changes, message = WRONG[name]
    write_bi_encoder(tmp_path / "model", make(tmp_path / "v"))
    file = tmp_path / "model" / file
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        read_bi_encoder(tmp_path / "model")


def test_a_second_router_is_refused(tmp_path):
    write_bi_encoder(tmp_path / "model", routed(tmp_path / "v"))
    file = tmp_path / "model/modules.json"
    file.write_text(
        json.dumps([*json.loads(file.read_text()), {"type": TYPE + "Router", "path": "3_Router"}])
    )
    with pytest.raises(ValueError, match="3_Router: a second Router; one is supported"):
        read_bi_encoder(tmp_path / "model")


@dataclasses.dataclass(frozen=True)
class Gate:
    """A module that jsbert does not have: it scales each dimension, then repeats the vector."""

    inputs: int
    copies: int

    TENSORS: ClassVar = {("gate",): "gate.weight"}

    def __call__(self, params, vectors):
        return jnp.tile(vectors * params["gate"][None], (1, self.copies))

    def shapes(self):
        return {"gate": jax.ShapeDtypeStruct((self.inputs,), jnp.float32)}

    def width(self, inputs):
        if inputs != self.inputs:
            raise ValueError(f"inputs is {self.inputs}, but the module before gives {inputs}")
        return self.inputs * self.copies

    def normalizes(self, inputs):
        return False

    def to_json(self):
        return {"in": self.inputs, "copies": self.copies}

    @classmethod
    def from_json(cls, values, *, where):
        return cls(values["in"], values["copies"])


def test_a_new_module_is_a_class_and_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(MODULES, "Gate", Gate)
    assert all(isinstance(module, Module) for module in (*HEAD, Gate(24, 2)))
    parts = models.parts(tmp_path / "v", head=(Gate(24, 2), Dense(48, 10)))
    write_bi_encoder(tmp_path / "model", parts)
    again = read_bi_encoder(tmp_path / "model")
    assert again.config == parts.config
    assert_same_params(again.params, parts.params)
    model = jsbert.SentenceTransformer(str(tmp_path / "model"))
    assert model.get_embedding_dimension() == 10
    plain = jsbert.SentenceTransformer.from_parts(
        dataclasses.replace(parts, config=dataclasses.replace(parts.config, modules=()))
    )
    head = parts.params["head"]
    gated = np.tile(plain.encode("a cat") * head[0]["gate"], 2)
    assert np.allclose(
        model.encode("a cat"), np.tanh(gated @ head[1]["kernel"] + head[1]["bias"]), atol=1e-5
    )
    (tmp_path / "model/2_Gate/config.json").write_text('{"in": 25, "copies": 2}')
    with pytest.raises(
        ValueError, match="2_Gate/config.json: inputs is 25, but the module before gives 24"
    ):
        read_bi_encoder(tmp_path / "model")
    (tmp_path / "model/2_Gate/config.json").unlink()
    with pytest.raises(FileNotFoundError, match="2_Gate/config.json is missing"):
        read_bi_encoder(tmp_path / "model")


def test_a_config_whose_modules_do_not_fit_has_no_width():
    config = Config(models.bert.Config(**models.SIZES), modules=(Dense(24, 10), LayerNorm(11)))
    with pytest.raises(ValueError, match="dimension is 11, but the module before gives 10"):
        assert config.embedding_dimension
