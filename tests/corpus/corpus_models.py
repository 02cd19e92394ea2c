"""Model files: headers, tensors, each entry of what they describe and state as something else, and files of others."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from case import BAD, EITHER, GOOD, IMAGE, MODEL, Case, equal_labels, named

LONG = 10**9
SPEC: dict[str, tuple[Any, ...]] = {
    "ndim": (0, 4, LONG, "two", None, 2.5),
    "levels": (-1, 60, LONG, "x", None, [1]),
    "pool": (0, 1, LONG, [[2]], "x", [[LONG, LONG]]),
    "convs": (0, LONG, None, "x"),
    "kernel": (0, 2, LONG, [3], "x"),
    "in_channels": (0, -1, LONG, "x"),
    "features": (0, LONG, 10**30),
    "growth": (0, LONG, 0.5),
    "embedding_dim": (0, LONG, -3),
    "foreground": (None, "x", 7),
    "coordinates": (None, "x"),
    "upsampling": ("best", None, 3),
    "padding": ("same", None, []),
    "batch_norm": (None, "x"),
    "decoder_convs": (0, LONG, "x"),
    "head_kernel": (0, 2, LONG, "x"),
    "seeds": ("x", None),
}
RECORD: dict[str, tuple[Any, ...]] = {
    "window": ([0, 0], [LONG, LONG], [-1, -1], [6], "x", None, [6.5, 6]),
    "neighbours": ("x", None),
    "steps": (-1, 10**30, "x"),
    "batch": ("x", -1),
    "seed": ("x", 10**30),
    "data": (7, None, "\x1b[31m"),
    "losses": ([], "x", {"a": "b"}),
    "settings": ([], "x"),
    "normalisation": (
        None,
        [],
        {"low": 50, "high": 1},
        {"low": -1, "high": 200},
        {"low": "x"},
        {"low": float("nan"), "high": 1},
    ),
    "clustering": (
        None,
        [],
        {"bandwidth": 0},
        {"bandwidth": 1e-300},
        {"bandwidth": float("nan")},
        {"bandwidth": -1},
        {"min_size": -5},
        {"threshold": 7},
        {"quux": 1},
    ),
    "note": (7, "\x1b[2J\x07"),
    "inner": ("x", [LONG, LONG]),
    "known": ("x", [], {"a": 1}, 7),
}


def cases() -> list[Case]:
    """All of models."""
    return named("models", ((case.name, case) for kind in (_headers, _described, _tensors, _others) for case in kind()))


def case(name: str, change: Callable[[Path, random.Random], object], **values: Any) -> Case:
    """A model that segments after it was changed."""

    def make(folder: Path, chance: random.Random) -> list[str]:
        given = change(folder / MODEL, chance)
        model = given if isinstance(given, str) else MODEL
        return ["segment", IMAGE, "--model", model, "--device", "cpu", "--labels-tiff", "found.tif"]

    return Case(**{"kind": "models", "name": name, "make": make, "new": ("found.tif",), **values})


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensors."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(path: Path, header: bytes, tensors: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + tensors)


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, random.Random], None]:
    def act(path: Path, _: random.Random) -> None:
        header, tensors = parts(path)
        change(header)
        join(path, json.dumps(header).encode(), tensors)

    return act


def _headers() -> Iterator[Case]:
    def raw(change: Callable[[bytes], bytes]) -> Callable[[Path, random.Random], None]:
        return lambda path, _: path.write_bytes(change(path.read_bytes())) and None

    for name, change in {
        "empty": lambda data: b"",
        "of seven bytes": lambda data: data[:7],
        "of a header of 2^63": lambda data: struct.pack("<Q", 2**63) + data[8:],
        "of a header of 2^40": lambda data: struct.pack("<Q", 2**40) + data[8:],
        "of a header of 0": lambda data: struct.pack("<Q", 0) + data[8:],
        "of a header of 2": lambda data: struct.pack("<Q", 2) + b"{}",
        "cut in its header": lambda data: data[:200],
        "cut in its tensors": lambda data: data[:-100],
        "with more behind": lambda data: data + b"x" * 100,
        "of a header that is no JSON": lambda data: struct.pack("<Q", 8) + b"{{{{{{{{" + data[16:],
        "of a deep header": lambda data: struct.pack("<Q", 200_000) + b"[" * 200_000,
        "of text": lambda data: b"hello",
        "of a web page": lambda data: b"<!DOCTYPE html>" * 20,
        "of zeros": lambda data: bytes(len(data)),
    }.items():
        yield case(f"file {name}", raw(change), codes=BAD)
    for number in range(6):

        def flip(path: Path, chance: random.Random) -> None:
            data = bytearray(path.read_bytes())
            for _ in range(3):
                data[chance.randrange(8, 2500)] ^= 1 << chance.randrange(8)
            path.write_bytes(data)

        yield case(f"flipped {number}", flip, codes=EITHER)


def _described() -> Iterator[Case]:
    for what, table in (("spec", SPEC), ("record", RECORD)):
        for key, values in table.items():
            for number, value in enumerate(values):

                def act(header: dict[str, Any], what=what, key=key, value=value) -> None:
                    inner = json.loads(header["__metadata__"][what])
                    inner[key] = value
                    header["__metadata__"][what] = json.dumps(inner)

                yield case(
                    f"{what} with {key} {number} {str(value)[:20].encode('unicode_escape').decode()}",
                    rewritten(act),
                    codes=EITHER,
                )
        for name, text in {
            "no JSON": "{",
            "a list": "[]",
            "a number": "7",
            "nothing": None,
            "deep": "[" * 50_000,
            "unknown words": '{"quux": 1}',
        }.items():

            def whole(header: dict[str, Any], what=what, text=text) -> None:
                if text is None:
                    del header["__metadata__"][what]
                else:
                    header["__metadata__"][what] = text

            yield case(f"{what} that is {name}", rewritten(whole), codes=EITHER)
    yield case("format of nobody", rewritten(lambda header: header["__metadata__"].update(format="nobody \x1b[31m")), codes=BAD)
    yield case("no metadata", rewritten(lambda header: header.pop("__metadata__")), codes=BAD)


def _tensors() -> Iterator[Case]:
    def on(name: str, **values: Any) -> Callable[[Path, random.Random], None]:
        return rewritten(lambda header: header[name].update(values))

    yield case("a tensor that is gone", rewritten(lambda header: header.pop("head.weight")), codes=BAD)
    yield case("a tensor of another shape", on("head.weight", shape=[9]), codes=BAD)
    yield case("a tensor of another type", on("head.weight", dtype="I32"), codes=BAD)
    yield case("a tensor of a type of nobody", on("head.weight", dtype="Q7"), codes=BAD)
    yield case("a tensor beyond the end", on("head.weight", data_offsets=[3456, 99999]), codes=BAD)
    yield case("a tensor that ends before it begins", on("head.weight", data_offsets=[3492, 3456]), codes=BAD)
    yield case("a tensor of a billion", on("head.weight", shape=[LONG, LONG]), codes=BAD)
    yield case("two tensors in one place", on("head.weight", data_offsets=[0, 36]), codes=BAD)
    yield case(
        "a tensor more",
        rewritten(lambda header: header.update({"more": {"dtype": "F32", "shape": [0], "data_offsets": [3792, 3792]}})),
        codes=EITHER,
    )
    for name, value in {"NaN": float("nan"), "infinity": float("inf"), "1e38": 1e38, "0": 0.0}.items():

        def fill(path: Path, _: random.Random, value=value) -> None:
            header, tensors = parts(path)
            join(path, json.dumps(header).encode(), struct.pack("<f", value) * (len(tensors) // 4))

        yield case(f"weights of {name}", fill, codes=BAD if name in ("NaN", "infinity") else EITHER)


def _others() -> Iterator[Case]:
    def pickled(path: Path, _: random.Random) -> str:
        import pickle

        class Acts:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, ("executed",)

        path.with_name("m.pt").write_bytes(pickle.dumps(Acts()))
        return "m.pt"

    def torched(path: Path, _: random.Random) -> str:
        import torch

        torch.save({"state_dict": {}, "epoch": 3}, path.with_name("m.pt"))
        return "m.pt"

    yield case("a pickle that acts", pickled)
    yield case("a checkpoint of torch", torched)
    yield case("the image", lambda *_: IMAGE)
    yield case("a folder", lambda path, _: (path.with_name("m").mkdir(), "m")[1])
    yield case("a pipe", lambda path, _: (os.mkfifo(path.with_name("m")), "m")[1])
    for name in (
        "",
        ".",
        "nothing",
        "nuclei2",
        "nuclei.safetensors",
        "/dev/zero",
        "/dev/null",
        "a\0b",
        "\x1b[31m",
        "m" * 5000,
        "https://127.0.0.1:9/m.safetensors",
    ):
        yield case(f"named {name[:20].encode('unicode_escape').decode()}", lambda *_, name=name: name)
    yield case("as it is", lambda *_: None, codes=GOOD, check=equal_labels)
