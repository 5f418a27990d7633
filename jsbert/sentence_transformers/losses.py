"""The peer's `losses`: each names an objective of `jsbert.train`, with its options.

A loss takes the model first, as the peer's does. The trainer gives the objective its model, so the
argument has no other use.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from jsbert.sentence_transformers.missing import raise_for, refuse
from jsbert.similarity import SIMILARITIES
from jsbert.train import objective

Factor = float | int


class SiameseDistanceMetric(enum.StrEnum):
    """The distance of a pair. Each member is also the name that jsbert takes."""

    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    COSINE_DISTANCE = "cosine"


class TripletDistanceMetric(enum.StrEnum):
    """The distance of a triplet's texts. Each member is also the name that jsbert takes."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss by name.

    Attributes:
        kind: the objective's name in `jsbert.train.OBJECTIVES`.
        options: the objective's options.
        chunk_size: examples computed at a time; None for the whole batch.
        guide: a model whose vectors of the texts are the labels; the trainer computes the vectors
            once, before the training.
    """

    kind: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    chunk_size: int | None = None
    guide: Any = None

    def objective(self) -> Callable[..., Any]:
        """Return the objective for `jsbert.train.Source`."""
        return objective(self.kind, **self.options)


class CosineSimilarityLoss(Loss):
    """Squared difference of the cosine and the label: "cosine"."""

    def __init__(self, model: Any, loss_fct: Any = None, cos_score_transformation: Any = None):
        functions = {"loss_fct": loss_fct, "cos_score_transformation": cos_score_transformation}
        refuse("CosineSimilarityLoss", functions, dict.fromkeys(functions, _OWN))
        super().__init__("cosine")


class SoftmaxLoss(Loss):
    """The paper's classification of pairs: "softmax"."""

    def __init__(
        self,
        model: Any,
        embedding_dimension: int,
        num_labels: int,
        concatenation_sent_rep: bool = True,
        concatenation_sent_difference: bool = True,
        concatenation_sent_multiplication: bool = False,
        loss_fct: Any = None,
    ):
        refuse("SoftmaxLoss", {"loss_fct": loss_fct}, {"loss_fct": _OWN})
        parts = {
            ("u", "v"): concatenation_sent_rep,
            ("|u-v|",): concatenation_sent_difference,
            ("u*v",): concatenation_sent_multiplication,
        }
        concatenation = sum((names for names, is_part in parts.items() if is_part), ())
        super().__init__("softmax", {"num_labels": num_labels, "concatenation": concatenation})


class MultipleNegativesRankingLoss(Loss):
    """In-batch negatives: "multiple-negatives-ranking". With a `mini_batch_size`, so many examples
    are computed at a time, and the gradient is that of the whole batch."""

    def __init__(
        self,
        model: Any,
        scale: Factor = 20.0,
        similarity_fct: Callable | str = "cosine",
        gather_across_devices: bool = False,
        directions: Sequence[str] = ("query_to_doc",),
        partition_mode: str = "joint",
        hardness_mode: str | None = None,
        hardness_strength: float = 0.0,
        *,
        mini_batch_size: int | None = None,
    ):
        symmetric = tuple(directions) == ("query_to_doc", "doc_to_query")
        if tuple(directions) != ("query_to_doc",) and not symmetric:
            raise ValueError(
                f"directions={tuple(directions)} is not supported; give ('query_to_doc',) or "
                "('query_to_doc', 'doc_to_query')"
            )
        if symmetric != (partition_mode == "per_direction"):
            raise ValueError(
                f"partition_mode={partition_mode!r} is not supported with these directions; give "
                "'per_direction' with both directions, 'joint' with one"
            )
        if hardness_mode is not None or hardness_strength:
            raise ValueError(
                f"hardness_mode={hardness_mode!r} is not supported; leave it out, or mine "
                "hard negatives with mine_hard_negatives"
            )
        options = {"scale": float(scale), "similarity": _similarity(similarity_fct)}
        super().__init__(
            "multiple-negatives-ranking", options | {"symmetric": symmetric}, mini_batch_size
        )


