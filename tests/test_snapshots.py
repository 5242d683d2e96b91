"""Earlier states of an index: listed, opened, restored; and readers whose files are swept under them."""

import json
import re
from dataclasses import replace

import pytest
from toy import ToyEmbedder, flip_byte, png, write_pngs

from indexer import Index
from indexer.storage import manifest
from retrieval.errors import DamagedError, IndexFolderError, MismatchError, UsageError


@pytest.fixture
def index(tmp_path) -> Index:
    """Versions: 0 empty, 1 four pictures, 2 six, 3 five, one of them removed."""
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")
    photos = write_pngs(tmp_path / "photos", range(4))
    index.add(photos, num_workers=0)
    write_pngs(photos, range(4, 6))
    index.add(photos, num_workers=0)
    index.remove(["001.png"])
    return index


def ids(index: Index) -> list[str]:
    return [name.removesuffix(".png") for name in index.catalog()["id"]]


def test_every_change_is_listed(index):
    snapshots = index.snapshots()
    assert [snapshot.version for snapshot in snapshots] == [0, 1, 2, 3] and index.version == 3
    assert [snapshot.change for snapshot in snapshots] == ["create", "add", "add", "remove"]
    assert [snapshot.images for snapshot in snapshots] == [0, 4, 6, 5]
    assert [snapshot.is_current for snapshot in snapshots] == [False, False, False, True]
    assert all(snapshot.is_whole for snapshot in snapshots)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", snapshot.when) for snapshot in snapshots)
    assert snapshots[-1].size_bytes == index.info()["size_bytes"]


def test_an_earlier_state_is_opened(index):
    past = Index.open(index.path, ToyEmbedder(), snapshot=1)
    assert past.version == 1 and ids(past) == ["000", "001", "002", "003"]
    assert past.search(png(1))[0].id == "001.png" and past.info()["images"] == 4
    assert ids(Index.open(index.path, ToyEmbedder(), snapshot=3)) == ids(index)
    with pytest.raises(UsageError, match=r"expected one of the snapshots of .*, 0, 1, 2, 3, got 4"):
        Index.open(index.path, snapshot=4)


def test_a_state_that_never_counted_is_no_snapshot(index):
    """A crash came between the copy in the history and the manifest."""
    state = manifest.read(index.path)
    (index.path / "history/000004.json").write_bytes(state.following("add").to_bytes())
    assert [snapshot.version for snapshot in index.snapshots()] == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="expected one of the snapshots"):
        index.restore(4)


def test_restoring_loses_nothing(index):
    assert index.restore(2) == 4
    assert ids(index) == ["000", "001", "002", "003", "004", "005"] and index.search(png(1))[0].id == "001.png"
    assert index.snapshots()[-1].change == "restore 2" and index.verify() == []
    assert index.restore(4) == 4  # what is there already
    assert index.restore(3) == 5 and "001" not in ids(index)
    assert index.restore(0) == 6 and ids(index) == [] and index.search(png(1)) == []
    assert [snapshot.images for snapshot in index.snapshots()] == [0, 4, 6, 5, 6, 5, 0]


def test_newer_is_the_state_that_others_have_written(index, tmp_path):
    reader = Index.open(index.path, ToyEmbedder())
    assert reader.newer() is None
    index.remove(["005.png"])
    newer = reader.newer()
    assert newer.version == 4 and newer.embedder is reader.embedder and newer.newer() is None
    assert "005" in ids(reader) and "005" not in ids(newer)
    assert Index.open(index.path, snapshot=2).newer().version == 4


def test_writing_from_an_earlier_state_follows_the_newest(index):
    past = Index.open(index.path, ToyEmbedder(), snapshot=2)
    past.remove(["005.png"])
    assert past.version == 4 and ids(past) == ["000", "002", "003", "004"]


def test_a_snapshot_without_its_files_is_refused(index):
    for path in (index.path / "segments" / manifest.read(index.path).segments[0].id).iterdir():
        path.unlink()
    assert [snapshot.is_whole for snapshot in index.snapshots()] == [True, False, False, False]
    with pytest.raises(IndexFolderError, match=r"files of snapshot 1 in .*, found that they are gone; .* whole: 0$"):
        index.restore(1)
    with pytest.raises(DamagedError, match="expected a table in"):  # of the newest state nothing better is known
        Index.open(index.path, ToyEmbedder()).search(png(0))


def test_a_damaged_history_is_told_and_stops_nobody(index, caplog):
    (index.path / "history/000001.json").write_text("{}")
    assert [snapshot.version for snapshot in index.snapshots()] == [0, 2, 3]
    assert "history/000001.json: expected a manifest" in caplog.text
    with pytest.raises(DamagedError, match="history/000001.json: .*; choose another snapshot"):
        index.restore(1)
    (index.path / "history/000001.json").write_bytes((index.path / "history/000002.json").read_bytes())
    with pytest.raises(DamagedError, match="history/000001.json: expected version 1, got 2"):
        index.restore(1)


def test_a_reader_goes_to_the_newest_state_when_its_files_are_swept(index):
    readers = [Index.open(index.path, ToyEmbedder()) for _ in range(3)]
    early = Index.open(index.path, ToyEmbedder())
    early_hits = early.search(png(0))
    past = Index.open(index.path, ToyEmbedder(), snapshot=2)
    index.compact(keep_snapshots=0)
    assert readers[0].search(png(0)) == early_hits and readers[0].version == 4
    assert ids(readers[1]) == ids(index)
    assert early.search(png(0)) == early_hits and early.version == 3  # it has its files still
    with pytest.raises(IndexFolderError, match=r"expected the files of snapshot 2 .* gone; those that are whole: 4$"):
        past.search(png(0))


def test_a_state_of_another_model_brings_its_own_embedder(index):
    state = manifest.read(index.path)
    manifest.publish(index.path, state.following("reencode", model=replace(state.model, fingerprint="beef")))
    newer = index.newer()
    assert newer._embedder is None
    with pytest.raises(MismatchError):
        Index.open(index.path, ToyEmbedder())
    assert Index.open(index.path, ToyEmbedder(), snapshot=3).search(png(0))[0].id == "000.png"


def test_manifests_say_when_and_why(index):
    content = json.loads((index.path / "manifest.json").read_bytes())
    assert content["change"] == "remove" and [*content][:4] == ["schema", "version", "when", "change"]


def test_verify_reads_the_files_of_snapshots_too(index):
    index.compact(keep_snapshots=2)
    assert index.verify() == []
    kept = [manifest.Manifest.from_bytes(path.read_bytes()) for path in sorted((index.path / "history").iterdir())]
    assert [state.version for state in kept] == [2, 3, 4]
    name, _ = next(kept[0].files())
    flip_byte(index.path / name, 10)
    assert index.verify() == [
        f"{name}: expected the bytes that were written, got others (the sha256 differs); snapshot 3 needs it"
    ]
    (index.path / name).unlink()
    assert index.verify() == [f"{name}: expected a file, found none; snapshot 3 needs it"]
    assert [snapshot.is_whole for snapshot in index.snapshots()] == [False, False, True]
    assert index.search(png(0))[0].id == "000.png"
