"""A line of the Segment widget says whether the image, and after a run its objects, is like what the model knows."""

import pytest

pytest.importorskip("napari")

from dataclasses import replace
from importlib import import_module

import numpy as np
from napari.layers import Image as ImageLayer

from napari_shiftseg import load_model, save_model
from napari_shiftseg.errors import ImageError
from napari_shiftseg.network import Known
from napari_shiftseg.plugin.inputs import DOTS, ChannelRow, ModelBox


@pytest.fixture
def knowing(tiny, tmp_path):
    """`knowing(**known)`: the tiny model with a statement: its images are flat or have any background up to `background`."""

    def make(name="knowing", background=1.0, found=None, **options):
        model = load_model(tiny)
        known = Known(
            ndim=2, channels=1, kind="squares", traits=({"background": (-1.0, background)},), found=found or {}, **options
        )
        return save_model(tmp_path / name, replace(model, record=replace(model.record, known=known)))

    return make


def squares(seed=0):
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 6))
    return np.kron(coarse, np.ones((8, 8))).astype(np.uint8)


def said(widget, qtbot, verdict):
    line = widget.form.likeness
    qtbot.waitUntil(lambda: line.verdict == verdict, timeout=60_000)
    return line.text()


def finished(widget, qtbot):
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def test_before_a_run_the_line_speaks_of_the_image_alone(open_widget, qtbot, knowing):
    _, widget = open_widget(ImageLayer(squares()), model=knowing())
    text = said(widget, qtbot, "like")
    assert "Like what knowing knows: squares." in text and DOTS["pass"] in text
    assert "objects" not in text and widget.form.likeness.isVisibleTo(widget)
    assert "Compliant" in widget.form.verdict.text(), "the verdict on tiles is another line"


def test_another_model_or_image_is_compared_anew_and_nothing_else_is(open_widget, qtbot, knowing, monkeypatch):
    viewer, widget = open_widget(ImageLayer(squares()), model=knowing())
    said(widget, qtbot, "like")
    asked = []
    monkeypatch.setattr("napari_shiftseg.plugin.likeness_line.start_job", lambda job, **_: asked.append(job))
    widget.form.tile.setCurrentText("8")
    widget.form.tile.changed.emit()
    widget.form.deterministic.setChecked(True)
    assert not asked
    viewer.layers[0].data = squares(1)
    assert len(asked) == 1 and "Comparing" in widget.form.likeness.text()
    monkeypatch.undo()
    monkeypatch.setattr(import_module("napari_shiftseg.segmentation.likeness"), "_ranked", lambda *_: ())
    widget.form.model.choose_file(knowing("picky", background=0.001))
    text = said(widget, qtbot, "unlike")
    assert "Unlike what picky knows, squares: it has no dark background" in text and DOTS["warn"] in text
    assert "train one" in text


def test_after_a_run_the_line_speaks_of_the_objects_too_and_stays(open_widget, qtbot, knowing):
    path = knowing(found={"coverage": (0.9999, 1.0)})
    _, widget = open_widget(ImageLayer(squares()), model=path)
    said(widget, qtbot, "like")
    finished(widget, qtbot)
    text = said(widget, qtbot, "unlike")
    assert "objects cover" in text
    widget.form.deterministic.setChecked(True)  # which changes neither image nor model
    assert widget.form.likeness.text() == text


def test_where_nothing_can_run_or_nothing_is_known_the_line_claims_nothing(open_widget, qtbot, tiny):
    viewer, widget = open_widget(ImageLayer(squares()), model=tiny)
    text = said(widget, qtbot, "unknown")
    assert "does not state what it was trained on" in text and not any(colour in text for colour in DOTS.values())
    widget.form.axes.setText("y")
    widget.form.axes.textEdited.emit("y")
    assert widget.form.likeness.text() == ""
    viewer.layers.clear()
    assert widget.form.likeness.text() == ""


