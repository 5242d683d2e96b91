"""Every error that Spyglass raises on purpose.

    SpyglassError
    ├── UsageError          an argument is off: what was expected, what arrived       (also a ValueError)
    ├── ImageError          a picture cannot be read                                  (also a ValueError)
    ├── SourceError         a corpus cannot be read: no such path, no such column
    ├── WeightsError        a weights folder or file is incomplete or does not fit
    ├── TrainingError       a training run cannot go on
    ├── MissingExtraError   an optional package is not installed                      (also an ImportError)
    ├── BusyError           a service has as much to do as it may hold
    └── IndexFolderError    an index folder cannot be used
        ├── DamagedError    a file of the index is missing or not what was written
        ├── LockedError     another process is writing to the index
        └── MismatchError   the index was made by another model

Each message is one line: what was expected, what arrived, what to do next.
"""


class SpyglassError(Exception):
    """The root of every error that Spyglass raises on purpose."""


class UsageError(SpyglassError, ValueError):
    """An argument is outside what a function or command accepts."""


class ImageError(SpyglassError, ValueError):
    """A picture cannot be read; the message is the reason alone, without its name, where only one was given."""


class SourceError(SpyglassError):
    """A corpus cannot be read at all (a single broken picture in it is an `ImageError`)."""


class WeightsError(SpyglassError):
    """A weights folder or state dict is incomplete, or does not fit the model it is loaded into."""


class TrainingError(SpyglassError):
    """A training run cannot start or go on."""


class MissingExtraError(SpyglassError, ImportError):
    """A feature needs a package that is not installed; the message names the extra that brings it."""


class BusyError(SpyglassError):
    """A service has as much to do as it may hold: the same request may succeed later."""


class IndexFolderError(SpyglassError):
    """An index folder cannot be opened, read or written."""


class DamagedError(IndexFolderError):
    """A file of the index is missing, or its content is not what was written."""


class LockedError(IndexFolderError):
    """Another process holds the index's write lock."""


class MismatchError(IndexFolderError):
    """The index was made by another model than the one at hand."""
