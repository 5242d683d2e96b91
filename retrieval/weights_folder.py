"""A folder with config.json and model.safetensors: how every trained part is kept, found by name and read again."""

import json
import os
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from retrieval.errors import UsageError, WeightsError
from retrieval.nearest_name import did_you_mean
from retrieval.shipped import shipped

DEFAULT = "default"

UNSAVED = "unsaved"
"""The name of what lies in no folder yet."""

FORMAT = 1

Parsed = TypeVar("Parsed")


def place_of(path_or_name: str | Path | None, *, shipped_as: str) -> tuple[Path, str]:
    """The folder that is meant, and the name to know it by: a folder as it is, or what ships under a name.

    `shipped_as` is where a name lies among what ships, such as `"weights/{name}"`. None and `"default"` mean the
    default one, whatever lies in the working directory: a folder of that name is `"./default"`, or a `Path`. Raises
    `WeightsError` for a path that is no folder, and a name that nothing ships under.
    """
    name = DEFAULT if path_or_name is None else str(path_or_name)
    if not name:
        raise WeightsError(
            f"expected {DEFAULT!r}, or a folder with config.json and model.safetensors, got an empty name"
        )
    if path_or_name not in (None, DEFAULT) and Path(name).is_dir():
        return Path(name), str(Path(name).resolve())
    if "/" in name or "\\" in name:
        raise WeightsError(f"expected a folder with config.json and model.safetensors, got {name}, which is none")
    try:
        return shipped(shipped_as.format(name=name)), name
    except WeightsError:
        if name == DEFAULT:
            raise
        raise WeightsError(
            f"expected {DEFAULT!r}, or a folder with config.json and model.safetensors, got {name!r}, which is neither"
            + did_you_mean(name, [DEFAULT])
        ) from None


def name_once_saved(name: str, folder: str | Path) -> str:
    """The name of a part that was just written to `folder`: the one that it had, or else the folder's."""
    return str(Path(folder).resolve()) if name == UNSAVED else name


def half_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict as it is stored: floating point in float16, counters as they are, on the CPU."""
    return {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in module.state_dict().items()
    }


def write(folder: str | Path, module: nn.Module, config: dict) -> None:
    """Keep the weights of `module` in float16, and `config`, plain values, beside the number of the format.

    Both files are written aside before they take the place of earlier ones. Raises, and changes nothing, `WeightsError`
    where a weight is not finite or too large for float16, `UsageError` where `config` holds what JSON does not.
    """
    state = half_state(module)
    if wrong := _not_finite(state):
        raise WeightsError(
            f"expected finite weights of at most {torch.finfo(torch.float16).max:,.0f}, as float16 keeps them, got "
            f"others in {wrong[0]}; scale them down or train again"
        )
    try:
        text = json.dumps({"format": FORMAT, **config}, indent=2) + "\n"
    except (TypeError, ValueError) as error:
        raise UsageError(f"expected notes that JSON can hold, got others: {error}; make them text or numbers") from None
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Not `save_file`, whose files nobody but their owner may read. The config comes last: without it there is no model.
    contents = {folder / "model.safetensors": save(state), folder / "config.json": text.encode()}
    parts = {path: path.with_name(f".{path.name}.part") for path in contents}
    try:
        for path, content in contents.items():
            with parts[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def read(folder: Path, parse: Callable[[dict], Parsed]) -> tuple[Parsed, dict[str, torch.Tensor]]:
    """What `parse` makes of the config, and the weights as they are stored; raises `WeightsError`."""
    try:
        config = json.loads((folder / "config.json").read_text())
        if config["format"] != FORMAT:
            raise WeightsError(f"expected weights of format {FORMAT} in {folder}, got format {config['format']!r}")
        return parse(config), load_file(folder / "model.safetensors")
    except UsageError as error:
        raise WeightsError(f"expected whole weights in {folder}, got a config.json that says: {error}") from None
    except OSError as error:
        raise WeightsError(f"expected config.json and model.safetensors in {folder}, got: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise WeightsError(f"expected whole weights in {folder}, got files that do not parse: {reason}") from None


def fill(module: nn.Module, state: dict[str, torch.Tensor], folder: Path, *, what: str) -> None:
    """Put the weights read from `folder` into a module made for them, each as its type is there.

    `what` the module is, such as "ranker". Raises `WeightsError` where they do not fit or are not finite.
    """
    dtypes = {key: value.dtype for key, value in module.state_dict().items()}
    try:
        module.load_state_dict(
            {key: value.to(dtypes.get(key, value.dtype)) for key, value in state.items()}, assign=True
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"expected weights that fit {folder / 'config.json'}, got others: {reason}") from None
    if _not_finite(module.state_dict()):
        raise WeightsError(f"expected finite weights in {folder}, got NaN or infinity; train the {what} again")


def _not_finite(state: dict[str, torch.Tensor]) -> list[str]:
    """The keys of those in which NaN or infinity is."""
    # By their bounds, which tell of NaN too: many times faster than to ask every number.
    return [
        key for key, value in state.items() if value.numel() and not all(isfinite(bound) for bound in value.aminmax())
    ]
