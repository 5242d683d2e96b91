"""An index as one file and back: the same answers, and no other file taken for one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run_apart
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import ToyEmbedder, flip_byte, png, write_pngs

from indexer import Index
from indexer.changes import row_blocks
from indexer.changes.importing import ImportReport, import_file
from indexer.searching import gallery
from indexer.storage import manifest
from retrieval.errors import DamagedError, IndexFolderError, MismatchError, SourceError, SpyglassError, UsageError
from ui import cli

NUM = 15


@pytest.fixture
def index(tmp_path) -> Index:
    """Fifteen pictures in four segments, one changed since and two removed; three more with columns of their own."""
    photos = write_pngs(tmp_path / "photos", range(NUM))
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(photos, num_workers=0, batch_size=4, commit_seconds=0)
    (photos / "002.png").write_bytes(png(102))
    index.add(photos, num_workers=0)
    index.remove(["000.png", "007.png"])
    columns = {"id": ["a", "b", "c"], "image": [png(seed) for seed in range(50, 53)]}
    own = {"vector": [1, 2, 3], "Tokens": ["x", None, "z"]}
    pq.write_table(pa.table(columns | own), tmp_path / "shop.parquet")
    index.add(tmp_path / "shop.parquet", num_workers=0)
    return index


@pytest.fixture
def exported(index, tmp_path):
    out = tmp_path / "out" / "p.parquet"
    assert index.export(out) == 16
    return out


def answers(index: Index) -> list:
    return [index.search(png(seed), top_k=30, **how) for seed in (2, 102, 999) for how in ({"rerank": 0}, {})]


def tokens_by_id(index: Index) -> dict[str, list]:
    opened = gallery.read(index.path, manifest.read(index.path), "cpu")
    numbers = opened.catalog.find(index.catalog()["id"])
    return {image_id: opened.tokens.take(np.array([number])).values.tolist() for image_id, number in numbers.items()}


def test_there_and_back(index, exported, tmp_path):
    copy_path = tmp_path / "new" / "copy.index"
    assert import_file(exported, copy_path) == ImportReport(added=16, updated=0, unchanged=0)
    copy = Index.open(copy_path, ToyEmbedder())
    assert answers(copy) == answers(index) and copy.catalog().equals(index.catalog())
    assert tokens_by_id(copy) == tokens_by_id(index) and copy.verify() == []
    assert copy.search(png(51), where="vector = 2")[0].columns == {"vector": 2, "Tokens": None}
    was, made = manifest.read(index.path), manifest.read(copy_path)
    for name in ("model", "widths", "dtype", "index_type", "token_bytes", "buckets", "sum_dims"):
        assert getattr(made, name) == getattr(was, name)
    assert made.change == "import" and copy.info()["segments"] == 1
    copy.export(tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "again.parquet").equals(pq.read_table(exported))
    assert copy.add(tmp_path / "photos", num_workers=0).added == 2  # those that were removed


@pytest.mark.parametrize("block", [1, 5])
def test_in_blocks_of_any_size(index, tmp_path, monkeypatch, block):
    for module in ("indexer.changes.row_blocks", "indexer.changes.importing"):
        monkeypatch.setattr(f"{module}.BLOCK", block)
    index.export(tmp_path / "p.parquet")
    import_file(tmp_path / "p.parquet", tmp_path / "copy.index")
    assert answers(Index.open(tmp_path / "copy.index", ToyEmbedder())) == answers(index)


def test_what_the_file_holds(index, exported):
    table, catalog = pq.read_table(exported), index.catalog()
    names = [*catalog.columns, "vector_", "tokens_"]  # the source has columns of those names
    assert table.column_names == names and table["id"].to_pylist() == catalog["id"].tolist()
    head = json.loads(table.schema.metadata[b"spyglass"])
    assert head["model"] == {"name": "toy", "fingerprint": "f00d" * 16, "image_size": 32} and head["token_dim"] == 12
    for row in table.to_pylist():
        vector = np.array(row["vector_"])
        assert len(vector) == row["bucket"] and not vector[row["dim"] :].any() and vector[row["dim"] - 1]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3) and len(row["tokens_"]) % 12 == 0


def test_without_tokens(index, tmp_path):
    index.export(tmp_path / "p.parquet", tokens=False)
    assert "tokens_" not in pq.read_table(tmp_path / "p.parquet").column_names
    import_file(tmp_path / "p.parquet", tmp_path / "copy.index")
    copy = Index.open(tmp_path / "copy.index", ToyEmbedder())
    assert copy.search(png(3), rerank=0) == index.search(png(3), rerank=0) and copy.verify() == []
    assert copy.add_tokens(num_workers=0).added == 16 and tokens_by_id(copy) == tokens_by_id(index)


def test_into_an_index_that_has_some_already(index, exported, tmp_path):
    other = Index.create(tmp_path / "q.index", ToyEmbedder(), dtype="float32", widths=(64, 512))
    photos = tmp_path / "photos"
    (photos / "003.png").write_bytes(png(103))
    other.add(photos / "003.png", photos / "004.png", num_workers=0)
    assert other.import_(exported) == ImportReport(added=14, updated=1, unchanged=1)
    assert set(other.catalog()["id"]) == set(index.catalog()["id"]) and set(other.catalog()["bucket"]) <= {64, 512}
    assert other.verify() == [] and other.search(png(3))[0].similarity == pytest.approx(1, abs=1e-3)
    assert [hit.id for hit in other.search(png(999), rerank=0)] == [hit.id for hit in index.search(png(999), rerank=0)]
    version = other.version
    assert other.import_(exported) == ImportReport(added=0, updated=0, unchanged=16) and other.version == version


def test_an_empty_index(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    assert index.export(tmp_path / "p.parquet") == 0
    assert import_file(tmp_path / "p.parquet", tmp_path / "copy.index") == ImportReport(added=0, updated=0, unchanged=0)
    copy = Index.open(tmp_path / "copy.index", ToyEmbedder())
    assert copy.search(png(0)) == [] and copy.verify() == []


def test_a_snapshot_is_exported(index, tmp_path):
    past = Index.open(index.path, snapshot=1)
    assert past.export(tmp_path / "past.parquet") == past.info()["images"] == 4


def test_vectors_of_another_model_are_refused(exported, tmp_path):
    other = Index.create(tmp_path / "q.index", ToyEmbedder(fingerprint="beef"))
    with pytest.raises(MismatchError, match=r"built with, toy \(beef\), got those of toy \(f00df00df00d\) in"):
        other.import_(exported)
    assert manifest.read(other.path).version == 0


def test_foreign_files(tmp_path, exported):
    (tmp_path / "text.parquet").write_text("Dear Sir")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "foreign.parquet")
    for name, reason in (
        ("gone.parquet", "at .*gone.parquet, got nothing"),
        ("text.parquet", "at .*text.parquet, got Parquet magic bytes not found"),
        ("foreign.parquet", r"which is none \(expected its head in the metadata\); .* spyglass index"),
    ):
        with pytest.raises(SourceError, match=f"expected a file that `spyglass export` wrote.*{reason}") as caught:
            import_file(tmp_path / name, tmp_path / "copy.index")
        assert "\n" not in str(caught.value)
    table = pq.read_table(exported)
    head = json.loads(table.schema.metadata[b"spyglass"])
    for change in ({"format": 2}, {"widths": []}, {"dtype": "int8"}, {"model": {}}, {"vector_column": "id"}, {"x": 1}):
        metadata = {b"spyglass": json.dumps(head | change).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
        with pytest.raises(SourceError, match="expected a file that `spyglass export` wrote, got"):
            import_file(tmp_path / "odd.parquet", tmp_path / "copy.index")
    for name in ("uri", "dim", "vector_", "tokens_"):
        pq.write_table(table.drop_columns([name]), tmp_path / "odd.parquet")
        with pytest.raises(SourceError, match=f"column.* '?{name}"):
            import_file(tmp_path / "odd.parquet", tmp_path / "copy.index")
    assert not (tmp_path / "copy.index").exists()


def test_unsound_rows_are_refused_and_nothing_is_added(exported, tmp_path, index):
    table = pq.read_table(exported)
    rows = table.to_pylist()

    def changed(**values):
        return [*rows[:5], rows[5] | values, *rows[6:]]

    vector = rows[5]["vector_"]
    index.remove(rows[5]["id"])  # of what is there already the file's row does not count
    before = manifest.read(index.path)
    for values, reason in (
        ({"id": "001.png"}, "expected an id of its own, got '001.png' in row 5"),
        ({"id": ""}, "expected an id of its own, got ''"),
        ({"uri": None}, "a row without uri"),
        ({"dim": 0}, "expected dims in 1..512, got 0"),
        ({"vector_": []}, "a vector of 0 numbers for a dim of"),
        ({"vector_": [0.0, *vector[1:]], "dim": 1}, "a vector with numbers beyond its dim"),
        ({"vector_": [float("nan"), *vector[1:]]}, "a vector with NaN or infinity"),
        ({"vector_": [None, *vector[1:]]}, "a vector with numbers missing"),
        ({"vector_": [2 * number for number in vector]}, "a vector of length 2.000, which should be 1"),
        ({"tokens_": b"12345"}, "tokens that are not up to 1024 bytes, 12 each"),
        ({"tokens_": bytes(12 * 100)}, "tokens that are not up to 1024 bytes, 12 each"),
    ):
        fields = [field.with_nullable(True) for field in table.schema]
        schema = pa.schema(fields, metadata=table.schema.metadata)
        pq.write_table(pa.Table.from_pylist(changed(**values), schema), tmp_path / "odd.parquet")
        for folder in (tmp_path / "copy.index", index.path):
            with pytest.raises(SourceError, match=f"expected sound rows in .*odd.parquet, got .*{reason}") as caught:
                import_file(tmp_path / "odd.parquet", folder)
            assert "\n" not in str(caught.value)
    assert manifest.read(index.path) == before and index.verify() == []
    assert len(list(index.path.glob("segments/*"))) == len(before.segments)
    assert not manifest.exists(tmp_path / "copy.index") and import_file(exported, tmp_path / "copy.index").added == 16


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    """What an index of two pictures is exported to."""
    folder = tmp_path_factory.mktemp("small")
    index = Index.create(folder / "p.index", ToyEmbedder())
    index.add(write_pngs(folder / "photos", range(2)), num_workers=0)
    index.export(folder / "p.parquet")
    return (folder / "p.parquet").read_bytes()


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_damaged_file_is_an_error_or_gives_a_sound_index(small, place, bit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    broken = bytearray(small)
    broken[int(place * len(small))] ^= 1 << bit
    (folder / "p.parquet").write_bytes(broken)
    try:
        import_file(folder / "p.parquet", folder / "copy.index")
        copy = Index.open(folder / "copy.index", ToyEmbedder())  # refuses another model's fingerprint
    except SpyglassError as error:
        assert "\n" not in str(error)
        return
    assert copy.verify() == [] and len(copy.search(png(0), rerank=0)) <= 2


def test_what_cannot_be_exported(index, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="expected the name of a file to export to to end in .parquet, got"):
        index.export(tmp_path / "p.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(SpyglassError, match="expected to write to .*, but cannot: (Not a directory|File exists)"):
        index.export(tmp_path / "file" / "p.parquet")
    index.export(tmp_path / "good.parquet")
    with pytest.raises(IndexFolderError, match="found '.*' in it; choose another folder"):
        import_file(tmp_path / "good.parquet", tmp_path)
    (tmp_path / "p.parquet").write_text("what was there")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("indexer.storage.durable.sync_file", full)
        with pytest.raises(SpyglassError, match="cannot: No space left on device"):
            index.export(tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").read_text() == "what was there" and not list(tmp_path.glob(".*"))
    path = next(index.path.glob("segments/*/vectors-*.npy"))
    flip_byte(path, path.stat().st_size - 1)
    with pytest.raises(DamagedError, match="expected a sound index at .* to export, got .*vectors-"):
        index.export(tmp_path / "p.parquet")


def run(*arguments, capsys):
    capsys.readouterr()
    code = cli.run([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_commands(index, tmp_path, capsys):
    out, copy = tmp_path / "p.parquet", tmp_path / "copy.index"
    code, printed, _ = run("export", "--index", index.path, "--out", out, capsys=capsys)
    assert code == 0 and printed.startswith(f"{out}: 16 images, ")
    code, printed, _ = run("import", out, "--index", copy, capsys=capsys)
    assert (code, printed) == (0, f"{copy}: 16 added, 0 updated, 0 unchanged\n")
    code, printed, _ = run("import", out, "--index", copy, "--json", capsys=capsys)
    assert (code, json.loads(printed)) == (0, {"added": 0, "updated": 0, "unchanged": 16})
    command = ("export", "--index", index.path, "--out", out, "--snapshot", 1, "--no-tokens", "--json")
    code, printed, _ = run(*command, capsys=capsys)
    assert code == 0 and json.loads(printed)["images"] == 4 and json.loads(printed)["size_bytes"] == out.stat().st_size
    assert run("import", tmp_path / "shop.parquet", "--index", copy, capsys=capsys)[0] == 1
    Index.create(tmp_path / "q.index", ToyEmbedder(fingerprint="beef"))
    assert run("import", out, "--index", tmp_path / "q.index", capsys=capsys)[0] == 4


def test_no_model_is_needed(index, tmp_path):
    out, copy = tmp_path / "p.parquet", tmp_path / "copy.index"
    apart = run_apart(["export", "--index", index.path, "--out", out], ["import", out, "--index", copy])
    assert apart.codes == [0, 0] and "torch" not in apart.modules


def test_blocks_are_bounded():
    assert row_blocks.BLOCK * 512 * 4 <= 2**26
