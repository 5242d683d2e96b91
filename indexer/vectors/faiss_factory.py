"""FAISS indices by a string: an empty one, and how it is trained, filled and set."""

import re

import faiss
import numpy as np

from indexer.vectors.row_pieces import RowPieces
from retrieval.errors import UsageError

_BLOCK = 65_536  # rows added together


def empty_index(width: int, index_type: str) -> faiss.Index:
    """An index for inner products of vectors of `width` numbers; raises `UsageError` for a string it cannot be."""
    if "IDMap" in index_type:
        raise UsageError(
            f"expected a FAISS factory string without IDMap, got {index_type!r}; ids are kept here: leave it out"
        )
    try:
        return faiss.index_factory(width, index_type, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        # FAISS begins with the function and the line of its source: "Error in … at index_factory.cpp:1228: …".
        reason = " ".join(re.sub(r"^Error in .* at \S+:\d+: ", "", str(error)).rpartition("Error: ")[2].split())
        raise UsageError(
            f"expected a FAISS factory string for vectors of {width} numbers, got {index_type!r} ({reason}); "
            'try "Flat" or "HNSW32"'
        ) from None


def num_centroids(index: faiss.Index) -> int:
    """How many points an index is trained to tell apart, at most: it wants 39 rows for each."""
    ivf = faiss.try_extract_index_ivf(index)
    return max(256, ivf.nlist) if ivf else 256  # a product quantiser has 256


def fill(index: faiss.Index, rows: RowPieces) -> None:
    """Train an index where that is needed, and add those of the rows that it does not hold yet."""
    if not index.is_trained:
        num_samples = min(len(rows), 64 * max(1024, num_centroids(index)))
        # Spread over all rows: a corpus often comes sorted by kind.
        index.train(rows.take(np.linspace(0, len(rows) - 1, num_samples).astype(np.int64)))
    while index.ntotal < len(rows):
        index.add(rows.take(slice(index.ntotal, index.ntotal + _BLOCK)))


def efforts(index: faiss.Index) -> list[dict[str, int]]:
    """The settings to search an index with, from the fastest to the most thorough; one without any, where it has none.

    `nprobe` is how many lists of an IVF are looked through, `efSearch` how many nodes of a graph are followed.
    """
    space = faiss.ParameterSpace()
    space.initialize(index)
    names = {space.parameter_ranges.at(number).name for number in range(space.parameter_ranges.size())}
    ivf = faiss.try_extract_index_ivf(index)
    if ivf and "nprobe" in names:
        most = max(1, ivf.nlist // 4)
        return [{"nprobe": num} for num in (2**power for power in range(3, 20)) if num < most] + [{"nprobe": most}]
    if "efSearch" in names:
        return [{"efSearch": 2**power} for power in range(5, 11)]
    return [{}]


def set_effort(index: faiss.Index, settings: dict[str, int], times: int = 1) -> None:
    """Search an index with `settings` from now on, each of them `times` as large."""
    ivf = faiss.try_extract_index_ivf(index)
    space = faiss.ParameterSpace()
    for name, value in settings.items():
        most = ivf.nlist if name == "nprobe" and ivf else 1 << 20
        space.set_index_parameter(index, name, min(most, value * times))
