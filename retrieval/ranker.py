"""The ranker: a differentiable search engine whose scoring layer learns what "alike" means.

    queries  ─ query_encoder ────┐
                                 ├─ attention ─► relevance (Q, K)
    documents ─ document_encoder ┘

Relevance is a logit, higher is better, and compares the candidates of one query with each other.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from retrieval.errors import UsageError
from retrieval.layers.candidate_attention import CandidateAttention
from retrieval.layers.token_match import TokenMatch
from retrieval.reranking.described import Described
from retrieval.reranking.metadata import MetadataColumns
from retrieval.reranking.ranker_features import (
    NUM_FEEDBACK,
    CandidateContext,
    GlobalMatch,
    MetadataMatch,
    affinity,
    centred,
    standardised,
)


@dataclass(frozen=True, kw_only=True)
class RankerConfig:
    """The shape of a ranker, as stored in its config.json.

    `token_dim` and `num_dims`: numbers of a token and of an uncut embedding. `num_heads`: of the attention between
    tokens. `num_channels`, `depth`, `num_candidate_heads`: of the attention among candidates. `metadata`: the columns
    that it reads.
    """

    token_dim: int = 64
    num_dims: int = 512
    num_heads: int = 4
    num_channels: int = 32
    depth: int = 2
    num_candidate_heads: int = 4
    metadata: MetadataColumns = MetadataColumns()

    def __post_init__(self):
        for name in ("token_dim", "num_dims", "num_heads", "num_channels", "num_candidate_heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if self.depth < 0:
            raise UsageError(f"expected a depth of 0 or more, got {self.depth}")
        if self.num_channels % self.num_candidate_heads:
            raise UsageError(
                f"expected num_channels that {self.num_candidate_heads} heads divide, got {self.num_channels}"
            )

    def to_dict(self) -> dict:
        """Plain values, for config.json; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "RankerConfig":
        return cls(**dict(values, metadata=MetadataColumns.from_dict(values["metadata"])))


