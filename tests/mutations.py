"""Damaged and hostile files, made from whole ones; the same again for the same seed.

For every test that throws rubbish at something: pictures, sources, the service, the index folder.
"""

import io
import random
import runpy
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

import pillow_heif
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT.parent / "shared" / "data" / "photos"
SUFFIXES = {
    **{"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif", "BMP": ".bmp"},
    **{"AVIF": ".avif", "HEIF": ".heic"},
}
"""Every format that is read, by Pillow's names, with the ending of its files."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_EXTREMES = (
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
)


def mutated(data: bytes, seed: int, *, other: bytes = b"") -> bytes:
    """Another file made of `data`, in one to three blows: bits flipped, parts cut, doubled, overwritten, spliced in.

    `other` is what parts are spliced in from (`data` itself where there is nothing). It never equals `data`.
    """
    rng = random.Random(f"{seed} {len(data)} {zlib.crc32(data)}")
    result = data
    while result == data:
        for _ in range(rng.choice((1, 1, 2, 3))):
            result = rng.choice(_BLOWS)(rng, bytearray(result), other or data)
        if result.startswith(_PNG_START) and rng.random() < 0.5:
            result = _with_checksums(result)
    return result


def hostile_pictures(seed: int) -> Iterator[tuple[str, bytes]]:
    """File names, all different, and contents: first those that are made by hand, then mutations without end."""
    yield from _made_by_hand()
    whole = whole_pictures()
    rng = random.Random(seed)
    for number in count():
        (name, data), (_, other) = rng.choices(whole, k=2)
        # One in ten has the ending of another format.
        suffix = rng.choice(sorted(SUFFIXES.values())) if rng.random() < 0.1 else Path(name).suffix
        yield f"mutated-{number:05d}{suffix}", mutated(data, seed + number, other=other)


@cache
def whole_pictures() -> tuple[tuple[str, bytes], ...]:
    """Names and contents of small pictures that can be read: every format, plain and with what makes it odd.

    Of real photos where they are at hand, drawn otherwise.
    """
    found = []
    for number, image in enumerate(_photos() or _drawings()):
        small = image.resize((40 + number, 30))
        for form, suffix in SUFFIXES.items():
            found.append((f"{number}{suffix}", encoded(small, form)))
        exif = Image.Exif()
        exif[0x0112] = 1 + number
        exif[0x010F] = "A camera"
        frames = [small.rotate(90 * turn) for turn in (1, 2)]
        found += [
            (f"{number}-progressive.jpg", encoded(small, "JPEG", progressive=True, exif=exif)),
            (f"{number}-cmyk.jpg", encoded(small.convert("CMYK"), "JPEG", exif=exif)),
            (f"{number}-alpha.png", encoded(_with_alpha(small), "PNG", exif=exif)),
            (f"{number}-palette.png", encoded(small.quantize(16), "PNG", transparency=3)),
            (f"{number}-deep.png", encoded(small.convert("I;16"), "PNG")),
            (f"{number}-animated.png", encoded(small, "PNG", save_all=True, append_images=frames)),
            (f"{number}-lossless.webp", encoded(_with_alpha(small), "WEBP", lossless=True, exif=exif)),
            (f"{number}-animated.webp", encoded(small, "WEBP", save_all=True, append_images=frames)),
            (f"{number}-animated.gif", encoded(small, "GIF", save_all=True, append_images=frames)),
            (f"{number}-lzw.tiff", encoded(small, "TIFF", compression="tiff_lzw", exif=exif)),
            (f"{number}-jpeg.tiff", encoded(small, "TIFF", compression="jpeg")),
            (f"{number}-deflated.tiff", encoded(_with_alpha(small), "TIFF", compression="tiff_adobe_deflate")),
            (f"{number}-fax.tiff", encoded(small.convert("1"), "TIFF", compression="group4")),
            (f"{number}-float.tiff", encoded(small.convert("F"), "TIFF")),
            (f"{number}-palette.bmp", encoded(small.quantize(16), "BMP")),
        ]
    return tuple(found)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    """A picture as the bytes of a file, `form` one of `SUFFIXES`."""
    file = io.BytesIO()
    if form == "HEIF":
        pillow_heif.from_pillow(image).save(file, **options)
    else:
        image.save(file, form, **options)
    return file.getvalue()


def png_of(width: int, height: int, *, bit_depth: int = 1, colour: int = 0, rows: int | None = None) -> bytes:
    """A black PNG of those dimensions, tiny on disk; `rows` of them are there (None: all)."""
    bits = bit_depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = b"\0" * (1 + (width * bits + 7) // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return _PNG_START + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@cache
def _made_by_hand() -> tuple[tuple[str, bytes], ...]:
    return tuple(_by_hand())


def _by_hand() -> Iterator[tuple[str, bytes]]:
    whole = dict(whole_pictures())
    jpeg, gif, webp, bmp, tiff = (whole[f"0{suffix}"] for suffix in (".jpg", ".gif", ".webp", ".bmp", ".tif"))
    frame = jpeg.index(b"\xff\xc0")
    yield "empty.jpg", b""
    yield "one byte.png", b"\x89"
    yield "text.jpg", b"Dear diary, today I was named .jpg\n"
    yield "nul.gif", bytes(5000)
    yield "program.png", b"\x7fELF\x02\x01\x01" + bytes(200)
    yield "script.bmp", b"#!/bin/sh\nexit 1\n"
    yield "postscript.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    yield "vector.webp", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "pixmap.jpg", b"P6 99999 99999 255\n"
    yield "bomb.png", png_of(30_000, 30_000)
    yield "bomb of no rows.png", png_of(2**31 - 1, 2**31 - 1, rows=0)
    yield "no width.png", png_of(0, 100)
    yield "just too large.png", png_of(13_378, 13_378)
    yield "large and true.png", png_of(6_000, 6_000)
    yield "long.png", png_of(1_000_000, 20)
    yield "cut bomb.png", png_of(8_000, 8_000, colour=6, bit_depth=8, rows=1)
    yield "text bomb.png", _with_text_bomb(png_of(8, 8))
    yield "wide.jpg", jpeg[: frame + 5] + b"\xff\xff\xff\xff" + jpeg[frame + 9 :]
    yield "flat.jpg", jpeg[: frame + 5] + b"\0\0\0\0" + jpeg[frame + 9 :]
    yield "many scans.jpg", _with_many_scans(whole["0-progressive.jpg"])
    yield "wide.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    yield "wide.webp", webp[:26] + b"\xff\x3f\xff\x3f" + webp[30:]
    yield "wide.bmp", bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:]
    yield "upside down.bmp", bmp[:18] + struct.pack("<ii", 40, -(2**31)) + bmp[26:]
    yield "endless.tif", tiff[:4] + struct.pack("<I", 4) + tiff[8:]
    yield "beyond.tif", tiff[:4] + struct.pack("<I", 2**32 - 2) + tiff[8:]
    yield "jpeg.png", jpeg
    yield "gif.jpg", gif
    yield "two in one.jpg", jpeg[: len(jpeg) // 2] + whole["1.png"]
    yield "line\nbreak \u202e ünï.jpg", jpeg[:40]


@cache
def _photos() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))[:3]]


@cache
def _drawings() -> list[Image.Image]:
    sample = runpy.run_path(str(ROOT / "data" / "sample_pictures.py"))
    return [sample["draw_picture"](kind, 0, size=64) for kind in sample["KINDS"][-3:]]


def _with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _with_text_bomb(png: bytes) -> bytes:
    packer = zlib.compressobj(1)
    text = b"".join(packer.compress(bytes(1 << 20)) for _ in range(70)) + packer.flush()
    return png[:33] + _chunk(b"zTXt", b"Comment\0\0" + text) + png[33:]


def _with_many_scans(jpeg: bytes) -> bytes:
    """12,000 pixels square, its last scan 20,000 times: each makes the decoder pass over the whole picture."""
    frame, last, end = jpeg.index(b"\xff\xc2"), jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    tall = jpeg[: frame + 5] + struct.pack(">HH", 12_000, 12_000) + jpeg[frame + 9 : last]
    return tall + jpeg[last:end] * 20_000 + jpeg[end:]


def _with_checksums(png: bytes) -> bytes:
    """The same chunks with checksums that hold, so that a decoder reads on."""
    parts, place = [png[:8]], 8
    while place + 12 <= len(png):
        (size,) = struct.unpack(">I", png[place : place + 4])
        if place + 12 + size > len(png):
            break
        parts.append(_chunk(png[place + 4 : place + 8], png[place + 8 : place + 8 + size]))
        place += 12 + size
    return b"".join(parts) + png[place:]


def _place(rng: random.Random, data: bytearray) -> int:
    """Anywhere; as often near the start, and near the end, where files say how they are laid out."""
    if not data:
        return 0
    near = min(len(data) - 1, int(rng.expovariate(1 / 60)))
    return rng.choice((rng.randrange(len(data)), near, len(data) - 1 - near))


def _flip_bits(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 3, 20)) if data else 0):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _truncate(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    return bytes(data[: _place(rng, data)])


def _cut_out(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    place = _place(rng, data)
    del data[place : place + rng.choice((1, 2, 16, 500))]
    return bytes(data)


def _double(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    place = _place(rng, data)
    part = data[place : place + rng.choice((1, 4, 64, 2000))]
    return bytes(data[:place] + part * rng.choice((2, 2, 50)) + data[place + len(part) :])


def _overwrite(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    place = _place(rng, data)
    part = rng.choice((*_EXTREMES, rng.randbytes(4), rng.randbytes(32), bytes(64)))
    data[place : place + len(part)] = part
    return bytes(data)


def _splice(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    """The head of one file and the tail of another."""
    head, tail = (data, other) if rng.random() < 0.5 else (other, data)
    return bytes(head[: _place(rng, bytearray(head))]) + bytes(tail[_place(rng, bytearray(tail)) :])


_BLOWS = (_flip_bits, _flip_bits, _overwrite, _overwrite, _truncate, _cut_out, _double, _splice)
