"""What a training run leaves in its folder: a checkpoint to go on from, the best weights, a log."""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from retrieval.datasets import LabelledImages
from retrieval.errors import TrainingError
from retrieval.network import EmbedderNetwork
from retrieval.training.learner import Learner
from retrieval.training.train_config import TrainConfig


@dataclass
class Progress:
    """All of a run that changes with the steps; `ema` is None where no average is kept."""

    learner: Learner
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None
    step: int = 0
    best_recall: float = -1.0

    @property
    def validated(self) -> EmbedderNetwork:
        """The network that is validated and kept: the average, if there is one."""
        return self.learner.network if self.ema is None else self.ema.module


def save_checkpoint(path: Path, progress: Progress, config: TrainConfig, training: LabelledImages) -> None:
    """Everything that `load_checkpoint` needs, replaced in one move: a kill leaves the one before."""
    state = {
        "learner": progress.learner.state_dict(),
        "optimizer": progress.optimizer.state_dict(),
        "ema": None if progress.ema is None else progress.ema.state_dict(),
        "config": config.to_dict(),
        "embedder": progress.learner.network.config.to_dict(),
        "training": digest_of(training),
        "step": progress.step,
        "best_recall": progress.best_recall,
    }
    save_atomically(state, path)


def load_checkpoint(path: Path, progress: Progress, config: TrainConfig, training: LabelledImages) -> None:
    """Set `progress` to what was saved, in place; leave it where there is no checkpoint.

    Raises `TrainingError` for a checkpoint of other settings or other training pictures.
    """
    if not path.exists():
        return
    saved = read(path)
    if "config" not in saved:  # it is a ranker's
        refuse_changed(path, ["things to train"])
    wanted = config.to_dict()
    for settings in (wanted, saved["config"]):
        for late in ("concentrate", "shorten", "statistics_of"):  # they come after all that is saved here
            settings.pop(late, None)
    changed = changed_settings(saved["config"], wanted)
    if not changed and saved["embedder"] != progress.learner.network.config.to_dict():
        changed = ["weights to start from"]
    if not changed and shapes(saved["learner"]) != shapes(progress.learner.state_dict()):
        changed = ["classes to learn"]
    if not changed and saved.get("training") != digest_of(training):
        changed = ["training pictures"]
    refuse_changed(path, changed)
    progress.learner.load_state_dict(saved["learner"])
    progress.optimizer.load_state_dict(saved["optimizer"])
    if progress.ema is not None:
        progress.ema.load_state_dict(saved["ema"])
    progress.step, progress.best_recall = saved["step"], saved["best_recall"]


def read(path: Path) -> dict:
    """What `save_atomically` wrote there; raises `TrainingError` for anything else."""
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:  # of as many kinds as a file can be broken in ways
        saved = None
    if not isinstance(saved, dict):
        raise TrainingError(
            f"expected a checkpoint of a training run in {path}, got a file that is none or not whole; "
            "remove it to start anew, or give another folder"
        )
    return saved


def digest_of(images: LabelledImages) -> str:
    """SHA-256, in hex, of how many pictures there are, their shape, classes and groups, and a coarse grid of pixels.

    The grid alone is read, 49 pixels of a picture: a checkpoint must not wait for gigabytes.
    """
    digest = hashlib.sha256(repr(images.pixels.shape).encode())
    step = max(1, images.pixels.shape[1] // 7)
    for values_N in (images.targets, images.instances, images.pixels[:, ::step, ::step]):
        digest.update(values_N.tobytes())
    return digest.hexdigest()


def changed_settings(saved: dict, wanted: dict) -> list[str]:
    """The names of the settings that differ between a checkpoint and the run at hand."""
    changed = sorted(key for key, value in wanted.items() if saved.get(key, value) != value)
    return changed + sorted(wanted.keys() ^ saved.keys())


def refuse_changed(path: Path, changed: list[str]) -> None:
    """Raise `TrainingError` for the checkpoint in `path` if anything of its run was different."""
    if changed:
        raise TrainingError(
            f"expected a checkpoint of this run in {path}, got one with other {', '.join(changed)}; "
            "give the same settings and pictures to go on with it, or another folder to start anew"
        )


def refuse_other(path: Path, saved: dict, identity: dict) -> None:
    """Raise `TrainingError` unless a checkpoint was saved by the run with this `identity`.

    Its `settings` are compared one by one, all else by what it is called.
    """
    if not identity.keys() <= saved.keys():
        refuse_changed(path, ["things to train"])
    changed = changed_settings(saved["settings"], identity["settings"])
    refuse_changed(
        path, changed + [name for name, value in identity.items() if saved[name] != value and name != "settings"]
    )


def digest_of_weights(module: nn.Module) -> str:
    """SHA-256, in hex, of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def finite(name: str, value: torch.Tensor, step: int, out: Path) -> float:
    """The number in a tensor; raises `TrainingError` if it is none."""
    number = value.item()
    if math.isfinite(number):
        return number
    checkpoint = out / "checkpoint.pt"
    last_good = f"the last good weights are in {checkpoint}" if checkpoint.exists() else "no weights were saved yet"
    raise TrainingError(
        f"expected a finite {name}, got {number} at step {step}; {last_good}: "
        "run again with a lower learning rate, into another folder"
    )


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    """The shape of each weight of a state dict."""
    return {name: value.shape for name, value in state.items()}


def save_atomically(state: dict, path: Path) -> None:
    """Write beside the file and move it there when all of it is on disk."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Log:
    """log.jsonl and TensorBoard events in a folder; `step` is where the run goes on: what came later is dropped.

    A log that `is_silent` writes nothing.
    """

    def __init__(self, out: Path, *, step: int, is_silent: bool):
        self.path = out / "log.jsonl"
        self.board = None if is_silent else SummaryWriter(out, purge_step=max(step, 0))
        if not is_silent and self.path.exists():
            self.path.write_text(
                "".join(line for line in self.path.read_text().splitlines(True) if _is_before(line, step))
            )

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        if self.board is not None:
            self.board.close()

    def number(self, name: str, value: float, step: int) -> None:
        """One point of a TensorBoard curve."""
        if self.board is not None:
            self.board.add_scalar(name, value, step)

    def line(self, **values: float) -> None:
        """One line of JSON."""
        if self.board is not None:
            with open(self.path, "a") as file:
                file.write(json.dumps({key: round(value, 4) for key, value in values.items()}) + "\n")


def _is_before(line: str, step: int) -> bool:
    # A kill may have left the last line short of its end.
    return line.endswith("}\n") and json.loads(line)["step"] <= step
