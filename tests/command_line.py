"""What a command line answers, as tests look at it, and what it imports."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """The exit code, and what went to stdout and to stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """A JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def ids(self) -> list[str]:
        """Those of the hits."""
        return [hit["id"] for hit in self.json["hits"]]


class Apart(NamedTuple):
    """The exit code of each command line, the modules that all of them imported, and what went to stderr."""

    codes: list[int]
    modules: set[str]
    err: str


_SCRIPT = """
import json, sys
from ui.cli import run

codes = [run(command) for command in json.loads(sys.argv[1])]
print(json.dumps([codes, [*sys.modules]]), file=sys.stderr)
"""


def run_apart(*commands: Sequence[str | Path]) -> Apart:
    """Run command lines one after the other in a process of their own, where nothing is imported yet."""
    texts = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", _SCRIPT, texts], capture_output=True, text=True, timeout=60)
    *lines, told = done.stderr.splitlines()
    codes, modules = json.loads(told)
    return Apart(codes, set(modules), "\n".join(lines))
