"""Arrays as .npy files: written once and synced, read memory-mapped, never unpickled."""

import io
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from indexer.storage import durable
from retrieval.errors import DamagedError

MAPPED = 1 << 20
"""Bytes of a file from which on it is mapped rather than read."""


def write_new(path: Path, array: np.ndarray) -> None:
    """Create `path` with `array` in it, and sync it; raises `FileExistsError` where it exists."""
    rows = np.ascontiguousarray(array)
    head = np.lib.format.header_data_from_array_1_0(rows)

    def write(file: BinaryIO) -> None:
        np.lib.format.write_array_header_1_0(file, head)
        file.write(rows.data)  # numpy's own way past the file's buffer has no word for a full disk

    durable.write_new(path, write)


class ArrayWriter:
    """A new .npy file of rows, to be written block by block: (N, width), or (N,) where `width` is None.

    Raises `FileExistsError` where it exists.
    """

    def __init__(self, path: Path, width: int | None, dtype: np.dtype):
        self.width = width
        self._dtype = dtype
        self._num_rows = 0
        self._file = path.open("xb")
        self._start = self._write_head(self._file)

    def append(self, rows: np.ndarray) -> None:
        """Write further rows below those that are there."""
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self._num_rows += len(rows)

    def finish(self) -> None:
        """Say in the file's head how many rows there are, sync it and close it."""
        self._file.seek(0)
        # NumPy leaves room in the head for a length that grows.
        if self._write_head(self._file) != self._start:
            raise AssertionError(f"expected a head of {self._start} bytes in {self._file.name}")
        durable.sync_file(self._file)
        self._file.close()

    def close(self) -> None:
        """Give up: what was written is no whole file."""
        self._file.close()

    def _write_head(self, file: BinaryIO) -> int:
        shape = (self._num_rows,) if self.width is None else (self._num_rows, self.width)
        head = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        return file.tell()


def read(path: Path, what: str) -> np.ndarray:
    """The array in `path`, memory-mapped; raises `DamagedError`, which says that it should hold `what`."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the head of a file as Python: there is nothing that damage may not raise
        reason = " ".join(str(error).split())
        raise DamagedError(f"expected {what} in {path}, got: {reason}; `verify` lists what is damaged") from None


def read_bytes(path: Path, what: str) -> np.ndarray:
    """All of a file, (N,) uint8, read or mapped as by `read_known`; raises `DamagedError`."""
    try:
        with open(path, "rb", buffering=0) as file:
            return np.frombuffer(_content(file, path, os.fstat(file.fileno()).st_size), np.uint8)
    except OSError as error:
        raise DamagedError(f"expected {what} in {path}, got: {error}; `verify` lists what is damaged") from None


def read_known(path: Path, what: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array in `path`, which must be of this shape and dtype: fast for many small files, and none is kept open.

    A small file is read, a large one mapped: it can also be read after it was unlinked. Raises `DamagedError`, which
    says that it should hold `what`.
    """
    header = _header(shape, dtype)
    size = len(header) + math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno()).st_size
            data = _content(file, path, size) if found == size else b""
    except OSError as error:
        raise DamagedError(f"expected {what} in {path}, got: {error}; `verify` lists what is damaged") from None
    if memoryview(data)[: len(header)] == header:
        return np.frombuffer(data, dtype, offset=len(header)).reshape(shape)
    array = read(path, what)  # another numpy's header, or damage
    if array.shape != shape or array.dtype != dtype:
        got = f"{array.shape} {array.dtype}"
        raise DamagedError(f"expected {shape} {dtype} in {path}, got {got}; `verify` lists what is damaged")
    return np.asarray(array)


def _content(file: io.FileIO, path: Path, size: int):
    if size < MAPPED:
        return file.read(size)
    import pyarrow as pa

    # Unlike numpy's and Python's own, Arrow's mapping lives on when the file is closed: a process often has 1024 files.
    with pa.memory_map(str(path)) as mapped:
        return mapped.read_buffer()


@lru_cache(1024)
def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    file = io.BytesIO()
    content = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, content)
    return file.getvalue()
