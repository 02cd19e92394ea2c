"""Fuzz every parser: what others wrote is understood, or refused by an error of this package, and never anything else.

    nice -n 10 python benchmarks/fuzz.py --seconds 600 --out docs/measurements/fuzz.json
    python benchmarks/fuzz.py --seconds 20 --only limits

Words of the command (limits, percentiles, sizes, memory, axes, shapes, poolings, steps, numbers), units, OME-XML in a TIFF,
descriptions of stores, entries of OME-Zarr, records and jobs, tables of data, headers and descriptions of model files, specs,
checkpoints, results, and the bytes of images, chunks, models and checkpoints. Hypothesis draws what each gets: random text,
near misses of what is right, and what is right with some of it as something else. Each finding is printed once, by kind of
error and line. A parser gets its share of the seconds, and `LEAST` draws if that is too little for them.
"""

from __future__ import annotations

import argparse
import json
import signal
import string
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from bench import keep, origin, parser, told
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from imagecodecs import jpeg8_encode, png_encode

from napari_shiftseg import UNet, UNetSpec, open_result, read_image, save_model
from napari_shiftseg.cli import options
from napari_shiftseg.cli.measure import steps as spacing
from napari_shiftseg.cli.pairs import find_pairs
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import from_plain, load_model, save_result, to_json, to_plain
from napari_shiftseg.io.axes import check_axes, unit_name
from napari_shiftseg.io.ome_zarr import read_entry
from napari_shiftseg.network import Clustering, ModelRecord, Normalisation
from napari_shiftseg.network.checkpoint import Checkpoint
from napari_shiftseg.network.device import memory_errors
from napari_shiftseg.segmentation import Job
from napari_shiftseg.views import View

# seconds after which a parser hangs; the slowest case of a busy machine takes one
LONG = 30


class Hang(BaseException):
    """A parser did not come to an end; no `except Exception` takes it for something else."""


def hang(*_: object) -> None:
    raise Hang(f"no end after {LONG} s")


NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 10**9, 10**30, "0", "-0", "1e400", "nan", "inf", "1_0", "\u0661", "0x1"]),
)
WORD = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=string.digits + ".,:xXeE+-_ kMGTiBnaf", max_size=20),
    st.lists(NUMBERS.map(str), max_size=4).flatmap(
        lambda parts: st.sampled_from([",".join(parts), ":".join(parts), "x".join(parts)])
    ),
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
SPEC = UNetSpec(levels=1, convs=1, features=2)
LETTERS = st.text(alphabet="tczyxTCZYXqs ", max_size=6)
RIGHT = (ShiftsegError, argparse.ArgumentTypeError)
LEAST = 200  # draws of each parser, so that one that comes last on a busy machine is tried at all


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=600)
    made.add_argument("--only", help="parsers whose names hold a text")
    made.add_argument("--seed", type=int, default=0)
    wishes = made.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, hang)
    with tempfile.TemporaryDirectory() as place:
        chosen = {name: one for name, one in parsers(Path(place)).items() if (wishes.only or "") in name}
        rows = [told(fuzz(name, *one, seconds=wishes.seconds / len(chosen), seed=wishes.seed)) for name, one in chosen.items()]
    found = sum(len(row["found"]) for row in rows)
    keep(wishes.out, {**origin("hypothesis"), "tried": sum(row["tried"] for row in rows), "found": found, "rows": rows})
    return 1 if found else 0


