"""The files of `search --explain DIR`, listed there, so that a later run takes those of an earlier one away."""

import json
from collections.abc import Sequence
from pathlib import Path

from retrieval.errors import UsageError

LISTING = "explanations.json"


def earlier(folder: Path) -> list[Path]:
    """The files that an earlier run has listed; raises `UsageError` where the listing is none of ours."""
    try:
        names = json.loads((folder / LISTING).read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError):
        names = None
    is_ours = isinstance(names, list) and all(isinstance(name, str) and Path(name).name == name for name in names)
    if not is_ours or not all(Path(name).suffix in (".png", ".npz") for name in names):
        raise UsageError(
            f"expected the files of an earlier run in {folder / LISTING}, got something else; name another folder"
        )
    return [folder / name for name in names]


def begin(folder: Path, names: Sequence[str]) -> None:
    """Make the folder, take away what an earlier run left there, and list the files that are to come."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in earlier(folder):
        path.unlink(missing_ok=True)
    (folder / LISTING).write_text(json.dumps([*names]))
