"""`queue_steps`: many images one after the other, each a `Job` of its own; one that fails does not stop the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.measure import measure_steps as features_steps
from napari_shiftseg.errors import ResultError, ShiftsegError, memory_ran_out
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.io import Image, Labels, StoredResult, open_result, read_image, work_path
from napari_shiftseg.network import Model
from napari_shiftseg.segmentation.constants import SLAB
from napari_shiftseg.segmentation.decision import decide, pixel_digest, sum_steps
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.measuring import measure_steps
from napari_shiftseg.segmentation.repeat import job_of
from napari_shiftseg.segmentation.run import Segmentation, run_steps
from napari_shiftseg.segmentation.settings import SegmentSettings

Table: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One image of a queue.

    Attributes
    ----------
    name : str
        How lists and tables call it.
    source : path or Image
        What `read_image` reads, or an image that is open.
    out : Path or None
        Store that is written; None keeps the result in memory.
    scene, axes : optional
        As of `read_image`.
    weight : float
        About how long it takes beside the others.
    """

    name: str
    source: str | Path | Image
    out: Path | None = None
    scene: int | None = None
    axes: str | None = None
    weight: float = 1.0

    def opened(self) -> Image:
        """The image."""
        return self.source if isinstance(self.source, Image) else read_image(self.source, scene=self.scene, axes=self.axes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of an image.

    Attributes
    ----------
    item : Item
    state : {"done", "there", "failed"}
        "there": a result of the same image, model and settings was at its place, and nothing was computed.
    problem : Exception or None
        Why it failed.
    record : mapping
        Of the result.
    result : Any
        What the run gave, in the event of an image; None in the list of all, and where it is a `Segmentation` in a store.
    seconds : float
        That it took.
    features : mapping of str to ndarray
        Of the objects, as of `measure`.
    """

    item: Item
    state: Literal["done", "there", "failed"]
    problem: Exception | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    seconds: float = 0.0
    features: Table = field(default_factory=dict)

    @property
    def error(self) -> str:
        """The problem in one sentence, "" where there is none."""
        exc = self.problem
        if exc is None or isinstance(exc, ShiftsegError):
            return "" if exc is None else " ".join(str(exc).split())
        text = " ".join(f"{type(exc).__name__}: {exc}".split())
        return f"memory ran out ({text}); use smaller tiles, or close what else takes memory." if memory_ran_out(exc) else text


@dataclass(frozen=True, kw_only=True)
class ItemBegins(Stage):
    """An image of a queue begins; `done` of `total` images are over, `left` are not, this one among them."""

    left: tuple[Item, ...]

    @property
    def item(self) -> Item:
        """The image that begins."""
        return self.left[0]


@dataclass(frozen=True, kw_only=True)
class ItemDone(Event):
    """An image of a queue is over; `done` of `total` are."""

    outcome: Outcome


Deciding: TypeAlias = Callable[[Item, Image], Generator[Event, None, Job]]
Running: TypeAlias = Callable[[Job], Generator[Event, None, Any]]


def decided_steps(
    item: Item, image: Image, *, model: Model, settings: SegmentSettings | None = None
) -> Generator[Event, None, Job]:
    """The job of an image of a queue, where all have one model and one wish."""
    size = None
    if settings is not None and settings.diameter == "auto":
        size = yield from measure_steps(image, model, settings)
    return decide(image, model, settings, item.out, size=size)


def queue_steps(
    items: Sequence[Item],
    deciding: Deciding,
    running: Running = run_steps,
    *,
    again: bool = True,
    features: bool = True,
) -> Generator[Event, None, list[Outcome]]:
    """Segment images one after the other: yields events, returns what became of each, in their order.

    Between an `ItemBegins` and an `ItemDone` come the events of the image. An error of one image is its outcome, and the others
    go on. Who stops asking for events keeps what is done; of a run out of core also the finished part of the present image.

    Parameters
    ----------
    items : sequence of Item
    deciding : callable
        Makes the job of an image in steps, such as `decided_steps` with a model and settings.
    running : callable
        Runs a job in steps and gives a `Segmentation`, or something that has one as its `result`; None where nothing was run.
    again : bool
        Take a result that is there already for done where it is one of the same image, model and settings; it is an error where
        it is not. Otherwise what is there is for `running` to judge.
    features : bool
        Measure the objects, also of results that are there.

    >>> from functools import partial
    >>> from napari_shiftseg import load_model, synthetic
    >>> from napari_shiftseg.events import drain
    >>> drawn = Image.from_array(synthetic.disks((120, 120), 40, 10).image)
    >>> items = [Item(name="disks", source=drawn), Item(name="nothing", source="nothing.tif")]
    >>> made = drain(queue_steps(items, partial(decided_steps, model=load_model("nuclei"))))
    >>> [(one.state, one.error) for one in made]
    [('done', ''), ('failed', 'there is no image nothing.tif; check the path.')]
    >>> images_table(made)["objects"].tolist()
    [9, None]
    """
    outcomes: list[Outcome] = []
    for number, item in enumerate(items):
        yield ItemBegins(done=number, total=len(items), text=item.name, left=tuple(items[number:]))
        began = time.perf_counter()
        try:
            outcome = yield from _outcome_steps(item, deciding, running, again=again, features=features)
        except Exception as exc:  # noqa: BLE001  # whatever it is, the others go on
            traceback.clear_frames(exc.__traceback__)  # which hold the arrays of the image
            outcome = Outcome(item=item, state="failed", problem=exc)
        outcome = replace(outcome, seconds=time.perf_counter() - began)
        outcomes.append(replace(outcome, result=None))  # those of many images may not fit in memory
        yield ItemDone(done=number + 1, total=len(items), outcome=outcome)
        del outcome
    return outcomes


def _outcome_steps(
    item: Item, deciding: Deciding, running: Running, *, again: bool, features: bool
) -> Generator[Event, None, Outcome]:
    yield Stage(done=0, total=0, text="reading")
    image = item.opened()
    job = yield from deciding(item, image)
    if again and job.out is not None and Path(job.out).exists() and not work_path(job.out).exists():
        stored = yield from standing_steps(job)
        table = (yield from _feature_steps(stored, job)) if features else {}
        return Outcome(item=item, state="there", record=stored.record, features=table)
    made = yield from running(job)
    if made is None:
        return Outcome(item=item, state="done")
    result: Segmentation = made.result if hasattr(made, "result") else made
    table = (yield from _feature_steps(result, job)) if features else {}
    kept = None if made is result and result.path is not None else made  # what lies in a store is opened from there
    return Outcome(item=item, state="done", record=result.record, result=kept, features=table)


def _feature_steps(result: Segmentation | StoredResult, job: Job) -> Generator[Event, None, Table]:
    image = job.opened.image
    labels = Labels(
        data=result.labels,
        axes=result.axes,
        scale=result.scale,
        units=result.units,
        translation=(),
        ndim=job.plan.lattice.ndim,
    )
    return (
        yield from features_steps(
            labels.data,
            labels.intensities(image),
            axes=labels.axes,
            ndim=labels.ndim,
            spacing=labels.scale,
            units=labels.units,
        )
    )


# -- results that are there --------------------------------------------------------------------------------------------


def standing_steps(job: Job) -> Generator[Event, None, StoredResult]:
    """The result at the place of a job, if it is one of the same image, model and settings; labels may have been edited since.

    Its image is compared pixel by pixel with the copy in the store, where there is one, else by the sum of all pixels.

    ResultError if something else is there.
    """
    assert job.out is not None
    yield Stage(done=0, total=0, text="comparing with the result that is there")
    stored = open_result(job.out)
    known = job_of(stored.record)
    if known.model.sha256 != job.model.sha256:
        raise _another(job, f"another model ({known.model.name})")
    if _lasting(known.settings) != _lasting(job.settings) or "relabelled" in stored.record:
        raise _another(job, "other settings")
    if (known.axes, known.lengths, known.plan.image_shape) != (job.axes, job.lengths, job.plan.image_shape):
        raise _another(job, "another image")
    if not (yield from _same_pixels_steps(job, stored)):
        raise _another(job, "another image")
    return stored


def _lasting(settings: SegmentSettings) -> SegmentSettings:
    """Settings without those that say where the work is done."""
    return replace(settings, memory=None, workers=0, cluster=None, out_of_core=None)


def _another(job: Job, what: str) -> ResultError:
    return ResultError(f"{job.out} is there already, the result of {what}; choose another folder, or remove it.")


def _same_pixels_steps(job: Job, stored: StoredResult) -> Generator[Event, None, bool]:
    own, ndim = job.opened.frames, job.plan.lattice.ndim
    if stored.image is None:
        known = stored.record.get("image") or {}
        if pixel_digest(own) != known.get("pixels"):
            return False
        # results of earlier versions have no sum
        return not known.get("sum") or bool((yield from sum_steps(own)) == known["sum"])
    image = Image.from_array(stored.image, axes=stored.image_axes)
    have = image.sizes.get("c", 1)
    if max(job.channels or (0,)) >= have or (job.channels is None and have != own[0].view.shape[0]):
        return False
    there = image.frames(ndim, job.channels)
    if len(there) != len(own):
        return False
    for frame, (one, other) in enumerate(zip(own, there, strict=True)):
        if one.view.shape != other.view.shape or one.view.dtype != other.view.dtype:
            return False
        rows = max(1, SLAB // max(1, int(np.prod(one.view.shape)) // one.view.shape[1]))
        for at in range(0, one.view.shape[1], rows):
            part = (slice(None), slice(at, at + rows))
            if not np.array_equal(one.view[part], other.view[part], equal_nan=one.view.dtype.kind == "f"):
                return False
            yield Event(done=frame, total=len(own))
    return True


# -- tables ------------------------------------------------------------------------------------------------------------


def images_table(outcomes: Iterable[Outcome]) -> Table:
    """A row per image.

    Returns
    -------
    dict of ndarray
        "image"; "state" ("done", "there" before, "failed"); "objects", and their "area" in all (in 3D the volume) in squares or
        cubes of "unit"; "seconds"; "verdict" as of a record, with "edited" where labels were; "model"; "error"; "result", the
        store; "note", what is said of the image, such as that it is the first of several of its file. What is not known is
        None.
    """
    rows = [_row(outcome) for outcome in outcomes]
    names = ("image", "state", "objects", "area", "unit", "seconds", "verdict", "model", "error", "result", "note")
    table: Table = {}
    for name in names:
        table[name] = np.empty(len(rows), object)
        table[name][:] = [row.get(name) for row in rows]
    return table


def _row(outcome: Outcome) -> dict[str, Any]:
    record, table = outcome.record, outcome.features
    row: dict[str, Any] = {"image": outcome.item.name, "state": outcome.state, "error": outcome.error or None}
    row["seconds"] = round(outcome.seconds, 3)
    if record:
        edited = ", edited" * bool(record.get("edits"))
        row |= {"verdict": f"{record['status']}{edited}", "model": record["model"]["name"]}
        row["note"] = record.get("image", {}).get("note") or None
        row["objects"] = sum(record["instances"]) if not table else len(table["label"])
        row["result"] = None if outcome.item.out is None else str(outcome.item.out)
    if table:
        units = table["unit"].tolist()
        row |= {"area": float(table["area"].sum()), "unit": units[0] if units else None}
    return row


def objects_table(outcomes: Iterable[Outcome]) -> Table:
    """The features of the objects of all images, a row per object, with the name of its image in front.

    What one image has and another has not, such as a third axis or a second channel, is no number there.
    """
    tables = [(outcome.item.name, outcome.features) for outcome in outcomes if outcome.features]
    names = list(dict.fromkeys(name for _, table in tables for name in table))
    columns: Table = {"image": np.array([name for name, table in tables for _ in table["label"]], dtype=object)}
    for name in names:
        parts = [table[name] if name in table else _nothing(name, len(table["label"])) for _, table in tables]
        columns[name] = np.concatenate(parts)
    return columns


def _nothing(name: str, count: int) -> npt.NDArray[Any]:
    return np.full(count, "") if name == "unit" else np.full(count, np.nan)


# -- time --------------------------------------------------------------------------------------------------------------


class TimeLeft:
    """What a queue still takes, by what it has taken so far: images of the same weight take about the same time."""

    def __init__(self) -> None:
        self._left = 0.0  # weight of what is not over
        self._spent = self._worked = 0.0
        self._began = time.perf_counter()
        self._share = 0.0  # of the image in work
        self._item: Item | None = None

    def follow(self, event: Event) -> None:
        """Take an event of the queue into account."""
        if isinstance(event, ItemBegins):
            self._item, self._share, self._began = event.item, 0.0, time.perf_counter()
            self._left = sum(item.weight for item in event.left)
        elif isinstance(event, ItemDone):
            outcome = event.outcome
            self._left -= outcome.item.weight
            self._item = None
            if outcome.state == "done":
                self._spent += outcome.seconds
                self._worked += outcome.item.weight
        elif not isinstance(event, Stage) and event.total:
            self._share = max(self._share, event.done / event.total)

    @property
    def seconds(self) -> float | None:
        """From now to the end; None while nothing is known."""
        gone = 0.0 if self._item is None else time.perf_counter() - self._began
        if self._worked:
            return max(0.0, self._spent / self._worked * self._left - gone)
        if self._item is None or not self._share:
            return None
        return max(0.0, gone / self._share * self._left / self._item.weight - gone)
