"""What an index holds, for those who change it: its live rows by their ids, and by the bytes of their pictures."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from indexer import segments
from indexer.catalog import LISTED_IN
from indexer.segments import Place
from indexer.storage.manifest import Manifest


class Known(NamedTuple):
    """What the index holds under an id; `listed_in` as in `indexer.sources.item.Item`."""

    uri: str
    sha256: str
    place: Place
    listed_in: str | None = None


class KnownRows:
    """The live rows of an index by id, and where the bytes of a picture can be had as a vector."""

    def __init__(self, by_id: Mapping[str, Known]):
        self.by_id: dict[str, Known] = {}
        self._ids_of: dict[str, list[str]] = {}  # also those that were dropped
        self._num_of: Counter[str] = Counter()
        self._place_of: dict[str, Place] = {}
        for image_id, known in by_id.items():
            self.put(image_id, known)

    def put(self, image_id: str, known: Known) -> None:
        """Take in a row that was added."""
        self.drop(image_id)
        self.by_id[image_id] = known
        self._ids_of.setdefault(known.sha256, []).append(image_id)
        self._num_of[known.sha256] += 1
        self._place_of.setdefault(known.sha256, known.place)

    def drop(self, image_id: str) -> None:
        """Leave out a row that was deleted; an id that is not there is passed over."""
        known = self.by_id.pop(image_id, None)
        if known is not None:
            self._num_of[known.sha256] -= 1
            if not self._num_of[known.sha256]:
                del self._num_of[known.sha256]

    def ids_of(self, sha256: str) -> list[str]:
        """All ids of one picture."""
        ids = dict.fromkeys(self._ids_of.get(sha256, ()))
        return [image_id for image_id in ids if image_id in self.by_id and self.by_id[image_id].sha256 == sha256]

    def place_of(self, sha256: str) -> Place | None:
        """A row with the vector of a picture, deleted meanwhile or not: its files stay while the index is locked."""
        return self._place_of.get(sha256)

    def num_duplicates(self, dropped: Iterable[str], added_sha256s: Iterable[str]) -> int:
        """How many rows are further names of a picture, once some ids are dropped and then some pictures added."""
        change = Counter(added_sha256s)
        change.subtract(self.by_id[image_id].sha256 for image_id in dropped)
        num_pictures = len(self._num_of)
        for sha256, num in change.items():
            num_before = self._num_of[sha256]
            num_pictures += (num_before + num > 0) - (num_before > 0)
        return len(self.by_id) + change.total() - num_pictures


def read(folder: Path, state: Manifest) -> KnownRows:
    """The live rows of an index; raises `DamagedError`."""
    by_id = {}
    for segment in segments.read(folder, state):
        names = ["id", "uri", "sha256", "dim", "bucket"]
        names += [LISTED_IN] if LISTED_IN in segment.schema().names else []
        table = segment.table(names)
        rows = zip(segment.live().tolist(), *(table[name].to_pylist() for name in names), strict=True)
        for number, (live, image_id, uri, sha256, dim, bucket, *listed_in) in enumerate(rows):
            if live:
                place = Place(segment=segment.record.id, row=number, dim=dim, bucket=bucket)
                by_id[image_id] = Known(uri, sha256, place, *listed_in)
    return KnownRows(by_id)
