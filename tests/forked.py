"""Something done in a child process, which may be killed or crash: what it gave, or what ended it."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import pyarrow as pa


class Ended(NamedTuple):
    """What a child returned, as JSON has it; or the number of the signal that ended it."""

    value: Any = None
    signal: int = 0


def be_one_thread() -> None:
    """Keep FAISS and Arrow from starting threads, which a fork would lose."""
    faiss.omp_set_num_threads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def call(run: Callable[[], Any], *, seconds: float = 60.0) -> Ended:
    """Fork and `run`; one that takes longer than `seconds` is ended by SIGALRM. Only for a process of one thread."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            said = json.dumps(run()).encode()
        except BaseException:
            said = json.dumps({"unexpected": traceback.format_exc(limit=-6)}).encode()
        with open(writing, "wb") as pipe:
            pipe.write(said)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return Ended(signal=os.WTERMSIG(status)) if os.WIFSIGNALED(status) else Ended(json.loads(said))
