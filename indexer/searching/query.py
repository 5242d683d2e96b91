"""Queries: pictures that are liked, less ones that are not, each as one vector with the tokens of what is liked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.searching.pictures import EncodedPicture
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from retrieval.tokens import Tokens

_SUBTRACT_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """Q encoded queries, each of one picture or more.

    `vectors` (Q, D) float32: uncut, of unit length. `dims` (Q,) float32: the mean of its pictures'. `tokens`: those of
    all its pictures, one's after the other's; None where none were asked for.
    """

    vectors: np.ndarray
    dims: np.ndarray
    tokens: "Tokens | None"

    def __len__(self) -> int:
        return len(self.vectors)


def combine(
    liked: Sequence[Sequence[EncodedPicture]],
    disliked: Sequence[EncodedPicture] = (),
    *,
    weights: Sequence[float] | None = None,
    token_dim: int = 0,
) -> Queries:
    """Make a query of each list of `liked` pictures: their mean, less half of that of all the `disliked` ones.

    `weights` are those of a query's pictures in that mean, divided by the sum of their sizes; a picture of negative
    weight counts against a hit. The dims, and the tokens of `token_dim` numbers (0: none), are those of the pictures of
    positive weight alone. Raises `UsageError` for a query of another number of pictures than there are weights.
    """
    vectors, dims, tokens = [], [], []
    for pictures in liked:
        own = weights_of(weights, len(pictures))
        vectors.append(sum(weight * one.vector for weight, one in zip(own, pictures, strict=True)) / np.abs(own).sum())
        asked = [(weight, one) for weight, one in zip(own, pictures, strict=True) if weight > 0]
        dims.append(sum(weight * one.dim for weight, one in asked) / sum(weight for weight, _ in asked))
        tokens.append([one.tokens for _, one in asked])
    vectors = np.stack(vectors)
    if disliked:
        vectors = vectors - _SUBTRACT_WEIGHT * np.mean([one.vector for one in disliked], axis=0)
    return Queries(
        vectors=unit(vectors),
        dims=np.array(dims, np.float32),
        tokens=_joined(tokens, token_dim) if token_dim else None,
    )


def weights_of(weights: Sequence[float] | None, num_pictures: int) -> np.ndarray:
    """Those of a query's pictures, (num_pictures,) float64, all 1 where none are given; raises `UsageError`."""
    if weights is None:
        return np.ones(num_pictures)
    if len(weights) != num_pictures:
        raise UsageError(f"expected a weight for each of {num_pictures} pictures, got {len(weights)}; give one each")
    return np.array(weights, dtype=np.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows (Q, D) at unit length, float32; raises `UsageError` for one that has next to none."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (lengths < 1e-6).any():
        raise UsageError("expected queries that leave something to look for, got ones that cancel each other out")
    return (vectors / lengths).astype(np.float32)


def as_list(pictures: Any) -> list:
    """One picture, or several in a list or tuple, as a list."""
    return list(pictures) if isinstance(pictures, list | tuple) else [pictures]


def _joined(parts: Sequence[Sequence["Tokens | None"]], token_dim: int) -> "Tokens":
    """The tokens of each query's pictures as those of one; a picture that comes without has none."""
    from retrieval.tokens import Tokens  # imports torch, which a search without tokens does without

    known = [[tokens for tokens in own if tokens is not None] for own in parts]
    counts = np.array([sum(len(tokens.values) for tokens in own) for own in known], dtype=np.int64)
    values = [tokens.values for own in known for tokens in own]
    return Tokens(values=np.concatenate([np.empty((0, token_dim), np.int8), *values]), counts=counts)
