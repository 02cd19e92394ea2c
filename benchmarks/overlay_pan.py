"""How much do the overlays cost while panning and zooming over a large image? With and without them, in turns, in one window.

    xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/overlay_pan.py [--size 8192] [--out FILE.json]

A network of period 8 makes a million cells of 8192 x 8192 px. Two times per move: `update` is what the plugin computes when
the view moves (seconds of this thread, so that other programs do not count), `frame` the wall time until the window is drawn.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_shiftseg import UNetSpec, plan_tiles
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.overlays import Overlays

ZOOMS = (0.1, 0.5, 0.76, 1.0, 4.0)
MOVES = 40
STEP = 40  # screen pixels per move


def moved(viewer, move):
    """(update, frame) seconds of each move."""
    times = []
    for number in range(MOVES):
        wall, own = time.perf_counter(), time.thread_time()
        move(number)
        own = time.thread_time() - own
        viewer.window._qt_viewer.canvas.native.repaint()
        QApplication.processEvents()
        times.append((own, time.perf_counter() - wall))
    return np.array(times)


def measure(viewer, size, zoom):
    camera = viewer.scene.camera
    camera.zoom = zoom
    camera.center = (0, size / 4, size / 4)
    QApplication.processEvents()
    start = size / 4

    def pan(number):
        camera.center = (0, start + STEP * number / zoom, start + STEP * number / zoom)

    return moved(viewer, pan)


def measure_zooming(viewer):
    viewer.reset_view()
    QApplication.processEvents()
    first = viewer.scene.camera.zoom

    def closer(number):
        viewer.scene.camera.zoom = first * 1.1**number

    return moved(viewer, closer)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    spec = UNetSpec(levels=3)
    plan = plan_tiles(spec, (wishes.size, wishes.size), wishes.tile)
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1300, 950)
    image = np.random.default_rng(0).integers(0, 255, (wishes.size, wishes.size)).astype(np.uint8)
    known = {"role": "instances", "source": "image", "source_id": 1, "axes": "yx", "plan": plan}
    layer = viewer.add_image(image, name="image", metadata={KEY: known})
    QApplication.processEvents()
    overlays = Overlays(viewer)
    overlays.look_at(layer)
    rows = []
    for turn in range(wishes.turns):
        for on in (False, True):
            for kind in ("seams", "grid"):
                overlays.show(kind, on)
            for zoom in (*ZOOMS, None):
                times = measure_zooming(viewer) if zoom is None else measure(viewer, wishes.size, zoom)
                lines = sum(len(drawn.data) for drawn in overlays.layers.values() if drawn.visible)
                rows.append({"turn": turn, "overlays": on, "zoom": zoom, "lines": lines, "times": times.tolist()})
    print(f"{wishes.size} px, period {spec.period[0]}, tiles of {wishes.tile} px; napari {napari.__version__}, "
          f"{platform.platform()}, {viewer.canvas.size} px canvas")  # fmt: skip
    print("move          overlays  lines  update ms: median, largest   frame ms: median, 95 %, largest")
    summary = []
    for zoom in (*ZOOMS, None):
        for on in (False, True):
            chosen = [row for row in rows if row["zoom"] == zoom and row["overlays"] == on]
            times = np.concatenate([row["times"] for row in chosen]) * 1e3
            numbers = [np.median(times[:, 0]), times[:, 0].max(), np.median(times[:, 1]), np.percentile(times[:, 1], 95),
                       times[:, 1].max()]  # fmt: skip
            name = "zooming in" if zoom is None else f"pan at {zoom:g}"
            print(f"{name:12}  {'on' if on else 'off':8}  {chosen[-1]['lines']:5d}  {numbers[0]:12.1f} {numbers[1]:10.1f}   "
                  f"{numbers[2]:15.0f} {numbers[3]:8.0f} {numbers[4]:8.0f}")  # fmt: skip
            keys = ("update_median", "update_largest", "frame_median", "frame_95", "frame_largest")
            values = dict(zip(keys, (float(round(n, 2)) for n in numbers), strict=True))
            summary.append({"move": name, "overlays": on, "lines": chosen[-1]["lines"], **values})
    if wishes.out:
        known = {"command": sys.argv, "platform": platform.platform(), "napari": napari.__version__, "milliseconds": summary}
        wishes.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    viewer.close()


if __name__ == "__main__":
    main()
