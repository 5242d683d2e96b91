"""The nested softmax: worked by hand, and at full width what pytorch-metric-learning computes."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

from retrieval.losses import NestedSoftmax


def with_proxies(proxies: torch.Tensor, **settings) -> NestedSoftmax:
    loss = NestedSoftmax(proxies.shape[1], len(proxies), **settings)
    loss.proxies_KD.data.copy_(proxies)
    return loss


def test_by_hand():
    loss = with_proxies(torch.tensor([[2.0, 0.0], [0.0, 5.0]]), temperature=0.5, label_smoothing=0.0)
    projected = torch.tensor([[3.0, 4.0]])
    # Both numbers: cosines 0.6 and 0.8, so logits 1.2 and 1.6.
    wide = -math.log(math.exp(1.2) / (math.exp(1.2) + math.exp(1.6)))
    assert loss(projected, torch.tensor([0]), [2]).item() == pytest.approx(wide, rel=1e-5)
    # The first alone: the prefix is 1, the proxies' prefixes 1 and 0 (of no length), so logits 2 and 0.
    narrow = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert loss(projected, torch.tensor([0]), [1]).item() == pytest.approx(narrow, rel=1e-5)
    assert loss(projected, torch.tensor([0]), [1, 2]).item() == pytest.approx((wide + narrow) / 2, rel=1e-5)


def test_label_smoothing_by_hand():
    loss = with_proxies(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), temperature=1.0, label_smoothing=0.1)
    total = math.exp(0.6) + math.exp(0.8)
    expected = -0.95 * math.log(math.exp(0.6) / total) - 0.05 * math.log(math.exp(0.8) / total)
    assert loss(torch.tensor([[3.0, 4.0]]), torch.tensor([0]), [2]).item() == pytest.approx(expected, rel=1e-5)


def test_full_width_is_the_normalised_softmax():
    torch.manual_seed(0)
    proxies, projected, targets = torch.randn(10, 24), torch.randn(32, 24), torch.randint(10, (32,))
    for temperature in (0.05, 0.3):
        reference = NormalizedSoftmaxLoss(num_classes=10, embedding_size=24, temperature=temperature)
        reference.W.data.copy_(proxies.T)
        loss = with_proxies(proxies, temperature=temperature, label_smoothing=0.0)
        torch.testing.assert_close(loss(projected, targets, [24]), reference(projected, targets))
        narrow = NormalizedSoftmaxLoss(num_classes=10, embedding_size=8, temperature=temperature)
        narrow.W.data.copy_(proxies[:, :8].T)
        torch.testing.assert_close(loss(projected, targets, [8]), narrow(projected[:, :8], targets))


def test_length_does_not_matter_and_gradient_stays_in_the_prefix():
    torch.manual_seed(0)
    loss = NestedSoftmax(16, 5)
    projected, targets = torch.randn(6, 16, requires_grad=True), torch.arange(6) % 5
    torch.testing.assert_close(loss(7 * projected, targets, [4, 16]), loss(projected, targets, [4, 16]))
    loss(projected, targets, [4]).backward()
    assert projected.grad[:, :4].abs().sum() > 0 and (projected.grad[:, 4:] == 0).all()
    assert loss.proxies_KD.grad[:, :4].abs().sum() > 0 and (loss.proxies_KD.grad[:, 4:] == 0).all()
