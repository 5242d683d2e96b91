"""From a query and its hits to a contact sheet: reads the pictures, and encodes the query for its attention map."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from indexer.corpus import read_image
from retrieval.errors import ImageError, UsageError
from retrieval.images import decode
from ui import model_folder
from ui.palette import MAT
from ui.printing import one_line
from ui.render import SheetRow, Tile, contact_sheet

if TYPE_CHECKING:
    from indexer import Hit
    from retrieval import Embedder

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_LARGEST_SHOWN = 640


def check_path(path: Path) -> None:
    """Raise `UsageError` for a sheet whose name does not end like a picture's, or that cannot be where it says."""
    if path.suffix.lower() not in SHEET_SUFFIXES:
        raise UsageError(f"expected a sheet's name to end in {', '.join(SHEET_SUFFIXES)}, got {path}; try {path}.png")
    if path.is_dir():
        raise UsageError(f"expected a file to draw the sheet to, got the folder {path}; name a file in it")
    model_folder.check(path.parent, "the sheet's folder")


def save(
    path: Path,
    query: str,
    hits: Sequence["Hit"],
    embedder: "Embedder",
    *,
    title: str,
    detail: str = "",
    subtitle: str,
    crop: tuple[int, int, int, int] | None = None,
) -> None:
    """Draw one search: a row for its first query picture, `query` says where it lies."""
    row = row_of(query, hits, embedder, title=title, detail=detail, crop=crop)
    write(contact_sheet([row], subtitle=one_line(subtitle)), path)


def row_of(
    query: str | Path,
    hits: Sequence["Hit"],
    embedder: "Embedder",
    *,
    title: str,
    detail: str = "",
    crop: tuple[int, int, int, int] | None = None,
) -> SheetRow:
    """The sheet's row of one query picture: its dim and attention map, and a tile a hit. Raises `ImageError`."""
    data = read_image(str(query))
    picture, encoded = _upright(data), data
    if crop is not None:
        left, top, width, height = crop
        picture = picture.crop((left, top, min(left + width, picture.width), min(top + height, picture.height)))
        encoded = picture
    # Whole files are encoded as the index does it, so that a picture's dim here is the one that the index shows.
    embeddings = embedder.encode([encoded])
    shown = Tile(picture=_for_show(picture), title=title, detail=detail, dim=int(embeddings.dims[0]))
    return SheetRow(query=shown, attention=embeddings.attention[0], hits=[tile_of(hit) for hit in hits])


def tile_of(hit: "Hit") -> Tile:
    """A hit's tile; one whose file is gone is shown as an empty mat that says so."""
    name = Path(hit.uri).name
    try:
        picture, detail = _for_show(_upright(read_image(hit.uri))), name if hit.label else ""
    except ImageError:
        picture, detail = Image.new("RGB", (64, 64), MAT), "cannot be read any more"
    return Tile(
        picture=picture,
        title=hit.label or name,
        detail=detail,
        score=hit.score,
        similarity=hit.similarity,
        dim=hit.dim,
    )


def write(sheet: Image.Image, path: Path) -> None:
    """Save a sheet, in the format that its name asks for; missing folders are made."""
    check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _upright(data: bytes) -> Image.Image:
    return Image.fromarray(decode(data, None).pixels)


def _for_show(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((_LARGEST_SHOWN, _LARGEST_SHOWN))
    return small
