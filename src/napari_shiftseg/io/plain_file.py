"""PNG, JPEG and .npy in: files that say of their pixels no more than how many there are."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.constants import EAGER_BYTES, INFLATED, LARGEST_HEADER
from napari_shiftseg.io.image import Image
from napari_shiftseg.io.raw_file import RawFile
from napari_shiftseg.views import ArrayLike, View

# Bits that a decoder takes for pixels where a scan lacks some, and passes over where it is whole: any, with restart markers.
_MORE = b"".join(
    bytes(73 * step % 251 for step in range(64)) + bytes((0xFF, 0xD0 + marker)) for marker in (*range(8), *range(8))
)


def read_plain(path: Path, kind: str) -> Image:
    """The image of a file of this kind, "npy", "png" or "jpeg"."""
    return {"npy": _read_npy, "png": _read_png, "jpeg": _read_jpeg}[kind](path)


def _read_png(path: Path) -> Image:
    from imagecodecs import png_decode

    return _from_samples(png_decode(_pixels_of_png(path.read_bytes(), path)), path)


def _read_jpeg(path: Path) -> Image:
    from imagecodecs import jpeg8_decode

    data = path.read_bytes()
    end = data.rfind(b"\xff\xd9")
    pixels = jpeg8_decode(data)
    # What lacks would be grey: there is no end after the last scan, or more of the scan before its end is read as pixels.
    if end < data.rfind(b"\xff\xda") or not np.array_equal(jpeg8_decode(data[:end] + _MORE + data[end:]), pixels):
        raise ImageError(f"{path.name} is a JPEG that was cut short; get the whole file.")
    return _from_samples(pixels, path)


def _pixels_of_png(data: bytes, path: Path) -> bytes:
    """A PNG with the parts alone that pixels come from: of others, and of damage, libpng writes lines on stderr.

    ImageError if it is cut short, or such a part is damaged.
    """
    kept, at, inflate, most = [data[:8]], 8, zlib.decompressobj(), _bytes_of_png(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        part, at = data[at : at + 12 + length], at + 12 + length
        if at > len(data):
            break
        if not (kind[:1].isupper() or kind == b"tRNS"):
            continue  # text, profiles, times
        right = zlib.crc32(part[4:-4]) == int.from_bytes(part[-4:], "big")
        try:
            for begin in range(8, len(part) - 4, INFLATED) if kind == b"IDAT" and right else ():
                most -= len(inflate.decompress(part[begin : min(begin + INFLATED, len(part) - 4)]))
                if most < 0:
                    raise ImageError(f"{path.name} is a PNG that unpacks to more than its pixels; the file is damaged.")
        except zlib.error:
            right = False
        if not right:
            raise ImageError(f"{path.name} is a PNG with a damaged part; get the whole file.")
        kept.append(part)
        if kind == b"IEND" and inflate.eof:
            return b"".join(kept)
    raise ImageError(f"{path.name} is a PNG that was cut short; get the whole file.")


def _bytes_of_png(data: bytes) -> int:
    """What the pixels of a PNG unpack to at most, each row with its filter and, interlaced, with up to seven more."""
    width, height, depth, kind = map(int, struct.unpack_from(">IIBB", data.ljust(26, b"\0"), 16))
    bits = width * depth * {2: 3, 4: 2, 6: 4}.get(kind, 1)
    return 2 * height * (bits // 8 + 8) + INFLATED


def _read_npy(path: Path) -> Image:
    """Pixels in memory where they are few, as those of a TIFF; else as they lie in the file."""
    with path.open("rb") as file:
        start = file.read(12)
    header = int.from_bytes(start[8:12] if start[6:7] > b"\x01" else start[8:10], "little")
    if header > LARGEST_HEADER:  # before numpy reads it, which it does however long it is
        raise ImageError(f"{path.name} says a header of {header} bytes, more than an array takes; the file is damaged.")
    laid = np.load(path, mmap_mode="r", allow_pickle=False)  # which reads the header; what lies behind it is not touched
    turned = laid.flags.f_contiguous and not laid.flags.c_contiguous
    shape = laid.shape[::-1] if turned else laid.shape
    if laid.dtype.hasobject or not laid.size:
        return _from_file(laid, path)
    data: ArrayLike = RawFile(path, dtype=laid.dtype, offset=int(laid.offset), shape=shape)
    if turned:
        data = View.whole(data, range(laid.ndim)[::-1], name=path.name)
    return _from_file(data[...] if laid.nbytes <= EAGER_BYTES else data, path)


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


def _from_file(data: ArrayLike, path: Path, *, axes: str | None = None, note: str = "") -> Image:
    image = Image.from_array(data, axes=axes, name=path.stem)
    return replace(image, source=str(path), note=note or image.note)
