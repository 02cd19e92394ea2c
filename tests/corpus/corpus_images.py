"""Images: each format whole in all its forms, cut, torn and lying about itself; values, shapes, names, what is no file."""

from __future__ import annotations

import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from case import BAD, EITHER, GOOD, IMAGE, Case, equal_labels, equal_or_said, named, says, segmenting

LOST = ("missing", "cut short", "zeros", "damaged", "breaks off", "lack", "tifffile says")
LEVELS = 51  # of 8 bits, for each of the five grey values


def cases() -> list[Case]:
    """All of images."""
    kinds = (_dtypes, _tiff_forms, _tiff_damage, _ome, _imagej, _png, _jpeg, _npy, _values, _shapes, _places)
    return named("images", ((case.name, case) for kind in kinds for case in kind()))


def pixels(folder: Path) -> np.ndarray:
    """The image of which the labels are known, values 0 to 5."""
    return np.load(folder / IMAGE)


def case(name: str, write: Callable[..., Any], **values: Any) -> Case:
    """A file that is segmented; `write` gets the folder, pixels and chance, and may give the name of the file and options."""

    def make(folder: Path, chance: random.Random) -> list[str]:
        given = write(folder, pixels(folder), chance)
        words = ["image", *(given or ())] if not isinstance(given, str) else [given]
        return segmenting(*(words if given is None or isinstance(given, str) else given))

    return Case(**{"kind": "images", "name": name, "make": make, "new": ("found.tif",), **values})


def whole(name: str, write: Callable[..., Any], **values: Any) -> Case:
    """One that is well, and has the labels that are known."""
    return case(name, write, **{"codes": GOOD, "check": equal_labels, **values})


# -- values of all types -----------------------------------------------------------------------------------------------


def _dtypes() -> Iterator[Case]:
    for code in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "f16"):
        for order in "<>":
            for way in ("npy", "tif"):
                if (way, code) in (("tif", "f16"),) or (code.endswith("1") and order == ">"):
                    continue
                wanted: dict[str, Any] = {"codes": GOOD, "check": equal_labels}
                if code == "f16":
                    wanted = {"codes": EITHER, "check": equal_labels}

                def write(folder: Path, image: np.ndarray, _: random.Random, code=code, order=order, way=way) -> str:
                    values = (image * 7).astype(order + code)
                    if way == "npy":
                        np.save(folder / "image.npy", values)
                    else:
                        import tifffile

                        tifffile.imwrite(folder / "image.tif", values, byteorder=order)
                    return f"image.{way}"

                yield case(f"{way} of {order}{code}", write, **wanted)
    for code in ("c8", "c16"):
        yield case(f"npy of {code}", _npy_of(lambda image, code=code: image.astype(code) * (1 + 1j)))
        yield case(f"tif of {code}", _tif(lambda image, code=code: image.astype(code) * (1 + 1j)))
    yield whole("npy of bool", _npy_of(lambda image: image > 0), codes=EITHER, check=None)
    for kind in ("O", "S3", "U3", "M8[s]", "m8[s]", "V4"):
        yield case(f"npy of {kind}", _npy_of(lambda image, kind=kind: np.zeros(image.shape, kind), pickled=kind == "O"))
    yield case("npy of records", _npy_of(lambda image: np.zeros(image.shape, [("a", "u1"), ("b", "f4")])))


def _npy_of(change: Callable[[np.ndarray], np.ndarray], *, pickled: bool = False) -> Callable[..., str]:
    def write(folder: Path, image: np.ndarray, _: random.Random) -> str:
        np.save(folder / "image.npy", change(image), allow_pickle=pickled)
        return "image.npy"

    return write


def _tif(change: Callable[[np.ndarray], np.ndarray] | None = None, **values: Any) -> Callable[..., str]:
    def write(folder: Path, image: np.ndarray, _: random.Random) -> str:
        import tifffile

        tifffile.imwrite(folder / "image.tif", image if change is None else change(image), **values)
        return "image.tif"

    return write


# -- TIFF --------------------------------------------------------------------------------------------------------------


