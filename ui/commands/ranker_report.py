"""What `train ranker` says: a line an epoch while it trains, and in the end what reranking gives."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ui.printing import counted, one_line, table, to_json

_COLUMNS = {"epoch": 5, "loss": 8, "val_loss": 8, "val_map_at_100": 8, "val_recall_at_1": 8}
_HEADINGS = ("epoch", "loss", "val loss", "mAP@100", "Recall@1")

Measures = Mapping[str, float]
"""`map_at_100` and `recall_at_1`, in percent."""


def table_line(row: Mapping[str, float] | None) -> str:
    """A line of the table for a row of the log, or the headings for None."""
    if row is None:
        cells = list(_HEADINGS)
    else:
        values = [row.get(name) for name in _COLUMNS]
        formats = ["d", ".4f", ".4f", ".2f", ".2f"]
        cells = ["-" if value is None else f"{value:{form}}" for value, form in zip(values, formats, strict=True)]
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))


@dataclass(frozen=True, kw_only=True)
class RankerReport:
    """A finished run: where the ranker is, what it is for, and what it reaches on the validation queries.

    `similarity`: the order of the index. `before`: the ranker that training started from. `after`: the one kept, of
    epoch `kept_epoch`; 0 where training has found nothing better. `num_queries`: those trained and validated on.
    """

    ranker: Path
    embedder: str
    kept_epoch: int
    num_epochs: int
    num_queries: tuple[int, int]
    similarity: Measures
    before: Measures
    after: Measures
    num_skipped: int

    def at(self, place: Path) -> "RankerReport":
        """The same, of a ranker that has moved."""
        return replace(self, ranker=place)

    def text(self) -> str:
        """For people."""
        lines = {"similarity alone": self.similarity, "before training": self.before, "after training": self.after}
        cells = [(name, f"{row['map_at_100']:.2f}", f"{row['recall_at_1']:.2f}") for name, row in lines.items()]
        kept = f"kept epoch {self.kept_epoch} of {self.num_epochs}"
        if self.num_epochs and not self.kept_epoch:
            kept = f"{self.num_epochs} epochs found nothing better than before training: kept as it was"
        skipped = f"; {self.num_skipped:,} pictures skipped" if self.num_skipped else ""
        return (
            f"{table(['', 'mAP@100', 'Recall@1'], cells, right=[1, 2])}\n\n"
            f"trained on {counted(self.num_queries[0], 'query', 'queries')}, validated on {self.num_queries[1]:,}; "
            f"{kept}{skipped}\nranker saved in {one_line(self.ranker)}"
        )

    def to_json(self) -> str:
        """For programs."""
        return to_json(
            {
                "ranker": str(self.ranker),
                "embedder": self.embedder,
                "epochs": self.num_epochs,
                "kept_epoch": self.kept_epoch,
                "queries": {"training": self.num_queries[0], "validation": self.num_queries[1]},
                "validation": {"similarity": self.similarity, "before": self.before, "after": self.after},
                "skipped": self.num_skipped,
            }
        )
