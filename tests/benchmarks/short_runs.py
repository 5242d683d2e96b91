"""Short training runs that differ in one thing: what the comparisons beside this file share.

A run is kept in a folder of its own and goes on from its last checkpoint; one that is finished costs nothing.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from retrieval import distributed
from retrieval.datasets import LabelledImages, load_labelled
from retrieval.embedder import Embeddings
from retrieval.evaluate import evaluate
from retrieval.network import EmbedderNetwork
from retrieval.pooled_vectors import pooled_vectors
from retrieval.train_embedder import TrainConfig
from retrieval.training.learner import Learner
from retrieval.training.represent import represent

IMAGE_SIZE = 80
SHORT = TrainConfig(
    backbone="coatnet_micro",
    train_size=64,
    image_size=IMAGE_SIZE,
    epochs=2,
    warmup_epochs=0.3,
    ema_decay=0.99,
    validate_every=1000,  # the last weights count, so that no run picks its best epoch
)


@dataclass(frozen=True, kw_only=True)
class Sets:
    """mini-imagenet's three splits, of disjoint classes."""

    training: LabelledImages
    validation: LabelledImages
    test: LabelledImages

    @classmethod
    def load(cls, folder: Path) -> "Sets":
        paths = sorted(folder.glob("*.parquet"))
        return cls(
            **{
                name: load_labelled([path for path in paths if f"-{split}-" in path.name], image_size=IMAGE_SIZE)
                for name, split in (("training", "train"), ("validation", "val"), ("test", "test"))
            }
        )


def represented(config: TrainConfig, sets: Sets, out: Path, *, num_dims: int = 512) -> EmbedderNetwork:
    """A network after the first stage of training, with the projection that its loss has taught; on the CPU."""
    out.mkdir(parents=True, exist_ok=True)
    shape = config.embedder
    if num_dims != shape.num_dims:
        shape = replace(shape, widths=(num_dims,), max_dim=num_dims)
    torch.manual_seed(config.seed)
    with distributed.join("cpu") as ranks:
        learner = Learner(EmbedderNetwork(shape), config, len(sets.training.classes))
        learner = learner.to(memory_format=torch.channels_last)
        represent(learner, config, sets.training, sets.validation, out, ranks, show_progress_bar=True)
    return learner.network.eval()


def validation_recall(out: Path) -> float:
    """The Recall@1 on `val`, in percent, that the run's best weights had (of 128 principal axes)."""
    return max(json.loads(line)["val_recall_at_1"] for line in (out / "log.jsonl").read_text().splitlines())


@torch.no_grad()
def head_recall(network: EmbedderNetwork, images: LabelledImages) -> dict[str, float]:
    """Recall@1 and mAP@R, in percent, of the whole embedding as the network's own projection gives it."""
    full = F.normalize(network.projection(pooled_vectors(network, images.pixels)), dim=-1).numpy()
    num_dims = full.shape[1]
    whole = Embeddings(
        vectors=full, full=full, dims=np.full(len(full), num_dims), attention=np.zeros((len(full), 1, 1), np.float32)
    )
    row = evaluate(whole, images.labels, widths=(num_dims,)).to_dict()["rows"][0]
    return {"recall@1": row["recall@1"], "map@r": row["map@r"], "interval": row["recall@1_interval"]}


def arguments_of(description: str) -> argparse.ArgumentParser:
    """What every comparison asks for; it adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with mini-imagenet's parquet files")
    parser.add_argument("--runs", type=Path, required=True, help="where runs are kept, to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=SHORT.epochs)
    return parser


def write(results: dict, path: Path) -> None:
    """As JSON, with a line on stdout saying where."""
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {path}")
