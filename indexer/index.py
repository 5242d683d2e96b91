"""The index: make one, open one, add pictures, search them."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer import manifest
from indexer.durable import sole_writer, sync_folder
from indexer.manifest import DTYPES, Manifest, Model
from retrieval.errors import DamagedError, IndexFolderError, MismatchError, UsageError

# Everything else is imported where it is needed: `info` must answer at once, without pyarrow, FAISS or the model.
if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from indexer.buckets import BucketedIndex
    from indexer.catalog import Catalog
    from indexer.ingest import AddReport

WIDTHS = (32, 64, 128, 256, 512)
_LOCK = "lock"
_OWN_NAMES = {"manifest.json", "history", "segments", "deleted", "failures.jsonl", _LOCK}
_SUBTRACT_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A picture that answers a query.

    `score` orders the hits (inner product with the whole query, at most 1); `similarity` is the cosine over the hit's
    own `dim` numbers, 1.0 for the same picture. `columns` are the source's own, as values that JSON knows.
    """

    rank: int
    id: str
    uri: str
    score: float
    similarity: float
    dim: int
    label: str | None
    columns: dict[str, Any]


class _Gallery(NamedTuple):
    """What a search needs: the catalog, and the vectors under the numbers of its rows."""

    catalog: "Catalog"
    buckets: "BucketedIndex"


