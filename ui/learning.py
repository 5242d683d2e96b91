"""The commands that learn and measure: `train embedder` and `evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from retrieval.errors import UsageError
from ui.options import AsJson, Device, OnDevice

train = typer.Typer(
    help="Train a model on labelled pictures.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    list[str],
    typer.Option(
        "--data", metavar="SOURCE...", help="Labelled .parquet files or folders of folders.", show_default=False
    ),
]
MoreData = Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", help="More sources.", show_default=False)]


@train.command()
def embedder(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where weights, checkpoints and logs go.")],
    more_data: MoreData = None,
    backbone: Annotated[str, typer.Option("--backbone", metavar="NAME", help="A CoAtNet by name.")] = "coatnet_mini",
    pooling: Annotated[str, typer.Option("--pooling", help="sigmoid, softmax, multihead or structured.")] = "sigmoid",
    attention: Annotated[str, typer.Option("--attention", help="Relative attention, pre or post softmax.")] = "pre",
    image_size: Annotated[int, typer.Option("--image-size", help="Side in pixels of the pictures in use.")] = 96,
    train_size: Annotated[int, typer.Option("--train-size", help="Side in pixels of the crops trained on.")] = 64,
    epochs: Annotated[int, typer.Option("--epochs", help="Times that as many views as pictures are shown.")] = 18,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Views a step, two a picture.")] = 128,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="AdamW's, after warm-up.")] = 1.5e-3,
    budget: Annotated[float, typer.Option("--budget", help="The mean dimension to learn.")] = 128.0,
    device: OnDevice = Device.auto,
    seed: Annotated[int, typer.Option("--seed", help="What everything random follows from.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train an embedder: what pictures look like, which numbers come first, and how many each needs.

    Rows whose split is `train` are learned from and those of `val` choose the best weights; without such splits one
    class in ten is held out. A run that was cut short goes on from its last checkpoint when given the same settings.

    \b
    Examples:
      spyglass train embedder --data train.parquet val.parquet --out my-model
      spyglass train embedder --data labelled-folders/ --out my-model --backbone coatnet_micro --epochs 5
    """
    from retrieval import Embedder
    from retrieval.shorten import ShortenConfig
    from retrieval.train_embedder import TrainConfig, train
    from ui.printing import shows_bars
    from ui.reports import to_json

    config = TrainConfig(
        backbone=backbone,
        pooling=pooling,
        attention=attention,
        image_size=image_size,
        train_size=train_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        shorten=ShortenConfig(budget=budget),
    )
    sources = [*data, *(more_data or ())]
    training, validation = _training_data(sources, image_size)
    network = train(config, training, validation, out, device=device.value, show_progress_bar=shows_bars())
    trained = Embedder(network, name=str(out), device="cpu")
    evaluation = _evaluate(trained, validation)
    adaptive = evaluation.to_dict()["rows"][0]
    notes = {"data": [Path(source).name for source in sources], "recipe": config.to_dict(), "validation": adaptive}
    trained.save(out, notes=notes)
    if as_json:
        typer.echo(to_json({"model": str(out), "fingerprint": trained.fingerprint, "validation": adaptive}))
    else:
        typer.echo(f"{evaluation.table()}\n\nvalidated on {len(validation):,} pictures; weights saved in {out}")


def evaluate(
    data: Data,
    more_data: MoreData = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|DIR", help="Weights: a name or a folder.  [default: default]")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Rows to measure on, where the data has splits.")] = "test",
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Measure how well pictures of one class find each other, each against all others.

    Prints Recall@1/5/10, mAP@R, mean dimension and bucket shares, beside fixed prefixes and raw pixels of 32×32.

    \b
    Examples:
      spyglass evaluate --data test.parquet
      spyglass evaluate --data labelled-folders/ --model my-model --json
    """
    from retrieval import Embedder
    from retrieval.datasets import load_labelled
    from ui.reports import to_json

    embedder = Embedder.load(model, device=device.value)
    images = load_labelled([*data, *(more_data or ())], image_size=embedder.image_size, split=split)
    _name_unreadable(images)
    evaluation = _evaluate(embedder, images)
    typer.echo(to_json({"model": embedder.name, **evaluation.to_dict()}) if as_json else evaluation.table())


def _training_data(sources: list[str], image_size: int):
    from retrieval.datasets import load_labelled, splits_of

    if {"train", "val"} <= splits_of(sources):
        training = load_labelled(sources, image_size=image_size, split="train")
        validation = load_labelled(sources, image_size=image_size, split="val")
        _name_unreadable(training)
        _name_unreadable(validation)
        if shared := set(training.classes) & set(validation.classes):
            raise UsageError(
                f"expected other classes in split val than in train, got {len(shared)} in both, such as {min(shared)!r}"
            )
        return training, validation
    images = load_labelled(sources, image_size=image_size)
    _name_unreadable(images)
    return images.hold_out_classes()


def _name_unreadable(images) -> None:
    for line in images.unreadable:
        typer.echo(f"skipped {line}", err=True)


def _evaluate(embedder, images):
    import numpy as np
    from tqdm import tqdm

    from retrieval.embedder import Embeddings
    from retrieval.evaluate import evaluate
    from retrieval.images import squash
    from ui.printing import shows_bars

    starts = tqdm(range(0, len(images), 64), "encode", leave=False, disable=not shows_bars())
    embeddings = Embeddings.concatenate([embedder.encode_pixels(images.pixels[i : i + 64]) for i in starts])
    thumbnails = np.stack([squash(picture, 32).reshape(-1) for picture in images.pixels]).astype(np.float32)
    return evaluate(embeddings, images.labels, pixels=thumbnails, widths=embedder.widths)
