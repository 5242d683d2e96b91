"""From what people say to judgments: which image of the index is meant, which query, and since when."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer import corpus, feedback, segments
from indexer.closest_ids import closest
from indexer.feedback import Judgment
from indexer.judgments import query_picture
from indexer.named_images import Images, NamedImages
from indexer.sources.urls import is_url
from indexer.storage.manifest import Manifest
from retrieval.errors import ImageError, SpyglassError, UsageError
from retrieval.images import read_pixels

if TYPE_CHECKING:
    import pandas as pd

_RELEVANT = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, kw_only=True)
class FeedbackReport:
    """What became of rows of feedback; each of `failures` is `{"row", "reason"}`, rows counted from 1."""

    added: int
    unchanged: int
    skipped: int
    failures: list[dict[str, Any]]


def images_of(folder: Path, state: Manifest) -> Images:
    """Those of an index, from its files; what is read raises `DamagedError`."""

    def column(name: str) -> pa.ChunkedArray:
        chunks = []
        for segment in segments.read(folder, state):
            table = segment.table(["id"] if name == "id" else ["id", name])
            chunks += table.filter(pa.array(segment.live(table)))[name].chunks
        return pa.chunked_array(chunks, pa.string())

    return column


def record(folder: Path, images: Images, rows: Iterable[Any], on_error: str) -> FeedbackReport:
    """Append what `rows` say to the feedback in `folder`, but not what is there already; see `Judge.judge`.

    A row that says nothing usable stops all of it (`on_error` "stop": `UsageError`) or is left out ("skip").
    """
    if on_error not in ("skip", "stop"):
        raise UsageError(f"expected on_error 'skip' or 'stop', got {on_error!r}")
    judge = Judge(folder, images)
    judgments, failures = {}, []
    for number, judgment in enumerate(judge.judge(list(rows)), start=1):
        if isinstance(judgment, Judgment):
            judgments[judgment.id] = judgment
        elif on_error == "skip":
            failures.append({"row": number, "reason": str(judgment)})
        else:
            raise UsageError(f"row {number}: {judgment}; nothing was recorded")
    new = [judgment for judgment in judgments.values() if judgment.id not in judge.known_ids]
    feedback.append(folder, new)
    return FeedbackReport(added=len(new), unchanged=len(judgments) - len(new), skipped=len(failures), failures=failures)


class Judge:
    """Knows the `images` of an index (`images_of`) and what was said of them before."""

    def __init__(self, folder: Path, images: Images):
        self._folder = folder
        self._images = images
        self._named = NamedImages(images, ())
        self._pictures: dict[str, bytes] = {}  # of this call's queries, by name
        self._checked: dict[bytes, bytes] = {}

    @cached_property
    def known_ids(self) -> set[str]:
        """The ids of all judgments that are on disk."""
        return set(self._past["id"])

    def judge(self, rows: Sequence[Any]) -> list[Judgment | SpyglassError]:
        """A judgment for each row, or what is wrong with the row.

        A row is a mapping: `query` (an id or uri of the index, else a picture as `Index.search` takes it), `image` (an
        id or uri of the index), `relevant` (a bool, 1 or 0, or "true", "yes", "false", "no"); perhaps `user`, `when`
        (ISO 8601; now, where none is given) and `query_image` (the query's picture, encoded).
        """
        named = (row.get(key) for row in rows if isinstance(row, Mapping) for key in ("query", "image"))
        self._named = NamedImages(self._images, (name for name in map(_name, named) if name is not None))
        now = datetime.now(UTC)
        judgments = []
        for number, row in enumerate(rows):
            try:
                # A later row supersedes an earlier one that says nothing of when.
                judgments.append(self._judgment(row, feedback.utc(now + timedelta(microseconds=number))))
            except (UsageError, ImageError) as error:
                judgments.append(error)
        return judgments

    def _judgment(self, row: Any, now: str) -> Judgment:
        if not isinstance(row, Mapping) or not {"query", "image", "relevant"} <= row.keys():
            raise UsageError(f"expected query, image and relevant, got {_excerpt(row)}")
        image = _text(row["image"])
        said = {
            "image": self._id_of(image) or image,
            "relevant": _truth(row["relevant"]),
            "user": "" if row.get("user") is None else _text(row["user"]),
            "when": now if row.get("when") in (None, "") else _moment(row["when"]),
        }
        query = _name(row["query"])
        if query and row.get("when"):
            again = Judgment(query=query, **said)
            if again.id in self.known_ids:
                return again  # what it speaks of was looked up when it was first said, and may be gone by now
        if self._id_of(image) is None:
            meant = closest(image, self._images("id"))
            raise UsageError(f"expected the id of an image of the index, got {image!r}{meant}")
        if query is None:
            query, picture = _nameless(row["query"])
        else:
            query, picture = self._query(query, row.get("query_image"))
        return Judgment(query=query, query_image=picture, **said)

    def _id_of(self, name: str) -> str | None:
        """The id of the image that a name, an id or a uri, stands for; None where there is none."""
        ids = self._named.ids_of(name)
        return ids[-1] if ids else None

    def _query(self, name: str, picture: Any) -> tuple[str, bytes | None]:
        """The id of a query that the index holds, or the name of another one and its picture."""
        image_id = self._id_of(name)
        if image_id is not None:
            return image_id, None
        if picture is None:
            return self._read_query(name)
        if not isinstance(picture, bytes):
            raise UsageError(f"expected query_image as bytes, got {_excerpt(picture)}")
        if picture not in self._checked:
            self._checked[picture] = query_picture.kept(picture)
        return name, self._checked[picture]

    def _read_query(self, name: str) -> tuple[str, bytes]:
        is_there = name != "" and not corpus.is_gone(name)
        place = os.path.abspath(name) if is_there and not is_url(name) else name
        kept_as = place.encode("utf-8", "backslashreplace").decode()
        if kept_as not in self._pictures:
            try:
                self._pictures[kept_as] = query_picture.shrink(read_pixels(corpus.read_image(place), None))
            except ImageError:
                if is_there:
                    raise
                past = self._past[(self._past["query"] == name) & self._past["query_image"].notna()]
                if past.empty:
                    expected = "expected a query that is a picture, or the id of an image of the index"
                    raise UsageError(f"{expected}, got {name!r}{closest(name, self._images('id'))}") from None
                self._pictures[kept_as] = past["query_image"].iloc[-1]
        return kept_as, self._pictures[kept_as]

    @cached_property
    def _past(self) -> "pd.DataFrame":
        return feedback.read(self._folder)


def _nameless(query: Any) -> tuple[str, bytes]:
    """A name for a picture that is given as bytes, a Pillow image or an array; and the picture to keep."""
    if query is None or isinstance(query, list | tuple):
        raise UsageError(f"expected one picture, or its id, as a query, got {_excerpt(query)}")
    pixels = read_pixels(query, None)
    return query_picture.name_of(pixels), query_picture.shrink(pixels)


def _name(value: Any) -> str | None:
    """The text of an id or a path; None for what is neither."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    name = _name(value)
    if name is None:
        raise UsageError(f"expected text, got {_excerpt(value)}")
    return name


def _truth(value: Any) -> bool:
    # bool() of numpy's own, int() of what tables hold: by their text, all are alike.
    truth = _RELEVANT.get(str(value).strip().lower())
    if truth is None:
        raise UsageError(f"expected relevant to be true, false, 1, 0, yes or no, got {_excerpt(value)}")
    return truth


def _moment(value: Any) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return feedback.utc(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, TypeError, OverflowError):
        expected = "expected when in ISO 8601, such as 2025-01-31T12:00:00Z"
        raise UsageError(f"{expected}, got {_excerpt(value)}") from None


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
