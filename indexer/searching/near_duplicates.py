"""Pictures of an index that are nearly the same, found in all of it at once.

How alike two images are is the cosine of their stored vectors in the one space, each with zeros beyond its own dim: it
does not depend on which of the two is asked for, 1 means equal, and what the longer one says beyond the shorter one's
numbers counts as a difference. So a plain picture is no near duplicate of a crowded one whose beginning it shares, as
it would be by the cosine over the numbers that both have; for copies of one picture, whose dims hardly differ, the two
cosines are the same to a hundredth (measured on caltech101: JPEG, crops, brightness).
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from indexer.searching import alike
from indexer.searching.components import Components
from indexer.searching.gallery import Gallery
from retrieval.errors import UsageError


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
    gallery: Gallery, rows: np.ndarray, threshold: float, *, is_exact: bool = False, show_progress_bar: bool = False
) -> list[list[NearDuplicate]]:
    """The groups among some live rows (N,), rising, of the catalog: see `Index.near_duplicates`."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise UsageError(f"expected a threshold above 0, to 1 (equal vectors), got {threshold!r}; try 0.95")
    pictures, picture_of_row = np.unique(gallery.names.firsts(rows), return_inverse=True)
    components, nearest = Components(len(pictures)), np.zeros(len(pictures))
    with tqdm(total=len(pictures), unit=" images", disable=not show_progress_bar) as progress_bar:
        is_exact = is_exact or len(pictures) < alike.MANY
        for pairs in alike.pairs(gallery, pictures, threshold, is_exact=is_exact, progress_bar=progress_bar):
            components.join(pairs.ones, pairs.others)
            np.maximum.at(nearest, pairs.ones, pairs.cosines)
            np.maximum.at(nearest, pairs.others, pairs.cosines)
    nums_names = np.bincount(picture_of_row, minlength=len(pictures))
    similarities = np.where(nums_names > 1, 1.0, np.minimum(nearest, 1.0))[picture_of_row]
    return _groups(gallery, rows, components.numbers()[picture_of_row], similarities)


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
