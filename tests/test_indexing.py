"""The command `index`, end to end: changes of a folder told in text and JSON, wrong usage, and a Ctrl-C."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interruptions import hears_ctrl_c
from toy import ToyEmbedder, png, write_pngs

from indexer import Index


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_pngs(tmp_path / "photos", range(6))


@pytest.fixture
def spyglass(tmp_path, monkeypatch, spyglass):
    """Runs a command line on an index of toy vectors."""
    Index.create(tmp_path / "p.index", ToyEmbedder())
    monkeypatch.setattr("retrieval.Embedder.load", lambda *_, **__: ToyEmbedder())

    def call(command, *arguments):
        options = ("--workers", "0") if command == "index" else ()
        return spyglass(command, *arguments, "--index", tmp_path / "p.index", *options)

    return call


def test_changes_are_told(spyglass, photos):
    _, out, _ = spyglass("index", photos)
    assert "6 added, 0 updated, 0 unchanged, 0 skipped in" in out
    (photos / "003.png").rename(photos / "new.png")
    (photos / "copy.png").write_bytes(png(1))
    (photos / "005.png").unlink()
    code, out, err = spyglass("index", photos, "--prune")
    assert (code, err) == (0, "")
    assert "0 added, 0 updated, 4 unchanged, 0 skipped, 1 renamed, 1 duplicate, 1 pruned in" in out
    code, out, _ = spyglass("index", photos, "--prune", "--json")
    counts = {name: num for name, num in json.loads(out).items() if num and "second" not in name}
    assert (code, counts) == (0, {"unchanged": 6})
    _, out, _ = spyglass("info")
    assert "duplicates  1 of them\n" in out


def test_hits_tell_their_other_names(spyglass, photos):
    (photos / "copy.png").write_bytes(png(1))
    spyglass("index", photos)
    _, out, _ = spyglass("search", photos / "001.png", "-k", 2, "--json", "--no-rerank")
    assert [(hit["id"], hit["names"]) for hit in json.loads(out)["hits"]][0] == ("001.png", ["copy.png"])
    _, out, _ = spyglass("search", photos / "001.png", "-k", 2, "--no-rerank")
    heading, first, second = out.splitlines()
    assert heading.split()[-2:] == ["also", "picture"] and first.split()[-2] == "copy.png"
    _, out, _ = spyglass("search", photos / "001.png", "-k", 1, "--where", "id = 'copy.png'", "--json", "--no-rerank")
    assert [(hit["id"], hit["names"]) for hit in json.loads(out)["hits"]] == [("copy.png", ["001.png"])]


def test_what_failed_is_tried_again(spyglass, photos):
    (photos / "002.png").write_bytes(b"")
    assert spyglass("index", photos)[0] == 3
    (photos / "002.png").write_bytes(png(2))
    code, out, _ = spyglass("index", "--retry-failed", "--json")
    assert code == 0 and json.loads(out)["added"] == 1


def test_where_there_is_nothing_to_add_that_is_said(spyglass, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = spyglass("index", tmp_path / "empty", "--index", tmp_path / "p.index")
    assert answer.code == 0 and answer.out.endswith(" s\n")  # and no pictures a second
    assert answer.err == f"nothing to add: there are no pictures in {tmp_path / 'empty'}\n"
    answer = spyglass("index", "--retry-failed", "--index", tmp_path / "p.index", "--json")
    assert answer.json["added"] == 0 and answer.err == "nothing to add: there are no failures of earlier runs\n"
    for _ in range(2):
        assert spyglass("index", tmp_path / "empty", photos, "--index", tmp_path / "p.index").err == ""


def test_an_emptied_source_is_refused_in_one_line(spyglass, photos):
    spyglass("index", photos)
    for path in photos.iterdir():
        path.unlink()
    code, out, err = spyglass("index", photos, "--prune")
    assert (code, out) == (1, "") and err.startswith("error: expected pictures in") and err.count("\n") == 1
    assert "use --prune-all" in err
    code, out, _ = spyglass("index", photos, "--prune-all", "--json")
    assert (code, json.loads(out)["pruned"]) == (0, 6)


@pytest.mark.parametrize("arguments", [(), ("photos", "--retry-failed"), ("--retry-failed", "--prune")])
def test_wrong_usage(spyglass, arguments):
    code, out, err = spyglass("index", *arguments)
    assert (code, out) == (2, "") and err.startswith("error: expected ") and err.count("\n") == 1


def test_a_mistake_leaves_no_index_behind(spyglass, photos, tmp_path):
    (tmp_path / "notes.txt").write_text("Dear Sir")
    (tmp_path / "p.csv").write_text(f"place,colour\n{photos}/000.png,red\n")
    shutil.rmtree(tmp_path / "p.index")
    mistakes = [
        (2, (photos, "--label-from", "colour")),
        (2, (photos, tmp_path / "p.csv")),
        (1, (tmp_path / "notes.txt",)),
        (1, ("--retry-failed",)),
    ]
    for code, arguments in mistakes:
        answer = spyglass("index", *arguments)
        assert (answer.code, answer.out) == (code, "") and answer.err.startswith("error: expected "), arguments
        assert not (tmp_path / "p.index").exists(), arguments
    assert "make one with: spyglass index PICTURES --index" in answer.err
    answer = spyglass("index", photos, "--index-type", "Flat", "--tokens", 512)
    assert answer.code == 0 and "6 added" in answer.out


CHILD = """
import os, pathlib, retrieval, toy
from ui import cli

