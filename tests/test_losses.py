"""Nested losses: the softmax worked by hand, and each prefix what pytorch-metric-learning computes of it alone."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import (
    MultiSimilarityLoss,
    NormalizedSoftmaxLoss,
    ProxyAnchorLoss,
    SupConLoss,
    TripletMarginLoss,
)
from pytorch_metric_learning.miners import MultiSimilarityMiner

from retrieval import losses
from retrieval.errors import UsageError
from retrieval.losses import NestedSoftmax
from retrieval.training.train_config import LOSSES


def with_proxies(proxies: torch.Tensor, **settings) -> NestedSoftmax:
    loss = NestedSoftmax(proxies.shape[1], len(proxies), **settings)
    loss.proxies_KD.data.copy_(proxies)
    return loss


def test_a_misspelt_loss_is_told_the_name_it_is_like():
    names = ", ".join(LOSSES)  # those that the settings of a run know
    with pytest.raises(UsageError, match=rf"^expected a loss among {names}, got 'triplets'; did you mean 'triplet'\?$"):
        losses.create("triplets", 8, 3)


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


def test_pictures_without_a_label_are_left_out():
    torch.manual_seed(0)
    projected, targets = torch.randn(6, 16), torch.tensor([0, 1, -1, 2, -1, 0])
    for kind in ("softmax", "proxy_anchor", "multi_similarity", "supcon", "triplet"):
        loss = losses.create(kind, 16, 3)
        mixed, labelled = (
            loss(projected, targets, [8, 16]),
            loss(projected[targets >= 0], targets[targets >= 0], [8, 16]),
        )
        torch.testing.assert_close(mixed, labelled, msg=kind)


@pytest.mark.parametrize("kind", ["softmax", "proxy_anchor", "multi_similarity", "supcon", "triplet"])
def test_a_batch_without_any_label_teaches_nothing(kind):
    loss = losses.create(kind, 16, 3)
    projected = torch.randn(6, 16, requires_grad=True)
    value = loss(projected, torch.full((6,), -1), [8, 16])
    assert value.item() == 0
    value.backward()
    for parameter in (projected, *loss.parameters()):
        assert parameter.grad is not None and not parameter.grad.any()


@pytest.mark.parametrize("width", [8, 16])
def test_standard_losses_on_a_prefix(width):
    torch.manual_seed(0)
    projected, targets = torch.randn(24, 16), torch.arange(24) % 5
    prefix = projected[:, :width]
    anchors = losses.create("proxy_anchor", 16, 5)
    reference = ProxyAnchorLoss(5, width)
    reference.proxies.data.copy_(anchors.class_vectors[:, :width])
    mined = MultiSimilarityMiner()(prefix, targets)
    expected = {
        "proxy_anchor": reference(prefix, targets),
        "multi_similarity": MultiSimilarityLoss()(prefix, targets, mined),
        "supcon": SupConLoss()(prefix, targets),
        "triplet": TripletMarginLoss()(prefix, targets),
    }
    for kind, value in expected.items():
        loss = anchors if kind == "proxy_anchor" else losses.create(kind, 16, 5)
        torch.testing.assert_close(loss(projected, targets, [width]), value, msg=kind)
        # Length does not matter, and several prefixes count alike.
        torch.testing.assert_close(loss(9 * projected, targets, [width, width]), value, msg=kind)
