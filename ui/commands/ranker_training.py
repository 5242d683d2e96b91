"""The command `train ranker`: what it takes, and what is checked before anything slow begins."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from indexer.judgments.ranker_folders import DEFAULT, NAME
from retrieval.errors import UsageError
from ui import model_folder
from ui.endings import SKIPPED
from ui.options import AsJson, Device, OnDevice

PER_CLASS = (60, 20, 8)
"""Pictures of a class in the thinned galleries that a ranker also learns in, unless other numbers are asked for."""


JUDGED_SHARE = 0.35
"""Of each step, where labels have the rest: more of it wins more of a notion, and forgets more of labels."""


class Parts(StrEnum):
    """What of a ranker learns."""

    linear = "linear"
    all = "all"


def ranker(
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="SOURCE...", help="Labelled .parquet files or folders of folders."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where weights, checkpoints and logs go; with --name, the logs."),
    ] = None,
    more_data: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="More sources.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|DIR", help="The embedder.  [default: default, or the index's]"),
    ] = None,
    label_column: Annotated[
        str, typer.Option("--label-column", metavar="NAME", help="Column of the labels.")
    ] = "label",
    validation_data: Annotated[
        list[str] | None,
        typer.Option("--validation-data", metavar="SOURCE", help="Pictures to validate on; may be repeated."),
    ] = None,
    number: Annotated[
        list[str] | None, typer.Option("--number", metavar="COLUMN", help="Column of numbers to read; may be repeated.")
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="COLUMN", help="Column of categories to read; may be repeated."),
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option("--feedback", metavar="INDEX", help="Also learn from what was judged in this index.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Only from judgments of this one.  [default: all]")
    ] = None,
    judged_share: Annotated[
        float,
        typer.Option("--judged-share", min=0.01, max=0.99, help="Of each step, where there is --data as well."),
    ] = JUDGED_SHARE,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Keep the ranker in the --feedback index, under this name."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="NAME|DIR", help="Start from a ranker.  [with --feedback: the model's own]"),
    ] = None,
    joint: Annotated[bool, typer.Option("--joint", help="Train embedder and ranker end to end, into --out.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of --joint.  [default: 2000]")] = None,
    parts: Annotated[
        Parts | None,
        typer.Option(
            "--parts",
            help="What learns: the linear weights of all that is compared, or all of the ranker.  "
            "[default: linear where --feedback starts from a ranker, else all]",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="pairwise, listwise, margin or smooth_ap.  [default: smooth_ap of linear parts, else pairwise]",
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=0, help="At most, on the frozen embedder; 0 only after --joint.")
    ] = 12,
    queries_per_epoch: Annotated[
        int | None,
        typer.Option(
            "--queries-per-epoch",
            min=1,
            help="Queries shown in an epoch, some again if they are fewer.  [default: 640 of linear parts, else all]",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Queries a step.  [default: 64 of linear parts, else 32]"),
    ] = None,
    per_class: Annotated[
        list[int] | None,
        typer.Option(
            "--per-class",
            min=0,
            help="Also learn in galleries of so many pictures a class; may be repeated.  "
            "[default: 60, 20, 8 where there are more; 0: the whole alone]",
        ),
    ] = None,
    candidates: Annotated[int, typer.Option("--candidates", min=2, help="Of each query, by similarity.")] = 100,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", help="The ranker's, after warm-up.  [default: 0.3 of linear parts, else 0.003]"
        ),
    ] = None,
    token_bytes: Annotated[
        int, typer.Option("--token-bytes", help="How much the local tokens of a picture may take.")
    ] = 1024,
    device: OnDevice = Device.auto,
    seed: Annotated[int, typer.Option("--seed", help="What everything random follows from.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a ranker: what of the most similar pictures is meant, from labels or from what people judged.

    Each picture looks for the others of its label among those most similar to it. Rows whose split is `train` are
    learned from and those of `val` choose what is kept; without such splits one class in ten is held out. A ranker
    that saw many answers to every query puts the nearest picture aside where there are few: so parts of the queries
    look in thinned galleries (--per-class). Of judgments every fifth query validates; they move the linear weights of
    a trained ranker alone, and the end of the run is kept unless it validates worse than the start (--parts all:
    everything learns, and the best epoch is kept). A run that was cut short goes on from its last checkpoint when
    given the same settings and pictures. With --joint, --out becomes a model of its own with its ranker in it; indices
    are to be made anew with it. Exits with 3 if some pictures were skipped.

    \b
    Examples:
      spyglass train ranker --data train.parquet val.parquet --out my-ranker
      spyglass train ranker --data products.parquet --number price --category brand --out my-ranker
      spyglass train ranker --data train.parquet val.parquet --joint --steps 4000 --out my-model
      spyglass train ranker --feedback photos.index --user ann --name ann
    """
    data = [*(data or ()), *(more_data or ())]
    if not data and feedback is None:
        raise UsageError("expected --data to learn from, or --feedback, got neither")
    if feedback is None and (user is not None or name is not None):
        raise UsageError("expected --feedback beside --user and --name, got none; name the index")
    if out is None and name is None:
        raise UsageError("expected --out DIR, or --name NAME of a ranker in the --feedback index, got neither")
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(f"expected a --name of letters, digits, '-', '_' and '.', got {name!r}")
    if name == DEFAULT:
        raise UsageError(f"expected a --name of your own, got {name!r}, which is the ranker beside the shipped weights")
    if joint and (feedback is not None or not data):
        raise UsageError("expected --joint with --data alone: what was judged belongs to the index's model")
    if not joint and (steps is not None or epochs == 0):
        raise UsageError("expected --joint beside --steps and --epochs 0, got a frozen embedder; leave them out")
    if init is not None and (number or category):
        raise UsageError("expected --init alone, which brings the columns it reads; leave --number and --category out")
    if joint and parts is not None:
        raise UsageError("expected --joint, which trains all there is, without --parts; leave one out")
    if not data and (number or category or validation_data):
        raise UsageError("expected --data beside --number, --category and --validation-data, got none")
    if name is None:
        model_folder.check_resumable(out)
    elif out is not None:  # of the logs alone
        model_folder.check(out)

    from retrieval.training.ranker_train_config import RankerTrainConfig
    from ui.commands import ranker_run
    from ui.commands.ranker_sources import RankerSources

    sources = RankerSources(
        data=data,
        validation_data=validation_data or [],
        label_column=label_column,
        columns=[*(number or ()), *(category or ())],
        model=model,
        feedback=feedback,
        user=user,
        num_candidates=candidates,
        token_bytes=token_bytes,
        device=device,
        judged_share=judged_share,
        per_class=[number for number in per_class or () if number] if per_class else PER_CLASS,
    )
    chosen = {
        "loss": loss,
        "batch_size": batch_size,
        "queries_per_epoch": queries_per_epoch,
        "learning_rate": learning_rate,
    }
    settings = {option: value for option, value in chosen.items() if value is not None} | {
        "epochs": max(1, epochs),
        "num_candidates": candidates,
        # What people say costs labels at first, before it wins anything: too early to stop.
        "patience": RankerTrainConfig.patience if feedback is None else max(1, epochs),
        "seed": seed,
    }
    config = RankerTrainConfig(**settings)
    attention, notes = ranker_run.start_of(sources, init, numbers=number or [], categories=category or [], seed=seed)
    if parts is None:
        parts = Parts.linear if feedback is not None and notes["init"] is not None else Parts.all
    if parts is Parts.linear:
        config = RankerTrainConfig.linear(**settings)
    if joint:
        together = ranker_run.joint_config(sources, steps=2000 if steps is None else steps, loss=config.loss, seed=seed)
        embedder, attention = ranker_run.train_both(sources, attention, together, out)
        config = config if epochs else None
        report = ranker_run.train_frozen(sources, embedder, attention, config, out / "ranker", notes=notes)
    elif name is not None:
        report = ranker_run.train_into_index(sources, attention, config, name, out, notes=notes)
    else:
        report = ranker_run.train_frozen(sources, sources.embedder, attention, config, out, notes=notes)
    typer.echo(report.to_json() if as_json else report.text())
    if report.num_skipped:
        raise typer.Exit(SKIPPED)
