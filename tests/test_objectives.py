"""The table of objectives: checks, labels, options and the help follow from a row."""

import dataclasses
import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("optax")
pytest.importorskip("orbax.checkpoint")

from jsbert import losses
from jsbert.cli.sources import make_sources
from jsbert.config import CrossConfig
from jsbert.data import Examples
from jsbert.train import (
    BI_ENCODER,
    CROSS_ENCODER,
    OBJECTIVES,
    Recipe,
    Source,
    Spec,
    objective,
    of_embeddings,
    per_example_grads,
)
from jsbert.train.batches import plan
from jsbert.train.spec import LABELS
from tests import command_line, models

ROWS = 6
SCORES = [0, 1, 2.5, 5, 4, 3]
COLUMNS = {
    "none": {},
    "words": {},
    "number": {"score": SCORES},
    "class": {"label": [i % 2 for i in range(ROWS)]},
    "group": {"label": [7 - i % 2 for i in range(ROWS)]},
    "margins": {"score": SCORES},
    "vector": {"label": [[float(i), 1.0] for i in range(ROWS)]},
}
"""A column of labels for each kind of label."""


def file_for(row, folder, labels=None):
    """Write a file that fits a row of the table; `labels` replace those of `COLUMNS`."""
    texts = {f"text{n}": models.sentences(ROWS, seed=n, longest=6) for n in range(row.num_texts[0])}
    columns = texts | (COLUMNS[row.labels] if labels is None else {"label": labels})
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(kind, file, **options):
    is_cross = OBJECTIVES[kind].model == "cross-encoder"
    (source,) = make_sources([f"{kind}:{file}"], None, [], cross_encoder=is_cross, **options)
    return source


def build(source, kind, tiny):
    """Build the objective for a model with as many labels as the data."""
    row = OBJECTIVES[kind]
    if row.model == "bi-encoder":
        return source.build(tiny.config)
    return source.build(CrossConfig(tiny.config.encoder, 2 if row.counts_classes else 1))


@pytest.fixture
def run(capfd):
    return lambda *argv: command_line.run(capfd, argv)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_label_range_is_applied_or_refused_by_name(tiny, tmp_path, kind):
    row = OBJECTIVES[kind]
    file = file_for(row, tmp_path)
    if row.labels == "number":
        source = read(kind, file, label_range="0,5")
        assert source.examples.labels == pytest.approx([score / 5 for score in SCORES])
        build(source, kind, tiny)
    else:
        message = f"--label-range is for labels that are numbers: {kind} takes .*Leave --label-range out, or choose"
        with pytest.raises(ValueError, match=message):
            read(kind, file, label_range="0,5")
        assert row.label_range is None  # else an error would recommend an option that is refused
        build(read(kind, file), kind, tiny)


@pytest.mark.parametrize("kind", ["contrastive", "margin-mse", "online-contrastive"])
def test_train_applies_or_refuses_a_label_range(run, tiny_folder, tmp_path, monkeypatch, kind):
    fitted = []
    monkeypatch.setattr(
        "jsbert.train.fit", lambda model, sources, *rest, **options: fitted.extend(sources)
    )
    file = file_for(OBJECTIVES[kind], tmp_path)
    argv = ["--objective", kind, "--data", file, "--label-range", "0,5", "-m", tiny_folder]
    code, _, err = run("train", *argv, "-o", tmp_path / "out")
    if kind == "contrastive":
        assert code == 0
        assert fitted[0].examples.labels == pytest.approx([score / 5 for score in SCORES])
    else:
        assert (code, fitted) == (1, [])
        assert command_line.is_one_line(
            err, f"{kind} takes a", "Leave --label-range out", "cosine, contrastive"
        )


def test_a_label_range_of_several_files_is_for_those_with_numbers(tmp_path):
    scored, classified = tmp_path / "scored", tmp_path / "classified"
    scored.mkdir()
    classified.mkdir()
    data = [
        f"cosine:{file_for(OBJECTIVES['cosine'], scored)}",
        f"softmax:{file_for(OBJECTIVES['softmax'], classified)}",
    ]
    one, two = make_sources(data, None, [], cross_encoder=False, label_range="0,5")
    assert one.examples.labels.max() == 1
    assert two.examples.labels.tolist() == COLUMNS["class"]["label"]
    data = [f"triplet:{file_for(OBJECTIVES['triplet'], scored)}", data[1]]
    with pytest.raises(
        ValueError, match="triplet takes no labels; softmax takes a class an example"
    ):
        make_sources(data, None, [], cross_encoder=False, label_range="0,5")


