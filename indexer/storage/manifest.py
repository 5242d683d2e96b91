"""The manifest: the one file that says which files make up the index, and what they must hold.

It is written as canonical JSON with a checksum, and refused unless every byte is what this module would have written.
Reading it needs the standard library alone, so that asking an index for its size stays instant.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexer.storage import durable
from indexer.storage.records import FileRecord, Model, SegmentRecord, TombstoneRecord, expect, is_count
from retrieval.errors import DamagedError, IndexFolderError

SCHEMA = 1
MANIFEST = "manifest.json"
HISTORY = "history"
WIDTHS = (32, 64, 128, 256, 512)
"""The lengths of the buckets, where nothing else is asked for."""

LOCK = "lock"
"""The file that the one writer of an index holds."""

DTYPES = ("float16", "float32")
"""How vectors may be stored."""

_LATER = {"token_bytes", "when", "change", "num_duplicates", "approximations"}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One complete state of an index; `version` counts up from 0 with each write.

    `when` (UTC, ISO 8601) and `change` ("create", "add", "remove" and so on) say how it came to be; both are "" in one
    that was made before this was noted.
    `index_type` is how a search is to look at the vectors: "auto", "Flat" or another FAISS factory string;
    `token_bytes` how much the tokens of an image that is added may take, 0 for none. `num_duplicates` counts the images
    whose picture is there under another id too, but for one of each (`indexer.names`).
    """

    version: int
    when: str = ""
    change: str = ""
    model: Model
    widths: tuple[int, ...]
    dtype: str
    index_type: str = "auto"
    token_bytes: int = 0
    num_duplicates: int = 0
    segments: tuple[SegmentRecord, ...] = ()
    tombstones: tuple[TombstoneRecord, ...] = ()

    def __post_init__(self):
        expect(is_count(self.version), f"a version, got {self.version!r}")
        expect(all(isinstance(text, str) for text in (self.when, self.change)), "a moment and a change as text")
        rising = all(is_count(width) for width in self.widths) and self.widths == tuple(sorted(set(self.widths)))
        expect(bool(self.widths) and rising and self.widths[0] > 0, f"rising widths, got {self.widths}")
        expect(self.dtype in DTYPES, f"a dtype of {DTYPES}, got {self.dtype!r}")
        expect(isinstance(self.index_type, str), f"an index type, got {self.index_type!r}")
        expect(is_count(self.token_bytes), f"bytes of tokens, got {self.token_bytes!r}")
        expect(is_count(self.num_duplicates), f"a number of duplicates, got {self.num_duplicates!r}")

    @property
    def num_images(self) -> int:
        return sum(part.rows.num for part in self.segments) - sum(part.rows.num for part in self.tombstones)

    @property
    def sum_dims(self) -> int:
        return sum(part.rows.sum_dims for part in self.segments) - sum(part.rows.sum_dims for part in self.tombstones)

    @property
    def buckets(self) -> dict[int, int]:
        """How many live images each width holds."""
        counts = dict.fromkeys(self.widths, 0)
        for sign, parts in ((1, self.segments), (-1, self.tombstones)):
            for part in parts:
                for width, num in part.rows.buckets.items():
                    counts[width] = counts.get(width, 0) + sign * num
        return counts

    def files(self) -> Iterator[tuple[str, FileRecord]]:
        """Every file that must be there: its path relative to the index folder, and how it was written."""
        for segment in self.segments:
            for name, file in segment.files.items():
                yield f"segments/{segment.id}/{name}", file
        for tombstone in self.tombstones:
            yield f"deleted/{tombstone.id}.parquet", tombstone.file

    def info(self) -> dict[str, Any]:
        """What the index holds; `size_bytes` is that of all files which are named here."""
        size = sum(file.size for _, file in self.files())
        return {
            "images": self.num_images,
            "segments": len(self.segments),
            "mean_dim": self.sum_dims / self.num_images if self.num_images else 0.0,
            "bytes_per_image": size / self.num_images if self.num_images else 0.0,
            "buckets": {str(width): num for width, num in self.buckets.items()},
            "model": self.model.name,
            "size_bytes": size,
            "token_bytes": self.token_bytes,
            "version": self.version,
            "when": self.when,
            "duplicates": self.num_duplicates,
        }

    def following(self, change: str = "", **fields: Any) -> "Manifest":
        """The next version, made now by `change`, with other values of some fields."""
        return replace(self, version=self.version + 1, when=now(), change=change, **fields)

    def to_bytes(self) -> bytes:
        """Canonical JSON, its last field the sha256 of all that is before it."""
        return _sealed(_dump({"schema": SCHEMA, **asdict(self, dict_factory=_without_absent)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read what `to_bytes` wrote; raises `DamagedError` with what is off."""
        try:
            content = json.loads(data)
            schema = content.pop("schema")
            expect(schema == SCHEMA, f"schema version {SCHEMA}, got {schema!r} (made by another version of Spyglass?)")
            content.pop("checksum")
            manifest = cls(
                model=Model(**content.pop("model")),
                widths=tuple(content.pop("widths")),
                segments=tuple(SegmentRecord.from_json(**part) for part in content.pop("segments")),
                tombstones=tuple(TombstoneRecord.from_json(**part) for part in content.pop("tombstones")),
                **content,
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedError(f"expected a manifest, got {type(error).__name__}: {error}") from None
        # Catches what parses and yet was not written by us: a flipped digit, a changed blank, a wrong checksum. Writing
        # the manifest anew to compare it would take longer than all else where there are hundreds of segments.
        expect(_sealed(_content(data)) == data, "the bytes that were written, got others (the checksum does not fit)")
        return manifest


def now() -> str:
    """This moment, as a manifest notes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def exists(folder: Path) -> bool:
    """Whether `folder` holds an index."""
    return (folder / MANIFEST).is_file()


def read(folder: Path) -> Manifest:
    """The current state of the index in `folder`; raises `IndexFolderError` where there is none, or `DamagedError`."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise IndexFolderError(f"expected an index at {folder}, found no {MANIFEST} there; make one first") from None
    except OSError as error:
        raise IndexFolderError(f"expected to read {folder / MANIFEST}, got: {error.strerror}") from None
    try:
        return Manifest.from_bytes(data)
    except DamagedError as error:
        remedy = f"copy the newest good file of {folder / HISTORY} over it"
        raise DamagedError(f"{MANIFEST}: {error}; {remedy}") from None


def publish(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` the state of the index; every file that it names must be synced already.

    The copy in the history comes first: whatever `manifest.json` says was said there too.
    """
    if not (folder / HISTORY).is_dir():
        (folder / HISTORY).mkdir()
        durable.sync_folder(folder)
    data = manifest.to_bytes()
    durable.replace(folder / HISTORY / history_name(manifest.version), data)
    durable.replace(folder / MANIFEST, data)


def history_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Say which earlier manifests are not as they were written, and whether the present one's copy is missing."""
    names = {path.name for path in (folder / HISTORY).glob("[0-9]*.json")} | {history_name(manifest.version)}
    for name in sorted(names):
        try:
            past = Manifest.from_bytes((folder / HISTORY / name).read_bytes())
            expect(past.version != manifest.version or past == manifest, "a copy of manifest.json, got another state")
            expect(name == history_name(past.version), f"version {past.version} under its own name")
        except (OSError, DamagedError) as error:
            yield f"{HISTORY}/{name}: {getattr(error, 'strerror', None) or error}"


def history_name(version: int) -> str:
    """The name in the history of a version's manifest."""
    return f"{version:06d}.json"


def _without_absent(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    # What came later is left out where there is none of it: manifests of before are read byte for byte.
    return {name: value for name, value in fields if name not in _LATER or value}


def _sealed(content: bytes) -> bytes:
    """The JSON object `content` with the sha256 of its bytes as one more field at its end."""
    checksum = hashlib.sha256(content).hexdigest().encode("ascii")
    return content.removesuffix(_END) + _BEFORE_CHECKSUM + checksum + b'"' + _END


def _content(data: bytes) -> bytes:
    """What `_sealed` was given, if `data` came of it."""
    return data.rpartition(_BEFORE_CHECKSUM)[0] + _END


_END, _BEFORE_CHECKSUM = b"\n}\n", b',\n "checksum": "'


def _dump(content: dict) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"
