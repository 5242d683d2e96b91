"""Reading every file of an index, to say which are not as they were written."""

from collections.abc import Iterator
from pathlib import Path

from indexer import feedback, segments
from indexer.judgments import ranker_folders
from indexer.storage import draft, manifest, snapshots
from retrieval.errors import DamagedError


def problems(path: Path) -> Iterator[str]:
    """Say, file by file, what is wrong with the index at `path` as it is now; yields nothing where all is sound."""
    try:
        state = manifest.read(path)
    except DamagedError as error:
        yield str(error)
        return
    yield from manifest.history_problems(path, state)
    yield from segments.verify(path, state)
    yield from snapshots.problems(path, state)
    yield from draft.problems(path)
    yield from feedback.problems(path)
    yield from ranker_folders.problems(path)
