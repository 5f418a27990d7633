"""From data sets to batches: which examples are in which update, and the arrays of an update."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jsbert.config import Config, CrossConfig
from jsbert.data import Examples
from jsbert.engine import Batch, packed, pad
from jsbert.engine.ladder import packed_length, training_lengths
from jsbert.tokenizer import Tokenizer
from jsbert.train.masking import masked
from jsbert.train.objectives import OBJECTIVES, Choice, Objective, check_model, objective
from jsbert.train.order import epoch_batches, mixed_batches
from jsbert.train.recipe import Recipe
from jsbert.train.spec import LABELS

ROUNDING = 1e-5
"""How far a label may be outside of its objective's range: computed cosines of equal vectors are up
to 1.0000004."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set and its objective.

    Attributes:
        examples: texts and labels, as `data.read_examples` returns them.
        objective: a name of `OBJECTIVES`, or what `objective(name, **options)` returns, or any
            function `(config, *, name) -> Objective`.
        name: names the source in records and messages. The sources of a run have different names.
    """

    examples: Examples
    objective: str | Callable[..., Objective]
    name: str = "train"

    def build(self, config: Config | CrossConfig) -> Objective:
        """The objective for the config of a bi-encoder or a cross-encoder.

        Raises:
            ValueError: if the objective is not for such a model, or if the examples do not have the
                columns and labels that the objective needs.
        """
        make, more = self._choice(), {}
        if isinstance(make, Choice):
            kind: Literal["bi-encoder", "cross-encoder"]
            kind = "cross-encoder" if isinstance(config, CrossConfig) else "bi-encoder"
            check_model(make.kind, kind, self.name)
            if isinstance(config, CrossConfig):
                num_labels = config.num_labels
                counts_classes = OBJECTIVES[make.kind].counts_classes
                wanted = make.options.get("num_labels", num_labels) if counts_classes else 1
                if wanted != num_labels:
                    raise ValueError(
                        f"{self.name}: {make.kind} is for {wanted} label{'s' * (wanted > 1)}, the "
                        "model has "
                        f"{num_labels}; open it with another num_labels, or choose another "
                        "objective"
                    )
                more = {"num_labels": num_labels}
        built = make(config, name=self.name, **more)
        _check_examples(self, built)
        return built

    def description(self) -> dict[str, Any]:
        """What identifies the source: the objective with its options, the number of examples and
        their digest."""
        make = self._choice()
        if isinstance(make, Choice):
            options = {name: repr(value) for name, value in make.options.items()}
            description = {"objective": make.kind, "options": options}
        else:
            description = {"objective": getattr(make, "__qualname__", repr(make)), "options": {}}
        return description | {"examples": len(self.examples), "digest": self.digest()}

    def _choice(self):
        return objective(self.objective) if isinstance(self.objective, str) else self.objective

    def digest(self) -> str:
        """The sha256 of the data set's size and of up to 1,000 evenly spaced rows."""
        size = len(self.examples)
        columns, labels = self.examples.rows(
            np.unique(np.linspace(0, size - 1, min(size, 1000)).astype(int))
        )
        content = json.dumps([size, columns, None if labels is None else labels.tolist()])
        return hashlib.sha256(content.encode()).hexdigest()


class Update(NamedTuple):
    """One update: its epoch, the number of its source, and the rows of its examples."""

    epoch: int
    source: int
    indices: np.ndarray  # (rows,); micro-batch i has the entries i, i + accumulate, ...
    accumulate: int  # the number of micro-batches


class Collated(NamedTuple):
    """The arrays of a batch, and counts for the record.

    The arrays: `ids` (B, T, L) and `lengths` (B, T) int32, and `token_types` (B, T, L) for pairs;
    with packing, packed rows in place of `ids` and `token_types`; `labels` (B, ...) if the
    objective reads labels; `hidden_places`, `targets` and `weights` (B, K) for masked language
    modelling.
    """

    arrays: dict[str, np.ndarray]
    num_tokens: int
    num_truncated: int
    num_texts: int


