"""Keeping up with sources that change: renames, copies, metadata, what has vanished, and what is tried again."""

import json
import os
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import ToyEmbedder, png, write_pngs

from indexer import Index
from indexer.changes import pruning
from indexer.changes.known_rows import Known, KnownRows
from indexer.changes.pruning import vanished
from indexer.names import num_duplicates
from indexer.segments import Place
from retrieval.errors import IndexFolderError, SourceError, UsageError


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_pngs(tmp_path / "photos", range(6))


@pytest.fixture
def index(tmp_path) -> Index:
    return Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")


def add(index: Index, *sources, **options) -> dict[str, int]:
    """What became of the pictures: the counts that are not 0, and how many the model saw."""
    before = index.embedder.encoded
    report = index.add(*sources, num_workers=0, **options)
    names = ("added", "unchanged", "updated", "skipped", "renamed", "duplicates", "pruned")
    counts = {name: getattr(report, name) for name in names}
    counts["encoded"] = index.embedder.encoded - before
    assert index.verify() == []
    return {name: num for name, num in counts.items() if num}


def ids(index: Index) -> list[str]:
    return sorted(index.catalog()["id"])


def best(index: Index, seed: int, **options) -> tuple[str, tuple[str, ...]]:
    hit = index.search(png(seed), top_k=1, **options)[0]
    assert hit.similarity > 0.999
    return hit.id, hit.names


def tokens_of(index: Index, image_id: str) -> list[list[int]]:
    gallery = index._open_gallery()
    return gallery.tokens.take(np.array([gallery.catalog.find([image_id])[image_id]])).values.tolist()


def test_a_renamed_file_keeps_its_vector_and_tokens_and_gets_its_new_id(index, photos):
    add(index, photos)
    vectors, tokens = index._open_gallery().vectors(np.arange(6)), tokens_of(index, "002.png")
    (photos / "sub").mkdir()
    (photos / "002.png").rename(photos / "sub" / "new.png")
    assert add(index, photos) == {"unchanged": 5, "renamed": 1}
    assert ids(index) == ["000.png", "001.png", "003.png", "004.png", "005.png", "sub/new.png"]
    assert best(index, 2) == ("sub/new.png", ())
    assert index.search(png(2), top_k=1)[0].uri == str(photos / "sub" / "new.png")
    gallery = index._open_gallery()
    assert gallery.vectors(np.array([gallery.catalog.find(["sub/new.png"])["sub/new.png"]])).tolist() == [
        vectors[2].tolist()
    ]
    assert tokens_of(index, "sub/new.png") == tokens
    assert add(index, photos) == {"unchanged": 6}


def test_names_that_are_swapped_or_passed_on_need_no_model(index, photos):
    add(index, photos)
    (photos / "000.png").rename(photos / "x")
    (photos / "001.png").rename(photos / "000.png")
    (photos / "x").rename(photos / "001.png")
    assert add(index, photos) == {"unchanged": 4, "updated": 2}
    assert best(index, 0) == ("001.png", ()) and best(index, 1) == ("000.png", ())
    (photos / "005.png").rename(photos / "006.png")
    (photos / "004.png").rename(photos / "005.png")
    assert add(index, photos, commit_seconds=0) == {"unchanged": 4, "updated": 1, "duplicates": 1}
    assert add(index, photos, prune=True) == {"unchanged": 6, "pruned": 1}
    assert best(index, 5) == ("006.png", ()) and best(index, 4) == ("005.png", ())


@pytest.mark.parametrize("commit_seconds", [0, 1000])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_copies_are_encoded_once_in_one_run_and_in_the_next(index, photos, commit_seconds, batch_size):
    for name in ("000 copy.png", "005 copy.png", "zz.png"):
        shutil.copy(photos / f"{5 if name[0] == 'z' else int(name[:3]):03d}.png", photos / name)
    options = {"commit_seconds": commit_seconds, "batch_size": batch_size}
    assert add(index, photos, **options) == {"added": 6, "duplicates": 3, "encoded": 6}
    assert best(index, 0) == ("000 copy.png", ("000.png",))
    assert best(index, 5) == ("005 copy.png", ("005.png", "zz.png"))
    shutil.copy(photos / "001.png", photos / "000.jpg")
    assert add(index, photos, **options) == {"unchanged": 9, "duplicates": 1}
    assert best(index, 1) == ("000.jpg", ("001.png",))
    assert tokens_of(index, "000.jpg") == tokens_of(index, "001.png")
    assert index.info()["duplicates"] == 4 and add(index, photos) == {"unchanged": 10}


