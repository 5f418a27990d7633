"""Tiny model folders of many kinds, and seeded mutations of their files."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from jsbert import encoders
from jsbert.checkpoint import (
    BiEncoderParts,
    CrossEncoderParts,
    Settings,
    is_cross_encoder,
    read_bi_encoder,
    read_cross_encoder,
    write_adapter,
    write_bi_encoder,
    write_cross_encoder,
)
from jsbert.config import Config, CrossConfig
from jsbert.encoders.heads import answers_head
from jsbert.modules import Dense, Normalize
from tests import models, test_modules

FAMILIES = {
    "roberta": {"pad_token_id": 4},
    "distilbert": {},
    "deberta-v2": {
        **{"relative_attention": True, "pos_att_type": ("c2p", "p2c"), "position_buckets": 6},
        **{"norm_rel_ebd": "layer_norm", "conv_kernel_size": 3, "share_att_key": True},
    },
    "albert": {"embedding_size": 14},
    "modernbert": {"local_attention": 6, "layer_types": ("full_attention", "sliding_attention")},
    "nomic_bert": {"hidden_act": "silu"},
    "gte": {"rope_factor": 1.5},
    "qwen3": {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10},
    "llama": {"num_key_value_heads": 1, "head_dim": 10, "rope_llama3": (8.0, 1.0, 4.0, 16.0)},
    "mistral": {"num_key_value_heads": 1, "head_dim": 10, "sliding_window": 6},
    "gemma3_text": {"num_key_value_heads": 1, "head_dim": 10, "sliding_window": 6},
    "t5": {"head_dim": 10},
    "static-embedding": {},
}

VALUES = (
    *(None, True, False, 0, 1, 2, 3, -1, 24, 4000, 2**31, 10**12, 10**400),
    *(0.5, 1.0, -0.1, 1e38, 1e300, float("nan"), float("inf")),
    *("", "x", "24", "../x", "/etc", "a\0b", "\ud800", "torch.nn.Tanh", "(?i)x"),
    *([], {}, [None], [[]], [{}], ["x"], [24], {"a": 1}, {"0": {}}, {"content": 1}, [0.5, "x"]),
)
"""Values that replace a value of a file."""

KEYS = [
    "model_type", "tokenizer_class", "architectures", "id2label", "num_labels",
    "sentence_transformers", "sbert_ce_default_activation_function", "pad_token_id",
    "classifier_dropout", "layer_types", "sliding_window", "use_bidirectional_attention",
    "rope_local_base_freq", "sliding_window_pattern", "rope_parameters", "rope_scaling", "auto_map", "is_causal", "pos_att_type", "position_buckets", "conv_act", "rope_theta",
    "n_positions", "n_embd", "activation_function", "moe_every_n_layers", "rotary_scaling_factor",
    "classifier_activation", "classifier_bias", "attention_bias", "mlp_bias", "is_decoder",
    "prenorm", "position_embedding_type", "modality_config", "processing_kwargs", "query_length",
    "max_seq_length", "do_lower_case", "strip_accents", "model_input_names", "model_max_length",
    "added_tokens_decoder", "truncation_side", "unk_token", "cls_token", "pad_token",
    "chat_template", "true_token_id", "tie_word_embeddings", "prompts", "truncate_dim", "activation_fn", "similarity_fn_name",
    "default_route", "route_mappings", "parameters", "allow_empty_key", "pooling_mode",
    "include_prompt", "module_input_name", "use_residual", "bias", "dropout", "revision",
    "modules_to_save", "layers_pattern", "use_rslora", "exclude_modules", "weight_map", "normalize",
]  # fmt: skip
"""Keys that a file may lack and that have a meaning in one of the files."""

LONGEST = 1.0
"""The largest number of seconds of processor time that an answer may take."""


def write_folders(place: pathlib.Path) -> list[pathlib.Path]:
    """Write a folder for each kind of model, and for each form of the weights that needs no
    torch."""
    settings = Settings(prompts={"q": "query: "}, default_prompt_name="q", truncate_dim=10)
    head = (Dense(24, 10), Normalize())
    bert = models.write_folder(place / "bert", head=head, settings=settings)
    tokens = {"unk_token": "[UNK]", "cls_token": {"content": "[CLS]", "lstrip": False}}
    (bert / "special_tokens_map.json").write_text(json.dumps(tokens))
    cross = models.write_cross_folder(place / "cross", num_labels=2)
    for name, make in {
        "everything": test_modules.everything,
        "routed": test_modules.routed,
    }.items():
        write_bi_encoder(place / name, make(place / "vocabulary"))
    write_bi_encoder(place / "two", test_modules.two_encoders(place / "vocabularies"))
    for family, sizes in FAMILIES.items():
        _write_family(place / family, family, sizes)
    _write_cross(place / "cross-modernbert", "modernbert", FAMILIES["modernbert"])
    _write_cross(place / "cross-qwen3", "qwen3", FAMILIES["qwen3"], answers=(5, 9))
    _add_adapter(models.write_folder(place / "adapter"), place / "lora")
    sharded = models.write_folder(place / "sharded")
    _split(sharded)
    plain = models.write_folder(place / "plain")
    (plain / "modules.json").unlink()
    shutil.rmtree(plain / "1_Pooling")
    shutil.rmtree(plain / "2_Normalize")
    made = ["everything", "routed", "two", *FAMILIES, "cross-modernbert", "cross-qwen3", "adapter"]
    return [bert, cross, *(place / name for name in made), sharded, plain]


@dataclasses.dataclass(frozen=True)
class Mutation:
    """What was done to a file, in words; and whether no model may be opened from the result."""

    file: pathlib.Path
    words: str
    must_fail: bool = False


@contextlib.contextmanager
def mutated(folder: pathlib.Path, generator: random.Random) -> Iterator[Mutation]:
    """Mutate one file of a folder, or put a file in place of a folder; and restore the folder
    afterwards."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    if inner and generator.random() < 0.05:
        place = generator.choice(inner)
        aside = place.rename(folder.parent / "aside")
        place.write_bytes(b"{}")
        try:
            yield Mutation(place, "(a file)", must_fail=True)
        finally:
            place.unlink()
            aside.rename(place)
        return
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    file = generator.choice(files)
    content = file.read_bytes()
    is_json = file.suffix == ".json" and file.name != "tokenizer.json"
    try:
        yield (
            _change_json(file, generator)
            if is_json and generator.random() < 0.8
            else _change_file(file, generator)
        )
    finally:
        _remove(file)
        file.write_bytes(content)


