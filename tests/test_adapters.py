"""LoRA adapters: merged as a formula by hand says, refused by name, trained by the loop."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file

from jsbert import CrossEncoder, SentenceTransformer
from jsbert.adapters import load_adapter, save_adapter
from jsbert.checkpoint import find
from jsbert.modules import Dense, Normalize
from jsbert.train import (
    Recipe,
    Source,
    adapted,
    fit,
    gradients,
    init_lora,
    init_state,
    make_step,
    merge,
)
from tests import models
from tests.test_train_loop import RECIPE, pairs
from tests.test_train_step import copied, setup

TEXTS = models.sentences(12, seed=4)
LORA = dataclasses.replace(RECIPE, lora_rank=2, lora_alpha=6, learning_rate=0.05)


def matrices(encoder, seed=0, **options):
    """Return random matrices in the form of `init_lora`."""
    lora = init_lora(encoder, jax.random.key(0), **{"rank": 3} | options)
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: 0.2 * generator.standard_normal(leaf.shape).astype(np.float32), lora
    )


@pytest.fixture
def adapter(tiny, tiny_folder, tmp_path):
    """A folder with an adapter for the tiny model's queries and intermediate layers."""
    lora = matrices(tiny.params["encoder"], targets=("query", "intermediate"))
    save_adapter(tiny, lora, tmp_path / "adapter", alpha=5, base=str(tiny_folder))
    return tmp_path / "adapter"


