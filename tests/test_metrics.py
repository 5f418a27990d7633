"""Metrics computed by hand; parity/ compares with scipy and scikit-learn."""

import math

import numpy as np
import pytest

from jsbert import metrics


def test_correlations_by_hand():
    # deviations (-1, 0, 1) and (-1, 2, -1) are orthogonal; ranks of the second are 1.5, 3, 1.5
    assert metrics.pearson([1, 2, 3], [0, 3, 0]) == pytest.approx(0, abs=1e-15)
    assert metrics.pearson([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)
    assert metrics.spearman([1, 2, 3, 4], [1, 10, 100, 90]) == pytest.approx(
        0.8
    )  # 1 - 6 * 2 / (4 * 15)
    assert metrics.spearman([1, 2, 3], [5, 5, 9]) == pytest.approx(3**0.5 / 2)  # ranks 1.5, 1.5, 3


def test_correlation_stays_within_one_at_any_scale():
    x = np.array([0.1, 0.2, 0.4, 0.9])
    for scale in (1e-300, 1.0, 1e300):
        assert metrics.pearson(x, scale * x) == pytest.approx(1, abs=1e-15)
        assert metrics.pearson(x, -scale * x) == pytest.approx(-1, abs=1e-15)
        assert abs(metrics.pearson(x, scale * x)) <= 1


@pytest.mark.parametrize("y", [[0.1, 0.1, 0.1], [1, np.nan, 2], [1, np.inf, 2]], ids=str)
def test_correlation_with_a_constant_or_no_number_is_nan_without_a_warning(y):
    assert math.isnan(metrics.pearson([1, 2, 3], y))
    assert math.isnan(metrics.spearman([1, 2, 3], y)) or np.inf in y


def test_correlation_of_less_than_two_is_nan_and_of_unequal_columns_an_error():
    assert math.isnan(metrics.pearson([], []))
    assert math.isnan(metrics.spearman([1], [2]))
    with pytest.raises(ValueError, match="shapes \\(2,\\) and \\(3,\\)"):
        metrics.spearman([1, 2], [1, 2, 3])


def test_best_accuracy_by_hand():
    labels, scores = [1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.1]
    assert metrics.best_accuracy(labels, scores) == (
        5 / 6,
        pytest.approx(0.75),
    )  # as good as 0.55, and higher
    assert metrics.best_accuracy([1, 1], [3, 2]) == (
        1,
        2,
    )  # the last score itself, because no score is lower


def test_no_threshold_parts_equal_scores():
    assert metrics.best_accuracy([1, 0, 0], [0.5, 0.5, 0.25]).accuracy == pytest.approx(2 / 3)
    assert metrics.best_f1([1, 0, 0], [0.5, 0.5, 0.25])[:3] == pytest.approx((2 / 3, 1 / 2, 1))
    assert metrics.average_precision([1, 0, 0], [0.5, 0.5, 0.25]) == 0.5


def test_calling_all_pairs_dissimilar_may_be_best():
    accuracy, threshold = metrics.best_accuracy([0, 0, 1], np.float32([0.9, 0.8, 0.1]))
    assert (accuracy, threshold) == (
        pytest.approx(2 / 3),
        float(np.nextafter(np.float32(0.9), np.float32(1))),
    )


def test_a_threshold_between_neighbouring_numbers_is_the_upper_one():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    for best in (metrics.best_accuracy, metrics.best_f1):
        assert best([1, 0], np.array([high, low])).threshold == high


def test_best_f1_counts_positives_that_were_never_found():
    assert metrics.best_f1([1, 0], [2, 1], num_positives=3) == (0.5, 1, pytest.approx(1 / 3), 1.5)
    assert metrics.average_precision([1, 0, 1], [3, 2, 1], num_positives=4) == pytest.approx(
        (1 + 2 / 3) / 4
    )


def test_no_positive_gives_zero():
    assert metrics.best_f1([0, 0], [2, 1]) == (0, 0, 0, 0)
    assert metrics.average_precision([0, 0], [2, 1]) == 0
    assert metrics.matthews([0, 0], [0, 1]) == 0


def test_f1_of_classes_by_hand():
    # F1 of class 0: 2 right of 3 actual and 2 predicted: 0.8. Class 1: 1 of 1, 2 predicted: 2/3.
    # Class 5 is never predicted: 0.
    assert metrics.f1_scores([0, 0, 0, 1, 5], [0, 0, 1, 1, 7]) == pytest.approx(
        ((0.8 + 2 / 3) / 4, 0.6, (3 * 0.8 + 2 / 3) / 5)
    )


@pytest.mark.parametrize(
    "labels, scores, message",
    [
        ([1, 2], [0.1, 0.2], "labels hold 2; they must be 0 or 1"),
        ([1, 0], [0.1, np.nan], "NaN or infinity"),
        ([1, 0], [0.1], "columns of one length"),
        ([], [], "columns of one length"),
    ],
)
def test_scores_that_cannot_be_parted_are_errors(labels, scores, message):
    for function in (metrics.best_accuracy, metrics.best_f1, metrics.average_precision):
        with pytest.raises(ValueError, match=message):
            function(labels, scores)


RELEVANT = [[False, True, True, False], [True, False, False, True], [False, False, False, False]]
NUM_RELEVANT = [3, 2, 1]


def test_ranked_lists_by_hand():
    assert metrics.hit_at_k(RELEVANT, 1).tolist() == [0, 1, 0]
    assert metrics.precision_at_k(RELEVANT, 2).tolist() == [0.5, 0.5, 0]
    assert metrics.recall_at_k(RELEVANT, NUM_RELEVANT, 3) == pytest.approx([2 / 3, 1 / 2, 0])
    assert metrics.reciprocal_rank_at_k(RELEVANT, 4).tolist() == [0.5, 1, 0]
    assert metrics.average_precision_at_k(RELEVANT, NUM_RELEVANT, 4) == pytest.approx(
        [(1 / 2 + 2 / 3) / 3, (1 + 2 / 4) / 2, 0]
    )
    best = [1 + 1 / math.log2(3) + 1 / 2, 1 + 1 / math.log2(3)]
    assert metrics.ndcg_at_k(RELEVANT, NUM_RELEVANT, 4) == pytest.approx(
        [(1 / math.log2(3) + 1 / 2) / best[0], (1 + 1 / math.log2(5)) / best[1], 0]
    )


def test_a_list_shorter_than_k_goes_on_with_irrelevant_results():
    longer = np.pad(RELEVANT, ((0, 0), (0, 6)))
    for function, counts in ((metrics.hit_at_k, ()), (metrics.precision_at_k, ()), (metrics.reciprocal_rank_at_k, ()),
                             (metrics.recall_at_k, (NUM_RELEVANT,)), (metrics.ndcg_at_k, (NUM_RELEVANT,)),
                             (metrics.average_precision_at_k, (NUM_RELEVANT,))):  # fmt: skip
        assert function(RELEVANT, *counts, 10).tolist() == function(longer, *counts, 10).tolist()


def test_more_relevant_documents_than_k_can_still_score_one():
    assert metrics.ndcg_at_k([[True, True]], [50], 2).tolist() == [1]
    assert metrics.average_precision_at_k([[True, True]], [50], 2).tolist() == [1]


def test_a_query_without_relevant_documents_scores_zero():
    for function in (metrics.recall_at_k, metrics.ndcg_at_k, metrics.average_precision_at_k):
        assert function([[False, False]], [0], 2).tolist() == [0]
    assert metrics.ndcg([0, 0], [2, 1], k=2) == metrics.reciprocal_rank([0, 0], [2, 1], k=2) == 0


def test_the_order_in_which_equal_scores_are_given_earns_nothing():
    for order in (slice(None), slice(None, None, -1)):
        relevant, scores = (
            np.array([1, 0, 0, 0, 1])[order],
            np.array([0.5, 0.5, 0.5, 0.7, 0.1])[order],
        )
        assert metrics.reciprocal_rank(relevant, scores, k=5) == 1 / 4
        assert metrics.reciprocal_rank(relevant, scores, k=3) == 0
        # The first three share ranks 2 to 4; two of these ranks are within k = 3.
        wanted = (1 / math.log2(3) + 1 / 2) / 3 / (1 + 1 / math.log2(3))
        assert metrics.ndcg(relevant, scores, k=3) == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool, np.float16])
def test_scores_rank_alike_in_every_dtype(dtype):
    scores = np.array([np.iinfo(dtype).min if dtype == np.int8 else 0, 1, 0], dtype)
    assert metrics.ndcg([0, 1, 0], scores, k=3) == 1
    assert (
        metrics.ndcg(np.uint8([1, 0, 0]), scores, k=1)
        == metrics.reciprocal_rank([1, 0, 0], scores, k=1)
        == 0
    )


def test_ranking_inputs_are_checked():
    with pytest.raises(ValueError, match="one row of ranks a query"):
        metrics.hit_at_k([True, False], 1)
    with pytest.raises(ValueError, match="k is 0"):
        metrics.hit_at_k(RELEVANT, 0)
    with pytest.raises(ValueError, match="shapes \\(1,\\) and \\(2,\\)"):
        metrics.ndcg([1], [1, 2], k=1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        metrics.reciprocal_rank([1, 0], [np.nan, 2], k=1)
