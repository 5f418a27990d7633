"""From data sets to the batches of a run: which examples make which update, and the arrays that
they become."""

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

ROUNDING = 1e-5
"""How far a label may be out of its objective's range: computed cosines of equal vectors are up to
1.0000004."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set and what is learned from it.

    Attributes:
        examples: texts and labels, as `data.read_examples` returns them.
        objective: a name of `OBJECTIVES`, or what `objective(name, **options)` returns, or any
            function `(config, *, name) -> Objective`.
        name: told apart by it in records, where there are several.
    """

    examples: Examples
    objective: str | Callable[..., Objective]
    name: str = "train"

    def build(self, config: Config | CrossConfig) -> Objective:
        """The objective for a bi-encoder's config, or a cross-encoder's.

        Raises:
            ValueError: if it is not for such a model, or the examples have not what it needs.
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
        """What tells this source from another: the objective with its options, and the data."""
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
        """sha256 of the data set's size and of up to 1,000 of its rows, spread evenly."""
        size = len(self.examples)
        columns, labels = self.examples.rows(
            np.unique(np.linspace(0, size - 1, min(size, 1000)).astype(int))
        )
        content = json.dumps([size, columns, None if labels is None else labels.tolist()])
        return hashlib.sha256(content.encode()).hexdigest()


class Update(NamedTuple):
    """One update's place in the run and its examples."""

    epoch: int
    source: int
    indices: (
        np.ndarray
    )  # (rows,); with `accumulate` micro-batches, the i-th has rows i, i + accumulate, ...
    accumulate: int


class Collated(NamedTuple):
    """A batch's arrays and counts for the record.

    The arrays: `ids` (B, T, L) and `lengths` (B, T) int32, with `token_types` for pairs; or packed
    rows in their place; `labels` (B, ...); `hidden_places`, `targets` and `weights` (B, K) for
    masked language modelling.
    """

    arrays: dict[str, np.ndarray]
    num_tokens: int
    num_truncated: int
    num_texts: int


def plan(
    sources: Sequence[Source], objectives: Sequence[Objective], recipe: Recipe
) -> list[Update]:
    """All updates of a run, in order: a function of the sizes, the texts (for `no_duplicates`) and
    the recipe."""
    updates = []
    for epoch in range(recipe.epochs):
        groups = []
        for number, (source, learned) in enumerate(zip(sources, objectives, strict=True)):
            unique = learned.in_batch and learned.labels == "none" and learned.num_texts[0] > 1
            unique = unique if recipe.no_duplicates is None else recipe.no_duplicates
            batches = epoch_batches(
                len(source.examples),
                recipe.batch_size,
                seed=recipe.seed + number,
                epoch=epoch,
                texts=source.examples.texts if unique else None,
            )
            groups.append(_groups(batches, recipe.batch_size, recipe.accumulate))
        for number, group in mixed_batches(groups, how=recipe.mix, seed=recipe.seed, epoch=epoch):
            updates.append(Update(epoch, number, np.stack(group, axis=1).ravel(), len(group)))
    return updates[: recipe.max_steps]


def _groups(batches, batch_size, accumulate):
    """Lists of up to `accumulate` full batches; a smaller batch is an update of its own."""
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
    """The arrays of the examples at `indices`, padded to the ladder of lengths.

    Args:
        source, objective, tokenizer: as they are.
        indices: rows of the data set.
        pairs: an example's two texts are one sequence, as a cross-encoder reads them: T = 1, and
            `token_types`.
        packing: several texts in a row; see `jsbert.engine.packing`.
        seed, epoch: with an example's index they draw what masked language modelling hides.

    Raises:
        ValueError: for labels that the objective cannot take.
    """
    columns, labels = source.examples.rows(indices)
    rows = list(zip(*columns, strict=True))
    texts = rows if pairs else [text for row in rows for text in row]
    tokens = tokenizer(texts)
    longest = int(tokens.lengths.max(initial=1))
    ladder = [packed_length(longest)] if packing else training_lengths(tokenizer.max_length)
    length = next(length for length in ladder if length >= longest)
    arrays = pad(tokens, Batch(np.arange(len(texts)), len(texts), length))
    more = {}
    if objective.labels == "words":
        more = _hide_words(arrays, tokenizer, seed, epoch, indices)
        arrays["ids"] = more.pop("ids")
    if objective.reads_labels:
        more["labels"] = _labels(labels, objective, source, indices)
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
    if learned.labels in ("number", "class") and labels.ndim != 1:
        raise ValueError(
            f"{source.name}: the labels have shape {labels.shape}; {learned.kind} takes one "
            f"{learned.labels} an example"
        )
    if learned.labels == "class":
        is_right = np.isin(labels, np.arange(learned.num_classes))
        allowed = f"has {learned.num_classes} classes, 0 to {learned.num_classes - 1}"
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
    return np.asarray(labels, np.int32 if learned.labels == "class" else np.float32)


def _hide_words(arrays, tokenizer, seed, epoch, indices):
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
