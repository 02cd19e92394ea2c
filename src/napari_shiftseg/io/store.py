"""Zarr stores that others wrote, read with care: only arrays of numbers are decoded, and no chunk goes missing unseen.

Metadata are looked at before zarr makes anything of them, so that no codec runs that could run code, and no file of a few bytes
asks for more memory than there is.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, ZipStore

from napari_shiftseg.errors import ImageError, OutOfMemoryError
from napari_shiftseg.io.constants import (
    CHUNK_SPARE,
    LARGEST_EDGE,
    LARGEST_METADATA,
    LEAST_SHARE,
    MOST_ABSENT_CHUNKS,
    MOST_ABSENT_PIXELS,
    MOST_LISTED,
    MOST_PARTS,
    MOST_PLANES,
    SLIDES,
)
from napari_shiftseg.io.unpacked import unpacked_size
from napari_shiftseg.machine import free_memory

# What turns bytes into numbers and nothing else; codecs of `imagecodecs` decode pictures.
_CODECS = frozenset(
    ("bytes", "transpose", "sharding_indexed", "blosc", "gzip", "zstd", "crc32c", "zlib", "bz2", "lzma", "lz4", "delta")
).union(
    ("fixedscaleoffset", "quantize", "bitround", "astype", "shuffle", "packbits", "crc32", "adler32", "fletcher32", "pcodec")
)
_NAMES = frozenset(("bool", "float16", "float32", "float64", "complex64", "complex128")).union(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
)
FILES_KEY = "napari-shiftseg-files"
"""Attribute of an array that this package has finished: its files of chunks; of those that hold zeros alone there is none."""
_METADATA = ("zarr.json", ".zarray", ".zmetadata")
_DESCRIPTIONS = (*_METADATA, ".zgroup", ".zattrs")


def description(data: bytes, key: str) -> Any:
    """What JSON says; ImageError for what is none, and for more lists and tables than any description has."""
    if (parts := data.count(b"[") + data.count(b"{")) > MOST_PARTS:  # Python takes 64 bytes for one of two
        raise ImageError(f"{key} of the store has {parts} lists and tables, more than a description takes; it is damaged.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ImageError(f"{key} of the store is no JSON ({exc}); the metadata are broken.") from exc


class _Checked:
    """What both kinds of stores do with what they read."""

    def check_metadata(self, key: str, data: bytes) -> list[Mapping[str, Any]]:
        """Refuse metadata of arrays that are not of numbers, or of chunks larger than the memory; else what they describe.

        So is an array whose pixels nothing on the disk stands for, of more of them than can be read in a sane time.
        """
        found = description(data, key)
        described = list(_arrays_of(found, key))
        for one in described:
            _check_array(one, key)
        if described and described[0] is found:  # and not one that is described together with others in a group
            self._check_announced(found, key)
        return described

    def chunks_there(self, array: str) -> frozenset[str] | None:
        """Keys of the chunks of an array; None where there are too many to list."""
        raise NotImplementedError

    def _check_announced(self, found: Mapping[str, Any], key: str) -> None:
        shape, chunks = [int(edge) for edge in found["shape"]], _chunk_shape(found)
        grid = [-(-size // edge) for size, edge in zip(shape, chunks, strict=True)]
        if prod(shape) <= MOST_ABSENT_PIXELS and prod(grid) <= MOST_ABSENT_CHUNKS:
            return
        array = key.rpartition("/")[0]
        if (names := self.chunks_there(array)) is None:
            return
        there = len(_places(names, array, grid))
        # somebody wrote something there, as who marks few objects on a slide, or says that there is no more
        most = SLIDES if there or _attribute(found, FILES_KEY) is not None else 1
        much = prod(shape) > most * MOST_ABSENT_PIXELS or prod(grid) > most * MOST_ABSENT_CHUNKS
        if much and there * LEAST_SHARE < prod(grid):
            raise ImageError(
                f"{key} of the store announces {prod(shape)} pixels in {prod(grid)} chunks, of which {there or 'none'} "
                f"{'is' if there == 1 else 'are'} there; the store is damaged, or a copy of it was cut short."
            )

    def check_unpacked(self, key: str, data: Buffer, chunk: int, *, codecs: Collection[str]) -> None:
        """Refuse what unpacks to more than a chunk of so many bytes takes."""
        most = 2 * chunk + CHUNK_SPARE
        if (size := unpacked_size(data.to_bytes(), codecs, most)) > most:
            raise ImageError(
                f"{key} of the store unpacks to {size} bytes or more, its array says {chunk}; the store is damaged."
            )


class ReadStore(_Checked, LocalStore):
    """A folder that is read: regular files alone; a chunk that was there at the first look and is gone is an error."""

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._there: dict[str, frozenset[str] | None] = {}
        self._bytes: dict[str, int] = {}
        self._codecs: dict[str, frozenset[str]] = {}
        self._arrays: set[str] = set()
        self._finished: dict[str, int] = {}  # files of the arrays that say how many they have

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """As of `LocalStore`; ImageError for what is no file, too large for its chunk, or gone."""
        await asyncio.to_thread(self._look_at, key)
        found = await super().get(key, prototype, byte_range)
        if byte_range is None and found is not None and key.endswith(_METADATA):
            array = key.rpartition("/")[0]
            for one in self.check_metadata(key, found.to_bytes()):
                told = _attribute(one, FILES_KEY)
                if isinstance(told, int) and not key.endswith(".zmetadata"):
                    self._finished[array] = told
                self._codecs[array] = self._codecs.get(array, frozenset()) | _packing(one)
            self._arrays.add(array)
        elif found is not None and (owner := self._array_of(key)) is not None:
            codecs = self._codecs.get(owner, frozenset())
            await asyncio.to_thread(self.check_unpacked, key, found, self._bytes[owner], codecs=codecs)
        return found

    def _look_at(self, key: str) -> None:
        path = self.root / key
        array = self._array_of(key)
        try:
            seen = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if array is not None:
                self._check_missing(key, array)
            return
        if not stat.S_ISREG(seen.st_mode):
            if stat.S_ISDIR(seen.st_mode) and array is None:
                return
            if stat.S_ISDIR(seen.st_mode):  # which zarr takes for a chunk that is not there
                raise ImageError(f"{path} is a folder where a chunk was; the store is damaged.")
            raise ImageError(f"{path} is a device, a pipe or a socket; a store holds files.")
        if array is not None:
            self._known(array)
            if not seen.st_size:  # of many chunks in a file, zarr would take each for one of zeros
                raise ImageError(f"{path} is empty, as a full disk or a power cut leaves a file; the store is damaged.")
            if seen.st_size > 2 * self._bytes.get(array, seen.st_size) + CHUNK_SPARE:
                raise ImageError(
                    f"{path} has {seen.st_size} bytes, more than a chunk of its array can take; the store is damaged."
                )
        elif seen.st_size > LARGEST_METADATA:
            raise ImageError(f"{path} has {seen.st_size} bytes, more than a description takes; the store is damaged.")

    def _check_missing(self, key: str, array: str) -> None:
        """A chunk that is not there holds the fill value, unless it was there or the array itself has gone."""
        known = self._known(array)
        if not any((self.root / array / name).is_file() for name in ("zarr.json", ".zarray")) or (known and key in known):
            raise ImageError(f"{self.root / key} is gone, which was there; give the image back and run the same command again.")
        gone = self.files_gone(array)
        if gone:
            raise ImageError(
                f"{gone} of {self._finished[array]} files of {self.root / array} {'is' if gone == 1 else 'are'} gone, as after "
                "a copy that was cut short; copy the result again, or run the segmentation again."
            )

    def files_gone(self, array: str) -> int | None:
        """How many files of chunks an array has lost since it was finished; None where it does not say, or has too many."""
        told, known = self._finished.get(array), self._known(array)
        if told is None or known is None:
            return None
        return max(0, told - sum(bool(_place(name.removeprefix(f"{array}/" if array else ""))) for name in known))

    def _array_of(self, key: str) -> str | None:
        """The array that a key is a chunk of; None for metadata."""
        name = key.rsplit("/", 1)[-1]
        if name.startswith(".z") or name == "zarr.json":
            return None
        folder = key
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in self._arrays:
                return folder
        return None

    def chunks_there(self, array: str) -> frozenset[str] | None:
        """As of all stores: those of the first look."""
        return self._known(array)

    def _known(self, array: str) -> frozenset[str] | None:
        """Keys of the chunks that an array had when it was first read; None where there are too many to list."""
        if array not in self._there:
            self._bytes[array] = _chunk_bytes(self.root / array)
            names: list[str] = []
            for name in _files(self.root / array):
                names.append(f"{array}/{name}" if array else name)
                if len(names) > MOST_LISTED:
                    break
            self._there[array] = frozenset(names) if len(names) <= MOST_LISTED else None
        return self._there[array]


class ReadZip(_Checked, ZipStore):
    """A zip file of a store that is read; what unpacks to more than a chunk or a description takes is refused."""

    _chunk = 0  # bytes of the largest chunk of all arrays that were described
    _codecs: frozenset[str] = frozenset()  # of all of them

    def _check_size(self, key: str) -> None:
        if not self._is_open:
            self._sync_open()
        info = self._zf.NameToInfo.get(key)
        if info is not None and not info.file_size and not key.endswith(_DESCRIPTIONS):
            raise ImageError(f"{key} of {self.path.name} is empty, as a full disk leaves a file; the store is damaged.")
        most = LARGEST_METADATA if key.endswith(_DESCRIPTIONS) else 2 * self._chunk + CHUNK_SPARE
        if info is not None and info.file_size > most:
            raise ImageError(f"{key} of {self.path.name} unpacks to {info.file_size} bytes, which is too much; it is damaged.")

    def chunks_there(self, array: str) -> frozenset[str]:
        """As of all stores."""
        inside = f"{array}/" if array else ""
        return frozenset(n for n in self._zf.NameToInfo if n.startswith(inside) and not n.endswith(("/", *_DESCRIPTIONS)))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """As of `ZipStore`; ImageError for what is no array of numbers."""
        self._check_size(key)
        found = await super().get(key, prototype, byte_range)
        if byte_range is None and found is not None and key.endswith(_METADATA):
            for one in self.check_metadata(key, found.to_bytes()):
                self._chunk = max(self._chunk, prod(_chunk_shape(one)) * _itemsize(one))
                self._codecs |= _packing(one)
        elif found is not None and self._chunk and not key.endswith(_DESCRIPTIONS):
            await asyncio.to_thread(self.check_unpacked, key, found, self._chunk, codecs=self._codecs)
        return found


def check_planes(array: Any, planes: int, name: str) -> None:
    """Refuse an array of more planes than can be gone through, without a file for a thousandth of its chunks. ImageError."""
    names = array.store.chunks_there(array.path) if isinstance(array.store, ReadStore | ReadZip) else None
    if planes <= MOST_PLANES or names is None:
        return
    grid = _grid(array)
    there = len(_places(names, array.path, grid))
    if planes > MOST_PLANES * (SLIDES if there else 1) and there * LEAST_SHARE < prod(grid):
        raise ImageError(
            f"{name} announces {planes} planes, and its store has {there} of {prod(grid)} chunks; the store is damaged, or a "
            "copy of it was cut short."
        )


def _grid(array: Any) -> list[int]:
    """Chunks, or shards, along each axis."""
    return [-(-size // edge) for size, edge in zip(array.shape, array.shards or array.chunks, strict=True)]


def missing_chunks(array: Any) -> str:
    """A sentence on chunks that a store does not hold, in whose place the fill value stands; "" where all are there.

    Writers leave out what holds nothing else, and copies lose what does. Not known of stores of others and of too many files.
    """
    store = array.store
    names = store.chunks_there(array.path) if isinstance(store, ReadStore | ReadZip) else None
    whole = isinstance(store, ReadStore) and store.files_gone(array.path) == 0  # what is not there was never written
    if names is None or not array.ndim or whole:
        return ""
    grid = _grid(array)
    total, gone = prod(grid), prod(grid) - len(_places(names, array.path, grid))
    if not gone:
        return ""
    verb = "is" if gone == 1 else "are"
    return f"{gone} of {total} chunks {verb} not in the store; its fill value, {array.fill_value}, stands in their place."


def _attribute(described: Mapping[str, Any], key: str) -> Any:
    """Of an array of version 3; None where it has none."""
    attributes = described.get("attributes")
    return attributes.get(key) if isinstance(attributes, dict) else None


def _places(names: Collection[str], array: str, grid: Sequence[int]) -> set[tuple[int, ...]]:
    """Numbers of the chunks of an array, by the keys of its files, that lie in its grid."""
    places = {_place(name.removeprefix(f"{array}/" if array else "")) for name in names}
    return {place for place in places if len(place) == len(grid) and all(at < n for at, n in zip(place, grid, strict=True))}


def _place(name: str) -> tuple[int, ...]:
    """Number of a chunk along each axis; () where its name says none."""
    parts = re.split("[./]", name.removeprefix("c/"))
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def _files(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, with `/`, but for metadata."""
    for root, _, names in os.walk(folder):
        inside = Path(root).relative_to(folder).as_posix()
        for name in names:
            if not name.startswith(".z") and name != "zarr.json":
                yield name if inside == "." else f"{inside}/{name}"


