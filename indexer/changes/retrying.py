"""What could not be read by an earlier run, read again from where it lies."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexer import corpus
from indexer.changes.reread import read_again
from indexer.sources.item import Item
from retrieval.errors import SpyglassError

_KEPT = ("id", "source", "label", "columns", "listed_in")


def failed(
    failures: Iterable[Mapping[str, Any]], *, label_from: str | None = None, exclude_dirs: Collection[str] = ()
) -> Iterator[Item]:
    """The pictures that could not be read, lines of `failures.jsonl`, with their ids, labels and columns.

    What a line says of a whole folder, table or archive, or of a part of it, is read again from its start.
    """
    lines_of: dict[str, list[Mapping[str, Any]]] = {}
    for line in failures:
        lines_of.setdefault(line["uri"], []).append(line)
    for item in read_again([uri for uri in lines_of if not corpus.holds_many(uri)]):
        for line in lines_of[item.uri]:
            yield replace(item, **{name: line[name] for name in _KEPT if name in line})
    for uri, lines in lines_of.items():
        if corpus.holds_many(uri):
            yield from _whole(uri, lines[0], label_from, exclude_dirs)


def _whole(uri: str, line: Mapping[str, Any], label_from: str | None, exclude_dirs: Collection[str]) -> Iterator[Item]:
    prefix = f"{line['id']}/" if corpus.is_folder(uri) and line["id"] != "." else ""
    source = line.get("source")
    try:
        for item in corpus.read(uri, label_from=label_from, exclude_dirs=exclude_dirs):
            item_id = line["id"] if item.uri == uri else f"{prefix}{item.id}"
            yield replace(item, id=item_id, source=source or item.source)
    except SpyglassError as error:
        yield Item(id=line["id"], uri=uri, source=source or Path(uri).stem, problem=str(error))
