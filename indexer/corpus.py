"""Where pictures come from: folders, image files, tables (.parquet, .csv) and archives (.tar); one at a time."""

import json
import os
import re
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path, PurePosixPath
from typing import Any

from retrieval.errors import ImageError, SourceError, UsageError
from retrieval.images import IMAGE_SUFFIXES

MAX_IMAGE_BYTES = 256 * 1024 * 1024
"""Files larger than this are refused unread."""

PARENT = "parent"
"""The `label_from` that takes the name of the folder which a picture lies in."""

_IMAGE_COLUMNS = (
    *("image", "img", "picture", "photo", "image_bytes", "bytes", "content", "jpg", "jpeg", "png", "webp"),
    *("path", "image_path", "img_path", "file_path", "filepath", "filename", "file_name", "file", "uri"),
)
_METADATA_SUFFIXES = frozenset({".json", ".cls", ".txt"})
_BATCH_ROWS = 32
_BREAK = "(the rest of the archive)"
_IN_PARQUET = re.compile(r"(?P<file>.+\.parquet)#(?P<place>\d+)", re.IGNORECASE | re.DOTALL)
_IN_TAR = re.compile(r"(?P<file>.+?\.tar)#(?P<place>.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A picture of a corpus, not yet decoded: its bytes are in `data`, or in the file `path`.

    `id` is unique in its source, `uri` says for good where the picture is (`read_image` reads it), `source` names the
    source in a word. A `problem` says why there is no picture after all.
    """

    id: str
    uri: str
    source: str
    data: bytes | None = None
    path: Path | None = None
    label: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def read(source: str | Path, *, label_from: str | None = None, exclude_dirs: Collection[str] = ()) -> Iterator[Item]:
    """The pictures of a folder, an image file, a .parquet, .csv or .tar, in a fixed order and without holding them all.

    `label_from` is `"parent"` or a column; by default a column `label` where there is one. Folders named in
    `exclude_dirs`, and hidden files and folders, are skipped. Raises `SourceError` or `UsageError` at once.
    """
    path = Path(os.path.abspath(source))
    kind = path.suffix.lower()
    if path.is_dir():
        _refuse_column(label_from, "a folder")
        return _folder_items(path, label_from, frozenset(exclude_dirs))
    if not path.exists():
        raise SourceError(f"expected a folder or file to index, found nothing at {source}; check the path")
    if kind in IMAGE_SUFFIXES:
        _refuse_column(label_from, "an image file")
        return iter([_file_item(path, path.name, path.parent.name, label_from)])
    readers = {".parquet": _parquet_items, ".csv": _csv_items, ".tar": _tar_items}
    if kind not in readers:
        accepted = "a folder, an image file, a .parquet, .csv or .tar"
        raise SourceError(f"expected {accepted}, got {source}; convert it, or name the folder that holds the pictures")
    return readers[kind](path, label_from)


def read_image(uri: str) -> bytes:
    """The bytes of the picture that an `Item.uri` names; raises `ImageError` where it cannot be read any more."""
    path = Path(uri)
    try:
        if not path.exists():
            if place := _IN_PARQUET.fullmatch(uri):
                return _read_parquet_row(Path(place["file"]), int(place["place"]))
            if place := _IN_TAR.fullmatch(uri):
                with tarfile.open(place["file"], "r:") as archive:
                    return _member_bytes(archive, archive.getmember(place["place"]))
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise ImageError(f"expected at most {MAX_IMAGE_BYTES:,} bytes, got {path.stat().st_size:,}")
        return path.read_bytes()
    except (OSError, ValueError, KeyError, tarfile.TarError, SourceError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a picture at {uri}, but cannot read it: {reason}") from None


def container(uri: str) -> Path:
    """The file that must exist for `uri` to be readable: the picture itself, or the table or archive that holds it."""
    place = _IN_PARQUET.fullmatch(uri) or _IN_TAR.fullmatch(uri)
    return Path(uri) if place is None or os.path.exists(uri) else Path(place["file"])


def count(source: str | Path, *, exclude_dirs: Collection[str] = ()) -> int | None:
    """How many pictures `read` will give, where that is quick to say (None for a .csv or .tar): for progress bars."""
    path = Path(os.path.abspath(source))
    if path.is_dir():
        return sum(1 for _ in _walk(path, frozenset(exclude_dirs)))
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            return file.metadata.num_rows
    return 1 if path.suffix.lower() in IMAGE_SUFFIXES else None


def _folder_items(root: Path, label_from: str | None, exclude_dirs: frozenset[str]) -> Iterator[Item]:
    for path, problem in _walk(root, exclude_dirs):
        yield _file_item(path, path.relative_to(root).as_posix(), root.name, label_from, problem)


def _walk(root: Path, exclude_dirs: frozenset[str]) -> Iterator[tuple[Path, str | None]]:
    """Image files below `root`, a folder's own before its folders', by name; and what is wrong with any."""
    waiting, visited = [root], set()
    while waiting:
        folder = waiting.pop()
        try:
            identity = (folder.stat().st_dev, folder.stat().st_ino)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"expected a folder that can be read, got: {error.strerror}"
            continue
        if identity in visited:  # a link that leads back up, or to what was seen already
            continue
        visited.add(identity)
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # The entry's own answers cost nothing, but raise where links go in circles.
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                if entry.name not in exclude_dirs:
                    folders.append(Path(entry.path))
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                is_file = os.path.isfile(entry.path) if linked else entry.is_file()
                yield Path(entry.path), None if is_file else "expected a file, got a broken link or a device"
        waiting.extend(reversed(folders))


def _file_item(path: Path, item_id: str, source: str, label_from: str | None, problem: str | None = None) -> Item:
    uri = str(path)
    if not _is_unicode(uri):
        problem = "expected a name in UTF-8, got other bytes; rename it"
        item_id, uri = (text.encode("utf-8", "backslashreplace").decode() for text in (item_id, uri))
    label = path.parent.name if label_from == PARENT and problem is None else None
    return Item(id=item_id, uri=uri, source=source, path=path, label=label, problem=problem)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # the surrogates by which Python stands for bytes that are no UTF-8
        return False
    return True


def _refuse_column(label_from: str | None, what: str) -> None:
    if label_from not in (None, PARENT):
        raise UsageError(f"expected label_from 'parent' for {what}, got {label_from!r}; only tables have columns")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which columns of a table mean what; `users` are kept as they are."""

    image: str
    id: str | None
    label: str | None
    users: tuple[str, ...]
    label_from_parent: bool

    @property
    def columns(self) -> list[str]:
        return [name for name in (self.image, self.id, self.label, *self.users) if name is not None]


def _layout(path: Path, schema: Any, label_from: str | None) -> _Layout:
    from pyarrow import types

    usable = {column.name.lower(): column for column in reversed(list(schema)) if _may_hold_images(column.type)}
    image = next((usable[name] for name in _IMAGE_COLUMNS if name in usable), None)
    if image is None:
        wanted = "a column of image bytes or paths, such as 'image' or 'path'"
        raise UsageError(f"expected {wanted} in {path}, got {schema.names}; rename the one that holds the pictures")
    if label_from == PARENT and _is_bytes(image.type):
        raise UsageError(f"expected paths for label_from 'parent', got bytes in {path}; name one of {schema.names}")
    label = ("label" if "label" in schema.names else None) if label_from is None else label_from
    if label not in (None, PARENT) and (label not in schema.names or label == image.name):
        raise UsageError(f"expected label_from 'parent' or a column of {path}, got {label!r}; it has {schema.names}")
    return _Layout(
        image=image.name,
        id="id" if "id" in schema.names else None,
        label=None if label == PARENT else label,
        # Lists, structs and further images would make the catalog as large as the corpus.
        users=tuple(
            column.name
            for column in schema
            if column.name not in (image.name, "id", label)
            and not (types.is_nested(column.type) or _is_bytes(column.type))
        ),
        label_from_parent=label_from == PARENT,
    )


def _may_hold_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return {"bytes", "path"} & {kind.field(place).name for place in range(kind.num_fields)} != set()
    return _is_bytes(kind) or types.is_string(kind) or types.is_large_string(kind)


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind)


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Column chunks are read piece by piece: a row group may be larger than the memory.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"expected a parquet file, got {path}: {str(error).splitlines()[0]}") from None


