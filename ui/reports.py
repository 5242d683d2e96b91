"""What each command answers, as text for people and as JSON for programs; pure functions from results to strings."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.own_model import is_gone
from ui.printing import bar, counted, display_width, one_line, shorten, size, table, to_json
from ui.ranker_note import ranker_note

if TYPE_CHECKING:
    from indexer import AddReport, Hit
    from indexer.changes.add_tokens import TokensReport

MAX_DIM = 512
_MOST_FAILURES = 20


def hits_json(query: str | Sequence[str], took_ms: float, hits: Sequence["Hit"]) -> str:
    """`search --json`: `query` is a string, or a list of them where several pictures were combined."""
    return to_json(hits_record(query, took_ms, hits))


def hits_record(query: str | Sequence[str], took_ms: float, hits: Sequence["Hit"]) -> dict[str, Any]:
    """What `hits_json` prints."""
    return {"query": query, "took_ms": round(took_ms, 3), "hits": [hit_record(hit) for hit in hits]}


def hit_record(hit: "Hit") -> dict[str, Any]:
    """A hit as a flat record: its own fields first, then the catalog's other columns.

    A column that bears a field's name comes as `source_` and that name.
    """
    names = ("rank", "id", "uri", "score", "similarity", "dim", "label", "similarity_rank", "names")
    own = {name: getattr(hit, name) for name in names}
    columns = {}
    for name, value in hit.columns.items():
        shown = name
        while shown in own or (shown != name and shown in hit.columns):
            shown = f"source_{shown}"
        columns[shown] = value
    return own | columns


def hits_text(hits: Sequence["Hit"], *, with_id: bool = True) -> str:
    """`search`: one line a hit; a column that says nothing is left out, paths are cut to the terminal's width.

    `was` is the rank before re-ranking, `also` the other ids of the same picture.
    """
    if not hits:
        return "no hits"
    with_label = any(hit.label is not None for hit in hits)
    # In a folder the id is the path's end, and one of the two is enough.
    with_id = with_id and any(not hit.uri.endswith(hit.id) for hit in hits)
    with_names = any(hit.names for hit in hits)
    was_reranked = hits[0].similarity_rank is not None
    columns = {
        "rank": [str(hit.rank) for hit in hits],
        "was": [str(hit.similarity_rank) for hit in hits] if was_reranked else None,
        "score": [f"{hit.score:.4f}" for hit in hits],
        "similarity": [f"{hit.similarity:.4f}" for hit in hits],
        "dim": [str(hit.dim) for hit in hits],
        f"of {MAX_DIM}": [dim_bar(hit.dim) for hit in hits],
        "label": [one_line(hit.label or "") for hit in hits] if with_label else None,
        "id": [shorten(one_line(hit.id), 40) for hit in hits] if with_id else None,
        "also": [shorten(one_line(", ".join(hit.names)), 40) for hit in hits] if with_names else None,
        "picture": [one_line(nearby(hit.uri)) for hit in hits],
    }
    shown = {heading: cells for heading, cells in columns.items() if cells is not None}
    taken = sum(max(map(display_width, [heading, *cells])) + 2 for heading, cells in list(shown.items())[:-1])
    shown["picture"] = [shorten(cell, max(terminal_width() - taken, 24)) for cell in shown["picture"]]
    return table([*shown], list(zip(*shown.values(), strict=True)), right=range(list(shown).index("dim") + 1))


def path_bytes(hit: "Hit") -> bytes:
    """`search --paths-only`: where a hit lies, in the very bytes of its name."""
    return os.fsencode(hit.uri)


def added_json(report: "AddReport") -> str:
    """`index --json`."""
    return to_json(asdict(report))


def added_text(report: "AddReport", index: Path) -> str:
    """`index`: what became of the pictures, and which were skipped and why."""
    counts = ", ".join(f"{getattr(report, name)} {name}" for name in ("added", "updated", "unchanged", "skipped"))
    # What happens now and then is told when it does.
    counts += "".join(
        f", {counted(num, one, many)}"
        for num, one, many in (
            (report.renamed, "renamed", "renamed"),
            (report.duplicates, "duplicate", "duplicates"),
            (report.pruned, "pruned", "pruned"),
        )
        if num
    )
    # Where nothing was to be encoded a rate says nothing.
    rate = f" ({report.images_per_second:.0f} images/s)" if report.images_per_second else ""
    head = f"{index}: {counts} in {report.seconds:.1f} s{rate}"
    return "\n".join([head, *skipped_lines(report.failures)])


def tokens_text(report: "TokensReport", index: Path) -> str:
    """`tokens`: how many pictures were given tokens, and which were skipped and why."""
    counts = ", ".join(f"{getattr(report, name)} {name}" for name in ("added", "unchanged", "skipped"))
    return "\n".join([f"{index}: tokens {counts} in {report.seconds:.1f} s", *skipped_lines(report.failures)])


def skipped_lines(failures: Sequence[Mapping[str, str]]) -> list[str]:
    """The first of them as a table, beneath a blank line; none where there are none."""
    shown = failures[:_MOST_FAILURES]
    if not shown:
        return []
    cells = [(shorten(one_line(failure["id"]), 60), one_line(failure["reason"])) for failure in shown]
    num_more = len(failures) - len(shown)
    more = [f"... and {num_more} more; --json names them all"] if num_more else []
    return ["", table(["skipped", "because"], cells), *more]


def info_text(facts: Mapping[str, Any], index: Path) -> str:
    """`info`: the figures of an index, and how its pictures spread over the buckets."""
    mean_dim = facts["mean_dim"]
    per_image = facts["bytes_per_image"]
    figures = [
        ("images", f"{facts['images']:,}"),
        ("duplicates", f"{facts['duplicates']:,} of them"),
        ("segments", str(facts["segments"])),
        ("mean dim", "-" if mean_dim is None else f"{mean_dim:.1f} of {MAX_DIM}"),
        ("size", size(facts["size_bytes"])),
        ("per image", "-" if per_image is None else size(per_image)),
        ("tokens", f"at most {size(facts['token_bytes'])} an image" if facts["token_bytes"] else "none"),
        ("model", one_line(facts["model"]) + _gone_model(facts["model"])),
        ("version", " of ".join([str(facts["version"]), *filter(None, [facts["when"]])])),
        ("rankers", one_line(ranker_note(facts, index) or ", ".join(facts["rankers"]) or "none")),
    ]
    name_width = max(len(name) for name, _ in figures)
    lines = [f"{name:<{name_width}}  {value}" for name, value in figures]
    num_images = max(facts["images"], 1)
    buckets = [
        (str(width), f"{num:,}", f"{100 * num / num_images:.1f} %", bar(num / num_images, length=20))
        for width, num in facts["buckets"].items()
    ]
    return "\n".join([*lines, "", table(["bucket", "images", "share", ""], buckets, right=(0, 1, 2))])


def _gone_model(name: str) -> str:
    return " (gone: say where it lies with --model DIR)" if is_gone(name) else ""


def verify_text(problems: Sequence[str], index: Path) -> str:
    """`verify`: one line a problem, or one that says that all is well."""
    return "\n".join(map(one_line, problems)) if problems else f"{index}: sound"


def dim_bar(dim: int) -> str:
    """A dim as a small bar, full at 512."""
    return bar(dim / MAX_DIM)


def nearby(uri: str) -> str:
    """A path relative to the working directory where it lies below it, and as it is elsewhere."""
    try:
        return str(Path(uri).relative_to(Path.cwd()))
    except ValueError:
        return uri


def terminal_width() -> int:
    """Columns of the terminal on stdout; as good as endless where stdout is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
