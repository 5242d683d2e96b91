"""The files of a segment's local tokens: the values, one image's after the other's, and how many each image has."""

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.storage import arrays, durable
from indexer.storage.records import FileRecord, SegmentRecord
from retrieval.errors import DamagedError, UsageError

if TYPE_CHECKING:
    from retrieval.tokens import Tokens  # imports torch, which reading and checking do without


VALUES, COUNTS = "tokens.npy", "token-counts.npy"
"""The names of a segment's first files of tokens; later ones bear a number."""


def write(home: Path, tokens: "Tokens") -> dict[str, FileRecord]:
    """Write the tokens of a segment's rows into its folder, under names that are free there, and sync them.

    The segment's other files, earlier tokens among them, stay as they are. Raises `UsageError` for more than 255
    tokens an image.
    """
    num_most = int(tokens.counts.max(initial=0))
    if num_most > np.iinfo(np.uint8).max:
        raise UsageError(f"expected at most 255 tokens an image, got {num_most}; ask for fewer token_bytes")
    names = next(names for names in map(_names, count(1)) if not any((home / name).exists() for name in names))
    for name, array in zip(names, (tokens.values, tokens.counts.astype(np.uint8)), strict=True):
        arrays.write_new(home / name, array)
    durable.sync_folder(home)
    return {name: FileRecord.of(home / name) for name in names}


def read_counts(home: Path, record: SegmentRecord) -> np.ndarray:
    """(rows,) uint8, all zero for a segment without tokens; raises `DamagedError`."""
    if not record.token_bytes:
        return np.zeros(record.rows.num, np.uint8)
    path = home / record.token_names[1]
    counts = np.asarray(arrays.read(path, "counts of tokens"))
    if counts.shape != (record.rows.num,) or counts.dtype != np.uint8:
        raise DamagedError(f"expected ({record.rows.num},) uint8 in {path}, got {counts.shape} {counts.dtype}")
    return counts


def read_values(home: Path, record: SegmentRecord, num_tokens: int) -> np.ndarray:
    """(num_tokens, D) int8, memory-mapped, of a segment that has tokens; raises `DamagedError`."""
    path = home / record.token_names[0]
    values = arrays.read(path, "tokens")
    if values.ndim != 2 or len(values) != num_tokens or values.dtype != np.int8:
        raise DamagedError(f"expected ({num_tokens}, D) int8 in {path}, got {values.shape} {values.dtype}")
    return values


def problem(home: Path, record: SegmentRecord) -> str | None:
    """What is wrong with a segment's tokens: files that do not fit each other or the manifest; None if all is well."""
    if not record.token_bytes:
        return None
    try:
        counts = read_counts(home, record)
        values = read_values(home, record, int(counts.sum()))
    except DamagedError as error:
        return str(error)
    num_bytes = int(counts.max(initial=0)) * values.shape[1]
    if num_bytes > record.token_bytes:
        return f"expected at most {record.token_bytes} bytes of tokens an image in {home}, got {num_bytes}"
    return None


def _names(number: int) -> tuple[str, str]:
    """Of the values and of the counts: the first to be written bear no number."""
    end = "" if number == 1 else f"-{number}"
    return f"tokens{end}.npy", f"token-counts{end}.npy"
