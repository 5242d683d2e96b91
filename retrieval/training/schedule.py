"""What follows from a run's step alone: the learning rate, and which examples are shown."""

import math
from collections.abc import Callable

import torch


def warm_cosine(peak: float, *, warmup: int, total: int) -> Callable[[int], float]:
    """The rate at each step: linear warm-up over `warmup` steps, then half a cosine down to a hundredth at `total`."""
    warmup = max(1, warmup)

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    return rate


def drawn(num: int, num_each: int, step: int, seed: int) -> torch.Tensor:
    """`num_each` numbers below `num` for a step: all come up, in an order of each round's own, before one returns."""
    first = step * num_each
    rounds = range(first // num, (first + num_each - 1) // num + 1)
    orders = [torch.randperm(num, generator=torch.Generator().manual_seed(seed * 1_000_003 + r)) for r in rounds]
    start = first - rounds[0] * num
    return torch.cat(orders)[start : start + num_each]
