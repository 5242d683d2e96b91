"""What is asked of a search, checked before a model is loaded or a picture is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from retrieval.errors import UsageError

RERANK = 100
"""How many candidates are re-ranked where nothing else is asked for."""

MOST_RERANKED = 1000
"""The ranker compares the candidates of a query with each other: the square of their number in time and memory."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is asked of a search: see `Index.search`."""

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
        if not _is_count(self.top_k) or self.top_k < 1:
            raise UsageError(f"expected top_k as an integer of at least 1, got {self.top_k!r}; ask for one hit or more")
        if not _is_count(self.offset):
            raise UsageError(f"expected offset as an integer of at least 0, got {self.offset!r}; 0 is the first page")
        if self.min_score is not None and not _is_real(self.min_score):
            raise UsageError(f"expected min_score as a number, got {self.min_score!r}")
        if self.weights is not None and not _are_weights(self.weights):
            raise UsageError(
                f"expected weights as finite numbers, one of them above 0, got {self.weights!r}; give one a picture"
            )
        if not _is_count(self.group_size) or self.group_size < 1:
            raise UsageError(f"expected group_size as an integer of at least 1, got {self.group_size!r}")
        if self.group_by is None and self.group_size != 1:
            raise UsageError(f"expected group_size together with group_by, got {self.group_size} alone; name a column")
        if self.diverse is not None and not (_is_real(self.diverse) and 0 <= self.diverse <= 1):
            raise UsageError(f"expected diverse from 0 (by relevance) to 1 (by difference), got {self.diverse!r}")
        if self.rerank is not None and (not _is_count(self.rerank) or self.rerank > MOST_RERANKED):
            raise UsageError(f"expected rerank of 0 (not at all) to {MOST_RERANKED}, got {self.rerank!r}")
        if not _is_count(self.expand) or self.expand > MOST_RERANKED:
            raise UsageError(f"expected expand of 0 (not at all) to {MOST_RERANKED}, got {self.expand!r}")
        if self.rerank == 0 and self.ranker is not None:
            raise UsageError("expected a ranker together with re-ranking, got rerank of 0; leave one of the two out")

    @property
    def wants_ranker(self) -> bool:
        """Whether re-ranking was asked for, rather than left to what the index has."""
        return bool(self.rerank) or self.ranker is not None

    @property
    def num_reranked(self) -> int:
        """How many of the most similar a ranker puts in order, where there is one."""
        return RERANK if self.rerank is None else self.rerank


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_weights(values: Any) -> bool:
    return isinstance(values, Sequence) and all(map(_is_real, values)) and any(value > 0 for value in values)
