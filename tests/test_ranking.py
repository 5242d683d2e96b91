"""Members of a class taken out of the scores, and the highest of a row."""

import numpy as np
import torch

from retrieval.measuring.ranking import ClassMembers, as_classes, top_scores


def test_classes_by_hand():
    queries, gallery = as_classes(["b", None, "z"], ["a", "b", None, "a"], 3, 4)
    assert queries.tolist() == [0, -1, 1] and gallery.tolist() == [2, 0, -1, 2]
    members = ClassMembers(gallery)
    assert members.num_of(queries).tolist() == [1, 0, 0]
    assert members.num_of(np.array([2, 7, -1])).tolist() == [2, 0, 0]


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
