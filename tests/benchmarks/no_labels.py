"""What pictures without any label teach: instance discrimination beside the same network untrained, on caltech101.

    python tests/benchmarks/no_labels.py DATA --runs RUNS --out data/benchmarks/no-labels.json

DATA holds the folders mini-imagenet, whose training pictures are learned from without their labels, and caltech101.
Both networks get their projection by half-whitened principal axes of the same training pictures.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from short_runs import IMAGE_SIZE, SHORT, Sets, represented, write

from retrieval.datasets import LabelledImages, load_labelled
from retrieval.metrics import retrieval_metrics
from retrieval.network import EmbedderNetwork
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="where the run is kept, to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    labelled = Sets.load(arguments.data / "mini-imagenet")
    sets = replace(labelled, training=without_labels(labelled.training), validation=without_labels(labelled.validation))
    measured = load_labelled(sorted((arguments.data / "caltech101").glob("*.parquet")), image_size=IMAGE_SIZE)
    config = replace(SHORT, epochs=arguments.epochs, instance_weight=1.0)
    torch.manual_seed(config.seed)
    untrained = EmbedderNetwork(config.embedder).eval()
    results = {
        "config": config.to_dict(),
        "untrained": found(untrained, sets.training, measured),
        "trained without labels": found(
            represented(config, sets, arguments.runs / "no-labels"), sets.training, measured
        ),
    }
    print({name: row for name, row in results.items() if name != "config"})
    write(results, arguments.out)


def without_labels(images: LabelledImages) -> LabelledImages:
    return LabelledImages(pixels=images.pixels, labels=(None,) * len(images))


@torch.no_grad()
def found(network: EmbedderNetwork, training: LabelledImages, measured: LabelledImages) -> dict[str, float]:
    """Recall@1 in percent of 128 and of all principal axes."""
    projection = torch.nn.Linear(network.config.num_pooled, 512)
    fit_projection(projection, pooled_vectors(network, training.pixels[::4]), whitening=0.5)
    projected = projection(pooled_vectors(network, measured.pixels))
    row = {}
    for num_dims in (128, 512):
        vectors = F.normalize(projected[:, :num_dims], dim=-1)
        metrics = retrieval_metrics(vectors, vectors, measured.labels, measured.labels, exclude_self=True, ks=(1,))
        row[f"recall@1 of {num_dims}"] = metrics.recall_at(1)
    return row


if __name__ == "__main__":
    main()
