"""A measurement belongs to one run: Segment and Inspect side by side, operated as a user does."""

import json
import shutil
import threading
from copy import deepcopy

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.analysis import seam_report
from napari_shiftseg.events import Stage
from napari_shiftseg.plugin import inspect_widget as inspect_module
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.reader import read_result
from napari_shiftseg.plugin.signature import KEY, OLDER
from napari_shiftseg.plugin.subject import subject_of, without_embedding

pytestmark = pytest.mark.gui


def noise(shape=(40, 48), seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


class Bench:
    """A viewer with an image, and both widgets."""

    def __init__(self, qtbot, open_widget, window):
        self.qtbot, self.image = qtbot, ImageLayer(noise(), name="cells")
        self.viewer, self.segment = open_widget(self.image, window=window, show=window)
        self.inspect = InspectWidget(self.viewer)
        if window:
            self.viewer.window.add_dock_widget(self.inspect, name="Inspect")
        else:
            qtbot.addWidget(self.inspect)
            for event in (
                self.viewer.layers.events.inserted,
                self.viewer.layers.events.removed,
                self.viewer.layers.events.renamed,
            ):
                event.connect(self.inspect.reset_choices)

    def run(self, tile=16, bad=False, embedding=True, model=None):
        form = self.segment.form
        if model is not None:
            form.model.choose_file(model)
            self.qtbot.waitUntil(lambda: self.segment.equipment is not None, timeout=60_000)
        form.allow.setChecked(bad)
        form.keep_embedding.setChecked(embedding)
        edit = form.tile.lineEdit()
        edit.selectAll()
        self.qtbot.keyClicks(edit, str(tile))
        self.qtbot.keyClick(edit, Qt.Key.Key_Return)
        self.click(self.segment, self.segment.run_button)
        return self.layer("instances")

    def click(self, widget, button):
        assert button.isEnabled()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        self.qtbot.waitUntil(lambda: not widget.running, timeout=60_000)

    def measure(self):
        self.click(self.inspect, self.inspect.form.measure)
        return self.inspect.form.finding.text()

    def highlight(self):
        self.click(self.inspect, self.inspect.form.highlight)

    def layer(self, role):
        """The present layer of a role."""
        return [x for x in self.viewer.layers if x.metadata.get(KEY, {}).get("role") == role and OLDER not in x.name][-1]


@pytest.fixture
def bench(qtbot, open_widget):
    return lambda window=False: Bench(qtbot, open_widget, window)


def is_green(text):
    return "#4caf50" in text


def other_pixels(bench, save_tiny):
    bench.image.data = noise(seed=5)


def other_settings(bench, save_tiny):
    bench.segment.form.bandwidth.setValue(0.3)


def other_model(bench, save_tiny):
    bench.segment.form.model.choose_file(save_tiny("other", window=(20, 20), levels=2))
    bench.qtbot.waitUntil(lambda: bench.segment.equipment is not None, timeout=60_000)


@pytest.mark.parametrize("change", [None, other_pixels, other_settings, other_model], ids=lambda c: c and c.__name__)
@pytest.mark.parametrize("chosen", ["instances", "embedding"])
def test_labels_are_never_measured_with_the_embedding_of_another_run(bench, save_tiny, change, chosen):
    desk = bench()
    desk.run(16)
    desk.inspect.form.layers.value = desk.layer(chosen)
    first = desk.layer("embedding").data
    if change is not None:
        change(desk, save_tiny)
    desk.run(15, bad=True, embedding=False)
    assert desk.inspect.layer is desk.layer("instances"), "Inspect looks at what the last run made"
    text = desk.measure()
    assert not is_green(text) and desk.inspect.findings.subject.embedding is None
    assert "no embedding of this run" in text and "run again with Embedding layers on" in text
    assert without_embedding(desk.viewer, desk.image) is desk.layer("instances"), "that of the older run is not its own"
    desk.run(15, bad=True)
    text = desk.measure()
    subject = desk.inspect.findings.subject
    assert subject.embedding is not first and "no embedding" not in text
    report = seam_report(desk.layer("embedding").data, subject.plan, desk.layer("instances").data)
    assert report.verdict in text


def test_a_run_out_of_core_names_a_remedy_that_helps(open_large, qtbot, tmp_path):
    viewer, widget = open_large(tmp_path / "r.zarr", window=False)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    subject = subject_of(viewer, viewer.layers["cells instances"])
    assert "shiftseg segment --embedding" in subject.remedy and "Verify tiling" in subject.remedy


def test_all_that_was_found_of_an_older_run_goes_with_it(bench):
    """Outlines, comparison, finding, table and plot; the lines are those of the new plan."""
    desk = bench()
    labels = desk.run(15, bad=True)
    assert labels.name == "cells instances (non-compliant)"
    truth = np.where(np.arange(48) < 24, 1, 2) * np.ones((40, 1), np.int32)
    desk.viewer.add_layer(Labels(truth, name="outlines"))
    desk.inspect.form.layers.value, desk.inspect.form.truth.value = labels, desk.viewer.layers["outlines"]
    desk.inspect.form.seams.setChecked(True)
    desk.measure()
    desk.highlight()
    desk.click(desk.inspect, desk.inspect.form.compare)
    made = [x for x in desk.viewer.layers if x.metadata.get(KEY, {}).get("role") not in (None, "tile seams")]
    assert any("split" in x.name for x in made) and any("naive" in x.name for x in made)
    desk.run(16)
    run = desk.layer("instances").metadata[KEY]["run"]
    for layer in made:
        known = layer.metadata[KEY]
        assert known["run"] == run or (OLDER in layer.name and not layer.visible), layer.name
    assert desk.layer("instances").name == "cells instances"
    form = desk.inspect.form
    assert (form.finding.text(), form.answer.text(), desk.inspect.status.text()) == ("", "", "")
    assert form.table.rowCount() == 0 and not form.plot.groups and not form.beside.isChecked()
    seams = desk.viewer.layers["cells tile seams"].data[:, 0]
    assert set(np.unique(seams)) & {15.5, 31.5} and 14.5 not in seams
    desk.highlight()
    assert desk.layer("on seams").metadata[KEY]["run"] == run and desk.layer("on seams").visible
    assert not any(OLDER in x.name for x in desk.viewer.layers if "seams" in x.name or "split" in x.name), "used again"


def test_painted_labels_stay_and_inspect_goes_on_with_the_new_ones(bench):
    desk = bench(window=True)
    labels = desk.run(16)
    desk.inspect.form.layers.value = labels
    labels.data_setitem((np.array([3]), np.array([4])), 99)
    before = labels.data.copy()
    new = desk.run(8)
    assert new is not labels and np.array_equal(labels.data, before) and labels.name == "cells instances" + OLDER
    assert "not overwritten" in desk.segment.status.text() and labels.name in desk.segment.status.text()
    assert desk.inspect.layer is new and "no embedding" not in desk.measure()
    desk.inspect.form.layers.value = labels
    assert "no embedding of this run" in desk.measure(), "its embedding was that of the older run"
    desk.viewer.layers.move(0, 2)
    assert desk.inspect.layer is labels, "a choice of the user stays"


def test_a_preview_leaves_the_result_of_the_run_as_it_is(bench):
    desk = bench()
    labels = desk.run(16)
    for _ in range(2):
        desk.click(desk.segment, desk.segment.preview_button)
    assert [x.name for x in desk.viewer.layers if "preview" in x.name] == ["cells preview instances"]
    assert desk.layer("instances") is labels and OLDER not in labels.name
    desk.layer("preview instances").name = "mine"
    desk.click(desk.segment, desk.segment.preview_button)
    assert "mine" in desk.viewer.layers and "not overwritten" in desk.segment.status.text()
    desk.run(16)
    assert not any(x.visible for x in desk.viewer.layers if "preview" in x.name)


def test_a_finding_that_comes_after_a_new_run_is_not_shown(bench, monkeypatch):
    desk, go = bench(), threading.Event()
    real = inspect_module.measure_steps

    def held(subject):
        yield Stage(done=0, total=0, text="held")
        go.wait(10)
        return (yield from real(subject))

    monkeypatch.setattr(inspect_module, "measure_steps", held)
    desk.run(15, bad=True)
    desk.inspect.measure()
    desk.run(16)
    go.set()
    desk.qtbot.waitUntil(lambda: not desk.inspect.running, timeout=60_000)
    assert desk.inspect.findings is None and desk.inspect.form.finding.text() == ""
    assert "start again" in desk.inspect.status.text()


def test_a_changed_embedding_is_not_measured_as_that_of_the_run(bench):
    desk = bench()
    desk.run(15, bad=True)
    desk.layer("embedding").data = np.zeros_like(desk.layer("embedding").data)
    desk.measure()
    assert desk.inspect.findings is None and "was changed since its run" in desk.inspect.status.text()


@pytest.mark.parametrize("button", ["verify", "compare"])
def test_another_image_in_the_layer_is_not_taken_for_the_one_that_was_segmented(bench, button):
    desk = bench()
    desk.run(16)
    desk.inspect.form.layers.value = desk.layer("instances")
    desk.image.data = noise(seed=5)
    desk.click(desk.inspect, getattr(desk.inspect.form, button))
    assert "other pixels than those that were segmented" in desk.inspect.status.text()
    assert desk.inspect.form.answer.text() == "" and not any("naive" in x.name for x in desk.viewer.layers)
    desk.run(16)
    desk.click(desk.inspect, desk.inspect.form.verify)
    assert "equal one pass" in desk.inspect.form.answer.text()


@pytest.mark.parametrize(("shape", "part"), [((96, 112), np.s_[60:70, 5:20]), ((3, 40, 48), np.s_[1, 20:, :9])])
def test_an_image_of_which_a_part_changed_is_not_taken_for_the_one_that_was_segmented(qtbot, put_result, shape, part):
    viewer = ViewerModel()
    put_result(viewer, shape, axes="tyx"[-len(shape) :])
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    image = viewer.layers["cells"]
    before = image.data.copy()
    for data, said in ((before, ""), (np.zeros_like(before), "other pixels")):
        image.data[part] = data[part]  # of which a layer tells nobody
        widget.verify()
        qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
        assert said in widget.status.text() and bool(said) == ("other pixels" in widget.status.text())


@pytest.mark.parametrize(
    ("shape", "axes", "rgb"), [((2, 40, 48), "tyx", False), ((3, 40, 48), "cyx", False), ((40, 48, 3), "yxc", True)]
)
def test_images_of_all_kinds_are_known_again(qtbot, put_result, save_tiny, shape, axes, rgb):
    viewer = ViewerModel()
    model = save_tiny("three", in_channels=3) if "c" in axes else save_tiny("one")
    put_result(viewer, shape, axes=axes, model=model, rgb=rgb)
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    widget.verify()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "equal one pass" in widget.form.answer.text(), widget.status.text()


def test_a_file_that_changed_is_not_taken_for_the_one_that_a_saved_result_was_made_from(bench, tiny, tmp_path):
    desk, path = bench(), tmp_path / "cells.tif"
    tifffile.imwrite(path, noise())
    result = segment(path, tiny, SegmentSettings(write=16))
    desk.inspect.open_result(result.save(tmp_path / "a.zarr", copy_image=False))
    desk.inspect.form.model.value = tiny
    desk.click(desk.inspect, desk.inspect.form.verify)
    assert "equal one pass" in desk.inspect.form.answer.text()
    tifffile.imwrite(path, noise(seed=5))
    desk.click(desk.inspect, desk.inspect.form.verify)
    assert "cells.tif holds other pixels than those that were segmented" in desk.inspect.status.text()


def test_a_duplicate_of_the_embedding_stands_in_for_a_deleted_one(bench):
    desk = bench()
    desk.run(16)
    data, options, kind = desk.layer("embedding").as_layer_data_tuple()
    desk.viewer.add_layer(Layer.create(deepcopy(data), options, kind))
    desk.viewer.layers.remove("cells embedding")
    desk.inspect.form.layers.value = desk.layer("instances")
    assert "no embedding" not in desk.measure(), "bit for bit that of the run"
    desk.viewer.layers[-1].data[0, 0, 0] += 1
    desk.measure()
    assert "was changed since its run" in desk.inspect.status.text()


def test_a_projected_stack_is_no_result(bench):
    """napari copies our metadata into whatever is made of our layers."""
    desk = bench()
    labels = desk.run(16)
    data, options, kind = labels.as_layer_data_tuple()
    desk.viewer.add_layer(Layer.create(data[:20].copy(), {**options, "name": "half"}, kind))
    assert "half" not in [str(x) for x in desk.inspect.form.layers.choices]


def test_names_may_change_without_another_layer_being_chosen(bench):
    desk = bench()
    labels = desk.run(16)
    desk.viewer.add_layer(ImageLayer(noise(), name="another"))
    desk.inspect.form.layers.value = labels
    desk.measure()
    labels.name, desk.image.name = "mine", "plate"
    assert desk.inspect.layer is labels and desk.inspect.findings is not None
    assert desk.segment.layer is desk.image


def test_what_is_said_of_one_image_is_not_left_beside_another(bench):
    desk = bench()
    desk.run(16)
    assert "compliant" in desk.segment.status.text() and desk.segment.bar.intensity.text()
    other = desk.viewer.add_layer(ImageLayer(noise(), name="another"))
    desk.segment.form.layers.value = other
    assert desk.segment.status.text() == desk.segment.bar.intensity.text() == ""
    desk.run(16)
    other.data = noise(seed=3)
    assert desk.segment.status.text() == ""


def test_saved_results_keep_the_identity_of_their_run(bench, tmp_path, tiny):
    """Of two stores of one image, each is measured with its own embedding; also where stores are older than runs."""
    desk = bench()
    stores = {}
    for name, write, embedding in (("a", 16, True), ("b", 15, False)):
        wish = SegmentSettings(write=write, allow_noncompliant=True, keep_embedding=embedding, out_of_core=False)
        stores[name] = segment(noise(), load_model(tiny), wish)
        stores[name].save(tmp_path / f"{name}.zarr")
    for name in ("a", "b"):
        shutil.copytree(tmp_path / f"{name}.zarr", tmp_path / f"old {name}.zarr")
        attributes = json.loads((tmp_path / f"old {name}.zarr" / "zarr.json").read_text())
        del attributes["attributes"][KEY]["record"]["run"]
        (tmp_path / f"old {name}.zarr" / "zarr.json").write_text(json.dumps(attributes))
    layers = {}
    for name in ("a", "b", "old a", "old b"):
        made = [desk.viewer.add_layer(Layer.create(*given)) for given in read_result(str(tmp_path / f"{name}.zarr"))]
        layers[name] = made[-1]
    assert layers["a"].metadata[KEY]["run"] == stores["a"].record["run"] != stores["b"].record["run"]
    assert layers["b"].name == "b instances (non-compliant)"
    for name, has in (("a", True), ("b", False), ("old a", True), ("old b", False)):
        assert (subject_of(desk.viewer, layers[name]).embedding is not None) == has
    assert without_embedding(desk.viewer, None) is layers["old b"]


# -- lines and unfinished layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("touch", ["renamed", "moved", "edited"])
def test_lines_that_the_user_made_his_own_are_left_to_him(bench, touch):
    desk = bench()
    labels = desk.run(16)
    desk.inspect.form.layers.value = labels
    desk.inspect.form.seams.setChecked(True)
    lines = desk.viewer.layers["cells tile seams"]
    if touch == "renamed":
        lines.name = "my grid"
    elif touch == "moved":
        lines.translate = (5, 5)
    else:
        lines.data = lines.data[:1]
    before = lines.data.copy(), lines.name, lines.translate.copy()
    desk.run(8)
    desk.viewer.scene.camera.zoom = 40
    desk.viewer.scene.camera.center = (0, 30, 30)
    assert np.array_equal(lines.data, before[0]) and lines.name == before[1] and np.array_equal(lines.translate, before[2])
    others = [x for x in desk.viewer.layers if x is not lines and x.metadata.get(KEY, {}).get("role") == "tile seams"]
    assert len(others) == 1 and desk.inspect.form.seams.isChecked(), "the box has lines of its own again"
    desk.inspect.overlays.close()
    assert lines in desk.viewer.layers and others[0] not in desk.viewer.layers


@pytest.mark.parametrize("ending", ["dock closed", "result deleted", "other result"])
def test_renamed_lines_outlive_what_they_were_drawn_over(bench, ending):
    desk = bench()
    desk.inspect.form.layers.value = desk.run(16)
    for box in (desk.inspect.form.seams, desk.inspect.form.grid):
        box.setChecked(True)
    lines = desk.viewer.layers["cells tile seams"]
    lines.name = "mine"
    if ending == "dock closed":
        desk.inspect.overlays.close()
    elif ending == "result deleted":
        desk.viewer.layers.remove("cells instances")
        desk.viewer.layers.remove("cells embedding")
    else:
        desk.inspect.form.seams.setChecked(False)
        desk.inspect.form.layers.value = desk.layer("embedding")
    assert lines in desk.viewer.layers and len(lines.data)
    assert sum("period grid" in x.name for x in desk.viewer.layers) == (ending == "other result")


def test_lines_of_another_result_do_not_pile_up(bench):
    desk = bench()
    desk.run(16)
    desk.inspect.form.seams.setChecked(True)
    for role in ("embedding", "instances", "embedding"):
        desk.inspect.form.layers.value = desk.layer(role)
    assert sum("tile seams" in x.name for x in desk.viewer.layers) == 1
    assert desk.inspect.form.seams.isChecked()


@pytest.mark.parametrize("ending", ["done", "cancelled"])
def test_an_unfinished_layer_that_was_renamed_and_moved_stays_so(open_large, qtbot, tmp_path, monkeypatch, ending):
    from napari_shiftseg.events import BlockDone
    from napari_shiftseg.plugin import large
    from napari_shiftseg.plugin import segment_widget as module

    go = threading.Event()

    def held(*args, **options):
        steps = large.segment_large(*args, **options)
        while True:
            try:
                event = next(steps)
            except StopIteration as stop:
                return stop.value
            yield event
            if isinstance(event, BlockDone):
                go.wait(20)

    monkeypatch.setattr(module, "segment_large", held)
    viewer, widget = open_large(tmp_path / "r.zarr")
    widget.run()
    qtbot.waitUntil(lambda: any(isinstance(x, Labels) for x in viewer.layers), timeout=60_000)
    (layer,) = [x for x in viewer.layers if isinstance(x, Labels)]
    assert not layer.editable, "the run would write over it"
    layer.name, layer.translate = "mine", (7, 7)
    if ending == "cancelled":
        widget.cancel()
    go.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert layer in viewer.layers and (layer.name, layer.translate.tolist()) == ("mine", [7, 7])
    if ending == "done":
        assert layer.metadata[KEY]["role"] == "instances" and np.asarray(layer.data[0]).max() > 3
        widget.form.large.choice.setCurrentText("Never")
        widget.run()
        qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
        assert layer.name == "mine" and layer.visible and "mine" in widget.status.text()
