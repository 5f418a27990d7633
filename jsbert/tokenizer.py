"""Texts to token ids: ragged, truncated to a limit, never padded.

`tokenizers` is used directly, from `tokenizer.json` or `vocab.txt`; `transformers.AutoTokenizer` (imported only then)
reads the rest.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

VOCABULARIES = (
    "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "bpe.codes",
)  # fmt: skip
"""The names under which tokenizers keep what stands in `tokenizer.json`, beside which it is not read."""

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    *VOCABULARIES,
)  # fmt: skip
"""The names under which tokenizers keep their files."""

BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", None)
"""The tokenizer classes that a `vocab.txt` alone describes."""

TYPED_CLASSES = frozenset(
    f"{name}Tokenizer"
    for name in ("Bert", "ConvBert", "DebertaV2", "Electra", "LayoutLM", "Lxmert", "MobileBert", "SqueezeBert")
)
"""The tokenizer classes that give transformers' models token types without being asked (5.23)."""

UNLIMITED = 1_000_000
"""A `model_max_length` above this means that the tokenizer knows no limit (transformers writes 1e30 or 2**63 - 1)."""


SHORTEST = 3
"""The least sensible limit: one token between two special ones. Below their number `tokenizers` does not cut at all."""


class Ragged(NamedTuple):
    """Token ids of N texts, one behind the other, without padding."""

    ids: np.ndarray  # (total,) int32
    starts: np.ndarray  # (N + 1,) int64: text i is ids[starts[i]:starts[i + 1]]
    token_types: np.ndarray | None  # (total,) int32, or None: all 0
    truncated: Sequence[int] = ()  # the texts that were cut

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, (N,) int64."""
        return np.diff(self.starts)

    @classmethod
    def from_lists(cls, ids: Sequence, token_types: Sequence | None = None, truncated: Sequence[int] = ()) -> "Ragged":
        """Ragged tokens from one sequence of ids a text."""
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        return cls(_flat(ids), starts, None if token_types is None else _flat(token_types), truncated)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with its truncation limit. Immutable, and safe to call from several threads.

    Attributes:
        backend: what splits texts: a `tokenizers.Tokenizer`, or an object with its `encode_batch_fast`.
        max_length: tokens kept of a text, special tokens included.
        files: the folder's tokenizer files, name to content, to be written back by `save`.
        model_max_length: the limit that the files name, or None.
    """

    backend: Any
    max_length: int
    files: dict[str, bytes] = dataclasses.field(repr=False)
    model_max_length: int | None = None

    @classmethod
    def from_folder(
        cls,
        folder: pathlib.Path,
        *,
        max_length: int | None = None,
        lower_case: bool = False,
        special_tokens: bool = True,
    ) -> "Tokenizer":
        """The tokenizer of a model folder.

        Args:
            folder: holds `tokenizer.json`, or `vocab.txt`, or whatever `AutoTokenizer` reads.
            max_length: the truncation limit; by default the one that tokenizer_config.json names, or none.
            lower_case: lower-case the text first (`do_lower_case` of sentence_bert_config.json).
            special_tokens: False puts none around a text, and leaves the limit to `tokenizer.json`.

        Raises:
            OSError: without tokenizer files.
            ValueError: for files that cannot be read; the message names the file.
        """
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
        settings = _read_settings(folder, files)
        limit = settings.get("model_max_length")
        limit = int(limit) if isinstance(limit, (int, float)) and 0 < limit <= UNLIMITED else None
        backend = _load_backend(folder, files, settings)
        if lower_case and isinstance(backend, tokenizers.Tokenizer):
            first = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
            backend.normalizer = normalizers.Sequence(first)
        elif lower_case:
            backend = dataclasses.replace(backend, lower_case=True)
        if not special_tokens:
            backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
            limit = (backend.truncation or {}).get("max_length")
        return cls(backend, UNLIMITED, files, limit).with_max_length(max_length or limit or UNLIMITED)

    def with_max_length(self, max_length: int) -> "Tokenizer":
        """The same tokenizer with another truncation limit, as an object of its own."""
        backend = self.backend
        if isinstance(backend, tokenizers.Tokenizer):
            # Rust objects must not change while another thread uses them, hence the copy. Padding and truncation baked
            # into tokenizer.json (all-MiniLM-L6-v2: 128 tokens) are switched off.
            backend = tokenizers.Tokenizer.from_str(backend.to_str())
            backend.no_padding()
            direction = _read_settings(None, self.files).get("truncation_side", "right")
            backend.enable_truncation(max_length, direction=direction)
        else:
            backend = dataclasses.replace(backend, max_length=max_length)
        return dataclasses.replace(self, backend=backend, max_length=max_length)

    @property
    def largest_id(self) -> int:
        """The largest token id that can come out."""
        return max(self.backend.get_vocab().values())

    def __call__(self, texts: Sequence[str] | Sequence[tuple[str, str]], *, prompt: str = "", first: int = 0) -> Ragged:
        """The token ids of texts, or of pairs of texts, with special tokens, cut at `max_length`.

        Args:
            texts: strings, or pairs of strings.
            prompt: put in front of each text (not of pairs).
            first: the position of texts[0] among all texts, for messages.

        Raises:
            ValueError: for a text that is no valid Unicode (a lone surrogate); the message says which.
        """
        try:
            encodings = self.backend.encode_batch_fast([prompt + text for text in texts] if prompt else list(texts))
        except Exception:
            refuse_surrogates(texts, first)
            raise
        has_types = self.gives_types and len(texts) > 0 and not isinstance(texts[0], str)
        return Ragged.from_lists(
            [encoding.ids for encoding in encodings],
            [encoding.type_ids for encoding in encodings] if has_types else None,
            # `overflowing` copies what was cut off, so ask only where something can have been.
            [i for i, encoding in enumerate(encodings) if len(encoding) >= self.max_length and encoding.overflowing],
        )

    @functools.cached_property
    def gives_types(self) -> bool:
        """Whether pairs come with token types: as `model_input_names` of tokenizer_config.json says; else as
        transformers does for its `tokenizer_class`."""
        settings = _read_settings(None, self.files)
        if settings.get("model_input_names"):
            return "token_type_ids" in settings["model_input_names"]
        return str(settings.get("tokenizer_class") or "BertTokenizer").removesuffix("Fast") in TYPED_CLASSES

    def prompt_length(self, prompt: str) -> int:
        """Tokens that `prompt` takes at the start of a text: special tokens in front counted, those behind not."""
        encoding = self.backend.encode(prompt)
        return len(encoding.ids) - int(bool(encoding.special_tokens_mask) and encoding.special_tokens_mask[-1])

    @functools.cached_property
    def description(self) -> str:
        """64 hexadecimal digits that differ if anything does that the ids of a text depend on: a hash of the backend as
        it stands, normaliser and limit included, or of the files that transformers reads."""
        digest = hashlib.sha256(repr((self.max_length, self.gives_types)).encode())
        if isinstance(self.backend, tokenizers.Tokenizer):
            digest.update(self.backend.to_str().encode())
        else:
            digest.update(repr((self.backend.lower_case, sorted(self.files.items()))).encode())
        return digest.hexdigest()

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of the special tokens there are, by kind: "cls", "sep", "pad", "mask", "unk", "bos", "eos"."""
        settings, vocabulary = _read_settings(None, self.files), self.backend.get_vocab()
        kinds = ("cls", "sep", "pad", "mask", "unk", "bos", "eos")
        names = {kind: _content(settings.get(f"{kind}_token", f"[{kind.upper()}]")) for kind in kinds}
        return {kind: vocabulary[name] for kind, name in names.items() if name in vocabulary}

    def save(self, folder: pathlib.Path) -> None:
        """Writes the tokenizer's files, and a `tokenizer.json` if there was none."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        if "tokenizer.json" not in self.files and isinstance(self.backend, tokenizers.Tokenizer):
            plain = tokenizers.Tokenizer.from_str(self.backend.to_str())
            plain.no_truncation()
            plain.save(str(folder / "tokenizer.json"))


@dataclasses.dataclass(frozen=True)
class _PythonBackend:
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


def _load_backend(folder, files, settings):
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
    return tokenizer.backend_tokenizer if tokenizer.is_fast else _PythonBackend(tokenizer)


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
    token = {name: str(_content(settings.get(f"{name}_token", f"[{name.upper()}]"))) for name in
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


def _content(token):
    # special tokens stand in tokenizer_config.json as strings or as {"content": ...}
    return token["content"] if isinstance(token, dict) else token


def _read_settings(folder, files):
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


def refuse_surrogates(texts: Sequence, first: int = 0) -> None:
    """ValueError if a text, or a text of a pair, is no valid Unicode; positions count from `first`."""
    for index, text in enumerate(texts, first):
        for part in (text,) if isinstance(text, str) else text:
            try:
                part.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"text {index} is no valid Unicode: {error.reason} at character {error.start}; "
                    "clean it with text.encode('utf-8', 'replace').decode()"
                ) from None


def _flat(rows):
    return np.concatenate([np.asarray(row, np.int32) for row in rows]) if len(rows) else np.zeros(0, np.int32)
