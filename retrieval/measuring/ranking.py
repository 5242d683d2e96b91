"""Scores of queries against a gallery, a chunk at a time: what is compared, and what lies on top."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from retrieval.errors import UsageError


def as_pair(
    queries: torch.Tensor | np.ndarray, gallery: torch.Tensor | np.ndarray, chunk_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (Q, D) and gallery (N, D) as float32 tensors where they lie; raises `UsageError`."""
    if chunk_size < 1:
        raise UsageError(f"expected a chunk_size of at least 1, got chunk_size={chunk_size}; raise it")
    queries, gallery = _as_matrix("queries", queries), _as_matrix("gallery", gallery)
    if queries.shape[1] != gallery.shape[1]:
        raise UsageError(
            f"expected queries and gallery of one length, got {queries.shape[1]} and {gallery.shape[1]} numbers; "
            "encode both with one model"
        )
    return queries, gallery


def as_classes(
    query_labels: Sequence, gallery_labels: Sequence, num_queries: int, num_gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """The labels as numbers 0.. that the two sets share, int64; -1 where the label is None or NaN.

    Labels are one where they are equal and hash alike, so 1 is not "1". Raises `UsageError`.
    """
    shapes = _shape(query_labels), _shape(gallery_labels)
    if shapes != ((num_queries,), (num_gallery,)):
        raise UsageError(
            f"expected one label an image, got {shapes[0]} for {num_queries} queries "
            f"and {shapes[1]} for {num_gallery} gallery images; align the two"
        )
    numbers: dict = {None: -1}
    try:
        return tuple(
            np.array([numbers.setdefault(label, len(numbers) - 1) for label in _values(labels)], dtype=np.int64)
            for labels in (query_labels, gallery_labels)
        )
    except TypeError as error:
        raise UsageError(
            f"expected labels that can be hashed, got others ({error}); make them text or tuples"
        ) from None


def top_scores(scores_QN: torch.Tensor, num: int) -> torch.Tensor:
    """The `num` highest of each row, (Q, `num`), best first."""
    if scores_QN.device.type != "cpu":
        return scores_QN.topk(num, dim=1).values
    # Faster than topk, which carries the places along.
    negative = -scores_QN.numpy()
    if num < negative.shape[1]:
        negative.partition(num - 1, axis=1)
    return -torch.from_numpy(np.sort(negative[:, :num], axis=1))


class ClassMembers:
    """Where in the gallery the images of each class lie; `classes_N` are numbers 0.., negative for no class."""

    def __init__(self, classes_N: np.ndarray, *, device: torch.device | str = "cpu"):
        order = np.argsort(classes_N, kind="stable")
        num_classless = int((classes_N < 0).sum())
        self._num_of_class = np.bincount(classes_N[classes_N >= 0], minlength=1)
        self._first_of_class = num_classless + np.cumsum(self._num_of_class) - self._num_of_class
        self._by_class = torch.as_tensor(order, device=device)

    def num_of(self, classes_Q: np.ndarray) -> np.ndarray:
        """(Q,): how many images each of these classes has; 0 for a class that is not there, or negative."""
        known = (classes_Q >= 0) & (classes_Q < len(self._num_of_class))
        return np.where(known, self._num_of_class[np.where(known, classes_Q, 0)], 0)

    def take(self, scores_QN: torch.Tensor, classes_Q: np.ndarray, *, selves: np.ndarray | None) -> torch.Tensor:
        """Move the scores of each query's class out of `scores_QN`, in place: -inf is left there.

        Returns (Q, R), best first, filled up with -inf where a class is smaller; `selves` (Q,) are the gallery rows of
        the queries themselves, whose scores are dropped.
        """
        nums, firsts = (
            torch.as_tensor(array[classes_Q], device=scores_QN.device)[:, None]
            for array in (self._num_of_class, self._first_of_class)
        )
        places = torch.arange(int(nums.max()), device=scores_QN.device)
        rows_QR = self._by_class[firsts + torch.minimum(places, nums - 1)]
        is_void = places >= nums
        if selves is not None:
            is_void |= rows_QR == torch.as_tensor(selves, device=scores_QN.device)[:, None]
        relevant_QR = scores_QN.gather(1, rows_QR).masked_fill_(is_void, -torch.inf)
        scores_QN.scatter_(1, rows_QR, -torch.inf)
        return top_scores(relevant_QR, relevant_QR.shape[1])


def _shape(labels: Sequence) -> tuple[int, ...]:
    # numpy would take labels that are tuples for another axis.
    return tuple(labels.shape) if hasattr(labels, "shape") else (len(labels),)


def _values(labels: Sequence) -> Iterator:
    """The labels as plain values, which are equal where they look equal, as tensors are not; None for NaN."""
    for label in labels.tolist() if hasattr(labels, "tolist") else labels:
        value = label.item() if isinstance(label, torch.Tensor) else label
        is_nan = isinstance(value, float | np.floating) and math.isnan(value)
        yield None if is_nan else value


def _as_matrix(name: str, array: torch.Tensor | np.ndarray) -> torch.Tensor:
    if not isinstance(array, torch.Tensor):
        # torch warns of memory that it may not write to, such as a file mapped for reading.
        array = torch.from_numpy(np.require(array, dtype=np.float32, requirements=["C", "W"]))
    if array.ndim != 2 or not len(array):
        raise UsageError(
            f"expected {name} as (N, D) with N of at least 1, got {tuple(array.shape)}; pass one row an image"
        )
    matrix = array.detach().float()
    if not matrix.isfinite().all():
        raise UsageError(f"expected {name} of finite numbers, got NaN or infinity; look at the pictures they came from")
    return matrix
