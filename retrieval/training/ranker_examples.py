"""What a ranker learns from: queries, the candidates that an index found for them, and which of those are relevant."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from retrieval.embedder import Embeddings
from retrieval.errors import UsageError
from retrieval.measuring.ranking import as_classes
from retrieval.reranking.described import Described, describe, similarity

NEAR_DUPLICATE = 0.98
"""Cosine from which a picture of another label is taken to show the same thing under a wrong name."""

_PAIRS = 25_600  # of a query and a candidate, at once: their vectors take 50 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingExamples:
    """Q queries, each with K candidates among N documents.

    `candidates` (Q, K) int64 are rows of `documents`. `relevant` (Q, K) bool; `counts` (Q, K) bool is False where
    nothing is known, or what is known may be wrong. `num_relevant` (Q,) int64: how many there are in the whole gallery,
    for mAP@100. `feedback` (Q, K, 6) as `retrieval.reranking.feedback_features` gives it, or None. `rows` (Q,) int64:
    which documents the queries are, or None where they are none of them. Raises `UsageError`.
    """

    queries: Described
    documents: Described
    candidates: torch.Tensor
    relevant: torch.Tensor
    counts: torch.Tensor
    num_relevant: torch.Tensor
    feedback: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    def __post_init__(self):
        num_queries, num_documents = len(self.queries.dims), len(self.documents.dims)
        shapes = {tuple(values.shape) for values in (self.candidates, self.relevant, self.counts)}
        if len(shapes) > 1 or self.candidates.ndim != 2 or len(self.candidates) != num_queries:
            raise UsageError(
                f"expected candidates, relevant and counts of ({num_queries}, K), got {sorted(shapes)}; align the three"
            )
        if self.num_relevant.shape != (num_queries,):
            raise UsageError(f"expected num_relevant ({num_queries},), got {tuple(self.num_relevant.shape)}")
        _refuse_strangers(self.candidates, num_documents)

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, queries: torch.Tensor) -> "RankingExamples":
        """Some of the queries, by their places or by a mask (Q,) bool; the documents stay."""
        return self._map(lambda values: values[queries], self.queries.take(queries), self.documents)

    def split(self, num_pairs: int) -> "Iterator[RankingExamples]":
        """The queries in order, as many at a time as have `num_pairs` candidates together, one at least."""
        numbers = torch.arange(len(self), device=self.candidates.device)
        for some in numbers.split(max(1, num_pairs // max(1, self.candidates.shape[1]))):
            if len(some):
                yield self.take(some)

    def of_candidates(self, places_QK: torch.Tensor) -> "RankingExamples":
        """Some of each query's candidates, by their places (Q, fewer) in its list."""

        def pick(values: torch.Tensor) -> torch.Tensor:
            return values.gather(1, places_QK)

        return replace(
            self,
            candidates=pick(self.candidates),
            relevant=pick(self.relevant),
            counts=pick(self.counts),
            feedback=None if self.feedback is None else self.feedback.take_along_dim(places_QK[..., None], dim=1),
        )

    def to(self, device: torch.device) -> "RankingExamples":
        """All of it on another device."""

        def move(values: torch.Tensor) -> torch.Tensor:
            return values.to(device)

        return self._map(move, self.queries.map(move), self.documents.map(move))

    def digest(self) -> str:
        """SHA-256, in hex, of the lists, what is known of them, and what is described."""
        digest = hashlib.sha256()
        lists = (self.candidates, self.relevant, self.counts, self.num_relevant, self.feedback)
        for values in (*lists, *self.queries, *self.documents):
            if values is not None and values.numel():
                digest.update(values.contiguous().numpy())
        return digest.hexdigest()

    def _map(self, function, queries: Described, documents: Described) -> "RankingExamples":
        names = ("candidates", "relevant", "counts", "num_relevant", "feedback", "rows")
        own = {name: getattr(self, name) for name in names}
        mapped = {name: None if values is None else function(values) for name, values in own.items()}
        return RankingExamples(queries=queries, documents=documents, **mapped)


