"""The command that learns: `train embedder`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import UsageError
from ui import model_folder
from ui.endings import SKIPPED
from ui.option_names import CommandLine
from ui.options import AsJson, Device, OnDevice

if TYPE_CHECKING:
    from retrieval import Embedder
    from retrieval.datasets import LabelledImages
    from retrieval.evaluate import Evaluation
    from retrieval.network import EmbedderNetwork
    from retrieval.training.train_config import TrainConfig

train = CommandLine(
    help="Train a model on pictures, with labels or without.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    list[str],
    typer.Option("--data", metavar="SOURCE...", help="Parquet files, or folders of folders.", show_default=False),
]
MoreData = Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", help="More sources.", show_default=False)]


@train.command()
def embedder(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where weights, checkpoints and logs go.")],
    more_data: MoreData = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option("--unlabelled", metavar="SOURCE", help="Pictures mixed in without labels; may be repeated."),
    ] = None,
    plain_unlabelled: Annotated[
        bool,
        typer.Option(
            "--plain-unlabelled", help="Pictures without labels are plain, such as icons: few numbers must do for them."
        ),
    ] = False,
    label_column: Annotated[
        str | None, typer.Option("--label-column", metavar="NAME", help="Column of the labels.  [default: label]")
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            "--group-column", metavar="NAME", help="Column that pictures of one thing share; needs no labels."
        ),
    ] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Learn from the pictures alone.")] = False,
    init: Annotated[
        str | None, typer.Option("--init", metavar="NAME|DIR", help="Start from the weights of a model.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME|timm:NAME", help="A CoAtNet by name.  [default: coatnet_mini]"),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option("--backbone-weights", metavar="FILE.safetensors", help="Start from a backbone's state dict."),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option("--pooling", help="sigmoid, softmax, multihead, structured or mean.  [default: sigmoid]"),
    ] = None,
    attention: Annotated[
        str | None, typer.Option("--attention", help="Relative attention, pre or post softmax.  [default: pre]")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", help="Side in pixels of the pictures in use.  [default: 96, or that of --init]"),
    ] = None,
    train_size: Annotated[int, typer.Option("--train-size", help="Side in pixels of the crops trained on.")] = 64,
    epochs: Annotated[
        int,
        typer.Option(
            "--epochs",
            help="Times that as many views as pictures are shown; 0: the heads alone, on the weights to start from.",
        ),
    ] = 18,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Views a step, two a picture.")] = 128,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="AdamW's, after warm-up.")] = 1.5e-3,
    loss: Annotated[
        str, typer.Option("--loss", help="softmax, proxy_anchor, multi_similarity, supcon or triplet.")
    ] = "softmax",
    loss_learning_rate: Annotated[
        float | None, typer.Option("--loss-learning-rate", help="That of the loss's own weights.  [default: the same]")
    ] = None,
    samples_per_class: Annotated[
        int, typer.Option("--samples-per-class", help="Pictures of a class in each batch; 0 for what chance gives.")
    ] = 0,
    budget: Annotated[float, typer.Option("--budget", help="The mean dimension to learn.")] = 112.0,
    device: OnDevice = Device.auto,
    seed: Annotated[int, typer.Option("--seed", help="What everything random follows from.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train an embedder: what pictures look like, which numbers come first, and how many each needs.

    Rows whose split is `train` are learned from and those of `val` choose the best weights; without such splits one
    class in ten is held out, or one picture in ten where there are no labels. A run that was cut short goes on from its
    last checkpoint when given the same settings and pictures. Beside rows with a split, what has none is learned
    from. Exits with 3 if some pictures were skipped. Under torchrun, which would take that for a crash, it exits with
    0, and each process takes its part of every batch.

    \b
    Examples:
      spyglass train embedder --data train.parquet val.parquet --out my-model
      spyglass train embedder --data labelled-folders/ --out my-model --backbone coatnet_micro --epochs 5
      spyglass train embedder --data photos/ --no-labels --init default --out my-model
      spyglass train embedder --data photos.parquet --unlabelled icons/ --plain-unlabelled --init default --epochs 0 \\
        --out my-model
      spyglass train embedder --data pairs.parquet --group-column product --out my-model
      spyglass train embedder --data train.parquet --out my-model \\
        --backbone timm:coatnet_rmlp_2_rw_224 --backbone-weights model.safetensors --image-size 224 --train-size 160
      torchrun --nproc-per-node 2 -m ui.cli train embedder --data train.parquet --out my-model --batch-size 512
    """
    if init is not None and (backbone or backbone_weights or pooling or attention):
        raise UsageError("expected --init alone, which brings backbone, pooling and attention; leave those out")
    if no_labels and (label_column or group_column):
        raise UsageError("expected --no-labels, or columns of labels and groups, got both; choose one")
    if plain_unlabelled and not unlabelled:
        raise UsageError("expected --unlabelled pictures with --plain-unlabelled, got none; name them")
    if epochs == 0 and init is None and backbone_weights is None:
        raise UsageError("expected --init or --backbone-weights with --epochs 0, got neither; name what to start from")
    if label_column is None and group_column is None and not no_labels:
        label_column = "label"
    if plain_unlabelled and label_column is None:
        raise UsageError(
            "expected labels with --plain-unlabelled, got --no-labels or groups alone; give a --label-column"
        )
    if epochs:
        model_folder.check_resumable(out)
    else:
        model_folder.check_new(out)

    from retrieval import Embedder
    from retrieval.distributed import is_first_process, is_under_torchrun
    from retrieval.train_embedder import TrainConfig, train
    from retrieval.training.shorten import ShortenConfig
    from ui.commands.picture_sets import training_sets
    from ui.printing import shows_bars, to_json

    starting = None if init is None else Embedder.load(init, device="cpu").network
    config = TrainConfig(
        backbone=backbone or "coatnet_mini",
        pooling=pooling or "sigmoid",
        attention=attention or "pre",
        image_size=image_size or (96 if starting is None else starting.config.image_size),
        train_size=train_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        loss=loss,
        loss_learning_rate=loss_learning_rate,
        samples_per_class=samples_per_class,
        plain_unlabelled=plain_unlabelled,
        seed=seed,
        shorten=ShortenConfig(budget=budget),
    )
    if starting is None:
        starting = _pretrained(config, backbone_weights)
    sources = [*data, *(more_data or ())]
    training, validation, num_skipped = training_sets(
        sources,
        image_size=config.image_size,
        label_column=label_column,
        group_column=group_column,
        unlabelled=unlabelled or [],
    )
    network = train(
        config,
        training,
        validation,
        out,
        start_from=starting,
        device=device.value,
        show_progress_bar=shows_bars(),
    )
    if not is_first_process():
        return
    trained = Embedder(network, name=str(out), device="cpu")
    notes = {
        "data": [Path(source).name for source in sources],
        "unlabelled": [Path(source).name for source in unlabelled or ()],
        "init": init if init is not None else backbone_weights and Path(backbone_weights).name,
        "recipe": _recipe(config, init),
    }
    evaluation = _evaluate(trained, validation)
    figures = evaluation.to_dict()["rows"][0]
    trained.save(out, notes={**notes, "validation": figures})
    if as_json:
        typer.echo(to_json({"model": str(out), "fingerprint": trained.fingerprint, "validation": figures}))
    else:
        typer.echo(f"{evaluation.table()}\n\nvalidated on {len(validation):,} pictures; weights saved in {out}")
    # torchrun takes any code but 0 for a crash, of a training that has ended well.
    if num_skipped and not is_under_torchrun():
        raise typer.Exit(SKIPPED)


