"""The first stage's own measure: which question it asks, and of which pictures it takes its axes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train_embedder import TINY, labelled, without_labels

from retrieval.datasets import LabelledImages
from retrieval.network import EmbedderNetwork
from retrieval.training import represent
from retrieval.training.represent import some_pictures, validate


@pytest.fixture(scope="module")
def network() -> EmbedderNetwork:
    torch.manual_seed(0)
    return EmbedderNetwork(TINY.embedder)


def test_validation_asks_for_classes_else_for_groups_else_for_originals(network, monkeypatch):
    asked = []
    original = represent.retrieval_metrics

    def records(queries, gallery, answers, _, *, exclude_self, ks):
        asked.append((list(answers), exclude_self, torch.equal(queries, gallery)))
        return original(queries, gallery, answers, answers, exclude_self=exclude_self, ks=ks)

    monkeypatch.setattr(represent, "retrieval_metrics", records)
    training, images = labelled(4, 4, seed=0), labelled(2, 2, seed=1)
    some = replace(images, labels=("a", "a", None, "b"))
    recalls = [
        validate(network, training, each)
        for each in (some, without_labels(images, per_group=2), without_labels(images))
    ]
    assert asked == [
        (["a", "a", None, "b"], True, True),
        ([0, 0, 2, 2], True, True),
        ([0, 1, 2, 3], False, False),
    ]
    assert min(recalls) > 34  # of four pictures: chance is 33, or 25


def test_axes_are_those_of_labelled_pictures_where_there_are_any():
    def images(labels: tuple) -> LabelledImages:
        return LabelledImages(pixels=np.zeros((len(labels), 1, 1, 3), np.uint8), labels=labels)

    assert some_pictures(images(("a", None, "b", None))).tolist() == [0, 2]
    assert some_pictures(images((None, None))).tolist() == [0, 1]
    many = some_pictures(images(("a",) * 38_400))
    assert len(many) == 9600 and (np.diff(many) == 4).all()
