"""The modules around the encoder against sentence-transformers: folders in both directions, in the
form that version 6.2 writes and in the older form, with pickled weights and without; and routes."""

import ast
import json

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers.base.modules import Router as TorchRouter
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from jsbert import encoders
from jsbert.checkpoint.routes import find_router, write_router
from jsbert.checkpoint.tensors import to_params
from jsbert.config import Router
from jsbert.pooling import POOLINGS
from tests import models
from tests.parity import reference

TEXTS = ["a cat", "", "the dog ran", "it was a house"]
PROMPTS = {"query": "query: the ", "document": "passage: "}


def theirs(folder):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def trunk(folder, seed=0, **sizes):
    reference.write_trunk(folder, reference.bert(seed, **sizes))
    return st.Transformer(str(folder), max_seq_length=20)


def write(folder, *modules):
    """Let sentence-transformers write a folder, with every parameter of the modules perturbed,
    except in the trunks."""
    model = sentence_transformers.SentenceTransformer(
        modules=list(modules), device="cpu", prompts=PROMPTS
    )
    for seed, module in enumerate(model.modules()):
        if isinstance(module, (st.Dense, st.LayerNorm, st.WeightedLayerPooling)):
            reference.perturb(module, seed)
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def make_old(folder):
    """Change the folder to the form of versions before 5: the names of modules, the files of a
    router, pickled weights."""
    for file in [folder / "modules.json", *folder.rglob("router_config.json")]:
        values = json.loads(file.read_text())
        entries, key = (values, "type") if isinstance(values, list) else (None, None)
        for entry in entries or []:
            entry[key] = _old_name(entry[key])
        if entries is None:
            values["types"] = {name: _old_name(kind) for name, kind in values["types"].items()}
            values["parameters"] = {"allow_empty_key": True}
        file.write_text(json.dumps(values))
        if entries is None:
            file.rename(file.parent / "config.json")
    for file in folder.rglob("model.safetensors"):
        torch.save(load_file(file), file.parent / "pytorch_model.bin")
        file.unlink()


def _old_name(name):
    kind = name.rpartition(".")[2]
    return f"sentence_transformers.models.{'Asym' if kind == 'Router' else kind}"


def assert_same_both_ways(folder, back, tasks=("query", "document", None)):
    """Check that jsbert's vectors equal the vectors of sentence-transformers, also for jsbert's
    folder opened by sentence-transformers."""
    ours, before = jsbert.SentenceTransformer(folder), theirs(folder)
    ours.save_pretrained(back)
    after = theirs(back)
    for task in tasks:
        name = f"encode_{task}" if task else "encode"
        wanted = getattr(before, name)(TEXTS)
        assert (
            reference.largest_difference(getattr(ours, name)(TEXTS, on_truncate="ignore"), wanted)
            <= 1e-5
        )
        assert reference.largest_difference(getattr(after, name)(TEXTS), wanted) <= 1e-5
    assert jsbert.SentenceTransformer(back).config == ours.config
    return ours


