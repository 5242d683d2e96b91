"""The table or archive that pictures come from."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from indexer.sources.remote import Download
from indexer.sources.urls import is_url, joined, path_of, protocol_of

_WEB = ("http", "https")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file `path` to read, and its name for good, `uri`: the same, or the URL that the `copy` was fetched from."""

    path: Path
    uri: str
    copy: Download | None = None

    @classmethod
    def at(cls, path: Path) -> "Origin":
        """A file that is here."""
        return cls(path=path, uri=str(path))

    @classmethod
    def fetched(cls, url: str, copy: Download) -> "Origin":
        """A file that is elsewhere."""
        return cls(path=copy.path, uri=url, copy=copy)

    @property
    def name(self) -> str:
        """The file's name."""
        return self._named.name

    @property
    def source(self) -> str:
        """The file's name without its ending."""
        return self._named.stem

    def picture(self, place: str) -> tuple[str, Path | None]:
        """Where a path or URL of a cell is: the uri, and the file if it is here; raises `ValueError`.

        What comes from elsewhere names no files that are here.
        """
        if self.copy is None:
            if is_url(place):
                return place, None
            path = Path(os.path.abspath(self.path.parent / place))
            return str(path), path
        url = joined(self.uri, place)
        if "::" in url or protocol_of(url) not in (*_WEB, protocol_of(self.uri)):
            raise ValueError(f"expected a URL of the same kind or of the web, got {place}")
        return url, None

    @property
    def _named(self) -> PurePath:
        return self.path if self.copy is None else path_of(self.uri)
