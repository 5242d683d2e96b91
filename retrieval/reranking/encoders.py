"""Encoders of a differentiable search engine: from pixels to what the ranker reads, with gradients all the way back."""

import torch
from torch import nn

from retrieval.dimension import hard_cut, whole_dims
from retrieval.errors import UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork, NetworkOutput
from retrieval.reranking.described import Described
from retrieval.tokens import most_attended, num_tokens

ROLES = ("query", "document")


class NetworkEncoder(nn.Module):
    """Pixels (B, 3, H, W) in −1..1, or with more leading axes such as (Q, K, 3, H, W), to `Described` led by the same.

    A `"query"` keeps its uncut vector, a `"document"` is cut at its whole dim; both are differentiable, and so are the
    tokens, of which a picture has as many as in use (`Embedder.encode`). Which numbers and locations are kept is not:
    it is a choice. Metadata is unknown. The two encoders of an engine may share one network. Raises `UsageError`.
    """

    def __init__(self, network: EmbedderNetwork, *, role: str, token_bytes: int = 1024):
        super().__init__()
        if role not in ROLES:
            raise UsageError(f"expected a role among {', '.join(ROLES)}, got {role!r}")
        self.network, self.role, self.token_bytes = network, role, token_bytes

    def forward(self, pixels: torch.Tensor) -> Described:
        leading = pixels.shape[:-3]
        output = self.network(pixels.flatten(0, -4))
        described = describe_output(output, self.network.config, role=self.role, token_bytes=self.token_bytes)
        return described.map(lambda field: field.unflatten(0, leading))


def describe_output(output: NetworkOutput, config: EmbedderConfig, *, role: str, token_bytes: int) -> Described:
    """What a network says of B pictures, as the ranker reads it; raises `UsageError` for a network without tokens."""
    if output.tokens is None:
        raise UsageError(
            "expected a network with local tokens, got one without; use a model whose token_dim is above 0"
        )
    dims_B = whole_dims(output.dims.detach(), min_dim=config.min_dim, max_dim=config.max_dim)
    counts_B = num_tokens(
        dims_B, token_bytes=token_bytes, token_dim=config.token_dim, num_locations=output.tokens.shape[1]
    )
    places_BT, mask_BT = most_attended(output.attention.detach(), counts_B)
    return Described(
        vectors=output.full if role == "query" else hard_cut(output.full, dims_B),
        dims=dims_B.to(output.full.dtype),
        tokens=output.tokens.take_along_dim(places_BT[..., None], dim=1) * mask_BT[..., None],
        mask=mask_BT,
        numbers=output.full.new_zeros(len(dims_B), 0),
        categories=dims_B.new_zeros(len(dims_B), 0),
    )
