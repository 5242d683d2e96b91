"""An index folder in which one file is not as it was written: an error that names the file, or the same answers."""

import errno
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import damaged_indexes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import ToyEmbedder, png, write_pngs

from indexer import Index
from indexer.storage import arrays, catalog_file, manifest
from retrieval.errors import DamagedError, IndexFolderError


@pytest.mark.slow
def test_no_damage_crashes_or_goes_unnoticed(tmp_path, request):
    seeds = range(2000 if request.config.getoption("--all-faults") else 80)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other_process:
        report = other_process.submit(damaged_indexes.run, tmp_path, seeds).result()
    print(f"{report.num_tried} damaged indexes: {dict(report.outcomes)}")
    assert report.problems == [] and report.num_tried == len(seeds)
    assert report.outcomes["refused"] > len(seeds) / 4 and report.outcomes["crash"] == 0


@pytest.mark.parametrize(
    "head",
    [
        b"{'descr': '|i1', 'fortran_order': False, 'shape': (-1, 4), }",
        b"{'descr': '|i1', 'fortran_order': False, 'shape': (9, 4), }",
        b"{'descr': '|O8', 'fortran_order': False, 'shape': (1, 4), }",
        b"{'descr': '|i1', 'fortran_order': False, 'shape': ((((((",
        b"{'descr': \x1a",
        b"",
    ],
)
def test_a_damaged_head_of_an_array_is_one_line_that_names_the_file(tmp_path, head):
    path = tmp_path / "tokens.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + np.uint16(118).tobytes() + head.ljust(117) + b"\n" + bytes(4))
    with pytest.raises(DamagedError, match=r"^expected tokens in .*tokens\.npy, got: [^\n]*; `verify` lists") as error:
        arrays.read(path, "tokens")
    assert "\n" not in str(error.value)


def test_text_that_is_none_is_damage(tmp_path):
    path = tmp_path / "tombstones.parquet"
    not_text = pa.array([b"\xff\xfe"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"segment": not_text}), path)
    with pytest.raises(DamagedError, match="expected a table in .*tombstones.parquet, got: .*UTF8"):
        catalog_file.read_table(path, ["segment"])


def test_more_rows_than_any_memory_holds_are_no_rows(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    index.add(write_pngs(tmp_path / "pictures", range(3)), num_workers=0)
    state = manifest.read(index.path)
    (record,) = state.segments
    many = replace(record, rows=replace(record.rows, buckets=dict.fromkeys(record.rows.buckets, 2**40)))
    (index.path / "manifest.json").write_bytes(replace(state, segments=(many,)).to_bytes())
    opened = Index.open(index.path, ToyEmbedder(token_dim=0))
    with pytest.raises(DamagedError, match=r"expected \d{13,} rows in .*catalog.parquet, got 3"):
        opened.search(png(0))
    assert any("catalog.parquet" in line for line in opened.verify())


def test_what_is_wrong_with_an_earlier_state_stops_nobody(tmp_path, caplog):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    for seeds in (range(3), range(3, 6), range(6, 9)):
        index.add(write_pngs(tmp_path / "pictures", seeds), num_workers=0)
    history = index.path / "history"
    (history / "000000.json").unlink()
    (history / "000000.json").symlink_to("nothing")
    (history / "000001.json").write_bytes(b"{}")
    assert [snapshot.version for snapshot in index.snapshots()] == [2, 3]
    assert "000001.json: expected a manifest" in caplog.text
    assert [line.partition(":")[0] for line in index.verify()] == ["history/000000.json", "history/000001.json"]


def test_a_sweep_does_not_take_for_gone_what_cannot_be_read_just_now(tmp_path, monkeypatch):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    index.add(write_pngs(tmp_path / "pictures", range(3)), num_workers=0)
    index.remove(["000.png"])
    history = index.path / "history" / "000001.json"
    read_bytes = type(history).read_bytes

    def fail_once(path):
        if path == history:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(path)

    with monkeypatch.context() as patches:
        patches.setattr(type(history), "read_bytes", fail_once)
        with pytest.raises(IndexFolderError, match="000001.json, got: Input/output error"):
            index.compact()
    assert history.exists() and index.verify() == []
