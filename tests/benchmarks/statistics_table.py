"""What statistics of earlier stages add to the pooled vector, on mini-imagenet `val` and icons kept out.

    python tests/benchmarks/statistics_table.py DATA --cache CACHE --out data/benchmarks/statistics.json

DATA holds the folders mini-imagenet and noto-emoji. One backbone (`--model`), its pooling, and axes fitted to each
pooled vector in the same way, without a correction; fixed prefixes of it. By class mAP@R and Recall@1, and the original
of a distorted copy: instance Recall@1, of all and of icons alone. `share`: the spread of a statistic over that of an
attended channel.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from dimension_table import MEASURES, Corpus
from encoded_sets import EncodedSet, EncodedSets
from short_runs import write
from torch import nn

from retrieval.embedder import Embedder
from retrieval.measuring.ranking import as_classes
from retrieval.stage_statistics import SHARE
from retrieval.train_embedder import TrainConfig, fit_axes, fit_statistics, with_new_heads
from retrieval.training.nuisance import Copies

LENGTHS = (48, 128, 512)
STAGES = (1, 2, 3)
VARIANTS = {  # stages, and the share of their statistics over that of the network itself
    "the last map alone": ((), 1.0),
    "S1": ((1,), 1.0),
    "S2": ((2,), 1.0),
    "S3": ((3,), 1.0),
    "S1 and S2": ((1, 2), 1.0),
    "S2 and S3": ((2, 3), 1.0),
    "S2, share 0.5": ((2,), 0.5 / SHARE),
    "S2, share 1": ((2,), 1 / SHARE),
    "means of S2 alone": ((2,), 1.0),
    "deviations of S2 alone": ((2,), 1.0),
}
NUM_KEPT_OUT = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--cache", type=Path, required=True, help="where pooled vectors are kept")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    network = with_new_heads(Embedder.load(arguments.model, device="cpu").network, TrainConfig(statistics_of=STAGES))
    sample = EncodedSets(network, arguments.data, arguments.cache).pictures("mini-imagenet", "train").pixels[::4]
    fit_statistics(network, sample)
    sets = EncodedSets(network, arguments.data, arguments.cache)
    train, icons, val = sets.photos("mini-imagenet", "train"), sets.icons("learn"), sets.photos("mini-imagenet", "val")
    learned, measured = icons.part(slice(NUM_KEPT_OUT, None)), EncodedSet.join([val, icons.part(slice(NUM_KEPT_OUT))])
    targets, _ = as_classes(train.labels, train.labels, len(train), len(train))

    rows = {}
    for name, (stages, factor) in VARIANTS.items():
        scale_P = scales(network.config.backbone.channels, stages, factor, only=name.split()[0])
        chosen = [pooled_like(each, scale_P) for each in (train, learned, measured)]
        projection = nn.Linear(chosen[0].pooled.shape[1], network.config.num_dims)
        copies = [Copies(each.pooled, each.distorted[None]) for each in chosen[:2]]
        fit_axes(projection, *copies, torch.from_numpy(targets))
        corpus = Corpus(chosen[2], projection, projection, class_stride=1)
        of_icons = corpus.sources == "noto-emoji"
        rows[name] = {}
        for length in LENGTHS:
            found = corpus.found(length)
            rows[name][length] = {measure: 100 * float(found[measure].mean()) for measure in MEASURES}
            rows[name][length]["of icons"] = 100 * float(found["instance_recall@1"][of_icons].mean())
        print(name, {length: [round(value, 2) for value in row.values()] for length, row in rows[name].items()})
    write({"model": arguments.model, "rows": rows}, arguments.out)


def scales(channels: tuple[int, ...], stages: tuple[int, ...], factor: float, *, only: str) -> torch.Tensor:
    """What each number of a pooled vector with the statistics of all `STAGES` is multiplied by; 0: left out."""
    parts = [torch.ones(channels[-1])]
    for stage in STAGES:
        of_means, of_deviations = torch.full((2, channels[stage - 1]), factor if stage in stages else 0.0)
        parts += [of_means * (only != "deviations"), of_deviations * (only != "means")]
    return torch.cat(parts)


def pooled_like(encoded: EncodedSet, scale_P: torch.Tensor) -> EncodedSet:
    """The set with those numbers of its pooled vectors that `scale_P` does not leave out, scaled."""
    kept = scale_P > 0
    return replace(
        encoded, pooled=encoded.pooled[:, kept] * scale_P[kept], distorted=encoded.distorted[:, kept] * scale_P[kept]
    )


if __name__ == "__main__":
    main()
