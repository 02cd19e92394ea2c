"""Images larger than memory: time per megapixel, peak memory and share of each stage, for images of growing size.

Each size runs in a process of its own on an image that is made chunk by chunk when it is read (nuclei-like blobs of 8 to 14 px,
about 120 per 1024 x 1024 px chunk, noise; a tenth of the chunks is empty), with a network of 2 levels and 8 features, or what
--network says, that is trained for 80 steps at the start. Peak memory is the largest resident set of the process; with workers,
that of the largest.

Stages: of a pipeline, the time that each was busy, side by side with the others. With --alone a second process runs one stage
after the other, so that each has the machine to itself; the pipeline's time is compared with the slowest of them.

python benchmarks/large_images.py --edges 2048 5000 10000 20000 --memory 1000000000 --out docs/measurements/large_images.json
python benchmarks/large_images.py --edges 5000 --alone --network 3 16
python benchmarks/large_images.py --edges 6144 --workers 0 1 2        # from an image on disk
"""

from __future__ import annotations

import argparse
import inspect
import json
import resource
import shutil
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from bench import in_own_process, origin, parser, told

CHUNK = 1024
NETWORK = [2, 8]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--edges", nargs="*", type=int, default=[2048, 5000, 10_000, 20_000])
    made.add_argument("--volumes", nargs="*", type=int, default=[], help="edges of cubes for a 3D network")
    made.add_argument("--memory", type=int, default=1_500_000_000)
    made.add_argument("--network", nargs=2, type=int, default=NETWORK, metavar=("LEVELS", "FEATURES"))
    made.add_argument("--workers", nargs="+", type=int, default=[-1], help="numbers of processes; the image is written to disk")
    made.add_argument("--alone", action="store_true", help="also one stage after the other")
    made.add_argument("--one", type=int, nargs=4, metavar=("NDIM", "EDGE", "WORKERS", "ALONE"), help=argparse.SUPPRESS)
    made.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    wishes = made.parse_args()
    if wishes.one:
        told(measure(*wishes.one, wishes.folder, wishes.memory) | {"network": wishes.network})
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        given = "--folder", folder, "--memory", wishes.memory, "--network", *wishes.network
        for ndim, edges in ((2, wishes.edges), (3, wishes.volumes)):
            if edges:
                train_small(ndim, Path(folder), *wishes.network)
            for edge, workers, alone in product(edges, wishes.workers, (0, 1)[: 1 + wishes.alone]):
                rows.append(told(in_own_process("--one", ndim, edge, workers, alone, *given)))
    if wishes.out:
        keep(wishes.out, rows)


def keep(out: Path, rows: list[dict]) -> None:
    """Add the rows to the file, each with date, command and machine; an older one of the same run gives way."""
    said = origin()
    known = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else []

    def name(row: dict) -> tuple:
        return (row["ndim"], row["edge"], row["network"], row["workers"], row["alone"], row["memory"])

    new = [name(row) for row in rows]
    kept = [row for row in known if name(row) not in new]
    document = {"rows": sorted([*kept, *({**row, **said} for row in rows)], key=name)}
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def train_small(ndim: int, folder: Path, levels: int = NETWORK[0], features: int = NETWORK[1]) -> None:
    """A network that finds most blobs."""
    from napari_shiftseg import TrainSettings, UNetSpec, save_model, synthetic, train
    from napari_shiftseg.network import Augmentation, Clustering, Normalisation, TrainImage

    shape = (128, 128) if ndim == 2 else (48, 64, 64)
    radius = (8, 14) if ndim == 2 else (6, 9)
    made = [synthetic.blobs(shape, 16 if ndim == 2 else 10, radius=radius, touching=0.2, seed=seed) for seed in range(2)]
    images = [TrainImage.from_arrays(one.image, one.labels, Normalisation()) for one in made]
    spec = UNetSpec(ndim=ndim, levels=levels, features=features, foreground=True, coordinates=True, embedding_dim=ndim)
    settings = TrainSettings(
        spec=spec,
        batch=2,
        steps=80,
        learning_rate=0.03,
        device="cpu",
        augmentation=Augmentation(scale=1.1, intensity=0.3),
        average=0.0,
        push_distance=None,
        delta_dist=3.0,
        clustering=Clustering(bandwidth=2.0),
    )
    save_model(folder / f"small{ndim}.safetensors", train(images, settings))


