"""Arrays as .npy files: written once and synced, read memory-mapped, never unpickled."""

from pathlib import Path

import numpy as np

from indexer import durable
from retrieval.errors import DamagedError


def write_new(path: Path, array: np.ndarray) -> None:
    """Create `path` with `array` in it, and sync it; raises `FileExistsError` where it exists."""
    rows = np.ascontiguousarray(array)
    durable.write_new(path, lambda file: np.lib.format.write_array(file, rows, allow_pickle=False))


def read(path: Path, what: str) -> np.ndarray:
    """The array in `path`, memory-mapped; raises `DamagedError`, which says that it should hold `what`."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f"expected {what} in {path}, got: {error}; `verify` lists what is damaged") from None
