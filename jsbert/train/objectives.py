"""What training makes small: a forward pass and a loss over its outputs, with the params that only they need."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jsbert import encoders, losses, siamese
from jsbert.config import Config, EncoderConfig
from jsbert.cross_encoder import classify
from jsbert.encoders import static
from jsbert.engine.packing import PACKED, is_packed
from jsbert.inputs import check_choice

Batch = Mapping[str, Any]

ONE_SIDED = frozenset({"qwen3", static.MODEL_TYPE})
"""The families whose tokens do not see those behind them."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """Two pure functions of all params and a batch. Cut between them, a large batch can be computed in chunks.

    Attributes:
        kind: what it is called, in records.
        name: the data set's, under which params of its own are kept.
        forward: `(params, batch, keys) -> outputs`, each with a row an example. Examples do not meet here.
        loss: `(params, outputs, batch) -> (B,)`, one number an example.
        in_batch: whether examples meet in the loss.
        init: `(key) -> params` of the objective's own, kept at params["objectives"][name]; None if there are none.
        num_texts: columns of texts that it takes at least, and at most (None: any number).
        labels: "none", "number", "class" or "vector".
        num_classes: how many classes, if labels are classes.
        label_range: the lowest and the highest number that a label can be; None: any.
    """

    kind: str
    name: str
    forward: Callable[[PyTree, Batch, Key[Array, " rows"] | None], PyTree]
    loss: Callable[[PyTree, PyTree, Batch], Float[Array, " rows"]]
    in_batch: bool = False
    init: Callable[[Key[Array, ""]], PyTree] | None = None
    num_texts: tuple[int, int | None] = (2, 2)
    labels: str = "number"
    num_classes: int | None = None
    label_range: tuple[float, float] | None = None


def of_embeddings(
    config: Config,
    loss: Callable,
    *,
    name: str,
    kind: str = "custom",
    num_texts: tuple[int, int | None] = (2, 2),
    labels: str = "number",
    num_classes: int | None = None,
    label_range: tuple[float, float] | None = None,
    in_batch: bool | None = None,
) -> Objective:
    """The objective of a bi-encoder whose loss is `loss(embeddings (T, B, D), labels) -> (B,)`: the way to add one.

    `in_batch` is known for the losses of `jsbert.losses`; for others say whether examples of a batch meet in it. The
    other options are `Objective`'s.
    """

    def of_batch(params, outputs, batch):
        targets = batch.get("labels")
        if labels == "vector" and targets.ndim == 3:  # a target for each tower
            targets = _towers_first(targets)
        return loss(_towers_first(outputs), targets)

    return Objective(
        kind,
        name,
        functools.partial(_embeddings, config),
        of_batch,
        in_batch=losses.is_in_batch(loss) if in_batch is None else in_batch,
        num_texts=num_texts,
        labels=labels,
        num_classes=num_classes,
        label_range=label_range,
    )


def softmax(
    config: Config,
    *,
    name: str,
    num_labels: int,
    concatenation: Sequence[str] = ("u", "v", "|u-v|"),
    matryoshka_dims: Sequence[int] | None = None,
    matryoshka_weights: Sequence[float] | None = None,
) -> Objective:
    """The paper's classification objective, its classifier trained along at params["objectives"][name]."""
    loss = functools.partial(losses.softmax_classification, concatenation=concatenation)
    loss = losses.matryoshka(loss, dims=matryoshka_dims, weights=matryoshka_weights) if matryoshka_dims else loss
    dim = config.embedding_dimension
    return Objective(
        "softmax",
        name,
        functools.partial(_embeddings, config),
        lambda params, outputs, batch: loss(params["objectives"][name], _towers_first(outputs), batch["labels"]),
        init=lambda key: losses.init_classifier(key, dim, num_labels, concatenation),
        labels="class",
        num_classes=num_labels,
    )


