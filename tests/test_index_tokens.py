"""Local tokens in the index: taking those of some rows, and giving them to an index that has none."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interruptions import at_first_publish, at_third_batch
from toy import ToyEmbedder, pixels_of, png, write_pngs

from indexer import Index, segments
from indexer.catalog import Row
from indexer.searching import gallery
from indexer.storage import manifest
from indexer.tokens import StoredTokens
from retrieval.errors import DamagedError, LockedError, UsageError
from retrieval.tokens import Tokens
from ui import cli

NUM = 10


def row(number: int) -> Row:
    facts = {"sha256": "00" * 32, "width": 1, "height": 1, "num_bytes": 1, "dim": 4, "bucket": 4}
    return Row(id=str(number), uri=f"/{number}.png", label=None, columns={}, **facts)


def stored(folder: Path, parts: list[list[int] | None], token_dim: int = 3) -> tuple[StoredTokens, list[np.ndarray]]:
    """Segments with these counts of tokens (None: written without); and the tokens of each row, plainly."""
    rng, found, plain = np.random.default_rng(0), [], []
    for number, counts in enumerate(parts):
        num_rows = 2 if counts is None else len(counts)
        tokens = None
        if counts is None:
            plain += [np.zeros((0, token_dim), np.int8)] * num_rows
        else:
            values = rng.integers(-127, 128, (sum(counts), token_dim), dtype=np.int8)
            plain += np.split(values, np.cumsum(counts)[:-1])
            tokens = Tokens(values=values, counts=np.array(counts))
        rows, vectors = [row(number) for number in range(num_rows)], np.ones((num_rows, 8))
        record = segments.write(folder, f"{number:06d}", rows, vectors, "float16", tokens=tokens, token_bytes=99)
        found.append(segments.Segment(folder, record))
    return StoredTokens(found), plain


def test_take_by_hand(tmp_path):
    tokens, plain = stored(tmp_path, [[2, 0, 1], None, [3]])
    taken = tokens.take(np.array([5, 1, 0, 5, 3]))
    assert taken.counts.tolist() == [3, 0, 2, 3, 0] and taken.counts.dtype == np.int64
    assert taken.values.tolist() == [*plain[5].tolist(), *plain[0].tolist(), *plain[5].tolist()]
    assert tokens.take(np.arange(6)).counts.tolist() == [2, 0, 1, 0, 0, 3] and len(tokens) == 6
    assert len(tokens.take(np.empty(0, np.int64))) == 0


@settings(max_examples=20)  # each writes files and syncs them
@given(
    data=st.data(),
    parts=st.lists(st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=6),
)
def test_take_is_a_plain_loop_over_the_rows(tmp_path_factory, data, parts):
    tokens, plain = stored(tmp_path_factory.mktemp("stored"), [[1], *parts])
    numbers = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=20))
    taken = tokens.take(np.array(numbers, dtype=np.int64))
    assert taken.counts.tolist() == [len(plain[number]) for number in numbers]
    expected = [token for number in numbers for token in plain[number].tolist()]
    assert taken.values.tolist() == expected and taken.values.shape == (len(expected), 3)


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    tokens, _ = stored(tmp_path, [[2], [1]])
    for path in tmp_path.glob("segments/000001/token*"):
        path.unlink()
    with pytest.raises(DamagedError, match="expected counts of tokens in .*token-counts.npy, got: .*No such file"):
        tokens.take([0])


def test_rows_and_files_that_do_not_fit(tmp_path):
    tokens, _ = stored(tmp_path, [[2], [1]])
    for numbers in ([-1], [0, 2]):
        with pytest.raises(UsageError, match=r"expected rows 0\.\.1, got "):
            tokens.take(np.array(numbers))
    np.save(tmp_path / "segments/000001/tokens.npy", np.zeros((1, 4), np.int8))
    assert len(tokens.take([0]).values) == 2
    with pytest.raises(DamagedError, match="expected tokens of 3 numbers in .*000001, got 4"):
        tokens.take([0, 1])


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_pngs(tmp_path / "photos", range(NUM))


@pytest.fixture
def bare(tmp_path, photos) -> Index:
    """An index without tokens in three segments, of four, four and two pictures."""
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32", token_bytes=0)
    index.add(photos, num_workers=0, batch_size=4, commit_seconds=0)
    return Index.open(index.path, ToyEmbedder())


def expected(seed: int, token_bytes: int = 1024) -> list[list[int]]:
    """The tokens of a picture of `pixels_of`."""
    pixels = pixels_of(seed)[None, ::2, ::2]
    return ToyEmbedder().encode_pixels(pixels, token_bytes=token_bytes).tokens.values.tolist()


def tokens_by_id(index: Index) -> dict[str, list[list[int]]]:
    opened = gallery.read(index.path, manifest.read(index.path), "cpu")
    if opened.tokens is None:
        return {}
    (numbers,) = np.nonzero(opened.catalog.live)
    taken = opened.tokens.take(numbers)
    ids = opened.catalog.live_rows()["id"].to_pylist()
    return {image_id: taken.take([place]).values.tolist() for place, image_id in enumerate(ids)}


def counts(report) -> tuple[int, int, int]:
    return report.added, report.unchanged, report.skipped


def kept_files(index: Index) -> dict[str, bytes]:
    """Every file of the segments that is not one of tokens."""
    return {str(path): path.read_bytes() for path in index.path.glob("segments/*/*") if "token" not in path.name}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_index_without_tokens_is_given_them(bare, photos, num_workers):
    catalog, files = bare.catalog(), kept_files(bare)
    assert tokens_by_id(bare) == {}
    report = bare.add_tokens(num_workers=num_workers, batch_size=3, commit_seconds=0)
    assert counts(report) == (NUM, 0, 0) and report.failures == [] and report.seconds > 0
    assert tokens_by_id(bare) == {f"{seed:03d}.png": expected(seed) for seed in range(NUM)}
    assert bare.verify() == [] and bare.info()["token_bytes"] == 1024
    assert bare.catalog().equals(catalog) and kept_files(bare) == files
    state = (bare.path / "manifest.json").read_bytes()
    assert counts(bare.add_tokens(num_workers=0)) == (0, NUM, 0)
    assert bare.embedder.encoded == NUM and (bare.path / "manifest.json").read_bytes() == state
    (photos / "new.png").write_bytes(png(99))
    bare.add(photos, num_workers=0)
    assert tokens_by_id(bare)["new.png"] == expected(99)


def test_another_amount_leaves_earlier_states_as_they_were(bare):
    bare.add_tokens(token_bytes=48, num_workers=0)
    before = manifest.read(bare.path)
    assert counts(bare.add_tokens(token_bytes=120, num_workers=0)) == (NUM, 0, 0)
    assert bare.embedder.encoded == 2 * NUM
    assert tokens_by_id(bare) == {f"{seed:03d}.png": expected(seed, 120) for seed in range(NUM)}
    assert bare.verify() == [] and [*segments.verify(bare.path, before)] == []
    assert {path.name for path in bare.path.glob("segments/*/token*")} == {
        *("tokens.npy", "token-counts.npy", "tokens-2.npy", "token-counts-2.npy")
    }


def test_fewer_are_the_first_ones_and_nothing_is_encoded(bare):
    bare.add_tokens(token_bytes=120, num_workers=0)
    assert counts(bare.add_tokens(token_bytes=48, num_workers=0)) == (NUM, 0, 0)
    assert bare.embedder.encoded == NUM and bare.verify() == []
    assert tokens_by_id(bare) == {f"{seed:03d}.png": expected(seed, 48) for seed in range(NUM)}


def test_pictures_that_are_gone_or_changed_are_told_and_tried_again(bare, photos):
    (photos / "001.png").unlink()
    (photos / "005.png").write_bytes(png(105))
    (photos / "008.png").write_bytes(b"")
    for num_added, num_unchanged in ((NUM - 3, 0), (0, NUM - 3)):
        report = bare.add_tokens(num_workers=0)
        assert counts(report) == (num_added, num_unchanged, 3)
    gone, changed, empty = report.failures
    assert gone == {
        "id": "001.png",
        "uri": str(photos / "001.png"),
        "reason": "expected a file that can be read, got: No such file or directory",
    }
    assert changed["reason"] == "expected the picture that was indexed, got another one; index it again"
    assert (empty["id"], empty["reason"]) == ("008.png", "expected a picture, got an empty file")
    found = tokens_by_id(bare)
    assert found["001.png"] == found["005.png"] == found["008.png"] == [] and found["000.png"] == expected(0)
    assert bare.verify() == [] and not (bare.path / "failures.jsonl").exists()

    for seed in (1, 5, 8):
        (photos / f"{seed:03d}.png").write_bytes(png(seed))
    assert counts(bare.add_tokens(num_workers=0)) == (3, NUM - 3, 0) and bare.embedder.encoded == NUM
    assert tokens_by_id(bare) == {f"{seed:03d}.png": expected(seed) for seed in range(NUM)}


def test_more_for_pictures_that_are_gone_leaves_them_what_they_have(bare, photos):
    bare.add_tokens(token_bytes=48, num_workers=0)
    (photos / "001.png").unlink()
    assert counts(bare.add_tokens(token_bytes=120, num_workers=0)) == (NUM - 1, 0, 1)
    assert tokens_by_id(bare)["001.png"] == expected(1, 48) and tokens_by_id(bare)["002.png"] == expected(2, 120)
    assert bare.verify() == []


def test_deleted_rows_are_left_out(bare, photos):
    (photos / "003.png").write_bytes(png(103))
    bare.add(photos, num_workers=0)
    before = bare.embedder.encoded
    assert counts(bare.add_tokens(num_workers=0)) == (NUM, 0, 0) and bare.embedder.encoded == before + NUM
    assert tokens_by_id(bare)["003.png"] == expected(103) and bare.verify() == []


def test_pictures_of_tables_and_archives_are_read_in_one_pass(tmp_path, monkeypatch):
    table, archive = tmp_path / "shop.parquet", tmp_path / "shop.tar"
    pq.write_table(pa.table({"id": ["a", "b", "c"], "image": [png(0), png(1), png(2)]}), table)
    write_pngs(tmp_path / "loose", range(3, 6))
    with tarfile.open(archive, "w") as tar:
        for seed in range(3, 6):
            tar.add(tmp_path / "loose" / f"{seed:03d}.png", f"{seed:03d}.png")
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), token_bytes=0)
    index.add(archive, table, num_workers=0, batch_size=2, commit_seconds=0)
    index.add(tmp_path / "loose" / "003.png", num_workers=0)
    pq.write_table(pa.table({"id": ["b", "a"], "image": [png(1), png(0)]}), table)
    monkeypatch.setattr(
        "indexer.corpus.read_image", None
    )  # picture by picture, each would be looked for from the start
    report = index.add_tokens(num_workers=0)
    assert counts(report) == (4, 0, 3)
    assert {failure["id"]: failure["reason"].split(",")[0] for failure in report.failures} == {
        "a": "expected the picture that was indexed",
        "b": "expected the picture that was indexed",
        "c": f"expected it in {table}",
    }
    found = tokens_by_id(index)
    assert [found[f"00{seed}.png"] for seed in (3, 4, 5)] == [expected(seed) for seed in (3, 4, 5)]
    assert found["loose/003.png"] == expected(3)

    archive.unlink()
    table.write_bytes(b"no table")
    report = index.add_tokens(token_bytes=2048, num_workers=0)
    assert counts(report) == (1, 0, 6)
    reasons = " ".join(failure["reason"] for failure in report.failures)
    assert f"found nothing at {archive}" in reasons and f"expected a parquet file, got {table}" in reasons


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ctrl_c_keeps_the_segments_that_are_complete(bare, num_workers):
    index = Index.open(bare.path, at_third_batch(ToyEmbedder()))
    with pytest.raises(KeyboardInterrupt):
        index.add_tokens(num_workers=num_workers, batch_size=3)
    assert sum(map(bool, tokens_by_id(index).values())) == 4 and index.verify() == []
    again = Index.open(bare.path, ToyEmbedder())
    assert counts(again.add_tokens(num_workers=num_workers)) == (6, 4, 0) and again.embedder.encoded == 6
    assert tokens_by_id(again) == {f"{seed:03d}.png": expected(seed) for seed in range(NUM)}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_in_the_midst_of_a_commit(bare, monkeypatch, moment):
    from indexer.changes import add_tokens

    at_first_publish(monkeypatch, add_tokens, moment=moment)
    with pytest.raises(KeyboardInterrupt):
        bare.add_tokens(num_workers=0, batch_size=4, commit_seconds=0)
    again = Index.open(bare.path, ToyEmbedder())
    assert again.verify() == []
    assert counts(again.add_tokens(num_workers=0)) == (6, 4, 0)
    assert tokens_by_id(again) == {f"{seed:03d}.png": expected(seed) for seed in range(NUM)}


def test_killed_and_run_again(tmp_path):
    source, path = write_pngs(tmp_path / "photos", range(60)), tmp_path / "p.index"
    Index.create(path, ToyEmbedder(), token_bytes=0).add(source, num_workers=0, batch_size=4, commit_seconds=0)
    script = (
        "import sys; from indexer import Index; from toy import ToyEmbedder\n"
        "index = Index.open(sys.argv[1], ToyEmbedder(seconds_per_image=0.02))\n"
        "index.add_tokens(num_workers=0, batch_size=4, commit_seconds=0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", script, str(path)], env=environment) as process:
        while not any(tokens_by_id(Index.open(path)).values()):
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(LockedError, match=f"process {process.pid} is writing"):
            Index.open(path, ToyEmbedder()).add_tokens()
        process.send_signal(signal.SIGKILL)
    index = Index.open(path, ToyEmbedder())
    num_done = sum(map(bool, tokens_by_id(index).values()))
    assert index.verify() == [] and 0 < num_done < 60
    (index.path / "segments" / manifest.read(path).segments[-1].id / "tokens.npy").write_bytes(b"cut sh")  # a leftover
    assert counts(index.add_tokens(num_workers=0)) == (60 - num_done, num_done, 0)
    assert index.embedder.encoded == 60 - num_done and index.verify() == []
    assert tokens_by_id(index) == {f"{seed:03d}.png": expected(seed) for seed in range(60)}


def test_what_cannot_be_asked_for(bare):
    for token_bytes in (-5, 11, 4097):
        with pytest.raises(UsageError, match=rf"expected token_bytes of 0, or from 12 .* to 4096, got {token_bytes}$"):
            bare.add_tokens(token_bytes=token_bytes)
    with pytest.raises(UsageError, match="expected bytes for one token at least, got 0"):
        bare.add_tokens(token_bytes=0)
    with pytest.raises(UsageError, match="expected a batch_size of at least 1, got 0"):
        bare.add_tokens(batch_size=0)
    with pytest.raises(UsageError, match="expected num_workers of 0 .* got -1"):
        bare.add_tokens(num_workers=-1)
    with pytest.raises(UsageError, match="a model with local tokens, got toy, which has none; index anew"):
        Index.open(bare.path, ToyEmbedder(token_dim=0)).add_tokens()
    assert bare.info()["token_bytes"] == 0 and tokens_by_id(bare) == {}


@pytest.fixture
def spyglass(bare, monkeypatch, capsys):
    """Runs one command line, with the toy for a model."""
    from retrieval import Embedder

    monkeypatch.setattr(Embedder, "load", lambda *_, **__: ToyEmbedder())

    def call(*arguments):
        capsys.readouterr()
        return cli.run([str(argument) for argument in arguments]), capsys.readouterr()

    return call


def test_the_command_line(spyglass, bare, photos, tmp_path):
    (photos / "001.png").unlink()
    code, printed = spyglass("tokens", "--index", bare.path, "--tokens", 240, "--workers", 0, "--json")
    report = json.loads(printed.out)
    assert code == 3 and printed.err == "" and [*report] == ["added", "unchanged", "skipped", "seconds", "failures"]
    assert (report["added"], report["skipped"], report["failures"][0]["id"]) == (NUM - 1, 1, "001.png")
    assert Index.open(bare.path).info()["token_bytes"] == 240
    (photos / "001.png").write_bytes(png(1))
    code, printed = spyglass("tokens", "--index", bare.path, "--tokens", 240, "--workers", 0, "--batch-size", 2)
    assert code == 0 and printed.out.startswith(f"{bare.path}: tokens 1 added, {NUM - 1} unchanged, 0 skipped in ")

    code, printed = spyglass("index", photos, "--index", bare.path, "--tokens", 100)
    assert code == 2 and "expected --tokens for a new index alone" in printed.err
    assert f"run spyglass tokens --index {bare.path} --tokens 100" in printed.err
    code, printed = spyglass("index", photos, "--index", tmp_path / "q.index", "--tokens", 100, "--workers", 0)
    assert code == 0 and Index.open(tmp_path / "q.index").info()["token_bytes"] == 100
    code, printed = spyglass("tokens", "--index", tmp_path / "none.index")
    assert code == 1 and "expected an index at" in printed.err
