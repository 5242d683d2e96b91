"""The draft of a state: what a long change has done so far, kept beside the index until it is whole and published.

The segments that it names lie where all do; no manifest names them yet, and nobody reads them.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from indexer.storage import durable
from indexer.storage.manifest import Manifest
from retrieval.errors import DamagedError

DRAFT = "draft.json"
"""The file of the draft, of the same form as a manifest."""

_log = logging.getLogger(__name__)


def read(folder: Path, state: Manifest) -> Manifest | None:
    """The draft that is to follow `state`; None where there is none, or where it was begun on another state."""
    path = folder / DRAFT
    try:
        draft = Manifest.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, DamagedError) as error:
        _log.warning("%s: %s; it is begun anew", path, error)
        return None
    return draft if draft.version == state.version + 1 else None


def problems(folder: Path) -> Iterator[str]:
    """Say what is wrong with the draft itself; yields nothing where all is sound, or there is none."""
    try:
        Manifest.from_bytes((folder / DRAFT).read_bytes())
    except FileNotFoundError:
        return
    except (OSError, DamagedError) as error:
        yield f"{DRAFT}: {getattr(error, 'strerror', None) or error}; `compact` removes it"


def write(folder: Path, draft: Manifest) -> None:
    """Keep a draft, in place of an earlier one; every file that it names must be synced already."""
    durable.replace(folder / DRAFT, draft.to_bytes())


def carry_over(folder: Path, before: Manifest, state: Manifest) -> None:
    """Let the draft that was to follow `before`, if there is one, follow `state`, which holds the same images."""
    begun = read(folder, before)
    if begun is not None:
        write(folder, replace(begun, version=state.version + 1))


def remove(folder: Path) -> None:
    """Forget the draft, if there is one."""
    (folder / DRAFT).unlink(missing_ok=True)
