"""What the ranker weighs: agreement with the query, with the other candidates, and of metadata, worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.reranking.described import Described
from retrieval.reranking.ranker_features import CandidateContext, GlobalMatch, MetadataMatch, affinity, standardised

rows_of_numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


def described(
    vectors: torch.Tensor, numbers: torch.Tensor | None = None, categories: torch.Tensor | None = None
) -> Described:
    shape = vectors.shape[:-1]
    return Described(
        vectors=vectors,
        dims=(vectors != 0).sum(-1).float(),
        tokens=torch.zeros(*shape, 1, 2),
        mask=torch.zeros(*shape, 1, dtype=torch.bool),
        numbers=torch.zeros(*shape, 0) if numbers is None else numbers,
        categories=torch.zeros(*shape, 0, dtype=torch.int64) if categories is None else categories,
    )


def metadata_of(numbers: list | None = None, categories: list | None = None) -> Described:
    columns = [None if values is None else torch.tensor(values) for values in (numbers, categories)]
    shape = next(values.shape[:-1] for values in columns if values is not None)
    return described(torch.ones(*shape, 1), *columns)


def test_global_match_by_hand():
    queries = described(torch.tensor([[0.6, 0.64, 0.48]]))
    # The query's own first number, its first two, and something else.
    candidates = described(torch.tensor([[[1.0, 0, 0], [0.6, 0.64, 0], [0, 0.6, 0.8]]]))
    candidates = candidates._replace(vectors=F.normalize(candidates.vectors, dim=-1))
    match = GlobalMatch(3)
    own = math.hypot(0.6, 0.64)
    expected = [[0.6, own, 0.768], [1, 1, 0.768 / 0.8]]
    score_QK, similarity_QK, weighted_QK = match(queries, candidates)
    torch.testing.assert_close(torch.stack([score_QK[0], similarity_QK[0]]), torch.tensor(expected))
    torch.testing.assert_close(weighted_QK, score_QK)
    with torch.no_grad():
        match.gain_D.copy_(torch.tensor([2.0, 0, 0]))
    torch.testing.assert_close(match(queries, candidates)[2], torch.tensor([[1.2, 2 * 0.36 / own, 0]]))


def test_a_candidate_without_numbers_has_no_similarity():
    queries, candidates = described(torch.tensor([[0.6, 0.8]])), described(torch.zeros(1, 1, 2))
    assert [values.item() for values in GlobalMatch(2)(queries, candidates)] == [0, 0, 0]


def test_affinity_leaves_oneself_out():
    vectors_QKD = F.normalize(torch.randn(2, 4, 3), dim=-1)
    affinity_QKK = affinity(vectors_QKD)
    for q in range(2):
        for i in range(4):
            for j in range(4):
                expected = 0.0 if i == j else float(vectors_QKD[q, i] @ vectors_QKD[q, j])
                assert affinity_QKK[q, i, j].item() == pytest.approx(expected, abs=1e-6)


def test_context_by_hand():
    affinity_QKK = torch.tensor([[[0, 0.6, 0.2], [0.6, 0, 0.4], [0.2, 0.4, 0]]])
    context = CandidateContext()
    mean, *weighted = context(torch.zeros(1, 3), affinity_QKK)
    assert len(weighted) + 1 == context.num_features
    torch.testing.assert_close(mean, torch.tensor([[0.8, 1.0, 0.6]]) / 3)
    for features_QK in weighted:  # all weigh the same: the mean over the two others
        torch.testing.assert_close(features_QK, torch.tensor([[0.4, 0.5, 0.3]]))
    # With ln 2 between them and a sharpness of 1 the first weighs twice as much as each other.
    first = context(torch.tensor([[math.log(2), 0, 0]]), affinity_QKK)[1]
    expected = [(0.6 + 0.2) / 2, (2 * 0.6 + 0.4) / 3, (2 * 0.2 + 0.4) / 3]
    torch.testing.assert_close(first, torch.tensor([expected]))


def test_context_is_the_score_of_the_expanded_query():
    random = torch.Generator().manual_seed(0)
    vectors_KD = F.normalize(torch.randn(6, 4, generator=random, dtype=torch.float64), dim=-1)
    first_K = torch.randn(6, generator=random, dtype=torch.float64)
    context = CandidateContext().double()
    features = context(first_K[None], affinity(vectors_KD[None]))[1:]
    for features_QK, sharpness in zip(features, context.log_sharpness_S.exp(), strict=True):
        for i in range(6):
            others = [j for j in range(6) if j != i]
            weights = (first_K[others] * sharpness).softmax(0)
            assert features_QK[0, i].item() == pytest.approx((weights @ vectors_KD[others] @ vectors_KD[i]).item())


def test_a_candidate_alone_has_no_context():
    assert [values.item() for values in CandidateContext()(torch.ones(1, 1), torch.zeros(1, 1, 1))] == [0] * 4


def stacked(features: list) -> torch.Tensor:
    return torch.stack([values for values, _ in features])


def test_numbers_by_hand():
    nan = math.nan
    match = MetadataMatch(2, ())
    queries, candidates = metadata_of([[1.0, nan]]), metadata_of([[[1.5, 0], [nan, nan], [-9, 2]]])
    found, known = zip(*match(queries, candidates), strict=True)
    assert len(found) == match.num_features == 4
    assert torch.stack(found)[:, 0].tolist() == [[-0.5, 0, -4], [1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert known[0].tolist() == [[True, False, True]] and known[1] is None and not known[2].any()


def test_categories_by_hand():
    match = MetadataMatch(0, (4,), num_channels=2)
    with torch.no_grad():
        match.alike[0].weight.copy_(torch.tensor([[9.0, 9], [2, 0], [0, 3], [0.6, 0.8]]))
    found = stacked(match(metadata_of(categories=[[1]]), metadata_of(categories=[[[1], [2], [3], [0]]])))[:, 0]
    assert len(found) == match.num_features == 3
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0, 0], [1, 0, 0.6, 0], [1, 1, 1, 0]]))
    unknown = stacked(match(metadata_of(categories=[[0]]), metadata_of(categories=[[[1], [0]]])))
    assert not unknown.any()


@given(pair=st.tuples(*[st.tuples(st.floats(-5, 5) | st.just(math.nan), st.integers(0, 3))] * 2))
@settings(deadline=None, max_examples=50)
def test_metadata_match_is_symmetric(pair):
    torch.manual_seed(0)
    match = MetadataMatch(1, (4,))
    one, other = ((number, category) for number, category in pair)

    def features(query, candidate):
        queries = metadata_of([[query[0]]], [[query[1]]])
        candidates = metadata_of([[[candidate[0]]]], [[[candidate[1]]]])
        return stacked(match(queries, candidates))

    torch.testing.assert_close(features(one, other), features(other, one))
    assert features(one, other).isfinite().all()


def test_standardised_by_hand():
    values_QK = torch.tensor([[1.0, 3, 5], [7, 7, 7]])
    spread = (8 / 3) ** 0.5
    torch.testing.assert_close(standardised(values_QK), torch.tensor([[-2 / spread, 0, 2 / spread], [0, 0, 0]]))
    counts_QK = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(standardised(values_QK, counts_QK), torch.tensor([[-1.0, 1, 0], [0, 0, 0]]))


@given(
    rows_of_numbers.flatmap(
        lambda values: st.tuples(st.just(values), st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    ),
    st.floats(0.5, 20),
    st.floats(-50, 50),
)
@settings(deadline=None, max_examples=50)
def test_standardised_sees_differences_alone(drawn, gain, shift):
    values_QK = torch.tensor([drawn[0]], dtype=torch.float64)
    counts_QK = torch.tensor([drawn[1]])
    found = standardised(values_QK, counts_QK)
    assert not found[~counts_QK].any() and abs(found.sum()) < 1e-5
    if values_QK[counts_QK].numel() and values_QK[counts_QK].std(correction=0) > 0.1:
        assert found[counts_QK].std(correction=0).item() == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(standardised(gain * values_QK + shift, counts_QK), found, rtol=0, atol=1e-3)
    # What does not count may hold anything.
    torch.testing.assert_close(standardised(values_QK.masked_fill(~counts_QK, 1e3), counts_QK), found)


def test_equal_values_give_finite_gradients():
    values_QK = torch.full((2, 4), 0.3, requires_grad=True)
    (standardised(values_QK) * torch.arange(4)).sum().backward()
    assert values_QK.grad.isfinite().all()
