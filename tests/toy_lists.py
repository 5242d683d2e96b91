"""Stand-ins for what a ranker reads: embeddings of made-up classes, and the lists that an exact search finds."""

import numpy as np

from retrieval.embedder import Embeddings
from retrieval.tokens import Tokens
from retrieval.training.ranker_examples import RankingExamples, labelled_examples, without_self

NUM_DIMS, TOKEN_DIM = 16, 8


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def embedded(num_classes: int, per_class: int, *, seed: int, noise: float = 0.5) -> tuple[Embeddings, list[str]]:
    """Vectors that say little of the class, from their dims on zero, and tokens of which the second one says it."""
    rng = np.random.default_rng(seed)
    targets = np.arange(num_classes * per_class) % num_classes
    full = unit(rng.normal(size=(num_classes, NUM_DIMS))[targets] * 0.5 + rng.normal(size=(len(targets), NUM_DIMS)))
    dims = rng.integers(4, NUM_DIMS + 1, len(targets))
    vectors = unit(np.where(np.arange(NUM_DIMS) < dims[:, None], full, 0))
    counts = rng.integers(2, 4, len(targets))
    tokens = rng.normal(size=(len(targets), 3, TOKEN_DIM))
    tokens[:, 1] = rng.normal(size=(num_classes, TOKEN_DIM))[targets] + noise * tokens[:, 1]
    values = np.rint(127 * tokens / np.abs(tokens).max(-1, keepdims=True)).astype(np.int8)
    return Embeddings(
        vectors=vectors,
        full=full,
        dims=dims,
        attention=np.full((len(targets), 2, 2), 0.25, np.float32),
        tokens=Tokens(values=values[np.arange(3) < counts[:, None]], counts=counts),
        token_places=np.zeros(counts.sum(), np.int64),
    ), [f"class {target}" for target in targets]


def found(embeddings: Embeddings, num_candidates: int) -> np.ndarray:
    """(N, K): for each the rows of the nearest others."""
    order = np.argsort(-(embeddings.full @ embeddings.vectors.T), axis=1, kind="stable")
    return without_self(order[:, : num_candidates + 1], np.arange(len(embeddings)))


def toy_examples(num_classes: int = 6, per_class: int = 8, *, seed: int = 0, **settings) -> RankingExamples:
    embeddings, labels = embedded(num_classes, per_class, seed=seed)
    return labelled_examples(embeddings, labels, found(embeddings, 12), **settings)
