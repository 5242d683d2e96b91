"""The soft cut trained jointly from the very first step, and the staged recipe beside it: two models to be measured.

    python tests/benchmarks/soft_cut_from_start.py DATA --out DIR
    for model in staged from-start; do
      python tests/benchmarks/dimension_table.py DATA --model DIR/$model --cache CACHE --out $model.json --on val \
        --corpora mixed --budgets 48 96 --fixed --rivals-at --seeds 0 --class-stride 3 \
        --recipes $(test $model = staged && echo interpolated || echo as_trained)
    done

Both learn from the same pictures, icons without labels among them, for as many steps, from scratch. `staged` learns
what pictures look like, is then given principal axes, and taught `d` by `dimension_table.py`, as shipped weights are.
`from-start` adds to each step's loss that of documents cut softly at the predicted `d`, against uncut queries: to find
their class and their other view, with the mean of `d` and its correlation with complexity held as in `shorten`.
Gradients reach the predictor, the projection and the backbone; its projection stays as it was learned.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from encoded_sets import PATHS
from short_runs import IMAGE_SIZE, SHORT
from torch import nn

from retrieval import distributed
from retrieval.datasets import LabelledImages, load_labelled
from retrieval.dimension import soft_cut
from retrieval.embedder import Embedder
from retrieval.network import EmbedderNetwork
from retrieval.pixels.complexity import complexity
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection
from retrieval.training.learner import Learner
from retrieval.training.represent import represent, some_pictures
from retrieval.training.shorten import ShortenConfig, correlation
from retrieval.training.train_config import TrainConfig

NUM_KEPT_OUT = 600  # icons that `dimension_table.py --on val` measures on
SOFTNESS = 8.0
CLASS_TEMPERATURE, VIEW_TEMPERATURE = 0.06, 0.15  # those of the losses of the first stage


class FromStart(Learner):
    """The learner of the first stage, and the same questions asked of documents that are cut softly at their `d`."""

    def __init__(self, network: EmbedderNetwork, config: TrainConfig, num_classes: int, complexity_N: torch.Tensor):
        super().__init__(network, config, num_classes)
        self.held: ShortenConfig = config.shorten
        self.register_buffer("complexity_N", complexity_N, persistent=False)

    def loss_of(self, pooled_BC, targets_B, instances_B, widths):
        loss = super().loss_of(pooled_BC, targets_B, instances_B, widths)
        projected_BD, dims_B = self.network.projection(pooled_BC), self.network.dimension(pooled_BC)
        predictor, held = self.network.dimension, self.held
        shift = float(torch.empty(()).uniform_(*map(math.log, held.budgets))) - math.log(held.budget)
        at_budget_B = (dims_B.log() + shift).clamp(math.log(predictor.min_dim), math.log(predictor.max_dim)).exp()
        documents_BD = soft_cut(projected_BD, at_budget_B, SOFTNESS)

        class_logits_BK = documents_BD @ F.normalize(self.classify.class_vectors, dim=-1).T / CLASS_TEMPERATURE
        loss = loss + F.cross_entropy(class_logits_BK, targets_B, label_smoothing=0.1, ignore_index=-1)
        itself_BB = torch.eye(len(instances_B), dtype=torch.bool, device=instances_B.device)
        view_logits_BB = F.normalize(projected_BD, dim=-1) @ documents_BD.T / VIEW_TEMPERATURE
        log_share_BB = view_logits_BB.masked_fill(itself_BB, -torch.inf).log_softmax(1)
        other_views_BB = (instances_B[:, None] == instances_B) & ~itself_BB
        loss = loss - self.instance_weight * log_share_BB[other_views_BB].mean()

        loss = loss + held.budget_weight * (dims_B.mean() / held.budget).log().square()
        follows = correlation(dims_B.log(), self.complexity_N[instances_B])
        return loss + held.complexity_weight * (held.complexity_correlation - follows).relu().square()


def pictures(data: Path) -> tuple[LabelledImages, LabelledImages]:
    """Training photos with every second icon but those kept out, which have no labels; and `val`."""

    def load(source: str, split: str | None) -> LabelledImages:
        paths = sorted(data.glob(PATHS[source].format(split=split)))
        return load_labelled(paths, image_size=IMAGE_SIZE, split=split)

    photos, icons = load("mini-imagenet", "train"), load("noto-emoji", None)
    icon_pixels = icons.pixels[::2][NUM_KEPT_OUT:]
    training = LabelledImages(
        pixels=np.concatenate([photos.pixels, icon_pixels]),
        labels=(*photos.labels, *[None] * len(icon_pixels)),
    )
    return training, load("mini-imagenet", "val")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=SHORT.epochs)
    arguments = parser.parse_args()
    training, validation = pictures(arguments.data)
    config = replace(SHORT, epochs=arguments.epochs)
    complexity_N = torch.from_numpy(complexity(training.pixels)["bits_per_pixel"]).float().log()
    for title in ("staged", "from-start"):
        out = arguments.out / title
        torch.manual_seed(config.seed)
        network = EmbedderNetwork(config.embedder)
        # A fresh predictor says one length for all, where correlation has no gradient to speak of.
        nn.init.normal_(network.dimension.net[-1].weight, std=1e-2)
        learner = (
            Learner(network, config, len(training.classes))
            if title == "staged"
            else FromStart(network, config, len(training.classes), complexity_N)
        )
        with distributed.join("cpu") as ranks:
            learner = learner.to(memory_format=torch.channels_last)
            represent(learner, config, training, validation, out, ranks, show_progress_bar=True)
        network.eval()
        if title == "staged":
            fit_projection(network.projection, pooled_vectors(network, training.pixels[some_pictures(training)]))
        Embedder(network, device="cpu").save(out, notes={"recipe": "soft_cut_from_start.py", "title": title})
        print(f"{title} is in {out}", flush=True)


if __name__ == "__main__":
    main()
