"""What napari finds of the plugin before any of its code runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from npe2 import PluginManifest

import napari_shiftseg

MANIFEST = Path(napari_shiftseg.__file__).with_name("napari.yaml")
WIDGETS = sorted((MANIFEST.parent / "plugin").glob("*_widget.py"))


@pytest.fixture
def plugin(npe2pm):
    """The plugin, alone among all installed ones."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)) as found:
        yield found


def test_the_manifest_names_objects_that_exist():
    manifest = PluginManifest.from_file(MANIFEST)
    assert (manifest.name, manifest.display_name) == ("napari-shiftseg", "ShiftSeg")
    manifest.validate_imports()


def test_every_command_is_on_a_menu():
    """A command that no contribution names cannot be reached."""
    found = PluginManifest.from_file(MANIFEST).contributions
    used = {item.command for item in [*found.widgets, *found.sample_data, *found.readers, *found.writers]}
    used |= {item.command for menu in found.menus.values() for item in menu}
    assert {command.id for command in found.commands} == used
    assert [item.command for item in found.menus["napari/layers/segment"]] == [
        "napari-shiftseg.segment",
        "napari-shiftseg.queue",
        "napari-shiftseg.copy_code",
        "napari-shiftseg.copy_command",
    ]
    assert [item.command for item in found.menus["napari/layers/visualize"]] == ["napari-shiftseg.inspect"]
    assert [item.command for item in found.menus["napari/layers/annotate"]] == ["napari-shiftseg.correct"]
    assert [item.command for item in found.menus["napari/layers/measure"]] == ["napari-shiftseg.measure"]
    assert [item.command for item in found.menus["napari/layers/track"]] == ["napari-shiftseg.link"]


SAMPLES = {
    "nuclei": ((520, 696), 146),
    "cells_phase": ((400, 400), 34),
    "nuclei_he": ((256, 320, 3), 62),
    "axons_sem": ((400, 400), 157),
    "nuclei_3d": ((48, 96, 96), 19),
    "disks_on_period": ((256, 256), None),
    "disks_off_period": ((256, 256), None),
    "touching_blobs": ((256, 256), 60),
    "touching_blobs_3d": ((48, 128, 128), 40),
    "constant": ((128, 128), None),
    "fig1": ((220, 220), None),
    "fig2a": ((220, 220), 196),
    "fig2b": ((220, 220), 225),
    "fig2c": ((220, 220), 225),
    "fig3": ((284, 284), 484),
    "fig4": ((236, 236), None),
    "fig5a": ((40, 40), None),
    "fig5b": ((64, 64), None),
    "fig6_noise": ((292, 292), 361),
    "fig6_elastic": ((284, 284), 324),
    "fig7a": ((288, 288), 361),
    "fig7b": ((288, 288), None),
}


@pytest.mark.parametrize("key", SAMPLES)
def test_a_sample_opens(plugin, key):
    from napari.components import ViewerModel

    viewer = ViewerModel()
    image, *truth = viewer.open_sample("napari-shiftseg", key)
    shape, count = SAMPLES[key]
    assert image.data.shape == shape
    for labels in truth:
        assert labels.data.shape == shape[: labels.data.ndim]  # colours have no labels of their own
        assert count is None or len(np.unique(labels.data)) == count + 1


def test_the_samples_of_the_manifest_are_those_that_are_tested():
    assert {item.key for item in PluginManifest.from_file(MANIFEST).contributions.sample_data} == set(SAMPLES)


def menu_item(menu, *path):
    """The action that a user reaches by these texts, each a submenu of the one before."""
    menu.aboutToShow.emit()
    action = next(a for a in menu.actions() if a.text().replace("&", "").startswith(path[0]))
    return menu_item(action.menu(), *path[1:]) if path[1:] else action


def test_a_sample_and_the_generator_open_by_the_menu(plugin, make_napari_viewer):
    viewer = make_napari_viewer()
    menu_item(viewer.window.file_menu, "Open Sample", "ShiftSeg", "Fig. 3").trigger()
    assert viewer.layers[0].name.startswith("fig3")
    assert viewer.layers[0].data.shape == (284, 284)
    menu_item(viewer.window.file_menu, "New Layer", "Synthetic images").trigger()
    assert any("Synthetic images" in name for name in viewer.window.dock_widgets)


def test_the_widgets_open_from_the_menu(plugin, make_napari_viewer):
    viewer = make_napari_viewer()
    for name in ("Segment", "Correct", "Inspect"):
        _, widget = viewer.window.add_plugin_dock_widget("napari-shiftseg", name)
        assert type(widget).__name__ == f"{name}Widget"


def test_opening_a_menu_imports_no_torch():
    names = ("samples", "layers", "jobs", "reader", "file_reader", "writers", *(path.stem for path in WIDGETS))
    code = f"import sys, {', '.join(f'napari_shiftseg.plugin.{name}' for name in names)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


OPENING = """
import sys, threading
from importlib import import_module
import napari, numpy as np
from superqt.utils._qthreading import WorkerBase

class Watch:
    def find_spec(self, name, *_):
        if name in ("torch", "zarr") and threading.current_thread() is threading.main_thread():
            print(name, "for", widget)

viewer = napari.Viewer(show=False)
viewer.add_image(np.zeros((32, 32), np.uint8))
viewer.add_labels(np.eye(32, dtype=np.int32))
sys.meta_path.insert(0, Watch())
for widget in sys.argv[1:]:
    made = getattr(import_module(f"napari_shiftseg.plugin.{widget}_widget"), f"{widget.capitalize()}Widget")(viewer)
    viewer.window.add_dock_widget(made)
WorkerBase.await_workers()
viewer.close()
"""


def test_the_thread_of_the_window_waits_for_no_torch_when_a_widget_opens_on_layers(tmp_path):
    """Which takes seconds; widgets that need it load it in a thread, and those come last here."""
    names = ("measure", "link", "synth", "correct", "inspect", "queue", "segment")
    assert {f"{name}_widget" for name in names} == {path.stem for path in WIDGETS}
    done = subprocess.run(
        [sys.executable, "-c", OPENING, *names],
        capture_output=True, text=True, check=False, env={**os.environ, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr[-2000:]
