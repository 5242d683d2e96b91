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


def check_new(out: Path) -> None:
    """As `check`, and raise `UsageError` for a folder with a model, which would be lost."""
    check(out)
    if _holds_model(out):
        raise UsageError(
            f"expected --out without a model, got {out}, which holds one; name another, or remove that one"
        )


def check_resumable(out: Path) -> None:
    """As `check`, and raise `UsageError` for a folder with a model but no checkpoint, so not of a run to go on with."""
    check(out)
    if _holds_model(out) and not (out / "checkpoint.pt").exists():
        raise UsageError(
            f"expected --out without a model, or with the checkpoint of its training, got {out}, which holds a model "
            "alone; name another, or remove that one"
        )


def _holds_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.json", "model.safetensors"))
