"""Recall@K, average precision, nDCG and MRR against cases by hand, a naive double loop and another library."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from retrieval.errors import UsageError
from retrieval.metrics import instance_ranks, retrieval_metrics


def test_by_hand():
    # One query at 0°, the gallery at growing angles: the ranking is a, b, a, a, b, and R = 3.
    angles = np.deg2rad([10, 20, 30, 40, 50])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    queries = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])

    metrics = retrieval_metrics(
        queries, gallery, ["a", "b", "c"], ["a", "b", "a", "a", "b"], exclude_self=False, ks=(1, 2)
    )

    # a: (1/1 + 0 + 2/3) / 3, the hit at rank 4 comes after R.  b: (0 + 1/2) / 2.  c: nothing to find, left out.
    np.testing.assert_allclose(metrics.average_precision_at_r, [5 / 9, 1 / 4])
    assert metrics.recall[1].tolist() == [True, False] and metrics.recall[2].tolist() == [True, True]
    assert (metrics.recall_at(1), metrics.recall_at(2)) == (50, 100)
    assert metrics.map_at_r == pytest.approx(100 * (5 / 9 + 1 / 4) / 2)
    assert (metrics.num_queries, metrics.num_left_out) == (2, 1)
    # All ranks count: a has hits at 1, 3 and 4, b at 2 and 5.
    np.testing.assert_allclose(metrics.average_precision_at_100, [(1 + 2 / 3 + 3 / 4) / 3, (1 / 2 + 2 / 5) / 2])
    discount = 1 / np.log2(np.arange(2, 7))
    ideal_of_3, ideal_of_2 = discount[:3].sum(), discount[:2].sum()
    np.testing.assert_allclose(
        metrics.ndcg_at_100, [discount[[0, 2, 3]].sum() / ideal_of_3, discount[[1, 4]].sum() / ideal_of_2]
    )
    assert metrics.first_rank.tolist() == [1, 2] and metrics.mrr == 75
    assert metrics.map_at_100 == pytest.approx(100 * metrics.average_precision_at_100.mean())
    assert metrics.mean_ndcg_at_100 == pytest.approx(100 * metrics.ndcg_at_100.mean())


def test_the_cut_at_100_by_hand():
    # 150 images in a row of falling scores; the right ones are at ranks 100, 101 and 150, or at 120 alone.
    gallery = np.linspace(2, 1, 150)[:, None]
    labels = ["other"] * 150
    for rank, label in {100: "a", 101: "a", 150: "a", 120: "b"}.items():
        labels[rank - 1] = label
    metrics = retrieval_metrics(np.ones((2, 1)), gallery, ["a", "b"], labels, exclude_self=False, ks=(99, 100, 120))
    np.testing.assert_allclose(metrics.average_precision_at_100, [1 / 100 / 3, 0])
    np.testing.assert_allclose(metrics.ndcg_at_100, [1 / np.log2(101) / (1 + 1 / np.log2(3) + 1 / 2), 0])
    # The first rank is exact beyond the cut.
    assert metrics.first_rank.tolist() == [100, 120]
    assert [metrics.recall_at(k) for k in (99, 100, 120)] == [0, 50, 100]


def test_more_than_100_right_ones_are_divided_by_100():
    gallery = np.linspace(2, 1, 300)[:, None]
    labels = list("a" * 90 + "b" * 100 + "a" * 110)
    metrics = retrieval_metrics(np.ones((1, 1)), gallery, ["a"], labels, exclude_self=False)
    assert metrics.average_precision_at_100[0] == pytest.approx(90 / 100)
    # R = 200: 90 at their places, then from rank 191 on ten more.
    at_r = 90 + sum((90 + n) / (190 + n) for n in range(1, 11))
    assert metrics.average_precision_at_r[0] == pytest.approx(at_r / 200)


def test_equal_scores_are_placed_last():
    collapsed = np.ones((6, 2))
    metrics = retrieval_metrics(collapsed, collapsed, list("aaabbb"), list("aaabbb"), exclude_self=True, ks=(1, 4))
    assert metrics.first_rank.tolist() == [4] * 6  # behind the three of the other class
    assert (metrics.recall_at(1), metrics.recall_at(4), metrics.map_at_r) == (0, 100, 0)
    assert metrics.average_precision_at_100[0] == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert instance_ranks(collapsed, collapsed, range(6)).tolist() == [6] * 6


def test_images_without_a_label_are_in_the_way_but_ask_nothing():
    gallery = np.array([[1.0, 0.0], [0.99, 0.1], [0.9, 0.4], [0.95, 0.3]])
    labels = ["a", None, "a", None]
    metrics = retrieval_metrics(gallery, gallery, labels, labels, exclude_self=True)
    assert metrics.first_rank.tolist() == [3, 3] and metrics.num_left_out == 2


def test_by_hand_without_the_query_itself():
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    # Neighbours, nearest first: 0: 1 2 3;  1: 2 0 3;  2: 1 3 0;  3: 2 1 0.
    metrics = retrieval_metrics(
        vectors, vectors, ["a", "a", "b", "b"], ["a", "a", "b", "b"], exclude_self=True, ks=(1, 2, 99)
    )
    assert metrics.recall[1].tolist() == [True, False, False, True]
    assert metrics.recall[2].tolist() == [True] * 4 and metrics.recall[99].tolist() == [True] * 4
    np.testing.assert_array_equal(metrics.average_precision_at_r, [1, 0, 0, 1])


def naive_metrics(queries, gallery, query_labels, gallery_labels, *, exclude_self, ks):
    recall, precisions, others_found = {k: [] for k in ks}, [], []
    for i, query in enumerate(queries):
        others = [j for j in range(len(gallery)) if not (exclude_self and j == i)]
        ranking = sorted(others, key=lambda j: -float(query @ gallery[j]))
        correct = [gallery_labels[j] == query_labels[i] for j in ranking]
        if not any(correct):
            continue
        num_relevant = sum(correct)
        precisions.append(sum(sum(correct[: n + 1]) / (n + 1) * correct[n] for n in range(num_relevant)) / num_relevant)
        for k in ks:
            recall[k].append(any(correct[:k]))
        at_100 = sum(sum(correct[: n + 1]) / (n + 1) for n in range(len(correct)) if correct[n])
        gain = sum(1 / np.log2(n + 2) for n in range(len(correct)) if correct[n])
        ideal = sum(1 / np.log2(n + 2) for n in range(num_relevant))
        others_found.append((at_100 / num_relevant, gain / ideal, correct.index(True) + 1))
    return recall, precisions, others_found


@settings(deadline=None, max_examples=60)
@given(
    num=st.integers(2, 40),
    num_classes=st.integers(1, 12),
    exclude_self=st.booleans(),
    chunk_size=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_a_double_loop(num, num_classes, exclude_self, chunk_size, seed):
    rng = np.random.default_rng(seed)
    gallery, gallery_labels = rng.standard_normal((num, 6)), rng.integers(0, num_classes, num)
    num_queries = num if exclude_self else 7
    queries = gallery if exclude_self else rng.standard_normal((num_queries, 6))
    query_labels = gallery_labels if exclude_self else rng.integers(0, num_classes, num_queries)
    recall, precisions, others_found = naive_metrics(
        queries, gallery, query_labels, gallery_labels, exclude_self=exclude_self, ks=(1, 3, 60)
    )
    arguments = (queries, gallery, query_labels, gallery_labels)
    options = {"exclude_self": exclude_self, "ks": (1, 3, 60), "chunk_size": chunk_size}
    if not precisions:
        with pytest.raises(UsageError, match="found none"):
            retrieval_metrics(*arguments, **options)
        return

    metrics = retrieval_metrics(*arguments, **options)

    np.testing.assert_allclose(metrics.average_precision_at_r, precisions, rtol=1e-12)
    assert {k: found.tolist() for k, found in metrics.recall.items()} == recall
    found = (metrics.average_precision_at_100, metrics.ndcg_at_100, metrics.first_rank)
    np.testing.assert_allclose(np.stack(found, axis=1), others_found, rtol=1e-12)
    assert metrics.num_left_out == num_queries - len(precisions)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of that library's own imports
def test_equals_pytorch_metric_learning():
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (400,), generator=generator)
    centres = torch.randn(30, 16, generator=generator)
    vectors = torch.nn.functional.normalize(centres[labels] + torch.randn(400, 16, generator=generator))
    calculator = calculators.AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r", "mean_average_precision", "mean_reciprocal_rank"),
        k=399,
        device=torch.device("cpu"),
    )
    expected = calculator.get_accuracy(vectors, labels)

    metrics = retrieval_metrics(vectors, vectors, labels, labels, exclude_self=True, chunk_size=77)

    assert metrics.recall_at(1) / 100 == pytest.approx(expected["precision_at_1"], abs=1e-9)
    assert metrics.map_at_r / 100 == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
    assert metrics.mrr / 100 == pytest.approx(expected["mean_reciprocal_rank"], abs=1e-6)

    # That library's average precision has no cut but its k.
    calculator = calculators.AccuracyCalculator(
        include=("mean_average_precision",), k=100, device=torch.device("cpu"), avg_of_avgs=False
    )
    expected = calculator.get_accuracy(vectors, labels)
    assert metrics.map_at_100 / 100 == pytest.approx(expected["mean_average_precision"], abs=1e-6)


class Largest(TorchFunctionMode):
    """The number of elements of the largest tensor that any operation returned."""

    num = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.num = max(self.num, tensor.numel())
        return out


def test_no_tensor_of_all_against_all():
    vectors = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(600) % 30
    with Largest() as of_metrics:
        retrieval_metrics(vectors, vectors, labels, labels, exclude_self=True, chunk_size=50)
    with Largest() as of_ranks:
        instance_ranks(vectors, vectors, range(600), chunk_size=50)
    assert of_metrics.num == of_ranks.num == 50 * 600


def test_ranks_of_the_one_answer_by_hand():
    gallery = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.8, 0.6]])
    queries = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
    # Rows 1 and 3 are copies: each is placed before the other where it is the answer.
    assert instance_ranks(queries, gallery, [0, 2, 2, 1]).tolist() == [1, 4, 3, 2]
    assert instance_ranks(queries, gallery, np.array([0, 2, 2, 1]), chunk_size=3).tolist() == [1, 4, 3, 2]


def test_ranks_equal_those_of_classes_of_one():
    rng = np.random.default_rng(0)
    gallery, queries, rows = rng.standard_normal((300, 8)), rng.standard_normal((70, 8)), rng.permutation(300)[:70]
    metrics = retrieval_metrics(queries, gallery, rows, np.arange(300), exclude_self=False)
    np.testing.assert_array_equal(instance_ranks(queries, gallery, rows), metrics.first_rank)
    assert metrics.first_rank.max() > 100


def test_read_only_arrays_and_half_precision(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    labels = [i % 3 for i in range(12)]
    a = retrieval_metrics(mapped, mapped, labels, labels, exclude_self=True)
    b = retrieval_metrics(torch.from_numpy(vectors).float(), vectors, labels, labels, exclude_self=True)
    np.testing.assert_array_equal(a.average_precision_at_r, b.average_precision_at_r)


V = np.eye(3)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((V, V[:2], "abc", "ab"), {"exclude_self": True}, "queries to be the gallery, got 3 and 2 rows"),
        ((V, V[:, :2], "abc", "abc"), {}, "of one length, got 3 and 2 numbers"),
        ((V, V, "ab", "abc"), {}, "one label an image, got (2,) for 3 queries"),
        ((V, V, "abc", "def"), {}, "found none; check the labels"),
        ((V[0], V, "abc", "abc"), {}, "queries as (N, D)"),
        ((V, V[:0], "abc", ""), {}, "gallery as (N, D) with N of at least 1, got (0, 3)"),
        ((V, V * np.nan, "abc", "abc"), {}, "gallery of finite numbers"),
        ((V, V, "abc", "abc"), {"ks": (0, 1)}, "at least 1, got ks=(0, 1)"),
        ((V, V, "abc", "abc"), {"chunk_size": 0}, "chunk_size=0"),
    ],
)
def test_mistakes_are_named(arguments, options, message):
    queries, gallery, query_labels, gallery_labels = arguments
    with pytest.raises(UsageError) as caught:
        retrieval_metrics(
            queries, gallery, list(query_labels), list(gallery_labels), **{"exclude_self": False, **options}
        )
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rows, message", [([0, 1], "got (2,) from 0 to 1"), ([0, 1, 3], "got (3,) from 0 to 3")])
def test_answers_that_are_not_there(rows, message):
    with pytest.raises(UsageError) as caught:
        instance_ranks(V, V, rows)
    assert "expected one row in 0..2 for each of 3 queries" in str(caught.value) and message in str(caught.value)


def test_recall_that_was_not_asked_for():
    metrics = retrieval_metrics(V, V, "aab", "aab", exclude_self=True, ks=(1, 2))
    with pytest.raises(UsageError, match="^expected k among 1, 2, got 3; name it in ks$"):
        metrics.recall_at(3)
