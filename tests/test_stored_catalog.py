"""The catalog read piece by piece against the one read as a whole; files that are read after they are gone."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import segments
from indexer.catalog import Catalog, Row, join, table_of
from indexer.changes.row_blocks import RowBlock
from indexer.changes.segment_writer import SegmentWriter
from indexer.segments import Segment
from indexer.storage.catalog_file import CatalogFile
from indexer.storage.manifest import Manifest
from indexer.storage.records import FileRecord, Model, Rows, SegmentRecord
from indexer.stored_catalog import StoredCatalog
from retrieval.errors import DamagedError

EMPTY = Manifest(version=0, model=Model(name="toy", fingerprint="f00d", image_size=32), widths=(32,), dtype="float16")


def row(number: int, columns: dict) -> Row:
    return Row(
        id=f"{number}.png",
        uri=f"/{number}.png",
        sha256="00" * 32,
        width=1,
        height=1,
        num_bytes=number,
        dim=32,
        bucket=32,
        label=None,
        columns=columns,
    )


def written(folder, segment_id: str, rows: list[Row], dead: tuple = ()) -> Segment:
    record = segments.write(folder, segment_id, rows, np.ones((len(rows), 32), np.float32), "float16")
    return Segment(folder, record, dead)


COLUMNS = st.dictionaries(
    st.sampled_from(["price", "place"]), st.integers(0, 9) | st.floats(0, 1) | st.sampled_from(["Rome", "Oslo"])
)


@settings(deadline=None, max_examples=25)
@given(contents=st.lists(st.lists(COLUMNS, min_size=1, max_size=5), min_size=1, max_size=5))
def test_pieces_are_what_the_whole_is(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("index")
    numbers = iter(range(100))
    rows = [[row(next(numbers), columns) for columns in part] for part in contents]
    whole_table = join([table_of(part) for part in rows])
    parts = [written(folder, f"{number:06d}", part, dead=(0,)) for number, part in enumerate(rows)]
    live = np.concatenate([np.arange(len(part)) > 0 for part in rows])
    whole, stored = Catalog(whole_table, live), StoredCatalog(parts)

    assert [stored.row(number) for number in range(len(live))] == whole_table.to_pylist()
    for number, name in enumerate(whole_table["id"].to_pylist()):
        assert stored.number_of(name) == whole.number_of(name) == (number if live[number] else None)
    backwards_twice = np.tile(np.arange(len(live))[::-1], 2)
    assert stored.rows(backwards_twice) == 2 * whole_table.to_pylist()[::-1]
    assert stored.live.tolist() == live.tolist()
    backwards = np.arange(len(live))[::-1]
    for name in whole_table.column_names:
        assert stored.values(name, backwards).to_pylist() == whole.values(name, backwards).to_pylist()
    assert stored.find(["1.png", "3.png"]) == whole.find(["1.png", "3.png"])
    assert stored.live_rows(["id", "uri"]).equals(whole_table.select(["id", "uri"]).filter(live))
    assert "table" not in vars(stored)  # none of that has read all columns
    assert stored.table.equals(whole_table)


def test_a_row_of_a_later_group_is_found(tmp_path):
    table = table_of([row(number, {}) for number in range(9)])
    path = tmp_path / "catalog.parquet"
    pa.parquet.write_table(table, path, row_group_size=4)
    file = CatalogFile(path, 9)
    assert [file.place_of(number) for number in (0, 3, 4, 8)] == [(0, 0), (0, 3), (1, 0), (2, 0)]
    assert file.group(1)["id"].to_pylist() == [f"{number}.png" for number in range(4, 8)]


@pytest.mark.parametrize("size", [3, 50])
def test_what_is_put_together_is_read_in_few_groups(tmp_path, monkeypatch, size):
    """However small the blocks are that a segment is written in: a group costs as much to open as a file does."""
    monkeypatch.setattr("indexer.changes.segment_writer.ROW_GROUP", 100)
    rows = [row(number, {"price": number}) for number in range(20 * size)]
    schema = table_of(rows[:1]).schema
    with SegmentWriter(tmp_path, "000001", schema, dtype="float16") as writer:
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            vectors = {32: np.ones((size, 32), np.float16)}
            writer.add(RowBlock(table_of(some), vectors, np.zeros(size, np.uint8), None))
        record = writer.finish()
    segment = Segment(tmp_path, record)
    assert [len(group) for group in segment.catalog.groups()] == ([60] if size == 3 else [100] * 10)
    assert segment.table().to_pylist() == table_of(rows).to_pylist()
    assert [*segments.verify(tmp_path, EMPTY.following(segments=(record,)))] == []


def test_what_was_opened_is_read_after_it_was_swept(tmp_path, monkeypatch):
    rows = [row(number, {}) for number in range(300)]
    for size in (1 << 20, 1):  # read whole, mapped
        monkeypatch.setattr("indexer.storage.catalog_file.MAPPED", size)
        monkeypatch.setattr("indexer.storage.arrays.MAPPED", size)
        folder = tmp_path / str(size)
        segment = written(folder, "000001", rows)
        stored, vectors = StoredCatalog([segment]), segment.known_vectors(32, "float16")
        shutil.rmtree(folder)
        assert stored.row(299)["id"] == "299.png" and stored.table.num_rows == 300
        assert vectors.shape == (300, 32) and (vectors == 1).all()


def test_an_index_without_images_has_the_catalog_s_own_columns():
    assert StoredCatalog([]).table.equals(join([])) and len(StoredCatalog([]).live) == 0


def test_damage_is_named(tmp_path):
    segment = written(tmp_path, "000001", [row(number, {}) for number in range(5)])
    home = tmp_path / "segments/000001"
    path = home / "vectors-032.npy"
    np.save(path, np.ones((5, 32), np.float32))
    with pytest.raises(DamagedError, match=r"expected \(5, 32\) float16 in .*vectors-032.npy, got \(5, 32\) float32;"):
        segment.known_vectors(32, "float16")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="expected vectors in .*vectors-032.npy, got"):
        segment.known_vectors(32, "float16")
    path.unlink()
    with pytest.raises(DamagedError, match="expected vectors in .*vectors-032.npy, got: .*No such file"):
        segment.known_vectors(32, "float16")
    rows = Rows(buckets={32: 4}, sum_dims=128)
    fewer = SegmentRecord(id="000001", rows=rows, files={"catalog.parquet": FileRecord(size=1, sha256="00" * 32)})
    with pytest.raises(DamagedError, match="expected 4 rows in .*catalog.parquet, got 5"):
        StoredCatalog([Segment(tmp_path, fewer)])
    (home / "catalog.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DamagedError, match="expected a table in .*catalog.parquet, got"):
        CatalogFile(home / "catalog.parquet", 5)
