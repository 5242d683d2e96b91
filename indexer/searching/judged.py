"""The judgments of an index as vectors, for what a ranker reads of them (`retrieval.reranking.feedback_features`)."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indexer import feedback
from indexer.searching.gallery import Gallery
from retrieval.images import read_pixels
from retrieval.reranking.feedback_features import Judgments

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 64  # pictures encoded at once


class JudgedVectors:
    """What users have judged in the index `folder`, read when first asked for and whenever files of it come or go."""

    def __init__(self, folder: Path, gallery: Gallery, embedder: Any):
        self._folder = folder
        self._gallery = gallery
        self._embedder = embedder
        self._files: frozenset[str] = frozenset()
        self._users: frozenset[str] = frozenset()
        self._of_user: dict[str, Judgments | None] = {}
        self._encoded: dict[bytes, np.ndarray] = {}

    def of(self, user: str) -> Judgments | None:
        """The judgments of one user that stand and can be used, None without any; raises `DamagedError`."""
        files = frozenset(path.name for path in feedback.files(self._folder))
        if files != self._files:
            users = frozenset(feedback.read(self._folder)["user"])
            self._files, self._users, self._of_user = files, users, {}
        if user not in self._users:  # anybody may ask a service under any name
            return None
        if user not in self._of_user:
            said = feedback.latest(feedback.read(self._folder))
            self._of_user[user] = judgments_of(said[said["user"] == user], self._gallery, self._embedder, self._encoded)
        return self._of_user[user]


def judgments_of(
    said: "pd.DataFrame", gallery: Gallery, embedder: Any, encoded: dict[bytes, np.ndarray]
) -> Judgments | None:
    """Judgments, as `feedback.read` gives them, of images that the gallery holds, for queries whose vector can be had.

    A query that is an image of the gallery has the stored vector, which is cut; another one that of its picture.
    `encoded` keeps the vectors of pictures, by the sha256 of their bytes, from one call to the next. None if there are
    no such judgments.
    """
    number_of = gallery.find({*said["query"], *said["image"]})
    is_held = said["query"].isin(number_of)
    usable = said["image"].isin(number_of) & (is_held | said["query_image"].notna())
    said, is_held = said[usable], is_held[usable].to_numpy()
    if said.empty:
        return None
    rows = np.array([number_of[image] for image in said["image"]], dtype=np.int64)
    vectors = gallery.vectors(rows)
    queries = np.zeros_like(vectors)
    queries[is_held] = gallery.vectors(np.array([number_of[query] for query in said["query"][is_held]], dtype=np.int64))
    pictures = said["query_image"][~is_held].tolist()
    if pictures:
        queries[~is_held] = _encode(pictures, embedder, encoded)
    return Judgments(
        queries=torch.from_numpy(queries),
        rows=torch.from_numpy(rows),
        vectors=torch.from_numpy(vectors),
        relevant=torch.tensor(said["relevant"].tolist(), dtype=torch.bool),
    )


def _encode(pictures: list[bytes], embedder: Any, encoded: dict[bytes, np.ndarray]) -> np.ndarray:
    """(N, D) uncut; each picture is encoded but once."""
    names = [hashlib.sha256(picture).digest() for picture in pictures]
    new = {name: picture for name, picture in zip(names, pictures, strict=True) if name not in encoded}
    for start in range(0, len(new), _BATCH):
        some = list(new.items())[start : start + _BATCH]
        pixels = np.stack([read_pixels(picture, embedder.image_size) for _, picture in some])
        full = embedder.encode_pixels(pixels, token_bytes=0).full
        encoded |= {name: vector for (name, _), vector in zip(some, full, strict=True)}
    return np.stack([encoded[name] for name in names])
