"""Files that this package writes: completely or not at all, and never over an input or over what is no file of that kind.

What has to outlive a power cut is synced: a file before it takes its place, and then the folder that names it. A `Stamp` is
what the files of an image look like from outside, so that pixels need reading again only where that changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from napari_shiftseg.errors import ImageError, ResultError, ShiftsegError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
# Letters of a name that a file beside it may repeat: systems allow 255 bytes, and a letter may take four of them.
_LONGEST = 50
# Where names stand for devices and processes: /dev by itself, since /dev/shm takes files, and all below the others.
_SYSTEM = (Path("/dev"), Path("/proc"), Path("/sys"))
# What file systems answer that know no sync of a folder, such as those of other systems and in user space.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EISDIR}
# Two seconds in all, for a file that a thread or a scanner of the system holds meanwhile.
_TRIES, _PAUSE = 20, 0.1

Found: TypeAlias = tuple[int, ...] | None
"""What was at a place, None where nothing was: it is another one if these numbers differ."""


def check_targets(
    files: Iterable[str | Path] = (), *, stores: Iterable[str | Path] = (), inputs: Iterable[str | Path] = ()
) -> dict[Path, Found]:
    """Refuse places for results that would cost a file, or that cannot be written, before a pixel is read.

    No target is an input, lies in one or holds one, nor is it another target or lies in it; each is free or of its own kind,
    and its folder takes a file.

    Parameters
    ----------
    files, stores : iterable of path
        What will be written: files, and stores, which are folders.
    inputs : iterable of path
        What will be read.

    Returns
    -------
    dict
        What is at each target now, for `check_same`.

    Raises
    ------
    ResultError
    """
    single, folders = ([path_of(path, "the place of a result", ResultError) for path in paths] for paths in (files, stores))
    sources = [path_of(path, "an input", ResultError) for path in inputs]
    targets, given, before = [*single, *folders], _Index(), _Index()
    for source in sources:
        given.add(source)
    for path in targets:
        if given.at(path):
            raise ResultError(f"{path} is one of the inputs, which a result does not replace; choose another name.")
        if around := given.around(path):
            raise ResultError(f"{path} lies in {around}, which is one of the inputs; choose a place outside of it.")
        if below := given.below(path):
            raise ResultError(f"{path} holds {below}, which is one of the inputs; choose another name.")
        if before.at(path):
            raise ResultError(f"two results would be written to {path}; give each a name of its own.")
        if other := before.around(path) or before.below(path):
            raise ResultError(f"of {other} and {path} one lies in the other; give two places side by side.")
        before.add(path)
    for path in single:
        check_file(path)
    for path in folders:
        check_folder(path)
    for path in targets:
        check_writable(path)
    return {path: found_at(path) for path in targets}


# Bytes of a name that file systems take: NAME_MAX of Linux and macOS, and as many letters of NTFS.
_MOST_BYTES = 255


def path_of(path: object, what: str, error: type[ShiftsegError]) -> Path:
    """A path as `Path`; `error` if something else was given."""
    if not isinstance(path, str | os.PathLike):
        raise error(f"a {type(path).__name__} was given as {what}; give its path.")
    if not os.fspath(path):  # which would be the folder that one works in
        raise error(f"an empty text was given as {what}; give its path.")
    found = Path(os.fsdecode(path))
    if "\0" in str(found):  # which Python refuses with an error of its own at each place
        raise error(f"{str(found)!r} was given as {what}; no file has a NUL in its name.")
    try:
        longest = max((len(os.fsencode(part)) for part in found.parts), default=0)
    except UnicodeEncodeError as exc:
        raise error(f"{str(found)!r} was given as {what}, which is no name of a file; give its path.") from exc
    if longest > _MOST_BYTES:
        raise error(f"a name of {longest} bytes was given as {what}; no file has one of more than {_MOST_BYTES}.")
    return found


def check_readable(path: Path, what: str, error: type[ShiftsegError]) -> None:
    """Refuse to read what is no file and no folder: a pipe or a socket would be waited for without end. `error`."""
    kind = _kind(path, error)
    if kind not in (None, stat.S_IFREG, stat.S_IFDIR):
        raise error(f"{path} is {_KINDS.get(kind, 'no file')} and not {what}; give a file.")


def check_writable(path: str | Path) -> None:
    """Refuse a place whose folder is not there or takes no file of such a name: a small one is made and removed.

    ResultError.
    """
    path = Path(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ResultError(f"there is no folder {folder} for {path.name}; make it first.")
    probe = folder / f".{path.name[:_LONGEST]}.{uuid.uuid4().hex[:8]}.probe"
    try:
        _create(probe)
        probe.unlink()
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another folder or make room.") from exc


def check_room(path: str | Path, needed: int) -> None:
    """Refuse a disk that is too small for so many bytes.

    ResultError.
    """
    folder = Path(path).absolute().parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another folder.") from exc
    if free < needed:
        raise ResultError(
            f"the run may write up to {needed / 1e9:.3g} GB and {folder} has {free / 1e9:.3g} GB free; "
            "make room or choose another disk."
        )


def found_at(path: str | Path) -> Found:
    """What is at a place, links not followed."""
    try:
        seen = Path(path).lstat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns


def check_same(path: str | Path, found: Found) -> None:
    """Refuse to replace what was not at the place when the work began.

    ResultError if something came, or took the place of what was there.
    """
    now = found_at(path)
    if now is not None and now != found:
        raise ResultError(f"{path} was written by somebody else meanwhile and is kept; choose another name and run again.")


def free_beside(path: Path) -> Path:
    """A free name like that of a file: with the first number behind it that nothing has."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(name for name in names if found_at(name) is None)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it, also what a thread that was interrupted is still writing there.

    Who interrupts it, as by Ctrl-C, is heard when it is done.
    """
    heard = None
    for _ in range(_TRIES):
        try:
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(_PAUSE)
        except KeyboardInterrupt as exc:
            heard = exc
    if heard is not None:
        raise heard


def check_file(path: str | Path) -> None:
    """Refuse a place for a file where there is something else: to replace a device or a pipe would break the system.

    ResultError if the path, or what it links to, is there and is no regular file.
    """
    _check_system(Path(path))
    kind = _kind(Path(path))
    if kind is not None and kind != stat.S_IFREG:
        raise ResultError(f"{path} is {_KINDS.get(kind, 'no file')}, which a result cannot replace; choose another place.")


def _check_system(path: Path) -> None:
    """Refuse places among the names of the system's devices and processes, such as /dev/stdout: who may write there breaks it.

    ResultError.
    """
    folder = Path(os.path.realpath(path.absolute().parent))
    if folder in _SYSTEM or any(folder.is_relative_to(place) for place in _SYSTEM[1:]):
        raise ResultError(f"{path} would lie in {folder}, which is of the system; choose another place.")


def check_folder(path: str | Path) -> None:
    """Refuse a place for a folder where there is something else.

    ResultError if the path, or what it links to, is there and is no folder.
    """
    _check_system(Path(path))
    kind = _kind(Path(path))
    if kind is not None and kind != stat.S_IFDIR:
        raise ResultError(f"{path} is {_KINDS.get(kind, 'a file')}, which a folder cannot replace; choose another place.")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A new file beside a place, which takes that place when the block ends, and is removed after an error.

    ResultError if something else than a file is at the place, or comes there meanwhile. OSError if the file cannot be written.

    Yields
    ------
    Path
        To be written in the block; its name ends as that of the place does.
    """
    path = Path(path)
    check_file(path)
    found = found_at(path)
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial{''.join(path.suffixes[-2:])}")
    try:
        _create(partial)
        yield partial
        sync_file(partial)  # else a power cut could leave the name without what it stands for
        check_file(path)
        check_same(path, found)
        _move(partial, path, new=found is None)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until what a file holds is on the disk. OSError where it cannot be written there."""
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where a system can do that. OSError as of `sync_file`."""
    if sys.platform == "win32":
        return
    try:
        sync_file(path)
    except OSError as exc:
        if exc.errno not in _NO_SYNC:
            raise