def test_a_line_that_grows_is_shown_whole(open_widget, qtbot, knowing):
    """Qt's forms cut what grows after they were laid out."""
    _, widget = open_widget(ImageLayer(squares()), model=knowing())
    widget.resize(300, 900)
    widget.show()
    qtbot.waitExposed(widget)
    said(widget, qtbot, "like")
    line = widget.form.likeness
    for words in (5, 60, 12, 90):
        line.show_record({"likeness": {"verdict": "unlike", "text": " ".join(["known"] * words)}})
        qtbot.waitUntil(lambda: line.height() >= line.heightForWidth(line.width()) > 0, timeout=60_000)
    for words in (90, 120):  # and where the button below comes with it
        line.show_record({"likeness": {"verdict": "like", "text": "Like what it knows."}})
        found = {"verdict": "unlike", "text": " ".join(["known"] * words), "suggested": ["nuclei"]}
        line.show_record({"likeness": found})
        qtbot.waitUntil(lambda: line.use.y() >= line.y() + line.heightForWidth(line.width()) > 0, timeout=60_000)


def test_demonstrations_stand_under_a_heading_that_cannot_be_chosen(qtbot):
    box = ModelBox()
    qtbot.addWidget(box)
    box.set_names(("nuclei", "disks-a", "disks-b"), ("disks-a", "disks-b"))
    texts = [box.names.itemText(index) for index in range(box.names.count())]
    assert texts == ["nuclei", ModelBox.FILE, ModelBox.DEMONSTRATIONS, "disks-a", "disks-b"]
    assert [box.names.model().item(index).isEnabled() for index in range(5)] == [True, True, False, True, True]
    assert box.value() == "nuclei"
    box.names.setCurrentText("disks-b")
    box.set_names(("nuclei", "disks-a", "disks-b"), ("disks-a", "disks-b"))
    assert box.value() == "disks-b"


def test_the_line_under_the_model_says_what_it_knows(open_widget, qtbot, knowing):
    _, widget = open_widget(ImageLayer(squares()), model=knowing(demonstration=True, diameters=(4.0, 9.0)))
    about = widget.form.about_model.text()
    assert about.startswith("Demonstration. Knows squares of 4 to 9 px, 2D, 1 channel")
    assert "(a demonstration)" in said(widget, qtbot, "like")


def test_one_click_takes_the_model_that_knows_the_image_and_nothing_else_does(open_widget, qtbot, knowing, monkeypatch):
    suggested = ["nuclei"]
    monkeypatch.setattr(
        import_module("napari_shiftseg.segmentation.likeness"), "_ranked", lambda *_: tuple((name, 0.0) for name in suggested)
    )
    _, widget = open_widget(ImageLayer(squares()), model=knowing(background=0.001))
    text = said(widget, qtbot, "unlike")
    button = widget.form.likeness.use
    assert "Use the model nuclei" in text and button.text() == "Use nuclei" and button.isVisibleTo(widget)
    assert widget.form.model.value() != "nuclei", "it is never taken silently"
    suggested.clear()
    button.click()
    qtbot.waitUntil(lambda: widget.equipment is not None and widget.equipment.model.name == "nuclei", timeout=60_000)
    assert widget.form.model.value() == "nuclei"
    said(widget, qtbot, "unlike")
    assert not button.isVisibleTo(widget)


def test_where_the_chosen_model_cannot_take_the_image_another_one_is_offered(open_widget, qtbot, tiny, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.suggest_models", lambda _: ("nuclei",))
    viewer, widget = open_widget(ImageLayer(squares()), model=tiny)
    said(widget, qtbot, "unknown")
    assert not widget.form.likeness.use.isVisibleTo(widget)
    monkeypatch.setattr("napari_shiftseg.plugin.verdict.decide", refuse)
    widget.form.deterministic.setChecked(True)
    assert "nuclei knows such images" in said(widget, qtbot, "unlike")
    assert widget.form.likeness.use.isVisibleTo(widget)
    viewer.layers.clear()
    assert not widget.form.likeness.use.isVisibleTo(widget)


def refuse(*_, **__):
    raise ImageError("the model takes 3 channels.")


def test_the_boxes_of_three_channels_share_the_width_of_one(qtbot):
    row = ChannelRow()
    qtbot.addWidget(row)
    widths = []
    for wanted in (1, 3):
        assert row.offer(4, wanted, ("red with a long name",) * 4)
        widths.append(row.minimumSizeHint().width())
    assert len(row.boxes) == 3 and widths[1] <= widths[0], "else they push what stands beside them out of a narrow dock"