def plan(
    sources: Sequence[Source], objectives: Sequence[Objective], recipe: Recipe
) -> list[Update]:
    """All updates of a run, in order. They depend on the sizes of the data sets, the recipe and,
    for `no_duplicates`, the texts; for `group_by_label`, the labels."""
    updates = []
    for epoch in range(recipe.epochs):
        groups = []
        for number, (source, learned) in enumerate(zip(sources, objectives, strict=True)):
            # By default a text is at most once in a batch where the other examples are negatives:
            # a copy of an example's positive would be its negative too.
            has_negatives = learned.in_batch and learned.labels in ("none", "vector")
            unique = has_negatives and learned.num_texts[0] > 1
            unique = unique if recipe.no_duplicates is None else recipe.no_duplicates
            batches = epoch_batches(
                len(source.examples),
                recipe.batch_size,
                seed=recipe.seed + number,
                epoch=epoch,
                texts=source.examples.texts if unique else None,
                classes=_classes(source, learned, recipe),
            )
            groups.append(_groups(batches, recipe.batch_size, recipe.accumulate))
        # Rows i, i + accumulate, ... of an update are its i-th batch: `make_step` splits them so.
        for number, group in mixed_batches(groups, how=recipe.mix, seed=recipe.seed, epoch=epoch):
            updates.append(Update(epoch, number, np.stack(group, axis=1).ravel(), len(group)))
    return updates[: recipe.max_steps]


def _classes(source, learned, recipe):
    """The class of each example if the batches are to hold pairs of a class, else None."""
    # By default they do where a text's class says which other texts are its positives.
    grouped = recipe.group_by_label
    grouped = learned.labels == "group" and not recipe.no_duplicates if grouped is None else grouped
    if grouped and learned.labels not in ("class", "group"):
        raise ValueError(
            f"{source.name}: group_by_label is for labels that are classes, and {learned.kind} "
            f"takes {LABELS[learned.labels]}; leave group_by_label out"
        )
    return source.examples.labels if grouped else None


def _groups(batches, batch_size, accumulate):
    """Lists of up to `accumulate` full batches; each smaller batch is in a list of its own."""
    full = [batch for batch in batches if len(batch) == batch_size]
    groups = [full[start : start + accumulate] for start in range(0, len(full), accumulate)]
    return groups + [[batch] for batch in batches if len(batch) != batch_size]


def collate(
    source: Source,
    objective: Objective,
    tokenizer: Tokenizer,
    indices: np.ndarray,
    *,
    pairs: bool = False,
    packing: bool = False,
    seed: int = 0,
    epoch: int = 0,
) -> Collated:
    """The arrays of the examples at `indices`, padded to the ladder of lengths or packed.

    Args:
        source: the data set.
        objective: the objective that `source` has built.
        tokenizer: the model's tokenizer.
        indices: rows of the data set, (B,).
        pairs: whether the two texts of an example are one sequence, as a cross-encoder reads them:
            then T = 1, and there are `token_types`.
        packing: whether several texts share a row; see `jsbert.engine.packing`.
        seed, epoch: with the index of an example they determine which of its tokens masked language
            modelling hides.

    Raises:
        ValueError: if the objective cannot take the labels.
    """
    # Tokenise the B * T texts as one list: the texts of an example are neighbours.
    columns, labels = source.examples.rows(indices)
    rows = list(zip(*columns, strict=True))
    texts = rows if pairs else [text for row in rows for text in row]
    tokens = tokenizer(texts)
    # Pad all texts to one length of the ladder, so that a run compiles few programs.
    longest = int(tokens.lengths.max(initial=1))
    ladder = [packed_length(longest)] if packing else training_lengths(tokenizer.max_length)
    length = next(length for length in ladder if length >= longest)
    arrays = pad(tokens, Batch(np.arange(len(texts)), len(texts), length))
    # Hide words, and check the labels.
    more = {}
    if objective.labels == "words":
        more = _hide_words(arrays, tokenizer, seed, epoch, indices)
        arrays["ids"] = more.pop("ids")
    if objective.reads_labels:
        more["labels"] = _labels(labels, objective, source, indices)
    # (B * T, L) to packed rows, or to (B, T, L).
    lengths = arrays["lengths"].reshape(len(rows), -1)
    if packing:
        arrays = packed(**arrays)
    else:
        arrays = {
            name: array.reshape(*lengths.shape, *array.shape[1:]) for name, array in arrays.items()
        }
    arrays |= more | {"lengths": lengths}
    return Collated(arrays, int(tokens.lengths.sum()), len(tokens.truncated), len(texts))


