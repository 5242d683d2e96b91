"""Reading pictures: every format upright and RGB, and every broken one refused by the one error."""

import io
import resource
import struct
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from retrieval.errors import ImageError
from retrieval.images import IMAGE_SUFFIXES, Decoded, Header, decode, read_header, read_pixels, squash
from retrieval.pixels import jpeg_images, pillow_images

ORIENTATION = 0x0112
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def photo(width: int, height: int) -> Image.Image:
    """A smooth picture that no mirroring or rotation leaves as it is."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    channels = 255 * x, 255 * y, 127 + 120 * np.sin(7 * x + 3 * y * y)
    return Image.fromarray(np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def oriented(image: Image.Image, file_format: str, orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image, file_format, exif=exif, **options)


def upright(data: bytes) -> np.ndarray:
    """What Pillow makes of it."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def png(width: int, height: int, *, bit_depth: int = 8) -> bytes:
    """A black greyscale PNG, written by hand: its rows are never all in memory."""
    row = b"\0" * (1 + (width * bit_depth + 7) // 8)
    compressor = zlib.compressobj(1)
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def itxt(xmp: bytes) -> PngInfo:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return info


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_red_and_a_blue_half(file_format):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = 255, 0, 0
    pixels[:, 30:] = 0, 0, 255
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    data = encoded(Image.fromarray(pixels), file_format, **options)

    whole, small = decode(data, None), decode(data, 8)

    assert (whole.width, whole.height) == (small.width, small.height) == (60, 40)
    assert whole.pixels.shape == (40, 60, 3) and small.pixels.shape == (8, 8, 3)
    for pixels in (whole.pixels, small.pixels):
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        left, right = pixels[:, : pixels.shape[1] // 3], pixels[:, -(pixels.shape[1] // 3) :]
        assert np.abs(left.reshape(-1, 3) - np.array([255, 0, 0])).max() < 16
        assert np.abs(right.reshape(-1, 3) - np.array([0, 0, 255])).max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(file_format, orientation):
    data = oriented(photo(90, 60), file_format, orientation)
    expected = upright(data)
    assert orientation == 1 or difference(squash(expected, 32), squash(np.asarray(photo(90, 60)), 32)) > 10

    whole, small = decode(data, None), decode(data, 32)

    assert difference(whole.pixels, expected) < 1
    assert difference(small.pixels, squash(expected, 32)) < 2
    for decoded in (whole, small):
        assert (decoded.width, decoded.height) == (expected.shape[1], expected.shape[0])


def test_an_orientation_in_xmp_counts_as_pillow_counts_it():
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    for file_format in ("JPEG", "PNG"):
        data = encoded(
            photo(90, 60), file_format, **({"xmp": xmp} if file_format == "JPEG" else {"pnginfo": itxt(xmp)})
        )
        assert upright(data).shape == (90, 60, 3)
        decoded = decode(data, None)
        assert (decoded.width, decoded.height) == (60, 90) and difference(decoded.pixels, upright(data)) < 1


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1000, 600), (801, 800), (799, 800), (97, 900)])
def test_size_is_the_upright_original_s_even_where_decoding_scales(mode, size, orientation):
    data = oriented(photo(*size).convert(mode), "JPEG", orientation)
    expected = size if orientation < 5 else size[::-1]
    for image_size in (16, None):
        decoded = decode(data, image_size)
        assert (decoded.width, decoded.height) == expected


@pytest.mark.parametrize("size", [(640, 480), (1500, 1100), (130, 97), (40, 30)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 95}])
def test_fast_jpeg_path_agrees_with_pillow(monkeypatch, size, options):
    data = encoded(photo(*size), "JPEG", **options)
    fast = {image_size: decode(data, image_size).pixels for image_size in (None, 64)}
    monkeypatch.setattr(jpeg_images, "read", lambda data, image_size: None)
    for image_size, pixels in fast.items():
        plain = decode(data, image_size).pixels
        assert difference(pixels, plain) < 1.5
        assert difference(pixels, squash(upright(data), 64) if image_size else upright(data)) < 1.5


def test_fast_jpeg_path_agrees_with_pillow_on_real_photos(shared):
    photos = sorted((shared / "data" / "photos").glob("*.jpg"))[:8]
    assert photos
    for path in photos:
        data = path.read_bytes()
        decoded, expected = decode(data, 64), upright(data)
        assert (decoded.width, decoded.height) == expected.shape[1::-1]
        assert difference(decoded.pixels, squash(expected, 64)) < 2


