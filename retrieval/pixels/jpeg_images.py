"""The fast way to read a JPEG: libjpeg-turbo, at a fraction of the size where that is enough."""

import numpy as np
import simplejpeg

from retrieval.pixels import pillow_images
from retrieval.pixels.image_limits import refuse_too_many_pixels, refuse_too_many_scans
from retrieval.pixels.orientation import swaps_sides, upright


def read(data: bytes, image_size: int | None) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Pixels (H, W, 3), perhaps scaled down, and (width, height) of the upright original; or `ImageError`.

    None where Pillow has to look: another format, CMYK, a damaged file.
    """
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    refuse_too_many_pixels(width, height)
    refuse_too_many_scans(data, width, height)
    if colorspace in ("CMYK", "YCCK"):
        return None
    try:
        if image_size is None:
            pixels = simplejpeg.decode_jpeg(data, "RGB")
        else:
            # Twice the target is far enough for INTER_AREA to finish the job without aliasing.
            least = 2 * image_size
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least, min_factor=2)
    except ValueError:
        return None
    try:
        orientation = _orientation(data)
    except Exception:  # whatever an odd EXIF block makes Pillow raise: its own path will say it, or live with it
        return None
    if swaps_sides(orientation):
        width, height = height, width
    return upright(pixels, orientation), (width, height)


def _orientation(data: bytes) -> int:
    head = data[:65_536]
    if b"Exif\x00\x00" not in head and b"Orientation" not in head:  # the second is how XMP spells it
        return 1
    image, orientation = pillow_images.opened(data)
    image.close()
    return orientation
