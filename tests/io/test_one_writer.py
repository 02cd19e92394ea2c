"""One process at a time writes a result, also while the file of the lock comes and goes."""

import sys

import pytest
from filelock import FileLock, Timeout

from napari_shiftseg.io.work_folder import OneWriter


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
