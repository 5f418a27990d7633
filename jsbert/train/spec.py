"""What an objective is: `Spec`, a row of the table `OBJECTIVES`, and `Objective`, the objective for
one model."""

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
"""The kinds of labels, and the labels that an objective of each kind takes, in words."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A row of `OBJECTIVES`: the facts of one objective.

    Attributes:
        loss: a function of `jsbert.losses`, with the decorator `losses.in_batch` if the examples of
            a batch see each other in the loss. Its keyword-only arguments are options of the
            objective.
        num_texts, labels: as in `Objective`.
        label_range: as in `Objective`. It includes 0 to 1, because `jsbert train --label-range`
            scales labels of kind "number" to 0 to 1. Labels of other kinds are not scaled.
        num_classes: the number of classes, if the loss determines it; None: the option `num_labels`
            says it.
        model: the kind of model that the objective trains.
        make: `(config, loss, *, name, options) -> Objective`, for a loss with its own params or its
            own forward pass; None for other losses. Its options are options of the objective too.
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
    """The objective for one model: `forward` and `loss`, two pure functions of all params and a
    batch. Because `forward` is separate, a large batch can be computed in chunks.

    Attributes:
        kind: the name of the objective in records.
        name: the name of the data set; the objective's own params have this key.
        forward: `(params, batch, keys) -> outputs`, each output with one row for each example. The
            examples do not see each other here.
        loss: `(params, outputs, batch) -> (B,)`, one number for each example.
        in_batch: whether the examples of a batch see each other in the loss.
        init: `(key) -> params`: makes the objective's own params, which are at
            `params["objectives"][name]`; None if there are none.
        num_texts: the smallest and the largest number of columns of texts (None: any number).
        labels: a key of `LABELS`.
        num_classes: the number of classes, if labels are classes.
        label_range: the lowest and the highest label; None: any number.
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