def fuzz(
    name: str, parse: Callable[[Any], object], values: st.SearchStrategy[Any], *, seconds: float, seed: int
) -> dict[str, Any]:
    """Try one parser for some seconds."""
    until, tried, refused, found = time.monotonic() + seconds, 0, 0, dict[str, str]()

    def once(value: Any) -> None:
        nonlocal tried, refused
        if time.monotonic() > until and tried >= LEAST:
            return
        tried += 1
        try:
            signal.alarm(LONG)
            parse(value)
        except RIGHT:
            refused += 1
        except (Exception, Hang) as exc:  # noqa: BLE001  # which is what is looked for
            line = traceback.extract_tb(exc.__traceback__)[-1]
            found.setdefault(f"{type(exc).__name__} at {Path(line.filename).name}:{line.lineno}", repr(value)[:200])
        finally:
            signal.alarm(0)

    quick = settings(
        max_examples=500, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    import hypothesis

    while time.monotonic() < until or tried < LEAST:
        seed += 1
        hypothesis.seed(seed)(quick(given(values)(once)))()
    return {"parser": name, "tried": tried, "refused": refused, "found": [f"{kind}: {value}" for kind, value in found.items()]}


def changed(right: Any) -> st.SearchStrategy[Any]:
    """What is right, with an entry or two as something else, gone or new."""
    places = list(_places(right))

    @st.composite
    def draw(pick: Callable[[Any], Any]) -> Any:
        value = json.loads(json.dumps(right))
        for _ in range(pick(st.integers(1, 2))):
            way = pick(st.sampled_from(places))
            with suppress(KeyError, IndexError, TypeError):
                inner = value
                for key in way[:-1]:
                    inner = inner[key]
                if pick(st.integers(0, 4)) == 0:
                    del inner[way[-1]]
                else:
                    inner[way[-1]] = pick(VALUE)
        return value

    return st.one_of(draw(), VALUE)


def _places(value: Any, way: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*way, key)
        yield from _places(inner, (*way, key))


def parsers(place: Path) -> dict[str, tuple[Callable[[Any], object], st.SearchStrategy[Any]]]:
    """By name: what is called, and what it gets."""
    words: dict[str, Callable[[str], object]] = {
        "limits": options.limits,
        "percentiles": options.percentiles,
        "memory": options.byte_count,
        "sizes": options.edges,
        "shape": options.shape,
        "channels": options.indices,
        "pooling": options.pooling,
        "diameter": options.diameter,
        "no data": options.finite,
        "whole numbers": options.whole(0),
        "numbers": options.number(0, 1),
        "steps": spacing,
        "units": unit_name,
    }
    spec, record = (
        UNetSpec(levels=1, features=2),
        ModelRecord(window=(6, 6), normalisation=Normalisation(), clustering=Clustering()),
    )
    found: dict[str, tuple[Callable[[Any], object], st.SearchStrategy[Any]]] = {
        name: (parse, WORD) for name, parse in words.items()
    }
    found["axes"] = (options.axes, st.one_of(WORD, LETTERS))
    found["axes of an array"] = (lambda text: check_axes(text, (4, 5, 6)), st.one_of(WORD, LETTERS))
    found["spec"] = (lambda value: from_plain(UNetSpec, value), changed(to_plain(spec)))
    found["record of a model"] = (lambda value: from_plain(ModelRecord, value), changed(to_plain(record)))
    found["clustering"] = (lambda value: from_plain(Clustering, value), changed(to_plain(Clustering())))
    found["job"] = (Job.from_dict, changed(job_of(place)))
    entry = {
        "axes": [{"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 2.0]}]}],
        "name": "a",
        "version": "0.4",
    }
    found["entry of OME-Zarr"] = (lambda value: read_entry(value, "0.4", "a"), changed(entry))
    found["description of a store"] = (lambda value: stored(place, value), changed(description()))
    found["OME-XML"] = (lambda value: tiff(place, value), xml())
    found["header of a model"] = (lambda value: header(place, value), changed(head_of(place)))
    found["description in a model"] = (
        lambda value: header(place, {**head_of(place), "__metadata__": value}),
        deeper(head_of(place)["__metadata__"]),
    )
    found["meta.csv"] = (lambda data: table(place, data), tables())
    found["checkpoint"] = (lambda value: checkpoint(place, value), changed(saved()))
    found["description of a result"] = (lambda value: opened(place, value), changed(description_of_a_result(place)))
    for name, parse in files(place).items():
        found[f"bytes of {name}"] = (parse, torn((place / name).read_bytes()))
    return found


def job_of(place: Path) -> dict[str, Any]:
    from napari_shiftseg import SegmentSettings
    from napari_shiftseg.network import Model
    from napari_shiftseg.segmentation import decide

    net = UNet(UNetSpec(levels=1, convs=1, features=2)).eval()
    model = load_model(save_model(place / "job.safetensors", Model(module=net, record=ModelRecord(window=(8, 8)))))
    plain: dict[str, Any] = json.loads(
        json.dumps(decide(np.zeros((40, 40), np.float32), model, SegmentSettings(device="cpu")).to_dict())
    )
    return plain


def description() -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8, 8],
        "data_type": "uint8",
        "fill_value": 0,
        "attributes": {},
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 8]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "storage_transformers": [],
        "dimension_names": None,
    }