def _tiff_forms() -> Iterator[Case]:
    for compression in ("zlib", "lzw", "zstd", "packbits", "lzma", "png", "jpeg2000", "jpegxl", "webp"):
        lossless = compression not in ("jpeg2000", "jpegxl", "webp")
        more = {"codes": GOOD, "check": equal_labels} if lossless else {"codes": EITHER, "check": None}
        if compression != "webp":
            yield case(f"tif with {compression}", _tif(compression=compression, photometric="minisblack"), **more)
    for name, values in {
        "tiles": {"tile": (32, 32)},
        "tiles beyond its edge": {"tile": (256, 256)},
        "one row a strip": {"rowsperstrip": 1},
        "BigTIFF": {"bigtiff": True},
        "predictor": {"compression": "zlib", "predictor": True},
        "OME": {"ome": True, "metadata": {"axes": "YX"}},
        "ImageJ": {"imagej": True},
        "shaped": {"metadata": {"axes": "YX", "more": "x"}},
        "inverted words": {"photometric": "miniswhite"},
        "a strange description": {"description": "\x1b[31mred\x07"},
        "many tags": {"extratags": [(65000 + k, 2, 0, "x" * 100, True) for k in range(40)]},
    }.items():
        yield whole(f"tif of {name}", _tif(**values))


def _tiff_bytes(folder: Path, image: np.ndarray, **values: Any) -> bytes:
    import tifffile

    file = BytesIO()
    tifffile.imwrite(file, image, **values)
    return file.getvalue()


def _tiff_damage() -> Iterator[Case]:
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "zlib": {"compression": "zlib"},
        "tiled": {"tile": (32, 32), "compression": "zlib"},
        "raw tiles": {"tile": (32, 32)},
        "ome": {"ome": True, "metadata": {"axes": "YX"}},
        "imagej": {"imagej": True},
        "big": {"bigtiff": True},
    }
    for kind, values in kinds.items():
        for share in (0.02, 0.3, 0.6, 0.9, 0.99):

            def cut(folder: Path, image: np.ndarray, _: random.Random, values=values, share=share) -> str:
                data = _tiff_bytes(folder, image, **values)
                (folder / "image.tif").write_bytes(data[: int(share * len(data))])
                return "image.tif"

            yield case(f"cut {kind} tif at {share}", cut, codes=EITHER, check=equal_or_said(*LOST))
        for number in range(4):

            def flip(folder: Path, image: np.ndarray, chance: random.Random, values=values) -> str:
                data = bytearray(_tiff_bytes(folder, image, **values))
                for _ in range(6):
                    data[chance.randrange(4, min(len(data), 600))] ^= 1 << chance.randrange(8)
                (folder / "image.tif").write_bytes(data)
                return "image.tif"

            yield case(f"flipped {kind} tif {number}", flip, codes=EITHER)
    lies = {
        "no strips": (273, None),
        "strips beyond the end": (273, 10**9),
        "no bytes in strips": (279, 0),
        "too many bytes in strips": (279, 2**31),
        "a width of 4 billion": (256, 2**32 - 1),
        "a height of 4 billion": (257, 2**32 - 1),
        "a width of nought": (256, 0),
        "a height of nought": (257, 0),
        "twice its height": (257, 192),
        "bits of 13": (258, 13),
        "bits of 0": (258, 0),
        "samples of 65535": (277, 65535),
        "samples of 0": (277, 0),
        "a compression of nobody": (259, 12345),
        "a compression that it has not": (259, 8),
        "rows of 0": (278, 0),
        "a sample format of nobody": (339, 77),
        "planes apart": (284, 2),
    }
    for name, (tag, value) in lies.items():

        def lie(folder: Path, image: np.ndarray, _: random.Random, tag=tag, value=value) -> str:
            data = bytearray(_tiff_bytes(folder, image, rowsperstrip=96))
            _set_tag(data, tag, value)
            (folder / "image.tif").write_bytes(data)
            return "image.tif"

        yield case(f"tif that says {name}", lie, codes=EITHER, check=equal_or_said(*LOST))
    yield case("tif whose list of planes is a ring", _ring, codes=EITHER)
    yield case("tif of a head alone", _bytes("image.tif", b"II*\0\x08\0\0\0"))
    yield case("tif without planes", _bytes("image.tif", b"II*\0\0\0\0\0"))
    yield case("tif of 60,000 tags", _bytes("image.tif", b"II*\0\x08\0\0\0" + struct.pack("<H", 60000) + b"\0" * 1000))