def test_a_copy_that_is_changed_is_a_picture_of_its_own_and_the_other_names_stay(index, photos):
    shutil.copy(photos / "003.png", photos / "000 copy.png")
    add(index, photos)
    (photos / "000 copy.png").write_bytes(png(103))
    assert add(index, photos) == {"unchanged": 6, "updated": 1, "encoded": 1}
    assert best(index, 3) == ("003.png", ()) and best(index, 103) == ("000 copy.png", ())
    (photos / "000 copy.png").write_bytes(png(4))
    assert add(index, photos) == {"unchanged": 6, "updated": 1}
    assert best(index, 4) == ("000 copy.png", ("004.png",))


def test_one_of_several_names_is_renamed_or_vanishes(index, photos):
    shutil.copy(photos / "003.png", photos / "a.png")
    add(index, photos)
    (photos / "003.png").rename(photos / "b.png")
    assert add(index, photos) == {"unchanged": 6, "renamed": 1}
    assert best(index, 3) == ("a.png", ("b.png",))
    (photos / "a.png").unlink()
    assert add(index, photos, prune=True) == {"unchanged": 6, "pruned": 1}
    assert best(index, 3) == ("b.png", ())


def test_a_name_that_another_file_takes_over_in_the_same_run(index, tmp_path, photos):
    """The old file was renamed, and in another source there is one of its old name: no row is deleted twice."""
    add(index, photos)
    (photos / "000.png").rename(photos / "new.png")
    other = tmp_path / "other"
    other.mkdir()
    (other / "000.png").write_bytes(png(200))
    for sources in ((photos, other), (other, photos)):
        changed = Index.create(tmp_path / f"{sources[0].name}.index", ToyEmbedder())
        (photos / "new.png").rename(photos / "000.png")
        add(changed, photos)
        (photos / "000.png").rename(photos / "new.png")
        add(changed, *sources)
        assert ids(changed) == ["000.png", "001.png", "002.png", "003.png", "004.png", "005.png", "new.png"]
        assert best(changed, 0) == ("new.png", ()) and best(changed, 200) == ("000.png", ())


def write_table(path: Path, rows: dict[str, int], **columns) -> Path:
    images = [png(seed) for seed in rows.values()]
    pq.write_table(pa.table({"id": [*rows], "image": images, **columns}), path)
    return path


def test_metadata_that_changes_is_updated_without_the_model(index, tmp_path):
    path = write_table(tmp_path / "shop.parquet", {"a": 1, "b": 2}, label=["cat", "dog"], price=[1.5, 2.0])
    assert add(index, path) == {"added": 2, "encoded": 2}
    assert add(index, path) == {"unchanged": 2}
    for label, price, columns in ((["cat", "cow"], [1.5, 2.0], {}), (["cat", "cow"], [1.5, 7.0], {"shop": ["x", "y"]})):
        write_table(path, {"a": 1, "b": 2}, label=label, price=price, **columns)
        changed = 2 if columns else 1
        expected = {"unchanged": 2 - changed, "updated": changed}
        assert add(index, path) == {name: num for name, num in expected.items() if num}
        assert add(index, path) == {"unchanged": 2}
    (hit,) = index.search(png(2), top_k=1)
    assert (hit.label, hit.columns) == ("cow", {"price": 7.0, "shop": "y"})
    write_table(path, {"a": 1, "b": 2}, label=["cat", None], price=[1.5, None])
    assert add(index, path) == {"updated": 2}
    assert (index.search(png(2), top_k=1)[0].label, add(index, path)) == (None, {"unchanged": 2})