def test_the_lists_of_names_are_those_of_the_table():
    assert (*BI_ENCODER, *CROSS_ENCODER) == tuple(OBJECTIVES)
    assert {row.labels for row in OBJECTIVES.values()} == set(LABELS) == set(COLUMNS)


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """A row that a test adds, which is all that a new loss needs; and the file for the row."""

    @losses.in_batch
    def loss(embeddings, labels, *, power=2.0):
        return jnp.abs(embeddings[0] - embeddings[1]).mean() ** power + 0 * labels

    row = Spec(loss, num_texts=(3, 3), label_range=(0, 1))
    monkeypatch.setitem(OBJECTIVES, "made-up", row)
    return file_for(row, tmp_path)


def test_the_help_names_a_new_row(run, made_up):
    code, text, _ = run("train", "--help")
    text = " ".join(text.replace("-\n", "-").split())  # the help's lines break behind hyphens too
    assert code == 0
    assert "masked-lm, made-up; for cross-encoders binary-cross-entropy" in text
    assert text.count("made-up") == 2  # the other one is in the list of --label-range
    assert "{" not in text


def test_the_checks_follow_from_a_new_row(tiny, made_up):
    with pytest.raises(
        ValueError,
        match="example 2 has the label 2.5; made-up takes 0 to 1: read the examples with",
    ):
        read("made-up", made_up).build(tiny.config)
    pairs = Source(Examples.from_columns({"a": ["x"], "b": ["y"], "score": [1]}), "made-up")
    with pytest.raises(ValueError, match="made-up takes 3 columns of texts; these examples have 2"):
        pairs.build(tiny.config)
    with pytest.raises(
        ValueError, match="'made-up' is not for a cross-encoder; choose one of binary-cross-entropy"
    ):
        pairs.build(CrossConfig(tiny.config.encoder))
    with pytest.raises(
        ValueError, match="'made-up' has no option scale; it has adaptive_layers, .*, power"
    ):
        objective("made-up", scale=2)


def test_the_objective_of_a_new_row_has_its_facts(tiny, made_up):
    source = read("made-up", made_up, label_range="0,5")
    assert source.examples.labels == pytest.approx([score / 5 for score in SCORES])
    built = source.build(tiny.config)
    assert (built.kind, built.num_texts, built.label_range) == ("made-up", (3, 3), (0, 1))
    with pytest.raises(ValueError, match="made-up: a batch's examples see each other"):
        per_example_grads(built)


@pytest.mark.parametrize(
    "model, loss", [("bi-encoder", losses.triplet), ("cross-encoder", losses.cross_entropy)]
)
def test_the_classes_of_a_new_row_are_counted_and_have_no_range(
    run, tiny, tmp_path, monkeypatch, model, loss
):
    row = Spec(loss, labels="class", model=model)
    monkeypatch.setitem(OBJECTIVES, "made-up", row)
    assert run("train", "--help")[1].count("made-up") == 1
    file = file_for(row, tmp_path)
    built = build(read("made-up", file), "made-up", tiny)
    assert (built.kind, built.num_classes) == ("made-up", 2)
    with pytest.raises(ValueError, match="made-up takes a class an example"):
        read("made-up", file, label_range="0,5")
    if model == "bi-encoder":  # the cross-encoder itself has the number
        with pytest.raises(ValueError, match="'made-up' needs num_labels"):
            objective("made-up")


def test_options_of_adaptive_layers_are_checked_by_name():
    for given in ({"last": 1}, True):
        with pytest.raises(
            ValueError, match="adaptive_layers is .*; give a dict of some of kl_div"
        ):
            objective("cosine", adaptive_layers=given)
    with pytest.raises(ValueError, match="'masked-lm' has no option adaptive_layers"):
        objective("masked-lm", adaptive_layers={})


def test_a_model_that_mixes_its_layers_has_no_adaptive_layers(tiny):
    mixed = dataclasses.replace(tiny.config, layer_start=0)
    with pytest.raises(ValueError, match="train: the model mixes the vectors of its layers"):
        objective("cosine", adaptive_layers={})(mixed, name="train")


def test_groups_are_any_whole_numbers(tiny):
    columns = {"text": ["a", "b"], "label": [-3, 900]}
    assert Source(Examples.from_columns(columns), "batch-hard-triplet").build(tiny.config).in_batch
    examples = Examples.from_columns(columns | {"label": [1, 0.5]})
    message = "example 1 has the label 0.5; batch-hard-triplet takes whole numbers"
    with pytest.raises(ValueError, match=message):
        Source(examples, "batch-hard-triplet").build(tiny.config)


