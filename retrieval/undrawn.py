"""Making a module whose weights are replaced at once: drawing random ones for it would be wasted.

torch's meta device serves the same end, but a random draw there imports its compiler: seconds, for a search of one.
"""

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_})


class Undrawn(TorchFunctionMode):
    """Inside this context nothing is drawn in place: memory keeps what it held, and random numbers stay as they are."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))
