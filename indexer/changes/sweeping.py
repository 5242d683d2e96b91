"""Sweeping an index: the earlier states that are not to be kept, and every file that no state names."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from indexer.segments import DELETED, SEGMENTS
from indexer.storage import draft, durable, manifest, snapshots
from indexer.storage.draft import DRAFT
from indexer.storage.manifest import HISTORY, MANIFEST


def sweep(folder: Path, *, keep_snapshots: int) -> int:
    """Remove what only states before the newest `keep_snapshots` earlier ones name, and what a crash has left.

    Returns how many earlier states are kept. The caller holds the lock. Cut short at any instant, what is left of the
    index is whole: an earlier state is forgotten before its files go.
    """
    current = manifest.read(folder)
    earlier = [state for state in snapshots.states(folder) if state.version < current.version]
    num_kept = min(keep_snapshots, len(earlier))
    kept = [*earlier[len(earlier) - num_kept :], current]
    _remove_others(folder / HISTORY, {manifest.history_name(state.version) for state in kept})
    begun = draft.read(folder, current)
    if begun is None:
        draft.remove(folder)
    else:
        kept.append(begun)
    named: dict[Path, set[str]] = {
        folder / SEGMENTS: {segment.id for state in kept for segment in state.segments},
        folder / DELETED: set(),
    }
    for path in (folder / name for state in kept for name, _ in state.files()):
        named.setdefault(path.parent, set()).add(path.name)
    for home, names in named.items():
        _remove_others(home, names)
    # What a replacement that was cut short leaves; this process holds the lock, so nobody is at it.
    for name in (MANIFEST, DRAFT):
        (folder / f".{name}.new").unlink(missing_ok=True)
    return num_kept


def num_bytes(folder: Path) -> int:
    """The bytes of all files of the index's segments, tombstones and history, whether anything names them or not."""
    homes = (folder / SEGMENTS, folder / DELETED, folder / HISTORY)
    return sum(path.stat().st_size for home in homes for path in home.rglob("*") if path.is_file())


def _remove_others(home: Path, names: Iterable[str]) -> None:
    """Remove what lies in a folder under other names than these; a link is removed, not what it leads to."""
    others = [path for path in home.iterdir() if path.name not in names] if home.is_dir() else []
    for path in others:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if others:
        durable.sync_folder(home)
