"""All widgets of the manifest in a window of napari, opened from the command palette."""

from pathlib import Path

from npe2 import PluginManifest
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

import napari_shiftseg

MANIFEST = PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))
TITLES = {f"{widget.display_name} (ShiftSeg)": widget.command for widget in MANIFEST.contributions.widgets}


def spin(turns=5):
    for _ in range(turns):
        QApplication.processEvents()
        QTest.qWait(5)


def by_palette(viewer, title):
    """Run a command as a user does: open the palette, write its title, press Enter."""
    viewer.window._toggle_command_palette()
    palette = viewer.window._qt_window._command_palette
    palette._line.setText(title)
    found = [command.title for command in palette._list.iter_command()]
    assert title in found, f"{title} is not offered, but {found}"
    place = next(row for row in range(palette._list.model().rowCount()) if palette._list.command_at(row).title == title)
    palette._list.execute(place)
    palette.hide()
    spin()


def open_all(viewer, qtbot):
    """The widgets by their titles, when nothing is loaded any more."""
    for title in TITLES:
        by_palette(viewer, title)
    widgets = {title: viewer.window.dock_widgets[title] for title in TITLES}
    segment = widgets["Segment (ShiftSeg)"]
    qtbot.waitUntil(lambda: segment.equipment is not None, timeout=120_000)
    qtbot.waitUntil(lambda: not any(getattr(widget, "jobs", ()) for widget in widgets.values()), timeout=60_000)
    spin()
    return widgets
