"""How a camera was held, by EXIF."""

import numpy as np

EXIF_ORIENTATION = 0x0112


def swaps_sides(orientation: int) -> bool:
    """Whether a picture's width becomes its height."""
    return orientation in (5, 6, 7, 8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation of (H, W, 3): 2 to 8 are mirrored and rotated ways to hold a camera (Exif 2.32, 274)."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.transpose(1, 0, 2)
        case 6:
            return np.rot90(pixels, -1)
        case 7:
            return pixels[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            return np.rot90(pixels)
    return pixels
