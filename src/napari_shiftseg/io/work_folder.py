"""`WorkFolder`: the unfinished part of a long run, beside its result, from which the run goes on after any interruption."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import check_room, remove_folder, replacing
from napari_shiftseg.io.result import work_path


class WorkFolder:
    """Finished parts of a run, each written completely or not at all.

    `target`: result that the run will make; the folder lies beside it and has its name.

    Notes
    -----
    Entering the `with` block takes a lock that the system gives back when the process ends, however it ends. The folder stays
    until `remove` is called.
    """

    def __init__(self, target: str | Path) -> None:
        self.target = Path(target).absolute()
        self.path = work_path(self.target)
        # beside the folder, so that removing it cannot remove a lock that somebody else waits for
        self._lock = FileLock(str(self.path.with_suffix(".lock")))

    def __enter__(self) -> Self:
        for path in (Path(self._lock.lock_file), self.path, *_entries(self.path)):
            self._check_no_link(path)
        try:
            self._lock.acquire(timeout=0)
            self.path.mkdir(exist_ok=True)
        except (Timeout, OSError) as exc:
            raise self._refusal(exc) from exc
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not self._has_parts():
            self.remove()  # nothing is lost, and a run of other settings is not in its way
        self._lock.release()
        if not self.path.exists():
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def _check_no_link(self, path: Path) -> None:
        """Refuse a link where the work lies: who may write here could send what is written, and removed, elsewhere."""
        if path.is_symlink() or (hasattr(path, "is_junction") and path.is_junction()):
            raise ResultError(f"{path}, where the unfinished part of {self.target.name} would lie, is a link; remove it.")

    def _has_parts(self) -> bool:
        """Whether the run has finished anything."""
        return any(file.suffix == ".npz" for file in self.path.glob("*/[!.]*"))

    def _refusal(self, error: Timeout | OSError) -> ResultError:
        if isinstance(error, Timeout):
            try:  # a lock that cannot even be made counts as one that somebody holds
                Path(self._lock.lock_file).touch()
            except OSError as exc:
                return self._refusal(exc)
            return ResultError(f"another run is writing {self.target}; wait for it, or give another name.")
        return ResultError(f"{self.target} cannot be written ({error.strerror}); choose another folder.")

    def remove(self) -> None:
        """Delete the folder and all in it."""
        remove_folder(self.path)

    def clear(self) -> None:
        """Delete all in the folder, as of a run that was killed before it had begun."""
        for left in self.path.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    def check_room(self, needed: int) -> None:
        """Refuse a disk that is too small.

        `needed`: bytes that the run may write.
        """
        check_room(self.path, needed)

    def has(self, name: str) -> bool:
        """Whether that part is finished."""
        return (self.path / name).exists()

    def names(self, folder: str) -> set[str]:
        """Finished parts in a folder, without their suffix."""
        place = self.path / folder
        files = place.glob("[!.]*") if place.is_dir() else ()  # a dot has what a process left that was killed
        return {file.stem for file in files if file.suffix in (".npz", ".json")}

    @contextmanager
    def _complete(self, name: str) -> Iterator[Any]:
        """A file that appears under its name only when it is complete and on the disk."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def write_arrays(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write named arrays as one file, completely or not at all."""
        with self._complete(name) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def read_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a finished part."""
        with np.load(self.path / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write plain values, completely or not at all."""
        with self._complete(name) as file:
            file.write(json.dumps(values, indent=1).encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Plain values of a finished part; None where there is none."""
        try:
            values = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return values if isinstance(values, dict) else None


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if there is none."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
