"""`spyglass feedback`, end to end: what is added, imported, exported and listed, and what is refused."""

import json
import re
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run_apart
from toy import ToyEmbedder, png, write_pngs

from indexer import Index

CLICKS = """query,image,relevant,when,user,page
000.png,001.png,true,2025-01-31T12:00:00Z,ann,1
000.png,002.png,NO,2025-01-31T12:00:01Z,ann,1
003.png,001.png,1,,,2
"""


@pytest.fixture
def spyglass(spyglass):
    """Runs one command line `feedback …` in this process."""
    return partial(spyglass, "feedback")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("built")
    index = Index.create(home / "p.index", ToyEmbedder(token_dim=0))
    index.add(write_pngs(home / "photos", range(5)), num_workers=0)
    return index.path


@pytest.fixture
def index(built) -> Path:
    """An index of `000.png` to `004.png`, without feedback."""
    for file in (built / "feedback").glob("*"):
        file.unlink()
    return built


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_add_and_list(spyglass, index, tmp_path):
    query = tmp_path / "query.png"
    query.write_bytes(png(80))
    first = spyglass("add", "000.png", "001.png", "--relevant", "--index", index)
    assert first == (0, f"{index}: 001.png is relevant to 000.png\n", "")
    second = spyglass("add", query, "001.png", "--not-relevant", "--index", index, "--user", "ann")
    assert second == (0, f"{index}: 001.png is not relevant to {query}\n", "")
    assert spyglass("add", "000.png", "001.png", "--not-relevant", "--index", index).code == 0

    listed = spyglass("list", "--index", index)
    heading, one, other, _, summary = listed.out.splitlines()
    assert listed.code == 0 and heading.split() == ["when", "(UTC)", "user", "query", "image", "relevant"]
    assert one.split()[2] == "ann" and one.endswith("001.png  no") and other.split()[2:] == ["000.png", "001.png", "no"]
    assert summary == "2 judgments: 0 relevant, 2 not; 2 queries, 2 users; 1 superseded"

    report = json.loads(spyglass("list", "--index", index, "--user", "ann", "--json").out)
    assert report["counts"] == {
        "judgments": 1,
        "relevant": 0,
        "not_relevant": 1,
        "superseded": 0,
        "queries": 1,
        "users": 1,
    }
    (judgment,) = report["judgments"]
    assert list(judgment) == ["when", "user", "query", "image", "relevant"]
    assert (judgment["query"], judgment["relevant"]) == (str(query), False)
    nobody = spyglass("list", "--index", index, "--user", "bob")
    assert nobody.out == "0 judgments: 0 relevant, 0 not; 0 queries, 0 users; 0 superseded\n"


