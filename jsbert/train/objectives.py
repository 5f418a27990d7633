"""Training objectives: the table `OBJECTIVES`, and the functions that make an objective from a row
and a config.

A new objective is a function in `jsbert.losses` and a row of `OBJECTIVES`. The row determines the
checks of examples and labels, the options, and what `jsbert train` does and says.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jsbert import encoders, losses, siamese
from jsbert.config import Config, CrossConfig
from jsbert.cross import classify
from jsbert.engine.packing import PACKED, is_packed
from jsbert.inputs import check_choice
from jsbert.losses.classification import CONCATENATION
from jsbert.losses.in_batch import Loss
from jsbert.train.spec import Init, Model, Objective, Spec


def of_embeddings(
    config: Config,
    loss: Loss,
    *,
    name: str,
    kind: str = "custom",
    num_texts: tuple[int, int | None] = (2, 2),
    labels: str = "number",
    num_classes: int | None = None,
    label_range: tuple[float, float] | None = None,
    in_batch: bool | None = None,
    init: Init | None = None,
    every_layer: bool = False,
) -> Objective:
    """The objective of a bi-encoder whose loss is `loss(embeddings (T, B, D), labels) -> (B,)`. Use
    this function to add an objective.

    `in_batch` says whether the examples of a batch see each other in the loss; by default the
    decorator `losses.in_batch` says it. With `init`, the loss is `loss(params, embeddings,
    labels)`, with the params that `init` made. Labels (B, T, D) reach the loss as (T, B, D). With
    `every_layer`, the embeddings are those of each layer, (L, T, B, D). The other options are those
    of `Objective`.
    """
    if every_layer and config.layer_start is not None:
        raise ValueError(
            f"{name}: the model mixes the vectors of its layers; leave adaptive_layers out, or "
            "choose another model"
        )

    def of_batch(params, outputs, batch):
        own = () if init is None else (params["objectives"][name],)
        targets = batch.get("labels")
        if targets is not None and targets.ndim == 3:
            targets = _towers_first(targets)
        embeddings = _towers_first(outputs)
        embeddings = jnp.moveaxis(embeddings, 2, 0) if every_layer else embeddings
        return loss(*own, embeddings, targets)

    return Objective(
        kind,
        name,
        functools.partial(_layer_embeddings if every_layer else _embeddings, config),
        of_batch,
        in_batch=losses.is_in_batch(loss) if in_batch is None else in_batch,
        init=init,
        num_texts=num_texts,
        labels=labels,
        num_classes=num_classes,
        label_range=label_range,
    )


def of_logits(
    config: CrossConfig,
    loss: Loss,
    *,
    name: str,
    kind: str = "custom",
    labels: str = "number",
    num_labels: int = 1,
    label_range: tuple[float, float] | None = None,
) -> Objective:
    """The objective of a cross-encoder whose loss is `loss(logits (B, C), labels) -> (B,)`."""

    def forward(params, batch, keys):
        hidden, mask = _hidden(config.encoder, params["encoder"], batch, keys)
        return classify(config, params["head"], hidden, mask, keys)

    return Objective(
        kind,
        name,
        forward,
        lambda params, outputs, batch: loss(outputs, batch["labels"]),
        in_batch=losses.is_in_batch(loss),
        labels=labels,
        num_classes=num_labels if labels == "class" else None,
        label_range=label_range,
    )


def _of_embeddings(
    config,
    loss,
    *,
    name,
    matryoshka_dims=None,
    matryoshka_weights=None,
    adaptive_layers=None,
):
    loss = _nested(loss, matryoshka_dims, matryoshka_weights, adaptive_layers)
    return of_embeddings(config, loss, name=name, every_layer=adaptive_layers is not None)


def _of_logits(config, loss, *, name, num_labels=1):
    return of_logits(config, loss, name=name, num_labels=num_labels)


def _nested(loss, dims, weights, adaptive_layers):
    """`loss` at several widths, at each layer, or both. `adaptive_layers` are options of
    `losses.adaptive_layers`, {} for its defaults; None: at the last layer only."""
    loss = losses.matryoshka(loss, dims=dims, weights=weights) if dims else loss
    return loss if adaptive_layers is None else losses.adaptive_layers(loss, **adaptive_layers)


def _softmax(
    config,
    loss,
    *,
    name,
    num_labels,
    concatenation=CONCATENATION,
    matryoshka_dims=None,
    matryoshka_weights=None,
    adaptive_layers=None,
):
    """The paper's classification objective. Its own params are the classifier."""

    def init(key):
        return losses.init_classifier(key, config.embedding_dimension, num_labels, concatenation)

    loss = _nested(loss, matryoshka_dims, matryoshka_weights, adaptive_layers)
    every_layer = adaptive_layers is not None
    return of_embeddings(config, loss, name=name, init=init, every_layer=every_layer)


