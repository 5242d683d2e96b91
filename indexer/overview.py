"""What is in a corpus, by its catalog: formats, sizes, how crowded the pictures are and how many numbers they took."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from retrieval.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

_SPELLINGS = {"jpg": "jpeg", "tif": "tiff"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Overview:
    """The figures of a corpus.

    `num_bytes` is the size of the picture files, `formats` and `labels` say how many images there are of each, the
    most frequent first. `images` has a row an image, the plainest first: the catalog's, with `bytes_per_pixel`.
    """

    num_images: int
    num_bytes: int
    mean_dim: float | None
    formats: dict[str, int]
    labels: dict[str, int]
    images: "pd.DataFrame"


def overview(catalog: "pd.DataFrame") -> Overview:
    """The figures of a catalog, as `Index.catalog` gives it."""
    images = catalog.assign(bytes_per_pixel=catalog["bytes"] / (catalog["width"] * catalog["height"]).clip(lower=1))
    return Overview(
        num_images=len(catalog),
        num_bytes=int(catalog["bytes"].sum()),
        mean_dim=float(catalog["dim"].mean()) if len(catalog) else None,
        formats=catalog["uri"].map(format_of).value_counts().to_dict(),
        labels=catalog["label"].value_counts().to_dict(),
        images=images.sort_values(["dim", "bytes_per_pixel", "id"], ignore_index=True),
    )


def format_of(uri: str) -> str:
    """A picture's format by the ending of its uri, `jpeg` for example; that of the table that holds it, otherwise."""
    suffix = PurePath(uri).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return _SPELLINGS.get(suffix[1:], suffix[1:])
    home = PurePath(uri.rpartition("#")[0]).suffix.lower()
    return f"in {home[1:]}" if home else "unknown"
