"""Writes to an index on a disk that goes wrong at one call, for one call after the other: what is left each time.

Meant for a process of its own: it forks a child for each fault, so it must hold no thread but this one.
"""

import gc
import json
import logging
import os
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import forked
from faulty_disk import ERRORS, Fault, FaultyDisk, faults_of
from index_state import IndexState, embedder_of, state_of
from toy import ToyEmbedder, png, write_pngs

from indexer import Index, feedback
from indexer.changes import failures, tiers
from indexer.changes.failures import FAILURES
from indexer.storage import manifest
from indexer.vectors import approximating
from retrieval.errors import IndexFolderError


class Place(NamedTuple):
    """Where an operation works: the folder of the index, and that of the pictures."""

    index: Path
    pictures: Path


class Operation(NamedTuple):
    """A write to an index, what has to be done before, and whether it leaves no file that nothing names."""

    prepare: Callable[[Place], Any]
    run: Callable[[Place], Any]
    sweeps: bool = False


@dataclass(kw_only=True)
class Report:
    """The calls of an operation, how many faults were tried, how many different folders they left, rows lost in all of
    them, and whatever else was wrong."""

    calls: list[str]
    num_faults: int = 0
    num_left: int = 0
    num_rows_lost: int = 0
    problems: list[str] = field(default_factory=list)


def _open(place: Place) -> Index:
    return Index.open(place.index, embedder_of(place.index))


def _build(place: Place) -> None:
    """Two segments, a row of the first one replaced, two judgments; then the pictures change in every way there is."""
    photos = write_pngs(place.pictures, range(8))
    (photos / "broken.png").write_bytes(b"")
    _create(place)
    _add(place)
    (photos / "000.png").write_bytes(png(100))
    write_pngs(photos, range(8, 10))
    _add(place)
    _judge(place, day=1)
    _judge(place, day=2)
    (photos / "001.png").write_bytes(png(101))
    (photos / "002.png").rename(photos / "renamed.png")
    shutil.copy(photos / "003.png", photos / "duplicate.png")
    (photos / "004.png").write_bytes(b"no picture any more")
    (photos / "broken.png").write_bytes(png(102))
    (photos / "new.png").write_bytes(png(103))
    (photos / "broken too.png").write_bytes(b"")


def _take_pictures(place: Place) -> None:
    write_pngs(place.pictures, range(2))


def _create(place: Place) -> None:
    if not manifest.exists(place.index):
        Index.create(place.index, ToyEmbedder())


def _add(place: Place, **options: Any) -> None:
    _open(place).add(place.pictures, num_workers=0, **options)


def _remove(place: Place) -> None:
    index = _open(place)
    if ids := sorted({"000.png", "003.png", "009.png"} & set(index.catalog()["id"])):
        index.remove(ids)


def _encode_anew(place: Place) -> None:
    Index.open(place.index).reencode(ToyEmbedder(fingerprint="beef" * 16), drop_missing=True, num_workers=0)


def _approximate(place: Place) -> None:
    """With indices where there would be none for so few rows."""
    with patch.object(approximating, "type_for", lambda num_rows, *_: "HNSW4" if num_rows > 3 else None):
        _open(place).compact()


def _add_and_put_together(place: Place) -> None:
    """With three segments, which are as many as there would otherwise be after a year."""
    with patch.object(tiers, "MANY", 3), patch.object(tiers, "_SMALL", (9,)):
        _add(place)


def _build_two(place: Place) -> None:
    """With the file that another index was exported to, of which one picture is new and one is another."""
    _build(place)
    other = Place(place.index.with_name("other.index"), place.index.with_name("others"))
    write_pngs(other.pictures, range(40, 42))
    (other.pictures / "005.png").write_bytes(png(105))
    _create(other)
    _add(other)
    _open(other).export(place.pictures.with_name("other.parquet"))
    shutil.rmtree(other.index)


def _judge(place: Place, *, day: int) -> None:
    said = {"query": "005.png", "image": "006.png", "relevant": True, "when": f"2025-01-{day:02d}T12:00:00Z"}
    _open(place).record_feedback_rows([said])


