"""Ours beside standard metric-learning heads: same backbone, data, augmentation, steps, optimizer and evaluator.

    python tests/benchmarks/peers.py MINI_IMAGENET_FOLDER --runs RUNS --out data/benchmarks/peers.json

The peers are pytorch-metric-learning's Proxy-Anchor and Multi-Similarity on global average pooling, trained for 512
and for 128 numbers, with the learning rate that is best on `val` at 512; so is ours. Proxies learn 100 times as fast as
the network, as their paper has it; Multi-Similarity sees four pictures a class. As a further row each peer gets our
projection (principal axes of its pooled vectors, part-whitened).
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from short_runs import SHORT, Sets, arguments_of, head_recall, represented, validation_recall, write

from retrieval.embedder import Embedder, Embeddings
from retrieval.evaluate import evaluate
from retrieval.metrics import retrieval_metrics
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection
from retrieval.train_embedder import shape_embedding, with_new_heads

PEERS = {
    "proxy_anchor": {"loss": "proxy_anchor"},
    "multi_similarity": {"loss": "multi_similarity", "samples_per_class": 4},
}


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[7e-4, 2e-3])
    arguments = parser.parse_args()
    sets = Sets.load(arguments.data)
    short = replace(SHORT, epochs=arguments.epochs)
    results = {"config": short.to_dict(), "rates": arguments.rates, "threads": torch.get_num_threads()}

    ours = best_rate(
        {
            rate: (replace(short, learning_rate=rate), arguments.runs / f"ours-{rate:g}", 512)
            for rate in arguments.rates
        },
        sets,
        lambda network, out: validation_recall(out),
    )
    network = with_new_heads(ours.pop("network"), short)
    shape_embedding(network, short, sets.training)
    results["ours"] = ours | adaptive(network, sets)
    print(results["ours"], flush=True)
    chosen = dict.fromkeys(PEERS, arguments.rates)
    for num_dims in (512, 128):
        for name, settings in PEERS.items():
            peer = replace(short, pooling="mean", nested=False, instance_weight=0.0, views=1, **settings)
            runs = {
                rate: (
                    replace(peer, learning_rate=rate, loss_learning_rate=100 * rate),
                    arguments.runs / f"{name}-{num_dims}-{rate:g}",
                    num_dims,
                )
                for rate in chosen[name]
            }
            found = best_rate(runs, sets, lambda network, out: head_recall(network, sets.validation)["recall@1"])
            chosen[name] = [found["learning_rate"]]
            network = found.pop("network")
            row = found | head_recall(network, sets.test) | {"our_projection": with_our_projection(network, sets)}
            results[f"{name} {num_dims}"] = row
            print(f"{name} {num_dims}", row, flush=True)
            write(results, arguments.out)


def best_rate(runs: dict, sets: Sets, recall_on_validation) -> dict:
    """Train with every learning rate; the network that is best on `val`, and what all of them reached there."""
    reached, networks = {}, {}
    for rate, (config, out, num_dims) in runs.items():
        networks[rate] = represented(config, sets, out, num_dims=num_dims)
        reached[rate] = recall_on_validation(networks[rate], out)
        print(f"{out.name}: {reached[rate]:.2f} on val", flush=True)
    best = max(reached, key=reached.get)
    validated = {f"{rate:g}": recall for rate, recall in reached.items()}
    return {"network": networks[best], "learning_rate": best, "validation_recall@1": validated}


def adaptive(network, sets: Sets) -> dict:
    """Our rows on `test`: cut at the predicted dims, and whole."""
    embedder = Embedder(network, device="cpu")
    pixels = sets.test.pixels
    parts = [embedder.encode_pixels(pixels[start : start + 256]) for start in range(0, len(pixels), 256)]
    rows = evaluate(Embeddings.concatenate(parts), sets.test.labels).to_dict()["rows"]
    named = {row["name"]: row for row in rows}
    return {
        name: {key: row[key] for key in ("recall@1", "map@r", "recall@1_interval", "mean_dim")}
        for name, row in named.items()
        if name in ("adaptive", "fixed 128", "fixed 512")
    }


@torch.no_grad()
def with_our_projection(network, sets: Sets) -> dict[str, float]:
    """Recall@1 in percent on `test` of a peer's pooled vectors under principal axes, part-whitened."""
    training, test = (pooled_vectors(network, images.pixels) for images in (sets.training, sets.test))
    projection = torch.nn.Linear(training.shape[1], 512)
    fit_projection(projection, training)
    found = {}
    for num_dims in (128, 512):
        vectors = F.normalize(projection(test)[:, :num_dims], dim=-1)
        metrics = retrieval_metrics(vectors, vectors, sets.test.labels, sets.test.labels, exclude_self=True)
        found[str(num_dims)] = metrics.recall_at(1)
    return found


if __name__ == "__main__":
    main()
