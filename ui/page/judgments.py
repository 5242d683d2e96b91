"""What was judged so far, kept in memory beside the index's feedback, so that every hit can show it at once."""

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from indexer import Index
    from indexer.feedback import Judgment


class Counts(NamedTuple):
    """How many judgments stand, by what they say, and of how many queries."""

    num_relevant: int
    num_irrelevant: int
    num_queries: int


class Judgments:
    """The judgments of an index by user and query; read again whenever somebody else has added to them."""

    def __init__(self):
        self._said: dict[tuple[str, str], dict[str, bool]] = {}
        self._names: dict[Hashable, str] = {}  # of queries that are no images of the index
        self._seen: tuple | None = None
        self._lock = threading.Lock()

    def note(self, judgment: "Judgment", query: Hashable) -> None:
        """Take in a judgment that was just recorded, for a `query` by whatever key it is asked for again."""
        with self._lock:
            self._names[query] = judgment.query
            self._said.setdefault((judgment.user, judgment.query), {})[judgment.image] = judgment.relevant

    def of(self, index: "Index", name: str | None, query: Hashable, user: str) -> dict[str, bool]:
        """What `user` said of images, by their ids, to the query of this name, or else of that key.

        Raises `DamagedError`.
        """
        with self._lock:
            self._refresh(index)
            return dict(self._said.get((user, name or self._names.get(query, "")), {}))

    def counts(self, index: "Index") -> Counts:
        """Of all users; raises `DamagedError`."""
        with self._lock:
            self._refresh(index)
            verdicts = [relevant for images in self._said.values() for relevant in images.values()]
            queries = {query for _, query in self._said}
        return Counts(sum(verdicts), len(verdicts) - sum(verdicts), len(queries))

    def _refresh(self, index: "Index") -> None:
        files = _files(index)
        if files != self._seen:
            said = index.feedback()
            self._said = {}
            columns = (said[name] for name in ("user", "query", "image", "relevant"))
            for judged_by, asked, image, relevant in zip(*columns, strict=True):
                self._said.setdefault((judged_by, asked), {})[image] = bool(relevant)
            self._seen = files


def _files(index: "Index") -> tuple:
    from indexer import feedback

    return tuple(path.name for path in feedback.files(index.path))
