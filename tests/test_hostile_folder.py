"""A folder as bad as users have them, through the real command line and the real model."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import decode

ROOT = Path(__file__).resolve().parents[1]


def scene(seed: int) -> Image.Image:
    """A picture with an up and a down: bright shapes over a gradient."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(230, 40, 120)[:, None, None]
    pixels = np.broadcast_to(rows, (120, 160, 3)) * rng.uniform(0.4, 1.0, 3)
    for _ in range(6):
        top, left, side = rng.integers(0, 90), rng.integers(0, 130), rng.integers(8, 30)
        pixels[top : top + side, left : left + side] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def png_bomb(side: int) -> bytes:
    """A PNG that claims side×side pixels of one colour, small on disk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    row = b"\0" * (1 + side // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "my pictures"
    folder.mkdir()
    upright = scene(0)
    (folder / "upright.jpg").write_bytes(jpeg(upright))
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side: to be turned by 90° clockwise for display
    (folder / "turned.jpg").write_bytes(jpeg(upright.transpose(Image.Transpose.ROTATE_90), exif=exif))
    scene(1).convert("CMYK").save(folder / "cmyk.jpg")
    levels = np.linspace(0, 65_535, 100 * 90).reshape(90, 100).astype(np.uint16)
    Image.fromarray(levels).save(folder / "sixteen bit.png")
    palette = scene(2).quantize(16)
    palette.info["transparency"] = 0
    palette.save(folder / "palette.png")
    scene(3).save(folder / "Straße im Regen 雨.png")
    scene(4).save(folder / "two  spaces & 'quotes'.webp")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(jpeg(scene(5))[:1500])
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "bomb.png").write_bytes(png_bomb(30_000))
    (folder / "notes.txt").write_text("ignored")
    return folder


GOOD = {
    "upright.jpg",
    "turned.jpg",
    "cmyk.jpg",
    "sixteen bit.png",
    "palette.png",
    "Straße im Regen 雨.png",
    "two  spaces & 'quotes'.webp",
}
BAD = {"empty.jpg", "truncated.jpg", "text.jpg", "bomb.png"}


@pytest.fixture(scope="module")
def indexed(folder) -> tuple[Path, subprocess.CompletedProcess]:
    """The index, and the process of its own that made it."""
    index = folder.parent / "my.index"
    command = [sys.executable, "-m", "ui.cli", "index", folder, "--index", index, "--json"]
    return index, subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_bad_are_named_with_a_reason_and_the_exit_code_says_so(indexed):
    _, run = indexed
    assert run.returncode == 3, run.stderr
    report = json.loads(run.stdout)
    assert (report["added"], report["skipped"]) == (len(GOOD), len(BAD))
    reasons = {failure["id"]: failure["reason"] for failure in report["failures"]}
    assert set(reasons) == BAD
    assert "empty" in reasons["empty.jpg"] and "pixels" in reasons["bomb.png"]
    assert all(reason.startswith("expected") and "\n" not in reason for reason in reasons.values())


def test_every_good_one_finds_itself_first(folder, indexed, spyglass):
    index, _ = indexed
    for name in GOOD:
        answer = spyglass("search", folder / name, "--index", index, "-k", "2", "--json")
        assert answer.code == 0, answer.err
        first, second = answer.json["hits"]
        same = {"upright.jpg", "turned.jpg"}
        assert first["id"] == name or {first["id"], name} == same
        assert first["similarity"] >= 0.995
        if name in same:
            assert {first["id"], second["id"]} == same and second["similarity"] >= 0.98


def test_indexing_again_changes_nothing_and_names_them_again(folder, indexed, spyglass):
    index, _ = indexed
    code, out, _ = spyglass("index", folder, "--index", index, "--json")
    report = json.loads(out)
    assert code == 3
    assert (report["added"], report["updated"], report["unchanged"], report["skipped"]) == (0, 0, len(GOOD), len(BAD))


def test_a_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(ImageError, match="expected at most 178,956,970 pixels"):
        decode(png_bomb(30_000), 96)
