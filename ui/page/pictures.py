"""Pictures by their reference, images of the index and what visitors gave: bytes, names, sizes, and tiles."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.searching.query_pixels import Crop
from retrieval.errors import ImageError
from retrieval.images import decode, read_pixels
from ui.page.naming import name_of
from ui.page.query_state import image_of, upload_of
from ui.page.uploads import Uploads
from ui.pictures.thumbnails import Thumbnails
from ui.service import indexed_pictures
from ui.service.indexed_pictures import StoredPicture

if TYPE_CHECKING:
    from indexer import Index

TILE, LARGE = 400, 1280
"""Pixels of the longer side of what is shown in a grid, and alone."""


class Pictures:
    """Reads pictures for the pages; for many threads at once. `index` gives the index as it is now."""

    def __init__(self, index: "Callable[[], Index]"):
        self.uploads = Uploads()
        self._index = index
        self._tiles = Thumbnails(self.data, side=TILE)
        self._larger = Thumbnails(self.data, side=LARGE)

    def data(self, ref: str) -> bytes:
        """The bytes of a picture's file, as it was given or indexed; raises `ImageError`."""
        sha256 = upload_of(ref)
        if sha256 is not None:
            return self.uploads.get(sha256)
        row = self.row(image_of(ref))
        return indexed_pictures.read(StoredPicture(uri=row["uri"], sha256=row["sha256"]))

    def sha256_of(self, ref: str) -> str:
        """The checksum of a picture as it was given, or as it was indexed last; "" for an id that is none."""
        row = self._index().row(image_of(ref)) if upload_of(ref) is None else None
        return upload_of(ref) or (row["sha256"] if row else "")

    def part(self, ref: str, crop: Crop | None) -> bytes | np.ndarray:
        """A picture's bytes, or of a part of it the pixels (height, width, 3); raises `ImageError`."""
        data = self.data(ref)
        if crop is None:
            return data
        x, y, width, height = crop
        part = read_pixels(data, None)[y : y + height, x : x + width]
        if not part.size:
            raise ImageError(f"expected a part inside of the picture, got {crop}; draw another")
        return np.ascontiguousarray(part)

    def row(self, image_id: str) -> dict[str, Any]:
        """What the catalog says of an image; raises `ImageError` where there is none of this id."""
        row = self._index().row(image_id)
        if row is None:
            raise ImageError(f"expected the id of an image of the index, got {image_id!r}")
        return row

    def name(self, ref: str) -> str:
        """What a picture is called."""
        if upload_of(ref) is not None:
            return "your picture"
        try:
            return name_of(image_of(ref), self.row(image_of(ref))["uri"])
        except ImageError:  # gone from the index, and yet in somebody's address
            return image_of(ref)

    def size(self, ref: str) -> tuple[int, int]:
        """Width and height of a picture as it is shown, upright; raises `ImageError`."""
        if upload_of(ref) is None:
            row = self.row(image_of(ref))
            return row["width"], row["height"]
        decoded = decode(self.uploads.get(upload_of(ref)), 32)
        return decoded.width, decoded.height

    def tile(self, ref: str) -> bytes:
        """A picture as a small JPEG's bytes; raises `ImageError`."""
        return self._tiles.get(ref, self.sha256_of(ref))

    def large(self, ref: str) -> bytes:
        """A picture as a JPEG's bytes, large enough to fill a screen; raises `ImageError`."""
        return self._larger.get(ref, self.sha256_of(ref))
