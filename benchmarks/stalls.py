"""The longest stall of napari's window by this plugin on a large image: a run, tuning, correcting, inspecting, measuring.

    xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/stalls.py --edge 8192 --out docs/measurements/stalls.json

A stall is the time between two turns of the event loop, in which the window answers nobody. Two clocks take it: that of the
wall, and the time that the thread of the window computes, which other programs on a busy machine do not lengthen; to it counts
what Python's collector of cycles takes in other threads, since no thread runs meanwhile. Beside it stands what bare napari
needs for its own part, in a process of its own that loads nothing of this package: the same layers added, the same arrays
set, the same pixels written, as many lines drawn, a colour for each object. What is ours is the one less the other. Both get
their memory in small pages, since large ones are to be had at times only, and halve the time of what napari does. How long
the system takes to give a page depends on what the machine did before (by four times on a virtual machine that gives unused
memory back), so the system's own time is no part of it, and the pages that the thread was given stand beside it.

Of a run, what is computed in its thread is replaced by its result: the image is segmented in one corner of 1,024 px by a
network of random weights, and labels, embedding and colours are repeated over the whole image. What is measured is an image
of squares, 16,384 of them at 8,192 px, and the widget measures them all.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

CORNER, CELL = 1024, 64
TICK = 2  # milliseconds between two turns that are looked for


def main() -> None:
    from bench import keep, origin, parser, told

    made = parser(__doc__)
    made.add_argument("--edge", type=int, default=8192)
    made.add_argument("--turns", type=int, default=3)
    wishes = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = [_seen(side, Path(folder), wishes) for side in ("Widgets", "Napari")]
    rows = [told(_row(act, *(side[act] for side in sides))) for act in sides[0]]
    keep(wishes.out, {**origin("napari", "PyQt6"), "edge": wishes.edge, "turns": wishes.turns, "rows": rows})


def _seen(side: str, folder: Path, wishes: Any) -> dict[str, list[list[float]]]:
    """What a process of its own has seen: for each act and turn both clocks, ms; neither the user's settings are its own."""
    settings = {
        "NAPARI_CONFIG": str(folder / side / "settings.yaml"),
        "NUMPY_MADVISE_HUGEPAGE": "0",
        "THP_MEM_ALLOC_ENABLE": "0",
    }
    subprocess.run(
        [sys.executable, __file__, side, str(folder), str(wishes.edge), str(wishes.turns)],
        env={**os.environ, **settings}, check=True,
    )  # fmt: skip
    found: dict[str, list[list[float]]] = json.loads((folder / f"{side}.json").read_text())
    return found


def _row(act: str, ours: list[list[float]], bare: list[list[float]]) -> dict[str, Any]:
    """The shortest of the turns, which other programs lengthened least, and the first, in which modules may be loaded."""
    row: dict[str, Any] = {"act": act}
    for name, seen in (("with the widget", ours), ("bare napari", bare)):
        wall, computed, pages = np.min(np.array(seen), axis=0)
        row[name] = {"wall": round(wall), "computed": round(computed), "first": round(seen[0][1]), "pages": int(pages)}
    for name in ("computed", "first"):
        row["ours" if name == "computed" else "ours at first"] = max(0, row["with the widget"][name] - row["bare napari"][name])
    return row