def sync_all(root: Path, files: Iterable[Path] | None = None) -> None:
    """Wait until files below a folder, and the names of them and of the folder itself, are on the disk.

    `files`: all that there are by default; those that are not there have been removed, which is waited for as well.
    """
    folders = {root, root.parent}
    if files is None:
        found = [(Path(place), names) for place, _, names in os.walk(root)]
        files = [place / name for place, names in found for name in names]
        folders |= {place for place, _ in found}
    for file in files:
        if file.exists():
            sync_file(file)
        folders |= {folder for folder in file.parents if folder.is_relative_to(root) and folder.is_dir()}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        sync_folder(folder)


def _create(path: Path) -> None:
    """A new empty file; FileExistsError also where a link of that name leads elsewhere."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), 0o666))


def _move(partial: Path, path: Path, *, new: bool) -> None:
    """Give a file its place; a place that was free is taken in one act with the look at it, where the disk can do that."""
    if new:
        try:
            os.link(partial, path)
            return
        except FileExistsError:
            check_same(path, None)
        except (OSError, NotImplementedError, AttributeError):
            pass
    partial.replace(path)


class _Index:
    """Paths by the places that they name: through whatever links, in whatever letters where the disk makes no difference."""

    def __init__(self) -> None:
        self._at: dict[object, Path] = {}
        self._around: dict[object, Path] = {}  # by the folders in which a path lies
        self._keys = lru_cache(maxsize=None)(_keys)  # many lie in one folder

    def add(self, path: Path) -> None:
        """Know one more path."""
        real = os.path.realpath(path)
        for key in self._keys(real):
            self._at.setdefault(key, path)
        for parent in Path(real).parents:
            for key in self._keys(str(parent)):
                self._around.setdefault(key, path)

    def at(self, path: Path) -> Path | None:
        """One that names the same place."""
        return _first(self._at, self._keys(os.path.realpath(path)))

    def around(self, path: Path) -> Path | None:
        """One that names a folder in which a path lies."""
        found = (_first(self._at, self._keys(str(parent))) for parent in Path(os.path.realpath(path)).parents)
        return next(filter(None, found), None)

    def below(self, path: Path) -> Path | None:
        """One that lies in the folder that a path names."""
        return _first(self._around, self._keys(os.path.realpath(path)))


def _keys(real: str) -> tuple[object, ...]:
    """What a place is known by: its path without links, and what is there now."""
    try:
        seen = os.stat(real)
    except OSError:
        return (real,)
    return real, (seen.st_dev, seen.st_ino)


def _first(known: dict[object, Path], keys: tuple[object, ...]) -> Path | None:
    return next((known[key] for key in keys if key in known), None)


def _kind(path: Path, error: type[ShiftsegError] = ResultError) -> int | None:
    """File type of what is at the path, links followed; None where nothing is. `error` where the system does not say."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise error(f"{str(path)[:200]} cannot be looked at ({exc.strerror}); choose another place.") from exc


