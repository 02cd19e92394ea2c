"""Settings, models and open groups of the last session come back; time and waste of a run are said before it."""

import json

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import Qt

from napari_shiftseg import SegmentSettings, load_model
from napari_shiftseg.plugin import kept
from napari_shiftseg.plugin.forecast import keep_pace, words_on_time, words_on_waste
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.link_widget import LinkWidget
from napari_shiftseg.plugin.measure_widget import MeasureWidget
from napari_shiftseg.plugin.queue_widget import QueueWidget
from napari_shiftseg.plugin.segment_widget import SegmentWidget
from napari_shiftseg.plugin.synth_widget import SynthWidget
from napari_shiftseg.segmentation import decide

pytestmark = pytest.mark.gui


def noise(shape):
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


@pytest.fixture
def opened(qtbot):
    """`opened(kind, *layers)`: a widget as a new session opens it."""

    def open_it(kind=SegmentWidget, *layers):
        viewer = ViewerModel()
        for layer in layers:
            viewer.add_layer(layer)
        widget = kind(viewer)
        qtbot.addWidget(widget)
        widget.show()
        if kind is SegmentWidget:
            qtbot.waitUntil(lambda: widget.equipment is not None, timeout=60_000)
        return widget

    return open_it


def test_a_new_session_goes_on_with_the_settings_of_the_last(opened, tiny, kept_place, qtbot):
    first = opened()
    assert first.form.about_kept.text() == "" and first.form.defaults.isHidden()
    first.form.model.choose_file(tiny)
    first.form.bandwidth.setValue(0.5)
    first.form.min_size.setValue(7)
    first.form.threshold.setValue(0.25)
    first.form.size_row.box.setValue(30)
    first.form.tile.setCurrentText("64")
    first.form.method.setCurrentText("tiles")
    first.form.intensity.invert.setChecked(True)
    first.form.allow.setChecked(True)
    first.form.advanced.expand()
    first.tune.form.expand()
    first.hide()  # as when napari closes
    assert kept_place.is_file()
    second = opened()
    form = second.form
    assert form.model.value() == str(tiny) and second.equipment.model.hash == load_model(tiny).hash
    assert (form.bandwidth.value(), form.min_size.value(), form.threshold.value()) == (0.5, 7, 0.25)
    assert (form.size_row.value(), form.tile.currentText(), form.method.currentText()) == (30, "64", "tiles")
    assert form.intensity.invert.isChecked() and form.advanced.is_open and second.tune.form.is_open
    assert not form.large.group.is_open and not form.rules.is_open
    assert not form.allow.isChecked(), "to break a rule is asked for anew"
    said = form.about_kept.text()
    assert all(word in said for word in ("Bandwidth 0.5", "Smallest 7", "Threshold 0.25", "Dark objects on bright on")), said
    qtbot.mouseClick(form.defaults, Qt.MouseButton.LeftButton)
    assert form.defaults.isHidden() and form.about_kept.text() == ""
    qtbot.waitUntil(lambda: second.equipment is not None, timeout=60_000)
    second.hide()
    third = opened()
    assert third.settings() == SegmentSettings() and third.form.model.value() != str(tiny)
    assert third.form.advanced.is_open


def test_a_widget_on_its_way_out_writes_where_it_read(opened, kept_place, tmp_path, monkeypatch, qtbot):
    first = opened()
    first.form.bandwidth.setValue(0.5)
    other = tmp_path / "napari-shiftseg.json"
    monkeypatch.setattr(kept, "place", lambda: other)
    qtbot.waitUntil(kept_place.is_file, timeout=60_000)
    assert json.loads(kept_place.read_text())["segment"]["Bandwidth"] == 0.5 and not other.exists()