def _parquet_items(path: Path, label_from: str | None) -> Iterator[Item]:
    file = _open_parquet(path)
    return _row_group_items(path, file, _layout(path, file.schema_arrow, label_from))


def _row_group_items(path: Path, file: Any, layout: _Layout) -> Iterator[Item]:
    import pyarrow as pa

    first = 0
    for group in range(file.num_row_groups):
        number, end = first, first + file.metadata.row_group(group).num_rows
        try:
            for batch in _small_batches(file, group, layout.columns):
                for offset, values in enumerate(batch.to_pylist()):
                    yield _row_item(path, layout, number + offset, values)
                number += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            problem = f"expected rows up to {end - 1}, but cannot read them: {str(error).splitlines()[0]}"
            yield Item(id=f"{path.name}#{number}", uri=f"{path}#{number}", source=path.stem, problem=problem)
        first = end


def _small_batches(file: Any, group: int, columns: list[str]) -> Iterator[Any]:
    return file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False)


def _csv_items(path: Path, label_from: str | None) -> Iterator[Item]:
    import pyarrow as pa
    from pyarrow import csv

    # One block, so that all of a column decides its type; ids, paths and labels are text whatever they look like.
    block_size = min(path.stat().st_size + 1, 2**31 - 1)
    texts = dict.fromkeys(("id", "label", label_from or "label", *_IMAGE_COLUMNS), pa.string())
    try:
        table = csv.read_csv(
            path, csv.ReadOptions(block_size=block_size), convert_options=csv.ConvertOptions(column_types=texts)
        )
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"expected a .csv with a header, got {path}: {str(error).splitlines()[0]}") from None
    layout = _layout(path, table.schema, label_from)
    batches = table.select(layout.columns).to_batches(max_chunksize=1024)
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    return (_row_item(path, layout, number, values) for number, values in enumerate(rows))


