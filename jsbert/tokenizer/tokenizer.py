"""The tokenizer of a model, with its limit and the files it was read from."""

import dataclasses
import functools
import hashlib
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import tokenizers
from tokenizers import normalizers, processors

from jsbert.tokenizer.backend import UNLIMITED, PythonBackend, load_backend, read_backend
from jsbert.tokenizer.ragged import Ragged
from jsbert.tokenizer.settings import BERT_CLASSES, SETTINGS, read_settings, special_tokens

TYPED_CLASSES = (BERT_CLASSES - {"DistilBert"}) | {"ConvBert", "DebertaV2"}
"""The tokenizer classes that return token types by default in transformers (5.23)."""

SHORTEST = 3
"""The least sensible limit: one token between two special tokens. With a limit below the number of
special tokens, `tokenizers` does not cut at all."""


class Span(NamedTuple):
    """A token, and its place in the text: characters `start` up to, but not including, `stop`.
    Special tokens have no place, nor have the tokens of tokenizers that run in Python."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with its truncation limit. Immutable, and safe to call from several threads.

    Attributes:
        backend: splits texts: a `tokenizers.Tokenizer` or a `PythonBackend`.
        max_length: the number of tokens kept of a text, special tokens included.
        files: {name: content} of the folder's tokenizer files; `save` writes them back.
        settings: the settings in these files, as `read_settings` returns them.
        model_max_length: the limit that the files name, or None.
        lower_case: whether texts are lower-cased before anything else.
    """

    backend: Any
    max_length: int
    files: dict[str, bytes] = dataclasses.field(repr=False)
    settings: dict[str, Any] = dataclasses.field(repr=False)
    model_max_length: int | None = None
    lower_case: bool = False

    @classmethod
    def from_folder(
        cls,
        folder: pathlib.Path,
        *,
        max_length: int | None = None,
        lower_case: bool = False,
    ) -> "Tokenizer":
        """Read the tokenizer of a model folder.

        Args:
            folder: holds `tokenizer.json`, or `vocab.txt`, or files that `AutoTokenizer` reads.
            max_length: the truncation limit; by default the limit in tokenizer_config.json, or no
                limit.
            lower_case: lower-case the text first (`do_lower_case` of sentence_bert_config.json).

        Raises:
            OSError: without tokenizer files.
            ValueError: for files that cannot be read; the message names the file.
        """
        files, settings = read_settings(folder)
        limit = settings.get("model_max_length") or math.inf
        if limit < SHORTEST:
            raise ValueError(
                f"{folder / SETTINGS}: model_max_length is {limit}; it must be at least {SHORTEST}"
            )
        limit = int(limit) if limit <= UNLIMITED else None
        backend = load_backend(folder, files, settings)
        if lower_case and isinstance(backend, tokenizers.Tokenizer):
            first = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
            backend.normalizer = normalizers.Sequence(first)
        elif lower_case and isinstance(backend, PythonBackend):
            backend = dataclasses.replace(backend, lower_case=True)
        tokenizer = cls(backend, UNLIMITED, files, settings, limit, lower_case)
        return tokenizer.with_max_length(max_length or limit or UNLIMITED)

    @classmethod
    def from_file(cls, file: pathlib.Path) -> "Tokenizer":
        """Read a `tokenizer.json` that has no other files, with the limit in that file. The
        tokenizer adds no special tokens to a text.

        Raises:
            OSError: without the file.
            ValueError: if the file is not a tokenizer; the message names the file.
        """
        content = file.read_bytes()
        backend = read_backend(file, content)
        backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
        truncation = backend.truncation or {"max_length": None, "direction": "right"}
        limit, settings = (
            truncation["max_length"],
            {"tokenizer_class": "", "truncation_side": truncation["direction"]},
        )
        return cls(backend, UNLIMITED, {file.name: content}, settings, limit).with_max_length(
            limit or UNLIMITED
        )

    def with_max_length(self, max_length: int) -> "Tokenizer":
        """A new tokenizer with another truncation limit, and otherwise the same."""
        backend = self.backend
        if isinstance(backend, tokenizers.Tokenizer):
            # Copy: a Rust object must not change while another thread uses it. A tokenizer.json may
            # ask for padding and truncation (all-MiniLM-L6-v2: 128 tokens); switch these off.
            backend = tokenizers.Tokenizer.from_str(backend.to_str())
            backend.no_padding()
            backend.enable_truncation(
                max_length, direction=self.settings.get("truncation_side") or "right"
            )
        else:
            backend = dataclasses.replace(backend, max_length=max_length)
        return dataclasses.replace(self, backend=backend, max_length=max_length)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, for pickle. Cached properties stay behind: not all can be pickled."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def has_template(self) -> bool:
        """Whether the files hold a chat template."""
        return "chat_template.jinja" in self.files or bool(self.settings.get("chat_template"))

    @functools.cached_property
    def largest_id(self) -> int:
        """The largest token id of the vocabulary."""
        return max(self.backend.get_vocab().values())

    def __call__(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, prompt: str = "", first: int = 0
    ) -> Ragged:
        """The token ids of texts or pairs of texts, with special tokens, cut to `max_length`.

        Args:
            texts: strings, or pairs of strings.
            prompt: put in front of each text; of a pair, in front of its first text.
            first: the position of texts[0] among all texts, for messages.

        Raises:
            ValueError: for a text that is not valid Unicode (a lone surrogate); the message names
                the text.
        """
        try:
            encodings = self.backend.encode_batch_fast(
                [_prompted(text, prompt) for text in texts] if prompt else list(texts)
            )
        except Exception:
            refuse_surrogates(texts, first)
            raise
        has_types = self.gives_types and len(texts) > 0 and not isinstance(texts[0], str)
        return Ragged.from_lists(
            [encoding.ids for encoding in encodings],
            [encoding.type_ids for encoding in encodings] if has_types else None,
            # `overflowing` copies the tokens cut off; ask only if the text reaches the limit.
            [
                i
                for i, encoding in enumerate(encodings)
                if len(encoding) >= self.max_length and encoding.overflowing
            ],
        )

    def spans(self, text: str) -> list[Span]:
        """The tokens of one text with their places in it, special tokens included, cut to
        `max_length`."""
        encoding = self.backend.encode(text)
        if not isinstance(self.backend, tokenizers.Tokenizer):
            words = self.backend.tokenizer.convert_ids_to_tokens(encoding.ids)
            marks = encoding.special_tokens_mask
            return [
                Span(token, word, bool(mark), None, None)
                for token, word, mark in zip(encoding.ids, words, marks, strict=True)
            ]
        return [
            Span(token, word, True, None, None)
            if mark
            else Span(token, text[start:stop], False, start, stop)
            for token, word, mark, (start, stop) in zip(
                encoding.ids,
                encoding.tokens,
                encoding.special_tokens_mask,
                encoding.offsets,
                strict=True,
            )
        ]

    @functools.cached_property
    def gives_types(self) -> bool:
        """Whether pairs come with token types. `model_input_names` of tokenizer_config.json
        decides; without that key, the rule of transformers for the `tokenizer_class`."""
        if self.settings.get("model_input_names"):
            return "token_type_ids" in self.settings["model_input_names"]
        return (self.settings.get("tokenizer_class") or "Bert") in TYPED_CLASSES

    def prompt_length(self, prompt: str) -> int:
        """The number of tokens that `prompt` takes at the start of a text. A special token in front
        counts, one at the end does not."""
        encoding = self.backend.encode(prompt)
        return len(encoding.ids) - int(
            bool(encoding.special_tokens_mask) and encoding.special_tokens_mask[-1]
        )

    @functools.cached_property
    def description(self) -> str:
        """A hash, 64 hexadecimal digits, of everything that the ids of a text depend on: of the
        backend with its normaliser and limit, or of the files that transformers reads."""
        digest = hashlib.sha256(repr((self.max_length, self.gives_types)).encode())
        if isinstance(self.backend, tokenizers.Tokenizer):
            digest.update(self.backend.to_str().encode())
        else:
            digest.update(repr((self.backend.lower_case, sorted(self.files.items()))).encode())
        return digest.hexdigest()

    @functools.cached_property
    def special_ids(self) -> Mapping[str, int]:
        """{kind: id} of the special tokens in the vocabulary. The kinds are "cls", "sep", "pad",
        "mask", "unk", "bos" and "eos"."""
        vocabulary = self.backend.get_vocab()
        names = special_tokens(self.settings, vocabulary)
        return MappingProxyType({kind: vocabulary[name] for kind, name in names.items()})

    def save(self, folder: pathlib.Path, *, with_limit: bool = False) -> None:
        """Write the tokenizer's files, and a `tokenizer.json` if there was none.

        Args:
            folder: the folder to write into.
            with_limit: write the limit into `tokenizer.json`. A folder that has no other tokenizer
                file has no other place for the limit.
        """
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        if with_limit or (
            "tokenizer.json" not in self.files and isinstance(self.backend, tokenizers.Tokenizer)
        ):
            content = self.files.get("tokenizer.json") or self.backend.to_str().encode()
            written = tokenizers.Tokenizer.from_buffer(content)
            written.no_truncation()
            if with_limit and self.max_length < UNLIMITED:
                written.enable_truncation(
                    self.max_length, direction=self.settings.get("truncation_side") or "right"
                )
            written.save(str(folder / "tokenizer.json"))


def _prompted(text, prompt):
    return prompt + text if isinstance(text, str) else (prompt + text[0], *text[1:])


def refuse_surrogates(texts: Sequence, first: int = 0) -> None:
    """Raise ValueError if a text, or a text of a pair, is not valid Unicode. The message names the
    position of the text, counted from `first`."""
    for index, text in enumerate(texts, first):
        for part in (text,) if isinstance(text, str) else text:
            try:
                part.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"text {index} is no valid Unicode: {error.reason} at character {error.start}; "
                    "clean it with text.encode('utf-8', 'replace').decode()"
                ) from None
