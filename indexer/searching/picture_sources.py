"""Where the pictures of queries are: files, bytes, pixels, images of the index; and what the catalog tells of them."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from indexer import corpus
from indexer.catalog import Catalog
from indexer.closest_ids import closest
from indexer.searching.pictures import EncodedPicture, ImageId
from indexer.searching.query_pixels import Crop, pixels_of
from indexer.storage.records import Model
from indexer.unicode_text import is_unicode
from retrieval.errors import ImageError, MismatchError, SpyglassError, UsageError


class PictureSource(NamedTuple):
    """A picture to be read; an image of the index by its uri, row and sha256; or the problem that there is with it."""

    picture: Any
    row: int | None = None
    sha256: str | None = None
    problem: SpyglassError | None = None


class Gone:
    """In place of the pixels of an image of the index whose picture is gone, or another one by now."""


class PictureSources:
    """Knows the images in the `catalog` of an index that was made with `model`."""

    def __init__(self, catalog: Catalog, model: Model):
        self._catalog = catalog
        self._model = model

    def of(self, pictures: Sequence[Any], crop: Crop | None = None) -> list[PictureSource]:
        """The source of each picture, as `Index.search` takes it, of which a `crop` is wanted or all."""
        named = self._find(pictures)
        return [self._source(picture, named, crop) for picture in pictures]

    def check(self, pictures: Sequence[Any]) -> None:
        """Raise what reading them would, as far as it shows without reading a picture that is there."""
        for source in self.of(pictures):
            if source.problem is not None:
                raise source.problem
            if source.row is None and _names_nothing(source.picture):
                raise self.told(read(source, None, None), source)

    def told(self, error: ImageError, source: PictureSource) -> ImageError:
        """The error in reading a source; of a name that is no file's, with the ids that may have been meant."""
        if source.row is not None or not _names_nothing(source.picture):
            return error
        return ImageError(f"{error}, nor is it the id of an image{self._closest(source.picture)}")

    def uri_of(self, name: str) -> str:
        """Where the picture lies that a str means."""
        row = self._find([name]).get(name)
        return name if row is None else self._catalog.row(row)["uri"]

    def _find(self, pictures: Sequence[Any]) -> dict[str, int]:
        """The rows of the images that are named by their ids, in one pass over the catalog."""
        names = {picture.id for picture in pictures if isinstance(picture, ImageId)}
        names |= {picture for picture in pictures if isinstance(picture, str) and not _is_file(picture)}
        return self._catalog.find(filter(is_unicode, names)) if names else {}

    def _source(self, picture: Any, named: dict[str, int], crop: Crop | None) -> PictureSource:
        if isinstance(picture, EncodedPicture):
            return PictureSource(picture, problem=self._misfit(picture, crop))
        if isinstance(picture, ImageId):
            row = named.get(picture.id)
            return PictureSource(picture, problem=self._unknown(picture.id)) if row is None else self._image(row)
        if isinstance(picture, str) and picture in named:
            return self._image(named[picture])
        return PictureSource(picture)

    def _image(self, row: int) -> PictureSource:
        known = self._catalog.row(row)
        return PictureSource(known["uri"], row=row, sha256=known["sha256"])

    def _unknown(self, name: str) -> UsageError:
        return UsageError(f"expected the id of an image of the index, got {name!r}{self._closest(name)}")

    def _closest(self, name: str) -> str:
        return closest(name, self._catalog.live_column("id"))

    def _misfit(self, picture: EncodedPicture, crop: Crop | None) -> SpyglassError | None:
        if picture.model != self._model.fingerprint:
            made, given = self._model.fingerprint[:12], picture.model[:12]
            return MismatchError(
                f"expected a picture encoded by the model of the index ({made}), got one of another ({given}); "
                "encode it anew"
            )
        if crop is not None:
            return UsageError("expected a crop where the picture is encoded, got one for an encoded picture")
        return None


def read(
    source: PictureSource, image_size: int | None, crop: Crop | None
) -> np.ndarray | EncodedPicture | Gone | SpyglassError:
    """The pixels of a source, as `query_pixels.pixels_of` gives them, or what stands for them."""
    if source.problem is not None:
        return source.problem
    if isinstance(source.picture, EncodedPicture):
        return source.picture
    try:
        if source.row is None:
            return pixels_of(source.picture, image_size, crop)
        data = corpus.read_image(source.picture)
        if hashlib.sha256(data).hexdigest() != source.sha256:
            raise ImageError(f"expected the picture that was indexed at {source.picture}, got another one")
        return pixels_of(data, image_size, crop)
    except ImageError as error:
        # A part of a picture cannot be had from the vector of the whole.
        return error if source.row is None or crop is not None else Gone()
    except UsageError as error:
        return error


def _is_file(name: str) -> bool:
    return os.path.isfile(corpus.container(name))


def _names_nothing(picture: Any) -> bool:
    """Whether it is a name under which there is no file, so that an id may have been meant."""
    return isinstance(picture, str) and corpus.is_gone(picture)
