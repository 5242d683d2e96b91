"""What the ranker is told of a picture: queries uncut, candidates cut, and rows that go together."""

import numpy as np
import pytest
import torch

from retrieval.embedder import Embeddings
from retrieval.errors import UsageError
from retrieval.reranking.described import Described, describe, similarity
from retrieval.tokens import Tokens


def embeddings(**changes) -> Embeddings:
    values = {
        "vectors": np.array([[1, 0], [0.6, 0.8]], np.float32),
        "full": np.array([[0.8, 0.6], [0.6, 0.8]], np.float32),
        "dims": np.array([1, 2]),
        "attention": np.full((2, 1, 2), 0.5, np.float32),
        "tokens": Tokens(values=np.array([[127, 0, 0], [0, 127, 0], [0, 0, 127]], np.int8), counts=np.array([1, 2])),
        "token_places": np.array([0, 1, 0]),
    }
    return Embeddings(**values | changes)


def test_by_hand():
    found = describe(embeddings(), as_queries=False)
    assert found.vectors.tolist() == embeddings().vectors.tolist()
    assert found.dims.tolist() == [1, 2] and found.dims.dtype == torch.float32
    assert found.tokens.tolist() == [[[1, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 1]]]
    assert found.mask.tolist() == [[True, False], [True, True]]
    assert found.numbers.shape == found.categories.shape == (2, 0) and found.categories.dtype == torch.int64


def test_a_query_is_uncut_and_otherwise_the_same():
    query, candidate = (describe(embeddings(), as_queries=as_queries) for as_queries in (True, False))
    assert query.vectors.tolist() == embeddings().full.tolist()
    for name in set(Described._fields) - {"vectors"}:
        torch.testing.assert_close(getattr(query, name), getattr(candidate, name), msg=name)


def test_metadata_as_it_is_encoded():
    numbers, categories = np.array([[0.5], [np.nan]], np.float64), np.array([[1, 0], [2, 3]], np.int32)
    found = describe(embeddings(), as_queries=True, numbers=numbers, categories=categories)
    assert found.numbers[0].tolist() == [0.5] and found.numbers[1].isnan().all()
    assert found.numbers.dtype == torch.float32 and found.categories.dtype == torch.int64
    assert found.categories.tolist() == categories.tolist()


def test_take_keeps_what_belongs_together_in_any_shape():
    described = describe(embeddings(), as_queries=False, numbers=np.array([[3.0], [4.0]]))
    rows_QK = torch.tensor([[0, 1, 1], [1, 0, 0]])
    taken = described.take(rows_QK)
    for name, field in taken._asdict().items():
        assert field.shape == (2, 3, *getattr(described, name).shape[1:]), name
        for q, k in np.ndindex(2, 3):
            assert field[q, k].equal(getattr(described, name)[rows_QK[q, k]]), name


def test_map_reaches_every_tensor():
    described = describe(embeddings(), as_queries=False).map(lambda field: field[:1])
    assert isinstance(described, Described) and {len(field) for field in described} == {1}


def test_similarity_is_the_cosine_over_the_stored_numbers():
    queries = torch.tensor([[0.8, 0.6], [0.6, -0.8]])
    stored = torch.tensor([[1.0, 0], [0.6, 0.8], [0, 0]])
    expected = torch.tensor([[1.0, 0.96, 0], [1, -0.28, 0]])
    torch.testing.assert_close(similarity(queries, stored), expected)
    of_each = torch.stack([stored, stored.flip(0)])
    torch.testing.assert_close(similarity(queries, of_each), torch.stack([expected[0], expected[1].flip(0)]))
    assert similarity(queries[:0], of_each[:0]).shape == (0, 3)


def test_without_tokens_is_told():
    with pytest.raises(UsageError, match="^expected embeddings with tokens, got none; encode with token_bytes above 0"):
        describe(embeddings(tokens=None), as_queries=True)
