"""The folder of a run: to which run it belongs, and what the folder may contain."""

import dataclasses
import json
import os

import pytest

from jsbert import SentenceTransformer
from jsbert.config import Config
from jsbert.data import Examples
from jsbert.encoders import bert
from jsbert.modules import Dense, Normalize
from jsbert.train import Source, fit, objective
from jsbert.train.description import comparable, described
from tests import models
from tests.test_train_loop import RECIPE, pairs
from tests.train_process import first_number, texts


def test_a_finished_run_is_opened_not_repeated(tiny, tmp_path):
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE)
    written = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == written


def test_fields_that_only_say_how_to_compute_do_not_make_another_run(tiny, tiny_folder, tmp_path):
    seen = []

    def evaluator(model):
        seen.append(model.attn_implementation)
        return {"score": 1.0}

    def trained(model):
        written = tmp_path / "out" / "model.safetensors"
        before = written.stat().st_mtime_ns if written.exists() else None
        model = fit(
            model, Source(pairs(12), "cosine"), tmp_path / "out", RECIPE, evaluator=evaluator
        )
        assert before in (None, written.stat().st_mtime_ns)  # the run was opened, not repeated
        return model

    assert (
        trained(SentenceTransformer(tiny_folder, attn_implementation="xla")).attn_implementation
        == "xla"
    )
    assert set(seen) == {"xla"}
    assert trained(tiny).attn_implementation == "eager"
    file = tmp_path / "out" / "recipe.json"
    recipe = json.loads(file.read_text())
    assert recipe["run"]["model"]["config"]["encoder"]["hidden_size"] == 24
    recipe["run"]["model"]["config"] = EARLIER
    del recipe["run"]["recipe"]["lora_alpha"]
    file.write_text(json.dumps(recipe))
    trained(tiny)
    for changed in ("hidden_size=25", "hidden_size=24, layer_norm_eps=1e-05"):
        recipe["run"]["model"]["config"] = EARLIER.replace("hidden_size=24", changed)
        file.write_text(json.dumps(recipe))
        with pytest.raises(
            ValueError, match=r"holds another run, which differs in model.config.encoder.\w+ \("
        ):
            trained(tiny)


EARLIER = (
    "Config(encoder=Config(model_type='bert', vocab_size=105, hidden_size=24, num_hidden_layers=2, "
    "num_attention_heads=3, intermediate_size=40, hidden_act='gelu', hidden_dropout_prob=0.1, "
    "attention_probs_dropout_prob=0.1, max_position_embeddings=32, initializer_range=0.02, pad_token_id=0, "
    "dtype='float32', type_vocab_size=2), pooling=('mean',), include_prompt=True, head=(Normalize(),), router=None)"
)
"""The tiny model's config as written by a version that had no remat, attn_implementation,
layer_norm_eps and layer_start."""


def test_modules_of_an_earlier_run_are_compared_too():
    config = Config(bert.Config(**models.SIZES), modules=(Dense(24, 10), Normalize()))
    earlier = EARLIER.replace(
        "head=(Normalize(),)",
        "head=(Dense(in_features=24, out_features=10, bias=True, activation='tanh'), Normalize())",
    )
    now = comparable(described(config), config)
    assert (
        comparable(earlier, config)
        == comparable(json.loads(json.dumps(described(config))), config)
        == now
    )
    assert comparable(earlier.replace("'tanh'", "'gelu'"), config) != now
    assert comparable(earlier.replace("out_features=10", "out_features=11"), config) != now
    assert comparable("Config(__import__('os'))", config) != now
    assert comparable("no repr at all", config) == "no repr at all"


def test_nothing_of_a_run_that_left_no_checkpoint_is_in_the_next(tiny, tmp_path):
    scores = [0.1, 0.2]  # no third score: the run ends after its best model, before a checkpoint
    labelled = Examples.from_columns(
        {"a": texts(44, 1), "b": texts(44, 2), "label": [0, 1, 2, 1] * 11}
    )
    with pytest.raises(IndexError):
        fit(
            tiny,
            Source(labelled, objective("softmax", num_labels=3)),
            tmp_path / "out",
            dataclasses.replace(RECIPE, checkpoint_steps=100),
            evaluator=lambda model: {"score": scores.pop()},
        )
    assert (tmp_path / "out" / "best" / "objectives.safetensors").exists()
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE)
    assert not (tmp_path / "out" / "objectives.safetensors").exists()


def test_half_written_files_go_only_from_a_folder_of_a_run(tiny, tmp_path):
    for folder in ("foreign", "run"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".README.0123abcd.md").write_text("half")
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds things that are no run's of jsbert"):
        fit(tiny, Source(pairs(), "cosine"), tmp_path / "foreign", RECIPE)
    assert (tmp_path / "foreign" / ".README.0123abcd.md").exists()
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "run", RECIPE)
    assert not (tmp_path / "run" / ".README.0123abcd.md").exists()


def test_a_folder_of_something_else_is_left_alone(tiny, tiny_folder, tmp_path):
    with pytest.raises(ValueError, match="holds things that are no run's of jsbert"):
        fit(tiny, Source(pairs(), "cosine"), tiny_folder, RECIPE)
    fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE)
    other = dataclasses.replace(RECIPE, learning_rate=1e-4)
    with pytest.raises(
        ValueError,
        match=r"another run, which differs in recipe.learning_rate \(0.001 there, 0.0001 now\)",
    ):
        fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", other)
    with pytest.raises(ValueError, match="differs in model.params"):
        fit(
            SentenceTransformer.from_parts(models.parts(tmp_path, seed=3)),
            Source(pairs(), "cosine"),
            tmp_path / "out",
            RECIPE,
        )
    with pytest.raises(ValueError, match=r"differs in data.train.options.matryoshka_dims"):
        fit(
            tiny,
            Source(pairs(), objective("cosine", matryoshka_dims=(24, 8))),
            tmp_path / "out",
            RECIPE,
        )
    with pytest.raises(ValueError, match=r"differs in evaluator \(None there, first_number now\)"):
        fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE, evaluator=first_number)
    with pytest.raises(ValueError, match="differs in data.train.digest"):
        fit(tiny, Source(pairs(seed=5), "cosine"), tmp_path / "out", RECIPE)
    with pytest.raises(NotADirectoryError, match="is a file"):
        fit(tiny, Source(pairs(), "cosine"), tiny_folder / "config.json", RECIPE)


def test_a_folder_with_other_things_is_not_touched(tiny, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="give a new or empty folder to train into"):
        fit(tiny, Source(pairs(), "cosine"), tmp_path, RECIPE)
    assert [path.name for path in tmp_path.rglob("*")] == ["best", "mine.txt"]


def test_a_run_that_failed_before_its_first_checkpoint_can_be_mended(tiny, tmp_path):
    with pytest.raises(ValueError, match="'embedings' is found in no param's path"):
        fit(
            tiny,
            Source(pairs(), "cosine"),
            tmp_path / "out",
            dataclasses.replace(RECIPE, frozen=("embedings",)),
        )
    fit(
        tiny,
        Source(pairs(), "cosine"),
        tmp_path / "out",
        dataclasses.replace(RECIPE, frozen=("embeddings",)),
    )


def test_a_full_disk_is_found_before_the_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and _Usage(free=1000)
    )
    with pytest.raises(OSError, match=r"needs about [\d.,]+ MB .* 0 MB are free"):
        fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", RECIPE)
    assert not (tmp_path / "out" / "recipe.json").exists()


@dataclasses.dataclass
class _Usage:
    free: int
