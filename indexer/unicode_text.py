"""Text that Arrow, JSON and other programs can hold: the names of files may be bytes that are no text."""


def is_unicode(text: str) -> bool:
    """Whether it is text throughout, without the surrogates that Python puts for other bytes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
