"""What of a ranking is shown, and in which order: hits of enough similarity, the best of each group, unlike ones first.

Every step works on the one ranking from its beginning, so that pages of what it leaves are slices too; and where a step
leaves less than is asked for, the ranking is read deeper, to its end if it must be: no hit is missing that there is.
"""

import numpy as np

from indexer.searching.diversity import diversified, on_scale_of
from indexer.searching.gallery import Gallery
from indexer.searching.grouping import Groups
from indexer.searching.ranking import Ranked, Ranking
from indexer.searching.search_config import SearchConfig

NUM_DIVERSIFIED = 200
"""How many of a ranking's first images, after grouping, diversity puts in order; the others follow as they were.

A fixed number, so that the order is the same on every page.
"""

_DEEPENING = 8


class Selection:
    """Selects as `config` says; `matching` (M,) are the rows that its filter lets through, None all."""

    def __init__(self, gallery: Gallery, config: SearchConfig, matching: np.ndarray | None):
        self._gallery = gallery
        self._config = config
        self._matching = matching
        self._groups = None
        if config.group_by is not None:
            self._groups = Groups(config.group_by, gallery.catalog.column(config.group_by), config.group_size)

    def pages(self, ranking: Ranking, *, is_reranked: bool) -> list[Ranked]:
        """The page of each query."""
        config = self._config
        num_wanted = config.offset + config.top_k
        if config.diverse:
            num_wanted = max(num_wanted, NUM_DIVERSIFIED)
        if self._groups is not None:
            num_wanted = min(num_wanted, self._groups.most(self._shown(ranking.rows)))
        chosen: list[Ranked] = [None] * len(ranking)
        waiting, depth = np.arange(len(ranking)), num_wanted
        while len(waiting):
            still = []
            for place, ranked in zip(waiting.tolist(), ranking.first(depth, waiting), strict=True):
                chosen[place] = self._kept(ranked)
                if len(chosen[place].rows) < num_wanted and not self._is_whole(ranked, ranking):
                    still.append(place)
            waiting, depth = np.array(still, dtype=np.int64), depth * _DEEPENING
        return [self._page(ranked, is_reranked) for ranked in chosen]

    def _kept(self, ranked: Ranked) -> Ranked:
        if self._config.min_score is not None:
            ranked = ranked.take(ranked.products >= self._config.min_score)
        if self._groups is not None:
            ranked = ranked.take(self._groups.best(self._shown(ranked.rows)))
        return ranked

    def _shown(self, rows: np.ndarray) -> np.ndarray:
        """Whose values count: a picture of several names belongs where that name does by which it is shown."""
        return self._gallery.names.shown(rows, self._matching)

    def _is_whole(self, ranked: Ranked, ranking: Ranking) -> bool:
        """Whether nothing further down could be kept."""
        floor = self._config.min_score
        return len(ranked.rows) == ranking.num_rows or (floor is not None and bool((ranked.products < floor).any()))

    def _page(self, ranked: Ranked, is_reranked: bool) -> Ranked:
        if self._config.diverse and len(ranked.rows):
            pool = ranked.take(slice(NUM_DIVERSIFIED))
            relevance = on_scale_of(pool.scores, pool.products) if is_reranked else pool.scores
            order = diversified(relevance, self._gallery.vectors(pool.rows), self._config.diverse)
            ranked = ranked.take(np.concatenate([order, np.arange(len(order), len(ranked.rows))]))
        return ranked.take(slice(self._config.offset, self._config.offset + self._config.top_k))
