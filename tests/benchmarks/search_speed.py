"""Searching buckets of mixed widths beside one 512-wide exact index, in one run: medians and their ratio.

    python tests/benchmarks/search_speed.py --num-images 200000 --out data/benchmarks/search-speed.json

Both sides get the same vectors and may use all threads; the 512-wide index gets the number of threads and the BLAS
threshold that suit it best of those tried. Runs alternate, so that a noisy machine is noisy for both.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np

from indexer.buckets import BucketedIndex

THRESHOLDS = (1, 4_000, 128_000)  # FAISS 1.15's default is the last
NUM_REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=200_000)
    parser.add_argument("--mean-dim", type=float, default=128)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    dims = np.clip(rng.lognormal(np.log(options.mean_dim) - 0.18, 0.6, options.num_images), 32, 512).astype(np.int64)
    vectors = rng.standard_normal((options.num_images, 512), dtype=np.float32)
    vectors *= np.arange(512) < dims[:, None]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = faiss.IndexFlatIP(512)
    whole.add(vectors)
    buckets = {}
    for dtype in ("float32", "float16"):
        buckets[dtype] = BucketedIndex(dtype=dtype, device="cpu")
        buckets[dtype].add(np.arange(options.num_images), vectors, dims)
    del vectors

    results = []
    for num_queries in (1, 16, 256):
        queries = rng.standard_normal((num_queries, 512), dtype=np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        settings = list(itertools.product({1, faiss.omp_get_max_threads()}, THRESHOLDS))
        whole_times = {f"{threads} threads, BLAS from {threshold:,}": [] for threads, threshold in settings}
        bucket_times = {dtype: [] for dtype in buckets}
        for _ in range(NUM_REPEATS):
            for threads, threshold in settings:
                with faiss_set(threads, threshold):
                    whole_times[f"{threads} threads, BLAS from {threshold:,}"].append(seconds(whole.search, queries))
            for dtype, index in buckets.items():
                bucket_times[dtype].append(seconds(index.search, queries))
        whole_ms, bucket_ms = medians(whole_times), medians(bucket_times)
        best_ms = min(whole_ms.values())
        result = {
            "num_queries": num_queries,
            "one_512_wide_ms": whole_ms,
            "buckets_ms": bucket_ms,
            "times_faster_than_the_best_512_wide": {dtype: round(best_ms / ms, 2) for dtype, ms in bucket_ms.items()},
        }
        results.append(result)
        print(json.dumps(result))

    if options.out:
        facts = {
            "command": f"python tests/benchmarks/search_speed.py --num-images {options.num_images}",
            "machine": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "faiss": faiss.__version__,
            "num_images": options.num_images,
            "mean_dim": round(float(dims.mean()), 1),
            "results": results,
        }
        options.out.write_text(json.dumps(facts, indent=2) + "\n")


@contextmanager
def faiss_set(threads: int, threshold: int):
    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = threshold
    yield
    faiss.omp_set_num_threads(before[0])
    faiss.cvar.distance_compute_blas_threshold = before[1]


def medians(times: dict) -> dict[str, float]:
    return {str(name): round(1000 * statistics.median(values), 2) for name, values in times.items()}


def seconds(search, queries: np.ndarray) -> float:
    started = time.perf_counter()
    search(queries, 10)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
