"""What an objective is: a row of the table `OBJECTIVES`, and what the row becomes for a model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxtyping import Array, Float, Key, PyTree

from jsbert.inputs import check_choice
from jsbert.losses.in_batch import Loss

Batch = Mapping[str, Any]
Init = Callable[[Key[Array, ""]], PyTree]
Model = Literal["bi-encoder", "cross-encoder"]

LABELS: Mapping[str, str] = {
    "none": "no labels",
    "number": "a number an example",
    "class": "a class an example",
    "group": "a class an example, whose number can be any",
    "margins": "a teacher's margins or scores, as they are",
    "vector": "a teacher's vectors, as they are",
    "words": "no labels, because it hides words of the texts itself",
}
"""The kinds of labels, and what an objective with such labels takes."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A row of `OBJECTIVES`: what is particular to one objective.

    Attributes:
        loss: of `jsbert.losses`; marked by `losses.in_batch` if the examples of a batch meet in it.
            Its keyword-only arguments are options of the objective.
        num_texts, labels: as `Objective`'s.
        label_range: as `Objective`'s, with 0 to 1 within it: `jsbert train --label-range` scales
            labels of kind "number" to 0..1, and labels of no other kind.
        num_classes: how many classes, if the loss fixes that; None: the option `num_labels` says
            it.
        model: what the objective trains.
        make: `(config, loss, *, name, options) -> Objective`, for a loss with params or a forward
            pass of its own; None for others. Its options are options of the objective too.
    """

    loss: Loss
    num_texts: tuple[int, int | None] = (2, 2)
    labels: str = "number"
    label_range: tuple[float, float] | None = None
    num_classes: int | None = None
    model: Model = "bi-encoder"
    make: Callable[..., "Objective"] | None = None

    @property
    def counts_classes(self) -> bool:
        """Whether labels are classes and the option `num_labels` says how many."""
        return self.labels == "class" and self.num_classes is None


@dataclasses.dataclass(frozen=True)
class Objective:
    """Two pure functions of all params and a batch. Cut between them, a large batch can be computed
    in chunks.

    Attributes:
        kind: what it is called, in records.
        name: the data set's, under which params of its own are kept.
        forward: `(params, batch, keys) -> outputs`, each with a row an example. Examples do not
            meet here.
        loss: `(params, outputs, batch) -> (B,)`, one number an example.
        in_batch: whether examples meet in the loss.
        init: `(key) -> params` of the objective's own, kept at `params["objectives"][name]`; None
            if there are none.
        num_texts: columns of texts that it takes at least, and at most (None: any number).
        labels: a key of `LABELS`.
        num_classes: how many classes, if labels are classes.
        label_range: the lowest and the highest number that a label can be; None: any.
    """

    kind: str
    name: str
    forward: Callable[[PyTree, Batch, Key[Array, " rows"] | None], PyTree]
    loss: Callable[[PyTree, PyTree, Batch], Float[Array, " rows"]]
    in_batch: bool = False
    init: Init | None = None
    num_texts: tuple[int, int | None] = (2, 2)
    labels: str = "number"
    num_classes: int | None = None
    label_range: tuple[float, float] | None = None

    def __post_init__(self):
        check_choice("labels", self.labels, tuple(LABELS))

    @property
    def reads_labels(self) -> bool:
        """Whether the examples must have labels."""
        return self.labels not in ("none", "words")
