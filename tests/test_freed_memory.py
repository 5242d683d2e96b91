"""What the program asks of the allocator shows in how many pages the system hands out."""

import os
import platform
import subprocess
import sys

import pytest

from retrieval import freed_memory

FAULTS = """
import resource, sys
import numpy as np
from retrieval.freed_memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.full(2**26, 7, np.uint8)  # 64 MiB: 16,384 pages of 4 KiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(which: str) -> int:
    # Pages of two megabytes would hide what is counted.
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", FAULTS, which]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_an_array_as_large_as_the_last_one_takes_its_pages():
    given_back, kept = faults("given back"), faults("kept")
    assert kept < given_back / 5, "twenty arrays in the pages of one"


def test_other_systems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(freed_memory.sys, "platform", "darwin")
    assert not freed_memory.keep_freed_memory()
