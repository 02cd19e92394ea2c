"""The panel of rules in the Segment widget."""

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.layers import Image as ImageLayer

from napari_shiftseg import UNetSpec, plan_tiles, synthetic
from napari_shiftseg.geometry.rule_table import rulings
from napari_shiftseg.plugin.verdict import capacity_text

pytestmark = pytest.mark.gui


def test_the_panel_lists_each_rule_and_repairs_the_tile_size(open_widget, qtbot):
    image = ImageLayer(np.random.default_rng(0).integers(0, 255, (40, 48)).astype(np.uint8), name="cells")
    _, widget = open_widget(image, window=True, show=True)
    form = widget.form
    form.rules.head.click()
    expected = rulings(widget._verdict.plan, widget.equipment.model.record)
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


@pytest.mark.parametrize(("spacing", "count"), [(16, 1), (15, 64), (12, 4)])
def test_the_panel_warns_of_an_unfortunate_lattice(open_widget, qtbot, save_tiny, spacing, count):
    disks = synthetic.disks((128, 128), spacing, 4).image
    _, widget = open_widget(ImageLayer(disks, name="disks"), model=save_tiny("three", levels=3, window=(16, 16)))
    widget.form.rules.head.click()
    qtbot.waitUntil(lambda: "repeats" in widget.form.rules.capacity.text(), timeout=10_000)
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
    verdicts = {r.rule: r.verdict for r in rulings(plan, None)}
    assert (verdicts["write-multiple"], verdicts["crop"], verdicts["training-window"]) == ("FAIL", "pass", "not known")