BROKEN = {
    "empty": b"",
    "cut": b'{"segment": {"Bandwidth": 0.',
    "bytes": bytes(range(256)),
    "a list": b"[1, 2]",
    "a number": b'{"segment": 3, "paces": 4}',
    "deep": b"[" * 100_000,
    "other types": json.dumps(
        {
            "segment": {
                "Model": 3, "Bandwidth": "wide", "Threshold": 7.0, "Smallest": 1.5, "Method": "magic", "Advanced": "yes",
                "Mean of all flips and turns": 1, "Device": None, "Memory": float("nan"), "Object diameter": [1],
                "Tile size": {},
            }
        }
    ).encode(),
    "a model that has gone": b'{"segment": {"Model": "/nowhere/model.safetensors", "Device": "cuda:7"}}',
    "no such model": b'{"segment": {"Model": "a-model-of-tomorrow"}}',
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gives_a_new_widget_and_is_written_anew(opened, kept_place, content):
    kept_place.write_bytes(content)
    widget = opened()
    assert widget.settings() == SegmentSettings()
    assert widget.equipment.error == "" and widget.form.about_kept.text() == ""
    widget.form.bandwidth.setValue(2)
    widget.hide()
    assert json.loads(kept_place.read_text())["segment"]["Bandwidth"] == 2


def test_where_nothing_can_be_written_nothing_is_kept_and_nobody_disturbed(opened, kept_place, monkeypatch):
    kept_place.mkdir()
    widget = opened()
    widget.form.bandwidth.setValue(2)
    widget.hide()
    assert opened().form.bandwidth.value() == 0
    monkeypatch.setattr(kept, "place", lambda: None)
    widget = opened()
    widget.form.bandwidth.setValue(2)
    widget.hide()
    assert opened().form.bandwidth.value() == 0


def test_widgets_keep_their_own_and_leave_what_others_keep(opened, kept_place, tiny):
    inspect, synth = opened(InspectWidget), opened(SynthWidget)
    inspect.form.how.setCurrentIndex(1)
    inspect.form.model.value = tiny
    synth.form.preset.setCurrentText("fig3")
    inspect.hide()
    synth.hide()
    assert {"inspect", "synthesize"} <= {*json.loads(kept_place.read_text())}
    assert opened(InspectWidget).form.how.currentIndex() == 1
    assert str(opened(InspectWidget).form.model.value) == str(tiny)
    again = opened(SynthWidget)
    assert (again.form.preset.currentText(), again.recipe()) == ("fig3", synth.recipe())
    again.form.spacing.setValue(77)
    again.hide()
    last = opened(SynthWidget)
    assert (last.form.preset.currentText(), last.form.spacing.value()) == ("None", 77)


def test_link_measure_and_many_images_begin_as_they_were_left(opened, kept_place, tiny):
    link, measure, many = opened(LinkWidget), opened(MeasureWidget), opened(QueueWidget)
    link.form.through.setCurrentText("frames of a series (t)")
    link.form.distance.setValue(2.5)
    link.form.gap.setValue(3)
    link.form.splits.click()
    measure.form.colours.setCurrentText("magma")
    measure.form.tool.setCurrentText("Lasso")
    measure.form.planes.click()
    measure.form.groups[1].collapse()
    many.form.what.setCurrentText("A folder or a plate")
    many.form.pattern.setText("*.tif")
    many.form.recursive.click()
    many.form.wish.setCurrentText("As the Segment widget says")
    many.form.place.setCurrentText("In one folder")
    many.form.embedding.click()
    many.form.model.choose_file(tiny)
    for widget in (link, measure, many):
        widget.hide()
    link, measure, many = opened(LinkWidget), opened(MeasureWidget), opened(QueueWidget)
    assert (link.form.axis, link.form.wishes()) == ("t", {"distance": 2.5, "gap": 3, "splits": False})
    assert (measure.form.colours.currentText(), measure.form.plot.tool) == ("magma", "Lasso")
    assert measure.form.planes.isChecked() and [group.is_open for group in measure.form.groups] == [True, False, True]
    form = many.form
    assert many.on_disk and (form.pattern.text(), form.recursive.isChecked(), form.embedding.isChecked()) == (
        "*.tif",
        True,
        True,
    )
    assert (form.wish.currentText(), form.place.currentText()) == ("As the Segment widget says", "In one folder")
    assert form.model.value() == str(tiny) and form.out.native.isVisibleTo(form), "what belongs to the choices is shown"
    assert not form.folder.line_edit.value, "a folder belongs to one experiment"


def test_the_axes_of_labels_say_through_what_they_are_linked_whatever_was_last(opened, kept_place):
    first = opened(LinkWidget)
    first.form.choose("t")
    first.hide()
    stack = Labels(np.zeros((2, 4, 4), np.int32), axis_labels=("z", "y", "x"))
    assert opened(LinkWidget, stack).form.axis == "z"


def test_napari_says_where_the_file_lies(monkeypatch, tmp_path):
    monkeypatch.undo()
    from napari.settings import get_settings

    path = kept.place()
    assert path == get_settings().config_path.parent / "napari-shiftseg.json"


# -- before a run -----------------------------------------------------------------------------------------------------


def test_the_time_of_a_run_is_unknown_until_the_first_and_then_follows_the_work(open_widget, qtbot):
    _, widget = open_widget(ImageLayer(noise((64, 64)), name="cells"))
    assert widget.bar.time.text().startswith("How long it takes is known after the first run")
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert widget.bar.time.text().startswith("About "), widget.bar.time.text()


@pytest.mark.parametrize(
    ("shape", "wish", "times"),
    [((256, 256), {}, 1), ((512, 512), {}, 4), ((3, 256, 256), {}, 3), ((256, 256), {"write": 16}, None)],
    ids=["the same", "a larger image", "frames", "small tiles"],
)
def test_the_pace_of_the_last_run_is_that_of_its_work(tiny, shape, wish, times):
    model = load_model(tiny)
    base = decide(noise((256, 256)), model)
    keep_pace(base, {"seconds": {"network": 30.0, "labels": 60.0, "all": 100.0}})
    job = decide(noise(shape), model, SegmentSettings(**wish))
    work = (job.stream or job.plan).flops * job.frames / (base.stream or base.plan).flops
    expected = 30 * work + 70 * (times or 1)
    said = words_on_time(job)
    number, unit = said.split()[1:3]
    seconds = float(number) * {"s": 1, "s,": 1, "min": 60, "min,": 60, "h,": 3600}[unit]
    assert seconds == pytest.approx(expected, rel=0.06), said


def test_another_model_or_way_has_a_pace_of_its_own(tiny, save_tiny, tmp_path):
    seconds = {"seconds": {"network": 30.0, "labels": 60.0, "all": 100.0}}
    job = decide(noise((64, 64)), load_model(tiny))
    keep_pace(job, seconds)
    assert "About" in words_on_time(job)
    for other in (
        decide(noise((64, 64)), load_model(save_tiny("another", features=6))),
        decide(noise((64, 64)), load_model(tiny), SegmentSettings(dtype="bfloat16")),
        decide(noise((64, 64)), load_model(tiny), SegmentSettings(out_of_core=True), tmp_path / "a.zarr"),
    ):
        assert "first run" in words_on_time(other)


@pytest.mark.parametrize("pace", [None, 3, "fast", [1], [1, "2"], [float("nan"), 1], [-1, 1], [True, False, 1]])
def test_a_pace_that_is_none_is_unknown(tiny, kept_place, pace):
    job = decide(noise((64, 64)), load_model(tiny))
    keep_pace(job, {"seconds": {"network": 1.0, "all": 2.0}})
    (key,) = kept.read_kept("paces")
    kept.write_kept("paces", {key: pace})
    assert "first run" in words_on_time(job)


def test_a_plan_that_is_mostly_waste_is_called_that_with_what_to_do(save_tiny):
    model = load_model(save_tiny("deep", levels=3, convs=2, window=(16, 16)))
    image = noise((600, 600))
    job = decide(image, model, SegmentSettings(write=8, method="tiles"))
    assert len(job.plan) == 75 * 75 and job.plan.redundancy > 10
    said = words_on_waste(job)
    other = decide(image, model, SegmentSettings(method="tiles")).plan
    assert f"{job.plan.redundancy:.0f} passes" in said and "5,625 tiles" in said
    assert f"Automatic ({len(other):,} tile" in said and f"{other.redundancy:.1f} passes" in said
    assert words_on_waste(decide(image, model, SegmentSettings(method="tiles"))) == ""
    assert words_on_waste(decide(image, model)) == ""
    assert words_on_waste(decide(noise((20, 20)), model)) == "", "of one tile nothing can be saved"
    tight = decide(image, model, SegmentSettings(memory=600_000, method="tiles"))
    assert "More Memory" in words_on_waste(tight).replace("more Memory", "More Memory"), (
        tight.plan.describe(),
        words_on_waste(tight),
    )


def test_the_widget_says_it_beside_the_plan(open_widget, save_tiny):
    model = save_tiny("deep2", levels=3, convs=2, window=(16, 16))
    _, widget = open_widget(ImageLayer(noise((600, 600)), name="cells"), model=model)
    assert "Wasteful" not in widget.form.plan.text()
    widget.form.tile.setCurrentText("8")
    widget.form.tile.changed.emit()
    assert "Wasteful: it computes as much as" in widget.form.plan.text()
    assert "Set Tile size to Automatic" in widget.form.plan.text()
