"""Names of remote places, such as `https://host/photos/a.jpg` or `s3://bucket/key`: told from paths, taken apart."""

import re
from pathlib import PurePosixPath
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urljoin, urlsplit

# Two letters at least: `c://` is a folder of Windows.
_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://.+", re.IGNORECASE | re.DOTALL)
_WITH_QUERIES = ("http", "https")


def is_url(name: str) -> bool:
    """Whether `name` is a place for fsspec to read, rather than a path."""
    return _URL.fullmatch(name) is not None


def protocol_of(url: str) -> str:
    """`https`, `s3`, …"""
    return _URL.fullmatch(url)["protocol"].lower()


def path_of(url: str) -> PurePosixPath:
    """The path by which a kind of file and a name are known: without host, `?query` and `#fragment`, unquoted."""
    if protocol_of(url) in _WITH_QUERIES:
        return PurePosixPath("/" + unquote(urlsplit(url).path).lstrip("/"))
    return PurePosixPath("/" + url.partition("://")[2])


def joined(url: str, place: str) -> str:
    """Where `place`, a URL or a path relative to the file `url`, is."""
    if is_url(place):
        return place
    if protocol_of(url) in _WITH_QUERIES:
        return urljoin(url, place)
    protocol, _, path = url.partition("://")
    host, _, inner = path.partition("/")
    return f"{protocol}://{host}{normpath(join('/', dirname(inner), place))}"