def stored(place: Path, value: Any) -> None:
    path = place / "s.zarr"
    path.mkdir(exist_ok=True)
    (path / "zarr.json").write_text(json.dumps(value), encoding="utf-8")
    read_image(path)


def xml() -> st.SearchStrategy[str]:
    """OME-XML of a plane of 8 x 8 px, with attributes that may say anything."""
    names = (
        "SizeX",
        "SizeY",
        "SizeZ",
        "SizeC",
        "SizeT",
        "Type",
        "DimensionOrder",
        "PhysicalSizeX",
        "PhysicalSizeXUnit",
        "TimeIncrement",
    )
    usual = {"SizeX": "8", "SizeY": "8", "SizeZ": "1", "SizeC": "1", "SizeT": "1", "Type": "uint8", "DimensionOrder": "XYZCT"}
    plain = st.text(alphabet=st.characters(codec="ascii", exclude_characters="<>&\"'\0", exclude_categories=["Cc"]), max_size=8)
    said = st.dictionaries(st.sampled_from(names), st.one_of(plain, NUMBERS.map(str)), max_size=3)
    more = st.dictionaries(st.sampled_from(["IFD", "FirstZ", "FirstC", "FirstT", "PlaneCount"]), NUMBERS.map(str), max_size=2)

    def build(values: dict[str, str], data: dict[str, str]) -> str:
        pixels, planes = (" ".join(f'{k}="{v}"' for k, v in some.items()) for some in ({**usual, **values}, data))
        return (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f"{pixels}><TiffData {planes}/></Pixels></Image></OME>"
        )

    return st.builds(build, said, more)


def tiff(place: Path, text: str) -> None:
    path = place / "i.ome.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), description=text.encode("utf-8", "replace"), metadata=None)
    pixels_of(path)


def pixels_of(path: Path) -> None:
    """Read all pixels of an image as a run does."""
    with memory_errors("an image"):
        View.whole(read_image(path).data)[...]


