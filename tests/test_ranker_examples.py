"""What a ranker learns from: which candidates are relevant, which of them count, and how an order is judged."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lists import embedded, found, toy_examples, unit

from retrieval.embedder import Embeddings
from retrieval.errors import UsageError
from retrieval.metrics import retrieval_metrics
from retrieval.ranker import RankerConfig, RelevanceAttention
from retrieval.tokens import Tokens
from retrieval.training import ranker_examples, rerank_metrics
from retrieval.training.ranker_examples import labelled_examples, may_be_false, without_self
from retrieval.training.rerank_metrics import average_precision, measures, similarities, validate_ranker


def pictures(vectors: list[list[float]], dims: list[int]) -> Embeddings:
    full = unit(np.array(vectors))
    cut = unit(np.where(np.arange(full.shape[1]) < np.array(dims)[:, None], full, 0))
    return Embeddings(
        vectors=cut,
        full=full,
        dims=np.array(dims),
        attention=np.ones((len(dims), 1, 1), np.float32),
        tokens=Tokens(values=np.full((len(dims), 2), 127, np.int8), counts=np.ones(len(dims), np.int64)),
    )


def test_lists_by_hand():
    # 0, 1, 3: cats, 3 of them a near copy of 4, a dog; 2 without a label; 5 the only bird.
    some = pictures([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1.02, 1], [1, 0, 2]], [3, 2, 3, 3, 3, 3])
    labels = ["cat", "cat", None, "cat", "dog", "bird"]
    candidates = np.array([[1, 2, 4], [0, 3, 5], [0, 1, 3], [0, 4, 5], [0, 1, 3], [0, 1, 2]])
    examples = labelled_examples(some, labels, candidates)
    assert examples.rows.tolist() == [0, 1, 3] and examples.num_relevant.tolist() == [2, 2, 2]
    assert examples.candidates.tolist() == [[1, 2, 4], [0, 3, 5], [0, 4, 5]]
    assert examples.relevant.tolist() == [[True, False, False], [True, True, False], [True, False, False]]
    # 2 has no label; 4 shows what 3 shows, which asks for it.
    assert examples.counts.tolist() == [[True, False, True], [True, True, True], [True, False, True]]
    assert torch.equal(examples.queries.vectors, torch.from_numpy(some.full[[0, 1, 3]]))
    assert torch.equal(examples.documents.vectors, torch.from_numpy(some.vectors))
    as_others_do = labelled_examples(some, labels, candidates, near_duplicate=None)
    assert as_others_do.counts.tolist() == [[True, False, True], [True, True, True], [True, True, True]]


def test_a_copy_of_a_relevant_candidate_does_not_count():
    some = pictures([[1, 0, 0], [0, 1, 1], [0, 1.02, 1], [0, 1, -1]], [3, 3, 3, 3])
    candidates = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    examples = labelled_examples(some, ["cat", "cat", "dog", "dog"], candidates)
    assert examples.counts[0].tolist() == [True, False, True]


def test_a_copy_is_found_whatever_its_length():
    # Cut to one of its numbers a copy's inner product with the query is low, and its similarity 1.
    some = pictures([[1, 2, 2], [1, 2, 2], [2, -2, 1], [1, 2, 2.2]], [3, 1, 3, 3])
    examples = labelled_examples(
        some, ["cat", "dog", "dog", "cat"], np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    )
    assert similarities(examples)[0, 0] < 0.4 and may_be_false(examples)[0].tolist() == [True, False, False]


def test_little_is_held_at_once_however_long_the_lists(monkeypatch):
    examples, attention = toy_examples(), RelevanceAttention(RankerConfig(token_dim=8, num_dims=16))
    expected = may_be_false(examples, 0.3), similarities(examples), validate_ranker(attention, examples)
    assert expected[0].any() and not expected[0].all()
    seen = []
    attention.register_forward_hook(lambda _, __, relevance_QK: seen.append(relevance_QK.numel()))
    for module in (ranker_examples, rerank_metrics):
        monkeypatch.setattr(module, "_PAIRS", 30)
    assert torch.equal(may_be_false(examples, 0.3), expected[0])
    torch.testing.assert_close(similarities(examples), expected[1])
    assert validate_ranker(attention, examples) == pytest.approx(expected[2], rel=1e-5)
    assert set(seen) == {24} and [len(some) for some in examples.take(torch.arange(5)).split(30)] == [2, 2, 1]


def test_without_self():
    kept = without_self(np.array([[3, 1, 2], [4, 5, 6], [7, 8, 9]]), np.array([1, 4, 0]))
    assert kept.tolist() == [[3, 2], [5, 6], [7, 8]]


def test_taking_queries_and_candidates():
    examples = toy_examples()
    some = examples.take(torch.tensor([5, 2]))
    assert torch.equal(some.candidates, examples.candidates[[5, 2]]) and some.documents is examples.documents
    assert torch.equal(some.queries.tokens, examples.queries.tokens[[5, 2]]) and some.rows.tolist() == [5, 2]
    picked = some.of_candidates(torch.tensor([[3, 0], [1, 2]]))
    assert picked.candidates.tolist() == [some.candidates[0, [3, 0]].tolist(), some.candidates[1, [1, 2]].tolist()]
    assert picked.relevant[1].tolist() == some.relevant[1, [1, 2]].tolist()
    assert some.digest() == examples.take(torch.tensor([5, 2])).digest() != examples.digest()


def test_average_precision_by_hand():
    relevance = torch.tensor([[0.1, 0.9, 0.5, 0.7], [1.0, 1.0, 1.0, 0.0]])
    relevant = torch.tensor([[True, False, True, False], [True, False, False, True]])
    counts = torch.tensor([[True, True, True, True], [True, True, False, True]])
    precision, is_first = average_precision(relevance, relevant, counts, torch.tensor([4, 2]))
    # Hits at ranks 3 and 4 of four that there are; then, a rival of equal relevance before it, ranks 2 and 3 of two.
    assert precision.tolist() == pytest.approx([(1 / 3 + 2 / 4) / 4, (1 / 2 + 2 / 3) / 2])
    assert is_first.tolist() == [False, False]
    precision, is_first = average_precision(relevance, relevant, relevant, torch.tensor([2, 2]))
    assert precision.tolist() == [1, 1] and is_first.all()


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_whole_lists_are_judged_as_a_search_is(seed):
    embeddings, labels = embedded(5, 6, seed=seed)
    examples = labelled_examples(embeddings, labels, found(embeddings, 29), near_duplicate=None)
    got = measures(similarities(examples), examples)
    expected = retrieval_metrics(embeddings.full, embeddings.vectors, labels, labels, exclude_self=True, ks=(1,))
    assert got["map_at_100"] == pytest.approx(expected.map_at_100)
    assert got["recall_at_1"] == pytest.approx(expected.recall_at(1))


def test_what_does_not_fit_is_refused():
    embeddings, labels = embedded(2, 3, seed=0)
    with pytest.raises(UsageError, match=r"expected candidates \(6, K\), got \(5, 2\); give a list a picture"):
        labelled_examples(embeddings, labels, np.zeros((5, 2), np.int64))
    with pytest.raises(UsageError, match=r"expected candidates among documents 0..5, got others"):
        labelled_examples(embeddings, labels, np.full((6, 2), 6))
    with pytest.raises(UsageError, match="expected one label an image"):
        labelled_examples(embeddings, labels[1:], found(embeddings, 3))
