"""Bits per pixel and edges of pictures whose order is plain to see."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from retrieval.errors import UsageError
from retrieval.pixels.complexity import complexity


def flat(level: int = 128) -> np.ndarray:
    return np.full((64, 64, 3), level, dtype=np.uint8)


def halves() -> np.ndarray:
    """Black on the left, white on the right: one vertical edge, a pixel wide to Canny."""
    picture = flat(0)
    picture[:, 32:] = 255
    return picture


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_by_hand():
    found = complexity(np.stack([flat(), halves()]))
    assert found["edge_density"].tolist() == [0, 64 / 64**2]
    # As long as the file that another encoder makes; and no picture takes fewer bits than a flat one.
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, "JPEG", quality=75)
    assert found["bits_per_pixel"][0] == pytest.approx(8 * file.tell() / 64**2, rel=0.05)
    assert found["bits_per_pixel"][0] < found["bits_per_pixel"][1]


def test_noise_is_complex_and_blur_takes_it_away():
    blurred = [cv2.GaussianBlur(noise(), (0, 0), sigma) for sigma in (0.7, 1.5, 4, 12)]
    found = complexity(np.stack([noise(), *blurred, flat()]))
    assert (np.diff(found["bits_per_pixel"]) < 0).all()
    # Edges thin out too, as far as there are any.
    assert (np.diff(found["edge_density"]) <= 0).all() and found["edge_density"][0] > 0.2
    assert found["edge_density"][-1] == 0


def test_channels_are_red_green_blue():
    # Canny looks at brightness: a border between black and blue is too dim for it, one with red or green is not.
    pictures = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    for channel in range(3):
        pictures[channel, :, 32:, channel] = 255
    assert (complexity(pictures)["edge_density"] > 0).tolist() == [True, True, False]


def test_no_pictures():
    found = complexity(np.zeros((0, 64, 64, 3), dtype=np.uint8))
    assert {name: values.shape for name, values in found.items()} == {"bits_per_pixel": (0,), "edge_density": (0,)}


@pytest.mark.parametrize("pixels", [flat(), flat()[None].astype(np.float32), flat()[None, ..., :2]])
def test_mistakes_are_named(pixels):
    with pytest.raises(UsageError, match="expected pixels .N, S, S, 3. uint8, got"):
        complexity(pixels)
