"""What re-ranking is worth: similarity alone beside the ranker, an MLP over global vectors, and query expansion.

    python tests/benchmarks/ranker_table.py DATA --cache CACHE --out data/benchmarks/ranker-table.json

DATA holds the folders mini-imagenet, caltech101 and clothing. Each image of a set looks for others of its class; the
first 100 are re-ranked, and so are those of galleries thinned to a few pictures a class. Settings of the query
expansions are chosen on mini-imagenet `val`; the MLP learns from the lists, with the loss and for the steps, that the
ranker learned by. `--joint DIR` and `--control DIR` are models trained with `spyglass train ranker --joint`, the second
with a ranking loss of weight 0.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from encoded_sets import PATHS
from torch import nn

from indexer.buckets import BucketedIndex
from indexer.searching.reranking import expanded
from retrieval.datasets import load_labelled
from retrieval.embedder import Embedder, Embeddings
from retrieval.measuring.statistics import interval, resampled_means
from retrieval.metrics import retrieval_metrics
from retrieval.ranker_weights import Ranker
from retrieval.reranking.described import Described, describe
from retrieval.reranking.ranker_features import GlobalMatch, standardised
from retrieval.tokens import Tokens
from retrieval.train_ranker import train_ranker
from retrieval.training.ranker_examples import RankingExamples, labelled_examples, without_self
from retrieval.training.ranker_train_config import RankerTrainConfig
from retrieval.training.rerank_metrics import average_precision, similarities, validate_ranker
from ui.commands.ranker_training import PER_CLASS
from ui.commands.ranking_sets import lists_of, shares_of

NUM_CANDIDATES = 100
MEASURES = ("map@100", "map@r", "recall@1")


@dataclass(kw_only=True)
class Found:
    """A set of pictures, each of them a query, and what an index of all of them finds for it."""

    embeddings: Embeddings
    labels: tuple[str, ...]
    queries: np.ndarray
    examples: RankingExamples
    base: np.ndarray
    stride: int

    @classmethod
    def search(
        cls, embeddings: Embeddings, labels: tuple[str, ...], queries: np.ndarray | None = None, *, stride: int = 1
    ) -> "Found":
        """Every so many-th picture asks; `queries` (N, D) may be other than the pictures' own vectors."""
        queries = embeddings.full if queries is None else queries
        index = BucketedIndex()
        index.add(np.arange(len(labels)), embeddings.vectors, embeddings.dims)
        _, rows = index.search(queries, NUM_CANDIDATES + 1)
        candidates = without_self(rows, np.arange(len(labels)))
        examples = labelled_examples(replace(embeddings, full=queries), labels, candidates, near_duplicate=None)
        metrics = retrieval_metrics(queries, embeddings.vectors, labels, labels, exclude_self=True, ks=(1,))
        assert metrics.num_queries == len(examples)
        return cls(
            embeddings=embeddings,
            labels=labels,
            queries=queries,
            examples=examples.take(torch.arange(0, len(examples), stride)),
            base=metrics.average_precision_at_r[::stride],
            stride=stride,
        )

    def judge(self, scores: torch.Tensor) -> dict[str, np.ndarray]:
        """0..1 for each query, its first 100 in the order of `scores` (Q, K), the rest as the index has them."""
        first = similarities(self.examples)
        relevant, num_relevant = self.examples.relevant, self.examples.num_relevant[:, None]

        def precisions(order_by: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hits = relevant.gather(1, order_by.argsort(dim=1, descending=True, stable=True))
            return hits.cumsum(1).double() / torch.arange(1, hits.shape[1] + 1) * hits, hits

        ranks = torch.arange(1, first.shape[1] + 1)
        (new, hits), (old, _) = precisions(scores), precisions(first)
        moved = ((new - old) * (ranks <= num_relevant)).sum(1) / num_relevant[:, 0]
        return {
            "map@100": (new.sum(1) / num_relevant[:, 0].clamp(max=100)).numpy(),
            "map@r": self.base + moved.numpy(),
            "recall@1": hits[:, 0].double().numpy(),
        }

    def expanded_by(self, scores: torch.Tensor, num: int) -> "Found":
        """What is found when the `num` candidates with the best scores join each query."""
        best = self.examples.candidates.gather(1, scores.argsort(dim=1, descending=True)[:, :num])
        return self.with_queries(expanded(self.queries[self.examples.rows], self.embeddings.vectors[best]))

    def with_queries(self, queries: np.ndarray) -> "Found":
        every = self.queries.copy()
        every[self.examples.rows] = queries
        return Found.search(self.embeddings, self.labels, every, stride=self.stride)

    def alpha_expansion(self, num: int, alpha: float) -> np.ndarray:
        """α-query expansion (Radenović et al. 2018, arXiv 1711.02512): neighbours weighed by similarity to the α."""
        weights = similarities(self.examples)[:, :num].clamp_min(0) ** alpha
        neighbours = torch.from_numpy(self.embeddings.vectors)[self.examples.candidates[:, :num]]
        queries = self.examples.queries.vectors + (weights[..., None] * neighbours).sum(1)
        return nn.functional.normalize(queries, dim=-1).numpy()


class VectorMLP(nn.Module):
    """Two layers over the products and differences of the global vectors, similarity and dimensions."""

    def __init__(self, num_dims: int, num_hidden: int = 128):
        super().__init__()
        self.match = GlobalMatch(num_dims)
        self.weigh = nn.Linear(3, 1, bias=False)
        nn.init.constant_(self.weigh.weight, 1 / 3)
        self.layers = nn.Sequential(nn.Linear(2 * num_dims + 5, num_hidden), nn.GELU(), nn.Linear(num_hidden, 1))
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, queries: Described, candidates: Described, feedback_QKF=None) -> torch.Tensor:
        query_QKD, candidate_QKD = queries.vectors[:, None].expand_as(candidates.vectors), candidates.vectors
        matches = torch.stack([standardised(values) for values in self.match(queries, candidates)], dim=-1)
        dims = torch.stack(torch.broadcast_tensors(queries.dims[:, None], candidates.dims), dim=-1).log() - 4.7
        pair = [10 * query_QKD * candidate_QKD, (query_QKD - candidate_QKD).abs(), matches, dims]
        return (self.weigh(matches) + self.layers(torch.cat(pair, dim=-1))).squeeze(-1)