def _set_tag(data: bytearray, tag: int, value: int | None) -> None:
    """Another value of a tag of the first plane; None takes the tag away."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for k in range(count):
        place = at + 2 + 12 * k
        code, _, number = struct.unpack_from("<HHI", data, place)
        if code == tag:
            if value is None:
                struct.pack_into("<H", data, place, 65123)
            else:
                struct.pack_into("<HHII", data, place, tag, 4, max(number, 1) if number == 1 else 1, value)
            return
    for k in range(count):  # it has none: one that does not matter becomes it
        place = at + 2 + 12 * k
        if struct.unpack_from("<H", data, place)[0] in (305, 282):
            struct.pack_into("<HHII", data, place, tag, 4, 1, value or 0)
            return


def _ring(folder: Path, image: np.ndarray, _: random.Random) -> str:
    data = bytearray(_tiff_bytes(folder, np.stack([image] * 3), photometric="minisblack"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    (folder / "image.tif").write_bytes(data)
    return "image.tif"


def _bytes(name: str, data: bytes) -> Callable[..., str]:
    def write(folder: Path, image: np.ndarray, _: random.Random) -> str:
        (folder / name).write_bytes(data)
        return name

    return write


# -- OME-XML and ImageJ ------------------------------------------------------------------------------------------------

OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="80" SizeY="96" SizeZ="1" SizeC="1" '
    'SizeT="1" PhysicalSizeX="0.5"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/></Pixels>'
    "</Image></OME>"
)


def _ome() -> Iterator[Case]:
    changes: dict[str, tuple[str, str]] = {
        "an infinite pixel": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="inf"'),
        "a pixel of NaN": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="nan"'),
        "a pixel of nought": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="0"'),
        "a negative pixel": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="-0.5"'),
        "a pixel of words": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="half &#27;[31m a micron"'),
        "a pixel of 1e400": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="1e400"'),
        "a pixel of 1e-300": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="1e-300"'),
        "a comma in its pixel": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="0,5"'),
        "a unit of nobody": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="0.5" PhysicalSizeXUnit="furlong"'),
        "a unit of control characters": ('PhysicalSizeX="0.5"', 'PhysicalSizeX="0.5" PhysicalSizeXUnit="&#7;&#155;31m"'),
        "no type": ('Type="uint8"', ""),
        "another type": ('Type="uint8"', 'Type="double"'),
        "a type of nobody": ('Type="uint8"', 'Type="quux"'),
        "another width": ('SizeX="80"', 'SizeX="81"'),
        "a negative width": ('SizeX="80"', 'SizeX="-80"'),
        "a width of words": ('SizeX="80"', 'SizeX="wide"'),
        "a width of 10^30": ('SizeX="80"', f'SizeX="{10**30}"'),
        "no height": ('SizeY="96"', ""),
        "a billion times": ('SizeT="1"', 'SizeT="1000000000"'),
        "a billion channels": ('SizeC="1"', 'SizeC="1000000000"'),
        "three depths": ('SizeZ="1"', 'SizeZ="3"'),
        "an order of nobody": ('DimensionOrder="XYZCT"', 'DimensionOrder="ABCDE"'),
        "an order of two": ('DimensionOrder="XYZCT"', 'DimensionOrder="XY"'),
        "no planes": ('<TiffData IFD="0" PlaneCount="1"/>', ""),
        "a plane that is not there": ('IFD="0"', 'IFD="77"'),
        "a plane of words": ('IFD="0"', 'IFD="first"'),
        "a plane of -1": ('IFD="0"', 'IFD="-1"'),
        "a billion planes": ('PlaneCount="1"', 'PlaneCount="1000000000"'),
        "a place of a billion": ('IFD="0"', 'FirstT="1000000000" IFD="0"'),
        "a companion that is gone": (
            '<TiffData IFD="0" PlaneCount="1"/>',
            '<TiffData IFD="0" PlaneCount="1"><UUID FileName="gone.ome.tif">urn:uuid:1</UUID></TiffData>',
        ),
        "a companion elsewhere": (
            '<TiffData IFD="0" PlaneCount="1"/>',
            '<TiffData IFD="0" PlaneCount="1"><UUID FileName="../../../../etc/passwd">urn:uuid:1</UUID></TiffData>',
        ),
        "samples of words": ('SamplesPerPixel="1"', 'SamplesPerPixel="one"'),
        "no channel": ('<Channel ID="Channel:0:0" SamplesPerPixel="1"/>', ""),
        "no end": ("</Image></OME>", ""),
        "a word in between": ("</Pixels>", "<<<</Pixels>"),
        "no letters": ("</Image>", "\x00\x01</Image>"),
        "a long name": ('<Image ID="Image:0"', f'<Image ID="Image:0" Name="{"n" * 100000}"'),
        "laughs": (
            "<OME ",
            '<!DOCTYPE l [<!ENTITY a "haha">'
            + "".join(f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9))
            + ']><OME Creator="&j;" ',
        ),
        "a million levels": ("</Image>", "<a>" * 10**6 + "</a>" * 10**6 + "</Image>"),
        "a million levels without an end": ("</Image>", "<a>" * 10**6),
        "a million elements": ("</Image>", "<a/>" * 10**6 + "</Image>"),
        "a file of the system": ("<OME ", '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><OME Creator="&a;" '),
        "a set": ("<Image ", '<BinaryOnly MetadataFile="gone.companion.ome" UUID="urn:uuid:1"/><Image '),
    }
    for name, (old, new) in changes.items():

        def write(folder: Path, image: np.ndarray, _: random.Random, old=old, new=new) -> str:
            import tifffile

            assert old in OME
            text = OME.replace(old, new).encode("utf-8")
            tifffile.imwrite(folder / "image.ome.tif", image, description=text, metadata=None)
            return "image.ome.tif"

        yield case(f"OME that says {name}", write, codes=EITHER, check=equal_or_said(*LOST))
    yield case("a companion file", _companion, codes=BAD)


def _companion(folder: Path, image: np.ndarray, _: random.Random) -> str:
    (folder / "set.companion.ome").write_text(OME, encoding="utf-8")
    return "set.companion.ome"


def _imagej() -> Iterator[Case]:
    head = "ImageJ=1.53\nimages=1\n"
    texts = {
        "a billion planes": "ImageJ=1.53\nimages=1000000000\nslices=1000000000\n",
        "no planes": "ImageJ=1.53\nimages=0\n",
        "minus a plane": "ImageJ=1.53\nimages=-1\nslices=-1\n",
        "planes of words": "ImageJ=1.53\nimages=many\n",
        "a spacing of NaN": f"{head}spacing=nan\n",
        "a spacing of words": f"{head}spacing=wide\n",
        "a unit of control characters": f"{head}unit=\x1b[2J\x07\n",
        "a unit of escapes": f"{head}unit=\\u001b[31m\n",
        "a unit of half an escape": f"{head}unit=\\ud800\n",
        "an interval of 1e400": f"{head}finterval=1e400\n",
        "hyperstacks that it is not": f"{head}hyperstack=true\nchannels=7\nframes=3\n",
        "nothing": "ImageJ=\n",
        "a min above its max": f"{head}min=9\nmax=-9\n",
    }
    for name, text in texts.items():

        def write(folder: Path, image: np.ndarray, _: random.Random, text=text) -> str:
            import tifffile

            tifffile.imwrite(folder / "image.tif", image, description=text.encode("latin-1"), metadata=None)
            return "image.tif"

        yield case(f"ImageJ that says {name}", write, codes=EITHER, check=equal_or_said(*LOST, "announces"))


# -- PNG and JPEG ------------------------------------------------------------------------------------------------------


def _png_bytes(image: np.ndarray, **values: Any) -> bytes:
    from imagecodecs import png_encode

    return bytes(png_encode(np.ascontiguousarray(image), **values))


def _png() -> Iterator[Case]:
    forms: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "8 bits": lambda image: image * LEVELS,
        "16 bits": lambda image: image.astype("u2") * 13000,
        "alpha": lambda image: np.stack([image * LEVELS, np.full_like(image, 255)], -1),
        "no alpha at all": lambda image: np.stack([image * LEVELS, np.zeros_like(image)], -1),
    }
    for name, change in forms.items():
        yield whole(
            f"png of {name}", lambda folder, image, _, change=change: _put(folder, "image.png", _png_bytes(change(image)))
        )
    for name in ("colours", "colours and alpha"):
        count = 3 + ("alpha" in name)
        yield case(
            f"png of {name}",
            lambda folder, image, _, count=count: _put(folder, "image.png", _png_bytes(np.stack([image] * count, -1))),
        )
    for share in (0.001, 0.1, 0.5, 0.9, 0.98):
        yield case(
            f"cut png at {share}",
            lambda folder, image, _, share=share: _put(folder, "image.png", _cut(_png_bytes(image * LEVELS), share)),
            codes=EITHER,
            check=equal_labels,
        )
    for number in range(12):
        yield case(
            f"flipped png {number}",
            lambda folder, image, chance: _put(folder, "image.png", _flipped(_png_bytes(image * LEVELS), chance, 8)),
            codes=EITHER,
            check=equal_labels,
        )
    for name, (wide, high) in {
        "a billion": (10**9, 10**9),
        "nought": (0, 0),
        "half": (80, 48),
        "twice": (80, 192),
        "a wide line": (2**31 - 1, 1),
    }.items():

        def size(folder: Path, image: np.ndarray, _: random.Random, wide=wide, high=high) -> str:
            data = bytearray(_png_bytes(image * LEVELS))
            struct.pack_into(">II", data, 16, wide, high)
            struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
            return _put(folder, "image.png", bytes(data))

        yield case(f"png that says {name}", size, codes=EITHER if name == "half" else BAD)
    yield whole(
        "png with more behind", lambda folder, image, _: _put(folder, "image.png", _png_bytes(image * LEVELS) + b"x" * 999)
    )
    yield case("png of a head alone", _bytes("image.png", b"\x89PNG\r\n\x1a\n"))
    yield case(
        "png called tif",
        lambda folder, image, _: _put(folder, "image.tif", _png_bytes(image * LEVELS)),
        codes=GOOD,
        check=equal_labels,
    )


def _jpeg() -> Iterator[Case]:
    def data(image: np.ndarray, count: int = 1) -> bytes:
        from imagecodecs import jpeg8_encode

        image = image * LEVELS
        return bytes(jpeg8_encode(image if count == 1 else np.stack([image] * count, -1), level=100))

    yield case("jpeg", lambda folder, image, _: _put(folder, "image.jpg", data(image)), codes=GOOD)
    yield case("jpeg of colours", lambda folder, image, _: _put(folder, "image.jpg", data(image, 3)))
    yield case("jpeg of four colours", lambda folder, image, _: _put(folder, "image.jpg", data(image, 4)))
    for share in (0.005, 0.05, 0.2, 0.5, 0.8, 0.97, 0.999):
        yield case(
            f"cut jpeg at {share}", lambda folder, image, _, share=share: _put(folder, "image.jpg", _cut(data(image), share))
        )
        yield case(
            f"jpeg cut at {share} with an end",
            lambda folder, image, _, share=share: _put(folder, "image.jpg", _cut(data(image), share) + b"\xff\xd9"),
            codes=EITHER,
            check=says("JPEG") if share < 0.9 else None,
        )
    for number in range(8):
        yield case(
            f"flipped jpeg {number}",
            lambda folder, image, chance: _put(folder, "image.jpg", _flipped(data(image), chance, 4)),
            codes=EITHER,
        )
    yield case("jpeg of a head alone", _bytes("image.jpg", b"\xff\xd8\xff"))


def _put(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name


def _cut(data: bytes, share: float) -> bytes:
    return data[: max(1, int(share * len(data)))]


def _flipped(data: bytes, chance: random.Random, count: int) -> bytes:
    torn = bytearray(data)
    for _ in range(count):
        torn[chance.randrange(8, len(torn))] ^= 1 << chance.randrange(8)
    return bytes(torn)


# -- npy ---------------------------------------------------------------------------------------------------------------


def _npy_bytes(header: str, data: bytes = b"\0" * 7680, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def _npy() -> Iterator[Case]:
    headers = {
        "a negative shape": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 80)}",
        "a shape of 10^18": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000000000)}",
        "a shape of 10^30": f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**30}, 2)}}",
        "a shape of a word": "{'descr': '|u1', 'fortran_order': False, 'shape': 'xy'}",
        "a shape of floats": "{'descr': '|u1', 'fortran_order': False, 'shape': (96.0, 80.0)}",
        "a shape of bools": "{'descr': '|u1', 'fortran_order': False, 'shape': (True, True)}",
        "no shape": "{'descr': '|u1', 'fortran_order': False}",
        "a type of nobody": "{'descr': '|q9', 'fortran_order': False, 'shape': (96, 80)}",
        "a type that calls": "{'descr': __import__('os').system('touch executed'), 'fortran_order': False, 'shape': (2,)}",
        "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (96, 80)}",
        "an order of words": "{'descr': '|u1', 'fortran_order': 'yes', 'shape': (96, 80)}",
        "brackets": "[" * 5000,
        "nothing": "",
        "a list": "[1, 2]",
    }
    for name, header in headers.items():
        yield case(f"npy that says {name}", _bytes("image.npy", _npy_bytes(header)))
    for share in (0.001, 0.01, 0.1, 0.5, 0.999):
        yield case(
            f"cut npy at {share}",
            lambda folder, image, _, share=share: _put(folder, "image.npy", _cut((folder / IMAGE).read_bytes(), share)),
        )
    yield whole(
        "npy with more behind", lambda folder, image, _: _put(folder, "image.npy", (folder / IMAGE).read_bytes() + b"x" * 99)
    )
    yield whole("npy in the order of Fortran", _npy_of(np.asfortranarray))
    yield case("npy of version 9", _bytes("image.npy", _npy_bytes("{}", version=b"\x09\x00")))
    yield case("npy of a pickle that acts", _pickled)
    yield case("npz", lambda folder, image, _: np.savez(folder / "image.npz", image) or "image.npz")


def _pickled(folder: Path, image: np.ndarray, _: random.Random) -> str:
    np.save(folder / "image.npy", np.array([Acts()], dtype=object), allow_pickle=True)
    return "image.npy"


class Acts:
    """What leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


