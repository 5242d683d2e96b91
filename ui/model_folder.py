"""Where a command writes a folder: looked at before the work, made when there is something to write."""

import os
from pathlib import Path

from indexer.storage import manifest
from retrieval.errors import UsageError


def check(out: Path, option: str = "--out") -> None:
    """Raise `UsageError` where no folder can be made or written to, and for an index's; nothing is made."""
    if manifest.exists(out):
        raise UsageError(f"expected {option} to be a folder to write to, got {out}, which is an index; name another")
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"expected {option} to be a folder to write to, got {out}: {nearest} is a file; name another")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"expected {option} to be a folder to write to, got {out}: no permission; name another")
