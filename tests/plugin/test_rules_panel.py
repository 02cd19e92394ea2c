"""The panel of rules in the Segment widget."""

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.layers import Image as ImageLayer

from napari_shiftseg import UNetSpec, plan_tiles, synthetic
from napari_shiftseg.geometry import judge
from napari_shiftseg.plugin.verdict import capacity_text

pytestmark = pytest.mark.gui


def test_the_panel_lists_each_rule_and_repairs_the_tile_size(open_widget, qtbot):
    image = ImageLayer(np.random.default_rng(0).integers(0, 255, (40, 48)).astype(np.uint8), name="cells")
    _, widget = open_widget(image, window=True, show=True)
    form = widget.form
    form.rules.head.click()
    expected = judge(widget._verdict.plan, widget.equipment.model.record).rulings
    assert len(expected) == 6
    assert all(f"<b>{r.rule}</b>: {r.found}" in form.rules.table.text() for r in expected)
    assert "section 3.2" in form.rules.table.text() and form.rules.fix.isHidden()
    form.allow.setChecked(True)
    form.tile.setCurrentText("15")
    form.tile.changed.emit()
    assert "wanted: multiples of the period 2 x 2 px" in form.rules.table.text()
    assert not form.rules.fix.isHidden()
    form.rules.fix.click()
    assert form.tile.currentText() == "16" and form.rules.fix.isHidden()
    assert "wanted" not in form.rules.table.text()


@pytest.mark.parametrize(
    ("values", "counts", "verdict"),
    [
        ({}, "4 of 4 functions, 8 of 8 pairs", "pass"),
        ({"levels": 3, "convs": 3, "window": (6, 14)}, "48 of 64 functions, 88 of 128 pairs", "FAIL"),
        ({"padding": "zero", "neighbours": True}, "64 of 64 functions, 128 of 128 pairs", "pass"),
    ],
)
def test_the_panel_counts_what_was_trained(open_widget, save_tiny, values, counts, verdict):
    image = ImageLayer(np.zeros((40, 48), np.uint8), name="cells")
    _, widget = open_widget(image, model=save_tiny(f"counted {counts}", **values))
    widget.form.rules.head.click()
    if verdict == "FAIL":
        widget.form.allow.setChecked(True)
    assert counts in widget.form.rules.table.text()
    (row,) = [r for r in judge(widget._verdict.plan, widget.equipment.model.record).rulings if r.rule == "training-window"]
    assert row.verdict == verdict
    sizes = [widget.form.tile.itemText(k) for k in range(widget.form.tile.count())]
    assert (sizes == ["Automatic"]) == ("neighbours" in values), "tiles that stand alone have one size"


def test_a_run_says_of_a_padded_network_what_it_promises(open_widget, save_tiny, qtbot):
    image = ImageLayer(np.random.default_rng(0).integers(0, 255, (40, 48)).astype(np.uint8), name="cells")
    _, widget = open_widget(image, model=save_tiny("padded run", padding="zero", neighbours=True))
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "compliant as trained, not tile-exact" in widget.status.text()


@pytest.mark.parametrize(("spacing", "count"), [(16, 1), (15, 64), (12, 4)])
def test_the_panel_warns_of_an_unfortunate_lattice(open_widget, qtbot, save_tiny, spacing, count):
    disks = synthetic.disks((128, 128), spacing, 4).image
    _, widget = open_widget(ImageLayer(disks, name="disks"), model=save_tiny("three", levels=3, window=(16, 16)))
    widget.form.rules.head.click()
    qtbot.waitUntil(lambda: "repeats" in widget.form.rules.capacity.text(), timeout=60_000)
    text = widget.form.rules.capacity.text()
    assert (
        "at most 64 same-looking" in text and f"repeats every {spacing} px: of objects on that lattice {count} differ" in text
    )
    assert capacity_text(UNetSpec(levels=3), (spacing,) * 2)[0] == ("pass" if count == 64 else "warn")


def test_coordinates_lift_the_limit():
    level, text = capacity_text(UNetSpec(levels=3, coordinates=True), (16, 16))
    assert level == "pass" and "position" in text


def test_a_plan_that_breaks_rules_fails_them_in_the_table():
    plan = plan_tiles(UNetSpec(), (100, 100), 20, allow_noncompliant=True)
    verdicts = {r.rule: r.verdict for r in judge(plan, None).rulings}
    assert (verdicts["write-multiple"], verdicts["crop"], verdicts["training-window"]) == ("FAIL", "pass", "not known")
