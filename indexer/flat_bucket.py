"""A bucket that compares every row with the query, on the CPU or a GPU."""

import faiss
import numpy as np

from indexer.bucket import Bucket

_GPU_MAX_CANDIDATES = 2048  # what FAISS's GPU kernels can select


class FlatBucket(Bucket):
    """Rows in a FAISS index that compares them all; with `gpu_resources`, a copy of it on the GPU does where it can."""

    def __init__(self, width: int, dtype: np.dtype, gpu_resources) -> None:
        super().__init__(width)
        self._dtype = dtype
        if dtype == np.float16:
            half = faiss.ScalarQuantizer.QT_fp16
            self._index = faiss.IndexScalarQuantizer(width, half, faiss.METRIC_INNER_PRODUCT)
        else:
            self._index = faiss.IndexFlatIP(width)
        self._gpu_resources = gpu_resources
        self._gpu_index = None
        if gpu_resources is not None and dtype == np.float16:
            self.num_spare, self.rounding = 64, 5e-4  # beside a float16 index FAISS rounds queries to 11 bits there

    def _hold(self, rows):
        # Both kinds of index store plain numbers, so the rows go in as they are, without FAISS's encoder.
        self._index.add_sa_codes(np.ascontiguousarray(rows, dtype=self._dtype).view(np.uint8))
        self._gpu_index = None

    def rows(self, selection):
        codes = faiss.rev_swig_ptr(self._index.codes.data(), self._index.ntotal * self._index.code_size)
        codes = codes.reshape(self._index.ntotal, self._index.code_size)[selection]
        return self._index.sa_decode(codes) if self._dtype == np.float16 else codes.view(np.float32)

    def compares_all(self, allowed):
        return True

    def candidates(self, queries, num_candidates, allowed):
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")  # FAISS reads them where they lie
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
            # faiss.contrib.torch_utils, which training imports, hides FAISS's own search behind one without params.
            search = getattr(self._index, "search_numpy", self._index.search)
            return search(queries, num_candidates, params=parameters)
        if self._gpu_resources is not None and num_candidates <= _GPU_MAX_CANDIDATES:
            return self._on_gpu().search(queries, num_candidates)
        # FAISS scans float16 without BLAS: from some 50 queries on, decoding the rows and multiplying is faster.
        if self._dtype == np.float16 and len(queries) >= 48:
            return self.scan(queries, num_candidates, None)
        return self._index.search(queries, num_candidates)

    def _on_gpu(self):
        if self._gpu_index is None:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = self._dtype == np.float16
            self._gpu_index = faiss.index_cpu_to_gpu(self._gpu_resources, 0, self._index, options)
        return self._gpu_index