def masked_lm(config: Config, *, name: str) -> Objective:
    """Masked language modelling, which trains the encoder itself.

    The batch's `hidden_places`, `targets` and `weights` (B, K) say which tokens were masked; see `data.masked`.

    Raises:
        ValueError: for an encoder whose tokens do not see those behind them.
    """
    encoder = config.encoder
    if encoder.model_type in ONE_SIDED:
        raise ValueError(
            f"{name}: masked-lm is for tokens that see those before and behind them, not for {encoder.model_type!r}; "
            "choose another objective"
        )

    def forward(params, batch, keys):
        hidden, _ = _hidden(encoder, params["encoder"], batch, keys)
        return jnp.take_along_axis(hidden, batch["hidden_places"][:, :, None], axis=1)

    def loss(params, outputs, batch):
        words = params["encoder"]["embeddings"]["word"]["embedding"]
        scores = losses.masked_lm_logits(
            params["objectives"][name],
            outputs,
            words,
            activation=encoder.hidden_act,
            layer_norm_eps=encoder.layer_norm_eps,
        )
        return losses.masked_lm(scores, batch["targets"], batch["weights"])

    init = functools.partial(
        losses.init_masked_lm_head,
        dim=encoder.hidden_size,
        vocab_size=encoder.vocab_size,
        embedding_size=getattr(encoder, "embedding_size", None),
        initializer_range=encoder.initializer_range,
    )
    return Objective("masked-lm", name, forward, loss, in_batch=True, init=init, num_texts=(1, 1), labels="none")


def of_logits(
    config: EncoderConfig,
    loss: Callable,
    *,
    name: str,
    kind: str = "custom",
    labels: str = "number",
    num_labels: int = 1,
    label_range: tuple[float, float] | None = None,
) -> Objective:
    """The objective of a cross-encoder whose loss is `loss(logits (B, C), labels) -> (B,)`."""

    def forward(params, batch, keys):
        hidden, mask = _hidden(config, params["encoder"], batch, keys)
        return classify(config, params["head"], hidden, mask, keys)

    return Objective(
        kind,
        name,
        forward,
        lambda params, outputs, batch: loss(outputs, batch["labels"]),
        labels=labels,
        num_classes=num_labels if labels == "class" else None,
        label_range=label_range,
    )


_OF_EMBEDDINGS = {
    "cosine": (losses.cosine_regression, {"label_range": (-1, 1)}),
    "triplet": (losses.triplet, {"num_texts": (3, 3), "labels": "none"}),
    "multiple-negatives-ranking": (losses.multiple_negatives_ranking, {"num_texts": (2, None), "labels": "none"}),
    "contrastive": (losses.contrastive, {"label_range": (0, 1)}),
    "online-contrastive": (losses.online_contrastive, {"labels": "class", "num_classes": 2}),
    "cosent": (losses.cosent, {}),
    "angle": (losses.angle, {}),
    "margin-mse": (losses.margin_mse, {"num_texts": (3, None)}),
    "embedding-mse": (losses.embedding_mse, {"num_texts": (1, None), "labels": "vector"}),
    "similarity-distillation": (losses.similarity_distillation, {"num_texts": (1, None), "labels": "vector"}),
}
_OF_LOGITS = {
    "binary-cross-entropy": (losses.binary_cross_entropy, {"label_range": (0, 1)}),
    "cross-entropy": (losses.cross_entropy, {"labels": "class"}),
    "mse": (losses.mse, {}),
}

BI_ENCODER: tuple[str, ...] = ("softmax", *_OF_EMBEDDINGS, "masked-lm")
"""Names of the objectives for a bi-encoder."""

CROSS_ENCODER: tuple[str, ...] = tuple(_OF_LOGITS)
"""Names of the objectives for a cross-encoder."""

OBJECTIVES: tuple[str, ...] = BI_ENCODER + CROSS_ENCODER


@dataclasses.dataclass(frozen=True)
class Choice:
    """An objective by name and options, still without a model."""

    kind: str
    options: Mapping[str, Any]
    function: Callable[..., Objective] = dataclasses.field(repr=False)

    def __call__(self, config: Any, *, name: str, **more: Any) -> Objective:
        """The objective for a model's config, under a name of its own."""
        return self.function(config, name=name, **{**self.options, **more})


