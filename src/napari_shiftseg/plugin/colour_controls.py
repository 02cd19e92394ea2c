"""`ColourControls`: the inputs that say how objects are coloured and which are shown, beside `ObjectColours`."""

from collections.abc import Callable

from qtpy.compat import isalive

from napari_shiftseg.plugin.measure_form import NO_COLUMN, MeasureForm
from napari_shiftseg.plugin.object_colours import ObjectColours


class ColourControls:
    """Follows the inputs of a form, and shows in them what the colours of a layer are.

    Parameters
    ----------
    form : MeasureForm
        The form.
    tell : callable
        Called with level and text of what there is to say.
    """

    def __init__(self, form: MeasureForm, tell: Callable[[str, str], None]):
        self.form = form
        self.colours: ObjectColours | None = None
        self._tell = tell
        form.column.currentTextChanged.connect(self._on_column)
        form.colours.currentTextChanged.connect(self._on_colormap)
        form.low.editingFinished.connect(self._on_limits)
        form.high.editingFinished.connect(self._on_limits)
        form.whole.clicked.connect(lambda _: self._on_whole())
        form.back.clicked.connect(lambda _: self._on_column(NO_COLUMN))
        form.show_.currentTextChanged.connect(self._on_show)

    def look_at(self, colours: ObjectColours | None) -> None:
        """Show the colours of another layer."""
        if self.colours is not None and self.show in self.colours.changed:
            self.colours.changed.remove(self.show)
        self.colours = colours
        if colours is not None:
            colours.changed.append(self.show)
        self.show()

    def show(self) -> None:
        """Show what the colours are."""
        form, colours = self.form, self.colours
        if not isalive(form):
            return
        on = colours is not None and bool(colours.column)
        chosen = [(form.column, colours.column if on else NO_COLUMN), (form.show_, "" if colours is None else colours.show)]
        chosen += [(form.colours, colours.colours)] if on else []
        for box, text in chosen:
            box.blockSignals(True)
            box.setCurrentText(text or box.itemText(0))
            box.blockSignals(False)
        if on:
            form.show_limits(colours.range())
        for widget in (form.back, form.low, form.high, form.whole):
            widget.setEnabled(on)

    def _on_column(self, text: str) -> None:
        if self.colours is None:
            return
        self.colours.column, self.colours.limits = ("" if text == NO_COLUMN else text), None
        self.colours.colours = self.form.colours.currentText()
        self.colours.apply()
        self.show()

    def _on_limits(self) -> None:
        limits = self.form.limits()
        if self.colours is None or not self.colours.column:
            return
        if limits is None:
            self._tell("warn", "The range has to go from a lower to a higher number.")
        elif [f"{value:.6g}" for value in limits] != [f"{value:.6g}" for value in self.colours.range()]:
            self.colours.limits = limits
            self.colours.apply()

    def _on_whole(self) -> None:
        if self.colours is not None:
            self.colours.limits = None
            self.colours.apply()
            self.show()

    def _on_colormap(self, name: str) -> None:
        if self.colours is not None:
            self.colours.colours = name
            if self.colours.column:
                self.colours.apply()

    def _on_show(self, text: str) -> None:
        if self.colours is not None:
            self.colours.show = text
            self.colours.apply()
