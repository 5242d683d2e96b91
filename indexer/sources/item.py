"""A picture of a corpus, before it is decoded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PARENT = "parent"
"""The `label_from` that takes the name of the folder which a picture lies in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A picture, not yet decoded: its bytes are in `data`, or in the file `path`, or else at the URL `uri`.

    `id` is unique in its source, `uri` says for good where the picture is (`indexer.corpus.read_image` reads it),
    `source` names the source in a word. `listed_in` is the table that lists the file `path`, None for one that was
    found in a folder or named itself. A `problem` says why there is no picture after all; where it `breaks_off`, what
    would follow in the table or archive cannot be read either.
    """

    id: str
    uri: str
    source: str
    data: bytes | None = None
    path: Path | None = None
    label: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    listed_in: str | None = None
    problem: str | None = None
    breaks_off: bool = False
