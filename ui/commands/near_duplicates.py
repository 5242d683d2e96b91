"""The command `spyglass near-duplicates`."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ui.commands.search_options import Where
from ui.opening import open_index
from ui.options import AsJson, IndexFolder, OfSnapshot
from ui.printing import counted, one_line, shorten, shows_bars, size, table, to_json

if TYPE_CHECKING:
    from indexer.searching.near_duplicates import NearDuplicate


def near_duplicates(
    index: IndexFolder,
    threshold: Annotated[
        float,
        typer.Option("--threshold", metavar="COSINE", help="How alike two pictures are at least; 1 is equal."),
    ] = 0.95,
    where: Where = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare all pairs, however many pictures there are.")] = False,
    snapshot: OfSnapshot = None,
    as_json: AsJson = False,
) -> None:
    """Find groups of pictures that are nearly the same, in all of an index; needs no model.

    Of each group the picture with the most pixels comes first; the similarity is that to the one most like it. A group
    holds all that is linked by pairs over the threshold.

    Every similarity is exact. Of fewer than 50,000 pictures all pairs are compared; of more, those of the same or a
    neighbouring cluster, in a minute for a million. That may miss a pair: one in a thousand at 0.9, three or four in a
    hundred at 0.8. --exact compares all pairs, which takes four times as long for twice as many pictures.

    \b
    Examples:
      spyglass near-duplicates --index photos.index
      spyglass near-duplicates --index photos.index --threshold 0.98 --where "label = 'beach'" --json
    """
    started = time.perf_counter()
    groups = open_index(index, snapshot=snapshot).near_duplicates(
        threshold, where=where, exact=exact, show_progress_bar=shows_bars()
    )
    took_ms = round((time.perf_counter() - started) * 1000, 3)
    if as_json:
        records = [{"images": [asdict(one) for one in group]} for group in groups]
        typer.echo(to_json({"threshold": threshold, "took_ms": took_ms, "groups": records}))
    else:
        typer.echo(_text(groups, threshold))


def _text(groups: "Sequence[Sequence[NearDuplicate]]", threshold: float) -> str:
    if not groups:
        return f"no two pictures are alike to {threshold}"
    rows = [
        (
            str(number) if not place else "",
            f"{one.similarity:.4f}",
            f"{one.width}x{one.height}",
            size(one.num_bytes),
            shorten(one_line(one.id), 60),
        )
        for number, group in enumerate(groups, start=1)
        for place, one in enumerate(group)
    ]
    more = counted(sum(len(group) - 1 for group in groups), "picture", "pictures")
    shown = table(["group", "similarity", "pixels", "bytes", "picture"], rows, right=(0, 1, 2, 3))
    of_each = "the first" if len(groups) == 1 else "the first of each"
    return f"{shown}\n\n{counted(len(groups), 'group', 'groups')}; {more} beside {of_each}"