def test_import_takes_what_other_programs_write(spyglass, index, tmp_path):
    done = spyglass("import", write(tmp_path / "clicks.csv", "\ufeff" + CLICKS), "--index", index)
    assert done == (0, f"{index}: 3 added, 0 unchanged, 0 skipped\n", "")
    lines = [
        {"query": "000.png", "image": "001.png", "relevant": True, "when": "2025-01-31T12:00:00+00:00", "user": "ann"},
        {"query": "004.png", "image": "001.png", "relevant": "no", "when": "2025-01-31T12:00:00.25", "more": [1]},
    ]
    again = spyglass("import", write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, lines))), "--index", index)
    assert again.out == f"{index}: 1 added, 1 unchanged, 0 skipped\n"
    table = pa.table({"query": [png(70), png(70)], "image": ["001.png", "002.png"], "relevant": [1, 0]})
    pq.write_table(table, tmp_path / "c.parquet")
    assert json.loads(spyglass("import", tmp_path / "c.parquet", "--index", index, "--json").out) == {
        "added": 2,
        "unchanged": 0,
        "skipped": 0,
        "failures": [],
    }
    frame = Index.open(index).feedback()
    assert list(frame["relevant"]) == [True, False, False, True, True, False]
    assert list(frame["user"]) == ["ann", "", "ann", "", "", ""]
    assert list(frame["when"])[:3] == [
        "2025-01-31T12:00:00.000000+00:00",
        "2025-01-31T12:00:00.250000+00:00",
        "2025-01-31T12:00:01.000000+00:00",
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_export_that_is_imported_gives_the_same_judgments(spyglass, index, tmp_path, suffix):
    target = Index.open(index)
    strange = tmp_path / 'a "strange", name; 雪.png'
    strange.write_bytes(png(60))
    target.record_feedback("000.png", "001.png", True)
    target.record_feedback("000.png", "001.png", False)
    target.record_feedback(strange, "002.png", True, user='ann,\n"b"\r')
    target.record_feedback(png(61), "003.png", False, user=" ")
    before = target.feedback(superseded=True)

    out = tmp_path / "new folder" / f"all.{suffix}"
    assert spyglass("export", "--index", index, "--out", out) == (0, f"{out}: 4 judgments\n", "")
    assert out.read_bytes().count(b"sha256:") >= 1 and len(list(out.parent.iterdir())) == 1
    assert spyglass("import", out, "--index", index).out == f"{index}: 0 added, 4 unchanged, 0 skipped\n"
    assert Index.open(index).feedback(superseded=True).equals(before)

    for file in (index / "feedback").iterdir():
        file.unlink()
    if suffix != "parquet":  # the picture that had no name is gone
        refused = spyglass("import", out, "--index", index)
        assert refused.code == 2 and refused.err.startswith("error: row 4: expected a query that is a picture, or the")
        assert not list((index / "feedback").iterdir())
        skipped = spyglass("import", out, "--index", index, "--on-error", "skip")
        assert skipped.code == 3 and skipped.out.startswith(f"{index}: 3 added, 0 unchanged, 1 skipped\n")
        before = before[:3]
    else:
        strange.unlink()  # the copy of it was exported
        assert spyglass("import", out, "--index", index).code == 0
    assert Index.open(index).feedback(superseded=True).equals(before)


BAD_ROWS = [
    ("query,image,relevant\n000.png,001.png,1\n000.png,01.png,1\n", 2, "expected the id of an image of the index, got"),
    ("query,image,relevant\n000.png,001.png,perhaps\n", 1, "expected relevant to be true, false, 1, 0, yes or no"),
    ("query,image,relevant\n000.png,001.png\n", 1, "expected relevant to be true, .* got None"),
    ("query,image,relevant\n000.png,001.png,1,2\n", 1, "expected query, image and relevant, got \\["),
    ("query,image,relevant,when\n000.png,001.png,1,noon\n", 1, "expected when in ISO 8601, such as .* got 'noon'"),
    ("query,image,relevant\n,001.png,1\n", 1, "expected a query that is a picture"),
]


@pytest.mark.parametrize(("text", "row", "reason"), BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_is_imported(spyglass, index, tmp_path, text, row, reason):
    file = write(tmp_path / "clicks.csv", text)
    refused = spyglass("import", file, "--index", index)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert re.fullmatch(f"error: row {row}: {reason}.*; nothing was recorded\n", refused.err)
    assert Index.open(index).feedback().empty
    skipped = spyglass("import", file, "--index", index, "--on-error", "skip", "--json")
    report = json.loads(skipped.out)
    assert skipped.code == 3 and report["added"] == row - 1 and [bad["row"] for bad in report["failures"]] == [row]


def test_lines_that_are_no_json_are_bad_rows(spyglass, index, tmp_path):
    lines = ['{"query": "000.png", "image": "001.png", "relevant": 1}', "{oops", "[1]", "", "null"]
    done = spyglass("import", write(tmp_path / "c.jsonl", "\n".join(lines)), "--index", index, "--on-error", "skip")
    assert done.code == 3 and f"{index}: 1 added, 0 unchanged, 4 skipped\n" in done.out
    assert "2  expected query, image and relevant, got '{oops'" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["add", "000.png", "001.png", "--index", "INDEX"], 2, "Missing option '--relevant'; see 'spyglass feedback"),
        (["add", "000.png", "01.png", "--relevant", "--index", "INDEX"], 2, "expected the id of an image of the index"),
        (["add", "x.png", "001.png", "--relevant", "--index", "INDEX"], 2, "expected a query that is a picture, or"),
        (["add", "HERE/c.txt", "001.png", "--relevant", "--index", "INDEX"], 1, "expected a JPEG, PNG"),
        (["import", "HERE/c.txt", "--index", "INDEX"], 2, "expected a file's name to end in .csv, .jsonl or .parquet"),
        (["import", "HERE/none.csv", "--index", "INDEX"], 1, "expected a table of judgments in HERE/none.csv, got: No"),
        (["import", "HERE/c.csv", "--index", "INDEX"], 1, "expected columns query, image and relevant in HERE/c.csv"),
        (["import", "HERE/c.parquet", "--index", "INDEX"], 1, "expected a table of judgments in HERE/c.parquet, got: "),
        (["import", "HERE/c.csv", "--index", "HERE"], 1, "expected an index at HERE, found none; make one with:"),
        (["export", "--index", "INDEX", "--out", "HERE/c.xls"], 2, "expected a file's name to end in .csv, .jsonl or"),
        (["export", "--index", "INDEX", "--out", "HERE/c.txt/c.csv"], 1, "expected to write HERE/c.txt/c.csv, but can"),
        (["list", "--index", "HERE"], 1, "expected an index at HERE, found none; make one with:"),
    ],
)
def test_errors_are_one_line(spyglass, index, tmp_path, arguments, code, complaint):
    for name, text in (("c.txt", "text"), ("c.csv", "query,document\n"), ("c.parquet", "text")):
        write(tmp_path / name, text)
    places = {"INDEX": str(index), "HERE": str(tmp_path)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
        complaint = complaint.replace(name, place)
    answer = spyglass(*arguments)
    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert answer.err.startswith(f"error: {complaint}")


def test_help_shows_examples(spyglass):
    for name in ("add", "import", "export", "list"):
        page = spyglass(name, "--help")
        assert page.code == 0 and f"\n    spyglass feedback {name}" in page.out, name
    assert "leave them out" in " ".join(spyglass("export", "--help").out.split())


def test_no_command_needs_a_model(index, tmp_path):
    out = tmp_path / "out.csv"
    commands = [["add", "000.png", "001.png", "--relevant"], ["export", "--out", out], ["import", out], ["list"]]
    apart = run_apart(*(["feedback", *command, "--index", index] for command in commands))
    assert apart.codes == [0, 0, 0, 0] and not apart.modules & {"torch", "faiss", "duckdb"} and apart.err == ""
