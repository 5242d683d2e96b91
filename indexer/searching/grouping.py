"""Groups of images by the value of one column, and the best of each group in a ranking."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.errors import UsageError


class Groups:
    """The rows of a catalog by their `values` (N,) in the column `name`, of which each may give `size` hits.

    A row without a value is a group of its own: nothing says that two such belong together. Raises `UsageError`.
    """

    def __init__(self, name: str, values: pa.Array, size: int):
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        try:
            codes = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        except pa.ArrowNotImplementedError:
            raise UsageError(
                f"expected a column of plain values to group by, got {name!r}, which holds {values.type}"
            ) from None
        alone = -1 - np.arange(len(values))
        self._group_of_row = np.where(
            codes.is_valid().to_numpy(zero_copy_only=False),
            codes.indices.fill_null(0).to_numpy(zero_copy_only=False),
            alone,
        )
        self._size = size

    def best(self, rows: np.ndarray) -> np.ndarray:
        """The places (M,), rising, in a ranking of `rows` (K,) that no more than `size` - 1 of their group precede."""
        groups = self._group_of_row[rows]
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=np.iinfo(np.int64).min))
        nums = np.diff(starts, append=len(rows))
        place_in_group = np.arange(len(rows)) - np.repeat(starts, nums)
        return np.sort(order[place_in_group < self._size])

    def most(self, rows: np.ndarray) -> int:
        """How many hits all of these rows (M,) can give."""
        _, nums = np.unique(self._group_of_row[rows], return_counts=True)
        return int(np.minimum(nums, self._size).sum())