# -- values and shapes -------------------------------------------------------------------------------------------------


def _values() -> Iterator[Case]:
    def some(value: float) -> Callable[[np.ndarray], np.ndarray]:
        def change(image: np.ndarray) -> np.ndarray:
            image = image.astype("f8")
            image[:3, :5] = value
            return image

        return change

    for name, value in {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf}.items():
        yield case(f"some {name}", _npy_of(some(value)), codes=GOOD, check=says("pixels"))
        yield case(f"nothing but {name}", _npy_of(lambda image, value=value: np.full(image.shape, value)), codes=EITHER)
    for name, value in {"1e300": 1e300, "-1e300": -1e300, "1e-300": 1e-300, "the largest float": 3.4e38}.items():
        yield case(f"some {name}", _npy_of(some(value)), codes=EITHER)
        yield case(f"all times {name}", _npy_of(lambda image, value=value: image * value), codes=EITHER)
    for name, code in (("u1", 255), ("u8", 2**64 - 1), ("i8", -(2**63)), ("u4", 2**32 - 1)):
        yield case(
            f"constant end of {name}",
            _npy_of(lambda image, name=name, code=code: np.full(image.shape, code, name)),
            codes=EITHER,
        )
    yield case("constant", _npy_of(np.zeros_like), codes=EITHER)
    yield case("NaN beyond 4 million pixels", _npy_of(_late_nan), codes=EITHER, check=says("no data"))