def _recipe(config: "TrainConfig", init: str | None) -> dict:
    """The settings that had a say: the shape of a network to start from comes with it."""
    own_shape = ("backbone", "pooling", "attention", "drop_path") if init is not None else ()
    if not config.epochs:
        heads = (
            "image_size",
            "epochs",
            "plain_unlabelled",
            "statistics_of",
            "token_dim",
            "seed",
            "concentrate",
            "shorten",
        )
        return {name: value for name, value in config.to_dict().items() if name in heads}
    return {name: value for name, value in config.to_dict().items() if name not in own_shape}


def _pretrained(config: "TrainConfig", weights: str | None) -> "EmbedderNetwork | None":
    """The network around a backbone whose weights the user brings, if any."""
    from retrieval.backbones import TIMM, load_backbone
    from retrieval.train_embedder import network_with

    if weights is None and not config.backbone.startswith(TIMM):
        return None
    return network_with(load_backbone(config.backbone, weights), config)


def _evaluate(embedder: "Embedder", images: "LabelledImages") -> "Evaluation":
    """What the model finds: pictures by class, else by group if there are any, and originals by distorted copies."""
    from retrieval.evaluate import evaluate
    from retrieval.pixels.distort import distort
    from ui.printing import shows_bars

    embeddings, distorted = (
        embedder.encode(list(pixels), show_progress_bar=shows_bars())
        for pixels in (images.pixels, distort(images.pixels))
    )
    labels = images.labels if images.classes else images.groups
    return evaluate(embeddings, labels, widths=embedder.widths, distorted=distorted)