def test_batches_are_grouped_by_label_where_a_row_needs_it(tiny):
    texts, labels = models.sentences(24), np.arange(24) // 8
    examples = Examples.from_columns({"text": texts, "label": labels})

    def number_of_classes(source, **options):
        updates = plan([source], [source.build(tiny.config)], Recipe(batch_size=6, **options))
        return {len(set(source.examples.labels[update.indices])) for update in updates}

    source = Source(examples, "batch-all-triplet")
    assert number_of_classes(source) == {3}
    assert number_of_classes(source, group_by_label=True) == {3}
    # Drawn at random, some batch has other numbers than 2, 2, 2.
    assert number_of_classes(source, no_duplicates=True) == number_of_classes(
        source, group_by_label=False
    )
    pairs = Examples.from_columns({"a": texts, "b": texts, "label": labels})
    source = Source(pairs, objective("softmax", num_labels=3))
    assert number_of_classes(source, group_by_label=True) == {3}
    with pytest.raises(ValueError, match="train: group_by_label is for labels that are classes"):
        number_of_classes(Source(pairs, "cosent"), group_by_label=True)
    with pytest.raises(ValueError, match="are both True"):
        Recipe(no_duplicates=True, group_by_label=True)


RUNS = {
    "batch-triplets": [kind for kind, row in OBJECTIVES.items() if row.labels == "group"],
    "more": ["kl-distillation", "global-orthogonal-regularization", "guided-negatives-ranking"],
}
"""Objectives that a run of the command line takes, each with a file of its own."""

OWN_LABELS = {
    "kl-distillation": [[i / 2, 1.0] for i in range(ROWS)],
    "guided-negatives-ranking": [[[1.0, i, 0.0], [2.0, 1.0, i]] for i in range(ROWS)],
}
"""Labels whose shape the kind of labels does not say."""


def test_a_guides_negatives_are_no_copies(tiny):
    texts, guide = ["a", "b", "c", "d"] * 2, np.ones((8, 2, 3))
    examples = Examples.from_columns({"a": texts, "b": texts, "label": guide.tolist()})
    source = Source(examples, "guided-negatives-ranking")
    updates = plan([source], [source.build(tiny.config)], Recipe(batch_size=4))
    assert [sorted(index % 4 for index in update.indices) for update in updates] == [
        [0, 1, 2, 3]
    ] * 2


@pytest.mark.parametrize("kinds", RUNS.values(), ids=RUNS)
def test_train_runs_the_rows(run, tiny_folder, tmp_path, kinds):
    argv = [
        "-m",
        tiny_folder,
        "-o",
        tmp_path / "out",
        "--batch-size",
        str(ROWS),
        "--log-steps",
        "1",
    ]
    for kind in kinds:
        (tmp_path / kind).mkdir()
        file = file_for(OBJECTIVES[kind], tmp_path / kind, OWN_LABELS.get(kind))
        argv += ["--data", f"{kind}:{file}"]
    # An option of the command line holds for all its files.
    argv += ["--objective-option", "adaptive-layers={}"] if kinds[0] == "kl-distillation" else []
    code, _, err = run("train", *argv)
    assert code == 0, err
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["source"] for row in rows}) == len(kinds)
    assert all(np.isfinite([row["loss"], row["grad_norm"]]).all() for row in rows)


def test_a_loss_of_ones_own_says_whether_examples_meet_in_it(tiny):
    def loss(embeddings, labels):
        return jnp.square(embeddings[0] - embeddings[1].mean(axis=0)).mean(axis=-1)

    make = functools.partial(of_embeddings, tiny.config, name="mine", labels="none")
    assert not make(loss).in_batch
    assert make(loss, in_batch=True).in_batch
    assert make(functools.partial(losses.in_batch(loss))).in_batch
    assert not make(loss, in_batch=False).in_batch


def test_a_loss_of_ones_own_may_have_params(tiny):
    def loss(scale, embeddings, labels):
        return scale * jnp.square(embeddings[0] - embeddings[1]).sum(axis=-1)

    own = of_embeddings(
        tiny.config, loss, name="mine", labels="none", init=lambda key: jnp.float32(3)
    )
    outputs = np.random.default_rng(0).standard_normal((ROWS, 2, 5)).astype(np.float32)
    found = own.loss({"objectives": {"mine": own.init(None)}}, outputs, {})
    np.testing.assert_allclose(
        found, 3 * np.square(outputs[:, 0] - outputs[:, 1]).sum(axis=-1), rtol=1e-6
    )


def test_a_kind_of_labels_that_is_unknown_is_refused(tiny):
    with pytest.raises(
        ValueError, match="labels is 'numbers'; choose one of 'none', 'number', 'class'"
    ):
        of_embeddings(tiny.config, losses.cosent, name="mine", labels="numbers")
