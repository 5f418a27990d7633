"""`SimilarityFunction`: the names of the similarities as an enumeration."""

import enum
from collections.abc import Callable

from jsbert.similarity import SIMILARITIES


class SimilarityFunction(enum.StrEnum):
    """A similarity. Each member is also the string that jsbert takes, such as "cosine"."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(similarity_function: "str | SimilarityFunction") -> Callable:
        """Return the function of two batches that gives a matrix.

        Raises:
            ValueError: for an unknown name.
        """
        return SIMILARITIES[SimilarityFunction(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: "str | SimilarityFunction") -> Callable:
        """Return the function of two batches that compares row i with row i.

        Raises:
            ValueError: for an unknown name.
        """
        return SIMILARITIES[SimilarityFunction(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """Return the names."""
        return [member.value for member in SimilarityFunction]
