"""Does a process that runs for days keep what it should give back? Hundreds of runs in one, and what is left of each.

    python benchmarks/soak.py library --runs 300 --out docs/measurements/soak_library.json
    xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/soak.py widget --runs 300 --out docs/measurements/soak_widget.json

`library`: in turn a plane in memory, a stack, a plane out of core, a run that is cancelled and one that fails. `widget`: the
same with the Segment widget of a napari viewer, whose layers are removed after each run; `napari`:
such layers alone. Memory is what belongs to the process
alone; its growth is the mean of the last tenth of the runs against the tenth after the first third, by which all that is made
once has been made. Threads of the system, open files and temporary files are counted at the same two places.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from bench import keep, origin, parser, told

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, segment, synthetic
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import Image
from napari_shiftseg.network import Clustering, Model, ModelRecord
from napari_shiftseg.segmentation import segment_steps

SETTINGS = SegmentSettings(device="cpu")
KEPT = ("threads", "files", "left")  # what no run may leave more of


def main() -> int:
    made = parser(__doc__)
    made.add_argument("who", choices=("library", "widget", "napari"))
    made.add_argument("--runs", type=int, default=300)
    wishes = made.parse_args()
    import_module("napari_shiftseg.segmentation.layout").LARGEST = {2: 512, 3: 128}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.environ["TMPDIR"] = tempfile.tempdir = str(Path(place) / "tmp")
        Path(tempfile.tempdir).mkdir()
        runs = {"library": library, "widget": widget, "napari": partial(widget, bare=True)}[wishes.who](Path(place))
        seen = []
        for number, kind in zip(range(wishes.runs), runs, strict=False):
            seen.append(state(kind))
            if number % 10 == 9:
                told({"run": number + 1, **seen[-1]})
    tenth = max(1, wishes.runs // 10)
    warm, last = seen[wishes.runs // 3 :][:tenth], seen[-tenth:]
    row = {"mebibytes": {"warm": mean(warm, "mebibytes"), "last": mean(last, "mebibytes")}}
    row |= {name: {"warm": least(warm, name), "last": least(last, name)} for name in KEPT}
    growth = row["mebibytes"]["last"] / row["mebibytes"]["warm"] - 1
    kinds = {kind: sum(one["kind"] == kind for one in seen) for kind in dict.fromkeys(one["kind"] for one in seen)}
    document = {"who": wishes.who, "runs": len(seen), "kinds": kinds, **row, "growth": round(growth, 4)}
    keep(wishes.out, {**origin("napari", "zarr"), **told(document)})
    return 0 if growth < 0.05 and all(row[name]["last"] <= row[name]["warm"] for name in KEPT) else 1


def state(kind: str) -> dict[str, Any]:
    """Memory of the process, threads, open files, and what lies where temporary files do."""
    gc.collect()
    process = psutil.Process()
    return {
        "kind": kind,
        "mebibytes": process.memory_full_info().uss / 2**20,
        "threads": process.num_threads(),
        "files": process.num_fds(),
        "left": len(list(Path(tempfile.gettempdir()).iterdir())),
    }


def mean(seen: list[dict[str, Any]], name: str) -> float:
    return round(sum(one[name] for one in seen) / len(seen), 1)


def least(seen: list[dict[str, Any]], name: str) -> int:
    """Of many moments: a pool of threads keeps one for a while that nobody needs any more."""
    return int(min(one[name] for one in seen))


def model(ndim: int) -> Model:
    """A network of random weights with many small objects."""
    torch.manual_seed(0)
    spec = UNetSpec(ndim=ndim, levels=1, convs=1, features=4, embedding_dim=2, foreground=True)
    net = UNet(spec).eval()
    with torch.no_grad():
        net.head.weight *= 30
    return Model(
        spec=spec, module=net, record=ModelRecord(window=(8,) * ndim, clustering=Clustering(min_size=16)), name="small"
    )


def library(place: Path) -> Iterator[str]:
    """Runs of the library; gives the kind of each."""
    flat, deep = model(2), model(3)
    plane = synthetic.blobs((600, 200), 60, radius=(8, 14), seed=0).image
    stack = synthetic.blobs((24, 48, 48), 12, radius=(4, 6), seed=0).image
    large = replace(SETTINGS, out_of_core=True, memory=1 << 30)
    number = 0

    def cancelled() -> None:
        with closing(segment_steps(plane, flat, large, place / "c.zarr")) as steps:
            for _ in range(3 + number % 20):
                next(steps, None)

    def failing() -> None:
        with suppress(ShiftsegError):
            segment(Image.from_array(np.full((60, 60), np.nan)), flat, replace(SETTINGS, channels=(7,)))

    kinds: dict[str, Callable[[], object]] = {
        "a plane": lambda: segment(plane, flat, SETTINGS),
        "a stack": lambda: segment(stack, deep, SETTINGS),
        "out of core": lambda: segment(plane, flat, large, place / f"{number}.zarr"),
        "cancelled": cancelled,
        "failing": failing,
    }
    while True:
        for kind, act in kinds.items():
            act()
            number += 1
            for store in (*place.glob("*.zarr"), *place.glob(".*")):
                shutil.rmtree(store, ignore_errors=True) if store.is_dir() else store.unlink(missing_ok=True)
            yield kind


def widget(place: Path, *, bare: bool = False) -> Iterator[str]:
    """Runs of the Segment widget in a viewer; gives the kind of each. `bare`: after the first, its layers alone come and go."""
    import napari
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    from napari_shiftseg.io import save_model
    from napari_shiftseg.plugin.segment_widget import SegmentWidget

    def wait(until: Callable[[], object]) -> None:
        for _ in range(6000):
            QApplication.processEvents()
            if until():
                return
            QTest.qWait(10)
        raise TimeoutError("the widget does not come to an end")

    viewer = napari.Viewer(show=True)
    panel = SegmentWidget(viewer)
    viewer.window.add_dock_widget(panel)
    small = model(2)
    save_model(place / "small.safetensors", small.module, small.record)
    plane = synthetic.blobs((300, 200), 30, radius=(8, 14), seed=0).image
    panel.form.model.choose_file(place / "small.safetensors")
    number = 0
    layers: list[Any] = []
    while True:
        if bare and layers:
            for values in layers:
                viewer.add_layer(napari.layers.Layer.create(*values))
            QTest.qWait(30)
            viewer.layers.clear()
            QApplication.processEvents()
            yield "bare"
            continue
        viewer.add_image(plane, name="plane")
        wait(lambda: panel.equipment is not None and panel.bar.run.isEnabled())
        kind = ("to its end", "to its end", "cancelled")[number % 3]
        panel.run()
        if kind == "cancelled":
            QTest.qWait(30)
            panel.cancel()
        wait(lambda: not panel.jobs)
        if kind == "to its end":
            assert len(viewer.layers) > 1, "there is no result"
            if bare:
                layers = [(layer.data, {"name": layer.name}, layer.as_layer_data_tuple()[2]) for layer in viewer.layers]
                viewer.window.remove_dock_widget(panel)
        viewer.layers.clear()
        QApplication.processEvents()
        number += 1
        yield kind


if __name__ == "__main__":
    sys.exit(main())
