"""Re-ranking: what a ranker needs to know of queries and candidates is read from the index, and scored."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from indexer.gallery import Gallery
from indexer.query import Queries, unit
from retrieval.described import Described
from retrieval.feedback_features import Judgments, feedback_features
from retrieval.metadata import MetadataColumns
from retrieval.ranker_weights import Ranker

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
        queries like these is told by their own vectors. Raises `DamagedError`.
        """
        num_queries, num_candidates = rows_QK.shape
        scores_QK = np.empty(rows_QK.shape, np.float32)
        if not num_candidates:
            return scores_QK
        described_Q = self._describe_queries(queries, vectors_QD)
        num_at_once = max(1, _PAIRS // num_candidates)
        for start in range(0, num_queries, num_at_once):
            some = slice(start, start + num_at_once)
            described_N = described_rows(self._gallery, rows_QK[some].ravel(), self._ranker.config.metadata)
            described_QK = described_N.map(lambda field, shape=rows_QK[some].shape: field.unflatten(0, shape))
            feedback_QKF = None
            if self._judgments is not None:
                feedback_QKF = feedback_features(
                    self._judgments,
                    torch.from_numpy(queries.vectors[some]),
                    torch.from_numpy(rows_QK[some]),
                    described_QK.vectors,
                )
            scores_QK[some] = self._ranker.score(described_Q.take(some), described_QK, feedback_QKF)
        return scores_QK

    def _describe_queries(self, queries: Queries, vectors_QD: np.ndarray) -> Described:
        tokens_QNE, mask_QN = queries.tokens.padded()
        numbers, categories = self._ranker.config.metadata.encode([self._metadata])
        return Described(
            vectors=torch.from_numpy(vectors_QD),
            dims=torch.from_numpy(queries.dims),
            tokens=tokens_QNE,
            mask=mask_QN,
            numbers=torch.from_numpy(numbers).expand(len(queries), -1),
            categories=torch.from_numpy(categories).expand(len(queries), -1),
        )


def described_rows(gallery: Gallery, rows: np.ndarray, columns: MetadataColumns) -> Described:
    """The rows (N,) of a gallery that has tokens as candidates (N,), with the columns of the catalog that are wanted.

    Only what belongs to these rows is read. Raises `DamagedError`.
    """
    catalog = gallery.catalog
    names = {column.name for column in (*columns.numbers, *columns.categories)} & {*catalog.table.column_names}
    known = {name: catalog.values(name, rows).to_pylist() for name in names}
    numbers, categories = columns.encode(
        [{name: values[place] for name, values in known.items()} for place in range(len(rows))]
    )
    tokens_NTE, mask_NT = gallery.tokens.take(rows).padded()
    return Described(
        vectors=torch.from_numpy(gallery.vectors(rows)),
        dims=torch.from_numpy(catalog.values("dim", rows).to_numpy().astype(np.float32)),
        tokens=tokens_NTE,
        mask=mask_NT,
        numbers=torch.from_numpy(numbers),
        categories=torch.from_numpy(categories),
    )


def expanded(vectors_QD: np.ndarray, neighbours_QND: np.ndarray) -> np.ndarray:
    """Queries (Q, D) that their best neighbours (Q, N, D) have joined, at unit length.

    Average query expansion (Chum et al. 2007), each neighbour with a fixed weight below the query's own. Raises
    `UsageError` where nothing is left of a query.
    """
    return unit(vectors_QD + _EXPANSION_WEIGHT * neighbours_QND.sum(axis=1))
