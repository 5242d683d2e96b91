"""Approximate indices in segments: built, measured, recorded, searched with exact scores, and never trusted blindly."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import ToyEmbedder, flip_byte

from indexer import Index, segments
from indexer.catalog import Row
from indexer.searching import gallery
from indexer.storage import manifest
from indexer.storage.manifest import Manifest
from indexer.storage.records import Approximation, FileRecord, Model, SegmentRecord
from indexer.vectors import approximating
from retrieval.errors import DamagedError

MODEL = Model(name="toy", fingerprint="f00d" * 16, image_size=32)
NUM, WIDTH = 3000, 64


def clustered(num: int, seed: int = 0) -> np.ndarray:
    """(num, 64) float32 of unit length, in 150 groups."""
    centres = np.random.default_rng(0).standard_normal((150, WIDTH))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 150, num)] + 0.5 * rng.standard_normal((num, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def row(number: int) -> Row:
    return Row(
        id=f"{number}",
        uri=f"/{number}.png",
        sha256=f"{number:064x}",
        width=1,
        height=1,
        num_bytes=1,
        dim=WIDTH,
        bucket=WIDTH,
        label=None,
        columns={},
    )


def written(folder: Path, vectors: np.ndarray, index_type: str, first: int = 0) -> SegmentRecord:
    rows = [row(first + number) for number in range(len(vectors))]
    record = segments.write(folder, f"{first:06d}", rows, vectors, "float16")
    return approximating.build(folder, record, dtype="float16", index_type=index_type)


def state_of(*records: SegmentRecord, index_type: str = "auto") -> Manifest:
    return Manifest(version=1, model=MODEL, widths=(WIDTH,), dtype="float16", index_type=index_type, segments=records)


@pytest.fixture(autouse=True)
def approximate_early(monkeypatch):
    monkeypatch.setattr(approximating, "SCANNED_NUMBERS", 1000 * WIDTH)
    monkeypatch.setattr(approximating, "_SCANNED_ROWS", 1000)


@pytest.mark.parametrize(
    ("num_rows", "width", "index_type", "expected"),
    [
        (1_000_000, 64, "auto", "PQ32x4fs"),
        (1_100_000, 512, "auto", "IVF4096,PQ256x4fs"),
        (1000, 64, "auto", None),
        (1001, 64, "auto", "PQ32x4fs"),
        (100_000, 33, "auto", "SQ4"),
        (10**9, 64, "Flat", None),
        (10_000, 64, "HNSW32", "HNSW32"),
        (9_000, 64, "HNSW32", None),
        (39_000, 64, "IVF1024,Flat", None),
        (40_000, 64, "IVF1024,Flat", "IVF1024,Flat"),
    ],
)
def test_the_type_goes_by_size(num_rows, width, index_type, expected):
    assert approximating.type_for(num_rows, width, index_type) == expected


@pytest.mark.parametrize("index_type", ["auto", "IVF16,PQ32x4fs", "IVF16,Flat", "HNSW16", "SQ8", "PCA32,IVF16,SQ8"])
def test_most_is_found_scores_are_exact_and_recall_is_recorded(tmp_path, monkeypatch, index_type):
    monkeypatch.setattr("indexer.vectors.faiss_factory.num_centroids", lambda index: 16)
    vectors = clustered(NUM)
    record = written(tmp_path, vectors, index_type)
    known = record.approximations[WIDTH]
    assert known.index_type == ("PQ32x4fs" if index_type == "auto" else index_type)
    assert known.recall_at_10 >= 0.95 and "bucket-064.faiss" in record.files
    state = state_of(record, index_type=index_type)
    assert Manifest.from_bytes(state.to_bytes()) == state
    assert not approximating.is_wanted(record, index_type)

    found_in = gallery.read(tmp_path, state, "cpu").buckets
    scanned = gallery.read(tmp_path, state_of(replace(record, approximations={})), "cpu").buckets
    queries = clustered(60, seed=1)
    scores, ids = found_in.search(queries, 10)
    expected_scores, expected_ids = scanned.search(queries, 10)
    recall = np.mean([np.isin(expected, ids[number]).mean() for number, expected in enumerate(expected_ids)])
    assert recall >= 0.95
    assert not found_in._buckets[0].compares_all(None)
    same = ids == expected_ids
    np.testing.assert_array_equal(scores[same], expected_scores[same])
    for pair in zip(scores, ids, strict=True):
        assert [*zip(-pair[0], pair[1], strict=True)] == sorted(zip(-pair[0], pair[1], strict=True))
    # A filter is exact, however few it leaves; and so is what asks for most of the rows.
    for allowed in (np.arange(0, NUM, 7), np.array([17])):
        np.testing.assert_array_equal(
            found_in.search(queries, 10, allowed=allowed), scanned.search(queries, 10, allowed=allowed)
        )
    np.testing.assert_array_equal(found_in.search(queries[:3], NUM)[1], scanned.search(queries[:3], NUM)[1])


def test_dead_rows_do_not_starve_a_search(tmp_path):
    """The nearest thousand of a query are deleted: it gets the next, of all rows that are left, exactly as many."""
    vectors = clustered(NUM)
    first, second = written(tmp_path, vectors, "auto"), written(tmp_path, clustered(500, seed=2), "auto", first=NUM)
    assert second.approximations == {}
    query = vectors[:1]
    nearest = np.argsort(-(vectors @ query[0]))[:1000]
    places = [segments.Place(segment=first.id, row=int(number), dim=WIDTH, bucket=WIDTH) for number in nearest]
    tombstones = segments.write_tombstones(tmp_path, "000009", places)
    state = state_of(first, second).following(tombstones=(tombstones,))
    found_in = gallery.read(tmp_path, state, "cpu").buckets
    scanned = gallery.read(
        tmp_path, state.following(segments=(replace(first, approximations={}), second)), "cpu"
    ).buckets

    scores, ids = found_in.search(query, 10)
    expected_scores, expected_ids = scanned.search(query, 10)
    assert not np.isin(ids, nearest).any() and len(set(ids[0])) == 10
    assert np.isin(ids, expected_ids).mean() >= 0.9
    assert found_in.num_images == NUM - 1000 + 500


def test_what_finds_too_little_is_scanned_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(approximating, "_DEPTHS", (1,))
    noise = np.random.default_rng(0).standard_normal((NUM, WIDTH)).astype(np.float32) / 8
    with caplog.at_level(logging.WARNING):
        record = written(tmp_path, noise, "auto")
    assert record.approximations[WIDTH].index_type == "Flat" and "bucket-064.faiss" not in record.files
    assert "over the 3000 rows of width 64 in segment 000000 finds 0." in caplog.text
    assert not approximating.is_wanted(record, "auto"), "or each compact would try again"
    buckets = gallery.read(tmp_path, state_of(record), "cpu").buckets
    assert buckets._buckets[0].compares_all(None)


def test_compact_builds_what_is_missing_and_keeps_what_an_earlier_state_names(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    index = Index.create(folder, ToyEmbedder(token_dim=0))
    vectors = np.zeros((NUM, 512), np.float32)
    vectors[:, :WIDTH] = clustered(NUM)
    record = segments.write(folder, "000001-aa", [row(number) for number in range(NUM)], vectors, "float16")
    manifest.publish(folder, manifest.read(folder).following("add", segments=(record,)))
    assert approximating.is_wanted(record, "auto")

    index = Index.open(folder, ToyEmbedder(token_dim=0))
    index.compact()
    (built,) = manifest.read(folder).segments
    assert built.id == "000001-aa" and built.approximations[WIDTH].recall_at_10 >= 0.95
    assert (folder / "segments/000001-aa/bucket-064.faiss").is_file() and index.verify() == []
    version = manifest.read(folder).version
    index.compact()
    assert manifest.read(folder).version == version, "there was nothing left to do"

    again = approximating.build(folder, built, dtype="float16", index_type="auto")
    assert [name for name in again.files if name.endswith(".faiss")] == ["bucket-064-2.faiss"]
    assert again.index_name(64) == "bucket-064-2.faiss" and again.index_name(32) is None
    index.remove(["17"])
    index.compact()
    (merged,) = manifest.read(folder).segments
    assert merged.rows.num == NUM - 1 and merged.approximations[WIDTH].recall_at_10 >= 0.95
    assert index.verify() == []


def test_damage_is_named_before_faiss_sees_it(tmp_path):
    record = written(tmp_path, clustered(NUM), "auto")
    path = tmp_path / "segments/000000/bucket-064.faiss"
    whole, state = path.read_bytes(), state_of(record)
    for position in np.linspace(0, len(whole) - 1, 12).astype(int).tolist():
        flip_byte(path, position)
        buckets = gallery.read(tmp_path, state, "cpu").buckets  # says nothing yet: it is read when it is needed
        with pytest.raises(
            DamagedError, match="expected the bytes that were written in .*bucket-064.faiss, got others"
        ):
            buckets.search(clustered(1), 10)
        flip_byte(path, position)
    for content in (whole[:-1], b"", whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(
            DamagedError, match=f"expected {len(whole)} bytes in .*bucket-064.faiss, got {len(content)}"
        ):
            gallery.read(tmp_path, state, "cpu")
    path.unlink()
    with pytest.raises(DamagedError, match="expected an index in .*bucket-064.faiss, got: .*No such file"):
        gallery.read(tmp_path, state, "cpu")


@pytest.mark.parametrize("num", [NUM - 1, None])
def test_another_file_under_a_right_checksum_is_named(tmp_path, num):
    record = written(tmp_path, clustered(NUM), "auto")
    path = tmp_path / "segments/000000/bucket-064.faiss"
    if num is None:
        path.write_bytes(b"no index" * 100)
        message = "expected a FAISS index in .*bucket-064.faiss, got"
    else:
        other = written(tmp_path / "other", clustered(num), "auto")
        path.write_bytes((tmp_path / f"other/segments/{other.id}/bucket-064.faiss").read_bytes())
        message = "expected 3000 rows of 64 numbers in .*bucket-064.faiss, got 2999 of 64"
    files = record.files | {"bucket-064.faiss": FileRecord.of(path)}
    buckets = gallery.read(tmp_path, state_of(replace(record, files=files)), "cpu").buckets
    with pytest.raises(DamagedError, match=message):
        buckets.search(clustered(1), 10)


def test_an_approximation_needs_its_file_and_rows():
    known = Approximation(index_type="HNSW32", settings={"efSearch": 64}, depth=1, recall_at_10=0.99)
    with pytest.raises(DamagedError, match="expected rows and a file of an index for each of"):
        SegmentRecord(id="000001", rows=segments.Rows(buckets={64: 3}), files={}, approximations={64: known})
    with pytest.raises(DamagedError, match="expected how an approximate index is searched"):
        Approximation(index_type="HNSW32", settings={"efSearch": -1}, depth=1, recall_at_10=0.99)
    with pytest.raises(DamagedError, match="expected how an approximate index is searched"):
        Approximation(index_type="HNSW32", settings={}, depth=0, recall_at_10=0.99)
