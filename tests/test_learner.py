"""What the first stage trains: telling pictures apart by hand, and as pytorch-metric-learning's NT-Xent has it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import NTXentLoss
from test_train_embedder import TINY

from retrieval.network import EmbedderNetwork
from retrieval.training.learner import Learner

TEMPERATURE = 0.15


@pytest.fixture(scope="module")
def learner() -> Learner:
    torch.manual_seed(0)
    return Learner(EmbedderNetwork(TINY.embedder), replace(TINY, instance_weight=2.0), 0)


def test_two_views_of_each_picture_are_told_apart_as_simclr_has_it(learner):
    viewed = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    instances = torch.arange(8).repeat(2)
    # Each view is to be taken for the other one of its picture, among all views but itself.
    unit = F.normalize(viewed, dim=1)
    logits = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, (torch.arange(16) + 8) % 16)
    found = learner.tell_apart(viewed, instances)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, NTXentLoss(temperature=TEMPERATURE)(viewed, instances))


def test_several_positives_by_hand(learner):
    viewed = torch.randn(7, 128, generator=torch.Generator().manual_seed(1))
    instances = torch.tensor([0, 0, 0, 0, 1, 1, 2])  # the last has no positive, and counts as 0
    unit = F.normalize(viewed, dim=1)
    log_share = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf).log_softmax(1)
    of_each = [
        -torch.stack([log_share[i, j] for j in range(7) if j != i and instances[j] == instances[i]]).mean()
        for i in range(6)
    ]
    torch.testing.assert_close(learner.tell_apart(viewed, instances), torch.stack(of_each).sum() / 7)


def test_the_loss_without_classes_is_the_weighted_instance_loss(learner):
    pixels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    instances = torch.arange(4).repeat(2)
    learner.eval()
    with torch.no_grad():
        pooled = learner.network.pool(pixels).pooled
        expected = 2 * learner.tell_apart(learner.view(pooled), instances)
        found = learner(pixels, torch.full((8,), -1), instances, (32,))
    torch.testing.assert_close(found, expected)
