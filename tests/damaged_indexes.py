"""Index folders with one damaged file, opened, searched and verified in processes of their own, which may crash.

Meant for a process of its own, as `faults`.
"""

import logging
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import forked
from damage import Damage, damage
from index_state import IndexState, state_of
from toy import ToyEmbedder, png, write_pngs

from indexer import Index
from indexer.storage import arrays
from indexer.vectors import approximating
from retrieval.errors import SpyglassError

_SECONDS = 20.0


@dataclass(kw_only=True)
class Report:
    """How many were tried, what became of them, and what should not have."""

    num_tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(folder: Path, seeds: range) -> Report:
    """Damage an index once for each seed, in the empty folder `folder`."""
    forked.be_one_thread()
    logging.disable()  # warnings of damage by the thousand
    whole, damaged = folder / "whole.index", folder / "damaged.index"
    _build(whole, folder / "pictures")
    queries = [png(seed) for seed in (0, 5, 50)]
    sound = state_of(whole, queries)
    report = Report()
    for seed in seeds:
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(whole, damaged)
        what = damage(damaged, seed)
        # Every other time small files are mapped, as large ones are.
        mapped = 0 if seed % 2 else arrays.MAPPED
        ended = forked.call(lambda mapped=mapped: _look(damaged, queries, sound, mapped), seconds=_SECONDS)
        outcome, problems = _judge(what, ended)
        report.num_tried += 1
        report.outcomes[outcome] += 1
        report.problems += [f"seed {seed}, {what.kind}: {', '.join(what.names)}: {problem}" for problem in problems]
    return report


def _build(path: Path, pictures: Path) -> None:
    """Two segments, the second one with approximate indices; a copy, a picture changed and one removed; judgments."""
    write_pngs(pictures, range(12))
    shutil.copy(pictures / "003.png", pictures / "again.png")
    (pictures / "broken.png").write_bytes(b"")
    index = Index.create(path, ToyEmbedder())
    index.add(pictures, num_workers=0)
    (pictures / "000.png").write_bytes(png(100))
    write_pngs(pictures, range(12, 18))
    with patch.object(approximating, "type_for", lambda num_rows, *_: "HNSW4" if num_rows > 1 else None):
        index.add(pictures, num_workers=0)
    index.remove(["005.png"])
    for day in (1, 2):
        said = {"query": "001.png", "image": "002.png", "relevant": True, "when": f"2025-01-{day:02d}T12:00:00Z"}
        index.record_feedback_rows([said])


def _look(path: Path, queries: list[bytes], sound: IndexState, mapped: int) -> dict[str, Any]:
    """What a child finds: whether all answers are the same, or the error; and what `verify` says, or its."""
    arrays.MAPPED = mapped
    said: dict[str, Any] = {"same": False, "judged": False, "error": None, "found": None}
    try:
        state = state_of(path, queries)
        said["same"] = state._replace(judgments=sound.judgments) == sound
        said["judged"] = state.judgments == sound.judgments
    except SpyglassError as error:
        said["error"] = str(error)
    try:
        said["found"] = Index.open(path, ToyEmbedder()).verify()
    except SpyglassError as error:
        said["found"] = [str(error)]
    return said


def _judge(what: Damage, ended: forked.Ended) -> tuple[str, list[str]]:
    """In a word what became of it, and what should not have been."""
    said = ended.value
    if ended.signal:
        return "crash", [f"expected no crash, got {signal.Signals(ended.signal).name}"]
    if "unexpected" in said:
        return "crash", [f"expected an error that says what is damaged, got {said['unexpected']}"]
    problems = []
    if said["error"] is not None and not _names(what, [said["error"]]):
        problems.append(f"expected an error of one line that names the file, got {said['error']!r}")
    if said["found"] and not _names(what, said["found"]) and what.names[0] != "manifest.json":
        problems.append(f"expected lines that name the file, got {said['found']}")
    if not said["found"] and not (said["same"] and all(_may_pass(what.kind, name, said) for name in what.names)):
        problems.append(f"expected `verify` to find it, got nothing, and {said}")
    outcome = "refused" if said["error"] is not None else "same answers" if said["same"] else "found by verify"
    return outcome, problems


def _names(what: Damage, lines: list[str]) -> bool:
    """Whether the lines name the file, or the folder that it is in, and are lines."""
    words = {word for name in what.names for word in Path(name).parts[-2:]} - {"segments", "history", "feedback"}
    if what == ("edited", ("manifest.json",)):  # its checksum fits: the file that is not as it says is the odd one
        words |= {"/segments/", "/deleted/"}
    return any(word in line for word in words for line in lines) and not any("\n" in line for line in lines)


def _may_pass(kind: str, name: str, said: dict[str, Any]) -> bool:
    """Whether nothing tells that a file is not as it was written, where all answers are the same."""
    home = Path(name).parts[0]
    is_gone = kind in ("removed", "a folder removed", "a link instead")
    if home == "history":  # earlier states may be forgotten; and a checksum is no signature
        return is_gone or kind == "edited"
    if home == "feedback":  # what was said is checked judgment by judgment, and may have been said elsewhere
        return is_gone or said["judged"]
    return home in ("lock", "failures.jsonl")
