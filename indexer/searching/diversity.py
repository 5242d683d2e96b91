"""Hits that differ from each other: maximal marginal relevance."""

import numpy as np


def diversified(relevance_K: np.ndarray, vectors_KD: np.ndarray, diversity: float) -> np.ndarray:
    """The order (K,) in which to show K images, so that each says something new beside being relevant.

    Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): next comes, of the images that are left, the i with
    the greatest (1 - `diversity`)·r_i - `diversity`·max_j v_i·v_j, over the j that came before; that paper's λ is
    1 - `diversity`. r is `relevance_K` and v `vectors_KD`, the stored vectors, of unit length. The first is the most
    relevant one; with 0 all come by relevance, and of equals the earlier.
    """
    likeness_KK = vectors_KD @ vectors_KD.T
    gains_K = (1 - diversity) * relevance_K.astype(np.float64)
    closest_K = np.full(len(gains_K), -np.inf)
    is_left_K = np.ones(len(gains_K), bool)
    order = np.empty(len(gains_K), np.int64)
    for place in range(len(order)):
        penalty_K = diversity * closest_K if place and diversity else 0.0
        order[place] = best = int(np.where(is_left_K, gains_K - penalty_K, -np.inf).argmax())
        is_left_K[best] = False
        closest_K = np.maximum(closest_K, likeness_KK[best])
    return order


def on_scale_of(scores_K: np.ndarray, products_K: np.ndarray) -> np.ndarray:
    """The scores of a ranker, which have no scale of their own, with the mean and the spread of the products."""
    spread = scores_K.std()
    standard_K = (scores_K - scores_K.mean()) / spread if spread > 0 else np.zeros_like(scores_K)
    return products_K.mean() + standard_K * products_K.std()
