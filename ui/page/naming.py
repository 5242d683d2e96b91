"""What a picture is called on the page: by its file's name, or its id where it has no file of its own."""

from pathlib import PurePath

from retrieval.images import IMAGE_SUFFIXES


def name_of(image_id: str, uri: str) -> str:
    """The file's name of a picture, also inside an archive; its id where it is a row of a table."""
    path = PurePath(uri)
    return path.name if path.suffix.lower() in IMAGE_SUFFIXES else PurePath(image_id).name or image_id
