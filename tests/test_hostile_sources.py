"""Thousands of damaged tables and archives: each is refused by its name, or gives the rows that are left."""

import io
import json
import subprocess
import sys
import tarfile
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutations import mutated
from peak_memory import peak_kilobytes
from toy import ToyEmbedder, png

from indexer import Index, corpus
from retrieval.errors import SpyglassError
from retrieval.images import decode

NUM_SOURCES = 2_250
PER_CHILD = 750
NUM_ROWS = 12


@cache
def whole_sources() -> tuple[tuple[str, bytes], ...]:
    """Names and contents of sources of every kind, each of the same pictures."""
    images = [png(seed) for seed in range(NUM_ROWS)]
    columns = {"id": names(), "image": images, "label": ["a"] * NUM_ROWS, "price": [n / 2 for n in range(NUM_ROWS)]}
    hugging_face = {"id": names(), "image": [{"bytes": image, "path": "x.png"} for image in images]}
    paths = {"path": [f"p/{n}.png" for n in range(NUM_ROWS)], "tags": [["a"]] * NUM_ROWS}
    when = {"when": pa.array(range(NUM_ROWS), pa.timestamp("s")), "day": pa.array(range(NUM_ROWS), pa.date32())}
    return (
        ("plain.parquet", parquet(columns, compression="none", use_dictionary=False)),
        ("snappy.parquet", parquet(columns, compression="snappy")),
        ("zstd.parquet", parquet(columns, compression="zstd", data_page_version="2.0")),
        ("gzip.parquet", parquet(columns, compression="gzip", version="1.0")),
        ("face.parquet", parquet(hugging_face)),
        ("paths.parquet", parquet(paths | when, compression="none")),
        ("data.tar", tar({f"a/{name}{kind}": data for name in names() for kind, data in sample(name)})),
        ("long.tar", tar({f"{'é' * 120}/{name}.png": png(n) for n, name in enumerate(names())})),
        ("list.csv", ("path,id,price\n" + "".join(f"p/{n}.png,{n},{n / 2}\n" for n in range(NUM_ROWS))).encode()),
    )


def names() -> list[str]:
    return [f"picture-{number:02d}" for number in range(NUM_ROWS)]


@cache
def numbers() -> dict[bytes, int]:
    return {png(number): number for number in range(NUM_ROWS)}


def sample(name: str) -> list[tuple[str, bytes]]:
    number = int(name[-2:])
    return [(".json", json.dumps({"price": number / 2}).encode()), (".png", png(number)), (".cls", b"a")]


def parquet(columns: dict, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=4, write_page_checksum=True, **options)
    return file.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def hostile_source(folder: Path, seed: int) -> Path:
    whole = whole_sources()
    name, data = whole[seed % len(whole)]
    _, other = whole[seed * 7 % len(whole)]
    path = folder / f"{seed:05d}-{name}"
    path.write_bytes(mutated(data, seed, other=other))
    return path


def read_hostile_sources(folder: str, start: int, stop: int) -> None:
    """What a child process does; it prints what became of each source, then what all of them took."""
    for seed in range(start, stop):
        path = hostile_source(Path(folder), seed)
        began = time.process_time()
        items, error = [], None
        try:
            items.extend(corpus.read(path))
        except SpyglassError as refusal:
            error = str(refusal)
        print(json.dumps({"path": str(path), "error": error, "seconds": time.process_time() - began, **facts(items)}))
    print(json.dumps({"kilobytes": peak_kilobytes()}))


def facts(items: list) -> dict:
    """Of the pictures that came whole: their ids, and those under which they lay."""
    whole = [(item.id, numbers()[item.data]) for item in items if item.data in numbers()]
    problems = [item.problem for item in items if item.problem is not None]
    return {"whole": whole, "problems": problems, "num_items": len(items)}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("hostile")
    found = []
    for start in range(0, NUM_SOURCES, PER_CHILD):
        script = (
            f"import test_hostile_sources as t; t.read_hostile_sources({str(folder)!r}, {start}, {start + PER_CHILD})"
        )
        run = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-c", script],
            cwd=Path(__file__).parent,
            env={"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1", "PATH": ""},
            capture_output=True,
            text=True,
        )
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        assert run.returncode == 0, (lines[-1:], run.stderr)
        found += lines
    return found


@pytest.mark.slow
def test_each_is_refused_by_its_name_or_gives_what_is_left(outcomes):
    sources = [outcome for outcome in outcomes if "path" in outcome]
    assert len(sources) == NUM_SOURCES
    for source in sources:
        if source["error"] is not None:
            assert source["error"].startswith("expected ") and source["path"] in source["error"], source
        for message in (source["error"] or "expected", *source["problems"]):
            assert message.startswith("expected") and "\n" not in message, source
        assert source["seconds"] < 5, source
    assert max(outcome.get("kilobytes", 0) for outcome in outcomes) < 600_000
    refused = sum(source["error"] is not None for source in sources)
    assert 500 < refused < NUM_SOURCES - 500


@pytest.mark.slow
def test_pictures_that_come_whole_come_under_their_own_names(outcomes):
    wrong, num_whole = [], 0
    for source in outcomes:
        for item_id, number in source.get("whole", ()):
            num_whole += 1
            own = Path(item_id).stem
            # A name may be damaged too; it must not be another one's.
            if own != names()[number] and own in names():
                wrong.append((source["path"], item_id, number))
    assert num_whole > 4_000 and wrong == []


@pytest.mark.slow
def test_what_is_left_of_them_can_be_indexed(outcomes, tmp_path):
    left = [source["path"] for source in outcomes if source.get("error", "none") is None and source["whole"]][:60]
    index = Index.create(tmp_path / "h.index", ToyEmbedder(token_dim=0), dtype="float32")
    report = index.add(*left, num_workers=0)
    assert report.added >= NUM_ROWS and report.skipped > 0
    assert index.verify() == []
    failed = [json.loads(line)["id"] for line in (index.path / "failures.jsonl").read_text().splitlines()]
    assert Counter(failed) == Counter(failure["id"] for failure in report.failures)
    for seed in range(NUM_ROWS):
        (hit,) = index.search(png(seed), top_k=1)
        assert (
            hit.similarity > 0.999
            and (decode(index.read_image(hit.uri), 32).pixels == decode(png(seed), 32).pixels).all()
        )