class Stamp(NamedTuple):
    """Hashes of what the system says of the files of an image."""

    written: str  # names, sizes, numbers and times of writing
    touched: str  # times of the last change of an entry, which other rights set as well, and which nobody can set back


def stamp_of(data: Any) -> Stamp | None:
    """What the files look like that the values of an array are read from.

    None for values in memory, for those that are computed, and for sources that nothing is known of. `data`: of an image that
    was opened, or views of it.
    """
    places = files_of(data)
    if places is None:
        return None
    written, touched = (hashlib.blake2b(digest_size=16) for _ in range(2))
    for place in places:
        for name, seen in sorted(_entries(place), key=lambda entry: entry[0]):
            written.update(f"{name!r} {seen.st_size} {seen.st_mtime_ns} {seen.st_ino}\n".encode())
            touched.update(f"{seen.st_ctime_ns}\n".encode())
    return Stamp(written.hexdigest(), touched.hexdigest())


@contextmanager
def unchanged(what: object, *sources: Any) -> Iterator[None]:
    """Refuse what was made in the block of files that were written meanwhile: it would be of two states. ImageError.

    `what`: how the error calls them. `sources`: as of `stamp_of`; None is nothing.
    """
    seen = seen_of(*sources)
    yield
    check_unchanged(what, seen)


def seen_of(*sources: Any) -> list[tuple[Any, Stamp]]:
    """Arrays that are read from files, and what these look like, for `check_unchanged`."""
    pairs = [(source, stamp_of(source)) for source in sources if source is not None]
    return [(source, stamp) for source, stamp in pairs if stamp is not None]


def check_unchanged(what: object, seen: Iterable[tuple[Any, Stamp]]) -> None:
    """As `unchanged`, for what was `seen_of` arrays before."""
    for source, stamp in seen:
        now = stamp_of(source)
        if now is None or now.written != stamp.written:
            raise ImageError(f"{what} was changed while it was read, so that the result would be of two states; run again.")


def files_of(data: Any) -> tuple[Path, ...] | None:
    """Files and folders that the values of an array are read from; None where that is not known, or in memory."""
    found: Any = data
    while getattr(found, "source", None) is not None:
        found = found.source
    if isinstance(getattr(found, "path", None), Path):  # pixels that lie in a file as in memory
        return (found.path,)
    if hasattr(found, "base"):  # an array of numpy, which this room does not know
        return _mapped(found)
    store: Any = getattr(found, "store", None)  # of a zarr array
    if store is None:
        return None
    if isinstance(getattr(store, "root", None), Path):
        return (store.root / found.path,)
    if isinstance(getattr(store, "path", None), Path):  # one file, such as a zip
        return (store.path,)
    series = getattr(store, "_data", None)  # of tifffile, which has no other name for it
    if series:
        pages = [page for page in series[0].pages if page is not None]
        return tuple(sorted({Path(page.parent.filehandle.path) for page in pages})) or None
    return None


def _mapped(array: Any) -> tuple[Path, ...] | None:
    base: Any = array
    while base is not None:
        if getattr(base, "filename", None) is not None:  # a memory map
            return (Path(base.filename),)
        base = getattr(base, "base", None)
    return None


def _entries(place: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All files at a place, or below it."""
    try:
        if not place.is_dir():
            yield place.name, place.stat()
            return
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from ((f"{entry.name}/{name}", seen) for name, seen in _entries(Path(entry.path)))
                else:
                    yield entry.name, entry.stat()
    except OSError:  # what is gone is another image than what was there
        return
