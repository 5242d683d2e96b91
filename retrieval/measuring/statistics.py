"""How sure a mean is, and how closely two orders agree."""

import numpy as np

from retrieval.errors import UsageError

_NUM_RESAMPLES = 1000


def resampled_means(values_VQ: np.ndarray) -> np.ndarray:
    """The means of V series over 1000 bootstrap resamples of their Q queries, (1000, V).

    All series meet the same resamples, and so do all calls of the same Q: the difference of two columns is paired.
    """
    num_queries = values_VQ.shape[1]
    rng = np.random.default_rng(0)
    draws = (rng.integers(num_queries, size=num_queries) for _ in range(_NUM_RESAMPLES))
    return np.stack([values_VQ @ np.bincount(draw, minlength=num_queries) / num_queries for draw in draws])


def interval(means_S: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval, (low, high), of resampled means."""
    low, high = np.percentile(means_S, (2.5, 97.5))
    return float(low), float(high)


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Spearman's rank correlation of two series, −1..1; NaN where one of them never changes. Raises `UsageError`."""
    a_N, b_N = np.asarray(a_N), np.asarray(b_N)
    if a_N.shape != b_N.shape or a_N.ndim != 1:
        raise UsageError(f"expected two series of one length, got {a_N.shape} and {b_N.shape}; align them")
    a_ranks, b_ranks = average_ranks(a_N), average_ranks(b_N)
    if not len(a_ranks) or np.ptp(a_ranks) == 0 or np.ptp(b_ranks) == 0:
        return float("nan")
    return float(np.corrcoef(a_ranks, b_ranks)[0, 1])


def average_ranks(values_N: np.ndarray) -> np.ndarray:
    """The rank of each value, from 1 for the smallest, (N,) float64; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