def problem_of(folder: pathlib.Path, mutation: Mutation, names: set[str]) -> str | None:
    """Open a mutated folder, and return what is wrong. Return None if the result is a model or a
    clear error, within the time limit."""
    start, had_transformers = time.thread_time(), "transformers" in sys.modules
    error = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (read_cross_encoder if is_cross_encoder(folder) else read_bi_encoder)(folder)
    except KeyboardInterrupt:
        raise
    except BaseException as caught:
        error = caught
    seconds = time.thread_time() - start
    if error is None and mutation.must_fail:
        return "was taken as if it were not there, or whole"
    if error is not None and not isinstance(error, (ValueError, OSError)):
        return f"raises {type(error).__name__}: {error}"
    if error is not None and not any(name in str(error) for name in names):
        return f"names neither file nor key: {type(error).__name__}: {error}"
    if seconds > LONGEST and had_transformers == ("transformers" in sys.modules):
        return f"takes {seconds:.1f} s"
    return None


def run(folders: list[pathlib.Path], count: int, seed: int) -> list[str]:
    """Open `count` mutated folders one after the other, and return a line for each one that went
    wrong."""
    generator, problems = random.Random(seed), []
    usual = {"config.json", "model.safetensors"}  # a message may leave these out
    names = {folder: usual | {*(path.name for path in folder.rglob("*"))} for folder in folders}
    for index in range(count):
        folder = folders[index % len(folders)]
        with mutated(folder, generator) as mutation:
            problem = problem_of(folder, mutation, names[folder])
        if problem:
            problems.append(
                f"{folder.name}: {mutation.file.relative_to(folder)} {mutation.words}: {problem[:600]}"
            )
    return problems


