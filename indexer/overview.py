"""What is in a corpus, by its catalog: formats, sizes, how crowded the pictures are and how many numbers they took."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from indexer.catalog import Catalog
from retrieval.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

_SPELLINGS = {"jpg": "jpeg", "tif": "tiff"}
_NUM_BINS = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """How many images lie between each two of `edges` (M + 1,), rising by one round step: `counts` (M,)."""

    edges: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Overview:
    """The figures of a corpus, whose size does not grow with it.

    `num_bytes` is the size of the picture files, `formats` and `labels` say how many images there are of each, the
    most frequent first. `plainest` and `most_crowded` are rows of the catalog, with `bytes_per_pixel`: those of the
    least and of the greatest dim, the first of them first, and of one dim by bytes a pixel.
    """

    num_images: int
    num_bytes: int
    mean_dim: float | None
    formats: dict[str, int]
    labels: dict[str, int]
    dims: Histogram
    complexity: Histogram
    plainest: "pd.DataFrame"
    most_crowded: "pd.DataFrame"


def overview(catalog: Catalog, *, num_extremes: int = 8) -> Overview:
    """The figures of a catalog; its columns are read one after the other, and none of them is kept."""
    rows = np.flatnonzero(catalog.live)
    num_bytes, dims, width, height = (
        catalog.live_column(name).to_numpy() for name in ("bytes", "dim", "width", "height")
    )
    bytes_per_pixel = num_bytes / np.maximum(width.astype(np.int64) * height, 1)
    order = np.lexsort((bytes_per_pixel, dims))
    plainest, most_crowded = order[:num_extremes], order[::-1][:num_extremes]
    labels = pc.value_counts(catalog.live_column("label").drop_null()).to_pylist()
    formats = Counter()
    for chunk in catalog.live_column("uri").chunks:
        formats.update(map(format_of, chunk.to_pylist()))
    return Overview(
        num_images=len(rows),
        num_bytes=int(num_bytes.sum()),
        mean_dim=float(dims.mean()) if len(rows) else None,
        formats=dict(formats.most_common()),
        labels=dict(Counter({pair["values"]: pair["counts"] for pair in labels}).most_common()),
        dims=histogram(dims),
        complexity=histogram(bytes_per_pixel),
        plainest=catalog.take(rows[plainest]).to_pandas().assign(bytes_per_pixel=bytes_per_pixel[plainest]),
        most_crowded=catalog.take(rows[most_crowded]).to_pandas().assign(bytes_per_pixel=bytes_per_pixel[most_crowded]),
    )


def histogram(numbers: np.ndarray) -> Histogram:
    """Finite numbers (N,) in at most 30 bins or so, whose edges are multiples of 1, 2 or 5 times a power of ten."""
    if not len(numbers):
        return Histogram(edges=np.zeros(1), counts=np.zeros(0, np.int64))
    low, high = float(numbers.min()), float(numbers.max())
    least = (high - low) / _NUM_BINS or max(abs(high), 1.0) / 10
    power = 10.0 ** math.floor(math.log10(least))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= least * (1 - 1e-9))
    first, last = math.floor(low / step), math.floor(high / step) + 1
    edges = np.arange(first, last + 1) * step
    places = np.clip(np.floor(numbers / step).astype(np.int64) - first, 0, last - first - 1)
    return Histogram(edges=edges, counts=np.bincount(places, minlength=last - first))


def format_of(uri: str) -> str:
    """A picture's format by the ending of its uri, `jpeg` for example; that of the table that holds it, otherwise."""
    suffix = PurePath(uri).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return _SPELLINGS.get(suffix[1:], suffix[1:])
    home = PurePath(uri.rpartition("#")[0]).suffix.lower()
    return f"in {home[1:]}" if home else "unknown"
