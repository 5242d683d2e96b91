"""Recall@K and mAP@R against a case by hand, a naive double loop and another library."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.metrics import retrieval_metrics


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
    recall, precisions = {k: [] for k in ks}, []
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
    return recall, precisions


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
    recall, precisions = naive_metrics(
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
    assert metrics.num_left_out == num_queries - len(precisions)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of that library's own imports
def test_equals_pytorch_metric_learning():
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (400,), generator=generator)
    centres = torch.randn(30, 16, generator=generator)
    vectors = torch.nn.functional.normalize(centres[labels] + torch.randn(400, 16, generator=generator))
    calculator = calculators.AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count", device=torch.device("cpu")
    )
    expected = calculator.get_accuracy(vectors, labels)

    metrics = retrieval_metrics(vectors, vectors, labels, labels, exclude_self=True, chunk_size=77)

    assert metrics.recall_at(1) / 100 == pytest.approx(expected["precision_at_1"], abs=1e-9)
    assert metrics.map_at_r / 100 == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)


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
