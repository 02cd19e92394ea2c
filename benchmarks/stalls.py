"""The longest stall of napari's window by this plugin: a run, tuning, correcting and inspecting on a large image.

    xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/stalls.py --edge 8192 --out docs/measurements/stalls.json

A stall is the time between two turns of the event loop, in which the window answers nobody. Two clocks take it: that of the
wall, and the processor time of the thread of the window, which other programs on a busy machine do not lengthen. Beside it
stands what bare napari needs for its own part: the same layers added, the same array set, the same pixels written, each in a
turn of its own. What is ours is the one less the other.

What runs in threads is no part of it, and is replaced by its result: the image is segmented in one corner of 1,024 px by a
network of random weights, and labels, embedding and colours are repeated over the whole image.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from bench import keep, origin, parser, told

CORNER = 1024
TICK = 2  # milliseconds between two turns that are looked for


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--edge", type=int, default=8192)
    made.add_argument("--turns", type=int, default=3)
    wishes = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")  # neither the user's nor what a widget keeps there
        rows = Stalls(Path(folder), wishes.edge, wishes.turns).rows()
    keep(wishes.out, {**origin("napari", "PyQt6"), "edge": wishes.edge, "turns": wishes.turns, "rows": rows})


class Clock:
    """Watches the event loop: the longest time between two of its turns, by the wall and by the processor."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.wall = self.processor = 0.0
        self._last: tuple[float, float] | None = None
        self._timer = QTimer()
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self._tick)

    def __enter__(self) -> Clock:
        self.wall = self.processor = 0.0
        self._last = time.perf_counter(), time.thread_time()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tick()
        self._timer.stop()

    def _tick(self) -> None:
        assert self._last is not None
        now = time.perf_counter(), time.thread_time()
        self.wall = max(self.wall, now[0] - self._last[0])
        self.processor = max(self.processor, now[1] - self._last[1])
        self._last = now


def spin(until: Callable[[], bool] = lambda: True, least: float = 0.3, most: float = 900.0) -> None:
    """Let the window live, for a moment at least."""
    from qtpy.QtWidgets import QApplication

    began = time.perf_counter()
    while time.perf_counter() - began < least or not until():
        if time.perf_counter() - began > most:
            raise SystemExit("the window did not get there in time")
        QApplication.processEvents()
        time.sleep(0.001)


