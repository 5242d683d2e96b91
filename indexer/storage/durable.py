"""Files that survive a crash: written, synced to disk, and only then named; and the lock of the one writer."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import IndexFolderError, LockedError


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content; raises `OSError` where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_new(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Create `path` with what `write` puts into it, and sync it; raises `FileExistsError` where it exists."""
    with path.open("xb") as file:
        write(file)
        sync_file(file)


def sync_file(file: BinaryIO) -> None:
    """Make what was written into an open file survive a crash."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise `IndexFolderError` where the disk refuses what is written to the index in `folder`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise IndexFolderError(f"expected to write to {folder}, but cannot: {reason}; what was there stays") from None


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder, and remove it again, with all that is in it, where what is done inside fails."""
    path.mkdir(parents=True)
    try:
        yield
    except BaseException:
        # Nothing names it yet, and a full disk needs the room; what cannot be removed now, the next `compact` does.
        shutil.rmtree(path, ignore_errors=True)
        raise


def replace(path: Path, data: bytes) -> None:
    """Give `path` the content `data` at once: whoever opens it, even after a crash, sees the old content or the new."""
    # One writer at a time, so the name is free; what a crash leaves under it is overwritten by the next write.
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        sync_file(file)
    os.replace(new, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder (files created, replaced) survive a crash."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def sole_writer(lock: Path) -> Iterator[None]:
    """Hold the file `lock`, with this process's id in it, against all other writers to its folder.

    The system lets go of it when the process ends, however it ends. Raises `LockedError`, naming the holder, where
    another one writes, and `IndexFolderError` where nobody may.
    """
    from filelock import FileLock, Timeout

    holder = ""
    try:
        if lock.exists():
            # Read first: some versions of filelock empty the file while they try.
            holder = lock.read_text("utf-8", errors="replace").strip()
        held = FileLock(lock).acquire(timeout=0)
    except Timeout:
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise LockedError(f"expected to write to {lock.parent} alone, but {who} is writing; try again later") from None
    except OSError as error:
        raise IndexFolderError(f"expected to write to {lock.parent}, but may not: {error.strerror}") from None
    with held, writing(lock.parent):
        lock.write_text(f"{os.getpid()}\n", "utf-8")
        yield