def _late_nan(image: np.ndarray) -> np.ndarray:
    large = np.tile(image.astype("f4"), (24, 24))
    large[-1, -3] = np.nan
    return large


def _shapes() -> Iterator[Case]:
    for shape in (
        (1, 1),
        (1, 80),
        (96, 1),
        (2, 2),
        (3, 3),
        (1, 1, 1),
        (0, 5),
        (5, 0),
        (),
        (7,),
        (1, 1, 1, 1, 1),
        (2, 2, 2, 2, 2, 2),
        (1, 4000),
    ):
        yield case(
            f"shape {'x'.join(map(str, shape)) or 'none'}",
            _npy_of(lambda image, shape=shape: np.ones(shape, "u1")),
            codes=EITHER,
        )
    for axes, shape in (("tyx", (2, 96, 80)), ("zyx", (2, 96, 80)), ("cyx", (1, 96, 80))):
        yield case(
            f"axes {axes}",
            lambda folder, image, _, axes=axes, shape=shape: (
                _npy_of(lambda a: np.broadcast_to(a, shape).copy())(folder, image, _),
                "--axes",
                axes,
            ),
            codes=GOOD,
            check=_all_planes,
        )
    for axes in ("cyx", "yxc", "xyz", "yxt", "tzcyx", "xy"):
        yield case(
            f"a plane called {axes}",
            lambda folder, image, _, axes=axes: (IMAGE, "--axes", axes),
            codes=EITHER if axes == "xy" else BAD,
        )


