"""Similarities and search against sentence_transformers.util on random input."""

import numpy as np
import pytest
from sentence_transformers import util as theirs

from jsbert import util as ours
from tests.parity.reference import largest_difference

GENERATOR = np.random.default_rng(11)
A = GENERATOR.standard_normal((37, 13)).astype(np.float32)
B = GENERATOR.standard_normal((53, 13)).astype(np.float32)
A[3] = 0
B[5] = 0
B[7] = A[7]


@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_similarities(name):
    mine, reference = getattr(ours, name), getattr(theirs, name)
    a, b = (
        A[:25],
        B[:25],
    )  # above 25 rows, torch.cdist computes by products, which is 1e-4 off for equal rows
    assert largest_difference(mine(a, b), reference(a, b)) <= 1e-5
    assert largest_difference(mine(A[0], B.tolist()), reference(A[0], B.tolist())) <= 1e-5
    pairwise = f"pairwise_{name}"
    assert (
        largest_difference(getattr(ours, pairwise)(A, B[:37]), getattr(theirs, pairwise)(A, B[:37]))
        <= 1e-5
    )


def test_half_precision_input():
    half = np.float16([[300, 400], [400, -300], [1, 2]])
    for name in ("cos_sim", "euclidean_sim"):
        assert (
            largest_difference(
                getattr(ours, name)(half, half),
                getattr(theirs, name)(half.astype(np.float32), half.astype(np.float32)),
            )
            <= 1e-5
        )


def test_normalize_and_truncate():
    import torch

    assert (
        largest_difference(
            ours.normalize_embeddings(A), theirs.normalize_embeddings(torch.tensor(A))
        )
        <= 1e-6
    )
    assert np.array_equal(ours.truncate_embeddings(A, 5), theirs.truncate_embeddings(A, 5))


@pytest.mark.parametrize("score_function", ["cos_sim", "dot_score"])
def test_semantic_search(score_function):
    got = ours.semantic_search(A, B, top_k=6, score_function=getattr(ours, score_function))
    wanted = theirs.semantic_search(A, B, top_k=6, score_function=getattr(theirs, score_function))
    for index, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if index != 3:  # the zero vector is equally far from all
            assert [entry["corpus_id"] for entry in a] == [entry["corpus_id"] for entry in b]
        assert [entry["score"] for entry in a] == pytest.approx(
            [entry["score"] for entry in b], abs=1e-5
        )


@pytest.mark.parametrize("top_k, max_pairs", [(100, 500_000), (4, 500_000), (100, 20)])
def test_paraphrase_mining_embeddings(top_k, max_pairs):
    import torch

    vectors = GENERATOR.standard_normal((60, 9)).astype(np.float32)
    got = ours.paraphrase_mining_embeddings(vectors, top_k=top_k, max_pairs=max_pairs)
    wanted = theirs.paraphrase_mining_embeddings(
        torch.tensor(vectors), top_k=top_k, max_pairs=max_pairs
    )
    assert [pair[1:] for pair in got] == [pair[1:] for pair in wanted]
    assert [pair[0] for pair in got] == pytest.approx([pair[0] for pair in wanted], abs=1e-5)


@pytest.mark.parametrize(
    "threshold, smallest, batch_size", [(0.75, 3, 1024), (0.4, 2, 16), (0.9, 5, 50)]
)
def test_community_detection(threshold, smallest, batch_size):
    centres = GENERATOR.standard_normal((9, 12))
    vectors = np.concatenate(
        [
            c + 0.35 * GENERATOR.standard_normal((n, 12))
            for n, c in zip(range(2, 29, 3), centres, strict=True)
        ]
    )
    vectors = GENERATOR.permutation(vectors).astype(np.float32)
    options = dict(threshold=threshold, min_community_size=smallest, batch_size=batch_size)
    got, wanted = (
        ours.community_detection(vectors, **options),
        theirs.community_detection(vectors, **options),
    )
    assert got == wanted
    assert len(got) > 2