def test_columns_of_every_kind_are_found_unchanged(index, tmp_path):
    from datetime import date, datetime
    from decimal import Decimal

    path = write_table(
        tmp_path / "kinds.parquet",
        {"a": 1, "b": 2},
        day=[date(2020, 1, 2), None],
        moment=pa.array([datetime(2020, 1, 2, 3, 4, 5, 6)] * 2, pa.timestamp("ns")),
        price=[Decimal("1.50"), Decimal("2.00")],
        nothing=[None, float("nan")],
        width=[7, 8],
        flag=[True, None],
        big=pa.array([2**63, 1], pa.uint64()),
    )
    assert add(index, path)["added"] == 2
    assert add(index, path) == {"unchanged": 2}


def test_a_folder_without_label_from_takes_no_labels_away(index, photos):
    add(index, photos, label_from="parent")
    assert add(index, photos) == {"unchanged": 6}
    (photos / "003.png").write_bytes(png(103))
    assert add(index, photos) == {"unchanged": 5, "updated": 1, "encoded": 1}
    assert set(index.catalog()["label"]) == {"photos"}
    photos.rename(photos.with_name("pictures"))
    assert add(index, photos.with_name("pictures"), label_from="parent") == {"updated": 6}
    assert set(index.catalog()["label"]) == {"pictures"}


def test_prune_deletes_what_a_folder_lacks_and_nothing_of_other_sources(index, tmp_path, photos):
    other = write_pngs(tmp_path / "photos and more", range(10, 12))
    table = write_table(photos / "shop.parquet", {"sku": 20})
    listed = tmp_path / "paths.csv"
    (tmp_path / "lone.png").write_bytes(png(21))
    listed.write_text("id,path\nlisted,photos/004.png\nlone,lone.png\n")
    add(index, photos, other, table, listed)
    for path in (photos / "001.png", other / "010.png", table, photos / "004.png"):
        path.unlink()
    assert add(index, photos) == {"unchanged": 4}  # nothing is deleted that was not asked for
    assert add(index, photos, prune=True) == {"unchanged": 4, "pruned": 2}
    assert ids(index) == ["000.png", "002.png", "003.png", "005.png", "010.png", "011.png", "listed", "lone", "sku"]
    listed.write_text("id,path\nlisted,photos/004.png\n")
    assert add(index, listed, prune=True) == {"skipped": 1, "pruned": 1}
    assert ids(index) == ["000.png", "002.png", "003.png", "005.png", "010.png", "011.png", "listed", "sku"]


def test_prune_of_a_table_deletes_the_rows_that_it_lacks(index, tmp_path):
    path = write_table(tmp_path / "shop.parquet", {"a": 1, "b": 2, "c": 3})
    add(index, path)
    write_table(path, {"b": 2, "c": 3})  # the rows move up
    assert add(index, path, prune=True) == {"updated": 2, "pruned": 1}
    assert ids(index) == ["b", "c"] and index.read_image(index.search(png(3), top_k=1)[0].uri) == png(3)


def test_prune_refuses_a_source_that_is_missing_or_empty(index, tmp_path, photos):
    other = write_pngs(tmp_path / "other", range(20, 22))
    add(index, photos, other)
    away = photos.rename(tmp_path / "away")
    with pytest.raises(SourceError, match="found nothing at .*photos"):
        index.add(other, photos, num_workers=0, prune=True)
    photos.mkdir()
    (other / "020.png").unlink()
    message = "expected pictures in .*photos to tell by .*, found none, where the index has 6 from there; is it mounted"
    with pytest.raises(SourceError, match=message):
        index.add(photos, other, num_workers=0, prune=True)
    assert len(ids(index)) == 8 and index.verify() == []
    photos.rmdir()
    away.rename(photos)
    assert add(index, photos, other, prune=True) == {"unchanged": 7, "pruned": 1}


@pytest.fixture
def few(monkeypatch) -> None:
    """Three pictures are many."""
    monkeypatch.setattr(pruning, "MANY", 3)


