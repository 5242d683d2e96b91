"""What a manifest is made of: a record of each file, of each segment and tombstone file, and of the model."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexer.storage import durable
from retrieval.errors import DamagedError

_ID = re.compile(r"[0-9a-z-]{1,64}")
_FILE_NAME = re.compile(r"[0-9a-z-]{1,64}\.(parquet|npy|faiss)")
_TOKENS = re.compile(r"tokens(-[0-9]+)?\.npy")
_INDEX = re.compile(r"bucket-[0-9]{3}(-[0-9]+)?\.faiss")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_PIXELS = 1 << 14  # a side of what a model may read


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file as it was written: its size in bytes and the hex sha256 of its content."""

    size: int
    sha256: str

    def __post_init__(self):
        expect(is_count(self.size) and _matches(_SHA256, self.sha256), f"a file's size and sha256, got {self}")

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """The record of a file that has just been written."""
        return cls(size=path.stat().st_size, sha256=durable.sha256_of(path))

    def problem(self, path: Path) -> str | None:
        """In what the file at `path` differs from what was written; None where it does not."""
        try:
            size = path.stat().st_size
            if size != self.size:
                return f"expected {self.size} bytes, got {size}"
            if durable.sha256_of(path) != self.sha256:
                return "expected the bytes that were written, got others (the sha256 differs)"
        except FileNotFoundError:
            return "expected a file, found none"
        except OSError as error:
            return f"expected a file that can be read, got: {error.strerror}"
        return None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many rows a file speaks of, in each bucket (keys are widths), and the sum of their dims."""

    buckets: dict[int, int] = field(default_factory=dict)
    sum_dims: int = 0

    def __post_init__(self):
        expect(
            isinstance(self.buckets, dict)
            and all(is_count(width) and is_count(num) for width, num in self.buckets.items())
            and is_count(self.sum_dims),
            f"row counts per bucket and a sum of dims, got {self}",
        )

    @classmethod
    def from_json(cls, *, buckets: dict[str, int], **fields: Any) -> "Rows":
        # JSON's keys are text.
        return cls(buckets={int(width): num for width, num in buckets.items()}, **fields)

    @property
    def num(self) -> int:
        return sum(self.buckets.values())


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """The approximate index over the rows of one width in a segment: what it is, how it is asked, how good that is.

    `index_type` is a FAISS factory string. For each candidate that a search wants, `depth` are taken from it and
    compared exactly; `settings` are FAISS's own, by name. Of the ten nearest rows of other rows it then found
    `recall_at_10`, 0..1, when it was built. "Flat" has no file: an index was tried and found too little, so all
    rows are scanned.
    """

    index_type: str
    settings: dict[str, int]
    depth: int
    recall_at_10: float

    def __post_init__(self):
        named = isinstance(self.settings, dict) and all(is_count(value) for value in self.settings.values())
        sound = isinstance(self.index_type, str) and named and is_count(self.depth) and self.depth > 0
        expect(sound and 0 <= self.recall_at_10 <= 1, f"how an approximate index is searched, got {self}")


@dataclass(frozen=True, kw_only=True)
class SegmentRecord:
    """A segment: the folder `segments/<id>`, its rows, its files by name, and the most bytes of an image's tokens.

    With `token_bytes` 0 it has no tokens. `approximations` are those of the widths that are not scanned.
    """

    id: str
    rows: Rows
    files: dict[str, FileRecord]
    token_bytes: int = 0
    approximations: dict[int, Approximation] = field(default_factory=dict)

    def __post_init__(self):
        expect(_matches(_ID, self.id), f"a segment's id, got {self.id!r}")
        expect(all(_matches(_FILE_NAME, name) for name in self.files), f"names of files, got {[*self.files]}")
        expect(is_count(self.token_bytes), f"bytes of tokens, got {self.token_bytes!r}")
        names = self.token_names
        whole = len(names) == (2 if self.token_bytes else 0) and all(name in self.files for name in names)
        expect(whole, f"two files of tokens if any, for {self.token_bytes} bytes an image, got {[*self.files]}")
        indexed = all(
            width in self.rows.buckets and (known.index_type == "Flat" or self.index_name(width) is not None)
            for width, known in self.approximations.items()
        )
        expect(indexed, f"rows and a file of an index for each of {[*self.approximations]}, got {[*self.files]}")

    @classmethod
    def from_json(
        cls, *, rows: dict, files: dict, approximations: dict | None = None, **fields: Any
    ) -> "SegmentRecord":
        records = {name: FileRecord(**file) for name, file in files.items()}
        known = {int(width): Approximation(**fields) for width, fields in (approximations or {}).items()}
        return cls(rows=Rows.from_json(**rows), files=records, approximations=known, **fields)

    @property
    def token_names(self) -> tuple[str, ...]:
        """The files with the values and with the counts of its tokens; empty for a segment without."""
        values = [name for name in self.files if _matches(_TOKENS, name)]
        return tuple(name for first in values for name in (first, first.replace("tokens", "token-counts")))

    def index_name(self, width: int) -> str | None:
        """The file of the approximate index over the rows of one width; None where they are scanned."""
        return next((name for name in self.files if _matches(_INDEX, name) and int(name[7:10]) == width), None)


@dataclass(frozen=True, kw_only=True)
class TombstoneRecord:
    """The file `deleted/<id>.parquet`: which rows of earlier segments no longer count."""

    id: str
    rows: Rows
    file: FileRecord

    def __post_init__(self):
        expect(_matches(_ID, self.id), f"a tombstone file's id, got {self.id!r}")

    @classmethod
    def from_json(cls, *, rows: dict, file: dict, **fields: Any) -> "TombstoneRecord":
        return cls(rows=Rows.from_json(**rows), file=FileRecord(**file), **fields)


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model that made the vectors: the name it was loaded by, its fingerprint (hex), its input side in pixels."""

    name: str
    fingerprint: str
    image_size: int

    def __post_init__(self):
        named = all(isinstance(text, str) and text for text in (self.name, self.fingerprint))
        sound = named and is_count(self.image_size) and 0 < self.image_size <= _MOST_PIXELS
        expect(sound, f"a model's name, fingerprint and image size, got {self}")


def is_count(value: object) -> bool:
    """Whether `value` is an int (and no bool) of at least 0."""
    return type(value) is int and value >= 0


def expect(holds: bool, what: str) -> None:
    """Raise `DamagedError`, "expected `what`", unless it `holds`."""
    if not holds:
        raise DamagedError(f"expected {what}")


def _matches(pattern: re.Pattern, value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
