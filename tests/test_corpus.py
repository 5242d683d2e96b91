"""Reading corpora: folders, image files, parquet, CSV and tar."""

import io
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import ToyEmbedder, png, write_pngs

from indexer import Index, corpus
from indexer.sources import tables
from retrieval.errors import ImageError, SourceError, UsageError


def test_a_folder_by_hand(tmp_path):
    root = tmp_path / "photos"
    write_pngs(root, range(2))
    write_pngs(root / "b", range(2, 3))
    write_pngs(root / "a" / "deep", range(3, 4))
    write_pngs(root / ".hidden", range(4, 5))
    write_pngs(root / "thumbs", range(5, 6))
    (root / ".hidden.png").write_bytes(png(0))
    (root / "notes.txt").write_text("no picture")
    (root / "Été 雪 #1.JPG").write_bytes(png(6))
    items = [*corpus.read(root, label_from="parent", exclude_dirs=["thumbs"])]
    assert [item.id for item in items] == ["000.png", "001.png", "Été 雪 #1.JPG", "a/deep/003.png", "b/002.png"]
    assert [item.label for item in items] == ["photos", "photos", "photos", "deep", "b"]
    assert [item.uri for item in items] == [str(root / item.id) for item in items]
    assert all(item.problem is None and corpus.read_image(item.uri) == item.path.read_bytes() for item in items)
    assert corpus.count(root, exclude_dirs=["thumbs"]) == 5


def test_links_in_circles_and_broken_ones(tmp_path):
    root = write_pngs(tmp_path / "photos", range(1))
    (root / "up").symlink_to(root)
    (root / "self.png").symlink_to(root / "self.png")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "link.png").symlink_to(root / "000.png")
    os.mkfifo(root / "pipe.png")
    problems = {item.id: item.problem for item in corpus.read(root)}
    broken = "expected a file, got a broken link or a device"
    expected = {"000.png": None, "gone.png": broken, "link.png": None, "pipe.png": broken, "self.png": broken}
    assert problems == expected


def test_a_folder_that_may_not_be_read_is_reported_and_the_rest_is_read(tmp_path, monkeypatch):
    root = write_pngs(tmp_path / "photos", range(1))
    write_pngs(root / "locked", range(1, 2))
    write_pngs(root / "open", range(2, 3))
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: _deny() if str(path).endswith("locked") else scandir(path))
    items = [*corpus.read(root)]
    assert [item.id for item in items] == ["000.png", "locked", "open/002.png"]
    assert items[1].problem == "expected a folder that can be read, got: Permission denied"


def _deny():
    raise PermissionError(13, "Permission denied")


@pytest.fixture
def nobody():
    """A folder of a user without rights, who this process then is; root may read everything."""
    folder = Path(tempfile.mkdtemp())
    if is_root := os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


def test_what_may_not_be_read_is_counted_and_the_rest_is_indexed(tmp_path, request):
    Index.create(tmp_path / "first.index", ToyEmbedder(token_dim=0)).add(
        write_pngs(tmp_path / "p", range(1)), num_workers=0
    )
    folder = request.getfixturevalue("nobody")  # after all imports, which another user may not read
    root = write_pngs(folder / "photos", range(3))
    write_pngs(root / "locked", range(3, 5)).chmod(0)
    (root / "001.png").chmod(0)
    report = Index.create(folder / "p.index", ToyEmbedder(token_dim=0)).add(root, num_workers=0)
    assert (report.added, report.skipped) == (2, 2)
    assert {failure["id"]: failure["reason"] for failure in report.failures} == {
        "001.png": "expected a file that can be read, got: Permission denied",
        "locked": "expected a folder that can be read, got: Permission denied",
    }


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_folder_that_may_be_read_again_is_no_failure_any_more(tmp_path, monkeypatch, retry_failed):
    root = write_pngs(tmp_path / "photos", range(1))
    write_pngs(root / "locked", range(1, 3))
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    with monkeypatch.context() as locked:
        scandir = os.scandir
        locked.setattr(os, "scandir", lambda path: _deny() if str(path).endswith("locked") else scandir(path))
        assert index.add(root, num_workers=0).skipped == 1
        sources = [] if retry_failed else [root]
        assert index.add(*sources, num_workers=0, retry_failed=retry_failed).skipped == 1
    report = index.add(*sources, num_workers=0, retry_failed=retry_failed)
    assert (report.added, report.skipped) == (2, 0)
    assert index.catalog()["id"].tolist() == ["000.png", "locked/001.png", "locked/002.png"]
    assert (index.path / "failures.jsonl").read_text() == ""