class RelevanceAttention(nn.Module):
    """The scoring layer: described queries (Q,) and candidates (Q, K) to relevance (Q, K).

    Every feature is compared over the candidates of its query alone; a linear map of them says how relevant each is by
    itself, and attention among the candidates corrects it. A fresh one ranks by similarity alone.
    """

    def __init__(self, config: RankerConfig):
        super().__init__()
        self.config = config
        self.global_match = GlobalMatch(config.num_dims)
        self.token_match = TokenMatch(config.token_dim, config.num_heads)
        self.first = nn.Parameter(torch.tensor([1.0, *[0.5 / config.num_heads] * config.num_heads]))
        self.context = CandidateContext()
        self.metadata_match = MetadataMatch(len(config.metadata.numbers), config.metadata.category_sizes)
        parts = (self.global_match, self.context, self.metadata_match)
        num_features = sum(part.num_features for part in parts) + config.num_heads + NUM_FEEDBACK
        self.weigh = nn.Linear(num_features, 1, bias=False)
        nn.init.zeros_(self.weigh.weight)
        nn.init.ones_(self.weigh.weight[:, :1])
        self.embed = nn.Linear(num_features + 2, config.num_channels)
        # What people said must not sway a ranker that never learned from it.
        nn.init.zeros_(self.embed.weight[:, num_features - NUM_FEEDBACK : num_features])
        self.layers = nn.ModuleList(
            CandidateAttention(config.num_channels, config.num_candidate_heads) for _ in range(config.depth)
        )
        self.correct = nn.Linear(config.num_channels, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    @property
    def reads_feedback(self) -> bool:
        """Whether feedback changes its scores: before it was trained on some, it does not."""
        end = self.weigh.in_features
        columns = slice(end - NUM_FEEDBACK, end)
        return bool(self.weigh.weight[:, columns].any() or self.embed.weight[:, columns].any())

    def forward(
        self, queries: Described, candidates: Described, feedback_QKF: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`feedback_QKF` (Q, K, 6) as `retrieval.reranking.feedback_features` gives them, or None for no feedback."""
        features_QKF, affinity_QKK = self.features(queries, candidates, feedback_QKF)
        lengths_QK2 = torch.stack(torch.broadcast_tensors(queries.dims[:, None], candidates.dims), dim=-1)
        hidden_QKC = self.embed(torch.cat([features_QKF, lengths_QK2.log() - _TYPICAL_LOG_DIM], dim=-1))
        alike_QKK = standardised(affinity_QKK.flatten(1)).view_as(affinity_QKK)
        for layer in self.layers:
            hidden_QKC = layer(hidden_QKC, alike_QKK)
        return (self.weigh(features_QKF) + self.correct(hidden_QKC)).squeeze(-1)

    def features(
        self, queries: Described, candidates: Described, feedback_QKF: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is weighed, (Q, K, F), of mean 0 over the candidates; and the candidates' affinity (Q, K, K)."""
        affinity_QKK = affinity(candidates.vectors)
        by_vector = [standardised(values_QK) for values_QK in self.global_match(queries, candidates)]
        has_tokens_QK = candidates.mask.any(-1) & queries.mask.any(-1)[:, None]
        matches_QKH = self._match_tokens(queries, candidates)
        by_token = [standardised(values_QK, has_tokens_QK) for values_QK in matches_QKH.unbind(-1)]
        first_QK = (torch.stack([by_vector[0], *by_token], dim=-1) * self.first).sum(-1)
        by_context = [standardised(values_QK) for values_QK in self.context(first_QK, affinity_QKK)]
        # These have a scale of their own: a single judgment among a hundred candidates must not look like a strong one.
        by_metadata = [centred(*feature) for feature in self.metadata_match(queries, candidates)]
        if feedback_QKF is None:
            feedback_QKF = candidates.vectors.new_zeros(*candidates.dims.shape, NUM_FEEDBACK)
        by_feedback = [centred(values_QK) for values_QK in feedback_QKF.unbind(-1)]
        features = [*by_vector, *by_token, *by_context, *by_metadata, *by_feedback]
        return torch.stack(features, dim=-1), affinity_QKK

    def _match_tokens(self, queries: Described, candidates: Described) -> torch.Tensor:
        """(Q, K, heads), so many candidates at a time that the attention between tokens takes some 10 MB."""
        num_queries, num_tokens = queries.mask.shape
        numbers = max(1, num_queries * num_tokens * candidates.mask.shape[-1] * self.config.num_heads)
        fields = (candidates.tokens, candidates.mask)
        parts = zip(*(field.split(max(1, _MOST_NUMBERS // numbers), dim=1) for field in fields), strict=True)
        return torch.cat([self.token_match(queries.tokens, queries.mask, *part) for part in parts], dim=1)


class DifferentiableSearchEngine(nn.Module):
    """Encoders and the scoring layer as one function of what they read, differentiable into all three.

    `document_encoder` and `query_encoder` turn documents and queries into `Described`: networks that read pixels
    (`retrieval.reranking.encoders`), or `nn.Identity()` for what an index already holds. `attention` scores them, such
    as `RelevanceAttention`. Joint training gives the same relevance without it, by one pass of the network over queries
    and documents together, which serves the embedder's own loss too.
    """

    def __init__(
        self,
        document_encoder: Callable[[Any], Described],
        query_encoder: Callable[[Any], Described],
        attention: nn.Module,
    ):
        super().__init__()
        self.document_encoder, self.query_encoder, self.attention = document_encoder, query_encoder, attention

    def forward(self, queries: Any, documents: Any, feedback_QKF: torch.Tensor | None = None) -> torch.Tensor:
        """Relevance (Q, K) of K documents to each of Q queries.

        The encoded documents have a leading shape (K,), the same ones for all queries, or (Q, K), each query's own.
        """
        described_Q, described_K = self.query_encoder(queries), self.document_encoder(documents)
        num_queries = len(described_Q.dims)
        if described_K.dims.ndim == 1:
            described_K = described_K.map(lambda field: field.expand(num_queries, *field.shape))
        if len(described_K.dims) != num_queries:
            raise UsageError(
                f"expected candidates for {num_queries} queries, got them for {len(described_K.dims)}; "
                "give (K,) documents for all, or (Q, K)"
            )
        return self.attention(described_Q, described_K, feedback_QKF)


_MOST_NUMBERS = 2**21
_TYPICAL_LOG_DIM = 4.7
"""Of a dimension of about 110, so that what the ranker reads is centred."""
