"""Which pictures a step shows: every one comes up, classes and groups as asked for, and any step by itself."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.utils import common_functions

from retrieval.errors import UsageError
from retrieval.training.sampling import Sampler
from retrieval.training.train_config import TrainConfig

TWO_VIEWS = TrainConfig(batch_size=8, views=2)


def single(num_pictures: int, config: TrainConfig) -> Sampler:
    return Sampler(np.zeros(num_pictures, np.int64), np.arange(num_pictures), config)


def test_every_picture_comes_up_before_one_returns():
    sampler = single(20, TWO_VIEWS)
    for round_ in range(2):
        shown = [sampler.pictures_of(5 * round_ + step) for step in range(5)]
        assert all(torch.equal(numbers[:4], numbers[4:]) for numbers in shown)
        assert sorted(torch.cat([numbers[:4] for numbers in shown]).tolist()) == list(range(20))


@pytest.mark.parametrize("samples_per_class", [0, 2])
def test_a_step_does_not_depend_on_those_before(samples_per_class):
    config = TrainConfig(batch_size=16, views=2, samples_per_class=samples_per_class)
    targets, instances = np.arange(40) % 5, np.arange(40) // 2
    run = [Sampler(targets, instances, config).pictures_of(step) for step in range(12)]
    sampler = Sampler(targets, instances, config)
    for step in (7, 3, 11, 0):
        assert torch.equal(sampler.pictures_of(step), run[step])
    assert not torch.equal(run[0], run[5])  # the next round


@pytest.mark.parametrize("samples_per_class", [0, 2])
def test_each_seed_has_rounds_of_its_own(samples_per_class):
    def first_of_round(seed: int, round_: int) -> torch.Tensor:
        config = TrainConfig(batch_size=16, views=2, samples_per_class=samples_per_class, seed=seed)
        return Sampler(np.arange(40) % 5, np.arange(40), config).pictures_of(5 * round_)

    assert not torch.equal(first_of_round(0, 1), first_of_round(1, 0))
    assert first_of_round(1_000_000, 0).shape == (16,)  # beyond what numpy takes for a seed


def test_samples_per_class():
    config = TrainConfig(batch_size=24, views=2, samples_per_class=4)
    targets = np.random.default_rng(0).integers(5, size=60)
    generator = common_functions.NUMPY_RANDOM
    sampler = Sampler(targets, np.arange(60), config)
    for step in range(8):
        fresh = sampler.pictures_of(step)[:12]
        assert sorted(Counter(targets[fresh]).values()) == [4, 4, 4] and len(set(fresh.tolist())) == 12
    assert common_functions.NUMPY_RANDOM is generator


@given(st.lists(st.integers(1, 5), min_size=4, max_size=12), st.integers(2, 4), st.integers(0, 50))
def test_views_of_a_group_show_its_members(sizes, views, step):
    instances = np.repeat(np.arange(len(sizes)), sizes)
    instances = np.random.default_rng(step).permutation(instances)
    sampler = Sampler(np.zeros_like(instances), instances, TrainConfig(batch_size=2 * views, views=views))
    shown_VF = sampler.pictures_of(step).unflatten(0, (views, -1))
    for members in shown_VF.T.tolist():
        (group,) = set(instances[members])
        assert len(set(members)) == min(sizes[group], views), "different until the group is used up"


@pytest.mark.parametrize(
    ("targets", "change", "message"),
    [
        ([0, 1, -1, 1] * 4, {"samples_per_class": 2}, "expected labels on all pictures for samples_per_class, got 4"),
        ([0] * 16, {"samples_per_class": 2}, "expected at least 2 classes for a batch, got 1; lower batch_size"),
        ([0, 1], {}, "expected at least 4 pictures for a batch, got 2"),
    ],
)
def test_sets_that_fill_no_batch(targets, change, message):
    with pytest.raises(UsageError, match=message):
        Sampler(np.array(targets), np.arange(len(targets)), TrainConfig(batch_size=8, **change))
