"""Model folders with a fault: an error within a second that names the file, or a model; nothing else."""

import json
import pathlib
import random
import shutil
import time

import jax
import numpy as np
import pytest

from jsbert import encoders
from jsbert.checkpoint import (
    BiEncoder,
    Settings,
    read_bi_encoder,
    read_cross_encoder,
    write_bi_encoder,
    write_cross_encoder,
)  # fmt: skip
from jsbert.config import Config
from jsbert.encoders import albert, distilbert, modernbert, nomic_bert, qwen3
from jsbert.modules import Dense, LayerNorm, Normalize
from tests import models
from tests.test_modules import routed, two_encoders

pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = {name: size for name, size in models.SIZES.items() if name != "type_vocab_size"}
CONFIGS = {
    "albert": albert.Config(**models.SIZES, embedding_size=14),
    "distilbert": distilbert.Config(**SIZES),
    "modernbert": modernbert.Config(**SIZES, local_attention=4),
    "nomic_bert": nomic_bert.Config(**models.SIZES),
    "qwen3": qwen3.Config(**SIZES | {"num_attention_heads": 6}, num_key_value_heads=2, head_dim=10),
}
VALUES = (
    None, True, False, 0, -1, 2, 4000, 10**12, 10**400, 0.5, -0.5, float("nan"), float("inf"), 1e300, "", "no", "mean",
    [], [1], ["no"], {}, {"no": 1}, [[]], {"content": 3},
)  # fmt: skip
ALLOWED = (ValueError, OSError)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models of several families and forms."""
    root = tmp_path_factory.mktemp("strict")
    modules = (Dense(24, 10), LayerNorm(10), Normalize())
    whole = models.parts(root / "v", head=())
    layer_norm = {"scale": np.ones(10, np.float32), "bias": np.zeros(10, np.float32)}
    dense = {"kernel": np.ones((24, 10), np.float32), "bias": np.zeros(10, np.float32)}
    made = {
        "bert": BiEncoder(
            Config(whole.config.encoder, ("mean", "cls"), modules=(Normalize(),)), whole.params, whole.tokenizer,
            Settings({"query": "query: "}, "query", "cosine", 20),
        ),
        "modules": BiEncoder(
            Config(whole.config.encoder, modules=modules), whole.params | {"head": {0: dense, 1: layer_norm}},
            whole.tokenizer, Settings(),
        ),
        "routes": routed(root / "routed"),
        "encoders": two_encoders(root / "two"),
    }  # fmt: skip
    for name, config in CONFIGS.items():
        params = {"encoder": models.perturbed(encoders.shapes(config))}
        made[name] = BiEncoder(Config(config), params, whole.tokenizer, Settings())
    for name, parts in made.items():
        write_bi_encoder(root / "models" / name, parts)
    write_cross_encoder(root / "models" / "cross", models.cross_parts(root / "cross"))
    return root / "models"


def places(value, path=()):
    """The paths of all values in json, those in lists and dicts too."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutate(folder, generator):
    """Change one thing in a folder; returns what was changed."""
    file = generator.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"))
    name, kind = str(file.relative_to(folder)), generator.random()
    if kind < 0.06:
        file.unlink()
        file.mkdir()
        return f"{name} is a folder"
    if kind < 0.12:
        file.write_bytes(file.read_bytes()[: generator.randrange(file.stat().st_size + 1)])
        return f"{name} is cut"
    if kind < 0.18 or file.suffix != ".json":
        content = bytearray(file.read_bytes())
        content[generator.randrange(min(len(content), 4000))] ^= 1 << generator.randrange(8)
        file.write_bytes(bytes(content))
        return f"{name} is flipped"
    content = json.loads(file.read_text())
    all_places = [path for path in places(content) if path and "vocab" not in path][:400]
    if not all_places:
        return f"{name} stays"
    *path, last = generator.choice(all_places)
    node = content
    for key in path:
        node = node[key]
    if generator.random() < 0.15:
        del node[last]
        what = "is deleted"
    else:
        node[last] = generator.choice(VALUES)
        what = f"is {node[last]!r:.40}"
    file.write_text(json.dumps(content))
    return f"{name}: {[*path, last]} {what}"


def check(folders, scratch, count, seed):
    generator, wrong = random.Random(seed), []
    names = sorted(path.name for path in folders.iterdir())
    for number in range(count):
        name = generator.choice(names)
        target = scratch / "model"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folders / name, target)
        what = f"{name}, {mutate(target, generator)}"
        read, started, error = (read_cross_encoder if name == "cross" else read_bi_encoder), time.process_time(), None
        try:
            read(target)
        except ALLOWED as found:
            error = found
        except Exception as found:
            wrong.append(f"{number}: {what}: {type(found).__name__}: {found!s:.150}")
        if error is not None and not any(part in str(error) for part in (str(target), "model.safetensors", ".json")):
            wrong.append(f"{number}: {what}: no file is named: {error!s:.150}")
        if error is None and what.endswith("is a folder"):
            wrong.append(f"{number}: {what}: read as if it were absent")
        if time.process_time() - started > 3:  # a second on a quiet machine
            wrong.append(f"{number}: {what}: took {time.process_time() - started:.1f} s")
    assert not wrong, "\n".join(wrong)


def test_every_fault_is_an_error_that_names_the_file_or_another_model(folders, tmp_path):
    check(folders, tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_more_faults(folders, tmp_path, seed):
    check(folders, tmp_path, 1000, seed)


@pytest.mark.parametrize("name", ["bert", *CONFIGS])
@pytest.mark.parametrize("value", [4000, 10**12])
def test_sizes_that_the_weights_do_not_have_are_refused_at_once(folders, tmp_path, name, value):
    shutil.copytree(folders / name, tmp_path / "model")
    file = tmp_path / "model/config.json"
    content = json.loads(file.read_text())
    sizes = [key for key in content if key in {"vocab_size", "hidden_size", "dim", "n_layers", "num_hidden_layers",
                                               "intermediate_size", "hidden_dim", "embedding_size"}]  # fmt: skip
    assert len(sizes) >= 3
    for key in sizes:
        file.write_text(json.dumps(content | {key: value}))
        started = time.process_time()
        if name == "albert" and key == "num_hidden_layers" and value == 4000:
            value_error = "num_hidden_layers is 4000"
        else:
            value_error = rf"{key}|tensors do not fit|divide|vocab_size|layer_types"
        with pytest.raises(ValueError, match=value_error):
            read_bi_encoder(tmp_path / "model")
        assert time.process_time() - started < 3


@pytest.mark.parametrize("name", ["modules.json", "tokenizer_config.json", "config_sentence_transformers.json",
                                  "sentence_bert_config.json", "special_tokens_map.json", "model.safetensors"])  # fmt: skip
def test_a_folder_in_place_of_a_file_is_never_read_as_absent(folders, tmp_path, name):
    shutil.copytree(folders / "bert", tmp_path / "model")
    file: pathlib.Path = tmp_path / "model" / name
    file.unlink(missing_ok=True)
    file.mkdir()
    with pytest.raises(OSError, match=f"{name} is a folder"):
        read_bi_encoder(tmp_path / "model")


def test_the_models_are_read_as_they_are(folders):
    for folder in folders.iterdir():
        parts = (read_cross_encoder if folder.name == "cross" else read_bi_encoder)(folder)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parts.params))
