"""What a power cut leaves of a folder: of every name and every file what was last synced, or anything later.

POSIX promises no more: a file's content is safe once the file was synced, its name once its folder was.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Choice = Callable[[Sequence[Any]], Any]
"""Which of the states that a name or a content may be left in, the last synced one first, the present one last."""


class _File:
    """A file, whatever names it has: its content when it was last synced, and once nothing names it, its last one."""

    def __init__(self, synced: bytes):
        self.synced = synced
        self.last: bytes | None = None


class UnsyncedFolder:
    """Follows what is done to the folder `root`, all of which is taken for synced at first."""

    def __init__(self, root: Path):
        self._root = root
        # Of each path its states since its folder was last synced: a file, "folder", or None where there is nothing.
        self._states: dict[Path, list[_File | str | None]] = {}
        for path in sorted(root.rglob("*")):
            self._states[path] = ["folder" if path.is_dir() else _File(path.read_bytes())]

    def created(self, path: Path) -> None:
        """`path` is opened for writing: another file than before only where there was none."""
        if self._present(path) is None:
            self._states.setdefault(path, [None]).append(_File(b""))

    def made_folder(self, path: Path) -> None:
        self._states.setdefault(path, [None]).append("folder")

    def removed(self, path: Path) -> None:
        """`path` is about to be removed, a file or an empty folder."""
        self._keep_content(path)
        self._states[path].append(None)

    def renamed(self, path: Path, to: Path) -> None:
        """The file `path` is about to be called `to`."""
        file = self._present(path)
        assert isinstance(file, _File), f"expected a file at {path}: renamed folders are not followed"
        self._keep_content(to)
        self._states[path].append(None)
        self._states.setdefault(to, [None]).append(file)

    def synced(self, path: Path) -> None:
        """A file, or the names in a folder, are safe from now on."""
        if path.is_dir():
            for name, states in self._states.items():
                if name.parent == path:
                    del states[:-1]
        else:
            self._present(path).synced = path.read_bytes()

    def unknown(self) -> list[Path]:
        """What is there though nobody told."""
        return [path for path in self._root.rglob("*") if self._present(path) is None]

    def cut(self, name: Choice, content: Choice) -> None:
        """Leave of the folder what `name` and `content` choose."""
        left = {path: name(states) for path, states in self._states.items()}
        contents = {path: content([file.synced, self._now(file)]) for path, file in left.items() if _is_file(file)}
        shutil.rmtree(self._root)
        self._root.mkdir()
        for path in sorted(left):
            if path.parent.is_dir() and left[path] == "folder":
                path.mkdir()
            elif path.parent.is_dir() and path in contents:
                path.write_bytes(contents[path])

    def _present(self, path: Path) -> "_File | str | None":
        return self._states.get(path, [None])[-1]

    def _keep_content(self, path: Path) -> None:
        file = self._present(path)
        if _is_file(file):
            file.last = path.read_bytes()

    def _now(self, file: _File) -> bytes:
        place = next((path for path, states in self._states.items() if states[-1] is file), None)
        return file.last if place is None else place.read_bytes()


def _is_file(state: Any) -> bool:
    return isinstance(state, _File)


def lost(states: Sequence[Any]) -> Any:
    """Nothing but what was synced is left."""
    return states[0]


def kept(states: Sequence[Any]) -> Any:
    """All is left."""
    return states[-1]