def test_a_sharp_picture_is_averaged_and_not_sampled():
    noise = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), np.uint8)
    for data in (encoded(Image.fromarray(noise), "JPEG", quality=95), encoded(Image.fromarray(noise), "PNG")):
        assert decode(data, 16).pixels.std() < 6


def test_a_thin_sharp_picture_is_averaged_along_its_long_side():
    columns = np.random.default_rng(0).integers(0, 256, (1, 3200, 3), np.uint8).repeat(20, axis=0)
    assert squash(columns, 32).std() < 15
    assert squash(columns.transpose(1, 0, 2), 32).std() < 15


def test_cmyk_jpeg():
    plain = photo(120, 80)
    data = encoded(plain.convert("CMYK"), "JPEG", quality=95)
    assert difference(decode(data, None).pixels, np.asarray(plain)) < 4
    assert difference(decode(data, 32).pixels, squash(np.asarray(plain), 32)) < 4


def test_16_bit_png_is_scaled_and_not_clipped():
    levels = np.linspace(0, 65_535, 256).round().astype(np.uint16)
    data = encoded(Image.fromarray(np.tile(levels, (4, 1))), "PNG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode.startswith("I")
    pixels = decode(data, None).pixels
    assert np.abs(pixels - np.arange(256)[None, :, None]).max() <= 1


def test_transparency_is_laid_on_white():
    black_clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    black_half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    grey_half = Image.new("LA", (4, 4), (0, 128))
    for image, file_format, expected in (
        (black_clear, "PNG", 255),
        (black_clear, "WEBP", 255),
        (black_half, "PNG", 127),
        (grey_half, "PNG", 127),
        (black_half, "TIFF", 127),
    ):
        assert np.abs(decode(encoded(image, file_format), None).pixels - expected).max() <= 1


def test_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    image.putdata([0, 1, 2])
    one_clear = decode(encoded(image, "PNG", transparency=1), None).pixels
    assert one_clear.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 255, 0]]]
    shades = decode(encoded(image, "PNG", transparency=bytes([255, 0, 128])), None).pixels
    assert shades.tolist() == [[[255, 0, 0], [255, 255, 255], [127, 255, 127]]]
    key = decode(encoded(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7)), None).pixels
    assert (key == 255).all()
    assert decode(encoded(image, "GIF", transparency=1), None).pixels[0, 1].tolist() == [255, 255, 255]


def test_black_and_white():
    image = Image.fromarray(np.array([[True, False], [False, True]]))
    assert image.mode == "1"
    for file_format in ("PNG", "BMP", "TIFF"):
        pixels = decode(encoded(image, file_format), None).pixels
        assert pixels.tolist() == [[[255] * 3, [0] * 3], [[0] * 3, [255] * 3]]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(file_format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    options = {} if file_format == "TIFF" else {"duration": 40}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    red = decode(data, None).pixels
    assert np.abs(red.astype(int) - [255, 0, 0]).max() < 8


def test_a_phone_picture_with_a_second_one_behind_it():
    data = encoded(photo(600, 400), "MPO", save_all=True, append_images=[photo(60, 40)])
    decoded = decode(data, 32)
    assert (decoded.width, decoded.height) == (600, 400)
    assert difference(decoded.pixels, squash(np.asarray(photo(600, 400)), 32)) < 2


def test_squash_by_hand():
    pixels = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 10, 3, axis=2)
    assert squash(pixels, 2)[..., 0].tolist() == [[25, 45], [105, 125]]
    assert squash(pixels, 4) is pixels
    assert (squash(np.full((3, 5, 3), 77, np.uint8), 64) == 77).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (33, 31)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_any_shape_is_squashed_whole(file_format, size):
    decoded = decode(encoded(Image.new("RGB", size, (200, 100, 50)), file_format), 32)
    assert (decoded.width, decoded.height) == size and decoded.pixels.shape == (32, 32, 3)
    assert np.abs(decoded.pixels - np.array([200, 100, 50])).max() < 6


