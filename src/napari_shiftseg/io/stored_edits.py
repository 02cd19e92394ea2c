"""`StoredEdits`: the labels of a saved result, corrected where they lie, block by block; every edit can be undone.

Beside the labels lies a folder "edits" with a file for each edit. An edit is written there first, then a note that it is under
way, then the pixels of all levels, the table of objects and, at the end, the record, which lists it; so a crash at any moment
leaves what the next one who opens the store for edits finishes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from filelock import Timeout
from numcodecs.checksum32 import CRC32C  # type: ignore[import-untyped]

from napari_shiftseg.errors import ResultError, SettingsError
from napari_shiftseg.files import check_writable, remove_folder, replacing
from napari_shiftseg.instances.edit import Edit, delete, find_objects, merged, numbers_of
from napari_shiftseg.instances.split import split
from napari_shiftseg.instances.table import block_table, summed, whole_table
from napari_shiftseg.io.labels import linked_steps
from napari_shiftseg.io.ome_zarr import OUR_KEY
from napari_shiftseg.io.pyramid import note_files, write_columns
from napari_shiftseg.io.result import OneWriter, work_path
from napari_shiftseg.io.store import ReadStore
from napari_shiftseg.io.stored_result import StoredResult, folder_of, open_result, our_attributes
from napari_shiftseg.views import View

Rows = dict[str, npt.NDArray[Any]]

_FOLDER, _PENDING = "edits", "pending.json"


class StoredEdits:
    """Merge, split and delete in a store that `save_result` or a run out of core wrote.

    What a crash has left half done is finished at once.

    Parameters
    ----------
    path : str or Path
        The store.

    Attributes
    ----------
    result : StoredResult
        The store as it is now.
    edits : list of dict
        What was done, as the record holds it.
    undone : int
        How many edits can be done again.

    Raises
    ------
    ResultError
        If it is no result, it cannot be written to, or a run or somebody else is writing it.
    """

    def __init__(self, path: str | Path) -> None:
        self.result: StoredResult = open_result(path)
        self.path = self.result.path.absolute()
        check_writable(self.path / _FOLDER)
        self.undone = 0
        self._lock = OneWriter(work_path(self.path).with_suffix(".lock"))
        self._run = self.result.record.get("run")
        plan = self.result.record.get("plan")
        # objects that were joined through planes are those of the stack, and not of the frames of the run
        joined = any(step["through"] == "z" for step in linked_steps(self.result.record))
        plan = plan if isinstance(plan, dict) and not joined else {}
        self._seams = plan.get("seams")
        whole = self.result.labels.shape[int(self.result.axes.startswith("t")) :]
        self.looped = self.result.labels.ndim - len(plan.get("result_shape") or whole)
        with self._alone():
            self._finish_pending()
        self._table = self.result.objects()
        self._highest = self._highest_number()

    @property
    def labels(self) -> View:
        """Those of the store as it is now; ImageError where a file of them is damaged or gone."""
        return View.whole(self.result.labels, name=f"the labels of {self.path.name}")

    @property
    def edits(self) -> list[dict[str, Any]]:
        """What was done, the last edit at the end."""
        return list(self.result.record.get("edits", ()))

    def rows(self, frame: Sequence[int] = (), ids: Sequence[int] | None = None) -> Rows:
        """The table of the objects of a frame, or of some of them; empty where the store has none."""
        if not self._table:
            return {}
        wanted = self._in_frame(tuple(frame))
        if ids is not None:
            wanted &= np.isin(self._table["index"], np.array(list(ids), np.int64))
        return {name: values[wanted] for name, values in self._table.items()}

    def window(self, number: int, frame: Sequence[int] = ()) -> tuple[slice, ...]:
        """The smallest window of an object in the labels; errors as of `instances.merge`."""
        found = find_objects(self.labels, (number,), frame=frame, window=self._window((number,), frame))
        return (*(slice(at, at + 1) for at in frame), *found.box)

    # -- verbs --------------------------------------------------------------------------------------------------------

    def merge(self, ids: Sequence[int], frame: Sequence[int] = ()) -> Edit:
        """Objects of a frame become one, with the number of the first; errors as of `instances.merge`."""
        ids = tuple(dict.fromkeys(map(int, ids)))
        if len(ids) < 2:
            raise SettingsError(f"{len(ids)} object to merge; give two or more different numbers.")
        self._window(ids[:1], frame)
        found = find_objects(self.labels, ids[1:], frame=frame, window=self._window(ids[1:], frame))
        return self._do(merged(found, ids[0]))

    def delete(self, ids: int | Sequence[int], frame: Sequence[int] = ()) -> Edit:
        """An object of a frame, or several in one step, become background; errors as of `instances.delete`."""
        return self._do(delete(self.labels, ids, frame=frame, window=self._window(numbers_of(ids), frame)))

    def split(self, number: int, frame: Sequence[int] = (), embedding: Any = None, **wish: Any) -> Edit:
        """An object of a frame becomes several; `wish`, and errors, as of `instances.split`."""
        window = self._window((int(number),), frame)
        limit = int(np.iinfo(self.result.labels.dtype).max)
        first = None if self._highest >= limit else self._highest + 1
        wish.setdefault("offsets", has_offsets(self.result.record))
        return self._do(split(self.labels, number, embedding, frame=frame, window=window, first=first, **wish))

    def undo(self) -> Edit:
        """Take the last edit back, also one of an earlier session.

        SettingsError if there is none, its pixels were not kept, or they have been changed since.
        """
        if not self.edits:
            raise SettingsError("nothing is left to undo.")
        number = len(self.edits)
        edit, before, _ = self._read(number)
        edit.check(self.labels, undo=True)
        self._carry_out(number, edit, before, done=False)
        self.undone += 1
        return edit

    def redo(self) -> Edit:
        """Do again what was undone last; errors as of `undo`."""
        if not self.undone:
            raise SettingsError("nothing was undone; there is nothing to do again.")
        number = len(self.edits) + 1
        edit, _, after = self._read(number)
        edit.check(self.labels)
        self._carry_out(number, edit, after, done=True)
        self.undone -= 1
        return edit

    # -- an edit ------------------------------------------------------------------------------------------------------

    def _do(self, edit: Edit) -> Edit:
        number = len(self.edits) + 1
        touched = {*edit.ids, *edit.made}
        before = self.rows(edit.frame, sorted(touched))
        after = self._rows_after(edit, before)
        with self._alone():  # one who edits at the same time would write the same file
            self._write(number, edit, before, after=after)
            self._note_and_finish(number, edit, after, done=True)
        self.undone = 0
        self._highest = max(self._highest, *touched)
        return edit

    def _carry_out(self, number: int, edit: Edit, rows: Rows, *, done: bool) -> None:
        with self._alone():
            self._note_and_finish(number, edit, rows, done=done)

    def _note_and_finish(self, number: int, edit: Edit, rows: Rows, *, done: bool) -> None:
        with replacing(self.path / _FOLDER / _PENDING) as part:
            part.write_text(json.dumps({"number": number, "done": done}), encoding="utf-8")
        self._finish(number, edit, rows, done=done)

    def _finish(self, number: int, edit: Edit, rows: Rows, *, done: bool) -> None:
        """Pixels, table, record, in this order; twice is as good as once."""
        write_pixels(
            self.path / folder_of("labels"), edit.indices(), edit.after if done else edit.before, axes=self.result.axes
        )
        self._write_table(edit, rows)
        listed = self.edits[: number - 1] + [edit.to_dict()] * done
        attributes = our_attributes(self.path) or {}
        record = {**attributes["record"], "edits": listed}
        group = zarr.open_group(str(self.path), mode="r+", zarr_format=3)
        group.update_attributes({OUR_KEY: {**attributes, "record": record}})
        (self.path / _FOLDER / _PENDING).unlink(missing_ok=True)
        self.result = replace(self.result, record=record)
        self._table = self.result.objects()

    def _finish_pending(self) -> None:
        """What a crash left: an edit that was begun is finished, one that was not even noted is not there."""
        old, table = self.path / "objects.old", self.path / "objects"
        if old.is_dir() and not table.exists():
            old.rename(table)
        for left in (old, self.path / "objects.new"):
            if left.is_dir():
                remove_folder(left)
        try:
            noted = json.loads((self.path / _FOLDER / _PENDING).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        edit, before, after = self._read(int(noted["number"]))
        self._table = self.result.objects()
        self._finish(int(noted["number"]), edit, after if noted["done"] else before, done=bool(noted["done"]))

    def _read(self, number: int) -> tuple[Edit, Rows, Rows]:
        """An edit, and the rows of its objects before and after it."""
        try:
            with np.load(self.path / _FOLDER / f"{number}.npz", allow_pickle=False) as file:
                values = json.loads(file["what"].tobytes())
                old, new = ({n[4:]: file[n] for n in file.files if n.startswith(end)} for end in ("old ", "new "))
                return Edit.from_dict(values, file), old, new
        except FileNotFoundError as exc:
            raise SettingsError("this edit was done before the result was saved here, and its pixels were not kept.") from exc

    def _write(self, number: int, edit: Edit, before: Rows, *, after: Rows) -> None:
        folder = self.path / _FOLDER
        folder.mkdir(exist_ok=True)
        arrays = {"places": edit.places, "before": edit.before, "after": edit.after}
        arrays["what"] = np.frombuffer(json.dumps(edit.to_dict()).encode(), np.uint8)
        arrays |= {f"old {name}": values for name, values in before.items()}
        arrays |= {f"new {name}": values for name, values in after.items()}
        with replacing(folder / f"{number}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes the store meanwhile, and nobody has since it was looked at."""
        try:
            self._lock.acquire()
        except Timeout as exc:
            raise ResultError(f"a run is writing {self.path}; wait for it before its labels are edited.") from exc
        except OSError as exc:
            raise ResultError(f"{self.path} cannot be written ({exc.strerror}); copy it to a place that can.") from exc
        try:
            record = (our_attributes(self.path) or {}).get("record", {})
            if record.get("run") != self._run or record.get("edits", []) != self.edits:
                raise ResultError(f"{self.path} was changed by another program meanwhile; open it again.")
            yield
        except OSError as exc:
            raise ResultError(f"{self.path} cannot be written ({exc}); the edit is finished when it is opened again.") from exc
        finally:
            self._lock.release(remove=not work_path(self.path).exists())

    # -- the table ----------------------------------------------------------------------------------------------------

    def _in_frame(self, frame: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        wanted = np.ones(len(self._table["index"]), bool)
        for axis, at in zip(self.result.axes, frame, strict=False):
            wanted &= self._table[axis] == at
        return wanted

    def _window(self, ids: tuple[int, ...], frame: Sequence[int]) -> tuple[slice, ...] | None:
        """Where objects lie by the table; SettingsError if there is none of them. None without a table."""
        if not self._table:
            return None
        rows = self.rows(frame, ids)
        missing = sorted({*ids} - {*rows["index"].tolist()})
        if missing:
            raise SettingsError(f"there is no object {missing[0]} here; give a number that is there.")
        names = self.result.axes[len(tuple(frame)) :]
        return tuple(slice(int(rows[f"first_{name}"].min()), int(rows[f"last_{name}"].max()) + 1) for name in names)

    def _highest_number(self) -> int:
        if self._table:
            largest = int(self._table["index"].max(initial=0))
        else:
            rows = range(0, self.result.labels.shape[0], self.result.labels.chunks[0])
            step = self.result.labels.chunks[0]
            largest = max((int(np.max(np.asarray(self.labels[at : at + step]))) for at in rows), default=0)
        return max([largest, *(int(number) for edit in self.edits for number in (*edit["ids"], *edit["made"]))])

    def _rows_after(self, edit: Edit, before: Rows) -> Rows:
        """The rows of the objects once the edit is done."""
        if not before or edit.kind == "delete":
            return {name: values[:0] for name, values in before.items()}
        if edit.kind == "merge":
            return summed(before, edit.ids[0])
        corner = [edge.start for edge in edit.window[len(edit.frame) :]]
        sizes = [edge.stop - edge.start for edge in edit.window[len(edit.frame) :]]
        block = np.asarray(self.labels[edit.window]).reshape(sizes)
        block = np.where(block == edit.ids[0], block, 0)
        block.reshape(-1)[edit.places] = edit.after
        seams = self._seams if "on_seam" in before else None
        found = whole_table([block_table(block, corner, self.result.labels.shape[len(edit.frame) :], seams=seams)])
        count = len(found["index"])
        places = {axis: np.full(count, at) for axis, at in zip(self.result.axes, edit.frame, strict=False)}
        return {name: {**places, **found}[name].astype(values.dtype) for name, values in before.items()}

    def _write_table(self, edit: Edit, rows: Rows) -> None:
        """The table with other rows for the objects of an edit, which takes the place of the old one as a whole."""
        if not self._table:
            return
        touched = self._in_frame(edit.frame) & np.isin(self._table["index"], [*edit.ids, *edit.made])
        joined = {name: np.concatenate([values[~touched], rows[name]]) for name, values in self._table.items()}
        order = np.lexsort((joined["index"], *(joined[name] for name in reversed(self.result.axes[: len(edit.frame)]))))
        new, old, table = (self.path / name for name in ("objects.new", "objects.old", "objects"))
        group = zarr.open_group(str(new), mode="w", zarr_format=3)
        write_columns(group, {name: values[order] for name, values in joined.items()})
        note_files(group)
        table.rename(old)
        new.rename(table)
        remove_folder(old)


def has_offsets(record: Mapping[str, Any]) -> bool:
    """Whether the embedding of a run says where the centres of objects lie, and not which object it is."""
    clustering = record.get("clustering") or record.get("job", {}).get("clustering")
    return bool(isinstance(clustering, Mapping) and clustering.get("coordinates"))


def write_pixels(folder: Path, indices: tuple[npt.NDArray[np.int64], ...], values: npt.NDArray[Any], *, axes: str) -> None:
    """Give pixels of a pyramid new values, in all its levels and file by file.

    Parameters
    ----------
    folder : Path
        Of the arrays "0", "1", ...
    indices : tuple of ndarray
        Where they lie at full resolution, an array per axis.
    values : ndarray
        (n,) their numbers.
    axes : str
        Letters of "tzyx".
    """
    level = 0
    while (folder / str(level)).is_dir():
        store = ReadStore(folder / str(level), read_only=False)  # which knows of chunks that are gone
        # a file that holds nothing is written all the same: readers take one that is gone for damage
        with zarr.config.set({"array.write_empty_chunks": True}):  # of an array that is there, zarr takes no other word
            array: Any = zarr.open_array(store, mode="r+")
        steps = [1 << level if axis in "yx" else 1 for axis in axes]
        kept = np.logical_and.reduce([at % step == 0 for at, step in zip(indices, steps, strict=True)])
        places = [at[kept] // step for at, step in zip(indices, steps, strict=True)]
        _write_files(array, places, values[kept])
        level += 1


def _write_files(array: Any, places: Sequence[npt.NDArray[np.int64]], values: npt.NDArray[Any]) -> None:
    edges, seen = array.shards or array.chunks, View.whole(array, name=f"level {Path(array.store.root).name} of the labels")
    numbers = [at // edge for at, edge in zip(places, edges, strict=True)]
    order = np.lexsort(numbers[::-1])
    files = [tuple(int(number[at]) for number in numbers) for at in order]
    start = 0
    for _, group in groupby(files):
        mine = order[start : (start := start + len(list(group)))]
        inside = [at[mine] for at in places]
        first = [int(at.min()) for at in inside]
        window = tuple(slice(a, int(at.max()) + 1) for a, at in zip(first, inside, strict=True))
        block = np.array(seen[window])
        block[tuple(at - a for at, a in zip(inside, first, strict=True))] = values[mine]
        file = Path(array.store.root) / array.path / "c" / "/".join(str(int(number[mine[0]])) for number in numbers)
        there = file.exists()
        array[window] = block
        if there and not file.exists():  # zarr still takes away a shard that holds background alone
            file.write_bytes(_empty_shard(array))


def _empty_shard(array: Any) -> bytes:
    """A file of many chunks of which none is there: place and length of each are the largest number, with a checksum."""
    count = prod(shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True))
    encoded: bytes = CRC32C(location="end").encode(b"\xff" * (16 * count))
    return bytes(encoded)
