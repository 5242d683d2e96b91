"""Opening and searching an index of 200 small segments, beside the same images in one segment, and in tidied ones.

    python tests/benchmarks/many_segments.py --out data/benchmarks/many-segments.json

A run opens the index anew and answers one query, as `Index.search` does, but for the model: its vector is given.
"fresh" is a whole process, its start and imports, "warm" one that has done so before, as a server does when its index
grows. `many_additions` is an index that was added to as often, which tidies it. Medians of alternating runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthetic import NoModel, Synthetic, picture, row

from indexer import Index, segments
from indexer.buckets import width_of
from indexer.changes import tiers
from indexer.storage import manifest

NUM_SEGMENTS, NUM_ROWS = 200, 32
NUM_FRESH, NUM_WARM = 5, 25
COMMAND = "python tests/benchmarks/many_segments.py --out data/benchmarks/many-segments.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        run(options.open)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            "one_segment": made(Path(scratch) / "one", 1, NUM_SEGMENTS * NUM_ROWS),
            "many_segments": made(Path(scratch) / "many", NUM_SEGMENTS, NUM_ROWS),
            "many_additions": made(Path(scratch) / "tidied", NUM_SEGMENTS, NUM_ROWS, tidies=True),
        }
        found = {name: run(folder) for name, folder in folders.items()}
        assert len({json.dumps(hits) for hits in found.values()}) == 1, found
        fresh, warm = ({name: [] for name in folders} for _ in range(2))
        for _ in range(NUM_FRESH):
            for name, folder in folders.items():
                fresh[name].append(timed_process(folder))
        for _ in range(NUM_WARM):
            for name, folder in folders.items():
                warm[name].append(timed(folder))
        facts = {
            "command": COMMAND,
            "cpus": os.cpu_count(),
            "images": NUM_SEGMENTS * NUM_ROWS,
            "segments": {name: len(manifest.read(folder).segments) for name, folder in folders.items()},
            "fresh_ms": medians(fresh),
            "warm_ms": medians(warm),
            "load_average": round(os.getloadavg()[0], 1),
        }
    print(json.dumps(facts, indent=2))
    if options.out:
        options.out.write_text(json.dumps(facts, indent=2) + "\n")


def made(folder: Path, num_segments: int, num_rows: int, *, tidies: bool = False) -> Path:
    Index.create(folder, NoModel())
    ((vectors, dims),) = Synthetic(num_segments * num_rows).blocks(num_segments * num_rows)
    for first in range(0, len(dims), num_rows):
        state, some = manifest.read(folder), slice(first, first + num_rows)
        buckets = width_of(dims[some]).tolist()
        facts = zip(range(first, first + num_rows), dims[some].tolist(), buckets, strict=True)
        rows = [row(*fact) for fact in facts]
        record = segments.write(folder, f"{state.version + 1:06d}-synthetic", rows, vectors[some], state.dtype)
        state = state.following("add", segments=(*state.segments, record))
        manifest.publish(folder, tiers.tidied(folder, state) if tidies else state)
    return folder


def run(folder: Path) -> list[tuple[str, float]]:
    index = Index.open(folder, NoModel())
    hits = index.search(picture(Synthetic(NUM_SEGMENTS * NUM_ROWS).queries(1)[0]), rerank=0)
    return [(hit.id, hit.score) for hit in hits]


def timed(folder: Path) -> tuple[float, float]:
    query = picture(Synthetic(NUM_SEGMENTS * NUM_ROWS).queries(1)[0])
    started, used = time.perf_counter(), time.process_time()
    Index.open(folder, NoModel()).search(query, rerank=0)
    return time.perf_counter() - started, time.process_time() - used


def timed_process(folder: Path) -> tuple[float, float]:
    started, used = time.perf_counter(), os.times()
    subprocess.run([sys.executable, __file__, "--open", str(folder)], check=True)
    passed, now = time.perf_counter() - started, os.times()
    return passed, now.children_user - used.children_user + now.children_system - used.children_system


def medians(times: dict[str, list[tuple[float, float]]]) -> dict:
    """Milliseconds, and how many times those of one segment."""
    found = {
        name: dict(
            zip(
                ("passed", "processor"), (1000 * statistics.median(one) for one in zip(*runs, strict=True)), strict=True
            )
        )
        for name, runs in times.items()
    }
    one = found["one_segment"]
    return {
        name: {kind: round(value, 1) for kind, value in values.items()}
        | {f"{kind}_ratio": round(value / one[kind], 2) for kind, value in values.items()}
        for name, values in found.items()
    }


if __name__ == "__main__":
    main()
