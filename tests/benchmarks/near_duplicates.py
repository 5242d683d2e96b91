"""Near duplicates of synthetic pictures, of which a tenth are more or less changed copies: all pairs, or likely ones.

    python tests/benchmarks/near_duplicates.py --out data/benchmarks/near-duplicates.json
    python tests/benchmarks/near_duplicates.py --images 1000000 --thresholds 0.95 --likely-alone

Seconds of processor time on one thread.
"""

import argparse
import json
import os
import time
from pathlib import Path

import faiss
import numpy as np
from synthetic import Synthetic
from tqdm import tqdm

from indexer.buckets import BucketedIndex
from indexer.searching import alike
from indexer.searching.gallery import Gallery

COMMAND = "OMP_NUM_THREADS=1 python tests/benchmarks/near_duplicates.py --out data/benchmarks/near-duplicates.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.95, 0.9, 0.8])
    parser.add_argument("--likely-alone", action="store_true", help="Leave out the comparison of all pairs.")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    gallery = gallery_of(options.images)
    results = {}
    for threshold in options.thresholds:
        likely, likely_s = found(gallery, options.images, threshold, is_exact=False)
        results[str(threshold)] = {"likely_pairs": len(likely), "likely_s": likely_s}
        if not options.likely_alone:
            exact, exact_s = found(gallery, options.images, threshold, is_exact=True)
            assert not len(np.setdiff1d(likely, exact))
            results[str(threshold)] |= {"all_pairs": len(exact), "all_s": exact_s}
        print(threshold, results[str(threshold)], flush=True)
    facts = {"command": COMMAND, "cpus": os.cpu_count(), "images": options.images, "by_threshold": results}
    if options.out:
        options.out.write_text(json.dumps(facts, indent=2) + "\n")


def gallery_of(num: int) -> Gallery:
    buckets, rng, first = BucketedIndex(dtype="float16", device="cpu"), np.random.default_rng(0), 0
    for vectors, dims in Synthetic(num).blocks():
        originals, copies = np.split(rng.permutation(len(dims))[: len(dims) // 10 * 2], 2)
        changes = rng.normal(size=(len(copies), vectors.shape[1])) * rng.uniform(0.05, 0.8, (len(copies), 1))
        changed = vectors[originals] + changes / np.sqrt(vectors.shape[1])
        changed[np.arange(vectors.shape[1]) >= dims[originals, None]] = 0
        vectors[copies] = changed / np.linalg.norm(changed, axis=1, keepdims=True)
        dims[copies] = dims[originals]
        buckets.add(np.arange(first, first := first + len(dims)), vectors, dims)
    return Gallery(None, buckets, None)


def found(gallery: Gallery, num: int, threshold: float, *, is_exact: bool) -> tuple[np.ndarray, float]:
    """The pairs as numbers, each once, and the seconds that they took."""
    started = time.process_time()
    rows, bar = np.arange(num), tqdm(disable=True)
    pairs = [*alike.pairs(gallery, rows, threshold, is_exact=is_exact, progress_bar=bar)]
    took = time.process_time() - started
    ordered = [np.sort(np.stack([some.ones, some.others]), axis=0) for some in pairs]
    return np.unique(np.concatenate([one * num + other for one, other in ordered])), round(took, 1)


if __name__ == "__main__":
    main()
