"""Images in: `Image`, with named axes and the frames that a model sees, and one function that opens a file by its content."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError
from napari_shiftseg.files import check_readable, path_of
from napari_shiftseg.io.axes import ORDER, SPATIAL, check_axes, check_scale, guess_axes, renamed, unit_name
from napari_shiftseg.io.constants import MOST_PLANES, PLANE_BYTES
from napari_shiftseg.io.raw_file import unmapped
from napari_shiftseg.views import ArrayLike, Pick, View, as_array


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """What a model sees at one position of the axes that it does not have."""

    index: dict[str, int]  # position per looped axis, such as ``{"t": 3}``; empty where nothing is looped
    view: View  # pixels of shape (C, *spatial), channels first, read when they are asked for


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """Pixels, what their axes mean, and how large a pixel is.

    Attributes
    ----------
    data : array-like
        Numpy, zarr or dask array or a `View`; lazy where the file allows it. Values and type are those of the file.
    axes : str
        One letter of "tczyx" per axis of `data`, in its order; colour samples are "c".
    scale : tuple of float
        Step per axis, in the unit of the axis; 1.0 where it is not known.
    units : tuple of (str or None)
        OME-NGFF unit name per axis, None where there is none.
    name, source : str
        Short name, and the path or place that the image came from.
    note : str
        What was guessed, dropped or chosen on reading; "" where nothing was.
    scene : int or None
        Which image of a file that holds several, as it was asked for.
    translation : tuple of float
        Place of the first pixel per axis, in the unit of the axis; () where nothing says.
    channels : tuple of str
        Names of the channels; () where nothing says.
    assumed : str
        What was assumed of the axes because nothing says it, as in `note`; "" where the file or the user says it all.
    place : mapping or None
        Where a viewer showed the image, JSON values that the record keeps; None without a viewer.
    """

    data: ArrayLike
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    name: str
    source: str
    note: str = ""
    scene: int | None = None
    translation: tuple[float, ...] = ()
    channels: tuple[str, ...] = ()
    assumed: str = ""
    place: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_axes(self.axes, self.data.shape)
        check_scale(self.scale, len(self.axes))
        if len(self.units) != len(self.axes):
            raise ImageError(f'{len(self.units)} units were given for the axes "{self.axes}"; give one per axis.')
        if len(self.translation) not in (0, len(self.axes)):
            raise ImageError(f'translation {self.translation} does not fit the axes "{self.axes}"; give one number per axis.')
        kind = np.dtype(self.data.dtype).kind
        if kind not in "biuf":
            raise ImageError(
                f"{self.name} holds values of type {np.dtype(self.data.dtype)}, which are not gray values; "
                "convert it to integers or floats first (the magnitude, for complex values)."
            )
        if 0 in self.data.shape:
            raise ImageError(f"{self.name} is empty: its shape is {tuple(self.data.shape)}.")

    @classmethod
    def from_array(
        cls,
        data: ArrayLike,
        axes: str | None = None,
        scale: Sequence[float] | None = None,
        *,
        units: Sequence[str | None] | None = None,
        name: str = "image",
    ) -> Image:
        """Image from an array in memory or from the data of a viewer layer.

        Parameters
        ----------
        data : array-like
            Numpy, zarr or dask array, or nested lists.
        axes : str, optional
            Letters of "tczyx"; guessed when not given (2D yx, 3D zyx, uint8 with 3 or 4 values on the last axis yxc).
        scale, units : sequence, optional
            Step and unit per axis; 1.0 and None when not given.
        name : str
            Name of the image, used in messages as well.

        Raises
        ------
        ImageError
            If the axes do not fit the data, or the data are no gray values.

        >>> image = Image.from_array(np.zeros((30, 64, 64)), "tyx", (5, 0.2, 0.2), units=("min", "um", "um"))
        >>> image.sizes, image.units
        ({'t': 30, 'y': 64, 'x': 64}, ('minute', 'micrometer', 'micrometer'))
        """
        array = as_array(data, name, kinds="biufcOSUVMm")  # what is no gray value has its sentence below
        note = ""
        if axes is None:
            axes, note = guess_axes(array.shape, array.dtype)
        axes = check_axes(axes, array.shape)
        return cls(
            data=native(unmapped(array), name),
            axes=axes,
            scale=check_scale(scale, len(axes)),
            units=tuple(unit_name(unit) for unit in units) if units is not None else (None,) * len(axes),
            name=name,
            source="memory",
            note=note,
            assumed=note,
        )

    def called(self, axes: str) -> Image:
        """The same pixels with their axes named by the user; a step stays where the axis still measures the same.

        Raises
        ------
        ImageError
            If the letters do not fit the data.
        """
        axes = check_axes(axes, self.data.shape)
        same = renamed(self.axes, axes)
        place = self.translation or (0.0,) * len(axes)
        at = axes.find("c")
        return replace(
            self,
            axes=axes,
            scale=tuple(step if keeps else 1.0 for step, keeps in zip(self.scale, same, strict=True)),
            units=tuple(unit if keeps else None for unit, keeps in zip(self.units, same, strict=True)),
            translation=tuple(start if keeps else 0.0 for start, keeps in zip(place, same, strict=True)),
            channels=self.channels if at >= 0 and self.axes.find("c") == at else (),
            note=" ".join(self.note.replace(self.assumed, "").split()) if self.assumed else self.note,
            assumed="",
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Pixels per axis."""
        return dict(zip(self.axes, self.data.shape, strict=True))

    def reordered(self, axes: str | None = None) -> Image:
        """The same image with its axes in another order, by default that of OME-Zarr; nothing is read."""
        axes = "".join(axis for axis in ORDER if axis in self.axes) if axes is None else axes
        if axes == self.axes:
            return self
        order = [self.axes.index(axis) for axis in axes]
        return replace(
            self,
            data=View.whole(self.data, order, name=self.name),
            axes=axes,
            scale=tuple(self.scale[axis] for axis in order),
            units=tuple(self.units[axis] for axis in order),
            translation=tuple(self.translation[axis] for axis in order) if self.translation else (),
        )

    def spatial(self, ndim: int) -> tuple[tuple[int, ...], tuple[float, ...], tuple[str | None, ...]]:
        """Sizes, scale and units of the last `ndim` spatial axes, in the order (z,) y, x."""
        order = [self.axes.index(axis) for axis in SPATIAL[-ndim:]]
        return (
            tuple(self.data.shape[axis] for axis in order),
            tuple(self.scale[axis] for axis in order),
            tuple(self.units[axis] for axis in order),
        )

    def frames(self, ndim: int, channels: tuple[int, ...] | None = None) -> list[Frame]:
        """Frames for a model of `ndim` spatial axes: one per time point, and per plane when `ndim` is 2.

        Parameters
        ----------
        ndim : int
            2 or 3.
        channels : tuple of int, optional
            Channels to show, in this order; all of them when not given.

        Raises
        ------
        ImageError
            If the model is 3D and the image is not, or if a channel is not there.
        """
        if ndim not in (2, 3):
            raise ImageError(f"a model of {ndim} spatial axes was given; models are 2D or 3D.")
        if ndim == 3 and self.sizes.get("z", 1) == 1:
            raise ImageError(
                f'{self.name} has no depth (axes "{self.axes}", shape {tuple(self.data.shape)}), but the model is 3D; '
                "take a 2D model or an image stack with a z axis."
            )
        channels = self._channels(channels)
        loops = [axis for axis in "tz" if axis in self.axes and axis not in SPATIAL[-ndim:]]
        positions = itertools.product(*(range(self.sizes[axis]) for axis in loops))
        indices = [dict(zip(loops, position, strict=True)) for position in positions]
        return [Frame(index=index, view=self._view(ndim, channels, index)) for index in indices]

    def channels_for(self, wanted: int, chosen: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """The channels that a network of `wanted` channels gets: those that were chosen, or all of them, which is None.

        Raises
        ------
        ImageError
            If their number is another one, or a chosen one is not there.

        >>> image = Image.from_array(np.zeros((3, 8, 8)), axes="cyx")
        >>> image.channels_for(3), image.channels_for(1, [2])
        (None, (2,))
        """
        channels = self._channels(None if chosen is None else tuple(chosen))
        if len(channels) != wanted:
            raise ImageError.of_channels(len(channels), wanted, name=self.name, there=self.sizes.get("c", 1))
        return None if chosen is None else tuple(map(int, channels))

    def _channels(self, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
        count = self.sizes.get("c", 1)
        if wanted is None:
            return tuple(range(count))
        missing = next((channel for channel in wanted if not 0 <= channel < count), None)
        if missing is not None or not wanted:
            there = "1 channel (0)" if count == 1 else f"{count} channels (0-{count - 1})"
            asked = "no channel" if missing is None else f"channel {missing}"
            raise ImageError(f"{self.name} has {there}, {asked} was asked for; choose one that is there.")
        return tuple(wanted)

    def _view(self, ndim: int, channels: tuple[int, ...], index: dict[str, int]) -> View:
        picks: list[Pick] = [
            index[axis] if axis in index else channels if axis == "c" else range(size) for axis, size in self.sizes.items()
        ]
        order = [self.axes.index(axis) for axis in SPATIAL[-ndim:]]
        channel = self.axes.index("c") if "c" in self.axes else None
        if channel is None and len(channels) > 1:
            # The one channel was asked for several times, which a model with several inputs may want.
            view = View(self.data, picks, [None, *order], name=self.name)
            return View(view, [(0,) * len(channels), *map(range, view.shape[1:])], range(ndim + 1), name=self.name)
        return View(self.data, picks, [channel, *order], name=self.name)


def native(data: ArrayLike, name: str) -> ArrayLike:
    """The array, or a view that gives its values, in native byte order and as the type that others know by its name."""
    dtype = np.dtype(data.dtype)
    # C has two names for 64 bits, and tifffile gives the one that equals int64 and that zarr does not know
    named = np.dtype(dtype.newbyteorder("=").str) if dtype.kind in "iu" else dtype.newbyteorder("=")
    if dtype.isnative and dtype.char == named.char:
        return data
    if type(data) is np.ndarray:
        swapped: np.ndarray[Any, Any] = data.view(named) if dtype.isnative else data.astype(named)
        return swapped
    return View.whole(data, name=name)


# TIFF, BigTIFF, in both byte orders; NDPI, SVS, LSM, STK and others are TIFF inside.
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ZIP_START = b"PK\x03\x04"
_PLAIN_STARTS = {b"\x93NUMPY": "npy", b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}

_CONVERT = "convert it to OME-TIFF or OME-Zarr (Fiji with Bio-Formats, or bioformats2raw, do that)"

_VENDOR_STARTS = {b"ZISRAWFILE": "czi", b"\xda\xce\xbe\x0a": "nd2", b"p\0\0\0": "lif"}

IMAGE_SUFFIXES = {
    "tif", "tiff", "btf", "tf2", "tf8", "ndpi", "svs", "scn", "lsm", "stk", "qptiff", "gel",
    "png", "jpg", "jpeg", "npy", "ozx",
}  # fmt: skip
"""Ends of the names of what is read here."""

# Microscope formats that need the reader of their vendor or Bio-Formats.
_VENDOR_FORMATS = {
    "czi": "Zeiss CZI",
    "lif": "Leica LIF",
    "nd2": "Nikon ND2",
    "oib": "Olympus OIB",
    "oif": "Olympus OIF",
    "oir": "Olympus OIR",
    "vsi": "Olympus VSI",
    "ets": "Olympus ETS",
    "ims": "Imaris IMS",
    "mrxs": "3DHISTECH MRXS",
    "dv": "DeltaVision",
    "mrc": "MRC",
    "h5": "HDF5",
    "hdf5": "HDF5",
    "n5": "N5",
    "nrrd": "NRRD",
    "nii": "NIfTI",
    "dcm": "DICOM",
    "bmp": "BMP",
    "gif": "GIF",
    "webp": "WebP",
    "jp2": "JPEG 2000",
}


@told
def read_image(path: str | Path, *, scene: int | None = None, axes: str | None = None) -> Image:
    """Open an image file; pixels are read when they are needed, where the format allows it.

    Reads TIFF (OME-TIFF, ImageJ and the formats that are TIFF inside, such as NDPI), OME-Zarr 0.4 and 0.5, plain zarr
    arrays, both also zipped (.ozx, .zarr.zip), PNG, JPEG and .npy; with bioio (extra ``bioio``) CZI, ND2, LIF and what else it
    has a reader for. The content decides, not the suffix.

    Parameters
    ----------
    path : str or Path
        File, or folder of a zarr store.
    scene : int, optional
        Which image of a file that holds several, from 0. The first by default, which `Image.note` then says.
    axes : str, optional
        A letter of "tczyx" per axis of the data, where the file does not say what they are, or is wrong.

    Raises
    ------
    ImageError
        If there is no such file, scene or reader, or the file is damaged. One sentence says which.

    >>> from importlib.resources import files
    >>> image = read_image(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    >>> image.axes, image.data.shape, image.frames(2)[0].view.shape
    ('yx', (520, 696), (1, 520, 696))
    """
    path = path_of(path, "an image", ImageError)
    with _damage(path), _warned() as said:
        image = replace(_read(path, scene), scene=scene)
        image = image if axes is None else image.called(axes)
        planes = prod(size for axis, size in image.sizes.items() if axis not in "yx")
        if planes > MOST_PLANES and planes * PLANE_BYTES > prod(image.data.shape) * np.dtype(image.data.dtype).itemsize:
            raise ImageError(
                f'{path.name} has {planes} planes of less than {PLANE_BYTES} bytes (axes "{image.axes}"), which no image has; '
                "name its axes, or give another file."
            )
    notes = [image.note, *(f"What reads the file says: {text}." for text in said[:1])]
    return replace(image, note=" ".join(filter(None, notes)))


@contextmanager
def _warned() -> Iterator[list[str]]:
    """What libraries warn of meanwhile, which would stand beside our own sentences on stderr."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        for kind in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", kind)
        yield said
    said += [" ".join(str(one.message).split()).rstrip(".") for one in caught]


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What a file that is not there, or damaged, raises becomes an `ImageError`."""
    check_readable(path, "an image", ImageError)
    if not path.exists():
        raise ImageError(f"there is no image {path}; check the path.")
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as exc:  # the decoders of damaged files raise anything, down to struct.error
        said = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc  # without the system's number
        what = " ".join(f"{type(exc).__name__}: {said}".split())[:200]
        raise ImageError(f"{path.name} is damaged and cannot be read as an image ({what}).") from exc


def read_store(path: str | Path) -> tuple[Image, tuple[ArrayLike, ...]]:
    """The first image of a zarr store, and all levels of its pyramid as they lie on disk; errors as of `read_image`."""
    from napari_shiftseg.io.ome_zarr import read_pyramid

    path = Path(path)
    with _damage(path):
        return read_pyramid(path)


def describe_file(path: str | Path) -> Image:
    """As `read_image` for the first image of a file, without decoding pixels before they are asked for.

    For who already has the pixels, as a viewer does, and wants to know what they are.
    """
    path = Path(path)
    if path.is_file() and _start(path).startswith(_TIFF_STARTS):
        from napari_shiftseg.io.tiff import read_tiff

        with _damage(path):
            return read_tiff(path, None, lazy=True)
    return read_image(path)


def _read(path: Path, scene: int | None) -> Image:
    if path.is_dir() or _start(path).startswith(_ZIP_START):
        from napari_shiftseg.io.ome_zarr import read_zarr

        return read_zarr(path, scene)
    start = _start(path)
    if start.startswith(_TIFF_STARTS):
        from napari_shiftseg.io.tiff import read_tiff

        return read_tiff(path, scene)
    if scene and _vendor_kind(path, start) not in _VENDOR_FORMATS:
        raise ImageError(f"{path.name} holds one image, scene {scene} was asked for; use scene 0 or leave it out.")
    if plain := next((kind for first, kind in _PLAIN_STARTS.items() if start.startswith(first)), None):
        from napari_shiftseg.io.plain_file import read_plain

        return read_plain(path, plain)
    kind = _vendor_kind(path, start)
    if kind in _VENDOR_FORMATS:
        from napari_shiftseg.io.vendor import READERS, read_vendor

        image = read_vendor(path, kind, scene)
        if image is not None:
            return image
        if kind in READERS:
            raise ImageError(f'{_unread(path, start)} without bioio: pip install "napari-shiftseg[bioio]"; or {_CONVERT}.')
    raise ImageError(f"{_unread(path, start)}; {_CONVERT}.")


def scene_names(path: str | Path) -> tuple[str, ...]:
    """Names of the images that a file holds, in the order of their numbers; one for a file of one image.

    ImageError as of `read_image`.
    """
    path = path_of(path, "an image", ImageError)
    with _damage(path):
        if path.is_dir() or _start(path).startswith(_ZIP_START):
            from napari_shiftseg.io.ome_zarr import zarr_scenes

            found = zarr_scenes(path)
        elif _start(path).startswith(_TIFF_STARTS):
            from napari_shiftseg.io.tiff import tiff_scenes

            found = tiff_scenes(path)
        elif (kind := _vendor_kind(path, _start(path))) in _VENDOR_FORMATS:
            from napari_shiftseg.io.vendor import vendor_scenes

            found = vendor_scenes(path, kind)
        else:
            found = ()
    return found or (path.stem,)


def _vendor_kind(path: Path, start: bytes) -> str:
    """What a file of a microscope is, by its content where that says it, else by its suffix."""
    return next((kind for first, kind in _VENDOR_STARTS.items() if start.startswith(first)), path.suffix.lower().lstrip("."))


def looks_like_image(path: Path) -> bool:
    """Whether a file begins as an image does, or has the name of one, so that it is one or a damaged one; False for others."""
    suffix = path.suffix.lower().lstrip(".")
    if suffix in IMAGE_SUFFIXES or suffix in _VENDOR_FORMATS or path.name.lower().endswith(".zarr.zip"):
        return path.is_file()
    try:
        start = _start(path) if path.is_file() else b""
    except OSError:
        return False
    return start.startswith((*_TIFF_STARTS, *_PLAIN_STARTS))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _unread(path: Path, start: bytes) -> str:
    if not start:
        return f"{path.name} is an empty file"
    suffix = _vendor_kind(path, start)
    if suffix in _VENDOR_FORMATS:
        return f"{path.name} is a {_VENDOR_FORMATS[suffix]} file, which is not read here"
    return f"{path.name} is not a TIFF, PNG, JPEG, .npy or zarr image"
