"""Results out and in: an OME-Zarr 0.5 store with labels, outputs of the network, image and the record of the run.

A store appears under its name only when it is complete. Its layout::

    result.zarr/            OME image: the input image (0, 1, ...); without one, its entries name labels/instances/...
      labels/instances/     OME label image, uint32
      embedding/            OME image, float32, axes (t) c (z) y x
      foreground/           OME image, float32, axes of the labels
      outputs/NAME/         OME image, float32: what else the network says, a vector as the embedding, a value as the foreground

The root attribute "napari-shiftseg" holds ``{"store": 1, "image": bool, "outputs": [NAME, ...], "record": {...}}``, and
"napari-shiftseg-output" of an output ``{"name": NAME, "activation": ..., "meaning": ...}``, as of `geometry.Output`. Each array
says by "napari-shiftseg-files" how many files of chunks it has, so that one that is lost is missed.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from filelock import FileLock, Timeout

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import check_same, check_targets, found_at, path_of, remove_folder, sync_all, sync_folder
from napari_shiftseg.geometry import Output
from napari_shiftseg.io import pyramid
from napari_shiftseg.io.axes import check_integers, check_label_axes, check_range, check_translation
from napari_shiftseg.io.constants import STORE_VERSION
from napari_shiftseg.io.image import Image
from napari_shiftseg.io.model import to_plain
from napari_shiftseg.io.ome_zarr import OUR_KEY
from napari_shiftseg.io.pyramid import BlockPyramid
from napari_shiftseg.io.stored_result import FOLDERS, OUTPUT_KEY, folder_of, our_attributes
from napari_shiftseg.views import ArrayLike, View

Part: TypeAlias = Literal["labels", "embedding", "foreground"]


@told
def save_result(
    path: str | Path,
    *,
    labels: ArrayLike,
    axes: str,
    scale: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
    translation: Sequence[float] = (),
    record: Mapping[str, object],
    image: Image | None = None,
    embedding: ArrayLike | None = None,
    foreground: ArrayLike | None = None,
    outputs: Sequence[tuple[Output, ArrayLike]] = (),
    name: str = "image",
    overwrite: bool = False,
    last: Callable[[], None] | None = None,
) -> Path:
    """Write a result as an OME-Zarr 0.5 store, completely or not at all.

    Parameters
    ----------
    path : str or Path
        Store to write, such as ``result.zarr``.
    labels : array-like of int
        Labels in [0, 2**32); stored as uint32.
    axes : str
        Letters of "tzyx", in this order, one per axis of `labels`: the axes of the image without c.
    scale, units, translation : sequence, optional
        Step, unit and place of the first pixel per axis of `labels`.
    record : mapping
        What happened: JSON values, numpy values, paths and tuples.
    image : Image, optional
        The input image, copied chunk by chunk. Without it the root names the labels as its image.
    embedding : array-like of float, optional
        Axes (t) c (z) y x; stored as float32.
    foreground : array-like of float, optional
        Axes of the labels; stored as float32.
    outputs : sequence of (Output, array-like), optional
        Outputs of a network with what they mean, those two or others: a vector with axes as the embedding, a single value with
        those of the labels.
    name : str
        Name of the image, for viewers.
    overwrite : bool
        Replace a store that this package wrote; anything else is never replaced.
    last : callable, optional
        Called when all is copied and the store is not in its place yet; after its error nothing is left.

    Raises
    ------
    ResultError
        If the path is taken or cannot be written, or the arrays do not fit each other. Nothing is left behind.
    """
    check_integers(labels)
    settings: dict[str, Any] = {"axes": axes, "scale": scale, "units": units, "translation": translation}
    settings |= {"name": name, "overwrite": overwrite}
    plain_record(record)  # before the long work
    writer = ResultWriter(path, shape=labels.shape, **settings)
    if image is None:  # which would be lost with the store that it lies in
        check_targets(stores=[path], inputs=_source(record))
    with writer:
        try:
            _fill_labels(writer.create("labels"), labels)
            if embedding is not None:
                at = 1 if axes.startswith("t") else 0
                channels = embedding.shape[at] if len(embedding.shape) > at else 0
                _fill("embedding", writer.create("embedding", channels=max(channels, 1)), embedding)
            if foreground is not None:
                _fill("foreground", writer.create("foreground"), foreground)
            for output, values in outputs:
                _fill(output.name, writer.create(output), values)
            if image is not None:
                writer.copy_image(image)
            if last is not None:
                last()
        except OSError as exc:
            raise ResultError(f"{path} cannot be written ({exc}); choose another folder or make room.") from exc
        return writer.finish(record)


def _fill(name: str, target: zarr.Array[Any], source: ArrayLike) -> None:
    if target.shape != tuple(source.shape):
        raise ResultError(
            f"the {name} has shape {tuple(source.shape)}, but {target.shape} fits the labels; "
            "give it with axes (t) c (z) y x (embedding, other vectors) or those of the labels (foreground, other values)."
        )
    pyramid.fill(target, source)


def _fill_labels(target: zarr.Array[Any], labels: ArrayLike) -> None:
    for window in pyramid.windows(target):
        block = np.asarray(labels[window])
        check_range(int(block.min()), int(block.max()))
        target[window] = block.astype(np.uint32)


class ResultWriter:
    """A result store that appears under its name only when it is complete.

    Everything goes into a hidden folder beside `path`; `finish` moves it into place, and leaving the `with` block removes what
    is left, after an error or a cancelled run as well. Arrays from `create` can be filled in any order, also from several
    threads when no two of them write into one chunk. ResultError if the path is taken or cannot be written, or the axes do not
    fit.

    Parameters
    ----------
    path : str or Path
        Store to write, such as ``result.zarr``.
    shape : sequence of int
        Sizes of the labels.
    axes : str
        Letters of "tzyx", in this order, one per axis of the labels.
    scale, units, translation : sequence, optional
        Step, unit and place of the first pixel per axis.
    name : str
        Name of the image, for viewers.
    overwrite : bool
        Replace a store that this package wrote; anything else is never replaced.
    folder : Path, optional
        An existing folder on the same disk in which the store is made and which outlives this object, so that a later one goes
        on with the arrays that are there.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: Sequence[int],
        axes: str,
        scale: Sequence[float] | None = None,
        units: Sequence[str | None] | None = None,
        translation: Sequence[float] = (),
        name: str = "image",
        overwrite: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self._shape, self._axes, self._name = tuple(shape), axes, name
        self._scale, self._units = check_label_axes(axes, shape, scale, units=units)
        self._translation = check_translation(translation, axes)
        check_store(self.path, overwrite=overwrite)
        self._found = found_at(self.path)
        self._levels = pyramid.level_count(dict(zip(axes, shape, strict=True)))
        self._image: Image | None = None
        self._axes_of: dict[str, str] = {}
        self._described: dict[str, Output] = {}
        self._made: dict[str, int] = {}
        self._kept = folder

    def __enter__(self) -> Self:
        if self._kept is not None:
            self._folder = self._kept
            self._root = zarr.open_group(str(self._folder / "store"), mode="a", zarr_format=3)
            return self
        _remove_left(self.path)
        # named before it is made, so that an interrupt at any moment finds what to remove
        self._folder = self.path.parent / f".{self.path.name}.{uuid.uuid4().hex[:8]}.part"
        self._lock = _lock_of(self._folder)
        try:
            with suppress(*_NO_LOCK):  # a disk without locks keeps what a killed process leaves
                self._lock.acquire()  # before there is a folder, so that one without its lock held is nobody's
            self._folder.mkdir(mode=0o700)
            # one folder deeper, for which the rights of other folders hold
            self._root = zarr.open_group(str(self._folder / "store"), mode="w", zarr_format=3)
        except OSError as exc:
            self._remove()
            raise ResultError(f"{self.path} cannot be written ({exc.strerror}); choose another folder.") from exc
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._kept is None:
            self._remove()

    def _remove(self) -> None:
        remove_folder(self._folder)
        self._lock.release(remove=True)

    def create(self, part: Part | Output, *, channels: int = 1) -> zarr.Array[Any]:
        """Empty array at full resolution, to be filled by the caller.

        Parameters
        ----------
        part : {"labels", "embedding", "foreground"} or Output
            Labels are uint32, the others float32.
        channels : int
            Channels of the embedding, where no `Output` says so. It and other vectors have axes (t) c (z) y x, the others those
            of the labels.
        """
        name, shape, axes = self._format(part, channels)
        return self._create(name, shape, axes, dtype=_type_of(name))

    def create_blocks(self, part: Part | Output, edges: Mapping[str, int], *, channels: int = 1) -> BlockPyramid:
        """As `create`, for an array that is filled block by block, each block by one file per level of the pyramid.

        `edges`: of a block, as in `BlockPyramid.create`.
        """
        name, shape, axes = self._format(part, channels)
        self._axes_of[name] = axes
        made = BlockPyramid.create(self._group(name), shape, axes, dtype=_type_of(name), edges=edges)
        self._made[name] = len(made.levels)
        return made

    def _format(self, part: Part | Output, channels: int) -> tuple[str, tuple[int, ...], str]:
        """Name, shape and axes of an array."""
        name, vector, axes, shape = str(part), part == "embedding", self._axes, self._shape
        if isinstance(part, Output):
            name, vector, channels = part.name, part.vector, part.count
            self._described[name] = part
        if name in self._axes_of:
            raise ResultError(f"the {name} was given twice; give it once.")
        if vector:
            at = 1 if axes.startswith("t") else 0
            axes, shape = axes[:at] + "c" + axes[at:], (*shape[:at], channels, *shape[at:])
        return name, shape, axes

    def copy_image(self, image: Image) -> None:
        """Copy the input image chunk by chunk, in its own type and with its axes in the order of OME-Zarr."""
        image = image.reordered()
        sizes = dict(zip(self._axes, self._shape, strict=True))
        wrong = {axis: size for axis, size in image.sizes.items() if axis != "c" and sizes.get(axis) != size}
        if wrong or not set(sizes) <= set(image.axes):
            raise ResultError(
                f'labels of shape {self._shape} (axes "{self._axes}") do not belong to the image '
                f'{image.name} of shape {tuple(image.data.shape)} (axes "{image.axes}").'
            )
        target = self._create("image", image.data.shape, image.axes, dtype=image.data.dtype)
        pyramid.fill(target, View.whole(image.data, name=image.name))  # a damaged chunk is an error of the image
        self._image = image

    def write_objects(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the table of instances: an array per column, all of one length."""
        pyramid.write_columns(self._root.create_group("objects", overwrite=True), columns)

    def finish(self, record: Mapping[str, object]) -> Path:
        """Write pyramids, metadata and the record, and move the store to its path.

        `record`: what happened: JSON values, numpy values, paths and tuples.
        """
        outputs = [name for name in self._axes_of if name not in ("labels", "image")]
        ours = {"store": STORE_VERSION, "image": self._image is not None, "outputs": outputs, "record": plain_record(record)}
        if "labels" not in self._axes_of:
            raise ResultError("a result without labels cannot be written; create and fill the labels first.")
        try:
            for part, axes in self._axes_of.items():
                first = self._made.get(part, 1)
                pyramid.add_levels(self._group(part), axes, self._levels, reduction=_reduction(part), first=first)
                self._group(part).update_attributes(self._attributes(part, axes))
                if part in self._described:
                    told = vars(self._described[part])
                    told = {key: told[key] for key in ("name", "activation", "meaning")}
                    self._group(part).update_attributes({OUTPUT_KEY: told})
            self._root.require_group("labels").update_attributes(pyramid.labels_attributes("instances"))
            if self._image is None:
                self._root.update_attributes(self._stand_in())
            self._root.update_attributes({OUR_KEY: ours})
            for left in (self._folder / "store").rglob("*.partial"):  # of a process that was killed
                left.unlink()
            pyramid.note_files(self._root)
            sync_all(self._folder / "store")
            self._move()
            for folder in (self.path.parent, self._folder):  # before anybody removes what the store was made of
                sync_folder(folder)
        except OSError as exc:
            raise ResultError(f"{self.path} cannot be written ({exc}); choose another folder or make room.") from exc
        return self.path

    def _create(self, part: str, shape: Sequence[int], axes: str, *, dtype: npt.DTypeLike) -> zarr.Array[Any]:
        self._axes_of[part] = axes
        return pyramid.create_level(self._group(part), "0", shape, axes=axes, dtype=dtype)

    def _group(self, part: str) -> zarr.Group:
        return self._root.require_group(folder_of(part)) if folder_of(part) else self._root

    def _attributes(self, part: str, axes: str) -> dict[str, Any]:
        steps, units = dict(zip(self._axes, self._scale, strict=True)), dict(zip(self._axes, self._units, strict=True))
        scale, unit = [steps.get(axis, 1.0) for axis in axes], [units.get(axis) for axis in axes]
        places = dict(zip(self._axes, self._translation, strict=True))
        place = [places.get(axis, 0.0) for axis in axes]
        if part == "image" and self._image is not None:
            scale, unit, place = list(self._image.scale), list(self._image.units), list(self._image.translation)
        found: dict[str, Any] = {"count": self._levels, "reduction": _reduction(part), "translation": place}
        name = {"image": self._name, "labels": "instances"}.get(part, part)
        return pyramid.image_attributes(axes, scale, unit, name=name, labels=part == "labels", **found)

    def _stand_in(self) -> dict[str, Any]:
        """Root metadata without an image: they name the labels, so that any viewer opens the store."""
        return pyramid.image_attributes(
            self._axes,
            self._scale,
            self._units,
            name=self._name,
            count=self._levels,
            reduction="nearest",
            folder=f"{FOLDERS['labels']}/",
            translation=self._translation,
        )

    def _move(self) -> None:
        old = self._folder / "old"
        check_same(self.path, self._found)
        if self._found is not None and self.path.exists():
            self.path.rename(old)
        try:
            (self._folder / "store").rename(self.path)
        except OSError:
            if old.exists() and found_at(self.path) is None:
                old.rename(self.path)
            check_same(self.path, self._found)  # no system renames a folder over one that holds something
            raise


def check_store(path: str | Path, *, overwrite: bool) -> None:
    """Refuse a place for a store that is taken: by anything but a result, and by a result unless it is to be overwritten.

    Raises
    ------
    ResultError
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        return
    if our_attributes(path) is None or path.is_symlink():
        raise ResultError(f"{path} is there and is not a result of napari-shiftseg; choose another name.")
    if not overwrite:
        raise ResultError(f"{path} is there already; choose another name, or overwrite it (overwrite=True).")


def work_path(target: str | Path) -> Path:
    """Folder of the unfinished run that will become `target`."""
    target = path_of(target, "a place for the result", ResultError).absolute()
    return target.parent / f".{target.name}.unfinished"


class OneWriter:
    """A lock that the system gives back when the process ends, however it ends; its file goes with the last who held it.

    `path`: the file that is locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(str(path))

    def acquire(self) -> None:
        """Take it now; filelock.Timeout if another has it, OSError if there can be none."""
        while True:
            # neither through a link nor waiting for the other end of a pipe
            flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            os.close(os.open(self.path, flags, 0o644))
            file = self._file()
            self._lock.acquire(timeout=0)
            if file is not None and file == self._file():
                return
            self._lock.release()  # of a file that was taken away meanwhile, so that the next who comes would not see it

    def release(self, *, remove: bool) -> None:
        """Give it back; `remove` takes its file away, while nobody else can have it."""
        for now in (True, False):  # Windows removes no file that is open
            if remove:
                with suppress(OSError):
                    self.path.unlink()
                    remove = False
            if now:
                self._lock.release()

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


# What a lock raises that another process has, or that the disk does not know.
_NO_LOCK = (Timeout, OSError, NotImplementedError)


def _lock_of(folder: Path) -> OneWriter:
    """What the process holds that makes a store in a folder."""
    return OneWriter(folder.with_suffix(".lock"))


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed left of the same result, and of one that was replaced; what holds more stays."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    for folder in [one for one in path.parent.glob(".*.part") if ours.fullmatch(one.name) and not one.is_symlink()]:
        lock = _lock_of(folder)
        try:
            held = {inner.name for inner in folder.iterdir()}
            done = held == {"old"} and our_attributes(path) is not None  # the new one is in its place
            if not lock.path.is_file() or (held - {"store"} and not done):
                continue
            lock.acquire()
        except _NO_LOCK:
            continue
        try:
            remove_folder(folder)
        finally:
            lock.release(remove=not folder.exists())


def _type_of(part: str) -> npt.DTypeLike:
    return np.uint32 if part == "labels" else np.float32


def _reduction(part: str) -> pyramid.Reduction:
    # Embeddings of two objects must not be mixed, and a mean of labels is no label.
    return "mean" if part == "image" else "nearest"


def _source(record: Mapping[str, object]) -> list[str]:
    """Place of the image that a result was made of, if its record says one that is there."""
    image = record.get("image")
    source = image.get("source") if isinstance(image, Mapping) else None
    return [source] if isinstance(source, str) and source not in ("", "memory") and os.path.exists(source) else []


def plain_record(record: Mapping[str, object]) -> Any:
    """The record as JSON values, NaN and infinity as their names; `ResultError` if something in it has no such form."""
    return to_plain(record, beyond="named", what="the record of the run", error=ResultError)