OPERATIONS = {
    "create": Operation(_take_pictures, _create),
    "add": Operation(_build, _add),
    "add, committing often": Operation(_build, lambda place: _add(place, batch_size=2, commit_seconds=0.0)),
    "add and put together": Operation(_build, _add_and_put_together),
    "remove": Operation(_build, _remove),
    "remove by a condition": Operation(_build, lambda place: _open(place).remove(where="dim < 60 or id = '003.png'")),
    "compact": Operation(_build, lambda place: _open(place).compact(), sweeps=True),
    "compact, forgetting all": Operation(_build, lambda place: _open(place).compact(keep_snapshots=0), sweeps=True),
    "restore": Operation(_build, lambda place: _open(place).restore(1)),
    "tokens": Operation(_build, lambda place: _open(place).add_tokens(token_bytes=24, num_workers=0)),
    "add and prune": Operation(_build, lambda place: _add(place, prune=True)),
    "compact, approximating": Operation(_build, _approximate, sweeps=True),
    "encode anew": Operation(_build, _encode_anew),
    "import": Operation(_build_two, lambda place: _open(place).import_(place.pictures.with_name("other.parquet"))),
    "feedback": Operation(_build, lambda place: _judge(place, day=3)),
    "feedback, compacted": Operation(_build, lambda place: feedback.compact(place.index)),
}


CARELESS = Operation(_build, lambda place: _publish_carelessly(place.index))
"""What no write to an index may be like: the manifest, of fewer rows, is written where it lies, and not synced."""


def _publish_carelessly(index: Path) -> None:
    state = manifest.read(index)
    following = state.following(segments=state.segments[:1])
    for path in (index / "history" / f"{following.version:06d}.json", index / "manifest.json"):
        path.write_bytes(following.to_bytes())


def prepare(folder: Path) -> None:
    """Make what the operations start from, in the empty folder `folder`."""
    for build in {operation.prepare for operation in OPERATIONS.values()}:
        home = folder / build.__name__
        (home / "start").mkdir(parents=True)
        build(Place(home / "start" / "p.index", home / "pictures"))


def run(name: str, folder: Path, most: int | None = None) -> Report:
    """Try one of `OPERATIONS`, or "careless", with every fault or with `most`, in a folder that was prepared."""
    forked.be_one_thread()
    logging.disable()  # warnings of damage by the thousand
    gc.freeze()  # what is here already is not looked through, and so not copied, in each child
    trials = _Trials(OPERATIONS.get(name, CARELESS), folder, folder / f"disk of {name}")
    faults = faults_of(trials.calls)
    if most is not None and most < len(faults):
        faults = sorted(random.Random(name).sample(faults, most))
    report = Report(calls=trials.calls)
    for fault in faults:
        for problem in trials.problems(fault):
            call = [*trials.calls, "the end"][fault.number]
            report.problems.append(f"{name}: {fault.kind} at call {fault.number}, {call}: {problem}")
    report.num_faults, report.num_left = len(faults), trials.num_left
    report.num_rows_lost = trials.num_rows_lost
    return report


class _StoppedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime(2025, 1, 31, tzinfo=tz)


class _Outcome(NamedTuple):
    """How a child ended that was not killed: its calls, the error that it ended with, files that came otherwise."""

    calls: list[str]
    error: str | None = None
    is_ours: bool = True
    unseen: Sequence[str] = ()


class _Left(NamedTuple):
    """What is wrong with a folder that a fault has left, at once and after another run, and how many rows are lost."""

    problems: tuple[str, ...]
    num_rows_lost: int = 0


