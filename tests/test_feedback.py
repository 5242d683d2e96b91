"""Judgments: kept whole whoever writes at once and whatever is cut short, and found again in order."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from toy import ToyEmbedder, flip_byte, pixels_of, png, write_pngs

from indexer import Index, feedback
from indexer.feedback import Judgment
from retrieval.errors import DamagedError, ImageError, IndexFolderError, UsageError
from retrieval.images import read_pixels

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """An index of `a/000.png` to `a/005.png`."""
    home = tmp_path_factory.mktemp("built")
    photos = write_pngs(home / "photos" / "a", range(6)).parent
    index = Index.create(home / "p.index", ToyEmbedder(token_dim=0))
    index.add(photos, num_workers=0)
    return index.path


@pytest.fixture
def index(built) -> Index:
    """The index, with no feedback and no model."""
    for file in (built / "feedback").glob("*"):
        file.unlink()
    return Index.open(built)


def judgment(image: str = "i", *, query: str = "q", seconds: int = 0, **fields) -> Judgment:
    when = feedback.utc(NOON + timedelta(seconds=seconds))
    return Judgment(**{"query": query, "image": image, "relevant": True, "when": when} | fields)


def said(frame) -> list[tuple]:
    return list(zip(frame["query"], frame["image"], frame["relevant"], frame["user"], strict=True))


def files_in(folder: Path) -> list[Path]:
    return sorted((folder / "feedback").iterdir())


def test_what_is_said_is_found_again(index, built):
    before = datetime.now(UTC)
    first = index.record_feedback("a/001.png", "a/002.png", True)
    index.record_feedback(png(99), "a/003.png", False, user="ann")
    photos = built.parent / "photos" / "a"
    index.record_feedback(str(photos / "004.png"), str(photos / "005.png"), True)  # uris of the index

    frame = index.feedback()
    assert list(frame.columns) == ["id", "query", "image", "relevant", "when", "user", "query_image"]
    name = frame["query"][1]
    assert name.startswith("sha256:") and len(name) == 7 + 64
    assert said(frame) == [
        ("a/001.png", "a/002.png", True, ""),
        (name, "a/003.png", False, "ann"),
        ("a/004.png", "a/005.png", True, ""),
    ]
    assert frame["id"][0] == first.id and frame["when"][0] == first.when
    assert before <= datetime.fromisoformat(first.when) <= datetime.now(UTC) and first.when.endswith("+00:00")
    assert frame["query_image"][0] is None and frame["query_image"][2] is None
    np.testing.assert_array_equal(read_pixels(frame["query_image"][1], None), pixels_of(99))
    assert said(index.feedback(user="ann")) == [(name, "a/003.png", False, "ann")]
    assert len(index.feedback(user="")) == 2 and len(index.feedback(user="bob")) == 0
    assert index.verify() == []


def test_the_files_are_tables_that_others_can_read(tmp_path):
    feedback.append(tmp_path, [judgment("i", user="ann", query_image=png(1)), judgment("j", relevant=False)])
    (file,) = files_in(tmp_path)
    assert file.suffix == ".parquet" and 10**18 < int(file.name.split("-")[0]) < 10**20  # nanoseconds: sorted by time
    table = pq.read_table(file)
    assert table["when"].to_pylist() == ["2025-01-31T12:00:00.000000+00:00"] * 2
    assert table["image"].to_pylist() == ["i", "j"] and table["relevant"].to_pylist() == [True, False]
    assert table["query_image"].to_pylist() == [png(1), None]


def test_a_later_word_supersedes_an_earlier_one_of_the_same_user_on_the_same_two(index):
    for relevant, user in ((True, "ann"), (True, "bob"), (False, "ann"), (True, "ann"), (False, "ann")):
        index.record_feedback("a/001.png", "a/002.png", relevant, user=user)
    index.record_feedback("a/002.png", "a/001.png", True, user="ann")
    standing = index.feedback()
    two, same = ("a/001.png", "a/002.png"), ("a/002.png", "a/001.png")
    assert said(standing) == [(*two, True, "bob"), (*two, False, "ann"), (*same, True, "ann")]
    assert list(standing.index) == [0, 1, 2]
    assert len(index.feedback(superseded=True)) == 6


def test_the_picture_of_a_query_outlives_its_file_upright_and_small(index, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90° clockwise
    path = tmp_path / "phone.png"
    Image.fromarray(pixels).save(path, exif=exif)
    kept = index.record_feedback(path, "a/001.png", True)
    path.unlink()
    assert kept.query == str(path)
    with Image.open(io.BytesIO(index.feedback()["query_image"][0])) as image:
        assert image.size == (128, 256)
        upright = Image.fromarray(np.rot90(pixels, -1)).resize((128, 256), Image.Resampling.BOX)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(upright))
    # Its name finds the copy again, and gives it to what is said next.
    assert index.record_feedback(str(path), "a/002.png", False).query_image == kept.query_image


def test_the_same_picture_has_the_same_name_however_it_is_given(index, tmp_path):
    with Image.open(io.BytesIO(png(50))) as image:
        names = {index.record_feedback(query, "a/001.png", True).query for query in (png(50), image, pixels_of(50))}
    assert len(names) == 1 and len(index.feedback()) == 1
    assert index.record_feedback(pixels_of(51), "a/001.png", True).query not in names


def test_a_hit_is_judged_by_the_index_that_found_it(index):
    searched = Index.open(index.path, ToyEmbedder(token_dim=0))
    for hit in searched.search(png(2), top_k=2):
        searched.record_feedback(png(2), hit.id, hit.rank == 1)
        searched.record_feedback(hit.uri, hit.id, True, user="ann")
    assert [image for _, image, relevant, user in said(index.feedback()) if relevant and not user] == ["a/002.png"]
    ann = index.feedback(user="ann")
    assert list(ann["query"]) == list(ann["image"])


def test_many_rows_at_once_are_all_checked_before_any_is_written(index):
    rows = [
        {"query": "a/001.png", "image": "a/002.png", "relevant": "yes", "when": "2025-01-31T13:00:00+01:00"},
        {"query": png(9), "image": "a/002.png", "relevant": 0, "user": None, "when": None},
        {"query": png(9), "image": "a/002.png", "relevant": np.True_, "user": 17},
    ]
    report = index.record_feedback_rows(rows)
    assert (report.added, report.unchanged, report.skipped, report.failures) == (3, 0, 0, [])
    assert said(index.feedback())[0] == ("a/001.png", "a/002.png", True, "")
    assert index.feedback()["when"][0] == "2025-01-31T12:00:00.000000+00:00"
    assert [row[2:] for row in said(index.feedback())[1:]] == [(False, ""), (True, "17")]
    assert index.record_feedback_rows(rows[:1]).unchanged == 1 and len(index.feedback()) == 3

    bad = [rows[0] | {"when": "2025-02-01"}, {"query": "a/001.png", "image": "a/002.png"}]
    with pytest.raises(UsageError, match=r"^row 2: expected query, image and relevant, got .*; nothing was recorded$"):
        index.record_feedback_rows(bad)
    assert len(index.feedback()) == 3
    report = index.record_feedback_rows(bad, on_error="skip")
    assert (report.added, report.skipped, [failure["row"] for failure in report.failures]) == (1, 1, [2])


def test_rows_without_a_time_supersede_each_other_in_their_order(index):
    row = {"query": "a/001.png", "image": "a/002.png"}
    index.record_feedback_rows([row | {"relevant": word} for word in (True, False, True, False)])
    assert said(index.feedback()) == [("a/001.png", "a/002.png", False, "")]
    assert list(index.feedback(superseded=True)["relevant"]) == [True, False, True, False]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image": "a/01.png"}, UsageError, r"an image of the index, got 'a/01.png'; the closest is 'a/001.png'"),
        ({"image": ""}, UsageError, "expected the id of an image of the index, got ''"),
        ({"image": 1.5}, UsageError, "expected text, got 1.5"),
        ({"query": "a/0003.png"}, UsageError, r"a picture, or the id of .*, got 'a/0003.png'; the closest are 'a/00"),
        ({"query": "sha256:00"}, UsageError, "expected a query that is a picture, or the id of an image"),
        ({"query": b"no picture"}, ImageError, "expected a JPEG, PNG"),
        ({"query": __file__}, ImageError, "expected a JPEG, PNG"),
        ({"query": "/"}, ImageError, "expected a picture at /, but cannot read it"),
        ({"query": [png(1), png(2)]}, UsageError, "expected one picture, or its id, as a query, got"),
        ({"query": None}, UsageError, "expected one picture, or its id, as a query, got None"),
        ({"relevant": "maybe"}, UsageError, "expected relevant to be true, false, 1, 0, yes or no, got 'maybe'"),
        ({"relevant": None}, UsageError, "expected relevant to be .* got None"),
        ({"user": b"ann"}, UsageError, "expected text, got b'ann'"),
        ({"user": "\udcff"}, UsageError, "expected user as text, got '\\\\udcff'"),
    ],
)
def test_errors(index, changes, error, message):
    arguments = {"query": "a/001.png", "image": "a/002.png", "relevant": True, "user": ""} | changes
    user = arguments.pop("user")
    with pytest.raises(error, match=message):
        index.record_feedback(**arguments, user=user)
    assert not (index.path / "feedback").exists() or not files_in(index.path)


def test_where_nothing_can_be_written_the_error_says_so(tmp_path):
    (tmp_path / "feedback").write_text("in the way")
    with pytest.raises(IndexFolderError, match=f"^expected to write to {tmp_path}/feedback, but cannot: "):
        feedback.append(tmp_path, [judgment()])


@pytest.mark.parametrize(
    "changes",
    [
        {"query": ""},
        {"image": None},
        {"relevant": 1},
        {"when": "2025-01-31"},
        {"when": "2025-01-31T12:00:00.000000+01:00"},
        {"user": None},
        {"query_image": "text"},
    ],
)
def test_a_judgment_is_complete_or_is_none(changes):
    with pytest.raises(UsageError, match=f"^expected {next(iter(changes))} "):
        judgment(**changes)


JUDGMENTS = st.builds(
    judgment,
    st.sampled_from("ij"),
    query=st.sampled_from(["q", "雪\n"]),
    seconds=st.integers(0, 3),
    relevant=st.booleans(),
    user=st.sampled_from(["", "ann"]),
    query_image=st.sampled_from([None, b"one", b"two"]),
)


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(JUDGMENTS, max_size=4) | st.just("compact"), max_size=6))
def test_appends_and_compactions_in_any_sequence_read_back_as_the_union_in_order(batches):
    union: dict[str, Judgment] = {}
    with tempfile.TemporaryDirectory() as name:
        for batch in batches:
            if batch == "compact":
                feedback.compact(Path(name))
                assert len(feedback.files(Path(name))) <= 1
            else:
                feedback.append(Path(name), batch)
                for one in batch:
                    union.setdefault(one.id, one)
        frame = feedback.read(Path(name))
        assert list(feedback.problems(Path(name))) == []
    expected = sorted(union.values(), key=lambda one: one.when)
    got = [Judgment(**row) for row in frame.drop(columns="id").to_dict("records")]
    assert got == expected and list(frame["id"]) == [one.id for one in expected]
    stands = {(one.user, one.query, one.image): one.id for one in expected}
    assert set(feedback.latest(frame)["id"]) == set(stands.values())


def child(folder: Path, code: str) -> subprocess.Popen:
    """A process in which `say(number)` appends a judgment on image `number` of its own user, the process's id."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from indexer import feedback; from indexer.storage import durable\n"
        "def say(number):\n"
        "    feedback.append(Path(sys.argv[1]), [feedback.Judgment(\n"
        "        query='q', image=str(number), relevant=True, user=str(os.getpid()))])\n"
        f"{code}"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stderr=subprocess.PIPE, text=True)


