"""Spyglass, the part that knows tensors: model, losses, training, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.embedder import Embedder, Embeddings
    from retrieval.ranker_weights import Ranker

__version__ = "0.1.0"
__all__ = ["Embedder", "Embeddings", "Ranker"]

_HOMES = {
    "Embedder": "retrieval.embedder",
    "Embeddings": "retrieval.embedder",
    "Ranker": "retrieval.ranker_weights",
}


def __getattr__(name: str):
    # Loaded on first use: `spyglass info` and its like must not pay for importing torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
