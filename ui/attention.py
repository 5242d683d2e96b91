"""The explanation of an embedding: where in the picture its numbers come from, as a heat overlay."""

import numpy as np
from PIL import Image

# Dark violet to pale yellow, lightness rising evenly: brighter always reads as more, also to the colour-blind.
_ANCHORS = np.array(
    [
        (0.10, 0.06, 0.28),
        (0.38, 0.08, 0.47),
        (0.73, 0.19, 0.40),
        (0.95, 0.45, 0.20),
        (0.99, 0.74, 0.26),
        (0.99, 0.99, 0.72),
    ]
)
# A nearly even map is shown as such: the full range of colours stands for at least this many mean weights.
_LEAST_SPREAD = 1.0


def attention_overlay(picture: Image.Image, attention: np.ndarray) -> Image.Image:
    """The picture under a heat map of its attention weights, upsampled bicubically; bright is where the model looked.

    `attention` is (h, w), any positive scale, covering the whole picture whatever its proportions. Returns an RGB image
    of the picture's size. Raises `ValueError` for a map that is not two-dimensional or not finite.
    """
    heat = _upsampled(heat_of(attention), picture.size)
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    grey = pixels.mean(axis=2, keepdims=True)
    # Colour fades where the model did not look, so that the heat's own colours are not mistaken for the picture's.
    quiet = 0.55 * grey + 0.45 * pixels
    opacity = (0.38 + 0.27 * heat)[..., None]
    mixed = (1 - opacity) * quiet + opacity * colours(heat)
    return Image.fromarray((np.clip(mixed, 0, 1) * 255).round().astype(np.uint8))


def heat_of(attention: np.ndarray) -> np.ndarray:
    """Attention weights (h, w) scaled into 0..1; an even map becomes zeros, a nearly even one stays faint."""
    weights = np.asarray(attention, dtype=np.float64)
    if weights.ndim != 2 or weights.size == 0 or not np.isfinite(weights).all():
        raise ValueError(f"expected a finite attention map (h, w), got shape {weights.shape}")
    lowest = weights.min()
    spread = max(weights.max() - lowest, _LEAST_SPREAD * abs(weights.mean()))
    return np.zeros_like(weights) if spread == 0 else (weights - lowest) / spread


def colours(heat: np.ndarray) -> np.ndarray:
    """RGB colours (..., 3) in 0..1 of heat (...) in 0..1."""
    positions = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(heat, positions, _ANCHORS[:, channel]) for channel in range(3)], axis=-1)


def _upsampled(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(heat.astype(np.float32))  # mode "F": no rounding to 256 steps before the interpolation
    return np.clip(np.asarray(image.resize(size, Image.Resampling.BICUBIC)), 0, 1)
