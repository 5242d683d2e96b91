"""Snapshots: the earlier states that an index can go back to, by the manifests in its history."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from indexer.arguments import check_integers
from indexer.storage import manifest
from indexer.storage.durable import writing
from indexer.storage.manifest import HISTORY, Manifest
from retrieval.errors import DamagedError, IndexFolderError, UsageError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A state of an index: how it came to be, how many images it holds, and the bytes of all its files.

    `is_current` says whether it is the state that is served, `is_whole` whether all its files are still there.
    """

    version: int
    when: str
    change: str
    images: int
    size_bytes: int
    is_current: bool
    is_whole: bool


def versions(folder: Path) -> list[int]:
    """The versions that the history holds, rising."""
    return sorted(int(path.stem) for path in (folder / HISTORY).glob("*.json") if path.stem.isdecimal())


def read(folder: Path, version: int) -> Manifest:
    """The state `version` of an index; raises `UsageError` where the history has none such, or `DamagedError`."""
    check_integers(snapshot=version)
    current = manifest.read(folder)
    if version == current.version:
        return current
    name = manifest.history_name(version)
    try:
        if version > current.version:
            raise FileNotFoundError  # written by a change that was cut short before it counted
        state = Manifest.from_bytes((folder / HISTORY / name).read_bytes())
    except FileNotFoundError:
        known = ", ".join(map(str, versions(folder)[-10:]))
        raise UsageError(f"expected one of the snapshots of {folder}, {known}, got {version}") from None
    except OSError as error:
        raise IndexFolderError(f"expected to read {folder / HISTORY / name}, got: {error.strerror}") from None
    except DamagedError as error:
        raise DamagedError(f"{HISTORY}/{name}: {error}; choose another snapshot") from None
    if state.version != version:
        raise DamagedError(f"{HISTORY}/{name}: expected version {version}, got {state.version}")
    return state


def states(folder: Path) -> list[Manifest]:
    """The states of an index, oldest first, the present one last; of those that cannot be read, a warning is logged."""
    found = []
    current = manifest.read(folder).version
    for version in versions(folder):
        if version > current:
            continue
        try:
            found.append(read(folder, version))
        except UsageError:
            continue  # a `compact` has swept it since it was listed
        except DamagedError as error:  # but not one that cannot be read just now: a sweep would take it for gone
            _log.warning("%s", error)
    return found


def listed(folder: Path) -> list[Snapshot]:
    """The snapshots of an index, oldest first, the present state last; raises `IndexFolderError`."""
    current = manifest.read(folder)
    size_of = cache(_size_of)  # most files belong to many states
    return [
        Snapshot(
            version=state.version,
            when=state.when,
            change=state.change,
            images=state.num_images,
            size_bytes=sum(file.size for _, file in state.files()),
            is_current=state.version == current.version,
            is_whole=all(size_of(folder / name) == file.size for name, file in state.files()),
        )
        for state in states(folder)
    ]


def problems(folder: Path, current: Manifest) -> Iterator[str]:
    """Say which files that earlier states alone name are not as they were written."""
    seen = {name for name, _ in current.files()}
    for state in reversed(states(folder)):
        for name, file in state.files():
            problem = None if name in seen else file.problem(folder / name)
            if problem is not None:
                yield f"{name}: {problem}; snapshot {state.version} needs it"
            seen.add(name)


def first_missing(folder: Path, state: Manifest) -> str | None:
    """The first file of a state that is not there in its length; None where all are."""
    return next((name for name, file in state.files() if _size_of(folder / name) != file.size), None)


def successor(folder: Path, state: Manifest) -> Manifest | None:
    """The newest state, where it has replaced `state` and files of that were swept since; None where `state` stands."""
    newest = manifest.read(folder)
    return newest if newest != state and first_missing(folder, state) is not None else None


def swept(folder: Path, version: int) -> IndexFolderError:
    """The error that says that the files of a snapshot are there no more."""
    whole = [str(snapshot.version) for snapshot in listed(folder) if snapshot.is_whole]
    return IndexFolderError(
        f"expected the files of snapshot {version} in {folder}, found that they are gone; "
        f"those that are whole: {', '.join(whole[-10:]) or 'none'}"
    )


def restore(folder: Path, version: int) -> Manifest:
    """Publish the state `version` once more, as the newest one; the caller holds the lock.

    Raises `UsageError` where there is none such, `IndexFolderError` where a file of it is gone.
    """
    current, state = manifest.read(folder), read(folder, version)
    if state == current:
        return current
    if first_missing(folder, state) is not None:
        raise swept(folder, version)
    restored = replace(state, version=current.version).following(f"restore {version}")
    with writing(folder):
        manifest.publish(folder, restored)
    return restored


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
