"""Digests of what `segment` computes, so that a change of the code shows whether one bit of a result changed with it.

    python benchmarks/digests.py --write before.json
    python benchmarks/digests.py --against before.json

SHA-256 of labels, embedding and foreground: all presets and samples with the bundled models, networks of all kinds with made
weights, 2D, 3D, stacks, series and channels, tiles, streams and one pass, out of core, the command and two workers. Each entry
names its tiles or its method and more memory than it needs, so that it says what is computed, whatever is free. Sums differ
between processors: both files have to come from one machine. Exit code 1 where an entry differs or is not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch

from napari_shiftseg import (
    SegmentSettings,
    UNet,
    UNetSpec,
    label_instances,
    load_model,
    mean_shift,
    open_result,
    plan_tiles,
    predict,
    read_image,
    save_model,
    segment,
    synthetic,
)
from napari_shiftseg.errors import SettingsError

BUNDLED = ("nuclei", "disks-fig2b", "disks-fig3", "disks-fig3a")
ENOUGH = {"device": "cpu", "dtype": "float32", "memory": 8 << 30}
HERE = {**ENOUGH, "out_of_core": False, "allow_noncompliant": True}
WAYS: dict[str, dict[str, Any]] = {
    "48 px": {"write": 48},
    "104 px": {"write": 104},
    "whole": {"write": 10_000},
    "stream": {"method": "stream"},
    "deterministic": {"write": 48, "deterministic": True},
    "deterministic, whole": {"write": 10_000, "deterministic": True},
}
MADE = {
    "volumes": UNetSpec(ndim=3, levels=2, features=4, foreground=True),
    "flat pools": UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), features=4, foreground=True, coordinates=True),
    "padded": UNetSpec(levels=2, features=6, foreground=True, padding="zero"),
    "two channels": UNetSpec(levels=2, features=6, in_channels=2, upsampling="fixed", embedding_dim=8),
    "batch norm": UNetSpec(levels=2, features=6, batch_norm=True, head_kernel=3, decoder_convs=1, foreground=True),
}
VOLUMES = {"16 px": {"write": 16}, "whole": {"write": 1000}, "stream": {"method": "stream"},
           "deterministic": {"write": (8, 16, 16), "deterministic": True}}  # fmt: skip
# Codes of made weights lie close together, and half of the pixels are above these probabilities.
HALF = {"volumes": 0.041, "flat pools": 0.041, "padded": 0.125, "batch norm": 0.232}
FINE: dict[str, dict[str, Any]] = {name: {"bandwidth": 0.05, "min_size": 6, "threshold": p} for name, p in HALF.items()}
WISHES: tuple[dict[str, Any], ...] = (
    {"bandwidth": 1.5}, {"min_size": 120}, {"threshold": 0.4}, {"write": 50}, {"write": (40, 96)}, {"limits": (10, 90)},
    {"percentiles": (2, 98)}, {"invert": True}, {"no_data": 0}, {"keep_embedding": False},
)  # fmt: skip
SERIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("tyx", "nuclei", {}), ("tyx", "nuclei", {"limits_per": "frame"}), ("zyx", "nuclei", {}),
    ("tzyx", "volumes", FINE["volumes"]), ("cyx", "nuclei", {"channels": (1,)}),
    ("cyx", "two channels", {"channels": (2, 0), "bandwidth": 4}),
    ("tcyx", "two channels", {"bandwidth": 4}),
)  # fmt: skip
# Labels of several blocks that depend on the network alone, in the first of these memories that a run takes, MB.
BLOCKS = {"write": 48, "deterministic": True}
SCARCE = (620, 700, 800, 1000)
COMMANDS = (
    "--tile 96 --memory 8GB", "--method stream --memory 8GB", "--tile 96 --out-of-core --embedding --memory 8GB",
    "--tile 64 --deterministic --workers 2 --memory {}MB",
)  # fmt: skip
Parts = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--against", type=Path, metavar="FILE")
    parser.add_argument("--only", default="", metavar="WORDS", help="entries whose name holds these words")
    wishes = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # sums depend on the number of threads
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    begun, found = time.perf_counter(), {}
    with tempfile.TemporaryDirectory(prefix="digests-") as folder:
        for name, run in entries(Path(folder)):
            if wishes.only in name:
                found[name] = digests(run)
    print(f"{len(found)} entries in {time.perf_counter() - begun:.0f} s")
    if wishes.write:
        wishes.write.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not wishes.against:
        return 0
    known = json.loads(wishes.against.read_text())
    known = {name: parts for name, parts in known.items() if wishes.only in name}
    differing = {
        name: [part for part in parts if found.get(name, {}).get(part) != parts[part]] for name, parts in known.items()
    }
    for name, parts in differing.items():
        if parts:
            print(f"{name}: {', '.join(parts)} differ ({found.get(name, {}).get('error', 'other bits')})")
    print(f"{sum(map(bool, differing.values()))} of {len(known)} entries differ")
    return int(any(differing.values()))


def digests(run: Callable[[], Parts]) -> dict[str, str]:
    """Hash of each part; of a run that fails its error, which differs from all hashes."""
    try:
        parts = run()
    except Exception as exc:  # noqa: BLE001 one entry that fails does not hide the others
        return {"error": f"{type(exc).__name__}: {exc}"}
    arrays = {name: np.ascontiguousarray(part[...]) for name, part in parts.items() if part is not None}
    return {name: hashlib.sha256(f"{a.shape} {a.dtype}".encode() + a.tobytes()).hexdigest() for name, a in arrays.items()}


def entries(folder: Path) -> Iterator[tuple[str, Callable[[], Parts]]]:
    """Name of each entry, and what computes it."""
    nuclei = tifffile.imread(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    part, big = nuclei[:300, :260], np.tile(nuclei, (2, 2))[:900, :1100]
    planes = {name: synthetic.make(preset.recipe).image for name, preset in synthetic.presets().items()}
    planes |= {"blobs": synthetic.blobs((256, 256), 60, seed=0).image, "part of nuclei": part}
    volume = synthetic.blobs((40, 56, 60), 12, seed=0).image
    stack = np.stack([nuclei[:150, at : at + 170] for at in (0, 170, 340)])
    made = {name: made_model(folder, name, spec) for name, spec in MADE.items()}
    for (image, pixels), name, (way, wish) in product(planes.items(), BUNDLED, WAYS.items()):
        yield f"{image}, {name}, {way}", partial(segmented, pixels, name, wish)
    for way, wish in WAYS.items():
        yield f"nuclei, nuclei, {way}", partial(segmented, nuclei, "nuclei", wish)
    for wish in WISHES:
        yield f"part of nuclei, nuclei, {wish}", partial(segmented, part, "nuclei", {"write": 48, **wish})
    for name, (way, wish) in product(("volumes", "flat pools"), VOLUMES.items()):
        yield f"blobs 3D, {name}, {way}", partial(segmented, volume, made[name], {**FINE[name], **wish})
    for name, (way, wish) in product(("padded", "batch norm"), WAYS.items()):
        if (name, way) != ("padded", "stream"):  # which cannot be
            yield f"blobs, {name}, {way}", partial(segmented, planes["blobs"], made[name], {**FINE[name], **wish})
    named = {"tyx": stack, "zyx": stack, "cyx": stack, "tcyx": np.stack([stack[:2], stack[1:]])}
    named["tzyx"] = np.stack([volume[:16], volume[16:32]])
    for (axes, model, wish), method in product(SERIES, ("tiles", "stream")):
        np.save(folder / f"{axes}.npy", named[axes])
        image, tile = read_image(folder / f"{axes}.npy", axes=axes), {} if method == "stream" else {"write": 16}
        settings = {"method": method, **tile, **wish}
        yield f"{axes}, {model}, {wish}, {method}", partial(segmented, image, made.get(model, model), settings)
    for border, write, method in product(("reflect", "valid"), (32, 10_000), ("tiles", "stream")):
        yield f"predict, border {border}, {write} px, {method}", partial(predicted, part, border, write, method)
    rng = np.random.default_rng(0)
    for dim in (1, 2, 3, 5, 8, 16):
        codes = 4 * rng.integers(0, 5, (dim, 12, 10)).repeat(12, 1).repeat(12, 2) + rng.normal(0, 0.4, (dim, 144, 120))
        yield f"clustering, {dim} channels", partial(clustered, codes.astype(np.float32))
    tifffile.imwrite(folder / "big.tif", big)
    for way, image, model, wish in (
        ("tiles", nuclei, "nuclei", {"write": 96}), ("stream", nuclei, "nuclei", {"method": "stream"}),
        ("off the lattice", nuclei, "nuclei", {"write": 50}), ("series", stack, "nuclei", {"write": 48}),
        ("3D", volume, made["volumes"], {"write": 16, **FINE["volumes"]}), ("blocks", folder / "big.tif", "nuclei", BLOCKS),
        ("two workers", folder / "big.tif", "nuclei", {**BLOCKS, "workers": 2}),
    ):  # fmt: skip
        yield f"out of core, {way}", partial(stored, folder / f"{way}.ome.zarr", image, model, wish)
    for words in ("--padding zero --neighbours", "--coordinates --batch-norm"):
        yield f"train {words}", partial(trained, folder / words.replace(" ", ""), words)
    for words in COMMANDS:
        yield f"command {words}", partial(commanded, folder, words)


def segmented(image: Any, model: Any, wish: dict[str, Any]) -> Parts:
    """A run in memory."""
    result = segment(image, model, SegmentSettings(**{**HERE, **wish}))
    return {"labels": result.labels, "embedding": result.embedding, "foreground": result.foreground}


def stored(out: Path, image: Any, model: Any, wish: dict[str, Any]) -> Parts:
    """A run from disk to disk."""
    wish = {**ENOUGH, "out_of_core": True, "keep_embedding": True, "allow_noncompliant": True, **wish}
    scarce = "deterministic" in wish
    afforded(lambda mega: segment(image, model, SegmentSettings(**wish | ({"memory": mega * 10**6} if scarce else {})), out))
    return opened(out)


def afforded(run: Callable[[int], object]) -> None:
    """Run in the first memory that is not refused."""
    for mega in SCARCE:
        try:
            run(mega)
        except (SettingsError, subprocess.CalledProcessError):
            if mega == SCARCE[-1]:
                raise
        else:
            return


def opened(out: Path) -> Parts:
    """What lies in a store."""
    result = open_result(out)
    return {"labels": result.labels, "embedding": result.embedding, "foreground": result.foreground}


def clustered(codes: npt.NDArray[Any]) -> Parts:
    """Labels of made codes, and modes and assignment of some of them."""
    modes, assigned = mean_shift(codes.reshape(len(codes), -1).T[::7], 1.0)
    return {"labels": label_instances(codes, bandwidth=1.0, min_size=9), "modes": modes, "assigned": assigned}


def commanded(folder: Path, words: str) -> Parts:
    """A run of the command."""
    out, table = folder / "command.ome.zarr", folder / "command.csv"
    command = [sys.executable, "-m", "napari_shiftseg.cli", "segment", str(folder / "big.tif"), "--quiet", "--device", "cpu"]
    places = ["--out", str(out), "--table", str(table), "--overwrite"]
    command += ["--dtype", "float32", *places]
    afforded(lambda mega: subprocess.run([*command, *words.format(mega).split()], check=True, capture_output=True))
    return {**opened(out), "table": np.frombuffer(table.read_bytes(), np.uint8)}


def trained(folder: Path, words: str) -> Parts:
    """Weights after a few steps, and what they make of an image."""
    blobs = synthetic.blobs((160, 160), 30, seed=1)
    for name, pixels in {"images": blobs.image, "masks": blobs.labels.astype(np.uint16)}.items():
        (folder / name).mkdir(parents=True)
        tifffile.imwrite(folder / name / "blobs.tif", pixels)
    out = folder / "model.safetensors"
    kind = "--levels 2 --features 4 --foreground --window 32 --steps 12 --batch 2 --average 0.5 --device cpu"
    command = [sys.executable, "-m", "napari_shiftseg.cli", "train", str(folder), "--out", str(out), *kind.split()]
    subprocess.run([*command, "--dtype", "float32", *words.split()], check=True, capture_output=True)
    weights = {name: value.numpy() for name, value in load_model(out).module.state_dict().items()}
    return {**weights, **segmented(blobs.image, out, {"write": 32, "threshold": 0.4, "bandwidth": 0.1})}


def predicted(image: npt.NDArray[Any], border: Any, write: int, method: Any) -> Parts:
    """The embedding alone."""
    model = load_model("nuclei")
    plan = plan_tiles(model.spec, image.shape, write, border=border)
    return {"embedding": predict(model, image, plan, device="cpu", dtype="float32", method=method, memory=4 << 30)}


def made_model(folder: Path, name: str, spec: UNetSpec) -> Path:
    """A model file with weights that depend on their names alone."""
    net = UNet(spec)
    for key, value in net.state_dict().items():
        rng = np.random.default_rng(list(key.encode()))
        fan = max(1, value[0].numel() if value.ndim > 1 else 4)
        drawn = (
            rng.normal(0, (2 / fan) ** 0.5, tuple(value.shape)) if value.is_floating_point() else np.zeros(tuple(value.shape))
        )
        value.copy_(torch.from_numpy(np.abs(drawn) + 0.5 if "var" in key else drawn))
    return save_model(folder / name.replace(" ", "-"), net)


if __name__ == "__main__":
    sys.exit(main())
