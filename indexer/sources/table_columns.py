"""Which column of a table holds the pictures, and what the others are for."""

from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from indexer.sources.item import PARENT
from retrieval.errors import UsageError

IMAGE_COLUMNS = (
    *("image", "img", "picture", "photo", "image_bytes", "bytes", "content", "jpg", "jpeg", "png", "webp"),
    *("path", "image_path", "img_path", "file_path", "filepath", "filename", "file_name", "file", "uri"),
)
"""Names, lower case, under which pictures are looked for: the first that is there and may hold some."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of a table's columns by their meaning; `users` are kept as they are."""

    image: str
    id: str | None
    label: str | None
    users: tuple[str, ...]
    label_from_parent: bool

    @property
    def names(self) -> list[str]:
        return [name for name in (self.image, self.id, self.label, *self.users) if name is not None]


def columns_of(uri: str, schema: pa.Schema, label_from: str | None) -> Columns:
    """What the columns of the table `uri` mean; raises `UsageError`."""
    usable = {column.name.lower(): column for column in reversed(list(schema)) if _may_hold_images(column.type)}
    image = next((usable[name] for name in IMAGE_COLUMNS if name in usable), None)
    if image is None:
        wanted = "a column of image bytes or paths, such as 'image' or 'path'"
        raise UsageError(f"expected {wanted} in {uri}, got {schema.names}; rename the one that holds the pictures")
    label = label_from
    if label_from == PARENT:
        if _is_bytes(image.type):
            raise UsageError(f"expected paths for label_from 'parent', got bytes in {uri}; name one of {schema.names}")
        label = None
    elif label_from is None:
        label = "label" if "label" in schema.names else None
    elif label_from not in schema.names or label_from == image.name:
        raise UsageError(
            f"expected label_from 'parent' or a column of {uri}, got {label_from!r}; it has {schema.names}"
        )
    # Lists, structs and further images would make the catalog as large as the corpus.
    users = (column.name for column in schema if not (types.is_nested(column.type) or _is_bytes(column.type)))
    return Columns(
        image=image.name,
        id="id" if "id" in schema.names else None,
        label=label,
        users=tuple(name for name in users if name not in (image.name, "id", label)),
        label_from_parent=label_from == PARENT,
    )


def _may_hold_images(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        return any(kind.field(place).name in ("bytes", "path") for place in range(kind.num_fields))
    return _is_bytes(kind) or types.is_string(kind) or types.is_large_string(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)
