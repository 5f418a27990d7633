"""What the bi-encoder and the cross-encoder share: tokenise ahead, run in batches, count what was cut off."""

import collections
import dataclasses
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Literal, get_args

import jax
import numpy as np
from tqdm.auto import tqdm

from jsbert.batching import WINDOW, length_ladder, row_ladder
from jsbert.checkpoint.hub import upload_folder
from jsbert.config import EncoderConfig
from jsbert.device import Device, check_attention, resolve_devices, resolve_dtype, token_budget
from jsbert.encoders.precision import in_dtype, in_float32
from jsbert.inputs import check_choice, check_positive
from jsbert.runner import Runner
from jsbert.tokenizer import SHORTEST, Ragged, Tokenizer

Dtype = Literal["float32", "bfloat16", "int8", "auto"]
"""The dtypes in which an encoder's matrix products can be computed."""

DTYPES = get_args(Dtype)


class TextModel:
    """A tokenizer and params on their devices."""

    _tokenizer: Tokenizer
    _runner: Runner
    _encoder: EncoderConfig

    def _set_up(self, encoder: EncoderConfig, params: Any, tokenizer: Tokenizer, devices: Sequence[jax.Device]):
        self._encoder, self._tokenizer = encoder, tokenizer
        self._runner = Runner(_in_dtype(params, encoder.dtype), devices)

    @property
    def params(self) -> Any:
        """The params on their devices: a nested dict, for the pure functions. Matrices are in the model's dtype. Can be
        set, to a tree of the same form; the compiled programs stay, and calls under way go on with the old params."""
        return self._runner.params

    @params.setter
    def params(self, params: Any) -> None:
        self._runner.replace_params(_in_dtype(params, self.dtype))

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that compute; each batch's rows are spread over them."""
        return self._runner.devices

    @property
    def dtype(self) -> str:
        """The dtype of the matrix products; "auto" is resolved."""
        return self._encoder.dtype

    @property
    def attn_implementation(self) -> str:
        """How attention is computed; see `jsbert.config.ATTENTIONS`."""
        return self._encoder.attn_implementation

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its truncation limit."""
        return self._tokenizer

    @property
    def max_seq_length(self) -> int:
        """Tokens kept of an input, special tokens included. Can be set, up to the encoder's positions."""
        return self._tokenizer.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        check_positive("max_seq_length", value, or_none=False)
        most = self._encoder.max_tokens
        if not SHORTEST <= value <= most:
            raise ValueError(f"max_seq_length is {value}; this model takes {SHORTEST} to {most} tokens")
        self._tokenizer = self._tokenizer.with_max_length(int(value))

    @property
    def num_compilations(self) -> int:
        """Programs compiled (or taken from JAX's cache on disk) by this object so far."""
        return self._runner.num_compilations

    @property
    def compile_seconds(self) -> float:
        """Seconds spent so far on compiling, or on reading programs from JAX's cache."""
        return self._runner.compile_seconds

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Saves the model to the Hugging Face Hub; returns the address of the commit.

        Args:
            repo_id: "owner/name".
            **options: token, private, commit_message, exist_ok, replace_model_card, revision, create_pr; see
                `jsbert.checkpoint.hub.upload_folder`.

        Raises:
            OSError: if the Hub refuses, or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(pathlib.Path(folder), repo_id, **options)

    def _float32_params(self):
        return self.params | {"encoder": in_float32(self.params["encoder"])}

    def _run(
        self,
        function: Callable,
        params: Any,
        texts: Iterable[list],
        tokenize: Callable[[list, int], Ragged],
        *,
        first: int = 0,
        batch_size: int | None,
        truncations: "Truncations",
        scalars: dict[str, int] | None = None,
        progress: tqdm | None = None,
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Yields (positions, outputs): `outputs` have a row for each of the inputs at `positions`.

        `texts` are windows of inputs; positions count through all of them. `tokenize(window, first)` is told the
        position of the window's first text, counted from `first`, for messages. The next window is tokenised while one
        is computed.
        """
        start = 0
        for window, tokens in _one_ahead(tokenize, texts, first):
            truncations.add(tokens.truncated, len(window))
            # The limit may have been lowered by another thread since.
            max_length = max(self.max_seq_length, int(tokens.lengths.max(initial=1)))
            batches = self._runner.run(
                function, params, tokens, max_length=max_length, max_rows=batch_size, scalars=scalars
            )
            for batch, outputs in batches:
                n = len(batch.indices)
                yield start + batch.indices, jax.tree.map(lambda output, n=n: output[:n], outputs)
                if progress is not None:
                    progress.update(n)
            start += len(window)

    def _compile(
        self,
        function: Callable,
        tokens: Callable[[int], Ragged],
        lengths: Sequence[int] | None,
        scalars: dict[str, int] | None = None,
    ) -> None:
        """Compiles `function` for every row count at the array lengths that hold `lengths` tokens, or at all."""
        ladder = np.asarray(length_ladder(self.max_seq_length))
        if lengths is not None:
            for length in lengths:
                check_positive("lengths", length, or_none=False)
            ladder = np.unique(ladder[np.searchsorted(ladder, np.minimum(lengths, self.max_seq_length))])
        for length in map(int, ladder):
            for rows in row_ladder(length, token_budget=token_budget(self.devices), multiple=len(self.devices)):
                one = tokens(length)
                types = None if one.token_types is None else [one.token_types] * rows
                many = Ragged.from_lists([one.ids] * rows, types)
                batches = self._runner.run(function, self.params, many, max_length=self.max_seq_length, scalars=scalars)
                collections.deque(batches, maxlen=0)


class Truncations:
    """Counts the inputs cut at the token limit, and says so as the caller asked: "warn", "error" or "ignore"."""

    def __init__(self, on_truncate: str, max_length: int):
        check_choice("on_truncate", on_truncate, ("warn", "error", "ignore"))
        self.on_truncate, self.max_length = on_truncate, max_length
        self.num_truncated = self.num_texts = 0

    def add(self, truncated: Sequence[int], num_texts: int) -> None:
        """Counts a window and the texts in it that were cut; ValueError if there are any and these are errors."""
        first = self.num_texts
        self.num_truncated += len(truncated)
        self.num_texts += num_texts
        if len(truncated) and self.on_truncate == "error":
            raise ValueError(
                f"text {first + truncated[0]} is longer than {self.max_length} tokens, and so are {len(truncated) - 1} "
                f"more of the texts up to {self.num_texts - 1}; shorten them, raise max_seq_length, or say "
                "on_truncate='warn' or 'ignore'"
            )

    def warn(self, stacklevel: int) -> None:
        """One warning with the number, if there is any to report."""
        if self.num_truncated and self.on_truncate == "warn":
            warnings.warn(
                f"{self.num_truncated} of {self.num_texts} texts are longer than {self.max_length} tokens and were cut "
                "there; raise max_seq_length, or say on_truncate='ignore' or 'error'",
                stacklevel=stacklevel + 1,
            )


def computing(
    encoder: EncoderConfig, device: Device | Sequence[Device] | None, dtype: str, attn_implementation: str
) -> tuple[EncoderConfig, tuple[jax.Device, ...]]:
    """The encoder's config as it is computed, and the devices that do it.

    Raises:
        ValueError, TypeError: for devices that are not there, and for what these devices cannot do.
    """
    devices = resolve_devices(device)
    dtype = resolve_dtype(dtype, devices)
    check_attention(attn_implementation, dtype, devices)
    return dataclasses.replace(encoder, dtype=dtype, attn_implementation=attn_implementation), devices


def windows(texts: list) -> Iterator[list]:
    """`texts` in windows of `WINDOW`."""
    return (texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW))


def _one_ahead(tokenize, windows, first):
    """Yields (window, tokens), tokenising the next in another thread while the caller is busy with the last."""

    def numbered():
        position = first
        for window in windows:
            yield window, position
            position += len(window)

    rest = numbered()
    begin = list(islice(rest, 2))
    if len(begin) < 2:  # no thread for a single window
        yield from ((window, tokenize(window, position)) for window, position in begin)
        return
    with ThreadPoolExecutor(1) as thread:
        ahead = collections.deque((window, thread.submit(tokenize, window, position)) for window, position in begin)
        while ahead:
            window, future = ahead.popleft()
            yield window, future.result()
            ahead.extend((window, thread.submit(tokenize, window, position)) for window, position in islice(rest, 1))


def _in_dtype(params, dtype):
    """The encoder's matrices in `dtype`; heads stay in float32."""
    return params | {"encoder": in_dtype(params["encoder"], dtype)}