HEADS = {
    "Dense with a residual": lambda: (st.Dense(24, 24, use_residual=True), st.Normalize()),
    "all": lambda: (
        st.Dense(24, 10, use_residual=True, bias=False),
        st.Dropout(0.3),
        st.LayerNorm(10),
    ),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_modules_behind_the_pooling(tmp_path, name, old):
    head = HEADS[name]()
    folder = write(tmp_path / "model", trunk(tmp_path / "trunk"), st.Pooling(24, "mean"), *head)
    if old:
        make_old(folder)
    assert_same_both_ways(folder, tmp_path / "back", tasks=[None])
    kept = [
        entry["type"].rpartition(".")[2]
        for entry in json.loads((tmp_path / "back/modules.json").read_text())
    ]
    assert kept == ["Transformer", "Pooling", *(type(module).__name__ for module in head)]


@pytest.mark.parametrize("old", [False, True])
def test_weighted_layers_under_every_pooling_without_the_prompt(tmp_path, old):
    transformer = trunk(tmp_path / "trunk", num_hidden_layers=3)
    transformer.auto_model.config.output_hidden_states = True
    pooling = st.Pooling(24, tuple(POOLINGS), include_prompt=False)
    layers = st.WeightedLayerPooling(24, num_hidden_layers=3, layer_start=1)
    folder = write(tmp_path / "model", transformer, layers, pooling, st.Dense(144, 7))
    if old:
        make_old(folder)
    ours = assert_same_both_ways(folder, tmp_path / "back", tasks=["query"])
    tokens = zip(
        ours.encode(TEXTS, output_value="token_embeddings", on_truncate="ignore"),
        theirs(folder).encode(TEXTS, output_value="token_embeddings"),
        strict=True,
    )
    assert max(reference.largest_difference(a, b) for a, b in tokens) <= 1e-5


def test_weighted_layers_count_each_run_of_an_alberts_layers(tmp_path):
    sizes = models.SIZES | {
        "embedding_size": 14,
        "num_hidden_layers": 3,
        "num_hidden_groups": 2,
        "inner_group_num": 2,
    }
    albert = reference.perturb(transformers.AlbertModel(transformers.AlbertConfig(**sizes)), 0)
    transformer = st.Transformer(
        str(reference.write_trunk(tmp_path / "trunk", albert)), max_seq_length=20
    )
    transformer.auto_model.config.output_hidden_states = True
    layers = st.WeightedLayerPooling(24, num_hidden_layers=6, layer_start=2)
    folder = write(tmp_path / "model", transformer, layers, st.Pooling(24, "mean"))
    assert_same_both_ways(folder, tmp_path / "back", tasks=[None])


def test_all_stages_are_those_of_transformers():
    bert = reference.bert(num_hidden_layers=3)
    ids, mask = reference.tokens(side="left")
    with torch.no_grad():
        wanted = bert(
            torch.tensor(ids), torch.tensor(mask), output_hidden_states=True
        ).hidden_states
    config = encoders.family("bert").Config(**models.SIZES | {"num_hidden_layers": 3})
    tensors = [(name, tensor.numpy()) for name, tensor in bert.state_dict().items()]
    names, shapes = encoders.tensor_names(config), encoders.shapes(config)
    params = to_params(
        tensors, names, shapes, where="torch", dropped=encoders.family("bert").DROPPED
    )
    got = encoders.hidden_states(config, params, ids, mask)
    assert len(got) == len(wanted) == 4
    for a, b in zip(got, wanted, strict=True):
        assert (
            reference.largest_difference(
                np.where(mask[:, :, None], a, 0), b * torch.tensor(mask)[:, :, None]
            )
            <= 1e-5
        )
    assert np.array_equal(got[-1], encoders.forward(config, params, ids, mask))


@pytest.mark.parametrize("old", [False, True])
def test_routes_behind_the_pooling(tmp_path, old):
    shared = st.Dense(24, 24, activation_function=torch.nn.Identity())
    routes = {
        "query": [shared, st.Dense(24, 9)],
        "document": [shared, st.Dense(24, 9, bias=False), st.LayerNorm(9)],
    }
    router = TorchRouter(routes, default_route="query" if old else "document")
    folder = write(
        tmp_path / "model", trunk(tmp_path / "trunk"), st.Pooling(24, "cls"), router, st.Normalize()
    )
    if old:
        make_old(folder)
    ours = assert_same_both_ways(folder, tmp_path / "back")
    assert len(ours.config.modules) == 5
    assert ours.config.is_normalized
    assert ours.config.embedding_dimension == 9
    for model in (ours, theirs(folder)):
        with pytest.raises(ValueError, match="(?i)no route.* for task.*'other'"):
            model.encode(TEXTS[0], task="other")


def test_routes_with_a_trunk_in_common(tmp_path):
    transformer, pooling = trunk(tmp_path / "trunk"), st.Pooling(24, "mean")
    routes = {
        "query": [transformer, pooling, st.Dense(24, 9)],
        "document": [transformer, pooling, st.Dense(24, 9)],
    }
    folder = write(tmp_path / "model", TorchRouter(routes, default_route="query"))
    ours = assert_same_both_ways(folder, tmp_path / "back")
    assert ours.router is None  # one encoder
    assert [route for _, route in ours.config.router.routes] == [(0,), (1,)]


@pytest.mark.parametrize("old", [False, True])
def test_routes_with_encoders_of_their_own(tmp_path, old):
    small = trunk(tmp_path / "small", seed=1, hidden_size=16, num_attention_heads=2)
    routes = {
        "query": [small, st.Pooling(16, "max"), st.Dense(16, 24)],
        "document": [trunk(tmp_path / "trunk"), st.Pooling(24, "mean", include_prompt=False)],
    }
    router = TorchRouter(routes, default_route="query" if old else "document")
    folder = write(tmp_path / "model", router, st.Normalize())
    if old:
        make_old(folder)
    ours = assert_same_both_ways(folder, tmp_path / "back")
    assert ours.router.route(None) is ours
    assert ours.config.encoder.hidden_size == (16 if old else 24)
    assert ours.get_embedding_dimension() == 24


@pytest.mark.parametrize(
    "names, options",
    [
        (["query", "document"], {}),
        (["query", "document"], {"default_route": "document"}),
        (["query", "document"], {"allow_empty_key": False}),
        (["a", "text"], {"default_route": "a"}),
        (
            ["a", "b", "c"],
            {
                "route_mappings": {
                    ("query", "text"): "b",
                    ("query", None): "a",
                    ("document", None): "c",
                }
            },
        ),
        (["a", "b", "query"], {"route_mappings": {(None, "text"): "b", (None, None): "a"}}),
        (["a", "b"], {"route_mappings": {("query", None): "b", (None, None): "a"}}),
    ],
)
def test_a_task_takes_the_route_that_it_takes_there(tmp_path, names, options):
    router = TorchRouter({name: [st.Normalize()] for name in names}, **options).eval()
    router.save(str(tmp_path))

    def leads_to(found, task):
        try:
            return found(task)
        except ValueError:
            return "error"

    ours = find_router([("Router", tmp_path)])
    assert isinstance(ours, Router)
    back = tmp_path / "back"
    write_router(back, ours.map(lambda route: [(kind, path.name) for kind, path in route]))
    values = json.loads((back / "router_config.json").read_text())
    mappings = values["parameters"].pop("route_mappings", {})
    mappings = {ast.literal_eval(key): name for key, name in mappings.items()}
    again = TorchRouter({name: [st.Normalize()] for name in values["structure"]}, route_mappings=mappings, **values["parameters"]).eval()  # fmt: skip
    for task in ("query", "document", "other", "a", None):
        wanted = leads_to(lambda task: router._resolve_route(task, "text"), task)
        assert (
            leads_to(ours.route_name, task)
            == leads_to(lambda task: again._resolve_route(task, "text"), task)
            == wanted
        )