def _masked_lm(config, loss, *, name):
    """Masked language modelling. It trains the encoder without pooling; its own params are the
    masked-LM head.

    The batch's `hidden_places`, `targets` and `weights` (B, K) say which tokens were masked.
    """
    encoder = config.encoder
    if not encoder.is_bidirectional:
        raise ValueError(
            f"{name}: masked-lm is for tokens that see those before and behind them, not for "
            f"{encoder.model_type!r}; "
            "choose another objective"
        )

    def forward(params, batch, keys):
        hidden, _ = _hidden(encoder, params["encoder"], batch, keys)
        # (B, L, D) to (B, K, D): the loss reads the masked tokens only.
        return jnp.take_along_axis(hidden, batch["hidden_places"][:, :, None], axis=1)

    def of_batch(params, outputs, batch):
        words = params["encoder"]["embeddings"]["word"]["embedding"]
        scores = losses.masked_lm_logits(
            params["objectives"][name],
            outputs,
            words,
            activation=encoder.hidden_act,
            layer_norm_eps=encoder.layer_norm_eps,
        )
        return loss(scores, batch["targets"], batch["weights"])

    init = functools.partial(
        losses.init_masked_lm_head,
        dim=encoder.hidden_size,
        vocab_size=encoder.vocab_size,
        embedding_size=getattr(encoder, "embedding_size", None),
        initializer_range=encoder.initializer_range,
    )
    in_batch = losses.is_in_batch(loss)
    return Objective("masked-lm", name, forward, of_batch, in_batch=in_batch, init=init)


OBJECTIVES: dict[str, Spec] = {
    "softmax": Spec(losses.softmax_classification, labels="class", make=_softmax),
    "cosine": Spec(losses.cosine_regression, label_range=(-1, 1)),
    "triplet": Spec(losses.triplet, num_texts=(3, 3), labels="none"),
    "multiple-negatives-ranking": Spec(
        losses.multiple_negatives_ranking,
        num_texts=(2, None),
        labels="none",
    ),
    "batch-all-triplet": Spec(losses.batch_all_triplet, num_texts=(1, 1), labels="group"),
    "batch-hard-triplet": Spec(losses.batch_hard_triplet, num_texts=(1, 1), labels="group"),
    "batch-hard-soft-margin-triplet": Spec(
        losses.batch_hard_soft_margin_triplet,
        num_texts=(1, 1),
        labels="group",
    ),
    "batch-semi-hard-triplet": Spec(
        losses.batch_semi_hard_triplet,
        num_texts=(1, 1),
        labels="group",
    ),
    "guided-negatives-ranking": Spec(
        losses.guided_negatives_ranking,
        num_texts=(2, None),
        labels="vector",
    ),
    "global-orthogonal-regularization": Spec(
        losses.global_orthogonal_regularization,
        num_texts=(1, None),
        labels="none",
    ),
    "contrastive": Spec(losses.contrastive, label_range=(0, 1)),
    "online-contrastive": Spec(losses.online_contrastive, labels="class", num_classes=2),
    "cosent": Spec(losses.cosent),
    "angle": Spec(losses.angle),
    "margin-mse": Spec(losses.margin_mse, num_texts=(3, None), labels="margins"),
    "kl-distillation": Spec(losses.kl_distillation, num_texts=(3, None), labels="margins"),
    "embedding-mse": Spec(losses.embedding_mse, num_texts=(1, None), labels="vector"),
    "similarity-distillation": Spec(
        losses.similarity_distillation,
        num_texts=(1, None),
        labels="vector",
    ),
    "masked-lm": Spec(losses.masked_lm, num_texts=(1, 1), labels="words", make=_masked_lm),
    "binary-cross-entropy": Spec(
        losses.binary_cross_entropy,
        label_range=(0, 1),
        model="cross-encoder",
    ),
    "cross-entropy": Spec(losses.cross_entropy, labels="class", model="cross-encoder"),
    "mse": Spec(losses.mse, model="cross-encoder"),
}
"""The objectives by name, one row for each."""


def names_for(model: Model) -> tuple[str, ...]:
    """The names of the objectives that train such a model."""
    return tuple(kind for kind, row in OBJECTIVES.items() if row.model == model)


BI_ENCODER: tuple[str, ...] = names_for("bi-encoder")
CROSS_ENCODER: tuple[str, ...] = names_for("cross-encoder")
"""Names of the objectives for each kind of model."""


def check_model(kind: str, model: Model, source: str) -> None:
    """Raise ValueError, with the source's name, unless the objective `kind` trains such a model."""
    if kind not in (names := names_for(model)):
        hint = f"choose one of {', '.join(names)}"
        raise ValueError(f"{source}: the objective {kind!r} is not for a {model}; {hint}")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The name and options of an objective. A call with a model's config returns the objective."""

    kind: str
    options: Mapping[str, Any]

    def __call__(self, config: Config | CrossConfig, *, name: str, **more: Any) -> Objective:
        """The objective for a model's config, with the facts of its row. `name` is the key of its
        own params, different for each source; `more` are further options."""
        row, options = OBJECTIVES[self.kind], {**self.options, **more}
        make = _maker(row)
        loss = functools.partial(row.loss, **_chosen(options, row.loss))
        return dataclasses.replace(
            make(config, loss, name=name, **_chosen(options, make)),
            kind=self.kind,
            num_texts=row.num_texts,
            labels=row.labels,
            label_range=row.label_range,
            num_classes=options.get("num_labels", 1) if row.counts_classes else row.num_classes,
        )


