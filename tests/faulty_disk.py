"""A disk that goes wrong at one call: the calls by which this process changes files are counted, and one is fatal."""

import builtins
import errno
import io
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from power_cut import UnsyncedFolder, kept, lost

HALF_WRITTEN = "killed in the middle"
POWER_CUTS = ("all unsynced is lost", "unsynced content is lost", "some unsynced is lost")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
FAULTS = ("killed", HALF_WRITTEN, *POWER_CUTS, *ERRORS)
"""The process is killed before a call, or half way through it; or with it the machine, so that what was not synced is
lost: names and content, content alone, any of it; or the call fails, once."""


_CHANGES_NOTHING = ("read", "close")


class Fault(NamedTuple):
    """What happens (one of `FAULTS`) at which call, counted from 0."""

    number: int
    kind: str


def faults_of(calls: Sequence[str]) -> list[Fault]:
    """All that can go wrong with some `FaultyDisk.calls`: each fault at each call for which it differs; and power cuts
    once all is done."""
    faults = []
    for number, call in enumerate(calls):
        name = call.partition(" ")[0]
        kinds = ERRORS if name in _CHANGES_NOTHING else FAULTS  # to be killed before it is to be killed before the next
        faults += [Fault(number, kind) for kind in kinds if kind != HALF_WRITTEN or name == "write"]
    return [*faults, *(Fault(len(calls), kind) for kind in POWER_CUTS)]


