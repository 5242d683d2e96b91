"""Feedback features: counts, counts by how alike the queries are, and likeness to what was chosen."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.reranking import feedback_features as module
from retrieval.reranking.feedback_features import TEMPERATURE, Judgments, feedback_features
from retrieval.reranking.ranker_features import NUM_FEEDBACK

seeds = st.integers(0, 10**6)


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def made_up(num_judgments: int, seed: int = 0, num_images: int = 9) -> Judgments:
    """Judgments of a few images, so that some are judged often and some never; queries rather like each other."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, num_images, (num_judgments,), generator=random)
    return Judgments(
        queries=F.normalize(unit(num_judgments, 4, seed=seed) + 2 * torch.eye(4)[0], dim=-1),
        rows=rows,
        vectors=unit(num_images, 4, seed=100)[rows],
        relevant=torch.rand(num_judgments, generator=random) < 0.5,
    )


def asked(num_queries: int = 3, num_candidates: int = 5, seed: int = 0, num_images: int = 9):
    rows = torch.randint(0, num_images, (num_queries, num_candidates), generator=torch.Generator().manual_seed(seed))
    queries = F.normalize(unit(num_queries, 4, seed=seed + 1) + 2 * torch.eye(4)[0], dim=-1)
    return queries, rows, unit(num_images, 4, seed=100)[rows]


def plain(judgments, queries, rows, vectors, seen):
    """The definition, one judgment after another."""
    features = np.zeros((*rows.shape, NUM_FEEDBACK))
    for q, k in np.ndindex(*rows.shape):
        for column, is_judged in enumerate((judgments.relevant, ~judgments.relevant)):
            times = weighted = total = alike = 0.0
            for j in range(len(judgments)):
                if is_judged[j] and seen[q, j]:
                    weight = math.exp((float(queries[q] @ judgments.queries[j]) - 1) / TEMPERATURE)
                    is_it = bool(judgments.rows[j] == rows[q, k])
                    times, weighted = times + is_it, weighted + is_it * weight
                    total, alike = total + weight, alike + weight * float(vectors[q, k] @ judgments.vectors[j])
            features[q, k, [column, 2 + column, 4 + column]] = (
                math.log1p(times),
                math.log1p(weighted),
                alike / total if total else 0.0,
            )
    return features


def test_by_hand():
    # Judged for this very query: image 7 accepted; for one at a cosine of 0.9, e⁻¹ as much: 7 rejected, 5 accepted.
    near = [0.9, math.sqrt(1 - 0.81)]
    judgments = Judgments(
        queries=torch.tensor([[1.0, 0], near, near]),
        rows=torch.tensor([7, 7, 5]),
        vectors=torch.tensor([[1.0, 0], [1, 0], [0, 1]]),
        relevant=torch.tensor([True, False, True]),
    )
    found = feedback_features(
        judgments, torch.tensor([[1.0, 0]]), torch.tensor([[7, 5, 6]]), torch.tensor([[[1.0, 0], [0, 1], [0.6, 0.8]]])
    )
    e, two = math.exp(-1), math.log(2)
    expected = [
        [two, two, two, math.log1p(e), 1 / (1 + e), 1],
        [two, 0, math.log1p(e), 0, e / (1 + e), 0],
        [0, 0, 0, 0, (0.6 + 0.8 * e) / (1 + e), 0.6],
    ]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-5, atol=1e-6)


def test_a_judged_query_that_is_cut_counts_as_the_picture_that_it_is():
    full = F.normalize(torch.tensor([[3.0, 2, 1, 1]]), dim=-1)
    cut = F.normalize(full * torch.tensor([1, 1, 0, 0]), dim=-1)
    _, rows, vectors = asked(1)
    judgments = made_up(1)
    of_cut, of_full = (feedback_features(replace(judgments, queries=q), full, rows, vectors) for q in (cut, full))
    assert of_full[..., 2:4].any()
    torch.testing.assert_close(of_cut, of_full)


@given(num_judgments=st.integers(1, 12), seed=seeds)
@settings(deadline=None, max_examples=50)
def test_it_is_the_definition_written_out(num_judgments, seed):
    judgments, (queries, rows, vectors) = made_up(num_judgments, seed), asked(seed=seed)
    leave_out = torch.rand(3, num_judgments, generator=torch.Generator().manual_seed(seed)) < 0.3
    found = feedback_features(judgments, queries, rows, vectors, leave_out=leave_out)
    np.testing.assert_allclose(found, plain(judgments, queries, rows, vectors, ~leave_out), rtol=1e-4, atol=1e-5)