UNRECOGNISED = "^expected a JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC or AVIF picture, got something else$"
DAMAGED = "^expected a whole picture, got one that does not decode: "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^expected a picture, got an empty file$"),
        (b"Dear diary, today I was named .jpg\n", UNRECOGNISED),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n", UNRECOGNISED),
        (b"\xff\xd8", "^expected "),
        (encoded(photo(300, 200), "JPEG")[:2000], DAMAGED + ".*truncated"),
        (encoded(photo(300, 200), "PNG")[:2000], DAMAGED + ".*truncated"),
        (encoded(photo(300, 200), "GIF")[:1500], DAMAGED),
    ],
    ids=["empty", "text", "PostScript", "start of a JPEG", "half a JPEG", "half a PNG", "half a GIF"],
)
def test_unreadable(data, message):
    for image_size in (None, 32):
        with pytest.raises(ImageError, match=message) as caught:
            decode(data, image_size)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [30_000, 14_000])
def test_a_png_bomb_is_refused_before_it_is_decoded(side):
    bomb = png(side, side, bit_depth=1)
    assert len(bomb) < 1_000_000
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(ImageError, match="^expected at most 178,956,970 pixels, got more"):
        decode(bomb, 64)
    assert time.perf_counter() - start < 0.5
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert growth < 30 * (1024 if sys.platform != "darwin" else 1024**2)


def test_a_hand_written_png_of_honest_size_is_read():
    assert decode(png(300, 200, bit_depth=1), 32).pixels.max() == 0


def test_a_jpeg_bomb_is_refused_before_it_is_decoded():
    data = encoded(photo(64, 64), "JPEG")
    frame = data.index(b"\xff\xc0")
    bomb = data[: frame + 5] + struct.pack(">HH", 60_000, 60_000) + data[frame + 9 :]
    with pytest.raises(ImageError, match="^expected at most 178,956,970 pixels, got more"):
        decode(bomb, 64)


def test_a_jpeg_of_countless_scans_is_refused_before_it_is_decoded():
    """12,000 pixels square on disk in 2 KB, and 20,000 passes over them: minutes."""
    data = encoded(photo(64, 64), "JPEG", progressive=True)
    frame, last, end = data.index(b"\xff\xc2"), data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    tall = data[: frame + 5] + struct.pack(">HH", 12_000, 12_000) + data[frame + 9 : last]
    start = time.perf_counter()
    for bomb in (tall + data[last:end] * 20_000 + data[end:], b"\xff\xd8\xff" + tall[2:] + data[last:end] * 20_000):
        with pytest.raises(ImageError, match="^expected at most 62 scans in a JPEG of 12000x12000, got 20,0"):
            decode(bomb, 64)
    assert time.perf_counter() - start < 1
    assert decode(data[:end] + data[last:end] * 50 + data[end:], 32).width == 64


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_bands_of_rows_make_the_same_picture(monkeypatch, mode):
    image = photo(37, 29).convert("L" if mode[0] in "IF" else mode)
    if mode[0] in "IF":
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(np.asarray(image).astype(kind) * (257 if mode == "I;16" else 1))
        assert image.mode == mode
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    whole = read_pixels(image, None)
    monkeypatch.setattr(pillow_images, "_BAND_PIXELS", 100)
    np.testing.assert_array_equal(read_pixels(image, None), whole)
    assert whole.std() > 20


def test_numbers_that_are_none_are_black():
    levels = np.array([[np.nan, 0.5], [np.inf, -np.inf]], np.float32)
    assert read_pixels(Image.fromarray(levels), None)[..., 0].tolist() == [[0, 0], [255, 0]]
    assert read_pixels(Image.fromarray(np.nan_to_num(levels, posinf=1)), None)[..., 0].tolist() == [[0, 127], [255, 0]]


def test_read_pixels_takes_every_kind_of_picture(tmp_path):
    data = oriented(photo(90, 60), "PNG", 6)
    path = tmp_path / "süß 1.png"
    path.write_bytes(data)
    expected = decode(data, 32).pixels
    with Image.open(path) as image:
        pictures = [path, str(path), data, bytearray(data), memoryview(data), image, upright(data)]
        for picture in pictures:
            np.testing.assert_array_equal(read_pixels(picture, 32), expected)
    assert read_pixels(path, None).shape == (90, 60, 3)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Path("no/such.jpg"), "^expected a readable picture, got no/such.jpg: No such file"),
        (np.zeros((4, 4), np.uint8), r"^expected a path, bytes, .*got uint8 \(4, 4\)$"),
        (np.zeros((4, 4, 3), np.float32), r"got float32 \(4, 4, 3\)$"),
        (7, "got int$"),
    ],
)
def test_read_pixels_says_what_it_cannot_read(picture, message):
    with pytest.raises(ImageError, match=message):
        read_pixels(picture, 32)


