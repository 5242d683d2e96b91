"""Pooled vectors of every set that the dimension is learned and measured on, encoded once and kept in a folder."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from retrieval.datasets import LabelledImages, load_labelled
from retrieval.network import EmbedderNetwork
from retrieval.pixels.complexity import complexity
from retrieval.pixels.distort import distort
from retrieval.pooled_vectors import pooled_vectors

PATHS = {
    "mini-imagenet": "mini-imagenet/mini-imagenet-{split}-*.parquet",
    "caltech101": "caltech101/*.parquet",
    "clothing": "clothing/*.parquet",
    "noto-emoji": "noto-emoji/*.parquet",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSet:
    """Pooled vectors (N, C) of pictures and of distorted copies, labels (None for an icon), source and complexity."""

    pooled: torch.Tensor
    distorted: torch.Tensor
    labels: tuple[str | None, ...]
    sources: tuple[str, ...]
    bits_per_pixel: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: slice) -> "EncodedSet":
        return EncodedSet(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    @classmethod
    def join(cls, sets: list["EncodedSet"]) -> "EncodedSet":
        return cls(
            pooled=torch.cat([each.pooled for each in sets]),
            distorted=torch.cat([each.distorted for each in sets]),
            labels=tuple(label for each in sets for label in each.labels),
            sources=tuple(source for each in sets for source in each.sources),
            bits_per_pixel=np.concatenate([each.bits_per_pixel for each in sets]),
        )


class EncodedSets:
    """Encodes with `network` what lies below `data`, or reads what was encoded with the same weights from `cache`."""

    def __init__(self, network: EmbedderNetwork, data: Path, cache: Path):
        self.network, self.data = network, data
        self.cache = cache / _name_of(network)
        self.cache.mkdir(parents=True, exist_ok=True)

    def pictures(self, source: str, split: str | None = None) -> LabelledImages:
        pattern = PATHS[source].format(split=split)
        paths = sorted(self.data.glob(pattern))
        return load_labelled(paths, image_size=self.network.config.image_size, split=split)

    def photos(self, source: str, split: str | None = None) -> EncodedSet:
        """A set with classes; of the training photos every second one."""

        def chosen() -> LabelledImages:
            images, every = self.pictures(source, split), 2 if split == "train" else 1
            return LabelledImages(pixels=images.pixels[::every], labels=images.labels[::every])

        return self._encoded(source, split, chosen, with_labels=True)

    def icons(self, half: str) -> EncodedSet:
        """The icons that were learned from, every second one from the first, or those to measure on."""

        def chosen() -> LabelledImages:
            images, first = self.pictures("noto-emoji"), ("learn", "measure").index(half)
            return LabelledImages(pixels=images.pixels[first::2], labels=images.labels[first::2])

        return self._encoded("noto-emoji", half, chosen, with_labels=False)

    def _encoded(self, source: str, part: str | None, load, *, with_labels: bool) -> EncodedSet:
        path = self.cache / f"{source}-{part}.pt"
        if not path.exists():
            images = load()
            kept = {
                "pooled": pooled_vectors(self.network, images.pixels, show_progress_bar=True),
                "distorted": pooled_vectors(self.network, distort(images.pixels), show_progress_bar=True),
                "labels": list(images.labels),
                "bits_per_pixel": torch.from_numpy(complexity(images.pixels)["bits_per_pixel"]),
            }
            torch.save(kept, path)
        kept = torch.load(path, weights_only=True)
        labels = [f"{source}: {label}" for label in kept["labels"]] if with_labels else [None] * len(kept["labels"])
        return EncodedSet(
            pooled=kept["pooled"],
            distorted=kept["distorted"],
            labels=tuple(labels),
            sources=(source,) * len(labels),
            bits_per_pixel=kept["bits_per_pixel"].numpy(),
        )


def _name_of(network: EmbedderNetwork) -> str:
    """Hex digits that only the same backbone, pooling and statistics, reading pictures of the same size, have."""
    digest = hashlib.sha256(str(network.config.image_size).encode())
    for part in filter(None, (network.backbone, network.pooling, network.statistics)):
        for name, value in sorted(part.state_dict().items()):
            digest.update(name.encode() + value.half().numpy().tobytes())
    return digest.hexdigest()[:16]
