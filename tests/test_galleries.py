"""Galleries thinned to a few pictures a class: who is in which, and that a query finds what is in its own."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_train_jointly import tiny
from toy_lists import embedded, found

from retrieval import Embedder
from retrieval.datasets import LabelledImages
from retrieval.reranking.metadata import MetadataColumns
from retrieval.training.galleries import thinned
from retrieval.training.ranker_examples import labelled_examples
from ui.commands.ranking_sets import found_examples


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=60), st.integers(1, 9), st.integers(0, 99))
def test_full_galleries_and_one_rest_a_class(labels, per_class, seed):
    galleries = thinned(labels, per_class, seed=seed)
    assert [gallery < 0 for gallery in galleries] == [label is None for label in labels]
    for label in {*labels} - {None}:
        sizes = Counter(galleries[np.array(labels, dtype=object) == label].tolist())
        whole, rest = divmod(labels.count(label), per_class)
        assert sizes == {number: per_class for number in range(whole)} | ({whole: rest} if rest else {})


def test_pictures_are_dealt_out_at_random_and_the_same_way_again():
    labels = ["a"] * 40
    assert (thinned(labels, 10) == thinned(labels, 10)).all()
    assert (thinned(labels, 10) != thinned(labels, 10, seed=1)).any()
    assert (thinned(labels, 10) != np.arange(40) // 10).any()


def test_lists_within_galleries_count_what_is_there():
    embeddings, _ = embedded(2, 4, seed=0)
    labels = ["cat", "dog", "cat", "dog", "cat", "dog", "cat", "dog"]
    galleries = np.array([0, 0, 0, 0, 0, -1, 1, -1])
    candidates = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 4], [0, 1, 2], [0, 1, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    examples = labelled_examples(embeddings, labels, candidates, galleries=galleries, near_duplicate=None)
    # 6 is the only cat of its gallery, 5 and 7 are in none.
    assert examples.rows.tolist() == [0, 1, 2, 3, 4] and examples.num_relevant.tolist() == [2, 1, 2, 1, 2]
    alone = labelled_examples(embeddings, labels, found(embeddings, 3), near_duplicate=None)
    assert alone.num_relevant.tolist() == [3] * 8


def test_each_picture_asks_once_and_finds_what_a_plain_scan_of_its_gallery_finds():
    network = tiny(widths=(32, 64), min_dim=8, max_dim=64)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    images = LabelledImages(pixels=pixels, labels=tuple(f"class {number % 4}" for number in range(48)))
    embedder = Embedder(network, device="cpu")
    settings = {"num_candidates": 9, "token_bytes": 16, "guards": False}
    # Galleries of 12 and more a class are the whole again, those of 2 a class too small for nine candidates.
    sets = found_examples(embedder, images, MetadataColumns(), per_class=(12, 6, 3, 2), **settings)
    assert [examples.num_relevant.unique().tolist() for examples in sets] == [[11], [5], [2]]
    assert sorted(torch.cat([examples.rows for examples in sets]).tolist()) == list(range(48))
    for examples, galleries in zip(
        sets, (np.zeros(48), thinned(images.labels, 6), thinned(images.labels, 3)), strict=True
    ):
        scores_QN = examples.queries.vectors @ examples.documents.vectors.T
        for row, candidates, scores_N in zip(examples.rows, examples.candidates, scores_QN, strict=True):
            (others,) = np.nonzero((galleries == galleries[row]) & (np.arange(48) != int(row)))
            assert set(candidates.tolist()) <= set(others.tolist())
            best = scores_N[others].sort(descending=True).values[:9]
            torch.testing.assert_close(scores_N[candidates], best, atol=1e-5, rtol=0)
    (whole,) = found_examples(embedder, images, MetadataColumns(), **settings)
    assert len(whole) == 48