class Index:
    """An index folder as it was when it was opened or last added to; made with `create`, found again with `open`."""

    def __init__(self, path: Path, state: Manifest, embedder: Any, device: str):
        self.path = path
        self._manifest = state
        self._embedder = embedder
        self._device = device
        self._gallery: _Gallery | None = None

    @classmethod
    def create(
        cls, path: str | Path, embedder: Any, *, widths: Sequence[int] = WIDTHS, dtype: str = "float16"
    ) -> "Index":
        """Make an empty index for the vectors of `embedder`, in a folder that is empty or not there yet.

        `widths` are the lengths of the buckets, rising to the embedder's own last one; `dtype` "float16" or "float32"
        is how vectors are stored. Raises `IndexFolderError` or `UsageError`.
        """
        path, widths = Path(path), tuple(widths)
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1 or widths[-1] != embedder.widths[-1]:
            raise UsageError(f"expected rising widths, the last one {embedder.widths[-1]}, got {widths}")
        if dtype not in DTYPES:
            raise UsageError(f"expected dtype 'float16' or 'float32', got {dtype!r}")
        _refuse_occupied(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IndexFolderError(f"expected to make a folder at {path}, but cannot: {error.strerror}") from None
        with sole_writer(path / _LOCK):
            _refuse_occupied(path)
            model = Model(name=embedder.name, fingerprint=embedder.fingerprint, image_size=embedder.image_size)
            state = Manifest(version=0, model=model, widths=widths, dtype=dtype)
            manifest.publish(path, state)
            sync_folder(path.parent)
        return cls(path, state, embedder, "auto")

    @classmethod
    def open(cls, path: str | Path, embedder: Any = None, *, device: str = "auto") -> "Index":
        """Open an index; `embedder` must be the one it was made with, and is loaded by its name when first needed.

        `device` ("auto", "cpu", "cuda") is where the model and FAISS run. Raises `IndexFolderError` where there is no
        index, `DamagedError` where its manifest is not as it was written, `MismatchError` for another embedder.
        """
        state = manifest.read(Path(path))
        if embedder is not None:
            _refuse_mismatch(Path(path), state.model, embedder)
        return cls(Path(path), state, embedder, device)

    @property
    def embedder(self) -> Any:
        """The embedder, loaded by the name in the manifest where none was given; raises `MismatchError`."""
        if self._embedder is None:
            from retrieval import Embedder

            embedder = Embedder.load(self._manifest.model.name, device=self._device)
            _refuse_mismatch(self.path, self._manifest.model, embedder)
            self._embedder = embedder
        return self._embedder

    def add(
        self,
        *sources: str | Path,
        label_from: str | None = None,
        exclude_dirs: Sequence[str] = (),
        num_workers: int | None = None,
        batch_size: int = 64,
        on_error: str = "skip",
        show_progress_bar: bool = False,
        commit_seconds: float = 20.0,
    ) -> "AddReport":
        """Add what is new in the sources, update what has changed, leave the rest untouched.

        A source is a folder, an image file, a .parquet (image bytes or paths), a .csv (paths) or a .tar (WebDataset);
        `label_from` is "parent" or a column. `num_workers` processes decode (None: one a CPU; 0: this one does).
        What is encoded is committed every `commit_seconds` and at the end, also at an early one, by Ctrl-C for example.
        A picture that cannot be read is reported (`on_error` "skip") or raised as `ImageError` ("stop"). Also raises
        `SourceError`, `UsageError`, `LockedError` while another process adds, `MismatchError`.
        """
        from indexer.ingest import AddConfig, Ingest

        config = AddConfig(
            label_from=label_from,
            exclude_dirs=tuple(exclude_dirs),
            num_workers=num_workers,
            batch_size=batch_size,
            on_error=on_error,
            show_progress_bar=show_progress_bar,
            commit_seconds=commit_seconds,
        )
        with sole_writer(self.path / _LOCK):
            ingest = Ingest(self.path, self.embedder, config)
            try:
                return ingest.run(sources)
            finally:
                self._manifest, self._gallery = ingest.manifest, None

    def search(
        self,
        query: Any,
        *,
        top_k: int = 10,
        subtract: Any = (),
        crop: tuple[int, int, int, int] | None = None,
        where: str | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """The pictures most alike, best first; those of one score by the order in which they were added.

        `query` is a picture (a path or a hit's uri, bytes, a PIL image, an (H, W, 3) uint8 array) or a list of them,
        searched by their mean; likeness to the pictures of `subtract` counts against a hit. `crop` (x, y, width,
        height) in pixels of the upright query keeps that part of it. `where` is an SQL condition over the catalog's
        columns. Hits that score below `min_score` are dropped. Raises `ImageError`, `UsageError`, `DamagedError`.
        """
        import numpy as np

        gallery = self._open_gallery()
        allowed = None if where is None else gallery.catalog.where(where)
        vector = self._query_vector(query, subtract, crop)
        scores, numbers = gallery.buckets.search(vector[None], top_k, allowed=allowed)
        # Lengths of all the prefixes of the query at once.
        lengths = np.sqrt(np.cumsum(vector.astype(np.float64) ** 2))
        hits = []
        for score, number in zip(scores[0].tolist(), numbers[0].tolist(), strict=True):
            if min_score is None or score >= min_score:
                hits.append(_hit(len(hits) + 1, score, gallery.catalog.row(number), lengths))
        return hits

    def info(self) -> dict[str, Any]:
        """What the index holds, from its manifest alone; `size_bytes` is that of all files which the manifest names."""
        state = self._manifest
        size = sum(file.size for _, file in state.files())
        return {
            "images": state.num_images,
            "segments": len(state.segments),
            "mean_dim": state.sum_dims / state.num_images if state.num_images else 0.0,
            "bytes_per_image": size / state.num_images if state.num_images else 0.0,
            "buckets": {str(width): num for width, num in state.buckets.items()},
            "model": state.model.name,
            "size_bytes": size,
        }

    def verify(self) -> list[str]:
        """Read every file of the index as it is now: a line for each that is not as it was written."""
        return list(_problems(self.path))

    def catalog(self) -> "pd.DataFrame":
        """One row an image: id, uri, sha256, width, height, bytes, dim, bucket, label, and the sources' own columns."""
        return self._open_gallery().catalog.live_rows().to_pandas()

    def read_image(self, uri: str) -> bytes:
        """The bytes of the picture that a hit's `uri` names; raises `ImageError` where it is gone."""
        from indexer import corpus

        return corpus.read_image(uri)

    def _open_gallery(self) -> _Gallery:
        if self._gallery is None:
            self._gallery = _load_gallery(self.path, self._manifest, self._device)
        return self._gallery

    def _query_vector(self, query: Any, subtract: Any, crop: tuple[int, int, int, int] | None) -> "np.ndarray":
        import numpy as np

        liked, disliked = _as_list(query), _as_list(subtract)
        if not liked or (crop is not None and len(liked) != 1):
            raise UsageError(f"expected a query, or several without crop, got {len(liked)} with crop={crop}")
        size = self.embedder.image_size
        pixels = [_read_picture(liked[0], size, crop)] + [_read_picture(each, size) for each in liked[1:] + disliked]
        full = self.embedder.encode_pixels(np.stack(pixels)).full
        vector = full[: len(liked)].mean(axis=0)
        if disliked:
            vector = vector - _SUBTRACT_WEIGHT * full[len(liked) :].mean(axis=0)
        length = np.linalg.norm(vector)
        if length < 1e-6:
            raise UsageError("expected queries that leave something to look for, got ones that cancel each other out")
        return (vector / length).astype(np.float32)


def _load_gallery(path: Path, state: Manifest, device: str) -> _Gallery:
    import numpy as np

    from indexer import catalog, segments
    from indexer.buckets import BucketedIndex

    buckets = BucketedIndex(state.widths, dtype=state.dtype, device=device)
    tables, lives, first = [], [], 0
    for segment in segments.read(path, state):
        table = segment.table()
        live = segment.live(table)
        bucket_of_row = table["bucket"].to_numpy()
        for width in segment.record.rows.buckets:
            (rows,) = np.nonzero(bucket_of_row == width)
            vectors, kept = segment.vectors(width), live[rows]
            try:
                buckets.add_rows(first + rows[kept], vectors if kept.all() else vectors[kept], width)
            except UsageError as error:
                where = f"vectors of width {width} in {segment.home}"
                raise DamagedError(f"expected sound {where}, got: {error}; `verify` lists what is damaged") from None
        tables.append(table)
        lives.append(live)
        first += len(live)
    live = np.concatenate(lives) if lives else np.zeros(0, dtype=bool)
    return _Gallery(catalog.Catalog(catalog.join(tables), live), buckets)


def _read_picture(picture: Any, image_size: int, crop: tuple[int, int, int, int] | None = None) -> "np.ndarray":
    """A path or uri, bytes, a PIL image or an (H, W, 3) uint8 array, as (image_size, image_size, 3) pixels."""
    from indexer.corpus import read_image
    from retrieval.images import read_pixels

    if isinstance(picture, str | os.PathLike):
        picture = read_image(os.fspath(picture))
    if crop is None:
        return read_pixels(picture, image_size)
    pixels = read_pixels(picture, None)
    x, y, width, height = crop
    bottom, right = pixels.shape[:2]
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > right or y + height > bottom:
        raise UsageError(f"expected a crop x,y,width,height inside of {right}x{bottom} pixels, got {crop}")
    return read_pixels(pixels[y : y + height, x : x + width], image_size)


def _as_list(pictures: Any) -> list:
    return list(pictures) if isinstance(pictures, list | tuple) else [pictures]


def _hit(rank: int, score: float, row: dict[str, Any], lengths: "np.ndarray") -> Hit:
    from indexer.catalog import SCHEMA

    length = float(lengths[row["dim"] - 1])
    return Hit(
        rank=rank,
        id=row["id"],
        uri=row["uri"],
        score=score,
        # Vectors stored as float16 may come out a trifle too long.
        similarity=max(-1.0, min(1.0, score / length)) if length > 0 else 0.0,
        dim=row["dim"],
        label=row["label"],
        columns={name: _plain(value) for name, value in row.items() if name not in SCHEMA.names},
    )


def _plain(value: Any) -> Any:
    """A value as JSON knows it: dates, durations and decimals as text, what is no number as None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _problems(path: Path) -> Iterator[str]:
    from indexer import segments

    try:
        state = manifest.read(path)
    except DamagedError as error:
        yield str(error)
        return
    yield from manifest.history_problems(path, state)
    yield from segments.verify(path, state)


def _refuse_occupied(path: Path) -> None:
    if manifest.exists(path):
        raise IndexFolderError(f"expected no index at {path} yet, found one; open it, or choose another folder")
    if path.exists() and not path.is_dir():
        raise IndexFolderError(f"expected a folder at {path}, found a file; choose another path")
    # What a creation that was cut short has left is ours.
    foreign = {entry.name.removeprefix(".").removesuffix(".new") for entry in _entries(path)} - _OWN_NAMES
    if foreign:
        raise IndexFolderError(f"expected {path} to be empty, found {min(foreign)!r} in it; choose another folder")


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.exists() else []


def _refuse_mismatch(path: Path, model: Model, embedder: Any) -> None:
    if embedder.fingerprint != model.fingerprint:
        made, given = f"{model.name} ({model.fingerprint[:12]})", f"{embedder.name} ({embedder.fingerprint[:12]})"
        raise MismatchError(
            f"expected the model that {path} was built with, {made}, got {given}; use that one, or index anew"
        )
