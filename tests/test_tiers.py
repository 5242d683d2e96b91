"""Small segments that pile up become one: the same images, the same answers, and little copied."""

import logging

import pytest
from toy import ToyEmbedder, flip_byte, png, write_pngs

from indexer import Index
from indexer.changes import tiers
from indexer.changes.importing import import_file
from indexer.storage import manifest
from indexer.storage.manifest import Manifest
from indexer.storage.records import FileRecord, Model, Rows, SegmentRecord

FILE = FileRecord(size=1, sha256="00" * 32)


def state_of(*sizes: int) -> Manifest:
    records = tuple(
        SegmentRecord(id=f"{number:06d}", rows=Rows(buckets={32: size}), files={"catalog.parquet": FILE})
        for number, size in enumerate(sizes)
    )
    return Manifest(
        version=9,
        model=Model(name="toy", fingerprint="f00d", image_size=32),
        widths=(32, 512),
        dtype="float16",
        segments=records,
    )


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], 0),
        ([1] * 15, 0),
        ([1] * 16, 16),
        ([20] * 15, 0),
        ([20] * 16, 16),
        ([20] * 40, 40),
        ([9999, *[20] * 16], 16),
        ([300] * 5 + [20] * 16, 16),  # the small ones first
        ([300] * 16, 16),
        ([300] * 15, 0),
        ([300] * 15 + [20], 16),
        ([20] * 14 + [300], 0),
        ([300] * 8 + [20] * 10, 0),  # too few images to be anything but small again
        ([5000] * 30, 0),
        ([20] * 30 + [5000, 20], slice(0, 30)),  # no more of them will come
        ([5000, 300, 20, 5000, 5000, 20, 20], slice(1, 3)),
        ([5000, 20, 5000, 20, 5000, 20], 0),
    ],
)
def test_what_has_piled_up(sizes, expected):
    state = state_of(*sizes)
    if isinstance(expected, int):
        expected = slice(len(sizes) - expected, len(sizes))
    assert state.segments[tiers.piled_up(state)] == state.segments[expected]


@pytest.mark.parametrize("size", [1, 20])
def test_a_row_is_copied_a_few_times_at_most(size):
    """Two thousand additions of 20 images each, or of 1."""
    sizes, copied, most = [], 0, 0
    for _ in range(2000):
        sizes.append(size)
        place = tiers.piled_up(state_of(*sizes))
        if total := sum(sizes[place]):
            sizes[place] = [total]
            copied += total
        most = max(most, len(sizes))
    assert sum(sizes) == 2000 * size
    assert copied <= 3 * 2000 * size and most < 3 * tiers.MANY


@pytest.fixture
def folders(tmp_path):
    return [write_pngs(tmp_path / f"day {day:02d}", range(3 * day, 3 * day + 3)) for day in range(18)]


def answers(index: Index) -> list:
    queries = [png(seed) for seed in (0, 20, 44, 100)]
    return [[(hit.id, hit.score, hit.dim) for hit in hits] for hits in index.search_many(queries, top_k=60)]


@pytest.mark.parametrize("token_dim", [0, 12])
def test_additions_become_one_segment_and_nothing_else_changes(tmp_path, monkeypatch, folders, token_dim):
    embedder = ToyEmbedder(token_dim=token_dim)
    tidy, plain = (Index.create(tmp_path / name, embedder) for name in ("tidy", "plain"))
    nums = []
    for day, folder in enumerate(folders):
        for index in (plain, tidy):
            with monkeypatch.context() as patch:
                if index is plain:
                    patch.setattr(tiers, "MANY", 999)
                patch.setattr(tiers, "_SMALL", (16, 30))
                index.add(folder, num_workers=0)
            if day == 0:
                index.remove(["001.png"])
            if day in (4, 16):
                index.remove([f"{3 * day:03d}.png", f"{3 * day - 3:03d}.png"])
        nums.append(len(manifest.read(tidy.path).segments))
    assert max(nums) == 15 and nums[-3:] == [1, 2, 3]
    assert len(manifest.read(plain.path).segments) == 18
    assert tidy.verify() == [] and tidy.info()["images"] == plain.info()["images"] == 54 - 5
    assert answers(tidy) == answers(plain) == answers(Index.open(tidy.path, embedder))
    # Of the tombstones, only those of rows that were not copied are left.
    assert sum(record.rows.num for record in manifest.read(tidy.path).tombstones) == 2
    report = tidy.add(*folders, num_workers=0)
    assert (report.unchanged, report.added) == (49, 5), "what was removed comes back, the rest is known"
    tidy.compact()
    plain.add(*folders, num_workers=0)
    assert sorted(map(sorted, answers(tidy))) == sorted(map(sorted, answers(plain)))


def test_imports_become_one_segment_and_nothing_else_changes(tmp_path, monkeypatch, folders):
    monkeypatch.setattr(tiers, "_SMALL", (16, 30))
    embedder = ToyEmbedder()
    source = Index.create(tmp_path / "source", embedder)
    for day, folder in enumerate(folders):
        part = Index.create(tmp_path / f"part {day}", embedder)
        for index in (source, part):
            index.add(folder, num_workers=0)
        part.export(tmp_path / "part.parquet")
        assert import_file(tmp_path / "part.parquet", tmp_path / "copy").added == 3
    copy = Index.open(tmp_path / "copy", embedder)
    assert len(manifest.read(copy.path).segments) == 3, "sixteen became one"
    assert copy.verify() == [] and copy.info()["images"] == 54
    assert answers(copy) == answers(source)
    assert [snapshot.change for snapshot in copy.snapshots()].count("merge") == 1


