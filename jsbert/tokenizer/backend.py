"""What splits texts: a `tokenizers.Tokenizer` built from a folder's files, or transformers behind the same calls."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from jsbert.tokenizer.settings import FILES, token_content

BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", None)
"""The tokenizer classes that a `vocab.txt` alone describes."""

UNLIMITED = 1_000_000
"""A `model_max_length` above this means that the tokenizer knows no limit (transformers writes 1e30 or 2**63 - 1)."""


@dataclasses.dataclass(frozen=True)
class PythonBackend:
    """A tokenizer that transformers runs in Python, behind the calls of a `tokenizers.Tokenizer`."""

    tokenizer: Callable
    max_length: int = UNLIMITED
    lower_case: bool = False

    def encode(self, text):
        parts = (text,) if isinstance(text, str) else text
        for part in parts:
            part.encode()  # a lone surrogate must not pass
        parts = [part.lower() if self.lower_case else part for part in parts]
        options = {"return_special_tokens_mask": True, "return_token_type_ids": True}
        whole = self.tokenizer(*parts, **options)
        kept = whole
        if len(whole["input_ids"]) > self.max_length:
            kept = self.tokenizer(*parts, truncation=True, max_length=self.max_length, **options)
        overflowing = len(kept["input_ids"]) < len(whole["input_ids"])
        return _PythonEncoding(kept["input_ids"], kept["token_type_ids"], kept["special_tokens_mask"], overflowing)

    def encode_batch_fast(self, texts):
        return [self.encode(text) for text in texts]

    def get_vocab(self):
        return self.tokenizer.get_vocab()


class _PythonEncoding(NamedTuple):
    ids: list[int]
    type_ids: list[int]
    special_tokens_mask: list[int]
    overflowing: bool

    def __len__(self):
        return len(self.ids)


def load_backend(folder, files, settings):
    if "tokenizer.json" in files:
        try:
            backend = tokenizers.Tokenizer.from_buffer(files["tokenizer.json"])
        except Exception as error:
            raise ValueError(f"{folder / 'tokenizer.json'}: not a tokenizer file: {error}") from None
        return _with_bert_settings(backend, settings)
    # Tokens beside the vocabulary's are transformers' business.
    plain = not {"added_tokens.json"} & set(files) and not settings.get("added_tokens_decoder")
    if "vocab.txt" in files and plain and settings.get("tokenizer_class", "BertTokenizer") in BERT_CLASSES:
        return _wordpiece(folder, settings)
    beside = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}
    if not set(files) - beside and "tokenizer_class" not in settings:
        raise FileNotFoundError(f"{folder}: no tokenizer files; expected tokenizer.json, vocab.txt or one of {FILES}")
    return _auto_tokenizer(folder)


def _auto_tokenizer(folder):
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"{folder}: transformers.AutoTokenizer cannot read the tokenizer files: {error}") from error
    return tokenizer.backend_tokenizer if tokenizer.is_fast else PythonBackend(tokenizer)


def _with_bert_settings(backend, settings):
    # transformers lets tokenizer_config.json overrule tokenizer.json in these, and so does the reference.
    if not isinstance(backend.normalizer, normalizers.BertNormalizer):
        return backend
    names = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    }
    for theirs, ours in names.items():
        if isinstance(settings.get(theirs), bool):
            setattr(backend.normalizer, ours, settings[theirs])
    return backend


def _wordpiece(folder, settings):
    token = {name: str(token_content(settings.get(f"{name}_token", f"[{name.upper()}]"))) for name in
             ("unk", "sep", "pad", "cls", "mask")}  # fmt: skip
    try:
        model = WordPiece.from_file(str(folder / "vocab.txt"), unk_token=token["unk"])
    except Exception as error:
        raise ValueError(f"{folder / 'vocab.txt'}: not a WordPiece vocabulary: {error}") from None
    backend = tokenizers.Tokenizer(model)
    missing = [name for name in (token["unk"], token["sep"], token["cls"]) if backend.token_to_id(name) is None]
    if missing:
        raise ValueError(f"{folder / 'vocab.txt'}: lacks the special tokens {missing}")
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case") is not False,
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.add_special_tokens([name for name in token.values() if backend.token_to_id(name) is not None])
    backend.post_processor = processors.BertProcessing(
        (token["sep"], backend.token_to_id(token["sep"])), (token["cls"], backend.token_to_id(token["cls"]))
    )
    return backend
