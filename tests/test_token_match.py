"""Attention between two sets of tokens: its gradient, its symmetry, and that padding and masked keys are not seen."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.layers.token_match import TokenMatch, attend

sizes, seeds = st.integers(1, 6), st.integers(0, 10**6)


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def random_match(token_dim: int, num_heads: int = 3) -> TokenMatch:
    torch.manual_seed(0)
    match = TokenMatch(token_dim, num_heads).double()
    torch.nn.init.normal_(match.scale_HE, 1, 0.5)
    return match


def made_up(num_queries: int, num_candidates: int, num_tokens: int, num_keys: int, seed: int = 0):
    """Tokens zero where there is none, any number of them, none at all included."""
    random = torch.Generator().manual_seed(seed)
    query_mask = torch.rand(num_queries, num_tokens, generator=random) < 0.7
    key_mask = torch.rand(num_queries, num_candidates, num_keys, generator=random) < 0.7
    queries = unit(num_queries, num_tokens, 5, seed=seed) * query_mask[..., None]
    keys = unit(num_queries, num_candidates, num_keys, 5, seed=seed + 1) * key_mask[..., None]
    return queries, query_mask, keys, key_mask


def test_attend_by_hand():
    # At τ = 1 / ln 3 a key at cosine 1 weighs three times as much as one at cosine 0.
    expected, weights = attend(
        torch.tensor([[1.0, 0]]), torch.eye(2), torch.tensor([True, True]), temperature=1 / math.log(3)
    )
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(expected, torch.tensor([[0.75, 0.25]]))


def test_match_by_hand():
    # The query token (1, 0) meets (1, 0) and (0, 1): it expects the cosine ¾; the keys meet it alone, at 1 and 0.
    match = TokenMatch(2, num_heads=1)
    with torch.no_grad():
        match.log_temperature_H.fill_(-math.log(math.log(3)))
    yes = torch.ones(1, 1, 2, dtype=torch.bool)
    score = match(torch.tensor([[[1.0, 0]]]), yes[0, :, :1], torch.eye(2)[None, None], yes)
    torch.testing.assert_close(score, torch.tensor([[[0.75 + 0.5]]]))


@given(num_keys=sizes, dim=sizes, temperature=st.floats(0.05, 5), seed=seeds, data=st.data())
@settings(deadline=None, max_examples=50)
def test_the_gradient_of_the_expected_key_is_the_covariance_of_the_keys(num_keys, dim, temperature, seed, data):
    mask_M = torch.tensor(data.draw(st.lists(st.booleans(), min_size=num_keys, max_size=num_keys).filter(any)))
    query_D, keys_MD = unit(dim, seed=seed), unit(num_keys, dim, seed=seed + 1)

    def expected_key(query_D):
        return attend(query_D[None], keys_MD, mask_M, temperature)[0][0]

    jacobian_DD = torch.autograd.functional.jacobian(expected_key, query_D)
    weights_M = attend(query_D[None], keys_MD, mask_M, temperature)[1][0]
    mean_D = weights_M @ keys_MD
    covariance_DD = (keys_MD - mean_D).T @ (weights_M[:, None] * (keys_MD - mean_D))
    torch.testing.assert_close(jacobian_DD, covariance_DD / temperature, rtol=1e-9, atol=1e-11)


@given(num_queries=sizes, num_keys=sizes, num_masked=sizes, dim=sizes, seed=seeds)
@settings(deadline=None, max_examples=50)
def test_masked_keys_do_not_matter(num_queries, num_keys, num_masked, dim, seed):
    queries_ND, keys_MD = unit(num_queries, dim, seed=seed), unit(num_keys, dim, seed=seed + 1)
    kept_M = torch.arange(num_keys + num_masked) < num_keys
    alone = attend(queries_ND, keys_MD, kept_M[:num_keys], 0.1)
    beside = attend(queries_ND, torch.cat([keys_MD, 1e3 * unit(num_masked, dim, seed=seed + 2)]), kept_M, 0.1)
    torch.testing.assert_close(beside[0], alone[0])
    torch.testing.assert_close(beside[1], F.pad(alone[1], (0, num_masked)))
    torch.testing.assert_close(beside[1].sum(-1), torch.ones(num_queries, dtype=torch.float64))


@given(shape=st.tuples(sizes, sizes, sizes, sizes), seed=seeds)
@settings(deadline=None, max_examples=50)
def test_match_is_that_of_a_plain_loop(shape, seed):
    queries, query_mask, keys, key_mask = made_up(*shape, seed=seed)
    match = random_match(5)

    def one_way(tokens, others, temperature):
        expected = []
        for token in tokens:
            weights = torch.stack([(token @ other / temperature).exp() for other in others])
            expected.append(sum(w / weights.sum() * (token @ other) for w, other in zip(weights, others, strict=True)))
        return sum(expected) / len(tokens)

    with torch.no_grad():
        found_QKH = match(queries, query_mask, keys, key_mask)
        for q in range(shape[0]):
            for k in range(shape[1]):
                for h, (scale, log_temperature) in enumerate(zip(match.scale_HE, match.log_temperature_H, strict=True)):
                    ours = F.normalize(queries[q][query_mask[q]] * scale, dim=-1)
                    theirs = F.normalize(keys[q, k][key_mask[q, k]] * scale, dim=-1)
                    both = len(ours) and len(theirs)
                    temperature = log_temperature.exp()
                    expected = one_way(ours, theirs, temperature) + one_way(theirs, ours, temperature) if both else 0.0
                    assert found_QKH[q, k, h].item() == pytest.approx(float(expected), abs=1e-9)


@given(num_tokens=sizes, num_keys=sizes, seed=seeds)
@settings(deadline=None, max_examples=50)
def test_query_and_candidate_may_be_swapped(num_tokens, num_keys, seed):
    match = random_match(5)
    queries, query_mask, keys, key_mask = made_up(1, 1, num_tokens, num_keys, seed=seed)
    forth = match(queries, query_mask, keys, key_mask)
    back = match(keys[:, 0], key_mask[:, 0], queries[:, None], query_mask[:, None])
    torch.testing.assert_close(forth, back)


@given(num_tokens=sizes, num_keys=sizes, more=st.tuples(sizes, sizes), seed=seeds)
@settings(deadline=None, max_examples=50)
def test_padding_changes_nothing(num_tokens, num_keys, more, seed):
    match = random_match(5)
    queries, query_mask, keys, key_mask = made_up(2, 3, num_tokens, num_keys, seed=seed)
    padded = match(
        F.pad(queries, (0, 0, 0, more[0])),
        F.pad(query_mask, (0, more[0])),
        F.pad(keys, (0, 0, 0, more[1])),
        F.pad(key_mask, (0, more[1])),
    )
    torch.testing.assert_close(padded, match(queries, query_mask, keys, key_mask))


def test_heads_look_at_other_numbers():
    match = TokenMatch(4, num_heads=2)
    with torch.no_grad():
        match.scale_HE.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
        match.log_temperature_H.fill_(-3)
    yes = torch.ones(1, 1, 1, dtype=torch.bool)
    token = torch.tensor([[[0.6, 0, 0.8, 0]]])
    turned = torch.tensor([[[[0.6, 0, 0, 0.8]]]])
    torch.testing.assert_close(match(token, yes[0], turned, yes), torch.tensor([[[2.0, 0.0]]]))


def test_a_perfect_match_is_two_whatever_the_head():
    match = random_match(5)
    token = unit(1, 1, 5, seed=0)
    yes = torch.ones(1, 1, 1, dtype=torch.bool)
    torch.testing.assert_close(match(token, yes[0], token[None], yes), torch.full((1, 1, 3), 2.0).double())


def test_without_tokens_the_match_is_nought_and_gradients_are_finite():
    match = random_match(5)
    queries, query_mask, keys, key_mask = made_up(2, 2, 3, 3)
    query_mask[0], key_mask[1, 0] = False, False
    queries = (queries * query_mask[..., None]).requires_grad_()
    keys = (keys * key_mask[..., None]).requires_grad_()
    score = match(queries, query_mask, keys, key_mask)
    assert not score[0].any() and not score[1, 0].any() and score[1, 1].all()
    score.sum().backward()
    for gradient in (queries.grad, keys.grad, match.scale_HE.grad, match.log_temperature_H.grad):
        assert gradient.isfinite().all()


def test_gradients_are_those_of_small_differences():
    queries, query_mask, keys, key_mask = made_up(2, 2, 2, 3, seed=3)
    query_mask[:, 0], key_mask[..., 0] = True, True
    queries, keys = unit(2, 2, 5, seed=4), unit(2, 2, 3, 5, seed=5)
    match = random_match(5)

    def score(queries, keys, *parameters):
        names = ("scale_HE", "log_temperature_H")
        return torch.func.functional_call(
            match, dict(zip(names, parameters, strict=True)), (queries, query_mask, keys, key_mask)
        )

    inputs = [queries, keys, match.scale_HE, match.log_temperature_H]
    assert torch.autograd.gradcheck(score, [value.detach().requires_grad_() for value in inputs])
