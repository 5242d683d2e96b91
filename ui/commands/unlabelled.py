"""Pictures of any source, decoded a batch at a time, for commands that need no labels."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain

import loky
import numpy as np
from tqdm import tqdm

from indexer import corpus
from indexer.sources.decoding import Task, decode_all
from indexer.sources.item import Item
from retrieval.errors import UsageError
from ui.printing import one_line

_BATCH_SIZE = 64
_MOST_LINES = 20


def items(sources: Sequence[str], split: str | None) -> Iterator[Item]:
    """The pictures of all sources in order; with a `split`, those of that split and of sources that have none."""
    found = chain.from_iterable([corpus.read(source) for source in sources])
    return (item for item in found if split is None or _split_of(item) in (None, split))


def count(sources: Sequence[str], split: str | None) -> int:
    """How many pictures `items` gives; raises `UsageError` where there are pictures, but none of that split."""
    nums = {source: corpus.count(source) if split is None else None for source in sources}
    num = sum(sum(1 for _ in items([source], split)) if n is None else n for source, n in nums.items())
    if num == 0 and (splits := {_split_of(item) for item in items(sources, None)}):
        raise UsageError(f"expected a split among {', '.join(sorted(splits))} in {', '.join(sources)}, got {split!r}")
    return num


def batches(
    items: Iterable[Item],
    image_size: int,
    *,
    num_workers: int | None,
    failures: list[dict[str, str]],
    num_items: int,
    show_progress_bar: bool = False,
) -> Iterator[np.ndarray]:
    """Decoded pictures (B, S, S, 3) uint8; `id`, `uri` and `reason` of those that cannot be read go to `failures`.

    `num_workers`: processes that decode, 0 for none, one a core for None. `num_items`: how many `items` are.
    """
    decoded = decode_all(
        (Task(item=item) for item in items),
        image_size,
        num_workers=loky.cpu_count() if num_workers is None else num_workers,
        num_ahead=2 * _BATCH_SIZE,
    )
    batch = []
    with closing(decoded), tqdm(total=num_items, unit=" images", disable=not show_progress_bar) as progress_bar:
        for item, outcome in decoded:
            if outcome.problem is not None:
                failures.append({"id": item.id, "uri": item.uri, "reason": outcome.problem})
            else:
                batch.append(outcome.pixels)
            if len(batch) == _BATCH_SIZE:
                yield np.stack(batch)
                batch = []
            progress_bar.update()
        if batch:
            yield np.stack(batch)


def failure_lines(failures: Sequence[dict[str, str]]) -> list[str]:
    """A line for each of the first failures, and one that says how many more there are."""
    lines = [f"skipped {one_line(failure['uri'])}: {one_line(failure['reason'])}" for failure in failures[:_MOST_LINES]]
    more = len(failures) - len(lines)
    return [*lines, f"... and {more} more; --json names them all"] if more else lines


def _split_of(item: Item) -> str | None:
    value = item.columns.get("split")
    return None if value is None else str(value)
