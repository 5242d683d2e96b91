"""A trained ranker: kept as a folder, bound to the embedder it was trained for, put to use on arrays.

ranker = Ranker.load()
relevance_QK = ranker.score(queries, candidates)
"""

from pathlib import Path

import numpy as np
import torch

from retrieval import weights_folder
from retrieval.errors import UsageError
from retrieval.layers.token_match import attend
from retrieval.ranker import RankerConfig, RelevanceAttention
from retrieval.reranking.described import Described
from retrieval.reranking.ranker_features import NUM_FEEDBACK
from retrieval.undrawn import Undrawn

_MOST_NUMBERS = 2**21  # in the largest tensor of a chunk of queries; about twelve of that size live at once


class Ranker:
    """Scores the candidates of a query by how relevant they are.

    `embedder` is the fingerprint of the embedder that it was trained for and is of no use without; `name` says where
    the weights came from.
    """

    def __init__(self, attention: RelevanceAttention, *, embedder: str, name: str = weights_folder.UNSAVED):
        self.attention = attention.eval()
        self.embedder = embedder
        self.name = name

    @property
    def config(self) -> RankerConfig:
        return self.attention.config

    @property
    def reads_feedback(self) -> bool:
        """Whether feedback changes its scores: before it was trained on some, it does not."""
        return self.attention.reads_feedback

    @classmethod
    def load(cls, path_or_name: str | Path | None = None) -> "Ranker":
        """Load a folder with config.json and model.safetensors, or the ranker shipped beside the weights of a name.

        None is the one beside the default weights. Raises `WeightsError` when there is no such folder, or its files
        are incomplete, damaged or do not fit.
        """
        folder, name = weights_folder.place_of(path_or_name, shipped_as="weights/{name}/ranker")
        (config, embedder), state = weights_folder.read(folder, _parse)
        with Undrawn():
            attention = RelevanceAttention(config)
        weights_folder.fill(attention, state, folder, what="ranker")
        return cls(attention, embedder=embedder, name=name)

    def save(self, folder: str | Path, *, notes: dict | None = None) -> None:
        """Write config.json and model.safetensors (float16); `notes`, such as the recipe, are kept in config.json.

        One without a name goes by the folder from then on. Raises, and changes nothing, `WeightsError` for weights that
        float16 cannot keep, `UsageError` for notes that JSON cannot.
        """
        config = {"ranker": self.config.to_dict(), "embedder": self.embedder, "notes": notes or {}}
        weights_folder.write(folder, self.attention, config)
        self.name = weights_folder.name_once_saved(self.name, folder)

    @torch.no_grad()
    def score(
        self, queries: Described, candidates: Described, feedback: torch.Tensor | np.ndarray | None = None
    ) -> np.ndarray:
        """Relevance (Q, K) float32 of each query's K candidates: a logit, which compares those of one query.

        `queries` (Q,), `candidates` (Q, K), `feedback` (Q, K, 6) as `retrieval.reranking.feedback_features` gives them.
        Many queries are scored a chunk at a time, in some 100 MB. Raises `UsageError` where these do not fit each other
        or the ranker's `config`.
        """
        num_queries = len(queries.dims)
        if candidates.dims.ndim != 2 or len(candidates.dims) != num_queries:
            expected = f"candidates ({num_queries}, K) for {num_queries} queries"
            raise UsageError(f"expected {expected}, got {tuple(candidates.dims.shape)}; give each query its own")
        _check_fields("queries", queries, self.config)
        _check_fields("candidates", candidates, self.config)
        if feedback is not None:
            feedback = torch.as_tensor(feedback, dtype=torch.float32)
            if feedback.shape != (*candidates.dims.shape, NUM_FEEDBACK):
                raise UsageError(
                    f"expected feedback {(*candidates.dims.shape, NUM_FEEDBACK)}, got {tuple(feedback.shape)}; "
                    "make it of the same queries and candidates"
                )
        num_at_once = max(1, _MOST_NUMBERS // self._numbers_a_query(queries, candidates))
        scores_QK = torch.empty(candidates.dims.shape)
        for start in range(0, num_queries, num_at_once):
            some = slice(start, start + num_at_once)
            feedback_QKF = None if feedback is None else feedback[some]
            scores_QK[some] = self.attention(queries.take(some), candidates.take(some), feedback_QKF)
        return scores_QK.numpy()

    @torch.no_grad()
    def explain(self, query: Described, candidate: Described) -> np.ndarray:
        """How much each pair of tokens counts for the match of one query and one candidate: (heads, N, M) float32.

        A head's match is the mean over the query's N tokens n of Σ_m p_nm cos(n, m), plus the mean over the candidate's
        M tokens m of Σ_n q_mn cos(n, m), p and q the attention to the other side. So a pair's cosine counts with
        p_nm / N + q_mn / M; half of that is given, which sums to 1 over all pairs of a head. Padding is left out.
        """
        match = self.attention.token_match
        query_HNE, key_HME = (match.heads_of(side.tokens[side.mask]) for side in (query, candidate))
        temperature_H11 = match.log_temperature_H.exp()[:, None, None]
        num_query, num_key = query_HNE.shape[1], key_HME.shape[1]
        all_M, all_N = (torch.ones(num, dtype=torch.bool) for num in (num_key, num_query))
        _, forth_HNM = attend(query_HNE, key_HME, all_M, temperature_H11)
        _, back_HMN = attend(key_HME, query_HNE, all_N, temperature_H11)
        return ((forth_HNM / num_query + back_HMN.mT / num_key) / 2).numpy()

    def _numbers_a_query(self, queries: Described, candidates: Described) -> int:
        """In the largest tensor: the tokens or their attention in each head, the vectors, or the affinity."""
        num_candidates, num_tokens, token_dim = candidates.tokens.shape[1:]
        num_query_tokens = queries.tokens.shape[1]
        by_token = self.config.num_heads * num_tokens * max(token_dim, num_query_tokens)
        among = max(self.config.num_candidate_heads * num_candidates, self.config.num_dims)
        query_side = self.config.num_heads * num_query_tokens * token_dim
        return max(1, num_candidates * max(by_token, among, query_side))


def _check_fields(name: str, described: Described, config: RankerConfig) -> None:
    """Raise `UsageError` unless every field has the shape that this ranker reads, led by that of `dims`."""
    leading, num_tokens = described.dims.shape, described.mask.shape[-1:]
    shapes = {
        "vectors": (*leading, config.num_dims),
        "tokens": (*leading, *num_tokens, config.token_dim),
        "mask": (*leading, *num_tokens),
        "numbers": (*leading, len(config.metadata.numbers)),
        "categories": (*leading, len(config.metadata.categories)),
    }
    for field, expected in shapes.items():
        arrived = tuple(getattr(described, field).shape)
        if arrived != expected:
            raise UsageError(
                f"expected {field} {expected} of the {name}, got {arrived}; encode them with the ranker's embedder and "
                f"describe them by its columns {list(config.metadata.names)}"
            )


def _parse(config: dict) -> tuple[RankerConfig, str]:
    """Its shape and the fingerprint of its embedder."""
    if not isinstance(config["embedder"], str):
        raise UsageError(f"expected an embedder's fingerprint, got {config['embedder']!r}")
    return RankerConfig.from_dict(config["ranker"]), config["embedder"]
