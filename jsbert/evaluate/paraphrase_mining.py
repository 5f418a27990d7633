"""Are the closest pairs of a set of texts its duplicates?"""

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np

from jsbert.evaluate.evaluator import Evaluator, Outcome, embed
from jsbert.metrics import average_precision, best_f1
from jsbert.search import close_pairs


class ParaphraseMiningEvaluator(Evaluator):
    """How many of the pairs with the highest cosines are duplicates.

    Keys: average_precision, the primary metric; f1, precision, recall and threshold at the best F1.
    Duplicates that are not among the mined pairs count as missed.
    Reference: sentence-transformers' ParaphraseMiningEvaluator.
    """

    def __init__(
        self,
        sentences_map: Mapping[str, str],
        duplicates_list: Iterable[tuple[str, str]] | None = None,
        duplicates_dict: Mapping[str, Mapping[str, bool]] | None = None,
        add_transitive_closure: bool = False,
        query_chunk_size: int = 5000,
        corpus_chunk_size: int = 100_000,
        max_pairs: int = 500_000,
        top_k: int = 100,
        show_progress_bar: bool | None = False,
        batch_size: int | None = None,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ):
        """Collect the duplicates.

        Args:
            sentences_map: texts by id.
            duplicates_list: pairs of ids. A pair with an id that is not in `sentences_map` is left
                out.
            duplicates_dict: `duplicates_dict[a][b]` is true if a and b are duplicates; either
                direction suffices.
            add_transitive_closure: whether duplicates of duplicates are duplicates too.
            query_chunk_size, corpus_chunk_size: accepted and not used.
            max_pairs: the largest number of pairs that are mined; see `search.close_pairs`.
            top_k: the number of neighbours of each text that may form pairs; see
                `search.close_pairs`.
            show_progress_bar, batch_size, truncate_dim: as for `encode`.
            name, write_csv: see `Evaluator`.
        """
        if len(sentences_map) < 2:
            raise ValueError(
                f"sentences_map holds {len(sentences_map)} texts; pairs need at least 2"
            )
        self.name, self.write_csv = name, write_csv
        self.max_pairs, self.top_k = max_pairs, top_k
        self.sentences = list(sentences_map.values())
        self._options = dict(
            show_progress_bar=show_progress_bar, batch_size=batch_size, truncate_dim=truncate_dim
        )
        # Collect the pairs of ids, then number each pair by its two places, lower place first.
        pairs = [
            (a, b) for a, b in duplicates_list or () if a in sentences_map and b in sentences_map
        ]
        pairs += [
            (a, b)
            for a, row in (duplicates_dict or {}).items()
            for b, is_duplicate in row.items()
            if is_duplicate
        ]
        if add_transitive_closure:
            pairs = [pair for group in _groups(pairs) for pair in combinations(group, 2)]
        place = {key: index for index, key in enumerate(sentences_map)}
        codes = [
            self._code(*sorted((place[a], place[b])))
            for a, b in pairs
            if a != b and a in place and b in place
        ]
        self._duplicates = np.unique(np.array(codes, np.int64))

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("paraphrase_mining_evaluation")

    def _outcome(self, model):
        embeddings = embed(model, self.sentences, **self._options)
        scores, firsts, seconds = close_pairs(embeddings, k=self.top_k, max_pairs=self.max_pairs)
        found = np.isin(self._code(firsts.astype(np.int64), seconds), self._duplicates)
        num_positives = len(self._duplicates)
        best = best_f1(found, scores, num_positives=num_positives)
        columns = {
            "precision": best.precision,
            "recall": best.recall,
            "f1": best.f1,
            "threshold": best.threshold,
            "average_precision": average_precision(found, scores, num_positives=num_positives),
        }
        order = ("average_precision", "f1", "precision", "recall", "threshold")
        return Outcome({key: columns[key] for key in order}, "average_precision", columns)

    def _code(self, first, second):
        """One number for a pair of places, with first < second."""
        return first * len(self.sentences) + second


def _groups(pairs):
    """Yield the sets of ids that are connected by pairs, directly or through other ids."""
    neighbours = {}
    for a, b in pairs:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    while neighbours:
        group, rest = set(), [next(iter(neighbours))]
        while rest:
            key = rest.pop()
            group.add(key)
            rest += neighbours.pop(key, set()) - group
        yield group
