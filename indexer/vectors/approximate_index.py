"""An approximate FAISS index over a large piece of a bucket: it proposes rows, which are then compared exactly."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from indexer.storage import arrays
from indexer.storage.records import Approximation, FileRecord
from indexer.vectors import faiss_factory
from retrieval.errors import DamagedError

WANTED = 26
"""Candidates that a search for ten asks a bucket for: `Approximation.settings` are meant for so many."""


class ApproximateIndex:
    """An index that is loaded when it is first searched, and how to search it."""

    def __init__(self, load: Callable[[], faiss.Index], approximation: Approximation):
        self._load = load  # kept, as is what it refers to
        self._approximation = approximation
        self._index: faiss.Index | None = None

    def candidates(
        self,
        queries: np.ndarray,
        num_wanted: int,
        take: Callable[[np.ndarray], np.ndarray],
        live: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best rows of those proposed, by their exact scores: scores and positions, (Q, num_wanted) each.

        `queries` (Q, width) float32; `take` gives rows (N, width) float32 by their positions; `live` (rows,) bool which
        of them count. A position of -1 is none. Raises `DamagedError`.
        """
        if self._index is None:
            self._index = self._load()
        # A search for more looks further, as it must to find as large a share of what there is.
        faiss_factory.set_effort(self._index, self._approximation.settings, times=-(-num_wanted // WANTED))
        num_proposed = num_wanted * self._approximation.depth
        if live is not None:
            num_proposed = num_proposed * len(live) // max(1, int(np.count_nonzero(live)))
        _, proposed = self._index.search(queries, min(num_proposed, self._index.ntotal))
        scores = np.full((len(queries), num_wanted), -np.inf, np.float32)
        positions = np.full((len(queries), num_wanted), -1, np.int64)
        for number, (query, mine) in enumerate(zip(queries, proposed, strict=True)):
            mine = mine[mine >= 0]
            mine = np.sort(mine if live is None else mine[live[mine]])  # read in the order in which they lie
            exact = take(mine) @ query
            best = np.argpartition(-exact, num_wanted - 1)[:num_wanted] if len(mine) > num_wanted else slice(None)
            scores[number, : len(exact[best])], positions[number, : len(mine[best])] = exact[best], mine[best]
        return scores, positions


def read(path: Path, file: FileRecord, approximation: Approximation, *, num_rows: int, width: int) -> ApproximateIndex:
    """The index of `path` over `num_rows` rows of `width` numbers, memory-mapped now and looked at when first searched.

    FAISS trusts what it reads, so it is only handed a file whose sha256 is that of what was written. Raises
    `DamagedError`, then or now.
    """
    content = arrays.read_bytes(path, "an index")
    if len(content) != file.size:
        raise DamagedError(f"expected {file.size} bytes in {path}, got {len(content)}; {_REMEDY}")

    def load() -> faiss.Index:
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DamagedError(f"expected the bytes that were written in {path}, got others; {_REMEDY}")
        try:
            index = _parsed(content)
        except RuntimeError as error:
            reason = " ".join(str(error).rpartition("Error: ")[2].split())
            raise DamagedError(f"expected a FAISS index in {path}, got: {reason}; {_REMEDY}") from None
        found = (index.ntotal, index.d, index.metric_type)
        if found != (num_rows, width, faiss.METRIC_INNER_PRODUCT):
            raise DamagedError(f"expected {num_rows} rows of {width} numbers in {path}, got {found[0]} of {found[1]}")
        return index

    return ApproximateIndex(load, approximation)


_REMEDY = "`verify` lists what is damaged"


def _parsed(content: np.ndarray) -> faiss.Index:
    """The index, which reads `content` where it lies: that must outlive it."""
    if not hasattr(faiss, "ZeroCopyIOReader"):  # FAISS before 1.11
        return faiss.deserialize_index(content)
    return faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(content), content.nbytes), faiss.IO_FLAG_MMAP_IFC)
