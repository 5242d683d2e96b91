"""What each choice in the network and its training is worth: short runs that differ in that one thing, on `val`.

python tests/benchmarks/ablations.py MINI_IMAGENET_FOLDER --runs RUNS --out data/benchmarks/ablations.json

What the result of the same settings already holds is not measured again.
"""

import json
from dataclasses import replace

from short_runs import SHORT, Sets, arguments_of, represented, validation_recall, write

from retrieval.augment import AugmentConfig
from retrieval.training.train_config import TrainConfig

CHOICES = {
    "as shipped": {},
    "post attention": {"attention": "post"},
    "softmax pooling": {"pooling": "softmax"},
    "multihead pooling": {"pooling": "multihead"},
    "structured pooling": {"pooling": "structured"},
    "mean pooling": {"pooling": "mean"},
    "complexity never varied": {"augment": AugmentConfig(vary_complexity=0.0)},
    "pictures not told apart": {"instance_weight": 0.0, "views": 1},
    "no averaged weights": {"ema_decay": 0.0},
}


def as_written(config: TrainConfig) -> dict:
    """Its settings as they come back from a file."""
    return json.loads(json.dumps(config.to_dict()))


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    sets = Sets.load(arguments.data)
    results = {"config": as_written(replace(SHORT, epochs=arguments.epochs)), "recall@1 on val": {}}
    if arguments.out.exists() and (before := json.loads(arguments.out.read_text()))["config"] == results["config"]:
        results = before
    for place, seed in enumerate(arguments.seeds):
        for name, settings in CHOICES.items():
            if len(results["recall@1 on val"].get(name, ())) > place:
                continue
            config = replace(SHORT, epochs=arguments.epochs, seed=seed, **settings)
            out = arguments.runs / f"{name.replace(' ', '-')}-{seed}"
            represented(config, sets, out)
            results["recall@1 on val"].setdefault(name, []).append(validation_recall(out))
            print(f"{name}, seed {seed}: {validation_recall(out):.2f}", flush=True)
            write(results, arguments.out)


if __name__ == "__main__":
    main()
