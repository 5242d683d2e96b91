"""Training in several processes, one a GPU: who does which part, and sums over all that carry gradients.

Every process draws the same pictures for a step and encodes its own slice of them; the pooled vectors are then
gathered, and each process computes the loss of the whole batch. A gradient that flows back through `gather_rows` is
summed over the processes. Each of them has the whole loss L, so the sum is that of `size` · L: what a process collects
in its backbone is `size` times its slice's share of the gradient of L, and in all that comes after gathering the whole
gradient. `DistributedDataParallel` takes the mean over the processes, which in both cases leaves the gradient of L
that one process would have found.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from retrieval.device import resolve_device
from retrieval.errors import UsageError

# The others wait while the first validates.
_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together: `rank` in 0.. of `size`, and the device it trains on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """The one that writes, logs and validates."""
        return self.rank == 0

    def part_of(self, batch_B: torch.Tensor) -> torch.Tensor:
        """This process's slice of a batch; raises `UsageError` where the batch does not divide."""
        if len(batch_B) % self.size:
            raise UsageError(f"expected a batch_size that {self.size} processes divide, got {len(batch_B)}")
        return batch_B.chunk(self.size)[self.rank]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are the mean over all processes."""
        if self.size == 1:
            return module
        # A stage does not train all that it carries: the dimension predictor learns in a stage of its own. Buffers
        # need no sending around, since their statistics are synchronised.
        return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)

    @torch.no_grad()
    def share(self, module: nn.Module) -> None:
        """Copy the first process's weights and buffers of a module to all others, in place."""
        if self.size == 1:
            return
        for tensor in module.state_dict().values():
            sent = tensor.to(self.device).contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """The processes that `torchrun` started, or that have a process group already; else this one alone.

    `device` as in `resolve_device`; with several processes `"cuda"` is a GPU each. Raises `UsageError` where there are
    fewer GPUs than processes.
    """
    resolved = resolve_device(device)
    has_started = False
    if is_under_torchrun() and not dist.is_initialized():
        # Its functions take the group of the moment of import as a default. `DistributedDataParallel` imports it late,
        # and that group would live on: its threads then meet an interpreter at its end, which aborts the process.
        importlib.import_module("torch.distributed.nn.functional")
        if resolved.type == "cuda":
            place, num_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if place >= num_gpus:
                raise UsageError(f"expected a GPU a process, got {num_gpus} GPUs; lower --nproc-per-node")
            resolved = torch.device("cuda", place)
            torch.cuda.set_device(resolved)
            dist.init_process_group("nccl", timeout=_TIMEOUT, device_id=resolved)
        else:
            dist.init_process_group("gloo", timeout=_TIMEOUT)
        has_started = True
    try:
        rank, size = (dist.get_rank(), dist.get_world_size()) if _is_running() else (0, 1)
        yield Ranks(rank=rank, size=size, device=resolved)
    finally:
        if has_started:
            dist.destroy_process_group()


def is_under_torchrun() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def is_first_process() -> bool:
    """Whether this is the process that reports: the only one, or the first that `torchrun` started."""
    return not is_under_torchrun() or os.environ["RANK"] == "0"


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, differentiable; the tensor itself in a process alone."""
    return _SumOverRanks.apply(tensor) if _is_running() else tensor


def gather_rows(rows_BC: torch.Tensor) -> torch.Tensor:
    """The rows (B, C) of all processes in the order of their ranks, (size · B, C), differentiable."""
    if not _is_running():
        return rows_BC
    before, after = dist.get_rank(), dist.get_world_size() - dist.get_rank() - 1
    # Rows among zeros, summed: one operation for gloo and NCCL alike, in both directions.
    return sum_over_ranks(F.pad(rows_BC, (0, 0, before * len(rows_BC), after * len(rows_BC))))


def num_ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _is_running() else 1


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverRanks.apply(gradient)


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()