class _Trials:
    """One operation, over and over from the same start, with one fault each time.

    Ids and times are the same every time, and so are most of the folders that are left: each is looked at once.
    """

    def __init__(self, operation: Operation, folder: Path, disk: Path):
        self._run, self._sweeps = operation.run, operation.sweeps
        home = folder / operation.prepare.__name__
        self._start, self._disk = home / "start", disk
        self._place = Place(disk / "p.index", home / "pictures")
        self._queries = [path.read_bytes() for path in self._place.pictures.iterdir() if path.stat().st_size > 100]
        self._reset()
        before = self._state()
        outcome = self._fork(None)
        if outcome is None or outcome.error:
            raise AssertionError(f"expected success on a sound disk, got {outcome}")
        if outcome.unseen:
            raise AssertionError(f"expected to see how every file was written, got {outcome.unseen} unseen")
        self.calls = outcome.calls
        self._failures, self._num_files = self._failed_ids(), self._count_files()
        after = self._state()
        self._states = [before, *self._states_between(), after]
        self._left: dict[tuple, _Left] = {}
        self.num_rows_lost = 0

    @property
    def num_left(self) -> int:
        return len(self._left)

    def problems(self, fault: Fault) -> Iterator[str]:
        """Suffer a fault; say what is not as it should be, at once and after another run."""
        self._reset()
        outcome = self._fork(fault)
        if (outcome is None) != (fault.kind not in ERRORS):
            yield f"expected it to happen, got {outcome}"
        if outcome is not None and outcome.error:
            reason = os.strerror(ERRORS[fault.kind])
            if not outcome.is_ours or reason not in outcome.error or "\n" in outcome.error:
                yield f"expected an IndexFolderError of one line with {reason!r}, got {outcome.error}"
        is_done = fault.number == len(self.calls) or (outcome is not None and not outcome.error)
        what = (is_done, self._files())
        if what not in self._left:
            self._left[what] = self._look(is_done)
        left = self._left[what]
        self.num_rows_lost += left.num_rows_lost
        yield from left.problems

    def _look(self, is_done: bool) -> _Left:
        problems, num_rows_lost = [], 0
        try:
            state = self._state()
            num_rows_lost = self._num_lost(state)
            if state not in self._states:
                problems.append("expected a state that was published, got another")
            if is_done and state != self._states[-1]:
                problems.append("expected all to be done, as was said, got an earlier state")
            outcome = self._fork(None, seed=1)
            if outcome is None or outcome.error:
                problems.append(f"expected the next run to succeed, got {outcome}")
            if self._state() != self._states[-1] or self._failed_ids() != self._failures:
                problems.append("expected the next run to end as one on a sound disk, got another state")
            if self._sweeps and self._count_files() != self._num_files:
                found = self._count_files()
                problems.append(f"expected {self._num_files} files to be left by the next run, got {found}")
        except Exception as error:
            problems.append(f"expected a sound index, got {type(error).__name__}: {error}")
        return _Left(tuple(problems), num_rows_lost)

    def _reset(self) -> None:
        shutil.rmtree(self._disk, ignore_errors=True)
        shutil.copytree(self._start, self._disk)

    def _state(self) -> IndexState | None:
        """What the index holds, None where there is none; raises `AssertionError` for what `verify` finds."""
        if not manifest.exists(self._place.index):
            return None
        index = _open(self._place)
        problems = index.verify()
        assert not problems, problems
        broken = [snapshot for snapshot in index.snapshots() if not snapshot.is_whole]
        assert not broken, broken
        return state_of(self._place.index, self._queries)

    def _states_between(self) -> Iterator[IndexState]:
        """The states that were published by the operation before its last one."""
        if not manifest.exists(self._start / "p.index"):
            return
        first, last = (manifest.read(path / "p.index").version for path in (self._start, self._disk))
        for version in range(first + 1, last):
            shutil.copy(self._place.index / "history" / f"{version:06d}.json", self._place.index / "manifest.json")
            yield state_of(self._place.index, self._queries)

    def _num_lost(self, state: IndexState | None) -> int:
        always_there = set.intersection(*(set(state.rows) if state else set() for state in self._states))
        return len(always_there - set(state.rows if state else ()))

    def _files(self) -> frozenset[tuple[str, bytes | None]]:
        """All that is in the folder: names and contents, but for the ids of processes."""
        found = []
        for path in self._disk.rglob("*"):
            content = path.read_bytes() if path.is_file() else None
            is_lock = path == self._place.index / manifest.LOCK
            found.append((str(path), content and (b"" if is_lock else sha256(content).digest())))
        return frozenset(found)

    def _count_files(self) -> int:
        """How many there are, but for judgments that may be being written: those are left alone for an hour."""
        return sum(path.is_file() for path in self._place.index.rglob("*") if path.suffix != ".new")

    def _failed_ids(self) -> set[str]:
        path = self._place.index / FAILURES
        return {json.loads(line)["id"] for line in path.read_text().splitlines()} if path.exists() else set()

    def _fork(self, fault: Fault | None, seed: int = 0) -> _Outcome | None:
        """Run the operation in a child, with the ids that come of `seed`; None where it was killed."""
        ended = forked.call(lambda: self._suffer(fault, seed))
        assert ended.signal == signal.SIGKILL or isinstance(ended.value, list), ended
        return None if ended.signal else _Outcome(*ended.value)

    def _suffer(self, fault: Fault | None, seed: int) -> _Outcome:
        os.urandom = random.Random(seed).randbytes
        manifest.datetime = failures.datetime = _StoppedClock
        disk = FaultyDisk(self._disk, fault)
        disk.watch()
        try:
            self._run(self._place)
            disk.done()
        except IndexFolderError as error:
            return _Outcome(disk.calls, str(error))
        except Exception:
            return _Outcome(disk.calls, traceback.format_exc(limit=-6), False)
        return _Outcome(disk.calls, unseen=disk.unseen())
