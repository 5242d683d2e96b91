"""Galleries of fewer pictures a class, dealt out of one: who saw dense ones alone orders sparse ones badly."""

from collections.abc import Sequence

import numpy as np

from retrieval.measuring.ranking import as_classes


def thinned(labels: Sequence[str | None], per_class: int, *, seed: int = 0) -> np.ndarray:
    """(N,) int64: the number of the gallery that each labelled picture is in, -1 for one without a label.

    No gallery has more than `per_class` pictures of a class; all but the last that a class is in have as many. Which
    pictures come together follows from `seed`.
    """
    classes_N, _ = as_classes(labels, labels, len(labels), len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(classes_N))
    by_class = shuffled[np.argsort(classes_N[shuffled], kind="stable")]
    sorted_N = classes_N[by_class]
    place_in_class = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
    galleries_N = np.empty(len(classes_N), np.int64)
    galleries_N[by_class] = np.where(sorted_N >= 0, place_in_class // per_class, -1)
    return galleries_N
