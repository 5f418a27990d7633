"""Backends split texts into tokens: a `tokenizers.Tokenizer` built from a folder's files, or a
tokenizer of transformers behind the same calls."""

import base64
import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tokenizers
from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece

from jsbert.json_files import parse_json
from jsbert.tokenizer.settings import BERT_CLASSES, CLASSES, FILES, special_names, special_tokens

UNLIMITED = 1_000_000
"""A `model_max_length` above this number means no limit: transformers then writes 1e30 or
2**63 - 1."""


def load_backend(
    folder: pathlib.Path, files: Mapping[str, bytes], settings: Mapping[str, Any]
) -> "tokenizers.Tokenizer | PythonBackend":
    """Load the backend of a folder, from the files and settings that `read_settings` returns.

    Raises:
        OSError: without tokenizer files.
        ValueError: for files that cannot be read; the message names the file.
    """
    kind = settings["tokenizer_class"]
    if "tokenizer.json" in files:
        file = folder / "tokenizer.json"
        backend = read_backend(file, files["tokenizer.json"])
        # For these classes transformers takes only the vocabulary from the file.
        if kind == "Gemma":
            return _with_gemma_steps(backend, file)
        if kind == "Llama" and isinstance(backend.model, BPE):
            return _with_llama_steps(backend, settings)
        if kind == "Qwen2" and isinstance(backend.model, BPE):
            return _with_qwen_steps(backend, settings)
        is_rebuilt = kind in BERT_CLASSES | {"MPNet"} and isinstance(backend.model, WordPiece)
        if is_rebuilt:
            return _with_bert_steps(backend, settings, file)
        if kind == "T5" and isinstance(backend.model, Unigram):
            return _with_t5_steps(backend, files["tokenizer.json"], settings, file)
        if kind == "DebertaV2" and isinstance(backend.model, Unigram):
            return _with_deberta_steps(backend, files["tokenizer.json"], settings, file)
        return backend
    # Only transformers reads tokens that are added to a vocab.txt.
    plain = not {"added_tokens.json"} & set(files) and not settings.get("added_tokens_decoder")
    if "vocab.txt" in files and plain and kind in BERT_CLASSES:
        return _read_vocabulary(folder / "vocab.txt", settings)
    beside = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}
    if not set(files) - beside and kind in {*BERT_CLASSES, *CLASSES.values()}:
        raise FileNotFoundError(
            f"{folder}: no tokenizer files; expected tokenizer.json, vocab.txt or one of {FILES}"
        )
    return _auto_tokenizer(folder)


def read_backend(file: pathlib.Path, content: bytes) -> tokenizers.Tokenizer:
    """The tokenizer that the `content` of a tokenizer.json describes.

    Raises:
        ValueError: if `content` is not a tokenizer; the message names the file.
    """
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:
        raise ValueError(f"{file}: not a tokenizer file: {error}") from None


@dataclasses.dataclass(frozen=True)
class PythonBackend:
    """A tokenizer that transformers runs in Python, with the methods of a `tokenizers.Tokenizer`
    that jsbert calls."""

    tokenizer: Callable
    max_length: int = UNLIMITED
    lower_case: bool = False

    def encode(self, text):
        parts = (text,) if isinstance(text, str) else text
        for part in parts:
            part.encode()  # raises for a lone surrogate
        parts = [part.lower() if self.lower_case else part for part in parts]
        options = {"return_special_tokens_mask": True, "return_token_type_ids": True}
        whole = self.tokenizer(*parts, **options)
        kept = whole
        if len(whole["input_ids"]) > self.max_length:
            kept = self.tokenizer(*parts, truncation=True, max_length=self.max_length, **options)
        overflowing = len(kept["input_ids"]) < len(whole["input_ids"])
        return _PythonEncoding(
            kept["input_ids"], kept["token_type_ids"], kept["special_tokens_mask"], overflowing
        )

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


def _auto_tokenizer(folder):
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        pieces = [name for name in FILES if name.endswith(".model") and (folder / name).is_file()]
        if pieces and importlib.util.find_spec("sentencepiece") is None:
            raise ValueError(
                f"{folder}: no tokenizer.json; transformers.AutoTokenizer reads {pieces[0]} only "
                "with the packages sentencepiece and protobuf; install them, or convert the "
                "tokenizer where they are: AutoTokenizer.from_pretrained(folder)"
                ".save_pretrained(folder) writes tokenizer.json"
            ) from error
        raise ValueError(
            f"{folder}: transformers.AutoTokenizer cannot read the tokenizer files: {error}"
        ) from error
    return tokenizer.backend_tokenizer if tokenizer.is_fast else PythonBackend(tokenizer)


def _read_vocabulary(file, settings):
    try:
        vocabulary = WordPiece.read_file(str(file))
    except Exception as error:
        raise ValueError(f"{file}: not a WordPiece vocabulary: {error}") from None
    special = special_tokens(settings, vocabulary)
    backend = tokenizers.Tokenizer(WordPiece(vocabulary, unk_token=special.get("unk", "[UNK]")))
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(
        [special[kind] for kind in ("unk", "sep", "pad", "cls", "mask") if kind in special]
    )
    return _with_bert_steps(backend, settings, file)


