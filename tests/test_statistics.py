"""Ranks, Spearman's correlation and bootstrap intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.measuring.statistics import average_ranks, interval, resampled_means, spearman


def test_ranks_by_hand():
    assert average_ranks(np.array([30, 10, 20, 10, 30, 30])).tolist() == [5, 1.5, 3, 1.5, 5, 5]


def test_spearman_by_hand():
    # Without ties: 1 − 6 Σδ² / (n (n² − 1)), δ = (0, −1, 1, 0) here.
    assert spearman([1, 2, 3, 4], [10, 30, 20, 99]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    # With ties it is Pearson's of the ranks (1.5, 1.5, 3) and (1, 2, 3).
    assert spearman([7, 7, 8], [1, 2, 3]) == pytest.approx(1.5 / np.sqrt(1.5 * 2))
    assert np.isnan(spearman([5, 5, 5], [1, 2, 3])) and np.isnan(spearman([], []))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30))
def test_spearman_knows_order_alone(pairs):
    a, b = np.array(pairs).T
    found = spearman(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(found)
        return
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert spearman(np.exp(a / 9), b**3) == pytest.approx(found)
    assert spearman(-a, b) == pytest.approx(-found) == pytest.approx(-spearman(b, a))


def test_series_of_different_lengths():
    with pytest.raises(UsageError, match=r"two series of one length, got \(2,\) and \(3,\)"):
        spearman([1, 2], [1, 2, 3])


def test_intervals_are_paired_and_as_wide_as_theory_says():
    rng = np.random.default_rng(0)
    first = rng.random(900)
    means = resampled_means(np.stack([first, first + 0.1, rng.random(900)]))
    assert means.shape == (1000, 3)
    # The same resamples for both: a constant difference is sure.
    assert interval(means[:, 1] - means[:, 0]) == pytest.approx((0.1, 0.1))
    low, high = interval(means[:, 0])
    assert low < first.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * first.std() / 30, rel=0.1)
    np.testing.assert_allclose(means[:, 0], resampled_means(first[None])[:, 0], rtol=1e-12)
