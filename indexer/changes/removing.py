"""Taking images out of an index: tombstones for their rows, which stay on disk until `compact`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from indexer import segments
from indexer.catalog import Catalog
from indexer.closest_ids import closest
from indexer.named_images import NamedImages
from indexer.names import num_duplicates
from indexer.storage import manifest
from indexer.storage.durable import writing
from indexer.storage.manifest import Manifest
from indexer.stored_catalog import StoredCatalog
from retrieval.errors import UsageError


def remove(folder: Path, ids: Iterable[str], where: str | Mapping[str, Any] | None) -> tuple[Manifest, int]:
    """Publish a state without some images: the new state, and how many images it lacks; the caller holds the lock.

    The arguments and what is raised are those of `Index.remove`.
    """
    wanted = dict.fromkeys([ids] if isinstance(ids, str) else ids)
    if bool(wanted) == (where is not None):
        got = "both" if wanted else "neither"
        raise UsageError(f"expected ids or a condition, to say what to remove, got {got}; give one of the two")
    state = manifest.read(folder)
    parts = segments.read(folder, state)
    rows = StoredCatalog(parts)
    numbers = _numbers_of(rows, wanted) if where is None else rows.where(where)
    if not len(numbers):
        return state, 0
    firsts = np.cumsum([0, *(part.record.rows.num for part in parts)])
    owners = np.searchsorted(firsts, numbers, side="right") - 1
    dims, buckets = (rows.values(name, numbers).to_pylist() for name in ("dim", "bucket"))
    places = [
        segments.Place(segment=parts[owner].record.id, row=row, dim=dim, bucket=bucket)
        for owner, row, dim, bucket in zip(owners, (numbers - firsts[owners]).tolist(), dims, buckets, strict=True)
    ]
    with writing(folder):
        new_id = f"{state.version + 1:06d}-{uuid4().hex[:8]}"
        tombstones = segments.write_tombstones(folder, new_id, places)
        remaining = rows.live.copy()
        remaining[numbers] = False
        sha256s = rows.values("sha256", np.flatnonzero(remaining)).to_pylist()
        following = state.following(
            "remove", tombstones=(*state.tombstones, tombstones), num_duplicates=num_duplicates(sha256s)
        )
        manifest.publish(folder, following)
    return following, len(numbers)


def _numbers_of(rows: Catalog, names: Iterable[str]) -> np.ndarray:
    named = NamedImages(rows.live_column, names)
    ids = {name: named.ids_of(name) for name in names}
    unknown = [name for name, found in ids.items() if not found]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        meant = closest(unknown[0], rows.live_column("id"))
        expected = "expected ids of the index, or paths of its pictures"
        raise UsageError(f"{expected}, got {unknown[0]!r}{more}{meant}; nothing was removed")
    for name, found in ids.items():
        if len(found) > 1:
            several = f"{', '.join(map(repr, found[:3]))}{', …' if len(found) > 3 else ''}"
            raise UsageError(
                f"expected the path of one image, got {name!r}, which {len(found)} have: give the ids that you mean, "
                f"of {several}; nothing was removed"
            )
    numbers = rows.find({image_id for found in ids.values() for image_id in found}).values()
    return np.sort(np.fromiter(numbers, np.int64))
