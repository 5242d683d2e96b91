"""Split a parquet file's rows by turns into two files: one to learn from, one to measure on.

python tests/benchmarks/halves.py noto-emoji-00.parquet --learn icons-learn.parquet --measure icons-measure.parquet
"""

import argparse
from pathlib import Path

import pyarrow.parquet as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--learn", type=Path, required=True)
    parser.add_argument("--measure", type=Path, required=True)
    arguments = parser.parse_args()
    table = pq.read_table(arguments.source)
    for first, path in enumerate((arguments.learn, arguments.measure)):
        half = table.take(list(range(first, len(table), 2)))
        pq.write_table(half, path)
        print(f"{path}: {len(half):,} rows")


if __name__ == "__main__":
    main()
