"""What a verdict says of a run whose result goes to disk: whether it does, where to, in which blocks."""

from dataclasses import replace
from pathlib import Path

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import Image, work_path
from napari_shiftseg.network import Device, Model
from napari_shiftseg.plugin.result_place import free_place
from napari_shiftseg.plugin.verdict import Verdict
from napari_shiftseg.segmentation import SegmentSettings
from napari_shiftseg.segmentation.forecast import Forecast, forecast

__all__ = ["with_forecast"]


def with_forecast(
    verdict: Verdict, image: Image, model: Model, settings: SegmentSettings, device: Device, named: Path | None
) -> Verdict:
    """The verdict on a run, and what it writes.

    Parameters
    ----------
    verdict : Verdict
        From `judge`; one that cannot run comes back as it is.
    image, model, settings, device
        As in `judge`.
    named : Path or None
        The store that the user named.

    Returns
    -------
    Verdict
        With `large`, `out` and `writing`.
    """
    if not verdict.can_run:
        return verdict
    out = named or free_place(image)
    unfinished = out is not None and work_path(out).is_dir()
    wish = verdict.pinned(settings)
    if unfinished and wish.out_of_core is None:
        wish = replace(wish, out_of_core=True)  # memory may be free again, but the run began out of core
    try:
        coming = forecast(image, model, wish, device)
    except ShiftsegError as exc:
        text = str(exc)
        return replace(verdict, level="fail", text=text[:1].upper() + text[1:])
    if not coming.large:
        out = named
    if named is not None and named.exists():
        return replace(verdict, level="fail", text=f"{named} is there already; name another store under Result.")
    if coming.large and out is None:
        return replace(verdict, level="fail", text=f"{_size(coming)}; name a store to write under Result.")
    return replace(verdict, large=coming.large, out=out, writing=_text(coming, out, settings.out_of_core, unfinished))


def _text(coming: Forecast, out: Path | None, wish: bool | None, unfinished: bool) -> str:
    if not coming.large:
        return "" if out is None else f"The result is also written to {out}."
    blocks = f"{coming.layout.describe()}."
    if unfinished:
        return f"Out of core: Run goes on with the unfinished result {out}. {blocks[:1].upper()}{blocks[1:]}"
    why = "" if wish else f"{_size(coming)}. "
    return f"Out of core: {why}Run writes the result to {out}, {blocks}"


def _size(coming: Forecast) -> str:
    free = f", {coming.free / 1e9:.3g} GB are free" if coming.free else ""
    return f"The result takes {coming.needed / 1e9:.3g} GB in memory{free}"
