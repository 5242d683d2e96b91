"""A dimension from energy by hand and by a plain loop, and heads that a folder holds as they were fitted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import Embedder
from retrieval.coatnet import CONFIGS, CoAtNet
from retrieval.dimension import whole_dims
from retrieval.energy_dimension import EnergyDimension, fit_share
from retrieval.errors import UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork
from retrieval.training.fit_head import HeadConfig, fit_head, network_around, with_energy_head


def embeddings(num: int, num_dims: int, seed: int) -> torch.Tensor:
    """Unit vectors, each with its own pace at which numbers grow smaller."""
    random = np.random.default_rng(seed)
    pace = random.uniform(0.5, 0.98, (num, 1))
    numbers = random.normal(size=(num, num_dims)) * pace ** np.arange(num_dims)
    return torch.nn.functional.normalize(torch.from_numpy(numbers).float(), dim=1)


def fresh(**config) -> EmbedderNetwork:
    torch.manual_seed(0)
    return network_around(CoAtNet(CONFIGS["coatnet_micro"]), image_size=32, **config)


def pictures(num: int = 60) -> np.ndarray:
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (num, 4, 4, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def dims_of(full: torch.Tensor, **settings) -> list[float]:
    return EnergyDimension(**settings)(full).tolist()


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.6, 1), (0.7, 2), (0.79, 2), (0.81, 3), (0.95, 3), (0.97, 4), (1, 4)]
)
def test_the_share_by_hand(share, expected):
    # Energies .64, .16, .16, .04: one number keeps .64, two .80, three .96.
    vectors = torch.tensor([[0.8, 0.4, 0.4, 0.2], [-8.0, 4.0, -4.0, 2.0]])
    assert dims_of(vectors, share=share, min_dim=1, max_dim=4) == [expected, expected]
    assert dims_of(vectors, share=share, min_dim=2, max_dim=3) == [min(max(expected, 2), 3)] * 2


def test_numbers_that_are_zero_are_not_counted():
    vectors = torch.tensor([[0.6, 0.8, 0, 0], [0, 0, 0, 0]])
    assert dims_of(vectors, share=1.0, min_dim=1, max_dim=4) == [2, 1]


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 0.999), seed=st.integers(0, 2**31), ends=st.sampled_from([(1, 24), (4, 16), (8, 24)]))
def test_the_dimension_is_that_of_a_plain_loop(share, seed, ends):
    full = embeddings(7, 24, seed)
    dims = dims_of(full, share=share, min_dim=ends[0], max_dim=ends[1])
    for vector, dim in zip(full.double().numpy(), dims, strict=True):
        kept = np.cumsum(vector**2) / (vector**2).sum()
        # Just at the share rounding decides: either neighbour is right there.
        allowed = {min(max(int((kept < share + slack).sum()) + 1, ends[0]), ends[1]) for slack in (-1e-5, 1e-5)}
        assert min(allowed) <= dim <= max(allowed)


@settings(deadline=None, max_examples=40)
@given(shares=st.lists(st.floats(0, 1), min_size=2, max_size=6), seed=st.integers(0, 2**31))
def test_a_larger_share_takes_no_fewer_numbers(shares, seed):
    full = embeddings(9, 24, seed)
    dims = torch.tensor([dims_of(full, share=share, min_dim=2, max_dim=24) for share in sorted(shares)])
    assert (dims.diff(dim=0) >= 0).all() and (dims >= 2).all() and (dims <= 24).all()


@settings(deadline=None, max_examples=40)
@given(budget=st.floats(2, 16), num=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_the_mean_is_the_budget(budget, num, seed):
    full = embeddings(num, 16, seed)
    dimension = EnergyDimension(min_dim=2, max_dim=16)
    fit_share(dimension, full, budget)
    # At most half an image's number off by rounding, and another where two tail shares are equal.
    assert float(dimension(full).mean()) == pytest.approx(budget, abs=1.51 / num)


def test_a_budget_out_of_reach_takes_all_there_is():
    full = embeddings(20, 16, 0)
    full[:, 6:] = 0
    dimension = EnergyDimension(min_dim=2, max_dim=16)
    fit_share(dimension, full, 12.0)
    assert dimension.share == 1 and (dimension(full) == 6).all()


def test_a_fitted_head():
    pixels = pictures()
    network = fresh()
    report = fit_head(network, [pixels[:20], pixels[20:]], HeadConfig(budget=40, whitening=0.5))
    assert (report.num_images, report.num_pooled, report.num_axes) == (60, 256, 59)
    assert report.mean_dim == pytest.approx(40, abs=0.1) and 0 < report.std_dim < 14
    assert report.share < report.energy_kept < 1
    assert 1 <= report.variance_axes["50"] < report.variance_axes["90"] < report.variance_axes["99"] <= 59
    embeddings = Embedder(network, device="cpu").encode_pixels(pixels)
    assert embeddings.dims.mean() == pytest.approx(report.mean_dim, abs=0.5)
    assert np.abs(embeddings.full.mean(0)).max() < 0.05  # centred
    np.testing.assert_allclose(embeddings.full[:, 59:], 0)
    # Every picture finds itself among the stored ones.
    assert ((embeddings.full @ embeddings.vectors.T).argmax(1) == np.arange(60)).all()


def test_batches_do_not_matter():
    reports = [fit_head(fresh(), np.array_split(pictures(), num), HeadConfig(budget=40)).to_dict() for num in (1, 4)]
    assert reports[0]["mean_dim"] == pytest.approx(reports[1]["mean_dim"], abs=0.2)
    assert reports[0]["share"] == pytest.approx(reports[1]["share"], abs=0.01)


def test_a_saved_head_is_the_fitted_one(tmp_path):
    network = fresh()
    fit_head(network, [pictures()], HeadConfig(budget=40))
    fitted = Embedder(network, device="cpu")
    fitted.save(tmp_path)
    loaded = Embedder.load(tmp_path, device="cpu")
    assert loaded.fingerprint == fitted.fingerprint and loaded.config.dimension == "energy"
    here, there = fitted.encode_pixels(pictures(12)), loaded.encode_pixels(pictures(12))
    np.testing.assert_array_equal(there.dims, here.dims)
    np.testing.assert_array_equal(there.vectors, here.vectors)


def test_the_dims_of_the_network_are_those_of_its_embeddings():
    network = fresh()
    fit_head(network, [pictures()], HeadConfig(budget=40))
    with torch.no_grad():
        output = network(torch.rand(3, 3, 32, 32) * 2 - 1)
    torch.testing.assert_close(output.dims, network.dimension(output.full))
    assert whole_dims(output.dims, min_dim=32, max_dim=512).tolist() == output.dims.tolist()


def test_another_head_on_a_learned_embedder():
    torch.manual_seed(0)
    shape = EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=64, bent_lengths=True)
    learned = EmbedderNetwork(shape).eval()
    network = with_energy_head(learned, image_size=32)
    assert network.backbone is learned.backbone and network.pooling is learned.pooling
    fit_head(network, [pictures()], HeadConfig(budget=40))
    assert network.config.image_size == 32 and learned.config.dimension == "learned"


def test_a_head_around_statistics_of_stages_reads_them_too():
    learned = EmbedderNetwork(EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=64, statistics_of=(2,)))
    network = with_energy_head(learned, image_size=32)
    assert network.statistics is learned.statistics
    report = fit_head(network, [pictures()], HeadConfig(budget=40))
    assert report.num_pooled == network.projection.in_features == 256 + 2 * 64


def test_configurations_without_the_choice_are_learned_ones():
    values = EmbedderConfig().to_dict()
    assert "dimension" not in values and EmbedderConfig.from_dict(values) == EmbedderConfig()
    energy = EmbedderConfig(dimension="energy")
    assert EmbedderConfig.from_dict(energy.to_dict()) == energy
    assert "bent_lengths" not in values and EmbedderConfig(bent_lengths=True).to_dict()["bent_lengths"]
    with pytest.raises(UsageError, match="^expected a dimension 'learned' where lengths are bent, got 'energy'$"):
        EmbedderConfig(dimension="energy", bent_lengths=True)


def test_what_cannot_be_fitted():
    network = fresh()
    for batches in ([], [pictures(1)]):
        with pytest.raises(UsageError, match="^expected at least 2 pictures to fit a head to, got [01]$"):
            fit_head(network, batches, HeadConfig())
    with pytest.raises(UsageError, match="^expected pooled vectors that differ, got 3 that are equal$"):
        fit_head(network, [pictures(1).repeat(3, axis=0)], HeadConfig())
    with pytest.raises(UsageError, match=r"^expected a budget within 32\.\.512, got 20$"):
        fit_head(network, [pictures(2)], HeadConfig(budget=20))
    learned = EmbedderNetwork(EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=64))
    with pytest.raises(UsageError, match="^expected a network whose dimension is 'energy', got 'learned'$"):
        fit_head(learned, [pictures(2)], HeadConfig())
    with torch.no_grad():
        network.backbone.stem.conv1.weight.fill_(1e6)  # infinite in float16
    with pytest.raises(UsageError, match="^expected finite features, got NaN or infinity; "):
        fit_head(network, [pictures(4)], HeadConfig())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeadConfig(whitening=1.5), r"^expected a whitening within 0 \(plain axes\) to 1 \(full\), got 1.5$"),
        (lambda: EnergyDimension(share=1.1), r"^expected a share of the energy within 0..1, got 1.1$"),
        (lambda: EnergyDimension(min_dim=64, max_dim=64), r"^expected 1 ≤ min_dim < max_dim, got 64, 64$"),
        (lambda: EmbedderConfig(dimension="guessed"), r"^expected a dimension 'learned' or 'energy', got 'guessed'$"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(UsageError, match=message):
        make()
