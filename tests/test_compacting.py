"""Compacting: the same answers from one segment, and nothing left that nobody needs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import ToyEmbedder, flip_byte, png, write_pngs

from indexer import Index, segments
from indexer.changes import row_blocks
from indexer.searching import gallery
from indexer.storage import manifest
from indexer.storage.arrays import ArrayWriter
from retrieval.errors import DamagedError, IndexFolderError, UsageError

NUM = 20


@pytest.fixture
def index(tmp_path) -> Index:
    """Twenty pictures in five segments, two of them changed since, three removed; one picture lies there twice."""
    photos = write_pngs(tmp_path / "photos", range(NUM))
    (photos / "twin.png").write_bytes(png(4))
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(photos, num_workers=0, batch_size=4, commit_seconds=0)
    (photos / "002.png").write_bytes(png(102))
    (photos / "011.png").write_bytes(png(111))
    index.add(photos, num_workers=0)
    index.remove(["000.png", "007.png", "011.png"])
    return index


def answers(index: Index) -> list:
    return [index.search(png(seed), top_k=NUM + 5, rerank=0) for seed in (2, 4, 102, 999)]


def tokens_by_id(index: Index) -> dict[str, list]:
    opened = gallery.read(index.path, manifest.read(index.path), "cpu")
    (numbers,) = np.nonzero(opened.catalog.live)
    taken = opened.tokens.take(numbers)
    ids = opened.catalog.live_rows()["id"].to_pylist()
    return {image_id: taken.take([place]).values.tolist() for place, image_id in enumerate(ids)}


def test_the_same_answers_from_one_segment(index):
    before, catalog, tokens = answers(index), index.catalog(), tokens_by_id(index)
    assert index.info()["segments"] > 4
    report = index.compact()
    assert (report.images, report.segments_after, report.deleted_rows) == (len(catalog), 1, 5)
    assert report.segments_before > 4 and report.snapshots == 1
    for opened in (index, Index.open(index.path, ToyEmbedder())):
        assert answers(opened) == before and opened.catalog().equals(catalog)
        assert tokens_by_id(opened) == tokens and opened.verify() == []
    state = manifest.read(index.path)
    assert len(state.segments) == 1 and state.tombstones == () and state.change == "compact"
    assert state.segments[0].rows.num == len(catalog) and state.segments[0].token_bytes == 1024


@pytest.mark.parametrize("block", [1, 3])
def test_in_blocks_of_any_size(index, monkeypatch, block):
    before, tokens = answers(index), tokens_by_id(index)
    monkeypatch.setattr(row_blocks, "BLOCK", block)
    index.compact()
    assert answers(index) == before and tokens_by_id(index) == tokens and index.verify() == []


def test_what_nothing_needs_is_swept(index):
    (index.path / "segments/000099-left").mkdir()
    (index.path / "segments/000099-left/vectors-032.npy").write_bytes(b"cut sh")
    (index.path / "deleted/000099-left.parquet").write_bytes(b"")
    (index.path / "history/.000099.json.new").write_bytes(b"")
    (index.path / ".manifest.json.new").write_bytes(b"")
    named = index.path / "segments" / manifest.read(index.path).segments[0].id
    (named / "tokens-2.npy").write_bytes(b"cut sh")
    first = index.compact()
    assert [snapshot.version for snapshot in index.snapshots()] == [index.version - 1, index.version]
    assert not (named / "tokens-2.npy").exists()
    assert not list(index.path.rglob("*left*")) and not list(index.path.rglob("*.new"))
    earlier = Index.open(index.path, ToyEmbedder(), snapshot=index.version - 1)
    assert answers(earlier) == answers(index)

    version = index.version
    second = index.compact(keep_snapshots=0)
    assert (first.snapshots, second.snapshots) == (1, 0)
    assert index.version == version and (second.segments_before, second.segments_after) == (1, 1)
    assert second.bytes_after < first.bytes_after and len(index.snapshots()) == 1
    files = {path.relative_to(index.path).as_posix() for path in index.path.rglob("*") if path.is_file()}
    state = manifest.read(index.path)
    expected = {name for name, _ in state.files()} | {"manifest.json", f"history/{version:06d}.json", "lock"}
    assert files - {"failures.jsonl"} == expected and list((index.path / "segments").iterdir()) == [
        index.path / "segments" / state.segments[0].id
    ]
    assert index.verify() == []


def test_as_many_snapshots_are_told_as_are_left(index):
    index.compact(keep_snapshots=0)
    assert index.compact(keep_snapshots=5).snapshots == 0
    index.remove(["001.png"])
    assert index.compact(keep_snapshots=5).snapshots == len(index.snapshots()) - 1 == 2


def test_a_link_is_removed_and_not_what_it_leads_to(index, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    (index.path / "segments/link").symlink_to(outside)
    index.compact()
    assert (outside / "precious").exists() and not (index.path / "segments/link").is_symlink()


def test_nothing_left_to_merge(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    assert index.compact().segments_after == 0 and index.version == 0
    index.add(write_pngs(tmp_path / "photos", range(3)), num_workers=0)
    assert index.compact().segments_after == 1 and index.version == 1
    index.remove(where="true")
    report = index.compact(keep_snapshots=0)
    assert (report.images, report.segments_after, report.deleted_rows) == (0, 0, 3)
    assert index.search(png(0)) == [] and index.verify() == [] and not list(index.path.glob("segments/*"))
    index.add(tmp_path / "photos", num_workers=0)
    assert index.search(png(1))[0].id == "001.png" and index.verify() == []


def test_columns_of_different_kinds_come_together(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    for number, values in enumerate(([1, 2], ["3", None], [None, None])):
        ids = [f"{number}a", f"{number}b"]
        images = [png(2 * number), png(2 * number + 1)]
        columns = {"id": ids, "image": images, "price": values} | ({"colour": ["r", "g"]} if number == 1 else {})
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
        index.add(tmp_path / f"{number}.parquet", num_workers=0)
    catalog, dear = index.catalog(), index.search(png(0), where="price >= '2'")
    index.compact()
    assert index.catalog().equals(catalog) and index.search(png(0), where="price >= '2'") == dear
    assert {hit.id for hit in dear} == {"0b", "1a"}


def test_damage_is_not_passed_on(index):
    path = next(index.path.glob("segments/*/vectors-*.npy"))
    flip_byte(path, path.stat().st_size - 1)
    before = manifest.read(index.path)
    with pytest.raises(DamagedError, match=f"expected a sound index .* got .*{path.name}: .*; `verify` lists all"):
        index.compact()
    assert manifest.read(index.path) == before


def test_a_full_disk_leaves_everything_as_it_was(index, monkeypatch):
    before, state = answers(index), manifest.read(index.path)
    files = {path: path.read_bytes() for path in index.path.rglob("*") if path.is_file()}
    append = ArrayWriter.append

    def full(writer, rows):
        if writer.width == 12:
            raise OSError(28, "No space left on device")
        append(writer, rows)

    with monkeypatch.context() as patched:
        patched.setattr(ArrayWriter, "append", full)
        with pytest.raises(IndexFolderError, match="cannot: No space left on device; what was there stays"):
            index.compact()
    assert manifest.read(index.path) == state and answers(Index.open(index.path, ToyEmbedder())) == before
    assert {path: path.read_bytes() for path in index.path.rglob("*") if path.is_file()} == files
    index.compact()
    assert answers(index) == before


def test_tokens_of_segments_without_any(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), token_bytes=0)
    photos = write_pngs(tmp_path / "photos", range(3))
    index.add(photos, num_workers=0)
    index.add_tokens(token_bytes=48, num_workers=0)
    first = manifest.read(index.path)
    manifest.publish(index.path, first.following("test", token_bytes=0))
    index.add(write_pngs(tmp_path / "more", range(3, 6)), num_workers=0)
    before = tokens_by_id(index)
    assert before["004.png"] == [] and len(before["001.png"]) > 0
    index.compact()
    assert tokens_by_id(index) == before and index.verify() == []


def test_keep_snapshots_is_a_count(index):
    for keep in (-1, True, "2", None):
        with pytest.raises(UsageError, match="expected keep_snapshots of 0 or more, got"):
            index.compact(keep_snapshots=keep)
    index.compact(keep_snapshots=2)
    assert len(index.snapshots()) == 3


@settings(max_examples=30, deadline=None)
@given(blocks=st.lists(st.integers(0, 5), min_size=1, max_size=5), width=st.sampled_from([None, 1, 7]))
def test_an_array_in_blocks_is_the_file_that_numpy_writes(tmp_path_factory, blocks, width):
    folder = tmp_path_factory.mktemp("arrays")
    num = sum(blocks)
    whole = np.arange(num * (width or 1), dtype=np.float16).reshape((num,) if width is None else (num, width))
    writer = ArrayWriter(folder / "blocks.npy", width, np.dtype(np.float16))
    for rows in np.split(whole, np.cumsum(blocks)[:-1]):
        writer.append(rows)
    writer.finish()
    np.save(folder / "whole.npy", whole)
    assert (folder / "blocks.npy").read_bytes() == (folder / "whole.npy").read_bytes()


def test_the_plain_reading_of_a_segment_agrees_with_the_blocks(index, monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK", 2)
    for part in segments.read(index.path, manifest.read(index.path)):
        table = part.table()
        live, buckets = part.live(table), table["bucket"].to_numpy()
        found = list(row_blocks.live_blocks(part))
        assert pa.concat_tables(block.table for block in found).equals(table.filter(pa.array(live)))
        for width in part.record.rows.buckets:
            plain = part.vectors(width)[live[buckets == width]]
            assert np.array_equal(np.concatenate([block.vectors[width] for block in found]), plain)
