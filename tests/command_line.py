"""What a command line answers, as tests look at it."""

import json
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
