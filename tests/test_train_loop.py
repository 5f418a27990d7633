"""The run: what it writes, every way to run it, and what it refuses."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from jsbert import CrossEncoder, SentenceTransformer, encoders
from jsbert.config import CrossConfig
from jsbert.data import Examples
from jsbert.encoders import albert, electra, qwen3, static
from jsbert.losses import cosine_regression
from jsbert.train import (
    CROSS_ENCODER,
    HeldOutLoss,
    Recipe,
    Source,
    fit,
    learning_rate,
    objective,
    of_embeddings,
)
from jsbert.train.run import Run
from tests import models
from tests.test_modules import routed, two_encoders
from tests.train_process import first_number, texts, triplets

RECIPE = Recipe(batch_size=4, learning_rate=1e-3, checkpoint_steps=3, log_steps=1, eval_steps=5)

QUICK = dataclasses.replace(RECIPE, checkpoint_steps=1000)
"""A checkpoint takes .2 s; this recipe writes none, for tests that need no checkpoint."""


def pairs(count=44, seed=0):
    scores = np.random.default_rng(seed).random(count).tolist()
    return Examples.from_columns(
        {"sentence1": texts(count, seed), "sentence2": texts(count, seed + 1), "score": scores}
    )


def weights(folder):
    return (pathlib.Path(folder) / "model.safetensors").read_bytes()


def lines(folder):
    return [
        json.loads(line)
        for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
    ]


def test_a_run_leaves_a_model_and_its_record(tiny, tmp_path):
    before = tiny.encode("the cat sat")
    model = fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE, evaluator=first_number)
    assert np.array_equal(tiny.encode("the cat sat"), before)  # the given model does not change
    again = SentenceTransformer(tmp_path / "out")
    assert np.array_equal(again.encode("the cat sat"), model.encode("the cat sat"))
    assert not np.allclose(model.encode("the cat sat"), before, atol=1e-3)
    entries = lines(tmp_path / "out")
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) == 11
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert [entry["step"] for entry in entries if "score" in entry] == [0, 5, 10, 11]
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["finished"]
    assert recipe["run"]["recipe"] == RECIPE.to_json()
    best = max(
        (entry for entry in entries if "score" in entry and entry["step"]),
        key=lambda entry: entry["score"],
    )
    assert recipe["best"]["step"] == best["step"]
    assert first_number(model)["first"] == pytest.approx(
        best["score"], abs=1e-6
    )  # the best model is returned
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| train | cosine | 44 |" in card
    assert "| learning_rate | 0.001 |" in card
    assert f"| {best['step']} | first | {best['score']:.4f} |" in card
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert not {"checkpoints", "best"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_a_score_that_is_no_number_is_never_the_best(tiny, tmp_path):
    scores = iter([np.nan, np.nan, 0.5, 0.4])
    fit(
        tiny,
        Source(pairs(), "cosine"),
        tmp_path / "out",
        QUICK,
        evaluator=lambda model: {"score": next(scores)},
    )
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["best"]["step"] == 10


def test_a_run_may_end_with_its_last_state(tiny, tmp_path):
    scores = iter([0.1, 0.9, 0.2, 0.3])
    recipe = dataclasses.replace(QUICK, keep_best=False)
    fit(
        tiny,
        Source(pairs(), "cosine"),
        tmp_path / "scored",
        recipe,
        evaluator=lambda model: {"first": next(scores)},
    )
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "plain", recipe)
    assert weights(tmp_path / "scored") == weights(tmp_path / "plain")
    assert json.loads((tmp_path / "scored" / "recipe.json").read_text())["best"] is None


def test_on_log_gets_the_lines_and_ends_the_run(tiny, tmp_path):
    seen = []

    def note(line):
        seen.append(line)
        return line["step"] == 5 and "score" in line

    source = Source(pairs(), "cosine")
    model = fit(tiny, source, tmp_path / "out", QUICK, evaluator=first_number, on_log=note)
    assert seen == lines(tmp_path / "out")
    assert {line["step"] for line in seen} == {0, 1, 2, 3, 4, 5}
    # The run is finished: the same call opens the folder.
    again = fit(tiny, source, tmp_path / "out", QUICK, evaluator=first_number, on_log=note)
    assert np.array_equal(again.encode("the cat sat"), model.encode("the cat sat"))


def test_the_loss_of_held_out_examples_is_a_score(tiny, tmp_path):
    held_out = HeldOutLoss([Source(pairs(7, 5), "cosine"), Source(pairs(3, 9), "cosent", "two")])
    found = held_out(tiny)
    cosines = tiny.similarity_pairwise(*map(tiny.encode, pairs(7, 5).texts))
    expected = np.square(np.asarray(cosines) - pairs(7, 5).labels).mean()
    assert found["train_loss"] == pytest.approx(expected, abs=1e-6)
    mean = (7 * found["train_loss"] + 3 * found["two_loss"]) / 10
    assert found["loss"] == pytest.approx(mean, abs=1e-6)
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", QUICK, evaluator=held_out)
    entries = [entry for entry in lines(tmp_path / "out") if "score" in entry]
    best = json.loads((tmp_path / "out" / "recipe.json").read_text())["best"]
    assert entries[0]["scores"] == pytest.approx(found)
    assert best["score"] == min(entry["score"] for entry in entries[1:])


def test_the_loss_of_held_out_pairs_of_a_cross_encoder(tiny_cross):
    found = HeldOutLoss(Source(pairs(7, 5), "mse"), batch_size=4)(tiny_cross)
    scores = tiny_cross.predict(
        list(zip(*pairs(7, 5).texts, strict=True)), activation_fn="identity"
    )
    expected = np.square(scores - pairs(7, 5).labels).mean()
    assert found["loss"] == pytest.approx(expected, abs=1e-6)


def test_held_out_sources_that_cannot_be_scored_are_refused(tiny):
    with pytest.raises(ValueError, match=r"named \[\]"):
        HeldOutLoss([])
    classes = Examples.from_columns({"a": ["x", "y"], "b": ["y", "x"], "label": [0, 1]})
    with pytest.raises(ValueError, match="softmax has params of its own"):
        HeldOutLoss(Source(classes, objective("softmax", num_labels=2)))(tiny)


def test_a_cross_encoder_and_its_objective_have_as_many_labels(tmp_path):
    model = CrossEncoder.from_parts(models.cross_parts(tmp_path, num_labels=3))
    columns = {"a": texts(8, 1), "b": texts(8, 2), "label": [0, 1, 2, 0, 1, 2, 0, 1]}
    examples = Examples.from_columns(columns)
    with pytest.raises(
        ValueError,
        match="binary-cross-entropy is for 1 label, the model has 3; open it with another",
    ):
        fit(model, Source(examples, "binary-cross-entropy"), tmp_path / "out", QUICK)
    with pytest.raises(
        ValueError, match="'softmax' is not for a cross-encoder; choose one of binary-cross-entropy"
    ):
        fit(model, Source(examples, objective("softmax", num_labels=3)), tmp_path / "out", QUICK)
    fit(model, Source(examples, "cross-entropy"), tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    "options",
    [
        {"packing": False},
        {"chunk_size": 3},
        {"accumulate": 2},
        {"dtype": "bfloat16"},
        {"remat": True},
        {"dropout": False},
        {"frozen": ("embeddings",)},
    ],
    ids=str,
)
def test_every_way_to_run_learns(tiny, tmp_path, options):
    recipe = dataclasses.replace(QUICK, **options)
    fit(tiny, Source(triplets(), "multiple-negatives-ranking"), tmp_path / "out", recipe)
    losses = [entry["loss"] for entry in lines(tmp_path / "out")]
    assert np.mean(losses[-3:]) < losses[0]


def test_packed_rows_and_padded_towers_are_one_run(tiny, tmp_path):
    models_ = [
        fit(
            tiny,
            Source(pairs(), "cosine"),
            tmp_path / str(p),
            dataclasses.replace(QUICK, packing=p),
        )
        for p in (True, False)
    ]
    a, b = (model.encode(models.sentences(20)) for model in models_)
    np.testing.assert_allclose(
        a, b, atol=2e-4
    )  # Adam magnifies rounding; another dropout would differ by 1e-2


def test_several_devices_make_the_same_run(tiny_folder, tmp_path):
    one = SentenceTransformer(tiny_folder)
    four = SentenceTransformer(tiny_folder, device=[f"cpu:{i}" for i in range(4)])
    found = [
        fit(model, Source(triplets(42), "multiple-negatives-ranking"), tmp_path / name, RECIPE)
        for name, model in (("one", one), ("four", four))
    ]
    assert len(found[1].devices) == 4
    a, b = (model.encode(models.sentences(20)) for model in found)
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_several_data_sets_take_turns_each_with_its_objective(tiny, tmp_path):
    labelled = Examples.from_columns(
        {"premise": texts(20, 1), "hypothesis": texts(20, 2), "label": [0, 1, 2, 1] * 5}
    )
    sources = [
        Source(labelled, objective("softmax", num_labels=3), name="nli"),
        Source(pairs(20), "cosent", name="sts"),
        Source(
            Examples.from_columns({"text": texts(20, 3)}),
            "masked-lm",
            name="words",
        ),
    ]
    fit(tiny, sources, tmp_path / "out", dataclasses.replace(QUICK, mix="round-robin"))
    names = [entry["source"] for entry in lines(tmp_path / "out")]
    assert names == ["nli", "sts", "words"] * 5
    from jsbert.checkpoint import read_tree

    own = read_tree(tmp_path / "out" / "objectives.safetensors")
    assert own["nli"]["kernel"].shape == (3 * 24, 3)
    assert set(own) == {"nli", "words"}


@pytest.mark.parametrize("family", [albert, electra])
def test_masked_words_are_learned_by_encoders_with_narrow_embeddings(tmp_path, family):
    parts = models.parts(tmp_path / "vocabulary")
    encoder = family.Config(**models.SIZES, embedding_size=14)
    params = {"encoder": models.perturbed(encoders.shapes(encoder))}
    narrow = dataclasses.replace(
        parts, config=dataclasses.replace(parts.config, encoder=encoder), params=params
    )
    source = Source(Examples.from_columns({"text": texts(20, 3)}), "masked-lm")
    fit(
        SentenceTransformer.from_parts(narrow),
        source,
        tmp_path / "out",
        dataclasses.replace(QUICK, epochs=3),
    )
    losses = [entry["loss"] for entry in lines(tmp_path / "out")]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize("family", [qwen3, static])
def test_masked_words_are_not_for_tokens_that_see_one_side(tiny, family):
    config = dataclasses.replace(tiny.config, encoder=family.Config(vocab_size=60, hidden_size=24))
    source = Source(Examples.from_columns({"text": ["a cat"]}), "masked-lm")
    with pytest.raises(
        ValueError,
        match="train: masked-lm is for tokens that see those before and behind them, not fo",
    ):
        source.build(config)


@pytest.mark.parametrize(
    "kind, num_labels", [("binary-cross-entropy", 1), ("mse", 1), ("cross-entropy", 3)]
)
@pytest.mark.parametrize("packing", [True, False])
def test_cross_encoders_are_trained_by_the_same_loop(tmp_path, kind, num_labels, packing):
    start = CrossEncoder.from_parts(models.cross_parts(tmp_path, num_labels=num_labels))
    labels = [i % 3 for i in range(44)] if num_labels > 1 else [float(i % 2) for i in range(44)]
    columns = {"query": texts(44, 1), "document": texts(44, 2), "label": labels}
    source = Source(
        Examples.from_columns(columns),
        objective(kind, **({"num_labels": 3} if num_labels > 1 else {})),
    )
    recipe = dataclasses.replace(QUICK, epochs=4, packing=packing, dropout=False)
    trained = fit(start, source, tmp_path / "out", recipe)
    assert isinstance(trained, CrossEncoder)
    losses = [entry["loss"] for entry in lines(tmp_path / "out")]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert trained.predict([("the cat", "a dog")]).shape == ((1, 3) if num_labels > 1 else (1,))


@pytest.mark.parametrize(
    "examples, kind, message",
    [
        (
            pairs(),
            "triplet",
            "train: triplet takes 3 columns of texts; these examples have 2: sentence1, sentence2",
        ),
        (triplets(), "cosine", "cosine takes 2 columns of texts; these examples have 3"),
        (
            Examples.from_columns({"a": ["x"], "b": ["y"]}),
            "cosine",
            r"cosine needs labels \(number\)",
        ),
        (pairs(), "mse", "'mse' is not for a bi-encoder; choose one of softmax, cosine"),
        (
            Examples.from_columns({"a": [], "b": []}),
            "multiple-negatives-ranking",
            "there are no examples",
        ),
    ],
)
def test_examples_that_do_not_fit_are_refused_first(tiny, tmp_path, examples, kind, message):
    with pytest.raises(ValueError, match=message):
        fit(tiny, Source(examples, kind), tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_a_label_that_is_no_class_is_named(tiny, tmp_path):
    examples = Examples.from_columns(
        {"a": ["x"] * 8, "b": ["y"] * 8, "label": [0, 1, 2, 0, 1, 7, 0, 1]}
    )
    with pytest.raises(
        ValueError, match="train: example 5 has the label 7; softmax has 3 classes, 0 to 2"
    ):
        fit(tiny, Source(examples, objective("softmax", num_labels=3)), tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    "kind, label, message",
    [
        ("cosine", 5, "the label 5.0; cosine takes -1 to 1: read the examples with label_range="),
        ("cosine", np.nan, "the label nan; cosine takes -1 to 1"),
        ("contrastive", -1, "the label -1.0; contrastive takes 0 to 1"),
        ("online-contrastive", 0.5, "the label 0.5; online-contrastive has 2 classes, 0 to 1"),
        ("binary-cross-entropy", 2, "the label 2.0; binary-cross-entropy takes 0 to 1"),
        ("cross-entropy", -1, "the label -1.0; cross-entropy has 2 classes, 0 to 1"),
    ],
)
def test_a_label_out_of_range_is_named(tiny, kind, label, message):
    examples = Examples.from_columns(
        {"a": ["x"] * 4, "b": ["y"] * 4, "score": [0.0, 1.0, 1.0, 0.0]}
    )
    config, num_labels = tiny.config, None
    if kind in CROSS_ENCODER:
        num_labels = 2 if kind == "cross-entropy" else 1
        config = CrossConfig(tiny.config.encoder, num_labels)
    source = Source(examples, objective(kind, **({"num_labels": 2} if num_labels == 2 else {})))
    source.build(config)
    examples.labels[2] = label
    with pytest.raises(ValueError, match=f"train: example 2 has {message}"):
        source.build(config)


def test_scores_of_any_size_are_taken_where_their_order_counts(tiny):
    examples = dataclasses.replace(pairs(), labels=5 * pairs().labels)
    for kind in ("cosent", "angle"):
        assert Source(examples, kind).build(tiny.config).kind == kind


def test_computed_cosines_are_labels(tiny):
    examples = dataclasses.replace(pairs(), labels=np.full_like(pairs().labels, 1.0000004))
    assert Source(examples, "cosine").build(tiny.config).kind == "cosine"


def test_a_model_of_several_routes_is_refused(tmp_path):
    model = SentenceTransformer.from_parts(two_encoders(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"routes \['query', 'document'\] have encoders of their own, and a run trains",
    ):
        fit(model, Source(pairs(), "cosine"), tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()
    for task in ("query", "document"):  # as the message recommends
        one = SentenceTransformer.from_parts(
            dataclasses.replace(model.router.route(task).parts, router=None)
        )
        assert np.array_equal(one.encode("a cat"), model.encode("a cat", task=task))
        Run(one, [Source(pairs(), "cosine")], QUICK, None)
    shared = SentenceTransformer.from_parts(routed(tmp_path / "shared"))
    with pytest.raises(
        ValueError,
        match=r"the model has the routes \['query', 'document'\]; choose one with config.for",
    ):
        fit(shared, Source(pairs(), "cosine"), tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    "option, message",
    [
        ({"epochs": 0}, "epochs is 0; it must be a positive integer"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a number, above 0"),
        ({"warmup": 1.5}, "warmup is 1.5; it must be a number, 0 or more, at most 1"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; choose one of 'linear', 'constant'"),
        ({"dtype": "float16"}, "dtype is 'float16'; choose one of 'float32', 'bfloat16'"),
        ({"frozen": "encoder"}, "give a sequence of patterns"),
        (
            {"dropout": 0.2},
            "dropout is 0.2; give None for the model's own rates, or False for none",
        ),
        ({"seed": -1}, "seed is -1; it must be an integer, 0 or more"),
    ],
)
def test_recipes_are_checked(option, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**option)


def test_the_schedule_rises_over_a_tenth_and_falls_to_nothing():
    rate = learning_rate(Recipe(learning_rate=1.0), 100)
    found = [round(float(rate(step)), 4) for step in (0, 5, 10, 55, 99)]
    assert found == [0.0, 0.5, 1.0, 0.5, 0.0111]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tiny, tmp_path):
    examples = pairs()
    examples.labels[17] = np.inf

    def unbounded(config, *, name):
        return of_embeddings(config, cosine_regression, name=name)

    with pytest.raises(
        FloatingPointError,
        match=r"update \d+: the loss is inf.*The batch is kept in .*not-finite-\d+.npz",
    ):
        fit(tiny, Source(examples, unbounded), tmp_path / "out", RECIPE)
    (file,) = (tmp_path / "out").glob("not-finite-*.npz")
    kept = np.load(file)
    assert 17 in kept["indices"]
    assert np.isinf(kept["labels"]).sum() == 1


def test_texts_that_are_cut_are_counted(tiny, tmp_path):
    columns = {"a": ["cat " * 60] + ["dog"] * 7, "b": ["the"] * 8, "score": [0.5] * 8}
    with pytest.warns(UserWarning, match="1 of 16 texts are longer than 32 tokens"):
        fit(tiny, Source(Examples.from_columns(columns), "cosine"), tmp_path / "out", QUICK)
