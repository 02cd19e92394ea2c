"""Images in: one function that opens a file by its content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.frames import Frame, Image
from napari_shiftseg.io.view import ArrayLike, View

__all__ = ["Frame", "Image", "View", "describe_file", "read_image", "read_store"]

# TIFF, BigTIFF, in both byte orders; NDPI, SVS, LSM, STK and others are TIFF inside.
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ZIP_START = b"PK\x03\x04"

_CONVERT = "convert it to OME-TIFF or OME-Zarr (Fiji with Bio-Formats, or bioformats2raw, do that)"

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


def read_image(path: str | Path, *, scene: int | None = None, axes: str | None = None) -> Image:
    """Open an image file; pixels are read when they are needed, where the format allows it.

    Reads TIFF (OME-TIFF, ImageJ and the formats that are TIFF inside, such as NDPI), OME-Zarr 0.4 and 0.5, plain zarr
    arrays, both also zipped (.ozx, .zarr.zip), PNG, JPEG and .npy. The content decides, not the suffix.

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
    """
    path = Path(path)
    with _damage(path):
        image = replace(_read(path, scene), scene=scene)
        return image if axes is None else image.called(axes)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What a file that is not there, or damaged, raises becomes an `ImageError`."""
    if not path.exists():
        raise ImageError(f"there is no image {path}; check the path.")
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as exc:  # the decoders of damaged files raise anything, down to struct.error
        what = f"{type(exc).__name__}: {exc}"
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
    if scene:
        raise ImageError(f"{path.name} holds one image, scene {scene} was asked for; use scene 0 or leave it out.")
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(path)
    if start.startswith(b"\x89PNG"):
        from imagecodecs import png_decode

        return _from_samples(png_decode(path.read_bytes()), path)
    if start.startswith(b"\xff\xd8\xff"):
        from imagecodecs import jpeg8_decode

        return _from_samples(jpeg8_decode(path.read_bytes()), path)
    raise ImageError(f"{_unread(path, start)}; {_CONVERT}.")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _unread(path: Path, start: bytes) -> str:
    if not start:
        return f"{path.name} is an empty file"
    suffix = "czi" if start.startswith(b"ZISRAWFILE") else path.suffix.lower().lstrip(".")
    if suffix in _VENDOR_FORMATS:
        return f"{path.name} is a {_VENDOR_FORMATS[suffix]} file, which is not read here"
    return f"{path.name} is not a TIFF, PNG, JPEG, .npy or zarr image"


def _read_npy(path: Path) -> Image:
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    return _from_file(data, path)


def _from_samples(data: npt.NDArray[Any], path: Path) -> Image:
    """Image from decoded PNG or JPEG: yx, or yxc with 2 or 4 samples where the last is alpha."""
    if data.ndim == 3 and data.shape[2] in (2, 4):
        data = np.ascontiguousarray(data[:, :, : data.shape[2] - 1])
        note = "The alpha channel was dropped."
    else:
        note = ""
    if data.ndim == 3 and data.shape[2] == 1:
        data = data[:, :, 0]
    return _from_file(data, path, axes="yxc"[: data.ndim], note=note)


def _from_file(data: npt.NDArray[Any], path: Path, *, axes: str | None = None, note: str = "") -> Image:
    image = Image.from_array(data, axes=axes, name=path.stem)
    return replace(image, source=str(path), note=note or image.note)
