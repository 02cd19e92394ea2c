"""The Correct widget: labels are accepted, merged, split and deleted by hand, and every edit can be undone."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels
from qtpy.compat import isalive
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.correct_form import CorrectForm
from napari_shiftseg.plugin.correct_tool import SAID, CorrectTool
from napari_shiftseg.plugin.dock import fill_dock
from napari_shiftseg.plugin.edited import words_on_edits
from napari_shiftseg.plugin.inputs import choose_labels, keep_choice, labels_of_viewer
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, once, sentence, start_job
from napari_shiftseg.plugin.layers import KEY

if TYPE_CHECKING:
    import napari

    from napari_shiftseg.instances import Edit
    from napari_shiftseg.plugin.correction import Correction

_HOW = {
    "embedding": "each pixel went to the nearer of the two codes",
    "stroke": "it was cut along the line",
    "distance": "it was cut where it is narrow",
}


class CorrectWidget(QWidget):
    """Correct labels; verbs: `accept`, `merge`, `split`, `delete`, `undo`, `redo`."""

    leader = "Alt+R"

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self.correction: Correction | None = None
        self.tool: CorrectTool | None = None
        self.jobs: list[Job] = []  # what is read or computed, if something is
        self._watched: Labels | None = None
        self._build()
        self._connect()
        choose_labels(self.viewer, self.form.layers)
        self._on_layer()

    @property
    def layer(self) -> Labels | None:
        """The chosen labels."""
        return self.form.layers.value

    @property
    def frame(self) -> tuple[int, ...]:
        """Position on the axes of frames at which the viewer stands."""
        sheet = self.correction.sheet
        at = sheet.layer.world_to_data(np.asarray(self.viewer.dims.point, float)[-sheet.layer.ndim :])
        place = [round(float(value)) for value in sheet.from_layer(at)][: sheet.looped]
        return tuple(min(max(value, 0), n - 1) for value, n in zip(place, sheet.array.shape, strict=False))

    # -- verbs --------------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Make the labels the user's own."""
        if self.correction is None or self.correction.accepted:
            return
        self._remember_subject()
        self.correction.accept()
        self._tell("", f"{self.layer.name} is yours now: no run replaces it.")

    def merge(self, ids: tuple[int, ...], frame: tuple[int, ...]) -> None:
        """Merge objects of a frame."""
        self._perform(partial(self.correction.merge, ids, frame), self._tell_of)

    def delete(self, number: int, frame: tuple[int, ...]) -> None:
        """Delete an object of a frame."""
        self._perform(partial(self.correction.delete, number, frame), self._tell_of)

    def split(self, number: int, frame: tuple[int, ...], **wish: Any) -> None:
        """Split an object of a frame, by its embedding where there is one or it can be computed."""
        from napari_shiftseg.plugin import codes as beside

        codes = beside.embedding_beside(self.viewer, self.correction.sheet)
        subject = self.correction.subject or self._remember_subject()
        if codes is not None or subject is None:
            self._split(number, frame, wish, codes=codes)
            return
        window = partial(beside.window_of, self.correction, number, frame)
        on_end = partial(self._on_codes, self.correction, (number, frame, wish))
        steps = partial(beside.block_steps, subject, "auto", window)
        self._start(steps, on_end, f"Computing the embedding of object {number}\u2026")

    def undo(self) -> None:
        """Take the last edit back."""
        if self._is_free():
            self._perform(self.correction.undo, lambda edit: self._tell("", f"Undone: {edit.describe()}."))

    def redo(self) -> None:
        """Do again what was undone last."""
        if self._is_free():
            self._perform(self.correction.redo, lambda edit: self._tell("", f"Done again: {edit.describe()}."))

    def _perform(self, verb: Callable[[], Any], say: Callable[[Any], None]) -> None:
        """Make an edit, in a thread where that means to write files."""
        if not self.correction.in_background:
            say(verb())
            return
        self._start(partial(once, verb), partial(self._on_performed, say), "Writing\u2026")

    def _on_performed(self, say: Callable[[Any], None], end: End) -> None:
        if end.state == "error":
            self._tell("fail", sentence(end.value))
        elif end.state == "done":
            self.correction.after(end.value)
            say(end.value)
        else:
            self._tell("", "Cancelled; nothing was changed.")

    def cancel(self) -> None:
        """Stop what is computed; what edits need is loaded all the same."""
        if self.correction is not None:
            cancel_all(self.jobs)

    # -- splitting ----------------------------------------------------------------------------------------------------

    def _split(self, number: int, frame: tuple[int, ...], wish: dict[str, Any], *, codes: Any, why: str = "") -> None:
        reason = why or ("its embedding does not tell the parts apart" if codes is not None else "it has no embedding")

        def say(edit: "Edit") -> None:
            self._tell_of(edit, f"{_HOW[edit.how]}" + ("" if edit.how == "embedding" else f", since {reason}"))

        self._perform(partial(self.correction.split, number, frame, codes, **wish), say)

    def _on_codes(self, correction: "Correction", asked: tuple[int, tuple[int, ...], dict[str, Any]], end: End) -> None:
        number, frame, wish = asked
        if correction is not self.correction or end.state == "cancelled":
            self._tell("", "Cancelled; nothing was split.")
            return
        why = sentence(end.value).rstrip(".") if end.state == "error" else ""
        codes = None if end.state == "error" else end.value
        try:
            self._split(number, frame, wish, codes=codes, why=why and f"its embedding was not computed ({why})")
        except ShiftsegError as exc:
            self._tell("fail", sentence(exc))

    def _remember_subject(self) -> Any:
        """The run of the labels, from which their embedding can be computed; an accepted layer does not tell it any more."""
        from napari_shiftseg.plugin.subject import is_result, subject_of

        if is_result(self.layer) and "model" in self.layer.metadata[KEY]["record"]:
            self.correction.subject = subject_of(self.viewer, self.layer)
        return self.correction.subject

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _start(self, steps: Callable[[], Any], on_end: Callable[[End], None], text: str) -> None:
        if self.jobs:
            return
        self._tell("", text)
        self.jobs.append(start_job(steps, on_end=partial(self._on_end, self.jobs, on_end)))
        self._enable()

    def _on_end(self, asked: list[Job], then: Callable[[End], None], end: End) -> None:
        if isalive(self) and asked is self.jobs:  # else others were chosen meanwhile, and maybe these again
            self.jobs.clear()
            self._enable()
            then(end)

    def _is_free(self) -> bool:
        """Whether an edit can be made now."""
        if self.jobs:
            self._tell("", "One moment: something is being computed.")
        return self.correction is not None and not self.jobs

    # -- layer --------------------------------------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """Called by napari when layers come, go or are renamed; also once the dock is closed."""
        if isalive(self):
            keep_choice(self.form.layers)
            if self.layer is not self._watched:
                self._on_layer()

    def _on_layer(self, *_: Any) -> None:
        """Other labels were chosen."""
        cancel_all(self.jobs)
        self.jobs = []
        _let_go(self)
        self._watched, self.correction = self.layer, None
        if self.layer is None:
            self._tell("", "Segment an image, or open labels.")
            self._show()
            return
        # what edits need brings PyTorch with it, which is loaded in a thread
        self._start(partial(once, import_module, "napari_shiftseg.plugin.correction"), self._on_loaded, "Loading\u2026")
        self._show()

    def _on_loaded(self, end: End) -> None:
        if end.state == "error":
            self._tell("fail", sentence(end.value))
        if end.state != "done" or self.layer is not self._watched or self.layer is None:
            return
        store = (self.layer.metadata.get(KEY) or {}).get("store")
        if isinstance(self.layer.data, np.ndarray):
            self._begin(end.value.correction_of(self.layer))
            self._tell("", "")
        elif store:
            self._start(
                partial(once, _opened, self.layer, store), partial(self._on_opened, self.layer), "Opening the result\u2026"
            )
        else:
            self._tell("warn", "These labels are not in memory and lie in no result of this plugin, so they cannot be edited.")
        self._show()

    def _on_opened(self, layer: Labels, end: End) -> None:
        if end.state != "done":
            self._tell("warn", sentence(end.value) if end.state == "error" else "")
            return
        from napari_shiftseg.plugin.store_correction import store_correction_of

        self._begin(store_correction_of(layer, end.value))
        name = self.correction.stored.path.name
        self._tell("", f"Edits are written into {name} at once; Undo takes them back, in a later session, too.")
        self._show()

    def _begin(self, correction: Any) -> None:
        self.correction = correction
        correction.changed = self._show
        verbs = {name: self._when_free(getattr(self, name)) for name in ("merge", "split", "delete")}
        self.tool = CorrectTool(self.viewer, correction.sheet, **verbs, undo=self.undo, redo=self.redo, tell=self._tell)
        self.tool.changed = self._on_mode

    def _when_free(self, verb: Callable[..., None]) -> Callable[..., None]:
        return lambda *given, **more: verb(*given, **more) if self._is_free() else None

    def _on_counted(self, end: End) -> None:
        self._tell("fail" if end.state == "error" else "", sentence(end.value) if end.state == "error" else self._hint())
        self._show()

    def _hint(self) -> str:
        return SAID[self.tool.mode] if self.tool is not None else ""

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _tell(self, level: str, text: str) -> None:
        self.form.status.tell(level, text)

    def _tell_of(self, edit: "Edit", more: str = "") -> None:
        text = edit.describe().partition(", by ")[0]
        self._tell("", f"{text[:1].upper()}{text[1:]}{': ' if more else ''}{more}.")

    def _show(self) -> None:
        """Say how many objects there are, and what was done."""
        if not isalive(self):
            return
        form, correction = self.form, self.correction
        form.edits.clear()
        if correction is None:
            form.about.tell("", "")
        else:
            form.edits.addItems([edit if isinstance(edit, str) else edit.describe() for edit in correction.edits])
            form.edits.scrollToBottom()
            found = None if self.jobs and not correction.in_background else correction.objects(self.frame)
            if found is None and not self.jobs and not correction.in_background:
                self._start(partial(once, correction.table, self.frame), self._on_counted, "Counting objects\u2026")
            where = " in this frame" if correction.sheet.looped else ""
            count = "" if found is None else f"{found} object{'s' * (found != 1)}{where}. "
            form.about.tell("", (count + words_on_edits(correction.count)).strip())
        self._enable()

    def _on_mode(self, mode: str) -> None:
        for name, button in self.form.modes.items():
            button.setChecked(name == mode)

    def _on_dims(self, _: Any) -> None:
        if isalive(self) and self.correction is not None and self.correction.sheet.looped and not self.jobs:
            self._show()

    def _enable(self) -> None:
        form, correction = self.form, self.correction
        free = correction is not None and not self.jobs
        for button in form.modes.values():
            button.setEnabled(free)
        form.undo.setEnabled(free and bool(correction.edits))
        form.redo.setEnabled(free and bool(correction.undone))
        form.accept.setEnabled(correction is not None and not correction.accepted)
        form.cancel.setVisible(bool(self.jobs) and correction is not None)

    # -- form ---------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.form = CorrectForm(ComboBox(choices=lambda _: labels_of_viewer(self.viewer), nullable=False))
        content = QWidget()
        QVBoxLayout(content).addWidget(self.form)
        fill_dock(self, content, self.form.foot)

    def _connect(self) -> None:
        form = self.form
        form.layers.changed.connect(self._on_layer)
        form.accept.clicked.connect(lambda _: self.accept())
        for name, button in form.modes.items():
            button.clicked.connect(lambda on, name=name: self.tool.choose(name if on else ""))
        form.undo.clicked.connect(lambda _: self._clicked(self.undo))
        form.redo.clicked.connect(lambda _: self._clicked(self.redo))
        form.cancel.clicked.connect(lambda _: self.cancel())
        self._dims = self.viewer.dims.events.point
        self._dims.connect(self._on_dims)
        self.destroyed.connect(partial(_closed, self.__dict__))

    def _clicked(self, verb: Callable[[], None]) -> None:
        try:
            verb()
        except ShiftsegError as exc:
            self._tell("fail", sentence(exc))


def _opened(layer: Labels, store: str) -> Any:
    """The store of a layer, which may be open for edits already."""
    from napari_shiftseg.io import StoredEdits
    from napari_shiftseg.plugin.store_correction import store_correction_of

    known = store_correction_of(layer)
    return StoredEdits(store) if known is None else known.stored


def _let_go(widget: CorrectWidget) -> None:
    """Leave the layer that was corrected to napari; its history stays."""
    if widget.tool is not None:
        widget.tool.changed = None
        widget.tool._tell = lambda *_: None
        widget.tool.close()
        widget.tool = None
    if widget.correction is not None:
        widget.correction.changed = None


def _closed(known: dict[str, Any], *_: Any) -> None:
    """The dock is closed."""
    cancel_all(known["jobs"])
    if known["tool"] is not None:
        known["tool"].changed, known["tool"]._tell = None, lambda *_: None
        known["tool"].close()
    if known["correction"] is not None:
        known["correction"].changed = None
