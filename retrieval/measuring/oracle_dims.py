"""Dims chosen with the answers in hand: what an adaptive length could reach at a given mean."""

from collections.abc import Iterator

import numpy as np
import torch

from retrieval.measuring.ranking import ClassMembers, top_scores
from retrieval.measuring.rival_dims import cut

_NUM_ROUNDS = 2
_CHUNK_SIZE = 256
_TIE = 1e-3  # of the least that a query can say: where no query cares, the energy that a length keeps decides


def oracle_dims(
    queries: np.ndarray,
    full: np.ndarray,
    query_classes: np.ndarray,
    gallery_classes: np.ndarray,
    *,
    mean: float,
    lowest: int,
    highest: int,
    exclude_self: bool,
) -> np.ndarray:
    """Choose each stored image's dims, (N,) int64, by what the queries would find: greedy, and it sees the labels.

    `queries` (Q, D) and `full` (N, D) float, uncut and of unit length; classes (Q,) and (N,) are numbers 0.., negative
    for none. Where each class has one image, that image is what the query looks for. `exclude_self` takes query i to
    be image i. At least one query must have an answer.

    With R_i the number of right answers to query i, its bar is the score at which rank R_i ends. An image above the
    bar takes one of R_i places: a right one earns (1 − p) / R_i, a wrong one costs p / R_i, where p is the share of
    right ones among ranks R_i + 1 to 2 R_i, whom it pushes out. Summed over all queries that is the utility u(d) of
    giving an image d numbers, for each d of a grid from `lowest` to `highest`. The image gets the d of the greatest
    u(d) − λ d, with one λ for all that brings the mean as near to `mean` as it gets. The bars are those of all images
    cut at `mean` first, then those of the first choice, and the second choice goes by the sum of both utilities.

    Each image is chosen for as if the others stayed as they are, and on a grid; so the best dims possible find at
    least as much, and this is a lower bound of what labels could buy.
    """
    task = _Task(queries, full, query_classes, gallery_classes, exclude_self)
    grid = _grid(lowest, highest)
    kept_GN = np.cumsum(np.square(full, dtype=np.float64), axis=1)[:, np.array(grid) - 1].T
    utility_GN, dims_N = np.zeros_like(kept_GN), np.full(len(full), min(max(round(mean), lowest), highest))
    for _ in range(_NUM_ROUNDS):
        bars_A, price = task.bars(cut(full, dims_N))
        utility_GN += task.utility(bars_A, price, grid)
        dims_N = _spend(utility_GN + _TIE * min(price, 1 - price) / task.num_right.max() * kept_GN, grid, mean)
    return dims_N


class _Task:
    """Queries that have an answer (A of them), what they look through, and which images answer them."""

    def __init__(self, queries, full, query_classes, gallery_classes, exclude_self: bool):
        self.members = ClassMembers(gallery_classes)
        num_right = self.members.num_of(query_classes) - int(exclude_self) * (query_classes >= 0)
        (self.rows,) = np.nonzero(num_right > 0)
        self.queries, self.full_ND = (
            torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in (queries[self.rows], full)
        )
        self.query_classes, self.num_right = query_classes[self.rows], num_right[self.rows]
        self.gallery_classes, self.exclude_self = gallery_classes, exclude_self

    def chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.rows), _CHUNK_SIZE):
            yield slice(start, start + _CHUNK_SIZE)

    def bars(self, gallery_ND: np.ndarray) -> tuple[torch.Tensor, float]:
        """Each query's bar (A,), half-way between ranks R and R + 1, and the share p of right ones in the next R."""
        bars, shares = [], []
        gallery = torch.from_numpy(gallery_ND).to(self.queries)
        for some in self.chunks():
            scores_QN = self.queries[some] @ gallery.T
            selves = self.rows[some] if self.exclude_self else None
            if selves is not None:
                scores_QN[torch.arange(len(selves)), selves] = -torch.inf
            num_right_Q1 = torch.from_numpy(self.num_right[some])[:, None]
            top_QK = top_scores(scores_QN, min(2 * int(num_right_Q1.max()), scores_QN.shape[1]))
            last, following, far = (
                top_QK.gather(1, place.clamp(max=top_QK.shape[1] - 1))
                for place in (num_right_Q1 - 1, num_right_Q1, 2 * num_right_Q1 - 1)
            )
            right_QR = self.members.take(scores_QN, self.query_classes[some], selves=selves)
            bar_Q1 = (last + following) / 2
            is_next = right_QR.isfinite() & (right_QR < bar_Q1) & (right_QR >= far)
            bars.append(bar_Q1[:, 0])
            shares.append(is_next.sum(dim=1) / num_right_Q1[:, 0])
        return torch.cat(bars), float(torch.cat(shares).mean().clamp(0.01, 0.99))

    def utility(self, bars_A: torch.Tensor, price: float, grid: tuple[int, ...]) -> np.ndarray:
        """u of each length of the grid for each image, (G, N)."""
        norms_GN = self.full_ND.square().cumsum(dim=1)[:, np.array(grid) - 1].sqrt().T
        utility_GN = torch.zeros(norms_GN.shape, dtype=torch.float64)
        for some in self.chunks():
            is_right_QN = torch.from_numpy(self.query_classes[some, None] == self.gallery_classes)
            worth_QN = (is_right_QN.float() - price) / torch.from_numpy(self.num_right[some])[:, None]
            if self.exclude_self:
                worth_QN[torch.arange(len(worth_QN)), self.rows[some]] = 0
            inner_QN, start = torch.zeros_like(worth_QN), 0
            for place, stop in enumerate(grid):
                inner_QN.addmm_(self.queries[some, start:stop], self.full_ND[:, start:stop].T)
                start = stop
                is_above_QN = inner_QN > bars_A[some, None] * norms_GN[place]
                utility_GN[place] += (worth_QN * is_above_QN).sum(dim=0)
        return utility_GN.numpy()


def _grid(lowest: int, highest: int) -> tuple[int, ...]:
    """Lengths that grow by a half and by a third in turn, such as 32, 48, 64, 96 ... 512."""
    doublings = [lowest * 2**power for power in range(highest.bit_length())]
    lengths = {*doublings, *(length + length // 2 for length in doublings), highest}
    return tuple(sorted(length for length in lengths if length <= highest))


def _spend(value_GN: np.ndarray, grid: tuple[int, ...], mean: float) -> np.ndarray:
    """(N,): the length of the greatest value less λ times the length, at the λ whose mean length is nearest `mean`."""
    lengths = np.array(grid)

    def dims_at(price_of_a_number: float) -> np.ndarray:
        return lengths[np.argmax(value_GN - price_of_a_number * lengths[:, None], axis=0)]

    # At one end every image takes the longest, at the other the shortest.
    high = np.ptp(value_GN) + 1e-9
    low = -high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if dims_at(middle).mean() > mean else (low, middle)
    return min(dims_at(low), dims_at(high), key=lambda dims: abs(dims.mean() - mean))
