"""A ranker in training: `spyglass train ranker` as a process of its own, whose log the page reads while it runs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What a ranker is to learn from: what was judged in an index and, if there is one, a set of labelled pictures."""

    name: str
    data: str = ""
    epochs: int = 12
    num_candidates: int = 100
    learning_rate: float | None = None

    def arguments(self, index: Path, out: Path, device: str, model: str | None = None) -> list[str]:
        """The command line after `spyglass`; logs go to the folder `out`, the ranker into the index."""
        data = ["--data", self.data] if self.data else []
        embedder = ["--model", model] if model else []
        options = {
            "--feedback": index,
            "--name": self.name,
            "--out": out,
            "--epochs": self.epochs,
            "--candidates": self.num_candidates,
            "--device": device,
        }
        if self.learning_rate is not None:
            options["--learning-rate"] = self.learning_rate
        return [
            "train",
            "ranker",
            *data,
            *embedder,
            *(str(part) for option in options.items() for part in option),
            "--json",
        ]


class Training:
    """A run that starts at once; it goes on when the page is closed, and ends when the server does.

    `model` says where that of the index lies, if it was moved.
    """

    def __init__(self, index: Path, options: TrainingOptions, *, model: str | None = None, device: str = "auto"):
        self.options = options
        self.was_stopped = False
        self._folder = Path(tempfile.mkdtemp(prefix="spyglass-training-"))
        self._report, self._messages = self._folder / "report.json", self._folder / "messages.txt"
        arguments = options.arguments(index.absolute(), self._folder / "run", device, model)
        with self._report.open("wb") as report, self._messages.open("wb") as messages:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ui.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=report,
                stderr=messages,
                # From any working directory the same packages as here.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    @property
    def is_running(self) -> bool:
        """Whether it still trains."""
        return self._process.poll() is None

    @property
    def log(self) -> list[dict[str, float]]:
        """A row an epoch so far: `epoch`, `loss`, `val_loss`, `val_map_at_100`, `val_recall_at_1`."""
        return read_log(self._folder / "run" / "log.jsonl")

    @property
    def report(self) -> dict | None:
        """What `train ranker --json` said in the end; None before that, or where it failed."""
        if self.is_running:
            return None
        text = self._report.read_text("utf-8")
        return json.loads(text) if text else None

    @property
    def problem(self) -> str | None:
        """Why it failed; None where it did not, or was stopped."""
        if self.is_running or self.was_stopped or self.report is not None:
            return None
        lines = self._messages.read_text("utf-8", errors="replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (said or lines or [f"it ended with code {self._process.returncode} and said nothing"])[-1]

    def stop(self) -> None:
        """End it, if it still runs; the ranker that had its name before stays. Its log is not kept."""
        if self.is_running:
            self.was_stopped = True
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def forget(self) -> None:
        """Stop it, and delete its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log that another process may be writing to: a last line that is not whole yet is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def curve(rows: Sequence[dict[str, float]], names: Mapping[str, str]) -> list[dict[str, float | str]]:
    """The rows as points of lines, one line a name, which is called by its words: `epoch`, `measure`, `value`."""
    return [
        {"epoch": row["epoch"], "measure": words, "value": row[name]}
        for row in rows
        for name, words in names.items()
        if row.get(name) is not None
    ]
