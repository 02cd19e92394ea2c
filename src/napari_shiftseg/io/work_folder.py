"""`WorkFolder`: the unfinished part of a long run, beside its result, from which the run goes on after any interruption.

A part is a file that says of itself, and of the files of chunks that are finished with it, how large they are and what their
checksums are. It is written when those are on the disk, and counts only while all of that is true; so after a power cut, which
leaves any of what was written last, nothing is taken for done that is not. The checksum holds for one place in one run: what
came from elsewhere, as by a backup that was put back, is no part.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from filelock import Timeout

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import check_room, remove_folder, replacing, sync_all, sync_folder
from napari_shiftseg.io.constants import DIGEST
from napari_shiftseg.io.result import OneWriter, work_path

_TOLD, _SUM, _RUN = "_told", "checksum", "run.json"


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
        self._lock = OneWriter(self.path.with_suffix(".lock"))
        self._run: str | None = None

    def __enter__(self) -> Self:
        for path in itertools.chain(_links(self._lock.path), _links(self.path)):
            # who may write here could send what is written, and removed, elsewhere
            raise ResultError(f"{path}, where the unfinished part of {self.target.name} would lie, is a link; remove it.")
        try:
            self._lock.acquire()
            self.path.mkdir(exist_ok=True)
        except (Timeout, OSError) as exc:
            raise self._refusal(exc) from exc
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not self._has_parts():
            self.remove()  # nothing is lost, and a run of other settings is not in its way
        self._lock.release(remove=not self.path.exists())

    def _has_parts(self) -> bool:
        """Whether the run has finished anything."""
        return any(file.suffix == ".npz" for file in self.path.glob("*/[!.]*"))

    def _refusal(self, error: Timeout | OSError) -> ResultError:
        if isinstance(error, Timeout):
            try:  # a lock that cannot even be made counts as one that somebody holds
                self._lock.path.touch()
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
        """Whether that part is there."""
        return (self.path / name).exists()

    def names(self, folder: str) -> set[str]:
        """Finished parts in a folder, without their suffix."""
        place = self.path / folder
        files = place.glob("[!.]*") if place.is_dir() else ()  # a dot has what a process left that was killed
        return {file.stem for file in files if file.suffix in (".npz", ".json")}

    def discard(self, name: str) -> None:
        """Remove a part for good, so that no power cut brings it back."""
        (self.path / name).unlink(missing_ok=True)
        sync_folder((self.path / name).parent)

    def sync(self) -> None:
        """Wait until all that lies here is on the disk."""
        sync_all(self.path)

    def write_arrays(
        self,
        name: str,
        arrays: Mapping[str, npt.NDArray[Any]],
        *,
        files: Iterable[Path] = (),
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """Write named arrays as one part, completely or not at all.

        Parameters
        ----------
        files : iterable of Path
            In this folder, that are finished with it, or not there; they go to the disk first.
        told : mapping, optional
            JSON values that the part says beside its arrays.
        """
        files = list(files)
        sync_all(self.path, files)
        seen = [[str(file.relative_to(self.path).as_posix()), *_seen(file)] for file in files]
        body = io.BytesIO()
        said = np.array(json.dumps({"files": seen, "told": dict(told or {})}))
        np.savez(body, **{**arrays, _TOLD: said})  # type: ignore[arg-type]
        self._write(name, self._part_digest(name, body.getbuffer()), body.getbuffer())

    def read_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a finished part; ResultError if it is damaged."""
        return self._read(name)[0]

    def told(self, name: str) -> dict[str, Any]:
        """What a finished part says beside its arrays; ResultError as of `read_arrays`."""
        return dict(self._read(name)[1]["told"])

    def _read(self, name: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        found = self._part(name)
        if found is None:
            raise ResultError(f"{self.path / name} is damaged; the same call makes it again.")
        return found

    def seen(self, name: str) -> list[Any]:
        """Size and checksum of a file here, for `is_whole`."""
        return list(_seen(self.path / name))

    def is_whole(self, name: str, seen: Sequence[Any]) -> bool:
        """Whether a file is what it was when it was `seen`."""
        return self.seen(name) == list(seen)

    def whole(self, name: str) -> dict[str, Any] | None:
        """What a part says beside its arrays; None where it, or one of the files that are finished with it, is damaged."""
        found = self._part(name)
        if found is None:
            return None
        seen = found[1]["files"]
        same = all(_seen(self.path / place) == (size, digest) for place, size, digest in seen)
        return dict(found[1]["told"]) if same else None

    def _part(self, name: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
        """Arrays of a part, and what it says; None where it is not as it was written."""
        try:
            data = (self.path / name).read_bytes()
        except OSError:
            return None
        if len(data) <= DIGEST or data[:DIGEST] != self._part_digest(name, memoryview(data)[DIGEST:]):
            return None
        with np.load(io.BytesIO(data[DIGEST:]), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        return arrays, json.loads(str(arrays.pop(_TOLD)))

    def _part_digest(self, name: str, data: memoryview) -> bytes:
        if self._run is None:
            self._run = str((self.read_json(_RUN) or {}).get("run", ""))
        place = hashlib.blake2b(f"{self._run} {name}".encode()).digest()
        return hashlib.blake2b(data, digest_size=DIGEST, key=place).digest()

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write plain values, completely or not at all."""
        plain = json.loads(json.dumps(values))
        self._run = None if name == _RUN else self._run
        self._write(name, json.dumps({**plain, _SUM: self._json_digest(name, plain)}, indent=1).encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Plain values of a finished part; None where there is none, or it is damaged."""
        try:
            values = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(values, dict):
            return None
        told = values.pop(_SUM, None)
        # earlier versions wrote no checksum
        return values if told == self._json_digest(name, values) or (told is None and name == _RUN) else None

    def _json_digest(self, name: str, values: Mapping[str, Any]) -> str:
        """A checksum that holds for one place in one run, as that of a part; of the run itself, for its values alone."""
        data = json.dumps(values, sort_keys=True).encode()
        return (_digest(data) if name == _RUN else self._part_digest(name, memoryview(data))).hex()

    def _write(self, name: str, *parts: bytes | memoryview) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            for part in parts:
                file.write(part)
        sync_all(self.path, ())


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def _seen(file: Path) -> tuple[int | None, str]:
    """Size and checksum of a file; None and "" of what is not there or cannot be read."""
    try:
        data = file.read_bytes()
    except OSError:
        return None, ""
    return len(data), _digest(data).hex()


def _links(folder: Path) -> Iterator[Path]:
    """A folder if it is a link, else the links in it, however deep: what is written goes through each of them."""
    if folder.is_symlink() or (hasattr(folder, "is_junction") and folder.is_junction()):
        yield folder
        return
    try:
        entries = list(os.scandir(folder))
    except OSError:  # there is none, or it is a file
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _links(Path(entry.path))
