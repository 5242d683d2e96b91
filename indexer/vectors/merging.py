"""One ranking from several buckets: their candidates scored anew, merged, and completed where a tie crosses the cut.

The scores that FAISS gives with its candidates are rough. They are computed once more, in double precision, from the
stored rows: so a score depends on the query and the vector alone (not on the batch, the device or the index type),
equal vectors score equally in whichever bucket they lie, and ties are ordered by id.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.vectors.bucket import Bucket, best
from indexer.vectors.faiss_settings import tuned
from retrieval.errors import DamagedError

_PAIRS = 4096  # (query, row) pairs scored together
_NO_ID = np.iinfo(np.int64).max
_BLOCK = 65_536  # rows looked through at once for what is no number


class Part(NamedTuple):
    """A bucket, the mask of its rows to look at (None: all that live), and how many those are, at least one."""

    bucket: Bucket
    allowed: np.ndarray | None
    num_rows: int


def search(parts: Sequence[Part], queries: np.ndarray, num_hits: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and ids, (Q, num_hits) each, by score descending, then id ascending.

    `queries` (Q, largest width) float32; `num_hits` in 1..rows of all parts. Raises `DamagedError` for rows that are no
    numbers, where it meets them.
    """
    scores, ids = _search(parts, queries, num_hits, scan=False)
    short = ids[:, -1] == _NO_ID  # an approximate index may find fewer rows than there are
    if short.any():
        scores[short], ids[short] = _search(parts, queries[short], num_hits, scan=True)
        if (ids[:, -1] == _NO_ID).any():
            raise _no_numbers(parts)
    return scores, ids


def _search(parts, queries, num_hits, *, scan):
    """As `search`; unless told to `scan`, approximate buckets may miss rows, and an id be `_NO_ID`."""
    num_wanted = num_hits + max(part.bucket.num_spare for part in parts)
    rough, positions, owners = _candidates(parts, queries, num_wanted, scan)

    query_of_pair = np.repeat(np.arange(len(queries)), positions.shape[1])
    scores, ids, longest = _score(parts, queries, query_of_pair, owners.ravel(), positions.ravel())
    scores, ids = scores.reshape(positions.shape), ids.reshape(positions.shape)
    order = np.lexsort((ids, -scores), axis=-1)[:, :num_hits]
    scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

    is_exact = scan or all(part.bucket.compares_all(part.allowed) for part in parts)
    if is_exact and positions.shape[1] < sum(part.num_rows for part in parts):
        # A row that was left out may still belong where the last candidate scores as the last hit does.
        rounding = max(part.bucket.rounding for part in parts)
        floors = scores[:, -1] - rounding * longest * np.linalg.norm(queries, axis=1)
        (tied,) = np.nonzero(rough.min(axis=1) >= floors)
        for start in range(0, len(tied), 16):
            some = tied[start : start + 16]
            scores[some], ids[some] = _search_ties(parts, queries[some], num_hits, floors[some])
    return scores, ids


def _candidates(parts, queries, num_wanted, scan):
    """Rough scores, positions and numbers of the part they are from, (Q, up to `num_wanted`) each."""
    found = []
    for owner, (bucket, allowed, num_rows) in enumerate(parts):
        cut = np.ascontiguousarray(queries[:, : bucket.width])
        propose = bucket.scan if scan else bucket.candidates
        with tuned(len(queries)):
            rough, positions = propose(cut, min(num_wanted, num_rows), allowed)
        found.append((rough, positions, np.full(positions.shape, owner, np.int16)))
    return best(num_wanted, *(np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True)))


def _search_ties(parts, queries, num_hits, floors):
    """As `search`, from every row that scores at least a query's floor, however many those are."""
    pairs = []
    for owner, (bucket, allowed, _) in enumerate(parts):
        for query_of_pair, positions in bucket.at_least(queries[:, : bucket.width], floors, allowed):
            pairs.append((query_of_pair, np.full(len(positions), owner), positions))
    query_of_pair, owners, positions = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    scores, ids, _ = _score(parts, queries, query_of_pair, owners, positions)
    order = np.lexsort((ids, -scores, query_of_pair))
    starts = np.searchsorted(query_of_pair[order], np.arange(len(queries)))
    order = order[starts[:, None] + np.arange(num_hits)]
    return scores[order], ids[order]


def _score(parts, queries, query_of_pair, owners, positions):
    """Scores and ids of (query, row) pairs, and the length of the longest row, 1 or more.

    A position of -1 is no row: it scores -inf and has `_NO_ID`.
    """
    scores = np.full(len(positions), -np.inf, dtype=np.float32)
    ids = np.full(len(positions), _NO_ID)
    longest = 1.0
    for owner, (bucket, _, _) in enumerate(parts):
        (mine,) = np.nonzero((owners == owner) & (positions >= 0))
        ids[mine] = bucket.ids[positions[mine]]
        for start in range(0, len(mine), _PAIRS):
            some = mine[start : start + _PAIRS]
            rows = bucket.rows(positions[some]).astype(np.float64)
            scores[some] = np.vecdot(rows, queries[query_of_pair[some], : bucket.width])
            longest = max(longest, float(np.sqrt(np.vecdot(rows, rows).max())))
    if not np.isfinite(longest):
        raise _no_numbers(parts)
    return scores, ids, longest


def _no_numbers(parts) -> DamagedError:
    """What to raise once rows were met that are no numbers: it names the files that they may be in."""
    widths = {part.bucket.width for part in parts if not _is_sound(part.bucket)}
    names = ", ".join(f"vectors-{width:03d}.npy" for width in sorted(widths))
    return DamagedError(
        f"expected vectors of finite numbers in each {names}, got NaN or infinity; `verify` lists what is damaged"
    )


def _is_sound(bucket) -> bool:
    starts = range(0, len(bucket.ids), _BLOCK)
    return all(np.isfinite(bucket.rows(slice(start, start + _BLOCK))).all() for start in starts)