def test_prune_refuses_what_most_of_a_source_is_gone_of(index, photos, few):
    add(index, photos)
    for seed in range(2):
        (photos / f"{seed:03d}.png").unlink()
    write_pngs(photos, range(6, 8))
    assert add(index, photos, prune=True) == {"added": 2, "encoded": 2, "unchanged": 4, "pruned": 2}
    for seed in (2, 3, 4):
        (photos / f"{seed:03d}.png").unlink()
    message = "expected most pictures of .*photos to be there still, got 3, and 3 gone; is it mounted.*--prune-all"
    with pytest.raises(SourceError, match=message):
        index.add(photos, num_workers=0, prune=True)
    assert len(ids(index)) == 6
    assert add(index, photos, prune="all") == {"unchanged": 3, "pruned": 3}
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(SourceError, match="found none, where the index has 3 from there"):
        index.add(photos, num_workers=0, prune=True)
    assert add(index, photos, prune="all") == {"pruned": 3}


def test_prune_refuses_what_was_below_a_folder_that_is_empty_now(index, photos, few):
    disk = write_pngs(photos / "disk" / "2020", range(10, 13)).parent
    album = write_pngs(photos / "album", range(20, 22))
    add(index, photos)
    shutil.rmtree(album)
    shutil.rmtree(disk)
    disk.mkdir()
    message = "expected pictures in .*disk, got an empty folder, and 3 pictures gone below such; is it mounted"
    with pytest.raises(SourceError, match=message):
        index.add(photos, num_workers=0, prune=True)
    assert len(ids(index)) == 11
    disk.rmdir()
    assert add(index, photos, prune=True) == {"unchanged": 6, "pruned": 5}


def test_a_few_pictures_of_an_empty_folder_are_pruned(index, photos, few):
    disk = write_pngs(photos / "disk", range(10, 12))
    add(index, photos)
    shutil.rmtree(disk)
    disk.mkdir()
    assert add(index, photos, prune=True) == {"unchanged": 6, "pruned": 2}


def test_folders_that_were_renamed_are_no_loss(index, tmp_path, few):
    year = write_pngs(tmp_path / "photos" / "2024", range(8))
    add(index, tmp_path / "photos")
    year.rename(year.with_name("2024, the best"))
    year.mkdir()
    assert add(index, tmp_path / "photos", prune=True) == {"renamed": 8}


def test_prune_is_asked_for_in_words_that_are_known(index, photos):
    with pytest.raises(UsageError, match="expected prune as True, False or 'all', got 'most'"):
        index.add(photos, prune="most")


def test_prune_leaves_what_could_not_be_read(index, photos, tmp_path, monkeypatch):
    """A broken picture, a folder that may not be entered, an archive that breaks off: nothing of them has vanished."""
    from indexer.sources import folders

    (photos / "sub").mkdir()
    (photos / "003.png").rename(photos / "sub" / "003.png")
    add(index, photos)
    (photos / "001.png").write_bytes(b"")
    (photos / "002.png").unlink()
    scandir = os.scandir

    def refused(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refused)
    assert add(index, photos, prune=True) == {"unchanged": 3, "skipped": 2, "pruned": 1}
    assert ids(index) == ["000.png", "001.png", "004.png", "005.png", "sub/003.png"]


def test_prune_leaves_what_lies_behind_a_link_that_leads_nowhere(index, photos, tmp_path):
    disk = write_pngs(tmp_path / "disk", range(10, 12))
    (photos / "disk").symlink_to(disk)
    assert add(index, photos)["added"] == 8
    away = disk.rename(tmp_path / "away")
    assert add(index, photos, prune=True) == {"unchanged": 6}
    away.rename(disk)
    (disk / "010.png").unlink()
    assert add(index, photos, prune=True) == {"unchanged": 7, "pruned": 1}


def test_what_may_not_be_looked_at_is_not_gone(index, photos, tmp_path, monkeypatch):
    """Its bytes under another name are a copy then, not the renamed file."""
    from indexer import corpus

    add(index, photos)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "003.png", other / "copy.png")
    stat = os.stat

    def refused(path, **options):
        if str(path).startswith(str(photos)):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(corpus.os, "stat", refused)
        assert add(index, other) == {"duplicates": 1}
    assert best(index, 3) == ("003.png", ("copy.png",))


