"""How much there is to see in a picture, measured without any model: the yardsticks that `d` is compared with."""

import cv2
import numpy as np

from retrieval.errors import UsageError

_JPEG_QUALITY = 75
_CANNY_THRESHOLDS = (100, 200)


def complexity(pixels_NSS3: np.ndarray) -> dict[str, np.ndarray]:
    """Two measures of each picture of (N, S, S, 3) uint8 RGB, as (N,) float64; higher is more complex.

    `bits_per_pixel`: the length of the picture as JPEG of quality 75, header included, in bits per pixel.
    `edge_density`: the share of pixels, 0..1, that Canny's detector (1986, thresholds 100 and 200 on the grey picture)
    takes for edges. Both depend on S: compare pictures of one size. Raises `UsageError`.
    """
    if pixels_NSS3.ndim != 4 or pixels_NSS3.shape[3] != 3 or pixels_NSS3.dtype != np.uint8:
        raise UsageError(f"expected pixels (N, S, S, 3) uint8, got {pixels_NSS3.shape} {pixels_NSS3.dtype}")
    return {
        "bits_per_pixel": np.array([_bits_per_pixel(picture) for picture in pixels_NSS3], dtype=np.float64),
        "edge_density": np.array([_edge_density(picture) for picture in pixels_NSS3], dtype=np.float64),
    }


def _bits_per_pixel(picture_HW3: np.ndarray) -> float:
    bgr = cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return 8 * encoded.size / (picture_HW3.shape[0] * picture_HW3.shape[1])


def _edge_density(picture_HW3: np.ndarray) -> float:
    edges = cv2.Canny(cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2GRAY), *_CANNY_THRESHOLDS)
    return np.count_nonzero(edges) / edges.size
