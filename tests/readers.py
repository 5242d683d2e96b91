"""Readers that search an index without pause, each in its own process, while another one changes it in every way.

Meant for a process of its own, as `faults`.
"""

import json
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import forked
import numpy as np
from index_state import DEPTH, brute_force, rows_of
from toy import ToyEmbedder, pixels_of, png, write_pngs

from indexer import Index

NUM_READERS = 8
_QUERIES = range(1000, 1003)

Hits = list[list[tuple[str, float]]]
"""Of each query its hits: ids and scores."""


@dataclass(kw_only=True)
class Report:
    """How many answers the readers were given, of how many states, while how many changes of each kind were made."""

    num_answers: int = 0
    num_states_seen: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(folder: Path, seconds: float) -> Report:
    """Write and read for so long, in the empty folder `folder`; every answer must be that of a published state."""
    forked.be_one_thread()
    index = Index.create(folder / "p.index", _embedder())
    index.add(write_pngs(folder / "pictures", range(40)), num_workers=0)
    index.search(png(0))  # what a search imports need not be imported eight times
    until = time.monotonic() + seconds
    said = [folder / f"reader-{number}.json" for number in range(NUM_READERS)]
    children = [_fork_reader(index.path, path, until, seed) for seed, path in enumerate(said)]
    report = Report()
    published = {index.version: _expected(index.path, index.version)}
    for change in _changes(index, folder / "pictures"):
        report.changes[change] += 1
        for version in range(max(published) + 1, index.version + 1):
            published[version] = _expected(index.path, version)
        if time.monotonic() > until:
            break
    for child in children:
        os.waitpid(child, 0)
    seen = set()
    for path in said:
        reader = json.loads(path.read_text())
        report.num_answers += len(reader["answers"])
        report.problems += reader["errors"]
        for version, hits in reader["answers"]:
            seen.add(version)
            if version not in published or not _agree(hits, published[version]):
                report.problems.append(f"expected the hits of state {version}, got others: {hits}")
    report.num_states_seen = len(seen)
    report.problems += index.verify()
    return report


def _changes(index: Index, pictures: Path) -> Iterator[str]:
    """Change the index again and again, and say how."""
    rng = random.Random(0)
    number = 100
    while True:
        ids = sorted(index.catalog()["id"])
        change = rng.choice(("add", "add", "update", "remove", "compact", "compact", "restore"))
        if change == "add":
            write_pngs(pictures, range(number, number := number + rng.randint(1, 6)))
            index.add(pictures, num_workers=0, batch_size=2, commit_seconds=0.0)
        elif change == "update" and ids:
            (pictures / rng.choice(ids)).write_bytes(png(number))
            number += 1  # no picture twice: copies would be one hit
            index.add(pictures, num_workers=0)
        elif change == "remove" and len(ids) > 10:
            gone = rng.sample(ids, 5)
            index.remove(gone)
            for name in gone:
                (pictures / name).unlink(missing_ok=True)  # a restored one is there no more
        elif change == "compact":
            index.compact(keep_snapshots=rng.choice((0, 0, 2)))
        elif change == "restore":
            index.restore(rng.choice([snapshot.version for snapshot in index.snapshots()]))
        else:
            continue
        yield change


def _fork_reader(path: Path, said: Path, until: float, seed: int) -> int:
    child = os.fork()
    if not child:
        answers, errors = [], []
        try:
            for version, hits in _read(path, until, random.Random(seed)):
                answers.append((version, hits))
        except Exception:
            errors.append(traceback.format_exc())
        said.write_text(json.dumps({"answers": answers, "errors": errors}))
        os._exit(0)
    return child


def _read(path: Path, until: float, rng: random.Random) -> Iterator[tuple[int, Hits]]:
    """The state and the hits of one search after the other, on a state that is kept for a while or opened anew."""
    queries = [png(seed) for seed in _QUERIES]
    index = Index.open(path, _embedder())
    while time.monotonic() < until:
        chance = rng.random()
        if chance < 0.3:
            index = index.newer() or index
        elif chance < 0.5:
            index = Index.open(path, _embedder())
        answers = index.search_many(queries, top_k=DEPTH, where="dim > 0" if chance < 0.1 else None)
        yield index.version, [[(hit.id, hit.score) for hit in answer] for answer in answers]


def _expected(path: Path, version: int) -> Hits:
    full = _embedder().encode_pixels(np.stack([pixels_of(seed)[::2, ::2] for seed in _QUERIES])).full
    rows = rows_of(path, version)
    return [brute_force(rows, vector) for vector in full]


def _agree(hits: Hits, expected: Hits) -> bool:
    for mine, its in zip(hits, expected, strict=True):
        if [image_id for image_id, _ in mine] != [image_id for image_id, _ in its]:
            return False
        if not np.allclose([score for _, score in mine], [score for _, score in its], atol=1e-5):
            return False
    return True


def _embedder() -> ToyEmbedder:
    return ToyEmbedder(token_dim=0)