def _all_planes(folder: Path, said: str) -> str:
    import tifffile

    found, wanted = tifffile.imread(folder / "found.tif"), np.load(folder / "labels.npy")
    return "" if (found.reshape(-1, *wanted.shape) == wanted).all() else "planes differ"


def _of_the_folder(folder: Path, said: str) -> str:
    import tifffile

    found, wanted = tifffile.imread(folder / "found.tif" / "base.tif"), np.load(folder / "labels.npy")
    return "" if (found == wanted).all() else "pixels differ"


# -- what is no file ---------------------------------------------------------------------------------------------------


def _places() -> Iterator[Case]:
    def made(act: Callable[[Path], object]) -> Callable[..., str]:
        def write(folder: Path, image: np.ndarray, _: random.Random) -> str:
            act(folder / "image")
            return "image"

        return write

    def bound(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)

    yield case("a pipe", made(os.mkfifo))
    yield case("a socket", made(bound))
    yield case("a device", lambda *_: "/dev/zero")
    yield case("an empty device", lambda *_: "/dev/null")
    yield case("a file of the kernel", lambda *_: "/proc/self/mem")
    yield case("a folder", made(Path.mkdir))
    yield case("nothing", lambda *_: "image")
    yield case("no name", lambda *_: "")
    yield case("a dot", lambda *_: ".", codes=GOOD, check=_of_the_folder)  # as any folder of images
    yield case("the root", lambda *_: "/")
    yield case("a NUL in its name", lambda *_: "im\0age")
    yield case("a name of 5000 letters", lambda *_: "i" * 5000)
    yield case("a path below a file", lambda *_: f"{IMAGE}/image")
    yield case("a link to itself", made(lambda path: path.symlink_to(path)))
    yield case("a link to nothing", made(lambda path: path.symlink_to("gone")))
    yield whole("a link to the image", made(lambda path: path.symlink_to(IMAGE)))
    yield case("an address", lambda *_: "http://127.0.0.1:9/image.zarr")
    yield case("an address of a file", lambda folder, *_: f"file://{folder}/{IMAGE}", codes=BAD)
    for name, data in {
        "empty": b"",
        "text": b"hello\n",
        "binary": bytes(range(256)) * 9,
        "zip": b"PK\x03\x04" + b"x" * 99,
        "gzip": b"\x1f\x8b" + b"x" * 99,
        "pdf": b"%PDF-1.4\n",
        "html": b"<!DOCTYPE html><html>",
        "json": b"{}",
    }.items():
        for suffix in ("tif", "czi", "nd2"):
            yield case(f"{name} called {suffix}", _bytes(f"image.{suffix}", data))
    for name in (
        "im\nage.npy",
        "im\x1b[31mage.npy",
        "im age.npy",
        "im;age.npy",
        "ima\u202ege.npy",
        "--image.npy",
        "im\udcffage.npy",
    ):
        label = name.encode("unicode_escape", "surrogatepass").decode()
        yield whole(f"image named {label}", lambda folder, image, _, name=name: (np.save(folder / name, image), f"./{name}")[1])
        yield case(
            f"broken image named {label}",
            lambda folder, image, _, name=name: ((folder / name).write_bytes(b"x"), f"./{name}")[1],
        )
