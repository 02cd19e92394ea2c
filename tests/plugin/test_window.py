"""The widgets in napari's window: tabs at full height, what stays in view, names and keys of controls, the command palette."""

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from docked import MANIFEST, TITLES, by_palette, open_all, spin
from napari._app_model import get_app_model
from napari.layers import Image as ImageLayer
from napari.utils.notifications import notification_manager
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QScrollArea,
    QScrollBar,
    QShortcut,
    QTabBar,
    QWidget,
)

from napari_shiftseg.plugin.dock import dock_of
from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inspect_widget import InspectWidget

pytestmark = pytest.mark.gui

FULL, SMALL = (1280, 720), (1280, 540)  # napari itself is no lower than that


@pytest.fixture
def plugin(npe2pm):
    with npe2pm.tmp_plugin(manifest=MANIFEST) as found:
        yield found


@pytest.fixture
def window(plugin, make_napari_viewer, qtbot):
    """A viewer with an image and all widgets of the manifest."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(*FULL)
    data = np.random.default_rng(0).integers(0, 255, (2, 48, 40)).astype(np.uint8)
    viewer.add_layer(ImageLayer(data, name="cells", axis_labels=("c", "y", "x")))
    return viewer, open_all(viewer, qtbot)


# Controls that are made of smaller ones.
WHOLE = (QComboBox, QAbstractSpinBox, QAbstractSlider, QAbstractItemView)


def controls(root):
    """What takes keys, seen without the code that gives it names: no parts of other controls, no labels and scroll bars."""
    found = []
    for part in root.findChildren(QWidget):
        if (
            isinstance(part, QLabel | QScrollBar)
            or type(part) in (QScrollArea,)
            or not (part.focusPolicy() & Qt.FocusPolicy.TabFocus or isinstance(part, WHOLE))
        ):
            continue
        above, inside = part.parentWidget(), False
        while above is not None and above is not root:
            inside, above = inside or isinstance(above, WHOLE), above.parentWidget()
        if not inside:
            found.append(part)
    return found


def cut(root):
    """Texts that are not all to be seen."""
    found = []
    for part in root.findChildren(QWidget):
        if not part.isVisible() or part.width() == 0:
            continue
        if isinstance(part, QLabel) and part.text() and part.pixmap().isNull():
            wraps = part.wordWrap()
            wanted = part.heightForWidth(part.width()) if wraps else part.sizeHint().width()
            found += [part.text()] * ((part.height() if wraps else part.width()) + 1 < wanted)
        elif isinstance(part, QAbstractButton) and part.text():
            found += [part.text()] * (part.width() + 1 < part.minimumSizeHint().width())
    return found


def test_widgets_are_tabs_at_full_height_and_their_feet_stay_in_view(window):
    viewer, widgets = window
    main = viewer.window._qt_window
    docks = {title: dock_of(widget) for title, widget in widgets.items()}
    first = next(iter(docks.values()))
    assert {*main.tabifiedDockWidgets(first), first} == {*docks.values()}
    (bar,) = [bar for bar in main.findChildren(QTabBar) if bar.parent() is main and bar.count()]
    assert {bar.tabText(at) for at in range(bar.count())} == {title.partition(" (")[0] for title in widgets}
    assert bar.elideMode() == Qt.TextElideMode.ElideNone and bar.usesScrollButtons()
    for size in (FULL, SMALL):
        main.resize(*size)
        for title, widget in widgets.items():
            docks[title].raise_()
            for group in widget.findChildren(Group):
                (group.expand if size == SMALL else group.collapse)()
            spin()
            assert (main.width(), main.height()) == size, "the widgets let the window be as low as it was without them"
            assert docks[title].height() > 0.75 * main.height(), title
            scroll = widget.findChild(QScrollArea)
            assert scroll.widget().width() <= scroll.viewport().width(), f"{title} is wider than its place"
            assert cut(widget) == [], title
            foot = widget.layout().itemAt(1)
            if foot is not None:
                bottom = foot.widget().mapTo(main, foot.widget().rect().bottomLeft()).y()
                assert 0 < foot.widget().height() < 0.4 * main.height() and bottom < main.height(), title
                shown = [part for part in controls(foot.widget()) if part.isVisible()]
                assert all(part.visibleRegion().boundingRect() == part.rect() for part in shown), title
    segment = widgets["Segment (ShiftSeg)"]
    docks["Segment (ShiftSeg)"].raise_()
    segment.status.tell("fail", "A sentence that is too long for a line of a dock. " * 20)
    segment.progress.setVisible(True)
    scroll = segment.findChild(QScrollArea)
    for end in (0, scroll.verticalScrollBar().maximum()):
        scroll.verticalScrollBar().setValue(end)
        spin()
        for part in (segment.run_button, segment.preview_button, segment.cancel_button, segment.progress):
            assert part.visibleRegion().boundingRect() == part.rect(), part


def test_a_dock_that_the_user_moved_stays_there_and_a_tab_that_is_opened_again_is_in_front(window):
    viewer, widgets = window
    main = viewer.window._qt_window
    one, two, *_ = (dock_of(widget) for widget in widgets.values())
    main.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, one)
    one.hide()
    spin()
    one.show()
    spin()
    assert main.dockWidgetArea(one) == Qt.DockWidgetArea.LeftDockWidgetArea
    two.hide()
    spin()
    two.show()
    spin()
    assert two.visibleRegion().boundingRect().height() > 100


def test_the_tabulator_reaches_every_control_that_is_shown_and_nothing_in_closed_groups(window):
    viewer, widgets = window
    main = viewer.window._qt_window
    for widget in widgets.values():
        dock_of(widget).raise_()
        groups = widget.findChildren(Group)
        for is_open in (False, True):
            for group in groups:
                (group.expand if is_open else group.collapse)()
            spin()
            wanted = {part for part in controls(widget) if part.isVisible() and part.isEnabled()}
            wanted = {part for part in wanted if part.focusPolicy() & Qt.FocusPolicy.TabFocus}
            start = next(part for part in controls(widget) if part in wanted)
            start.setFocus()
            reached = []
            for _ in range(200):
                now = main.focusWidget()
                if now is None or (reached and now is reached[0]) or not widget.isAncestorOf(now):
                    break
                reached.append(now)
                QTest.keyClick(now, Qt.Key.Key_Tab)
            assert all(part.isVisible() for part in reached)
            closed = [group.inner for group in groups if not group.is_open]
            assert not [part for part in reached for inner in closed if inner.isAncestorOf(part)]
            assert wanted <= {*reached}, [part.accessibleName() for part in wanted - {*reached}]


def test_every_control_has_a_name_of_its_own_a_tooltip_and_keys(window):
    _, widgets = window
    for title, widget in widgets.items():
        found = controls(widget)
        assert len(found) > 3, title
        names = [part.accessibleName() for part in found]
        assert all(names), (title, names)
        assert len({*names}) == len(names), (title, [name for name in names if names.count(name) > 1])
        without = [part.accessibleName() for part in found if not part.toolTip()]
        assert not without, (title, without)
        keys = [part.findChildren(QShortcut, options=Qt.FindChildOption.FindDirectChildrenOnly) for part in found]
        without = [name for name, shortcuts in zip(names, keys, strict=True) if len(shortcuts) != 1]
        assert not without, (title, without)
        for part, (shortcut,) in zip(found, keys, strict=True):
            assert shortcut.key().toString() in part.toolTip(), part.accessibleName()


def test_keys_collide_with_none_of_napari_and_not_with_each_other(window):
    viewer, widgets = window
    ours = [shortcut.key().toString() for widget in widgets.values() for shortcut in widget.findChildren(QShortcut)]
    assert len({*ours}) == len(ours) > 80
    leaders = {keys.partition(", ")[0] for keys in ours}
    assert len(leaders) == len(widgets), "each widget has a leader, and a key alone does nothing"
    assert all(", " in keys for keys in ours)
    main = viewer.window._qt_window
    theirs = {QKeySequence(str(keys)).toString() for bound in default_shortcuts.values() for keys in bound}
    theirs |= {keys.toString() for action in main.findChildren(QAction) for keys in action.shortcuts()}
    mine = {shortcut for widget in widgets.values() for shortcut in widget.findChildren(QShortcut)}
    theirs |= {shortcut.key().toString() for shortcut in main.findChildren(QShortcut) if shortcut not in mine}
    theirs |= {QKeySequence(str(bound.keybinding)).toString() for bound in get_app_model().keybindings}
    titles = [action.text() for action in main.menuBar().actions()]
    theirs |= {f"Alt+{title[title.index('&') + 1].upper()}" for title in titles if "&" in title}
    assert {"Alt+F", "Alt+S", "Ctrl+Z"} & theirs >= {"Alt+F", "Alt+S"}, "napari's own are known"
    assert not leaders & {keys.partition(", ")[0] for keys in theirs}


def test_keys_reach_what_they_name_from_the_canvas(window, qtbot):
    viewer, widgets = window
    canvas = viewer.window._qt_viewer.canvas.native
    synth = widgets["Synthetic images (ShiftSeg)"]
    with qtbot.waitActive(viewer.window._qt_window, timeout=10_000):
        viewer.window._qt_window.activateWindow()
    canvas.setFocus()
    keys = synth.button.findChild(QShortcut).key().toString()
    assert keys == "Alt+Y, G"
    QTest.keyClick(canvas, Qt.Key.Key_Y, Qt.KeyboardModifier.AltModifier)
    QTest.keyClick(canvas, Qt.Key.Key_G)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=60_000)
    segment = widgets["Segment (ShiftSeg)"]
    edit = segment.form.axes
    edit.setFocus()
    before = edit.text()
    tile = segment.form.tile
    (shortcut,) = tile.findChildren(QShortcut, options=Qt.FindChildOption.FindDirectChildrenOnly)
    leader, key = shortcut.key().toString().split(", ")
    assert (leader, len(key)) == ("Alt+G", 1)
    QTest.keyClick(edit, Qt.Key.Key_G, Qt.KeyboardModifier.AltModifier)
    QTest.keyClick(edit, key.lower())
    assert edit.text() == before, "the second key is not typed"
    assert isinstance(viewer.window._qt_window.focusWidget(), QComboBox | QLineEdit)
    assert tile in (viewer.window._qt_window.focusWidget(), viewer.window._qt_window.focusWidget().parentWidget())


def test_every_command_runs_from_the_palette(plugin, make_napari_viewer, qtbot):
    """The widgets are opened so in the other tests."""
    viewer = make_napari_viewer()
    notification_manager.records.clear()
    palette = viewer.window._qt_window._command_palette
    viewer.window._toggle_command_palette()
    offered = [command for command in palette._list.all_commands if command.id.startswith("napari-shiftseg.")]
    palette.hide()
    titles = {command.title for command in offered}
    contributed = MANIFEST.contributions
    assert {*TITLES} < titles and len(titles) == len(offered)
    samples = {sample.display_name for sample in contributed.sample_data}
    plain = {command.id for command in contributed.commands}
    plain -= {item.command for item in [*contributed.widgets, *contributed.sample_data]}
    assert titles == {*TITLES, *samples} | {f"{c.title} (ShiftSeg)" for c in contributed.commands if c.id in plain}
    for title in sorted(samples):
        before = len(viewer.layers)
        by_palette(viewer, title)
        assert len(viewer.layers) > before, title
    labels = next(layer for layer in viewer.layers if type(layer).__name__ == "Labels")
    viewer.layers.selection.active = labels
    copies = {title for title in titles if title.startswith("Copy how")}
    for title in sorted(titles - samples - {*TITLES} - copies):
        by_palette(viewer, title)
        dialog = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QFileDialog) and w.isVisible())
        dialog.reject()
        spin()
    for title in sorted(copies):
        by_palette(viewer, title)
        qtbot.waitUntil(lambda: bool(notification_manager.records), timeout=60_000)
        assert "is no result of ShiftSeg" in notification_manager.records.pop().message
    viewer.layers.selection.active = viewer.layers[0]
    by_palette(viewer, "Save labels for other programs (ShiftSeg)")
    said = [(record.severity.value, record.message) for record in notification_manager.records]
    assert said == [("warning", "No labels are selected; select a labels layer, and save it then.")]
    notification_manager.records.clear()


# -- sliders ----------------------------------------------------------------------------------------------------------


def sliders(viewer):
    """Axes whose slider is shown, from the last."""
    bars = [part for part in viewer.window._qt_window.findChildren(QWidget) if type(part).__name__ == "QtDimSliderWidget"]
    return sorted({bar.axis - viewer.dims.ndim for bar in bars if not bar.isHidden()})


@pytest.mark.parametrize(("shape", "own"), [((40, 48), []), ((3, 40, 48), [-3])], ids=["plane", "stack"])
def test_a_slider_is_there_as_long_as_something_shown_moves_by_it(make_napari_viewer, qtbot, put_result, shape, own):
    viewer = make_napari_viewer(show=True)
    put_result(viewer, shape)
    channel = -len(shape) - 1
    assert sliders(viewer) == [channel, *own], "as napari has it"
    viewer.window.add_dock_widget(InspectWidget(viewer), name="Inspect")
    qtbot.waitUntil(lambda: sliders(viewer) == own, timeout=60_000)
    embedding = viewer.layers["cells embedding"]
    embedding.visible = True
    qtbot.waitUntil(lambda: sliders(viewer) == [channel, *own], timeout=60_000)
    viewer.dims.set_point(0, 1)
    shown = np.asarray(embedding._slice.image.raw)
    assert np.array_equal(shown, np.asarray(embedding.data)[(1, *(viewer.dims.current_step[1:-2]))])
    embedding.visible = False
    qtbot.waitUntil(lambda: sliders(viewer) == own, timeout=60_000)
    viewer.add_image(np.zeros((5, *shape)), name="theirs", visible=False)
    qtbot.waitUntil(lambda: sliders(viewer) == [channel, *own], timeout=60_000)  # napari's way with layers of others
    put_result(viewer, shape)  # a second run
    viewer.layers["theirs"].visible = True
    spin()
    assert sliders(viewer) == [channel, *own]
