"""Decoding in worker processes: the same as in this one, and nothing a picture does ends the run."""

import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import loky
import numpy as np
import pytest
from PIL import Image
from toy import pixels_of, png

from indexer.sources import decoding
from indexer.sources.decoding import Task, decode_all
from indexer.sources.image_files import MAX_IMAGE_BYTES
from indexer.sources.item import Item


def task(number: int, *, known_sha256: str | None = None, **fields) -> Task:
    item = Item(id=str(number), uri=f"/{number}", source="test", **fields)
    return Task(item=item, known_sha256=known_sha256)


def decoded(tasks: list[Task], *, num_workers: int, image_size: int = 16):
    return [*decode_all(tasks, image_size, num_workers=num_workers)]


def test_no_number_of_workers_takes_the_whole_machine(monkeypatch):
    pool, started = decoding._Pool, []
    monkeypatch.setattr(decoding, "_Pool", lambda num, image_size: started.append(num) or pool(1, image_size))
    ((_, outcome),) = decoded([task(0, data=png(0))], num_workers=100_000)
    assert outcome.problem is None and started == [8 * loky.cpu_count()]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_by_hand(tmp_path, num_workers):
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "text.jpg").write_text("no picture at all")
    known = hashlib.sha256(png(2)).hexdigest()
    tasks = [
        task(0, data=png(0)),
        task(1, path=tmp_path / "a.png"),
        task(2, data=png(2), known_sha256=known),
        task(3, data=png(3), known_sha256=known),
        task(4, data=b""),
        task(5, path=tmp_path / "text.jpg"),
        task(6, path=tmp_path / "gone.jpg"),
        task(7, path=tmp_path),
        task(8, problem="expected better, got this"),
        task(9, path=Path("\0")),
        task(10, data=png(10)),
    ]
    items, outcomes = zip(*decoded(tasks, num_workers=num_workers, image_size=64), strict=True)
    assert [item.id for item in items] == [str(number) for number in range(11)]
    assert all(item.data is None for item in items)
    for number in (0, 1, 3, 10):
        np.testing.assert_array_equal(outcomes[number].pixels, pixels_of(number))
        assert (outcomes[number].width, outcomes[number].height) == (64, 64)
        assert outcomes[number].sha256 == hashlib.sha256(png(number)).hexdigest()
        assert outcomes[number].num_bytes == len(png(number)) and outcomes[number].problem is None
    assert outcomes[2].unchanged and outcomes[2].pixels is None and outcomes[2].problem is None
    assert outcomes[4].problem == "expected a picture, got an empty file"
    assert "JPEG" in outcomes[5].problem and outcomes[5].pixels is None
    assert outcomes[6].problem == "expected a file that can be read, got: No such file or directory"
    assert outcomes[7].problem == "expected a file, got a folder or a device"
    assert outcomes[8].problem == "expected better, got this"
    assert outcomes[9].problem == "expected a picture that decodes, got ValueError: embedded null byte"


def test_workers_agree_with_the_plain_way():
    tasks = [task(number, data=png(number) if number % 7 else b"bad") for number in range(150)]
    plain, fast = decoded(tasks, num_workers=0), decoded(tasks, num_workers=2)
    for (item, outcome), (fast_item, fast_outcome) in zip(plain, fast, strict=True):
        assert item == fast_item and outcome.problem == fast_outcome.problem
        np.testing.assert_array_equal(outcome.pixels, fast_outcome.pixels)


class Deadly:
    """Stands for image bytes on which the decoder crashes: a worker that receives them is gone."""

    def __len__(self) -> int:
        return 1

    def __reduce__(self):
        return os._exit, (1,)


def test_a_worker_that_dies_costs_the_one_picture_that_killed_it():
    deadly = (5, 70)
    tasks = [task(number, data=Deadly() if number in deadly else png(number)) for number in range(100)]
    outcomes = decoded(tasks, num_workers=2)
    assert [item.id for item, _ in outcomes] == [str(number) for number in range(100)]
    for number, (_, outcome) in enumerate(outcomes):
        if number in deadly:
            assert outcome.problem == "expected a picture that decodes, got one that kills the decoder or keeps it busy"
        else:
            assert outcome.problem is None and outcome.pixels.shape == (16, 16, 3)


def test_files_too_large_are_refused_unread(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    ((_, outcome),) = decoded([task(0, path=tmp_path / "huge.png")], num_workers=0)
    assert outcome.problem == "expected at most 268,435,456 bytes, got 268,435,457"


def test_pictures_are_read_no_further_ahead_than_asked():
    read = []

    def tasks():
        for number in range(1000):
            read.append(number)
            yield task(number, data=png(0))

    outcomes = decode_all(tasks(), 16, num_workers=1, num_ahead=64)
    next(outcomes)
    assert 64 < len(read) <= 64 + 4 * 32
    outcomes.close()


def _modules_of_worker() -> set[str]:
    import sys

    return {name.partition(".")[0] for name in sys.modules}


def test_workers_import_neither_torch_nor_the_search():
    with loky.ProcessPoolExecutor(1, initializer=decoding._prepare_worker, initargs=(os.getpid(),)) as executor:
        executor.submit(decoding._decode_chunk, [], 16).result()
        modules = executor.submit(_modules_of_worker).result()
    assert "cv2" in modules and not modules & {"torch", "faiss", "pyarrow", "duckdb", "pandas"}


def test_a_worker_gives_itself_up_where_a_decoder_does_not_come_back():
    script = (
        "import time; from indexer.sources import decoding; decoding.DECODE_SECONDS = 0.5\n"
        "decoding.decode = lambda data, image_size: time.sleep(60)\n"
        "decoding._decode_chunk([decoding._Request(b'x', None, None, None, None)], 16)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stderr) == (1, "") and time.perf_counter() - start < 30


def test_what_decoders_print_is_not_heard(capfd):
    lzw = io.BytesIO()
    Image.fromarray(pixels_of(0)).save(lzw, "TIFF", compression="tiff_lzw")
    broken = lzw.getvalue().replace(lzw.getvalue()[8:200], bytes(192))
    ((_, plain),) = decoded([task(0, data=broken)], num_workers=0)
    assert plain.problem is not None and "tempfile.tif" in capfd.readouterr().err
    ((_, outcome),) = decoded([task(0, data=broken)], num_workers=1)
    assert outcome.problem == plain.problem and capfd.readouterr().err == ""
