"""The differentiable search engine: what it may not depend on, what it must, and where its gradients go."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrieval import ranker as ranker_module
from retrieval.errors import UsageError
from retrieval.ranker import DifferentiableSearchEngine, RankerConfig, RelevanceAttention
from retrieval.reranking.described import Described
from retrieval.reranking.metadata import CategoryColumn, MetadataColumns, NumberColumn
from retrieval.reranking.ranker_features import NUM_FEEDBACK

COLUMNS = MetadataColumns(
    numbers=(NumberColumn(name="price", mean=2.0, spread=0.5),),
    categories=(CategoryColumn(name="colour", values=("blue", "red")),),
)
SMALL = RankerConfig(token_dim=5, num_dims=12, num_heads=2, num_channels=8, num_candidate_heads=2, metadata=COLUMNS)


def ranker(config: RankerConfig = SMALL, *, is_fresh: bool = False) -> RelevanceAttention:
    """One that weighs everything, as if it had been trained."""
    torch.manual_seed(0)
    attention = RelevanceAttention(config)
    if not is_fresh:
        for parameter in attention.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return attention.double().eval()


def engine_of(attention: RelevanceAttention) -> DifferentiableSearchEngine:
    return DifferentiableSearchEngine(nn.Identity(), nn.Identity(), attention)


def pictures(*shape: int, seed: int = 0, num_tokens: int = 4, config: RankerConfig = SMALL) -> Described:
    """Made-up pictures of any leading shape: cut at their dims, with any number of tokens, some metadata unknown."""
    random = torch.Generator().manual_seed(seed)

    def draw(*more: int) -> torch.Tensor:
        return torch.randn(*shape, *more, generator=random, dtype=torch.float64)

    dims = torch.randint(3, config.num_dims + 1, shape, generator=random).double()
    is_kept = torch.arange(config.num_dims) < dims[..., None]
    mask = torch.arange(num_tokens) < torch.randint(0, num_tokens + 1, shape, generator=random)[..., None]
    num_numbers = len(config.metadata.numbers)
    sizes = torch.tensor(config.metadata.category_sizes, dtype=torch.int64)
    numbers = draw(num_numbers)
    return Described(
        vectors=F.normalize(draw(config.num_dims) * is_kept, dim=-1),
        dims=dims,
        tokens=F.normalize(draw(num_tokens, config.token_dim), dim=-1) * mask[..., None],
        mask=mask,
        numbers=torch.where(torch.rand(numbers.shape, generator=random) < 0.3, math.nan, numbers),
        categories=torch.randint(0, 100, (*shape, len(sizes)), generator=random) % sizes,
    )


def feedback(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, NUM_FEEDBACK, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_fresh_ranker_orders_as_similarity_does():
    queries, candidates = pictures(3), pictures(3, 20, seed=1)
    relevance_QK = ranker(is_fresh=True)(queries, candidates, feedback(3, 20))
    similarity_QK = (queries.vectors[:, None] * candidates.vectors).sum(-1)
    assert relevance_QK.argsort(1).tolist() == similarity_QK.argsort(1).tolist()
    expected = (similarity_QK - similarity_QK.mean(1, keepdim=True)) / similarity_QK.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(relevance_QK, expected, rtol=1e-5, atol=1e-5)


def test_what_people_said_does_not_sway_one_that_never_learned_from_it():
    attention, told_QKF = ranker(is_fresh=True), feedback(3, 20)
    with torch.no_grad():  # as if trained on lists without feedback, which leaves its columns alone
        attention.correct.weight.fill_(1.0)
    queries, candidates = pictures(3), pictures(3, 20, seed=1)
    assert not attention.reads_feedback
    torch.testing.assert_close(attention(queries, candidates, told_QKF), attention(queries, candidates))
    attention(queries, candidates, told_QKF)[0, 0].backward()
    assert attention.embed.weight.grad[:, -2 - NUM_FEEDBACK : -2].abs().sum(0).min() > 0, "it can learn to"
    assert ranker().reads_feedback


def test_tokens_are_matched_some_candidates_at_a_time(monkeypatch):
    attention, queries, candidates = ranker(), pictures(3), pictures(3, 20, seed=1)
    expected, seen = attention(queries, candidates), []
    attention.token_match.register_forward_hook(lambda *_: seen.append(1))
    monkeypatch.setattr(ranker_module, "_MOST_NUMBERS", 3 * 2 * 4 * 4 * 6)  # of six candidates
    torch.testing.assert_close(attention(queries, candidates), expected)
    assert len(seen) == 4


def test_documents_for_all_queries_or_for_each():
    queries, documents = pictures(3), pictures(6, seed=1)
    engine = engine_of(ranker())
    for_each = documents.map(lambda field: field[None].repeat(3, *[1] * field.ndim))
    found_QK = engine(queries, documents)
    assert found_QK.shape == (3, 6) and found_QK.std(1).min() > 0.1
    torch.testing.assert_close(found_QK, engine(queries, for_each))
    torch.testing.assert_close(
        found_QK[1:2], engine(queries.take(torch.tensor([1])), documents), msg="queries depend on each other"
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_order_of_the_candidates_does_not_matter(dtype):
    attention = ranker().to(dtype)
    queries, candidates = (
        described.map(lambda field: field.to(dtype) if field.is_floating_point() else field)
        for described in (pictures(2), pictures(2, 30, seed=1))
    )
    told_QKF = feedback(2, 30).to(dtype)
    relevance_QK = attention(queries, candidates, told_QKF)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    mixed_QK = attention(queries, candidates.map(lambda field: field[:, order]), told_QKF[:, order])
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(mixed_QK, relevance_QK[:, order], rtol=0, atol=atol)
    assert order[mixed_QK.argsort(1, descending=True)].tolist() == relevance_QK.argsort(1, descending=True).tolist()


@given(more=st.tuples(st.integers(0, 5), st.integers(0, 5)), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_padding_does_not_matter(more, seed):
    attention, queries, candidates = ranker(), pictures(2, seed=seed), pictures(2, 5, seed=seed + 1)

    def padded(described: Described, num_more: int) -> Described:
        return described._replace(
            tokens=F.pad(described.tokens, (0, 0, 0, num_more)), mask=F.pad(described.mask, (0, num_more))
        )

    expected = attention(queries, candidates)
    torch.testing.assert_close(attention(padded(queries, more[0]), padded(candidates, more[1])), expected)


@pytest.mark.parametrize("side", ["query", "candidate", "both"])
def test_pictures_without_tokens_are_ranked_all_the_same(side):
    attention, queries, candidates = ranker(), pictures(2), pictures(2, 5, seed=1)

    def without(described: Described) -> Described:
        return described._replace(tokens=torch.zeros_like(described.tokens), mask=torch.zeros_like(described.mask))

    if side != "candidate":
        queries = without(queries)
    if side != "query":
        candidates = without(candidates)
    relevance_QK = attention(queries, candidates)
    assert relevance_QK.isfinite().all() and relevance_QK.std(1).min() > 0.01
    features_QKF, _ = attention.features(queries, candidates, None)
    assert not features_QKF[..., 3 : 3 + SMALL.num_heads].any()


def test_one_without_tokens_among_others_takes_the_middle_of_their_matches():
    attention = ranker()
    queries, candidates = (
        described._replace(
            tokens=F.normalize(torch.randn_like(described.tokens), dim=-1), mask=torch.ones_like(described.mask)
        )
        for described in (pictures(1), pictures(1, 5, seed=1))
    )
    candidates.mask[0, 2], candidates.tokens[0, 2] = False, 0
    features_QKF, _ = attention.features(queries, candidates, None)
    matches_KH = features_QKF[0, :, 3 : 3 + SMALL.num_heads]
    assert not matches_KH[2].any() and matches_KH[[0, 1, 3, 4]].all()
    torch.testing.assert_close(matches_KH.sum(0), torch.zeros(SMALL.num_heads, dtype=torch.float64))


def test_a_candidate_alone():
    attention = ranker()
    assert attention(pictures(2), pictures(2, 1, seed=1)).isfinite().all()
    assert not ranker(is_fresh=True)(pictures(2), pictures(2, 1, seed=1)).any()


def test_identical_candidates_score_alike_and_give_finite_gradients():
    attention, queries, one = ranker(), pictures(2), pictures(2, 1, seed=1)
    candidates = one.map(lambda field: field.repeat(1, 6, *[1] * (field.ndim - 2)))
    candidates = candidates._replace(vectors=candidates.vectors.requires_grad_())
    candidates = candidates._replace(tokens=candidates.tokens.requires_grad_())
    relevance_QK = attention(queries, candidates)
    torch.testing.assert_close(relevance_QK, relevance_QK[:, :1].expand(2, 6))
    relevance_QK.square().sum().backward()
    gradients = [candidates.vectors.grad, candidates.tokens.grad, *(p.grad for p in attention.parameters())]
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_two_that_are_the_same_among_others_score_the_same():
    candidates = pictures(2, 6, seed=1).map(lambda field: field[:, [0, 1, 2, 3, 1, 5]])
    relevance_QK = ranker()(pictures(2), candidates)
    torch.testing.assert_close(relevance_QK[:, 1], relevance_QK[:, 4])


class LinearEncoder(nn.Module):
    """Numbers (..., 6) to a picture: each of its parts a linear map of them."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.vector = nn.Linear(6, SMALL.num_dims)
        self.dim = nn.Linear(6, 1)
        self.tokens = nn.Linear(6, 3 * SMALL.token_dim)

    def forward(self, inputs: torch.Tensor) -> Described:
        shape = inputs.shape[:-1]
        return Described(
            vectors=F.normalize(self.vector(inputs), dim=-1),
            dims=40 * self.dim(inputs).squeeze(-1).exp(),
            tokens=F.normalize(self.tokens(inputs).unflatten(-1, (3, SMALL.token_dim)), dim=-1),
            mask=torch.ones(*shape, 3, dtype=torch.bool),
            numbers=torch.full((*shape, 1), math.nan, dtype=inputs.dtype),
            categories=torch.zeros(*shape, 1, dtype=torch.int64),
        )


