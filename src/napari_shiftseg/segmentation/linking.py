"""`link`: objects of the planes of a stack, or of the frames of a series, become objects of all of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from napari_shiftseg.analysis.measure import in_one_unit
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.files import check_same, check_targets, check_unchanged, seen_of
from napari_shiftseg.instances import Codes, JoinSettings, LabelSettings, Renumbered, Renumbering, join_planes_steps
from napari_shiftseg.io import Labels, StoredResult, check_store, from_plain, open_result, read_labels, save_result
from napari_shiftseg.io.labels import linked_steps
from napari_shiftseg.segmentation.job import translation_of, versions
from napari_shiftseg.segmentation.run import Segmentation
from napari_shiftseg.segmentation.tracking import Tracks, TrackSettings, track_frames_steps
from napari_shiftseg.segmentation.tunable import outputs_of
from napari_shiftseg.views import View

Through: TypeAlias = Literal["z", "t"]
LinkSettings: TypeAlias = JoinSettings | TrackSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Linked:
    """Labels whose numbers hold through an axis.

    Attributes
    ----------
    labels : Labels
        In their new numbers, which are made where pixels are read; `np.asarray(linked.labels.data)` reads all. Their record
        says in "linked" what was linked and how.
    through : {"z", "t"}
    count : int
        Objects; through t, tracks.
    tracks : Tracks or None
        Through t: where each object was, and which came from which.
    path : Path or None
        Where they were written.
    """

    labels: Labels
    through: Through
    count: int
    tracks: Tracks | None = None
    path: Path | None = None


@told
def link(
    result: Segmentation | StoredResult | Labels | str | Path,
    through: Through,
    out: str | Path | None = None,
    *,
    settings: LinkSettings | None = None,
    outputs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_event: Callable[[Event], None] | None = None,
    **wishes: Any,
) -> Linked:
    """Give objects the same number in all planes of a stack, or in all frames of a series.

    Parameters
    ----------
    result : Segmentation, StoredResult, Labels or path
        A result, or any labels that `read_labels` reads. Nothing of it is changed.
    through : {"z", "t"}
        "z" joins the objects of planes that a 2D model segmented one by one, by overlap and, where the result holds an
        embedding, by the agreement of codes; see `instances.join_planes`. "t" links the frames of a series by laptrack (extra
        ``track``). A series of such stacks is linked through z first, and what comes of it through t.
    out : path, optional
        OME-Zarr store to write: the labels, the image if the result holds it, and the record.
    settings : JoinSettings or TrackSettings, optional
        The first through z, the second through t. Further keywords win over it.
    outputs : mapping of str to array-like, optional
        What the network said, by name as in `Segmentation`, where the result does not hold it; through z alone.
    overwrite : bool
        Replace an earlier result at `out`, but never the one that is read.
    on_event : callable, optional
        Called with each `Stage` and `WindowDone`.
    wishes
        Fields of the settings.

    Returns
    -------
    Linked

    Raises
    ------
    SettingsError
        If the labels lack the axis, are linked already, a setting cannot work, or laptrack is not installed.
    ResultError, ImageError
        If the result cannot be read, or `out` is taken.

    >>> from napari_shiftseg.io import Image
    >>> from napari_shiftseg.io.labels import labels_of
    >>> stack = np.zeros((2, 8, 8), np.uint8)
    >>> stack[0, 1:5, 1:5], stack[1, 1:4, 1:5] = 7, 2
    >>> linked = link(labels_of(Image.from_array(stack, axes="zyx")), "z")
    >>> linked.count, np.unique(linked.labels.data[1]).tolist(), linked.labels.ndim
    (1, [0, 1], 3)
    """
    return drain(link_steps(result, through, out, settings=settings, outputs=outputs, overwrite=overwrite, **wishes), on_event)


def link_steps(
    result: Segmentation | StoredResult | Labels | str | Path,
    through: Through,
    out: str | Path | None = None,
    *,
    settings: LinkSettings | None = None,
    outputs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **wishes: Any,
) -> Generator[Event, None, Linked]:
    """Generator form of `link`: yields events, returns the `Linked`."""
    wish = wished(through, settings, wishes)
    wish.check()
    labels, said, source = _opened(result)
    check_linkable(labels, through)
    found, seen = None, seen_of(labels.data, *said.values())
    if out is not None:
        found = check_targets(stores=[out], inputs=[] if source is None else [source])[Path(out)]
        check_store(out, overwrite=overwrite)
    yield Stage(done=0, total=0, text="linking")
    tracks: Tracks | None = None
    if isinstance(wish, TrackSettings):
        spatial = len(labels.axes) - 1
        steps, _ = in_one_unit(labels.scale, labels.units, labels.axes, ndim=spatial)
        tracks = yield from track_frames_steps(labels.data, steps, wish)
        numbers, lead, count, coded = tracks.numbers, 1, tracks.numbers.count, False
    else:
        given = list(_codes(labels, said if outputs is None else outputs))
        numbers, count = yield from _joined(labels, given, wish)
        lead, coded = labels.axes.index("z") + 1, bool(given)
    told = {"through": through, "settings": asdict(wish), "objects": count, "of": labels.record.get("run"), "codes": coded}
    told |= {"note": labels.note} if labels.note else {}
    if tracks is not None:
        told |= {"parents": [list(pair) for pair in tracks.parents.items()], "versions": _tracker_version()}
    known = replace(
        labels,
        data=Renumbered(labels.data, numbers, lead),
        ndim=3 if through == "z" else labels.ndim,
        record=_record(labels, told, numbers, frames=labels.data.shape[0] if labels.axes.startswith("t") else 1),
    )
    made = Linked(labels=known, through=through, count=count, tracks=tracks)
    if out is None:
        check_unchanged("the result", seen)
        return made
    yield Stage(done=0, total=0, text="writing")
    check_same(out, found)
    last = partial(check_unchanged, "the result", seen)
    return replace(made, path=_written(made.labels, Path(out), overwrite=overwrite, last=last))


def wished(through: Through, settings: LinkSettings | None, wishes: Mapping[str, Any]) -> LinkSettings:
    """The settings of an axis; SettingsError where there is no such axis or setting."""
    kinds: dict[str, type[LinkSettings]] = {"z": JoinSettings, "t": TrackSettings}
    if through not in kinds:
        raise SettingsError(f'objects were to be linked through {through!r}; give "z" for a stack or "t" for a series.')
    kind = kinds[through]
    if settings is not None and not isinstance(settings, kind):
        raise SettingsError(f"the settings are a {type(settings).__name__}; through {through} give {kind.__name__}(...).")
    try:
        return replace(settings or kind(), **wishes)
    except TypeError as exc:
        raise SettingsError(f"linking through {through} knows no such setting ({exc}).") from exc


def check_linkable(labels: Labels, through: Through) -> None:
    """Refuse labels that have no such axis, or whose numbers hold through it already.

    SettingsError.
    """
    done = [step["through"] for step in linked_steps(labels.record)]
    if through in done:
        raise SettingsError(f"these labels are linked through {through} already; link the result that they were made from.")
    if through not in labels.axes:
        what = "a stack" if through == "z" else "a series"
        raise SettingsError(f'labels with axes "{labels.axes}" are not {what}; give some with {through}, or name the axes.')
    if through == "z" and labels.record and labels.ndim == 3:
        raise SettingsError("a 3D model made the objects of this result, which hold through z already; link them through t.")
    if through == "t" and labels.ndim == 2 and "z" in labels.axes and labels.data.shape[labels.axes.index("z")] > 1:
        raise SettingsError("the objects of this result are those of single planes; link them through z first, then through t.")


def _opened(
    result: Segmentation | StoredResult | Labels | str | Path,
) -> tuple[Labels, Mapping[str, Any], Path | None]:
    """Labels, what the network said besides (channels first), and the file that is read."""
    if isinstance(result, Labels):
        return result, {}, None
    if isinstance(result, Segmentation) and result.stored is None:
        sizes, pixels = dict(zip(result.axes, result.labels.shape, strict=True)), result.image.sizes
        whole = all(pixels.get(axis) == size for axis, size in sizes.items())  # not without borders
        labels = Labels(
            data=result.labels, axes=result.axes, scale=result.scale, units=result.units, ndim=result.plan.lattice.ndim,
            translation=tuple(translation_of(result.image, result.axes)), image=result.image if whole else None,
            record=result.record,
        )  # fmt: skip
        return labels, result.outputs, None
    if isinstance(result, Segmentation):
        assert result.stored is not None
        result = result.stored
    path = result.path if isinstance(result, StoredResult) else Path(result)
    labels = read_labels(path)
    if isinstance(result, StoredResult):
        return labels, outputs_of(result), path
    return labels, outputs_of(open_result(path)) if labels.record else {}, path


def _codes(labels: Labels, outputs: Mapping[str, Any]) -> Iterator[Codes]:
    """What the network said, frame by frame; nothing where it was not kept."""
    if "embedding" not in outputs or not labels.record.get("clustering"):
        return
    clustering = from_plain(LabelSettings, labels.record["clustering"])
    if clustering.seeds and "bandwidth" not in outputs:
        return
    for t in range(labels.data.shape[0]) if labels.axes.startswith("t") else (None,):
        embedding, width = outputs["embedding"], clustering.bandwidth
        if clustering.seeds:
            width = _frame(outputs["bandwidth"], 0, t)
        yield Codes(
            embedding=_frame(embedding, 1, t),
            bandwidth=width,
            factor=clustering.factor if clustering.seeds else 1.0,
            coordinates=clustering.coordinates,
        )


def _frame(values: Any, lead: int, t: int | None) -> Any:
    return values if t is None else View.at(values, {lead: t}, name="the result")


def _joined(labels: Labels, codes: list[Codes], wish: JoinSettings) -> Generator[Event, None, tuple[Renumbering, int]]:
    """Numbers of the planes of all frames, which begin with 1 in each frame; and the number of objects."""
    frames = range(labels.data.shape[0]) if labels.axes.startswith("t") else (None,)
    made: list[Renumbering] = []
    for number, t in enumerate(frames):
        stack = _frame(labels.data, 0, t)
        made.append((yield from join_planes_steps(stack, codes[number] if codes else None, wish)))
    numbers = Renumbering(old=tuple(n for one in made for n in one.old), new=tuple(n for one in made for n in one.new))
    return numbers, sum(one.count for one in made)


def _record(labels: Labels, told: dict[str, Any], numbers: Renumbering, *, frames: int) -> dict[str, Any]:
    """The record of the labels, if they have one, with what was linked."""
    record = dict(labels.record)
    per = len(numbers.new) // max(frames, 1)
    stacks = [numbers.new[k * per : (k + 1) * per] for k in range(frames)]
    counts = [len(np.unique(np.concatenate(stack))) if stack else 0 for stack in stacks]
    record |= {"linked": [*linked_steps(labels.record), told], "instances": counts, "run": uuid.uuid4().hex}
    return record if "versions" in record else record | {"versions": versions()}


def _tracker_version() -> dict[str, str]:
    from importlib.metadata import version

    return {"laptrack": version("laptrack")}


def _written(labels: Labels, path: Path, *, overwrite: bool, last: Callable[[], None]) -> Path:
    """A store with the labels, and with the image of the result if it holds one of the same place."""
    return save_result(
        path, labels=labels.data, axes=labels.axes, scale=labels.scale, units=labels.units, translation=labels.translation,
        record=labels.record, image=labels.image, name=path.name.split(".")[0], overwrite=overwrite,
        last=last,
    )  # fmt: skip
