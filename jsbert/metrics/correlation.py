"""Correlations of two columns of numbers."""

import numpy as np
from scipy.stats import rankdata


def pearson(x, y) -> float:
    """Pearson's linear correlation of two columns (N,), -1 to 1; NaN if a column is constant, not
    finite or shorter than 2.

    >>> pearson([1, 2, 3], [3, 5, 7])
    1.0
    """
    x, y = _columns(x, y)
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    # Compare the numbers themselves: rounding of the mean would leave a spread in a constant.
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.clip(_direction(x) @ _direction(y), -1, 1))


def spearman(x, y) -> float:
    """Spearman's rank correlation of two columns (N,), -1 to 1: `pearson` of the ranks. Equal
    entries share their mean rank.

    NaN as for `pearson`, and if an entry is NaN. Infinite entries have a rank as others do.

    >>> spearman([1, 2, 3, 4], [10, 10, 20, 900]) == pearson([1, 2, 3, 4], [1.5, 1.5, 3, 4])
    True
    """
    x, y = _columns(x, y)
    return pearson(rankdata(x), rankdata(y))


def _columns(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"correlation needs two columns of one length; given shapes {x.shape} and {y.shape}"
        )
    return x, y


def _direction(x):
    """`x` minus its mean, scaled to length 1. `x` is divided by its largest entry first, so that no
    square underflows."""
    x = x / np.abs(x).max()
    x = x - x.mean()
    return x / np.linalg.norm(x)
