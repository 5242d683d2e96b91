"""Does a predicted dimension pay? Adaptive beside every rival of the same mean, on classes never trained on.

    python tests/benchmarks/dimension_table.py DATA --model data/weights/default --cache CACHE --out TABLE.json

DATA holds the folders mini-imagenet, caltech101, clothing and noto-emoji. Two tasks: pictures of the same class (mAP@R,
Recall@1), and the original of a distorted copy (instance Recall@1); icons have no class and are only gallery in the
first. The mixed corpus is all sets with the half of the icons that was not learned from. Fixed prefixes are those of
the model's projection and of half-whitened principal axes, whichever is better at each length and measure. The
predictor is taught anew for each recipe and seed, or is the model's own (`--recipes as_trained`); at each budget its
bias is set so that its mean over the corpus is the budget. `--on val` measures on mini-imagenet `val` and icons kept
out for it: what settings are chosen by.
"""

import argparse
import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from encoded_sets import EncodedSet, EncodedSets
from torch import nn

from retrieval.dimension import DimensionPredictor, whole_dims
from retrieval.embedder import Embedder
from retrieval.measuring.oracle_dims import oracle_dims
from retrieval.measuring.ranking import as_classes
from retrieval.measuring.rival_dims import cut, energy_dims, random_dims
from retrieval.measuring.statistics import interval, resampled_means, spearman
from retrieval.metrics import instance_ranks, retrieval_metrics
from retrieval.projection import fit_projection
from retrieval.training.shorten import ShortenConfig, calibrate, prepare_ground, shorten

MEASURES = ("map@r", "recall@1", "instance_recall@1")
ENDS = {"lowest": 32, "highest": 512}
AS_TRAINED = "as_trained"


class Corpus:
    """A gallery, its queries, and what any choice of dims finds."""

    def __init__(self, encoded: EncodedSet, projection: nn.Linear, rival: nn.Linear, *, class_stride: int):
        self.encoded = encoded
        self.full, self.copies = embed(projection, encoded)
        self.rival_full, self.rival_copies = embed(rival, encoded)
        # Every so many-th picture asks by class; all are in the gallery.
        asks = np.arange(len(encoded)) % class_stride == 0
        self.query_labels = [label if ask else None for label, ask in zip(encoded.labels, asks, strict=True)]
        self.sources = np.array(encoded.sources)

    def found(self, dims: np.ndarray | int, *, rival: bool = False) -> dict[str, np.ndarray]:
        """0..1 for each query that has an answer: class measures, and finding the original of a distorted copy."""
        full, copies = (self.rival_full, self.rival_copies) if rival else (self.full, self.copies)
        gallery = cut(full, dims)
        by_class = retrieval_metrics(full, gallery, self.query_labels, self.encoded.labels, exclude_self=True, ks=(1,))
        ranks = instance_ranks(copies, gallery, np.arange(len(full)))
        return {
            "map@r": by_class.average_precision_at_r,
            "recall@1": by_class.recall[1].astype(float),
            "instance_recall@1": (ranks == 1).astype(float),
        }

    @cached_property
    def askers(self) -> np.ndarray:
        """Which images ask by class, in the order of the class measures."""
        _, gallery = as_classes(self.encoded.labels, self.encoded.labels, len(self.full), len(self.full))
        sizes = np.bincount(gallery[gallery >= 0])
        return np.array([place for place, label in enumerate(self.query_labels) if label and sizes[gallery[place]] > 1])

    def oracle(self, budget: float) -> np.ndarray:
        """Dims chosen with the originals known: the task in which length matters most."""
        each = np.arange(len(self.full))
        return oracle_dims(self.copies, self.full, each, each, mean=budget, exclude_self=False, **ENDS)


@torch.no_grad()
def embed(projection: nn.Linear, encoded: EncodedSet) -> tuple[np.ndarray, np.ndarray]:
    return tuple(F.normalize(projection(pooled), dim=-1).numpy() for pooled in (encoded.pooled, encoded.distorted))


def dims_at(predictor: DimensionPredictor, pooled: torch.Tensor, budget: float) -> np.ndarray:
    """Whole dims whose mean over `pooled` is `budget`; the predictor keeps its order."""
    calibrate(predictor, pooled, budget)
    with torch.no_grad():
        return whole_dims(predictor(pooled), min_dim=ENDS["lowest"], max_dim=ENDS["highest"]).numpy()


def row(
    found: dict[str, np.ndarray], dims: np.ndarray | int, corpus: Corpus, fixed: dict[str, np.ndarray] | None
) -> dict:
    dims = np.broadcast_to(dims, len(corpus.full))
    asking = {name: corpus.sources[corpus.askers] for name in MEASURES} | {"instance_recall@1": corpus.sources}
    by_source = {}
    for source in np.unique(corpus.sources):
        own = {name: values[asking[name] == source] for name, values in found.items() if source in asking[name]}
        by_source[source] = {"mean_dim": float(dims[corpus.sources == source].mean())} | {
            name: 100 * float(values.mean()) for name, values in own.items()
        }
        if fixed is not None:
            by_source[source]["lead"] = lead(own, {name: fixed[name][asking[name] == source] for name in own})
    return {
        **{name: 100 * float(values.mean()) for name, values in found.items()},
        "mean_dim": float(dims.mean()),
        "std_dim": float(dims.std()),
        "bits_per_pixel_correlation": spearman(dims, corpus.encoded.bits_per_pixel) if np.ptp(dims) else None,
        "by_source": by_source,
    } | ({} if fixed is None else {"lead": lead(found, fixed)})


