"""The manifest: what it says, and that no other byte is taken for it."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.storage import manifest
from indexer.storage.manifest import Manifest
from indexer.storage.records import FileRecord, Model, Rows, SegmentRecord, TombstoneRecord
from retrieval.errors import DamagedError, IndexFolderError

FILE = FileRecord(size=10, sha256="ab" * 32)
MODEL = Model(name="default", fingerprint="beef", image_size=96)
STATE = Manifest(
    version=2,
    model=MODEL,
    widths=(32, 64, 512),
    dtype="float16",
    segments=(
        SegmentRecord(
            id="000001-aa",
            rows=Rows(buckets={32: 3, 64: 1}, sum_dims=150),
            files={"catalog.parquet": FILE, "vectors-032.npy": FILE},
        ),
        SegmentRecord(id="000002-bb", rows=Rows(buckets={512: 1}, sum_dims=400), files={"catalog.parquet": FILE}),
    ),
    tombstones=(TombstoneRecord(id="000002-bb", rows=Rows(buckets={32: 2}, sum_dims=70), file=FILE),),
)


def test_the_deleted_rows_are_counted_out():
    assert STATE.num_images == 3 + 1 + 1 - 2
    assert STATE.sum_dims == 150 + 400 - 70
    assert STATE.buckets == {32: 1, 64: 1, 512: 1}
    assert [name for name, _ in STATE.files()] == [
        "segments/000001-aa/catalog.parquet",
        "segments/000001-aa/vectors-032.npy",
        "segments/000002-bb/catalog.parquet",
        "deleted/000002-bb.parquet",
    ]


def test_what_is_written_is_read():
    assert Manifest.from_bytes(STATE.to_bytes()) == STATE


def test_a_manifest_from_before_there_were_tokens_is_read_byte_for_byte():
    content = {
        "schema": 1,
        "version": 3,
        "model": {"name": "default", "fingerprint": "beef", "image_size": 96},
        "widths": [32, 512],
        "dtype": "float16",
        "index_type": "auto",
        "segments": [
            {
                "id": "000001-aa",
                "rows": {"buckets": {"32": 3}, "sum_dims": 90},
                "files": {"catalog.parquet": {"size": 10, "sha256": "ab" * 32}},
            }
        ],
        "tombstones": [],
    }
    checksum = hashlib.sha256(json.dumps(content, indent=1).encode() + b"\n").hexdigest()
    data = json.dumps({**content, "checksum": checksum}, indent=1).encode() + b"\n"
    state = Manifest.from_bytes(data)
    assert state.token_bytes == state.segments[0].token_bytes == 0 and state.to_bytes() == data


def test_what_is_said_of_tokens_is_read():
    names = ("catalog.parquet", "tokens-2.npy", "token-counts-2.npy")
    segment = SegmentRecord(id="000001-aa", rows=Rows(), files=dict.fromkeys(names, FILE), token_bytes=512)
    state = STATE.following(token_bytes=1024, segments=(segment, STATE.segments[1]))
    assert Manifest.from_bytes(state.to_bytes()) == state
    assert segment.token_names == names[1:] and STATE.segments[1].token_names == ()


@pytest.mark.parametrize(
    ("token_bytes", "names"),
    [
        (0, ["tokens.npy", "token-counts.npy"]),
        (64, []),
        (64, ["tokens.npy"]),
        (64, ["tokens.npy", "token-counts-2.npy"]),
        (64, ["tokens.npy", "token-counts.npy", "tokens-2.npy", "token-counts-2.npy"]),
        (-1, []),
        (True, ["tokens.npy", "token-counts.npy"]),
    ],
)
def test_a_segment_s_tokens_are_two_files_of_one_amount(token_bytes, names):
    with pytest.raises(DamagedError, match="expected (two files of tokens if any, for|bytes of tokens, got)"):
        SegmentRecord(id="000001-aa", rows=Rows(), files=dict.fromkeys(names, FILE), token_bytes=token_bytes)


@pytest.mark.parametrize("image_size", [0, -1, 2**40, True, None])
def test_a_model_reads_pictures_of_some_size(image_size):
    with pytest.raises(DamagedError, match="expected a model's name, fingerprint and image size, got"):
        Model(name="default", fingerprint="beef", image_size=image_size)


@given(position=st.integers(0, len(STATE.to_bytes()) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(position, bit):
    data = bytearray(STATE.to_bytes())
    data[position] ^= 1 << bit
    with pytest.raises(DamagedError):
        Manifest.from_bytes(bytes(data))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_else_is_there_is_refused(data):
    with pytest.raises(DamagedError):
        Manifest.from_bytes(data if isinstance(data, bytes) else data.encode())


@pytest.mark.parametrize("name", ["../../passwd", "/etc/passwd", "catalog.parquet/..", "x.pickle", ""])
def test_a_manifest_cannot_name_files_outside_of_the_index(name):
    with pytest.raises(DamagedError, match="expected names of files"):
        SegmentRecord(id="000001-aa", rows=Rows(), files={name: FILE})
    with pytest.raises(DamagedError, match="expected a segment's id"):
        SegmentRecord(id=name, rows=Rows(), files={})


def test_publish_keeps_the_history(tmp_path):
    first = Manifest(version=0, model=MODEL, widths=(32, 512), dtype="float32")
    manifest.publish(tmp_path, first)
    manifest.publish(tmp_path, first.following(dtype="float16"))
    assert manifest.read(tmp_path).dtype == "float16"
    assert Manifest.from_bytes((tmp_path / "history/000000.json").read_bytes()) == first
    assert (tmp_path / "history/000001.json").read_bytes() == (tmp_path / "manifest.json").read_bytes()
    assert [*manifest.history_problems(tmp_path, manifest.read(tmp_path))] == []


def test_history_problems_are_named(tmp_path):
    state = Manifest(version=0, model=MODEL, widths=(32, 512), dtype="float32")
    for _ in range(3):
        manifest.publish(tmp_path, state)
        state = state.following()
    (tmp_path / "history/000000.json").write_bytes(b"{}")
    (tmp_path / "history/000002.json").unlink()
    first, second = manifest.history_problems(tmp_path, manifest.read(tmp_path))
    assert first.startswith("history/000000.json: expected a manifest")
    assert second.startswith("history/000002.json: No such file")


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(IndexFolderError, match="found no manifest.json there; make one first"):
        manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_bytes(STATE.to_bytes().replace(b'"version": 2', b'"version": 3'))
    with pytest.raises(
        DamagedError, match=r"manifest.json: expected the bytes .* copy the newest good file of .*history"
    ):
        manifest.read(tmp_path)
    with pytest.raises(DamagedError, match="expected schema version 1, got 99"):
        Manifest.from_bytes(b'{"schema": 99}')
