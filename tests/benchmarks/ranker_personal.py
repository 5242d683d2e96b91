"""Does the ranker learn from metadata and from people? Measured on classes never trained on.

    python tests/benchmarks/ranker_personal.py DATA --cache CACHE --out data/benchmarks/ranker-personal.json

DATA holds mini-imagenet. Metadata: each class belongs to one of eight departments, and four in five pictures say
which; then the same column shuffled. People: a user for whom pictures are alike that have the same colour (one of six
clusters of mean Lab colours), whatever they show, judges ten of the candidates of each of 50 queries; what the ranker
weighs is tuned on those, a good third of each step, and on labels. Once with the mean colour as three metadata columns,
once without, for several such users. `--on val` is for choosing what share of a step they have.
"""

import argparse
import copy
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from encoded_sets import PATHS
from ranker_table import Found, embed, relevance

from retrieval.datasets import load_labelled
from retrieval.embedder import Embedder
from retrieval.measuring.statistics import interval, resampled_means
from retrieval.ranker import RankerConfig, RelevanceAttention
from retrieval.reranking.described import describe
from retrieval.reranking.feedback_features import Judgments, feedback_features
from retrieval.reranking.metadata import MetadataColumns
from retrieval.train_ranker import train_ranker
from retrieval.training.ranker_examples import RankingExamples
from retrieval.training.ranker_train_config import RankerTrainConfig
from retrieval.training.rerank_metrics import average_precision, similarities
from ui.commands.ranker_training import JUDGED_SHARE

COLOURS = ("lightness", "redness", "yellowness")
NUM_DEPARTMENTS = 8
JUDGED_QUERIES, JUDGED_EACH = 50, 10


