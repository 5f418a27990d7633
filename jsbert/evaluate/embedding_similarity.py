"""Semantic textual similarity: do similarities of vectors agree with people's scores?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from jsbert.evaluate.evaluator import (
    Evaluator,
    Outcome,
    check_columns,
    embed_pairs,
    largest,
    pairwise,
    similarity_names,
)
from jsbert.inputs import check_choice
from jsbert.metrics import pearson, spearman
from jsbert.quantization import PRECISIONS, Precision, quantize_embeddings


@dataclass(repr=False, eq=False)
class EmbeddingSimilarityEvaluator(Evaluator):
    """Pearson's and Spearman's correlation of the similarities of pairs with their scores.

    Keys: pearson_{s} and spearman_{s} for each similarity s; with several similarities also
    pearson_max and spearman_max. A correlation is NaN if the scores or the similarities are all
    equal. Primary: the spearman of `main_similarity`; by default spearman_{s} of the only
    similarity, or spearman_max.

    Args:
        sentences1, sentences2: the pairs.
        scores: how similar the texts of each pair are, in any range.
        batch_size: as for `encode`.
        main_similarity: the similarity of the primary metric.
        similarity_fn_names: "cosine", "dot", "euclidean", "manhattan"; by default the model's.
        name: see `Evaluator`.
        show_progress_bar: as for `encode`.
        write_csv: see `Evaluator`.
        precision: scale the vectors to length 1 first, and code them unless it is "float32"; see
            `jsbert.quantization`. The ranges of "int8" and "uint8" are those of all pairs. Bits are
            compared as numbers 0 and 1. None: do not scale.
        truncate_dim: as for `encode`.

    Reference: sentence-transformers' EmbeddingSimilarityEvaluator.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    scores: Sequence[float]
    batch_size: int | None = None
    main_similarity: str | None = None
    similarity_fn_names: Sequence[str] | None = None
    name: str = ""
    show_progress_bar: bool | None = False
    write_csv: bool = True
    precision: Precision | None = None
    truncate_dim: int | None = None

    def __post_init__(self):
        check_columns(sentences1=self.sentences1, sentences2=self.sentences2, scores=self.scores)
        check_choice("precision", self.precision, (*PRECISIONS, None))
        similarity_names(self.similarity_fn_names, self.main_similarity)

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named(
            "similarity_evaluation",
            (f"_{self.precision}" if self.precision else "") + "_results.csv",
        )

    def _outcome(self, model):
        scaled = self.precision is not None
        first, second = embed_pairs(
            model, self.sentences1, self.sentences2, normalize_embeddings=scaled, **self._encoding
        )
        if self.precision not in (None, "float32"):
            coded = _coded(np.concatenate([first, second]), self.precision)
            first, second = coded[: len(first)], coded[len(first) :]
        names = similarity_names(self.similarity_fn_names, self.main_similarity) or [
            model.similarity_fn_name
        ]
        metrics, columns = {}, {}
        for name in names:
            found = pairwise(name, first, second)
            for kind, correlation in (("pearson", pearson), ("spearman", spearman)):
                metrics[f"{kind}_{name}"] = columns[f"{name}_{kind}"] = correlation(
                    self.scores, found
                )
        if len(names) > 1:
            for kind in ("pearson", "spearman"):
                metrics[f"{kind}_max"] = largest([metrics[f"{kind}_{name}"] for name in names])
        main = self.main_similarity or ("max" if len(names) > 1 else names[0])
        return Outcome(metrics, f"spearman_{main}", columns)


def _coded(vectors, precision):
    """The codes of the vectors as float32; of bits the bits."""
    codes = np.asarray(quantize_embeddings(vectors, precision, "batch"))
    if precision == "binary":
        codes = (codes.astype(np.int16) + 128).astype(np.uint8)
    if precision in ("binary", "ubinary"):
        codes = np.unpackbits(codes, axis=1)
    return codes.astype(np.float32)


def sts_subsets(
    subsets: Mapping[str, tuple[Sequence[str], Sequence[str], Sequence[float]]],
    *,
    name: str = "all",
    **options: Any,
) -> EmbeddingSimilarityEvaluator:
    """The evaluator of several subsets, such as the genres of STS12: one correlation over the pairs
    of all subsets.

    Args:
        subsets: (sentences1, sentences2, scores) by name; the scores of all subsets have one range.
        name: see `Evaluator`.
        **options: the options of `EmbeddingSimilarityEvaluator`.

    Raises:
        ValueError: if the columns of a subset have different lengths; the message names the subset.
    """
    if not subsets:
        raise ValueError("subsets is empty; give at least one (sentences1, sentences2, scores)")
    for subset, columns in subsets.items():
        names = (f"{subset}'s sentences1", f"{subset}'s sentences2", f"{subset}'s scores")
        check_columns(**dict(zip(names, columns, strict=True)))
    first, second, scores = (
        list(chain.from_iterable(column)) for column in zip(*subsets.values(), strict=True)
    )
    return EmbeddingSimilarityEvaluator(first, second, scores, name=name, **options)
