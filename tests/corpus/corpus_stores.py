"""Zarr stores: each entry of their descriptions as something else, chunks cut, gone or strange, archives, links."""

from __future__ import annotations

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from case import BAD, EITHER, GOOD, IMAGE, Case, equal_labels, equal_or_said, named, segmenting

NAME = "image.zarr"
LONG = 10**9
HOSTILE: dict[str, Any] = {
    "null": None,
    "-1": -1,
    "a billion": LONG,
    "10^30": 10**30,
    "words": "x",
    "an empty list": [],
    "an empty table": {},
    "true": True,
    "a list of lists": [[[]]],
    "0.5": 0.5,
}
GONE = object()
V3 = (
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "attributes",
)
V2 = ("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters", "dimension_separator")


def cases() -> list[Case]:
    """All of stores."""
    kinds = (_forms, _entries, _codecs, _ome, _chunks, _archives, _trees)
    return named("stores", ((case.name, case) for kind in kinds for case in kind()))


def case(
    name: str, change: Callable[[Path, random.Random], object], *, version: int = 3, ome: bool = False, **values: Any
) -> Case:
    """A store that is segmented after it was changed."""

    def make(folder: Path, chance: random.Random) -> list[str]:
        store(folder / NAME, np.load(folder / IMAGE), version=version, ome=ome)
        given = change(folder / NAME, chance)
        return segmenting(given if isinstance(given, str) else NAME)

    return Case(**{"kind": "stores", "name": name, "make": make, "new": ("found.tif",), **values})


def store(path: Path, pixels: np.ndarray, *, version: int = 3, ome: bool = False, **values: Any) -> None:
    """A plain array, or an image of OME-Zarr."""
    import zarr

    place = path / "0" if ome else path
    if ome:
        group = zarr.open_group(str(path), mode="w", zarr_format=version)
        scales = {
            "axes": [
                {"name": "y", "type": "space", "unit": "micrometer"},
                {"name": "x", "type": "space", "unit": "micrometer"},
            ],
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}],
            "name": "image",
        }
        if version == 3:
            group.attrs.update({"ome": {"version": "0.5", "multiscales": [scales]}})
        else:
            group.attrs.update({"multiscales": [{**scales, "version": "0.4"}]})
    zarr.create_array(str(place), data=pixels, **{"chunks": (32, 32), "zarr_format": version, "overwrite": True, **values})


def entry(file: str, keys: tuple[Any, ...], value: Any) -> Callable[[Path, random.Random], None]:
    """Another value of an entry of a description, or none."""

    def change(path: Path, _: random.Random) -> None:
        place = path / file
        document = json.loads(place.read_text(encoding="utf-8"))
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        if value is GONE:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        place.write_text(json.dumps(document), encoding="utf-8")

    return change


def write(name: str, data: bytes) -> Callable[[Path, random.Random], None]:
    def change(path: Path, _: random.Random) -> None:
        (path / name).write_bytes(data)

    return change


# -- forms that are well -----------------------------------------------------------------------------------------------


def _forms() -> Iterator[Case]:
    def made(**values: Any) -> Callable[[Path, random.Random], None]:
        def change(path: Path, _: random.Random) -> None:
            shutil.rmtree(path)
            kind = values.pop("dtype", "u1")
            store(path, np.load(path.parent / IMAGE).astype(kind), **values)

        return change

    for version in (2, 3):
        for name, values in {
            "u1": {},
            "big-endian i4": {"dtype": ">i4"},
            "f8": {"dtype": "f8"},
            "odd chunks": {"chunks": (7, 13)},
            "one chunk": {"chunks": (96, 80)},
            "no compressor": {"compressors": None},
            "chunks larger than it": {"chunks": (500, 500)},
        }.items():
            yield case(f"v{version} of {name}", made(version=version, **values), codes=GOOD, check=equal_labels)
        yield case(f"OME v{version}", lambda *_: None, version=version, ome=True, codes=GOOD, check=equal_labels)
    yield case("v3 of shards", made(chunks=(16, 16), shards=(48, 32)), codes=GOOD, check=equal_labels)
    for kind in ("c8", "O", "S4", "U4", "M8[s]", "V3"):

        def odd(path: Path, _: random.Random, kind=kind) -> None:

            shutil.rmtree(path)
            path.mkdir()
            document = {
                "zarr_format": 2,
                "shape": [96, 80],
                "chunks": [32, 32],
                "dtype": np.dtype(kind).str,
                "compressor": None,
                "fill_value": None,
                "order": "C",
                "filters": [{"id": "pickle"}] if kind == "O" else None,
            }
            (path / ".zarray").write_text(json.dumps(document))
            (path / "0.0").write_bytes(_act() if kind == "O" else b"\0" * 32 * 32 * np.dtype(kind).itemsize)

        yield case(f"v2 of {kind}", odd)


