"""Pictures of an index that are nearly the same, found in all of it at once.

How alike two images are is the cosine of their stored vectors in the one space, each with zeros beyond its own dim: it
does not depend on which of the two is asked for, 1 means equal, and what the longer one says beyond the shorter one's
numbers counts as a difference. So a plain picture is no near duplicate of a crowded one whose beginning it shares, as
it would be by the cosine over the numbers that both have; for copies of one picture, whose dims hardly differ, the two
cosines are the same to a hundredth (measured on caltech101: JPEG, crops, brightness).

All pairs are looked at, a block against a block, and never held. Most are settled by a sketch: the first numbers of a
vector and the length r of all that follow. As <a, b> is at most <a', b'> + r(a)·r(b), a', b' those first numbers, the
product of two sketches is a bound, and few pairs reach the threshold by it that do not by all their numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from indexer.searching.components import Components
from indexer.searching.gallery import Gallery
from retrieval.errors import UsageError

_BLOCK = 2048  # images compared at once with as many others
_NUM_SKETCHED = 32
_ROUNDING = 1e-5  # of a product of unit vectors in single precision


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """An image of a group of near duplicates; `similarity` is that to the member most like it, 1.0 for the same file.

    `width` and `height` in pixels, `num_bytes` of its file.
    """

    id: str
    uri: str
    label: str | None
    similarity: float
    width: int
    height: int
    num_bytes: int


def near_duplicates(
    gallery: Gallery, rows: np.ndarray, threshold: float, *, show_progress_bar: bool = False
) -> list[list[NearDuplicate]]:
    """The groups among some live rows (N,), rising, of the catalog: see `Index.near_duplicates`."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise UsageError(f"expected a threshold above 0, to 1 (equal vectors), got {threshold!r}; try 0.95")
    pictures, picture_of_row = np.unique(gallery.names.firsts(rows), return_inverse=True)
    components, nearest = Components(len(pictures)), np.zeros(len(pictures))
    with tqdm(total=len(pictures), unit=" images", disable=not show_progress_bar) as progress_bar:
        for pairs in _alike(gallery, pictures, threshold, progress_bar):
            components.join(pairs.ones, pairs.others)
            np.maximum.at(nearest, pairs.ones, pairs.cosines)
            np.maximum.at(nearest, pairs.others, pairs.cosines)
    nums_names = np.bincount(picture_of_row, minlength=len(pictures))
    similarities = np.where(nums_names > 1, 1.0, np.minimum(nearest, 1.0))[picture_of_row]
    return _groups(gallery, rows, components.numbers()[picture_of_row], similarities)


class _Pairs(NamedTuple):
    """Places of images that are alike, (M,) each, and their cosines."""

    ones: np.ndarray
    others: np.ndarray
    cosines: np.ndarray


def _alike(gallery: Gallery, rows: np.ndarray, threshold: float, progress_bar: tqdm) -> Iterator[_Pairs]:
    """All pairs of the rows that reach the threshold, block by block, each pair once."""
    starts = range(0, len(rows), _BLOCK)
    sketches = [_sketches(_unit_vectors(gallery, rows[start : start + _BLOCK])) for start in starts]
    for number, start in enumerate(starts):
        vectors = _unit_vectors(gallery, rows[start : start + _BLOCK])
        for other_number in range(number, len(sketches)):
            bounds = sketches[number] @ sketches[other_number].T
            may_be = bounds >= threshold - _ROUNDING
            if other_number == number:
                may_be = np.triu(may_be, 1)
            ones, others = np.flatnonzero(may_be.any(axis=1)), np.flatnonzero(may_be.any(axis=0))
            if len(ones):
                other_start = starts[other_number]
                other_vectors = _unit_vectors(gallery, rows[other_start + others])
                pairs = _reaching(vectors[ones], other_vectors, threshold, may_be[np.ix_(ones, others)])
                yield _Pairs(start + ones[pairs.ones], other_start + others[pairs.others], pairs.cosines)
        progress_bar.update(len(vectors))


def _reaching(ones: np.ndarray, others: np.ndarray, threshold: float, may_be: np.ndarray) -> _Pairs:
    """The pairs that may be, and are; those at the edge are told in double precision, whatever block they are in."""
    cosines = ones @ others.T
    one, other = np.nonzero(may_be & (cosines >= threshold - _ROUNDING))
    found = cosines[one, other].astype(np.float64)
    edge = np.flatnonzero(np.abs(found - threshold) < 2 * _ROUNDING)
    found[edge] = np.vecdot(ones[one[edge]].astype(np.float64), others[other[edge]])
    kept = found >= threshold
    return _Pairs(one[kept], other[kept], found[kept])


def _unit_vectors(gallery: Gallery, rows: np.ndarray) -> np.ndarray:
    vectors = gallery.vectors(rows)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _sketches(vectors: np.ndarray) -> np.ndarray:
    """The first numbers of each vector and the length of the others, (N, `_NUM_SKETCHED` + 1)."""
    lengths = np.linalg.norm(vectors[:, _NUM_SKETCHED:], axis=1, keepdims=True)
    return np.concatenate([vectors[:, :_NUM_SKETCHED], lengths], axis=1)


def _groups(
    gallery: Gallery, rows: np.ndarray, components: np.ndarray, similarities: np.ndarray
) -> list[list[NearDuplicate]]:
    """The rows whose component has others, as groups: the largest first, in each the picture with the most pixels."""
    groups: dict[int, list[tuple[tuple, NearDuplicate]]] = {}
    _, places, nums = np.unique(components, return_inverse=True, return_counts=True)
    for place in np.flatnonzero(nums[places] > 1).tolist():
        row = gallery.catalog.row(int(rows[place]))
        one = NearDuplicate(
            similarity=float(similarities[place]),
            num_bytes=row["bytes"],
            **{name: row[name] for name in ("id", "uri", "label", "width", "height")},
        )
        rank = (-one.width * one.height, -one.num_bytes, place)
        groups.setdefault(int(components[place]), []).append((rank, one))
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    return [[one for _, one in sorted(group, key=lambda member: member[0])] for group in ordered]
