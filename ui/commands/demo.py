"""The demonstration: draws its own pictures, indexes and searches them, and saves a contact sheet."""

import csv
import runpy
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from indexer import Hit, Index
from indexer.storage import manifest
from retrieval import Embedder
from retrieval.errors import MismatchError
from retrieval.shipped import shipped
from ui.pictures import hit_sheet
from ui.printing import table
from ui.render import contact_sheet
from ui.reports import MAX_DIM, dim_bar, hits_text

GROUPS = {"plain": range(1, 4), "medium": range(4, 8), "crowded": range(8, 11)}
"""Words for the sample pictures' complexity, which runs from 1 to 10."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample picture: its file, its kind and how complex it was drawn."""

    path: Path
    kind: str
    complexity: int

    @property
    def group(self) -> str:
        return next(name for name, complexities in GROUPS.items() if self.complexity in complexities)


def run(
    out: Path,
    *,
    num_per_kind: int = 28,
    num_queries: int = 6,
    top_k: int = 6,
    num_workers: int | None = None,
    show_progress_bar: bool = False,
) -> Path:
    """Run the demonstration in the folder `out`, and return the path of the contact sheet.

    What a former run left there is used again: pictures if they are complete, the index if the model is the same.
    """
    samples = draw_samples(out / "pictures", num_per_kind=num_per_kind, show_progress_bar=show_progress_bar)
    embedder = Embedder.load()
    index = open_or_create(out / "pictures.index", embedder)
    fill(index, out / "pictures" / "pictures.csv", num_workers=num_workers, show_progress_bar=show_progress_bar)
    queries = spread_over_kinds(samples, num_queries)
    found = [hits_beside(index, query, top_k) for query in queries]
    for query, hits in zip(queries, found, strict=True):
        typer.echo(f"{query.path.name}: a {query.group} picture, complexity {query.complexity} of 10")
        typer.echo(hits_text(hits, with_id=False) + "\n")
    num_hits = sum(map(len, found))
    num_alike = sum(hit.label == query.kind for query, hits in zip(queries, found, strict=True) for hit in hits)
    num_kinds = len({sample.kind for sample in samples})
    typer.echo(f"{num_alike} of {num_hits} hits are of their query's kind (of {num_kinds} kinds)\n")
    typer.echo(dims_text(index) + "\n")
    sheet = out / "contact-sheet.png"
    save_sheet(sheet, queries, found, embedder, num_pictures=len(samples))
    for name, path in (("contact sheet", sheet), ("pictures", out / "pictures"), ("index", out / "pictures.index")):
        typer.echo(f"{name:<13}  {path}")
    example = shlex.join(
        ["spyglass", "search", str(queries[-1].path), "--index", str(out / "pictures.index"), "-k", "5"]
    )
    typer.echo(f"\nnow try  {example}")
    return sheet


def draw_samples(folder: Path, *, num_per_kind: int, show_progress_bar: bool = False) -> list[Sample]:
    """The sample pictures in `folder`, drawn unless they are all there already."""
    drawn = read_samples(folder / "pictures.csv")
    if not drawn or not all(sample.path.exists() for sample in drawn):
        _say(f"drawing sample pictures in {folder}")
        write_pictures = runpy.run_path(str(shipped("sample_pictures.py")))["write_pictures"]
        write_pictures(folder, num_per_kind=num_per_kind, show_progress_bar=show_progress_bar)
        drawn = read_samples(folder / "pictures.csv")
    return drawn


def read_samples(listing: Path) -> list[Sample]:
    """The sample pictures that a pictures.csv lists; none where there is no such file."""
    if not listing.exists():
        return []
    with open(listing, newline="", encoding="utf-8") as file:
        return [
            Sample(path=listing.parent / row["path"], kind=row["label"], complexity=int(row["complexity"]))
            for row in csv.DictReader(file)
        ]


def open_or_create(folder: Path, embedder: Embedder) -> Index:
    """The demonstration's index, opened or made; one that another model made is made anew."""
    if manifest.exists(folder):
        try:
            return Index.open(folder, embedder)
        except MismatchError:
            _say(f"making {folder} anew: it was made by another model")
            shutil.rmtree(folder)
    return Index.create(folder, embedder)


def fill(index: Index, listing: Path, *, num_workers: int | None, show_progress_bar: bool) -> None:
    """Add the sample pictures that are not in the index yet."""
    _say(f"indexing {listing.parent}")
    report = index.add(listing, label_from="label", num_workers=num_workers, show_progress_bar=show_progress_bar)
    _say(f"indexed: {report.added} added, {report.unchanged} unchanged, {report.seconds:.1f} s")


def spread_over_kinds(samples: Sequence[Sample], num_queries: int) -> list[Sample]:
    """The first pictures of `num_queries` kinds, from the plainest to the most crowded, evenly spread."""
    first_of_kind = {sample.kind: sample for sample in reversed(samples)}
    ordered = sorted(first_of_kind.values(), key=lambda sample: (sample.complexity, sample.kind))
    num_queries = min(num_queries, len(ordered))
    return [ordered[int((place + 0.5) * len(ordered) / num_queries)] for place in range(num_queries)]


def hits_beside(index: Index, query: Sample, top_k: int) -> list[Hit]:
    """The best hits for a picture of the index, itself left out."""
    # By similarity alone, whose scale needs no explanation: what is shown is the embedding.
    hits = index.search(query.path, top_k=top_k + 1, rerank=0)
    others = [hit for hit in hits if Path(hit.uri) != query.path.absolute()][:top_k]
    return [replace(hit, rank=rank) for rank, hit in enumerate(others, start=1)]


def dims_text(index: Index) -> str:
    """The mean dim of each group of complexity, as a table."""
    catalog = index.catalog()
    rows = []
    for name, complexities in GROUPS.items():
        dims = catalog["dim"][catalog["complexity"].astype(int).isin(complexities)]
        if len(dims):
            rows.append((name, str(len(dims)), f"{dims.mean():.1f}", dim_bar(dims.mean())))
    return table(["complexity", "pictures", "mean dim", f"of {MAX_DIM}"], rows, right=(1, 2))


def save_sheet(
    path: Path, queries: Sequence[Sample], found: Sequence[Sequence[Hit]], embedder: Embedder, *, num_pictures: int
) -> None:
    """Draw a row a query, with the score and dim of each hit, and where the model looked."""
    rows = [
        hit_sheet.row_of(query.path, hits, embedder, title=query.kind, detail=f"{query.group} picture")
        for query, hits in zip(queries, found, strict=True)
    ]
    subtitle = (
        f"{len(rows)} queries among {num_pictures} pictures; a bar shows how many of {MAX_DIM} numbers a picture needed"
    )
    hit_sheet.write(contact_sheet(rows, subtitle=subtitle), path)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