class FaultyDisk:
    """Once told to `watch`, sees all that this process does below the folder `root` from then on.

    `calls` are those that there were: their names and paths. Files that are written have no buffer, so that each write
    is a call; nothing is really synced.
    """

    def __init__(self, root: Path, fault: Fault | None = None):
        self.calls: list[str] = []
        self._root = root
        self._fault = fault
        self._unsynced = UnsyncedFolder(root)
        self._path_of_handle: dict[int, Path] = {}
        self._is_watching = False

    def watch(self, patch: Callable[[Any, str, Any], None] = setattr) -> None:
        """Put watched calls in the place of the system's: those that pathlib, shutil, numpy and pyarrow end in."""
        opened = self._watched_open(io.open)
        patch(io, "open", opened)
        patch(builtins, "open", opened)
        watched = {
            **{"open": self._watched_os_open, "fsync": self._watched_fsync, "mkdir": self._watched_mkdir},
            **dict.fromkeys(("replace", "rename"), self._watched_rename),
            **dict.fromkeys(("unlink", "remove", "rmdir"), self._watched_removal),
            **dict.fromkeys(
                ("link", "symlink", "truncate", "ftruncate", "write", "pwrite", "fdatasync"), self._refused
            ),
        }
        for name, watch in watched.items():
            patch(os, name, watch(getattr(os, name)))
        self._is_watching = True

    def unseen(self) -> list[str]:
        """The files that are there and were not when this began, though nobody was seen to write them."""
        return sorted(map(str, self._unsynced.unknown()))

    def call(self, name: str, path: Path, run: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Count a call and `run` it, unless it is the one at which something happens."""
        self.calls.append(f"{name} {path.relative_to(self._root)}")
        if self._fault is None or len(self.calls) - 1 != self._fault.number:
            return run()
        kind = self._fault.kind
        if kind in ERRORS:
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), str(path))
        if kind == HALF_WRITTEN and half is not None:
            half()
        self._die(kind)

    def done(self) -> None:
        """Say that all is done: the last moment at which something happens."""
        if self._fault is not None and len(self.calls) == self._fault.number:
            self._die(self._fault.kind)

    def _die(self, kind: str) -> None:
        if kind in POWER_CUTS:
            some = random.Random(len(self.calls)).choice
            names, contents = ((lost, lost), (kept, lost), (some, some))[POWER_CUTS.index(kind)]
            self._note(self._unsynced.cut, names, contents)
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, follow: Callable, *args: Any) -> None:
        """Follow what is done, unwatched."""
        self._is_watching = False
        follow(*args)
        self._is_watching = True

    def _place(self, path: Any, folder: int | None = None) -> Path | None:
        """Where a call goes, if that is to be watched; `folder` is an open one's handle that `path` starts from."""
        if not self._is_watching:
            return None
        if isinstance(path, int):
            return self._path_of_handle.get(path)
        home = self._path_of_handle.get(folder, Path.cwd())
        place = Path(os.path.normpath(home / os.fsdecode(path)))
        return place if place.is_relative_to(self._root) else None

    def _watched_open(self, system: Callable) -> Callable:
        def open(file, mode="r", *args, **options):
            place = self._place(file)
            if place is None or isinstance(file, int):
                return system(file, mode, *args, **options)
            writes = not set(mode).isdisjoint("wxa+")
            opened = self.call("open" if writes else "read", place, lambda: system(file, mode, *args, **options))
            self._path_of_handle[opened.fileno()] = place
            if not writes:
                return opened
            self._note(self._unsynced.created, place)
            return _WatchedFile(self, opened, place)

        return open

    def _watched_os_open(self, system: Callable) -> Callable:
        def open(path, flags, *args, dir_fd=None, **options):
            place = self._place(path, dir_fd)
            if place is None:
                return system(path, flags, *args, dir_fd=dir_fd, **options)
            handle = self.call("open", place, lambda: system(path, flags, *args, dir_fd=dir_fd, **options))
            self._path_of_handle[handle] = place
            if flags & os.O_CREAT:
                self._note(self._unsynced.created, place)
            return handle

        return open

    def _watched_fsync(self, system: Callable) -> Callable:
        def fsync(handle):
            place = self._place(handle)
            if place is None:
                return system(handle)
            return self.call("fsync", place, lambda: self._note(self._unsynced.synced, place))

        return fsync

    def _watched_rename(self, system: Callable) -> Callable:
        def rename(source, target):
            place, new_place = self._place(source), self._place(target)
            if place is None or new_place is None:
                return system(source, target)

            def run():
                self._note(self._unsynced.renamed, place, new_place)
                system(source, target)

            return self.call(system.__name__, new_place, run)

        return rename

    def _watched_removal(self, system: Callable) -> Callable:
        def remove(path, *, dir_fd=None):
            place = self._place(path, dir_fd)
            if place is None or not os.path.lexists(place):
                return system(path, dir_fd=dir_fd)

            def run():
                self._note(self._unsynced.removed, place)
                system(path, dir_fd=dir_fd)

            return self.call(system.__name__, place, run)

        return remove

    def _watched_mkdir(self, system: Callable) -> Callable:
        def mkdir(path, *args, **options):
            place = self._place(path)
            if place is None or place.exists():
                return system(path, *args, **options)

            def run():
                system(path, *args, **options)
                self._note(self._unsynced.made_folder, place)

            return self.call("mkdir", place, run)

        return mkdir

    def _refused(self, system: Callable) -> Callable:
        def refused(*args, **options):
            watched = [place for place in map(self._place, args) if place is not None]
            assert not watched, f"expected no {system.__name__} below {self._root}, which nobody watches; got {watched}"
            return system(*args, **options)

        return refused


class _WatchedFile:
    """A file that is open for writing; no file of `io`'s, lest numpy and pyarrow write past it."""

    def __init__(self, disk: FaultyDisk, file: Any, path: Path):
        self._disk = disk
        self._file = file
        self._path = path

    def write(self, data: Any) -> int:
        data = data if isinstance(data, str) else bytes(data)
        return self._disk.call(
            "write", self._path, lambda: self._write(data), lambda: self._write(data[: len(data) // 2])
        )

    def truncate(self, *size: int) -> int:
        return self._disk.call("truncate", self._path, lambda: self._file.truncate(*size))

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()  # the handle is given back whatever comes of it
            self._disk.call("close", self._path, lambda: None)

    def _write(self, data: Any) -> int:
        num = self._file.write(data)
        self._file.flush()
        return num

    def __enter__(self) -> "_WatchedFile":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
