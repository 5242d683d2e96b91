"""Where the service shows the pictures of the index; ids are any text, slashes included."""

from urllib.parse import quote

IMAGES, THUMBNAILS = "/v1/images", "/v1/thumbnails"


def image_link(image_id: str) -> str:
    """The path of an image as it was indexed."""
    return f"{IMAGES}/{quote(image_id)}"


def thumbnail_link(image_id: str) -> str:
    """The path of a small JPEG of it."""
    return f"{THUMBNAILS}/{quote(image_id)}"
