"""What is asked of a search, checked before a model is loaded or a picture is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.arguments import check_columns, check_crop, is_count, is_real, listed
from retrieval.errors import UsageError

RERANK = 100
"""How many candidates are re-ranked where nothing else is asked for."""

MOST_RERANKED = 1000
"""The ranker compares the candidates of a query with each other: the square of their number in time and memory."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is asked of a search, beside its query: see `Index.search`.

    `weights` count the pictures of a query of several: one below 0 against a hit. So does likeness to those of
    `subtract`. `crop` (x, y, width, height) in pixels of the upright query keeps that part of it. Hits that score below
    `min_score` are dropped; where there is a ranker, those whose inner product with the query is, since a ranker's
    scores have no scale of their own.

    `where` is an SQL condition over the catalog's columns, such as "label = 'cat' AND width >= 640", or rules for some
    of them that must all hold: `{"label": ["cat", "lynx"], "width": {"gte": 640}, "note": None}`. A rule is the value,
    a list of the values that it may be, or operators: eq, ne, gt, gte, lt, lte, in, not_in, contains, starts_with,
    exists. None is no value, which only None, `{"exists": False}`, ne and not_in let through. There are as many hits as
    are asked for, wherever so many images are let through.

    A ranker puts the `rerank` most similar in order, and the others follow by similarity: 100 by default, none with 0,
    nor by default where the index has no tokens or there is no ranker for its model. `ranker` is a `retrieval.Ranker`,
    the name of one of the index's own or of a shipped one, or a folder; by default the one in use
    (`Index.use_ranker`), or else that beside the weights of the index's model. It may read `metadata`, the query's own
    columns, and what `user` has judged. The very picture that is asked for comes first all the same: its score is
    raised above the others'.

    The `expand` best hits then join the query for a second search, whose hits these are: with them, and in
    `Hit.similarity_rank`, "the query" is the one so expanded.

    With `group_by`, a column, no more than the `group_size` best of each of its values are hits; an image without a
    value stands for itself. With `diverse`, 0 to 1, the 200 best are put in an order that weighs how much they are like
    those before them against their relevance (maximal marginal relevance, whose λ is 1 - `diverse`): scores then rise
    and fall.

    All of that makes one ranking, whatever `offset` and `top_k` are: the hits are the `top_k` of it after the first
    `offset`, so that pages put one after the other hold every image once.
    """

    top_k: int = 10
    offset: int = 0
    weights: Sequence[float] | None = None
    subtract: Any = ()
    crop: tuple[int, int, int, int] | None = None
    where: str | Mapping[str, Any] | None = None
    min_score: float | None = None
    group_by: str | None = None
    group_size: int = 1
    diverse: float | None = None
    rerank: int | None = None
    ranker: Any = None
    expand: int = 0
    metadata: Mapping[str, Any] | None = None
    user: str = ""

    def __post_init__(self):
        if not is_count(self.top_k) or self.top_k < 1:
            raise UsageError(f"expected top_k as an integer of at least 1, got {self.top_k!r}; ask for one hit or more")
        if not is_count(self.offset):
            raise UsageError(f"expected offset as an integer of at least 0, got {self.offset!r}; 0 is the first page")
        if self.min_score is not None and not is_real(self.min_score):
            raise UsageError(f"expected min_score as a number, got {self.min_score!r}")
        if self.weights is not None and not _are_weights(self.weights):
            raise UsageError(
                f"expected weights as finite numbers, one of them above 0, got {self.weights!r}; give one a picture"
            )
        if not is_count(self.group_size) or self.group_size < 1:
            raise UsageError(f"expected group_size as an integer of at least 1, got {self.group_size!r}")
        if self.group_by is None and self.group_size != 1:
            raise UsageError(f"expected group_size together with group_by, got {self.group_size} alone; name a column")
        if self.diverse is not None and not (is_real(self.diverse) and 0 <= self.diverse <= 1):
            raise UsageError(f"expected diverse from 0 (by relevance) to 1 (by difference), got {self.diverse!r}")
        if self.rerank is not None and (not is_count(self.rerank) or self.rerank > MOST_RERANKED):
            raise UsageError(f"expected rerank of 0 (not at all) to {MOST_RERANKED}, got {self.rerank!r}")
        if not is_count(self.expand) or self.expand > MOST_RERANKED:
            raise UsageError(f"expected expand of 0 (not at all) to {MOST_RERANKED}, got {self.expand!r}")
        if self.rerank == 0 and self.ranker is not None:
            raise UsageError("expected a ranker together with re-ranking, got rerank of 0; leave one of the two out")
        check_crop(self.crop)
        check_columns(self.metadata)

    @property
    def wants_ranker(self) -> bool:
        """Whether re-ranking was asked for, rather than left to what the index has."""
        return bool(self.rerank) or self.ranker is not None

    @property
    def num_reranked(self) -> int:
        """How many of the most similar a ranker puts in order, where there is one."""
        return RERANK if self.rerank is None else self.rerank


def _are_weights(values: Any) -> bool:
    numbers = listed(values)
    return all(map(is_real, numbers)) and any(number > 0 for number in numbers)