def torn(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of a file, a few of which are others, gone, or there twice."""
    few = st.binary(min_size=0, max_size=4)
    places = st.integers(0, min(len(data), 600)) | st.integers(0, len(data))
    change = st.tuples(places, st.integers(0, 4), few)

    def build(changes: list[tuple[int, int, bytes]]) -> bytes:
        made = data
        for at, length, more in changes:
            made = made[:at] + more + made[at + length :]
        return made

    cut = st.integers(0, len(data)).map(lambda length: data[:length])
    return st.one_of(st.builds(build, st.lists(change, min_size=1, max_size=3)), cut)


def files(place: Path) -> dict[str, Callable[[bytes], object]]:
    """A right file of each format, and what reads one of other bytes."""
    import zarr

    pixels = np.arange(96, dtype=np.uint8).reshape(8, 12)
    np.save(place / "a.npy", pixels)
    tifffile.imwrite(place / "plain.tif", pixels)
    tifffile.imwrite(place / "packed.tif", pixels, compression="zlib", tile=(16, 16))
    tifffile.imwrite(place / "set.ome.tif", np.stack([pixels] * 3), metadata={"axes": "ZYX", "PhysicalSizeX": 0.5})
    (place / "a.png").write_bytes(png_encode(pixels))
    (place / "a.jpg").write_bytes(jpeg8_encode(pixels))
    np.savez(place / "a.npz", pixels)
    zarr.create_array(str(place / "chunk.zarr"), data=pixels)
    (chunk,) = (file for file in (place / "chunk.zarr" / "c").rglob("*") if file.is_file())
    (place / "chunk").write_bytes(chunk.read_bytes())
    save_model(place / "m.safetensors", UNet(UNetSpec(levels=1, convs=1, features=2)), ModelRecord(window=(8, 8)))
    torch.save(saved(), place / "a.ckpt")

    def image(name: str) -> Callable[[bytes], object]:
        def parse(data: bytes) -> None:
            (place / f"f-{name}").write_bytes(data)
            pixels_of(place / f"f-{name}")

        return parse

    def chunked(data: bytes) -> None:
        chunk.write_bytes(data)
        pixels_of(place / "chunk.zarr")

    def model(data: bytes) -> None:
        (place / "f.safetensors").write_bytes(data)
        load_model(place / "f.safetensors")

    def check(data: bytes) -> None:
        (place / "f.ckpt").write_bytes(data)
        goes_on(place / "f.ckpt")

    images = ("a.npy", "plain.tif", "packed.tif", "set.ome.tif", "a.png", "a.jpg")
    return {**{name: image(name) for name in images}, "chunk": chunked, "m.safetensors": model, "a.ckpt": check}


def goes_on(path: Path) -> None:
    """Give the parts of a training what a checkpoint holds."""
    net = UNet(SPEC)
    ours = Checkpoint(path, spec=SPEC, settings={"window": "(12, 12)"}, images=())
    ours.resume({"model": net, "optimiser": torch.optim.Adam(net.parameters())})


def saved() -> dict[str, Any]:
    """What a checkpoint holds, without its weights, which Hypothesis would draw from for ever."""
    return {"spec": json.loads(to_json(SPEC)), "step": 3, "model": {}, "optimiser": {"state": {}, "param_groups": []}}


def checkpoint(place: Path, value: Any) -> None:
    torch.save(value, place / "f.ckpt")
    goes_on(place / "f.ckpt")


def description_of_a_result(place: Path) -> dict[str, Any]:
    labels = np.zeros((8, 8), np.uint32)
    save_result(place / "r.zarr", labels=labels, axes="yx", scale=(1.0, 2.0), record={"clustering": {}})
    plain: dict[str, Any] = json.loads((place / "r.zarr" / "zarr.json").read_text(encoding="utf-8"))
    return plain


def opened(place: Path, value: Any) -> None:
    (place / "r.zarr" / "zarr.json").write_text(json.dumps(value), encoding="utf-8")
    open_result(place / "r.zarr")


def deeper(metadata: dict[str, str]) -> st.SearchStrategy[dict[str, str]]:
    """Texts of JSON by name, as they stand in a model file, of which some say something else."""
    plain = {name: json.loads(text) if text[:1] in "[{" else text for name, text in metadata.items()}
    return changed(plain).map(
        lambda value: {
            str(name): one if isinstance(one, str) else json.dumps(one)
            for name, one in (value.items() if isinstance(value, dict) else [("spec", value)])
        }
    )


def tables() -> st.SearchStrategy[bytes]:
    """Tables with a head, of any columns and coding, or bytes."""
    cell = st.one_of(st.sampled_from(["a", "a.npy", "train", "id", "split", "train,test", '"', "\n", "../a", "\0", ""]), WORD)
    rows = st.lists(st.lists(cell, max_size=3), max_size=4)
    head = st.sampled_from([["id", "split"], ["split", "id"], ["id", "id", "split"], ["id"], ["\ufeffid", "split", ""]])
    coding = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32"])

    def build(head: list[str], rows: list[list[str]], mark: str, coding: str) -> bytes:
        return "\n".join(mark.join(row) for row in (head, *rows)).encode(coding, "replace")

    return st.one_of(st.binary(max_size=80), st.builds(build, head, rows, st.sampled_from([",", ";", "\t"]), coding))


def head_of(place: Path) -> dict[str, Any]:
    path = save_model(place / "m.safetensors", UNet(UNetSpec(levels=1, convs=1, features=2)), ModelRecord(window=(8, 8)))
    data = path.read_bytes()
    plain: dict[str, Any] = json.loads(data[8 : 8 + struct.unpack_from("<Q", data)[0]])
    return plain


def header(place: Path, value: Any) -> None:
    data = (place / "m.safetensors").read_bytes()
    text = json.dumps(value).encode()
    (place / "f.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + struct.unpack_from("<Q", data)[0] :])
    load_model(place / "f.safetensors")


def table(place: Path, data: bytes) -> None:
    for kind in ("images", "masks"):
        (place / "data" / kind).mkdir(parents=True, exist_ok=True)
        (place / "data" / kind / "a.npy").touch()
    (place / "data" / "meta.csv").write_bytes(data)
    find_pairs([place / "data"], "train")


if __name__ == "__main__":
    sys.exit(main())
