"""Durable files and the lock of the one writer."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.storage import durable
from retrieval.errors import IndexFolderError, LockedError


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert durable.sha256_of(tmp_path / "abc") == known


def test_replace_gives_the_new_content_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    durable.replace(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["state"]


def test_replace_that_is_cut_short_leaves_the_old_content_and_the_next_one_works(tmp_path, monkeypatch):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", _cut_short)
        with pytest.raises(KeyboardInterrupt):
            durable.replace(path, b"new")
    assert path.read_bytes() == b"old"
    durable.replace(path, b"newer")
    assert path.read_bytes() == b"newer" and os.listdir(tmp_path) == ["state"]


def _cut_short(*_):
    raise KeyboardInterrupt


def test_write_new_never_overwrites(tmp_path):
    (tmp_path / "segment").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.write_new(tmp_path / "segment", lambda file: file.write(b"new"))
    assert (tmp_path / "segment").read_bytes() == b"old"


def test_a_new_folder_is_whole_or_is_not_there(tmp_path):
    home = tmp_path / "segments" / "one"
    with durable.new_folder(home):
        (home / "rows").write_bytes(b"whole")
    assert (home / "rows").read_bytes() == b"whole"
    with pytest.raises(FileExistsError), durable.new_folder(home):
        pytest.fail("made twice")
    other = home.with_name("two")
    with pytest.raises(KeyboardInterrupt), durable.new_folder(other):
        (other / "rows").write_bytes(b"half")
        raise KeyboardInterrupt
    assert os.listdir(home.parent) == ["one"]


def python(script: str, lock: Path) -> subprocess.Popen:
    """A process that may take a lock, and is spoken with."""
    command = [sys.executable, "-c", script, str(lock)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path):
    script = (
        "import sys; from pathlib import Path; from indexer.storage.durable import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    lock = tmp_path / "lock"
    with python(script, lock) as holder:
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):  # the first try must not wipe out the holder's name
            with (
                pytest.raises(LockedError, match=f"process {holder.pid} is writing; try again later"),
                durable.sole_writer(lock),
            ):
                pytest.fail("two writers hold one lock")
        holder.kill()
    with durable.sole_writer(lock):
        assert lock.read_text() == f"{os.getpid()}\n"


def test_the_lock_of_a_dead_writer_is_free_though_its_children_live_on(tmp_path):
    script = (
        "import subprocess, sys; from pathlib import Path; from indexer.storage.durable import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])):\n"
        "    print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "    sys.stdin.read()"
    )
    lock = tmp_path / "lock"
    with python(script, lock) as holder:
        child = int(holder.stdout.readline())
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        try:
            assert lock.read_text() == f"{holder.pid}\n"  # as it was left
            with durable.sole_writer(lock):
                assert lock.read_text() == f"{os.getpid()}\n"
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("content", [b"999999999\n", b"", b"\xff\xfe", b"1\n"])
def test_a_lock_file_that_nobody_holds_is_free_whatever_it_says(tmp_path, content):
    lock = tmp_path / "lock"
    lock.write_bytes(content)
    with durable.sole_writer(lock):
        assert lock.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_lock_that_cannot_be_had_says_why(tmp_path, monkeypatch, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(IndexFolderError, match=f"to write to .*, but may not: {os.strerror(code)}$"):
            with durable.sole_writer(tmp_path / "lock"):
                pytest.fail("the lock was had")
    (tmp_path / "lock").mkdir()
    with pytest.raises(IndexFolderError, match="to write to .*, but may not: Is a directory"):
        with durable.sole_writer(tmp_path / "lock"):
            pytest.fail("the lock was had")
