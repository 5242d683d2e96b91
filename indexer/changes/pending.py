"""What a run of adding has found out and not committed yet."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indexer.changes.known_rows import KnownRows
from indexer.sources.decoding import Outcome
from indexer.sources.item import Item

if TYPE_CHECKING:
    from retrieval.tokens import Tokens


class Addition(NamedTuple):
    """A picture that gets a row, and the ids whose rows make way for it: its own, or that of a renamed file."""

    item: Item
    outcome: Outcome
    replaces: tuple[str, ...] = ()

    def without_pixels(self) -> "Addition":
        """The same, to be kept until it is committed: the pixels of thousands would fill the memory."""
        return self._replace(outcome=replace(self.outcome, pixels=None))


class Encoded(NamedTuple):
    """A batch of N additions with their dims (N,), buckets (N,), vectors (N, D), and tokens, if there are to be any."""

    additions: list[Addition]
    dims: np.ndarray
    buckets: np.ndarray
    vectors: np.ndarray
    tokens: "Tokens | None"


class Ready(NamedTuple):
    """What can be committed: batches, further names of the pictures in these, names of pictures of the index, and ids
    that are to go.
    """

    encoded: tuple[Encoded, ...]
    names_of_encoded: tuple[Addition, ...]
    names_of_known: tuple[Addition, ...]
    gone: tuple[str, ...]

    @property
    def dropped(self) -> list[str]:
        """All ids whose rows are to be deleted."""
        batches = (addition for batch in self.encoded for addition in batch.additions)
        return [*_replaced([*batches, *self.names_of_encoded, *self.names_of_known]), *self.gone]


class Pending:
    """Pictures on their way into the index: a `batch` that waits for the model, and what waits to be committed."""

    def __init__(self):
        self.batch: list[Addition] = []
        self._encoded: list[Encoded] = []
        self._names: list[Addition] = []
        self._gone: list[str] = []
        self._sha256s: set[str] = set()
        self._leaving: set[str] = set()

    def __len__(self) -> int:
        """How many pictures wait to be committed."""
        return sum(len(encoded.additions) for encoded in self._encoded) + len(self._names) + len(self._gone)

    def has(self, sha256: str) -> bool:
        """Whether a picture of these bytes is on its way."""
        return sha256 in self._sha256s

    def drops(self, image_id: str) -> bool:
        """Whether the row that the index has under an id is to be deleted."""
        return image_id in self._leaving

    def to_encode(self, addition: Addition) -> None:
        """Take a picture that the model has to see."""
        self._leaving.update(addition.replaces)
        self._sha256s.add(addition.outcome.sha256)
        self.batch.append(addition)

    def name(self, addition: Addition) -> None:
        """Take a picture whose bytes the index has, or which are on their way."""
        self._leaving.update(addition.replaces)
        self._names.append(addition)

    def drop(self, ids: Iterable[str]) -> None:
        """Take ids that are to be deleted."""
        new = [*ids]
        self._leaving.update(new)
        self._gone += new

    def encoded(self, encoded: Encoded) -> None:
        """Say that the whole batch was encoded."""
        # In this order: Ctrl-C may come between the two, and nothing is encoded after it.
        self._encoded.append(encoded)
        self.batch = []

    def ready(self, known: KnownRows) -> Ready | None:
        """What can be committed, None where nothing can: a name of a picture in the batch has to wait for that."""
        encoded = {addition.outcome.sha256 for batch in self._encoded for addition in batch.additions}
        of_encoded, of_known = [], []
        for addition in self._names:
            if addition.outcome.sha256 in encoded:
                of_encoded.append(addition)
            elif known.place_of(addition.outcome.sha256) is not None:
                of_known.append(addition)
        ready = Ready(*map(tuple, (self._encoded, of_encoded, of_known, self._gone)))
        return ready if any(ready) else None

    def committed(self, ready: Ready) -> None:
        """Forget what was committed."""
        done = {id(addition) for addition in (*ready.names_of_encoded, *ready.names_of_known)}
        self._encoded, self._gone = [], []
        self._names = [addition for addition in self._names if id(addition) not in done]
        self._sha256s = {addition.outcome.sha256 for addition in self.batch}
        self._leaving = {*_replaced([*self.batch, *self._names])}


def _replaced(additions: Iterable[Addition]) -> list[str]:
    return [image_id for addition in additions for image_id in addition.replaces]
