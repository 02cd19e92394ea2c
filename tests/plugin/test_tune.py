"""Tuning: other settings change the labels that are shown, by the embedding that is there, and nothing that a user made."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from grey import bars
from named import named_model
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QPoint, Qt

from napari_shiftseg import SegmentSettings, open_result, relabel, save_model, segment
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.signature import OLDER, is_untouched
from napari_shiftseg.plugin.size_plot import SizePlot

pytestmark = pytest.mark.gui

BARS = np.clip(bars((150, 90)) + np.random.default_rng(3).normal(0, 0.06, (150, 90)), 0, 1).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 255, (96, 120)).astype(np.uint8)


def rest(qtbot, panel):
    """Until nothing moves any more."""
    qtbot.waitUntil(lambda: panel.settled, timeout=60_000)


def finish(qtbot, widget):
    assert widget.run_button.isEnabled(), widget.form.verdict.text()
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


@pytest.fixture
def tuned(open_widget, qtbot):
    """`tuned(pixels, embedding=True, **options)`: a viewer with a result, the widget, and the panel that is ready."""

    def open_it(pixels=PIXELS, embedding=True, **options):
        viewer, widget = open_widget(ImageLayer(pixels, name="cells"), **options)
        widget.form.keep_embedding.setChecked(embedding)
        widget.form.min_size.setValue(4)
        finish(qtbot, widget)
        widget.tune.form.expand()
        qtbot.waitUntil(lambda: widget.tune.ready is not None, timeout=60_000)
        return viewer, widget, widget.tune

    return open_it


def expected(pixels, tiny, **wish):
    return segment(pixels, tiny, SegmentSettings(**{"min_size": 4, **wish}))


@pytest.fixture
def no_network(monkeypatch):
    """Whoever runs the network now, fails."""

    def forbidden(*_, **__):
        raise AssertionError("the network ran")

    def forbid():
        for module in ("pipeline", "lazy"):
            monkeypatch.setattr(f"napari_shiftseg.segmentation.{module}.predict_part", forbidden)
        monkeypatch.setattr("napari_shiftseg.segmentation.pipeline.predict_steps", forbidden)

    return forbid


def test_a_slider_changes_the_labels_of_the_run_in_place(tuned, qtbot, tiny, no_network):
    viewer, widget, panel = tuned()
    labels, form = viewer.layers["cells instances"], panel.form
    before, count = labels.data.copy(), len(viewer.layers)
    steps = (
        (lambda: form.threshold.setValue(0.4), {"threshold": 0.4}),
        (lambda: form.bandwidth.setValue(2.5), {"threshold": 0.4, "bandwidth": 2.5}),
        (lambda: form.min_size.setValue(30), {"threshold": 0.4, "bandwidth": 2.5, "min_size": 30}),
    )
    truth = [expected(PIXELS, tiny, **wish) for _, wish in steps]
    no_network()
    assert form.threshold.value() == 0.5 and form.min_size.value() == 4
    for (set_it, _), made in zip(steps, truth, strict=True):
        set_it()
        rest(qtbot, panel)
        np.testing.assert_array_equal(labels.data, made.labels)
        assert list(labels.features["index"]) == list(range(1, made.labels.max() + 1))
        assert labels.metadata[KEY]["record"]["clustering"] == made.record["clustering"]
        assert f"{made.labels.max()} instances" in widget.status.text() and "tuned without the network" in widget.status.text()
    assert len(viewer.layers) == count and is_untouched(labels) and (labels.data != before).any()
    said = widget.status.text()
    assert "threshold 0.4 (run: 0.5)" in said and "The embedding they come from is compliant" in said
    assert not form.status.text(), "it is said once"
    qtbot.mouseClick(form.reset, Qt.MouseButton.LeftButton)
    rest(qtbot, panel)
    np.testing.assert_array_equal(labels.data, before)
    assert form.threshold.value() == 0.5 and "the settings of the run" in widget.status.text()


def test_a_network_with_seeds_has_a_valley_in_place_of_the_dip(tuned, qtbot, tmp_path, no_network):
    model = named_model()
    clustering = replace(model.record.clustering, factor=0.5)
    path = save_model(tmp_path / "named.safetensors", replace(model, record=replace(model.record, clustering=clustering)))
    viewer, widget, panel = tuned(BARS, model=str(path))
    form = panel.form
    assert not form.valley.isHidden() and form.dip.isHidden() and form.valley.isEnabled() and not form.dip.isEnabled()
    assert form.valley.value() == 0.35
    labels, result = viewer.layers["cells instances"], segment(BARS, path, SegmentSettings(min_size=4))
    np.testing.assert_array_equal(labels.data, result.labels)
    no_network()
    form.valley.setValue(0.95)
    rest(qtbot, panel)
    np.testing.assert_array_equal(labels.data, relabel(result, valley=0.95).labels)
    assert (labels.data != result.labels).any()
    assert labels.metadata[KEY]["record"]["relabelled"]["changed"] == {"valley": [0.35, 0.95]}
    assert "valley 0.95 (run: 0.35)" in widget.status.text()


def test_a_network_without_seeds_has_a_dip_and_no_valley(tuned):
    _, _, panel = tuned()
    assert panel.form.valley.isHidden() and not panel.form.valley.isEnabled() and not panel.form.dip.isHidden()
    assert panel.form.wish().valley is None


def test_many_changes_are_one_and_the_newest_wins(tuned, qtbot, tiny, monkeypatch):
    viewer, _, panel = tuned()
    begun, begin = [], panel._begin
    monkeypatch.setattr(panel, "_begin", lambda *steps: begun.append(1) or begin(*steps))
    for value in np.linspace(0.3, 0.6, 12):
        panel.form.threshold.setValue(value)
    rest(qtbot, panel)
    assert len(begun) == 1
    np.testing.assert_array_equal(viewer.layers["cells instances"].data, expected(PIXELS, tiny, threshold=0.6).labels)
    for value in (0.3, 0.35, 0.45):  # each while the one before is computed
        panel.form.threshold.setValue(value)
        panel._go()
        assert panel.running
    rest(qtbot, panel)
    np.testing.assert_array_equal(viewer.layers["cells instances"].data, expected(PIXELS, tiny, threshold=0.45).labels)
    assert panel.form.threshold.value() == 0.45 and len(begun) <= 4


TOUCHES = {
    "painted": lambda layer: layer.paint((5, 5), 9),
    "filled": lambda layer: layer.fill((5, 5), 9),
    "pixels by a script": lambda layer: layer.data.__setitem__((0, 0), 77),
    "renamed": lambda layer: setattr(layer, "name", "mine"),
    "moved": lambda layer: setattr(layer, "translate", (3, 4)),
    "a note": lambda layer: layer.metadata.update(mine="checked"),
}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_what_the_user_touched_is_kept_and_the_tuned_labels_lie_beside_it(tuned, qtbot, tiny, touch, when, monkeypatch):
    if when == "meanwhile" and touch is TOUCHES["pixels by a script"]:
        pytest.skip("no event tells of it, and the thread's digest was taken an instant ago")
    viewer, widget, panel = tuned()
    labels = viewer.layers["cells instances"]
    if when == "before":
        touch(labels)
        left = labels.data.copy()
    else:  # the thread has looked at the pixels already
        show = panel._on_tuned

        def late(shown):
            touch(labels)
            show(shown)

        monkeypatch.setattr(panel, "_on_tuned", late)
    panel.form.threshold.setValue(0.45)
    rest(qtbot, panel)
    made = expected(PIXELS, tiny, threshold=0.45).labels
    assert panel.layer is not labels and panel.layer in viewer.layers and labels in viewer.layers
    np.testing.assert_array_equal(panel.layer.data, made)
    if when == "before":
        np.testing.assert_array_equal(labels.data, left)
        assert labels.name == "mine" or labels.name.endswith(OLDER)
        assert "Kept, not overwritten" in widget.status.text()
        panel.form.threshold.setValue(0.4)
        rest(qtbot, panel)
        np.testing.assert_array_equal(panel.layer.data, expected(PIXELS, tiny, threshold=0.4).labels)
        np.testing.assert_array_equal(labels.data, left)
        assert sum(layer.name.startswith("cells instances") for layer in viewer.layers) <= 2


def test_without_an_embedding_the_smallest_size_is_tuned_and_it_is_said(tuned, qtbot, tiny):
    viewer, widget, panel = tuned(embedding=False)
    labels, form = viewer.layers["cells instances"], panel.form
    before = labels.data.copy()
    assert not form.threshold.isEnabled() and not form.bandwidth.isEnabled() and form.min_size.isEnabled()
    assert "smallest size alone" in form.about.text() and "Embedding layers" in form.about.text()
    form.min_size.setValue(40)
    rest(qtbot, panel)
    sizes = np.bincount(labels.data.ravel())[1:]
    assert sizes.min() >= 40 and len(sizes) < before.max() and "not equal" in widget.status.text()
    assert "#4caf50" not in widget.status.text(), "no green dot over labels that a run would not give"
    form.min_size.setValue(4)  # from the labels of the run, not from what is left of them
    rest(qtbot, panel)
    np.testing.assert_array_equal(labels.data, before)


def test_a_result_from_a_store_is_tuned_as_one_of_the_session(open_widget, qtbot, tiny, tmp_path, no_network):
    result = expected(PIXELS, tiny)
    result.save(tmp_path / "saved.zarr")
    viewer, widget = open_widget()
    from napari.layers import Layer

    from napari_shiftseg.plugin.reader import read_result

    for made in read_result(str(tmp_path / "saved.zarr")):
        viewer.add_layer(Layer.create(*made))
    panel, made = widget.tune, expected(PIXELS, tiny, threshold=0.45).labels
    no_network()
    panel.form.expand()
    qtbot.waitUntil(lambda: panel.ready is not None, timeout=60_000)
    panel.form.threshold.setValue(0.45)
    rest(qtbot, panel)
    np.testing.assert_array_equal(panel.layer.data, made)
    np.testing.assert_array_equal(open_result(tmp_path / "saved.zarr").labels[...], result.labels)


@pytest.fixture
def in_view(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.plugin.tune_panel.window_in_view", lambda *_: {"y": slice(0, 60), "x": slice(0, 60)})


def test_the_view_comes_first_and_cancel_brings_the_old_labels_back(tuned, qtbot, tiny, cells, in_view, monkeypatch):
    pixels = cells((700, 600))
    viewer, _, panel = tuned(pixels)
    labels, seen = viewer.layers["cells instances"], []
    before, made = labels.data.copy(), expected(pixels, tiny, threshold=0.45).labels
    show = panel._on_view

    def look(shown):
        show(shown)
        seen.append(labels.data.copy())

    monkeypatch.setattr(panel, "_on_view", look)
    panel.form.threshold.setValue(0.45)
    rest(qtbot, panel)
    np.testing.assert_array_equal(labels.data, made)
    (first,) = seen
    part = (slice(0, 256), slice(0, 256))
    np.testing.assert_array_equal(first[256:][:, 256:] > 0, before[256:][:, 256:] > 0)
    np.testing.assert_array_equal(first[part][:250, :250] > 0, made[part][:250, :250] > 0)
    assert (first != before).any() and (first != made).any()

    def cancelled(shown):
        show(shown)
        panel.cancel()

    monkeypatch.setattr(panel, "_on_view", cancelled)
    panel.form.threshold.setValue(0.3)
    rest(qtbot, panel)
    np.testing.assert_array_equal(labels.data, made)
    assert panel.form.threshold.value() == 0.45 and "Cancelled" in panel.form.status.text() and is_untouched(labels)


@pytest.mark.parametrize("embedding", [True, False], ids=["embedding in the store", "no embedding"])
def test_out_of_core_the_view_is_tuned_and_apply_writes_a_new_result(
    open_large, qtbot, tiny, tmp_path, cells, in_view, embedding, monkeypatch
):
    monkeypatch.setattr("napari_shiftseg.plugin.reader.WHOLE_BYTES", 0)
    viewer, widget = open_large(tmp_path / "r.ome.zarr")
    widget.form.min_size.setValue(4)
    if embedding:
        from dataclasses import replace

        settings = widget.settings
        monkeypatch.setattr(widget, "settings", lambda: replace(settings(), keep_embedding=True))
    finish(qtbot, widget)
    panel, labels = widget.tune, viewer.layers["cells instances"]
    panel.form.expand()
    qtbot.waitUntil(lambda: panel.ready is not None, timeout=60_000)
    before = open_result(tmp_path / "r.ome.zarr").labels[...]
    panel.form.threshold.setValue(0.45)
    rest(qtbot, panel)
    assert "Apply" in panel.form.status.text() and labels in viewer.layers
    view = viewer.layers["cells preview instances"]
    made = expected(cells(), tiny, threshold=0.45, out_of_core=False)
    assert view.data.shape[-1] < 700
    inner = (slice(0, view.data.shape[0] - 4), slice(0, view.data.shape[1] - 4))
    np.testing.assert_array_equal(view.data[inner] > 0, made.labels[inner] > 0)
    qtbot.mouseClick(panel.form.apply, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.running, timeout=120_000)
    written = open_result(tmp_path / "r_tuned.ome.zarr")
    np.testing.assert_array_equal(written.labels[...], made.labels)
    np.testing.assert_array_equal(open_result(tmp_path / "r.ome.zarr").labels[...], before)
    assert "r_tuned.ome.zarr" in widget.status.text() and "threshold" in widget.status.text()
    assert written.record["settings"]["threshold"] == 0.45


def test_another_run_is_another_result_to_tune(tuned, qtbot, tiny):
    viewer, widget, panel = tuned()
    panel.form.threshold.setValue(0.45)
    rest(qtbot, panel)
    old = panel.ready
    widget.form.threshold.setValue(0.4)
    finish(qtbot, widget)
    qtbot.waitUntil(lambda: panel.ready is not None and panel.ready is not old, timeout=60_000)
    assert panel.form.threshold.value() == 0.4 and panel.ready.left.base.threshold == 0.4
    np.testing.assert_array_equal(viewer.layers["cells instances"].data, expected(PIXELS, tiny, threshold=0.4).labels)


def test_a_group_that_is_open_before_the_first_run_tunes_its_result(open_widget, qtbot, cells, monkeypatch):
    """As it is in a session that begins with the open groups of the last; however long it takes to add the layers."""
    from napari_shiftseg.plugin import target

    remember = target.remember

    def late(*given):
        qtbot.wait(500)  # the thread that looks for what the run left has all the time it wants
        remember(*given)

    monkeypatch.setattr(target, "remember", late)
    _, widget = open_widget(ImageLayer(cells((40, 48)), name="cells"), window=True)
    widget.tune.form.expand()
    finish(qtbot, widget)
    qtbot.waitUntil(lambda: widget.tune.ready is not None, timeout=60_000)
    assert "changes show at once" in widget.tune.form.about.text()


def test_inspect_measures_the_labels_that_are_shown(tuned, qtbot):
    from napari_shiftseg.plugin.subject import subject_of

    viewer, _, panel = tuned()
    heard = []
    viewer.layers["cells embedding"].events.metadata.connect(lambda _: heard.append(1))
    panel.form.threshold.setValue(0.45)
    rest(qtbot, panel)
    subject = subject_of(viewer, viewer.layers["cells embedding"])
    np.testing.assert_array_equal(subject.labels, viewer.layers["cells instances"].data)
    assert heard, "what was measured with the labels of before stands there no more"


# -- the histogram -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plot(qtbot):
    made = SizePlot()
    qtbot.addWidget(made)
    made.resize(300, 110)
    made.show()
    made.tell([3, 9, 50, 60, 70, 400], 10)
    return made


def test_the_line_is_dragged_and_moved_by_keys(plot, qtbot):
    wishes = []
    plot.moved.connect(wishes.append)
    start = QPoint(round(plot.at(10)), 40)
    qtbot.mousePress(plot, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(plot, QPoint(round(plot.at(100)), 40))
    qtbot.mouseRelease(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(plot.at(100)), 40))
    assert wishes == sorted(wishes) and abs(plot.least - 100) < 8 and wishes[-1] == plot.least
    qtbot.keyClick(plot, Qt.Key.Key_Right)
    assert plot.least == wishes[-1] > wishes[-2]
    qtbot.keyClick(plot, Qt.Key.Key_PageDown)
    assert plot.least < wishes[-2]
    qtbot.keyClick(plot, Qt.Key.Key_Home)
    assert plot.least == 0 and wishes[-1] == 0
    qtbot.keyClick(plot, Qt.Key.Key_Left)
    assert plot.least == 0, "no size is below none"
    assert plot.focusPolicy() == Qt.FocusPolicy.StrongFocus and "smallest size" in plot.accessibleName()


def test_the_words_for_who_does_not_see_follow_the_line(plot):
    assert plot.accessibleDescription() == "Smallest size 10 px; 2 of 6 objects are smaller."
    plot.place(60)
    assert "60 px; 3 of 6" in plot.accessibleDescription()


@pytest.mark.parametrize("sizes", [[], [1], [5, 5, 5], [1, 10**7]], ids=str)
def test_all_objects_are_in_a_bar_whatever_their_sizes(plot, sizes):
    plot.tell(sizes, 36)
    edges, counts = plot.counts()
    assert counts.sum() == len(sizes) and (np.diff(edges) > 0).all()
    for size in (1, 7, 36, 60):
        assert abs(plot.size_at(plot.at(size)) - (size if size > 1 else 0)) <= 1
    plot.grab()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_bars_and_line_show_on_both_themes(plot, theme):
    from qtpy.QtGui import QColor, QPalette

    palette = plot.palette()
    ground, ink = (QColor("#eeeeee"), QColor("#222222")) if theme == "light" else (QColor("#262930"), QColor("#f0f1f2"))
    palette.setColor(QPalette.ColorRole.Window, ground)
    palette.setColor(QPalette.ColorRole.WindowText, ink)
    plot.setPalette(palette)
    image = plot.grab().toImage()
    found = {image.pixelColor(x, y).lightness() for x in range(image.width()) for y in range(20, image.height() - 32)}
    assert max(abs(lightness - ground.lightness()) for lightness in found) > 150


def test_every_control_has_a_name_for_who_does_not_see(open_widget):
    _, widget = open_widget(model=None)
    form = widget.tune.form
    for name in ("threshold", "bandwidth", "dip", "valley", "min_size", "plot"):
        assert getattr(form, name).accessibleName(), name