def test_processes_that_append_at_once_lose_nothing_though_a_third_compacts(tmp_path):
    children = [child(tmp_path, "for number in range(60): say(number)") for _ in range(2)]
    while any(process.poll() is None for process in children):
        feedback.compact(tmp_path)
        frame = feedback.read(tmp_path)
        for _, own in frame.groupby("user"):
            assert list(own["image"]) == [str(number) for number in range(len(own))]  # none lost on the way
    assert [process.communicate()[1] for process in children] == ["", ""]
    assert sorted(feedback.read(tmp_path).groupby("user").size()) == [60, 60]


@pytest.mark.parametrize(
    ("moment", "num_kept"),
    [
        ("feedback._write_table = lambda table, file: (file.write(b'PAR1'), file.flush(), die())", 1),
        ("durable.os.fsync = die", 1),
        ("feedback.os.rename = die", 1),
        ("durable.sync_folder = die", 2),
    ],
    ids=["half written", "not synced", "not named", "named"],
)
def test_a_kill_in_the_midst_of_an_append_leaves_the_rest_whole(tmp_path, moment, num_kept):
    code = f"die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nsay(0)\n{moment}\nsay(1)"
    with child(tmp_path, code) as process:
        assert process.wait(60) == -signal.SIGKILL
    kept = ["0", "1"][:num_kept]
    assert list(feedback.read(tmp_path)["image"]) == kept and list(feedback.problems(tmp_path)) == []
    feedback.append(tmp_path, [judgment("2")])
    feedback.compact(tmp_path)
    assert sorted(feedback.read(tmp_path)["image"]) == [*kept, "2"]


