"""Options: each of each command as something that it cannot be, as much as there is, and in combinations that cannot go."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from case import BAD, EITHER, GOOD, IMAGE, MODEL, Case, named, segmenting

NUMBERS = (
    "0",
    "-1",
    "1000000000",
    "99999999999999999999999",
    "nan",
    "inf",
    "1e400",
    "0x10",
    "",
    " ",
    "two",
    "1,2,3,4",
    "\u0661",
    "1e9",
    "--",
    "½",
)
RUN = {
    "--tile": NUMBERS,
    "--memory": ("0", "-1", "nan", "inf", "1e400GB", "1", "1KB", "1000000EB", "GB", "1.2.3GB", "", "9" * 400 + "GB"),
    "--method": ("best", ""),
    "--device": ("gpu", "cuda:99", "cuda:-1", "", "cpu:7", "\x1b[31m", "meta", "xla", "cuda:x"),
    "--dtype": ("float64", "int8", "", "float16", "torch.float32"),
    "--diameter": (*NUMBERS, "1e-300", "1e300", "pixel-size"),
    "--limits": (
        "0",
        "5,0",
        "0,0",
        "nan,1",
        "0,inf",
        "0,1:2",
        "a,b",
        "",
        "0,1:0,1",
        "1e-320,2e-320",
        "-1e308,1e308",
        ":",
        "0,1,2",
    ),
    "--percentiles": ("0", "5,0", "-1,50", "0,101", "nan,1", "50,50.0000000001", "a,b", ""),
    "--limits-per": ("row", ""),
    "--no-data": ("nan", "inf", "x", "", "1e400"),
    "--bandwidth": ("0", "-1", "1e-300", "1e-45", "nan", "inf", "x", "1e300"),
    "--min-size": ("-1", "1000000000", "99999999999999999999999", "0.5", "x"),
    "--threshold": ("-0.1", "1.1", "nan", "x", "1", "0"),
    "--channels": ("1", "-1", "0,1", "", "x", "99999999999999999999999", "0,0"),
    "--scene": ("1", "-1", "99999999999999999999999", "x", "0.5"),
    "--axes": ("", "yy", "xyz", "qx", "y", "YX", "y x", "yxyxyx"),
    "--workers": ("-1", "x", "0"),
    "--cluster": (
        "nowhere",
        "",
        "tcp://127.0.0.1:9",
        "http://127.0.0.1:9",
        "tcp://256.256.256.256:1",
        "tcp://localhost:x",
        "\x1b[31m",
    ),
    "--from": ("nothing", IMAGE, MODEL, "/dev/zero", "."),
}
LINES = {
    "nothing": [],
    "a command of nobody": ["quux"],
    "an option alone": ["--quux"],
    "a command in capitals": ["SEGMENT"],
    "a control command": ["\x1b[31m"],
    "a command and an option of nobody": ["segment", IMAGE, "--quux"],
    "no result": ["segment", IMAGE, "--model", MODEL],
    "no image": ["segment", "--model", MODEL, "--out", "r.zarr"],
    "an image twice": ["segment", IMAGE, IMAGE, "--model", MODEL, "--out", "r"],
    "half an option": segmenting(IMAGE, "--allow"),
    "an option without a value": segmenting(IMAGE, "--tile"),
    "an option twice": segmenting(IMAGE, "--tile", "3", "--tile", "x"),
    "embedding and none": segmenting(IMAGE, "--embedding", "--no-embedding"),
    "limits and percentiles": segmenting(IMAGE, "--limits", "0,1", "--percentiles", "1,99"),
    "out of core to a file": segmenting(IMAGE, "--out-of-core"),
    "a workers' run to a file": segmenting(IMAGE, "--workers", "2"),
    "a word too many": ["check", "x"],
    "measure without a table": ["measure", IMAGE],
    "measure to a word": ["measure", IMAGE, "--out", "t.docx"],
    "measure with steps of nought": ["measure", "labels.npy", "--out", "t.csv", "--spacing", "0,0"],
    "measure with steps of NaN": ["measure", "labels.npy", "--out", "t.csv", "--spacing", "nan,nan"],
    "measure with three steps": ["measure", "labels.npy", "--out", "t.csv", "--spacing", "1,1,1"],
    "measure with a unit of control": ["measure", "labels.npy", "--out", "t.csv", "--unit", "\x1b[31m"],
    "measure of another image": ["measure", "labels.npy", "--out", "t.csv", "--image", MODEL],
    "measure of a model": ["measure", MODEL, "--out", "t.csv"],
    "export of a model": ["export", MODEL, "x.tif"],
    "export to a word": ["export", "labels.npy", "x.docx"],
    "export to nothing": ["export", "labels.npy", ""],
    "seams of an image": ["seams", IMAGE],
    "seams of nothing": ["seams", "nothing"],
    "seams of a device": ["seams", "/dev/zero"],
    "relabel of an image": ["relabel", IMAGE, "--out", "r.zarr"],
    "relabel to nothing": ["relabel", IMAGE],
    "verify of a model": ["verify", MODEL, "--model", MODEL],
    "verify of a frame beyond": ["verify", IMAGE, "--model", MODEL, "--frame", "9"],
    "verify of 10^9 px": ["verify", IMAGE, "--model", MODEL, "--max-pixels", "x"],
    "verify of a tile of 10^9": ["verify", IMAGE, "--model", MODEL, "--tile", "1000000000"],
    "probe of shifts of 10^9": ["probe", "--model", MODEL, "--shifts", "1000000000"],
    "probe of shifts of 0": ["probe", "--model", MODEL, "--shifts", "0"],
    "probe with a seed of 10^30": ["probe", "--model", MODEL, "--seed", "1" + "0" * 30],
    "probe with a seed of -1": ["probe", "--model", MODEL, "--seed", "-1"],
    "probe of a tolerance of 0": ["probe", "--model", MODEL, "--tolerance", "0"],
    "check of a tile of 0": ["check", "--model", MODEL, "--tile", "0"],
    "check of a tile of 10^9": ["check", "--model", MODEL, "--tile", "1000000000"],
    "check of a tile of three": ["check", "--model", MODEL, "--tile", "2,2,2"],
    "check of an image that is none": ["check", "--model", MODEL, "--image", MODEL],
    "info of an image that is none": ["info", "--image", MODEL],
    "info of a model that is none": ["info", "--model", IMAGE],
    "info of a shape of 10^9 on one axis": ["info", "--model", MODEL, "--plan", "--shape", "100x1000000000"],
    "info of a shape of 10^18": ["info", "--model", MODEL, "--plan", "--shape", "1000000000x1000000000"],
    "info of a shape of 10^60": ["info", "--model", MODEL, "--plan", "--shape", f"{10**30}x{10**30}"],
    "info of a shape of four": ["info", "--model", MODEL, "--plan", "--shape", "2x2x2x2"],
    "info of a shape of 0": ["info", "--model", MODEL, "--plan", "--shape", "0x0"],
    "info of a tile of 10^9": ["info", "--model", MODEL, "--plan", "--tile", "1000000000"],
    "info measuring a shape of 10^18": ["info", "--model", MODEL, "--plan", "--measure", "--shape", "1000000000x1000000000"],
    "synth of nobody": ["synth", "quux", "--out", "s.tif"],
    "synth to nothing": ["synth", "disks"],
    "synth of 10^18 px": ["synth", "disks", "--shape", "1000000000,1000000000", "--out", "s.tif"],
    "synth of 10^18 px with x": ["synth", "disks", "--shape", "1000000000x1000000000", "--out", "s.tif"],
    "synth of 10^60 px": ["synth", "blobs", "--shape", f"{10**30},{10**30}", "--out", "s.tif"],
    "synth of 10^27 px": ["synth", "squares", "--shape", "1000000000,1000000000,1000000000", "--out", "s.tif"],
    "synth of a ramp of 10^18 px": ["synth", "ramp", "--shape", "1000000000,1000000000", "--out", "s.tif"],
    "synth of 10^9 blobs": ["synth", "blobs", "--count", "1000000000", "--out", "s.tif"],
    "synth of a radius of 10^9": ["synth", "disks", "--radius", "1000000000", "--out", "s.tif"],
    "synth of a spacing of 10^9": ["synth", "disks", "--spacing", "1000000000", "--out", "s.tif"],
    "synth of a jitter of 10^9": ["synth", "disks", "--jitter", "1000000000", "--out", "s.tif"],
    "synth of an offset of 10^30": ["synth", "disks", "--offset", str(10**30), "--out", "s.tif"],
    "synth of a noise of 1e300": ["synth", "disks", "--noise", "1e300", "--out", "s.tif"],
    "synth of an elastic of 1e9": ["synth", "disks", "--elastic", "1e9", "--out", "s.tif"],
    "synth of a seed of 10^30": ["synth", "disks", "--seed", str(10**30), "--out", "s.tif"],
    "synth of levels of 10^9": ["synth", "disks", "--levels", "1000000000", "--out", "s.tif"],
    "synth of levels of 60": ["synth", "disks", "--levels", "60", "--out", "s.tif"],
    "synth of a pool of 10^9": ["synth", "disks", "--pool", "1000000000", "--out", "s.tif"],
    "synth of five dimensions": ["synth", "disks", "--shape", "5,5,5,5,5", "--out", "s.tif"],
    "synth of a shape of 0": ["synth", "disks", "--shape", "0,0", "--out", "s.tif"],
    "synth of two names alike": ["synth", "disks", "--out", "s.tif", "--labels", "s.tif"],
    "paper of nobody": ["paper", "quux"],
    "an image of 400 letters": segmenting("i" * 400),
    "a shell's words": segmenting("$(touch executed)"),
}
# What works although it looks strange, or does as little as it can.
WELL = {"--memory 1", "--memory 1KB", "--memory 1000000EB"}


def cases() -> list[Case]:
    """All of options."""
    found = []
    for option, values in RUN.items():
        for value in values:
            found.append(_option(option, value))
    return named("options", ((case.name, case) for case in (*found, *_lines(), *_shapes())))


def _option(option: str, value: str) -> Case:
    def make(folder: Path, chance: random.Random) -> list[str]:
        words = segmenting(IMAGE, option, value)
        return [word for word in words if word not in ("--model", MODEL)] if option == "--from" else words

    shown = value[:24].encode("unicode_escape").decode()
    return Case(kind="options", name=f"{option} {shown}", make=make, codes=EITHER, new=("found.tif",))


def _lines() -> Iterator[Case]:
    for name, words in LINES.items():
        # the folder holds what a run may write where it goes well
        new = tuple(word for word in words if word in ("t.csv", "s.tif", "x.tif"))
        yield Case(
            kind="options", name=name, make=lambda *_, words=words: words, codes=GOOD if name == "nothing" else EITHER, new=new
        )


def _shapes() -> Iterator[Case]:
    """A network that is trained with as much as there is: refused before anything is built."""
    huge = {
        "--batch": "1000000000",
        "--window": "1000000000",
        "--levels": "60",
        "--features": "1000000000",
        "--embedding-dim": "1000000000",
        "--growth": "1000000000",
        "--convs": "1000000000",
        "--kernel": "1000000001",
        "--head-kernel": "1000000001",
        "--decoder-convs": "1000000000",
        "--pool": "1000000000",
        "--seed": str(10**30),
        "--zoom": "1e300",
        "--keep": "1000000000",
        "--dtype": "float99",
        "--device": "gpu",
        "--learning-rate": "nan",
        "--delta-var": "-1",
        "--average": "2",
        "--small": "1e300",
        "--size-power": "1e300",
        "--ndim": "3",
        "--checkpoint": "data/images/a.npy",
    }
    for option, value in huge.items():

        def make(folder: Path, chance: random.Random, option=option, value=value) -> list[str]:
            import shutil

            for kind, name in (("images", IMAGE), ("masks", "labels.npy")):
                (folder / "data" / kind).mkdir(parents=True)
                shutil.copy(folder / name, folder / "data" / kind / "a.npy")
            small = {"--levels": "1", "--steps": "1", "--features": "2", "--convs": "1", option: value}
            return ["train", "data", "--out", "new.safetensors", *(word for pair in small.items() for word in pair)]

        fine = option in ("--zoom", "--small", "--size-power", "--seed", "--learning-rate")
        yield Case(
            kind="options",
            name=f"train {option} {value[:12]}",
            make=make,
            codes=EITHER if fine else BAD,
            new=("new.safetensors",),
        )