def objective(kind: str, **options: Any) -> Choice:
    """The objective named `kind`, still to be given a config and a name of its own: `fit` does that.

    Args:
        kind: one of `OBJECTIVES`.
        options: those of the function in `jsbert.losses`; `num_labels` and `concatenation` for "softmax"; and
            `matryoshka_dims` and `matryoshka_weights`, for any loss of embeddings.

    Raises:
        ValueError: for a name or an option that does not exist.
    """
    check_choice("objective", kind, OBJECTIVES)
    nested = {"matryoshka_dims", "matryoshka_weights"}
    if kind == "masked-lm":
        function, allowed = masked_lm, set()
    elif kind == "softmax":
        function, allowed = softmax, {"num_labels", "concatenation"} | nested
    elif kind in _OF_LOGITS:
        loss, data = _OF_LOGITS[kind]
        function = functools.partial(_named_logits, kind=kind, loss=loss, data=data)
        allowed = _options(loss) | {"num_labels"}
    else:
        loss, data = _OF_EMBEDDINGS[kind]
        function = functools.partial(_named_embeddings, kind=kind, loss=loss, data=data)
        allowed = _options(loss) | nested
    if unknown := sorted(set(options) - allowed):
        has = ", ".join(sorted(allowed)) or "none"
        raise ValueError(f"the objective {kind!r} has no option {', '.join(unknown)}; it has {has}")
    if kind == "softmax" and "num_labels" not in options:
        raise ValueError("the objective 'softmax' needs num_labels, the number of classes")
    return Choice(kind, options, function)


def _named_embeddings(config, *, loss, data, matryoshka_dims=None, matryoshka_weights=None, name, kind, **options):
    loss = functools.partial(loss, **options)
    loss = losses.matryoshka(loss, dims=matryoshka_dims, weights=matryoshka_weights) if matryoshka_dims else loss
    return of_embeddings(config, loss, name=name, kind=kind, **data)


def _named_logits(config, *, loss, data, num_labels=1, name, kind, **options):
    loss = functools.partial(loss, **options)
    return of_logits(config, loss, name=name, kind=kind, num_labels=num_labels, **data)


def _options(loss):
    return {name for name, p in inspect.signature(loss).parameters.items() if p.kind is p.KEYWORD_ONLY}


def _embeddings(config, params, batch, keys):
    """(B, T, D): the siamese pass, rows first."""
    if is_packed(batch):
        rows, lengths, keys = _texts(batch, keys)
        vectors = siamese.encode_packed(config, params, rows, lengths, keys)
        return vectors.reshape(*batch["lengths"].shape, -1)
    mask = jnp.arange(batch["ids"].shape[-1])[None, None] < batch["lengths"][:, :, None]
    towers = siamese.encode_towers(config, params, _towers_first(batch["ids"]), _towers_first(mask), keys)
    return _towers_first(towers)


def _hidden(config, params, batch, keys):
    """Token vectors (B, L, D) and mask (B, L), where an example is one sequence."""
    if is_packed(batch):
        return siamese.packed_hidden(config, params, *_texts(batch, keys))
    mask = jnp.arange(batch["ids"].shape[-1])[None] < batch["lengths"]
    types = batch["token_types"][:, 0] if "token_types" in batch else None
    keys = None if keys is None else siamese.tower_keys(keys, batch["lengths"].T)[0]
    return encoders.forward(config, params, batch["ids"][:, 0], mask, keys, token_types=types), mask


def _texts(batch, keys):
    """(rows, lengths, keys) of a packed batch, its B * T texts one behind the other."""
    keys = None if keys is None else siamese.tower_keys(keys, batch["lengths"].T).T.ravel()
    return {name: batch[name] for name in PACKED if name in batch}, batch["lengths"].ravel(), keys


def _towers_first(x):
    """(B, T, ...) to (T, B, ...), and back."""
    return jnp.swapaxes(x, 0, 1)
