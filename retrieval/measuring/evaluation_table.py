"""The result of an evaluation: its rows, as JSON and as text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

MEASURES = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "map@r": "mAP@R",
    "map@100": "mAP@100",
    "ndcg@100": "nDCG@100",
    "mrr": "MRR",
    "instance_recall@1": "original",
}
"""What is measured, in percent, and its heading."""

WITH_INTERVALS = ("recall@1", "map@r", "instance_recall@1")


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One way to store the images: what it finds, and what it costs.

    `kind` is one of adaptive, fixed, random, energy, oracle and pixels. `measures` has, in percent, the keys of
    `MEASURES` that could be measured. `intervals` are 95 % bootstrap intervals over the queries, and `adaptive_lead`
    those of adaptive's value less this row's on the same queries, for `WITH_INTERVALS`. `mean_dim` and `std_dim` are of
    the numbers that an image keeps, `bytes_per_vector` of the numbers that its bucket stores, in float16.
    """

    name: str
    kind: str
    measures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    adaptive_lead: dict[str, tuple[float, float]]
    mean_dim: float
    std_dim: float
    bytes_per_vector: float

    def to_dict(self) -> dict:
        """The same as plain dicts, lists, strings and numbers, for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            **self.measures,
            **{f"{name}_interval": list(found) for name, found in self.intervals.items()},
            "adaptive_lead": {name: list(found) for name, found in self.adaptive_lead.items()},
            "mean_dim": self.mean_dim,
            "std_dim": self.std_dim,
            "bytes_per_vector": self.bytes_per_vector,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The rows of the comparison, and the share (0..1) of the images that lie in the bucket of each width.

    `num_left_out` of the images are alone in their class or have none: they are in the gallery, but ask no query.
    `correlations` are Spearman's, of each image's dims with measures of its complexity; NaN where one of the two is
    the same for all.
    """

    rows: tuple[EvaluationRow, ...]
    bucket_shares: dict[int, float]
    num_images: int
    num_classes: int
    num_left_out: int
    correlations: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """The same as plain dicts, lists, strings and numbers, for JSON; NaN becomes None."""
        return {
            "images": self.num_images,
            "classes": self.num_classes,
            "left_out": self.num_left_out,
            "rows": [row.to_dict() for row in self.rows],
            "buckets": {str(width): share for width, share in self.bucket_shares.items()},
            "correlations": {name: None if math.isnan(rho) else rho for name, rho in self.correlations.items()},
        }

    def table(self) -> str:
        """The same as text: what each row finds and costs, then its intervals, then the images."""
        asked = f"{self.num_images:,} images of {self.num_classes:,} classes"
        if self.num_left_out:
            asked += f"; {self.num_left_out:,} alone in their class or without one, not asked for"
        buckets = ", ".join(f"{width}: {100 * share:.1f} %" for width, share in self.bucket_shares.items())
        text = [*self._values(), "", *self._intervals(), "", asked]
        if self.correlations:
            found = (f"{rho:+.2f} with {name.replace('_', ' ')}" for name, rho in self.correlations.items())
            text.append(f"dims follow complexity (Spearman): {', '.join(found)}")
        return "\n".join([*text, f"buckets  {buckets}"])

    def _values(self) -> list[str]:
        names = [name for name in MEASURES if any(name in row.measures for row in self.rows)]
        lines = [("%", *(MEASURES[name] for name in names), "mean dim", "std dim", "bytes")]
        for row in self.rows:
            costs = (f"{row.mean_dim:.1f}", f"{row.std_dim:.1f}", f"{row.bytes_per_vector:.0f}")
            found = (f"{row.measures[name]:.1f}" if name in row.measures else "-" for name in names)
            lines.append((row.name, *found, *costs))
        return _aligned(lines)

    def _intervals(self) -> list[str]:
        names = [name for name in WITH_INTERVALS if name in self.rows[0].measures]
        headings = [MEASURES[name] for name in names]
        lines = [("95 % intervals", *headings, *(f"{heading} lead" for heading in headings))]
        for row in self.rows:
            own = (_span(row.intervals, name, "{:.1f} to {:.1f}") for name in names)
            lead = (_span(row.adaptive_lead, name, "{:+.2f} to {:+.2f}") for name in names)
            lines.append((row.name, *own, *lead))
        return [*_aligned(lines), "lead: adaptive less this row, on the same queries"]


def _span(intervals: dict[str, tuple[float, float]], name: str, form: str) -> str:
    return form.format(*intervals[name]) if name in intervals else "-"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The cells two blanks apart, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