@given(num_judgments=st.integers(1, 30), seed=seeds)
@settings(deadline=None, max_examples=50)
def test_the_order_of_judgments_does_not_matter(num_judgments, seed):
    judgments = made_up(num_judgments, seed)
    order = torch.randperm(num_judgments, generator=torch.Generator().manual_seed(seed))
    names = ("queries", "rows", "vectors", "relevant")
    mixed = Judgments(**{name: getattr(judgments, name)[order] for name in names})
    torch.testing.assert_close(feedback_features(mixed, *asked()), feedback_features(judgments, *asked()))


def test_no_judgments_say_nothing():
    found = feedback_features(made_up(0), *asked())
    assert found.shape == (3, 5, NUM_FEEDBACK) and not found.any()


@given(num_judgments=st.integers(1, 12), seed=seeds)
@settings(deadline=None, max_examples=50)
def test_a_judgment_left_out_is_as_if_it_had_not_been_made(num_judgments, seed):
    judgments = made_up(num_judgments, seed)
    kept = torch.rand(num_judgments, generator=torch.Generator().manual_seed(seed)) < 0.5
    fewer = Judgments(**{name: getattr(judgments, name)[kept] for name in ("queries", "rows", "vectors", "relevant")})
    found = feedback_features(judgments, *asked(), leave_out=~kept.expand(3, -1))
    torch.testing.assert_close(found, feedback_features(fewer, *asked()))
    everything = torch.ones(3, num_judgments, dtype=torch.bool)
    assert not feedback_features(judgments, *asked(), leave_out=everything).any()


def test_leave_out_as_numbers_is_leave_out_as_a_table():
    judgments = made_up(10)
    numbers = [[0, 3], [], torch.tensor([9])]
    table = torch.zeros(3, 10, dtype=torch.bool)
    table[0, [0, 3]], table[2, 9] = True, True
    by_numbers, by_table = (feedback_features(judgments, *asked(), leave_out=out) for out in (numbers, table))
    torch.testing.assert_close(by_numbers, by_table, rtol=0, atol=0)
    unchanged = feedback_features(judgments, *asked())
    torch.testing.assert_close(by_numbers[1], unchanged[1])
    assert (by_numbers[0] - unchanged[0]).abs().max() > 1e-3


def test_queries_a_few_at_a_time(monkeypatch):
    judgments, query = made_up(10), asked(num_queries=7)
    leave_out = torch.rand(7, 10, generator=torch.Generator().manual_seed(0)) < 0.3
    whole = feedback_features(judgments, *query, leave_out=leave_out)
    monkeypatch.setattr(module, "_MOST_PAIRS", 25)
    torch.testing.assert_close(feedback_features(judgments, *query, leave_out=leave_out), whole)
    monkeypatch.setattr(module, "_MOST_PAIRS", 3)
    torch.testing.assert_close(feedback_features(judgments, *query, leave_out=leave_out), whole)


@pytest.mark.parametrize("is_relevant", [True, False])
def test_what_was_judged_is_most_like_itself(is_relevant):
    judgments = replace(made_up(1), relevant=torch.tensor([is_relevant]))
    found = feedback_features(judgments, asked(1)[0], torch.arange(9)[None], unit(9, 4, seed=100)[None])
    accepted_K, rejected_K = found[0, :, 4:].unbind(-1)
    said_K, silent_K = (accepted_K, rejected_K) if is_relevant else (rejected_K, accepted_K)
    assert said_K.argmax() == judgments.rows[0] and not silent_K.any()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: feedback_features(made_up(4), *asked(), leave_out=torch.ones(3, 5, dtype=torch.bool)), r"\(3, 4\) bo"),
        (lambda: feedback_features(made_up(4), *asked(), leave_out=torch.ones(3, 4)), r"got \(3, 4\) torch.float32$"),
        (lambda: feedback_features(made_up(4), *asked(), leave_out=[[0], [1]]), "each of 3 queries, got 2$"),
        (
            lambda: Judgments(
                queries=unit(3, 4, seed=0),
                rows=torch.arange(2),
                vectors=unit(3, 4, seed=0),
                relevant=torch.ones(3, dtype=torch.bool),
            ),
            r"^expected queries and vectors \(J, D\), rows and relevant \(J,\), got \[\(3, 4\), \(2,\), .* align them$",
        ),
        (
            lambda: Judgments(
                queries=unit(3, 4, seed=0),
                rows=torch.arange(3),
                vectors=unit(3, 4, seed=0),
                relevant=torch.ones(3),
            ),
            "^expected rows of int64 and relevant of bool, got torch.int64 and torch.float32$",
        ),
    ],
)
def test_wrong_use_is_told(act, message):
    with pytest.raises(UsageError, match=message):
        act()