def _chunk_bytes(folder: Path) -> int:
    """Bytes of a file of an array before compression."""
    for name in ("zarr.json", ".zarray"):
        try:
            found = json.loads((folder / name).read_bytes())
            return prod(_chunk_shape(found)) * _itemsize(found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return 0


def _arrays_of(found: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """The descriptions of arrays in a file of metadata, also those that are kept together in that of a group."""
    if not isinstance(found, dict):
        raise ImageError(f"{key} of the store is no description; the store is damaged.")
    if key.endswith(".zarray") or found.get("node_type") == "array":
        yield found
    together = found.get("metadata") if key.endswith(".zmetadata") else (found.get("consolidated_metadata") or {})
    inner = together.get("metadata", together) if isinstance(together, dict) else {}
    for name, one in inner.items() if isinstance(inner, dict) else ():
        if isinstance(one, dict) and (str(name).endswith(".zarray") or one.get("node_type") == "array"):
            yield one


def _chunk_shape(found: Mapping[str, Any]) -> list[int]:
    if "chunk_grid" in found:
        return [int(edge) for edge in found["chunk_grid"]["configuration"]["chunk_shape"]]
    return [int(edge) for edge in found["chunks"]]


def _itemsize(found: Mapping[str, Any]) -> int:
    kind = found.get("data_type", found.get("dtype"))
    if found.get("zarr_format") == 2:
        return int(str(kind)[2:])
    bits = "".join(letter for letter in str(kind) if letter.isdigit())
    return max(1, int(bits or 8) // 8)


def _check_array(found: Mapping[str, Any], key: str) -> None:
    try:
        shape, chunks = [int(edge) for edge in found["shape"]], _chunk_shape(found)
        version = found["zarr_format"]
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise ImageError(f"{key} of the store describes no array ({type(exc).__name__}: {exc}); the store is damaged.") from exc
    if len(shape) != len(chunks) or any(edge < 0 for edge in shape) or any(edge < 1 for edge in chunks):
        raise ImageError(
            f"{key} of the store says shape {shape} and chunks {chunks}, which fit no array; the store is damaged."
        )
    if len(shape) > 1 and max(shape) > LARGEST_EDGE:
        raise ImageError(f"{key} of the store says shape {shape}, of more pixels than any image has; the store is damaged.")
    kind = found.get("dtype") if version == 2 else found.get("data_type")
    known = _NAMES.__contains__ if version == 3 else re.compile("[<>|][biufc][0-9]{1,2}").fullmatch
    if not isinstance(kind, str) or not known(kind):
        raise ImageError(f"{key} of the store describes values of type {str(kind)[:60]!r}; an image or a result holds numbers.")
    wrong = next((name for name in _codecs(found) if name not in _CODECS and not name.startswith("imagecodecs_")), None)
    if wrong is not None:
        raise ImageError(
            f"{key} of the store asks for the codec {wrong[:60]!r}, which is not run here; write it with blosc or zstd."
        )
    needed = prod(chunks) * _itemsize(found)
    if needed > free_memory():
        raise OutOfMemoryError(
            f"a chunk of the store ({key}) takes {needed / 1e9:.3g} GB, and {free_memory() / 1e9:.3g} GB are free; "
            "write the image with smaller chunks."
        )


def _packing(found: Mapping[str, Any]) -> frozenset[str]:
    """Names of codecs without that of the package they come from; none, where data are stored as they are."""
    return frozenset(name.removeprefix("imagecodecs_") for name in _codecs(found))


def _codecs(found: Mapping[str, Any]) -> Iterator[str]:
    """Names of all codecs, of those in a shard as well."""
    listed = [*(found.get("codecs") or ()), *(found.get("filters") or ()), *filter(None, [found.get("compressor")])]
    while listed:
        one = listed.pop()
        if isinstance(one, str):
            one = {"name": one}
        if not isinstance(one, dict):
            yield repr(one)
            continue
        yield str(one.get("name", one.get("id"))).removeprefix("numcodecs.")
        inner = one.get("configuration")
        if isinstance(inner, dict):
            listed += [*(inner.get("codecs") or ()), *(inner.get("index_codecs") or ())]
