"""Which things hang together, by pairs of them that do: connected components, joined as the pairs come."""

import numpy as np


class Components:
    """`num` things, at first each a component of its own; numbered from 0."""

    def __init__(self, num: int):
        self._parent = np.arange(num)

    def join(self, ones: np.ndarray, others: np.ndarray) -> None:
        """Make one component of those of `ones[i]` and `others[i]`, for each i."""
        while len(ones):
            ones, others = self._roots(ones), self._roots(others)
            apart = ones != others
            ones, others = ones[apart], others[apart]
            # A root hangs below a smaller one, so there are no circles; of several for one root any will do, and the
            # pairs that are still apart come round again.
            self._parent[np.maximum(ones, others)] = np.minimum(ones, others)

    def numbers(self) -> np.ndarray:
        """Of each thing the smallest member of its component, (num,) int64."""
        return self._roots(np.arange(len(self._parent)))

    def _roots(self, members: np.ndarray) -> np.ndarray:
        roots = self._parent[members]
        while len(np.flatnonzero(above := self._parent[roots] != roots)):
            roots[above] = self._parent[roots[above]]
        self._parent[members] = roots
        return roots
