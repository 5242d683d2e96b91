"""An index folder in which one file is not as it was written: an error that names the file, or the same answers."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import damaged_indexes
import numpy as np
import pytest

from indexer import arrays
from retrieval.errors import DamagedError


@pytest.mark.slow
def test_no_damage_crashes_or_goes_unnoticed(tmp_path, request):
    seeds = range(2000 if request.config.getoption("--all-faults") else 80)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other_process:
        report = other_process.submit(damaged_indexes.run, tmp_path, seeds).result()
    print(f"{report.num_tried} damaged indexes: {dict(report.outcomes)}")
    assert report.problems == [] and report.num_tried == len(seeds)
    assert report.outcomes["refused"] > len(seeds) / 4 and report.outcomes["crash"] == 0


@pytest.mark.parametrize(
    "head",
    [
        b"{'descr': '|i1', 'fortran_order': False, 'shape': (-1, 4), }",
        b"{'descr': '|i1', 'fortran_order': False, 'shape': (9, 4), }",
        b"{'descr': '|O8', 'fortran_order': False, 'shape': (1, 4), }",
        b"{'descr': '|i1', 'fortran_order': False, 'shape': ((((((",
        b"{'descr': \x1a",
        b"",
    ],
)
def test_a_damaged_head_of_an_array_is_one_line_that_names_the_file(tmp_path, head):
    path = tmp_path / "tokens.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + np.uint16(118).tobytes() + head.ljust(117) + b"\n" + bytes(4))
    with pytest.raises(DamagedError, match=r"^expected tokens in .*tokens\.npy, got: [^\n]*; `verify` lists") as error:
        arrays.read(path, "tokens")
    assert "\n" not in str(error.value)
