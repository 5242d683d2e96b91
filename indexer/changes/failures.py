"""The file of the pictures that cannot be read at present, and why."""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from indexer import corpus
from indexer.sources.item import Item
from indexer.storage import durable
from retrieval.errors import DamagedError, IndexFolderError

FAILURES = "failures.jsonl"

_KEPT = ("source", "label", "columns", "listed_in")


class Failures:
    """One line of JSON a picture: `id, uri, reason, when`, and what else is known of it, so that it can be read again.

    Raises `DamagedError` for a file that has others, `IndexFolderError` for one that cannot be read.
    """

    def __init__(self, path: Path):
        self._path = path
        self._by_id: dict[str, dict[str, str]] = {}
        self._saved = True
        if path.exists():
            try:
                lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
                # What is no more there fails no more.
                self._by_id = {line["id"]: line for line in lines if not corpus.is_gone(line["uri"])}
            except OSError as error:
                raise IndexFolderError(f"expected to read {path}, got: {error.strerror}") from None
            except (ValueError, TypeError, KeyError) as error:
                raise DamagedError(f"expected a failure a line in {path}, got {error!r}; delete the file") from None
            self._saved = len(self._by_id) == len(lines)

    def note(self, item: Item, reason: str) -> None:
        """Say that a picture cannot be read, in place of what was said of that id before."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        known = {name: getattr(item, name) for name in _KEPT}
        self._by_id[item.id] = {"id": item.id, "uri": item.uri, "reason": reason, "when": when, **known}
        self._saved = False

    def forget(self, item_id: str) -> None:
        """Say that a picture was read after all."""
        if self._by_id.pop(item_id, None) is not None:
            self._saved = False

    def settle(self, places: Collection[str], failed: Collection[str]) -> None:
        """Forget folders, tables and archives at or below `places`, all of them read by now, save `failed` ids."""
        roots = [place.rstrip("/") for place in places]
        for line in self.lines():
            uri = line["uri"].rstrip("/")
            is_read = any(uri == root or uri.startswith(f"{root}/") for root in roots)
            if is_read and line["id"] not in failed and corpus.holds_many(line["uri"]):
                self.forget(line["id"])

    def lines(self) -> list[dict[str, str]]:
        """All of them, in the order in which they first failed."""
        return [*self._by_id.values()]

    def save(self) -> None:
        """Write the file, where anything has changed."""
        if not self._saved:
            lines = "".join(json.dumps(line, default=str) + "\n" for line in self._by_id.values())
            durable.replace(self._path, lines.encode("ascii"))
            self._saved = True


def read(folder: Path) -> list[dict[str, str]]:
    """Of each picture of the index in `folder` that cannot be read: `id, uri, reason, when`; raises `DamagedError`."""
    return Failures(folder / FAILURES).lines()
