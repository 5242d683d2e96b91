"""Who competes for each query, and what each competitor would score at every length: the ground `d` is learned on.

A document that is cut short loses its own queries and, worse, intrudes on those of others. Both show only against a
whole corpus's worth of near neighbours, which no batch holds. With the projection fixed they can be written down once:
for each query its strongest documents, and their scores at a grid of lengths. Learning `d` is then reading a table.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F


class CandidateScores(NamedTuple):
    """For each of Q queries K documents and their scores if they were cut at each of G lengths.

    `documents` (Q, K) int64; `scores` (Q, K, G) float32: inner products of the uncut query with the document's prefix,
    L2-normalised at that length; `lengths` (G,) int64, rising.
    """

    documents: torch.Tensor
    scores: torch.Tensor
    lengths: torch.Tensor

    def at(self, dims_N: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Scores (len(chosen), K) of the queries `chosen` with document n cut at `dims_N[n]`, interpolated in log d.

        So it is differentiable in `dims_N`. It is also the expected score when `d` falls on one of the two nearest
        lengths of the grid, with the chances that give the right mean of log d.
        """
        log_lengths_G = self.lengths.to(dims_N).log()
        # As a lookup, whose gradient is summed in one order whatever the threads: runs must be repeatable.
        log_dims_QK = F.embedding(self.documents[chosen], dims_N.log()[:, None]).squeeze(-1)
        above_QK = torch.searchsorted(log_lengths_G, log_dims_QK.detach()).clamp(1, len(log_lengths_G) - 1)
        low_QK, high_QK = log_lengths_G[above_QK - 1], log_lengths_G[above_QK]
        share_QK = ((log_dims_QK - low_QK) / (high_QK - low_QK)).clamp(0, 1)
        scores_QKG = self.scores[chosen]
        score_low_QK = scores_QKG.gather(-1, above_QK[..., None] - 1).squeeze(-1)
        score_high_QK = scores_QKG.gather(-1, above_QK[..., None]).squeeze(-1)
        return torch.lerp(score_low_QK, score_high_QK, share_QK)


def length_grid(min_dim: int, max_dim: int, num_per_octave: int = 4) -> torch.Tensor:
    """Lengths from `min_dim` to `max_dim`, about evenly spaced in log d, int64."""
    octaves = torch.tensor(max_dim / min_dim).log2().item()
    steps = torch.linspace(0, 1, max(2, round(octaves * num_per_octave) + 1))
    return (min_dim * (max_dim / min_dim) ** steps).round().long().unique()


@torch.no_grad()
def candidate_scores(
    queries_QD: torch.Tensor,
    documents_ND: torch.Tensor,
    own_Q: torch.Tensor,
    lengths_G: torch.Tensor,
    *,
    num_candidates: int = 64,
    own_first: bool,
    chunk_size: int = 256,
) -> CandidateScores:
    """Find each query's strongest documents among uncut, unit-length `documents_ND`, and score them at every length.

    Half of them are the nearest at full length, half the nearest by the shortest prefix, where those that were cut too
    short would come up. `own_Q` (Q,) is the document that a query was made from: it is left out, or with `own_first`
    put into column 0.
    """
    shortest = int(lengths_G[0])
    prefix_NL = F.normalize(documents_ND[:, :shortest], dim=-1)
    norms_NG = documents_ND.square().cumsum(1)[:, lengths_G - 1].sqrt().clamp_min(1e-6)
    num_candidates = min(num_candidates, len(documents_ND) - 1)
    num_near = num_candidates // 2
    documents, scores = [], []
    for queries_qD, own_q in zip(queries_QD.split(chunk_size), own_Q.split(chunk_size), strict=True):
        rows = torch.arange(len(own_q))
        by_whole_qN, by_prefix_qN = queries_qD @ documents_ND.T, queries_qD[:, :shortest] @ prefix_NL.T
        by_whole_qN[rows, own_q] = by_prefix_qN[rows, own_q] = -torch.inf
        near_qK = by_whole_qN.topk(num_near, dim=1).indices
        by_prefix_qN.scatter_(1, near_qK, -torch.inf)
        intruding_qK = by_prefix_qN.topk(num_candidates - num_near, dim=1).indices
        first = [own_q[:, None]] if own_first else []
        documents_qK = torch.cat([*first, near_qK, intruding_qK], dim=1)
        products_qKD = queries_qD[:, None] * documents_ND[documents_qK]
        documents.append(documents_qK)
        scores.append(products_qKD.cumsum(-1)[..., lengths_G - 1] / norms_NG[documents_qK])
    return CandidateScores(torch.cat(documents), torch.cat(scores), lengths_G)