def _act() -> bytes:
    import pickle  # what the command must not read

    class Acts:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("executed",)

    return pickle.dumps(Acts())


# -- descriptions ------------------------------------------------------------------------------------------------------


def _entries() -> Iterator[Case]:
    for version, file, keys in ((3, "zarr.json", V3), (2, ".zarray", V2)):
        for key in keys:
            harmless = key in ("attributes", "fill_value", "dimension_separator", "filters", "compressor", "order", "codecs")
            for name, value in {**HOSTILE, "nothing": GONE}.items():
                yield case(
                    f"v{version} with {key} {name}",
                    entry(file, (key,), value),
                    version=version,
                    codes=EITHER,
                    check=equal_labels if harmless and key not in ("codecs", "filters", "compressor") else _not_accepted(value),
                )
        for name, data in {
            "empty": b"",
            "no JSON": b"{",
            "a list": b"[]",
            "a number": b"7",
            "deep": b"[" * 100_000,
            "binary": bytes(range(256)),
            "a BOM": b"\xef\xbb\xbf{}",
            "UTF-16": "{}".encode("utf-16"),
            "NaN": b'{"zarr_format": NaN}',
            "null": b"null",
        }.items():
            yield case(f"v{version} of a description that is {name}", write(file, data), version=version)
    for name, value in {
        "0": [0, 0],
        "-1": [-1, -1],
        "a billion": [LONG, LONG],
        "one": [32],
        "three": [32, 32, 32],
        "words": ["a", "b"],
    }.items():
        yield case(
            f"v3 of chunks of {name}", entry("zarr.json", ("chunk_grid", "configuration", "chunk_shape"), value), codes=BAD
        )
        yield case(f"v2 of chunks of {name}", entry(".zarray", ("chunks",), value), version=2, codes=BAD)
    for name, value in {
        "0": [0, 0],
        "a billion": [LONG, LONG],
        "one": [96],
        "three": [96, 80, 2],
        "many": [1] * 40,
        "10^30": [10**30, 80],
    }.items():
        yield case(f"v3 of shape {name}", entry("zarr.json", ("shape",), value), codes=BAD)
        yield case(f"v2 of shape {name}", entry(".zarray", ("shape",), value), version=2, codes=BAD)


def _not_accepted(value: Any) -> Callable[[Path, str], str]:
    """What still runs has the labels of the image, or it is said that pixels are missing."""
    return equal_or_said("not in the store")


def _codecs() -> Iterator[Case]:
    for name, codecs in {
        "nobody": [{"name": "nobody"}],
        "a billion levels": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": LONG}}],
        "none": [],
        "two of one kind": [{"name": "bytes"}, {"name": "bytes"}],
        "a pickle": [{"name": "numcodecs.pickle"}],
        "a script": [{"name": "numcodecs.json2", "configuration": {"encoding": "\x1b[31m"}}],
        "a shard in a shard": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [0, 0], "codecs": []}}],
        "a transposition of nobody": [{"name": "transpose", "configuration": {"order": [5, 7]}}, {"name": "bytes"}],
        "an endian of nobody": [{"name": "bytes", "configuration": {"endian": "middle"}}],
        "another compressor": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}],
        "no compressor": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }.items():
        yield case(f"v3 of codecs of {name}", entry("zarr.json", ("codecs",), codecs))
    for name, filters in {
        "pickle": [{"id": "pickle"}],
        "json2": [{"id": "json2"}],
        "msgpack2": [{"id": "msgpack2"}],
        "vlen-bytes": [{"id": "vlen-bytes"}],
        "nobody": [{"id": "nobody"}],
        "delta": [{"id": "delta", "dtype": "<f8"}],
        "words": ["delta"],
        "categorize": [{"id": "categorize"}],
    }.items():
        yield case(
            f"v2 of a filter of {name}",
            entry(".zarray", ("filters",), filters),
            version=2,
            codes=EITHER if name == "delta" else BAD,
        )
        yield case(
            f"v2 of a compressor of {name}",
            entry(".zarray", ("compressor",), filters[0]),
            version=2,
            codes=EITHER if name == "delta" else BAD,
        )


