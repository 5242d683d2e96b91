"""Thousands of damaged pictures among good ones, through the command: none stops, shifts or bloats anything."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mutations import hostile_pictures
from toy import ToyEmbedder, write_pngs

from indexer import Index

NUM_HOSTILE = 5_000
NUM_GOOD = 40
SECONDS_EACH = 5.0

COMMAND = """
import json, resource, sys
import retrieval
from indexer.sources import decoding
from peak_memory import peak_kilobytes
from toy import ToyEmbedder
from ui.cli import run

retrieval.Embedder = type("Toys", (), {"load": lambda *arguments, **options: ToyEmbedder(token_dim=0)})
decoding.DECODE_SECONDS = float(sys.argv.pop(1))
code = run(sys.argv[1:])
peaks = [peak_kilobytes(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
print(json.dumps({"code": code, "kilobytes": peaks}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """The good ones lie between the others."""
    folder = write_pngs(tmp_path_factory.mktemp("hostile") / "photos", range(NUM_GOOD))
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"mutated-{number * (NUM_HOSTILE // NUM_GOOD):05d}-good.png")
    for name, data in islice(hostile_pictures(0), NUM_HOSTILE):
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def indexed(photos) -> tuple[Path, dict, dict]:
    """The index, what the command printed, and what running it took."""
    folder = photos.parent / "h.index"
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(SECONDS_EACH), "index", photos, "--index", folder, "--workers=2", "--json"],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return folder, json.loads(done.stdout), json.loads(done.stderr.splitlines()[-1])


@pytest.mark.slow
def test_all_are_counted_and_none_stops_the_rest(photos, indexed):
    folder, report, took = indexed
    assert took["code"] == 3
    assert report["added"] + report["duplicates"] + report["skipped"] == NUM_HOSTILE + NUM_GOOD
    assert report["added"] >= NUM_GOOD and report["skipped"] > NUM_HOSTILE // 2
    lines = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(failure["id"] for failure in report["failures"])
    assert len(lines) == report["skipped"] and not [line for line in lines if "good" in line["id"]]
    for line in lines:
        assert line["reason"].startswith("expected ") and "\n" not in line["reason"], line
        assert "kills the decoder or keeps it busy" not in line["reason"], line
    assert {"bomb.png", "many scans.jpg", "empty.jpg", "wide.webp"} <= {line["id"] for line in lines}
    assert Index.open(folder).verify() == []


@pytest.mark.slow
def test_memory_is_bounded(indexed):
    _, _, took = indexed
    assert max(took["kilobytes"]) < 900_000


@pytest.mark.slow
def test_the_good_ones_have_the_vectors_that_they_have_alone(photos, indexed, tmp_path):
    folder, _, _ = indexed
    good = sorted(photos.glob("*-good.png"))
    alone = Index.create(tmp_path / "alone.index", ToyEmbedder(token_dim=0))
    alone.add(*good, num_workers=0)
    together = Index.open(folder, ToyEmbedder(token_dim=0))
    vectors, expected = (
        vectors_of(index, tmp_path / f"{name}.parquet") for name, index in (("a", together), ("b", alone))
    )
    assert len(expected) == NUM_GOOD
    assert {path.name: vectors[path.name] for path in good} == expected
    for path in good:
        hits = together.search(path, top_k=2)
        assert hits[0].id == path.name and hits[0].similarity > 0.999


def vectors_of(index: Index, out: Path) -> dict[str, list[float]]:
    index.export(out)
    table = pq.read_table(out, columns=["id", "vector"])
    return dict(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))