def _check_examples(source, learned):
    """Raise ValueError unless the examples have the columns and labels that the objective
    needs."""
    examples, (fewest, most) = source.examples, learned.num_texts
    columns = len(examples.names)
    if columns < fewest or (most is not None and columns > most):
        wanted = (
            f"{fewest}"
            if most == fewest
            else f"{fewest} or more"
            if most is None
            else f"{fewest} to {most}"
        )
        raise ValueError(
            f"{source.name}: {learned.kind} takes {wanted} columns of texts; these examples have "
            f"{columns}: {', '.join(examples.names)}"
        )
    if not len(examples):
        raise ValueError(f"{source.name}: there are no examples")
    if learned.reads_labels and examples.labels is None:
        raise ValueError(
            f"{source.name}: {learned.kind} needs labels ({learned.labels}), and these examples "
            "have none"
        )
    if learned.reads_labels and isinstance(examples.labels, np.ndarray):
        _labels(examples.labels, learned, source, np.arange(len(examples)))


def _labels(labels, learned, source, indices):
    """The labels as int32 (classes) or float32 (others). Raise ValueError for a label that the
    objective cannot take; the message names the first one."""
    if learned.labels in ("number", "class", "group") and labels.ndim != 1:
        raise ValueError(
            f"{source.name}: the labels have shape {labels.shape}; {learned.kind} takes one "
            f"{learned.labels} an example"
        )
    if learned.labels == "class":
        is_right = np.isin(labels, np.arange(learned.num_classes))
        allowed = f"has {learned.num_classes} classes, 0 to {learned.num_classes - 1}"
    elif learned.labels == "group":
        is_right = (labels == np.round(labels)) & (np.abs(labels) < 2**31)
        allowed = "takes whole numbers, the same for all texts of a class"
    elif learned.label_range is not None:
        low, high = learned.label_range
        is_right = (low - ROUNDING <= labels) & (labels <= high + ROUNDING)
        allowed = f"takes {low} to {high}: read the examples with label_range=(lowest, highest), "
        allowed += "which makes them 0 to 1"
    else:
        return np.asarray(labels, np.float32)
    wrong = np.flatnonzero(~is_right)
    if wrong.size:
        raise ValueError(
            f"{source.name}: example {indices[wrong[0]]} has the label {labels[wrong[0]]}; "
            f"{learned.kind} {allowed}"
        )
    is_whole = learned.labels in ("class", "group")
    return np.asarray(labels, np.int32 if is_whole else np.float32)


def _hide_words(arrays, tokenizer, seed, epoch, indices):
    """The arrays of masked language modelling: `ids` with hidden tokens, `hidden_places`,
    `targets` and `weights`."""
    special = tokenizer.special_ids
    if "mask" not in special:
        raise ValueError(
            "masked language modelling needs a tokenizer with a mask token, and this one has none"
        )
    hidden = masked(
        arrays["ids"],
        arrays["lengths"],
        seed=seed,
        epoch=epoch,
        indices=indices,
        mask_id=special["mask"],
        vocab_size=tokenizer.largest_id + 1,
        special_ids=special.values(),
    )
    return {
        "ids": hidden.ids,
        "hidden_places": hidden.positions,
        "targets": hidden.targets,
        "weights": hidden.weights,
    }