_BOTH_DIRECTIONS: dict[str, Any] = {
    "directions": ("query_to_doc", "doc_to_query"),
    "partition_mode": "per_direction",
}


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """In-batch negatives of the anchors and of the positives."""

    def __init__(self, model: Any, scale: Factor = 20.0, similarity_fct: Callable | str = "cosine"):
        super().__init__(model, scale, similarity_fct, **_BOTH_DIRECTIONS)


class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """In-batch negatives of a large batch, in the memory of `mini_batch_size` examples."""

    def __init__(
        self,
        model: Any,
        scale: Factor = 20.0,
        similarity_fct: Callable | str = "cosine",
        mini_batch_size: int = 32,
    ):
        super().__init__(model, scale, similarity_fct, mini_batch_size=mini_batch_size)


class CachedMultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """In-batch negatives of the anchors and of the positives of a large batch, in the memory of
    `mini_batch_size` examples."""

    def __init__(
        self,
        model: Any,
        scale: Factor = 20.0,
        similarity_fct: Callable | str = "cosine",
        mini_batch_size: int = 32,
    ):
        super().__init__(
            model, scale, similarity_fct, mini_batch_size=mini_batch_size, **_BOTH_DIRECTIONS
        )


class GISTEmbedLoss(Loss):
    """In-batch negatives that a guide chooses: "guided-negatives-ranking"."""

    def __init__(
        self,
        model: Any,
        guide: Any,
        temperature: Factor = 0.01,
        margin_strategy: str = "absolute",
        margin: Factor = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
        *,
        mini_batch_size: int | None = None,
    ):
        options = {
            "temperature": float(temperature),
            "margin_strategy": margin_strategy,
            "margin": float(margin),
            "contrast_anchors": contrast_anchors,
            "contrast_positives": contrast_positives,
        }
        super().__init__("guided-negatives-ranking", options, mini_batch_size, guide)


class CachedGISTEmbedLoss(GISTEmbedLoss):
    """The same for a large batch, in the memory of `mini_batch_size` examples."""

    def __init__(
        self, model: Any, guide: Any, temperature: Factor = 0.01, mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None, show_progress_bar: bool = False,
        margin_strategy: str = "absolute", margin: Factor = 0.0, contrast_anchors: bool = True,
        contrast_positives: bool = True, gather_across_devices: bool = False,
    ):  # fmt: skip
        given = {"mini_batch_num_tokens": mini_batch_num_tokens}
        refuse("CachedGISTEmbedLoss", given, {"mini_batch_num_tokens": "give mini_batch_size"})
        super().__init__(
            model, guide, temperature, margin_strategy, margin, contrast_anchors,
            contrast_positives, mini_batch_size=mini_batch_size,
        )  # fmt: skip


class TripletLoss(Loss):
    """Anchor, positive and negative, with a margin: "triplet"."""

    def __init__(
        self,
        model: Any,
        distance_metric: str = TripletDistanceMetric.EUCLIDEAN,
        triplet_margin: Factor = 5,
    ):
        distance = TripletDistanceMetric(distance_metric)
        super().__init__("triplet", _with_margin(distance, triplet_margin))


class ContrastiveLoss(Loss):
    """Pairs labelled 0 and 1, with a margin: "contrastive"."""

    def __init__(
        self,
        model: Any,
        distance_metric: str = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: Factor = 0.5,
        size_average: bool = True,
    ):
        if not size_average:
            raise ValueError("size_average=False is not supported; losses are averaged")
        distance = SiameseDistanceMetric(distance_metric)
        super().__init__("contrastive", _with_margin(distance, margin))


class OnlineContrastiveLoss(Loss):
    """The hard ones of the pairs of a batch: "online-contrastive"."""

    def __init__(
        self,
        model: Any,
        distance_metric: str = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: Factor = 0.5,
    ):
        distance = SiameseDistanceMetric(distance_metric)
        super().__init__("online-contrastive", _with_margin(distance, margin))


