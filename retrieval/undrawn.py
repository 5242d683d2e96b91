"""Making a module whose weights are replaced at once: drawing random ones for it would be wasted.

torch's meta device serves the same end, but a random draw there imports its compiler: seconds, for a search of one.
"""

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# Those of nn.init that torch hands over whole, and what the others call.
_DRAWS = frozenset(
    {torch.Tensor.normal_, torch.Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
)


class Undrawn(TorchFunctionMode):
    """Inside this context what would be drawn in place is zero, and torch's random numbers stay as they are."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in _DRAWS:
            return func(*args, **kwargs)
        # Zeros rather than nothing: some initialisations draw again until what they find is in bounds.
        return (args[0] if args else kwargs["tensor"]).detach().zero_()
