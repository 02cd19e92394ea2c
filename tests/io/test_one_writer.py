"""One process at a time writes a result, also while the file of the lock comes and goes."""

import glob
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock, Timeout

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import remove_folder
from napari_shiftseg.io import ResultWriter, open_result, save_result
from napari_shiftseg.io.result import OneWriter

LABELS = np.eye(8, dtype=np.uint32)
KILLED = """
import os, signal, sys
from napari_shiftseg.io import ResultWriter
with ResultWriter(sys.argv[1], shape=(8, 8), axes="yx") as writer:
    writer.create("labels")[:] = 1
    os.kill(os.getpid(), signal.SIGKILL)
"""

REPLACING = """
import os, pathlib, signal, sys
import numpy
from napari_shiftseg.io import save_result
real = pathlib.Path.rename
def rename(self, target):
    if self.name == "store":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
pathlib.Path.rename = rename
save_result(sys.argv[1], labels=numpy.ones((8, 8), numpy.uint32), axes="yx", record={}, overwrite=True)
"""


def killed(target, script=KILLED):
    """What a process that was killed has left of a result."""
    done = subprocess.run([sys.executable, "-c", script, str(target)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    return sorted(target.parent.glob(f".{glob.escape(target.name)}.*.part"))


def save(target):
    save_result(target, labels=LABELS, axes="yx", record={}, overwrite=True)
    np.testing.assert_array_equal(open_result(target).labels[:], LABELS)


@pytest.mark.skipif(sys.platform == "win32", reason="knows no SIGKILL")
def test_what_a_killed_process_left_of_a_result_goes_with_the_next_run(tmp_path):
    """It stayed for ever."""
    assert killed(tmp_path / "r.zarr")
    (kept,) = killed(tmp_path / "other.zarr")
    save(tmp_path / "r.zarr")
    assert sorted(os.listdir(tmp_path)) == sorted(["r.zarr", kept.name, kept.with_suffix(".lock").name])


@pytest.mark.skipif(sys.platform == "win32", reason="knows no SIGKILL")
def test_what_was_replaced_goes_where_the_process_was_killed_before_it_could_remove_it(tmp_path):
    (left,) = killed(tmp_path / "r.zarr")
    left.joinpath("store").rename(left / "old")
    left.rename(tmp_path / "aside")
    save(tmp_path / "r.zarr")
    tmp_path.joinpath("aside").rename(left)
    save(tmp_path / "r.zarr")
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_what_another_run_is_writing_stays(tmp_path):
    target = tmp_path / "r.zarr"
    with ResultWriter(target, shape=(8, 8), axes="yx", overwrite=True) as writer:
        writer.create("labels")[:] = 1
        save(target)
        assert len(list(tmp_path.glob(".r.zarr.*.part"))) == 1
    assert os.listdir(tmp_path) == ["r.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="knows no SIGKILL")
@pytest.mark.parametrize("what", ["an older result", "the only result", "no lock", "another name", "a link"])
def test_what_may_be_of_somebody_else_stays(tmp_path, monkeypatch, what):
    removed = []
    monkeypatch.setattr("napari_shiftseg.io.result.remove_folder", lambda path: (removed.append(path), remove_folder(path)))
    (left,) = killed(tmp_path / "r.zarr")
    lock = left.with_suffix(".lock")
    if what == "an older result":  # the process was killed as it put the new one in its place
        (left / "old").mkdir()
    elif what == "the only result":
        left.joinpath("store").rename(left / "old")
    elif what == "no lock":
        lock.unlink()
    elif what == "another name":
        left = left.rename(tmp_path / ".r.zarr.mine.part")
        lock.rename(left.with_suffix(".lock"))
    else:
        real = left.rename(tmp_path / "real")
        left.symlink_to(real)
    save(tmp_path / "r.zarr")
    kept = left / ("old" if what == "the only result" else "store")
    assert (kept / "zarr.json").exists() and left not in removed


@pytest.mark.skipif(sys.platform == "win32", reason="knows no SIGKILL")
def test_who_asks_for_a_result_that_a_killed_run_moved_aside_is_told_where_it_lies(tmp_path):
    target = tmp_path / "r[1].zarr"
    save(target)
    (left,) = killed(target, REPLACING)
    with pytest.raises(ResultError, match=f"rename {re.escape(str(left / 'old'))} to get it back"):
        open_result(target)
    (left / "old").rename(target)
    np.testing.assert_array_equal(open_result(target).labels[:], LABELS)


def test_a_disk_without_locks_takes_results_as_well(tmp_path, monkeypatch):
    def acquire(self, *_, **__):
        raise NotImplementedError("flock")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    save(tmp_path / "r.zarr")
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_the_file_goes_with_the_last_and_a_second_is_refused(tmp_path):
    path = tmp_path / "one.lock"
    first, second = OneWriter(path), OneWriter(path)
    first.acquire()
    with pytest.raises(Timeout):
        second.acquire()
    first.release(remove=False)
    assert path.exists()
    second.acquire()
    second.release(remove=True)
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="removes no file that is open, so there is none to be lost")
def test_giving_back_leaves_the_file_of_the_next(tmp_path, monkeypatch):
    """It comes as soon as the lock is free."""
    path, real = tmp_path / "one.lock", FileLock.release
    monkeypatch.setattr(FileLock, "release", lambda self, **more: (real(self, **more), path.write_text("of the next")))
    one = OneWriter(path)
    one.acquire()
    one.release(remove=True)
    assert path.read_text() == "of the next"


def test_a_lock_of_a_file_that_was_taken_away_meanwhile_is_none(tmp_path, monkeypatch):
    """Another process has the lock on the file that is there; what was locked here is one that nobody sees any more."""
    path, real, others = tmp_path / "one.lock", FileLock.acquire, []

    def late(self, *args, **kwargs):
        taken = real(self, *args, **kwargs)
        if not others:
            path.unlink()
            others.append(FileLock(str(path)))
            real(others[0], timeout=0)
        return taken

    monkeypatch.setattr(FileLock, "acquire", late)
    with pytest.raises(Timeout):
        OneWriter(path).acquire()
    others[0].release()
    OneWriter(path).acquire()


@pytest.mark.parametrize("there", ["dangling", "file"])
def test_a_link_is_not_followed(tmp_path, there):
    other, path = tmp_path / "other", tmp_path / "one.lock"
    if there == "file":
        other.write_text("mine")
    path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        OneWriter(path).acquire()
    assert not other.exists() if there == "dangling" else other.read_text() == "mine"
