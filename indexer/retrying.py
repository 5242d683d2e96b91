"""Pictures that could not be read by an earlier run, read again from where they lie."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from indexer.item import Item
from indexer.reread import read_again


def failed(lines: Sequence[Mapping[str, str]]) -> Iterator[Item]:
    """The pictures that the `lines` of `failures.jsonl` speak of, under the ids that they were to have."""
    ids_of: dict[str, list[str]] = {}
    for line in lines:
        ids_of.setdefault(line["uri"], []).append(line["id"])
    for item in read_again(ids_of):
        for image_id in ids_of[item.uri]:
            yield replace(item, id=image_id)
