"""The picture of an evaluation: what is found against how many numbers an image takes, one panel a measure.

Drawn with Pillow and its built-in font alone, at three times the size and back, so that every edge is smooth.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from ui.lettering import fitted
from ui.palette import ACCENT, FAINT_INK, INK, PAGE, QUERY_ACCENT, SOFT_INK
from ui.pictures.axes import Axes
from ui.pictures.drawing import SCALE, Pen, check_path

if TYPE_CHECKING:
    from retrieval.evaluate import Evaluation, EvaluationRow

_TITLES = {
    "recall@1": ("Recall@1", "the first hit is of the query's class, %"),
    "map@r": ("mAP@R", "images of the query's class come first, %"),
    "instance_recall@1": ("Finding the original", "a distorted copy's first hit is its original, %"),
}
_MARGIN, _GAP, _HEADER, _PANEL, _PLOT, _KEY_LINE = 36, 18, 84, 520, 410, 24


def save(path: Path, evaluation: "Evaluation", *, title: str) -> None:
    """Draw an evaluation into a file, in the format that its name asks for; missing folders are made."""
    check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_curve(evaluation, title=title).save(path)


def draw_curve(evaluation: "Evaluation", *, title: str) -> Image.Image:
    """A panel for each of Recall@1, mAP@R and finding the original that was measured, as an RGB image.

    In each the fixed prefixes are a line over the numbers an image takes, on a logarithmic axis; the ways to choose
    each image's dims are points at their mean. Raw pixels are left out.
    """
    rows = [row for row in evaluation.rows if row.kind != "pixels"]
    measures = [name for name in _TITLES if name in rows[0].measures]
    width = 2 * _MARGIN + len(measures) * _PANEL + (len(measures) - 1) * _GAP
    num_key_lines = math.ceil(sum(row.kind != "fixed" or _is_at_mean(row) for row in rows) / 2)
    panel_height = _PLOT + 32 + num_key_lines * _KEY_LINE
    height = 2 * _MARGIN + _HEADER + panel_height
    sheet = Image.new("RGB", (width * SCALE, height * SCALE), PAGE)
    pen = Pen(ImageDraw.Draw(sheet))
    pen.text((_MARGIN, _MARGIN + 24), fitted(title, 28, width - 2 * _MARGIN), INK, 28)
    asked = f"{evaluation.num_images:,} images"
    if "recall@1" in measures:
        asked += f" of {evaluation.num_classes:,} classes, each looked for among all others"
    pen.text((_MARGIN, _MARGIN + 52), fitted(asked, 15, width - 2 * _MARGIN), SOFT_INK, 15)
    for place, measure in enumerate(measures):
        left = _MARGIN + place * (_PANEL + _GAP)
        _draw_panel(pen, rows, measure, (left, _MARGIN + _HEADER, left + _PANEL, _MARGIN + _HEADER + panel_height))
    return sheet.resize((width, height), Image.Resampling.LANCZOS)


def _is_at_mean(row: "EvaluationRow") -> bool:
    return row.name.startswith("fixed at mean")


_FIXED = ("disc", ACCENT)
_STYLES = {
    "adaptive": ("disc", QUERY_ACCENT),
    "random dims": ("diamond", FAINT_INK),
    "energy dims": ("square", "#3F6FB5"),
    "oracle dims": ("triangle", "#7A4FA3"),
    "instance oracle dims": ("wedge", "#B04A86"),
}


def _draw_panel(pen: Pen, rows: "Sequence[EvaluationRow]", measure: str, box: tuple[float, ...]) -> None:
    left, top, right, _ = box
    pen.panel(box, *_TITLES[measure])
    values = [row.measures[measure] for row in rows]
    room = max(0.14 * (max(values) - min(values)), 0.5)
    dims = [row.mean_dim for row in rows]
    least, most = math.log(min(dims) / 1.15), math.log(max(dims) * 1.15)
    axes = Axes(
        left=left + 62,
        top=top + 94,
        right=right - 26,
        bottom=top + _PLOT - 62,
        low=max(min(values) - room, 0),
        high=max(values) + room,
        share=lambda dim: (math.log(dim) - least) / (most - least),
    )
    widths = [row.mean_dim for row in rows if row.kind == "fixed" and not _is_at_mean(row)]
    axes.draw(pen, widths, "mean numbers per image, log scale")
    fixed = sorted((row.mean_dim, row.measures[measure]) for row in rows if row.kind == "fixed")
    line = [axes.place(dim, value) for dim, value in fixed]
    pen.line(line, ACCENT, 2.5)
    for place in line:
        pen.mark("disc", place, 3.5, ACCENT)
    pen.text((line[-1][0], line[-1][1] - 14), "fixed prefix", ACCENT, 13, "rs")
    # Adaptive comes first, and is drawn last.
    for row in [row for row in rows if row.kind != "fixed"][::-1]:
        shape, colour = _STYLES[row.name]
        pen.mark(shape, axes.place(row.mean_dim, row.measures[measure]), 6, colour)
    compared = [row for row in rows if row.kind != "fixed" or _is_at_mean(row)]
    _draw_key(pen, compared, measure, left + 28, right - 28, axes.bottom + 78)


def _draw_key(pen: Pen, rows: "Sequence[EvaluationRow]", measure: str, left: float, right: float, top: float) -> None:
    """Shape, name and value of each row, in two columns; labels beside the points would meet the line or each other."""
    column = (right - left - 2 * _GAP) / 2
    for place, row in enumerate(rows):
        x = left + (column + 2 * _GAP) * (place % 2)
        y = top + _KEY_LINE * (place // 2)
        shape, colour = _STYLES.get(row.name, _FIXED)
        pen.mark(shape, (x + 7, y), 5.5, colour)
        pen.text((x + 22, y), row.name, INK, 13, "lm")
        pen.text((x + column, y), f"{row.measures[measure]:.1f}", INK, 13, "rm")