class CoSENTLoss(Loss):
    """The order of the pairs' cosines: "cosent"."""

    def __init__(self, model: Any, scale: Factor = 20.0, similarity_fct: Callable | str = "cosine"):
        if _similarity(similarity_fct) != "cosine":
            raise ValueError("similarity_fct is not supported; the cosine is used")
        super().__init__("cosent", {"scale": float(scale)})


class AnglELoss(Loss):
    """The order of the pairs' angles: "angle"."""

    def __init__(self, model: Any, scale: Factor = 20.0):
        super().__init__("angle", {"scale": float(scale)})


class MarginMSELoss(Loss):
    """A teacher's margins between positive and negatives: "margin-mse"."""

    def __init__(self, model: Any, similarity_fct: Callable | str = "dot"):
        super().__init__("margin-mse", {"similarity": _similarity(similarity_fct)})


class MSELoss(Loss):
    """A teacher's vectors: "embedding-mse"."""

    def __init__(self, model: Any, projection_dim: int | None = None):
        refuse("MSELoss", {"projection_dim": projection_dim}, {"projection_dim": "leave it out"})
        super().__init__("embedding-mse")


class BatchHardTripletLossDistanceFunction(enum.StrEnum):
    """The distance of the triplets of a batch. The members have the names of the peer's
    functions."""

    cosine_distance = "cosine"
    eucledian_distance = "euclidean"  # the peer's older spelling
    euclidean_distance = "euclidean"


class _BatchTriplet(Loss):
    """A loss of a batch of single texts with classes, with a margin."""

    KIND: ClassVar[str]

    def __init__(
        self,
        model: Any,
        distance_metric: str = BatchHardTripletLossDistanceFunction.euclidean_distance,
        margin: Factor = 5,
    ):
        distance = BatchHardTripletLossDistanceFunction(distance_metric)
        super().__init__(self.KIND, _with_margin(distance, margin))


class BatchAllTripletLoss(_BatchTriplet):
    """All triplets of a batch of single texts with classes: "batch-all-triplet"."""

    KIND = "batch-all-triplet"


class BatchHardTripletLoss(_BatchTriplet):
    """Each text's farthest positive and nearest negative: "batch-hard-triplet"."""

    KIND = "batch-hard-triplet"


class BatchSemiHardTripletLoss(_BatchTriplet):
    """The nearest negative that is farther than the positive: "batch-semi-hard-triplet"."""

    KIND = "batch-semi-hard-triplet"


class BatchHardSoftMarginTripletLoss(Loss):
    """The hard triplets without a margin: "batch-hard-soft-margin-triplet"."""

    def __init__(
        self,
        model: Any,
        distance_metric: str = BatchHardTripletLossDistanceFunction.euclidean_distance,
    ):
        distance = BatchHardTripletLossDistanceFunction(distance_metric)
        super().__init__("batch-hard-soft-margin-triplet", {"distance": str(distance)})


class DistillKLDivLoss(Loss):
    """A teacher's scores of a query's candidates: "kl-distillation"."""

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable | str = "dot",
        temperature: Factor = 1.0,
        student_temperature: Factor | None = None,
        teacher_temperature: Factor | None = None,
    ):
        student = temperature if student_temperature is None else student_temperature
        teacher = temperature if teacher_temperature is None else teacher_temperature
        super().__init__(
            "kl-distillation",
            {
                "similarity": _similarity(similarity_fct),
                "temperature": float(student),
                "teacher_temperature": float(teacher),
            },
        )


class GlobalOrthogonalRegularizationLoss(Loss):
    """Texts of different examples are made orthogonal: "global-orthogonal-regularization"."""

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable | str = "cosine",
        mean_weight: Factor | None = 1.0,
        second_moment_weight: Factor | None = 1.0,
        aggregation: str = "mean",
    ):
        super().__init__(
            "global-orthogonal-regularization",
            {
                "similarity": _similarity(similarity_fct),
                "mean_weight": float(mean_weight or 0),
                "second_moment_weight": float(second_moment_weight or 0),
                "aggregation": aggregation,
            },
        )