class Stalls:
    """Acts of a day on one image, each with the widget and in bare napari."""

    def __init__(self, folder: Path, edge: int, turns: int):
        import torch

        from napari_shiftseg import UNet, UNetSpec, save_model, segment, synthetic
        from napari_shiftseg.network import ModelRecord
        from napari_shiftseg.plugin.layers import draw

        torch.manual_seed(0)
        net = UNet(UNetSpec(levels=1, convs=1, features=4, foreground=True)).eval()
        with torch.no_grad():
            net.head.weight *= 30
        self.model = save_model(folder / "random", net, ModelRecord(window=(8, 8)))
        corner = (255 * np.clip(synthetic.blobs((CORNER, CORNER), 900, seed=0).image, 0, 1)).astype(np.uint8)
        times, self.turns = -(-edge // CORNER), turns
        self.image = np.tile(corner, (times, times))[:edge, :edge]
        small = segment(corner, self.model)
        self.small, self.drawn_small = small, draw(small)
        self.times, self.edge = times, edge

    def drawn(self, job: Any) -> Any:
        """What a run of the whole image would give, drawn; made in the thread of the run."""
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
        from napari_shiftseg.instances import object_table

        pixels = {role_of(name): values for name, values in outputs.items() if name != "foreground"}
        pixels |= {"embedding RGB": colours, "instances": labels.view(np.int32)}
        return Drawn(
            result=result,
            colours=colours,
            limits=self.drawn_small.limits,
            features=object_table(labels, job.plan.seams()),
            digests={role: digest_of(data) for role, data in pixels.items()} | {"image": digest_of(self.image)},
        )

    # -- the two windows ----------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        from napari_shiftseg.plugin.correct_widget import CorrectWidget
        from napari_shiftseg.plugin.inspect_widget import InspectWidget

        ours, bare = [], []
        viewer: Any = None
        for turn in range(self.turns):  # a second run in the same window would add no layers
            if turn:
                viewer.close()
                spin()
            viewer, layer, segment = self._open()
            ours.append(self._stall(lambda segment=segment: self._run(segment)))
            bare.append(self._bare_run(layer))
        rows = [self._row("run", ours, bare)]
        labels = next(one for one in viewer.layers if one.name == "cells instances")
        rows.append(self._both("tune", lambda: self._tune(segment, labels), lambda: self._bare_set(labels)))
        correct = CorrectWidget(viewer)
        viewer.window.add_dock_widget(correct, name="Correct")
        correct.form.layers.value = labels
        spin(lambda: not correct.jobs and correct.correction is not None)
        rows.append(self._both("merge", lambda: self._merge(correct), lambda: self._bare_paint(labels)))
        rows.append(self._both("undo", correct.undo, lambda: self._bare_paint(labels)))
        inspect = InspectWidget(viewer)
        viewer.window.add_dock_widget(inspect, name="Inspect")
        spin()
        inspect.form.layers.value = labels
        rows.append(self._both("lines", lambda: self._lines(inspect), lambda: None))
        rows.append(self._both("measure seams", lambda: self._measure(inspect), lambda: None))
        viewer.close()
        spin()
        return rows

    def _open(self) -> tuple[Any, Any, Any]:
        import napari

        from napari_shiftseg.plugin.segment_widget import SegmentWidget

        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(1280, 720)
        layer = viewer.add_image(self.image, name="cells")
        segment = SegmentWidget(viewer)
        viewer.window.add_dock_widget(segment, name="Segment")
        segment.form.model.choose_file(self.model)
        spin(lambda: segment.equipment is not None and segment.run_button.isEnabled())
        return viewer, layer, segment

    def _stall(self, call: Callable[[], None]) -> tuple[float, float]:
        """The longest stall of an act, milliseconds of both clocks."""
        with Clock() as clock:
            call()
            spin(least=1.0)
        return 1000 * clock.wall, 1000 * clock.processor

    def _both(self, act: str, ours: Callable[[], None], bare: Callable[[], None]) -> dict[str, Any]:
        seen = [(self._stall(ours), self._stall(bare)) for _ in range(self.turns)]
        return self._row(act, [a for a, _ in seen], [b for _, b in seen])

    def _row(self, act: str, ours: list[tuple[float, float]], bare: list[tuple[float, float]]) -> dict[str, Any]:
        """The shortest of the turns, which other programs lengthened least, and the first, in which modules may be loaded."""
        row: dict[str, Any] = {"act": act}
        for name, seen in (("with the widget", ours), ("bare napari", bare)):
            wall, processor = np.min(np.array(seen), axis=0)
            row[name] = {"wall": round(wall), "processor": round(processor), "first": round(seen[0][1])}
        row["ours"] = max(0, row["with the widget"]["processor"] - row["bare napari"]["processor"])
        return told(row)

    # -- acts ---------------------------------------------------------------------------------------------------------

    def _run(self, segment: Any) -> None:
        module = import_module("napari_shiftseg.plugin.segment_widget")
        before = module.segment_and_draw

        def steps(job: Any) -> Generator[Any, None, Any]:
            from napari_shiftseg.events import Stage

            yield Stage(done=0, total=0, text="network")
            self.made = self.drawn(job)
            return self.made

        module.segment_and_draw = steps
        try:
            segment.run()
            spin(lambda: not segment.running)
        finally:
            module.segment_and_draw = before

    def _bare_run(self, layer: Any) -> tuple[float, float]:
        """The same layers in another window, one in a turn."""
        import napari
        from napari.layers import Layer

        from napari_shiftseg.plugin.layers import layer_tuples
        from napari_shiftseg.plugin.source import placement_of

        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(1280, 720)
        viewer.add_image(self.image, name="cells")
        spin(least=1.0)
        tuples = layer_tuples(self.made, placement_of(layer, "yx", "yx"), "cells", source_id=None)

        def add() -> None:
            for made in tuples:
                viewer.add_layer(Layer.create(*made))
                spin()

        seen = self._stall(add)
        viewer.close()
        spin()
        return seen

    def _tune(self, segment: Any, labels: Any) -> None:
        """All labels are others: the end of a change of the threshold."""
        from napari_shiftseg.plugin.signature import digest_of
        from napari_shiftseg.plugin.tune_jobs import Shown

        panel = segment.tune
        if not panel.form.is_open:
            panel.form.expand()
            spin(lambda: panel.ready is not None)
        data = _others(labels.data)
        known = labels.metadata["napari-shiftseg"]
        shown = Shown(
            data=data,
            digest=digest_of(data),
            before=digest_of(labels.data),
            record=known["record"],
            features=dict(labels.features),
            sizes=panel.ready.sizes,
            result=None,
            count=0,
        )
        spin()
        panel._put(shown)

    def _bare_set(self, labels: Any) -> None:
        data = _others(labels.data)
        spin()
        labels.data = data

    def _merge(self, correct: Any) -> None:
        numbers = np.unique(correct.layer.data[:300, :300])[1:]
        first = int(numbers[0])
        correct.merge((first, int(numbers[1])), ())

    def _bare_paint(self, labels: Any) -> None:
        labels.data_setitem(np.nonzero(labels.data[:64, :64]), 1)

    def _lines(self, inspect: Any) -> None:
        for box in (inspect.form.seams, inspect.form.grid):
            box.click()

    def _measure(self, inspect: Any) -> None:
        inspect.measure()
        spin(lambda: not inspect.running)


def _others(labels: np.ndarray) -> np.ndarray:
    """Labels of which each object has another number, so that napari draws all of them anew."""
    others = labels.copy()
    others[others > 0] += 1
    return others


if __name__ == "__main__":
    main()