def lead(found: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """[difference, low, high] in points: the mean and its paired 95 % bootstrap interval."""
    return {
        name: [100 * float((found[name] - other[name]).mean())]
        + [100 * end for end in interval(resampled_means((found[name] - other[name])[None])[:, 0])]
        for name in found
    }


def better(found: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The better of two fixed prefixes by each measure."""
    return {name: max(found[name], other[name], key=np.mean) for name in MEASURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--cache", type=Path, required=True, help="where this model's pooled vectors are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--on", choices=("val", "test"), default="test")
    parser.add_argument("--corpora", nargs="+", help="of mixed and the single sets; all when left out")
    parser.add_argument("--budgets", type=int, nargs="+", default=[40, 48, 64, 96, 128, 192])
    parser.add_argument("--fixed", type=int, nargs="*", default=[32, 256, 512], help="further fixed lengths")
    parser.add_argument("--rivals-at", type=int, nargs="*", default=[48, 64, 96, 128], help="random, energy, oracle")
    parser.add_argument("--recipes", nargs="+", default=["interpolated"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--class-stride", type=int, default=1, help="every so many-th picture asks by class")
    parser.add_argument("--shorten", type=json.loads, default={}, help="settings of ShortenConfig, as JSON")
    arguments = parser.parse_args()

    network = Embedder.load(arguments.model, device="cpu").network
    sets = EncodedSets(network, arguments.data, arguments.cache)
    train, icons = sets.photos("mini-imagenet", "train"), sets.icons("learn")
    rival = nn.Linear(train.pooled.shape[1], network.config.num_dims)
    fit_projection(rival, train.pooled, whitening=0.5)
    num_kept_out = 600 if arguments.on == "val" else 0
    learned = EncodedSet.join([train, icons.part(slice(num_kept_out, None))])
    if arguments.on == "val":
        singles = {"mini-imagenet": sets.photos("mini-imagenet", "val")}
        mixed = EncodedSet.join([*singles.values(), icons.part(slice(num_kept_out))])
    else:
        singles = {name: sets.photos(name, "test") for name in ("mini-imagenet", "caltech101", "clothing")}
        mixed = EncodedSet.join([*singles.values(), sets.icons("measure")])
    targets, _ = as_classes(learned.labels, learned.labels, len(learned), len(learned))
    ground = prepare_ground(
        network.projection,
        learned.pooled,
        learned.distorted,
        torch.from_numpy(targets),
        torch.from_numpy(learned.bits_per_pixel).float().log(),
        min_dim=ENDS["lowest"],
        max_dim=ENDS["highest"],
    )
    base = replace(ShortenConfig(), **arguments.shorten)
    predictors = {}
    for recipe in arguments.recipes:
        if recipe == AS_TRAINED:
            predictors[recipe, 0] = network.dimension
            continue
        for seed in arguments.seeds:
            torch.manual_seed(seed)
            predictors[recipe, seed] = DimensionPredictor(ground.pooled.shape[1], bent=True)
            # Smallest sufficient lengths are what they are, whatever the budget of a step.
            budgets = (base.budget, base.budget) if recipe == "ordinal" else base.budgets
            shorten(predictors[recipe, seed], ground, replace(base, recipe=recipe, budgets=budgets), seed=seed)
    del ground

    results = {"model": arguments.model, "on": arguments.on, "shorten": arguments.shorten, "corpora": {}}
    for name, encoded in {"mixed": mixed, **singles}.items():
        if arguments.corpora and name not in arguments.corpora:
            continue
        corpus = Corpus(encoded, network.projection, rival, class_stride=arguments.class_stride)
        results["corpora"][name] = table(corpus, predictors, arguments)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


def table(corpus: Corpus, predictors: dict, arguments: argparse.Namespace) -> dict:
    rows = {}

    def add(name: str, found: dict, dims: np.ndarray | int, fixed: dict | None = None) -> None:
        rows[name] = row(found, dims, corpus, fixed)
        told = " ".join(f"{measure} {rows[name][measure]:.2f}" for measure in MEASURES)
        leads = {measure: [round(end, 2) for end in ends] for measure, ends in rows[name].get("lead", {}).items()}
        print(f"{name}: {told} mean {rows[name]['mean_dim']:.0f} std {rows[name]['std_dim']:.0f} {leads}", flush=True)

    for length in sorted({*arguments.fixed, *arguments.budgets}):
        fixed, fixed_rival = corpus.found(length), corpus.found(length, rival=True)
        add(f"fixed {length}", fixed, length)
        add(f"fixed {length}, half-whitened axes", fixed_rival, length)
        if length not in arguments.budgets:
            continue
        best = better(fixed, fixed_rival)
        for (recipe, seed), predictor in predictors.items():
            dims = dims_at(predictor, corpus.encoded.pooled, length)
            add(f"adaptive {length}, {recipe}, seed {seed}", corpus.found(dims), dims, best)
        if length in arguments.rivals_at:
            (dealt,) = random_dims(dims, num=1)
            add(f"random dims {length}", corpus.found(dealt), dealt, best)
            dims = energy_dims(corpus.full, mean=length, **ENDS)
            add(f"energy dims {length}", corpus.found(dims), dims, best)
            dims = corpus.oracle(length)
            add(f"oracle dims {length}", corpus.found(dims), dims, best)
    return rows


if __name__ == "__main__":
    main()
