"""The command `train head`: a model for pictures without labels, from any backbone, in one pass and no training."""

import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import UsageError
from ui import model_folder
from ui.endings import SKIPPED
from ui.options import AsJson, Device, OnDevice
from ui.printing import one_line, shows_bars, to_json

if TYPE_CHECKING:
    from retrieval.network import EmbedderNetwork
    from retrieval.training.fit_head import HeadReport


def head(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="SOURCE...",
            help="Folders, image files, .parquet, .csv or .tar; labels are not needed.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the model is written.", show_default=False)],
    more_data: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="More sources.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|DIR",
            help="Keep this model's backbone, pooling and statistics of stages.  [default: default]",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME|timm:NAME", help="A CoAtNet by name, ours or timm's, instead."),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option("--backbone-weights", metavar="FILE.safetensors", help="The backbone's state dict."),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option("--pooling", help="With --backbone: mean, or another one, untrained.  [default: mean]"),
    ] = None,
    whitening: Annotated[float, typer.Option("--whitening", help="0 for plain axes, 1 for equally wide ones.")] = 0.5,
    budget: Annotated[float, typer.Option("--budget", help="The mean dimension over the pictures.")] = 128.0,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Side in pixels of the pictures in use.  [default: the model's]"),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Only rows of this split, where tables have one.")
    ] = None,
    max_images: Annotated[
        int, typer.Option("--max-images", min=2, help="Of more pictures, take this many at even steps.")
    ] = 200_000,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Processes that decode; 0 for none.  [default: one a core]")
    ] = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Fit a head to pictures without labels: which numbers come first, and how many of them each picture needs.

    The projection becomes the principal axes of the backbone's pooled features, part-whitened; the dimension follows
    from the share of its energy that each picture keeps, the same for all, such that the mean is the budget. Exits with
    3 if some pictures were skipped.

    \b
    Examples:
      spyglass train head --data photos/ --out my-model
      spyglass train head --data photos/ --out my-model --backbone timm:coatnet_rmlp_2_rw_224 \\
        --backbone-weights model.safetensors
      spyglass index photos/ --index photos.index --model my-model
    """
    sources = [*data, *(more_data or ())]
    if model is not None and backbone is not None:
        raise UsageError("expected --model or --backbone, got both; choose one")
    for name, value in (("--backbone-weights", backbone_weights), ("--pooling", pooling)):
        if backbone is None and value is not None:
            raise UsageError(f"expected --backbone beside {name}, got none; a model brings its own")
    model_folder.check_new(out)

    from ui.commands import unlabelled

    num_pictures = unlabelled.count(sources, split)

    from retrieval import Embedder
    from retrieval.device import resolve_device
    from retrieval.training.fit_head import HeadConfig, fit_head

    started = time.monotonic()
    config = HeadConfig(whitening=whitening, budget=budget)
    network, origin = _headless(model, backbone, backbone_weights, pooling, image_size)
    stride = -(-num_pictures // max_images) or 1
    items = islice(unlabelled.items(sources, split), 0, None, stride)
    failures: list[dict[str, str]] = []
    pixels = unlabelled.batches(
        items,
        network.config.image_size,
        num_workers=workers,
        failures=failures,
        num_items=-(-num_pictures // stride),
        show_progress_bar=shows_bars(),
    )
    try:
        with closing(pixels):
            report = fit_head(network.to(resolve_device(device.value)), pixels, config)
    finally:
        for line in unlabelled.failure_lines(failures):
            typer.echo(line, err=True)
    seconds = time.monotonic() - started
    warnings = _warnings(report, network.config.num_dims, budget, origin)
    if stride > 1:
        warnings.append(f"took one in {stride} of {num_pictures:,} pictures; --max-images sets how many")
    fitted = Embedder(network, name=str(out), device="cpu")
    recipe = {"command": "train head", **origin, **config.to_dict(), "pooling": network.config.pooling}
    names = [Path(source).name for source in sources]
    fitted.save(out, notes={"data": names, "split": split, "recipe": recipe, "fit": report.to_dict()})
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        facts = {"model": str(out), "fingerprint": fitted.fingerprint, **report.to_dict(), "seconds": seconds}
        typer.echo(to_json({**facts, "skipped": len(failures), "failures": failures, "warnings": warnings}))
    else:
        typer.echo(_text(report, out, budget, seconds, len(failures)))
    if failures:
        raise typer.Exit(SKIPPED)


def _headless(
    model: str | None, backbone: str | None, weights: str | None, pooling: str | None, image_size: int | None
) -> tuple["EmbedderNetwork", dict[str, str | None]]:
    """The network to be fitted, and where it comes from."""
    from retrieval.training.fit_head import network_around, with_energy_head

    if backbone is None:
        from retrieval import Embedder

        embedder = Embedder.load(model, device="cpu")
        network = with_energy_head(embedder.network, image_size=image_size)
        return network, {"model": embedder.name, "model_fingerprint": embedder.fingerprint}
    import torch

    from retrieval.backbones import load_backbone

    torch.manual_seed(0)  # a fresh backbone is the same one every time
    network = network_around(
        load_backbone(backbone, weights, image_size), pooling=pooling or "mean", image_size=image_size
    )
    return network, {"backbone": backbone, "backbone_weights": weights and Path(weights).name}


def _warnings(report: "HeadReport", num_dims: int, budget: float, origin: dict[str, str | None]) -> list[str]:
    warnings = []
    if "backbone" in origin and origin["backbone_weights"] is None:
        warnings.append(f"{origin['backbone']} is untrained: give its weights with --backbone-weights for better hits")
    if report.num_images - 1 < min(report.num_pooled, num_dims):
        warnings.append(
            f"{report.num_images} pictures span {report.num_axes} axes: numbers beyond are zero; give more pictures"
        )
    if abs(report.mean_dim - budget) > 1:
        warnings.append(
            f"the mean dimension is {report.mean_dim:.1f}, not {budget:g}: {report.num_axes} axes carry all"
        )
    return warnings


def _text(report: "HeadReport", out: Path, budget: float, seconds: float, num_skipped: int) -> str:
    spread = ", ".join(f"{percent} % in {num}" for percent, num in report.variance_axes.items())
    figures = [
        ("pictures", f"{report.num_images:,}" + (f", {num_skipped:,} skipped" if num_skipped else "")),
        ("seconds", f"{seconds:.1f}"),
        ("mean dim", f"{report.mean_dim:.1f}, standard deviation {report.std_dim:.1f}, for a budget of {budget:g}"),
        (
            "energy",
            f"{100 * report.energy_kept:.1f} % kept on average; the share asked for is {100 * report.share:.1f} %",
        ),
        ("variance", f"{spread} of {report.num_pooled} axes"),
        ("model", one_line(out)),
    ]
    return "\n".join(f"{name:<8}  {value}" for name, value in figures)
