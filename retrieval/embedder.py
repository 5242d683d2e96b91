"""The embedder in use: pictures in; vectors, dimensions and attention maps out; weights on disk."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from retrieval import weights_folder
from retrieval.device import fast_autocast, resolve_device
from retrieval.dimension import hard_cut, whole_dims
from retrieval.errors import ImageError, UsageError
from retrieval.images import read_pixels
from retrieval.layers.folding import fold_batch_norms
from retrieval.network import EmbedderConfig, EmbedderNetwork, NetworkOutput, scale_pixels
from retrieval.tokens import Tokens, most_attended, num_tokens, quantised
from retrieval.undrawn import Undrawn

Picture = str | Path | bytes | Image.Image | np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """What the embedder says of N pictures, as numpy arrays.

    `vectors` (N, D) float32: each cut at its own dim, zero beyond, unit length: what is stored. `full` (N, D) float32:
    uncut, unit length: what a query uses. `dims` (N,) int64. `attention` (N, h, w) float32: where pooling looked, each
    map sums to 1. `tokens`: the local tokens, and `token_places` (number of tokens,) int64: where on that map, row by
    row, each of them lies; None for embedders that have none, or if none were asked for.
    """

    vectors: np.ndarray
    full: np.ndarray
    dims: np.ndarray
    attention: np.ndarray
    tokens: Tokens | None = None
    token_places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.dims)

    @classmethod
    def concatenate(cls, parts: Sequence["Embeddings"]) -> "Embeddings":
        """Several batches as one."""
        fields = ["vectors", "full", "dims", "attention"]
        tokens = None
        if all(part.tokens is not None for part in parts):
            tokens = Tokens.concatenate([part.tokens for part in parts])
            fields.append("token_places")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}, tokens=tokens)


class Embedder:
    """Pictures to embeddings of predicted length: `Embedder.load().encode(["a.jpg", "b.jpg"])`.

    `name` says where the weights came from (`"default"` for the shipped ones) and `fingerprint` (hex sha256 of
    configuration and weights) which they are: indices are bound to it. Both are of the `network` as
    it was given: once it is changed, by training for example, make another embedder of it.
    """

    def __init__(self, network: EmbedderNetwork, *, name: str = weights_folder.UNSAVED, device: str = "auto"):
        self.network = network.eval()
        self.name = name
        self.fingerprint = _fingerprint(network)
        self._folded: EmbedderNetwork | None = None
        self._device = resolve_device(device)

    @property
    def config(self) -> EmbedderConfig:
        return self.network.config

    @property
    def image_size(self) -> int:
        """Side in pixels of the squares that `encode_pixels` takes."""
        return self.config.image_size

    @property
    def widths(self) -> tuple[int, ...]:
        return self.config.widths

    @property
    def min_dim(self) -> int:
        return self.config.min_dim

    @property
    def max_dim(self) -> int:
        return self.config.max_dim

    @property
    def token_dim(self) -> int:
        """Numbers of a local token, a byte each; 0 for an embedder without tokens."""
        return self.config.token_dim

    @classmethod
    def load(cls, path_or_name: str | Path | None = None, device: str = "auto") -> "Embedder":
        """Load a folder with config.json and model.safetensors, or shipped weights by name (the default ones for None).

        Raises `WeightsError` when there is no such folder, or its files are incomplete, damaged or do not fit.
        """
        folder, name = weights_folder.place_of(path_or_name, shipped_as="weights/{name}")
        config, state = weights_folder.read(folder, lambda config: EmbedderConfig.from_dict(config["embedder"]))
        with Undrawn():
            network = EmbedderNetwork(config)
        weights_folder.fill(network, state, folder, what="embedder")
        return cls(network, name=name, device=device)

    def save(self, folder: str | Path, *, notes: dict | None = None) -> None:
        """Write config.json and model.safetensors (float16); `notes`, such as the recipe, are kept in config.json.

        One without a name goes by the folder from then on. Raises, and changes nothing, `WeightsError` for weights that
        float16 cannot keep, `UsageError` for notes that JSON cannot.
        """
        weights_folder.write(folder, self.network, {"embedder": self.config.to_dict(), "notes": notes or {}})
        self.name = weights_folder.name_once_saved(self.name, folder)

    def encode(
        self,
        images: Iterable[Picture],
        *,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        device: str | None = None,
        token_bytes: int = 1024,
    ) -> Embeddings:
        """Embed pictures given as paths, encoded bytes, Pillow images or (H, W, 3) uint8 RGB arrays, in their order.

        `token_bytes`: how much the local tokens of a picture may take, 0 for none. `device` moves it for good, as
        `to` does. Decoding runs in threads, a batch ahead of the network. Raises `ImageError` for a picture that
        cannot be read: which one, counted from 0, and why.
        """
        is_one = (
            isinstance(images, (str, Path, bytes, bytearray, memoryview, Image.Image))
            or getattr(images, "ndim", 0) == 3
        )
        if is_one or not isinstance(images, Iterable):
            raise UsageError(f"expected a sequence of pictures, got one {type(images).__name__}; put it in a list")
        if not hasattr(images, "__getitem__"):  # what `Path.glob` gives, for example
            images = list(images)
        if batch_size < 1:
            raise UsageError(f"expected a batch_size of at least 1, got {batch_size}")
        if device is not None:
            self.to(device)
        starts = range(0, len(images), batch_size)
        with tqdm(total=len(images), unit="image", disable=not show_progress_bar) as bar:
            parts = []
            for pixels in self._decode_ahead(images, starts, batch_size):
                parts.append(self.encode_pixels(pixels, token_bytes=token_bytes))
                bar.update(len(pixels))
        return Embeddings.concatenate(parts) if parts else self._empty(token_bytes)

    @torch.no_grad()
    def encode_pixels(self, pixels_NSS3: np.ndarray, *, token_bytes: int = 1024) -> Embeddings:
        """Embed one batch of decoded pictures, (N, S, S, 3) uint8 RGB with S = `image_size`; the rest as `encode`."""
        size = self.image_size
        if not isinstance(pixels_NSS3, np.ndarray):
            raise UsageError(f"expected an array (N, {size}, {size}, 3) uint8, got a {type(pixels_NSS3).__name__}")
        if pixels_NSS3.ndim != 4 or pixels_NSS3.shape[1:] != (size, size, 3) or pixels_NSS3.dtype != np.uint8:
            raise UsageError(
                f"expected pixels (N, {size}, {size}, 3) uint8, got {pixels_NSS3.shape} {pixels_NSS3.dtype}"
            )
        if not len(pixels_NSS3):
            return self._empty(token_bytes)
        # torch takes no array that is mirrored, and warns of one that cannot be written.
        pixels_NSS3 = np.require(pixels_NSS3, requirements=["C", "W"])
        batch_B3HW = scale_pixels(torch.from_numpy(pixels_NSS3).to(self._device))
        with fast_autocast(self._device):
            output = self._inference_network()(batch_B3HW)
        dims_B = whole_dims(output.dims, min_dim=self.min_dim, max_dim=self.max_dim)
        return Embeddings(
            vectors=hard_cut(output.full, dims_B).cpu().numpy(),
            full=output.full.cpu().numpy(),
            dims=dims_B.cpu().numpy(),
            attention=output.attention.cpu().numpy(),
            **self._tokens(output, dims_B, token_bytes),
        )

    def to(self, device: str) -> "Embedder":
        """Move the network to `"auto"`, `"cpu"` or `"cuda"`; returns itself."""
        resolved = resolve_device(device)
        if resolved != self._device:
            self._device, self._folded = resolved, None
        return self

    def _tokens(self, output: NetworkOutput, dims_B: torch.Tensor, token_bytes: int) -> dict:
        if output.tokens is None or not token_bytes:
            return {}
        num_locations = output.tokens.shape[1]
        counts_B = num_tokens(dims_B, token_bytes=token_bytes, token_dim=self.token_dim, num_locations=num_locations)
        places_BT, mask_BT = most_attended(output.attention, counts_B)
        tokens_BTD = output.tokens.take_along_dim(places_BT[..., None], dim=1)
        return {
            "tokens": Tokens(values=quantised(tokens_BTD[mask_BT]), counts=counts_B.cpu().numpy()),
            "token_places": places_BT[mask_BT].cpu().numpy(),
        }

    def _inference_network(self) -> EmbedderNetwork:
        if self._folded is None:
            self._folded = fold_batch_norms(self.network).to(self._device, memory_format=torch.channels_last)
        return self._folded

    def _decode_ahead(self, images: Sequence[Picture], starts: range, batch_size: int) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as threads:
            pending = []
            for start in starts:
                batch = enumerate(images[start : start + batch_size], start)
                pending.append([threads.submit(self._read, image, place) for place, image in batch])
                if len(pending) == 2:
                    yield np.stack([future.result() for future in pending.pop(0)])
            for futures in pending:
                yield np.stack([future.result() for future in futures])

    def _read(self, image: Picture, place: int) -> np.ndarray:
        try:
            return read_pixels(image, self.image_size)
        except ImageError as error:
            name = f" ({image})" if isinstance(image, (str, Path)) else ""
            raise ImageError(f"picture {place}{name}: {error}") from None

    def _empty(self, token_bytes: int) -> Embeddings:
        side, num_dims = self.image_size // self.config.backbone.stride, self.config.num_dims
        none, no_numbers = np.zeros((0, num_dims), np.float32), np.zeros(0, np.int64)
        has_tokens = self.token_dim and token_bytes
        return Embeddings(
            vectors=none,
            full=none.copy(),
            dims=no_numbers,
            attention=np.zeros((0, side, side), np.float32),
            tokens=Tokens(values=np.zeros((0, self.token_dim), np.int8), counts=no_numbers) if has_tokens else None,
            token_places=no_numbers if has_tokens else None,
        )


def _fingerprint(network: EmbedderNetwork) -> str:
    digest = hashlib.sha256(json.dumps(network.config.to_dict(), sort_keys=True).encode())
    for key, value in sorted(weights_folder.half_state(network).items()):
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