def change(folder, remove=(), tensors=None, **fields):
    """Edit an adapter's config and tensors."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    file = folder / "adapter_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if name not in remove}
    save_file(kept | (tensors or {}), file)


def test_merging_adds_the_scaled_product_and_nothing_else(tiny, adapter):
    before = jax.tree.map(np.array, tiny.params)
    merged = load_adapter(tiny, adapter)
    tensors = load_file(adapter / "adapter_model.safetensors")
    wanted = jax.tree.map(np.array, before)
    for i, layer in wanted["encoder"]["layers"].items():
        for name, linear in {
            "attention.self.query": layer["attention"]["query"],
            "intermediate.dense": layer["intermediate"],
        }.items():
            a, b = (
                tensors[f"base_model.model.encoder.layer.{i}.{name}.lora_{matrix}.weight"]
                for matrix in "AB"
            )
            linear["kernel"] += 5 / 3 * np.einsum("or,ri->io", b, a)
    jax.tree.map(
        lambda got, by_hand: np.testing.assert_allclose(got, by_hand, atol=1e-6),
        merged.params,
        wanted,
    )
    jax.tree.map(
        np.testing.assert_array_equal, tiny.params, before
    )  # the given model does not change


def test_an_adapters_folder_opens_as_its_base_model_with_it(tiny, tiny_folder, adapter):
    wanted = load_adapter(SentenceTransformer(tiny_folder, pooling="cls"), adapter)
    got = SentenceTransformer(
        adapter, pooling="cls"
    )  # without modules.json, the base's modules are not used
    np.testing.assert_allclose(
        got.encode(TEXTS, normalize_embeddings=True), wanted.encode(TEXTS), atol=1e-6
    )
    with pytest.raises(
        FileExistsError, match="holds an adapter, which would be merged into the model again"
    ):
        got.save_pretrained(adapter)
    change(adapter, base_model_name_or_path=None)
    with pytest.raises(
        ValueError,
        match=r"adapter_config.json: base_model_name_or_path is None; open the base model",
    ):
        SentenceTransformer(adapter, pooling="mean")
    change(adapter, base_model_name_or_path="./moved")
    with pytest.raises(
        OSError,
        match=r"adapter_config.json: its base model is not to be found: no folder './moved'",
    ):
        SentenceTransformer(adapter, pooling="mean")


def test_an_adapter_beside_a_model_is_merged_into_it(tiny, tiny_folder, adapter):
    shutil.copytree(tiny_folder, adapter, dirs_exist_ok=True)
    change(adapter, base_model_name_or_path="elsewhere")
    assert np.array_equal(
        SentenceTransformer(adapter).encode(TEXTS), load_adapter(tiny, adapter).encode(TEXTS)
    )


def test_a_base_models_name_is_the_hubs_own(adapter, tiny_folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        find, "_from_hub", lambda name, revision, *_: asked.append((name, revision)) or tiny_folder
    )
    change(adapter, base_model_name_or_path="bert-base-uncased", revision="abc")
    assert len(SentenceTransformer(adapter, pooling="mean").encode("a cat")) == 24
    assert set(asked) == {("bert-base-uncased", "abc")}


def test_adapters_files_are_fetched_from_the_hub():
    files = [
        "README.md",
        "adapter_config.json",
        "adapter_model.bin",
        "adapter_model.safetensors",
        "training_args.bin",
    ]
    assert find.needed_files(files) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_dtype_stays(tiny, tiny_folder, adapter):
    got = load_adapter(SentenceTransformer(tiny_folder, dtype="bfloat16"), adapter)
    assert got.dtype == "bfloat16"
    wanted = load_adapter(tiny, adapter).encode(TEXTS)
    assert (got.encode(TEXTS) * wanted).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only 'LORA' is supported"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "init_lora_weights is 'pissa_niter_4', by which peft changes the base",
        ),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        (
            {"megatron_config": {"x": 1}},
            "megatron_config is {'x': 1}, which jsbert does not compute",
        ),
        ({"trainable_token_indices": [3]}, r"trainable_token_indices is \[3\]"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is"),
        ({"target_parameters": ["weight"]}, "target_parameters is"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is"),
        ({"use_qalora": True}, "use_qalora is True"),
        ({"kasa_config": {"beta": 1}}, "kasa_config is"),
        ({"a_later_invention": "on"}, "a_later_invention is 'on'"),
        ({"r": 0}, "r is 0; it must be a positive integer"),
        (
            {"rank_pattern": {"query": 1.5}},
            "rank_pattern is {'query': 1.5}; it must be a dict whose values are each a positive integer",
        ),
        (
            {"alpha_pattern": {"query": "2"}},
            "alpha_pattern is {'query': '2'}; it must be a dict whose values are each a number",
        ),
        ({"lora_alpha": "2"}, "lora_alpha is '2'; it must be a number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan; it must be a number"),
        (
            {"layers_to_transform": ["0"]},
            r"layers_to_transform is \['0'\]; it must be of type int or list of int",
        ),
        ({"target_modules": ["(?i)query"], "modules_to_save": ["(?i)x"]}, "no regular expression"),
        ({"bias": "some"}, "bias is 'some'; it must be 'none', 'all' or 'lora_only'"),
        ({"target_modules": 3}, "target_modules is 3; it must be of type str or list"),
        (
            {"target_modules": [3]},
            r"target_modules is \[3\]; it must be of type str or list of str",
        ),
        ({"target_modules": "quer(y"}, r"'quer\(y' is no regular expression"),
        (
            {"target_modules": ["LayerNorm"]},
            "target embeddings.LayerNorm is neither a linear layer nor an embedding",
        ),
        (
            {"target_modules": ["word_embeddings"], "lora_bias": True},
            "lora_bias is True, but embeddings.word_embeddings",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_merged_is_refused_by_name(tiny, adapter, fields, message):
    change(adapter, **fields)
    with pytest.raises(ValueError, match=f"adapter_config.json: .*{message}"):
        load_adapter(tiny, adapter)


def test_all_tensors_that_do_not_fit_are_listed(tiny, adapter):
    query = "base_model.model.encoder.layer.0.attention.self.query"
    tensors = {
        f"{query}.lora_B.weight": np.zeros((24, 4), np.float32),
        f"{query}.bias": np.zeros(24, np.float32),
        f"{query}.base_layer.bias": np.zeros(24, np.float32),
        "base_model.model.encoder.layer.7.attention.self.query.lora_A.weight": np.zeros(
            (3, 24), np.float32
        ),
        "base_model.model.encoder.layer.1.attention.self.key.lora_A.weight": np.zeros(
            (3, 24), np.float32
        ),
        "base_model.model.pooler.dense.lora_A.weight": np.zeros(
            (3, 24), np.float32
        ),  # not used for vectors
    }
    change(adapter, [f"{query}.lora_A.weight"], tensors, bias="lora_only")
    with pytest.raises(ValueError, match="the tensors do not fit") as caught:
        load_adapter(tiny, adapter)
    head, *listed = str(caught.value).splitlines()
    assert (
        "adapter_model.safetensors: the tensors do not fit adapter_config.json and the model (8 of them)"
        in head
    )
    short = [
        line.strip().replace("encoder.layer.", "").replace("attention.self.", "") for line in listed
    ]
    assert sorted(short) == sorted(
        [
            "misshapen: 0.query.lora_B.weight is [24, 4], not [24, 3]",
            "double: 0.query.bias",
            "without a place: 7.query.lora_A.weight [3, 24]",
            "without a place: 1.key.lora_A.weight [3, 24]",
            "missing: 0.query.lora_A.weight",
            "missing: 0.intermediate.dense.bias",
            "missing: 1.query.bias",
            "missing: 1.intermediate.dense.bias",
        ]
    )


# training


@pytest.fixture(scope="module")
def tiny_parts(tmp_path_factory):
    return models.parts(tmp_path_factory.mktemp("train"), head=(Dense(24, 10), Normalize()))


def lora_state(params, optimizer, **options):
    dtype = jax.tree.leaves(params)[0].dtype
    lora = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype), matrices(params["encoder"], **options)
    )
    return init_state(copied(params | {"lora": lora}), optimizer, frozen=("^encoder/",))


def test_the_gradient_of_the_matrices_is_that_of_their_product(tiny_parts):
    with jax.enable_x64(True):
        plain, params, batch = setup(tiny_parts, "float64")
        state = lora_state(params, optax.sgd(1.0), targets=("query", "intermediate"))
        layers = state.params["lora"]["layers"]
        whole = params | {"encoder": merge(params["encoder"], state.params["lora"], 6)}
        loss, by_kernel = jax.jit(functools.partial(gradients, plain))(whole, batch, None)
        of_matrices = functools.partial(gradients, adapted(plain, 6), chunk_size=5)
        found, by_matrix = jax.jit(of_matrices)(state.params, batch, None, frozen=state.frozen)
        assert float(found) == pytest.approx(float(loss), rel=1e-12)
        assert set(by_matrix["lora"]["layers"][0]) == {"attention", "intermediate"}
        for i, layer in by_matrix["lora"]["layers"].items():
            kernel = by_kernel["encoder"]["layers"][i]["intermediate"]["kernel"]
            a, b = (layers[i]["intermediate"][name] for name in ("lora_A", "lora_B"))
            np.testing.assert_allclose(
                layer["intermediate"]["lora_A"], 6 / 3 * kernel @ b.T, atol=1e-10
            )
            np.testing.assert_allclose(
                layer["intermediate"]["lora_B"], 6 / 3 * a.T @ kernel, atol=1e-10
            )


def test_only_the_matrices_and_the_head_are_trained(tiny_parts):
    plain, params, batch = setup(tiny_parts, "float32", "triplet")
    state = lora_state(params, optax.adamw(1e-2))
    count = sum(leaf.size for leaf in jax.tree.leaves((state.params["lora"], params["head"])))
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) == 2 * count + 1
    )  # Adam's moments and its count
    old = copied(state.params)
    new, _ = make_step(adapted(plain, 6), optax.adamw(1e-2))(state, batch, jax.random.key(1))
    assert not any(
        np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (old, new.params)), strict=True)
    )
    jax.tree.map(np.testing.assert_array_equal, new.frozen["encoder"], params["encoder"])


def test_new_matrices_change_nothing_and_are_drawn_by_key(tiny):
    encoder = tiny.params["encoder"]
    one, other = (init_lora(encoder, jax.random.key(seed), rank=2) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, merge(encoder, one, 8), encoder)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert not np.array_equal(
        one["layers"][0]["output"]["lora_A"], other["layers"][0]["output"]["lora_A"]
    )
    drawn = np.asarray(one["layers"][0]["output"]["lora_A"])  # a layer of 40 inputs
    assert 0.9 * 40**-0.5 < np.abs(drawn).max() <= 40**-0.5
    with pytest.raises(
        ValueError,
        match=r"lora_targets: 'embeddings' is found in no kernel's path; paths look like",
    ):
        init_lora(encoder, jax.random.key(0), rank=2, targets=("query", "embeddings"))


def score(model):
    return {"first": float(model.encode("the cat sat")[0])}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The folder of a run, and the model that the run returned."""
    out = tmp_path_factory.mktemp("run") / "out"
    return out, fit(tiny, Source(pairs(), "cosine"), out, LORA, evaluator=score)