def _with_bert_steps(backend, settings, file):
    """Set the normaliser, pre-tokeniser and post-processor of `backend` as transformers does for
    the tokenizer classes of BERT and MPNet, and return `backend`."""
    special = special_tokens(settings, backend.get_vocab())
    missing = [
        special_names(settings, kind)[0] for kind in ("unk", "sep", "cls") if kind not in special
    ]
    if missing:
        raise ValueError(f"{file}: lacks the special tokens {missing}")
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case") is not False,
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    processing = (
        processors.RobertaProcessing
        if settings["tokenizer_class"] == "MPNet"
        else processors.BertProcessing
    )
    sep, cls = ((special[kind], backend.token_to_id(special[kind])) for kind in ("sep", "cls"))
    backend.post_processor = processing(sep, cls)
    return backend


def _with_gemma_steps(backend, file):
    """Set the normaliser and the pre-tokeniser of `backend` as transformers does for Gemma's
    tokenizer class, and return `backend`. The post-processor stays."""
    model = backend.model
    if not isinstance(model, BPE):
        raise ValueError(
            f"{file}: its model is {type(model).__name__}; GemmaTokenizer takes only BPE. Name "
            "another tokenizer_class in tokenizer_config.json"
        )
    model.fuse_unk, model.byte_fallback, model.dropout = True, True, None
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return backend


def _with_llama_steps(backend, settings):
    """Set the normaliser and the pre-tokeniser of `backend` as transformers does for Llama's
    tokenizer class, and return `backend`. The post-processor stays."""
    model = backend.model
    model.fuse_unk, model.byte_fallback, model.dropout = True, True, None
    model.continuing_subword_prefix = model.end_of_word_suffix = model.unk_token = None
    backend.normalizer = None
    scheme = "always" if settings.get("legacy", False) else "first"
    scheme = "never" if settings.get("add_prefix_space") is False else scheme
    backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    return backend


QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer cuts texts into words; the expression is the format's."""


def _with_qwen_steps(backend, settings):
    """Set the normaliser and the pre-tokeniser of `backend` as transformers does for Qwen's
    tokenizer class, and return `backend`. The post-processor stays."""
    model = backend.model
    model.fuse_unk, model.byte_fallback, model.dropout, model.unk_token = False, False, None, None
    model.continuing_subword_prefix = model.end_of_word_suffix = ""
    backend.normalizer = normalizers.NFC()
    spaced = settings.get("add_prefix_space") is True
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=False),
        ]
    )
    return backend


def _with_deberta_steps(backend, content, settings, file):
    """Set the steps of `backend` as transformers' DebertaV2Tokenizer does, and return `backend`.
    `content` is that of `file`."""
    special = special_tokens(settings, backend.get_vocab())
    missing = [special_names(settings, k)[0] for k in ("unk", "sep", "cls") if k not in special]
    if missing:
        raise ValueError(f"{file}: lacks the special tokens {missing}")
    # transformers takes the id of the unknown token from its place in the vocabulary.
    model = parse_json(content, where=file)["model"]
    pieces, usual = [tuple(piece) for piece in model["vocab"]], settings.get("unk_id", 1)
    unknown = (special["unk"], 0.0)
    wanted = pieces.index(unknown) if unknown in pieces else usual
    found = {"unk_id": model.get("unk_id"), "byte_fallback": model.get("byte_fallback", False)}
    if found != {"unk_id": wanted, "byte_fallback": False}:
        raise ValueError(
            f"{file}: model has {found}; DebertaV2Tokenizer has unk_id {wanted} here, and no "
            "bytes. If the file is right, name the tokenizer_class PreTrainedTokenizerFast"
        )
    lower = [normalizers.Lowercase()] if settings.get("do_lower_case") is True else []
    spaces = normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
    steps = [*lower, spaces, normalizers.NFC(), normalizers.Strip(left=False, right=True)]
    backend.normalizer = normalizers.Sequence(steps)
    splits = settings.get("split_by_punct") is True
    scheme = "first" if settings.get("add_prefix_space") is False else "always"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *([pre_tokenizers.Punctuation(behavior="isolated")] if splits else []),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme),
        ]
    )
    cls, sep = special["cls"], special["sep"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
    )
    return backend


def _with_t5_steps(backend, content, settings, file):
    """Set the steps of `backend` as transformers' T5Tokenizer does, and return `backend`. `content`
    is that of `file`. Of its normalisers only the character map of SentencePiece is kept."""
    values = parse_json(content, where=file)
    model = values["model"]
    fixed = {"unk_id": 2, "byte_fallback": False}
    found = {key: model.get(key, default) for key, default in fixed.items()}
    if found != fixed:
        raise ValueError(
            f"{file}: model has {found}; T5Tokenizer always has {fixed}. If the file is right, "
            "name the tokenizer_class PreTrainedTokenizerFast"
        )
    special = special_tokens(settings, backend.get_vocab())
    if "eos" not in special:
        raise ValueError(f"{file}: lacks the special tokens {[special_names(settings, 'eos')[0]]}")
    steps = values.get("normalizer") or {}
    maps = [
        step["precompiled_charsmap"]
        for step in steps.get("normalizers", [steps])
        if step.get("type") == "Precompiled"
    ]
    backend.normalizer = (
        normalizers.Precompiled(base64.b64decode(maps[0])) if maps else normalizers.Sequence([])
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    end = backend.token_to_id(special["eos"])
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
    )
    return backend