def colours_of(data: Path, name: str, image_size: int, cache: Path) -> np.ndarray:
    """(N, 3): the mean Lab colour of each picture of a split, every second training picture."""
    path = cache / f"colours-{name}.npy"
    if not path.exists():
        paths = sorted(data.glob(PATHS["mini-imagenet"].format(split=name)))
        pixels = load_labelled(paths, image_size=image_size, split=name).pixels[:: 2 if name == "train" else 1]
        as_lab = (cv2.cvtColor(each[::4, ::4].astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for each in pixels)
        np.save(path, np.stack([each.mean((0, 1)) for each in as_lab]))
    return np.load(path, allow_pickle=False)


def departments(labels: tuple[str, ...], *, shuffled: bool) -> list[dict]:
    """A column that holds each picture's department with a chance of 0.8, else any; or the same in another order."""
    rng = np.random.default_rng(0)
    of_class = {label: int(rng.integers(NUM_DEPARTMENTS)) for label in sorted(set(labels))}
    told = [of_class[label] if rng.random() < 0.8 else int(rng.integers(NUM_DEPARTMENTS)) for label in labels]
    order = rng.permutation(len(told)) if shuffled else np.arange(len(told))
    return [{"department": f"d{told[place]}"} for place in order]


def with_columns(found: Found, rows: list[dict], columns: MetadataColumns) -> RankingExamples:
    numbers, categories = columns.encode(rows)
    documents = describe(found.embeddings, as_queries=False, numbers=numbers, categories=categories)
    queries = documents._replace(vectors=torch.from_numpy(found.embeddings.full)).take(found.examples.rows)
    return replace(found.examples, documents=documents, queries=queries)


def under(examples: RankingExamples, notion: torch.Tensor) -> RankingExamples:
    """The same lists, where what shares the query's value of `notion` (N,) is relevant."""
    relevant = notion[examples.candidates] == notion[examples.rows][:, None]
    # Of what is among the candidates: re-ranking can find no more.
    return replace(examples, relevant=relevant, counts=torch.ones_like(relevant), num_relevant=relevant.sum(1))


def precision(attention: torch.nn.Module | None, examples: RankingExamples) -> np.ndarray:
    """Average precision (Q,) of the re-ranked candidates, 0..1, of queries to which some are relevant."""
    scores = similarities(examples) if attention is None else relevance(attention, examples)
    values, _ = average_precision(scores, examples.relevant, examples.counts, examples.num_relevant)
    return values[examples.num_relevant > 0].numpy()


def judged_by_user(examples: RankingExamples, seed: int) -> tuple[RankingExamples, Judgments]:
    """Ten judged candidates a query, as a user would record them, and all of them as judgments."""
    drawn = torch.rand(examples.candidates.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)
    counts = torch.zeros_like(examples.relevant).scatter(1, drawn[:, :JUDGED_EACH], True)
    of_query, place = counts.nonzero(as_tuple=True)
    rows = examples.candidates[of_query, place]
    judgments = Judgments(
        queries=examples.queries.vectors[of_query],
        rows=rows,
        vectors=examples.documents.vectors[rows],
        relevant=examples.relevant[of_query, place],
    )
    own = of_query == torch.arange(len(examples))[:, None]
    told = replace(examples, counts=counts, num_relevant=(examples.relevant & counts).sum(1))
    return with_feedback(told, judgments, leave_out=own), judgments


def with_feedback(examples: RankingExamples, judgments: Judgments, leave_out=None) -> RankingExamples:
    vectors = examples.documents.vectors[examples.candidates]
    features = feedback_features(judgments, examples.queries.vectors, examples.candidates, vectors, leave_out=leave_out)
    return replace(examples, feedback=features)


def summary(values: np.ndarray, before: np.ndarray) -> dict:
    apart = values - before
    ends = [100 * end for end in interval(resampled_means(apart[None])[:, 0])]
    return {"map": 100 * float(values.mean()), "gain": [100 * float(apart.mean()), *ends]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--tune", type=json.loads, default={}, help="settings of the tuning, as JSON")
    parser.add_argument("--judged-share", type=float, default=JUDGED_SHARE, help="of each step of the tuning")
    parser.add_argument(
        "--users", type=int, nargs="+", default=[0, 1, 2], help="each a seed: of the queries, and of what is judged"
    )
    parser.add_argument("--only", nargs="+", default=["metadata", "people"])
    parser.add_argument("--on", choices=["val", "test"], default="test", help="whose pictures are asked for")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    embedder = Embedder.load(arguments.model, device="cpu")
    sets = {
        name: Found.search(*embed(embedder, arguments.data, name, arguments.cache)) for name in ("train", "val", "test")
    }
    on = arguments.on

    def queries_of(user: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Those that they judge, and a thousand others."""
        asked = torch.randperm(len(sets[on].examples), generator=torch.Generator().manual_seed(user))
        return asked[:JUDGED_QUERIES], asked[JUDGED_QUERIES : JUDGED_QUERIES + 1000]

    config = RankerTrainConfig(loss="smooth_ap", queries_per_epoch=2400, epochs=arguments.epochs)

    def trained(name: str, rows_of, **declared) -> tuple[RelevanceAttention, dict[str, RankingExamples]]:
        """A ranker trained on labels with some columns, and the lists of all sets with those."""
        rows = {split: rows_of(split) for split in sets}
        columns = MetadataColumns.fit(rows["train"], **declared)
        lists = {split: with_columns(found, rows[split], columns) for split, found in sets.items()}
        torch.manual_seed(0)
        attention = RelevanceAttention(RankerConfig(token_dim=embedder.token_dim, metadata=columns))
        some = lists["val"].take(torch.arange(0, len(lists["val"]), 8))
        train_ranker(attention, lists["train"], some, config, arguments.cache / f"ranker-{name}", report=print)
        return attention, lists

    results: dict = {"config": config.to_dict(), "judgments": JUDGED_QUERIES * JUDGED_EACH}
    if arguments.out.exists():
        results = json.loads(arguments.out.read_text()) | results
    plain, plain_lists = trained("plain", lambda split: [{}] * len(sets[split].labels))
    if "metadata" in arguments.only:
        _, unseen = queries_of(0)
        of_labels = precision(plain, plain_lists[on].take(unseen))
        table = {"no column": summary(of_labels, of_labels)}
        for name, shuffled in (("with signal", False), ("shuffled", True)):
            ranker, lists = trained(
                name.replace(" ", "-"),
                lambda split, shuffled=shuffled: departments(sets[split].labels, shuffled=shuffled),
                categories=("department",),
            )
            table[name] = summary(precision(ranker, lists[on].take(unseen)), of_labels)
        results["metadata"] = table
        print(table, flush=True)
    if "people" in arguments.only:
        colours = {split: colours_of(arguments.data, split, embedder.image_size, arguments.cache) for split in sets}

        def colour_rows(split: str) -> list[dict]:
            return [dict(zip(COLOURS, map(float, row), strict=True)) for row in colours[split]]

        scaled = ((colours[on] - colours[on].mean(0)) / colours[on].std()).astype(np.float32)
        cv2.setRNGSeed(0)
        _, clusters, _ = cv2.kmeans(scaled, 6, None, (3, 100, 1e-4), 4, cv2.KMEANS_PP_CENTERS)
        notion = torch.from_numpy(clusters[:, 0])
        with_colour = trained("colour", colour_rows, numbers=COLOURS)
        tuning = RankerTrainConfig.linear(**arguments.tune)
        results["tuning"] = tuning.to_dict() | {"judged_share": arguments.judged_share}
        results["people"] = {}
        bases = {"with colour columns": with_colour, "embedding alone": (plain, plain_lists)}
        for user, (name, (base, lists)) in product(arguments.users, bases.items()):
            judged, unseen = queries_of(user)
            told, judgments = judged_by_user(under(lists[on].take(judged), notion), user)
            asks = with_feedback(under(lists[on].take(unseen), notion), judgments)
            by_label = lists[on].take(unseen)
            is_held = torch.arange(len(told)) % 5 == 0
            tuned = train_ranker(
                copy.deepcopy(base),
                [told.take(~is_held), lists["train"]],
                [told.take(is_held), lists["val"].take(torch.arange(0, len(lists["val"]), 16))],
                tuning,
                shares=[arguments.judged_share, 1 - arguments.judged_share],
                out=arguments.cache / f"tuned-{name.replace(' ', '-')}-{on}-{arguments.judged_share:g}-{user}",
                report=print,
            )
            before, labels_before = precision(base, under(by_label, notion)), precision(base, by_label)
            rows = {
                "the user's notion, before": summary(before, before),
                "the user's notion, after": summary(precision(tuned, asks), before),
                "labels, base ranker": summary(labels_before, labels_before),
                "labels, the user's ranker": summary(precision(tuned, by_label), labels_before),
            }
            results["people"].setdefault(f"user {user}", {})[name] = rows
            print(f"user {user}, {name}", rows, flush=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
