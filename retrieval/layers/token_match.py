"""How well two sets of tokens match: each token looks for its counterpart on the other side, by attention."""

import torch
import torch.nn.functional as F
from torch import nn

_MASKED = -1e4
"""Far below any logit, and finite: a picture without tokens gets a match of 0, not of NaN."""


def attend(
    queries_ND: torch.Tensor, keys_MD: torch.Tensor, mask_M: torch.Tensor, temperature: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled dot-product attention over unit vectors: the expected key of each query, and the weights of the keys.

    `queries_ND` (..., N, D), `keys_MD` (..., M, D), `mask_M` (..., M) True where there is a key, `temperature` τ to
    broadcast against the weights. Returns (..., N, D) and weights (..., N, M) that sum to 1 over the keys:
    p = softmax(q·k / τ), E[k] = Σ p k. The gradient of E[k] with respect to q is Cov_p(k) / τ.
    """
    logits_NM = queries_ND @ keys_MD.mT / temperature
    weights_NM = logits_NM.masked_fill(~mask_M[..., None, :], _MASKED).softmax(-1)
    return weights_NM @ keys_MD, weights_NM


class TokenMatch(nn.Module):
    """Several heads, each with its own scale of the tokens' numbers and its own temperature.

    A head's match is the mean cosine of a token with its expected counterpart, query to candidate and candidate to
    query, summed: swapping the two changes nothing.
    """

    def __init__(self, token_dim: int, num_heads: int = 4):
        super().__init__()
        self.scale_HE = nn.Parameter(torch.ones(num_heads, token_dim))
        # From a soft mean over the whole picture to the one best counterpart.
        self.log_temperature_H = nn.Parameter(torch.logspace(-0.3, -1.6, num_heads).log())

    def forward(
        self, query_QNE: torch.Tensor, query_mask_QN: torch.Tensor, key_QKME: torch.Tensor, key_mask_QKM: torch.Tensor
    ) -> torch.Tensor:
        """Matches (Q, K, heads) in −2..2 of Q queries with K candidates each; 0 where either has no token."""
        cosine_QKHNM = self._cosines(query_QNE, key_QKME)
        logits_QKHNM = cosine_QKHNM / self.log_temperature_H.exp()[:, None, None]
        query_mask, key_mask = query_mask_QN[:, None, None], key_mask_QKM[:, :, None]
        # The cosine with the expected key is the expected cosine, q·Σ p k = Σ p (q·k), so one product serves all.
        to_key_QKHNM = logits_QKHNM.masked_fill(~key_mask[..., None, :], _MASKED).softmax(-1)
        to_query_QKHNM = logits_QKHNM.masked_fill(~query_mask[..., :, None], _MASKED).softmax(-2)
        forth_QKHN = (to_key_QKHNM * cosine_QKHNM).sum(-1)
        back_QKHM = (to_query_QKHNM * cosine_QKHNM).sum(-2)
        return _mean(forth_QKHN, query_mask) + _mean(back_QKHM, key_mask)

    def _cosines(self, query_QNE: torch.Tensor, key_QKME: torch.Tensor) -> torch.Tensor:
        """(Q, K, heads, N, M): those of `heads_of` both, without a scaled copy of all keys for each head."""
        gain_HE = self.scale_HE.square()
        by_query_QHNE = self.heads_of(query_QNE) * self.scale_HE[:, None]
        norm_QKHM = (key_QKME.square() @ gain_HE.mT).mT.clamp_min(1e-24).sqrt()
        return by_query_QHNE[:, None] @ key_QKME[:, :, None].mT / norm_QKHM[..., None, :]

    def heads_of(self, tokens_NE: torch.Tensor) -> torch.Tensor:
        """Tokens (..., N, E) as each head sees them, (..., heads, N, E), of unit length; zero where there is none."""
        return F.normalize(tokens_NE[..., None, :, :] * self.scale_HE[:, None], dim=-1)


def _mean(values_N: torch.Tensor, mask_N: torch.Tensor) -> torch.Tensor:
    return values_N.masked_fill(~mask_N, 0).sum(-1) / mask_N.sum(-1).clamp_min(1)