def test_prune_by_hand():
    def known(uri, listed_in=None):
        return Known(uri, "s", Place(segment="s", row=0, dim=1, bucket=32), listed_in)

    rows = {
        "a": known("/p/a.png"),
        "b": known("/p/sub/b.png"),
        "c": known("/pq/c.png"),
        "d": known("/p/t.tar#d.png"),
        "e": known("/p/e.png", listed_in="/p/list.csv"),
        "f": known("/p/f.png"),
    }
    seen = {"a": "/p/a.png", "sub/f": "/p/f.png"}
    assert vanished("/p", rows, seen, (), 2) == ["b"]
    assert vanished("/p/", rows, seen, (), 2) == ["b"]
    assert vanished("/", rows, seen, (), 2) == ["b", "c"]
    assert vanished("/p", rows, seen, {"/p/sub"}, 2) == [] and vanished("/p", rows, seen, {"/p"}, 2) == []
    assert vanished("/p/t.tar", rows, seen, (), 2) == ["d"] and vanished("/p/list.csv", rows, seen, (), 2) == ["e"]
    assert vanished("/p/t.tar", rows, seen, {"/p/t.tar"}, 2) == []
    assert vanished("/p/list.csv", rows, seen, {"/p/list.csv"}, 2) == []
    assert vanished("/q", rows, seen, (), 0) == []
    with pytest.raises(SourceError, match="the index has 1 from there"):
        vanished("/pq", rows, seen, (), 0)
    assert vanished("/pq", rows, seen, (), 0, is_sure=True) == ["c"]


def test_rows_that_came_without_tokens_are_renamed_and_copied_all_the_same(index, photos, tmp_path):
    add(index, photos)
    index.export(tmp_path / "bare.parquet", tokens=False)
    bare = Index.create(tmp_path / "bare.index", ToyEmbedder())
    bare.import_(tmp_path / "bare.parquet")
    (photos / "000.png").rename(photos / "new.png")
    shutil.copy(photos / "001.png", photos / "copy.png")
    shutil.copy(photos / "001.png", photos / "copy 2.png")
    (photos / "009.png").write_bytes(png(9))
    assert add(bare, photos) == {"added": 1, "unchanged": 5, "renamed": 1, "duplicates": 2, "encoded": 1}
    assert best(bare, 0) == ("new.png", ()) and best(bare, 1) == ("001.png", ("copy 2.png", "copy.png"))
    assert tokens_of(bare, "new.png") == [] and len(tokens_of(bare, "009.png")) > 1


def test_a_picture_that_waits_to_be_committed_keeps_no_pixels(index, photos):
    from indexer.changes.pending import Addition
    from indexer.sources.decoding import Outcome
    from indexer.sources.item import Item

    addition = Addition(Item(id="a", uri="/a", source="s"), Outcome(sha256="s", pixels=np.zeros((2, 2, 3), np.uint8)))
    assert addition.without_pixels().outcome == Outcome(sha256="s")


def test_a_picture_of_another_place_takes_no_name_from_one_whose_disk_is_away(index, photos, tmp_path):
    add(index, photos)
    (tmp_path / "photos").rename(tmp_path / "away")
    other = tmp_path / "other"
    other.mkdir()
    for name, seed in (("000.png", 20), ("001.png", 21)):
        (other / name).write_bytes(png(seed))
    assert add(index, other) == {"added": 2, "encoded": 2}
    assert add(index, other) == {"unchanged": 2}
    assert best(index, 0)[0] == "000.png" and best(index, 20)[0] == "other/000.png"
    (tmp_path / "away").rename(tmp_path / "photos")
    assert add(index, photos, other) == {"unchanged": 8}


def test_a_folder_that_moved_keeps_its_names_but_for_what_was_changed_too(index, photos, tmp_path):
    add(index, photos)
    moved = photos.rename(tmp_path / "moved")
    (moved / "001.png").write_bytes(png(30))
    assert add(index, moved) == {"updated": 5, "added": 1, "encoded": 1}
    assert best(index, 0)[0] == "000.png" and best(index, 30)[0] == "moved/001.png"
    assert add(index, moved) == {"unchanged": 6}