class Clock:
    """Watches the event loop: the longest time between two of its turns, by both clocks, and the most pages given in one."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self._timer = QTimer()
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self._tick)
        self._elsewhere = self._began = 0.0
        gc.callbacks.append(self._on_collection)

    def stall(self, act: Callable[[], None]) -> tuple[float, float, int]:
        """The longest stall of an act, milliseconds of both clocks, and the most pages."""
        self.most = (0.0, 0.0, 0)
        self._last = self._now()
        self._timer.start()
        act()
        spin(least=1.0)
        self._tick()
        self._timer.stop()
        wall, computed, pages = self.most
        return 1000 * wall, 1000 * computed, pages

    def _now(self) -> tuple[float, float, int]:
        used = resource.getrusage(resource.RUSAGE_THREAD)
        return time.perf_counter(), used.ru_utime + self._elsewhere, used.ru_minflt

    def _tick(self) -> None:
        now = self._now()
        self.most = tuple(max(most, b - a) for most, a, b in zip(self.most, self._last, now, strict=True))
        self._last = now

    def _on_collection(self, phase: str, _: Any) -> None:
        if phase == "start":
            self._began = time.thread_time()
        elif threading.current_thread() is not threading.main_thread():
            self._elsewhere += time.thread_time() - self._began


def spin(until: Callable[[], bool] = lambda: True, least: float = 0.3, most: float = 900.0) -> None:
    """Let the window live, for a moment at least."""
    from qtpy.QtWidgets import QApplication

    began = time.perf_counter()
    while time.perf_counter() - began < least or not until():
        if time.perf_counter() - began > most:
            raise SystemExit("the window did not get there in time")
        QApplication.processEvents()
        time.sleep(0.001)


class Side:
    """Acts of a day on one image, each in several turns; what each side does is in the classes below."""

    def __init__(self, folder: Path, edge: int, turns: int):
        self.folder, self.edge, self.turns = folder, edge, turns
        self.seen: dict[str, list[tuple[float, float, int]]] = {}
        cells = edge // CELL
        square = np.zeros((CELL, CELL), np.int32)
        square[6:58, 6:58] = 1
        self.squares = np.kron(np.arange(1, cells**2 + 1, dtype=np.int32).reshape(cells, cells), square)
        self.light = np.random.default_rng(0).integers(0, 4000, self.squares.shape).astype(np.uint16)

    def act(self, name: str, *before_and_act: Callable[[], None]) -> None:
        """An act once, after what is no part of it."""
        *before, act = before_and_act
        for one in before:
            one()
            spin()
        self.seen.setdefault(name, []).append(self.clock.stall(act))

    def play(self) -> None:
        """All acts, and what was seen in a file."""
        self.open(self.picture())
        self.clock = Clock()
        for turn in range(self.turns):  # a second run in the same window would add no layers
            if turn:
                self.viewer.close()
                spin()
                self.open(self.picture())
            self.act("run", self.run)
            self.act("run again", self.prepare_run_again, self.run_again)
        for _ in range(self.turns):
            self.act("tune", self.prepare_tune, self.tune)
        self.begin_correct()
        for _ in range(self.turns):
            self.act("merge", self.merge)
            self.act("undo", self.undo)
        self.begin_inspect()
        for _ in range(self.turns):
            self.act("lines", self.lines)
            self.act("measure seams", self.measure_seams)
        self.viewer.close()
        spin()
        self.open(self.light)
        self.begin_measure()
        self.act("measure 16,384 objects" if self.edge == 8192 else "measure", self.measure)
        for _ in range(self.turns):
            self.act("colour by a column", self.prepare_colour, self.colour)
            self.act("another range", self.range)
            self.act("2,048 objects selected", self.select)
            self.act("20 objects deleted", self.delete)
            self.act("deletion undone", self.restore)
            self.act("own colours again", self.own_colours)
        (self.folder / f"{type(self).__name__}.json").write_text(json.dumps(self.seen))
        self.viewer.close()
        spin()

    def open(self, image: np.ndarray) -> None:
        """A new window with an image."""
        import napari

        self.viewer = napari.Viewer(show=True)
        self.viewer.window._qt_window.resize(1280, 720)
        self.layer = self.viewer.add_image(image, name="cells", contrast_limits=(0, int(image.max())))
        spin()


class Widgets(Side):
    """With the widgets of this package."""

    def picture(self) -> np.ndarray:
        if not hasattr(self, "image"):
            self._segment_a_corner()
        return self.image

    def _segment_a_corner(self) -> None:
        import torch

        from napari_shiftseg import UNet, UNetSpec, save_model, segment, synthetic
        from napari_shiftseg.network import ModelRecord
        from napari_shiftseg.plugin.layers import draw

        torch.manual_seed(0)
        net = UNet(UNetSpec(levels=1, convs=1, features=4, foreground=True)).eval()
        with torch.no_grad():
            net.head.weight *= 30
        self.model = save_model(self.folder / "random", net, ModelRecord(window=(8, 8)))
        corner = (255 * np.clip(synthetic.blobs((CORNER, CORNER), 900, seed=0).image, 0, 1)).astype(np.uint8)
        self.times = -(-self.edge // CORNER)
        self.image = np.tile(corner, (self.times, self.times))[: self.edge, : self.edge]
        np.save(self.folder / "image.npy", self.image)
        self.small = segment(corner, self.model)
        self.drawn_small = draw(self.small)

    def _drawn(self, job: Any) -> Any:
        """What a run of the whole image would give, drawn; made in the thread of the run."""
        from napari_shiftseg.instances import object_table
        from napari_shiftseg.plugin.layers import Drawn, role_of
        from napari_shiftseg.plugin.signature import digest_of

        small, times, edge = self.small, self.times, self.edge
        labels = np.tile(small.labels, (times, times))[:edge, :edge]
        count = int(small.labels.max())
        for y in range(times):  # each copy has numbers of its own
            for x in range(times):
                part = labels[y * CORNER : (y + 1) * CORNER, x * CORNER : (x + 1) * CORNER]
                part[part > 0] += np.uint32((y * times + x) * count)
        outputs = {
            name: np.tile(values, (1,) * (values.ndim - 2) + (times, times))[..., :edge, :edge]
            for name, values in small.outputs.items()
        }
        record = {**small.record, "instances": [int(labels.max())]}
        result = replace(small, labels=labels, outputs=outputs, plan=job.plan, record=record, image=job.opened.image)
        colours = np.tile(self.drawn_small.colours, (times, times, 1))[:edge, :edge]
        pixels = {role_of(name): values for name, values in outputs.items() if name != "foreground"}
        pixels |= {"embedding RGB": colours, "instances": labels.view(np.int32)}
        return Drawn(
            result=result,
            colours=colours,
            limits=self.drawn_small.limits,
            features=object_table(labels, job.plan.seams()),
            digests={role: digest_of(data) for role, data in pixels.items()} | {"image": digest_of(self.image)},
        )

    def open(self, image: np.ndarray) -> None:
        super().open(image)
        if image is self.light:
            return
        self.segment = self._dock("segment")
        self.segment.form.model.choose_file(self.model)
        spin(lambda: self.segment.equipment is not None and self.segment.run_button.isEnabled())

    def _dock(self, name: str) -> Any:
        made = getattr(import_module(f"napari_shiftseg.plugin.{name}_widget"), f"{name.capitalize()}Widget")(self.viewer)
        self.viewer.window.add_dock_widget(made, name=name.capitalize())
        return made

    def run(self) -> None:
        from napari_shiftseg.events import Stage

        module = import_module("napari_shiftseg.plugin.segment_widget")
        before = module.segment_and_draw

        def steps(job: Any) -> Generator[Any, None, Any]:
            yield Stage(done=0, total=0, text="network")
            return self._drawn(job)

        module.segment_and_draw = steps
        try:
            self.segment.run()
            spin(lambda: not self.segment.running)
        finally:
            module.segment_and_draw = before
        self.labels = next(one for one in self.viewer.layers if one.name == "cells instances")
        if not (self.folder / "layers.json").exists():
            self._save_layers()

    def prepare_run_again(self) -> None:
        pass

    def run_again(self) -> None:
        self.run()

    def _save_layers(self) -> None:
        """Layers of a run, for the other side."""
        told = []
        for number, layer in enumerate(self.viewer.layers[1:]):
            np.save(self.folder / f"layer{number}.npy", layer.data)
            labels = layer is self.labels
            options: dict[str, Any] = {"name": layer.name, "visible": layer.visible}
            if not labels:
                options |= {"rgb": layer.rgb, "contrast_limits": [float(end) for end in layer.contrast_limits]}
            told.append([number, "labels" if labels else "image", options])
        np.savez(self.folder / "features.npz", **{name: self.labels.features[name] for name in self.labels.features})
        (self.folder / "layers.json").write_text(json.dumps(told))

    def prepare_tune(self) -> None:
        from napari_shiftseg.plugin.signature import digest_of
        from napari_shiftseg.plugin.tune_jobs import Shown

        panel = self.segment.tune
        if not panel.form.is_open:
            panel.form.expand()
            spin(lambda: panel.ready is not None)
        data, known = _others(self.labels.data), self.labels.metadata["napari-shiftseg"]
        self._tuned = Shown(
            data=data,
            digest=digest_of(data),
            before=digest_of(self.labels.data),
            record=known["record"],
            features=dict(self.labels.features),
            sizes=panel.ready.sizes,
            result=None,
            count=0,
        )

    def tune(self) -> None:
        """All labels are others: the end of a change of the threshold."""
        self.segment.tune._put(self._tuned)

    def begin_correct(self) -> None:
        self.correct = self._dock("correct")
        self.correct.form.layers.value = self.labels
        spin(lambda: not self.correct.jobs and self.correct.correction is not None)

    def merge(self) -> None:
        numbers = np.unique(self.labels.data[:300, :300])[1:]
        self.correct.merge((int(numbers[0]), int(numbers[1])), ())

    def undo(self) -> None:
        self.correct.undo()

    def begin_inspect(self) -> None:
        self.inspect = self._dock("inspect")
        spin()
        self.inspect.form.layers.value = self.labels

    def lines(self) -> None:
        for box in (self.inspect.form.seams, self.inspect.form.grid):
            box.click()
        if not (self.folder / "lines.npz").exists():
            np.savez(self.folder / "lines.npz", *(layer.data for layer in self.inspect.overlays.layers.values()))

    def measure_seams(self) -> None:
        self.inspect.measure()
        spin(lambda: not self.inspect.running)

    def begin_measure(self) -> None:
        self.labels = self.viewer.add_labels(self.squares, name="squares")
        spin()
        self.panel = self._dock("measure")
        spin()

    def measure(self) -> None:
        self.panel.measure()
        self._wait()

    def _wait(self) -> None:
        panel = self.panel
        spin(lambda: not (panel.jobs or panel.colours.jobs or panel.measured.jobs or panel.measured._touched))

    def prepare_colour(self) -> None:
        pass

    def colour(self) -> None:
        self.panel.form.column.setCurrentText("mean_intensity")
        self._wait()

    def range(self) -> None:
        self.panel.form.low.setText("1950")
        self.panel.form.low.editingFinished.emit()

    def select(self) -> None:
        self.panel.form.up.setCurrentText("std_intensity")
        self.panel.select(np.arange(0, len(self.panel.measured.rows), 8))
        self._wait()

    def delete(self) -> None:
        self.panel.select(np.arange(20, 40))
        self.panel.delete()
        self._wait()

    def restore(self) -> None:
        self.panel.undo()
        self._wait()

    def own_colours(self) -> None:
        self.panel.form.back.click()
        self._wait()


class Napari(Side):
    """Bare napari, for its own part of each act."""

    def open(self, image: np.ndarray) -> None:
        super().open(image)
        told = json.loads((self.folder / "layers.json").read_text())
        self._made = [(np.load(self.folder / f"layer{number}.npy"), kind, options) for number, kind, options in told]

    def picture(self) -> np.ndarray:
        return np.load(self.folder / "image.npy")

    def run(self) -> None:
        """The same layers."""
        self.layers = []
        for data, kind, options in self._made:
            if kind == "labels":
                with np.load(self.folder / "features.npz") as columns:
                    self.labels = self.viewer.add_labels(data, features=dict(columns), **options)
                self.layers.append(self.labels)
            else:
                self.layers.append(self.viewer.add_image(data, **options))

    def prepare_run_again(self) -> None:
        self._others = [layer.data.copy() for layer in self.layers]
        self._made = []  # so that the arrays of before are given back when others take their place, as they are with the widget

    def run_again(self) -> None:
        """The same arrays into the layers that are there."""
        for layer in self.layers:
            layer.data = self._others.pop(0)
        self.labels.features = self.labels.features.copy()

    def prepare_tune(self) -> None:
        self._tuned = _others(self.labels.data)

    def tune(self) -> None:
        self.labels.data = self._tuned

    def begin_correct(self) -> None:
        pass

    def merge(self) -> None:
        first, second = np.unique(self.labels.data[:300, :300])[1:3]
        self._merged = np.nonzero(self.labels.data[:300, :300] == second), int(second)
        self.labels.data_setitem(self._merged[0], int(first))

    def undo(self) -> None:
        self.labels.data_setitem(*self._merged)

    def begin_inspect(self) -> None:
        self._lines: list[Any] = []

    def lines(self) -> None:
        if self._lines:
            for layer in self._lines:
                layer.visible = not layer.visible
            return
        with np.load(self.folder / "lines.npz") as found:
            self._lines = [self.viewer.add_vectors(found[name], vector_style="line") for name in found.files]

    def measure_seams(self) -> None:
        pass

    def begin_measure(self) -> None:
        self.labels = self.viewer.add_labels(self.squares, name="squares")
        spin()

    def measure(self) -> None:
        """A table of as many rows and columns."""
        count = int(self.squares.max())
        self.labels.features = {"index": np.arange(1, count + 1)} | {f"column {n}": np.arange(count) * 0.5 for n in range(24)}

    def prepare_colour(self) -> None:
        from napari.utils.colormaps import DirectLabelColormap

        colours = np.random.default_rng(0).random((int(self.squares.max()) + 1, 4))
        self._own = self.labels.colormap
        self._colours = DirectLabelColormap(color_dict={None: np.zeros(4), **dict(enumerate(colours))})

    def colour(self) -> None:
        self.labels.colormap = self._colours

    def range(self) -> None:
        pass

    def select(self) -> None:
        pass

    def delete(self) -> None:
        cells = self.edge // CELL
        self._deleted = np.nonzero(np.isin(self.squares[: CELL * (40 // cells + 1)], np.arange(21, 41)))
        self._numbers = self.squares[self._deleted]
        self.labels.data_setitem(self._deleted, 0)

    def restore(self) -> None:
        self.labels.data_setitem(self._deleted, self._numbers)

    def own_colours(self) -> None:
        self.labels.colormap = self._own


def _others(labels: np.ndarray) -> np.ndarray:
    """Labels of which each object has another number, so that napari draws all of them anew."""
    others = labels.copy()
    others[others > 0] += 1
    return others


if __name__ == "__main__":
    if sys.argv[1:2] in (["Widgets"], ["Napari"]):
        side, folder, edge, turns = sys.argv[1:]
        globals()[side](Path(folder), int(edge), int(turns)).play()
    else:
        main()
