"""From data sets to the batches of a run: which examples make which update, and the arrays that they become."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsbert.batching import Batch, length_ladder, pack
from jsbert.data import Examples, epoch_batches, masked, mixed_batches
from jsbert.packing import packed
from jsbert.tokenizer import Tokenizer
from jsbert.train.objectives import BI_ENCODER, CROSS_ENCODER, Objective, objective
from jsbert.train.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set and what is learned from it.

    Attributes:
        examples: texts and labels, as `data.read_examples` returns them.
        objective: a name of `OBJECTIVES`, or what `objective(name, **options)` returns, or any function from a config
            to an `Objective`.
        name: told apart by it in records, where there are several.
    """

    examples: Examples
    objective: str | Callable[..., Objective]
    name: str = "train"

    def build(self, config: Any, *, pairs: bool) -> Objective:
        """The objective for a model's config; `pairs` for a cross-encoder's.

        Raises:
            ValueError: if it is not for such a model, or the examples have not what it needs.
        """
        make = objective(self.objective) if isinstance(self.objective, str) else self.objective
        kind = self.objective if isinstance(self.objective, str) else getattr(make, "keywords", {}).get("kind")
        if kind is not None and (kind in CROSS_ENCODER) != pairs:
            allowed = CROSS_ENCODER if pairs else BI_ENCODER
            raise ValueError(
                f"{self.name}: the objective {kind!r} is not for a {'cross' if pairs else 'bi'}-encoder; choose one of "
                f"{', '.join(allowed)}"
            )
        built = make(config, name=self.name)
        _check_examples(self.examples, built, self.name)
        return built

    def digest(self) -> str:
        """sha256 of the data set's size and of up to 1,000 of its rows, spread evenly."""
        size = len(self.examples)
        columns, labels = self.examples.rows(np.unique(np.linspace(0, size - 1, min(size, 1000)).astype(int)))
        content = json.dumps([size, columns, None if labels is None else labels.tolist()])
        return hashlib.sha256(content.encode()).hexdigest()


class Update(NamedTuple):
    """One update's place in the run and its examples."""

    epoch: int
    source: int
    indices: np.ndarray  # (rows,); with `accumulate` micro-batches, the i-th has rows i, i + accumulate, ...
    accumulate: int


class Collated(NamedTuple):
    """A batch's arrays and counts for the record.

    The arrays: `ids` (B, T, L) and `lengths` (B, T) int32, with `token_types` for pairs; or packed rows in their place;
    `labels` (B, ...); `hidden_places`, `targets` and `weights` (B, K) for masked language modelling.
    """

    arrays: dict[str, np.ndarray]
    num_tokens: int
    num_truncated: int
    num_texts: int


def plan(sources: Sequence[Source], objectives: Sequence[Objective], recipe: Recipe) -> list[Update]:
    """All updates of a run, in order: a function of the sizes, the texts (for `no_duplicates`) and the recipe."""
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
        pairs: an example's two texts are one sequence, as a cross-encoder reads them: T = 1, and `token_types`.
        packing: several texts in a row; see `jsbert.packing`.
        seed, epoch: with an example's index they draw what masked language modelling hides.

    Raises:
        ValueError: for labels that are no classes of the objective's.
    """
    columns, labels = source.examples.rows(indices)
    rows = list(zip(*columns, strict=True))
    texts = rows if pairs else [text for row in rows for text in row]
    tokens = tokenizer(texts)
    length = next(n for n in ladder(tokenizer.max_length) if n >= tokens.lengths.max(initial=1))
    arrays = pack(tokens, Batch(np.arange(len(texts)), len(texts), length))
    more = {}
    if objective.kind == "masked-lm":
        more = _hide_words(arrays, tokenizer, seed, epoch, indices)
        arrays["ids"] = more.pop("ids")
    if objective.labels != "none":
        more["labels"] = _labels(labels, objective, source, indices)
    lengths = arrays["lengths"].reshape(len(rows), -1)
    if packing:
        arrays = packed(**arrays)
    else:
        arrays = {name: array.reshape(*lengths.shape, *array.shape[1:]) for name, array in arrays.items()}
    arrays |= more | {"lengths": lengths}
    return Collated(arrays, int(tokens.lengths.sum()), len(tokens.truncated), len(texts))


@functools.lru_cache
def ladder(max_length: int) -> tuple[int, ...]:
    """The array lengths of training: those of `batching.length_ladder`, but no steps under 4, for a step of training
    takes long to compile."""
    return tuple(length for length in length_ladder(max_length) if length % 4 == 0 or length == max_length)


def _check_examples(examples, objective, name):
    fewest, most = objective.num_texts
    columns = len(examples.names)
    if columns < fewest or (most is not None and columns > most):
        wanted = f"{fewest}" if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
        raise ValueError(
            f"{name}: {objective.kind} takes {wanted} columns of texts; these examples have {columns}: "
            f"{', '.join(examples.names)}"
        )
    if not len(examples):
        raise ValueError(f"{name}: there are no examples")
    if objective.labels != "none" and examples.labels is None:
        raise ValueError(f"{name}: {objective.kind} needs labels ({objective.labels}), and these examples have none")


def _labels(labels, objective, source, indices):
    if objective.labels != "class":
        return np.asarray(labels, np.float32)
    wrong = np.flatnonzero(~np.isin(labels, np.arange(objective.num_classes)))
    if wrong.size:
        raise ValueError(
            f"{source.name}: example {indices[wrong[0]]} has the label {labels[wrong[0]]}; {objective.kind} has "
            f"{objective.num_classes} classes, 0 to {objective.num_classes - 1}"
        )
    return np.asarray(labels, np.int32)


def _hide_words(arrays, tokenizer, seed, epoch, indices):
    special = tokenizer.special_ids
    if "mask" not in special:
        raise ValueError("masked language modelling needs a tokenizer with a mask token, and this one has none")
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
    return {"ids": hidden.ids, "hidden_places": hidden.positions, "targets": hidden.targets, "weights": hidden.weights}