@pytest.mark.parametrize("leading", [(4,), (2, 4)])
def test_gradients_reach_both_encoders_as_small_differences_say(leading):
    engine = DifferentiableSearchEngine(LinearEncoder(1), LinearEncoder(2), ranker()).double()
    random = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 6, generator=random, dtype=torch.float64)
    documents = torch.randn(*leading, 6, generator=random, dtype=torch.float64)
    target_QK = torch.randn(2, 4, generator=random, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return (engine(queries, documents) * target_QK).sum()

    loss().backward()
    step = 1e-6
    for encoder in (engine.query_encoder, engine.document_encoder):
        for name, parameter in encoder.named_parameters():
            direction = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            with torch.no_grad():
                parameter += step * direction
                above = loss()
                parameter -= 2 * step * direction
                below = loss()
                parameter += step * direction
            slope = ((above - below) / (2 * step)).item()
            assert abs(slope) > 1e-4, name
            assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_every_parameter_learns():
    attention = ranker()
    queries, candidates = pictures(3), pictures(3, 8, seed=1)
    target_QK = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (attention(queries, candidates, feedback(3, 8)) * target_QK).sum().backward()
    assert [name for name, parameter in attention.named_parameters() if not parameter.grad.any()] == []


def test_a_fresh_ranker_can_learn_from_tokens_metadata_and_feedback():
    attention = ranker(is_fresh=True)
    queries = pictures(3)._replace(numbers=torch.zeros(3, 1))
    target_QK = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (attention(queries, pictures(3, 8, seed=1), feedback(3, 8)) * target_QK).sum().backward()
    assert attention.weigh.weight.grad.all() and attention.correct.weight.grad.all()


def test_no_feedback_is_feedback_that_says_nothing():
    attention, queries, candidates = ranker(), pictures(2), pictures(2, 5, seed=1)
    nothing = torch.zeros(2, 5, NUM_FEEDBACK, dtype=torch.float64)
    torch.testing.assert_close(attention(queries, candidates), attention(queries, candidates, nothing))
    said = attention(queries, candidates, feedback(2, 5))
    assert (said - attention(queries, candidates)).abs().max() > 0.01


def test_a_ranker_without_columns_reads_none():
    config = replace(SMALL, metadata=MetadataColumns())
    relevance_QK = ranker(config)(pictures(2, config=config), pictures(2, 5, seed=1, config=config))
    assert relevance_QK.shape == (2, 5) and relevance_QK.isfinite().all()


@pytest.mark.parametrize("depth", [0, 1])
def test_depth(depth):
    attention = ranker(replace(SMALL, depth=depth))
    assert len(attention.layers) == depth
    assert attention(pictures(2), pictures(2, 5, seed=1)).isfinite().all()


def test_the_configuration_is_read_back_from_json():
    assert RankerConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    assert RankerConfig.from_dict(json.loads(json.dumps(RankerConfig().to_dict()))) == RankerConfig()


def test_weights_fit_the_configuration_that_is_read_back():
    again = RelevanceAttention(RankerConfig.from_dict(json.loads(json.dumps(SMALL.to_dict())))).double()
    again.load_state_dict(ranker().state_dict())
    queries, candidates = pictures(2), pictures(2, 5, seed=1)
    torch.testing.assert_close(again(queries, candidates), ranker()(queries, candidates))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_heads": 0}, "^expected num_heads of at least 1, got 0$"),
        ({"token_dim": 0}, "^expected token_dim of at least 1, got 0$"),
        ({"depth": -1}, "^expected a depth of 0 or more, got -1$"),
        ({"num_channels": 30}, "^expected num_channels that 4 heads divide, got 30$"),
    ],
)
def test_a_configuration_that_cannot_be_is_told(values, message):
    with pytest.raises(UsageError, match=message):
        RankerConfig(**values)


def test_candidates_of_other_queries_are_told():
    with pytest.raises(UsageError, match=r"^expected candidates for 2 queries, got them for 3; give \(K,\) documents"):
        engine_of(ranker())(pictures(2), pictures(3, 5))
