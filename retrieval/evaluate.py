"""How well adaptive lengths find images, beside fixed ones, other ways to choose lengths, and raw pixels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.errors import UsageError
from retrieval.measuring.evaluation_table import WITH_INTERVALS, Evaluation, EvaluationRow
from retrieval.measuring.oracle_dims import oracle_dims
from retrieval.measuring.ranking import as_classes
from retrieval.measuring.rival_dims import cut, energy_dims, random_dims, unit
from retrieval.measuring.statistics import interval, resampled_means, spearman
from retrieval.metrics import instance_ranks, retrieval_metrics

__all__ = ["CutEmbeddings", "Evaluation", "EvaluationRow", "evaluate"]

_KS = (1, 5, 10)
_BYTES_PER_NUMBER = 2  # stored as float16


class CutEmbeddings(Protocol):
    """What `evaluate` reads of `retrieval.Embeddings`."""

    vectors: np.ndarray
    full: np.ndarray
    dims: np.ndarray


def evaluate(
    embeddings: CutEmbeddings,
    labels: Sequence[str | None] | None,
    *,
    pixels: np.ndarray | None = None,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    complexity: dict[str, np.ndarray] | None = None,
    distorted: CutEmbeddings | None = None,
    oracle: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Hold each image against all others by class, and its distorted copy against all images, one row a storage.

    `embeddings` has `vectors` (N, D), `full` (N, D) and `dims` (N,) as `Embedder.encode` gives them; `labels` (N,),
    None where unknown; `pixels` optional (N, P) float, such as thumbnails of 32×32×3; `widths` ascending, the last one
    D at most and no smaller than any dim; `complexity` measures (N,) to correlate `dims` with; `distorted`, whose row i
    is of a distorted copy of picture i, adds how often a copy finds its original first, `instance_recall@1`. Without
    labels that two images share that is all that is measured. Raises `UsageError`.

    The query is `full` throughout. The gallery is, row by row, `vectors` ("adaptive"); prefixes of `full` of one
    length, of each width and of adaptive's mean; prefixes whose dims are adaptive's dealt out at random (the mean over
    three deals, from `seed`), or follow from the energy that an image keeps, at adaptive's mean; with `oracle`, also
    dims chosen with the answers known (`retrieval.measuring.oracle_dims`), for each of the two tasks. Every prefix is
    L2-normalised at its own length. The last row is the pixels less each image's mean, L2-normalised, which are their
    own queries, by class alone.
    """
    widths = tuple(widths)
    _check(embeddings, labels, pixels, widths, complexity or {}, distorted)
    num_images = len(embeddings.full)
    classes = np.full(num_images, -1) if labels is None else as_classes(labels, labels, num_images, num_images)[0]
    has_company = np.bincount(classes[classes >= 0], minlength=1).max() > 1
    asked = classes if has_company else None
    if not has_company and distorted is None:
        raise UsageError(
            "expected a label that two images share, or distorted copies that look for their originals, got neither; "
            "check the labels"
        )
    storages, measured = [], []
    for storage in _storages(embeddings, asked, pixels, widths, distorted, oracle, seed):
        storages.append(storage)
        measured.append(_measure(storage, embeddings.full, asked, distorted))
    return Evaluation(
        rows=_rows(storages, measured),
        bucket_shares={width: float(np.mean(_width_of(embeddings.dims, widths) == width)) for width in widths},
        num_images=num_images,
        num_classes=int(classes.max(initial=-1)) + 1,
        num_left_out=num_images - (len(measured[0]["recall@1"]) if has_company else 0),
        correlations={name: spearman(embeddings.dims, values) for name, values in (complexity or {}).items()},
    )


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """One way to store the images; the mean over several galleries where chance is in it.

    `kept` and `stored` are numbers an image, (N,) or one for all; queries are prefixes of the uncut ones unless given.
    """

    name: str
    kind: str
    galleries: Iterable[np.ndarray]
    kept: np.ndarray | int
    stored: np.ndarray | int
    queries: np.ndarray | None = None


def _storages(embeddings, classes, pixels, widths, distorted, oracle, seed) -> Iterator[_Storage]:
    full, dims = embeddings.full, embeddings.dims
    mean = float(dims.mean())
    # The rivals may use the whole range that the model has, whether or not it does.
    ends = {"mean": mean, "lowest": int(min(widths[0], dims.min())), "highest": widths[-1]}

    def chosen(name: str, kind: str, *choices: np.ndarray) -> _Storage:
        galleries = (cut(full, choice) for choice in choices)
        return _Storage(
            name=name, kind=kind, galleries=galleries, kept=choices[0], stored=_width_of(choices[0], widths)
        )

    yield _Storage(
        name="adaptive", kind="adaptive", galleries=[embeddings.vectors], kept=dims, stored=_width_of(dims, widths)
    )
    lengths = {f"fixed {width}": width for width in widths} | {f"fixed at mean {round(mean)}": round(mean)}
    for name, length in lengths.items():
        # The gallery is zero beyond the prefix, so the rest of the query meets nothing.
        yield _Storage(name=name, kind="fixed", galleries=[unit(full[:, :length])], kept=length, stored=length)
    yield chosen("random dims", "random", *random_dims(dims, seed=seed))
    yield chosen("energy dims", "energy", energy_dims(full, **ends))
    if oracle and classes is not None:
        yield chosen("oracle dims", "oracle", oracle_dims(full, full, classes, classes, **ends, exclude_self=True))
    if oracle and distorted is not None:
        each = np.arange(len(full))
        found = oracle_dims(distorted.full, full, each, each, **ends, exclude_self=False)
        yield chosen("instance oracle dims", "oracle", found)
    if pixels is not None and classes is not None:
        thumbnails = np.asarray(pixels, dtype=np.float32)
        thumbnails = unit(thumbnails - thumbnails.mean(axis=1, keepdims=True))
        num = thumbnails.shape[1]
        side = round((num / 3) ** 0.5)
        name = f"raw pixels {side}x{side}" if 3 * side * side == num else f"raw pixels {num}"
        yield _Storage(name=name, kind="pixels", galleries=[thumbnails], kept=num, stored=num, queries=thumbnails)


