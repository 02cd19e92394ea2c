"""Draw the picture of docs/link.md: a made series of disks that drift, of which one splits, linked by the mouse.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/scripts/link_screenshot.py

Needs a display (Xvfb will do) and the extras `napari` and `track`.
"""

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from segment_screenshot import dock, open_viewer, save_window, settle, wait_for, wishes_of

from napari_shiftseg.plugin.link_widget import LinkWidget

FRAMES, EDGE = 12, 260


def series():
    """Labels (t, y, x) with numbers of their own in each frame, and an image of them."""
    rng = np.random.default_rng(4)
    start = np.array([(y, x) for y in range(30, EDGE - 20, 46) for x in range(30, EDGE - 20, 46)], float)
    speed = rng.normal(0, 1.6, start.shape)
    labels = np.zeros((FRAMES, EDGE, EDGE), np.int32)
    y, x = np.indices((EDGE, EDGE))
    for t in range(FRAMES):
        spots = [(*place, 11.0) for place in start + t * speed]
        middle = len(spots) // 2
        if t >= FRAMES // 2:
            at, away = np.array(spots[middle][:2]), 7 + 2 * (t - FRAMES // 2)
            spots[middle] = (at[0] - away, at[1], 8.0)
            spots.append((at[0] + away, at[1], 8.0))
        for number, spot in zip(rng.permutation(len(spots)) + 1, spots, strict=True):
            labels[t][(y - spot[0]) ** 2 + (x - spot[1]) ** 2 <= spot[2] ** 2] = number
    image = (labels > 0) * 0.7 + rng.normal(0.1, 0.04, labels.shape)
    return labels, image.astype(np.float32)


def main():
    wishes = wishes_of(__doc__)
    viewer = open_viewer(1360)
    labels, image = series()
    place = {"axis_labels": ("t", "y", "x"), "scale": (1, 0.5, 0.5), "units": ("second", "micrometer", "micrometer")}
    viewer.add_image(image, name="cells", **place)
    viewer.add_labels(labels, name="cells instances", visible=False, **place)
    widget = dock(viewer, LinkWidget(viewer), "Link objects (ShiftSeg)")
    widget.form.layers.value = viewer.layers["cells instances"]
    QTest.mouseClick(widget.form.link, Qt.MouseButton.LeftButton)
    wait_for(lambda: not widget.jobs)
    viewer.layers["cells instances linked through t"].opacity = 0.5
    tracks = viewer.layers["cells instances tracks"]
    tracks.tail_length, tracks.tail_width = FRAMES, 4
    viewer.dims.set_current_step(0, FRAMES - 1)
    settle()
    save_window(viewer, wishes.out / "link.png")


if __name__ == "__main__":
    main()
