"""Pictures of an index, read again from where they came."""

from collections.abc import Collection, Iterator
from pathlib import Path

from indexer import corpus
from indexer.item import Item
from indexer.urls import is_url
from retrieval.errors import SpyglassError


def read_again(uris: Collection[str]) -> Iterator[Item]:
    """A picture for each uri, with that as its id; one with a `problem` where nothing is left of it.

    They come in the order of `uris`, save that those of one table or archive come together, in its own order: it is
    read but once, from its start.
    """
    inside: dict[str, set[str]] = {}
    for uri in uris:
        home = corpus.container(uri)
        if home != uri:
            inside.setdefault(home, set()).add(uri)
    for uri in uris:
        home = corpus.container(uri)
        if home == uri:
            yield _file(uri)
        elif home in inside:
            yield from _from_container(home, inside.pop(home))


def _file(uri: str) -> Item:
    path = None if is_url(uri) else Path(uri)
    return Item(id=uri, uri=uri, source="remote" if path is None else path.stem, path=path)


def _from_container(home: str, wanted: set[str]) -> Iterator[Item]:
    problem = f"expected it in {home}, found it there no more"
    try:
        for item in corpus.read(home):
            if item.uri in wanted:
                wanted.remove(item.uri)
                yield item
            if not wanted:
                return
    except SpyglassError as error:
        problem = str(error)
    for uri in sorted(wanted):
        yield Item(id=uri, uri=uri, source=Path(home).stem, problem=problem)
