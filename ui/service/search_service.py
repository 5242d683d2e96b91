"""The work behind the service's routes: pictures are read in threads, queries answered in batches."""

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from indexer import Hit, ImageId, Index
from indexer.catalog import PLACES
from indexer.feedback import Judgment
from indexer.searching.query_pixels import Crop, pixels_of
from retrieval.errors import ImageError, UsageError
from retrieval.images import read_header
from retrieval.nearest_name import did_you_mean
from ui.service import indexed_pictures
from ui.service.bounded_threads import BoundedThreads
from ui.service.config import ServiceConfig
from ui.service.fresh_index import FreshIndex
from ui.service.indexed_pictures import IndexedPictures, StoredPicture, find
from ui.service.metrics import ServiceMetrics
from ui.service.models import named_rankers
from ui.service.query_batches import QueryBatches
from ui.service.questions import Question, answer_all


class SearchService:
    """Answers what clients ask of an index; made at the start of a process and closed at its end.

    Every question is answered from one snapshot, the one that was current when it came. All methods that read pictures
    raise `ImageError`, `UnknownImageError` for ids that the index has not, and `BusyError`.
    """

    def __init__(self, index: Index, config: ServiceConfig, metrics: ServiceMetrics):
        self._config = config
        self._fresh = FreshIndex(index, poll_seconds=config.poll_seconds)
        self._threads = BoundedThreads(os.cpu_count() or 1, config.max_waiting)
        self._batches = QueryBatches(
            answer_all,
            window_seconds=config.batch_milliseconds / 1000,
            max_batch=config.max_batch,
            max_waiting=config.max_waiting,
            on_batch=metrics.count_batch,
        )
        self._pictures = IndexedPictures()
        metrics.gauge("queries_waiting", "Queries that wait for a batch.", lambda: self._batches.num_waiting)
        metrics.gauge("pictures_waiting", "Pictures being read, or to be read.", lambda: self._threads.num_calls)
        metrics.gauge("index_version", "The snapshot in use.", lambda: self._fresh.current.version)
        metrics.gauge("index_images", "Images in it.", lambda: self._fresh.current.info()["images"])

    def close(self) -> None:
        """Finish what was begun."""
        self._threads.close()
        self._batches.close()
        self._fresh.close()

    async def search_upload(self, upload: BinaryIO, options: dict[str, Any], *, crop: Crop | None = None) -> list[Hit]:
        """The hits of an uploaded picture file, or of a part of it; `options` are arguments of `Index.search`."""
        index = self._index_for(options)
        pixels = await self._threads.run(self._read_upload, upload, index.embedder.image_size, crop)
        return await self._batches.ask(Question(index=index, liked=[pixels], options=options))

    async def search_images(
        self, positives: Sequence[str], negatives: Sequence[str], options: dict[str, Any], *, crop: Crop | None = None
    ) -> list[Hit]:
        """The hits of some images of the index together, less like others of them; of a part of it, if it is one."""
        index = self._index_for(options)
        pixels = await self._threads.run(_read_images, index, [*positives, *negatives], crop)
        liked, disliked = pixels[: len(positives)], pixels[len(positives) :]
        return await self._batches.ask(Question(index=index, liked=liked, disliked=disliked, options=options))

    async def record_feedback(self, query: BinaryIO | str, image_id: str, relevant: bool, user: str) -> Judgment:
        """Keep a judgment on an image, for a query that is an uploaded picture file or another image's id."""
        index = self._fresh.current
        return await self._threads.run(self._record, index, query, image_id, relevant, user)

    async def find(self, image_id: str) -> StoredPicture:
        """The picture of an image."""
        return await self._threads.run(find, self._fresh.current, image_id)

    async def original(self, picture: StoredPicture) -> tuple[bytes, str]:
        """The bytes of a picture, and their media type."""
        return await self._threads.run(self._pictures.original, picture)

    async def thumbnail(self, picture: StoredPicture, side: int) -> bytes:
        """A JPEG file, its longer side at most `side` pixels: one of `indexed_pictures.SIDES`."""
        return await self._threads.run(self._pictures.thumbnail, picture, side)

    def info(self) -> dict[str, Any]:
        """What the current snapshot holds, and its `version`."""
        index = self._fresh.current
        return index.info() | {"version": index.version}

    def _index_for(self, options: dict[str, Any]) -> Index:
        """The current snapshot; raises `UsageError` where it has no ranker, or column, of a name that is asked for."""
        index = self._fresh.current
        columns = [name for name in index.column_names() if name not in PLACES]
        for name in (*options.get("where", ()), *filter(None, [options.get("group_by")])):
            if name not in columns:  # the index would tell the names of all columns
                known = ", ".join(columns)
                raise UsageError(f"expected a column, one of {known}, got {name!r}{did_you_mean(name, columns)}")
        ranker = options.get("ranker")
        if ranker is not None:
            known = named_rankers(index.info())
            if ranker not in known:  # what is none must not be taken for a path
                there_are = ", ".join(known) or "none yet"
                raise UsageError(f"expected a ranker of the index ({there_are}), got {ranker!r}; ask /v1/info for them")
        return index

    def _read_upload(self, upload: BinaryIO, image_size: int | None, crop: Crop | None) -> np.ndarray:
        return pixels_of(self._checked(upload), image_size, crop)

    def _checked(self, upload: BinaryIO) -> bytes:
        data = upload.read()
        if not data:
            raise ImageError("expected a picture, got an empty file")
        header = read_header(data)
        num_pixels = header.width * header.height
        if num_pixels > self._config.max_pixels:
            most = self._config.max_pixels
            raise ImageError(f"expected at most {most:,} pixels, got {num_pixels:,}; send a smaller copy")
        return data

    def _record(self, index: Index, query: BinaryIO | str, image_id: str, relevant: bool, user: str) -> Judgment:
        find(index, image_id)
        if isinstance(query, str):
            find(index, query)  # what is no id must not be taken for a path
        else:
            query = self._checked(query)
        return index.record_feedback(query, image_id, relevant, user=user)


def _read_images(index: Index, image_ids: Sequence[str], crop: Crop | None) -> list[np.ndarray | ImageId]:
    found = {image_id: find(index, image_id) for image_id in image_ids}
    return [_pixels(index, image_id, found[image_id], crop) for image_id in image_ids]


def _pixels(index: Index, image_id: str, picture: StoredPicture, crop: Crop | None) -> np.ndarray | ImageId:
    try:
        return pixels_of(indexed_pictures.read(picture), index.embedder.image_size, crop)
    except ImageError:
        if crop is not None:
            raise
        return ImageId(image_id)  # the index has its vector yet
