"""A search from its pictures to its hits: encode, compare, re-rank, expand, and order."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from indexer.gallery import Gallery
from indexer.hits import Hit, hits_of
from indexer.manifest import Manifest
from indexer.query import Queries, encode
from indexer.rankers import Rankers
from retrieval.errors import IndexFolderError, UsageError

if TYPE_CHECKING:
    from indexer.explaining import MatchExplanation
    from indexer.reranking import Reranker
    from retrieval import Ranker

RERANK = 100
"""How many candidates are re-ranked where nothing else is asked for."""

MOST_RERANKED = 1000
"""The ranker compares the candidates of a query with each other: the square of their number in time and memory."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is asked of a search: see `Index.search`."""

    top_k: int = 10
    subtract: Any = ()
    crop: tuple[int, int, int, int] | None = None
    where: str | None = None
    min_score: float | None = None
    rerank: int | None = None
    ranker: Any = None
    expand: int = 0
    metadata: Mapping[str, Any] | None = None
    user: str = ""

    def __post_init__(self):
        if not _is_count(self.top_k) or self.top_k < 1:
            raise UsageError(f"expected top_k as an integer of at least 1, got {self.top_k!r}; ask for one hit or more")
        if self.rerank is not None and (not _is_count(self.rerank) or self.rerank > MOST_RERANKED):
            raise UsageError(f"expected rerank of 0 (not at all) to {MOST_RERANKED}, got {self.rerank!r}")
        if not _is_count(self.expand) or self.expand > MOST_RERANKED:
            raise UsageError(f"expected expand of 0 (not at all) to {MOST_RERANKED}, got {self.expand!r}")
        if self.rerank == 0 and self.ranker is not None:
            raise UsageError("expected a ranker together with re-ranking, got rerank of 0; leave one of the two out")
        if self.wants_ranker and self.top_k > MOST_RERANKED:
            raise UsageError(
                f"expected top_k of at most {MOST_RERANKED} with re-ranking, got {self.top_k}; set rerank to 0 for more"
            )

    @property
    def wants_ranker(self) -> bool:
        """Whether re-ranking was asked for, rather than left to what the index has."""
        return bool(self.rerank) or self.ranker is not None


class Searcher:
    """Searches the index in the folder `path` as it was at `state`, whose vectors and tokens are the `gallery`."""

    def __init__(self, path: Path, state: Manifest, embedder: Any, gallery: Gallery):
        self.gallery = gallery
        self._path = path
        self._embedder = embedder
        self._rankers = Rankers(path, state.model)
        # Queries have as many tokens as what they are compared with.
        self._token_bytes = max([state.token_bytes, *(segment.token_bytes for segment in state.segments)])
        self._judged = None

    def search(self, queries: Sequence[Any], config: SearchConfig) -> list[list[Hit]]:
        """The hits of each query; what is raised is said at `Index.search`."""
        if not queries:
            return []
        ranker = self._ranker(config)
        catalog = self.gallery.catalog
        allowed = None if config.where is None else catalog.where(config.where)
        asked = encode(
            self._embedder,
            queries,
            subtract=config.subtract,
            crop=config.crop,
            token_bytes=0 if ranker is None else self._token_bytes,
        )
        reranker = None if ranker is None else self._reranker(ranker, config)
        num_candidates = config.top_k if ranker is None else max(config.rerank or RERANK, config.top_k)
        found = self._find(asked, asked.vectors, max(num_candidates, config.expand), allowed, reranker)
        if config.expand:
            from indexer.reranking import expanded

            vectors = expanded(asked.vectors, self.gallery.vectors(found.rows[:, : config.expand]))
            found = self._find(asked, vectors, num_candidates, allowed, reranker)
        answers = []
        for vector, scores, rows, products, places in zip(asked.vectors, *found, strict=True):
            kept = np.arange(len(rows)) if config.min_score is None else np.flatnonzero(products >= config.min_score)
            kept = kept[: config.top_k]
            own_products = self.gallery.vectors(rows[kept]) @ vector if config.expand else products[kept]
            similarity_ranks = None if reranker is None else places[kept]
            answers.append(
                hits_of(
                    catalog,
                    vector,
                    rows[kept],
                    scores=scores[kept],
                    products=own_products,
                    similarity_ranks=similarity_ranks,
                )
            )
        return answers

    def explain(self, query: Any, image: str | Hit, ranker: Any, crop: tuple | None) -> "MatchExplanation":
        """What is raised is said at `Index.explain`."""
        from indexer import corpus, explaining

        ranker = self._rankers.find(ranker)
        if isinstance(image, Hit):
            uri = image.uri
        else:
            number = self.gallery.catalog.find([image]).get(image)
            if number is None:
                raise UsageError(f"expected a hit or the id of an image of {self._path}, got {image!r}")
            uri = self.gallery.catalog.row(number)["uri"]
        return explaining.explain(
            self._embedder, ranker, query, corpus.read_image(uri), crop=crop, token_bytes=self._token_bytes or 1024
        )

    def _find(
        self,
        asked: Queries,
        vectors_QD: np.ndarray,
        num_candidates: int,
        allowed: np.ndarray | None,
        reranker: "Reranker | None",
    ) -> "_Found":
        products_QK, rows_QK = self.gallery.buckets.search(vectors_QD, num_candidates, allowed=allowed)
        places_QK = np.broadcast_to(np.arange(1, rows_QK.shape[1] + 1), rows_QK.shape)
        if reranker is None:
            return _Found(products_QK, rows_QK, products_QK, places_QK)
        scores_QK = reranker.score(asked, vectors_QD, rows_QK)
        order_QK = np.lexsort((rows_QK, -scores_QK), axis=-1)
        return _Found(
            *(np.take_along_axis(field, order_QK, axis=1) for field in (scores_QK, rows_QK, products_QK, places_QK))
        )

    def _ranker(self, config: SearchConfig) -> "Ranker | None":
        """The ranker to use; None where nothing is to be re-ranked."""
        if config.wants_ranker:
            if self.gallery.tokens is None and self.gallery.buckets.num_images:
                add = shlex.join(["spyglass", "tokens", "--index", str(self._path)])
                raise IndexFolderError(
                    f"expected local tokens in {self._path} to re-rank by, found none; "
                    f"add them, without indexing anew, with: {add}"
                )
            ranker = self._rankers.find(config.ranker)
        elif config.rerank == 0 or config.top_k > MOST_RERANKED or self.gallery.tokens is None:
            return None
        else:
            ranker = self._rankers.in_use()
        return ranker if self.gallery.buckets.num_images else None

    def _reranker(self, ranker: "Ranker", config: SearchConfig) -> "Reranker":
        from indexer.judged import JudgedVectors
        from indexer.reranking import Reranker

        if self._judged is None:
            self._judged = JudgedVectors(self._path, self.gallery, self._embedder)
        judgments = self._judged.of(config.user) if ranker.reads_feedback else None
        return Reranker(self.gallery, ranker, metadata=config.metadata, judgments=judgments)


class _Found(NamedTuple):
    """Candidates of each query, best first, (Q, K) each: scores, rows, products with the query, places by those."""

    scores: np.ndarray
    rows: np.ndarray
    products: np.ndarray
    places: np.ndarray


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0
