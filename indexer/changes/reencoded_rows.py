"""Rows of a catalog whose pictures were encoded anew, as they are to be written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from indexer.buckets import width_of
from indexer.changes.row_blocks import RowBlock
from indexer.sources.decoding import Outcome

if TYPE_CHECKING:
    from retrieval.tokens import Tokens


class EncodedPictures(NamedTuple):
    """P pictures and the N rows that show them: the numbers of the rows, and for each which of the pictures it shows.

    Of each picture the facts of its file, its vector (P, D) and dim (P,), and its tokens, None for a model without.
    """

    numbers: list[int]
    owners: list[int]
    facts: list[Outcome]
    vectors: np.ndarray
    dims: np.ndarray
    tokens: "Tokens | None"


def block_of(rows: pa.Table, encoded: EncodedPictures, widths: Sequence[int]) -> RowBlock:
    """The `rows` (N,) of the catalog with what is known of their pictures now, in buckets of these `widths`."""
    owners = np.array(encoded.owners)
    facts = [encoded.facts[owner] for owner in encoded.owners]
    dims, vectors = np.asarray(encoded.dims)[owners], encoded.vectors[owners]
    buckets = width_of(dims, widths)
    known = {
        "sha256": [fact.sha256 for fact in facts],
        "width": [fact.width for fact in facts],
        "height": [fact.height for fact in facts],
        "bytes": [fact.num_bytes for fact in facts],
        "dim": dims,
        "bucket": buckets,
    }
    for name, values in known.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
    held = {width: vectors[buckets == width, :width] for width in np.unique(buckets).tolist()}
    if encoded.tokens is None:
        return RowBlock(rows, held, np.zeros(len(owners), np.uint8), None)
    tokens = encoded.tokens.take(owners)
    return RowBlock(rows, held, tokens.counts.astype(np.uint8), tokens.values)
