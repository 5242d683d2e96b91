"""An index of a million vectors of mixed lengths, through the real segments: build, bytes, opening, memory, search.

    python tests/benchmarks/million.py --out data/benchmarks/million.json

The vectors are made by `synthetic.py` beside this. Opening and searching happen in a process of their own, whose memory
is told as what is its own (anonymous) and what is mapped from files, which the system may drop at any time. The search
is `Index.search` without the model: a query's vector in, ten hits with their catalog rows out. Beside it, one exact
512-wide FAISS index of the same vectors as float32, at the best of its settings of threads and BLAS.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from synthetic import NoModel, Synthetic, picture, row

NUM_QUERIES = 300
NUM_BASELINE = 20
THRESHOLDS = (1, 4_000, 2**31 - 1)
COMMAND = "python tests/benchmarks/million.py --out data/benchmarks/million.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(opened(options.open, options.num)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "million.index"
        facts = {
            "command": COMMAND,
            "num": options.num,
            "data": "tests/benchmarks/synthetic.py",
            "cpus": os.cpu_count(),
        }
        facts |= built(folder, options.num)
        print(json.dumps(facts), file=sys.stderr, flush=True)
        child = [sys.executable, __file__, "--num", str(options.num), "--open", str(folder)]
        reply = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout)
        scores, ids = baseline(folder, options.num, facts)
    found = reply.pop("ids"), reply.pop("approximate_scores")
    facts |= reply
    facts["recall_at_10"] = round(
        float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(ids, found[0], strict=True)])), 4
    )
    same = [(a, b) for a, b in zip(scores[:, 0].tolist(), (row[0] for row in found[1]), strict=True)]
    facts["largest_difference_of_a_best_score"] = float(f"{max(abs(a - b) for a, b in same):.2g}")
    facts["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(facts, indent=2))
    if options.out:
        options.out.write_text(json.dumps(facts, indent=2) + "\n")


def built(folder: Path, num: int) -> dict:
    from indexer import Index
    from indexer.buckets import width_of
    from indexer.catalog import table_of
    from indexer.changes.row_blocks import RowBlock
    from indexer.changes.segment_writer import SegmentWriter
    from indexer.storage import manifest
    from indexer.vectors import approximating

    Index.create(folder, NoModel())
    state = manifest.read(folder)
    schema = table_of([row(0, 32, 32)]).schema
    times = {"make_s": 0.0, "write_s": 0.0}
    started, first = time.perf_counter(), 0
    with SegmentWriter(folder, "000001-synthetic", schema, dtype=state.dtype) as writer:
        for vectors, dims in Synthetic(num).blocks():
            times["make_s"] += time.perf_counter() - started
            started = time.perf_counter()
            buckets = width_of(dims)
            facts = zip(range(first, first + len(dims)), dims.tolist(), buckets.tolist(), strict=True)
            table = table_of([row(*fact) for fact in facts])
            rows = {width: vectors[buckets == width, :width] for width in state.widths}
            writer.add(RowBlock(table, rows, np.zeros(len(dims), np.uint8), None))
            first += len(dims)
            times["write_s"] += time.perf_counter() - started
            started = time.perf_counter()
        record = writer.finish()
    times["write_s"] += time.perf_counter() - started
    started, processor = time.perf_counter(), time.process_time()
    record = approximating.build(folder, record, dtype=state.dtype, index_type="auto")
    times |= {"index_s": time.perf_counter() - started, "index_processor_s": time.process_time() - processor}
    manifest.publish(folder, state.following("add", segments=(record,)))
    bytes_of = {"vectors": 0, "approximate": 0, "catalog": 0}
    for name, file in record.files.items():
        bytes_of["vectors" if ".npy" in name else "approximate" if ".faiss" in name else "catalog"] += file.size
    return {
        "buckets": record.rows.buckets,
        "mean_dim": round(record.rows.sum_dims / num, 1),
        "build": {name: round(value, 1) for name, value in times.items()},
        "bytes_a_vector": {name: round(value / num, 1) for name, value in bytes_of.items()},
        "approximations": {
            width: {
                "type": known.index_type,
                **known.settings,
                "depth": known.depth,
                "recall_at_10": known.recall_at_10,
            }
            for width, known in record.approximations.items()
        },
    }


def opened(folder: Path, num: int) -> dict:
    """In a fresh process: what opening, the first query and the others cost, and what they found."""
    import pandas  # noqa: F401  (importing is no part of opening, and Arrow imports it)

    import indexer.searching.searcher  # noqa: F401
    from indexer import Index

    queries = Synthetic(num).queries(NUM_QUERIES)
    pictures = [picture(query) for query in queries]
    before, started, used = memory(), time.perf_counter(), time.process_time()
    index = Index.open(folder, NoModel())
    gallery = index._open_gallery()
    open_ms, open_processor_ms = 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - used)
    after_opening = memory()
    started = time.perf_counter()
    index.search(pictures[0], rerank=0)
    first_ms = 1000 * (time.perf_counter() - started)
    times, processor, ids, scores = [], [], [], []
    for asked in pictures:
        started, used = time.perf_counter(), time.process_time()
        hits = index.search(asked, rerank=0)
        times.append(1000 * (time.perf_counter() - started))
        processor.append(1000 * (time.process_time() - used))
        ids.append([int(hit.id[-11:-4]) for hit in hits])
        scores.append([hit.score for hit in hits])
    vectors_alone = []
    for query in queries:
        used = time.process_time()
        gallery.buckets.search(query[None], 10)
        vectors_alone.append(1000 * (time.process_time() - used))
    return {
        "open_ms": round(open_ms, 1),
        "open_processor_ms": round(open_processor_ms, 1),
        "first_query_ms": round(first_ms, 1),
        "memory_mb": {
            "before_opening": before,
            "after_opening": after_opening,
            "after_queries": memory(),
        },
        "query_ms": {"p50": percentile(times, 50), "p99": percentile(times, 99)},
        "query_processor_ms": {"p50": percentile(processor, 50), "p99": percentile(processor, 99)},
        "without_hits_processor_ms": {"p50": percentile(vectors_alone, 50), "p99": percentile(vectors_alone, 99)},
        "ids": ids,
        "approximate_scores": scores,
    }


def baseline(folder: Path, num: int, facts: dict) -> tuple[np.ndarray, np.ndarray]:
    """Scores and ids of one exact 512-wide index of the stored vectors, whose times go into `facts`."""
    import faiss

    from indexer import Index

    gallery = Index.open(folder, NoModel())._open_gallery()
    whole = faiss.IndexFlatIP(512)
    for start in range(0, num, 50_000):
        whole.add(gallery.vectors(np.arange(start, min(num, start + 50_000))))
    queries = Synthetic(num).queries(NUM_QUERIES)
    times = {}
    for threads, threshold in itertools.product((1, os.cpu_count() or 1), THRESHOLDS):
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = threshold
        one = []
        for query in queries[:NUM_BASELINE]:
            started = time.perf_counter()
            whole.search(query[None], 10)
            one.append(1000 * (time.perf_counter() - started))
        times[f"{threads} threads, BLAS from {threshold:,}"] = one
    best = min(times, key=lambda name: np.median(times[name]))
    facts["one_exact_512_wide"] = {
        "best_setting": best,
        "query_ms": {"p50": percentile(times[best], 50), "p99": percentile(times[best], 99)},
        "p50_of_all_settings": {name: percentile(one, 50) for name, one in times.items()},
        "bytes_a_vector": 2048,
    }
    faiss.cvar.distance_compute_blas_threshold = 1
    return whole.search(queries, 10)


def memory() -> dict[str, int]:
    """Resident megabytes of this process: its own, and those mapped from files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) // 1024 for name, key in (("own", "RssAnon"), ("mapped", "RssFile"))}


def percentile(values: list[float], share: int) -> float:
    return round(float(np.percentile(values, share)), 2)


if __name__ == "__main__":
    main()
