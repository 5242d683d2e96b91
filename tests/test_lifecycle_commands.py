"""The commands that change an index without a model: remove, compact, snapshots and restore."""

import re

import pytest
from command_line import run_apart
from toy import ToyEmbedder, write_pngs

from indexer import Index


@pytest.fixture
def index(tmp_path):
    """Eight pictures in two segments."""
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    index.add(write_pngs(tmp_path / "photos", range(8)), num_workers=0, batch_size=4, commit_seconds=0)
    return index.path


def test_a_picture_is_taken_out_by_its_path(spyglass, index):
    path = index.parent / "photos" / "003.png"
    removed = spyglass("remove", path, "004.png", "--index", index)
    assert removed[:2] == (0, f"{index}: 2 removed, 6 left\n") and path.exists()


def test_a_life(spyglass, index):
    removed = spyglass("remove", "001.png", "002.png", "--index", index)
    assert removed == (0, f"{index}: 2 removed, 6 left\n", f"to have them back: spyglass restore 2 --index {index}\n")
    assert spyglass("remove", "--where", "id < '004'", "--index", index, "--json").json == {
        "removed": 2,
        "images": 4,
        "version": 4,
    }
    found = spyglass("snapshots", "--index", index, "--json").json["snapshots"]
    assert [(each["version"], each["change"], each["images"]) for each in found] == [
        *[(0, "create", 0), (1, "add", 4), (2, "add", 8), (3, "remove", 6), (4, "remove", 4)]
    ]
    lines = spyglass("snapshots", "--index", index).out.splitlines()
    assert lines[0].split() == ["snapshot", "when", "(UTC)", "after", "images", "size"] and len(lines) == 6
    assert lines[3].split()[0] == "2" and lines[3].split()[3:5] == ["add", "8"] and lines[5].endswith("  present")
    assert spyglass("info", "--index", index, "--snapshot", 2, "--json").json["images"] == 8
    assert re.search(r"\nversion +4 of 20", spyglass("info", "--index", index).out)

    compacted = spyglass("compact", "--index", index, "--json")
    assert compacted.code == 0 and compacted.json["images"] == 4 and compacted.json["deleted_rows"] == 4
    assert spyglass("restore", 2, "--index", index).code == 2  # only state 4 was kept
    restored = spyglass("restore", 4, "--index", index)
    assert restored == (0, f"{index}: 4 images, as in snapshot 4\n", "")
    assert spyglass("restore", 5, "--index", index, "--json").json == {"restored": 5, "version": 7, "images": 4}
    text = spyglass("compact", "--index", index, "--keep-snapshots", 0).out
    assert "4 images; segments 1 before, 1 now; 0 removed rows dropped; on disk " in text
    assert spyglass("verify", "--index", index).code == 0
    assert spyglass("info", "--index", index, "--snapshot", 4).code == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["remove"], "expected ids or --where, got neither"),
        (["remove", "001.png", "--where", "true"], "expected ids or --where, got both"),
        (["remove", "01.png"], "expected ids of the index, or paths of its pictures, got '01.png'; the closest is"),
        (["remove", "--where", "colour = 1"], "expected an SQL condition over id, uri"),
        (["restore", "9"], "expected one of the snapshots of"),
        (["restore", "-1"], "No such option: -1"),
        (["search", "q.png", "--snapshot", "9"], "expected one of the snapshots of"),
        (["compact", "--keep-snapshots", "-1"], "Invalid value for '--keep-snapshots'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(spyglass, index, arguments, complaint):
    before = (index / "manifest.json").read_bytes()
    answer = spyglass(*arguments, "--index", index)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {complaint}") and answer.err.count("\n") == 1
    assert (index / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [
        *(["remove", "001.png"], ["remove", "--where", "dim < 100"], ["compact"], ["verify"], ["snapshots", "--json"]),
        *(["remove", "photos/001.png"], ["restore", "1"], ["export", "--out", "out.parquet"]),
    ],
)
@pytest.mark.parametrize("token_dim", [0, 12])
def test_no_model_is_needed(tmp_path, monkeypatch, command, token_dim):
    monkeypatch.chdir(tmp_path)
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=token_dim))
    index.add(write_pngs(tmp_path / "photos", range(4)), num_workers=0, batch_size=2, commit_seconds=0)
    apart = run_apart([*command, "--index", index.path])
    assert apart.codes == [0] and not apart.modules & {"torch", "streamlit", "fastapi"}


@pytest.mark.parametrize("command", [["remove", "a"], ["compact"], ["snapshots"], ["restore", "1"]])
def test_without_an_index_the_error_says_how_to_make_one(spyglass, tmp_path, command):
    answer = spyglass(*command, "--index", tmp_path / "none.index")
    assert (answer.code, answer.out) == (1, "") and answer.err.count("\n") == 1 and "spyglass index" in answer.err
