"""One fixed ranking of a query's images, read as deep as it is asked for: a page is a slice of it.

The images come by score, then in the order of their rows. Where a ranker is at work the most similar `num_reranked`
come first, as it orders them, and all others follow by similarity. That number depends on no page, so neither does
the order: any two pages are cut from the same ranking, as in the two-stage ranking of search engines, whose window is
fixed while a reader pages on. The scores of those that follow are their products with the query, moved down to where
the re-ranked end: so scores fall all the way.

An index type that approximates finds other images where it is asked for more of them. So the ranking grows by steps of
fixed depths, each adding what no earlier one had found: whatever page is asked for, it is put together the same way.
"""

from typing import NamedTuple

import numpy as np

from indexer.searching.gallery import Gallery
from indexer.searching.query import Queries
from indexer.searching.reranking import Reranker

_FIRST_DEPTH, _DEEPENING = 128, 8


class Ranked(NamedTuple):
    """The beginning of a query's ranking, best first, (K,) each: scores, rows of the catalog, products with the query,
    and the places, from 1, by those products.
    """

    scores: np.ndarray
    rows: np.ndarray
    products: np.ndarray
    places: np.ndarray

    def take(self, kept: np.ndarray | slice) -> "Ranked":
        """Some of the images, in that order."""
        return Ranked(*(field[kept] for field in self))


_NONE = Ranked(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))


class Ranking:
    """The rankings of several queries, compared by `vectors_QD` (Q, D), unit length, such as the expanded ones.

    `allowed` (M,) are the rows that may be ranked, None all. The `reranker` puts the first `num_reranked` in order.
    """

    def __init__(
        self,
        gallery: Gallery,
        queries: Queries,
        vectors_QD: np.ndarray,
        *,
        allowed: np.ndarray | None = None,
        reranker: Reranker | None = None,
        num_reranked: int = 0,
    ):
        self._gallery = gallery
        self._vectors_QD = vectors_QD
        self._allowed = allowed
        self._heads = [_NONE] * len(vectors_QD)
        if reranker is not None:
            products_QK, rows_QK = gallery.buckets.search(vectors_QD, num_reranked, allowed=allowed)
            scores_QK = reranker.score(queries, vectors_QD, rows_QK)
            order_QK = np.lexsort((rows_QK, -scores_QK), axis=-1)
            found = zip(scores_QK, rows_QK, products_QK, order_QK, strict=True)
            self._heads = [
                Ranked(scores, rows, products, np.arange(1, len(rows) + 1)).take(order)
                for scores, rows, products, order in found
            ]
        self._read = list(self._heads)
        self._next_depths = np.full(len(vectors_QD), _FIRST_DEPTH)

    def __len__(self) -> int:
        return len(self._vectors_QD)

    @property
    def num_rows(self) -> int:
        """How many images each ranking has from its beginning to its end."""
        return self._gallery.buckets.num_images if self._allowed is None else len(self._allowed)

    @property
    def rows(self) -> np.ndarray:
        """The rows (N,), rising, of all these images."""
        return self._gallery.searched_rows() if self._allowed is None else self._allowed

    def first(self, num: int, queries: np.ndarray | None = None) -> list[Ranked]:
        """The beginnings of the rankings of some `queries` (places; None: all), `num` images of each or more."""
        places = np.arange(len(self)) if queries is None else queries
        num = min(num, self.num_rows)
        while len(short := np.array([place for place in places if len(self._read[place].rows) < num], dtype=np.int64)):
            depth = self._next_depths[short].min()
            short = short[self._next_depths[short] == depth]
            found = self._gallery.buckets.search(self._vectors_QD[short], int(depth), allowed=self._allowed)
            for place, products, rows in zip(short.tolist(), *found, strict=True):
                self._read[place] = _continued(self._read[place], self._heads[place], products, rows)
            self._next_depths[short] = depth * _DEEPENING
        return [self._read[place] for place in places]


def _continued(ranked: Ranked, head: Ranked, products: np.ndarray, rows: np.ndarray) -> Ranked:
    """A ranking and, behind it, those of further images by similarity that it does not have yet."""
    is_new = ~np.isin(rows, ranked.rows)
    products, rows = products[is_new], rows[is_new]
    scores = products
    if len(head.rows):
        # Never above the re-ranked: an index type that approximates may come upon a better one only now.
        scores = head.scores.min() + np.minimum(products - head.products.min(), 0)
    tail = Ranked(scores, rows, products, len(ranked.rows) + np.arange(1, len(rows) + 1))
    return Ranked(*(np.concatenate(fields) for fields in zip(ranked, tail, strict=True)))
