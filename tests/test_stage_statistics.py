import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.coatnet import CONFIGS, CoAtNetConfig
from retrieval.embedder import Embedder
from retrieval.errors import UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork
from retrieval.stage_statistics import StageStatistics
from retrieval.train_embedder import TrainConfig, with_new_heads


def micro(**config) -> EmbedderNetwork:
    torch.manual_seed(0)
    return EmbedderNetwork(EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=32, **config)).eval()


def pixels(num: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_statistics_of_a_map_worked_by_hand():
    # One channel of four locations, of which the first weighs half and the last nothing.
    features = torch.tensor([[[[4.0, 0.0], [2.0, 99.0]]]])
    attention = torch.tensor([[[0.5, 0.25], [0.25, 0.0]]])
    mean = 0.5 * 4 + 0.25 * 0 + 0.25 * 2
    deviation = (0.5 * (4 - mean) ** 2 + 0.25 * (0 - mean) ** 2 + 0.25 * (2 - mean) ** 2) ** 0.5
    found = StageStatistics([1])([features], attention)
    torch.testing.assert_close(found, torch.tensor([[mean, deviation]]))


def test_a_finer_map_is_weighed_by_the_attention_resized_to_it():
    # To the left half of a 4x4 map goes what the left of a 2x2 attention says, and in between what lies between.
    attention = torch.tensor([[[0.5, 0.0], [0.5, 0.0]]])
    across = torch.tensor([1.0, 0.75, 0.25, 0.0]) / 8
    features = torch.arange(4.0).expand(1, 1, 4, 4)
    mean, deviation = StageStatistics([1])([features], attention)[0]
    expected = (4 * across * torch.arange(4.0)).sum()
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(deviation, (4 * across * (torch.arange(4.0) - expected) ** 2).sum().sqrt())


@given(st.integers(0, 2**32 - 1))
def test_even_attention_gives_the_plain_mean_and_deviation_of_each_stage(seed):
    random = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 3, 8, 8, generator=random), torch.randn(2, 5, 4, 4, generator=random)]
    found = StageStatistics([3, 5])(maps, torch.full((2, 2, 2), 0.25))
    plain = [part for each in maps for part in (each.mean((2, 3)), each.flatten(2).std(2, correction=0))]
    torch.testing.assert_close(found, torch.cat(plain, 1), atol=1e-5, rtol=1e-4)


def test_a_channel_that_is_the_same_all_over_has_a_finite_gradient():
    features = torch.ones(1, 2, 4, 4, requires_grad=True)
    StageStatistics([2])([features], torch.full((1, 2, 2), 0.25)).sum().backward()
    assert features.grad.isfinite().all()


def test_fit_centres_and_gives_all_numbers_one_spread_beside_the_attended_channels():
    random = torch.Generator().manual_seed(0)
    statistics = torch.randn(500, 4, generator=random) * torch.tensor([0.1, 1.0, 50.0, 0.0]) + 7
    attended = torch.randn(500, 6, generator=random) * 2
    module = StageStatistics([2])
    module.fit(statistics, attended)
    centre, spread = statistics.mean(0), statistics.std(0, correction=0)
    typical = attended.var(0, correction=0).mean().sqrt()
    # Exactly what is stored: these, rounded to float16.
    assert torch.equal(module.centre_S, centre.half().float())
    assert torch.equal(module.scale_S[:3], (0.7 * typical / spread[:3]).half().float()) and module.scale_S[3] == 0


def test_the_pooled_vector_holds_the_last_map_then_the_statistics_of_the_stages_named():
    network = micro(statistics_of=(1, 3))
    with torch.no_grad():
        *stages, last = network.backbone.stage_maps(pixels())
        attended, attention = network.pooling(last)
        statistics = network.statistics([stages[0], stages[2]], attention)
        found = network.pool(pixels())
    assert network.config.num_pooled == found.pooled.shape[1] == 256 + 2 * (32 + 128)
    torch.testing.assert_close(found.pooled, torch.cat([attended, statistics], 1))
    torch.testing.assert_close(found.features, network.backbone(pixels()))


def test_statistics_come_through_a_save(tmp_path):
    network = micro(statistics_of=(2,))
    network.statistics.fit(torch.randn(50, 128) * 3 + 1, torch.randn(50, 256))
    pictures = list((np.random.default_rng(0).random((4, 32, 32, 3)) * 255).astype(np.uint8))
    embedder = Embedder(network, device="cpu")
    embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model", device="cpu")
    assert loaded.config == network.config and loaded.fingerprint == embedder.fingerprint
    assert "statistics_of" not in micro().config.to_dict()
    # What is saved is rounded to float16.
    np.testing.assert_allclose(loaded.encode(pictures).full, embedder.encode(pictures).full, atol=0.02)


def test_new_heads_keep_what_was_trained_and_leave_out_stages_that_the_backbone_lacks():
    trained = micro()
    fresh = with_new_heads(trained, TrainConfig(statistics_of=(2, 4)))
    assert fresh.backbone is trained.backbone and fresh.pooling is trained.pooling
    assert fresh.config.statistics_of == (2,) and fresh.projection.in_features == 256 + 2 * 64
    alone = CoAtNetConfig(channels=(32,), depths=(1,), layout="T", stem="patch", stem_channels=(16, 32))
    of_one_stage = EmbedderNetwork(EmbedderConfig(backbone=alone, image_size=32))
    assert with_new_heads(of_one_stage, TrainConfig()).statistics is None
    again = with_new_heads(trained, TrainConfig(statistics_of=(2, 4)))
    assert all(torch.equal(*pair) for pair in zip(fresh.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: micro(statistics_of=(4,)),
            r"^expected statistics_of stages before S4, the last, which is pooled, got \(4,\)$",
        ),
        (
            lambda: micro(statistics_of=(2, 1)),
            r"^expected statistics_of as a tuple of stages that grow, .* got \(2, 1\)$",
        ),
        (lambda: micro(statistics_of=[2]), r"^expected statistics_of as a tuple of stages that grow, .* got \[2\]$"),
        (lambda: TrainConfig(statistics_of=2), r"^expected statistics_of as a tuple of stages that grow, .* got 2$"),
        (lambda: TrainConfig(statistics_of=(2.0,)), r"^expected statistics_of as a tuple of .* got \(2\.0,\)$"),
        (lambda: TrainConfig(statistics_of=(0,)), r"^expected statistics_of as a tuple of .* from 1, got \(0,\)$"),
        (lambda: TrainConfig(statistics_of=(2, 2)), r"^expected statistics_of as a tuple of .* got \(2, 2\)$"),
    ],
)
def test_stages_that_are_none_are_told_in_a_sentence(make, message):
    with pytest.raises(UsageError, match=message):
        make()
