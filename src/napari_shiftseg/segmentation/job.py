"""`Job`: all that a run will do, decided before its first pass; printed, kept in the record, sent to workers, run again."""

from __future__ import annotations

import json
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from napari_shiftseg.errors import ImageError, ModelError, SettingsError
from napari_shiftseg.files import Stamp
from napari_shiftseg.geometry import Judgement, Output, StreamPlan, TilePlan, Violation, plan_again, plan_stream
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import ChunkReader, Frame, Image, chunks_of, from_plain, load_model, read_image, to_plain
from napari_shiftseg.machine import byte_text
from napari_shiftseg.network import Device, Limits, Model
from napari_shiftseg.segmentation.constants import JOB_VERSION, LOOK_BUDGET
from napari_shiftseg.segmentation.intensity import Intensity
from napari_shiftseg.segmentation.layout import Layout
from napari_shiftseg.segmentation.settings import SegmentSettings, Status
from napari_shiftseg.segmentation.sizing import ObjectSize


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a job knows of its image without reading a pixel; fields as of `io.Image`."""

    name: str
    source: str
    scene: int | None
    axes: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    translation: tuple[float, ...] = ()

    @classmethod
    def of(cls, image: Image) -> ImageFacts:
        """What is to be known of an image."""
        place = Path(image.source)
        return cls(
            name=image.name,
            source=str(place.absolute()) if place.exists() else image.source,
            scene=image.scene,
            axes=image.axes,
            shape=tuple(map(int, image.data.shape)),
            dtype=str(np.dtype(image.data.dtype)),
            scale=tuple(map(float, image.scale)),
            units=image.units,
            translation=tuple(map(float, image.translation)),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Pixels, channels or frames per axis."""
        return dict(zip(self.axes, self.shape, strict=True))


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a job knows of its model."""

    # name, source: short name; and that of a bundled model, or the path of its file, or "" for one that was never saved
    name: str
    source: str
    sha256: str  # of the file


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Model and image of a job, opened."""

    model: Model
    image: Image
    frames: Sequence[Frame]
    reader: ChunkReader | None
    stamp: Stamp | None = None  # of the image's files when it was looked at

    def logged(self, source: Any, channels: tuple[int, ...] | None) -> Sequence[Frame]:
        """The frames of another source of pixels that stands for the image."""
        return replace(self.image, data=source).frames(self.model.lattice.ndim, channels)


# Entries of a job that are as they stand in its JSON.
_PLAIN: Mapping[str, Any] = {
    **dict.fromkeys(("dtype", "why", "reason", "likeness"), str),
    **dict.fromkeys(("free", "disk"), int),
    "fixed": bool,
    "status": Status,
    "promises": dict[str, Any],
    "needs": dict[str, int],
    "out": str | None,
    "seconds": float | None,
}

_DEVICE: Mapping[str, Any] = {"kind": str, "name": str, "free": int}


