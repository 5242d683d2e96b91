"""HEIC and AVIF: upright once, the primary picture, and a word on what to install where they cannot be read."""

import io
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
from mutations import encoded
from PIL import Image, ImageOps, features
from test_images import difference, photo

from retrieval.errors import ImageError
from retrieval.images import decode, squash


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_held_in_any_way_they_come_upright(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(90, 60), form, quality=95, exif=exif.tobytes())
    with Image.open(io.BytesIO(encoded(photo(90, 60), "PNG", exif=exif))) as plain:
        expected = np.asarray(ImageOps.exif_transpose(plain))
    assert orientation == 1 or difference(squash(expected, 32), squash(np.asarray(photo(90, 60)), 32)) > 10
    whole, small = decode(data, None), decode(data, 32)
    assert (whole.width, whole.height) == (small.width, small.height) == expected.shape[1::-1]
    assert difference(whole.pixels, expected) < 5
    assert difference(small.pixels, squash(expected, 32)) < 5


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_transparency_is_laid_on_white(form):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 30, 30, 255), (0, 0, 32, 64))
    pixels = decode(encoded(image, form, quality=95), None).pixels.astype(int)
    assert np.abs(pixels[:, 40:] - 255).max() < 12 and np.abs(pixels[:, :24] - [200, 30, 30]).max() < 25


def test_the_picture_itself_and_not_a_small_one_beside_it():
    file = pillow_heif.from_pillow(photo(512, 384))
    file[0].info["thumbnails"] = [256, 128]
    buffer = io.BytesIO()
    file.save(buffer, quality=95)
    decoded = decode(buffer.getvalue(), 16)
    assert (decoded.width, decoded.height) == (512, 384)
    assert difference(decoded.pixels, squash(np.asarray(photo(512, 384)), 16)) < 2


def test_of_several_the_primary_one():
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ((220, 0, 0), (0, 0, 220)))
    file = pillow_heif.from_pillow(red)
    file.add_from_pillow(blue)
    buffer = io.BytesIO()
    file.save(buffer, primary_index=1)
    assert decode(buffer.getvalue(), 8).pixels[..., 2].min() > 150


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pillow-heif to read a HEIC.*pip install 'spyglass-image-search\[heic\]'$"):
        decode(encoded(photo(64, 64), "HEIF"), 8)
    assert decode(encoded(photo(64, 64), "AVIF"), 8).width == 64


def test_a_pillow_without_avif_is_told_to_be_renewed(monkeypatch):
    data = encoded(photo(64, 64), "AVIF")
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(ImageError, match=r"expected a Pillow that reads AVIF, .*pip install -U 'pillow>=11.3'$"):
        decode(data, 8)


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_dimensions_too_large_are_refused_before_they_are_decoded(form):
    data = bytearray(encoded(photo(64, 64), form))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = (20_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="^expected "):
        decode(bytes(data), 8)


def test_other_files_of_that_kind_are_no_pictures():
    with pytest.raises(ImageError, match="got something else$"):
        decode(b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(100), 8)


def test_reading_other_formats_imports_no_heif_reader():
    script = "import retrieval.images, sys; sys.exit('pillow_heif' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
