"""Many searches in one run: a line of JSON for each query, in order."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from retrieval.errors import SpyglassError
from ui.grouping_note import grouping_note
from ui.printing import json_line, one_line
from ui.reports import hits_record

if TYPE_CHECKING:
    from indexer import Index

_AT_ONCE = 64


def run(
    index: "Index",
    queries: Sequence[str],
    echo: Callable[[str], None],
    *,
    crop: tuple[int, int, int, int] | None,
    show_progress_bar: bool,
    **options: Any,
) -> int:
    """Search for each query with the same `options`; returns how many of them could not be read.

    Each gives a line as `search --json` has it, on one line, or `{"query", "error"}`. `took_ms` is a query's share of
    the time that those took which were answered together.
    """
    num_failed = 0
    notes: set[str | None] = set()
    with tqdm(total=len(queries), unit=" queries", disable=not show_progress_bar) as progress_bar:
        for start in range(0, len(queries), _AT_ONCE):
            some = queries[start : start + _AT_ONCE]
            started = time.perf_counter()
            encoded = index.encode_pictures(some, crop=crop, on_error="skip")
            readable = [picture for picture in encoded if not isinstance(picture, SpyglassError)]
            found = iter(index.search_many(readable, **options))
            answers = [picture if isinstance(picture, SpyglassError) else next(found) for picture in encoded]
            took_ms = (time.perf_counter() - started) * 1000 / len(some)
            for query, answer in zip(some, answers, strict=True):
                if isinstance(answer, SpyglassError):
                    num_failed += 1
                    echo(json_line({"query": query, "error": str(answer)}))
                else:
                    notes |= {grouping_note(answer, options.get("group_by"))} if answer else set()
                    echo(json_line(hits_record(query, took_ms, answer)))
            progress_bar.update(len(some))
    if len(notes) == 1 and (note := notes.pop()):  # of no query there was anything to group by
        print(one_line(note), file=sys.stderr)
    return num_failed