def test_a_name_that_is_no_text_is_reported(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        file.write(png(0))
    (item,) = corpus.read(tmp_path)
    assert item.id == "caf\\udce9.png" and item.problem == "expected a name in UTF-8, got other bytes; rename it"


def test_one_image_file(tmp_path):
    write_pngs(tmp_path / "cats", range(1))
    (item,) = corpus.read(tmp_path / "cats" / "000.png", label_from="parent")
    assert (item.id, item.source, item.label) == ("000.png", "cats", "cats")
    assert corpus.count(tmp_path / "cats" / "000.png") == 1


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_parquet_with_bytes(tmp_path):
    images = [png(seed) for seed in range(70)]
    path = write_parquet(
        tmp_path / "shop.parquet",
        id=[f"sku-{number}" for number in range(70)],
        image=images,
        label=["shoe"] * 70,
        price=[number / 2 for number in range(70)],
        thumbnail=[b"x"] * 70,
        tags=[["a"]] * 70,
    )
    items = [*corpus.read(path)]
    assert [item.data for item in items] == images
    assert items[69].id == "sku-69" and items[69].uri == f"{path}#69" and items[69].label == "shoe"
    assert items[69].columns == {"price": 34.5}  # neither further images nor lists
    assert [corpus.read_image(items[number].uri) for number in (0, 2, 3, 69)] == [images[n] for n in (0, 2, 3, 69)]
    assert [item.label for item in corpus.read(path, label_from="price")][1] == "0.5"
    assert corpus.count(path) == 70


def test_parquet_of_hugging_face_s_kind_and_rows_without_a_picture(tmp_path):
    write_pngs(tmp_path / "files", range(2))
    picture = [{"bytes": png(0), "path": "x.png"}, {"bytes": None, "path": "files/001.png"}, None]
    path = write_parquet(tmp_path / "hf.parquet", image=picture, label=[3, 4, 5])
    first, second, third = corpus.read(path)
    assert (first.id, first.data, first.uri, first.label) == ("0", png(0), f"{path}#0", "3")
    assert (second.id, second.path, second.uri) == ("1", tmp_path / "files/001.png", str(tmp_path / "files/001.png"))
    assert third.problem == "expected a picture in column 'image', got none"


def test_parquet_with_paths(tmp_path):
    path = write_parquet(tmp_path / "list.parquet", file_name=["a/1.png", "/abs/b/2.png"])
    items = [*corpus.read(path, label_from="parent")]
    assert [(item.id, item.uri, item.label) for item in items] == [
        ("0", str(tmp_path / "a/1.png"), "a"),
        ("1", "/abs/b/2.png", "b"),
    ]


def test_parquet_with_a_damaged_row_group_gives_the_rest(tmp_path):
    path = tmp_path / "damaged.parquet"
    table = pa.table({"image": [png(seed) for seed in range(9)]})
    pq.write_table(table, path, row_group_size=3, compression="none", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    items = [*corpus.read(path)]
    assert [item.id for item in items] == ["0", "1", "2", "damaged.parquet#3", "6", "7", "8"]
    assert items[3].uri == str(path)
    assert items[3].problem.startswith("expected rows up to 5, but cannot read them: ")


def test_csv(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("path,id,label,price,code\npics/a.png,007,1,2,x1\n/abs/b.png,008,2,2.5,\n", encoding="utf-8-sig")
    first, second = corpus.read(path)
    assert (first.id, first.uri, first.label) == ("007", str(tmp_path / "pics/a.png"), "1")
    assert first.path == tmp_path / "pics/a.png" and second.uri == "/abs/b.png"
    assert first.columns == {"price": 2.0, "code": "x1"}  # numbers are numbers all down the column
    assert second.columns == {"price": 2.5, "code": None}  # what is empty says nothing
    assert [item.label for item in corpus.read(path, label_from="code")] == ["x1", None]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_csv_of_another_delimiter(tmp_path, sign):
    path = tmp_path / "list.csv"
    path.write_text(sign.join(("path", "price")) + "\n" + sign.join(("a, b.png", "2.5")) + "\n")
    (item,) = corpus.read(path)
    assert item.path == tmp_path / "a, b.png" and item.columns == {"price": 2.5}
    path.write_text("path\na;b.png\n")
    (item,) = corpus.read(path)
    assert item.path == tmp_path / "a;b.png" and item.columns == {}


def write_tar(path, members: dict[str, bytes]):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_tar_of_webdataset(tmp_path):
    path = write_tar(
        tmp_path / "shard.tar",
        {
            "n01/a.json": json.dumps({"price": 2, "tags": [1]}).encode(),
            "n01/a.jpg": png(0),
            "n01/a.cls": b"5\n",
            "n01/b.left.png": png(1),
            "n01/b.right.png": png(2),
            "n01/b.txt": "zwei Käfer".encode(),
            "n01/._b.png": b"rubbish",
            "n01/c.json": b"{broken",
            "n01/c.png": png(3),
            "movie.mp4": b"no picture",
        },
    )
    items = [*corpus.read(path)]
    assert [item.id for item in items] == ["n01/a.jpg", "n01/b.left.png", "n01/b.right.png", "n01/c.png"]
    assert [item.data for item in items] == [png(seed) for seed in range(4)]
    assert items[0].columns == {"price": 2, "cls": "5"} and items[0].label == "5"
    assert items[2].columns == {"txt": "zwei Käfer"} and items[2].label is None
    assert items[2].uri == f"{path}#n01/b.right.png" and corpus.read_image(items[2].uri) == png(2)
    assert [item.label for item in corpus.read(path, label_from="parent")] == ["n01"] * 4
    assert [item.label for item in corpus.read(path, label_from="price")][:2] == ["2", None]


def test_names_and_metadata_in_a_tar_that_are_no_text(tmp_path):
    names = ["a.png", "caf\udce9.png", "b.png"]
    path = write_tar(tmp_path / "shard.tar", {name: png(seed) for seed, name in enumerate(names)})
    first, second, third = corpus.read(path)
    assert (first.data, third.data) == (png(0), png(2))
    assert second.id == "caf\\udce9.png" and second.problem == "expected a name in UTF-8, got other bytes; rename it"
    path = write_tar(path, {"a.png": png(0), "a.json": b'{"half \\ud800": "a \\udfff", "label": "\\ud800"}'})
    (item,) = corpus.read(path)
    assert item.columns == {"half ?": "a ?"} and item.label == "?"
    index = Index.create(tmp_path / "t.index", ToyEmbedder(token_dim=0))
    assert index.add(path, num_workers=0).added == 1


def test_a_row_group_that_is_shorter_than_it_says_is_reported(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "t.parquet", image=[png(seed) for seed in range(7)])
    whole = tables._small_batches
    monkeypatch.setattr(
        tables, "_small_batches", lambda file, group, names: () if group == 1 else whole(file, group, names)
    )
    items = [*corpus.read(path)]
    assert [item.id for item in items] == ["0", "1", "2", "t.parquet#3", "6"]
    assert items[3].problem == "expected rows up to 5, but cannot read them: there are fewer" and items[3].breaks_off


def test_a_row_whose_text_is_no_text_is_reported(tmp_path):
    labels = pa.array([b"x", b"caf\xe9", b"z"]).view(pa.string())
    first, second, third = corpus.read(write_parquet(tmp_path / "t.parquet", file_name=["a", "b", "c"], label=labels))
    assert (first.label, third.label, third.id) == ("x", "z", "2")
    assert second.id == "1" and second.problem.startswith("expected a row that can be read, got: 'utf-8' codec")
    path = tmp_path / "list.csv"
    path.write_bytes(b"path,caf\xe9\na.png,1\n")
    with pytest.raises(SourceError, match="expected names of columns in UTF-8, got .*list.csv: "):
        corpus.read(path)


def test_a_damaged_page_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"image": [png(seed) for seed in range(3)]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.index(png(1)) + 60] ^= 1
    path.write_bytes(data)
    (item,) = corpus.read(path)
    assert "CRC checksum verification failed" in item.problem


@pytest.mark.parametrize("cut", ["a header", "a picture"])
def test_tar_that_breaks_off_gives_what_it_has(tmp_path, cut):
    path = write_tar(tmp_path / "shard.tar", {f"{seed}.png": png(seed) for seed in range(3)})
    data = bytearray(path.read_bytes())
    second = 512 + -(-len(png(0)) // 512) * 512
    if cut == "a header":
        data[second + 148] ^= 0xFF
        path.write_bytes(data)
    else:
        path.write_bytes(data[: second + 600])
    first, *_, last = corpus.read(path)
    assert first.data == png(0)
    assert last.data is None and last.problem.startswith("expected a whole archive, got one that breaks off")


def test_sources_that_cannot_be_read(tmp_path):
    with pytest.raises(SourceError, match="expected a folder or file to index, found nothing at nowhere"):
        corpus.read("nowhere")
    (tmp_path / "film.mp4").write_bytes(b"")
    with pytest.raises(SourceError, match="expected a folder, an image file, a .parquet, .csv or .tar, got .*film.mp4"):
        corpus.read(tmp_path / "film.mp4")
    (tmp_path / "shard.tar.gz").write_bytes(b"x")
    with pytest.raises(SourceError, match="expected a folder or an uncompressed .tar, got .*shard.tar.gz; unpack it"):
        corpus.read(tmp_path / "shard.tar.gz")
    for name, wanted in (("x.parquet", "a parquet file"), ("x.tar", "an uncompressed .tar"), ("x.csv", "a .csv")):
        (tmp_path / name).write_bytes(b"\xff\xfe rubbish" * 100 if name != "x.csv" else b"")
        with pytest.raises(SourceError, match=f"expected {wanted}.*, got .*{name}"):
            corpus.read(tmp_path / name)


def test_columns_that_are_not_there(tmp_path):
    path = write_parquet(tmp_path / "t.parquet", pixels=[b"1"], name=["x"])
    with pytest.raises(UsageError, match=r"expected a column of image bytes or paths.*\['pixels', 'name'\]; rename"):
        corpus.read(path)
    path = write_parquet(tmp_path / "t.parquet", image=[b"1"], name=["x"])
    with pytest.raises(
        UsageError, match=r"label_from 'parent' or a column of .*, got 'kind'; it has \['image', 'name'\]"
    ):
        corpus.read(path, label_from="kind")
    with pytest.raises(UsageError, match="expected paths for label_from 'parent', got bytes in"):
        corpus.read(path, label_from="parent")
    with pytest.raises(UsageError, match="expected label_from 'parent' for a folder, got 'kind'"):
        corpus.read(tmp_path, label_from="kind")


@pytest.mark.parametrize(
    "uri", ["{}/no.png", "{}/t.parquet#9", "{}/no.parquet#0", "{}/t.tar#no.png", "{}", "\0", "/dev/zero"]
)
def test_images_that_are_gone(tmp_path, uri):
    write_parquet(tmp_path / "t.parquet", image=[png(0)])
    write_tar(tmp_path / "t.tar", {"a.png": png(0)})
    with pytest.raises(ImageError, match="expected a picture at .*, but cannot read it"):
        corpus.read_image(uri.format(tmp_path))
