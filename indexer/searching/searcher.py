"""A search from its pictures to its hits: encode, compare, re-rank, expand, and order."""

import logging
import shlex
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from indexer.judgments.rankers import Rankers
from indexer.searching.encoding import PictureEncoder
from indexer.searching.gallery import Gallery
from indexer.searching.hits import Hit, hits_of
from indexer.searching.pictures import EncodedPicture
from indexer.searching.query import Queries, as_list, combine, weights_of
from indexer.searching.query_pixels import Crop
from indexer.searching.ranking import Ranked, Ranking
from indexer.searching.search_config import SearchConfig
from indexer.searching.selection import Selection
from indexer.storage.manifest import Manifest
from indexer.storage.records import Model
from retrieval.errors import IndexFolderError, SpyglassError, UsageError

if TYPE_CHECKING:
    from indexer.searching.explaining import MatchExplanation
    from indexer.searching.reranking import Reranker
    from retrieval import Ranker

_MOST_WARNINGS = 100  # of a service's users, whose names may be anything

_log = logging.getLogger(__name__)


class Searcher:
    """Searches the index in the folder `path` as it was at `state`, whose vectors and tokens are the `gallery`.

    `model` is that of the state, by where it lies now.
    """

    def __init__(self, path: Path, state: Manifest, gallery: Gallery, model: Model, load_embedder: Callable[[], Any]):
        self.gallery = gallery
        self._path = path
        self._load_embedder = load_embedder
        self._encoder = PictureEncoder(gallery, model, load_embedder)
        self._rankers = Rankers(path, model)
        # Queries have as many tokens as what they are compared with.
        self._token_bytes = max([state.token_bytes, *(segment.token_bytes for segment in state.segments)])
        self._judged = None
        self._warned_of: set[str] = set()

    def search(self, queries: Sequence[Any], config: SearchConfig) -> list[list[Hit]]:
        """The hits of each query; what is raised is said at `Index.search`."""
        if not queries:
            return []
        plan = self._plan(config)
        asked = self._asked(queries, config, with_tokens=plan.ranker is not None)
        is_reranked = plan.ranker is not None
        pages = plan.selection.pages(self._ranking(asked, config, plan), is_reranked=is_reranked)
        return [
            self._hits(vector, page, config, plan.matching, is_reranked)
            for vector, page in zip(asked.vectors, pages, strict=True)
        ]

    def check(self, config: SearchConfig) -> None:
        """Raise what a search would for its ranker, and warn of what it does not read."""
        self._heeding(config)

    def encode(self, pictures: Sequence[Any], crop: Crop | None, on_error: str) -> list[EncodedPicture | SpyglassError]:
        """What is raised is said at `Index.encode_pictures`."""
        return self._encoder.encode(pictures, crop=crop, token_bytes=self._token_bytes, on_error=on_error)

    def uri_of(self, name: str) -> str:
        """What is meant is said at `Index.uri_of`."""
        return self._encoder.uri_of(name)

    def explain(self, query: Any, image: str | Hit, ranker: Any, crop: Crop | None) -> "MatchExplanation":
        """What is raised is said at `Index.explain`."""
        from indexer import corpus
        from indexer.searching import explaining

        ranker = self._rankers.find(ranker)
        if isinstance(image, Hit):
            uri = image.uri
        else:
            number = self.gallery.catalog.find([image]).get(image)
            if number is None:
                raise UsageError(f"expected a hit or the id of an image of {self._path}, got {image!r}")
            uri = self.gallery.catalog.row(number)["uri"]
        token_bytes = self._token_bytes or 1024
        (asked,) = self._encoder.encode([query], crop=crop, token_bytes=token_bytes)
        (found,) = self._encoder.encode([corpus.read_image(uri)], token_bytes=token_bytes)
        return explaining.explain(ranker, asked, found)

    def _plan(self, config: SearchConfig) -> "_Plan":
        """All that can be known of a search without its pictures."""
        ranker = self._heeding(config)
        matching = None if config.where is None else self.gallery.catalog.where(config.where)
        return _Plan(ranker, matching, Selection(self.gallery, config, matching))

    def _heeding(self, config: SearchConfig) -> "Ranker | None":
        """The ranker to use, if any; what is asked of it in vain is said in the log."""
        ranker = self._ranker(config)
        if config.user and (ranker is None or not ranker.reads_feedback):
            why = "nothing is re-ranked" if ranker is None else f"the ranker {ranker.name} never learned from any"
            self._warn_once(f"the feedback of user {config.user!r} changes nothing here: {why}")
        columns = () if ranker is None else ranker.config.metadata.names
        if unread := [name for name in config.metadata or () if name not in columns]:
            reads = f"reads {', '.join(map(repr, columns))} alone" if columns else "reads no columns"
            why = "nothing is re-ranked" if ranker is None else f"the ranker {ranker.name} {reads}"
            self._warn_once(f"the query's metadata {', '.join(map(repr, unread))} change nothing here: {why}")
        return ranker

    def _warn_once(self, message: str) -> None:
        if message not in self._warned_of and len(self._warned_of) < _MOST_WARNINGS:
            self._warned_of.add(message)
            _log.warning("%s", message)

    def _asked(self, queries: Sequence[Any], config: SearchConfig, *, with_tokens: bool) -> Queries:
        liked, disliked = [as_list(query) for query in queries], as_list(config.subtract)
        for pictures in liked:
            if not pictures or (config.crop is not None and len(pictures) != 1):
                got = f"{len(pictures)} with crop={config.crop}"
                raise UsageError(f"expected a query, or several without crop, got {got}")
            weights_of(config.weights, len(pictures))
        token_bytes = self._token_bytes if with_tokens else 0
        flat = [picture for pictures in liked for picture in pictures]
        encoded = iter(self._encoder.encode(flat, crop=config.crop, token_bytes=token_bytes))
        return combine(
            [[*islice(encoded, len(pictures))] for pictures in liked],
            self._encoder.encode(disliked),
            weights=config.weights,
            token_dim=self.gallery.tokens.token_dim if with_tokens else 0,
        )

    def _ranking(self, asked: Queries, config: SearchConfig, plan: "_Plan") -> Ranking:
        allowed = None if plan.matching is None else np.unique(self.gallery.names.firsts(plan.matching))
        settings = {"allowed": allowed}
        if plan.ranker is not None:
            settings |= {"reranker": self._reranker(plan.ranker, config), "num_reranked": config.num_reranked}
        ranking = Ranking(self.gallery, asked, asked.vectors, **settings)
        if not config.expand:
            return ranking
        from indexer.searching.reranking import expanded

        best = np.stack([ranked.rows[: config.expand] for ranked in ranking.first(config.expand)])
        return Ranking(self.gallery, asked, expanded(asked.vectors, self.gallery.vectors(best)), **settings)

    def _hits(
        self, vector: np.ndarray, page: Ranked, config: SearchConfig, matching: np.ndarray | None, is_reranked: bool
    ) -> list[Hit]:
        return hits_of(
            self.gallery.catalog,
            vector,
            page.rows,
            first_rank=config.offset + 1,
            scores=page.scores,
            products=self._products(vector, page.rows) if config.expand else page.products,
            similarity_ranks=page.places if is_reranked else None,
            names=self.gallery.names,
            matching=matching,
        )

    def _products(self, vector: np.ndarray, rows: np.ndarray) -> np.ndarray:
        # Row by row in double precision: what a hit is told must not depend on those beside it.
        return np.vecdot(self.gallery.vectors(rows).astype(np.float64), vector)

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
        elif config.rerank == 0 or self.gallery.tokens is None:
            return None
        else:
            ranker = self._rankers.in_use()
        return ranker if self.gallery.buckets.num_images else None

    def _reranker(self, ranker: "Ranker", config: SearchConfig) -> "Reranker":
        from indexer.searching.judged import JudgedVectors
        from indexer.searching.reranking import Reranker

        judgments = None
        if ranker.reads_feedback:
            self._judged = self._judged or JudgedVectors(self._path, self.gallery, self._load_embedder())
            judgments = self._judged.of(config.user)
        return Reranker(self.gallery, ranker, metadata=config.metadata, judgments=judgments)


class _Plan(NamedTuple):
    """The ranker, the rows that a filter lets through (M,), each None for none, and what is selected of the ranking."""

    ranker: "Ranker | None"
    matching: np.ndarray | None
    selection: Selection
