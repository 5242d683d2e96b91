"""Which approximate index suits a bucket of some width and size: the cheapest setting of each that finds 95 of 100.

    python tests/benchmarks/index_types.py --out data/benchmarks/index-types.json

One thread, one query at a time, in milliseconds of processor time (a busy machine then disturbs least). Each type's
candidates get exact scores from the rows, which the index folder holds anyway and which do not count as its bytes.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from synthetic import Synthetic

from indexer.vectors.row_pieces import RowPieces

NUM_QUERIES = 100
TOP_K = 10
RECALL = 0.95
WANTED = 26  # candidates that a search for ten asks a bucket for
SIZES = ((100_000, (64, 128, 256)), (300_000, (64, 128)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[num for num, _ in SIZES])
    options = parser.parse_args()

    faiss.omp_set_num_threads(1)
    results = []
    for num_rows, width in [(num, width) for num, widths in SIZES if num in options.sizes for width in widths]:
        data = Synthetic(num_rows)
        rows = data.rows(width).astype(np.float16)
        queries = data.queries(NUM_QUERIES)[:, :width].copy()
        pieces = RowPieces(width, np.dtype(np.float16))
        pieces.append(rows)
        (piece,) = pieces
        flat = piece.view
        truth, flat_ms = timed(lambda query, flat=flat: flat.search(query, WANTED)[1], queries)
        result = {"num_rows": num_rows, "width": width, "plain_scan_ms": flat_ms, "types": {}}
        for name in types(num_rows, width):
            result["types"][name] = measured(name, pieces, queries, truth)
        results.append(result)
        print(json.dumps(result), flush=True)
        if options.out:
            facts = {
                "command": "python tests/benchmarks/index_types.py --out data/benchmarks/index-types.json",
                "data": "tests/benchmarks/synthetic.py",
                "cpus": os.cpu_count(),
                "faiss": faiss.__version__,
                "recall_at_10_wanted": RECALL,
                "results": results,
            }
            options.out.write_text(json.dumps(facts, indent=2) + "\n")


def types(num_rows: int, width: int) -> list[str]:
    num_lists = 2 ** round(np.log2(4 * np.sqrt(num_rows)))
    return [f"IVF{num_lists},SQfp16", f"IVF{num_lists},PQ{width // 2}x4fs", f"PQ{width // 2}x4fs", "HNSW16,SQfp16"]


def measured(name: str, pieces: RowPieces, queries: np.ndarray, truth: np.ndarray) -> dict:
    """Build time, bytes a row on disk, and the cheapest setting that reaches the recall (or the best of all)."""
    index = faiss.index_factory(queries.shape[1], name, faiss.METRIC_INNER_PRODUCT)
    started = time.process_time()
    sample = np.linspace(0, len(pieces) - 1, min(len(pieces), 64 * 4096)).astype(np.int64)
    index.train(pieces.take(sample))
    for start in range(0, len(pieces), 65_536):
        index.add(pieces.take(slice(start, start + 65_536)))
    built = time.process_time() - started
    with tempfile.NamedTemporaryFile(suffix=".faiss") as file:
        faiss.write_index(index, file.name)
        num_bytes = os.path.getsize(file.name)
        if name.startswith("HNSW"):
            num_bytes -= len(pieces) * 2 * queries.shape[1]  # its copy of the rows is not needed
    tried = []
    for setting, num_candidates in settings(name):
        for key, value in setting.items():
            faiss.ParameterSpace().set_index_parameter(index, key, value)
        found, ms = timed(lambda query, num=num_candidates: refined(index, pieces, query, num), queries)
        recall = np.mean([len({*a[:TOP_K]} & {*b[:TOP_K]}) / TOP_K for a, b in zip(found, truth, strict=True)])
        tried.append({**setting, "candidates": num_candidates, "recall_at_10": round(float(recall), 4), "query_ms": ms})
    good = [one for one in tried if one["recall_at_10"] >= RECALL]
    best = min(good, key=lambda one: one["query_ms"]) if good else max(tried, key=lambda one: one["recall_at_10"])
    return {"build_s": round(built, 1), "bytes_a_row": round(num_bytes / len(pieces), 1), **best}


def settings(name: str):
    depths = (WANTED, 100, 200, 400) if "PQ" in name else (WANTED,)
    if name.startswith("HNSW"):
        return [({"efSearch": ef}, WANTED) for ef in (32, 64, 128, 256, 512)]
    if name.startswith("PQ"):
        return [({}, depth) for depth in depths]
    return [({"nprobe": n}, depth) for n, depth in itertools.product((8, 16, 32, 64, 128, 256), depths)]


def refined(index: faiss.Index, pieces: RowPieces, query: np.ndarray, num_candidates: int) -> np.ndarray:
    positions = index.search(query, num_candidates)[1][0]
    positions = positions[positions >= 0]
    scores = pieces.take(positions) @ query[0]
    return positions[np.argsort(-scores, kind="stable")[:WANTED]][None]


def timed(search, queries: np.ndarray) -> tuple[list[np.ndarray], float]:
    """What each query alone finds, and the median of processor time in ms."""
    found, times = [], []
    for query in queries:
        started = time.process_time()
        found.append(search(query[None])[0])
        times.append(time.process_time() - started)
    return found, round(1000 * float(np.median(times)), 3)


if __name__ == "__main__":
    main()
