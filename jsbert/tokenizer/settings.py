"""What the json files of a model folder say of its tokenizer, read as transformers does (5.23)."""

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
    "tokenizer.model", "bpe.codes",
)  # fmt: skip
"""The names under which tokenizers keep what stands in `tokenizer.json`, beside which it is not
read."""

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
    *VOCABULARIES,
)  # fmt: skip
"""The names under which tokenizers keep their files."""

CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "albert": "Albert",
        "bert": "Bert",
        "camembert": "Camembert",
        "distilbert": "Bert",
        "electra": "Bert",
        "gte": "XLMRoberta",
        "modernbert": "PreTrained",
        "mpnet": "MPNet",
        "nomic_bert": "Bert",
        "qwen3": "Qwen2",
        "roberta": "Roberta",
        "xlm-roberta": "XLMRoberta",
    }
)
"""The tokenizer class of a `model_type`, where the folder names none."""

BERT_CLASSES = frozenset(
    {"Bert", "DistilBert", "Electra", "LayoutLM", "Lxmert", "MobileBert", "SqueezeBert"}
)
"""The tokenizer classes that are BERT's under another name: a `vocab.txt` alone describes them."""

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
"""The types of what is read in a tokenizer's json files."""

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
"""Names of special tokens, by kind; the others are like BERT's [CLS]."""


def read_settings(folder: pathlib.Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(the folder's tokenizer files, name to content; what they say).

    A class that config.json alone names is put into tokenizer_config.json, for a model saved again
    has a config.json made anew. What the files say is tokenizer_config.json's content with the
    special tokens of special_tokens_map.json, and as "tokenizer_class" the decided one, without
    "Tokenizer" and "Fast": "Bert". Where no file names it and the `model_type` is unknown, it is ""
    with a tokenizer.json, which then holds as it stands, and else "Bert".

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
    if "added_tokens_decoder" not in settings:  # where it stands, the other file is not asked
        settings |= _read(folder / "special_tokens_map.json", files)
    kind = _tokenizer_class(settings, model_type, "tokenizer.json" in files)
    return files, settings | {"tokenizer_class": kind}


def special_tokens(settings: Mapping[str, Any], vocabulary: Collection[str]) -> dict[str, str]:
    """The special tokens that are in the vocabulary, by kind, as `special_names` has them."""
    found = {
        kind: [name for name in special_names(settings, kind) if name and name in vocabulary]
        for kind in ANGLED_NAMES
    }
    return {kind: names[0] for kind, names in found.items() if names}


def special_names(settings: Mapping[str, Any], kind: str) -> tuple[str | None, ...]:
    """What a special token is called: as the settings name it, None if they say that there is none;
    else the usual names, the likelier first."""
    if f"{kind}_token" in settings:
        token = settings[f"{kind}_token"]
        return (token.get("content") if isinstance(token, dict) else token,)
    bracketed, angled = f"[{kind.upper()}]", ANGLED_NAMES[kind]
    # MPNet's vocabulary holds BERT's too, and "[UNK]" is all that it uses of these.
    is_bracketed = settings["tokenizer_class"] in BERT_CLASSES or kind == "unk"
    return (bracketed, angled) if is_bracketed else (angled, bracketed)


def _tokenizer_class(settings, model_type, has_json):
    named = settings.get("tokenizer_class")
    # transformers trusts a ModernBERT's tokenizer.json, not the class that stands beside.
    if named and not (has_json and model_type == "modernbert"):
        return str(named).removesuffix("Fast").removesuffix("Tokenizer")
    return CLASSES.get(model_type, "" if has_json else "Bert")


def _read(file, files):
    """The settings in one of `files`, each of its type; {} without the file."""
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
