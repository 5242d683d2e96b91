"""Embedder and ranker trained end to end, and the same embedder trained as long without the ranker.

    python tests/benchmarks/ranker_joint.py DATA --out DIR

DATA holds mini-imagenet. DIR receives two models, `joint` and `control`, each with its projection fitted anew and a
`ranker` that was then trained on it as it is; `ranker_table.py --joint DIR/joint --control DIR/control` measures them.
A run goes on where it was cut short. `--mix 0.5` takes the mean of the weights before and after (Wortsman et al. 2022,
arXiv 2109.01903), which forgets less of what other classes need; with the same DIR it does not train again.
"""

import argparse
import copy
from pathlib import Path

import torch
from encoded_sets import PATHS

from retrieval.augment import AugmentConfig
from retrieval.datasets import LabelledImages, load_labelled
from retrieval.embedder import Embedder
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection
from retrieval.ranker_weights import Ranker
from retrieval.train_jointly import train_jointly
from retrieval.train_ranker import train_ranker
from retrieval.training.fit_tokens import fit_tokens, local_features
from retrieval.training.joint_config import JointConfig
from retrieval.training.ranker_train_config import RankerTrainConfig
from retrieval.training.rerank_metrics import measures, similarities
from ui.commands.ranking_sets import found_examples

RANKING_WEIGHTS = {"joint": 1.0, "control": 0.0}


def every(images: LabelledImages, step: int) -> LabelledImages:
    return LabelledImages(pixels=images.pixels[::step], labels=images.labels[::step])


def mixed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Weights on the line between two networks, `share` of the way."""
    return {name: torch.lerp(value.double(), after[name].double(), share).to(value) for name, value in before.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--ranker", default="default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--train-stride", type=int, default=3, help="every so many-th training picture")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--loss", default="smooth_ap")
    parser.add_argument("--vary-complexity", type=float, default=AugmentConfig().vary_complexity)
    parser.add_argument("--mix", type=float, default=1.0, help="how far to go from the weights before to those after")
    parser.add_argument("--only", nargs="+", choices=list(RANKING_WEIGHTS), default=list(RANKING_WEIGHTS))
    arguments = parser.parse_args()
    embedder = Embedder.load(arguments.model, device="cpu")

    def load(split: str, step: int) -> LabelledImages:
        paths = sorted(arguments.data.glob(PATHS["mini-imagenet"].format(split=split)))
        return every(load_labelled(paths, image_size=embedder.image_size, split=split), step)

    training, validation = load("train", arguments.train_stride), load("val", 4)
    for title in arguments.only:
        out = arguments.out / title
        network = Embedder.load(arguments.model, device="cpu").network
        before = copy.deepcopy(network.state_dict())
        attention = Ranker.load(arguments.ranker).attention
        metadata = attention.config.metadata

        def look_up(network, images=training, guards=True, metadata=metadata):
            (examples,) = found_examples(
                Embedder(network, device="cpu"), images, metadata, num_candidates=100, token_bytes=1024, guards=guards
            )
            return examples

        config = JointConfig(
            steps=arguments.steps,
            refresh_steps=arguments.steps,
            ranking_weight=RANKING_WEIGHTS[title],
            learning_rate=arguments.learning_rate,
            loss=arguments.loss,
            augment=AugmentConfig(vary_complexity=arguments.vary_complexity),
        )
        train_jointly(network, attention, training, look_up, config, out, report=print, show_progress_bar=True)
        network.load_state_dict(mixed(before, network.state_dict(), arguments.mix))
        # A projection trained on a few classes throws away what others need: as after any training, it is fitted anew.
        fit_projection(network.projection, pooled_vectors(network, training.pixels))
        fit_tokens(network.tokens, local_features(network, training.pixels[::4]))
        Embedder(network, device="cpu").save(out, notes={"recipe": "ranker_joint.py", "title": title})
        trained = Embedder.load(out, device="cpu")
        validating = look_up(trained.network, validation, guards=False)
        print(f"{title}, by similarity:", measures(similarities(validating), validating), flush=True)
        train_ranker(
            attention,
            look_up(trained.network),
            validating,
            RankerTrainConfig(loss=arguments.loss, queries_per_epoch=3200, epochs=2),
            out / f"frozen-{arguments.mix:g}",
            report=print,
        )
        Ranker(attention, embedder=trained.fingerprint).save(out / "ranker")
        print(f"{title} is in {out}", flush=True)


if __name__ == "__main__":
    main()
