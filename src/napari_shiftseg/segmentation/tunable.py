"""`Tunable`: what a run left behind, from which labels can be made anew without its network."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, ModelError, ResultError, ShiftsegError
from napari_shiftseg.events import Event
from napari_shiftseg.geometry import Output, TilePlan, UNetSpec, Window, plan_again
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import Image, StoredResult, from_plain, open_result, read_image
from napari_shiftseg.network import Model, ModelRecord, choose_device
from napari_shiftseg.segmentation.intensity import recorded_limits, with_data
from napari_shiftseg.segmentation.job import Job, gather
from napari_shiftseg.segmentation.pipeline import Seen
from napari_shiftseg.segmentation.preview import InView, label_view_steps, spot_of
from napari_shiftseg.segmentation.repeat import job_of
from napari_shiftseg.segmentation.run import Segmentation
from napari_shiftseg.segmentation.settings import Status
from napari_shiftseg.views import LazyArray, View


@dataclass(frozen=True, kw_only=True, eq=False)
class Tunable:
    """A result whose labels can be made anew.

    Attributes
    ----------
    job : Job
        Of the run, opened with all that is known of its model but the weights.
    labels : array-like
        ([t], [z], y, x) int, as they are now.
    outputs : mapping of str to array-like
        What is kept of what the network said, by name, as in `Segmentation`: (count, *labels.shape) or (*labels.shape).
    record : dict
        Of the result.
    plan : TilePlan
        That ran.
    described : mapping of str to Output
        What the outputs mean.
    gone : str
        Why the pixels of the image cannot be read, "" where they can.
    stored : StoredResult or None
        The store, where the result was opened from one.
    """

    job: Job
    labels: Any
    outputs: Mapping[str, Any]
    record: dict[str, Any]
    plan: TilePlan
    described: Mapping[str, Output] = field(default_factory=dict)
    gone: str = ""
    stored: StoredResult | None = None

    @property
    def embedded(self) -> bool:
        """Whether all is there that the network says and that is clustered; else the smallest size alone can be changed."""
        return ({"embedding", "seed", "bandwidth"} if self.job.clustering.seeds else {"embedding"}) <= {*self.outputs}

    @property
    def base(self) -> LabelSettings:
        """The clustering of the run itself, whatever was changed since."""
        told = self.record.get("relabelled")
        return from_plain(LabelSettings, told["run_clustering"]) if told else self.job.clustering

    @property
    def run(self) -> str:
        """Identity of the run of the network."""
        told = self.record.get("relabelled") or {}
        return str(told.get("run") or self.record.get("run") or "")

    @property
    def places(self) -> Sequence[tuple[int, ...]]:
        """Of each frame in the labels."""
        return list(np.ndindex(*self.job.lengths))

    def seen(self, frame: int, window: Window | None = None) -> Seen:
        """What the network said of a window of a frame, all of it by default; read now."""
        shape = self.job.plan.result_shape
        window = tuple(slice(0, n) for n in shape) if window is None else window
        found = {name: np.asarray(self.frame(values, frame)[(..., *window)]) for name, values in self.outputs.items()}
        if "foreground" not in found:
            self._add_data(found, frame, window)
        return Seen(outputs=found)

    def _add_data(self, found: dict[str, npt.NDArray[np.float32]], frame: int, window: Window) -> None:
        """A network without a foreground says nothing of pixels without data."""
        if np.dtype(self.job.image.dtype).kind != "f" and self.job.limits(frame).no_data is None:
            return
        corner = [at + part.start for at, part in zip(self.job.plan.origin, window, strict=True)]
        shape = [part.stop - part.start for part in window]
        view = self.job.opened.frames[frame].view
        masked = with_data(None, view, self.job.limits(frame), corner=corner, shape=shape)
        if masked is not None:
            found["foreground"] = masked

    def frame(self, values: Any, number: int) -> Any:
        """A frame of the labels or of an output, (count, *shape) or (*shape), not read if it lies on a disk."""
        lead = values.ndim - len(self.job.axes)
        at = self.places[number]
        if isinstance(values, np.ndarray):
            return values[(*(slice(None),) * lead, *at)]
        return View.at(values, dict(enumerate(at, lead)), name="the result")

    def view(self, window: Mapping[str, slice]) -> InView:
        """What is in a window as `label_view_steps` clusters it; `window` as in `view_steps`."""
        spot = spot_of(self.job, window, masked="foreground" in self.outputs)
        seen = self.seen(spot.frame, spot.seen)
        return InView(spot=spot, seen=spot.laid_out(seen, [part.start for part in spot.seen]), plan=self.plan)


def view_labels_steps(
    tunable: Tunable, view: InView, clustering: LabelSettings
) -> Generator[Event, None, npt.NDArray[np.uint32]]:
    """Labels of a view by a clustering; yields events."""
    return (yield from label_view_steps(replace(tunable.job, clustering=clustering), view))


def tunable(
    result: Segmentation | StoredResult | str | Path, image: Image | None = None, *, device: str | None = None
) -> Tunable:
    """What is left of a run; nothing is read but what describes it.

    Parameters
    ----------
    result : Segmentation, StoredResult or path
    image : Image, optional
        Of the run, where it is open already. It is needed for pixels without data, where the network has no foreground, and
        for the comparison of what was found with what the model knows.
    device : str, optional
        Where windows are clustered, by default where they were: on a processor, the labels are the same in bits.

    Raises
    ------
    ResultError
        If the result does not say how it was made.
    DeviceError
        If the device is not there.
    """
    if isinstance(result, str | Path):
        result = open_result(result)
    if result.record.get("linked"):
        raise ResultError(
            "the labels of this result are linked through planes or frames, which new labels would not be; change the result "
            "that they were made from, and link it again."
        )
    job = job_of(result.record)
    known = get_args(Status)
    if not isinstance(result.record.get("model"), Mapping) or result.record.get("status", known[0]) not in known:
        raise ResultError("the record of this result is damaged; segment the image anew.")
    try:  # the report reads them, when labels are there already
        recorded_limits(result.record)
    except (ShiftsegError, KeyError, TypeError, ValueError) as exc:
        raise ResultError("the limits in the record of this result are damaged; segment the image anew.") from exc
    # only a CUDA device clusters itself
    job = replace(job, device=choose_device(device or ("cuda" if job.device.kind == "cuda" else "cpu")))
    gone, stored = "", result if isinstance(result, StoredResult) else result.stored
    if isinstance(result, Segmentation) and image is None:
        image = result.image
    elif image is None:
        assert stored is not None
        image, gone = _image_of(stored, job)
    outputs = outputs_of(stored) if stored is not None else dict(result.outputs)
    described = dict(stored.described if stored is not None else result.described)
    model = _recalled(result.record, job, described)
    facts = job.image
    if sorted(image.axes) != sorted(facts.axes):
        raise ImageError(f'{image.name} has the axes "{image.axes}", the image of the run "{facts.axes}"; give that image.')
    image = replace(image.reordered(facts.axes), scale=facts.scale, units=facts.units, translation=facts.translation)
    plan = result.plan if isinstance(result, Segmentation) else _plan_of(result.record, job)
    return Tunable(
        job=replace(job, inputs=gather(image, model, job.channels)),
        labels=result.labels,
        outputs=outputs,
        record=result.record,
        plan=plan,
        described=described,
        gone=gone,
        stored=stored,
    )


def _plan_of(record: Mapping[str, Any], job: Job) -> TilePlan:
    try:
        return plan_again(None, record["plan"])
    except (ShiftsegError, KeyError, TypeError, ValueError):
        return job.plan


def outputs_of(stored: StoredResult) -> dict[str, Any]:
    """Outputs in a store, channels first."""
    looped = int(stored.axes.startswith("t"))  # files have time first
    found: dict[str, Any] = {}
    for name, values in stored.outputs.items():
        vector = values.ndim > stored.labels.ndim
        order = list(range(values.ndim))
        order.insert(0, order.pop(looped))
        found[name] = View.whole(values, order, name=f"the {name}") if vector else View.whole(values, name=f"the {name}")
    return found


def _image_of(stored: StoredResult, job: Job) -> tuple[Image, str]:
    """The image of a stored result: its copy, else its file, else one whose pixels are gone, and why."""
    facts = job.image
    if stored.image is not None:
        pixels = View.whole(stored.image, name=facts.name)
        return Image.from_array(pixels, axes=stored.image_axes, name=facts.name), ""
    try:
        if not Path(facts.source).exists():
            raise ImageError(f"the image of the run, {facts.source}, is not there; give the image.")
        image = read_image(facts.source, scene=facts.scene)
        if tuple(image.data.shape) != facts.shape or str(np.dtype(image.data.dtype)) != facts.dtype:
            raise ImageError(f"{facts.source} is not the image any more that the result was made from; give that image.")
        return image.called(facts.axes), ""
    except ImageError as exc:
        known = {name: getattr(facts, name) for name in ("axes", "scale", "units", "name", "source", "scene", "translation")}
        return Image(data=_Gone(facts.shape, facts.dtype, str(exc)), **known), str(exc)


class _Gone(LazyArray):
    """Pixels that are not there any more, which is no matter until somebody asks for them."""

    def __init__(self, shape: tuple[int, ...], dtype: str, why: str) -> None:
        self._shape, self._dtype, self._why = shape, np.dtype(dtype), why

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> Any:
        return self._dtype

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        raise ImageError(self._why)


def _recalled(record: Mapping[str, Any], job: Job, described: Mapping[str, Output]) -> Model:
    """The model as the record knows it, without its weights."""
    told = record["model"]
    spec = UNetSpec.from_dict(told["spec"]) if told.get("spec") else None
    outputs = dict(described)
    if "embedding" not in outputs:  # which was not kept
        outputs = spec.outputs if spec is not None else {"embedding": Output(name="embedding", channels=slice(0, 1))}

    def network(*_: Any) -> NoReturn:
        raise ModelError(f"the weights of {job.model.name} are not loaded, since its network is not to run again.")

    known: dict[str, Any] = {} if spec is None else {"spec": spec}
    return Model(
        module=network,
        **known,
        lattice=spec.lattice if spec is not None else job.plan.lattice,
        outputs=outputs,
        record=from_plain(ModelRecord, told["record"]) if told.get("record") else None,
        name=job.model.name,
        hash=job.model.sha256,
        source=job.model.source,
    )
