"""Read the json files of a folder that describe the tokenizer, as transformers does (5.23)."""

import json
import pathlib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from jsbert.checks import typed
from jsbert.json_files import has_file, parse_json, read_json_if_there

SETTINGS = "tokenizer_config.json"

VOCABULARIES = (
    "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
    "spm.model", "tokenizer.model", "bpe.codes",
)  # fmt: skip
"""The names of vocabulary files. They are not read if there is a `tokenizer.json`, which holds the
vocabulary, too."""

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
    *VOCABULARIES,
)  # fmt: skip
"""The names of all files that belong to a tokenizer."""

CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "albert": "Albert",
        "bert": "Bert",
        "camembert": "Camembert",
        "deberta-v2": "DebertaV2",
        "distilbert": "Bert",
        "electra": "Bert",
        "gemma3_text": "Gemma",
        "gte": "XLMRoberta",
        "modernbert": "PreTrained",
        "llama": "PreTrained",
        "mistral": "PreTrained",
        "mpnet": "MPNet",
        "nomic_bert": "Bert",
        "qwen2": "Qwen2",
        "qwen3": "Qwen2",
        "roberta": "Roberta",
        "t5": "T5",
        "xlm-roberta": "XLMRoberta",
    }
)
"""{model_type: the tokenizer class}, for folders that name no class."""

SET_CLASSES = frozenset({"mistral", "modernbert", "qwen2"})
"""The model_types for which transformers ignores the class that a folder with a tokenizer.json
names."""

BERT_CLASSES = frozenset(
    {"Bert", "DistilBert", "Electra", "LayoutLM", "Lxmert", "MobileBert", "SqueezeBert"}
)
"""The tokenizer classes that are BERT's under another name. A `vocab.txt` alone describes them."""

TYPES: Mapping[str, Any] = MappingProxyType(
    {
        "added_tokens_decoder": dict,
        "do_lower_case": bool,
        "model_input_names": list[str],
        "model_max_length": float,
        "strip_accents": bool,
        "tokenize_chinese_chars": bool,
        "tokenizer_class": str,
    }
    | {f"{kind}_token": str | dict for kind in ("cls", "sep", "pad", "mask", "unk", "bos", "eos")}
)
"""The types of the values that are read from a tokenizer's json files."""

ANGLED_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "cls": "<s>",
        "sep": "</s>",
        "pad": "<pad>",
        "mask": "<mask>",
        "unk": "<unk>",
        "bos": "<s>",
        "eos": "</s>",
    }
)
"""The usual names of special tokens in angle brackets, by kind. The other usual names are in square
brackets, like BERT's [CLS]."""


def read_settings(folder: pathlib.Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Read a folder's tokenizer files: ({name: content}, settings).

    The settings are the content of tokenizer_config.json plus the special tokens of
    special_tokens_map.json. Their "tokenizer_class" lacks the suffixes "Tokenizer" and "Fast":
    "Bert". If no file names the class, it follows from the `model_type`. If that is unknown, too,
    the class is "" with a tokenizer.json, which is then used as it is, and "Bert" without one.

    If only config.json names the class, the class is copied into the returned content of
    tokenizer_config.json: saving the model writes a new config.json.

    Raises:
        OSError: for a folder in a file's place.
        ValueError: for broken json, and for values of another type; the message names the file.
    """
    files = {name: (folder / name).read_bytes() for name in FILES if has_file(folder / name)}
    file = folder / "config.json"
    config = read_json_if_there(file)
    model_type = typed(config, "model_type", str, "", where=file)
    named = typed(config, "tokenizer_class", str, None, where=file)
    settings = _read(folder / SETTINGS, files)
    if named and not settings.get("tokenizer_class"):
        settings |= {"tokenizer_class": named}
        files[SETTINGS] = json.dumps(settings, ensure_ascii=False).encode()
    if "added_tokens_decoder" not in settings:  # if it is there, the other file is not read
        settings |= _read(folder / "special_tokens_map.json", files)
    kind = _tokenizer_class(settings, model_type, "tokenizer.json" in files)
    return files, settings | {"tokenizer_class": kind}


def special_tokens(settings: Mapping[str, Any], vocabulary: Collection[str]) -> dict[str, str]:
    """{kind: special token}, for the kinds whose token is in the vocabulary. Of several names from
    `special_names` the first in the vocabulary counts."""
    found = {
        kind: [name for name in special_names(settings, kind) if name and name in vocabulary]
        for kind in ANGLED_NAMES
    }
    return {kind: names[0] for kind, names in found.items() if names}


def special_names(settings: Mapping[str, Any], kind: str) -> tuple[str | None, ...]:
    """The possible names of a special token. If the settings hold the token, its name there alone
    (None: no such token); else the usual names, the likelier first."""
    if f"{kind}_token" in settings:
        token = settings[f"{kind}_token"]
        return (token.get("content") if isinstance(token, dict) else token,)
    if settings["tokenizer_class"] == "Gemma":
        return (f"<{kind}>",)
    bracketed, angled = f"[{kind.upper()}]", ANGLED_NAMES[kind]
    # MPNet's vocabulary holds BERT's special tokens, too, but MPNet uses only "[UNK]" of them.
    is_bracketed = settings["tokenizer_class"] in BERT_CLASSES | {"DebertaV2"} or kind == "unk"
    return (bracketed, angled) if is_bracketed else (angled, bracketed)


def _tokenizer_class(settings, model_type, has_json):
    named = settings.get("tokenizer_class")
    if named and not (has_json and model_type in SET_CLASSES):
        return str(named).removesuffix("Fast").removesuffix("Tokenizer")
    return CLASSES.get(model_type, "" if has_json else "Bert")


def _read(file, files):
    """The settings in one of `files`, with their types checked; {} without the file."""
    if file.name not in files:
        return {}
    values = parse_json(files[file.name], where=file)
    for name, kind in TYPES.items():
        typed(values, name, kind, None, where=file)
    typed(values, "truncation_side", str, None, where=file, allowed=("left", "right"))
    for name in (f"{kind}_token" for kind in ANGLED_NAMES):
        if isinstance(token := values.get(name), dict):
            typed(token, "content", str, where=f"{file}: {name}")
    return values