def test_what_a_crash_left_half_named_is_no_judgment(index, built):
    kept = index.record_feedback("a/001.png", "a/002.png", True)
    (whole,) = files_in(built)
    for name in (f".{whole.name}.new", f".{whole.name}", f"{whole.name}.new"):
        (built / "feedback" / name).write_bytes(whole.read_bytes()[: 10 if name.endswith("new") else None])
    assert index.feedback()["id"].tolist() == [kept.id] and index.verify() == []
    assert feedback.files(built) == [whole]


def test_a_compaction_removes_what_a_crash_left_long_ago_but_not_what_is_being_written(tmp_path):
    feedback.append(tmp_path, [judgment("0")])
    (whole,) = files_in(tmp_path)
    an_hour_ago = f".{time.time_ns() - 3601 * 10**9:020d}-{'0' * 16}.parquet.new"
    for name in (an_hour_ago, f".{whole.name}.new"):
        (tmp_path / "feedback" / name).write_bytes(b"half")
    feedback.compact(tmp_path)
    assert {path.name for path in (tmp_path / "feedback").iterdir()} == {whole.name, f".{whole.name}.new"}


def test_a_compaction_that_is_cut_short_counts_nothing_twice(tmp_path, monkeypatch):
    for number in range(3):
        feedback.append(tmp_path, [judgment(str(number), seconds=-number, query_image=png(number))])
    before = feedback.read(tmp_path)

    def cut_short(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(feedback.os, "rename", cut_short)
        with pytest.raises(KeyboardInterrupt):
            feedback.compact(tmp_path)
    assert len(files_in(tmp_path)) == 3
    with monkeypatch.context() as patched:
        patched.setattr(feedback.durable, "sync_folder", cut_short)
        with pytest.raises(KeyboardInterrupt):
            feedback.compact(tmp_path)
    assert len(files_in(tmp_path)) == 4 and feedback.read(tmp_path).equals(before)
    feedback.compact(tmp_path)
    assert len(files_in(tmp_path)) == 1 and feedback.read(tmp_path).equals(before)


def test_a_reader_finds_the_rows_that_are_compacted_under_its_hands(tmp_path, monkeypatch):
    for number in range(3):
        feedback.append(tmp_path, [judgment(str(number), seconds=number)])
    read, calls = feedback._read, []

    def after_a_compaction(path):
        calls.append(path)
        if len(calls) == 2:
            monkeypatch.setattr(feedback, "_read", read)
            feedback.compact(tmp_path)
        return read(path)

    monkeypatch.setattr(feedback, "_read", after_a_compaction)
    assert list(feedback.read(tmp_path)["image"]) == ["0", "1", "2"]


def test_the_picture_of_a_query_that_is_judged_often_lies_in_a_file_once(tmp_path):
    pictures = [np.random.default_rng(seed).bytes(20_000) for seed in range(2)]
    for part in range(4):
        rows = [judgment(f"{part} {number}", query_image=pictures[number % 2]) for number in range(50)]
        feedback.append(tmp_path, rows)
    feedback.compact(tmp_path)
    (file,) = files_in(tmp_path)
    assert 40_000 < file.stat().st_size < 60_000
    held = feedback.read(tmp_path)["query_image"]
    assert list(held) == pictures * 100 and len({id(picture) for picture in held}) == 2


def damaged_by(index: Index, name: str) -> list[str]:
    with pytest.raises(DamagedError, match=f"{name}: expected .*; move it away to use the others$"):
        index.feedback()
    (problem,) = index.verify()
    assert problem.startswith(f"feedback/{name}: expected ")
    return problem


def test_a_damaged_file_is_named(index):
    index.record_feedback("a/001.png", "a/002.png", True)
    (sound,) = files_in(index.path)
    other = sound.with_name("other.parquet")
    other.write_bytes(sound.read_bytes()[:-20])
    assert "expected a table of judgments" in damaged_by(index, "other.parquet")
    pq.write_table(pa.table({"query": ["q"]}), other)
    assert "got query string" in damaged_by(index, "other.parquet")
    table = pq.read_table(sound)
    other.unlink()
    forged = table.set_column(1, table.schema.field("query"), pa.array(["a/003.png"]))
    pq.write_table(forged, other)
    (problem,) = index.verify()
    assert problem.startswith("feedback/other.parquet: expected the judgment") and "as it was written" in problem


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_of_a_file_is_noticed_or_means_nothing(data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        feedback.append(folder, [judgment("i", query_image=png(3)), judgment("j", user="ann", relevant=False)])
        before = feedback.read(folder)
        (file,) = files_in(folder)
        flip_byte(file, data.draw(st.integers(0, file.stat().st_size - 1)))
        if not list(feedback.problems(folder)):
            assert feedback.read(folder).equals(before)


@pytest.mark.parametrize("query", ["'a/001.png'", "b''.join([open(sys.argv[2], 'rb').read()])"], ids=["id", "picture"])
def test_recording_and_reading_need_no_model(index, tmp_path, query):
    (tmp_path / "query.png").write_bytes(png(77))
    script = (
        "import sys; from indexer import Index; index = Index.open(sys.argv[1])\n"
        f"index.record_feedback({query}, 'a/002.png', True); assert len(index.feedback()) == 1\n"
        "assert index.verify() == []\n"
        "sys.exit(', '.join(sorted({'torch', 'faiss', 'duckdb'} & sys.modules.keys())) or 0)"
    )
    command = [sys.executable, "-c", script, str(index.path), str(tmp_path / "query.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
