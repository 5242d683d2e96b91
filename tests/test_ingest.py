"""Adding to an index: what is new, changed, unreadable, moved; and being cut short at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interruptions import at_first_publish, at_third_batch
from toy import ToyEmbedder, pixels_of, png, write_pngs

from indexer import Index
from retrieval.errors import ImageError, LockedError, MismatchError, SourceError, UsageError


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_pngs(tmp_path / "photos", range(10))


@pytest.fixture
def index(tmp_path) -> Index:
    return Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")


def counts(report) -> tuple[int, int, int, int]:
    return report.added, report.unchanged, report.updated, report.skipped


def ids(index: Index) -> list[str]:
    return index.catalog()["id"].tolist()


def first_id(index: Index, query) -> str:
    (hit,) = index.search(query, top_k=1)
    return hit.id


def test_add_then_add_again_encodes_nothing(index, photos):
    report = index.add(photos, num_workers=0)
    assert counts(report) == (10, 0, 0, 0) and report.failures == []
    assert report.images_per_second == pytest.approx(10 / report.seconds)
    assert ids(index) == [f"{seed:03d}.png" for seed in range(10)]
    state = index.path.joinpath("manifest.json").read_bytes()
    assert counts(index.add(photos, num_workers=0)) == (0, 10, 0, 0)
    assert index.embedder.encoded == 10 and index.path.joinpath("manifest.json").read_bytes() == state


def test_tokens_come_with_the_vectors(tmp_path, photos):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), token_bytes=50)
    index.add(photos, num_workers=0, batch_size=4)
    (home,) = (index.path / "segments").iterdir()
    pixels = np.stack([pixels_of(seed)[::2, ::2] for seed in range(10)])
    expected = ToyEmbedder().encode_pixels(pixels, token_bytes=50).tokens
    counts, values = np.load(home / "token-counts.npy"), np.load(home / "tokens.npy")
    assert counts.dtype == np.uint8 and counts.tolist() == expected.counts.tolist() and 1 < counts.max() <= 50 // 12
    assert values.dtype == np.int8 and values.tolist() == expected.values.tolist()
    assert index.info()["token_bytes"] == 50 and index.verify() == []


def test_without_tokens_no_files_of_tokens_are_written(tmp_path, photos):
    for name, toy, token_bytes in (("none", ToyEmbedder(), 0), ("model", ToyEmbedder(token_dim=0), 1024)):
        index = Index.create(tmp_path / f"{name}.index", toy, token_bytes=token_bytes)
        index.add(photos, num_workers=0)
        assert index.info()["token_bytes"] == 0 and index.verify() == []
        assert [*index.path.rglob("*.npy")] and not [*index.path.rglob("token*")]
        assert b"token" not in (index.path / "manifest.json").read_bytes()


def test_a_changed_picture_is_updated_and_a_new_one_added(index, photos):
    index.add(photos, num_workers=0)
    (photos / "003.png").write_bytes(png(103))
    (photos / "999.png").write_bytes(png(999))
    assert counts(index.add(photos, num_workers=0)) == (1, 9, 1, 0)
    assert index.embedder.encoded == 12
    assert sorted(ids(index)) == sorted([f"{seed:03d}.png" for seed in range(10)] + ["999.png"])
    assert first_id(index, png(103)) == "003.png"
    assert index.search(png(3), top_k=1)[0].similarity < 0.9  # the old picture is found no more
    assert index.info()["images"] == 11 and index.verify() == []
    assert index.info()["mean_dim"] == pytest.approx(index.catalog()["dim"].mean())
    assert Index.open(index.path, ToyEmbedder()).info() == index.info()


def test_pictures_that_cannot_be_read_are_named_and_shift_nothing(index, photos):
    (photos / "000a.png").write_bytes(b"")
    (photos / "002a.jpg").write_text("a text")
    (photos / "004a.png").write_bytes(png(4)[:200])
    report = index.add(photos, num_workers=2)
    assert counts(report) == (10, 0, 0, 3)
    assert [failure["id"] for failure in report.failures] == ["000a.png", "002a.jpg", "004a.png"]
    assert report.failures[0] == {
        "id": "000a.png",
        "uri": str(photos / "000a.png"),
        "reason": "expected a picture, got an empty file",
    }
    for seed in range(10):
        assert first_id(index, png(seed)) == f"{seed:03d}.png"

    lines = [json.loads(line) for line in (index.path / "failures.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["000a.png", "002a.jpg", "004a.png"]
    assert [*lines[0]][:4] == ["id", "uri", "reason", "when"]
    (photos / "000a.png").write_bytes(png(100))
    (photos / "002a.jpg").unlink()
    assert counts(index.add(photos, num_workers=0)) == (1, 10, 0, 1)
    (line,) = (index.path / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "004a.png"


def test_on_error_stop_raises_at_the_first_and_keeps_what_came_before(index, photos):
    (photos / "003a.png").write_bytes(b"")
    with pytest.raises(ImageError, match="003a.png: expected a picture, got an empty file; .* on_error='skip'"):
        index.add(photos, num_workers=0, on_error="stop")
    assert ids(index) == ["000.png", "001.png", "002.png", "003.png"] and index.verify() == []


def test_same_names_in_two_folders_stay_apart(index, tmp_path, photos):
    other = write_pngs(tmp_path / "other", range(8, 10))
    (other / "008.png").write_bytes(png(108))
    more = write_pngs(tmp_path / "more" / "other", range(9, 10))
    for _ in range(2):
        report = index.add(photos, other, more, num_workers=0)
    assert counts(report) == (0, 13, 0, 0)
    assert ids(index)[10:] == ["other/008.png", "other/009.png", "other/009.png~2"]
    assert first_id(index, png(108)) == "other/008.png"
    assert index.add(photos, photos, num_workers=0).unchanged == 10  # the same place twice is one picture


def test_a_moved_folder_keeps_its_ids(index, tmp_path, photos):
    index.add(photos, num_workers=0)
    photos.rename(tmp_path / "moved")
    assert counts(index.add(tmp_path / "moved", num_workers=0)) == (0, 0, 10, 0)
    assert ids(index) == [f"{seed:03d}.png" for seed in range(10)]
    assert index.catalog()["uri"].tolist()[0] == str(tmp_path / "moved" / "000.png")


def write_parquet(path: Path, seeds: list[int]) -> Path:
    columns = {"id": [f"sku-{seed}" for seed in seeds], "image": [png(seed) for seed in seeds], "price": seeds}
    pq.write_table(pa.table({**columns, "label": ["even" if seed % 2 == 0 else "odd" for seed in seeds]}), path)
    return path


def test_parquet_by_its_own_ids(index, tmp_path):
    path = write_parquet(tmp_path / "shop.parquet", list(range(6)))
    assert counts(index.add(path, num_workers=2)) == (6, 0, 0, 0)
    (hit,) = index.search(png(4), top_k=1)
    assert (hit.id, hit.uri, hit.label, hit.columns) == ("sku-4", f"{path}#4", "even", {"price": 4})
    assert index.read_image(hit.uri) == png(4)
    write_parquet(path, [9, *range(6)])  # rows move down: the same ids at other places
    assert counts(index.add(path, num_workers=0)) == (1, 0, 6, 0)
    assert sorted(ids(index)) == [f"sku-{seed}" for seed in (0, 1, 2, 3, 4, 5, 9)]
    assert index.read_image(index.search(png(4), top_k=1)[0].uri) == png(4)


def test_an_id_twice_in_one_table(index, tmp_path):
    path = tmp_path / "shop.parquet"
    pq.write_table(pa.table({"id": ["a", "a", "b"], "image": [png(0), png(1), png(2)]}), path)
    for expected in ((3, 0, 0, 0), (0, 3, 0, 0)):
        assert counts(index.add(path, num_workers=0)) == expected
    assert ids(index) == ["a", "shop/a", "b"] and index.verify() == []


def test_commits_come_in_time(index, photos):
    index.add(photos, num_workers=0, batch_size=3, commit_seconds=0)
    assert index.info()["segments"] == 4 and len(ids(index)) == 10
    assert len(list((index.path / "history").iterdir())) == 1 + 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ctrl_c_keeps_what_was_encoded(tmp_path, photos, num_workers):
    index = Index.create(tmp_path / "p.index", at_third_batch(ToyEmbedder()))
    with pytest.raises(KeyboardInterrupt):
        index.add(photos, num_workers=num_workers, batch_size=3)
    assert len(ids(index)) == 6 and index.verify() == []
    again = Index.open(index.path, ToyEmbedder())
    assert counts(again.add(photos, num_workers=num_workers)) == (4, 6, 0, 0) and again.embedder.encoded == 4


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_in_the_midst_of_a_commit(index, photos, monkeypatch, moment):
    """Neither lost nor written twice, on whichever side of the publishing it comes."""
    from indexer import ingest

    at_first_publish(monkeypatch, ingest, moment=moment)
    with pytest.raises(KeyboardInterrupt):
        index.add(photos, num_workers=0, batch_size=4, commit_seconds=0)
    again = Index.open(index.path, ToyEmbedder())
    assert len(ids(again)) == 4 and again.verify() == []
    assert counts(again.add(photos, num_workers=0)) == (6, 4, 0, 0)


def child(path: Path, source: Path) -> subprocess.Popen:
    """A process that indexes slowly, committing after each batch of four."""
    script = (
        "import sys; from indexer import Index; from indexer.storage.manifest import exists; from pathlib import Path\n"
        "from toy import ToyEmbedder\n"
        "toy = ToyEmbedder(seconds_per_image=0.005)\n"
        "path = Path(sys.argv[1])\n"
        "index = Index.open(path, toy) if exists(path) else Index.create(path, toy)\n"
        "print('start', flush=True)\n"
        "index.add(sys.argv[2], num_workers=1, batch_size=4, commit_seconds=0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", script, str(path), str(source)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_kill_at_any_moment(tmp_path):
    source, path = write_pngs(tmp_path / "photos", range(300)), tmp_path / "p.index"
    num_before = 0
    for num_more, seconds in ((0, 0.0), (0, 0.3), (20, 0.011), (60, 0.029)):
        with child(path, source) as process:
            assert process.stdout.readline() == b"start\n"
            while Index.open(path, ToyEmbedder()).info()["images"] < num_before + num_more and process.poll() is None:
                time.sleep(0.002)
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        index = Index.open(path, ToyEmbedder())
        assert index.verify() == []
        assert index.info()["images"] >= num_before + num_more
        num_before = index.info()["images"]
    assert num_before < 300
    report = index.add(source, num_workers=1)
    assert counts(report) == (300 - num_before, num_before, 0, 0)
    assert index.embedder.encoded == 300 - num_before
    assert sorted(ids(index)) == [f"{seed:03d}.png" for seed in range(300)] and index.verify() == []


def test_while_one_adds_no_other_may_and_readers_keep_what_they_opened(tmp_path):
    source, path = write_pngs(tmp_path / "photos", range(300)), tmp_path / "p.index"
    with child(path, source) as process:
        process.stdout.readline()
        reader = Index.open(path, ToyEmbedder())
        while not reader.info()["images"]:
            time.sleep(0.05)
            reader = Index.open(path, ToyEmbedder())
        num_images = reader.info()["images"]
        with pytest.raises(LockedError, match=f"process {process.pid} is writing"):
            Index.open(path, ToyEmbedder()).add(source)
        time.sleep(0.2)
        assert len(reader.catalog()) == num_images < Index.open(path, ToyEmbedder()).info()["images"]
        process.kill()


def test_errors_before_anything_is_written(index, photos, tmp_path):
    with pytest.raises(SourceError, match="found nothing at nowhere"):
        index.add(photos, "nowhere")
    with pytest.raises(UsageError, match="expected on_error 'skip' or 'stop', got 'ignore'"):
        index.add(photos, on_error="ignore")
    with pytest.raises(UsageError, match="expected a batch_size of at least 1, got 0"):
        index.add(photos, batch_size=0)
    with pytest.raises(UsageError, match="expected num_workers of 0 .* got -1"):
        index.add(photos, num_workers=-1)
    with pytest.raises(MismatchError):
        Index.open(index.path, ToyEmbedder(fingerprint="beef"))
    assert index.info()["images"] == 0 and not (index.path / "segments").exists()


def test_a_progress_bar_is_shown_on_stderr_and_only_when_asked_for(index, photos, capsys):
    index.add(photos, num_workers=0)
    assert capsys.readouterr() == ("", "")
    index.add(photos, num_workers=0, show_progress_bar=True)
    out, err = capsys.readouterr()
    assert out == "" and "10/10" in err


def test_on_progress_hears_of_every_picture_and_of_how_many_there_are(index, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"")
    heard = []
    index.add(photos, num_workers=0, on_progress=lambda *nums: heard.append(nums))
    assert heard == [(num, 11) for num in range(1, 12)]
    table = tmp_path / "paths.csv"
    table.write_text("path\nphotos/001.png\n")
    heard.clear()
    index.add(photos, table, num_workers=0, on_progress=lambda *nums: heard.append(nums))
    assert heard == [(num, None) for num in range(1, 13)]
