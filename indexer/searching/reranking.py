"""Re-ranking: what a ranker needs to know of queries and candidates is read from the index, and scored."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from indexer.searching.describing import described_queries, described_rows
from indexer.searching.gallery import Gallery
from indexer.searching.query import Queries, unit
from retrieval.ranker_weights import Ranker
from retrieval.reranking.described import similarity
from retrieval.reranking.feedback_features import Judgments, feedback_features

SAME_PICTURE = 0.999
"""Similarity from which a candidate is taken for the very picture that is asked for.

Encoded twice, in batches of other sizes and at half precision, a picture is like itself to 0.9998 or more; of 1500
photos none was like another one to 0.95.
"""

_PAIRS = 6400
"""Of a query and a candidate, described at once: up to 18 KB each, with tokens of 4 KB."""

_EXPANSION_WEIGHT = 0.35
"""Of each neighbour that joins an expanded query, whose own vector has 1; chosen on validation classes."""


class Reranker:
    """A ranker at work on the rows of a gallery that has tokens.

    `metadata` are the queries' columns, unknown where left out; `judgments` what was said of the gallery's images.
    """

    def __init__(
        self,
        gallery: Gallery,
        ranker: Ranker,
        *,
        metadata: Mapping[str, Any] | None = None,
        judgments: Judgments | None = None,
    ):
        self._gallery = gallery
        self._ranker = ranker
        self._metadata = metadata or {}
        self._judgments = judgments

    def score(self, queries: Queries, vectors_QD: np.ndarray, rows_QK: np.ndarray) -> np.ndarray:
        """Relevance (Q, K) float32 of the gallery's rows (Q, K) to queries with tokens.

        They are compared by `vectors_QD` (Q, D), unit length, such as the expanded ones; which judgments were made for
        queries like these is told by their own vectors, and so is what is the very picture that is asked for: that
        comes before all others, whatever the ranker says (`same_first`). Raises `DamagedError`.
        """
        num_queries, num_candidates = rows_QK.shape
        scores_QK = np.empty(rows_QK.shape, np.float32)
        if not num_candidates:
            return scores_QK
        columns = self._ranker.config.metadata
        described_Q = described_queries(queries, vectors_QD, columns, [self._metadata] * num_queries)
        num_at_once = max(1, _PAIRS // num_candidates)
        for start in range(0, num_queries, num_at_once):
            some = slice(start, start + num_at_once)
            described_N = described_rows(self._gallery, rows_QK[some].ravel(), columns)
            described_QK = described_N.map(lambda field, shape=rows_QK[some].shape: field.unflatten(0, shape))
            asked_QD = torch.from_numpy(queries.vectors[some])
            feedback_QKF = None
            if self._judgments is not None:
                feedback_QKF = feedback_features(
                    self._judgments, asked_QD, torch.from_numpy(rows_QK[some]), described_QK.vectors
                )
            relevance_QK = self._ranker.score(described_Q.take(some), described_QK, feedback_QKF)
            is_same_QK = similarity(asked_QD, described_QK.vectors).numpy() >= SAME_PICTURE
            scores_QK[some] = same_first(relevance_QK, is_same_QK)
        return scores_QK


def same_first(scores_QK: np.ndarray, is_same_QK: np.ndarray) -> np.ndarray:
    """Scores (Q, K) with those of the marked candidates raised, together, to at least 1 above the best of the others.

    The order among them stays, and so does everything where they are as far ahead already.
    """
    best_other_Q1 = np.where(is_same_QK, -np.inf, scores_QK).max(axis=1, keepdims=True)
    least_same_Q1 = np.where(is_same_QK, scores_QK, np.inf).min(axis=1, keepdims=True)
    return scores_QK + is_same_QK * np.maximum(0, best_other_Q1 + 1 - least_same_Q1)


def expanded(vectors_QD: np.ndarray, neighbours_QND: np.ndarray) -> np.ndarray:
    """Queries (Q, D) that their best neighbours (Q, N, D) have joined, at unit length.

    Average query expansion (Chum et al. 2007), each neighbour with a fixed weight below the query's own. Raises
    `UsageError` where nothing is left of a query.
    """
    return unit(vectors_QD + _EXPANSION_WEIGHT * neighbours_QND.sum(axis=1))
