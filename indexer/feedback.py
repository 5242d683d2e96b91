"""Judgments: what people said of a query and an image, in files that many processes may add to at once.

Every write makes a new file, so nobody waits for a lock and nothing is ever changed. A judgment's id is a digest of
what it says: one that lies in two files, after a `compact` that was cut short for example, counts once.
"""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.storage import durable
from indexer.unicode_text import is_unicode
from retrieval.errors import DamagedError, UsageError

if TYPE_CHECKING:
    import pandas as pd

FEEDBACK = "feedback"
"""The folder of the judgments, in that of the index."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("relevant", pa.bool_(), nullable=False),
        pa.field("when", pa.string(), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        # A dictionary: the picture of a query that is judged a hundred times lies once in a file.
        pa.field("query_image", pa.dictionary(pa.int32(), pa.binary())),
    ]
)
"""The columns of every file, exactly."""

_WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")
_DICTIONARY_BYTES = 2**30
_NANOSECONDS_TO_WRITE = 3600 * 10**9  # a file that is not whole after so long never will be: its writer has died


def utc(moment: datetime) -> str:
    """A moment as judgments hold it: ISO 8601 in UTC with microseconds, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """That `image`, an id of the index, is or is not `relevant` to `query`; raises `UsageError`.

    `query` is an id of the index too, or the uri or name of another picture: `query_image` then holds that picture
    (lossless WebP or PNG, upright, at most 256 px), to be learned from once the file is gone. `user` is "" for nobody
    in particular, `when` as `utc` writes it. `id`, 32 hex digits, follows from all that but the picture.
    """

    id: str = field(init=False)
    query: str
    image: str
    relevant: bool
    when: str = field(default_factory=lambda: utc(datetime.now(UTC)))
    user: str = ""
    query_image: bytes | None = field(default=None, repr=False)

    def __post_init__(self):
        for name in ("query", "image", "user"):
            text = getattr(self, name)
            if not isinstance(text, str) or (not text and name != "user") or not is_unicode(text):
                raise UsageError(f"expected {name} as text, got {text!r}")
        if not isinstance(self.relevant, bool):
            raise UsageError(f"expected relevant to be true or false, got {self.relevant!r}")
        if not isinstance(self.when, str) or not _WHEN.fullmatch(self.when):
            raise UsageError(f"expected when as 2025-01-31T12:00:00.000000+00:00, got {self.when!r}")
        if not isinstance(self.query_image, bytes | None):
            raise UsageError(f"expected query_image as bytes, got {type(self.query_image).__name__}")
        said = json.dumps([self.query, self.image, self.relevant, self.when, self.user])
        object.__setattr__(self, "id", hashlib.sha256(said.encode("ascii")).hexdigest()[:32])


def append(folder: Path, judgments: Sequence[Judgment]) -> None:
    """Add judgments to the index in `folder`; they are on disk, all of them, once this returns, or else none is.

    Needs no lock, and any number of processes may do it at once. Raises `IndexFolderError`.
    """
    if judgments:
        columns = {name: [getattr(row, name) for row in judgments] for name in SCHEMA.names}
        pictures = picture_column(columns.pop("query_image"))
        _write(folder, pa.table({**columns, "query_image": pictures}, SCHEMA))


def read(folder: Path) -> "pd.DataFrame":
    """All judgments, one row each with the fields of `Judgment`, in order of `when`.

    What a crash has left half-written is not looked at. Raises `DamagedError`, naming the file, for any other that is
    not as it was written.
    """
    frame = _join([*_tables(folder).values()]).to_pandas()
    pictures = frame["query_image"].astype(object)
    frame["query_image"] = pictures.where(pictures.notna(), None)
    return frame


