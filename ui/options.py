"""Options that several commands take, so that they read alike everywhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where models and indices run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class OnError(StrEnum):
    """What a picture that cannot be read does to the rest."""

    skip = "skip"
    stop = "stop"


IndexFolder = Annotated[Path, typer.Option("--index", metavar="DIR", help="The index folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
OfSnapshot = Annotated[
    int | None,
    typer.Option("--snapshot", metavar="N", min=0, help="Read an earlier state, as `snapshots` numbers them."),
]
ModelPlace = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|DIR", help="Where the index's model lies, if it was moved.  [default: where it was]"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that decode pictures, at most eight a CPU; 0: none but this.  [default: one a CPU]",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures encoded at once.")]
OnDevice = Annotated[Device, typer.Option("--device", help="Where the model runs; auto takes the GPU if there is one.")]
