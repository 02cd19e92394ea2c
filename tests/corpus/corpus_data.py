"""Folders of data: tables, masks and images that do not fit, for training and evaluation."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from case import BAD, EITHER, GOOD, IMAGE, LABELS, MODEL, Case, named

TRAIN = [
    "train",
    "data",
    "--levels",
    "1",
    "--convs",
    "1",
    "--features",
    "2",
    "--steps",
    "2",
    "--batch",
    "1",
    "--device",
    "cpu",
    "--out",
    "new.safetensors",
]
EVALUATE = ["evaluate", "data", "--model", MODEL, "--device", "cpu"]


def cases() -> list[Case]:
    """All of data."""
    return named("data", ((case.name, case) for kind in (_tables, _masks, _folders) for case in kind()))


def both(name: str, change: Callable[[Path], object], *more: str, **values: Any) -> Iterator[Case]:
    """Training with a folder after it was changed, and evaluation."""

    def made(command: list[str]) -> Callable[[Path, random.Random], list[str]]:
        def make(folder: Path, _: random.Random) -> list[str]:
            for kind, file in (("images", IMAGE), ("masks", LABELS)):
                (folder / "data" / kind).mkdir(parents=True)
                for stem in ("a", "b"):
                    shutil.copy(folder / file, folder / "data" / kind / f"{stem}.npy")
            change(folder / "data")
            return [*command, *more]

        return make

    for command in (TRAIN, EVALUATE):
        yield Case(
            **{"kind": "data", "name": f"{command[0]}: {name}", "make": made(command), "new": ("new.safetensors",), **values}
        )


def _tables() -> Iterator[Case]:
    def table(data: bytes) -> Callable[[Path], object]:
        return lambda path: (path / "meta.csv").write_bytes(data)

    text = "id,split,note\na,train,ü\nb,val,y\n"
    for name, data in {
        "latin-1": text.encode("latin-1"),
        "UTF-8": text.encode(),
        "UTF-16": text.encode("utf-16"),
        "a BOM": text.encode("utf-8-sig"),
        "semicolons": text.replace(",", ";").encode(),
        "tabs": text.replace(",", "\t").encode(),
        "lines of Windows": text.replace("\n", "\r\n").encode(),
        "lines of old Macs": text.replace("\n", "\r").encode(),
        "spaces around": text.replace(",", " , ").encode(),
        "quotes": text.replace("a,", '"a",').encode(),
    }.items():
        odd = name in ("lines of old Macs", "spaces around")
        yield from both(f"table in {name}", table(data), "--split", "train", codes=EITHER if odd else GOOD)
    for name, data in {
        "empty": b"",
        "a head alone": b"id,split\n",
        "no id": b"name,split\na,train\n",
        "no split": b"id\na\n",
        "a row too short": b"id,split\na\n",
        "a row too long": b"id,split\na,train,x,y,z\n",
        "an id of nobody": b"id,split\nc,train\n",
        "an id twice": b"id,split\na,train\na,train\n",
        "an id that leads out": b"id,split\n../../x,train\n",
        "binary": bytes(range(256)) * 4,
        "NUL": b"id,split\na\0,train\n",
        "a field of 1 MB": b"id,split\na," + b"x" * 1_000_000 + b"\n",
        "an open quote": b'id,split\n"a,train\n',
        "control characters": b"id,split\n\x1b[31ma,train\n",
        "zeros": bytes(1000),
        "UTF-32": text.encode("utf-32"),
    }.items():
        twice = name in ("an id twice", "an open quote", "a field of 1 MB", "a row too long")
        yield from both(f"table that is {name}", table(data), "--split", "train", codes=EITHER if twice else BAD)
    yield from both("table that is a folder", lambda path: (path / "meta.csv").mkdir(), codes=EITHER)
    yield from both("table that is a pipe", lambda path: os.mkfifo(path / "meta.csv"), codes=EITHER)
    yield from both("a split without a table", lambda path: None, "--split", "train", codes=BAD)
    yield from both("a split of nobody", table(text.encode()), "--split", "\x1b[31m", codes=BAD)


def _masks() -> Iterator[Case]:
    def mask(change: Callable[[np.ndarray], np.ndarray], kind: str = "masks") -> Callable[[Path], object]:
        def act(path: Path) -> None:
            file = path / kind / "a.npy"
            values = change(np.load(file))
            np.save(file, values, allow_pickle=values.dtype == object)

        return act

    for name, change in {
        "floats": lambda m: m.astype("f4"),
        "complex": lambda m: m.astype("c8"),
        "another shape": lambda m: m[:-1],
        "turned": lambda m: m.T.copy(),
        "three channels": lambda m: np.stack([m] * 3, -1),
        "no pixels": lambda m: m[:0],
        "objects": lambda m: m.astype(object),
        "words": lambda m: m.astype("U3"),
    }.items():
        yield from both(f"masks of {name}", mask(change), codes=BAD)
    for name, change in {
        "negative numbers": lambda m: -m.astype("i4"),
        "nothing": np.zeros_like,
        "one object": np.ones_like,
        "numbers of 2^32": lambda m: m.astype("u8") * 2**32,
        "numbers of 2^63": lambda m: m.astype("u8") + 2**63 * (m > 0).astype("u8"),
        "bool": lambda m: m > 0,
        "a number a pixel": lambda m: np.arange(m.size).reshape(m.shape),
    }.items():
        yield from both(f"masks of {name}", mask(change), codes=EITHER)
    for name, change in {
        "NaN": lambda m: np.full(m.shape, np.nan),
        "complex": lambda m: m.astype("c8"),
        "two channels": lambda m: np.stack([m, m]),
        "three pixels": lambda m: m[:1, :3],
        "no pixels": lambda m: m[:0],
        "some NaN": lambda m: np.where(m == 3, np.nan, m),
        "a constant": np.zeros_like,
    }.items():
        yield from both(f"images of {name}", mask(change, "images"), codes=EITHER)


def _folders() -> Iterator[Case]:
    acts: dict[str, Callable[[Path], object]] = {
        "no masks": lambda path: shutil.rmtree(path / "masks"),
        "no images": lambda path: shutil.rmtree(path / "images"),
        "nothing at all": shutil.rmtree,
        "empty folders": lambda path: [file.unlink() for file in path.rglob("*.npy")],
        "a mask that is gone": lambda path: (path / "masks/a.npy").unlink(),
        "an image that is gone": lambda path: (path / "images/a.npy").unlink(),
        "an image that is text": lambda path: (path / "images/a.npy").write_text("x"),
        "a mask that is text": lambda path: (path / "masks/a.npy").write_text("x"),
        "a mask that is cut": lambda path: os.truncate(path / "masks/a.npy", 3000),
        "a mask that is a pipe": lambda path: ((path / "masks/a.npy").unlink(), os.mkfifo(path / "masks/a.npy")),
        "a mask that is a folder": lambda path: ((path / "masks/a.npy").unlink(), (path / "masks/a.npy").mkdir()),
        "masks that are a file": lambda path: (shutil.rmtree(path / "masks"), (path / "masks").write_text("x")),
        "images that link to themselves": lambda path: (shutil.rmtree(path / "images"), (path / "images").symlink_to("images")),
        "a mask that links to nothing": lambda path: (
            (path / "masks/a.npy").unlink(),
            (path / "masks/a.npy").symlink_to("gone"),
        ),
    }
    for name, act in acts.items():
        yield from both(name, act, codes=EITHER if name == "an image that is gone" else BAD)
    yield from both("files that nobody asked for", lambda path: (path / "images/.DS_Store").write_text("x"), codes=GOOD)
    yield from both("as it is", lambda path: None, codes=GOOD)
