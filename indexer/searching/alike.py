"""Pairs of pictures whose stored vectors are alike, among all of an index: every pair, or the likely ones of many.

Most pairs are settled by a sketch: the first numbers of a vector and the length r of all that follow. As <a, b> is at
most <a', b'> + r(a)·r(b), a', b' those first numbers, the product of two sketches is a bound, and few pairs reach the
threshold by it that do not by all their numbers.

The plain way bounds all pairs, a block against a block, and never holds them: its time grows with the square of the
number of pictures. The quick way puts the sketches into clusters and bounds those pairs alone of which one picture is
in a cluster that is among the `_NUM_NEAREST` nearest of the other. What it finds is as exact, and it may miss a pair
that lies across clusters: more of them, the lower the threshold.
"""

from collections.abc import Iterator
from typing import NamedTuple

import faiss
import numpy as np
from tqdm import tqdm

from indexer.searching.gallery import Gallery

MANY = 50_000
"""Pictures from which on the quick way is taken, where nobody asks for the plain one."""

_BLOCK = 2048  # images compared at once with as many others
_NUM_SKETCHED = 32
_ROUNDING = 1e-5  # of a product of unit vectors in single precision
_NUM_NEAREST = 8
_NUM_TRAINED = 32  # pictures of each cluster that it is learned from


class Pairs(NamedTuple):
    """Places of images that are alike, (M,) each, and their cosines."""

    ones: np.ndarray
    others: np.ndarray
    cosines: np.ndarray


def pairs(
    gallery: Gallery, rows: np.ndarray, threshold: float, *, is_exact: bool, progress_bar: tqdm
) -> Iterator[Pairs]:
    """Pairs of places in `rows` (N,) of the catalog whose cosine reaches the threshold, some of them twice.

    All there are if `is_exact`. The progress bar counts rows.
    """
    starts = range(0, len(rows), _BLOCK)
    blocks = [sketched(_unit_vectors(gallery, rows[start : start + _BLOCK])) for start in starts]
    sketches = np.concatenate([np.empty((0, _NUM_SKETCHED + 1), np.float32), *blocks])
    compared = _all(len(rows), progress_bar) if is_exact or not len(rows) else _likely(sketches, progress_bar)
    for ones, others in compared:
        may_be = sketches[ones] @ sketches[others].T >= threshold - _ROUNDING
        _leave_out_selves(may_be, ones, others)
        some, others_of_some = np.flatnonzero(may_be.any(axis=1)), np.flatnonzero(may_be.any(axis=0))
        if len(some):
            ones, others = ones[some], others[others_of_some]
            vectors, other_vectors = (_unit_vectors(gallery, rows[places]) for places in (ones, others))
            found = _reaching(vectors, other_vectors, threshold, may_be[np.ix_(some, others_of_some)])
            yield Pairs(ones[found.ones], others[found.others], found.cosines)


def sketched(vectors: np.ndarray) -> np.ndarray:
    """The first numbers of each vector and the length of the others, (N, `_NUM_SKETCHED` + 1)."""
    lengths = np.linalg.norm(vectors[:, _NUM_SKETCHED:], axis=1, keepdims=True)
    return np.concatenate([vectors[:, :_NUM_SKETCHED], lengths], axis=1)


def _all(num: int, progress_bar: tqdm) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every place with those after it, blocks of both."""
    for start in range(0, num, _BLOCK):
        ones = np.arange(start, min(start + _BLOCK, num))
        for other_start in range(start, num, _BLOCK):
            yield ones, np.arange(other_start, min(other_start + _BLOCK, num))
        progress_bar.update(len(ones))


def _likely(sketches: np.ndarray, progress_bar: tqdm) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The places in each cluster with those which it is near to, blocks of both."""
    nearest = _nearest_clusters(sketches)
    num_each = nearest.shape[1]
    order = np.argsort(nearest.ravel(), kind="stable")
    clusters, starts = np.unique(nearest.ravel()[order], return_index=True)
    for _, mine in zip(clusters, np.split(order, starts[1:]), strict=True):
        visitors, members = mine // num_each, mine[mine % num_each == 0] // num_each
        for start in range(0, len(members), _BLOCK):
            ones = members[start : start + _BLOCK]
            for other_start in range(0, len(visitors), _BLOCK):
                yield ones, visitors[other_start : other_start + _BLOCK]
            progress_bar.update(len(ones))


def _leave_out_selves(may_be: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
    """No place is alike to itself; both are rising."""
    places = np.searchsorted(others, ones).clip(max=len(others) - 1)
    (same,) = np.nonzero(others[places] == ones)
    may_be[same, places[same]] = False


def _nearest_clusters(sketches: np.ndarray) -> np.ndarray:
    """The numbers of the clusters that each sketch is nearest to, its own first, (N, `_NUM_NEAREST` or fewer)."""
    num_clusters = min(len(sketches), int(4 * len(sketches) ** 0.5))
    sample = np.random.default_rng(0).permutation(len(sketches))[: _NUM_TRAINED * num_clusters]
    kmeans = faiss.Kmeans(sketches.shape[1], num_clusters, niter=6, spherical=True, min_points_per_centroid=1)
    kmeans.train(sketches[sample])
    _, nearest = kmeans.index.search(sketches, min(_NUM_NEAREST, num_clusters))
    return nearest


def _reaching(ones: np.ndarray, others: np.ndarray, threshold: float, may_be: np.ndarray) -> Pairs:
    """The pairs that may be, and are; those at the edge are told in double precision, whatever block they are in."""
    cosines = ones @ others.T
    one, other = np.nonzero(may_be & (cosines >= threshold - _ROUNDING))
    found = cosines[one, other].astype(np.float64)
    edge = np.flatnonzero(np.abs(found - threshold) < 2 * _ROUNDING)
    found[edge] = np.vecdot(ones[one[edge]].astype(np.float64), others[other[edge]])
    kept = found >= threshold
    return Pairs(one[kept], other[kept], found[kept])


def _unit_vectors(gallery: Gallery, rows: np.ndarray) -> np.ndarray:
    vectors = gallery.vectors(rows)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
