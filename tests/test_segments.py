"""Segments and tombstones on disk, and how damage to them is noticed."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from toy import flip_byte

from indexer import segments
from indexer.catalog import Row
from indexer.segments import Place
from indexer.storage import token_files
from indexer.storage.manifest import Manifest
from indexer.storage.records import FileRecord, Model, Rows, SegmentRecord
from retrieval.errors import DamagedError, UsageError
from retrieval.tokens import Tokens

EMPTY = Manifest(version=0, model=Model(name="toy", fingerprint="f00d", image_size=32), widths=(4, 8), dtype="float16")
DIMS, BUCKETS = (3, 8, 4, 7), (4, 8, 4, 8)


def row(number: int) -> Row:
    return Row(
        id=str(number),
        uri=f"/{number}.png",
        sha256=f"{number:064x}",
        width=1,
        height=1,
        num_bytes=1,
        dim=DIMS[number],
        bucket=BUCKETS[number],
        label=None,
        columns={},
    )


@pytest.fixture
def vectors() -> np.ndarray:
    return np.arange(32, dtype=np.float32).reshape(4, 8)


@pytest.fixture
def state(tmp_path, vectors) -> Manifest:
    """An index of one segment of four rows, the second of which is deleted."""
    segment = segments.write(tmp_path, "000001-aa", [row(number) for number in range(4)], vectors, "float16")
    places = [Place(segment="000001-aa", row=1, dim=8, bucket=8)]
    return EMPTY.following(segments=(segment,), tombstones=(segments.write_tombstones(tmp_path, "000002-bb", places),))


def test_a_segment_by_hand(tmp_path, vectors, state):
    assert state.segments[0].rows == Rows(buckets={4: 2, 8: 2}, sum_dims=22)
    assert state.tombstones[0].rows == Rows(buckets={8: 1}, sum_dims=8)
    (segment,) = segments.read(tmp_path, state)
    table = segment.table()
    assert table["id"].to_pylist() == ["0", "1", "2", "3"]
    assert segment.live(table).tolist() == [True, False, True, True]
    narrow, wide = segment.vectors(4), segment.vectors(8)
    assert isinstance(narrow, np.memmap) and narrow.dtype == np.float16
    np.testing.assert_array_equal(narrow, vectors[[0, 2], :4])
    np.testing.assert_array_equal(wide, vectors[[1, 3]])
    assert [*segments.verify(tmp_path, state)] == []


def test_a_flipped_byte_of_any_file_is_named(tmp_path, state):
    names = [name for name, _ in state.files()]
    assert len(names) == 4
    for name in names:
        size = (tmp_path / name).stat().st_size
        for position in (0, size // 2, size - 1):
            flip_byte(tmp_path / name, position)
            assert [*segments.verify(tmp_path, state)] == [
                f"{name}: expected the bytes that were written, got others (the sha256 differs)"
            ]
            flip_byte(tmp_path / name, position)


def test_missing_shortened_and_replaced_files_are_named(tmp_path, state):
    catalog, narrow, wide, tombstones = (name for name, _ in state.files())
    (tmp_path / catalog).unlink()
    (tmp_path / narrow).write_bytes(b"")
    (tmp_path / wide).unlink()
    (tmp_path / wide).mkdir()
    problems = [*segments.verify(tmp_path, state)]
    assert [problem.split(":")[0] for problem in problems] == [catalog, narrow, wide]
    assert problems[0].endswith("expected a file, found none")
    assert problems[1].endswith(f"expected {state.segments[0].files['vectors-004.npy'].size} bytes, got 0")


def test_files_that_contradict_the_manifest_are_named(tmp_path, vectors):
    """Every file is as it was written, and yet: wrong counts, wrong shapes, a tombstone out of range, an id twice."""
    first = segments.write(tmp_path, "000001-aa", [row(0), row(2)], vectors[:2], "float32")
    state = EMPTY.following(segments=(first,))
    (problem,) = segments.verify(tmp_path, state)
    assert problem == "segments/000001-aa/vectors-004.npy: expected (2, 4) float16, got (2, 4) float32"

    second = segments.write(tmp_path, "000002-bb", [replace(row(0), sha256="ff" * 32)], vectors[:1], "float32")
    (problem,) = segments.verify(tmp_path, EMPTY.following(dtype="float32", segments=(first, second)))
    assert problem == "segments: expected every id once, got '0' 2 times"

    places = [Place(segment="000001-aa", row=2, dim=8, bucket=8)]
    beyond = segments.write_tombstones(tmp_path, "000003-cc", places)
    (problem,) = segments.verify(tmp_path, EMPTY.following(dtype="float32", segments=(first,), tombstones=(beyond,)))
    assert "to name its 2 rows, got others" in problem

    unknown = EMPTY.following(segments=(second,), tombstones=(beyond,))
    with pytest.raises(DamagedError, match="expected rows of known segments in .*000003-cc.parquet, got one of"):
        segments.read(tmp_path, unknown)


def tokens_of(*counts: int, token_dim: int = 3) -> Tokens:
    values = np.arange(1, 1 + token_dim * sum(counts), dtype=np.int8).reshape(-1, token_dim)
    return Tokens(values=values, counts=np.array(counts))


@pytest.fixture
def tokened(tmp_path, vectors) -> SegmentRecord:
    """A segment of four rows, the second of which has no tokens."""
    rows = [row(number) for number in range(4)]
    return segments.write(tmp_path, "000001-aa", rows, vectors, "float16", tokens=tokens_of(2, 0, 1, 3), token_bytes=9)


def test_tokens_of_different_counts_by_hand(tmp_path, tokened):
    home = tmp_path / "segments/000001-aa"
    assert np.load(home / "tokens.npy").tolist() == [[1 + 3 * n, 2 + 3 * n, 3 + 3 * n] for n in range(6)]
    assert np.load(home / "token-counts.npy").tolist() == [2, 0, 1, 3]
    assert tokened.token_bytes == 9 and tokened.token_names == ("tokens.npy", "token-counts.npy")
    assert token_files.read_counts(home, tokened).tolist() == [2, 0, 1, 3]
    values = token_files.read_values(home, tokened, 6)
    assert isinstance(values, np.memmap) and values.dtype == np.int8 and values[5].tolist() == [16, 17, 18]
    assert [*segments.verify(tmp_path, EMPTY.following(segments=(tokened,)))] == []


def test_a_segment_without_any_token_is_sound(tmp_path, vectors):
    none = segments.write(tmp_path, "000001-aa", [row(0)], vectors[:1], "float16", tokens=tokens_of(0), token_bytes=9)
    assert [*segments.verify(tmp_path, EMPTY.following(segments=(none,)))] == []


def test_a_flipped_byte_among_the_tokens_is_named(tmp_path, tokened):
    for name in tokened.token_names:
        path = tmp_path / "segments/000001-aa" / name
        flip_byte(path, path.stat().st_size - 1)
        (problem,) = segments.verify(tmp_path, EMPTY.following(segments=(tokened,)))
        assert problem.startswith(f"segments/000001-aa/{name}: expected the bytes that were written")
        flip_byte(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    ("values", "counts", "problem"),
    [
        (np.zeros((5, 3), np.int8), np.array([2, 0, 1, 3], np.uint8), r"expected \(6, D\) int8 in .*, got \(5, 3\)"),
        (np.zeros((6, 3), np.uint8), np.array([2, 0, 1, 3], np.uint8), r"expected \(6, D\) int8 .*\(6, 3\) uint8$"),
        (np.zeros((6, 3), np.int8), np.array([2, 1, 3], np.uint8), r"expected \(4,\) uint8 in .*, got \(3,\)"),
        (np.zeros((6, 3), np.int8), np.array([2, 0, 1, 3]), r"expected \(4,\) uint8 in .*, got \(4,\) int64"),
        (np.zeros((7, 3), np.int8), np.array([0, 2, 1, 4], np.uint8), "expected at most 9 bytes of tokens an image"),
    ],
)
def test_tokens_that_do_not_fit_each_other_are_named(tmp_path, tokened, values, counts, problem):
    home = tmp_path / "segments/000001-aa"
    np.save(home / "tokens.npy", values)
    np.save(home / "token-counts.npy", counts)
    files = {name: FileRecord.of(home / name) for name in tokened.files}
    (found,) = segments.verify(tmp_path, EMPTY.following(segments=(replace(tokened, files=files),)))
    assert re.search(problem, found) and found.startswith("segments/000001-aa: ")


def test_more_tokens_than_a_byte_can_count_are_refused(tmp_path):
    with pytest.raises(UsageError, match="expected at most 255 tokens an image, got 256; ask for fewer token_bytes"):
        token_files.write(tmp_path, Tokens(values=np.ones((256, 1), np.int8), counts=np.array([256])))


def test_reading_damage_says_so(tmp_path, state):
    (segment,) = segments.read(tmp_path, state)
    (segment.home / "vectors-004.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(DamagedError, match="expected vectors in .*vectors-004.npy, got: .*; `verify` lists"):
        segment.vectors(4)
    (segment.home / "catalog.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DamagedError, match="expected a table in .*catalog.parquet, got: .*; `verify` lists"):
        segment.table()


def test_segments_never_overwrite_each_other(tmp_path, vectors, state):
    with pytest.raises(FileExistsError):
        segments.write(tmp_path, "000001-aa", [row(0)], vectors[:1], "float16")


def test_arrow_reads_the_catalog_without_us(tmp_path, state):
    table = pa.parquet.read_table(tmp_path / "segments/000001-aa/catalog.parquet")
    assert table["bucket"].to_pylist() == list(BUCKETS)


def test_a_wrong_number_of_duplicates_is_named(tmp_path):
    rows = [replace(row(number), sha256="00" * 32) for number in range(4)]
    record = segments.write(tmp_path, "s1", rows, np.zeros((4, 8), np.float32), "float16")
    told = EMPTY.following(segments=(record,), num_duplicates=3)
    assert [*segments.verify(tmp_path, told)] == []
    (problem,) = segments.verify(tmp_path, replace(told, num_duplicates=2))
    assert problem == "segments: expected 2 further names of pictures, got 3"