def objective(kind: str, **options: Any) -> Choice:
    """Choose the objective `kind` with its options. `fit` gives the choice a config and a name.

    Args:
        kind: one of `OBJECTIVES`.
        options: the options of the function in `jsbert.losses`; `num_labels` and `concatenation`
            for "softmax"; for any loss of embeddings `matryoshka_dims`, `matryoshka_weights`, and
            `adaptive_layers`: a dict of the options of `losses.adaptive_layers`, {} for its
            defaults.

    Raises:
        ValueError: if the name or an option does not exist, or an option is missing.
    """
    check_choice("objective", kind, tuple(OBJECTIVES))
    row = OBJECTIVES[kind]
    found = _keywords(row.loss) | _keywords(_maker(row))
    if row.counts_classes:
        # Needed for a bi-encoder only: a cross-encoder knows its number of labels.
        found["num_labels"] = row.model == "bi-encoder"
    found.pop("name", None)
    layers = options.get("adaptive_layers")
    if layers is not None:
        known = _keywords(losses.adaptive_layers)
        if not isinstance(layers, Mapping) or set(layers) - set(known):
            raise ValueError(
                f"adaptive_layers is {layers!r}; give a dict of some of {', '.join(sorted(known))}"
            )
    if unknown := sorted(set(options) - set(found)):
        has = ", ".join(sorted(found)) or "none"
        raise ValueError(f"the objective {kind!r} has no option {', '.join(unknown)}; it has {has}")
    for option, is_needed in found.items():
        if is_needed and option not in options:
            raise ValueError(f"the objective {kind!r} needs {option}; give it as an option")
    return Choice(kind, options)


def _maker(row):
    return row.make or (_of_embeddings if row.model == "bi-encoder" else _of_logits)


def _keywords(function):
    """{name: whether it must be given} of the keyword-only arguments of `function`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}


def _chosen(options, function):
    """The options that `function` takes."""
    return {name: options[name] for name in _keywords(function) if name in options}


def _embeddings(config, params, batch, keys):
    """The sentence vectors (B, T, D) of a batch, by the siamese pass."""
    if is_packed(batch):
        rows, lengths, keys = _texts(batch, keys)
        vectors = siamese.encode_packed(config, params, rows, lengths, keys)
        return vectors.reshape(*batch["lengths"].shape, -1)
    mask = jnp.arange(batch["ids"].shape[-1])[None, None] < batch["lengths"][:, :, None]
    towers = siamese.encode_towers(
        config, params, _towers_first(batch["ids"]), _towers_first(mask), keys
    )
    return _towers_first(towers)


def _layer_embeddings(config, params, batch, keys):
    """The sentence vectors (B, T, L, D) of a batch, made from the token vectors of each layer."""
    rows, lengths, keys = _texts(batch, keys)
    encoder, own = config.encoder, params["encoder"]
    if is_packed(batch):
        states, mask = siamese.packed_states(encoder, own, rows, lengths, keys)
    else:
        ids = batch["ids"].reshape(len(lengths), -1)
        mask = jnp.arange(ids.shape[1])[None] < lengths[:, None]
        states = encoders.hidden_states(encoder, own, ids, mask, keys)
    vectors = [siamese.pool_and_finish(config, params, state, mask) for state in states]
    return jnp.stack(vectors, axis=1).reshape(*batch["lengths"].shape, len(states), -1)


def _hidden(config, params, batch, keys):
    """Token vectors (B, L, D) and mask (B, L) of a batch whose examples are one sequence each."""
    if is_packed(batch):
        return siamese.packed_hidden(config, params, *_texts(batch, keys))
    mask = jnp.arange(batch["ids"].shape[-1])[None] < batch["lengths"]
    types = batch["token_types"][:, 0] if "token_types" in batch else None
    keys = None if keys is None else siamese.tower_keys(keys, batch["lengths"].T)[0]
    return encoders.forward(config, params, batch["ids"][:, 0], mask, keys, token_types=types), mask


def _texts(batch, keys):
    """(packed rows, lengths, keys) of a batch, with lengths and keys for each of its B * T texts.
    Without packing there are no such rows."""
    keys = None if keys is None else siamese.tower_keys(keys, batch["lengths"].T).T.ravel()
    return {name: batch[name] for name in PACKED if name in batch}, batch["lengths"].ravel(), keys


def _towers_first(x):
    """(B, T, ...) to (T, B, ...), or back."""
    return jnp.swapaxes(x, 0, 1)
