"""Embedder and ranker trained end to end, and the same embedder trained as long without the ranker.

    python tests/benchmarks/ranker_joint.py DATA --out DIR

DATA holds mini-imagenet. DIR receives two models, `joint` and `control`, each with its projection fitted anew and a
`ranker` that was then trained on it as it is; `ranker_table.py --joint DIR/joint --control DIR/control` measures them.
A run goes on where it was cut short.
"""

import argparse
from pathlib import Path

from encoded_sets import PATHS

from retrieval.datasets import LabelledImages, load_labelled
from retrieval.embedder import Embedder
from retrieval.projection import fit_projection, pooled_vectors
from retrieval.ranker_weights import Ranker
from retrieval.train_jointly import train_jointly
from retrieval.train_ranker import train_ranker
from retrieval.training.fit_tokens import fit_tokens, local_features
from retrieval.training.joint_config import JointConfig
from retrieval.training.ranker_train_config import RankerTrainConfig
from ui.commands.ranking_sets import found_examples


def every(images: LabelledImages, step: int) -> LabelledImages:
    return LabelledImages(pixels=images.pixels[::step], labels=images.labels[::step])


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
    arguments = parser.parse_args()
    embedder = Embedder.load(arguments.model, device="cpu")

    def load(split: str, step: int) -> LabelledImages:
        paths = sorted(arguments.data.glob(PATHS["mini-imagenet"].format(split=split)))
        return every(load_labelled(paths, image_size=embedder.image_size, split=split), step)

    training, validation = load("train", arguments.train_stride), load("val", 4)
    for title, ranking_weight in (("joint", 1.0), ("control", 0.0)):
        out = arguments.out / title
        network = Embedder.load(arguments.model, device="cpu").network
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
            ranking_weight=ranking_weight,
            learning_rate=arguments.learning_rate,
            loss=arguments.loss,
        )
        train_jointly(network, attention, training, look_up, config, out, report=print, show_progress_bar=True)
        # A projection trained on a few classes throws away what others need: as after any training, it is fitted anew.
        fit_projection(network.projection, pooled_vectors(network, training.pixels))
        fit_tokens(network.tokens, local_features(network, training.pixels[::4]))
        Embedder(network, device="cpu").save(out, notes={"recipe": "ranker_joint.py", "title": title})
        trained = Embedder.load(out, device="cpu")
        train_ranker(
            attention,
            look_up(trained.network),
            look_up(trained.network, validation, guards=False),
            RankerTrainConfig(loss=arguments.loss, queries_per_epoch=3200, epochs=2),
            out / "frozen",
            report=print,
        )
        Ranker(attention, embedder=trained.fingerprint).save(out / "ranker")
        print(f"{title} is in {out}", flush=True)


if __name__ == "__main__":
    main()
