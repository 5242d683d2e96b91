"""How well a ranking finds images of the query's class, or the one original: Recall@K, average precision, nDCG, MRR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retrieval.errors import UsageError
from retrieval.measuring.ranking import ClassMembers, as_classes, as_pair, top_scores

CUT = 100
"""Where the rankings of mAP@100 and nDCG@100 end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalMetrics:
    """The result for every query that the gallery holds an answer to; the means are in percent.

    `recall[k]` (Q,) bool: is one of the first k of the query's class. `average_precision_at_r`,
    `average_precision_at_100` and `ndcg_at_100` (Q,) float64 in 0..1. `first_rank` (Q,) int64, from 1: the rank of the
    best image of the query's class. `num_left_out` counts the queries that have no label, or whose class has no (other)
    member in the gallery; the arrays leave them out.
    """

    recall: dict[int, np.ndarray]
    average_precision_at_r: np.ndarray
    average_precision_at_100: np.ndarray
    ndcg_at_100: np.ndarray
    first_rank: np.ndarray
    num_left_out: int

    @property
    def num_queries(self) -> int:
        """How many queries the means are over."""
        return len(self.first_rank)

    def recall_at(self, k: int) -> float:
        """Recall@K in percent, for one of the `ks` asked for; raises `UsageError` for another."""
        if k not in self.recall:
            raise UsageError(f"expected k among {', '.join(map(str, self.recall))}, got {k!r}; name it in ks")
        return 100 * float(self.recall[k].mean())

    @property
    def map_at_r(self) -> float:
        """mAP@R in percent."""
        return 100 * float(self.average_precision_at_r.mean())

    @property
    def map_at_100(self) -> float:
        """mAP@100 in percent."""
        return 100 * float(self.average_precision_at_100.mean())

    @property
    def mean_ndcg_at_100(self) -> float:
        """nDCG@100 in percent."""
        return 100 * float(self.ndcg_at_100.mean())

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank in percent."""
        return 100 * float((1 / self.first_rank).mean())


def retrieval_metrics(
    queries: torch.Tensor | np.ndarray,
    gallery: torch.Tensor | np.ndarray,
    query_labels: Sequence,
    gallery_labels: Sequence,
    *,
    exclude_self: bool,
    ks: Sequence[int] = (1, 5, 10),
    chunk_size: int = 256,
) -> RetrievalMetrics:
    """Rank the gallery for each query by inner product, and judge the ranking by the labels.

    `queries` (Q, D) and `gallery` (N, D) float, compared as they are (normalise them where a cosine is meant), on the
    device where they lie; `query_labels` (Q,) and `gallery_labels` (N,) of any one hashable type, None or NaN for an
    image of no known class. `exclude_self` takes query i to be image i of the gallery and leaves that image out of its
    ranking. `chunk_size` queries are held against the gallery at a time. Where scores are equal, images of other
    classes are placed first: embeddings that have collapsed to one point find nothing. Raises `UsageError`.

    With R the number of gallery images of the query's class and P(i) the precision at rank i where the i-th image is of
    that class, else 0:

        MAP@R   = 1/R · sum over i = 1..R of P(i)                       (Musgrave et al. 2020, arXiv 2003.08505, 3.2)
        MAP@100 = 1/min(R, 100) · sum over i = 1..100 of P(i)
        nDCG@100: gain 1 for an image of that class, discount 1/log2(1 + rank), over the first 100
                                                                        (Järvelin and Kekäläinen 2002, TOIS 20:4)
        MRR: 1 / rank of the best image of that class, in the whole ranking
    """
    queries, gallery = as_pair(queries, gallery, chunk_size)
    ks = tuple(ks)
    if not ks or min(ks) < 1:
        raise UsageError(f"expected ks of at least 1, got ks={ks}; raise them")
    if exclude_self and len(queries) != len(gallery):
        raise UsageError(
            f"expected the queries to be the gallery, got {len(queries)} and {len(gallery)} rows; "
            "pass exclude_self=False for two different sets"
        )
    query_classes, gallery_classes = as_classes(query_labels, gallery_labels, len(queries), len(gallery))
    members = ClassMembers(gallery_classes, device=gallery.device)
    num_relevant = members.num_of(query_classes) - int(exclude_self) * (query_classes >= 0)
    (answerable,) = np.nonzero(num_relevant > 0)
    if not len(answerable):
        raise UsageError("expected a query whose class has a member in the gallery, found none; check the labels")

    # Queries of like R together: no chunk ranks further than its own classes ask for.
    order = answerable[np.argsort(num_relevant[answerable], kind="stable")]
    parts = []
    for start in range(0, len(order), chunk_size):
        some = order[start : start + chunk_size]
        scores_QN = queries[torch.as_tensor(some, device=queries.device)] @ gallery.T
        relevant_QR = members.take(scores_QN, query_classes[some], selves=some if exclude_self else None)
        parts.append(_judge(scores_QN, relevant_QR, torch.as_tensor(num_relevant[some], device=gallery.device)))
    back = np.argsort(order)
    first_rank, at_r, at_100, ndcg = (
        torch.cat([part[place] for part in parts]).cpu().numpy()[back] for place in range(4)
    )
    return RetrievalMetrics(
        recall={k: first_rank <= k for k in ks},
        average_precision_at_r=at_r,
        average_precision_at_100=at_100,
        ndcg_at_100=ndcg,
        first_rank=first_rank,
        num_left_out=len(queries) - len(answerable),
    )


def instance_ranks(
    queries: torch.Tensor | np.ndarray,
    gallery: torch.Tensor | np.ndarray,
    relevant_rows: Sequence[int] | np.ndarray,
    *,
    chunk_size: int = 256,
) -> np.ndarray:
    """(Q,) int64, from 1: where in its ranking each query finds the one image of the gallery that answers it.

    `queries` (Q, D) and `gallery` (N, D) as for `retrieval_metrics`; `relevant_rows` (Q,): the gallery row that answers
    each query. Whatever scores as much as the answer is placed before it, as copies of it are. Raises `UsageError`.
    """
    queries, gallery = as_pair(queries, gallery, chunk_size)
    relevant_rows = np.asarray(relevant_rows)
    if relevant_rows.shape != (len(queries),) or not np.isin(relevant_rows, np.arange(len(gallery))).all():
        raise UsageError(
            f"expected one row in 0..{len(gallery) - 1} for each of {len(queries)} queries, "
            f"got {relevant_rows.shape} from {relevant_rows.min(initial=0)} to {relevant_rows.max(initial=0)}"
        )
    rows = torch.as_tensor(relevant_rows, dtype=torch.int64, device=gallery.device)
    ranks = []
    for some_queries, some_rows in zip(queries.split(chunk_size), rows.split(chunk_size), strict=True):
        scores_QN = some_queries @ gallery.T
        ranks.append((scores_QN >= scores_QN.gather(1, some_rows[:, None])).sum(dim=1))
    return torch.cat(ranks).cpu().numpy()


def _judge(rival_scores_QN: torch.Tensor, relevant_QR: torch.Tensor, num_relevant_Q: torch.Tensor) -> tuple:
    """Rank of the first relevant image, AP@R, AP@100 and nDCG@100 of each query."""
    longest = max(CUT, int(num_relevant_Q.max()))
    num_rivals = min(longest, rival_scores_QN.shape[1])
    rivals_QK = top_scores(rival_scores_QN, num_rivals)
    # Rivals that score as much or more; past `num_rivals` of them it no longer matters how many.
    ahead_QR = torch.searchsorted(-rivals_QK, -relevant_QR, right=True)
    places_R = torch.arange(1, relevant_QR.shape[1] + 1, device=relevant_QR.device)
    ranks_QR = ahead_QR + places_R
    is_there = relevant_QR > -torch.inf
    precision_QR = places_R / ranks_QR.double()

    num_relevant_Q1 = num_relevant_Q[:, None]
    at_r = (precision_QR * (is_there & (ranks_QR <= num_relevant_Q1))).sum(dim=1) / num_relevant_Q
    is_within = is_there & (ranks_QR <= CUT)
    at_100 = (precision_QR * is_within).sum(dim=1) / num_relevant_Q.clamp(max=CUT)
    discounts = 1 / torch.arange(2, longest + 2, device=relevant_QR.device).double().log2()
    ideal = discounts.cumsum(dim=0)[num_relevant_Q.clamp(max=CUT) - 1]
    ndcg = (discounts[ranks_QR.clamp(max=longest) - 1] * is_within).sum(dim=1) / ideal

    first_rank = ranks_QR[:, 0]
    (far,) = torch.nonzero(ahead_QR[:, 0] == num_rivals, as_tuple=True)
    first_rank[far] = 1 + (rival_scores_QN[far] >= relevant_QR[far, :1]).sum(dim=1)
    return first_rank, at_r, at_100, ndcg
