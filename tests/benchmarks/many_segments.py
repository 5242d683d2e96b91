"""Opening and searching an index of 200 small segments, beside the same images in one segment, and in tidied ones.

    python tests/benchmarks/many_segments.py --out data/benchmarks/many-segments.json

Three ways to open an index anew and ask it once: `command`, a process of its own, as `spyglass search`; `python`, by
`Index.open` and `Index.search` in a process that has done so before, model and picture included; `without_model`, the
same with a query whose vector is given, as a server does that has its model and whose index grows. `many_additions` is
an index that was added to as often, which tidies it. Medians of alternating runs.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from synthetic import Synthetic, picture, row

from indexer import Index, segments
from indexer.buckets import width_of
from indexer.changes import tiers
from indexer.storage import manifest
from retrieval import Embedder

NUM_SEGMENTS, NUM_ROWS = 200, 32
NUM_RUNS = {"command": 5, "python": 9, "without_model": 25}
COMMAND = "python tests/benchmarks/many_segments.py --out data/benchmarks/many-segments.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            "one_segment": made(Path(scratch) / "one", embedder, 1, NUM_SEGMENTS * NUM_ROWS),
            "many_segments": made(Path(scratch) / "many", embedder, NUM_SEGMENTS, NUM_ROWS),
            "many_additions": made(Path(scratch) / "tidied", embedder, NUM_SEGMENTS, NUM_ROWS, tidies=True),
        }
        photo = Path(scratch) / "query.png"
        Image.effect_noise((96, 96), 60).convert("RGB").save(photo)
        query = replace(picture(Synthetic(NUM_SEGMENTS * NUM_ROWS).queries(1)[0]), model=embedder.fingerprint)
        ways = {
            "command": lambda folder: search_by_command(folder, photo),
            "python": lambda folder: found(Index.open(folder), photo),
            "without_model": lambda folder: found(Index.open(folder, embedder), query),
        }
        facts = {
            "command": COMMAND,
            "cpus": os.cpu_count(),
            "images": NUM_SEGMENTS * NUM_ROWS,
            "segments": {name: len(manifest.read(folder).segments) for name, folder in folders.items()},
        }
        for name, way in ways.items():
            hits = [way(folder) for folder in folders.values()]
            assert all(other == hits[0] for other in hits), hits
            times = {folder_name: [] for folder_name in folders}
            for _ in range(NUM_RUNS[name]):
                for folder_name, folder in folders.items():
                    times[folder_name].append(timed(lambda way=way, folder=folder: way(folder)))
            facts[f"{name}_ms"] = medians(times)
        facts["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(facts, indent=2))
    if options.out:
        options.out.write_text(json.dumps(facts, indent=2) + "\n")


def made(folder: Path, embedder: Embedder, num_segments: int, num_rows: int, *, tidies: bool = False) -> Path:
    Index.create(folder, embedder, token_bytes=0)
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


def found(index: Index, query) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in index.search(query, rerank=0)]


def search_by_command(folder: Path, photo: Path) -> list[str]:
    command = [sys.executable, "-m", "ui.cli", "search", str(photo), "--index", str(folder), "--json"]
    reply = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return [hit["id"] for hit in reply["hits"]]


def timed(way: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and seconds of the processor, those of processes that it ran among them."""
    started, used = time.perf_counter(), processor_seconds()
    way()
    return time.perf_counter() - started, processor_seconds() - used


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


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
