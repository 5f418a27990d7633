"""The models of a server: by name, and as programs that the worker can run."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jsbert.cross_encoder import CrossEncoder
from jsbert.outputs import all_vectors, pair_logits, sentence_vectors
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.serve.errors import ServeError
from jsbert.serve.jobs import Program
from jsbert.tokenizer import Ragged

Texts = Sequence[str] | Sequence[tuple[str, str]] | Sequence[Sequence[int]]
"""Strings, pairs of strings, or token ids with their special tokens."""


class Served:
    """What both kinds of model share: a name, tokens with clear errors, and programs.

    Attributes:
        name: the name that clients use.
        model: the opened model.
    """

    model: SentenceTransformer | CrossEncoder

    def __init__(self, name: str, model: SentenceTransformer | CrossEncoder):
        self.name, self.model = name, model

    @property
    def max_tokens(self) -> int:
        """The number of tokens kept of a text."""
        return self.model.max_seq_length

    def tokenize(self, texts: Texts, *, field: str, prompt: str = "") -> Ragged:
        """Return the tokens of texts.

        Args:
            texts: all of one kind; at least one.
            field: the request's field that holds the texts, for messages.
            prompt: put in front of each string.

        Raises:
            ServeError: if a text is invalid Unicode, or token ids are out of range.
        """
        is_text = isinstance(texts[0], str) or (texts[0] and isinstance(texts[0][0], str))
        if prompt and not is_text:
            raise ServeError(
                "invalid", "a prompt cannot be put before token ids; put its ids there", field=field
            )
        try:
            return self.model.engine.tokenize(texts, prompt=prompt)
        except ValueError as error:
            raise ServeError("tokenizer", str(error), field=field) from None

    def warm(self, num_tokens: int) -> None:
        """Compile the programs for texts of up to `num_tokens` tokens."""
        if lengths := list(range(1, min(num_tokens, self.max_tokens) + 1)):
            self.model.warmup(lengths)


class Embedder(Served):
    """A bi-encoder: texts to vectors."""

    def __init__(self, name: str, model: SentenceTransformer):
        super().__init__(name, model)
        # A model with routes has one for texts without a task, as `encode` has.
        self.model = model if model.router is None else model.router.route(None)
        self.prompts, self._default = model.prompts, model.default_prompt_name
        self.dimension = model.get_embedding_dimension()
        self.config = self.model.config.for_task(None)

    def prompt(self, name: str | None) -> str:
        """Return the prompt of that name; for None the default prompt, or "".

        Raises:
            ServeError: if the model has no prompt of that name.
        """
        name = self._default if name is None else name
        if name is not None and name not in self.prompts:
            raise ServeError(
                "invalid",
                f"unknown prompt; the model's prompts are {sorted(self.prompts)}",
                field="prompt_name",
            )
        return "" if name is None else self.prompts[name]

    def program(self, prompt: str = "", *, of_tokens: bool = False) -> Program:
        """Return what computes sentence vectors (D,), or token vectors (L, D)."""
        engine = self.model.engine
        scalars: tuple[tuple[str, int], ...] = ()
        if not self.config.include_prompt:
            scalars = (("prompt_length", engine.tokenizer.prompt_length(prompt) if prompt else 0),)
        if of_tokens:
            return Program(engine, all_vectors(self.config), False, scalars, _tokens)
        return Program(engine, sentence_vectors(self.config), True, scalars, _rows)

    def vectors(
        self, rows: Sequence[np.ndarray], *, dimensions: int | None, normalize: bool
    ) -> np.ndarray:
        """Return what `encode` makes of the rows of `program`: (N, D), float32."""
        found = np.stack(rows)[:, : min(dimensions or self.dimension, self.dimension)]
        if normalize:
            found = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)
        return np.ascontiguousarray(found)

    def check_dimensions(self, dimensions: int | None) -> None:
        """Raise ServeError if the vectors cannot be cut to that many dimensions."""
        if dimensions is not None and not 1 <= dimensions <= self.dimension:
            raise ServeError(
                "invalid",
                f"{dimensions} is not possible; the model's vectors have {self.dimension} "
                "dimensions, and can be cut to 1 or more",
                field="dimensions",
            )


class Scorer(Served):
    """A cross-encoder: pairs of texts to scores."""

    def __init__(self, name: str, model: CrossEncoder):
        super().__init__(name, model)
        self.model: CrossEncoder = model
        self._prompt = model.prompts.get(model.default_prompt_name or "", "")
        given = model.parts.labels
        count = model.num_labels
        self.labels = given if len(given) == count else [f"LABEL_{i}" for i in range(count)]

    def tokenize(self, texts: Texts, *, field: str, prompt: str = "") -> Ragged:
        """Tokenise pairs with the model's default prompt; see `Served.tokenize`."""
        return super().tokenize(texts, field=field, prompt=prompt or self._prompt)

    @functools.cached_property
    def program(self) -> Program:
        """What computes logits (number of labels,)."""
        return Program(self.model.engine, pair_logits(self.model.config), True, (), _rows)


