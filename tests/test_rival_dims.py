"""Dims at random, by energy and by the answers: their mean, their range, and what they find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.measuring.oracle_dims import _grid, oracle_dims
from retrieval.measuring.rival_dims import cut, energy_dims, random_dims
from retrieval.metrics import instance_ranks, retrieval_metrics


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cut_by_hand():
    full = np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(cut(full, np.array([1, 2])), [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(cut(full, 3), full)
    assert cut(full, np.array([1, 2])).dtype == np.float32


def test_random_dims_are_the_same_dims():
    dims = np.arange(50) % 7
    deals = random_dims(dims, num=3, seed=1)
    assert deals.shape == (3, 50)
    assert (np.sort(deals, axis=1) == np.sort(dims)).all()
    assert len({tuple(deal) for deal in [*deals, dims]}) == 4
    np.testing.assert_array_equal(deals, random_dims(dims, num=3, seed=1))


def test_energy_dims_by_hand():
    # Shares of energy kept: 1 → (.9, .4), 2 → (.95, .7), 3 → (1, .9), 4 → (1, 1).
    full = np.sqrt([[0.9, 0.05, 0.05, 0.0], [0.4, 0.3, 0.2, 0.1]])
    assert energy_dims(full, mean=2, lowest=1, highest=4).tolist() == [1, 3]  # a share of 0.7 to 0.9
    assert energy_dims(full, mean=3, lowest=2, highest=4).tolist() == [2, 4]  # of 0.9 to 0.95
    assert energy_dims(full, mean=2, lowest=2, highest=2).tolist() == [2, 2]


@settings(deadline=None, max_examples=30)
@given(mean=st.floats(4, 32), seed=st.integers(0, 999))
def test_energy_dims_meet_the_mean_with_one_share(mean, seed):
    full = unit(np.random.default_rng(seed).standard_normal((80, 32)) / np.sqrt(np.arange(1, 33)))
    dims = energy_dims(full, mean=mean, lowest=4, highest=32)
    assert dims.min() >= 4 and dims.max() <= 32
    assert dims.mean() == pytest.approx(mean, abs=1 / 80)
    kept = np.cumsum(full**2, axis=1)
    least = kept[np.arange(80), dims - 1][dims < 32]
    one_less = kept[np.arange(80), np.maximum(dims - 2, 0)][dims > 4]
    assert least.min(initial=1) >= one_less.max(initial=0) - 1e-6


def test_grid():
    assert _grid(32, 512) == (32, 48, 64, 96, 128, 192, 256, 384, 512)
    assert _grid(1, 5) == (1, 2, 3, 4, 5) and _grid(8, 8) == (8,)


def noisy_tails(seed=0, num=240, num_classes=12, length=32):
    """Classes told apart by 8 numbers; the other 24 help one half of the images and hurt the other."""
    rng = np.random.default_rng(seed)
    classes = np.arange(num) % num_classes
    centres = rng.standard_normal((num_classes, length))
    rows = centres[classes] + 0.9 * rng.standard_normal((num, length))
    is_misleading = np.arange(num) // num_classes % 2 == 1
    rows[is_misleading, 8:] = 1.5 * rng.standard_normal((is_misleading.sum(), length - 8))
    return unit(rows), classes, is_misleading


def test_the_oracle_cuts_what_misleads_and_finds_more():
    full, classes, is_misleading = noisy_tails()
    options = {"mean": 20, "lowest": 8, "highest": 32, "exclude_self": True}
    dims = oracle_dims(full, full, classes, classes, **options)
    assert dims.mean() == pytest.approx(20, abs=0.2) and set(dims) <= {8, 12, 16, 24, 32}
    assert dims[~is_misleading].mean() > dims[is_misleading].mean() + 6

    def found(dims):
        return retrieval_metrics(full, cut(full, dims), classes, classes, exclude_self=True).map_at_r

    best_rival = max(found(20), found(energy_dims(full, mean=20, lowest=8, highest=32)), found(random_dims(dims)[0]))
    assert found(dims) > best_rival + 2


def test_the_oracle_takes_any_precision():
    full, classes, _ = noisy_tails()
    options = {"mean": 20, "lowest": 8, "highest": 32, "exclude_self": True}
    single, double = (oracle_dims(rows, rows, classes, classes, **options) for rows in (full, full.astype(np.float64)))
    assert (single == double).mean() > 0.99


def test_the_oracle_of_single_originals():
    full, _, _ = noisy_tails(seed=1)
    rng = np.random.default_rng(2)
    copies = unit(full + 0.25 * rng.standard_normal(full.shape))
    each = np.arange(len(full))
    dims = oracle_dims(copies, full, each, each, mean=14, lowest=8, highest=32, exclude_self=False)

    def share_found(dims):
        return (instance_ranks(copies, cut(full, dims), each) == 1).mean()

    assert dims.mean() == pytest.approx(14, abs=0.2)
    assert share_found(dims) > max(share_found(14), share_found(random_dims(dims)[0])) + 0.02


def test_the_oracle_passes_over_images_without_a_class():
    full, classes, _ = noisy_tails()
    classes = np.where(np.arange(len(classes)) < 40, -1, classes)
    dims = oracle_dims(full, full, classes, classes, mean=16, lowest=8, highest=32, exclude_self=True)
    assert dims.mean() == pytest.approx(16, abs=0.2)
