"""From pictures, however they are given, to encoded ones: files, bytes, pixels, images of the index."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from indexer.searching import picture_sources
from indexer.searching.gallery import Gallery
from indexer.searching.picture_sources import Gone, PictureSource, PictureSources
from indexer.searching.pictures import EncodedPicture
from indexer.searching.query_pixels import Crop
from indexer.storage.records import Model
from retrieval.errors import ImageError, SpyglassError, UsageError

_BATCH = 64  # pictures encoded at once


class PictureEncoder:
    """Encodes pictures for the index whose images are the `gallery`, made with `model`.

    `load_embedder` is called when the first picture that has to be encoded has been read.
    """

    def __init__(self, gallery: Gallery, model: Model, load_embedder: Callable[[], Any]):
        self._gallery = gallery
        self._model = model
        self._sources = PictureSources(gallery.catalog, model)
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
        sources = self._sources.of(pictures, crop)
        for start in range(0, len(sources), _BATCH):
            encoded += self._encode(sources[start : start + _BATCH], crop, token_bytes, on_error)
        return encoded

    def uri_of(self, name: str) -> str:
        """Where the picture lies that a str means in `encode`."""
        return self._sources.uri_of(name)

    def _encode(
        self, sources: Sequence[PictureSource], crop: Crop | None, token_bytes: int, on_error: str
    ) -> list[EncodedPicture | SpyglassError]:
        """As `encode`, one batch."""
        encoded = _read_all(sources, self._model.image_size, crop)
        for place, source in enumerate(sources):
            if isinstance(encoded[place], Gone):
                encoded[place] = self._stored(source.row, token_bytes)
            elif isinstance(encoded[place], ImageError):
                encoded[place] = self._sources.told(encoded[place], source)
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


def _read_all(sources: Sequence[PictureSource], image_size: int, crop: Crop | None) -> list[Any]:
    """For each its pixels, or what stands for them: an encoded picture, `Gone`, an error."""
    if len(sources) == 1:
        return [picture_sources.read(sources[0], image_size, crop)]
    with ThreadPoolExecutor() as threads:
        futures = [
            # A Pillow image may have yet to read its file, which no two threads may do at once.
            None
            if isinstance(source.picture, Image.Image)
            else threads.submit(picture_sources.read, source, image_size, crop)
            for source in sources
        ]
        pairs = zip(sources, futures, strict=True)
        return [
            future.result() if future else picture_sources.read(source, image_size, crop) for source, future in pairs
        ]