def _measure(storage: _Storage, full, classes, distorted) -> dict[str, np.ndarray]:
    """What each query finds, 0..1: (A,) for the A images that ask by class, (N,) for the distorted copies."""
    found = []
    for gallery in storage.galleries:
        found.append({})
        length = gallery.shape[1]
        if classes is not None:
            queries = full[:, :length] if storage.queries is None else storage.queries
            labels = np.where(classes >= 0, classes.astype(object), None)
            metrics = retrieval_metrics(queries, gallery, labels, labels, exclude_self=True, ks=_KS)
            found[-1] |= {f"recall@{k}": is_found for k, is_found in metrics.recall.items()} | {
                "map@r": metrics.average_precision_at_r,
                "map@100": metrics.average_precision_at_100,
                "ndcg@100": metrics.ndcg_at_100,
                "mrr": 1 / metrics.first_rank,
            }
        if distorted is not None and storage.queries is None:
            ranks = instance_ranks(distorted.full[:, :length], gallery, np.arange(len(full)))
            found[-1]["instance_recall@1"] = ranks == 1
    return {name: np.mean([values[name] for values in found], axis=0) for name in found[0]}


def _rows(storages: list[_Storage], measured: list[dict[str, np.ndarray]]) -> tuple[EvaluationRow, ...]:
    intervals, leads = [{} for _ in storages], [{} for _ in storages]
    for name in WITH_INTERVALS:
        having = [place for place, values in enumerate(measured) if name in values]
        if not having:
            continue
        means_SV = 100 * resampled_means(np.stack([measured[place][name] for place in having]))
        for column, place in enumerate(having):
            intervals[place][name] = interval(means_SV[:, column])
            if place > 0:
                leads[place][name] = interval(means_SV[:, 0] - means_SV[:, column])
    return tuple(
        EvaluationRow(
            name=storage.name,
            kind=storage.kind,
            measures={name: 100 * float(found.mean()) for name, found in values.items()},
            intervals=interval_of,
            adaptive_lead=lead,
            mean_dim=float(np.mean(storage.kept)),
            std_dim=float(np.std(storage.kept)),
            bytes_per_vector=_BYTES_PER_NUMBER * float(np.mean(storage.stored)),
        )
        for storage, values, interval_of, lead in zip(storages, measured, intervals, leads, strict=True)
    )


def _width_of(dims: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """(N,): the smallest width that holds each."""
    return np.asarray(widths)[np.searchsorted(widths, dims)]


def _check(embeddings, labels, pixels, widths, complexity, distorted) -> None:
    full, dims = embeddings.full, embeddings.dims
    num_labels = len(full) if labels is None else len(labels)
    if (
        embeddings.vectors.shape != full.shape
        or full.ndim != 2
        or dims.shape != full.shape[:1]
        or num_labels != len(full)
    ):
        raise UsageError(
            f"expected vectors and full (N, D) with N dims and labels, got {embeddings.vectors.shape}, {full.shape}, "
            f"{dims.shape} and {num_labels} labels; align them"
        )
    if not widths or list(widths) != sorted(set(widths)) or not 1 <= widths[0] <= widths[-1] <= full.shape[1]:
        raise UsageError(f"expected ascending widths in 1..{full.shape[1]}, got {widths}; choose lengths of a prefix")
    if dims.min(initial=1) < 1 or dims.max(initial=1) > widths[-1]:
        raise UsageError(
            f"expected dims in 1..{widths[-1]}, got {dims.min()}..{dims.max()}; add a width that holds them"
        )
    if pixels is not None and (np.ndim(pixels) != 2 or len(pixels) != len(full)):
        raise UsageError(f"expected pixels ({len(full)}, P), got {np.shape(pixels)}; flatten one thumbnail an image")
    for name, values in complexity.items():
        if np.shape(values) != dims.shape:
            raise UsageError(f"expected {name} of each of {len(full)} images, got {np.shape(values)}; align them")
    if distorted is not None and distorted.full.shape != full.shape:
        raise UsageError(
            f"expected a distorted copy of each image, {full.shape}, got {distorted.full.shape}; align the two"
        )
