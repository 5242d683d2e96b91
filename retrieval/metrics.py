"""How well a ranking finds images of the query's class: Recall@K and mAP@R."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retrieval.errors import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalMetrics:
    """The result for every query that the gallery holds an answer to; the means are in percent.

    `recall[k]` (Q,) bool: is one of the first k of the query's class. `average_precision_at_r` (Q,) float64 in 0..1.
    `num_left_out` counts the queries whose class has no (other) member in the gallery; the arrays leave them out.
    """

    recall: dict[int, np.ndarray]
    average_precision_at_r: np.ndarray
    num_left_out: int

    @property
    def num_queries(self) -> int:
        """How many queries the means are over."""
        return len(self.average_precision_at_r)

    def recall_at(self, k: int) -> float:
        """Recall@K in percent, for one of the `ks` asked for."""
        return 100 * float(self.recall[k].mean())

    @property
    def map_at_r(self) -> float:
        """mAP@R in percent."""
        return 100 * float(self.average_precision_at_r.mean())


def retrieval_metrics(
    queries: torch.Tensor | np.ndarray,
    gallery: torch.Tensor | np.ndarray,
    query_labels: Sequence,
    gallery_labels: Sequence,
    *,
    exclude_self: bool,
    ks: Sequence[int] = (1, 5, 10),
    chunk_size: int = 1024,
) -> RetrievalMetrics:
    """Rank the gallery for each query by inner product, and judge the ranking by the labels.

    `queries` (Q, D) and `gallery` (N, D) float, compared as they are (normalise them where a cosine is meant), on the
    device where they lie; `query_labels` (Q,) and `gallery_labels` (N,) of any one sortable type. `exclude_self` takes
    query i to be image i of the gallery and leaves that image out of its ranking. `chunk_size` queries are held against
    the gallery at a time. Order among equal scores is arbitrary. Raises `UsageError`.

    mAP@R is that of Musgrave et al. 2020 (A Metric Learning Reality Check, arXiv 2003.08505, section 3.2): with R the
    number of gallery images of the query's class,

        MAP@R = 1/R · sum over i = 1..R of P(i),    P(i) = precision at i where the i-th image is of that class, else 0.
    """
    queries, gallery = _as_matrix("queries", queries), _as_matrix("gallery", gallery)
    if queries.shape[1] != gallery.shape[1]:
        raise UsageError(
            f"expected queries and gallery of one length, got {queries.shape[1]} and {gallery.shape[1]} numbers; "
            "encode both with one model"
        )
    ks = tuple(ks)
    if not ks or min(ks) < 1 or chunk_size < 1:
        raise UsageError(f"expected ks and chunk_size of at least 1, got ks={ks}, chunk_size={chunk_size}; raise them")
    if exclude_self and len(queries) != len(gallery):
        raise UsageError(
            f"expected the queries to be the gallery, got {len(queries)} and {len(gallery)} rows; "
            "pass exclude_self=False for two different sets"
        )
    query_classes, gallery_classes = _as_classes(query_labels, gallery_labels, len(queries), len(gallery))
    num_of_class = np.bincount(gallery_classes, minlength=int(query_classes.max(initial=-1)) + 1)
    num_relevant = num_of_class[query_classes] - int(exclude_self)
    (answerable,) = np.nonzero(num_relevant > 0)
    if not len(answerable):
        raise UsageError("expected a query whose class has a member in the gallery, found none; check the labels")

    num_ranked = min(max(*ks, int(num_relevant.max())), len(gallery) - int(exclude_self))
    device = gallery.device
    query_classes, gallery_classes, num_relevant = (
        torch.as_tensor(array, device=device) for array in (query_classes, gallery_classes, num_relevant)
    )
    ranks = torch.arange(1, num_ranked + 1, device=device)
    recall_parts, precision_parts = [], []
    for some in torch.as_tensor(answerable, device=device).split(chunk_size):
        scores = queries[some] @ gallery.T
        if exclude_self:
            scores[torch.arange(len(some), device=device), some] = -torch.inf
        ranking = scores.topk(num_ranked, dim=1).indices
        is_relevant = gallery_classes[ranking] == query_classes[some, None]
        recall_parts.append(torch.stack([is_relevant[:, :k].any(dim=1) for k in ks]))
        precision = is_relevant.cumsum(dim=1) / ranks.double()
        within_r = ranks <= num_relevant[some, None]
        precision_parts.append((precision * (is_relevant & within_r)).sum(dim=1) / num_relevant[some])
    recall = torch.cat(recall_parts, dim=1).cpu().numpy()
    return RetrievalMetrics(
        recall=dict(zip(ks, recall, strict=True)),
        average_precision_at_r=torch.cat(precision_parts).cpu().numpy(),
        num_left_out=len(queries) - len(answerable),
    )


def _as_matrix(name: str, array: torch.Tensor | np.ndarray) -> torch.Tensor:
    if not isinstance(array, torch.Tensor):
        # torch warns of memory that it may not write to, such as a file mapped for reading.
        array = torch.from_numpy(np.require(array, dtype=np.float32, requirements=["C", "W"]))
    if array.ndim != 2 or not len(array):
        raise UsageError(
            f"expected {name} as (N, D) with N of at least 1, got {tuple(array.shape)}; pass one row an image"
        )
    matrix = array.detach().float()
    if not matrix.isfinite().all():
        raise UsageError(f"expected {name} of finite numbers, got NaN or infinity; look at the pictures they came from")
    return matrix


def _as_classes(
    query_labels: Sequence, gallery_labels: Sequence, num_queries: int, num_gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """The labels as numbers 0.. that the two sets share."""
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    if query_labels.shape != (num_queries,) or gallery_labels.shape != (num_gallery,):
        raise UsageError(
            f"expected one label an image, got {query_labels.shape} for {num_queries} queries "
            f"and {gallery_labels.shape} for {num_gallery} gallery images; align the two"
        )
    _, classes = np.unique(np.concatenate([query_labels, gallery_labels]), return_inverse=True)
    return classes[:num_queries], classes[num_queries:]