def test_a_run_leaves_the_merged_model_and_the_adapter(tiny, run):
    out, merged = run
    again = load_adapter(tiny, out / "adapter")
    np.testing.assert_allclose(again.encode(TEXTS), merged.encode(TEXTS), atol=1e-6)
    assert np.abs(merged.encode(TEXTS) - tiny.encode(TEXTS)).max() > 0.05
    together = jax.tree.map(np.array_equal, tiny.params, merged.params)
    for path, is_same in jax.tree_util.tree_leaves_with_path(together):
        assert is_same == (path[-1].key != "kernel"), path


@pytest.mark.parametrize("frozen", [(), ("^head/",)], ids=["whole", "frozen"])
def test_modules_behind_the_encoder_are_trained_whole_and_are_not_in_the_adapter(tmp_path, frozen):
    start = SentenceTransformer.from_parts(
        models.parts(tmp_path / "vocabulary", head=(Dense(24, 10), Normalize()))
    )
    recipe = dataclasses.replace(LORA, max_steps=2, frozen=frozen)
    merged = fit(start, Source(pairs(), "cosine"), tmp_path / "out", recipe)
    again = load_adapter(start, tmp_path / "out" / "adapter")
    jax.tree.map(np.testing.assert_array_equal, again.params["head"], start.params["head"])
    assert np.allclose(again.encode(TEXTS), merged.encode(TEXTS), atol=1e-6) == bool(frozen)
    names = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors").keys()
    assert all(name.startswith("base_model.model.encoder.layer.") for name in names)


