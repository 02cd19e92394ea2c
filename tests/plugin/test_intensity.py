"""Intensity limits in the Segment widget: wished, shown after a run, kept in the record, and used again by Inspect."""

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image
from napari_shiftseg.plugin.inspect_jobs import compare_steps, verify_steps
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.subject import subject_of

pytestmark = pytest.mark.gui


def series():
    frames = np.random.default_rng(0).gamma(2.0, 100.0, (3, 40, 48)) * np.array([1.0, 0.2, 0.02])[:, None, None]
    return ImageLayer(frames.astype(np.float32), name="cells", axis_labels=("t", "y", "x"))


def run(qtbot, widget):
    assert widget.run_button.isEnabled(), widget.form.verdict.text()
    qtbot.mouseClick(widget.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def type_into(qtbot, edit, text):
    edit.selectAll()
    qtbot.keyClicks(edit, text)
    qtbot.keyClick(edit, Qt.Key.Key_Return)


def test_the_form_says_nothing_unless_something_is_wished(open_widget):
    _, widget = open_widget(series())
    wish = widget.settings()
    assert (wish.limits, wish.percentiles, wish.limits_per, wish.invert, wish.no_data) == (None, None, "image", False, None)
    assert not widget.bar.intensity.isVisibleTo(widget)


def test_every_wish_reaches_the_run_the_line_and_the_record(open_widget, qtbot, tiny):
    viewer, widget = open_widget(series())
    form = widget.form.intensity
    form.choice.setCurrentText("limits")
    assert widget.settings().limits == pytest.approx(tuple(viewer.layers[0].contrast_limits), rel=1e-5), "those that are seen"
    type_into(qtbot, form.low, "-5")
    type_into(qtbot, form.high, "900.5")
    type_into(qtbot, form.no_data, "0")
    form.invert.setChecked(True)
    run(qtbot, widget)
    assert "-5 and 900.5 become 1 and 0" in widget.bar.intensity.text()
    record = viewer.layers["cells instances"].metadata[KEY]["record"]
    wish = SegmentSettings(limits=(-5, 900.5), no_data=0, invert=True, write=record["plan"]["write"], method="tiles")
    expected = segment(Image.from_array(viewer.layers[0].data, "tyx"), load_model(tiny), wish)
    np.testing.assert_array_equal(np.asarray(viewer.layers["cells instances"].data), expected.labels)
    assert record["limits"] == expected.record["limits"]
    form.choice.setCurrentText("percentiles")
    assert widget.settings().percentiles == (1, 99.8) and widget.settings().limits is None
    form.choice.setCurrentText("from the model")
    assert widget.settings().percentiles is None


@pytest.mark.parametrize(
    ("low", "high", "said"), [("a", "5", "lower limit is"), ("5", "5", "give two numbers"), ("9", "2", "give two numbers")]
)
def test_limits_that_are_none_are_said_before_a_run(open_widget, qtbot, low, high, said):
    _, widget = open_widget(series())
    widget.form.intensity.choice.setCurrentText("limits")
    type_into(qtbot, widget.form.intensity.low, low)
    type_into(qtbot, widget.form.intensity.high, high)
    assert said in widget.form.verdict.text() and not widget.run_button.isEnabled()


def test_a_series_that_bleaches_warns_and_each_frame_can_have_its_own_limits(open_widget, qtbot):
    viewer, widget = open_widget(series())
    run(qtbot, widget)
    assert "In 2 of 3 time points (1, 2)" in widget.bar.intensity.text() and "#e6a117" in widget.bar.intensity.text()
    widget.form.intensity.per.setCurrentText("frame")
    widget.form.intensity.choice.setCurrentText("limits")
    assert widget.settings().limits_per == "image", "given limits are those of every frame"
    widget.form.intensity.choice.setCurrentText("from the model")
    run(qtbot, widget)
    assert "each frame has its own limits" in widget.bar.intensity.text() and "#e6a117" not in widget.bar.intensity.text()
    labels = viewer.layers["cells instances"]
    assert len(labels.metadata[KEY]["record"]["frame_limits"]) == 3
    for frame in range(3):
        viewer.dims.set_point(viewer.dims.ndim - 3, frame)
        subject = subject_of(viewer, labels)
        check = drain(verify_steps(subject, ""))
        assert check.ok, check.text
        embedding = np.asarray(subject.embedding_of_run())
        assert embedding.std() > 0.1 * np.asarray(viewer.layers["cells embedding"].data)[:, 0].std()
        limits, known = subject.limits(), np.percentile(viewer.layers[0].data[frame], (1, 99.8))
        assert (limits.low[0], limits.high[0]) == pytest.approx(tuple(known), rel=1e-4)
        _, comparison, _ = drain(compare_steps(subject, "", "uncropped"))
        assert comparison is not None


def test_inspect_verifies_inverted_results(open_widget, qtbot):
    viewer, widget = open_widget(ImageLayer(np.random.default_rng(0).gamma(2.0, 100.0, (40, 48)), name="cells"))
    widget.form.intensity.invert.setChecked(True)
    type_into(qtbot, widget.form.intensity.no_data, "7")
    run(qtbot, widget)
    subject = subject_of(viewer, viewer.layers["cells instances"])
    assert subject.limits().invert and drain(verify_steps(subject, "")).ok


def test_a_preview_tells_its_intensities(open_widget, qtbot):
    _, widget = open_widget(ImageLayer(np.random.default_rng(0).gamma(2.0, 100.0, (40, 48)), name="cells"))
    qtbot.mouseClick(widget.preview_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "become 0 and 1" in widget.bar.intensity.text()
