"""`segment`: image -> tile plan -> embedding -> instances, frame by frame, with a record of what happened."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from skimage.segmentation import relabel_sequential

from napari_shiftseg.errors import ComplianceError, ImageError, ResultError, SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.geometry import TilePlan, UNetSpec, Violation, plan_tiles, violations
from napari_shiftseg.instances import LabelSettings, label_steps
from napari_shiftseg.io import Frame, Image, load_model, read_image, save_result
from napari_shiftseg.network import Device, Limits, Model, ModelRecord, Normalisation, choose_device, predict_steps

__all__ = [
    "Preview",
    "SegmentSettings",
    "Segmentation",
    "Status",
    "plan_image",
    "preview_steps",
    "segment",
    "segment_steps",
    "status",
]

Status = Literal["compliant", "tile-exact", "non-compliant"]

_TILE_RULES = {"write-multiple", "lattice", "crop", "context"}


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """A wish for a segmentation; None takes what the model's record or the machine suggests.

    Attributes
    ----------
    write : int or tuple of int, optional
        Output edge per tile, a multiple of the period, pixels.
    method : {"auto", "tiles"}
        How the network runs over the image.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    dtype : str
        "float32", "bfloat16" or "float16".
    memory : int, optional
        Bytes that one pass may take.
    bandwidth, threshold, min_size : optional
        Of the labelling; see `instances.LabelSettings`.
    deterministic : bool
        Equal labels to the last pixel whatever the tile size: the arithmetic runs in blocks that the network alone decides.
    allow_noncompliant : bool
        Run although a rule is broken; the result is stamped.
    channels : tuple of int, optional
        Channels of the image that the network gets.
    keep_embedding : bool
        Whether the result holds the embedding.
    """

    write: int | tuple[int, ...] | None = None
    method: Literal["auto", "tiles"] = "auto"
    device: str = "auto"
    dtype: str = "float32"
    memory: int | None = None
    bandwidth: float | None = None
    min_size: int | None = None
    deterministic: bool = False
    allow_noncompliant: bool = False
    threshold: float | None = None
    channels: tuple[int, ...] | None = None
    keep_embedding: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """A result in memory.

    Attributes
    ----------
    labels : ndarray
        ([t], [z], y, x) uint32; `axes` names the axes.
    embedding : ndarray or None
        (E, *labels.shape) float32.
    foreground : ndarray or None
        (*labels.shape) float32 probability.
    plan : TilePlan
        Of one frame.
    record : dict
        What happened, JSON values.
    axes, scale, units
        Of the labels.
    image : Image
        That was segmented.
    """

    labels: npt.NDArray[np.uint32]
    embedding: npt.NDArray[np.float32] | None
    foreground: npt.NDArray[np.float32] | None
    plan: TilePlan
    record: dict[str, Any]
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    image: Image

    def save(self, path: str | Path, *, overwrite: bool = False, copy_image: bool = True) -> Path:
        """Write the result as an OME-Zarr store (see `io.save_result`)."""
        embedding = self.embedding
        if embedding is not None and self.axes.startswith("t"):
            embedding = np.moveaxis(embedding, 0, 1)  # files have time first
        return save_result(
            path,
            labels=self.labels,
            axes=self.axes,
            scale=self.scale,
            units=self.units,
            record=self.record,
            image=self.image if copy_image else None,
            embedding=embedding,
            foreground=self.foreground,
            name=self.image.name,
            overwrite=overwrite,
        )


def segment(
    image: Any,
    model: Model | str | Path,
    settings: SegmentSettings | None = None,
    out: str | Path | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
) -> Segmentation:
    """Segment an image; the result does not depend on the tiles.

    Parameters
    ----------
    image : path, Image or array-like
        A file, an `Image`, or an array: (y, x), (z, y, x), (C, y, x) for a model of C channels, ...
    model : Model, str or path
        A model, the name of a bundled one, or a file.
    settings : SegmentSettings, optional
    out : path, optional
        OME-Zarr store to write.
    on_event : callable, optional
        Called with each `Stage`, `TileDone` and `WindowDone`.

    Returns
    -------
    Segmentation

    Raises
    ------
    ComplianceError
        If a rule is broken and not allowed; `.violations` lists them.
    ShiftsegError
        For images, models, devices and settings that cannot work.
    """
    return drain(segment_steps(image, model, settings, out), on_event)


def segment_steps(
    image: Any, model: Model | str | Path, settings: SegmentSettings | None = None, out: str | Path | None = None
) -> Generator[Event, None, Segmentation]:
    """Generator form of `segment`: yields events, returns the `Segmentation`; nothing is written before its end."""
    started = time.perf_counter()
    settings = settings or SegmentSettings()
    if settings.method not in ("auto", "tiles"):
        raise SettingsError(f"method is {settings.method!r}; give 'auto' or 'tiles'.")
    if out is not None and Path(out).exists():
        raise ResultError(f"{out} is there already; choose another name or remove it.")
    task = _prepare(image, model, settings)
    chosen, picture, frames, plan = task.model, task.image, task.frames, task.plan
    axes, lengths = _loop_axes(picture, chosen.spec.ndim)
    shape = (*lengths, *plan.result_shape)
    labels = np.zeros(shape, np.uint32)
    embedding = np.empty((chosen.spec.embedding_dim, *shape), np.float32) if settings.keep_embedding else None
    foreground = np.empty(shape, np.float32) if chosen.spec.foreground else None
    seconds = {"network": 0.0, "labels": 0.0}
    for number, frame in enumerate(frames):
        position = tuple(frame.index.values())
        part: Any = (slice(None), *position)
        which = f" of frame {number + 1}/{len(frames)}" if len(frames) > 1 else ""
        yield Stage(done=0, total=len(plan), text=f"network{which}")
        before = time.perf_counter()
        prediction = yield from predict_steps(
            chosen,
            frame.view,
            plan,
            device=settings.device,
            out=None if embedding is None else embedding[part],
            dtype=settings.dtype,
            limits=task.limits,
            deterministic=settings.deterministic,
        )
        seconds["network"] += time.perf_counter() - before
        if foreground is not None:
            foreground[position] = prediction.foreground
        yield Stage(done=0, total=0, text=f"instances{which}")
        before = time.perf_counter()
        labels[position] = yield from label_steps(prediction.embedding, prediction.foreground, task.clustering)
        seconds["labels"] += time.perf_counter() - before
    record = _record(task, plan, settings)
    record["instances"] = [int(labels[tuple(frame.index.values())].max()) for frame in frames]
    seconds["all"] = time.perf_counter() - started  # without writing, which comes after the record
    record["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    scale, units = _spacing(picture, axes)
    result = Segmentation(
        labels=labels,
        embedding=embedding,
        foreground=foreground,
        plan=plan,
        record=record,
        axes=axes,
        scale=scale,
        units=units,
        image=picture,
    )
    if out is not None:
        yield Stage(done=0, total=0, text="writing")
        result.save(out)
    return result


def plan_image(spec: UNetSpec, shape: Sequence[int], settings: SegmentSettings, device: Device | None = None) -> TilePlan:
    """The tile plan that `segment` will use for a frame of spatial shape `shape`, pixels."""
    memory = settings.memory
    if memory is None and device is not None and device.free:
        # the estimate leaves out what the libraries themselves take
        memory = device.free // (2 if device.kind == "cuda" else 8)
    plan = plan_tiles(spec, shape, settings.write, allow_noncompliant=settings.allow_noncompliant, memory=memory)
    return plan.canonical() if settings.deterministic else plan


def status(broken: Sequence[Violation], record: ModelRecord | None) -> Status:
    """What can be promised of a result.

    "tile-exact": it equals the whole-image result; "compliant": and the network was trained so that neighbouring output
    functions agree.
    """
    if any(v.rule in _TILE_RULES for v in broken):
        return "non-compliant"
    return "compliant" if record is not None and not broken else "tile-exact"


# -- a part of it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Preview:
    """Labels of a part of an image.

    Attributes
    ----------
    labels : ndarray
        uint32, along `axes`; one pixel long on axes that are looped over.
    axes : str
    origin : tuple of int
        Image pixel of the first label, one per axis.
    plan : TilePlan
        The tiles that ran.
    record : dict
        What happened, JSON values.
    """

    labels: npt.NDArray[np.uint32]
    axes: str
    origin: tuple[int, ...]
    plan: TilePlan
    record: dict[str, Any]


def preview_steps(
    image: Any, model: Model | str | Path, settings: SegmentSettings | None, window: Mapping[str, slice]
) -> Generator[Event, None, Preview]:
    """Segment what is in a window as `segment_steps` would: the same tiles, limits and clustering windows, but few of them.

    Parameters
    ----------
    image, model, settings
        As in `segment`.
    window : mapping of axis to slice
        Wanted pixels of the image, such as `{"t": slice(3, 4), "y": slice(0, 200), "x": slice(50, 90)}`; an axis that is
        left out is taken whole. Of an axis that is looped over (t, or z with a 2D network), the first position is taken.

    Returns
    -------
    Preview
        Of all clustering windows that the window meets. Instances that stay 4 px inside it are those of the whole run, with
        other numbers.

    Raises
    ------
    ShiftsegError
        As `segment`.
    """
    settings = settings or SegmentSettings()
    task = _prepare(image, model, settings)
    spec, plan = task.model.spec, task.plan
    axes, lengths = _loop_axes(task.image, spec.ndim)
    looped = [min(max(0, window.get(axis, slice(0, 1)).start), size - 1) for axis, size in zip(axes, lengths, strict=False)]
    wanted = dict(zip(axes, looped, strict=False))
    frame = next(frame for frame in task.frames if frame.index == wanted)
    sides = [window.get(axis, slice(0, size)) for axis, size in zip(axes[len(looped) :], plan.result_shape, strict=True)]
    lattice = task.clustering.lattice(spec.ndim)
    spans = [_span(side, size, *lattice, spec.foreground) for side, size in zip(sides, plan.result_shape, strict=True)]
    part = plan.within([span.seen for span in spans])
    yield Stage(done=0, total=len(part), text="network")
    options: dict[str, Any] = {"device": settings.device, "dtype": settings.dtype, "deterministic": settings.deterministic}
    prediction = yield from predict_steps(task.model, frame.view, part, limits=task.limits, **options)
    yield Stage(done=0, total=0, text="instances")
    embedding = _laid_out(prediction.embedding, spans, part.origin)
    foreground = None if prediction.foreground is None else _laid_out(prediction.foreground[None], spans, part.origin)[0]
    if spec.coordinates:  # in float64 the sum with whole pixels is exact
        embedding = embedding.astype(np.float64)
        for axis, span in enumerate(spans):
            embedding[axis] += span.start
    labels = yield from label_steps(embedding, foreground, task.clustering)
    inner = labels[tuple(slice(span.core.start - span.start, span.core.stop - span.start) for span in spans)]
    numbered = relabel_sequential(inner)[0].astype(np.uint32)
    return Preview(
        labels=numbered[(None,) * len(looped)],
        axes=axes,
        origin=(*looped, *(span.core.start for span in spans)),
        plan=part,
        record=_record(task, part, settings),
    )


@dataclass(frozen=True)
class _Span:
    """One axis of a preview, result pixels: where the labels start, what they need to be right, where they are right."""

    start: int
    seen: slice
    core: slice


def _span(side: slice, size: int, edge: int, halo: int, masked: bool) -> _Span:
    first = min(max(0, side.start), size - 1) // edge * edge
    stop = min(size, -(-max(side.stop, first + 1) // edge) * edge)
    start = max(0, first - edge)  # on the lattice of the clustering windows
    # a mask can leave the rest of that window empty; without one it has to be computed
    return _Span(start, slice(max(0, first - halo) if masked else start, min(size, stop + halo)), slice(first, stop))


def _laid_out(block: npt.NDArray[Any], spans: Sequence[_Span], origin: Sequence[int]) -> npt.NDArray[Any]:
    """What the spans see of a block (C, *part), in an array from their starts on, 0 elsewhere."""
    laid = np.zeros((len(block), *(span.seen.stop - span.start for span in spans)), block.dtype)
    into = tuple(slice(span.seen.start - span.start, None) for span in spans)
    seen = tuple(slice(s.seen.start - o, s.seen.stop - o) for s, o in zip(spans, origin, strict=True))
    laid[(slice(None), *into)] = block[(slice(None), *seen)]
    return laid


# -- preparation ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """All that is decided before the first pass of the network."""

    model: Model
    image: Image
    frames: Sequence[Frame]
    device: Device
    plan: TilePlan
    broken: tuple[Violation, ...]
    clustering: LabelSettings
    limits: Limits


def _prepare(image: Any, model: Model | str | Path, settings: SegmentSettings) -> _Task:
    chosen = model if isinstance(model, Model) else load_model(model)
    picture = _as_image(image, chosen.spec)
    frames = picture.frames(chosen.spec.ndim, settings.channels or _default_channels(picture, chosen.spec))
    device = choose_device(settings.device)
    plan = plan_image(chosen.spec, frames[0].view.shape[1:], settings, device)
    broken = violations(plan, chosen.record)
    if broken and not settings.allow_noncompliant:
        raise ComplianceError(" ".join(v.message for v in broken), violations=broken)
    return _Task(
        model=chosen,
        image=picture,
        frames=frames,
        device=device,
        plan=plan,
        broken=broken,
        clustering=_label_settings(chosen, settings),
        limits=_limits(chosen, frames),
    )


def _as_image(image: Any, spec: UNetSpec) -> Image:
    if isinstance(image, Image):
        return image
    if isinstance(image, str | Path):
        return read_image(image)
    if not hasattr(image, "shape"):
        raise ImageError(f"a {type(image).__name__} was given as the image; give a path, an Image or an array.")
    spatial = "zyx"[-spec.ndim :]
    # channels first is this library's order; an array with the network's axes and nothing else needs no guess
    if len(image.shape) == spec.ndim + 1 and image.shape[0] == spec.in_channels:
        return Image.from_array(image, axes="c" + spatial)
    if len(image.shape) == spec.ndim:
        return Image.from_array(image, axes=spatial)
    return Image.from_array(image)


def _default_channels(image: Image, spec: UNetSpec) -> tuple[int, ...] | None:
    """All channels where their number fits; else the user has to choose."""
    have = image.sizes.get("c", 1)
    if have == spec.in_channels:
        return None
    wanted = spec.in_channels
    raise ImageError(
        f"the image has {have} channel{'s' * (have > 1)} and the network wants {wanted}; "
        f"choose {wanted} with channels (0 to {have - 1})."
    )


def _label_settings(model: Model, settings: SegmentSettings) -> LabelSettings:
    base = LabelSettings(coordinates=model.spec.coordinates)
    if model.record is not None:
        base = replace(base, **asdict(model.record.clustering))
    wishes: dict[str, Any] = {"bandwidth": settings.bandwidth, "threshold": settings.threshold, "min_size": settings.min_size}
    return replace(base, **{name: value for name, value in wishes.items() if value is not None})


@dataclass(frozen=True, eq=False)
class _Series:
    """All frames as one array (C, frames, *shape), so that one pair of limits holds for all of them."""

    frames: Sequence[Frame]

    @property
    def shape(self) -> tuple[int, ...]:
        channels, *spatial = self.frames[0].view.shape
        return (channels, len(self.frames), *spatial)

    @property
    def dtype(self) -> Any:
        return self.frames[0].view.dtype

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        channel, which, *spatial = key
        window: Any = (channel, *spatial)
        return np.stack([f.view[window] for f in self.frames[which]], axis=1)


def _limits(model: Model, frames: Sequence[Frame]) -> Limits:
    normalisation = model.record.normalisation if model.record else Normalisation(low=0, high=0)
    return normalisation.limits(frames[0].view if len(frames) == 1 else _Series(frames))


def _loop_axes(image: Image, ndim: int) -> tuple[str, tuple[int, ...]]:
    """Axes of the labels, and the lengths of those that are looped over."""
    loop = [axis for axis in ("t", "z") if axis in image.axes and (axis == "t" or ndim == 2)]
    return "".join(loop) + "zyx"[-ndim:], tuple(image.sizes[axis] for axis in loop)


def _spacing(image: Image, axes: str) -> tuple[tuple[float, ...], tuple[str | None, ...]]:
    at = [image.axes.index(axis) for axis in axes]
    return tuple(image.scale[k] for k in at), tuple(image.units[k] for k in at)


# -- record -----------------------------------------------------------------------------------------------------------


def _record(task: _Task, plan: TilePlan, settings: SegmentSettings) -> dict[str, Any]:
    model, image, device = task.model, task.image, task.device
    return {
        "model": {
            "name": model.name,
            "sha256": model.hash,
            "spec": model.spec.to_dict(),
            "record": model.record.to_dict() if model.record else None,
        },
        "image": {"name": image.name, "source": image.source, "axes": image.axes, "note": image.note},
        "plan": plan.to_dict(),
        "status": status(task.broken, model.record),
        "violations": [asdict(v) for v in task.broken],
        "settings": asdict(settings),
        "clustering": asdict(task.clustering),
        "limits": asdict(task.limits),
        "device": {"kind": device.kind, "name": device.name},
        "versions": _versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("napari-shiftseg", "torch", "numpy", "scipy", "scikit-image"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    return found
