"""How well embeddings find images of the same class, beside fixed lengths and raw pixels, in one table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.errors import UsageError
from retrieval.metrics import RetrievalMetrics, retrieval_metrics

_KS = (1, 5, 10)
_NUM_RESAMPLES = 1000
_BYTES_PER_NUMBER = 2  # stored as float16


class CutEmbeddings(Protocol):
    """What `evaluate` reads of `retrieval.Embeddings`."""

    vectors: np.ndarray
    full: np.ndarray
    dims: np.ndarray


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One way to store the images: what it finds, in percent, and what it costs.

    The intervals are 95 % bootstrap intervals over the queries. `mean_dim` and `std_dim` are of the numbers that an
    image keeps, `bytes_per_vector` of the numbers that its bucket stores, in float16.
    """

    name: str
    recall: dict[int, float]
    map_at_r: float
    recall_at_1_interval: tuple[float, float]
    map_at_r_interval: tuple[float, float]
    mean_dim: float
    std_dim: float
    bytes_per_vector: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The rows of the comparison, and the share (0..1) of the images that lie in the bucket of each width.

    `num_left_out` of the images are alone in their class: they are in the gallery, but ask no query.
    """

    rows: tuple[EvaluationRow, ...]
    bucket_shares: dict[int, float]
    num_images: int
    num_classes: int
    num_left_out: int

    def to_dict(self) -> dict:
        """The same as plain dicts, lists, strings and numbers, for JSON."""
        return {
            "images": self.num_images,
            "classes": self.num_classes,
            "left_out": self.num_left_out,
            "rows": [
                {
                    "name": row.name,
                    **{f"recall@{k}": value for k, value in row.recall.items()},
                    "recall@1_interval": list(row.recall_at_1_interval),
                    "map@r": row.map_at_r,
                    "map@r_interval": list(row.map_at_r_interval),
                    "mean_dim": row.mean_dim,
                    "std_dim": row.std_dim,
                    "bytes_per_vector": row.bytes_per_vector,
                }
                for row in self.rows
            ],
            "buckets": {str(width): share for width, share in self.bucket_shares.items()},
        }

    def table(self) -> str:
        """The same as text: a line a row, the columns aligned, the buckets below."""
        lines = [("", *(f"R@{k}" for k in _KS), "mAP@R", "R@1 95 %", "mAP@R 95 %", "mean dim", "std dim", "bytes")]
        for row in self.rows:
            shares = (*row.recall.values(), row.map_at_r)
            intervals = (f"{low:.1f}-{high:.1f}" for low, high in (row.recall_at_1_interval, row.map_at_r_interval))
            costs = (f"{row.mean_dim:.1f}", f"{row.std_dim:.1f}", f"{row.bytes_per_vector:.0f}")
            lines.append((row.name, *(f"{share:.1f}" for share in shares), *intervals, *costs))
        column_widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.rjust(width) if position else cell.ljust(width)
                for position, (cell, width) in enumerate(zip(line, column_widths, strict=True))
            )
            for line in lines
        ]
        buckets = ", ".join(f"{width}: {100 * share:.1f} %" for width, share in self.bucket_shares.items())
        left_out = f"; {self.num_left_out:,} alone in their class, not asked for" if self.num_left_out else ""
        text += ["", f"{self.num_images:,} images of {self.num_classes:,} classes{left_out}", f"buckets  {buckets}"]
        return "\n".join(text)


def evaluate(
    embeddings: CutEmbeddings,
    labels: Sequence[str],
    *,
    pixels: np.ndarray | None = None,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
) -> Evaluation:
    """Hold each image against all others, as the embedder cut them, at fixed lengths, and as raw pixels.

    `embeddings` has `vectors` (N, D), `full` (N, D) and `dims` (N,) as `Embedder.encode` gives them; `labels` (N,);
    `pixels` optional (N, P) float, such as thumbnails of 32×32×3; `widths` ascending, the last one D at most and no
    smaller than any dim. The query is `full` throughout. The gallery is `vectors` ("adaptive"), a prefix of `full` that
    is L2-normalised at its own length ("fixed 32" ...), or the pixels less each image's mean, L2-normalised, which are
    their own queries. Raises `UsageError`.
    """
    vectors, full, dims = (np.asarray(array) for array in (embeddings.vectors, embeddings.full, embeddings.dims))
    widths = tuple(widths)
    if vectors.shape != full.shape or full.ndim != 2 or dims.shape != full.shape[:1] or len(labels) != len(full):
        raise UsageError(
            f"expected vectors and full (N, D) with N dims and labels, got {vectors.shape}, {full.shape}, "
            f"{dims.shape} and {len(labels)} labels; align them"
        )
    if not widths or list(widths) != sorted(set(widths)) or not 1 <= widths[0] <= widths[-1] <= full.shape[1]:
        raise UsageError(f"expected ascending widths in 1..{full.shape[1]}, got {widths}; choose lengths of a prefix")
    if dims.min(initial=1) < 1 or dims.max(initial=1) > widths[-1]:
        raise UsageError(
            f"expected dims in 1..{widths[-1]}, got {dims.min()}..{dims.max()}; add a width that holds them"
        )
    if pixels is not None and (np.ndim(pixels) != 2 or len(pixels) != len(full)):
        raise UsageError(f"expected pixels ({len(full)}, P), got {np.shape(pixels)}; flatten one thumbnail an image")

    width_of_image = np.asarray(widths)[np.searchsorted(widths, dims)]
    names, metrics, kept, stored = [], [], [], []
    for name, queries, gallery, numbers_kept, numbers_stored in _rankings(
        vectors, full, dims, width_of_image, pixels, widths
    ):
        names.append(name)
        metrics.append(retrieval_metrics(queries, gallery, labels, labels, exclude_self=True, ks=_KS))
        kept.append(numbers_kept)
        stored.append(numbers_stored)
    intervals = _bootstrap(metrics)
    rows = tuple(
        EvaluationRow(
            name=name,
            recall={k: found.recall_at(k) for k in _KS},
            map_at_r=found.map_at_r,
            recall_at_1_interval=recall_interval,
            map_at_r_interval=map_interval,
            mean_dim=float(np.mean(numbers_kept)),
            std_dim=float(np.std(numbers_kept)),
            bytes_per_vector=_BYTES_PER_NUMBER * float(np.mean(numbers_stored)),
        )
        for name, found, numbers_kept, numbers_stored, (recall_interval, map_interval) in zip(
            names, metrics, kept, stored, intervals, strict=True
        )
    )
    return Evaluation(
        rows=rows,
        bucket_shares={width: float(np.mean(width_of_image == width)) for width in widths},
        num_images=len(full),
        num_classes=len(set(labels)),
        num_left_out=metrics[0].num_left_out,
    )


def _rankings(vectors, full, dims, width_of_image, pixels, widths) -> Iterator[tuple]:
    """Name, queries, gallery, numbers kept an image and numbers stored an image, for each row of the table."""
    yield "adaptive", full, vectors, dims, width_of_image
    for width in widths:
        # The gallery is zero beyond the prefix, so the rest of the query meets nothing.
        yield f"fixed {width}", full[:, :width], _unit(full[:, :width]), width, width
    if pixels is not None:
        thumbnails = np.asarray(pixels, dtype=np.float32)
        thumbnails = _unit(thumbnails - thumbnails.mean(axis=1, keepdims=True))
        side = round((thumbnails.shape[1] / 3) ** 0.5)
        size = f"{side}x{side}" if 3 * side * side == thumbnails.shape[1] else str(thumbnails.shape[1])
        yield f"raw pixels {size}", thumbnails, thumbnails, thumbnails.shape[1], thumbnails.shape[1]


def _unit(rows: np.ndarray) -> np.ndarray:
    # A picture of one colour has no direction: it stays at zero.
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _bootstrap(metrics: list[RetrievalMetrics]) -> list[list[tuple[float, float]]]:
    """95 % intervals in percent, low and high: for each row that of Recall@1 and that of mAP@R.

    All rows meet the same resamples, so their differences may be read off as well.
    """
    values = np.stack([(row.recall[1], row.average_precision_at_r) for row in metrics]).astype(np.float64)
    num_queries = values.shape[-1]
    rng = np.random.default_rng(0)
    means = [
        values @ np.bincount(rng.integers(num_queries, size=num_queries), minlength=num_queries) / num_queries
        for _ in range(_NUM_RESAMPLES)
    ]
    low, high = 100 * np.percentile(means, (2.5, 97.5), axis=0)
    return [[tuple(interval) for interval in row] for row in np.stack([low, high], axis=-1).tolist()]
