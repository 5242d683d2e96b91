"""A disk that fails, or a process or machine that dies, at any call of any write: no row is lost, none is half there.

Some of the faults, chosen once for all; every one with `--all-faults`.
"""

import multiprocessing
import os
import re
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import faults
import numpy as np
import pytest
from faulty_disk import FAULTS, POWER_CUTS, FaultyDisk, faults_of
from power_cut import UnsyncedFolder, kept, lost
from toy import ToyEmbedder, write_pngs

from indexer import Index
from indexer.storage import arrays, durable
from retrieval.errors import SpyglassError

NUM_FAULTS = 6
"""How many are tried of each operation, where not all are."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory, request):
    """What comes of the faults of each operation, tried in processes that hold nothing but what `faults` imports."""
    most = None if request.config.getoption("--all-faults") else NUM_FAULTS
    selected = [name for name in faults.OPERATIONS if any(f"[{name}]" in item.name for item in request.session.items)]
    folder = tmp_path_factory.mktemp("faults")
    num_processes = min(4, os.cpu_count() or 1)
    executor = ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn"))
    executor.submit(faults.prepare, folder).result()
    yield {
        "careless": executor.submit(faults.run, "careless", folder),
        **{name: executor.submit(faults.run, name, folder, most) for name in selected},
    }
    executor.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", faults.OPERATIONS)
def test_whatever_call_goes_wrong_the_index_is_whole(name, reports):
    report = reports[name].result()
    tried = (
        f"{len(report.calls)} calls, {report.num_faults} faults tried, which left {report.num_left} different folders"
    )
    print(f"{name}: {tried}; {report.num_rows_lost} rows lost")
    assert report.problems == []
    assert report.num_rows_lost == 0 and report.num_faults >= NUM_FAULTS


@pytest.mark.slow
def test_a_careless_write_is_found_out(reports):
    report = reports["careless"].result()
    torn = "expected a sound index, got AssertionError: ['history/000003.json: expected a manifest, got JSONDecodeError"
    for found in (
        f"careless: killed in the middle at call 2, write p.index/history/000003.json: {torn}",
        f"careless: unsynced content is lost at call 7, the end: {torn}",
        "careless: all unsynced is lost at call 7, the end: expected all to be done, as was said, got an earlier state",
    ):
        assert any(problem.startswith(found) for problem in report.problems), found


def test_every_call_of_a_write_is_seen(tmp_path, monkeypatch):
    disk = FaultyDisk(tmp_path)
    with monkeypatch.context() as patches:
        disk.watch(patches.setattr)
        durable.replace(tmp_path / "state", b"new")
    new = [f"{name} .state.new" for name in ("open", "write", "fsync", "close")]
    assert disk.calls == [*new, "replace state", "open .", "fsync ."]
    tried = {name: sum(fault.number == number for fault in faults_of(disk.calls)) for number, name in enumerate(new)}
    assert list(tried.values()) == [len(FAULTS) - 1, len(FAULTS), len(FAULTS) - 1, 2]
    assert sum(fault.number == len(disk.calls) for fault in faults_of(disk.calls)) == len(POWER_CUTS)
    (tmp_path / "other").touch()
    assert disk.unseen() == [str(tmp_path / "other")]


def _write_array(folder: Path) -> None:
    arrays.write_new(folder / "vectors.npy", np.zeros((1000, 64)))


def _add_pictures(folder: Path) -> None:
    Index.open(folder / "p.index", ToyEmbedder(token_dim=0)).add(folder / "pictures", num_workers=0)


def _refusal(num_bytes: int, write: Callable[[Path], None], folder: Path) -> str:
    """What `write` raises where no file may have more than so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        write(folder)
    except (OSError, SpyglassError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return "nothing"


@pytest.fixture(scope="module")
def refusal():
    """`_refusal` in a process of its own: the file that these tests are logged to must not meet the limit."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield lambda *arguments: executor.submit(_refusal, *arguments).result()


def test_an_array_that_does_not_fit_fails_in_the_words_of_the_system(tmp_path, refusal):
    assert "File too large" in refusal(10_000, _write_array, tmp_path)


@pytest.mark.parametrize("num_bytes", [100, 1000, 3000, 6000])
def test_a_limit_of_the_system_is_told_and_the_room_is_given_back(tmp_path, num_bytes, refusal):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0), dtype="float32")
    write_pngs(tmp_path / "pictures", range(20))
    told = refusal(num_bytes, _add_pictures, tmp_path)
    assert re.match("IndexFolderError: expected to write to .*p.index, but cannot: File too large; what", told)
    assert index.verify() == [] and not list((index.path / "segments").glob("*"))
    assert index.add(tmp_path / "pictures", num_workers=0).added == 20 and index.verify() == []


@pytest.mark.parametrize(
    ("is_file_synced", "is_folder_synced", "names", "contents", "left"),
    [
        (False, False, lost, lost, b"old"),
        (False, False, kept, lost, b""),
        (False, False, kept, kept, b"new"),
        (True, False, lost, lost, b"old"),
        (True, False, kept, lost, b"new"),
        (False, True, lost, lost, b""),
        (True, True, lost, lost, b"new"),
    ],
)
def test_a_power_cut_leaves_what_was_synced(tmp_path, is_file_synced, is_folder_synced, names, contents, left):
    path, new = tmp_path / "state", tmp_path / "new"
    path.write_bytes(b"old")
    folder = UnsyncedFolder(tmp_path)
    new.touch()
    folder.created(new)
    new.write_bytes(b"new")
    if is_file_synced:
        folder.synced(new)
    folder.renamed(new, path)
    new.replace(path)
    if is_folder_synced:
        folder.synced(tmp_path)
    folder.cut(names, contents)
    assert path.read_bytes() == left and not new.exists()
