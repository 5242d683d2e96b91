"""What `train ranker` does once its options are understood: train, measure, and keep the ranker where it belongs."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from retrieval import Embedder
from retrieval.errors import UsageError
from retrieval.ranker import RankerConfig, RelevanceAttention
from retrieval.ranker_weights import Ranker
from retrieval.reranking.metadata import MetadataColumns
from retrieval.train_jointly import train_jointly
from retrieval.train_ranker import train_ranker
from retrieval.training.checkpoints import digest_of_weights
from retrieval.training.joint_config import JointConfig
from retrieval.training.ranker_examples import RankingExamples
from retrieval.training.ranker_train_config import RankerTrainConfig
from retrieval.training.rerank_metrics import measures, similarities, validate_ranker
from ui.commands.ranker_report import RankerReport, table_line
from ui.commands.ranker_sources import RankerSources
from ui.pictures import learning_curve
from ui.printing import shows_bars

CURVE = "learning-curve.png"


def start_of(
    sources: RankerSources, init: str | None, *, numbers: Sequence[str], categories: Sequence[str], seed: int
) -> tuple[RelevanceAttention, dict[str, str | None]]:
    """The ranker to start from: one that was named, or, to learn from judgments, the model's own; else a fresh one.

    It says which columns `sources` are to be read with. With it come the notes that tell where it is from: `init`, as
    `--init` takes it, and `init_weights`, their digest; both None for a fresh one. Raises `UsageError`,
    `WeightsError`, `MismatchError`.
    """
    embedder, start, origin = sources.embedder, None, init
    if sources.feedback is not None:
        from indexer import own_model
        from indexer.judgments.rankers import Rankers
        from indexer.storage import manifest

        model = own_model.found_at(manifest.read(sources.feedback).model, embedder)
        rankers = Rankers(sources.feedback, model)
        if init is not None:
            start = rankers.find(init)
        elif not (numbers or categories) and (start := rankers.default()):
            origin = start.name if own_model.is_folder(model.name) else model.name
    elif init is not None:
        start = Ranker.load(init)
    if start:
        expected, got = (embedder.token_dim, embedder.config.num_dims), (start.config.token_dim, start.config.num_dims)
        if expected != got:
            raise UsageError(
                f"expected a ranker for tokens of {expected[0]} and embeddings of {expected[1]} numbers, "
                f"got {start.name}, for {got[0]} and {got[1]}; start from another, or from none"
            )
        metadata = start.config.metadata
        sources.columns = [column.name for column in (*metadata.numbers, *metadata.categories)]
        # What the run's checkpoint knows it by, too.
        return start.attention, {"init": origin, "init_weights": digest_of_weights(start.attention)}
    metadata = MetadataColumns()
    if numbers or categories:
        metadata = MetadataColumns.fit(sources.labelled[0].columns, numbers=numbers, categories=categories)
    torch.manual_seed(seed)
    config = RankerConfig(token_dim=embedder.token_dim, num_dims=embedder.config.num_dims, metadata=metadata)
    return RelevanceAttention(config), {"init": None, "init_weights": None}


def train_frozen(
    sources: RankerSources,
    embedder: Embedder,
    attention: RelevanceAttention,
    config: RankerTrainConfig | None,
    out: Path,
    *,
    keep_in: Path | None = None,
    notes: dict[str, str | None],
) -> RankerReport:
    """Train the ranker on the embedder as it is, in `out`, and save it there or in `keep_in`, with further `notes`.

    With no `config` it is measured and saved as it is.
    """
    lists = sources.examples(embedder, attention.config.metadata)
    training, validation = lists.training, lists.validation
    by_similarity = [measures(similarities(examples), examples) for examples in validation]
    similarity = {name: sum(row[name] for row in by_similarity) / len(by_similarity) for name in by_similarity[0]}
    if config is None:
        rows = [{"epoch": 0, **validate_ranker(attention, validation)}]
    else:
        typer.echo(table_line(None), err=True)
        train_ranker(
            attention,
            training,
            validation,
            config,
            out,
            shares=lists.shares,
            device=sources.device.value,
            report=lambda row: typer.echo(table_line(row), err=True),
            show_progress_bar=shows_bars(),
        )
        rows = _log(out)
    kept = learning_curve.kept_row(rows)
    report = RankerReport(
        ranker=keep_in or out,
        embedder=embedder.fingerprint,
        kept_epoch=kept["epoch"],
        num_epochs=rows[-1]["epoch"],
        num_queries=(sum(map(len, training)), sum(map(len, validation))),
        similarity=similarity,
        before=_measures(rows[0]),
        after=_measures(kept),
        num_skipped=sources.num_skipped,
    )
    figures = {"similarity": report.similarity, "before": report.before, "after": report.after}
    recipe = {} if config is None else config.to_dict() | {"per_class": [*sources.per_class]}
    learned_from = {"data": [Path(source).name for source in sources.data], "user": sources.user}
    Ranker(attention, embedder=embedder.fingerprint).save(
        report.ranker, notes={**learned_from, **notes, "recipe": recipe, "validation": figures}
    )
    if config is not None:
        title = "What the ranker learns, epoch by epoch"
        learning_curve.save(report.ranker / CURVE, rows, title=title, similarity=similarity)
    return report


def train_into_index(
    sources: RankerSources,
    attention: RelevanceAttention,
    config: RankerTrainConfig,
    name: str,
    out: Path | None,
    *,
    notes: dict[str, str | None],
) -> RankerReport:
    """Train a ranker that is kept in the index under a name; what was there before is replaced when it is done.

    Its checkpoint and log go to `out`, and are kept if that is given.
    """
    from indexer.judgments import ranker_folders

    # More is judged from one run to the next: none can go on from the checkpoint of another.
    with tempfile.TemporaryDirectory() as scratch, ranker_folders.replacing(sources.feedback, name) as new:
        logs = out or Path(scratch)
        report = train_frozen(sources, sources.embedder, attention, config, logs, keep_in=new, notes=notes)
    return report.at(sources.feedback / ranker_folders.RANKERS / name)


def train_both(
    sources: RankerSources, attention: RelevanceAttention, config: JointConfig, out: Path
) -> tuple[Embedder, RelevanceAttention]:
    """Train embedder and ranker end to end, in `out`, and save the embedder there; as it is stored it is returned."""
    device, start = sources.device.value, sources.embedder
    training, validation = sources.labelled
    metadata = attention.config.metadata

    def look_up(network) -> RankingExamples:
        (examples,) = sources.found(Embedder(network, device=device), training, metadata, guards=True)
        return examples

    def validate(network, attention) -> dict[str, float]:
        (examples,) = sources.found(Embedder(network, device=device), validation, metadata, guards=False)
        return validate_ranker(attention, examples.to(next(attention.parameters()).device))

    typer.echo(table_line(None), err=True)
    network, attention = train_jointly(
        start.network,
        attention,
        training,
        look_up,
        config,
        out,
        validate=validate,
        device=device,
        report=lambda row: typer.echo(table_line(row), err=True),
        show_progress_bar=shows_bars(),
    )
    rows = _log(out)
    learning_curve.save(out / CURVE, rows, title="What embedder and ranker learn together, round by round")
    kept = learning_curve.kept_row(rows)
    notes = {
        "data": [Path(source).name for source in sources.data],
        "init": start.name,
        "recipe": {"command": "train ranker --joint", "steps": kept["step"], "seed": config.seed},
        "validation": _measures(kept),
    }
    Embedder(network, device="cpu").save(out, notes=notes)
    return Embedder.load(out, device=device), attention


def joint_config(sources: RankerSources, *, steps: int, loss: str, seed: int) -> JointConfig:
    """Settings for an embedder: crops of five sevenths of its side, since crops make things look larger."""
    embedder = sources.embedder
    stride = embedder.config.backbone.stride
    return JointConfig(
        steps=steps,
        train_size=max(1, embedder.image_size * 5 // (7 * stride)) * stride,
        refresh_steps=min(steps, 500),
        loss=loss,
        seed=seed,
        token_bytes=sources.token_bytes,
        # Some of a list may not count.
        num_candidates=min(12, max(2, sources.num_candidates // 2)),
    )


def _log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def _measures(row: dict) -> dict[str, float]:
    return {name: row[f"val_{name}"] for name in ("map_at_100", "recall_at_1")}
