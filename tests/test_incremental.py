"""An index that is kept up with its sources, whatever becomes of them, answers as one built anew of the same files."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from toy import ToyEmbedder, png

from indexer import Hit, Index
from indexer.changes import tiers

PICTURES = [png(seed) for seed in range(6)]
ANCHOR, QUERIES = png(100), [*PICTURES, png(101)]
FILES = ["a.png", "b.png", "z.png", "sub/a.png", "sub/c.jpg"]
ROWS = ["row-1", "row-2", "row-3"]

files, rows, pictures = st.sampled_from(FILES), st.sampled_from(ROWS), st.integers(0, len(PICTURES) - 1)
labels = st.sampled_from([None, "cat", "dog"])
changes = st.one_of(
    st.tuples(st.just("write"), files, pictures),
    st.tuples(st.just("copy"), files, st.integers(0, 5)),
    st.tuples(st.just("rename"), files, files),
    st.tuples(st.just("delete"), files),
    st.tuples(st.just("row"), rows, pictures, labels, st.integers(0, 2)),
    st.tuples(st.just("relabel"), rows, labels),
    st.tuples(st.just("take out"), rows),
)


class SteadyToy(ToyEmbedder):
    """A toy whose vectors do not depend, in their last bit, on what else is in the batch."""

    def encode_pixels(self, pixels, **options):
        alone = [super(SteadyToy, self).encode_pixels(one[None], **options) for one in pixels]
        fields = ("vectors", "full", "dims", "attention")
        return SimpleNamespace(
            **{name: np.concatenate([getattr(one, name) for one in alone]) for name in fields},
            tokens=None,
            token_places=None,
        )


class Sources(NamedTuple):
    """What lies on disk: pictures by file name, and the rows of a table, each a picture, a label and a price."""

    files: dict[str, bytes]
    rows: dict[str, tuple[bytes, str | None, int]]

    def copy(self) -> "Sources":
        return Sources(dict(self.files), dict(self.rows))


def write_table(folder: Path, sources: Sources) -> Path:
    cells = [*zip(*sources.rows.values(), strict=True)]
    table = pa.table(
        {
            "id": pa.array([*sources.rows], pa.string()),
            "image": pa.array(cells[0], pa.binary()),
            "label": pa.array(cells[1], pa.string()),
            "price": pa.array(cells[2], pa.int64()),
        }
    )
    pq.write_table(table, folder / "shop.parquet")
    return folder / "shop.parquet"


def add(index: Index, folder: Path, **options) -> None:
    index.add(folder / "photos", num_workers=0, label_from="parent", **options)
    index.add(folder / "shop.parquet", num_workers=0, **options)


def answers(index: Index, **options) -> list:
    """Everything that is said of the pictures that are there; of hits that score alike the order is left out."""
    found = index.search_many(QUERIES, top_k=100, rerank=0, **options)
    return [sorted(map(told_of, hits)) for hits in found]


def told_of(hit: Hit) -> tuple[str, ...]:
    # A column that only rows of other sources have, or had, is None.
    columns = {name: value for name, value in hit.columns.items() if value is not None}
    told = (hit.score, hit.id, hit.names, hit.label, columns, hit.dim, hit.similarity)
    return tuple(map(str, told))


class KeptUp(RuleBasedStateMachine):
    """`expected` is what the index has to hold, None while nobody has said what becomes of what has vanished."""

    @initialize()
    def begin(self):
        self.home = Path(tempfile.mkdtemp())
        self.sources = Sources({}, {"row-0": (ANCHOR, None, 0)})
        self.write("m.png", ANCHOR)
        for name, picture in (("a.png", 0), ("b.png", 0), ("sub/a.png", 1)):
            self.write(name, PICTURES[picture])
        self.sources.rows.update({"row-1": (PICTURES[1], "cat", 1), "row-2": (PICTURES[4], None, 0)})
        write_table(self.home, self.sources)
        self.index = Index.create(self.home / "p.index", SteadyToy(), dtype="float32", token_bytes=0)
        self.expected: Sources | None = Sources({}, {})
        self.expected_at = {self.index.version: self.expected}
        self.is_checked = True

    def write(self, name: str, picture: bytes) -> None:
        path = self.home / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        self.sources.files[name] = picture

    def note(self, expected: Sources | None) -> None:
        """The index was changed, to hold this."""
        self.expected = self.expected_at[self.index.version] = expected
        self.is_checked = False

    def change(self, what: str, *details) -> None:
        """One change of the sources; what makes no sense as they are now is none."""
        files, rows = self.sources
        match what, *details:
            case "write", name, picture:
                self.write(name, PICTURES[picture])
            case "copy", name, number:
                self.write(name, files[sorted(files)[number % len(files)]])
            case "rename", old, new if old in files and new != old:
                (self.home / "photos" / old).unlink()
                self.write(new, files.pop(old))
            case "delete", name if name in files:
                (self.home / "photos" / name).unlink()
                del files[name]
            case "row", name, picture, label, price:
                rows[name] = (PICTURES[picture], label, price)
            case "relabel", name, label if name in rows:
                rows[name] = (rows[name][0], label, rows[name][2])
            case "take out", name:
                rows.pop(name, None)
        write_table(self.home, self.sources)

    @rule(
        early=st.none() | st.lists(changes, max_size=3),
        late=st.lists(changes, max_size=4),
        batch_size=st.sampled_from([1, 3, 64]),
        commit_seconds=st.sampled_from([0, 1000]),
    )
    def changed_and_indexed(self, early, late, batch_size, commit_seconds):
        """Some runs before the last one may not have pruned."""
        options = {"batch_size": batch_size, "commit_seconds": commit_seconds}
        if early is not None:
            for one in early:
                self.change(*one)
            add(self.index, self.home, **options)
        for one in late:
            self.change(*one)
        add(self.index, self.home, prune=True, **options)
        self.note(self.sources.copy())

    @rule(data=st.data())
    def removed(self, data):
        if self.expected is not None and (ids := sorted([*self.expected.files, *self.expected.rows])):
            gone = data.draw(st.sets(st.sampled_from(ids), min_size=1, max_size=3))
            assert self.index.remove(gone) == len(gone)
            kept = [{name: value for name, value in part.items() if name not in gone} for part in self.expected]
            self.note(Sources(*kept))

    @rule(keep_snapshots=st.integers(0, 2))
    def compacted(self, keep_snapshots):
        self.index.compact(keep_snapshots=keep_snapshots)
        self.note(self.expected)

    @rule(data=st.data())
    def restored(self, data):
        versions = [snapshot.version for snapshot in self.index.snapshots() if snapshot.is_whole]
        version = data.draw(st.sampled_from(versions))
        self.index.restore(version)
        # Between two sources it is not said what there has to be.
        self.note(self.expected_at.get(version))

    @rule()
    def opened_again(self):
        self.index = Index.open(self.index.path, SteadyToy())

    @invariant()
    def answers_as_one_that_is_built_anew(self):
        if self.is_checked or self.expected is None:
            return
        self.is_checked = True
        fresh_home = Path(tempfile.mkdtemp(dir=self.home))
        fresh = Index.create(fresh_home / "p.index", SteadyToy(), dtype="float32", token_bytes=0)
        (fresh_home / "photos").mkdir()
        for name, picture in self.expected.files.items():
            path = fresh_home / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        fresh.add(fresh_home / "photos", num_workers=0, label_from="parent")
        if self.expected.rows:
            fresh.add(write_table(fresh_home, self.expected), num_workers=0)
        assert answers(self.index) == answers(fresh)
        if self.expected.rows:
            for condition in ("label = 'cat'", "price > 0", "id LIKE '%a%'"):
                assert answers(self.index, where=condition) == answers(fresh, where=condition)
        assert self.index.info()["duplicates"] == fresh.info()["duplicates"]
        shutil.rmtree(fresh_home)

    def teardown(self):
        if hasattr(self, "index"):
            assert self.index.verify() == []
            shutil.rmtree(self.home)


@pytest.fixture(autouse=True, scope="module")
def tidied_often():
    """Segments are put together in the middle of runs too."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(tiers, "MANY", 3)
        patches.setattr(tiers, "_SMALL", (3, 9, 27))
        yield


TestKeptUp = pytest.mark.slow(KeptUp.TestCase)
TestKeptUp.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