def _of_kinds(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a job, each of its kind."""
    return {name: from_plain(kinds[name], value, what=name) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a run will do.

    Attributes
    ----------
    image : ImageFacts
    model : ModelFacts
    settings : SegmentSettings
        The wish.
    channels : tuple of int or None
        Of the image, that the network gets; None for all.
    device : Device
    dtype, why : str
        Number format of the convolutions, and why it was chosen.
    fixed : bool
        Whether the network alone decides in which blocks it is computed, so that no bit depends on tiles: asked for, or because
        the format rounds to few bits.
    plan : TilePlan
        Tiles of a frame.
    stream : StreamPlan or None
        Columns and strips, where the network runs as a stream over whole frames.
    layout : Layout or None
        Blocks of a run out of core; None in memory.
    clustering : LabelSettings
    broken : tuple of Violation
    status : {"compliant", "tile-exact", "non-compliant"}
    promises : dict
        The two promises apart, and the counts behind the second.
    needs : dict
        Bytes of main memory by purpose, as estimated.
    free, disk : int
        Bytes of main memory that were free (0: not known), and that the run may write out of core.
    reason : str
        Why the run goes out of core though nobody asked for it; "" where that is not so.
    out : str or None
        Store that it writes.
    size : ObjectSize or None
        At which scale the network runs, and why; None where nobody asked for a size of the objects.
    intensity : Intensity or None
        Which intensities become 0 and 1; None until the pixels were looked at.
    likeness : str
        What is to be said of the image before a run; "" until the pixels were looked at.
    seconds : float or None
        Time that the run will take, from the pace of a few tiles; None until it was taken.
    inputs : Inputs or None
        Model and image; None for a job that was loaded, until `open_job`.
    judged : Judgement or None
        What every rule says of the plan; None for a job that was loaded.

    >>> from napari_shiftseg import decide
    >>> job = decide(np.zeros((64, 64), np.float32), "nuclei")
    >>> Job.from_json(job.to_json()) == job
    True
    """

    image: ImageFacts
    model: ModelFacts
    settings: SegmentSettings
    channels: tuple[int, ...] | None
    device: Device
    dtype: str
    why: str
    fixed: bool
    plan: TilePlan
    stream: StreamPlan | None
    layout: Layout | None
    clustering: LabelSettings
    broken: tuple[Violation, ...]
    status: Status
    promises: dict[str, Any]
    needs: dict[str, int]
    free: int
    disk: int
    reason: str
    out: str | None
    size: ObjectSize | None = None
    intensity: Intensity | None = None
    likeness: str = ""
    seconds: float | None = None
    inputs: Inputs | None = field(default=None, compare=False, repr=False)
    judged: Judgement | None = field(default=None, compare=False, repr=False)

    # -- in words -----------------------------------------------------------------------------------------------------

    @property
    def method(self) -> Literal["tiles", "stream"]:
        """How the network runs."""
        streamed = self.stream is not None or (self.layout is not None and self.layout.stream is not None)
        return "stream" if streamed else "tiles"

    @property
    def memory(self) -> int:
        """Bytes of main memory that the run may take, as estimated."""
        return sum(self.needs.values())

    @property
    def large(self) -> bool:
        """Whether the run goes out of core, block by block from disk to disk."""
        return self.layout is not None

    @property
    def axes(self) -> str:
        """Axes of the labels."""
        return self._loops() + "zyx"[-self.plan.lattice.ndim :]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Sizes of the axes that are looped over."""
        return tuple(self.image.sizes[axis] for axis in self._loops())

    @property
    def frames(self) -> int:
        """How many frames are run over."""
        return prod(self.lengths)

    def _loops(self) -> str:
        ndim = self.plan.lattice.ndim
        return "".join(axis for axis in "tz" if axis in self.image.axes and (axis == "t" or ndim == 2))

    def describe_plan(self) -> str:
        """What runs, in words: the stream, or the tiles."""
        return (self.stream or self.plan).describe()

    def describe_device(self) -> str:
        """Where it runs, in which number format, and why in that one."""
        return f"{self.device.describe()}; {self.dtype}" + f" ({self.why})" * bool(self.why)

    def lines(self) -> list[tuple[str, str]]:
        """Name and text of each line of `describe`."""
        found = [] if self.size is None else [("size", self.size.describe())]
        if turning := self.plan.lattice.turned:
            found.append(("turns", f"the mean of {len(turning.turns)} flips and turns of the image"))
        found += [("plan", self.describe_plan()), ("device", self.describe_device())]
        if self.layout is not None:
            found.append(("blocks", self.layout.describe()))
        free = f" of {byte_text(self.free)} free" * bool(self.free)
        found.append(("memory", f"up to {byte_text(self.memory)}{free}"))
        if self.likeness:
            found.append(("likeness", f"{self.likeness} (the image alone)"))
        return found

    def describe(self) -> str:
        """The job in words, a line for each thing that was decided."""
        lines = [("image", f"{self.image.name}: {' x '.join(map(str, self.image.shape))} ({self.image.axes})")]
        lines += [("model", self.model.name), *self.lines(), ("status", self.status)]
        return "\n".join(f"{name:9} {text}" for name, text in lines)

    def to_code(self) -> str:
        """A Python script that runs the job again, with the settings that are not as by default.

        An image that no file holds as the job has seen it is left to be filled in, with a comment that says so; so is a model
        that was never saved.

        >>> from napari_shiftseg import SegmentSettings, decide, synthetic
        >>> print(decide(synthetic.disks((96, 64), 40, 12).image, "nuclei", SegmentSettings(write=32)).to_code())
        # The image "image" (float32, 96 x 64, axes yx) lies in memory alone: put the array in the place of the dots.
        from napari_shiftseg import SegmentSettings, load_model, segment
        from napari_shiftseg.io import Image
        <BLANKLINE>
        array = ...  # float32, shape (96, 64)
        image = Image.from_array(array, axes="yx")
        model = load_model("nuclei")
        settings = SegmentSettings(write=32)
        result = segment(image, model, settings)
        labels = result.labels  # uint32, axes yx, shape (96, 64)
        <BLANKLINE>
        """
        from napari_shiftseg.segmentation.repeat import code_of

        return code_of(self)

    def to_command(self) -> str:
        """A line for a shell that runs the job again with `shiftseg segment`; comments above it are as in `to_code`.

        >>> from napari_shiftseg import SegmentSettings, decide, synthetic
        >>> print(decide(synthetic.disks((96, 64), 40, 12).image, "nuclei", SegmentSettings(write=32)).to_command())
        # The image "image" (float32, 96 x 64, axes yx) lies in memory alone: save it, and name its file instead of IMAGE.tif.
        shiftseg segment IMAGE.tif --axes yx --tile 32 --labels-tiff image_labels.tif
        """
        from napari_shiftseg.segmentation.repeat import command_of

        return command_of(self)

    # -- places -------------------------------------------------------------------------------------------------------

    def spacing(self) -> tuple[tuple[float, ...], tuple[str | None, ...]]:
        """Step and unit on each axis of the labels."""
        at = [self.image.axes.index(axis) for axis in self.axes]
        return tuple(self.image.scale[k] for k in at), tuple(self.image.units[k] for k in at)

    def limits(self, frame: int) -> Limits:
        """Intensities that become 0 and 1 in a frame."""
        assert self.intensity is not None, "the pixels were not looked at"
        return self.intensity.of(frame)

    @property
    def opened(self) -> Inputs:
        """Model and image.

        Raises
        ------
        SettingsError
            If the job was loaded and not opened.
        """
        if self.inputs is None:
            raise SettingsError("the job was loaded without its image and model; open it with open_job.")
        return self.inputs

    # -- JSON ---------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON values, without model and pixels."""
        tiles = self.plan.to_dict()
        names = ("dtype", "why", "fixed", "status", "promises", "needs", "free", "disk", "reason", "out", "likeness", "seconds")
        device = self.device
        values = {
            "version": JOB_VERSION,
            "image": asdict(self.image),
            "model": asdict(self.model),
            "settings": asdict(self.settings),
            "channels": self.channels,
            "device": {
                "kind": device.kind,
                "name": device.name,
                "where": str(device.torch_device),
                "free": device.free,
            },
            "plan": {
                **{name: tiles[name] for name in ("image_shape", "write", "border", "zeros", "lattice")},
                "automatic": self.plan.automatic,
            },
            "stream": None if self.stream is None else {"strip": self.stream.strip, "width": self.stream.edges},
            "blocks": None if self.layout is None else self.layout.to_dict(),
            "clustering": asdict(self.clustering),
            "broken": [asdict(violation) for violation in self.broken],
            "size": None if self.size is None else asdict(self.size),
            "intensity": None if self.intensity is None else asdict(self.intensity),
            **{name: getattr(self, name) for name in names},
        }
        plain: dict[str, Any] = to_plain(values, what="the job")
        return plain

    def to_json(self) -> str:
        """The job as JSON; `from_json` gives an equal one back."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Job:
        """A job from JSON values, without model and image: `open_job` adds them.

        Raises
        ------
        SettingsError
            If they are no job, or one of another version of the package.
        """
        if not isinstance(values, Mapping) or values.get("version") != JOB_VERSION:
            raise SettingsError("that is no job, or one of another version of napari-shiftseg; segment the image anew.")
        try:
            known = {name: value for name, value in values.items() if name != "version"}
            device = {name: value for name, value in known.pop("device").items() if name != "compiled"}  # of older jobs
            tiles = dict(known.pop("plan"))
            plan = replace(plan_again(None, tiles), automatic=tiles["automatic"])
            channels = known.pop("channels")
            stream, blocks, intensity = known.pop("stream"), known.pop("blocks"), known.pop("intensity")
            size = known.pop("size", None)  # which older jobs do not have
            return cls(
                image=from_plain(ImageFacts, known.pop("image")),
                model=from_plain(ModelFacts, known.pop("model")),
                settings=from_plain(SegmentSettings, known.pop("settings")),
                channels=from_plain(tuple[int, ...] | None, channels),  # type: ignore[arg-type]
                device=Device(torch_device=torch.device(device.pop("where")), **_of_kinds(device, _DEVICE)),
                plan=plan,
                stream=None if stream is None else plan_stream(plan, **{**stream, "width": tuple(stream["width"])}),
                layout=None if blocks is None else Layout.from_dict(blocks, plan),
                clustering=from_plain(LabelSettings, known.pop("clustering")),
                broken=from_plain(tuple[Violation, ...], known.pop("broken")),
                size=None if size is None else from_plain(ObjectSize, size),
                intensity=None if intensity is None else from_plain(Intensity, intensity),
                **_of_kinds(known, _PLAIN),
            )
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as exc:  # torch, too
            reason = " ".join(str(exc).split())[:200]
            raise SettingsError(f"the job is damaged ({reason}); segment the image anew.") from exc

    @classmethod
    def from_json(cls, text: str) -> Job:
        """A job that `to_json` wrote; errors as of `from_dict`."""
        try:
            return cls.from_dict(json.loads(text))
        except (TypeError, ValueError, RecursionError) as exc:
            raise SettingsError("the job is no JSON; segment the image anew.") from exc


def record_of(job: Job, plan: TilePlan) -> dict[str, Any]:
    """The record of a run, without what only its end can tell."""
    model, image, intensity = job.opened.model, job.opened.image, job.intensity
    assert intensity is not None
    several = intensity.limits if len(intensity.limits) > 1 else ()
    frame_limits = {"frame_limits": [limits.to_dict() for limits in several]} if several else {}
    return {
        "run": uuid.uuid4().hex,  # tells the layers and files of one run from those of any other
        "model": {
            "name": model.name,
            "sha256": model.hash,
            "spec": model.spec.to_dict() if model.spec else None,
            "record": model.record.to_dict() if model.record else None,
        },
        "image": {"name": image.name, "source": image.source, "axes": image.axes, "note": image.note, **_known(image)},
        "plan": plan.to_dict(),
        "status": job.status,
        "violations": [asdict(v) for v in job.broken],
        "promises": job.promises,
        "settings": asdict(job.settings),
        "clustering": asdict(job.clustering),
        "diameter": None if job.size is None else job.size.diameter,
        "scaling": None if job.size is None else job.size.to_dict(),
        "limits": intensity.of(0).to_dict(),
        **frame_limits,
        "intensity": {"notes": list(intensity.notes), "warnings": list(intensity.warnings)},
        "device": {"kind": job.device.kind, "name": job.device.name},
        "versions": versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": job.to_dict(),
    }


def _known(image: Image) -> dict[str, Any]:
    """What else is known of the image: names of its channels, and where a viewer showed it."""
    known: dict[str, Any] = {"scene": image.scene, "channels": list(image.channels), "place": image.place}
    return {"sizes": image.sizes, **{key: value for key, value in known.items() if value not in (None, [])}}


def versions() -> dict[str, str]:
    """Of Python, of this package and of what its numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("napari-shiftseg", "torch", "numpy", "scipy", "scikit-image"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    return found


def kept_outputs(settings: SegmentSettings, outputs: Mapping[str, Output], *, large: bool) -> dict[str, Output]:
    """Those outputs that stay with the result of a run, out of core (`large`) or in memory."""
    everything = not large if settings.keep_embedding is None else settings.keep_embedding
    return {name: output for name, output in outputs.items() if everything or (name == "foreground" and not large)}


def translation_of(image: Image, axes: str) -> tuple[float, ...]:
    """Place of the first pixel on each of the axes, () where nothing says."""
    return tuple(image.translation[image.axes.index(axis)] for axis in axes) if image.translation else ()


def gather(image: Image, model: Model, channels: tuple[int, ...] | None, *, budget: int = LOOK_BUDGET) -> Inputs:
    """Model and image, with the frames that the network sees."""
    # tiles overlap, so a chunk on disk is asked for many times
    reader = ChunkReader(image.data, budget) if chunks_of(image.data) is not None else None
    source = image if reader is None else replace(image, data=reader)
    return Inputs(model=model, image=image, frames=source.frames(model.lattice.ndim, channels), reader=reader)


def open_job(job: Job, image: Image | None = None, model: Model | None = None) -> Job:
    """A job that was loaded, with its model and image; ImageError, ModelError if they are not there any more, or have changed.

    Parameters
    ----------
    image : Image, optional
        The image, where it is open already; by default its file is opened.
    model : Model, optional
        As for the image.
    """
    facts = job.image
    if model is None:
        if not job.model.source:
            raise ModelError(f"the model {job.model.name} of the run was in memory alone; give the model.")
        model = load_model(job.model.source)
        if model.hash != job.model.sha256:
            raise ModelError(
                f"the model {job.model.source} has changed since (SHA-256 {model.hash[:12]}, then {job.model.sha256[:12]}); "
                "give the model of the run."
            )
    if image is None:
        if not Path(facts.source).exists():
            raise ImageError(f"the image of the run, {facts.source}, is not there; give the image.")
        image = read_image(facts.source, scene=facts.scene)
    found = (tuple(image.data.shape), str(image.data.dtype))
    if found != (facts.shape, facts.dtype):
        raise ImageError(
            f"{image.source} has shape {found[0]} and type {found[1]}, where the image of the run has shape {facts.shape} and "
            f"type {facts.dtype}; give that image."
        )
    image = replace(image, axes=facts.axes, scale=facts.scale, units=facts.units, translation=facts.translation, assumed="")
    return replace(job, inputs=gather(image, model, job.channels))
