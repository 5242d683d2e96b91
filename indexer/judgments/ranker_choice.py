"""Which ranker an index uses where none is named: a choice that is kept beside its rankers, for everybody."""

import json
from pathlib import Path

from indexer.judgments.ranker_folders import RANKERS
from indexer.storage import durable
from retrieval.errors import IndexFolderError

_FILE = "in-use.json"


def read(folder: Path) -> str | None:
    """The name that was chosen for the index in `folder`; None where nothing was, or the file says nothing sound."""
    try:
        chosen = json.loads((folder / RANKERS / _FILE).read_text("utf-8"))["ranker"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a lost choice costs no search: the model's own ranker is used
    return chosen if isinstance(chosen, str) else None


def write(folder: Path, name: str | None) -> None:
    """Choose a ranker by its name, or none in particular; raises `IndexFolderError` where nobody may write."""
    home = folder / RANKERS
    try:
        if name is None:
            (home / _FILE).unlink(missing_ok=True)
        else:
            home.mkdir(exist_ok=True)
            durable.replace(home / _FILE, json.dumps({"ranker": name}).encode("ascii"))
    except OSError as error:
        raise IndexFolderError(f"expected to write to {home}, but cannot: {error.strerror or error}") from None
