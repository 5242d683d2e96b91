"""Where a model runs: `"auto"`, `"cpu"` or `"cuda"`, and which number format is fast there."""

import re
from contextlib import AbstractContextManager, nullcontext

import torch

from retrieval.errors import UsageError


def resolve_device(device: str | torch.device) -> torch.device:
    """`"auto"` is the GPU where torch sees one; raises `UsageError` for `"cuda"` without a GPU and for other names."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"(cpu|cuda)(:\d+)?", str(device)):
        raise UsageError(f"expected device 'auto', 'cpu' or 'cuda', got {str(device)!r}")
    if str(device).startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("expected a GPU for device 'cuda', torch sees none; use 'auto' or 'cpu'")
    return torch.device(device)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the machine multiplies in bfloat16 rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public question for this yet; a version without the private one runs in float32.
    answers = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(answer() for answer in answers if answer is not None)


def full_precision(values: torch.Tensor) -> torch.Tensor:
    """float32 for what is shorter; float64 stays as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def fast_autocast(device: torch.device) -> AbstractContextManager:
    """bfloat16 where the machine computes in it (2 to 3 times as fast as float32 there), float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16) if computes_bfloat16(device) else nullcontext()
