"""Vectors that lie as those of a real index do: in topics and groups of relatives, their first numbers the largest.

A picture is a topic, a group within it, and something of its own, each a random direction in which number i varies as
1/√i: the spectrum of a half-whitened projection. Neither topics nor groups are equally large. A query is a further
picture of a group, uncut.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from indexer.catalog import Row
from indexer.searching.pictures import EncodedPicture
from indexer.storage.manifest import WIDTHS

NUM_TOPICS = 2000
_GROUP, _OWN = 0.8, 0.7  # how far a group lies from its topic, and a picture from its group
_SPECTRUM = (1 / np.sqrt(np.arange(1, WIDTHS[-1] + 1))).astype(np.float32)


class NoModel:
    """Stands in for the embedder that made the vectors."""

    name, fingerprint, image_size, token_dim, widths = "synthetic", "5ea1" * 16, 32, 0, WIDTHS


def picture(vector: np.ndarray) -> EncodedPicture:
    """A query that is encoded already."""
    return EncodedPicture(
        vector=vector, dim=128, tokens=None, attention=None, token_places=None, model=NoModel.fingerprint
    )


def row(number: int, dim: int, bucket: int) -> Row:
    """What a catalog could say of a picture."""
    return Row(
        id=f"{number // 1000:04d}/{number:07d}.jpg",
        uri=f"/photos/{number // 1000:04d}/{number:07d}.jpg",
        sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        width=640,
        height=480,
        num_bytes=40_000 + number % 20_000,
        dim=dim,
        bucket=bucket,
        label=f"{number % 1000}",
        columns={},
    )


class Synthetic:
    """`num` pictures in groups of some 20."""

    def __init__(self, num: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.num = num
        self._seed = seed
        self._topics = _directions(rng, NUM_TOPICS)
        self._topic_of_group = (NUM_TOPICS * rng.random(max(1, num // 20)) ** 2).astype(np.int64)

    def blocks(self, size: int = 50_000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Vectors (N, 512) float32, cut at their dims and of unit length, and the dims (N,), some 124 on average."""
        for start in range(0, self.num, size):
            rng = np.random.default_rng((self._seed, 1, start))
            vectors = self._pictures(rng, min(size, self.num - start))
            dims = np.clip(rng.lognormal(np.log(108), 0.55, len(vectors)), 32, WIDTHS[-1]).astype(np.int64)
            vectors[np.arange(WIDTHS[-1]) >= dims[:, None]] = 0
            yield _unit(vectors), dims

    def queries(self, num: int) -> np.ndarray:
        """(num, 512) float32, uncut, of unit length."""
        return _unit(self._pictures(np.random.default_rng((self._seed, 2)), num))

    def rows(self, width: int) -> np.ndarray:
        """All pictures, cut at one width, (num, width) float32 of unit length."""
        rows = np.empty((self.num, width), np.float32)
        for start in range(0, self.num, 50_000):
            part = self._pictures(np.random.default_rng((self._seed, 1, start)), min(50_000, self.num - start))
            rows[start : start + len(part)] = _unit(part[:, :width])
        return rows

    def _pictures(self, rng: np.random.Generator, num: int) -> np.ndarray:
        groups = rng.integers(0, len(self._topic_of_group), num)
        # A group's direction follows from its number: a million of them would not fit into memory.
        codes = np.random.default_rng((self._seed, 3)).standard_normal((4096, WIDTHS[-1])).astype(np.float32)
        group = codes[groups % 4096] * np.where(groups // 4096 % 2, 1, -1)[:, None] + codes[groups // 8192 % 4096]
        group *= _GROUP / np.sqrt(2) * _SPECTRUM
        return self._topics[self._topic_of_group[groups]] + group + _OWN * _directions(rng, num)


def _directions(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.standard_normal((num, WIDTHS[-1]), dtype=np.float32) * _SPECTRUM


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
