"""How FAISS is run: on which device, one search at a time, and each in the faster of its ways."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import faiss

from retrieval.errors import UsageError

# FAISS's settings are global to the process, and its GPU resources serve one thread at a time.
_lock = threading.Lock()


@contextmanager
def tuned(num_queries: int) -> Iterator[None]:
    """FAISS for this thread alone, set to scan `num_queries` in the faster of its ways, as measured.

    Its default waits with BLAS until num_queries × d ≥ 128,000, ten times too long on few cores; what decides is the
    number of queries a thread has. With fewer queries than threads it splits the rows over the threads and uses BLAS
    regardless, which is slower than one plain scan a query until there are more than four threads.
    """
    with _lock:
        threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
        # 1 and the largest int mean always and never, in FAISS before 1.14.2 too, where the unit was queries alone.
        faiss.cvar.distance_compute_blas_threshold = 1 if num_queries >= 4 * threads else 2**31 - 1
        if num_queries < threads <= 4:
            faiss.omp_set_num_threads(num_queries)
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = threshold
            faiss.omp_set_num_threads(threads)


def device_for(device: str, index_type: str) -> str:
    """Where to scan, "cpu" or "cuda", of what was asked for; raises `UsageError` where that cannot be had."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"expected device 'auto', 'cpu' or 'cuda', got {device!r}; choose one of the three")
    if device == "cpu" or (device == "auto" and index_type != "Flat"):
        return "cpu"
    if index_type != "Flat":
        raise UsageError(f"expected index type 'Flat' on device 'cuda', got {index_type!r}; use device 'cpu' for it")
    has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    if device == "cuda" and not has_gpu:
        raise UsageError(
            "expected a FAISS with GPU support and a GPU for device 'cuda', found none; "
            "install faiss-gpu in place of faiss-cpu (never both), or use device 'cpu'"
        )
    return "cuda" if has_gpu else "cpu"