def test_an_interrupted_run_ends_in_the_same_bits(tiny, run, tmp_path):
    calls = []

    def failing(model):
        calls.append(model)
        if len(calls) == 3:
            raise InterruptedError
        return score(model)

    failing.__qualname__ = score.__qualname__  # the same run
    with pytest.raises(InterruptedError):
        fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", LORA, evaluator=failing)
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", LORA, evaluator=failing)
    assert len(calls) == 5  # before the first update, at 5, 10, again at 10, and the end
    for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "out" / file).read_bytes() == (run[0] / file).read_bytes()


def test_a_cross_encoders_classifier_is_trained_and_goes_along(tiny_cross_folder, tmp_path):
    start = CrossEncoder(tiny_cross_folder)
    merged = fit(
        start,
        Source(pairs(), "binary-cross-entropy"),
        tmp_path / "out",
        dataclasses.replace(LORA, max_steps=2),
    )
    both = list(zip(TEXTS[:6], TEXTS[6:], strict=True))
    again = load_adapter(start, tmp_path / "out" / "adapter")
    np.testing.assert_allclose(again.predict(both), merged.predict(both), atol=1e-6)
    assert not np.array_equal(
        start.params["head"]["classifier"]["kernel"], again.params["head"]["classifier"]["kernel"]
    )


def test_an_adapter_with_a_classifier_needs_a_base_that_has_one(
    tiny_folder, tiny_cross_folder, tmp_path
):
    cross = CrossEncoder(tiny_cross_folder)
    lora = matrices(cross.params["encoder"], targets=("query",))
    save_adapter(cross, lora, tmp_path / "adapter", alpha=5, base=str(tiny_cross_folder))
    wanted = load_adapter(cross, tmp_path / "adapter").predict(("a cat", "a dog"))
    np.testing.assert_allclose(
        CrossEncoder(tmp_path / "adapter").predict(("a cat", "a dog")), wanted, atol=1e-6
    )
    change(tmp_path / "adapter", base_model_name_or_path=str(tiny_folder))
    with pytest.raises(
        ValueError,
        match="an adapter with a classifier, for a base model without one; open that with",
    ):
        CrossEncoder(tmp_path / "adapter", num_labels=1)
    start = CrossEncoder(tiny_folder, num_labels=1)
    assert load_adapter(start, tmp_path / "adapter").predict(("a cat", "a dog")) != start.predict(
        ("a cat", "a dog")
    )


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="lora_rank is 0"):
        Recipe(lora_rank=0)
    with pytest.raises(ValueError, match="lora_alpha is 0; it must be a number, above 0"):
        Recipe(lora_rank=2, lora_alpha=0)
    with pytest.raises(ValueError, match="lora_targets is 'query'; give a sequence of patterns"):
        Recipe(lora_rank=2, lora_targets="query")
    with pytest.raises(
        ValueError, match=r"lora_targets is \('query',\), without a lora_rank; give one"
    ):
        Recipe(lora_targets=["query"])
