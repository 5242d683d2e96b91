"""The file of the pictures that cannot be read at present, and why."""

import json
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from indexer import corpus
from indexer.sources.item import Item
from indexer.storage import durable
from retrieval.errors import DamagedError, IndexFolderError

FAILURES = "failures.jsonl"

_KEPT = ("source", "label", "columns", "listed_in")

_KINDS: dict[str, tuple[type, Callable[[str], Any]]] = {
    "datetime": (datetime, datetime.fromisoformat),
    "date": (date, date.fromisoformat),
    "time": (time, time.fromisoformat),
    "decimal": (Decimal, Decimal),
}
"""What a column may hold and JSON does not know: what it is called, its type, and how it is read."""


class Failures:
    """One line of JSON a picture: `id, uri, reason, when`, and what else is known of it, so that it can be read again.

    That is `source`, `label`, `columns` and `listed_in`, as `indexer.sources.item.Item` has them. Raises `DamagedError`
    for a file that has others, `IndexFolderError` for one that cannot be read.
    """

    def __init__(self, path: Path):
        self._path = path
        self._by_id: dict[str, dict[str, Any]] = {}
        self._saved = True
        if path.exists():
            try:
                lines = [_line(text) for text in path.read_text("utf-8").splitlines()]
                # What is no more there fails no more.
                self._by_id = {line["id"]: line for line in lines if not corpus.is_gone(line["uri"])}
            except OSError as error:
                raise IndexFolderError(f"expected to read {path}, got: {error.strerror}") from None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
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

    def lines(self) -> list[dict[str, Any]]:
        """All of them, in the order in which they first failed."""
        return [*self._by_id.values()]

    def save(self) -> None:
        """Write the file, where anything has changed."""
        if not self._saved:
            lines = "".join(json.dumps(line, default=_plain) + "\n" for line in self._by_id.values())
            durable.replace(self._path, lines.encode("ascii"))
            self._saved = True


def _line(text: str) -> dict[str, Any]:
    line = json.loads(text)
    if "columns" in line:
        line["columns"] = {name: _typed(value) for name, value in line["columns"].items()}
    return line


def _plain(value: Any) -> dict[str, str] | str:
    kind = next((name for name, (kind, _) in _KINDS.items() if isinstance(value, kind)), None)
    return str(value) if kind is None else {kind: str(value)}


def _typed(value: Any) -> Any:
    # No column holds what JSON has as an object, so this is one that JSON does not know.
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    return _KINDS[kind][1](text)


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of the pictures of the index in `folder` that cannot be read; raises `DamagedError`."""
    return Failures(folder / FAILURES).lines()