def labelled_examples(
    embeddings: Embeddings,
    labels: Sequence[str | None],
    candidates: np.ndarray,
    *,
    documents: Described | None = None,
    galleries: np.ndarray | None = None,
    near_duplicate: float | None = NEAR_DUPLICATE,
) -> RankingExamples:
    """N labelled pictures, each a query among the others: relevant is what has its label.

    `candidates` (N, K): for each picture the rows that an index of all of them found, itself left out. `documents`: the
    pictures described as candidates, with metadata, say; without when left out. A picture without a label is no query
    and never counts; nor is one a query whose label no other picture has. A candidate of another label whose cosine
    with the query, or with a relevant candidate, is `near_duplicate` or more does not count either: it may be a false
    negative. None turns that off, to measure as others do. `galleries` (N,): which gallery each picture is in, and
    looks in, as `retrieval.training.galleries` deals them out; a picture of none, −1, is no query. All are in one when
    left out.
    """
    candidates = np.asarray(candidates)
    num_images = len(embeddings)
    if candidates.ndim != 2 or len(candidates) != num_images:
        raise UsageError(f"expected candidates ({num_images}, K), got {candidates.shape}; give a list a picture")
    _refuse_strangers(candidates, num_images)
    classes, _ = as_classes(labels, labels, num_images, num_images)
    documents = describe(embeddings, as_queries=False) if documents is None else documents
    classes_N = torch.from_numpy(classes)
    galleries_N = torch.zeros_like(classes_N) if galleries is None else torch.from_numpy(galleries)
    _, group_N, size_G = torch.stack([classes_N, galleries_N]).unique(dim=1, return_inverse=True, return_counts=True)
    others_N = size_G[group_N] - 1
    (rows_Q,) = torch.nonzero((classes_N >= 0) & (galleries_N >= 0) & (others_N > 0), as_tuple=True)
    candidates_QK = torch.from_numpy(candidates.astype(np.int64))[rows_Q]
    relevant_QK = classes_N[candidates_QK] == classes_N[rows_Q, None]
    counts_QK = classes_N[candidates_QK] >= 0
    examples = RankingExamples(
        # Tokens and metadata of a query are its document's; the vector alone is uncut.
        queries=documents._replace(vectors=torch.from_numpy(embeddings.full)).take(rows_Q),
        documents=documents,
        candidates=candidates_QK,
        relevant=relevant_QK,
        counts=counts_QK,
        num_relevant=others_N[rows_Q],
        rows=rows_Q,
    )
    if near_duplicate is not None:
        counts_QK &= ~may_be_false(examples, near_duplicate)
    return examples


@torch.no_grad()
def may_be_false(examples: RankingExamples, near_duplicate: float = NEAR_DUPLICATE) -> torch.Tensor:
    """(Q, K) bool: irrelevant candidates that show what the query, or one of the relevant candidates, shows.

    Compared are a candidate's own numbers with the query's (the `similarity` of a hit), and vectors of candidates.
    """
    parts = []
    for some in examples.split(_PAIRS):
        vectors_QKD = some.documents.vectors[some.candidates]
        similarity_QK = similarity(some.queries.vectors, vectors_QKD)
        alike_QKK = vectors_QKD @ vectors_QKD.mT
        to_relevant_QK = alike_QKK.masked_fill(~some.relevant[:, None, :], -1).amax(-1)
        parts.append(~some.relevant & (torch.maximum(similarity_QK, to_relevant_QK) >= near_duplicate))
    return torch.cat(parts) if parts else torch.zeros_like(examples.relevant)


def without_self(found_QK: np.ndarray, own_Q: np.ndarray) -> np.ndarray:
    """Each query's list (Q, K) less the query itself, `own_Q` (Q,), or less its last where that is not among them."""
    found_QK, own_Q = np.asarray(found_QK), np.asarray(own_Q)
    is_own_QK = found_QK == own_Q[:, None]
    is_own_QK[:, -1] |= ~is_own_QK.any(axis=1)
    return found_QK[~is_own_QK].reshape(len(found_QK), found_QK.shape[1] - 1)


def _refuse_strangers(candidates: torch.Tensor | np.ndarray, num_documents: int) -> None:
    if 0 not in candidates.shape and not 0 <= candidates.min() <= candidates.max() < num_documents:
        raise UsageError(f"expected candidates among documents 0..{num_documents - 1}, got others; check the rows")