@torch.no_grad()
def relevance(attention: nn.Module, examples: RankingExamples) -> torch.Tensor:
    attention.eval()
    parts = []
    for numbers in torch.arange(len(examples)).split(64):
        some = examples.take(numbers)
        parts.append(attention(some.queries, some.documents.take(some.candidates), some.feedback))
    return torch.cat(parts)


def embed(embedder: Embedder, data: Path, name: str, cache: Path) -> tuple[Embeddings, tuple[str, ...]]:
    """A set by the name of `PATHS`, or of a split of mini-imagenet; every second training picture."""
    source, split = (name, None) if name in PATHS else ("mini-imagenet", name)
    path = cache / f"{embedder.fingerprint[:16]}-{name}.npz"
    if not path.exists():
        paths = sorted(data.glob(PATHS[source].format(split=split)))
        images = load_labelled(paths, image_size=embedder.image_size, split=split)
        every = 2 if split == "train" else 1
        found = embedder.encode(list(images.pixels[::every]), batch_size=128, show_progress_bar=True)
        fields = {key: getattr(found, key) for key in ("vectors", "full", "dims", "attention", "token_places")}
        tokens = {"token_values": found.tokens.values, "token_counts": found.tokens.counts}
        np.savez(path, **fields, **tokens, labels=np.array(images.labels[::every], dtype=str))
    with np.load(path, allow_pickle=False) as kept:
        fields = {key: kept[key] for key in ("vectors", "full", "dims", "attention", "token_places")}
        tokens = Tokens(values=kept["token_values"], counts=kept["token_counts"])
        return Embeddings(**fields, tokens=tokens), tuple(kept["labels"].tolist())


def lists(
    embeddings: Embeddings, labels: Sequence[str], *, guards: bool, per_class: Sequence[int] = PER_CLASS
) -> list[RankingExamples]:
    """What `spyglass train ranker` learns from, or validates on."""
    documents = describe(embeddings, as_queries=False)
    settings = {"widths": BucketedIndex().widths, "num_candidates": NUM_CANDIDATES, "guards": guards}
    return lists_of(embeddings, labels, documents, per_class=per_class, **settings)


