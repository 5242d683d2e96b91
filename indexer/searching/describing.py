"""Queries and rows of a gallery as the ranker reads them: vectors, dims, tokens, and the metadata that it knows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from indexer.searching.gallery import Gallery
from indexer.searching.query import Queries
from retrieval.reranking.described import Described
from retrieval.reranking.metadata import MetadataColumns
from retrieval.tokens import Tokens


def described_rows(gallery: Gallery, rows: np.ndarray, columns: MetadataColumns) -> Described:
    """The rows (N,) of a gallery that has tokens as candidates (N,), with the columns of the catalog that are wanted.

    Only what belongs to these rows is read. Raises `DamagedError`.
    """
    dims = gallery.catalog.values("dim", rows).to_numpy().astype(np.float32)
    known = catalog_values(gallery, rows, columns)
    return _described(gallery.vectors(rows), dims, gallery.tokens.take(rows), columns, known)


def described_queries(
    queries: Queries, vectors_QD: np.ndarray, columns: MetadataColumns, known: Sequence[Mapping[str, Any]]
) -> Described:
    """Queries (Q,) with tokens, by vectors such as their own; `known` is the metadata of each."""
    return _described(vectors_QD, queries.dims, queries.tokens, columns, known)


def catalog_values(gallery: Gallery, rows: np.ndarray, columns: MetadataColumns) -> list[dict[str, Any]]:
    """Of each of the rows (N,) the values of those columns that the catalog has, by name."""
    catalog = gallery.catalog
    names = {column.name for column in (*columns.numbers, *columns.categories)} & {*catalog.table.column_names}
    known = {name: catalog.values(name, rows).to_pylist() for name in names}
    return [{name: values[place] for name, values in known.items()} for place in range(len(rows))]


def _described(
    vectors: np.ndarray,
    dims: np.ndarray,
    tokens: Tokens,
    columns: MetadataColumns,
    known: Sequence[Mapping[str, Any]],
) -> Described:
    tokens_NTE, mask_NT = tokens.padded()
    numbers, categories = columns.encode(known)
    return Described(
        vectors=torch.from_numpy(vectors),
        dims=torch.from_numpy(dims),
        tokens=tokens_NTE,
        mask=mask_NT,
        numbers=torch.from_numpy(numbers),
        categories=torch.from_numpy(categories),
    )