def _change_json(file, generator):
    content = json.loads(file.read_text(encoding="utf8"))
    places = list(_places(content))
    if isinstance(content, dict) and generator.random() < 0.3:
        key = generator.choice(KEYS)
        content[key] = generator.choice(VALUES)
        file.write_text(json.dumps(content))
        return Mutation(file, f"{key} = {content[key]!r:.60}")
    if not places:
        file.write_text(json.dumps(generator.choice(VALUES)))
        return Mutation(file, "with another top")
    *path, last = generator.choice(places)
    node = content
    for key in path:
        node = node[key]
    words = ".".join(map(str, (*path, last)))
    if generator.random() < 0.15:
        del node[last]
        words += " deleted"
    else:
        other = generator.choice(places)
        value: Any = generator.choice(VALUES)
        if generator.random() < 0.1:  # the value of another key
            value = content
            for key in other:
                value = value[key]
            value = json.loads(json.dumps(value))
        node[last] = value
        words += f" = {value!r:.60}"
    file.write_text(json.dumps(content))
    return Mutation(file, words)


def _places(node, path=()):
    """Yield the paths to all values below `node`."""
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in children:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _change_file(file, generator):
    content = file.read_bytes()
    kind = generator.choice(
        ["cut", "flip", "empty", "garbage", "gone", "folder", "folder", "dead link", "deep"]
    )
    _remove(file)
    if kind == "cut":
        file.write_bytes(content[: generator.randrange(max(1, len(content) - 2))])
    elif kind == "flip":
        place = generator.randrange(min(len(content), 4000)) if content else 0
        file.write_bytes(content[:place] + bytes([generator.randrange(256)]) + content[place + 1 :])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "garbage":
        file.write_bytes(generator.randbytes(60))
    elif kind == "deep":
        file.write_bytes(b'{"a":' + b"[" * 100_000)
    elif kind == "folder":
        file.mkdir()
    elif kind == "dead link":
        os.symlink("nowhere", file)
    is_parsed = file.suffix in (".json", ".safetensors")
    breaks = kind in ("folder", "dead link") or (is_parsed and kind not in ("flip", "gone"))
    return Mutation(file, f"({kind})", must_fail=breaks)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _family_config(family, sizes):
    module = encoders.family(family)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    own = {name: size for name, size in models.SIZES.items() if name in fields}
    return module, module.Config(**own | sizes, model_type=family)


def _write_family(folder, family, sizes):
    _, config = _family_config(family, sizes)
    params = {"encoder": models.perturbed(encoders.shapes(config))}
    tokenizer = models.tokenizer(folder.parent / "vocabulary", 20)
    write_bi_encoder(folder, BiEncoderParts(Config(config), params, tokenizer, Settings()))
    if family == "static-embedding":  # it reads tokenizer.json alone
        (folder / "vocab.txt").unlink()
        (folder / "tokenizer_config.json").unlink()


def _write_cross(folder, family, sizes, answers=()):
    module, config = _family_config(family, sizes)
    layer = answers_head(len(answers)) if answers else module.head(config)
    head = models.perturbed(layer.shapes(config, 2))
    params = {"encoder": models.perturbed(encoders.shapes(config)), "head": head}
    tokenizer = models.tokenizer(folder.parent / "vocabulary", 20)
    own = CrossConfig(config, 1 if answers else 2, "identity", answers)
    write_cross_encoder(folder, CrossEncoderParts(own, params, tokenizer))
    if answers:
        template = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
        (folder / "chat_template.jinja").write_text(template)
        edited = json.loads((folder / "sentence_bert_config.json").read_text())
        del edited["modality_config"]
        (folder / "sentence_bert_config.json").write_text(json.dumps(edited))


def _add_adapter(folder, other):
    config = read_bi_encoder(folder).config.encoder
    matrices = {"lora_A": np.ones((24, 3), np.float32), "lora_B": np.ones((3, 24), np.float32)}
    lora = {"layers": {0: {"attention": {"query": matrices}}}}
    write_adapter(other, config, jax.tree.map(np.asarray, lora), alpha=2.0, base="nobody/nothing")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(other / file, folder / file)
    values = json.loads((folder / "adapter_config.json").read_text())
    values |= {
        "rank_pattern": {"key": 5},
        "alpha_pattern": {"key": 5.5},
        "layers_to_transform": [0],
    }
    (folder / "adapter_config.json").write_text(json.dumps(values))


def _split(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard)
    index = {
        "metadata": {},
        "weight_map": {name: shard for shard, members in shards.items() for name in members},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