def test_a_pillow_image_whose_file_breaks_off_is_refused():
    data = encoded(photo(300, 200), "PNG")
    with Image.open(io.BytesIO(data[:2000])) as image, pytest.raises(ImageError, match=DAMAGED + ".*truncated"):
        read_pixels(image, 32)


def decode_or_refuse(data: bytes, image_size: int | None) -> None:
    try:
        decoded = decode(data, image_size)
    except ImageError as error:
        assert str(error).startswith("expected ") and "\n" not in str(error)
    else:
        assert isinstance(decoded, Decoded) and decoded.pixels.dtype == np.uint8
        height, width = decoded.pixels.shape[:2]
        assert (width, height) == ((decoded.width, decoded.height) if image_size is None else (image_size, image_size))


@settings(deadline=None, max_examples=150)
@given(
    data=st.binary(min_size=1, max_size=400),
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF", b"MM\0*"]),
    image_size=st.sampled_from([None, 16]),
)
def test_random_bytes_raise_image_error_alone(data, start, image_size):
    decode_or_refuse(start + data, image_size)


PICTURES = {name: oriented(photo(50, 40), name, 6) for name in ("JPEG", "PNG", "WEBP", "TIFF")} | {
    "GIF": encoded(photo(50, 40), "GIF"),
    "BMP": encoded(photo(50, 40), "BMP"),
    "CMYK": encoded(photo(50, 40).convert("CMYK"), "JPEG"),
}


@settings(deadline=None, max_examples=250)
@given(
    kind=st.sampled_from(sorted(PICTURES)),
    changes=st.lists(st.tuples(st.one_of(st.integers(0, 120), st.integers(0, 6000)), st.integers(0, 255)), max_size=4),
    kept=st.floats(0.1, 1.0),
    image_size=st.sampled_from([None, 16]),
)
def test_a_damaged_picture_raises_image_error_alone(kind, changes, kept, image_size):
    data = bytearray(PICTURES[kind])
    for place, value in changes:
        data[place % len(data)] = value
    decode_or_refuse(bytes(data[: max(1, int(kept * len(data)))]), image_size)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_damaged_exif_block_is_no_reason_to_stop(kind):
    data = PICTURES[kind]
    first = data.index(b"MM\0*" if b"MM\0*" in data else b"II*\0")
    for place in range(max(0, first - 8), min(len(data), first + 30)):
        for value in (0, 1, 8, 0x7F, 0xFF):
            changed = bytearray(data)
            changed[place] = value
            decode_or_refuse(bytes(changed), 16)


def test_threads_leave_the_warning_filters_alone():
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: decode(PICTURES["PNG"], 16), range(400)))
        assert warnings.filters == before


def test_folders_are_searched_for_what_can_be_read():
    usual = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
    assert IMAGE_SUFFIXES == usual | {".avif", ".heic", ".heif", ".hif"}


@pytest.mark.parametrize(
    ("form", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")]
)
def test_a_header_says_what_a_file_is(form, media_type):
    file = io.BytesIO()
    Image.new("RGB", (5, 7)).save(file, form)
    assert read_header(file.getvalue()) == Header(media_type=media_type, width=5, height=7)


def test_a_header_needs_no_pixels():
    file = io.BytesIO()
    Image.effect_noise((300, 200), 50).save(file, "PNG")
    half = file.getvalue()[: file.tell() // 2]
    assert read_header(half).width == 300
    with pytest.raises(ImageError, match="^expected a whole picture"):
        decode(half, None)
    with pytest.raises(ImageError, match="^expected a JPEG"):
        read_header(b"no picture")


def test_a_signalling_nan_is_black():
    levels = np.full((4, 4), 1.0, np.float32)
    levels.view(np.uint32)[0, 0] = 0x7FA00000
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "TIFF")
    pixels = decode(file.getvalue(), None).pixels
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[1, 1].tolist() == [255, 255, 255]
