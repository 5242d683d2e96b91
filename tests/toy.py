"""Stand-ins without torch: a model that is fast and deterministic, and pictures that it can tell apart."""

import io
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image


class ToyEmbedder:
    """An 8×8 thumbnail through a fixed random projection; the more a picture varies, the more dims it gets.

    Tokens are the contrasts within each sixteenth of the thumbnail, the strongest first; `token_dim=0` is a model
    without. `encoded` counts the pictures; `seconds_per_image` slows it down to the pace of a model.
    """

    name = "toy"
    image_size = 32
    widths = (32, 64, 128, 256, 512)
    min_dim, max_dim = 32, 512

    def __init__(self, *, fingerprint: str = "f00d" * 16, seconds_per_image: float = 0.0, token_dim: int = 12):
        self.fingerprint = fingerprint
        self.token_dim = token_dim
        self.seconds_per_image = seconds_per_image
        self.encoded = 0
        self._projection = np.random.default_rng(0).normal(size=(192, 512)).astype(np.float32)

    def encode_pixels(self, pixels: np.ndarray, *, token_bytes: int = 1024) -> SimpleNamespace:
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == (32, 32, 3)
        self.encoded += len(pixels)
        time.sleep(self.seconds_per_image * len(pixels))
        thumbnails = pixels.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(pixels), 192)
        full = ((thumbnails - 127.3) @ self._projection).astype(np.float32)
        full /= np.linalg.norm(full, axis=1, keepdims=True)
        dims = np.clip(32 + (6 * thumbnails.std(axis=1)).astype(np.int64), self.min_dim, self.max_dim)
        vectors = np.where(np.arange(512) < dims[:, None], full, 0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        tokens = self._tokens(thumbnails, dims, token_bytes) if self.token_dim and token_bytes else {}
        without = {"attention": np.full((len(pixels), 4, 4), 1 / 16, np.float32), "tokens": None, "token_places": None}
        return SimpleNamespace(vectors=vectors, full=full, dims=dims, **without | tokens)

    def _tokens(self, thumbnails: np.ndarray, dims: np.ndarray, token_bytes: int) -> dict:
        from retrieval.tokens import Tokens  # imports torch, which a toy without tokens does not need

        parts = thumbnails.reshape(-1, 4, 2, 4, 2, 3).swapaxes(2, 3).reshape(len(dims), 16, 12)[:, :, : self.token_dim]
        parts = parts - 127.3
        order = np.argsort(-np.linalg.norm(parts, axis=2), axis=1, kind="stable")
        counts = np.minimum(token_bytes // self.token_dim, 1 + dims // 32).clip(1, 16)
        places = np.concatenate([row[:count] for row, count in zip(order, counts, strict=True)])
        chosen = parts[np.repeat(np.arange(len(dims)), counts), places]
        values = np.rint(127 * chosen / np.abs(chosen).max(axis=1, keepdims=True)).astype(np.int8)
        return {"tokens": Tokens(values=values, counts=counts), "token_places": places.astype(np.int64)}


def pixels_of(seed: int) -> np.ndarray:
    """(64, 64, 3) uint8: 8×8 blocks of random colours, of a random contrast."""
    rng = np.random.default_rng(seed)
    blocks = 127 + rng.uniform(0.1, 1.0) * rng.uniform(-127, 127, size=(8, 8, 3))
    return blocks.round().astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200), "grey": (128, 128, 128)}


def coloured(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """Soft random shapes around a colour, 40×40: no two alike."""
    coarse = np.random.default_rng((seed, *colour)).integers(-60, 60, (4 + seed, 5, 3))
    pixels = (np.array(colour) + coarse).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC)


def write_coloured(root: Path, num_each: int) -> Path:
    """A folder of `<colour>/<number>.png`, for each of `COLOURS`."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(num_each):
            coloured(colour, number).save(root / name / f"{number}.png")
    return root


def png(seed: int) -> bytes:
    """A picture as a PNG file's bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels_of(seed)).save(file, "PNG")
    return file.getvalue()


def write_pngs(folder: Path, seeds: range) -> Path:
    """A folder of `<seed>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:03d}.png").write_bytes(png(seed))
    return folder


def flip_byte(path: Path, position: int) -> None:
    """Damage one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    path.write_bytes(data)