def _ome() -> Iterator[Case]:
    at3, at2 = ("attributes", "ome", "multiscales"), ("multiscales",)
    inner: dict[str, tuple[Any, ...]] = {
        "multiscales": (),
        "a multiscale": (0,),
        "axes": (0, "axes"),
        "an axis": (0, "axes", 0),
        "the name of an axis": (0, "axes", 0, "name"),
        "the unit of an axis": (0, "axes", 0, "unit"),
        "datasets": (0, "datasets"),
        "a dataset": (0, "datasets", 0),
        "a path": (0, "datasets", 0, "path"),
        "transformations": (0, "datasets", 0, "coordinateTransformations"),
        "a scale": (0, "datasets", 0, "coordinateTransformations", 0, "scale"),
        "a step": (0, "datasets", 0, "coordinateTransformations", 0, "scale", 0),
    }
    more = {"control characters": "\x1b[31m\x07", "a path out": "../../../../../etc/passwd", "a long word": "m" * 100_000}
    for what, keys in inner.items():
        for name, value in {**HOSTILE, **more, "nothing": GONE}.items():
            if what == "a step" and value is GONE:
                continue
            version = 3 if hash_of(what + name) % 2 else 2
            file, at = ("zarr.json", at3) if version == 3 else (".zattrs", at2)
            yield case(
                f"OME v{version} with {what} {name}",
                entry(file, (*at, *keys), value),
                version=version,
                ome=True,
                codes=EITHER,
                check=equal_labels,
            )


def hash_of(text: str) -> int:
    return sum(map(ord, text))


# -- chunks ------------------------------------------------------------------------------------------------------------


def _chunks() -> Iterator[Case]:
    def on(act: Callable[[Path], object], name: str = "c/1/1") -> Callable[[Path, random.Random], None]:
        def change(path: Path, _: random.Random) -> None:
            act(path / name)

        return change

    def linked(target: str) -> Callable[[Path], None]:
        def act(path: Path) -> None:
            path.unlink()
            path.symlink_to(target)

        return act

    def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def act(path: Path) -> None:
            path.unlink()
            make(path)

        return act

    acts: dict[str, Callable[[Path], object]] = {
        "gone": Path.unlink,
        "empty": lambda path: path.write_bytes(b""),
        "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "of a byte": lambda path: path.write_bytes(b"x"),
        "garbage": lambda path: path.write_bytes(bytes(range(256)) * 8),
        "a pickle": lambda path: path.write_bytes(_act()),
        "of zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "a folder": replaced(Path.mkdir),
        "a pipe": replaced(os.mkfifo),
        "a link to zeros": linked("/dev/zero"),
        "a link to nothing": linked("gone"),
        "a link to itself": linked("self"),
        "a link to memory": linked("/proc/self/mem"),
        "of 3 GB of nothing": lambda path: os.truncate(path, 3 << 30),
    }
    for name, act in acts.items():
        # what is not there at all may be left out on purpose, and is said
        values = {"codes": EITHER, "check": equal_or_said("not in the store")} if name in ("gone", "a link to nothing") else {}
        yield case(f"v3 with a chunk {name}", on(act), **values)
        yield case(f"v2 with a chunk {name}", on(act, "1.1"), version=2, **values)
    said = {"codes": EITHER, "check": equal_or_said("not in the store")}
    yield case("v3 with all chunks gone", lambda path, _: shutil.rmtree(path / "c"), **said)
    for version, shape, chunk in (
        (3, [900_000] * 2, 512),
        (2, [900_000] * 2, 512),
        (3, [300_000] * 2, 32),
        (3, [2**24, 1, 1], 2**24),
    ):
        for words in (["measure", NAME, "--out", "t.csv"], ["export", NAME, "x.tif"], segmenting(NAME)):

            def claim(folder: Path, _: random.Random, words: Any = words, of: Any = (version, shape, chunk)) -> list[str]:
                import zarr

                edges = tuple(min(of[2], edge) for edge in of[1])
                zarr.create_array(str(folder / NAME), shape=of[1], chunks=edges, dtype="u4", zarr_format=of[0])
                return words

            name = f"{words[0]} v{version} of {' x '.join(map(str, shape))} px in chunks of {chunk}, of which none is there"
            yield Case(kind="stores", name=name, make=claim)
    yield case("v3 with a row of chunks gone", lambda path, _: shutil.rmtree(path / "c/1"), **said)
    yield case(
        "v3 with chunks that nobody wants", on(lambda path: path.write_bytes(b"x"), "c/0/77"), codes=GOOD, check=equal_labels
    )
    for number in range(6):

        def flip(path: Path, chance: random.Random) -> None:
            chunk = path / f"c/{chance.randrange(3)}/{chance.randrange(3)}"
            data = bytearray(chunk.read_bytes())
            data[chance.randrange(16)] ^= 1 << chance.randrange(8)
            chunk.write_bytes(data)

        yield case(f"v3 with a flipped chunk {number}", flip, codes=EITHER)


