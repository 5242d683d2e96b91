"""Damage to one file of an index folder: whatever disks, programs and people do to files; the same again for a seed."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mutations import mutated


class Damage(NamedTuple):
    """What was done, and the files that are not as they were, relative to the index folder."""

    kind: str
    names: tuple[str, ...]


def damage(folder: Path, seed: int) -> Damage:
    """Damage the index in `folder`, one way of many."""
    rng = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    while True:
        path = rng.choice(files)
        kind = rng.choice(sorted(_KINDS))
        touched = _KINDS[kind](rng, path, files)
        if touched:
            return Damage(kind, tuple(str(path.relative_to(folder)) for path in touched))


def _mutate(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    data = path.read_bytes()
    if not data:
        return []
    path.write_bytes(mutated(data, rng.getrandbits(32), other=rng.choice(files).read_bytes()))
    return [path]


def _flip(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    data = bytearray(path.read_bytes())
    if not data:
        return []
    # Often near an end: what a file says of itself is there.
    start, stop = rng.choice(((0, len(data)), (0, 128), (len(data) - 600, len(data)), (len(data) - 64, len(data))))
    data[rng.randrange(max(start, 0), min(stop, len(data)))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return [path]


def _truncate(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    size = path.stat().st_size
    if not size:
        return []
    os.truncate(path, rng.choice((0, size // 2, size - 1, rng.randrange(size))))
    return [path]


def _lengthen(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    os.truncate(path, path.stat().st_size + rng.choice((1, 64, 4096)))
    return [path]


def _remove(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    path.unlink()
    return [path]


def _swap(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    """With another file of its kind."""
    others = [other for other in files if other.suffix == path.suffix and other.read_bytes() != path.read_bytes()]
    if not others:
        return []
    other = rng.choice(others)
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)
    return [path, other]


def _folder_instead(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    path.unlink()
    path.mkdir()
    return [path]


def _link_instead(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    """To nothing, to itself, to a folder, to what is always empty."""
    path.unlink()
    path.symlink_to(rng.choice(("nothing", path.name, "..", "/dev/null")))
    return [path]


def _remove_folder(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    gone = [other for other in files if other.is_relative_to(path.parent)]
    if path.name in ("manifest.json", "lock", "failures.jsonl"):
        return []
    shutil.rmtree(path.parent)
    return gone


def _edit_json(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    """One number or text in it is another, and the checksum fits again."""
    if path.suffix != ".json":
        return []
    content = json.loads(path.read_bytes())
    holder, key = rng.choice([*_scalars(content)])
    value = holder[key]
    near = [value + 1, value * 2 + 1, -1, 2**40] if isinstance(value, int) else [f"{value}x", "../../x", "", "0" * 64]
    holder[key] = rng.choice([*near, None, [], 1.5])
    content.pop("checksum", None)
    checksum = hashlib.sha256(_dump(content)).hexdigest()
    path.write_bytes(_dump({**content, "checksum": checksum}))
    return [path]


def _edit_header(rng: random.Random, path: Path, files: list[Path]) -> list[Path]:
    """The head of an array says another shape, type or order."""
    if path.suffix != ".npy":
        return []
    data = path.read_bytes()
    end = data.index(b"\n")
    head = data[:end]
    digits = [place for place in range(10, end) if head[place : place + 1].isdigit()]
    place = rng.choice(digits)
    edits = (
        head[:place] + b"%d" % rng.randrange(10) + head[place + 1 :],
        head.replace(b"<f2", rng.choice((b"<f4", b"<f8", b"<i2", b"|O8", b"|V2"))),
        head.replace(b"|i1", rng.choice((b"|u1", b"|S1", b"|b1"))),
        head.replace(b"False", b"True "),
        head.replace(b"(", b"(-", 1)[: len(head)],
    )
    edited = rng.choice(edits)
    path.write_bytes(edited + data[end:])
    return [path] if edited != head else []


def _dump(content: dict) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"


def _scalars(content: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, dict | list):
            yield from _scalars(value)
        elif key != "checksum":
            yield content, key


_KINDS = {
    "mutated": _mutate,
    "flipped": _flip,
    "truncated": _truncate,
    "lengthened": _lengthen,
    "removed": _remove,
    "swapped": _swap,
    "a folder instead": _folder_instead,
    "a link instead": _link_instead,
    "a folder removed": _remove_folder,
    "edited": _edit_json,
    "another header": _edit_header,
}
