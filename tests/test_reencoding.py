"""Another model for an index: all pictures encoded anew, and the old vectors in use until that is done."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from interruptions import at_third_batch
from toy import ToyEmbedder, flip_byte, png, write_pngs
from toy_rankers import weighing

from indexer import Index
from indexer.storage import draft, manifest
from retrieval.errors import LockedError, MismatchError, SourceError, UsageError
from ui import cli

NUM = 10


class OtherEmbedder(ToyEmbedder):
    """Another model: it sees the pictures upside down, and gives them half the dims."""

    name = "other"

    def __init__(self, **options):
        super().__init__(fingerprint="beef" * 16, **options)

    def encode_pixels(self, pixels, **options):
        return super().encode_pixels(pixels[:, ::-1].copy(), **options)


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_pngs(tmp_path / "photos", range(NUM))


@pytest.fixture
def index(tmp_path, photos) -> Index:
    """Ten pictures in three segments, one changed since, one removed; and an archive of three, two of them known."""
    (photos / "002.png").write_bytes(png(102))
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")
    index.add(photos, label_from="parent", num_workers=0, batch_size=4, commit_seconds=0)
    (photos / "002.png").write_bytes(png(2))
    index.add(photos, label_from="parent", num_workers=0)
    index.remove(["007.png"])
    write_pngs(tmp_path / "loose", range(20, 21))
    with tarfile.open(tmp_path / "shop.tar", "w") as tar:
        for name, path in (("a", photos / "001.png"), ("b", photos / "003.png"), ("c", tmp_path / "loose/020.png")):
            tar.add(path, f"{name}.png")
    index.add(tmp_path / "shop.tar", num_workers=0)
    return index


def fresh(tmp_path: Path, photos: Path) -> Index:
    """The same pictures, indexed by the other model from the start."""
    index = Index.create(tmp_path / "fresh.index", OtherEmbedder(), dtype="float32")
    index.add(photos, label_from="parent", num_workers=0)
    index.remove(["007.png"])
    index.add(tmp_path / "shop.tar", num_workers=0)
    return index


def hits(index: Index, seed: int) -> list:
    return [(hit.id, round(hit.score, 5), hit.names, hit.label) for hit in index.search(png(seed), top_k=20)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_fresh_index_gives_the_same(index, tmp_path, photos, num_workers):
    reader = Index.open(index.path, ToyEmbedder())
    before = hits(reader, 3)
    other = OtherEmbedder()
    report = index.reencode(other, num_workers=num_workers, batch_size=4, commit_seconds=0)
    assert (report.encoded, report.changed, report.unchanged, report.skipped) == (12, 0, 0, 0) and report.is_whole
    expected = fresh(tmp_path, photos)
    for opened in (index, Index.open(index.path, OtherEmbedder())):
        assert hits(opened, 3) == hits(expected, 3) != before
        catalog = expected.catalog().sort_values("id", ignore_index=True)
        assert opened.catalog().sort_values("id", ignore_index=True).equals(catalog)
    assert index.embedder is other and index.verify() == [] and index.info()["model"] == "other"
    assert manifest.read(index.path).change == "reencode" and index.info()["segments"] == 1
    assert index.info()["duplicates"] == expected.info()["duplicates"] == 2
    assert hits(reader, 3) == before and reader.newer().info()["model"] == "other"
    with pytest.raises(MismatchError, match="spyglass reencode --index .*p.index --model toy$"):
        Index.open(index.path, ToyEmbedder())
    assert {path.name for path in (index.path / "segments").iterdir()} == {
        segment.id for state in (manifest.read(index.path), reader._manifest) for segment in state.segments
    }
    assert index.restore(reader.version) and hits(Index.open(index.path, ToyEmbedder()), 3) == before
    index.compact(keep_snapshots=0)
    assert index.verify() == []


def test_again_there_is_nothing_to_do(index):
    index.reencode(OtherEmbedder(), num_workers=0)
    version, other = index.version, OtherEmbedder()
    report = index.reencode(other, num_workers=0)
    assert (report.encoded, report.unchanged, report.is_whole) == (0, 12, True)
    assert index.version == version and other.encoded == 0


def test_pictures_that_are_gone_keep_the_old_vectors_in_use(index, tmp_path, photos):
    before, version = hits(index, 3), index.version
    (photos / "004.png").unlink()
    (photos / "005.png").write_bytes(b"no picture")
    (photos / "006.png").write_bytes(png(106))
    report = index.reencode(OtherEmbedder(), num_workers=0)
    assert (report.encoded, report.changed, report.skipped, report.is_whole) == (10, 1, 2, False)
    assert [failure["id"] for failure in report.failures] == ["004.png", "005.png"]
    assert "No such file" in report.failures[0]["reason"]
    assert index.version == version and hits(Index.open(index.path, ToyEmbedder()), 3) == before
    assert index.verify() == []

    (photos / "004.png").write_bytes(png(4))
    again = OtherEmbedder()
    report = index.reencode(again, num_workers=0)
    assert (report.encoded, report.unchanged, report.skipped, again.encoded) == (1, 10, 1, 1)
    report = index.reencode(again, num_workers=0, drop_missing=True)
    assert (report.encoded, report.unchanged, report.skipped, report.is_whole) == (0, 11, 1, True)
    assert set(index.catalog()["id"]) == {f"{seed:03d}.png" for seed in range(NUM) if seed not in (5, 7)} | {
        *("a.png", "b.png", "c.png")
    }
    assert index.verify() == [] and index.version == version + 1
    assert index.search(png(106))[0].id == "006.png"  # as it is by now
    assert not (index.path / "draft.json").exists()


def test_a_disk_that_is_not_there_empties_no_index(index, photos, tmp_path):
    before, version = hits(index, 3), index.version
    photos.rename(tmp_path / "elsewhere")
    (tmp_path / "shop.tar").unlink()
    with pytest.raises(
        SourceError, match=r"expected pictures to go on with, found none of 12 .*is their disk mounted\?"
    ):
        index.reencode(OtherEmbedder(), num_workers=0, drop_missing=True)
    assert index.version == version and hits(index, 3) == before


def test_ctrl_c_keeps_what_is_encoded(index, tmp_path, photos):
    before = hits(index, 3)
    with pytest.raises(KeyboardInterrupt):
        index.reencode(at_third_batch(OtherEmbedder()), num_workers=0, batch_size=3)
    assert hits(Index.open(index.path, ToyEmbedder()), 3) == before and index.verify() == []
    index.compact(keep_snapshots=0)  # the images are the same: what was begun still fits
    index.compact()
    assert index.verify() == [] and hits(index, 3) == before
    other = OtherEmbedder()
    report = index.reencode(other, num_workers=0)
    assert (report.encoded, report.unchanged, other.encoded) == (6, 6, 6)
    assert hits(index, 3) == hits(fresh(tmp_path, photos), 3) and index.verify() == []


@pytest.mark.parametrize("what", ["removed", "another model", "damaged", "damaged draft"])
def test_a_draft_that_does_not_fit_is_begun_anew(index, what, caplog):
    with pytest.raises(KeyboardInterrupt):
        index.reencode(at_third_batch(OtherEmbedder()), num_workers=0, batch_size=3)
    begun = manifest.Manifest.from_bytes((index.path / "draft.json").read_bytes())
    num_images = 12
    if what == "removed":
        index.remove(["001.png"])
        num_images = 11
    elif what == "another model":
        draft.write(index.path, replace(begun, model=replace(begun.model, fingerprint="cafe")))
    elif what == "damaged":
        path = next((index.path / "segments" / begun.segments[0].id).glob("vectors*"))
        flip_byte(path, path.stat().st_size - 1)
    else:
        flip_byte(index.path / "draft.json", 300)
        (problem,) = index.verify()
        assert problem.startswith("draft.json: expected") and problem.endswith("; `compact` removes it")
    report = index.reencode(OtherEmbedder(), num_workers=0)
    assert (report.encoded, report.unchanged) == (num_images, 0) and index.verify() == []
    assert ("begun anew" in caplog.text) == (what == "damaged draft")
    assert len(index.catalog()) == num_images and index.compact(keep_snapshots=0).segments_after == 1
    assert len(list(index.path.glob("segments/*"))) == 1


def test_killed_and_run_again(tmp_path):
    source, path = write_pngs(tmp_path / "photos", range(60)), tmp_path / "p.index"
    Index.create(path, ToyEmbedder()).add(source, num_workers=0)
    script = (
        "import sys; from indexer import Index; from test_reencoding import OtherEmbedder\n"
        "Index.open(sys.argv[1]).reencode(OtherEmbedder(seconds_per_image=0.02), num_workers=0, batch_size=4,\n"
        "    commit_seconds=0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", script, str(path)], env=environment) as process:
        while not (path / "draft.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert Index.open(path, ToyEmbedder()).search(png(7))[0].id == "007.png"
        with pytest.raises(LockedError, match=f"process {process.pid} is writing"):
            Index.open(path).reencode(OtherEmbedder())
        process.send_signal(signal.SIGKILL)
    index = Index.open(path, ToyEmbedder())
    assert index.verify() == []
    report = index.reencode(OtherEmbedder(), num_workers=0)
    assert report.encoded + report.unchanged == 60 and report.unchanged > 0 and index.verify() == []
    assert all(index.search(png(seed))[0].id == f"{seed:03d}.png" for seed in (0, 17, 59))


def test_other_widths_and_no_tokens(index):
    other = OtherEmbedder(token_dim=0)
    other.widths = (64, 512)
    index.reencode(other, num_workers=0)
    assert manifest.read(index.path).widths == (32, 64, 128, 256, 512) and index.info()["token_bytes"] == 0
    assert index.search(png(3))[0].similarity == pytest.approx(1, abs=1e-5) and index.verify() == []


def test_an_empty_index(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    assert index.reencode(OtherEmbedder()).is_whole and index.info()["model"] == "other"
    assert index.verify() == [] and index.search(png(0)) == []


def test_what_cannot_be_asked_for(index):
    with pytest.raises(UsageError, match="expected a batch_size of at least 1, got 0"):
        index.reencode(OtherEmbedder(), batch_size=0)
    with pytest.raises(UsageError, match="expected num_workers of 0 .* got -1"):
        index.reencode(OtherEmbedder(), num_workers=-1)


def test_the_command(index, photos, monkeypatch, capsys):
    from retrieval import Embedder

    monkeypatch.setattr(Embedder, "load", lambda name=None, **_: OtherEmbedder() if name == "new" else ToyEmbedder())

    def run(*arguments):
        capsys.readouterr()
        code = cli.run([str(argument) for argument in (*arguments, "--index", index.path)])
        return code, *capsys.readouterr()

    command = ("reencode", "--model", "new", "--workers", 0)
    (photos / "004.png").unlink()
    code, out, _ = run(*command)
    assert code == 1 and "11 encoded, 0 unchanged, 1 skipped" in out and "the old vectors stay in use" in out
    assert "004.png" in out and "No such file" in out
    weighing(cosine=1.0).save(index.path / "rankers" / "ann")
    assert "rankers     ann\n" in run("info")[1]
    code, out, err = run(*command, "--drop-missing", "--json")
    report = json.loads(out)
    lost = "none for this model (ann: for another model): similarity alone orders the hits; train one with: "
    train = f"spyglass train ranker --feedback {index.path} --name NAME [--data LABELLED]"
    assert err == f"rankers: {lost}{train}\n" and f"rankers     {lost}{train}\n" in run("info")[1]
    assert code == 3 and (report["encoded"], report["unchanged"], report["is_whole"]) == (0, 11, True)
    assert run(*command, "--json")[0] == 0
    code, _, err = run("index", photos, "--model", "old")
    assert code == 4 and err.endswith(f"or re-encode with: spyglass reencode --index {index.path} --model toy\n")
    code, out, _ = run("reencode", "--model", "old", "--workers", 0)
    assert code == 0 and index.newer().info()["model"] == "toy"