def test_small_segments_before_a_large_one_become_one_in_their_place(tmp_path, monkeypatch, folders):
    monkeypatch.setattr(tiers, "_SMALL", (16, 30))
    tidy, plain = (Index.create(tmp_path / name, ToyEmbedder()) for name in ("tidy", "plain"))
    large = [write_pngs(tmp_path / f"large {seed}", range(seed, seed + 30)) for seed in (200, 300)]
    for index in (tidy, plain):
        with monkeypatch.context() as patch:
            if index is plain:
                patch.setattr(tiers, "piled_up", lambda _: slice(0, 0))
            for sources in (large[:1], folders[:1], folders[1:2]):
                index.add(*sources, num_workers=0)
            index.remove(["000.png", "004.png", "200.png"])
            for sources in (large[1:], folders[2:3]):
                index.add(*sources, num_workers=0)
    assert [record.rows.num for record in manifest.read(plain.path).segments] == [30, 3, 3, 30, 3]
    assert [record.rows.num for record in manifest.read(tidy.path).segments] == [30, 4, 30, 3]
    assert tidy.verify() == [] and answers(tidy) == answers(plain)
    assert tidy.catalog()["id"].tolist() == plain.catalog()["id"].tolist()


def test_one_long_run_leaves_few_segments_at_any_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(tiers, "_SMALL", (16, 64))
    photos = write_pngs(tmp_path / "photos", range(60))
    long, short = (Index.create(tmp_path / name, ToyEmbedder(token_dim=0)) for name in ("long", "short"))
    nums = []

    def count(*_):
        nums.append(len(manifest.read(long.path).segments))

    for seed in (0, 7, 21):  # further names and a name that changes hands, of rows that are put together meanwhile
        (photos / f"{seed + 30:03d} again.png").write_bytes(png(seed))
    long.add(photos, num_workers=0, batch_size=1, commit_seconds=0, on_progress=count)
    (photos / "003.png").rename(photos / "0 new.png")
    (photos / "005.png").rename(photos / "003.png")
    report = long.add(photos, num_workers=0, batch_size=1, commit_seconds=0, prune=True, on_progress=count)
    assert (report.unchanged, report.renamed + report.duplicates, report.updated, report.pruned) == (61, 1, 1, 1)
    assert max(nums) <= 2 * tiers.MANY
    short.add(photos, num_workers=0)
    assert long.verify() == [] and set(long.catalog()["id"]) == set(short.catalog()["id"])
    assert [[hit[1:] for hit in hits] for hits in answers(long)] == [
        [hit[1:] for hit in hits] for hits in answers(short)
    ]


def test_tombstones_of_other_segments_stay(tmp_path, monkeypatch, folders):
    embedder = ToyEmbedder(token_dim=0)
    index = Index.create(tmp_path / "index", embedder)
    large = write_pngs(tmp_path / "large", range(200, 240))
    index.add(large, num_workers=0)
    monkeypatch.setattr(tiers, "_SMALL", (16, 30))
    for folder in folders[:15]:
        index.add(folder, num_workers=0)
    index.remove(["200.png", "000.png"])
    index.remove(["201.png"])
    index.remove(["003.png"])
    before = answers(index)
    (both, of_large, of_small) = manifest.read(index.path).tombstones
    index.add(folders[15], num_workers=0)
    state = manifest.read(index.path)
    assert [record.rows.num for record in state.segments] == [40, 46]
    assert of_large in state.tombstones and both not in state.tombstones and of_small not in state.tombstones
    assert [record.rows.num for record in state.tombstones] == [1, 1]
    assert index.verify() == [] and state.num_images == 40 + 48 - 4
    new = {f"{seed:03d}.png" for seed in (45, 46, 47)}
    assert [[hit for hit in hits if hit[0] not in new][:50] for hits in answers(index)] == [
        hits[:50] for hits in before
    ]


def test_images_that_are_all_removed_leave_no_segment(tmp_path, monkeypatch, folders):
    monkeypatch.setattr(tiers, "_SMALL", (16, 30))
    index = Index.create(tmp_path / "index", ToyEmbedder(token_dim=0))
    for folder in folders[:15]:
        index.add(folder, num_workers=0)
    index.remove(where="true")
    write_pngs(tmp_path / "last", range(1))
    index.add(tmp_path / "last", num_workers=0)
    assert [record.rows.num for record in manifest.read(index.path).segments] == [1]
    assert index.verify() == [] and len(index.search(png(0))) == 1


def test_damage_is_not_copied(tmp_path, monkeypatch, folders, caplog):
    monkeypatch.setattr(tiers, "_SMALL", (16, 30))
    index = Index.create(tmp_path / "index", ToyEmbedder(token_dim=0))
    for folder in folders[:15]:
        index.add(folder, num_workers=0)
    damaged = next((index.path / "segments").glob("*/vectors-*.npy"))
    flip_byte(damaged, damaged.stat().st_size - 1)
    with caplog.at_level(logging.WARNING):
        assert index.add(folders[15], num_workers=0).added == 3
    assert len(manifest.read(index.path).segments) == 16
    assert (
        f"small segments are left as they are, for segments/{damaged.parent.name}/{damaged.name}: expected"
        in caplog.text
    )
