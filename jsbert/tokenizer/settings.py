"""What the json files of a model folder say of its tokenizer."""

import json

VOCABULARIES = (
    "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "bpe.codes",
)  # fmt: skip
"""The names under which tokenizers keep what stands in `tokenizer.json`, beside which it is not read."""

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    *VOCABULARIES,
)  # fmt: skip
"""The names under which tokenizers keep their files."""


def read_settings(folder, files):
    if "tokenizer_config.json" not in files:
        return {}
    try:
        settings = json.loads(files["tokenizer_config.json"])
    except ValueError as error:
        raise ValueError(f"{folder}/tokenizer_config.json: broken json: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{folder}/tokenizer_config.json: holds a {type(settings).__name__} at its top, not a dict")
    for name in ("do_lower_case", "tokenize_chinese_chars", "strip_accents"):
        if not isinstance(settings.get(name), (bool, type(None))):
            raise ValueError(f"{folder}/tokenizer_config.json: {name} is {settings[name]!r}; it must be true or false")
    return settings


def token_content(token):
    # special tokens stand in tokenizer_config.json as strings or as {"content": ...}
    return token["content"] if isinstance(token, dict) else token