class Catalogue:
    """The models of a server by name. The first of a kind is used if a request names none.

    Attributes:
        embedders: the bi-encoders.
        scorers: the cross-encoders.
    """

    def __init__(self) -> None:
        self.embedders: dict[str, Embedder] = {}
        self.scorers: dict[str, Scorer] = {}

    def add(self, name: str, model: SentenceTransformer | CrossEncoder) -> None:
        """Add a model under a name.

        Raises:
            ValueError: if the name is taken.
        """
        if name in self.all:
            raise ValueError(f"two models are called {name!r}; name them, as in NAME=FOLDER")
        if isinstance(model, CrossEncoder):
            self.scorers[name] = Scorer(name, model)
        else:
            self.embedders[name] = Embedder(name, model)

    @property
    def all(self) -> Mapping[str, Embedder | Scorer]:
        """All models by name."""
        return self.embedders | self.scorers

    def any(self) -> Embedder | Scorer:
        """Return the first bi-encoder, or the first cross-encoder if there is no bi-encoder.

        Raises:
            ServeError: if no model is open yet.
        """
        if not self.all:
            raise ServeError("unready", "the models are not open yet", retry_seconds=2)
        return next(iter(self.all.values()))

    def embedder(self, name: str | None = None) -> Embedder:
        """Return the bi-encoder of that name, by default the first.

        Raises:
            ServeError: if there is none.
        """
        return _chosen(self.embedders, name, "makes vectors", "jsbert serve MODEL")

    def scorer(self, name: str | None = None) -> Scorer:
        """Return the cross-encoder of that name, by default the first.

        Raises:
            ServeError: if there is none.
        """
        return _chosen(self.scorers, name, "scores pairs", "jsbert serve --reranker MODEL")

    def num_compilations(self) -> int:
        """The number of programs made so far."""
        return sum(one.model.num_compilations for one in self.all.values())

    def compile_seconds(self) -> float:
        """The time spent on compiling so far."""
        return sum(one.model.compile_seconds for one in self.all.values())


def _chosen(models: Mapping[str, Any], name: str | None, does: str, command: str) -> Any:
    if name is not None and name in models:
        return models[name]
    if not models:
        raise ServeError("no model", f"no model here {does}; start the server with {command}")
    if name is None:
        return next(iter(models.values()))
    raise ServeError(
        "no model",
        f"there is no such model that {does}; there is {', '.join(map(repr, models))}",
        field="model",
    )


def _rows(outputs: np.ndarray) -> np.ndarray:
    return outputs


def _tokens(outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    # Copy, because a view would keep the whole batch in memory.
    return [
        vectors[:length].copy()
        for vectors, length in zip(outputs["token_embeddings"], outputs["lengths"], strict=True)
    ]
