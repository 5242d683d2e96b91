"""Tokens by principal axes: white where the features are not, and drawn from where the pictures are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from retrieval.coatnet import CONFIGS
from retrieval.errors import UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork, scale_pixels
from retrieval.tokens import LocalTokens
from retrieval.training.fit_tokens import fit_tokens, local_features


def correlated(num: int = 400, num_channels: int = 12) -> torch.Tensor:
    """Off centre, each axis about 0.7 as wide as the one before."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(num_channels, num_channels)))[0]
    numbers = random.normal(size=(num, num_channels)) * 3 * 0.7 ** np.arange(num_channels)
    return torch.from_numpy(numbers @ axes + 5).float()


def fitted(features_MC: torch.Tensor, token_dim: int, **settings) -> LocalTokens:
    tokens = LocalTokens(features_MC.shape[1], token_dim)
    fit_tokens(tokens, features_MC, **settings)
    return tokens


def test_by_hand():
    # Spread 4 along (0.6, 0.8), 1 across it, about the mean (10, 20): whitened, all four lie equally far out.
    axes = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    features_MC = torch.tensor([10.0, 20.0]) + torch.tensor([[4.0, 0], [-4, 0], [0, 1], [0, -1]]) @ axes
    features_BCHW = features_MC.T.reshape(1, 2, 2, 2)
    tokens_BND = fitted(features_MC, 2)(features_BCHW)
    torch.testing.assert_close(tokens_BND[0].abs(), torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), atol=1e-5, rtol=0)
    diagonal = torch.tensor([10.0, 20.0]) + torch.tensor([4.0, 1.0]) @ axes
    for whitening, expected in ((1.0, [1.0, 1.0]), (0.0, [4.0, 1.0])):
        token_D = fitted(features_MC, 2, whitening=whitening)(diagonal.reshape(1, 2, 1, 1))[0, 0]
        torch.testing.assert_close(token_D.abs(), F.normalize(torch.tensor(expected), dim=0), atol=1e-5, rtol=0)


def test_whitened_axes_are_scikit_learn_s():
    features_MC = correlated()
    reference = PCA(5, whiten=True, svd_solver="full").fit_transform(features_MC.double().numpy())
    with torch.no_grad():
        found = fitted(features_MC, 5).projection(features_MC).numpy()
    found *= np.sign((reference * found).sum(0)) * np.sqrt(399 / 400)  # of N − 1 degrees of freedom
    np.testing.assert_allclose(found, reference, atol=2e-4)


@pytest.fixture(scope="module")
def network() -> EmbedderNetwork:
    torch.manual_seed(0)
    return EmbedderNetwork(EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=64, token_dim=8))


def pixels(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 64, 64, 3), np.uint8)


def test_local_features_are_locations_of_the_pictures_own_maps_none_twice(network):
    found_NLC = local_features(network, pixels(5), num_locations=3).unflatten(0, (5, 3))
    assert found_NLC.dtype == torch.float32 and network.training
    with torch.no_grad():
        every_NC = network.eval().backbone(scale_pixels(torch.from_numpy(pixels(5)))).flatten(2).mT.flatten(0, 1)
    network.train()
    cosines = F.cosine_similarity((found_NLC.flatten(0, 1) - every_NC.mean(0))[:, None], every_NC - every_NC.mean(0), 2)
    assert cosines.amax(1).min() > 0.99  # bfloat16
    owners, places = np.divmod(cosines.argmax(1).reshape(5, 3).numpy(), 16)
    assert (owners == np.arange(5)[:, None]).all()
    assert all(len(set(row)) == 3 for row in places.tolist()) and len(set(map(tuple, places.tolist()))) > 1


def test_local_features_follow_from_the_seed_whatever_the_batch(network):
    whole = local_features(network, pixels(5), num_locations=4)
    parts = local_features(network, pixels(5), num_locations=4, batch_size=2)
    other = local_features(network, pixels(5), num_locations=4, seed=1)
    mean = whole.mean(0)  # which every location of a fresh network has in common
    assert F.cosine_similarity(whole - mean, parts - mean).min() > 0.98  # bfloat16
    torch.testing.assert_close(local_features(network, pixels(5), num_locations=4), whole)
    assert (other - whole).abs().max() > 0.1
    assert local_features(network, pixels(0)).shape == (0, 256)


def test_all_locations_may_be_drawn_and_fit_the_tokens(network):
    features_MC = local_features(network, pixels(3), num_locations=99)
    assert features_MC.shape == (3 * 16, 256)
    fit_tokens(network.tokens, features_MC)
    with torch.no_grad():
        numbers_MD = network.tokens.projection(features_MC)
    torch.testing.assert_close(numbers_MD.mean(0), torch.zeros(8), atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.cov(numbers_MD.T, correction=0), torch.eye(8), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda network: fit_tokens(LocalTokens(12, 8), correlated(1)), "^expected pooled vectors that differ, got 1"),
        (
            lambda network: fit_tokens(LocalTokens(12, 8), correlated() * float("nan")),
            "^expected finite .* got NaN or infinity in 400 of 400",
        ),
        (
            lambda network: local_features(network, pixels(1), num_locations=0),
            "^expected num_locations of at least 1, got 0$",
        ),
    ],
)
def test_wrong_use_is_told(network, act, message):
    with pytest.raises(UsageError, match=message):
        act(network)


def test_few_vectors_leave_the_numbers_beyond_their_axes_zero():
    tokens = LocalTokens(12, 8)
    fit_tokens(tokens, correlated(5))
    assert tokens.projection.weight[:4].any(1).all() and not tokens.projection.weight[4:].any()