def latest(judgments: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of `read` that stand: of one user on one query and image, the last one."""
    return judgments.drop_duplicates(["user", "query", "image"], keep="last", ignore_index=True)


def compact(folder: Path) -> None:
    """Rewrite all judgments into one file, and remove what crashes have left; what others append meanwhile is kept.

    Raises `DamagedError`, `IndexFolderError`.
    """
    tables = _tables(folder)
    if len(tables) > 1:
        _write(folder, _join([*tables.values()]))
        # Cut short in here, some judgments lie in two files; their ids say that they are the same.
        with durable.writing(folder / FEEDBACK):
            for path in tables:
                path.unlink(missing_ok=True)
            durable.sync_folder(folder / FEEDBACK)
    with durable.writing(folder / FEEDBACK):
        begun_long_ago = f".{time.time_ns() - _NANOSECONDS_TO_WRITE:020d}"
        for path in (folder / FEEDBACK).glob(".[0-9]*.new"):
            if path.name < begun_long_ago:
                path.unlink(missing_ok=True)


def picture_column(pictures: Iterable[bytes | None]) -> pa.DictionaryArray:
    """The pictures as a column that holds each of them once."""
    places: dict[bytes, int] = {}
    rows = [None if picture is None else places.setdefault(picture, len(places)) for picture in pictures]
    return pa.DictionaryArray.from_arrays(pa.array(rows, pa.int32()), pa.array([*places], pa.binary()))


def problems(folder: Path) -> Iterator[str]:
    """Say, file by file, what is not as it was written; yields nothing where all is sound."""
    for path in files(folder):
        try:
            for row in _read(path).to_pylist():
                kept = row.pop("id")
                if Judgment(**row).id != kept:
                    raise DamagedError(f"expected the judgment {kept} as it was written, got another")
        except FileNotFoundError:
            continue  # compacted meanwhile
        except (DamagedError, UsageError) as error:
            yield f"{FEEDBACK}/{path.name}: {error}"


def files(folder: Path) -> list[Path]:
    """The files by name, which is the order in which they were written; not those that are being written."""
    return sorted(path for path in (folder / FEEDBACK).glob("*.parquet") if not path.name.startswith("."))


def _tables(folder: Path) -> dict[Path, pa.Table]:
    """Every file's rows, in the order of the names."""
    tables, tried = {}, set()
    # A file may vanish before it is read: `compact` has then put its rows into one that the next look finds.
    while new := [path for path in files(folder) if path not in tried]:
        tried.update(new)
        for path in new:
            try:
                tables[path] = _read(path)
            except FileNotFoundError:
                continue
            except DamagedError as error:
                raise DamagedError(f"{path}: {error}; move it away to use the others") from None
    return dict(sorted(tables.items()))


def _read(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"expected a table of judgments, got: {str(error).splitlines()[0]}") from None
    if not table.schema.equals(SCHEMA):
        columns = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise DamagedError(f"expected judgments with the columns {', '.join(SCHEMA.names)}, got {columns}")
    return table


def _join(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows in order of `when`, ties as they come, each id once."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables]).unify_dictionaries()
    said = table.select(["id", "when"]).to_pandas()
    return table.take(said.sort_values("when", kind="stable").drop_duplicates("id").index.to_numpy())


def _write(folder: Path, table: pa.Table) -> None:
    home = folder / FEEDBACK
    name = f"{time.time_ns():020d}-{secrets.token_hex(8)}.parquet"
    new = home / f".{name}.new"
    with durable.writing(home):
        home.mkdir(exist_ok=True)
        try:
            durable.write_new(new, lambda file: _write_table(table, file))
            os.rename(new, home / name)
        finally:
            new.unlink(missing_ok=True)
        durable.sync_folder(home)
        durable.sync_folder(folder)


def _write_table(table: pa.Table, file: BinaryIO) -> None:
    # The checksums stand in for the manifest's, which knows nothing of these files.
    pq.write_table(
        table, file, compression="zstd", write_page_checksum=True, dictionary_pagesize_limit=_DICTIONARY_BYTES
    )
