"""The command line, end to end on a few small pictures: answers, JSON, exit codes, and what goes to which stream."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import run_apart
from PIL import Image

from indexer import Index
from indexer.storage import manifest
from retrieval import Ranker, __version__
from retrieval.ranker import RankerConfig, RelevanceAttention
from ui import cli
from ui.commands import demo, indexing
from ui.printing import bar, plain, shorten, table

NAMES = (
    "warm/sunset.png",
    "warm/fire.jpg",
    "cold/ice.png",
    "cold/deep sea.jpg",
    "cold/Schnee – 雪.png",
    "cold/noise.png",
)
# As much of an embedder as making an index takes; it bears the name of the shipped one.
STRANGER = SimpleNamespace(name="default", fingerprint="0" * 64, image_size=64, widths=(32, 64, 128, 256, 512))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(NAMES):
        write_picture(folder / name, seed=number)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory, pictures, device) -> Path:
    """An index of the pictures, labelled by their folders; tests that change an index make their own."""
    folder = tmp_path_factory.mktemp("built") / "my.index"
    arguments = ["--index", str(folder), "--label-from", "parent", "--workers", "0", "--device", device]
    assert cli.run(["index", str(pictures), *arguments]) == 0
    return folder


def write_picture(path: Path, *, seed: int) -> None:
    """Soft blobs of colour, another pattern for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (4 + seed, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((120, 80), Image.Resampling.BICUBIC).save(path)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def test_index_says_what_it_did_and_a_second_run_touches_nothing_else(spyglass, tmp_path, device):
    folder, index = tmp_path / "photos", tmp_path / "photos.index"
    for number in range(3):
        write_picture(folder / f"{number}.png", seed=number)
    command = ("index", folder, "--index", index, "--workers", 0, "--device", device, "--json")
    first = spyglass(*command)
    assert first.code == 0
    keys = ["added", "unchanged", "updated", "skipped", "seconds", "images_per_second", "failures"]
    keys += ["renamed", "duplicates", "pruned"]
    assert list(first.json) == keys
    assert [first.json[key] for key in keys[:4]] == [3, 0, 0, 0]
    assert first.json["seconds"] > 0 and first.json["images_per_second"] > 0 and first.json["failures"] == []

    write_picture(folder / "1.png", seed=77)
    write_picture(folder / "new.png", seed=5)
    again = spyglass(*command)
    assert [again.json[key] for key in keys[:4]] == [1, 2, 1, 0]

    text = spyglass(*command[:-1])
    assert text.code == 0 and "0 added, 0 updated, 4 unchanged, 0 skipped" in text.out


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_the_index_finds_itself_first(spyglass, built, pictures, device, name):
    answer = spyglass("search", pictures / name, "--index", built, "-k", 3, "--device", device, "--json")
    assert answer.code == 0
    assert list(answer.json) == ["query", "took_ms", "hits"]
    assert answer.json["query"] == str(pictures / name) and answer.json["took_ms"] > 0
    hits = answer.json["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert list(hits[0])[:7] == ["rank", "id", "uri", "score", "similarity", "dim", "label"]
    assert (hits[0]["id"], hits[0]["uri"]) == (name, str(pictures / name))
    assert hits[0]["similarity"] >= 0.995
    assert hits[0]["label"] == name.split("/")[0]
    assert 32 <= hits[0]["dim"] <= 512
    assert hits[0]["score"] >= hits[1]["score"] >= hits[2]["score"]


def test_search_is_narrowed_by_where_min_score_and_k(spyglass, built, pictures):
    query = ("search", pictures / NAMES[0], "--index", built, "--no-rerank", "--json")
    everything = spyglass(*query).json["hits"]
    assert len(everything) == len(NAMES)
    warm = spyglass(*query, "--where", "label = 'warm' AND width >= 100").json["hits"]
    assert {hit["id"] for hit in warm} == {"warm/sunset.png", "warm/fire.jpg"}
    threshold = everything[2]["score"]
    assert len(spyglass(*query, "--min-score", threshold).json["hits"]) == 3
    assert len(spyglass(*query, "-k", 2).json["hits"]) == 2
    assert spyglass(*query, "--where", "label = 'lukewarm'").json["hits"] == []


def test_search_takes_several_queries_a_crop_and_pictures_to_subtract(spyglass, built, pictures):
    def scores(*arguments):
        answer = spyglass("search", *arguments, "--index", built, "--no-rerank", "--json")
        assert answer.code == 0
        return {hit["id"]: hit["score"] for hit in answer.json["hits"]}

    one, other = pictures / NAMES[0], pictures / NAMES[2]
    assert spyglass("search", one, other, "--index", built, "--json").json["query"] == [str(one), str(other)]
    of_one, of_other, of_both = scores(one), scores(other), scores(one, other)
    # The mean of two queries, at unit length again: all scores are the same multiple of the sums.
    ratios = [of_both[name] / (of_one[name] + of_other[name]) for name in NAMES]
    assert ratios == pytest.approx([ratios[0]] * len(NAMES), rel=0.03) and 0.49 < ratios[0] < 1

    assert scores(one, "--subtract", other)[NAMES[2]] < of_one[NAMES[2]]
    assert scores(one, "--crop", "0,0,120,80") == pytest.approx(of_one, abs=0.02)
    assert scores(one, "--crop", "60,40,30,30") != pytest.approx(of_one, abs=1e-4)
    assert spyglass("search", one, "--index", built, "--crop", "100,0,40,40").code == 2


def test_search_prints_an_aligned_table_or_the_paths_alone(spyglass, built, pictures):
    answer = spyglass("search", pictures / NAMES[0], "--index", built, "--no-rerank")
    heading, *lines = answer.out.splitlines()
    assert heading.split() == ["rank", "score", "similarity", "dim", "of", "512", "label", "picture"]
    assert len(lines) == len(NAMES)
    place = heading.index("label")
    assert {line[place:].split()[0] for line in lines} == {"warm", "cold"}
    assert lines[0].endswith(NAMES[0])

    paths = spyglass("search", pictures / NAMES[0], "--index", built, "--paths-only")
    assert sorted(paths.out.splitlines()) == sorted(str(pictures / name) for name in NAMES)
    none = spyglass("search", pictures / NAMES[0], "--index", built, "--where", "label = 'x'")
    assert none.out == "no hits\n" and none.code == 0


@pytest.fixture(scope="module")
def contrary(tmp_path_factory, built) -> Path:
    """A ranker for the shipped model, that turns the order by similarity round."""
    attention = RelevanceAttention(RankerConfig())
    attention.weigh.weight.data[:, 0] = -1
    folder = tmp_path_factory.mktemp("ranker") / "contrary"
    Ranker(attention, embedder=manifest.read(built).model.fingerprint).save(folder)
    return folder


def test_search_reranks(spyglass, built, pictures, contrary):
    query = ("search", pictures / NAMES[0], "--index", built)
    alike = [hit["id"] for hit in spyglass(*query, "--no-rerank", "--json").json["hits"]]
    hits = spyglass(*query, "--ranker", contrary, "--rerank", 4, "-k", 3, "--json").json["hits"]
    # The picture that is asked for stays in front.
    assert [hit["id"] for hit in hits] == [alike[0], *alike[3:1:-1]]
    assert [hit["similarity_rank"] for hit in hits] == [1, 4, 3]
    assert hits[0]["score"] > hits[1]["score"] > hits[2]["score"] and hits[1]["similarity"] < hits[2]["similarity"]
    heading, *lines = spyglass(*query, "--ranker", contrary, "--rerank", 4, "-k", 3).out.splitlines()
    assert heading.split()[:5] == ["rank", "was", "score", "similarity", "dim"]
    assert [line.split()[:2] for line in lines] == [["1", "1"], ["2", "4"], ["3", "3"]]
    assert spyglass(*query, "--no-rerank", "--json").json["hits"][0]["similarity_rank"] is None
    expanded = spyglass(*query, "--no-rerank", "--expand", 2, "--json").json["hits"]
    assert expanded[0]["id"] == alike[0] and expanded[0]["score"] != pytest.approx(hits[0]["score"])


def test_search_explains(spyglass, pictures, tmp_path, contrary, device):
    folder, index = tmp_path / "photos", tmp_path / "my.index"
    shutil.copytree(pictures / "warm", folder)
    assert spyglass("index", folder, "--index", index, "--workers", 0, "--device", device).code == 0
    command = ("search", pictures / NAMES[0], "--index", index, "--ranker", contrary, "--crop", "0,0,100,80", "--json")
    answer = spyglass(*command, "--explain", tmp_path / "why")
    assert answer.code == 0 and len(answer.json["hits"]) == 2
    stems = [f"{hit['rank']:02}-{Path(hit['id']).stem}" for hit in answer.json["hits"]]
    files = {path.name for path in (tmp_path / "why").iterdir()}
    assert files == {f"{stem}.{kind}" for stem in stems for kind in ("png", "npz")} | {"explanations.json"}
    with Image.open(next((tmp_path / "why").glob("01-*.png"))) as image:
        assert image.width > 900 and image.height > 300

    refused = spyglass(*command, "--explain", folder / "fire.jpg")
    assert refused.code == 2 and "expected --explain to be a folder to write to" in refused.err
    (folder / "fire.jpg").unlink()
    answer = spyglass(*command, "--explain", tmp_path / "again")
    assert answer.code == 3 and len(answer.json["hits"]) == 2
    drawn = {path.name[3:] for path in (tmp_path / "again").glob("0*")}
    assert drawn == {"sunset.png", "sunset.npz"}


def test_search_without_what_reranking_needs(spyglass, built, pictures, tmp_path, contrary, device):
    bare, folder = tmp_path / "bare.index", pictures / "warm"
    command = ("index", folder, "--index", bare, "--tokens", 0, "--workers", 0, "--device", device)
    assert spyglass(*command).code == 0
    answer = spyglass("search", pictures / NAMES[0], "--index", bare, "--rerank", 5, "--ranker", contrary)
    assert (answer.code, answer.out) == (1, "") and answer.err.count("\n") == 1
    assert f"add them, without indexing anew, with: spyglass tokens --index {bare}" in answer.err

    Ranker(RelevanceAttention(RankerConfig()), embedder="0" * 64).save(tmp_path / "foreign")
    answer = spyglass("search", pictures / NAMES[0], "--index", built, "--ranker", tmp_path / "foreign")
    assert (answer.code, answer.out) == (4, "") and answer.err.count("\n") == 1
    assert answer.err.startswith("error: expected a ranker trained for the model of")


def test_search_draws_a_sheet(spyglass, built, pictures, tmp_path):
    sheet = tmp_path / "new folder" / "hits.png"
    answer = spyglass("search", pictures / NAMES[3], "--index", built, "-k", 4, "--sheet", sheet, "--crop", "9,9,80,60")
    assert answer.code == 0
    with Image.open(sheet) as image:
        assert image.format == "PNG" and image.width > 6 * 160
    refused = spyglass("search", pictures / NAMES[3], "--index", built, "--sheet", "hits.txt")
    assert refused.code == 2 and "expected a sheet's name to end in .png" in refused.err


def test_info_sums_up_the_index(spyglass, built):
    answer = spyglass("info", "--index", built, "--json")
    facts = answer.json
    names = ["images", "segments", "mean_dim", "bytes_per_image", "buckets", "model", "size_bytes", "token_bytes"]
    names += ["version", "when", "duplicates"]
    assert list(facts) == [*names, "rankers", "foreign_rankers"]
    assert facts["images"] == sum(facts["buckets"].values()) == len(NAMES)
    assert list(facts["buckets"]) == ["32", "64", "128", "256", "512"]
    assert 32 <= facts["mean_dim"] <= 512
    text = spyglass("info", "--index", built).out
    assert f"{len(NAMES)}\n" in text and f"{facts['mean_dim']:.1f} of 512" in text
    figures = dict(line.split(maxsplit=1) for line in text.splitlines() if line[:7].strip() in ("tokens", "rankers"))
    assert figures == {"tokens": "at most 1.0 kB an image", "rankers": ", ".join(facts["rankers"]) or "none"}


def test_verify_names_the_file_in_which_a_byte_was_flipped(spyglass, pictures, tmp_path, device):
    index = tmp_path / "my.index"
    assert spyglass("index", pictures, "--index", index, "--workers", 0, "--device", device).code == 0
    sound = spyglass("verify", "--index", index)
    assert (sound.code, sound.out) == (0, f"{index}: sound\n")
    assert spyglass("verify", "--index", index, "--json").json == {"sound": True, "problems": []}

    victim = next(index.glob("segments/*/catalog.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    damaged = spyglass("verify", "--index", index)
    assert damaged.code == 1 and "catalog.parquet" in damaged.out
    as_json = spyglass("verify", "--index", index, "--json")
    assert as_json.code == 1 and not as_json.json["sound"] and "catalog.parquet" in as_json.json["problems"][0]

    (index / "manifest.json").write_text("{}")
    unreadable = spyglass("verify", "--index", index)
    assert unreadable.code == 1 and "manifest.json" in unreadable.out


def test_pictures_that_cannot_be_read_are_named_and_the_exit_code_says_so(spyglass, tmp_path, device):
    write_picture(tmp_path / "photos" / "good.png", seed=1)
    (tmp_path / "photos" / "empty.jpg").touch()
    (tmp_path / "photos" / "letter.jpg").write_text("Dear Sir")
    command = ("index", tmp_path / "photos", "--workers", 0, "--device", device)
    text = spyglass(*command, "--index", tmp_path / "a.index")
    assert text.code == 3
    assert "1 added" in text.out and "2 skipped" in text.out
    assert "empty.jpg" in text.out and "letter.jpg" in text.out and "empty file" in text.out
    as_json = spyglass(*command, "--index", tmp_path / "b.index", "--json")
    assert as_json.code == 3 and as_json.json["added"] == 1
    assert sorted(failure["id"] for failure in as_json.json["failures"]) == ["empty.jpg", "letter.jpg"]
    assert all(failure["reason"] for failure in as_json.json["failures"])
    stopped = spyglass(*command, "--index", tmp_path / "c.index", "--on-error", "stop")
    assert stopped.code == 1 and stopped.err.startswith("error: ") and stopped.err.count("\n") == 1


@pytest.mark.parametrize("command", [("info",), ("verify",), ("search", "query.jpg")])
def test_without_an_index_the_error_says_how_to_make_one(spyglass, tmp_path, command):
    answer = spyglass(*command, "--index", tmp_path / "none.index")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert "none.index" in answer.err and "spyglass index" in answer.err


def test_a_source_that_is_not_there_leaves_no_index_behind(spyglass, tmp_path):
    answer = spyglass("index", tmp_path / "phtos", "--index", tmp_path / "my.index")
    assert (answer.code, answer.out) == (1, "")
    assert "expected a folder or file to index, found nothing at" in answer.err and "phtos" in answer.err
    assert not (tmp_path / "my.index").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["search", "q.jpg"], "Missing option '--index'; see 'spyglass search --help'"),
        (["index", "--index", "x"], "expected sources or --retry-failed, got neither"),
        (["info", "--index", "x", "--colour"], "No such option: --colour"),
        (["serach"], "No such command 'serach'. Did you mean 'search'?"),
        (["search", "q.jpg", "--index", "x", "-k", "0"], "Invalid value for '-k' / '--top-k'"),
        (["search", "q.jpg", "--index", "x", "--device", "abacus"], "Invalid value for '--device'"),
        (["search", "q.jpg", "--index", "x", "--crop", "1,2,3"], "expected --crop X,Y,W,H in pixels"),
        (["search", "q.jpg", "--index", "x", "--crop", "1,2,3,0"], "expected --crop X,Y,W,H in pixels"),
        (["search", "q.jpg", "--index", "x", "--json", "--paths-only"], "expected --json or --paths-only, got both"),
        (["search", "q.jpg", "--index", "x", "--rerank", "5", "--no-rerank"], "expected --rerank or --no-rerank, got"),
        (["search", "q.jpg", "--index", "x", "--rerank", "-1"], "Invalid value for '--rerank'"),
        (["search", "q.jpg", "--index", "x", "--no-rerank", "--ranker", "r"], "expected --ranker with re-ranking, got"),
        (["search", "q.jpg", "--index", "x", "--rerank", "0", "--explain", "d"], "expected --explain with re-ranking"),
        (["search", "q.jpg", "r.jpg", "--index", "x", "--explain", "d"], "expected one query with --explain, got 2"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(spyglass, arguments, complaint):
    answer = spyglass(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {complaint}") and answer.err.count("\n") == 1


def test_a_condition_that_is_no_sql_is_wrong_usage(spyglass, built, pictures):
    answer = spyglass("search", pictures / NAMES[0], "--index", built, "--where", "colour = 'red'")
    assert answer.code == 2 and answer.err.startswith("error: expected an SQL condition over id, uri")


def test_another_model_than_the_index_was_made_by_is_exit_code_4(spyglass, pictures, tmp_path):
    Index.create(tmp_path / "my.index", STRANGER)
    for command in (("search", pictures / NAMES[0]), ("index", pictures, "--model", "default"), ("index", pictures)):
        answer = spyglass(*command, "--index", tmp_path / "my.index")
        assert (answer.code, answer.out) == (4, ""), command
        assert answer.err.startswith("error: expected the model that") and answer.err.count("\n") == 1


def test_an_unexpected_error_is_one_line_and_a_traceback_on_demand(spyglass, built, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the sky\nfell down")

    monkeypatch.setattr(Index, "info", fail)
    monkeypatch.delenv("SPYGLASS_DEBUG", raising=False)
    answer = spyglass("info", "--index", built)
    message = "error: unexpected RuntimeError: the sky\\nfell down; set SPYGLASS_DEBUG=1 to see the traceback\n"
    assert answer == (1, "", message)
    monkeypatch.setenv("SPYGLASS_DEBUG", "1")
    assert "Traceback" in spyglass("info", "--index", built).err


def test_an_interruption_is_exit_code_130(spyglass, built, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Index, "info", interrupt)
    answer = spyglass("info", "--index", built)
    assert (answer.code, answer.out) == (130, "") and answer.err.startswith("interrupted")


def test_progress_goes_to_stderr_and_leaves_stdout_pure(spyglass, pictures, tmp_path, monkeypatch, device):
    command = ("index", pictures, "--workers", 0, "--device", device, "--json", "--index")
    assert spyglass(*command, tmp_path / "quiet.index").err == ""
    monkeypatch.setattr(indexing, "shows_bars", lambda: True)
    shown = spyglass(*command, tmp_path / "shown.index")
    assert shown.json["added"] == len(NAMES)
    assert str(len(NAMES)) in shown.err and shown.err.strip()


def test_a_reader_that_has_seen_enough_is_no_error(built):
    script = f"import sys; sys.argv = ['spyglass', 'info', '--index', {str(built)!r}]; from ui.cli import main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(writer)
    assert ended.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["--version"]])
def test_an_answer_that_cannot_be_written_is_one_line(built, arguments):
    words = ["spyglass", *arguments, *(["--index", str(built)] if arguments[0] == "info" else [])]
    script = f"import sys; sys.argv = {words!r}; from ui.cli import main; main()"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, timeout=60)
    message = b"error: expected to write to stdout, but cannot: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, message)


@pytest.mark.parametrize(
    "command", [["--help"], ["info"], ["info", "--json"], ["verify"], ["search", "--help"], ["snapshots"]]
)
def test_commands_that_need_no_model_do_not_import_torch(built, command):
    if "--help" not in command:
        command = [*command, "--index", str(built)]
    heavy = {"torch", "faiss", "cv2", "duckdb", "streamlit", "fastapi"}
    if "verify" not in command:
        heavy |= {"pandas", "pyarrow", "numpy", "PIL"}
    apart = run_apart(command)
    assert apart.codes == [0] and not apart.modules & heavy and apart.err == ""


@pytest.mark.parametrize("command", [["--help"], ["info"]])
def test_help_and_info_answer_within_700_ms(built, command):
    command = command if "--help" in command else [*command, "--index", str(built)]
    code = f"import sys; from ui.cli import run; sys.exit(run({command!r}))"
    seconds = []
    for _ in range(3):
        # Processor time, so that what else runs on the machine does not count; these commands wait for nothing.
        before = os.times()
        assert run_python(code).returncode == 0
        after = os.times()
        seconds.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(seconds) < 0.7


def test_help_and_version(spyglass):
    assert spyglass("--version") == (0, f"spyglass {__version__}\n", "")
    overview = spyglass()
    assert overview.code == 0
    for name in (
        "demo",
        "index",
        "search",
        "info",
        "verify",
        "tokens",
        "remove",
        "compact",
        "snapshots",
        "restore",
        "export",
        "import",
    ):
        assert f"  {name} " in overview.out
        page = spyglass(name, "--help")
        assert page.code == 0 and f"\n    spyglass {name}" in page.out, f"{name} --help shows no example"


def test_the_demo_ends_with_hits_and_a_sheet_and_runs_again(capsys, tmp_path):
    small = {"num_per_kind": 1, "num_queries": 3, "top_k": 3, "num_workers": 0}
    sheet = demo.run(tmp_path, **small)
    first = capsys.readouterr()
    assert "drawing" in first.err and "30 added, 0 unchanged" in first.err
    assert all(word in first.out for word in ("plain", "medium", "crowded"))
    assert "of 9 hits are of their query's kind (of 30 kinds)" in first.out
    assert sheet == tmp_path / "contact-sheet.png" and f"{sheet}\n" in first.out and "spyglass search" in first.out
    ranks = [line.split()[0] for line in first.out.splitlines() if line.strip()[:1].isdigit() and ".jpg" in line]
    assert ranks == ["1", "2", "3"] * 3
    with Image.open(sheet) as image:
        assert image.width > 5 * 160 and image.height > 3 * 160

    demo.run(tmp_path, **small)
    second = capsys.readouterr()
    assert second.out == first.out
    assert "drawing" not in second.err and "0 added, 30 unchanged" in second.err

    shutil.rmtree(tmp_path / "pictures.index")
    Index.create(tmp_path / "pictures.index", STRANGER)
    demo.run(tmp_path, **small)
    assert "anew: it was made by another model" in capsys.readouterr().err


def test_tables_bars_and_json_by_hand(capsys):
    assert table(["n", "name"], [["1", "a"], ["10", "雪"]], right=[0]) == " n  name\n 1  a\n10  雪"
    assert [bar(share, length=4) for share in (-1, 0, 0.25, 0.5, 1, 2)] == ["", "", "█", "██", "████", "████"]
    assert bar(1 / 32, length=4) == "▏"
    assert shorten("photos/2024/summer/beach.jpg", 16) == "photo…/beach.jpg"
    assert shorten("雪" * 20, 11).startswith("雪雪雪…")
    values = {"a": float("nan"), "b": np.float32(0.5), "c": np.array([1, 2]), "d": Path("x"), "e": (None, True)}
    assert plain(values) == {"a": None, "b": 0.5, "c": [1, 2], "d": "x", "e": [None, True]}