def _row_item(path: Path, layout: _Layout, number: int, values: dict[str, Any]) -> Item:
    image = values[layout.image]
    # Hugging Face's image type: the bytes, or else the path.
    data, place = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    data, place = data if isinstance(data, bytes) else None, place if isinstance(place, str) else None
    file = Path(os.path.abspath(path.parent / place)) if data is None and place else None
    label = values[layout.label] if layout.label else None
    if layout.label_from_parent and place:
        label = Path(place).parent.name
    item_id = values[layout.id] if layout.id else None
    return Item(
        id=str(number if item_id in (None, "") else item_id),
        uri=str(file) if file else f"{path}#{number}",
        source=path.stem,
        data=data,
        path=file,
        label=None if label is None else str(label),
        columns={name: values[name] for name in layout.users},
        problem=None if data is not None or file else f"expected a picture in column {layout.image!r}, got none",
    )


def _read_parquet_row(path: Path, number: int) -> bytes:
    with _open_parquet(path) as file:
        layout = _layout(path, file.schema_arrow, None)
        first = 0
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            if number < first + num_rows:
                break
            first += num_rows
        else:
            raise SourceError(f"it has {file.metadata.num_rows} rows")
        for batch in _small_batches(file, group, [layout.image]):
            if number < first + batch.num_rows:
                image = batch.column(0)[number - first].as_py()
                data = image.get("bytes") if isinstance(image, dict) else image
                if isinstance(data, bytes):
                    return data
                break
            first += batch.num_rows
        raise SourceError("the row holds no picture")


def _tar_items(path: Path, label_from: str | None) -> Iterator[Item]:
    try:
        tarfile.open(path, "r:").close()
    except (OSError, tarfile.TarError) as error:
        raise SourceError(f"expected an uncompressed .tar, got {path}: {error}") from None
    return _archive_items(path, label_from)


def _archive_items(path: Path, label_from: str | None) -> Iterator[Item]:
    """WebDataset's way: members that follow each other and share a name up to its first dot speak of one picture."""
    with tarfile.open(path, "r:") as archive:
        for _, group in groupby(_members(archive), key=lambda member: _sample_key(member[0])):
            members = list(group)
            columns: dict[str, Any] = {}
            for name, data in members:
                columns.update(_metadata(name, data))
            label = columns.pop(label_from or "label", columns.get("cls"))
            for name, data in members:
                member = PurePosixPath(name)
                if member.suffix.lower() in IMAGE_SUFFIXES or name == _BREAK:
                    yield Item(
                        id=str(member),
                        uri=f"{path}#{name}",
                        source=path.stem,
                        data=data if isinstance(data, bytes) else None,
                        label=member.parent.name if label_from == PARENT else None if label is None else str(label),
                        columns=columns,
                        problem=data if isinstance(data, str) else None,
                    )


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | str]]:
    """The name of each visible file, with its bytes, or with what is wrong as text; `_BREAK` for the rest of all."""
    try:
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile remembers each one, millions of them
            name = PurePosixPath(member.name)
            hidden = any(part.startswith(".") for part in name.parts)
            if member.isreg() and not hidden and name.suffix.lower() in IMAGE_SUFFIXES | _METADATA_SUFFIXES:
                try:
                    data = _member_bytes(archive, member)
                except ImageError as error:
                    data = str(error)
                yield member.name, data
        # tarfile takes a damaged header for the end; the true end is a block of zeros.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {archive.offset}")
    except (OSError, tarfile.TarError) as error:
        yield _BREAK, f"expected a whole archive, got one that breaks off: {error}"


def _sample_key(name: str) -> tuple[PurePosixPath, str]:
    path = PurePosixPath(name)
    return path.parent, path.name.partition(".")[0]


def _metadata(name: str, data: bytes | str) -> dict[str, Any]:
    """What a .json, .cls or .txt beside a picture says of it; one that cannot be read says nothing."""
    kind = PurePosixPath(name).suffix
    if kind not in _METADATA_SUFFIXES or isinstance(data, str):
        return {}
    text = data.decode("utf-8", "replace")
    if kind != ".json":
        return {kind[1:]: text.strip()}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    scalars = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in scalars if not isinstance(value, dict | list)}


def _member_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_IMAGE_BYTES:
        raise ImageError(f"expected at most {MAX_IMAGE_BYTES:,} bytes, got {member.size:,}")
    file = archive.extractfile(member)
    if file is None:
        raise ImageError(f"expected a file in the archive, got something else: {member.name}")
    return file.read()
