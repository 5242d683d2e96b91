"""Many readers beside a writer: every answer is that of one published state, whatever is swept meanwhile."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import readers


@pytest.mark.slow
def test_every_answer_is_that_of_one_state(tmp_path, request):
    seconds = 60.0 if request.config.getoption("--all-faults") else 8.0
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other_process:
        report = other_process.submit(readers.run, tmp_path, seconds).result()
    print(f"{report.num_answers} answers of {report.num_states_seen} states beside {dict(report.changes)}")
    assert report.problems == []
    assert report.num_answers >= readers.NUM_READERS and report.changes.total() > 1
