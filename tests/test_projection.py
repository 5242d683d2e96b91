"""The projection by principal axes against scikit-learn, and what each strength of whitening keeps."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from retrieval.errors import UsageError
from retrieval.projection import fit_projection, fit_projection_against


def pooled(num: int = 400, num_channels: int = 12) -> torch.Tensor:
    """Correlated, off centre, each axis about 0.7 as wide as the one before."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(num_channels, num_channels)))[0]
    numbers = random.normal(size=(num, num_channels)) * 3 * 0.7 ** np.arange(num_channels)
    return torch.from_numpy(numbers @ axes + 5).float()


def fitted(pooled_NC: torch.Tensor, num_dims: int, **settings) -> torch.Tensor:
    projection = nn.Linear(pooled_NC.shape[1], num_dims)
    fit_projection(projection, pooled_NC, **settings)
    with torch.no_grad():
        return projection(pooled_NC)


def test_by_hand():
    # Spread 4 along (0.6, 0.8), 1 across it, about the mean (10, 20).
    along, across = torch.tensor([0.6, 0.8]), torch.tensor([-0.8, 0.6])
    steps = torch.tensor([[4.0, 0], [-4, 0], [0, 1], [0, -1]])
    pooled_NC = torch.tensor([10.0, 20.0]) + steps @ torch.stack([along, across])
    plain = fitted(pooled_NC, 2, whitening=0.0)
    torch.testing.assert_close(plain.abs(), steps.abs(), rtol=1e-4, atol=1e-4)
    # The variances are 8 and ½: half-whitening divides by 8^¼ and (½)^¼.
    half = fitted(pooled_NC, 2, whitening=0.5)
    torch.testing.assert_close(half.abs(), steps.abs() / torch.tensor([8.0, 0.5]) ** 0.25, rtol=1e-4, atol=1e-4)


def test_against_a_nuisance_by_hand():
    # Spread 4 along the first number and 3 along the second, of which the first is nuisance: 81 against 1.
    steps = torch.tensor([[4.0, 0], [-4, 0], [0, 3], [0, -3]])
    covariance, nuisance = torch.diag(torch.tensor([8.0, 4.5])).double(), torch.diag(torch.tensor([81.0, 1.0])).double()
    projection = nn.Linear(2, 2)
    fit_projection_against(projection, steps + 7, covariance, nuisance, whitening=0.0)
    with torch.no_grad():
        projected = projection(steps + 7)
    # A = diag(1/3, 1), so the second is the wider now, and comes first.
    expected = torch.stack([steps[:, 1], steps[:, 0] / 3], dim=1)
    torch.testing.assert_close(projected.abs(), expected.abs(), rtol=1e-4, atol=1e-4)


def test_against_a_nuisance_that_is_no_number():
    nuisance = torch.eye(2).double()
    nuisance[0, 0] = torch.nan
    with pytest.raises(UsageError, match="expected finite pooled vectors of further pictures and of distorted copies"):
        fit_projection_against(nn.Linear(2, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2).double(), nuisance)


def test_axes_are_those_that_the_covariance_spans():
    # Two pictures alone would span one axis; the covariance, of further ones too, spans three of four.
    covariance, projection = torch.diag(torch.tensor([4.0, 3.0, 2.0, 0.0])).double(), nn.Linear(4, 4)
    fit_projection_against(projection, torch.eye(4)[:2], covariance, torch.eye(4).double())
    assert projection.weight[:3].any(1).all() and not projection.weight[3].any()


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_against_nothing_in_particular_it_is_the_principal_axes(whitening):
    pooled_NC = pooled()
    projection = nn.Linear(12, 12)
    covariance = torch.from_numpy(np.cov(pooled_NC.double().numpy(), rowvar=False, bias=True))
    fit_projection_against(projection, pooled_NC, covariance, torch.eye(12).double(), whitening=whitening)
    with torch.no_grad():
        projected = projection(pooled_NC)
    torch.testing.assert_close(projected.abs(), fitted(pooled_NC, 12, whitening=whitening).abs(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_dims", [3, 12])
def test_whitening_of_nought_and_one_are_scikit_learn_s(num_dims):
    pooled_NC = pooled()
    for whitening in (0.0, 1.0):
        reference = PCA(num_dims, whiten=bool(whitening), svd_solver="full").fit_transform(pooled_NC.double().numpy())
        if whitening:
            # scikit-learn divides by the spread of N − 1 degrees of freedom.
            reference *= np.sqrt(len(pooled_NC) / (len(pooled_NC) - 1))
        projected = fitted(pooled_NC, num_dims, whitening=whitening).numpy()
        signs = np.sign((reference * projected).sum(0))
        np.testing.assert_allclose(projected * signs, reference, atol=2e-4)


def test_half_whitening_lies_between():
    plain, half, full = (fitted(pooled(), 12, whitening=whitening) for whitening in (0.0, 0.5, 1.0))
    torch.testing.assert_close(full.std(0, correction=0), torch.ones(12), rtol=1e-3, atol=0)
    torch.testing.assert_close(half.std(0, correction=0), plain.std(0, correction=0).sqrt(), rtol=1e-3, atol=0)


def test_without_whitening_no_inner_product_changes():
    pooled_NC = pooled()
    centred = (pooled_NC.double() - pooled_NC.double().mean(0)).float()
    projected = fitted(pooled_NC, 20, whitening=0.0)
    torch.testing.assert_close(projected @ projected.T, centred @ centred.T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_axes_are_centred_uncorrelated_widest_first_and_zero_beyond_the_channels(whitening):
    projected = fitted(pooled(), 20, whitening=whitening)
    assert (projected[:, 12:] == 0).all()
    torch.testing.assert_close(projected.mean(0), torch.zeros(20), rtol=0, atol=1e-4)
    covariance = torch.cov(projected[:, :12].T)
    torch.testing.assert_close(covariance, covariance.diag().diag(), rtol=0, atol=1e-3)
    assert (covariance.diag().diff() <= 1e-4).all()


def test_few_vectors_have_few_axes():
    pooled_NC = pooled()
    projection = nn.Linear(12, 16)
    fit_projection(projection, pooled_NC[:5])
    assert projection.weight[:4].any(1).all() and not projection.weight[4:].any() and not projection.bias[4:].any()
    assert projection(pooled_NC).isfinite().all()


def test_the_variances_are_returned_widest_first():
    pooled_NC = pooled()
    variances = fit_projection(nn.Linear(12, 3), pooled_NC)
    expected = np.linalg.eigvalsh(np.cov(pooled_NC.double().numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(variances.numpy(), expected, rtol=1e-6)


def test_more_vectors_than_a_block(monkeypatch):
    whole = fitted(pooled(), 12)
    monkeypatch.setattr("retrieval.projection._BLOCK", 37)
    torch.testing.assert_close(fitted(pooled(), 12), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(broken):
    pooled_NC = pooled()
    pooled_NC[[3, 7], 5] = broken
    with pytest.raises(UsageError, match="^expected finite pooled vectors, got NaN or infinity in 2 of 400; check the"):
        fit_projection(nn.Linear(12, 3), pooled_NC)


@pytest.mark.parametrize("num", [1, 4])
def test_equal_vectors_have_no_axes(num):
    with pytest.raises(UsageError, match=f"expected pooled vectors that differ, got {num} that are equal"):
        fitted(pooled()[:1].repeat(num, 1), 16)