class Made:
    """An image whose chunks are computed when they are read; equal chunks for equal seeds, so that it costs little."""

    def __init__(self, ndim: int, edge: int) -> None:
        from napari_shiftseg import synthetic

        size = CHUNK if ndim == 2 else 64
        self.shape, self.ndim, self.dtype = (edge,) * ndim, ndim, np.dtype(np.uint16)
        self.chunks = (size,) * ndim
        count, radius = (120, (8, 14)) if ndim == 2 else (8, (6, 9))
        blobs = [synthetic.blobs(self.chunks, count, radius=radius, touching=0.2, seed=seed) for seed in range(3)]
        self.blocks = [np.clip(2000 * one.image + 300, 0, 65535).astype(np.uint16) for one in blobs]
        self.seconds = 0.0

    def __getitem__(self, key: tuple) -> object:
        started = time.perf_counter()
        index = [part.start // edge for part, edge in zip(key, self.chunks, strict=True)]
        shape = tuple(part.stop - part.start for part in key)
        rng = np.random.default_rng(index)
        if rng.random() < 0.1:
            block = np.full(shape, 300, np.uint16)
        else:
            noise = rng.integers(0, 60, shape, dtype=np.uint16)
            block = self.blocks[int(rng.integers(3))][tuple(slice(0, n) for n in shape)] + noise
        self.seconds += time.perf_counter() - started
        return block


def measure(ndim: int, edge: int, workers: int, alone: int, folder: Path, memory: int) -> dict:
    """One run, and the time that each of its stages took."""
    from napari_shiftseg import SegmentSettings, segment
    from napari_shiftseg.io import Image
    from napari_shiftseg.segmentation import large

    source = Made(ndim, edge)
    image = Image.from_array(source, "zyx"[-ndim:]) if workers < 0 else on_disk(source, folder)
    out = folder / f"{ndim}-{edge}.ome.zarr"
    settings = SegmentSettings(device="cpu", out_of_core=True, memory=memory, workers=max(0, workers))
    timer = StageTimer()
    if alone:
        large.LocalEngine = one_by_one()
    before = time.perf_counter()
    result = segment(image, folder / f"small{ndim}.safetensors", settings, out)
    seconds = time.perf_counter() - before
    who = resource.RUSAGE_CHILDREN if workers > 0 else resource.RUSAGE_SELF
    mega = edge**ndim / 1e6
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    shutil.rmtree(out)
    stages = {} if workers > 0 else {**timer.seconds, "reading": source.seconds}
    return {
        "ndim": ndim,
        "edge": edge,
        "workers": workers,
        "alone": bool(alone),
        "memory": memory,
        "instances": sum(result.record["instances"]),
        "block": result.record["blocks"]["edge"],
        "seconds": round(seconds, 1),
        "seconds_per_megapixel": round(seconds / mega, 3),
        "peak_memory": resource.getrusage(who).ru_maxrss * 1024,
        "stated_memory": sum(result.record["memory"].values()),
        "bytes_per_pixel": round(size / edge**ndim, 3),
        "passes": result.record["seconds"],
        "stages": {name: round(value, 1) for name, value in stages.items()},
    }


def on_disk(source: Made, folder: Path) -> Path:
    """The image as a zarr array, written once per size."""
    import zarr

    path = folder / f"image-{source.ndim}-{source.shape[0]}.zarr"
    if not path.exists():
        array = zarr.create_array(str(path), shape=source.shape, chunks=source.chunks, dtype=source.dtype)
        for corner in product(*(range(0, n, edge) for n, edge in zip(source.shape, source.chunks, strict=True))):
            window = tuple(slice(c, min(c + e, n)) for c, e, n in zip(corner, source.chunks, source.shape, strict=True))
            array[window] = source[window]
    return path


def one_by_one() -> type:
    """An engine that runs network and clustering of a block one after the other."""
    from napari_shiftseg.events import drain
    from napari_shiftseg.segmentation.constants import MOST_THREADS
    from napari_shiftseg.segmentation.engine import LocalEngine

    class OneByOne(LocalEngine):
        def _found(self, left, before, total):
            job = self._blocks
            job.expect(left)
            for frame, number in left:
                block = job.layout.grid[number]
                seen = drain(job.embed_steps(frame, block, job.read(frame, block)))
                drain(job.cluster_steps(frame, block, seen, threads=min(MOST_THREADS, job.job.device.spare_cores)))
                yield frame, number

    return OneByOne


class StageTimer:
    """Times the verbs of a run where they are called."""

    def __init__(self) -> None:
        from napari_shiftseg.segmentation.blockwise import BlockJob

        self.seconds: dict[str, float] = {}
        for name, owner, verb in (
            ("network", BlockJob, "embed_steps"),
            ("clustering", BlockJob, "cluster_steps"),
            ("joining", BlockJob, "join"),
            ("undecided pixels", BlockJob, "reach"),
            ("joining the rest", BlockJob, "join_rest"),
            ("writing labels", BlockJob, "settle"),
        ):
            self._wrap(name, owner, verb)

    def _wrap(self, name: str, owner: object, verb: str) -> None:
        call = getattr(owner, verb)

        def timed(*args, **kwargs):
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        def stepped(*args, **kwargs):
            started = time.perf_counter()
            try:
                return (yield from call(*args, **kwargs))
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        setattr(owner, verb, stepped if inspect.isgeneratorfunction(call) else timed)


if __name__ == "__main__":
    main()
