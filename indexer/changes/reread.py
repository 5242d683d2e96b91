"""Pictures of an index, read again from where they came."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from indexer import corpus
from indexer.sources.decoding import Outcome, Task, decode_all
from indexer.sources.encode_config import EncodeConfig
from indexer.sources.item import Item
from indexer.sources.urls import is_url
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


def decode_again(
    rows_of: Mapping[str, Sequence[Any]], image_size: int, config: EncodeConfig
) -> Iterator[tuple[Item, Outcome]]:
    """The picture at each uri, read again and decoded; `rows_of` are the rows that show it, as progress counts them."""
    decoded = decode_all(
        (Task(item=item) for item in read_again(rows_of)),
        image_size,
        num_workers=config.num_processes,
        num_ahead=2 * config.batch_size,
    )
    num_rows = sum(map(len, rows_of.values()))
    with closing(decoded), tqdm(total=num_rows, unit=" images", disable=not config.show_progress_bar) as progress_bar:
        for item, outcome in decoded:
            yield item, outcome
            progress_bar.update(len(rows_of[item.uri]))


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
