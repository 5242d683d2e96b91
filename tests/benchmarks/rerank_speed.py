"""What re-ranking adds to a search, and what asking many queries at once saves; medians, in milliseconds.

    python tests/benchmarks/rerank_speed.py INDEX PICTURES --out data/benchmarks/rerank-speed.json

Freed memory is kept, as the commands keep it.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from indexer import Index
from indexer.searching import reranking
from retrieval.freed_memory import keep_freed_memory

NUM_QUERIES, NUM_ROUNDS = 32, 5


def milliseconds(function: Callable) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("pictures", type=Path, help="a folder of query pictures")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    keep_freed_memory()
    index = Index.open(arguments.index)
    queries = [str(path) for path in sorted(arguments.pictures.iterdir())[:NUM_QUERIES]]
    index.search(queries[0])

    alone: list[float] = []
    score = reranking.Reranker.score

    def timed(*values):
        start = time.perf_counter()
        result = score(*values)
        alone.append((time.perf_counter() - start) * 1000)
        return result

    reranking.Reranker.score = timed
    whole, plain = [], []
    for query in queries:
        whole.append(milliseconds(lambda query=query: index.search(query)))
        plain.append(milliseconds(lambda query=query: index.search(query, rerank=0)))
    ratios = []
    for _ in range(NUM_ROUNDS):
        one_by_one = milliseconds(lambda: [index.search(query) for query in queries])
        ratios.append(one_by_one / milliseconds(lambda: index.search_many(queries)))
    token_bytes = sum(path.stat().st_size for path in arguments.index.glob("segments/*/token*.npy"))
    num_images = index.info()["images"]
    result = {
        "cpus": os.cpu_count(),
        "images": num_images,
        "token_bytes_per_image": token_bytes / num_images,
        "one_query_ms": statistics.median(whole),
        "without_reranking_ms": statistics.median(plain),
        "reading_and_scoring_candidates_ms": {"median": statistics.median(alone), "most": max(alone)},
        "queries_at_once": len(queries),
        "one_by_one_over_at_once": statistics.median(ratios),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