def in_thinned_galleries(
    embeddings: Embeddings, labels: Sequence[str], attention: nn.Module, stride: int
) -> dict[int, dict]:
    """By the pictures of a class in a gallery: similarity alone and the ranker, in percent, and the paired gain."""
    rows = {}
    for number in PER_CLASS:
        _, examples = lists(embeddings, labels, guards=False, per_class=[number])
        examples = examples.take(torch.arange(0, len(examples), max(1, stride // 2)))
        orders = {"similarity": similarities(examples), "ranker": relevance(attention, examples)}
        found = {}
        for name, scores in orders.items():
            precision, is_first = average_precision(scores, examples.relevant, examples.counts, examples.num_relevant)
            found[name] = {"map@100": precision.numpy(), "recall@1": is_first.double().numpy()}
        rows[number] = {"queries": len(examples)} | {
            name: row(values, found["similarity"], ("map@100", "recall@1")) for name, values in found.items()
        }
    return rows


def row(found: dict[str, np.ndarray], similarity: dict[str, np.ndarray], names: Sequence[str] = MEASURES) -> dict:
    """Means in percent, and the difference from similarity alone with its paired 95 % bootstrap interval, in points."""
    result = {name: 100 * float(values.mean()) for name, values in found.items()}
    for name in names:
        apart = found[name] - similarity[name]
        ends = [100 * end for end in interval(resampled_means(apart[None])[:, 0])]
        result[f"{name} gain"] = [100 * float(apart.mean()), *ends]
    return result


def rows_of(found: Found, rankers: dict[str, nn.Module], settings: dict, reference: dict | None = None) -> dict:
    similarity = reference or found.judge(similarities(found.examples))
    rows = {"similarity": row(found.judge(similarities(found.examples)), similarity)}
    for name, attention in rankers.items():
        scores = relevance(attention, found.examples)
        rows[name] = row(found.judge(scores), similarity)
        if name == "ranker":
            again = found.expanded_by(scores, settings["expand"])
            rows["ranker, expanded"] = row(again.judge(relevance(attention, again.examples)), similarity)
    num, alpha = settings["alpha expansion"]
    queries = found.alpha_expansion(num, alpha)
    by_expanded = (
        torch.from_numpy(queries)[:, None] * torch.from_numpy(found.embeddings.vectors)[found.examples.candidates]
    )
    rows["alpha expansion, same candidates"] = row(found.judge(by_expanded.sum(-1)), similarity)
    again = found.with_queries(queries)
    rows["alpha expansion, searched again"] = row(again.judge(similarities(again.examples)), similarity)
    return rows


def choose(validation: Found, attention: nn.Module) -> dict:
    """How many neighbours join a query, by mAP@100 on validation classes."""
    tried = {
        (num, alpha): validation.with_queries(validation.alpha_expansion(num, alpha))
        for num in (5, 20, 50)
        for alpha in (1.0, 3.0)
    }
    best = max(tried, key=lambda key: tried[key].judge(similarities(tried[key].examples))["map@100"].mean())
    scores = relevance(attention, validation.examples)
    gains = {}
    for num in (10, 20, 40):
        again = validation.expanded_by(scores, num)
        gains[num] = again.judge(relevance(attention, again.examples))["map@100"].mean()
    return {"alpha expansion": list(best), "expand": max(gains, key=gains.get)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--ranker", default="default")
    parser.add_argument("--joint", help="a model trained with its ranker")
    parser.add_argument("--control", help="one trained as long without a ranker")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["test", "caltech101", "clothing"])
    parser.add_argument("--stride", type=int, default=1, help="every so many-th picture is a query")
    parser.add_argument("--mlp", type=json.loads, default={}, help="settings of the MLP's training, as JSON")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)

    embedder, ranker = Embedder.load(arguments.model, device="cpu"), Ranker.load(arguments.ranker)
    assert ranker.embedder == embedder.fingerprint
    found_val = embed(embedder, arguments.data, "val", arguments.cache)
    validation = Found.search(*found_val, stride=16)
    settings = choose(validation, ranker.attention)
    training = lists(*embed(embedder, arguments.data, "train", arguments.cache), guards=True)
    config = RankerTrainConfig(**{"queries_per_epoch": 3200, "epochs": 6} | arguments.mlp)
    torch.manual_seed(0)
    mlp = train_ranker(
        VectorMLP(embedder.config.num_dims),
        training,
        [some.take(torch.arange(0, len(some), 4)) for some in lists(*found_val, guards=False)],
        config,
        arguments.cache / "mlp",
        shares=shares_of(len(training)),
    )
    settings |= {"mlp on val": validate_ranker(mlp, validation.examples)["val_map_at_100"]}
    settings |= {"ranker on val": validate_ranker(ranker.attention, validation.examples)["val_map_at_100"]}
    results = {"settings": settings, "mlp": config.to_dict(), "sets": {}}
    print(settings, flush=True)
    others = {"joint": arguments.joint, "control": arguments.control}
    for name in arguments.sets:
        found = Found.search(*embed(embedder, arguments.data, name, arguments.cache), stride=arguments.stride)
        similarity = found.judge(similarities(found.examples))
        rows = rows_of(found, {"ranker": ranker.attention, "mlp": mlp}, settings)
        for title, folder in others.items():
            if folder is None:
                continue
            other = Embedder.load(folder, device="cpu")
            theirs = Found.search(*embed(other, arguments.data, name, arguments.cache), stride=arguments.stride)
            rows[f"{title}, similarity"] = row(theirs.judge(similarities(theirs.examples)), similarity)
            own = Ranker.load(str(Path(folder) / "ranker")).attention
            rows[f"{title}, ranker"] = row(theirs.judge(relevance(own, theirs.examples)), similarity)
            again = theirs.expanded_by(relevance(own, theirs.examples), settings["expand"])
            rows[f"{title}, ranker, expanded"] = row(again.judge(relevance(own, again.examples)), similarity)
        thin = in_thinned_galleries(found.embeddings, found.labels, ranker.attention, arguments.stride)
        results["sets"][name] = {"queries": len(found.examples), "rows": rows, "thinned": thin}
        for number, values in thin.items():
            print(name, number, "a class", values, flush=True)
        for title, values in rows.items():
            print(name, title, {key: np.round(value, 2).tolist() for key, value in values.items()}, flush=True)
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
