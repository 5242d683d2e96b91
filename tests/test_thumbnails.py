"""Thumbnails: small, upright, of the right shape; the latest stay in memory, and no more than may."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import ImageError, UsageError
from ui.pictures.thumbnails import Thumbnails, thumbnail


def jpeg(width: int, height: int, colour=(30, 90, 200), **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "JPEG", **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (320, 240)),
        ((480, 640), (240, 320)),
        ((900, 3), (320, 1)),
        ((100, 60), (100, 60)),
        ((1, 1), (1, 1)),
    ],
)
def test_shape(size, expected):
    assert opened(thumbnail(jpeg(*size), 320)).size == expected


def test_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    left_red = Image.fromarray(
        np.repeat([[(200, 0, 0), (0, 0, 200)]], 400, axis=0).repeat(300, axis=1).astype(np.uint8)
    )
    file = io.BytesIO()
    left_red.save(file, "JPEG", exif=exif)
    made = opened(thumbnail(file.getvalue(), 60))
    assert made.size == (40, 60) and made.getexif().get(0x0112, 1) == 1
    top, bottom = made.getpixel((20, 5)), made.getpixel((20, 55))
    assert top[0] > 150 > 60 > top[2] and bottom[2] > 150 > 60 > bottom[0]


def test_what_is_transparent_is_white():
    file = io.BytesIO()
    Image.new("RGBA", (500, 500), (0, 0, 0, 0)).save(file, "PNG")
    assert min(opened(thumbnail(file.getvalue(), 100)).getpixel((50, 50))) > 250


def test_as_the_picture_shrunk_by_averaging():
    pixels = (
        np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8).repeat(60, axis=0).repeat(60, axis=1)
    )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    plain = Image.fromarray(pixels).resize((180, 240), Image.Resampling.BOX)
    apart = np.asarray(opened(thumbnail(file.getvalue(), 240)), float) - np.asarray(plain, float)
    assert np.abs(apart).mean() < 8


def test_read_once_and_kept():
    asked = []
    thumbnails = Thumbnails(lambda uri: asked.append(uri) or jpeg(400, 400))
    assert thumbnails.get("a") == thumbnails.get("a") and asked == ["a"]


def test_another_version_is_read_anew():
    sides = iter((400, 200))
    thumbnails = Thumbnails(lambda uri: jpeg(400, next(sides)))
    first, second = thumbnails.get("a", "one"), thumbnails.get("a", "two")
    assert first != second and (thumbnails.get("a", "one"), thumbnails.get("a", "two")) == (first, second)


def test_the_oldest_go_first():
    asked = []
    size = len(thumbnail(jpeg(50, 50), 320))
    thumbnails = Thumbnails(lambda uri: asked.append(uri) or jpeg(50, 50), max_bytes=2 * size)
    for uri in "abacb":  # b is the one not asked for lately when c arrives
        thumbnails.get(uri)
    assert asked == ["a", "b", "c", "b"]


def test_nothing_is_kept_where_nothing_may():
    asked = []
    thumbnails = Thumbnails(lambda uri: asked.append(uri) or jpeg(50, 50), max_bytes=0)
    thumbnails.get("a"), thumbnails.get("a")
    assert asked == ["a", "a"]


def test_many_threads():
    colours = {str(number): (number * 8, 255 - number * 8, 128) for number in range(30)}
    thumbnails = Thumbnails(lambda uri: jpeg(200, 100, colours[uri]), max_bytes=4000)
    barrier = threading.Barrier(8)

    def ask(seed):
        barrier.wait()
        for number in np.random.default_rng(seed).integers(0, 30, 100):
            pixel = opened(thumbnails.get(str(number))).getpixel((100, 50))
            assert np.abs(np.subtract(pixel, colours[str(number)])).max() < 6

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    kept = thumbnails._kept
    assert kept._size == sum(map(len, kept._kept.values())) <= 4000


def test_a_picture_that_cannot_be_read():
    thumbnails = Thumbnails({"bad": b"no picture"}.__getitem__)
    for _ in range(2):
        with pytest.raises(ImageError, match="expected a JPEG"):
            thumbnails.get("bad")


def test_sizes_that_cannot_be():
    with pytest.raises(UsageError, match="expected side of at least 1"):
        Thumbnails(bytes, side=0)
