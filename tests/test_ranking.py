"""Members of a class taken out of the scores, and the highest of a row."""

import math

import numpy as np
import pytest
import torch

from retrieval.errors import UsageError
from retrieval.measuring.ranking import ClassMembers, as_classes, top_scores


def test_classes_by_hand():
    queries, gallery = as_classes(["b", None, "z"], ["a", "b", None, "a"], 3, 4)
    assert queries.tolist() == [0, -1, 1] and gallery.tolist() == [2, 0, -1, 2]
    members = ClassMembers(gallery)
    assert members.num_of(queries).tolist() == [1, 0, 0]
    assert members.num_of(np.array([2, 7, -1])).tolist() == [2, 0, 0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", math.nan, np.float32("nan"), "a", None, "b"], [0, -1, -1, 0, -1, 1]),
        (np.array([1.5, math.nan, math.nan, 1.5]), [0, -1, -1, 0]),
        ([1, "1", 1, "1"], [0, 1, 0, 1]),
        ([("boat", 1), ("boat", 2), ("boat", 1)], [0, 1, 0]),
        (np.array(["a", None, "a"], dtype=object), [0, -1, 0]),
        (torch.tensor([5, 7, 5]), [0, 1, 0]),
        ([torch.tensor(5), 7, np.int64(5)], [0, 1, 0]),
    ],
)
def test_labels_of_every_kind_keep_what_they_are(labels, expected):
    for classes in as_classes(labels, labels, len(labels), len(labels)):
        assert classes.tolist() == expected and classes.dtype == np.int64


def test_labels_that_cannot_be_hashed_are_told():
    with pytest.raises(
        UsageError, match="^expected labels that can be hashed, got others .*; make them text or tuples$"
    ):
        as_classes([[1], [2]], [[1], [2]], 2, 2)
    with pytest.raises(UsageError, match=r"^expected one label an image, got \(2, 1\) for 2 queries"):
        as_classes(np.zeros((2, 1)), torch.zeros(2), 2, 2)


def test_taking_members_by_hand():
    # Class 0 is rows 0 and 3, class 1 rows 1, 4 and 5; row 2 has none.
    members = ClassMembers(np.array([0, 1, -1, 0, 1, 1]))
    scores = torch.tensor([[1.0, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    taken = members.take(scores, np.array([0, 1]), selves=np.array([3, 4]))
    inf = float("inf")
    assert taken.tolist() == [[1, -inf, -inf], [5, 1, -inf]]
    assert scores.tolist() == [[-inf, 2, 3, -inf, 5, 6], [6, -inf, 4, 3, -inf, -inf]]


def test_top_scores_equal_topk():
    scores = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    before = scores.clone()
    for num in (1, 7, 39, 40):
        torch.testing.assert_close(top_scores(scores, num), scores.topk(num, dim=1).values, rtol=0, atol=0)
    assert torch.equal(scores, before)
