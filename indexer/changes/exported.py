"""The file that an index is exported to: a Parquet table of its catalog, vectors and tokens, and what its head says.

Any tool reads it. A row's vector is a list of its bucket's numbers; its tokens are bytes, `token_dim` to a token. The
model that made them and the settings of the index stand in the metadata of the schema, as JSON.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from indexer import catalog
from indexer.storage.manifest import DTYPES
from indexer.storage.records import Model, expect, is_count
from retrieval.errors import DamagedError, SourceError

_KEY = b"spyglass"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an exported file says of all its rows; the fields are those of the manifest.

    `vector_column` and `token_column` name the columns that the catalog has no part in; `token_column` is "" and
    `token_dim` 0 where there are no tokens.
    """

    model: Model
    widths: tuple[int, ...]
    dtype: str
    index_type: str
    token_bytes: int
    token_dim: int
    vector_column: str
    token_column: str

    def __post_init__(self):
        rising = bool(self.widths) and all(map(is_count, self.widths)) and self.widths == tuple(sorted({*self.widths}))
        expect(rising and self.widths[0] > 0, f"rising widths, got {self.widths}")
        expect(self.dtype in DTYPES, f"a dtype of {DTYPES}, got {self.dtype!r}")
        expect(is_count(self.token_bytes) and is_count(self.token_dim), "counts of tokens")
        expect(bool(self.token_column) == bool(self.token_dim), "a column of tokens where they have numbers")
        texts = (self.index_type, self.vector_column, self.token_column)
        expect(all(isinstance(text, str) for text in texts), f"names as text, got {texts}")

    def schema(self, catalog_schema: pa.Schema) -> pa.Schema:
        """The columns of the file: the catalog's, then the vectors and tokens; this head in the metadata."""
        fields = [*catalog_schema, pa.field(self.vector_column, pa.list_(pa.float32()), nullable=False)]
        if self.token_column:
            fields.append(pa.field(self.token_column, pa.binary(), nullable=False))
        return pa.schema(fields, metadata={_KEY: json.dumps({"format": _FORMAT, **asdict(self)}).encode("ascii")})

    def catalog_schema(self, schema: pa.Schema) -> pa.Schema:
        """The catalog's part of a file's columns."""
        own = {self.vector_column, self.token_column}
        return pa.schema([field for field in schema if field.name not in own])


def free_name(wanted: str, taken: pa.Schema) -> str:
    """A name that no column has: the one that is wanted, with as many underscores behind it as it takes."""
    # SQL does not tell upper from lower case, and other tools read the file with it.
    names = {name.casefold() for name in taken.names}
    while wanted in names:
        wanted += "_"
    return wanted


def open_file(path: Path) -> tuple[pq.ParquetFile, Head]:
    """An exported file and its head; raises `SourceError` for anything else."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        reason = "nothing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise SourceError(f"expected a file that `spyglass export` wrote at {path}, got {reason}") from None
    try:
        return file, _head_of(file.schema_arrow)
    except (DamagedError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        file.close()
        raise SourceError(
            f"expected a file that `spyglass export` wrote, got {path}, which is none ({error}); "
            "pictures of a table are added with: spyglass index"
        ) from None


def _head_of(schema: pa.Schema) -> Head:
    expect(_KEY in (schema.metadata or {}), "its head in the metadata")
    content = json.loads(schema.metadata[_KEY])
    made_as = content.pop("format")
    expect(made_as == _FORMAT, f"format {_FORMAT}, got {made_as!r}")
    head = Head(model=Model(**content.pop("model")), widths=tuple(content.pop("widths")), **content)
    kinds = {field.name: field.type for field in schema}
    expect(len(kinds) == len(schema), "each column once")
    for field in catalog.SCHEMA:
        expect(
            kinds.get(field.name) == field.type, f"a column {field.name} of {field.type}, got {kinds.get(field.name)}"
        )
    expect(kinds.get(head.vector_column) == pa.list_(pa.float32()), f"lists of float in column {head.vector_column!r}")
    if head.token_column:
        expect(kinds.get(head.token_column) == pa.binary(), f"bytes in column {head.token_column!r}")
    return head
