"""Attention among the candidates of one query: a set, in which those that are alike see each other."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.layers.candidate_attention import CandidateAttention


def random_layer(num_channels: int = 8, num_heads: int = 2) -> CandidateAttention:
    torch.manual_seed(0)
    layer = CandidateAttention(num_channels, num_heads).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    return layer


def made_up(num_queries: int, num_candidates: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    hidden_QKC = torch.randn(num_queries, num_candidates, 8, generator=random, dtype=torch.float64)
    vectors_QKD = torch.randn(num_queries, num_candidates, 3, generator=random, dtype=torch.float64)
    return hidden_QKC, vectors_QKD @ vectors_QKD.mT


def test_a_fresh_layer_changes_a_candidate_by_a_constant_alone():
    torch.manual_seed(0)
    layer = CandidateAttention(8, 2)
    hidden_QKC, affinity_QKK = (values.float() for values in made_up(2, 5))
    change_QKC = layer(hidden_QKC, affinity_QKK) - hidden_QKC
    torch.testing.assert_close(change_QKC, change_QKC[:1, :1].expand_as(change_QKC))


@given(num_candidates=st.integers(1, 7), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_the_order_of_the_candidates_does_not_matter(num_candidates, seed):
    layer = random_layer()
    hidden_QKC, affinity_QKK = made_up(2, num_candidates, seed)
    order = torch.randperm(num_candidates, generator=torch.Generator().manual_seed(seed))
    mixed = layer(hidden_QKC[:, order], affinity_QKK[:, order][:, :, order])
    torch.testing.assert_close(mixed, layer(hidden_QKC, affinity_QKK)[:, order])


def test_queries_do_not_see_each_other_s_candidates():
    layer = random_layer()
    hidden_QKC, affinity_QKK = made_up(3, 4)
    torch.testing.assert_close(layer(hidden_QKC[1:2], affinity_QKK[1:2]), layer(hidden_QKC, affinity_QKK)[1:2])


def test_it_is_the_block_written_out():
    layer = random_layer()
    hidden_QKC, affinity_QKK = made_up(1, 5)
    hidden_KC, affinity_KK = hidden_QKC[0], affinity_QKK[0]
    query_KC, key_KC, value_KC = layer.query_key_value(layer.norm1(hidden_KC)).split(8, dim=-1)
    heads = []
    for scale, part in zip(layer.affinity_scale_H, (slice(0, 4), slice(4, 8)), strict=True):
        logits_KK = query_KC[:, part] @ key_KC[:, part].T / 4**0.5 + scale * affinity_KK
        heads.append(logits_KK.softmax(-1) @ value_KC[:, part])
    mixed_KC = hidden_KC + layer.project(torch.cat(heads, dim=-1))
    expected_KC = mixed_KC + layer.feed_forward(F.layer_norm(mixed_KC, (8,), layer.norm2.weight, layer.norm2.bias))
    torch.testing.assert_close(layer(hidden_QKC, affinity_QKK)[0], expected_KC)


def test_the_more_alike_the_more_is_seen():
    # At a large scale a candidate sees only the one it is most like: changing any other changes nothing.
    layer = random_layer()
    with torch.no_grad():
        layer.affinity_scale_H.fill_(1e3)
    hidden_QKC, _ = made_up(1, 3)
    affinity_QKK = torch.tensor([[[0.0, 1, -1], [1, 0, -1], [-1, 1, 0]]], dtype=torch.float64)
    other_QKC = hidden_QKC.clone()
    other_QKC[0, 2] += 1
    before, after = layer(hidden_QKC, affinity_QKK)[0], layer(other_QKC, affinity_QKK)[0]
    torch.testing.assert_close(after[:2], before[:2])
    other_QKC[0, 1] += torch.arange(8)
    assert (layer(other_QKC, affinity_QKK)[0, 0] - before[0]).abs().max() > 1e-3
