"""The explanation of a hit: query and hit side by side, the places that the ranker compares most joined by lines."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from indexer.corpus import read_image
from indexer.searching.query_pixels import pixels_of
from retrieval.errors import ImageError
from retrieval.images import IMAGE_SUFFIXES, read_pixels
from ui.lettering import fitted, font
from ui.palette import INK, MAT, PAGE, SOFT_INK
from ui.pictures import explanation_files
from ui.printing import one_line

if TYPE_CHECKING:
    from indexer import Hit, Index
    from indexer.searching.explaining import MatchExplanation

MOST_PAIRS = 8

# Okabe and Ito's colours, which the colour-blind tell apart too; every pair also bears a number.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2", "#FFFFFF")
_SIDE, _GAP, _MARGIN, _CAPTION = 480, 120, 24, 56

_log = logging.getLogger(__name__)


def save_all(
    folder: Path,
    index: "Index",
    query: str,
    hits: Sequence["Hit"],
    *,
    ranker: str | None = None,
    crop: tuple[int, int, int, int] | None = None,
) -> int:
    """For each hit `folder/01-name.png`, as `overlay` draws it, and `folder/01-name.npz`, the explanation's arrays.

    What an earlier run has left there is taken away (`explanation_files`). Of a hit whose picture cannot be read any
    more there are none, and a warning; returns how many those are.
    """
    left = Image.fromarray(pixels_of(query, None, crop))
    num_digits = max(2, *(len(str(hit.rank)) for hit in hits)) if hits else 2
    stems = [f"{hit.rank:0{num_digits}}-{_file_name(hit)}" for hit in hits]
    explanation_files.begin(folder, [f"{stem}{suffix}" for stem in stems for suffix in (".png", ".npz")])
    num_gone = 0
    for hit, stem in zip(hits, stems, strict=True):
        try:
            explanation = index.explain(query, hit, ranker=ranker, crop=crop)
            right = Image.fromarray(read_pixels(read_image(hit.uri), None))
        except ImageError as error:
            _log.warning("no explanation of hit %d: %s", hit.rank, one_line(error))
            num_gone += 1
            continue
        path = folder / stem
        np.savez(
            f"{path}.npz",
            weights=explanation.weights,
            query_places=explanation.query_places,
            image_places=explanation.image_places,
            grid=np.array(explanation.grid),
            match_places=explanation.match_places,
            match_weights=explanation.match_weights,
        )
        title = f"{hit.rank}. {hit.label or Path(hit.uri).name}"
        detail = f"score {hit.score:.3f}, similarity {hit.similarity:.3f}"
        if hit.similarity_rank is not None:
            detail += f", rank {hit.similarity_rank} before re-ranking"
        overlay(left, right, explanation, title=title, detail=detail).save(f"{path}.png")
    return num_gone


def overlay(
    query: Image.Image, image: Image.Image, explanation: "MatchExplanation", *, title: str, detail: str = ""
) -> Image.Image:
    """The query left and the image right, scaled to one size, with the strongest pairs outlined, numbered and joined.

    Lines are the wider the more a pair counts. Returns an RGB image.
    """
    panels = [_scaled(picture) for picture in (query, image)]
    height = max(panel.height for panel in panels)
    width = panels[0].width + _GAP + panels[1].width
    canvas = Image.new("RGB", (width + 2 * _MARGIN, height + _CAPTION + 2 * _MARGIN), PAGE)
    corners = []
    for panel, left in zip(panels, (_MARGIN, _MARGIN + panels[0].width + _GAP), strict=True):
        corners.append((left, _MARGIN + _CAPTION + (height - panel.height) // 2))
        # Paler, so that the lines stand out on any picture.
        canvas.paste(Image.blend(panel, Image.new("RGB", panel.size, MAT), 0.25), corners[-1])
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), fitted(title, 22, width), INK, font(22), anchor="lt")
    draw.text((_MARGIN, _MARGIN + 30), fitted(detail, 14, width), SOFT_INK, font(14), anchor="lt")
    pairs = strongest_pairs(explanation)
    most = pairs[0][2] if pairs else 1.0
    shown = []
    for (query_place, image_place, weight), colour in zip(pairs, _COLOURS, strict=False):
        boxes = [
            _box(place, explanation.grid, panel.size, corner)
            for place, panel, corner in zip((query_place, image_place), panels, corners, strict=True)
        ]
        shown.append((boxes, colour, 2 + round(4 * weight / most)))
    # What counts most is drawn last, above the rest; all lines lie below all numbers.
    for (first, second), colour, line_width in reversed(shown):
        ends = [_centre(first), _centre(second)]
        draw.line(ends, fill=INK, width=line_width + 2)
        draw.line(ends, fill=colour, width=line_width)
    for number, (boxes, colour, _) in reversed(list(enumerate(shown, start=1))):
        for box in boxes:
            draw.rectangle(box, outline=INK, width=5)
            draw.rectangle(tuple(np.add(box, (1, 1, -1, -1)).tolist()), outline=colour, width=3)
            _draw_number(draw, number, _centre(box), colour)
    return canvas


def strongest_pairs(explanation: "MatchExplanation", num: int = MOST_PAIRS) -> list[tuple[int, int, float]]:
    """Query place, image place and weight (the mean of the heads) of pairs, the strongest first, no place in two."""
    weights_NM = explanation.weights.mean(axis=0).astype(np.float64)
    pairs = []
    for _ in range(min(num, *weights_NM.shape)):
        n, m = np.unravel_index(weights_NM.argmax(), weights_NM.shape)
        place = int(explanation.query_places[n]), int(explanation.image_places[m])
        pairs.append((*place, float(weights_NM[n, m])))
        weights_NM[n], weights_NM[:, m] = -1, -1
    return pairs


def _scaled(picture: Image.Image) -> Image.Image:
    scale = min(_SIDE / picture.width, _SIDE / picture.height)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _box(
    place: int, grid: tuple[int, int], size: tuple[int, int], corner: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a place of the grid that is stretched over a panel."""
    row, column = divmod(place, grid[1])
    cell_width, cell_height = size[0] / grid[1], size[1] / grid[0]
    left, top = corner[0] + column * cell_width, corner[1] + row * cell_height
    return left, top, left + cell_width - 1, top + cell_height - 1


def _centre(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _draw_number(draw: ImageDraw.ImageDraw, number: int, centre: tuple[float, float], colour: str) -> None:
    x, y = centre
    draw.ellipse((x - 12, y - 12, x + 12, y + 12), fill=colour, outline=INK, width=2)
    draw.text(centre, str(number), INK, font(16), anchor="mm")


def _file_name(hit: "Hit") -> str:
    """The hit's own name, without what a file name may not hold."""
    name = Path(hit.id)
    stem = name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in stem)[:40]
