"""Distorted copies of pictures, as they come back from the web: the queries of finding the original again."""

import cv2
import numpy as np

_JPEG_QUALITY = (20, 60)


def distort(pixels_NSS3: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A distorted copy of each picture, uint8 RGB (N, S, S, 3), the same for the same `seed` and place.

    Each is cropped to 25 to 75 % of its area at an aspect of 3:4 to 4:3, mirrored in every second case, changed in
    brightness and contrast by up to 35 %, tinted by up to 15 %, blurred by up to 1.5 hundredths of the side, and
    compressed as JPEG of quality 20 to 60.
    """
    return np.stack([_distorted(picture, np.random.default_rng((seed, i))) for i, picture in enumerate(pixels_NSS3)])


def _distorted(picture_SS3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(picture_SS3)
    area, aspect = rng.uniform(0.25, 0.75), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    height, width = (min(side, round(side * np.sqrt(area * ratio))) for ratio in (1 / aspect, aspect))
    top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
    changed = cv2.resize(picture_SS3[top : top + height, left : left + width], (side, side))
    if rng.random() < 0.5:
        changed = changed[:, ::-1]
    contrast, brightness, tint = rng.uniform(0.65, 1.35), rng.uniform(-0.35, 0.35), rng.uniform(0.85, 1.15, 3)
    changed = (changed.astype(np.float32) - 128) * contrast * tint + 128 * (1 + brightness)
    changed = cv2.GaussianBlur(changed, (0, 0), sigmaX=1e-3 + rng.uniform(0, 0.015) * side)
    bgr = np.ascontiguousarray(changed.clip(0, 255).round().astype(np.uint8)[..., ::-1])
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_JPEG_QUALITY, endpoint=True))])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
