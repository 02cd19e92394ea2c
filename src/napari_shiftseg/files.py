"""Files that this package writes: completely or not at all, and never over what is no file of that kind."""

from __future__ import annotations

import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_shiftseg.errors import ResultError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def check_file(path: str | Path) -> None:
    """Refuse a place for a file where there is something else: to replace a device or a pipe would break the system.

    ResultError if the path, or what it links to, is there and is no regular file.
    """
    kind = _kind(Path(path))
    if kind is not None and kind != stat.S_IFREG:
        raise ResultError(f"{path} is {_KINDS.get(kind, 'no file')}, which a result cannot replace; choose another place.")


def check_folder(path: str | Path) -> None:
    """Refuse a place for a folder where there is something else.

    ResultError if the path, or what it links to, is there and is no folder.
    """
    kind = _kind(Path(path))
    if kind is not None and kind != stat.S_IFDIR:
        raise ResultError(f"{path} is {_KINDS.get(kind, 'a file')}, which a folder cannot replace; choose another place.")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A new file beside a place, which takes that place when the block ends, and is removed after an error.

    ResultError if something else than a file is at the place. OSError if the file cannot be written.

    Yields
    ------
    Path
        To be written in the block; its name ends as that of the place does.
    """
    path = Path(path)
    check_file(path)
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial{''.join(path.suffixes[-2:])}")
    try:
        yield partial
        check_file(path)
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _kind(path: Path) -> int | None:
    """File type of what is at the path, links followed; None where nothing is."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise ResultError(f"{path} cannot be looked at ({exc.strerror}); choose another place.") from exc