class Slow(toy.ToyEmbedder):
    def encode_pixels(self, pixels, **options):
        if self.encoded == 8:
            pathlib.Path(os.environ["MARK"]).touch()
        return super().encode_pixels(pixels, **options)

retrieval.Embedder.load = lambda *_, **__: Slow(seconds_per_image=float(os.environ["PACE"]))
cli.main()
"""


def child(photos: Path, index: Path, *, pace: float) -> subprocess.Popen:
    """`spyglass index` with a toy for a model, of `pace` seconds a picture, which makes the file `mark` after eight."""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    arguments = ["index", str(photos), "--index", str(index), "--batch-size", "4", "--workers", "1", "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "PACE": str(pace), "MARK": str(index.with_name("mark"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )


def test_ctrl_c_commits_what_is_encoded_and_exits_with_130(tmp_path):
    photos, path = write_pngs(tmp_path / "photos", range(60)), tmp_path / "p.index"
    with child(photos, path, pace=0.1) as process:
        while not (tmp_path / "mark").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted; what was saved before stays\n"
    index = Index.open(path, ToyEmbedder())
    num_kept = index.info()["images"]
    assert 8 <= num_kept < 60 and index.verify() == []
    with child(photos, path, pace=0) as process:
        out, _ = process.communicate(timeout=60)
    report = json.loads(out)
    assert (process.returncode, report["added"], report["unchanged"]) == (0, 60 - num_kept, num_kept)
    assert Index.open(path, ToyEmbedder()).info()["images"] == 60


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_is_one_line_and_what_was_there_stays(spyglass, photos, tmp_path, monkeypatch, number):
    spyglass("index", photos)
    before = (tmp_path / "p.index" / "manifest.json").read_bytes()
    write_pngs(photos, range(10, 12))
    (photos / "000.png").unlink()

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", refuse)
        code, out, err = spyglass("index", photos, "--prune")
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("error: expected to write to ") and os.strerror(number) in err and "stays" in err
    assert (tmp_path / "p.index" / "manifest.json").read_bytes() == before
    assert spyglass("verify")[0] == 0
    code, out, _ = spyglass("index", photos, "--prune", "--json")
    report = json.loads(out)
    assert (code, report["added"], report["unchanged"], report["pruned"]) == (0, 2, 5, 1)
