"""The command that measures: `evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import UsageError
from ui.endings import SKIPPED
from ui.options import AsJson, Device, OnDevice

if TYPE_CHECKING:
    import numpy as np

    from retrieval import Embedder, Embeddings
    from retrieval.datasets import LabelledImages

_BATCH_SIZE = 64


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(
            "--data", metavar="SOURCE...", help="Labelled .parquet files or folders of folders.", show_default=False
        ),
    ],
    more_data: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="More sources.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|DIR", help="Weights: a name or a folder.  [default: default]")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Rows to measure on, where the data has splits.")] = "test",
    instance: Annotated[
        bool, typer.Option("--instance", help="Also find the original of a distorted copy; needs no labels.")
    ] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Also choose dims with the answers known: what could be reached.")
    ] = False,
    curve: Annotated[
        Path | None, typer.Option("--curve", metavar="OUT.png", help="Draw what is found against the numbers it takes.")
    ] = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Measure how well pictures find each other by class, and distorted copies their originals.

    Prints Recall@1/5/10, mAP@R, mAP@100, nDCG@100, MRR, mean dimension and bytes: for the model's own dims, for fixed
    prefixes, for the same dims dealt out at random, for dims by the energy that a picture keeps, and for raw pixels of
    32×32; then 95 % intervals, and how dims follow complexity. Exits with 3 if some pictures were skipped.

    \b
    Examples:
      spyglass evaluate --data test.parquet
      spyglass evaluate --data labelled-folders/ --model my-model --curve curve.png
      spyglass evaluate --data pictures.parquet --instance --oracle --json
    """
    if curve is not None:
        from ui.pictures import curve as picture

        picture.check_path(curve)

    import numpy as np

    from retrieval import Embedder
    from retrieval.evaluate import evaluate
    from retrieval.images import squash
    from retrieval.pixels.complexity import complexity
    from retrieval.pixels.distort import distort
    from ui.printing import to_json

    embedder = Embedder.load(model, device=device.value)
    images = _load([*data, *(more_data or ())], embedder.image_size, split, needs_labels=not instance)
    evaluation = evaluate(
        _encode(embedder, images.pixels, "encode"),
        images.labels,
        pixels=np.stack([squash(picture, 32).reshape(-1) for picture in images.pixels]).astype(np.float32),
        widths=embedder.widths,
        complexity=complexity(images.pixels),
        distorted=_encode(embedder, distort(images.pixels), "encode copies") if instance else None,
        oracle=oracle,
    )
    typer.echo(to_json({"model": embedder.name, **evaluation.to_dict()}) if as_json else evaluation.table())
    if curve is not None:
        picture.save(curve, evaluation, title=f"What an image's numbers buy: {Path(embedder.name).name}")
    if images.unreadable:
        raise typer.Exit(SKIPPED)


def _load(sources: list[str], image_size: int, split: str, *, needs_labels: bool) -> "LabelledImages":
    """The pictures with their labels; where none are needed, those without one as well."""
    from retrieval.datasets import load_labelled

    images = load_labelled(sources, image_size=image_size, split=split, needs_labels=needs_labels)
    for line in images.unreadable:
        typer.echo(f"skipped {line}", err=True)
    if needs_labels and len(set(images.labels) - {None}) == sum(label is not None for label in images.labels):
        raise UsageError(
            f"expected a label that two of {len(images):,} pictures share, got none; measure with --instance how "
            "distorted copies find their originals"
        )
    return images


def _encode(embedder: "Embedder", pixels_NSS3: "np.ndarray", what: str) -> "Embeddings":
    from tqdm import tqdm

    from retrieval import Embeddings
    from ui.printing import shows_bars

    starts = tqdm(range(0, len(pixels_NSS3), _BATCH_SIZE), what, leave=False, disable=not shows_bars())
    return Embeddings.concatenate([embedder.encode_pixels(pixels_NSS3[i : i + _BATCH_SIZE]) for i in starts])
