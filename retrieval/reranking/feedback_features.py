"""What people's judgments say of candidates: how often each was accepted or rejected, and for what queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from retrieval.errors import UsageError
from retrieval.reranking.described import similarity
from retrieval.reranking.ranker_features import NUM_FEEDBACK

TEMPERATURE = 0.1
"""Of the kernel exp((s − 1) / τ), by which the judgment of a query q_j counts for a query q.

s is their cosine over the numbers that q_j has: it is cut where the judged query is an image of the gallery. The same
picture counts for 1, one at a cosine of 0.6 for 0.02; it takes hundreds at a cosine of 0 to count for that much.
"""

_MOST_PAIRS = 8_000_000  # of a query and a judgment, at once: 4 bytes each, in up to six arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgments:
    """J judgments of an image of a gallery for a query, in any order.

    `queries` (J, D) float32: the queries' vectors, unit length, cut or not. `rows` (J,) int64: the judged images' rows
    in the gallery, and `vectors` (J, D) theirs, likewise. `relevant` (J,) bool: accepted, or else rejected.
    """

    queries: torch.Tensor
    rows: torch.Tensor
    vectors: torch.Tensor
    relevant: torch.Tensor

    def __post_init__(self):
        shapes = [tuple(values.shape) for values in (self.queries, self.rows, self.vectors, self.relevant)]
        if len(shapes[0]) != 2 or shapes[0] != shapes[2] or not shapes[1] == shapes[3] == shapes[0][:1]:
            raise UsageError(f"expected queries and vectors (J, D), rows and relevant (J,), got {shapes}; align them")
        if self.relevant.dtype != torch.bool or self.rows.dtype != torch.int64:
            raise UsageError(
                f"expected rows of int64 and relevant of bool, got {self.rows.dtype} and {self.relevant.dtype}"
            )

    def __len__(self) -> int:
        return len(self.rows)


@torch.no_grad()
def feedback_features(
    judgments: Judgments,
    queries_QD: torch.Tensor,
    candidate_rows_QK: torch.Tensor,
    candidate_vectors_QKD: torch.Tensor,
    *,
    leave_out: torch.Tensor | Sequence[Sequence[int]] | None = None,
) -> torch.Tensor:
    """Six numbers a candidate, (Q, K, 6) float32, of queries (Q, D) uncut and their candidates, both of unit length.

    0, 1: log(1 + times accepted), and rejected, for any query. 2, 3: the same, each time weighted by the kernel w_j
    between the judged query and this one. 4, 5: Σ w_j v·v_j / Σ w_j over all that was accepted, and rejected: how like
    the candidate is to what was chosen for queries like this one. Each is 0 where there is no judgment to go by.

    `leave_out` says which judgments a query must not see, such as, in training, its own and those of its near twin:
    (Q, J) bool, or for each query their numbers. Raises `UsageError` where it does not fit.
    """
    num_queries, num_judgments = len(queries_QD), len(judgments)
    features_QKF = torch.zeros(*candidate_rows_QK.shape, NUM_FEEDBACK, device=queries_QD.device)
    seen_QJ = _seen(leave_out, num_queries, num_judgments)
    if not num_judgments:
        return features_QKF
    chunk = max(1, _MOST_PAIRS // num_judgments)
    for start in range(0, num_queries, chunk):
        part = slice(start, start + chunk)
        kernel_QJ = ((similarity(queries_QD[part], judgments.queries) - 1) / TEMPERATURE).exp()
        for column, is_judged_J in enumerate((judgments.relevant, ~judgments.relevant)):
            if not is_judged_J.any():
                continue
            counts_QJ = torch.ones_like(kernel_QJ[:, is_judged_J])
            if seen_QJ is not None:
                counts_QJ = counts_QJ * seen_QJ[part][:, is_judged_J].to(counts_QJ)
            weights_QJ = kernel_QJ[:, is_judged_J] * counts_QJ
            rows_J, rows_QK = judgments.rows[is_judged_J], candidate_rows_QK[part]
            features_QKF[part, :, column] = _sums_by_row(counts_QJ, rows_J, rows_QK).log1p()
            features_QKF[part, :, 2 + column] = _sums_by_row(weights_QJ, rows_J, rows_QK).log1p()
            # The mean of inner products is the inner product with the mean.
            total_Q1 = weights_QJ.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            mean_QD = weights_QJ / total_Q1 @ judgments.vectors[is_judged_J]
            features_QKF[part, :, 4 + column] = (candidate_vectors_QKD[part] @ mean_QD[..., None]).squeeze(-1)
    return features_QKF


def _sums_by_row(weights_QJ: torch.Tensor, rows_J: torch.Tensor, rows_QK: torch.Tensor) -> torch.Tensor:
    """(Q, K): the sum of the weights of the judgments whose row is the candidate's."""
    judged_G, place_J = rows_J.unique(return_inverse=True)
    sums_QG = weights_QJ.new_zeros(len(weights_QJ), len(judged_G)).index_add_(1, place_J, weights_QJ)
    place_QK = torch.searchsorted(judged_G, rows_QK.contiguous()).clamp_max(len(judged_G) - 1)
    return sums_QG.take_along_dim(place_QK, dim=1) * (judged_G[place_QK] == rows_QK)


def _seen(leave_out, num_queries: int, num_judgments: int) -> torch.Tensor | None:
    """(Q, J) bool: which judgments each query may see; None for all."""
    if leave_out is None:
        return None
    if isinstance(leave_out, torch.Tensor):
        if leave_out.shape != (num_queries, num_judgments) or leave_out.dtype != torch.bool:
            raise UsageError(
                f"expected leave_out ({num_queries}, {num_judgments}) bool, "
                f"got {tuple(leave_out.shape)} {leave_out.dtype}"
            )
        return ~leave_out
    if len(leave_out) != num_queries:
        raise UsageError(f"expected judgments to leave out for each of {num_queries} queries, got {len(leave_out)}")
    seen_QJ = torch.ones(num_queries, num_judgments, dtype=torch.bool)
    for seen_J, numbers in zip(seen_QJ, leave_out, strict=True):
        seen_J[torch.as_tensor(numbers, dtype=torch.int64)] = False
    return seen_QJ
