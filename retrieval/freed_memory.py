"""Memory that is freed is kept for what comes next.

A batch of pictures passes through a network in arrays of many megabytes, each freed a moment later. glibc gives such
memory back to the system at once, which then hands out zeroed pages anew, one fault at a time: on CPUs up to a third of
the time of encoding.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_NEVER = 2**31 - 1
_LARGE = (2**30, 2**25)  # bytes; older versions of glibc refuse more than the second


def keep_freed_memory() -> bool:
    """Let this process keep up to a gigabyte an array instead of giving it back; False where that cannot be asked for.

    The commands call it, and a program may, before its first picture: it is a setting of the whole process, so no
    import makes it. The most that it ever holds at one time hardly changes, but it holds that to its end.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGE) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
