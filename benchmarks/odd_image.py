"""An image of 1003 x 1003 px, no multiple of any period: where tilers put their windows, and what that changes.

Each tiler is compared with the whole image in one pass of its own network: ours with valid convolutions, the peers' with the
same weights and zero padding. `inside` and the labels leave out all pixels that can see the border of the image. A window is
off the lattice where its first pixel and that of the whole image are no whole periods apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.resources import files
from math import prod

import numpy as np
import tifffile
import torch
from peer_runs import CONFIGS, WHOLE, Subject, difference, methods, run_ours, run_peer
from peer_tilers import shifted_blocks, tilers
from safetensors import safe_open

from napari_shiftseg import synthetic
from napari_shiftseg.geometry import UNetSpec, plan_tiles
from napari_shiftseg.instances import LabelSettings, label_instances
from napari_shiftseg.io import from_json
from napari_shiftseg.network import ModelRecord, UNet

EDGE = 1003
TILES = (48, 64, 128, 192, 256, 320, 512)
STRIPS = (16, 32, 64, 128, 256)
PLAIN = CONFIGS[1]  # float32, channels last


def odd_image(device: str, models: Sequence[str]) -> list[dict]:
    """One entry for an untrained network, and one for each trained model."""
    entries = [examine("untrained", Subject.random(2, EDGE, 3, 16, device), None)]
    for name in models:
        net, record = bundled(name)
        image = record.normalisation.limits(picture(name)).apply(picture(name))
        settings = LabelSettings(coordinates=net.spec.coordinates, **asdict(record.clustering))
        entries.append(examine(name, Subject.of(net, image, device), settings))
    return entries


def examine(name: str, subject: Subject, settings: LabelSettings | None) -> dict:
    """All tilers on one network."""
    spec = subject.net.spec
    border = spec.reach[0] + 1
    rows = []
    whole = run_ours(subject, WHOLE, PLAIN)
    mine = Judge(whole, border, settings, spec)
    start = first_pixels(spec, subject.shape, 1 << 30)
    for edge in (edge // spec.period[0] * spec.period[0] for edge in TILES):
        found = run_ours(subject, "tiles", PLAIN, edge)
        windows = first_pixels(spec, subject.shape, edge)
        rows.append({"name": f"tiles of {edge} px", "ours": True, **mine.judge(found), **phases(windows, spec, start)})
    if "stream" in methods():
        for strip in STRIPS:
            found = run_ours(subject, "stream", PLAIN, strip=max(strip, spec.period[0]))
            rows.append({"name": f"stream, strips of {strip} rows", "ours": True, **mine.judge(found)})
    theirs = Judge(whole_of_twin(subject), border, settings, spec)
    peers = {**tilers(2, 256), **shifted_blocks(256, (48,))}
    for peer in peers.values():
        found = run_peer(subject, peer, PLAIN)
        rows.append({"name": peer.name, "ours": False, **theirs.judge(found), **phases(peer.starts(subject.shape), spec)})
    for row in rows:
        print(name, json.dumps(row), flush=True)
    return {"network": name, "spec": spec.to_dict(), "edge": EDGE, "period": spec.period[0], "border": border, "rows": rows}


class Judge:
    """Compares results with one of the whole image."""

    def __init__(self, whole: np.ndarray, border: int, settings: LabelSettings | None, spec: UNetSpec) -> None:
        self.whole, self.border, self.settings, self.spec = whole, border, settings, spec
        self.labels = None if settings is None else self._labelled(whole)

    def judge(self, found: np.ndarray) -> dict:
        count = self.spec.embedding_dim
        values: dict = {"difference": difference(found[:count], self.whole[:count], self.border)}
        if self.labels is not None:
            labels = self._labelled(found)
            values |= {
                "instances": int(labels.max()),
                "instances_whole": int(self.labels.max()),
                "ari": adjusted_rand_index(labels, self.labels),
                "pixels_decided_otherwise": otherwise(labels, self.labels),
            }
        return values

    def _labelled(self, found: np.ndarray) -> np.ndarray:
        """Labels of the part that does not see the border, where padding differs from tiler to tiler."""
        count = self.spec.embedding_dim
        found = found[(slice(None), *(slice(self.border, size - self.border) for size in found.shape[1:]))]
        foreground = found[count] if self.spec.foreground else None
        return label_instances(found[:count], foreground, settings=self.settings)


def whole_of_twin(subject: Subject) -> np.ndarray:
    """One pass of the zero-padded network over the image, which is filled with zeros up to whole periods."""
    spec = subject.twin.spec
    size = [-(-edge // period) * period for edge, period in zip(subject.shape, spec.period, strict=True)]
    padded = np.pad(subject.image, [(0, 0), *((0, n - edge) for n, edge in zip(size, subject.shape, strict=True))])
    whole = Whole(padded)
    return run_peer(subject, whole, PLAIN)[(slice(None), *(slice(0, edge) for edge in subject.shape))]


class Whole:
    """A tiler of one window."""

    def __init__(self, padded: np.ndarray) -> None:
        self.padded = padded

    def run(self, image: np.ndarray, network: Callable, device: torch.device) -> np.ndarray:
        return network(torch.from_numpy(self.padded)[None].to(device))[0].cpu().numpy()


def first_pixels(spec: UNetSpec, shape: Sequence[int], edge: int) -> tuple[tuple[int, ...], ...]:
    """Where our tiles begin to read, image pixels per axis."""
    plan = plan_tiles(spec, shape, edge)
    return tuple(
        tuple(read.start - before for read, _, _ in tiles) for tiles, (before, _) in zip(plan.axes, plan.pad, strict=True)
    )


def phases(
    starts: tuple[tuple[int, ...], ...], spec: UNetSpec, whole: tuple[tuple[int, ...], ...] = ((0,), (0,))
) -> dict[str, object]:
    """Phases of the windows relative to the whole image per axis, and how many windows are off the lattice."""
    found = [
        [(start - first[0]) % period for start in axis] for axis, first, period in zip(starts, whole, spec.period, strict=True)
    ]
    on = prod(sum(phase == 0 for phase in axis) for axis in found)
    count = prod(len(axis) for axis in found)
    return {"windows": count, "off_lattice": count - on, "phases": [sorted({int(phase) for phase in axis}) for axis in found]}


def bundled(name: str) -> tuple[UNet, ModelRecord]:
    """A model of the package, read without the rooms that need zarr."""
    with safe_open(str(files("napari_shiftseg") / "weights" / f"{name}.safetensors"), framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a dict
    net = UNet(from_json(UNetSpec, metadata["spec"]))
    net.load_state_dict(tensors)
    return net, from_json(ModelRecord, metadata["record"])


def picture(name: str) -> np.ndarray:
    """An image for a model, (1, 1003, 1003): the sample of nuclei, mirrored beyond its borders, or disks on a lattice."""
    if name.startswith("disks"):
        return synthetic.disks((EDGE, EDGE), 13, 5).image[None].astype(np.float32)
    sample = tifffile.imread(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    return np.pad(sample, [(0, EDGE - size) for size in sample.shape], mode="reflect")[None].astype(np.float32)


def adjusted_rand_index(labels: np.ndarray, truth: np.ndarray) -> float:
    """Over all pixels, the background as one more instance (Hubert and Arabie 1985)."""
    pairs = labels.ravel().astype(np.int64) * (int(truth.max()) + 1) + truth.ravel()
    both, rows, columns = (np.unique(values, return_counts=True)[1].astype(np.float64) for values in (pairs, labels, truth))
    chosen = [float((n * (n - 1) / 2).sum()) for n in (both, rows, columns)]
    total = labels.size * (labels.size - 1) / 2
    expected = chosen[1] * chosen[2] / total
    most = (chosen[1] + chosen[2]) / 2
    return 1.0 if most == expected else (chosen[0] - expected) / (most - expected)


def otherwise(labels: np.ndarray, truth: np.ndarray) -> int:
    """Pixels outside the largest overlap of their instance with one of the whole image's, whatever the numbers."""
    pairs = labels.ravel().astype(np.int64) * (int(truth.max()) + 1) + truth.ravel()
    values, counts = np.unique(pairs, return_counts=True)
    best: dict[int, int] = {}
    for value, count in zip((values // (int(truth.max()) + 1)).tolist(), counts.tolist(), strict=True):
        best[value] = max(best.get(value, 0), count)
    return int(labels.size - sum(best.values()))
