"""Places of results: inputs, what lies in them, each other, what is no file, what cannot be written, what is there already."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from case import BAD, EITHER, GOOD, IMAGE, MODEL, Case, named
from corpus_stores import store

OPTIONS = ("--out", "--labels-tiff", "--picture", "--table")


def cases() -> list[Case]:
    """All of targets."""
    return named("targets", ((case.name, case) for kind in (_places, _pairs, _commands, _well) for case in kind()))


def case(name: str, words: Callable[[Path], list[str]], **values: Any) -> Case:
    def make(folder: Path, chance: random.Random) -> list[str]:
        np.save(folder / "other.npy", np.load(folder / IMAGE))
        store(folder / "image.zarr", np.load(folder / IMAGE))
        return words(folder)

    return Case(**{"kind": "targets", "name": name, "make": make, **values})


def run(*more: str, image: str = IMAGE) -> list[str]:
    return ["segment", image, "--model", MODEL, "--device", "cpu", *more]


def _places() -> Iterator[Case]:
    def at(act: Callable[[Path], object], place: str = "target") -> Callable[[Path], str]:
        def make(folder: Path) -> str:
            act(folder / place)
            return place

        return make

    def full(path: Path) -> None:
        path.mkdir()
        (path / "dear").write_text("dear")

    places: dict[str, Callable[[Path], str]] = {
        "the image": lambda _: IMAGE,
        "the model": lambda _: MODEL,
        "a chunk of the image": lambda _: "image.zarr/c/0/0",
        "in the image": lambda _: "image.zarr/new",
        "a dot": lambda _: ".",
        "two dots": lambda _: "..",
        "the root": lambda _: "/",
        "nothing": lambda _: "",
        "a device": lambda _: "/dev/null",
        "a file of the kernel": lambda _: "/proc/new",
        "no folder": lambda _: "no/such/folder/x",
        "below a file": lambda _: "other.npy/x",
        "300 letters": lambda _: "t" * 300,
        "a NUL": lambda _: "a\0b",
        "a folder with a file": at(full),
        "an empty folder": at(Path.mkdir),
        "a pipe": at(os.mkfifo),
        "a link to the image": at(lambda path: path.symlink_to(IMAGE)),
        "a hard link to the image": at(lambda path: path.hardlink_to(path.with_name(IMAGE))),
        "a link to itself": at(lambda path: path.symlink_to(path)),
        "a link to nothing": at(lambda path: path.symlink_to("gone")),
        "a link to a device": at(lambda path: path.symlink_to("/dev/null")),
        "a file": at(lambda path: path.write_text("dear")),
    }
    for name, place in places.items():
        for option in OPTIONS:
            image = "image.zarr" if "in the image" in name or "chunk" in name else IMAGE
            yield case(
                f"{option} at {name}",
                lambda folder, place=place, option=option, image=image: run(option, place(folder), image=image),
                codes=BAD,
            )
            if name in ("a file", "an empty folder", "a link to nothing"):
                continue
            yield case(
                f"{option} over {name}",
                lambda folder, place=place, option=option, image=image: run(option, place(folder), "--overwrite", image=image),
                codes=BAD,
            )


def _pairs() -> Iterator[Case]:
    for one in OPTIONS:
        for other in OPTIONS:
            if one < other:
                yield case(f"{one} and {other} alike", lambda _, one=one, other=other: run(one, "x", other, "./x"))
                yield case(f"{other} in {one}", lambda _, one=one, other=other: run(one, "x", other, "x/y"))
    yield case("a result in itself", lambda folder: run("--out", "image.zarr/r.zarr", "--out-of-core", image="image.zarr"))
    yield case(
        "out of core over its image",
        lambda folder: run("--out", "image.zarr", "--overwrite", "--out-of-core", image="image.zarr"),
    )
    yield case(
        "out of core of a format of nobody", lambda folder: run("--out", "r.zarr", "--out-of-core", "--dtype", "float16")
    )
    yield case(
        "many images to a file",
        lambda folder: ["segment", IMAGE, "other.npy", "--model", MODEL, "--out", "image.zarr/zarr.json"],
    )
    yield case(
        "many images to a dot",
        lambda folder: ["segment", IMAGE, "other.npy", "--model", MODEL, "--labels-tiff", "."],
        codes=GOOD,
        new=("base.tif", "other.tif"),
    )
    yield case("labels among the images of a folder", lambda _: ["segment", ".", "--model", MODEL, "--labels-tiff", "."])
    yield case(
        "one of two images is none",
        lambda folder: ["segment", IMAGE, MODEL, "--model", MODEL, "--labels-tiff", "m"],
        codes=BAD,
        kept=("m",),
    )


def _commands() -> Iterator[Case]:
    for words in (
        ["measure", "labels.npy", "--out", "labels.npy"],
        ["measure", "labels.npy", "--image", IMAGE, "--out", IMAGE],
        ["export", "labels.npy", "labels.npy"],
        ["export", "labels.npy", "image.zarr"],
        ["export", "labels.npy", "no/such/x.tif"],
        ["export", "labels.npy", "/dev/null"],
        ["synth", "disks", "--out", IMAGE],
        ["synth", "disks", "--out", "."],
        ["synth", "disks", "--out", "no/such/x.tif"],
        ["synth", "disks", "--out", "/dev/full"],
        ["synth", "disks", "--out", "x.tif", "--labels", "no/such/x.tif"],
        ["seams", "image.zarr", "--csv", "image.zarr/x.csv"],
        ["relabel", "image.zarr", "--out", "image.zarr"],
        ["train", "image.zarr", "--out", "x.safetensors"],
        ["evaluate", "image.zarr", "--model", MODEL, "--csv", "x.csv"],
        ["demo", "--out", IMAGE],
    ):
        yield case(" ".join(words), lambda _, words=words: words, codes=BAD)


def _well() -> Iterator[Case]:
    for option, name in zip(OPTIONS, ("r.zarr", "l.tif", "p.png", "t.csv"), strict=True):
        yield case(f"{option} alone", lambda _, option=option, name=name: run(option, name), codes=GOOD, new=(name,))
        for odd in ("a b", "ä ö", "a'b", "a\nb", "-a", "a\x1b[31mb", "a%s", "a{b}"):
            label = odd.encode("unicode_escape").decode()
            yield case(
                f"{option} in letters {label}",
                lambda _, option=option, odd=odd, name=name: run(option, f"./{odd}{name}"),
                codes=EITHER,
                new=(f"{odd}{name}",),
            )
    yield case("out of core", lambda _: run("--out", "r.zarr", "--out-of-core"), codes=GOOD, new=("r.zarr",))
    yield case("JSON", lambda _: run("--out", "r.zarr", "--json"), codes=GOOD, new=("r.zarr",))
    yield case("dry", lambda _: run("--dry-run"), codes=GOOD)
