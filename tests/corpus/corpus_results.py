"""Results that are read again: each entry of their descriptions as something else, arrays gone, torn or of another kind."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from case import BAD, EITHER, GOOD, IMAGE, MODEL, Case, named
from corpus_stores import GONE, HOSTILE, entry, write

NAME = "r.ome.zarr"
AT = ("attributes", "napari-shiftseg")
COMMANDS: dict[str, list[str]] = {
    "seams": ["seams", NAME],
    "measure": ["measure", NAME, "--out", "t.csv"],
    "relabel": ["relabel", NAME, "--labels-tiff", "found.tif", "--threshold", "0.4"],
    "export": ["export", NAME, "x.tif"],
    "again": ["segment", "--from", NAME, "--labels-tiff", "found.tif"],
    "segment": ["segment", NAME, "--model", MODEL, "--labels-tiff", "found.tif"],
}
NEW = ("t.csv", "found.tif", "x.tif")


def cases() -> list[Case]:
    """All of results."""
    return named("results", ((case.name, case) for kind in (_whole, _entries, _arrays, _records) for case in kind()))


@cache
def commands() -> list[str]:
    return sorted(COMMANDS)


def case(name: str, change: Callable[[Path, random.Random], object], command: str | None = None, **values: Any) -> Case:
    """A result that a command reads after it was changed; which one hangs on the name."""
    command = command or commands()[sum(map(ord, name)) % len(COMMANDS)]

    def make(folder: Path, chance: random.Random) -> list[str]:
        from napari_shiftseg import SegmentSettings, read_image, segment

        image = read_image(folder / IMAGE)
        segment(image, folder / MODEL, SegmentSettings(device="cpu", write=32, keep_embedding=True), folder / NAME)
        change(folder / NAME, chance)
        return COMMANDS[command]

    return Case(**{"kind": "results", "name": f"{command}: {name}", "make": make, "new": NEW, "codes": EITHER, **values})


def _whole() -> Iterator[Case]:
    for command in commands():
        # a model that states nothing has no bad seams
        yield case("as it is", lambda *_: None, command, codes=frozenset({0, 3}) if command == "seams" else GOOD)


def _entries() -> Iterator[Case]:
    inner: dict[str, tuple[Any, ...]] = {
        "what is ours": (),
        "the store's version": ("store",),
        "the image": ("image",),
        "outputs": ("outputs",),
        "the record": ("record",),
        "the run": ("record", "run"),
        "the model": ("record", "model"),
        "the spec": ("record", "model", "spec"),
        "the plan": ("record", "plan"),
        "the period": ("record", "plan", "period"),
        "seams": ("record", "plan", "seams"),
        "the shape": ("record", "plan", "image_shape"),
        "the clustering": ("record", "clustering"),
        "the bandwidth": ("record", "clustering", "bandwidth"),
        "limits": ("record", "limits"),
        "the job": ("record", "job"),
        "axes": ("record", "image", "axes"),
        "pixels": ("record", "image", "pixels"),
        "the status": ("record", "status"),
    }
    for what, keys in inner.items():
        for name, value in {**HOSTILE, "nothing": GONE, "control characters": "\x1b[31m\x07"}.items():
            if len(what + name) % 2 == 0 or what in ("the record", "the job", "the period"):
                yield case(f"{what} {name}", entry("zarr.json", (*AT, *keys), value))
    yield case("the period of 10^9", entry("zarr.json", (*AT, "record", "plan", "period"), [10**9, 10**9]), "seams")
    yield case("seams at 10^9", entry("zarr.json", (*AT, "record", "plan", "seams"), [[10**9], [-5]]), "seams")
    yield case("a billion seams", entry("zarr.json", (*AT, "record", "plan", "seams"), [list(range(100000)), []]), "seams")


def _arrays() -> Iterator[Case]:
    for part in (
        "labels",
        "labels/instances",
        "labels/instances/0",
        "embedding",
        "embedding/0",
        "foreground",
        "0",
        "0/c",
        "labels/instances/0/c",
    ):
        for command in commands():
            if sum(map(ord, part + command)) % 2:
                yield case(f"without {part}", lambda path, _, part=part: shutil.rmtree(path / part), command)
    for part in (
        "zarr.json",
        "labels/zarr.json",
        "labels/instances/zarr.json",
        "labels/instances/0/zarr.json",
        "embedding/0/zarr.json",
    ):
        for name, data in {
            "empty": b"",
            "no JSON": b"{",
            "a list": b"[]",
            "binary": bytes(range(256)),
            "null": b"null",
            "deep": b"[" * 100000,
        }.items():
            yield case(f"{part} that is {name}", write(part, data), codes=EITHER)

    def chunk(path: Path, change: Callable[[bytes], bytes], part: str) -> None:
        for file in sorted((path / part).rglob("*")):
            if file.is_file() and "c" in file.relative_to(path / part).parts:
                file.write_bytes(change(file.read_bytes()))

    for part in ("labels/instances/0", "embedding/0", "foreground/0", "0"):
        for name, change in {
            "half": lambda data: data[: len(data) // 2],
            "empty": lambda data: b"",
            "garbage": lambda data: bytes(range(256)) * 4,
        }.items():
            for command in ("seams", "relabel", "measure"):
                if (command, part) in (("measure", "embedding/0"), ("measure", "foreground/0")):
                    continue
                yield case(
                    f"{name} chunks of {part}",
                    lambda path, _, part=part, change=change: chunk(path, change, part),
                    command,
                    codes=EITHER,
                )

    def other(kind: str, shape: tuple[int, ...] | None = None) -> Callable[[Path, random.Random], None]:
        def act(path: Path, _: random.Random) -> None:
            import zarr

            size = shape or (96, 80)
            if kind == "O":
                place = path / "labels/instances/0"
                shutil.rmtree(place)
                place.mkdir()
                document = {
                    "zarr_format": 2,
                    "shape": [96, 80],
                    "chunks": [96, 80],
                    "dtype": "|O",
                    "compressor": None,
                    "fill_value": 0,
                    "order": "C",
                    "filters": [{"id": "pickle"}],
                }
                (place / ".zarray").write_text(json.dumps(document))
                from corpus_stores import _act

                (place / "0.0").write_bytes(_act())
                return
            zarr.create_array(str(path / "labels/instances/0"), data=np.ones(size, kind), overwrite=True)

        return act

    for kind in ("f4", "c8", "i1", "u8", "bool", "O"):
        for command in ("seams", "measure", "export", "relabel"):
            yield case(f"labels of {kind}", other(kind), command)
    for shape in ((1, 1), (960, 800), (96,), (2, 96, 80)):
        for command in ("seams", "measure", "relabel"):
            yield case(f"labels of shape {shape}", other("u4", shape), command)


def _records() -> Iterator[Case]:
    def file(text: str) -> Callable[[Path, random.Random], None]:
        def act(path: Path, _: random.Random) -> None:
            shutil.rmtree(path)
            path.write_text(text, encoding="utf-8")

        return act

    for name, text in {
        "empty": "",
        "no JSON": "{",
        "a list": "[]",
        "null": "null",
        "many": '{"images": [1, 2]}',
        "no job": '{"a": 1}',
        "deep": "[" * 100000,
        "a job of words": '{"job": "x", "image": {"pixels": 1}}',
        "an empty job": '{"job": {}, "image": {"pixels": "a"}}',
    }.items():
        yield Case(
            kind="results",
            name=f"a record that is {name}",
            codes=BAD,
            make=lambda folder, _, text=text: (
                (folder / "r.json").write_text(text),
                ["segment", IMAGE, "--from", "r.json", "--labels-tiff", "found.tif"],
            )[1],
        )
        yield case(f"a file that is {name}", file(text), codes=BAD)
