"""From pictures, however they are given, to encoded ones: files, bytes, pixels, images of the index."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from indexer import corpus
from indexer.closest_ids import closest
from indexer.searching.gallery import Gallery
from indexer.searching.pictures import EncodedPicture, ImageId
from indexer.searching.query_pixels import Crop, pixels_of
from indexer.storage.records import Model
from indexer.unicode_text import is_unicode
from retrieval.errors import ImageError, MismatchError, SpyglassError, UsageError

_BATCH = 64  # pictures encoded at once


class PictureEncoder:
    """Encodes pictures for the index whose images are the `gallery`, made with `model`.

    `load_embedder` is called when the first picture that has to be encoded has been read.
    """

    def __init__(self, gallery: Gallery, model: Model, load_embedder: Callable[[], Any]):
        self._gallery = gallery
        self._model = model
        self._load_embedder = load_embedder

    def encode(
        self,
        pictures: Sequence[Any],
        *,
        crop: Crop | None = None,
        token_bytes: int = 0,
        on_error: str = "stop",
    ) -> list[EncodedPicture | SpyglassError]:
        """Each picture, as `Index.search` takes it, encoded; with `crop` that part of it alone.

        `token_bytes` is how much the tokens of a picture may take, 0 for none. A picture that cannot be had is raised
        as `ImageError`, `UsageError` or `MismatchError` (`on_error` "stop"), or its error stands in its place ("skip").
        """
        if on_error not in ("skip", "stop"):
            raise UsageError(f"expected on_error 'skip' or 'stop', got {on_error!r}")
        encoded: list[Any] = []
        named = self._find(pictures)
        for start in range(0, len(pictures), _BATCH):
            encoded += self._encode(pictures[start : start + _BATCH], named, crop, token_bytes, on_error)
        return encoded

    def check(self, pictures: Sequence[Any]) -> None:
        """Raise what `encode` would, as far as it shows without reading a picture that is there."""
        named = self._find(pictures)
        for picture in pictures:
            source = self._source(picture, named, None)
            if source.problem is not None:
                raise source.problem
            if source.row is None and _names_nothing(picture):
                raise self._with_closest(_read(source, None, None), picture)

    def uri_of(self, name: str) -> str:
        """Where the picture lies that a str means in `encode`."""
        row = self._find([name]).get(name)
        return name if row is None else self._gallery.catalog.row(row)["uri"]

    def _encode(self, pictures, named, crop, token_bytes, on_error) -> list[EncodedPicture | SpyglassError]:
        """As `encode`, one batch."""
        image_size = self._model.image_size
        sources = [self._source(picture, named, crop) for picture in pictures]
        encoded = _read_all(sources, image_size, crop)
        for place, source in enumerate(sources):
            if isinstance(encoded[place], _Gone):
                encoded[place] = self._stored(source.row, token_bytes)
            elif isinstance(encoded[place], ImageError) and source.row is None and _names_nothing(source.picture):
                encoded[place] = self._with_closest(encoded[place], source.picture)
            if isinstance(encoded[place], SpyglassError) and on_error == "stop":
                raise encoded[place]
        places = [place for place, pixels in enumerate(encoded) if isinstance(pixels, np.ndarray)]
        if places:
            embeddings = self._load_embedder().encode_pixels(
                np.stack([encoded[place] for place in places]), token_bytes=token_bytes
            )
            for number, place in enumerate(places):
                encoded[place] = self._of(embeddings, number)
        return encoded

    def _find(self, pictures: Sequence[Any]) -> dict[str, int]:
        """The rows of the images that are named by their ids, in one pass over the catalog."""
        names = {picture.id for picture in pictures if isinstance(picture, ImageId)}
        names |= {picture for picture in pictures if isinstance(picture, str) and not _is_file(picture)}
        return self._gallery.catalog.find(filter(is_unicode, names)) if names else {}

    def _source(self, picture: Any, named: dict[str, int], crop: Crop | None) -> "_Source":
        if isinstance(picture, EncodedPicture):
            return _Source(picture, problem=self._misfit(picture, crop))
        if isinstance(picture, ImageId):
            row = named.get(picture.id)
            return _Source(picture, problem=self._unknown(picture.id)) if row is None else self._image(row)
        if isinstance(picture, str) and picture in named:
            return self._image(named[picture])
        return _Source(picture)

    def _image(self, row: int) -> "_Source":
        known = self._gallery.catalog.row(row)
        return _Source(known["uri"], row=row, sha256=known["sha256"])

    def _unknown(self, name: str) -> UsageError:
        return UsageError(f"expected the id of an image of the index, got {name!r}{self._closest(name)}")

    def _with_closest(self, error: ImageError, name: str) -> ImageError:
        return ImageError(f"{error}, nor is it the id of an image{self._closest(name)}")

    def _closest(self, name: str) -> str:
        return closest(name, self._gallery.catalog.live_rows(["id"])["id"])

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

    def _stored(self, row: int, token_bytes: int) -> EncodedPicture:
        gallery, numbers = self._gallery, np.array([row])
        return EncodedPicture(
            vector=gallery.vectors(numbers)[0],
            dim=gallery.catalog.row(row)["dim"],
            tokens=gallery.tokens.take(numbers) if token_bytes and gallery.tokens is not None else None,
            attention=None,
            token_places=None,
            model=self._model.fingerprint,
        )

    def _of(self, embeddings: Any, number: int) -> EncodedPicture:
        tokens = token_places = None
        if embeddings.tokens is not None:
            tokens = embeddings.tokens.take([number])
            token_places = embeddings.token_places[slice(*embeddings.tokens.offsets[number : number + 2])]
        return EncodedPicture(
            vector=embeddings.full[number],
            dim=int(embeddings.dims[number]),
            tokens=tokens,
            attention=embeddings.attention[number],
            token_places=token_places,
            model=self._model.fingerprint,
        )


class _Source(NamedTuple):
    """A picture to be read; an image of the index by its uri, row and sha256; or the problem that there is with it."""

    picture: Any
    row: int | None = None
    sha256: str | None = None
    problem: SpyglassError | None = None


class _Gone:
    """In place of the pixels of an image of the index whose picture is gone, or another one by now."""


def _read_all(sources: Sequence[_Source], image_size: int, crop: Crop | None) -> list[Any]:
    """For each its pixels, or what stands for them: an encoded picture, `_Gone`, an error."""
    if len(sources) == 1:
        return [_read(sources[0], image_size, crop)]
    with ThreadPoolExecutor() as threads:
        futures = [
            # A Pillow image may have yet to read its file, which no two threads may do at once.
            None if isinstance(source.picture, Image.Image) else threads.submit(_read, source, image_size, crop)
            for source in sources
        ]
        pairs = zip(sources, futures, strict=True)
        return [future.result() if future else _read(source, image_size, crop) for source, future in pairs]


def _read(source: _Source, image_size: int | None, crop: Crop | None) -> Any:
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
        return error if source.row is None or crop is not None else _Gone()
    except UsageError as error:
        return error


def _is_file(name: str) -> bool:
    return os.path.isfile(corpus.container(name))


def _names_nothing(picture: Any) -> bool:
    """Whether it is a name under which there is no file, so that an id may have been meant."""
    return isinstance(picture, str) and corpus.is_gone(picture)
