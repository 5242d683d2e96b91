"""The static kernel w[i−j] of relative attention: one number a head for each offset between two locations."""

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.device import full_precision


def offset_index(height: int, width: int) -> torch.Tensor:
    """(N, N) int64, N = height·width: which row of a (2·height−1)·(2·width−1) table holds the offset i−j."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rows_N, columns_N = rows.flatten(), columns.flatten()
    row_offset = rows_N[:, None] - rows_N[None, :] + height - 1
    column_offset = columns_N[:, None] - columns_N[None, :] + width - 1
    return row_offset * (2 * width - 1) + column_offset


class RelativeBias(nn.Module):
    """What a table and an MLP have in common: offsets gathered to pairs, once for each size at inference."""

    def __init__(self):
        super().__init__()
        self._cached: tuple[tuple, torch.Tensor] | None = None

    def offsets(self, height: int, width: int) -> torch.Tensor:
        """((2·height−1)·(2·width−1), heads): the bias of each offset."""
        raise TypeError(f"{type(self).__name__} does not say what its offsets weigh")

    def forward(self, height: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """(heads, N, N) in `dtype` for a feature map of height × width = N locations, of any size."""
        weights = list(self.parameters())
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            return self._gather(height, width).to(dtype)
        # In-place changes, an optimizer's or load_state_dict's, raise a weight's version.
        key = (height, width, dtype, weights[0].device, *((weight.data_ptr(), weight._version) for weight in weights))
        # One tuple, read once and put in place whole: other threads may ask for other sizes meanwhile.
        cached = self._cached
        if cached is None or cached[0] != key:
            cached = self._cached = (key, self._gather(height, width).to(dtype))
        return cached[1]

    def train(self, mode: bool = True) -> "RelativeBias":
        self._cached = None
        return super().train(mode)

    def _gather(self, height: int, width: int) -> torch.Tensor:
        offsets = self.offsets(height, width)
        index_NN = offset_index(height, width).to(offsets.device)
        return offsets[index_NN].permute(2, 0, 1).contiguous()


class BiasTable(RelativeBias):
    """A learned (2H−1)(2W−1) table a head, resized bilinearly for feature maps of another size."""

    def __init__(self, height: int, width: int, num_heads: int):
        super().__init__()
        self.height, self.width = height, width
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * height - 1) * (2 * width - 1), num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def offsets(self, height: int, width: int) -> torch.Tensor:
        table = self.relative_position_bias_table
        if (height, width) == (self.height, self.width):
            return table
        return resize_table(table, (self.height, self.width), (height, width))


def resize_table(table: torch.Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> torch.Tensor:
    """A bias table (offsets, heads) interpolated bilinearly for another feature map; sizes are (height, width)."""
    (old_height, old_width), (height, width) = from_size, to_size
    grid_1hHW = full_precision(table).T.reshape(1, -1, 2 * old_height - 1, 2 * old_width - 1)
    resized = F.interpolate(grid_1hHW, (2 * height - 1, 2 * width - 1), mode="bilinear", align_corners=True)
    return resized.flatten(2)[0].T.to(table.dtype)


class BiasMLP(RelativeBias):
    """The bias computed by a small MLP from log-spaced offsets (Swin v2, Liu et al. 2022, arXiv 2111.09883)."""

    def __init__(self, num_heads: int, num_hidden: int):
        super().__init__()
        self.mlp = nn.Sequential()
        self.mlp.fc1 = nn.Linear(2, num_hidden)
        self.mlp.act = nn.ReLU()
        self.mlp.fc2 = nn.Linear(num_hidden, num_heads)

    def offsets(self, height: int, width: int) -> torch.Tensor:
        device = self.mlp.fc1.weight.device
        rows = torch.arange(1 - height, height, device=device, dtype=torch.float32)
        columns = torch.arange(1 - width, width, device=device, dtype=torch.float32)
        steps = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        return self.mlp(steps.sign() * steps.abs().log1p())