class MatryoshkaLoss(Loss):
    """Another loss at several widths of the vectors."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[Factor] | None = None,
        n_dims_per_step: int = -1,
    ):
        if n_dims_per_step != -1:
            raise ValueError(f"n_dims_per_step={n_dims_per_step} is not supported; all are used")
        options = {**loss.options, "matryoshka_dims": tuple(matryoshka_dims)}
        if matryoshka_weights is not None:
            options["matryoshka_weights"] = tuple(map(float, matryoshka_weights))
        super().__init__(loss.kind, options, loss.chunk_size, loss.guide)


class AdaptiveLayerLoss(Loss):
    """Another loss at each layer of the encoder.

    The peer draws `n_layers_per_step` of the layers before the last one at each step. Here all of
    them count, with the weights that they have in the peer's loss on average.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        n_layers_per_step: int = 1,
        last_layer_weight: Factor = 1.0,
        prior_layers_weight: Factor = 1.0,
        kl_div_weight: Factor = 1.0,
        kl_temperature: Factor = 0.3,
        layer_weighting: Callable | str = "uniform",
    ):
        if not isinstance(layer_weighting, str):
            raise ValueError("layer_weighting is a function; give 'uniform', 'log' or 'linear'")
        # The first term is a mean over the drawn layers, and so the same on average. The KL term is
        # a sum over them.
        share = _share(n_layers_per_step, model.config.encoder.num_layers)
        layers = {
            "last_layer_weight": float(last_layer_weight),
            "prior_layers_weight": float(prior_layers_weight),
            "kl_div_weight": float(share * kl_div_weight),
            "kl_temperature": float(kl_temperature),
            "layer_weighting": layer_weighting,
        }
        options = {**loss.options, "adaptive_layers": layers}
        super().__init__(loss.kind, options, loss.chunk_size, loss.guide)


class Matryoshka2dLoss(AdaptiveLayerLoss):
    """Another loss at each layer of the encoder, and at several widths of the vectors.

    The peer draws layers and `n_dims_per_step` widths at each step. Here all of them count, with
    the weights that they have in the peer's loss on average.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[Factor] | None = None,
        n_layers_per_step: int = 1,
        n_dims_per_step: int = 1,
        last_layer_weight: Factor = 1.0,
        prior_layers_weight: Factor = 1.0,
        kl_div_weight: Factor = 1.0,
        kl_temperature: Factor = 0.3,
        layer_weighting: Callable | str = "uniform",
    ):
        share = _share(n_dims_per_step, len(matryoshka_dims))
        weights = [1.0] * len(matryoshka_dims) if matryoshka_weights is None else matryoshka_weights
        nested = MatryoshkaLoss(model, loss, matryoshka_dims, [share * w for w in weights])
        super().__init__(
            model, nested, n_layers_per_step, last_layer_weight, prior_layers_weight,
            kl_div_weight, kl_temperature, layer_weighting,
        )  # fmt: skip


def _share(drawn: int, all_there_are: int) -> float:
    """Return the share of layers or widths that the peer draws at each step."""
    return drawn / all_there_are if 0 < drawn < all_there_are else 1.0


def _with_margin(distance: str, margin: Factor) -> dict[str, Any]:
    return {"distance": str(distance), "margin": float(margin)}


def _similarity(function: Callable | str) -> str:
    """Return the name of a similarity, given as a name or as one of the functions of `util`."""
    for name, functions in SIMILARITIES.items():
        if function == name or function in functions:
            return name
    raise ValueError(
        f"similarity_fct={function!r:.60} is not supported; give cos_sim or dot_score of "
        "jsbert.sentence_transformers.util"
    )


_OWN = "write a function of jsbert.losses' form, and use jsbert.train.of_embeddings"

__getattr__ = raise_for(
    __name__,
    dict.fromkeys(
        [
            "ContrastiveTensionDataLoader",
            "ContrastiveTensionLoss", "ContrastiveTensionLossInBatchNegatives",
            "DenoisingAutoEncoderLoss", "EmbedDistillLoss", "MegaBatchMarginLoss",
        ],
        f"jsbert.losses has what there is; or {_OWN}",
    ),
)  # fmt: skip
