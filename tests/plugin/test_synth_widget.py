"""The Synthetic images widget, operated as a user does; the same pixels by every door."""

import json

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_shiftseg import cli, synthetic
from napari_shiftseg.plugin import samples
from napari_shiftseg.plugin.samples import cropped, preset_layers, preview, synthetic_layers
from napari_shiftseg.plugin.synth_form import FREE
from napari_shiftseg.plugin.synth_widget import SynthWidget

pytestmark = pytest.mark.gui

FIGURES = [name for name in synthetic.presets() if name.startswith("fig")]


@pytest.fixture
def widget(qtbot):
    made = SynthWidget(ViewerModel())
    qtbot.addWidget(made)
    return made


def type_into(qtbot, edit, text):
    edit.selectAll()
    qtbot.keyClicks(edit, text)
    qtbot.keyClick(edit, Qt.Key.Key_Return)


def generate(qtbot, widget):
    qtbot.mouseClick(widget.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def test_a_click_on_generate_adds_the_image_that_was_typed_and_its_truth(widget, qtbot):
    type_into(qtbot, widget.form.shape, "90 x 70")
    type_into(qtbot, widget.form.spacing, "15")
    type_into(qtbot, widget.form.noise, "0.1")
    generate(qtbot, widget)
    expected = synthetic.disks((90, 70), 15, 5, noise=0.1)
    image, truth = widget.viewer.layers
    assert np.array_equal(image.data, expected.image) and np.array_equal(truth.data, expected.labels)
    assert synthetic.make(image.metadata["recipe"]).recipe == synthetic.make(truth.metadata["recipe"]).recipe == expected.recipe
    assert f"{expected.labels.max()} objects" in widget.status.text()
    assert widget.button.isEnabled()


@pytest.mark.parametrize("name", ["fig2b", "fig4", "fig6_noise", "fig6_elastic", "fig7a", "jittered_disks"])
def test_menu_widget_command_and_library_give_the_same_pixels(name, widget, qtbot, tmp_path):
    library = synthetic.make(synthetic.preset(name).recipe)
    widget.form.preset.setCurrentText(name)
    generate(qtbot, widget)
    drawn = [layer.data for layer in widget.viewer.layers]
    assert cli.main(["synth", name, "--out", str(tmp_path / "i.tif"), "--labels", str(tmp_path / "t.tif"), "--quiet"]) == 0
    menu = getattr(samples, name)() if name in FIGURES else preset_layers(name)
    for image, truth in (drawn, [layer[0] for layer in menu], map(tifffile.imread, (tmp_path / "i.tif", tmp_path / "t.tif"))):
        np.testing.assert_array_equal(image, library.image)
        np.testing.assert_array_equal(truth, library.labels)
    with tifffile.TiffFile(tmp_path / "i.tif") as file:
        assert synthetic.make(json.loads(file.pages[0].description)["recipe"]).recipe == library.recipe


@pytest.mark.parametrize("name", synthetic.presets())
def test_the_form_holds_every_preset_without_loss(widget, name):
    widget.form.preset.setCurrentText(name)
    preset = synthetic.preset(name)
    assert widget.recipe() == preset.recipe
    assert (widget.form.levels.value(), widget.form.pool.value()) == (preset.spec.levels, preset.spec.pool)


def test_every_figure_has_a_sample():
    assert all(callable(getattr(samples, name, None)) for name in FIGURES)


def test_what_is_edited_is_no_preset_any_more(widget, qtbot):
    widget.form.preset.setCurrentText("fig2b")
    widget.refresh()
    assert "64 of 225 disks" in widget.about.text() and "spacing" in widget.about.text()
    type_into(qtbot, widget.form.spacing, "16")
    assert widget.form.preset.currentText() == FREE
    widget.refresh()
    assert "1 of 196 disks is distinguishable by l = 3, f = 2" in widget.about.text()


def test_the_capacity_follows_the_network(widget, qtbot):
    widget.form.preset.setCurrentText("fig2b")
    type_into(qtbot, widget.form.levels, "2")
    qtbot.waitUntil(lambda: "16 of 225 disks are distinguishable by l = 2, f = 2" in widget.about.text(), timeout=60_000)
    type_into(qtbot, widget.form.pool, "3")
    qtbot.waitUntil(lambda: "9 of 225 disks are distinguishable by l = 2, f = 3" in widget.about.text(), timeout=60_000)
    assert widget.form.preset.currentText() == "fig2b"


def test_the_picture_follows_the_fields_with_a_throttle(widget, qtbot, monkeypatch):
    drawn = []
    monkeypatch.setattr(widget.picture, "draw", lambda pixels: drawn.append(pixels))
    for spacing in range(12, 32):
        widget.form.spacing.setValue(spacing)
    qtbot.waitUntil(lambda: bool(drawn) and not widget._timer.isActive(), timeout=60_000)
    assert len(drawn) < 5
    np.testing.assert_array_equal(drawn[-1], 255 * synthetic.disks((256, 256), 31, 5).image)


def test_a_bad_value_switches_generate_off_and_says_why(widget, qtbot):
    type_into(qtbot, widget.form.shape, "90 x high")
    widget.refresh()
    assert not widget.button.isEnabled()
    type_into(qtbot, widget.form.shape, "90 x 4.5")
    widget.refresh()
    assert "whole numbers" in widget.about.text() and not widget.button.isEnabled()
    type_into(qtbot, widget.form.shape, "90 x 80")
    widget.refresh()
    assert widget.button.isEnabled() and "disks" in widget.about.text()


def test_an_image_that_cannot_be_drawn_leaves_a_sentence_and_no_layer(widget, qtbot):
    widget.form.kind.setCurrentText("blobs")
    type_into(qtbot, widget.form.shape, "64 x 64")
    type_into(qtbot, widget.form.count, "500")
    generate(qtbot, widget)
    assert "of 500 blobs" in widget.status.text()
    assert not widget.viewer.layers and widget.button.isEnabled()


def test_a_second_image_leaves_the_first_and_what_was_painted_there(widget, qtbot):
    generate(qtbot, widget)
    image, truth = widget.viewer.layers
    truth.data[..., 0] = 99
    before = image.data.copy(), truth.data.copy()
    generate(qtbot, widget)
    assert len(widget.viewer.layers) == 4 and list(widget.viewer.layers)[:2] == [image, truth]
    assert np.array_equal(image.data, before[0]) and np.array_equal(truth.data, before[1])


def test_a_kind_shows_its_own_fields(widget):
    shown = {}
    for kind in synthetic.KINDS:
        widget.form.kind.setCurrentText(kind)
        names = ("spacing", "value", "count", "largest", "noise")
        shown[kind] = {name for name in names if not getattr(widget.form, name).isHidden()}
        assert widget.recipe().kind == kind
    assert shown == {
        "disks": {"spacing", "noise"},
        "squares": {"spacing", "noise"},
        "constant": {"value", "noise"},
        "ramp": set(),
        "blobs": {"count", "largest", "noise"},
    }


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        (synthetic.recipe_of("disks", (40, 50), spacing=15, radius=5, offset=0), (40, 50)),
        (synthetic.recipe_of("disks", (20_000, 20_000), spacing=15, radius=5, offset=0, light=1.0), (256, 256)),
        (synthetic.recipe_of("disks", (500,), spacing=15, radius=5, offset=0), (24, 256)),
        (synthetic.recipe_of("blobs", (48, 600, 600), count=500), (96, 96)),
        (synthetic.recipe_of("ramp", (300, 30)), (256, 30)),
    ],
    ids=["small", "large", "line", "stack", "ramp"],
)
def test_the_picture_is_a_small_corner(recipe, shape):
    pixels = preview(recipe)
    assert (pixels.shape, pixels.dtype) == (shape, np.uint8)
    assert pixels.max() > 200


def test_the_corner_of_an_exact_lattice_is_that_of_the_image():
    recipe = synthetic.recipe_of("squares", (700, 700), spacing=15, radius=5, offset=3, light=0.5)
    corner = synthetic.make(cropped(recipe)).image
    np.testing.assert_allclose(corner, synthetic.lazy(recipe)[:256, :256], atol=1e-6)


def test_a_line_becomes_a_layer_of_one_row():
    image, truth = synthetic_layers(synthetic.disks((50,), 7, 2), "line")
    assert image[0].shape == truth[0].shape == (1, 50)


def test_the_widget_opens_from_its_menu(npe2pm, make_napari_viewer):
    from pathlib import Path

    from npe2 import PluginManifest

    import napari_shiftseg

    manifest = PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))
    assert [item.command for item in manifest.contributions.menus["napari/file/new_layer"]] == ["napari-shiftseg.synthesize"]
    with npe2pm.tmp_plugin(manifest=manifest):
        _, widget = make_napari_viewer().window.add_plugin_dock_widget("napari-shiftseg", "Synthetic images")
    assert isinstance(widget, SynthWidget)