def test_a_name_that_another_picture_has_taken_meanwhile_is_no_old_name(index, photos, tmp_path):
    first = write_pngs(tmp_path / "first", range(1))
    shutil.copy(first / "000.png", first / "b.png")
    add(index, first)
    shutil.rmtree(first)
    second, third, fourth = (tmp_path / name for name in ("second", "third", "fourth"))
    for folder in (second, third, fourth):
        folder.mkdir()
    (second / "c.png").write_bytes(png(0))
    (third / "b.png").write_bytes(png(7))
    (fourth / "d.png").write_bytes(png(0))
    add(index, second / "c.png", third / "b.png", fourth / "d.png", batch_size=1, commit_seconds=0)
    best_of_7, _ = best(index, 7)
    assert best_of_7.endswith("b.png") and {"c.png", "d.png"} <= {*ids(index)}


def test_dates_stay_dates_when_what_failed_is_tried_again(index, tmp_path):
    path = tmp_path / "shop.parquet"
    columns = {
        "taken": [datetime(2021, 5, 1, 10, tzinfo=UTC), datetime(2019, 5, 1, 11, 30, tzinfo=UTC)],
        "day": [date(2021, 5, 1), date(2019, 5, 1)],
        "price": [Decimal("1.50"), Decimal("2.25")],
    }
    pq.write_table(pa.table({"id": ["a", "b"], "image": [png(1), b""], **columns}), path)
    assert add(index, path) == {"added": 1, "skipped": 1, "encoded": 1}
    before = index.catalog().dtypes.to_dict()
    pq.write_table(pa.table({"id": ["a", "b"], "image": [png(1), png(2)], **columns}), path)
    assert add(index, retry_failed=True) == {"added": 1, "encoded": 1}
    assert index.catalog().dtypes.to_dict() == before
    (hit,) = index.search(png(2), where="year(taken) = 2019 AND day < DATE '2020-01-01' AND price = 2.25")
    assert hit.id == "b" and hit.columns["day"] == "2019-05-01" and hit.columns["price"] == "2.25"
    assert add(index, path) == {"unchanged": 2}


def test_what_failed_is_tried_again_alone(index, photos, tmp_path):
    path = write_table(tmp_path / "shop.parquet", {"a": 31, "b": 32}, price=[1, 2])
    whole = path.read_bytes()
    pq.write_table(pa.table({"id": ["a", "b"], "image": [png(31), b""], "price": [1, 2]}), path)
    (photos / "003.png").write_bytes(b"")
    (photos / "004.png").write_bytes(b"no picture")
    assert add(index, photos, path) == {"added": 5, "skipped": 3, "encoded": 5}
    (photos / "003.png").write_bytes(png(3))
    path.write_bytes(whole)
    (photos / "new.png").write_bytes(png(9))
    assert add(index, retry_failed=True) == {"added": 2, "skipped": 1, "encoded": 2}
    assert best(index, 32) == ("b", ()) and index.search(png(32), top_k=1)[0].columns == {"price": 2}
    (line,) = (index.path / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "004.png"
    with pytest.raises(UsageError, match="expected no sources with retry_failed, got 1"):
        index.add(photos, retry_failed=True)
    with pytest.raises(UsageError, match="expected prune or retry_failed, got both"):
        index.add(prune=True, retry_failed=True)


def test_failures_that_cannot_be_looked_at(index, photos):
    (index.path / "failures.jsonl").unlink(missing_ok=True)
    (index.path / "failures.jsonl").mkdir()
    for ask in (index.failures, lambda: index.add(photos, num_workers=0)):
        with pytest.raises(IndexFolderError, match=r"expected to read .*failures.jsonl, got: Is a directory"):
            ask()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("stu")), max_size=8),
    st.sets(st.integers(0, 5)),
    st.lists(st.sampled_from("stuv"), max_size=4),
)
def test_the_number_of_duplicates_is_kept_up(rows, dropped, added):
    known = KnownRows({})
    for number, (name, sha256) in enumerate(rows):
        known.put(str(name), Known(f"/{name}", sha256, Place(segment="s", row=number, dim=1, bucket=32)))
    dropped = [str(name) for name in dropped if str(name) in known.by_id]
    after = [row.sha256 for name, row in known.by_id.items() if name not in dropped] + added
    assert known.num_duplicates(dropped, added) == num_duplicates(after)
    for sha256 in "stu":
        assert sorted(known.ids_of(sha256)) == sorted(name for name, row in known.by_id.items() if row.sha256 == sha256)
