"""Looking around in an index without a query: images drawn at random, and a map of the embeddings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.searching.gallery import Gallery
from retrieval.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


def sample(
    gallery: Gallery, num_images: int, where: str | Mapping[str, Any] | None, seed: int, offset: int
) -> "pd.DataFrame":
    """Rows of the catalog: see `Index.sample`."""
    if num_images < 0 or offset < 0:
        raise UsageError(f"expected num_images and offset of at least 0, got {num_images} and {offset}")
    catalog = gallery.catalog
    rows = np.flatnonzero(catalog.live) if where is None else catalog.where(where)
    chosen = np.random.default_rng(seed).permutation(rows)[offset : offset + num_images]
    return catalog.take(chosen).to_pandas()


def embedding_map(gallery: Gallery, num_images: int, seed: int) -> "pd.DataFrame":
    """Rows of the catalog with a place each: see `Index.embedding_map`."""
    if num_images < 0:
        raise UsageError(f"expected num_images of at least 0, got {num_images}")
    rows = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(gallery.catalog.live))[:num_images])
    table = gallery.catalog.take(rows).to_pandas()
    places_N2 = principal_plane(gallery.vectors(rows)) if len(rows) else np.zeros((0, 2))
    return table.assign(x=places_N2[:, 0], y=places_N2[:, 1])


def principal_plane(vectors_ND: np.ndarray) -> np.ndarray:
    """Where the vectors lie (N, 2) along the two directions in which they differ most, from their mean.

    Each direction points to where its largest number lies, so that the same vectors always give the same picture.
    """
    centred_ND = vectors_ND.astype(np.float64) - vectors_ND.mean(axis=0, dtype=np.float64)
    _, directions_DD = np.linalg.eigh(centred_ND.T @ centred_ND)  # rising
    plane_D2 = directions_DD[:, :-3:-1]
    largest_2 = np.take_along_axis(plane_D2, np.abs(plane_D2).argmax(axis=0, keepdims=True), axis=0)
    return centred_ND @ (plane_D2 * np.where(largest_2 < 0, -1, 1))
