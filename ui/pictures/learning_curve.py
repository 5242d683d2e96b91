"""The picture of a training run: losses, and what the validation pictures find, epoch by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ui.lettering import fitted
from ui.palette import ACCENT, FAINT_INK, INK, PAGE, QUERY_ACCENT, SOFT_INK
from ui.pictures.axes import Axes
from ui.pictures.drawing import SCALE, Pen, check_path, ticks

_PANELS = (
    ("Loss", "lower is better", {"loss": "training", "val_loss": "validation"}),
    ("mAP@100", "of the validation queries, %", {"val_map_at_100": ""}),
    ("Recall@1", "of the validation queries, %", {"val_recall_at_1": ""}),
)
_MARGIN, _GAP, _HEADER, _PANEL, _PLOT = 36, 18, 84, 420, 360
_COLOURS = (ACCENT, QUERY_ACCENT)

Row = Mapping[str, float]


def save(path: Path, rows: Sequence[Row], *, title: str, similarity: Mapping[str, float] | None = None) -> None:
    """Draw the rows of a training log into a file, in the format that its name asks for.

    A row has `epoch` and any of `loss`, `val_loss`, `val_map_at_100` and `val_recall_at_1`. `similarity` says what
    similarity alone reaches, by `map_at_100` and `recall_at_1`: a line across.
    """
    check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_learning_curve(rows, title=title, similarity=similarity).save(path)


def draw_learning_curve(
    rows: Sequence[Row], *, title: str, similarity: Mapping[str, float] | None = None
) -> Image.Image:
    """A panel for each measure over the epochs, as an RGB image; a diamond marks the epoch that is kept."""
    width = 2 * _MARGIN + len(_PANELS) * _PANEL + (len(_PANELS) - 1) * _GAP
    height = 2 * _MARGIN + _HEADER + _PLOT
    sheet = Image.new("RGB", (width * SCALE, height * SCALE), PAGE)
    pen = Pen(ImageDraw.Draw(sheet))
    pen.text((_MARGIN, _MARGIN + 24), fitted(title, 28, width - 2 * _MARGIN), INK, 28)
    kept = kept_row(rows)
    said = f"the weights of epoch {kept['epoch']:g} are kept: mAP@100 {kept['val_map_at_100']:.2f} %" if kept else ""
    pen.text((_MARGIN, _MARGIN + 52), fitted(said, 15, width - 2 * _MARGIN), SOFT_INK, 15)
    for place, (heading, explanation, names) in enumerate(_PANELS):
        left, top = _MARGIN + place * (_PANEL + _GAP), _MARGIN + _HEADER
        pen.panel((left, top, left + _PANEL, top + _PLOT), heading, explanation)
        level = (similarity or {}).get(next(iter(names)).removeprefix("val_"))
        _draw_panel(pen, rows, names, kept, level, (left, top))
    return sheet.resize((width, height), Image.Resampling.LANCZOS)


def kept_row(rows: Sequence[Row]) -> Row | None:
    """That of the weights that are kept: as the last row says, or the first with the highest validation mAP.

    None where no row has one.
    """
    if rows and "kept_epoch" in rows[-1]:
        return next(row for row in rows if row["epoch"] == rows[-1]["kept_epoch"])
    return max(
        (row for row in rows if "val_map_at_100" in row),
        key=lambda row: (row["val_map_at_100"], -row["epoch"]),
        default=None,
    )


def _draw_panel(
    pen: Pen,
    rows: Sequence[Row],
    names: Mapping[str, str],
    kept: Row | None,
    level: float | None,
    corner: tuple[float, float],
) -> None:
    values = [row[name] for row in rows for name in names if name in row] + ([] if level is None else [level])
    if not values:
        return
    room = max(0.12 * (max(values) - min(values)), 1e-3 * max(values), 1e-6)
    last = max(1, max(row["epoch"] for row in rows))
    axes = Axes(
        left=corner[0] + 58,
        top=corner[1] + 92,
        right=corner[0] + _PANEL - 26,
        bottom=corner[1] + _PLOT - 58,
        low=max(min(values) - room, 0),
        high=max(values) + room,
        share=lambda epoch: epoch / last,
    )
    axes.draw(pen, [epoch for epoch in ticks(0, last) if epoch == int(epoch)], "epoch")
    if level is not None:
        pen.line([axes.place(0, level), axes.place(last, level)], FAINT_INK, 1.5)
        pen.text((axes.right, axes.y(level) + 5), "similarity alone", SOFT_INK, 12, "rt")
    for (name, label), colour in zip(names.items(), _COLOURS, strict=False):
        line = [axes.place(row["epoch"], row[name]) for row in rows if name in row]
        if len(line) > 1:
            pen.line(line, colour, 2.5)
        for place in line:
            pen.mark("disc", place, 3, colour)
        if line:
            pen.text((line[-1][0], line[-1][1] - 10), label, colour, 13, "rs")
        if kept is not None and name in kept:
            pen.mark("diamond", axes.place(kept["epoch"], kept[name]), 6.5, colour)
