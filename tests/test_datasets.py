"""Labelled pictures from parquet files and folders: every label stays with its picture, whatever cannot be read."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.datasets import LabelledImages, load_labelled, splits_of
from retrieval.errors import SourceError, UsageError


def picture(level: int) -> bytes:
    """A grey picture that its level names."""
    file = io.BytesIO()
    Image.new("RGB", (20, 10), (level, level, level)).save(file, "PNG")
    return file.getvalue()


def write_parquet(path: Path, images: list[bytes | dict | None], labels: list, **columns: list) -> Path:
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path, row_group_size=2)
    return path


def levels(images: LabelledImages) -> list[int]:
    return [int(pixels.mean()) for pixels in images.pixels]


def test_parquet_of_bytes(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [picture(10), picture(20), picture(30)], ["dog", "cat", "dog"])
    images = load_labelled([path], image_size=8)
    assert images.pixels.shape == (3, 8, 8, 3) and images.pixels.dtype == np.uint8
    assert levels(images) == [10, 20, 30] and images.labels == ("dog", "cat", "dog") and len(images) == 3
    assert images.classes == ["cat", "dog"] and images.targets.tolist() == [1, 0, 1]
    assert images.targets.dtype == np.int64 and images.unreadable == ()


def test_parquet_of_structs_and_numbers_for_labels(tmp_path):
    rows = [{"bytes": picture(level), "path": f"{level}.png"} for level in (10, 20)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": rows, "kind": [7, 12]}), path)
    images = load_labelled([str(path)], image_size=8, label_column="kind")
    assert levels(images) == [10, 20] and images.labels == ("7", "12")


def test_folder_of_folders(tmp_path):
    for name, level in (("cat/1.png", 10), ("cat/2.PNG", 20), ("dog/deep/süß 3.png", 30), ("loose.png", 40)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(level))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    images = load_labelled([tmp_path], image_size=8)
    assert dict(zip(levels(images), images.labels, strict=True)) == {10: "cat", 20: "cat", 30: "deep"}


def test_split_keeps_its_rows_and_sources_without_one_whole(tmp_path):
    split = ["train", "test", "train", "val"]
    path = write_parquet(tmp_path / "a.parquet", [picture(i) for i in (10, 20, 30, 40)], list("abcd"), split=split)
    whole = write_parquet(tmp_path / "b.parquet", [picture(50)], ["e"])
    assert levels(load_labelled([path], image_size=8)) == [10, 20, 30, 40]
    train = load_labelled([path, whole], image_size=8, split="train")
    assert levels(train) == [10, 30, 50] and train.labels == ("a", "c", "e")
    assert splits_of([path, whole, tmp_path]) == {"train", "test", "val"} and splits_of([whole]) == set()


def test_rows_of_no_split_count_as_of_any_unless_they_are_left_out(tmp_path):
    images, split = [picture(10), picture(20), picture(30)], ["train", None, "val"]
    path = write_parquet(tmp_path / "a.parquet", images, list("abc"), split=split)
    folder = tmp_path / "folder" / "d"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(picture(40))
    assert levels(load_labelled([path, folder.parent], image_size=8, split="val")) == [20, 30, 40]
    assert levels(load_labelled([path, folder.parent], image_size=8, split="val", takes_unsplit=False)) == [30]


def test_unreadable_pictures_are_named_and_shift_no_label(tmp_path):
    images = [picture(10), b"", picture(20), b"no picture", None, picture(30)[:45], picture(40)]
    path = write_parquet(tmp_path / "a.parquet", images, list("abcdefg"))
    broken = tmp_path / "folder" / "h" / "broken.jpg"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"")

    loaded = load_labelled([path, tmp_path / "folder"], image_size=8)

    assert dict(zip(levels(loaded), loaded.labels, strict=True)) == {10: "a", 20: "c", 40: "g"}
    names = [line.split(": ")[0] for line in loaded.unreadable]
    assert names == [f"{path}#{row}" for row in (1, 3, 4, 5)] + [str(broken)]
    assert loaded.unreadable[0].endswith(": expected a picture, got an empty file")


def test_row_numbers_count_the_rows_of_other_splits(tmp_path):
    images, split = [picture(10), picture(20), b"no picture"], ["train", "test", "test"]
    path = write_parquet(tmp_path / "a.parquet", images, list("abc"), split=split)
    assert load_labelled([path], image_size=8, split="test").unreadable[0].startswith(f"{path}#2: expected a JPEG")


def test_hold_out_classes():
    labels = tuple(f"{number % 25:02d}" for number in range(100))
    images = LabelledImages(pixels=np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1).repeat(3, 3), labels=labels)
    kept, held = images.hold_out_classes(one_in=10)
    assert held.classes == ["00", "10", "20"] and len(kept) + len(held) == 100
    assert not set(kept.classes) & set(held.classes)
    for part in (kept, held):
        assert [labels[number] for number in part.pixels[:, 0, 0, 0]] == list(part.labels)
    assert len(images.hold_out_classes(one_in=1000)[1].classes) >= 2


def numbered(labels: str, groups: str) -> LabelledImages:
    """A picture a letter, whose level is its number; a blank for no label, or no group."""
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 3)
    labels, groups = (tuple(None if letter == " " else letter for letter in letters) for letters in (labels, groups))
    return LabelledImages(pixels=pixels, labels=labels, groups=groups)


def test_hold_out_classes_keeps_groups_whole():
    # a and c share x, c and f share y; of the pictures without a label one is in y, one in z, one in no group.
    images = numbered("abccdef   ", "x xy  yyz ")
    kept, held = images.hold_out_classes(one_in=10)
    assert held.classes == ["a", "c", "d", "f"] and levels(held) == [0, 2, 3, 4, 6, 7] and levels(kept) == [1, 5, 8, 9]
    with pytest.raises(UsageError, match="^expected at least 4 classes that share no group to hold 2 out of, got 3$"):
        numbered("abcdcd", "xy zxz").hold_out_classes()


@given(st.lists(st.tuples(st.sampled_from("abcdefgh "), st.sampled_from("stuvwxyz    ")), min_size=1, max_size=40))
def test_nothing_is_ever_on_both_sides(pictures):
    images = numbered(*map("".join, zip(*pictures, strict=True)))
    for hold_out in (images.hold_out_classes, images.hold_out_instances):
        try:
            kept, held = hold_out(one_in=3)
        except UsageError:
            continue
        assert not (set(kept.groups) & set(held.groups)) - {None}
        assert sorted(levels(kept) + levels(held)) == list(range(len(images)))
        if hold_out == images.hold_out_classes:
            assert not set(kept.classes) & set(held.classes) and len(held.classes) >= 2


def test_pictures_without_labels_are_of_no_class():
    images = LabelledImages(pixels=np.zeros((4, 1, 1, 3), np.uint8), labels=("b", None, "a", None))
    assert images.classes == ["a", "b"] and images.targets.tolist() == [1, -1, 0, -1]
    assert images.instances.tolist() == [0, 1, 2, 3]


def test_pictures_of_one_group_are_one_instance():
    groups = ("x", None, "y", "x", None, "y")
    images = LabelledImages(pixels=np.zeros((6, 1, 1, 3), np.uint8), labels=(None,) * 6, groups=groups)
    assert images.instances.tolist() == [0, 1, 2, 0, 4, 2] and images.classes == []


def test_reading_without_labels(tmp_path):
    for name, level in (("cat/1.png", 10), ("loose.png", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(level))
    table = write_parquet(tmp_path / "a.parquet", [picture(30), picture(40)], ["x", None])
    images = load_labelled([tmp_path, table], image_size=8, label_column=None)
    assert levels(images) == [10, 20, 30, 40] and images.labels == (None,) * 4 and images.groups is None


def test_labels_where_there_are_any(tmp_path):
    labelled = write_parquet(tmp_path / "a.parquet", [picture(10), picture(20)], ["x", None])
    plain = tmp_path / "b.parquet"
    pq.write_table(pa.table({"image": [picture(30)]}), plain)
    images = load_labelled([labelled, plain], image_size=8, needs_labels=False)
    assert levels(images) == [10, 20, 30] and images.labels == ("x", None, None)
    assert levels(load_labelled([labelled], image_size=8)) == [10]


def test_reading_groups(tmp_path):
    columns = {"group": [1, 2, None, 1], "split": ["train"] * 4}
    table = write_parquet(
        tmp_path / "a.parquet", [picture(i) for i in (10, 20, 30, 40)], ["a", None, "b", None], **columns
    )
    alone = load_labelled([table], image_size=8, label_column=None, group_column="group")
    assert alone.labels == (None,) * 4 and alone.groups == ("1", "2", None, "1")
    both = load_labelled([table], image_size=8, group_column="group")
    assert both.labels == ("a", None, "b", None) and both.groups == alone.groups
    with pytest.raises(SourceError, match="^expected columns 'image' and 'kind' in .*, lacks kind among "):
        load_labelled([table], image_size=8, label_column=None, group_column="kind")


def test_hold_out_instances_keeps_groups_whole():
    groups = tuple(f"pair {i // 2}" for i in range(40)) + (None,) * 20
    pixels = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1).repeat(3, 3)
    images = LabelledImages(pixels=pixels, labels=(None,) * 60, groups=groups)
    kept, held = images.hold_out_instances(one_in=10)
    assert held.groups == ("pair 0", "pair 0", "pair 10", "pair 10")
    assert held.pixels[:, 0, 0, 0].tolist() == [0, 1, 20, 21] and len(kept) == 56
    assert not set(held.groups) & set(kept.groups)

    single = LabelledImages(pixels=pixels, labels=(None,) * 60)
    kept, held = single.hold_out_instances(one_in=10)
    assert held.pixels[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50] and len(kept) == 54
    with pytest.raises(UsageError, match="^expected at least 4 different pictures to hold 2 out of, got 3$"):
        LabelledImages(pixels=pixels[:3], labels=(None,) * 3).hold_out_instances()


def test_mixing_in_pictures_without_labels():
    some = LabelledImages(pixels=np.zeros((2, 1, 1, 3), np.uint8), labels=("a", "b"), groups=("x", "x"))
    others = LabelledImages(pixels=np.ones((2, 1, 1, 3), np.uint8), labels=("c", "d"))
    mixed = some.with_unlabelled(others)
    assert mixed.labels == ("a", "b", None, None) and mixed.instances.tolist() == [0, 0, 2, 3]
    assert mixed.pixels[:, 0, 0, 0].tolist() == [0, 0, 1, 1]


def test_holding_out_of_too_few_classes():
    images = LabelledImages(pixels=np.zeros((3, 1, 1, 3), np.uint8), labels=("a", "b", "c"))
    with pytest.raises(UsageError, match="^expected at least 4 classes to hold 2 out of, got 3$"):
        images.hold_out_classes()


def test_sources_that_cannot_be_read(tmp_path):
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(SourceError, match="^expected a parquet file, got .*text.parquet: "):
        load_labelled([tmp_path / "text.parquet"], image_size=8)
    for missing in ("missing", "missing.parquet", "text.csv"):
        with pytest.raises(
            SourceError, match=f"^expected a folder of labelled folders or a .parquet file, .*{missing}$"
        ):
            load_labelled([tmp_path / missing], image_size=8)
    path = write_parquet(tmp_path / "a.parquet", [picture(10)], ["a"])
    with pytest.raises(SourceError, match="^expected columns 'image' and 'kind' in .*a.parquet, .* image, label$"):
        load_labelled([path], image_size=8, label_column="kind")


@pytest.mark.parametrize("images", [["a.png", "b.png"], [1, 2], [{"path": "a.png"}, {"path": "b.png"}]])
def test_a_column_that_holds_no_bytes_is_told_so(tmp_path, images):
    path = write_parquet(tmp_path / "a.parquet", images, ["a", "b"])
    with pytest.raises(SourceError, match="^expected the bytes of pictures in column 'image' of .*a.parquet, got "):
        load_labelled([path], image_size=8)


def test_a_parquet_whose_rows_are_damaged_is_refused_in_a_sentence(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [picture(seed) for seed in range(20)], ["a", "b"] * 10)
    data = bytearray(path.read_bytes())
    data[30:600] = bytes(570)
    path.write_bytes(data)
    with pytest.raises(SourceError, match="^expected a parquet file that can be read to its end, got .*a.parquet: "):
        load_labelled([path], image_size=8)


def test_nothing_left(tmp_path):
    images, splits = [picture(10), b"no picture"], ["train", "test"]
    path = write_parquet(tmp_path / "a.parquet", images, ["a", "b"], split=splits)
    with pytest.raises(UsageError, match="^expected a split among test, train in .*a.parquet, got 'dev'$"):
        load_labelled([path], image_size=8, split="dev")
    # There is such a split, or none was asked for, but nothing in it can be read.
    broken = write_parquet(tmp_path / "b.parquet", [b"no picture"], ["b"], split=["test"])
    for source, split in ((path, "test"), (broken, None)):
        with pytest.raises(UsageError, match="^expected pictures with labels, got none "):
            load_labelled([source], image_size=8, split=split)
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(picture(10))
    for folder, split in (("empty", None), ("flat", None), ("flat", "test")):
        with pytest.raises(
            UsageError,
            match=f"^expected pictures with labels, got none in .*{folder}; a label is .*: FOLDER/LABEL/PICTURE$",
        ):
            load_labelled([tmp_path / folder], image_size=8, split=split)
    with pytest.raises(UsageError, match="^expected pictures, got none in .*empty$"):
        load_labelled([tmp_path / "empty"], image_size=8, needs_labels=False, split="test")
    write_parquet(tmp_path / "empty" / "a.parquet", images, ["a", "b"])
    with pytest.raises(UsageError, match="got none in .*empty; tables in a folder are .*, such as .*empty/a.parquet$"):
        load_labelled([tmp_path / "empty"], image_size=8)
    with pytest.raises(UsageError, match="got none in no source$"):
        load_labelled([], image_size=8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": ("a", "b")}, "^expected labels of 3 pictures, one each, got 2$"),
        ({"labels": (None,) * 3, "groups": ("x",) * 4}, "^expected groups of 3 pictures, one each, got 4$"),
        ({"labels": (None,) * 3, "columns": ({},)}, "^expected columns of 3 pictures, one each, got 1$"),
    ],
)
def test_what_is_known_is_of_each_picture(given, message):
    with pytest.raises(UsageError, match=message):
        LabelledImages(pixels=np.zeros((3, 1, 1, 3), np.uint8), **given)


def test_pictures_are_told_apart_as_objects():
    one, other = (LabelledImages(pixels=np.zeros((2, 1, 1, 3), np.uint8), labels=("a", "b")) for _ in range(2))
    assert one == one != other and len({one, other}) == 2


@pytest.mark.parametrize("source", ["photos", Path("photos")])
def test_one_source_is_not_a_list_of_them(source):
    with pytest.raises(
        UsageError, match=f"^expected a sequence of sources, got one {type(source).__name__}; put it in"
    ):
        load_labelled(source, image_size=8)


def test_real_pictures(shared, tmp_path):
    rows = pq.ParquetFile(shared / "data" / "caltech101" / "caltech101-00.parquet").read_row_group(0).slice(0, 60)
    pq.write_table(rows, tmp_path / "some.parquet")
    images = load_labelled([tmp_path / "some.parquet"], image_size=32)
    assert images.labels == tuple(rows["label"].to_pylist()) and not images.unreadable
    plain = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32), Image.Resampling.BOX))
        for data in rows["image"].to_pylist()
    ]
    differences = np.abs(images.pixels.astype(int) - np.stack(plain)).mean((1, 2, 3))
    assert differences.mean() < 5 and differences.max() < 12