# -- archives and trees ------------------------------------------------------------------------------------------------


def _archives() -> Iterator[Case]:
    def zipped(
        change: Callable[[Path], object] | None = None, *, name: str = "image.zarr.zip", inner: str = ""
    ) -> Callable[..., str]:
        def act(path: Path, _: random.Random) -> str:
            place = path.with_name(name)
            with zipfile.ZipFile(place, "w") as archive:
                for file in sorted(path.rglob("*")):
                    if file.is_file():
                        archive.write(file, inner + str(file.relative_to(path)))
            if change:
                change(place)
            return name

        return act

    yield case("zip", zipped(), codes=GOOD, check=equal_labels)
    yield case("zip of OME", zipped(), ome=True, codes=GOOD, check=equal_labels)
    yield case("zip called ozx", zipped(name="image.ozx"), ome=True, codes=GOOD, check=equal_labels)
    yield case("zip of a folder", zipped(inner="image.zarr/"), codes=EITHER, check=equal_labels)
    yield case("zip that leads out", zipped(inner="../"), codes=EITHER)
    for share in (0.1, 0.5, 0.95):
        yield case(
            f"cut zip at {share}", zipped(lambda place, share=share: os.truncate(place, int(share * place.stat().st_size)))
        )

    def bomb(path: Path, _: random.Random) -> str:
        place = path.with_name("bomb.zip")
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zarr.json", b" " * (1 << 31))
        return place.name

    yield case("zip of a bomb", bomb)

    def twice(place: Path) -> None:
        with zipfile.ZipFile(place, "a") as archive:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("zarr.json", "{}")

    yield case("zip with two descriptions", zipped(twice))
    yield case("zip of nothing", lambda path, _: zipfile.ZipFile(path.with_name("empty.zip"), "w").close() or "empty.zip")


def _trees() -> Iterator[Case]:
    yield case("an empty folder", lambda path, _: (shutil.rmtree(path), path.mkdir()))
    yield case("a group of nothing", lambda path, _: (shutil.rmtree(path), _group(path)))
    yield case(
        "a group of an array",
        lambda path, _: (shutil.rmtree(path), _group(path), store(path / "a", np.load(path.parent / IMAGE))),
        codes=EITHER,
    )
    yield case("a description that is a folder", lambda path, _: ((path / "zarr.json").unlink(), (path / "zarr.json").mkdir()))
    yield case("a description that is a pipe", lambda path, _: ((path / "zarr.json").unlink(), os.mkfifo(path / "zarr.json")))
    yield case(
        "a description that is endless",
        lambda path, _: ((path / "zarr.json").unlink(), (path / "zarr.json").symlink_to("/dev/zero")),
    )
    yield case("both versions", lambda path, _: (path / ".zarray").write_text("{"), codes=EITHER, check=equal_labels)
    yield case("a store in itself", lambda path, _: (path / "0").symlink_to(path), ome=False, codes=EITHER, check=equal_labels)
    yield case(
        "a link to a store",
        lambda path, _: (path.with_name("link").symlink_to(path), "link")[1],
        codes=GOOD,
        check=equal_labels,
    )


def _group(path: Path) -> None:
    import zarr

    zarr.open_group(str(path), mode="w")
