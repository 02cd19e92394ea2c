"""What is decided before the first pass of the network: model, image, device, tile plan, rules, limits, clustering."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_shiftseg.errors import ComplianceError, ImageError
from napari_shiftseg.geometry import Lattice, TilePlan, Violation, counted, plan_tiles, tile_exact, violations
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import ChunkReader, Frame, Image, chunks_of, load_model, read_image
from napari_shiftseg.network import Device, Model, ModelRecord, choose_device
from napari_shiftseg.segmentation.intensity import Intensity, check_intensity, scale_frames
from napari_shiftseg.segmentation.settings import SegmentSettings, Status

__all__ = [
    "Task",
    "labels_device",
    "loop_axes",
    "pixel_digest",
    "plan_image",
    "prepare",
    "promises",
    "spacing",
    "status",
    "translation_of",
]

# Decoded chunks that are kept while the image is sampled, bytes; the run sets its own.
_CHUNK_BUDGET = 32 << 20

_TILE_RULES = {"write-multiple", "lattice", "crop", "context"}


def plan_image(
    spec: Lattice,
    shape: Sequence[int],
    settings: SegmentSettings,
    device: Device | None = None,
    trained: ModelRecord | None = None,
) -> TilePlan:
    """The tile plan that `segment` will use for a frame of spatial shape `shape`, pixels, by a network that was so trained."""
    memory = settings.memory
    if memory is None and device is not None and device.free:
        # the estimate leaves out what the libraries themselves take
        memory = device.free // (2 if device.kind == "cuda" else 8)
    allow = settings.allow_noncompliant
    plan = plan_tiles(spec, shape, settings.write, allow_noncompliant=allow, memory=memory, trained=trained)
    return plan.canonical() if settings.deterministic else plan


def status(broken: Sequence[Violation], record: ModelRecord | None) -> Status:
    """What can be promised of a result.

    "tile-exact": it equals the whole-image result; "compliant": every output function that ran was trained, and every pair of
    neighbours under one loss. A compliant result is tile-exact, too, unless the tiles of a padded network stand alone as in
    its training: `promises` says both.
    """
    if any(v.rule in _TILE_RULES for v in broken):
        return "non-compliant"
    return "compliant" if record is not None and not broken else "tile-exact"


def promises(plan: TilePlan, record: ModelRecord | None) -> dict[str, Any]:
    """The two promises apart, and the counts behind the second, as JSON values.

    Returns
    -------
    dict
        "tile_exact": whether the result equals that of one pass; "as_trained": whether all that ran was trained under one loss
        (None: not known); "functions", "pairs": how many were, and of how many (None: not known).
    """
    count = counted(plan, record)
    found = violations(plan, record)
    as_trained = None if record is None else count is not None and count.complete and not found
    return {
        "tile_exact": tile_exact(plan),
        "as_trained": as_trained,
        **({"functions": None, "pairs": None} if count is None else count.to_dict()),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """All that is decided before the first pass of the network."""

    model: Model
    image: Image
    frames: Sequence[Frame]
    channels: tuple[int, ...] | None
    reader: ChunkReader | None
    device: Device
    plan: TilePlan
    broken: tuple[Violation, ...]
    clustering: LabelSettings
    intensity: Intensity


def labels_device(device: Device, settings: SegmentSettings) -> torch.device:
    """Where the windows are clustered: a CUDA device itself, unless the bits must not vary; else the processor."""
    # Apple's GPUs have no double precision
    return device.torch_device if device.kind == "cuda" and not settings.deterministic else torch.device("cpu")


def prepare(image: Any, model: Model | str | Path, settings: SegmentSettings) -> Task:
    """Decide all that can be decided before the first pass; what cannot work is refused here."""
    task = outline(image, model, settings)
    return replace(task, intensity=scale_frames(task.model.record, task.frames, settings))


def outline(image: Any, model: Model | str | Path, settings: SegmentSettings, device: Device | None = None) -> Task:
    """As `prepare`, from shapes alone: no pixel is read, and the limits leave intensities as they are.

    Parameters
    ----------
    image, model, settings
        As in `segment`.
    device : Device, optional
        What `settings.device` stands for, if that is known already.
    """
    check_intensity(settings)
    chosen = model if isinstance(model, Model) else load_model(model)
    picture = _as_image(image, chosen.lattice)
    channels = settings.channels or _default_channels(picture, chosen.lattice)
    # tiles overlap, so a chunk on disk is asked for many times
    reader = ChunkReader(picture.data, _CHUNK_BUDGET) if chunks_of(picture.data) is not None else None
    source = picture if reader is None else replace(picture, data=reader)
    frames = source.frames(chosen.lattice.ndim, channels)
    device = device or choose_device(settings.device)
    plan = plan_image(chosen.lattice, frames[0].view.shape[1:], settings, device, chosen.record)
    broken = violations(plan, chosen.record)
    if broken and not settings.allow_noncompliant:
        raise ComplianceError(" ".join(v.message for v in broken), violations=broken)
    return Task(
        model=chosen,
        image=picture,
        frames=frames,
        channels=channels,
        reader=reader,
        device=device,
        plan=plan,
        broken=broken,
        clustering=_label_settings(chosen, settings),
        intensity=scale_frames(None, frames[:1], SegmentSettings()),
    )


def _as_image(image: Any, spec: Lattice) -> Image:
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


def _default_channels(image: Image, spec: Lattice) -> tuple[int, ...] | None:
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
    base = LabelSettings(coordinates=model.embedding.meaning == "offset")
    if model.record is not None:
        base = replace(base, **asdict(model.record.clustering))
    wishes: dict[str, Any] = {"bandwidth": settings.bandwidth, "threshold": settings.threshold, "min_size": settings.min_size}
    return replace(base, **{name: value for name, value in wishes.items() if value is not None})


def pixel_digest(frames: Sequence[Frame]) -> str:
    """Hash of small patches over the first and the last frame: an image that changed is not taken for the same."""
    digest = hashlib.sha256()
    for frame in (frames[0], frames[-1]):
        shape = frame.view.shape
        for share in np.linspace(0, 1, 5):
            corner = [int(share * max(0, n - 16)) for n in shape[1:]]
            digest.update(frame.view[(slice(None), *(slice(at, at + 16) for at in corner))].tobytes())
    return digest.hexdigest()


def loop_axes(image: Image, ndim: int) -> tuple[str, tuple[int, ...]]:
    """Axes of the labels, and the lengths of those that are looped over."""
    loop = [axis for axis in ("t", "z") if axis in image.axes and (axis == "t" or ndim == 2)]
    return "".join(loop) + "zyx"[-ndim:], tuple(image.sizes[axis] for axis in loop)


def spacing(image: Image, axes: str) -> tuple[tuple[float, ...], tuple[str | None, ...]]:
    """Step and unit on each of the axes."""
    at = [image.axes.index(axis) for axis in axes]
    return tuple(image.scale[k] for k in at), tuple(image.units[k] for k in at)


def translation_of(image: Image, axes: str) -> tuple[float, ...]:
    """Place of the first pixel on each of the axes, () where nothing says."""
    return tuple(image.translation[image.axes.index(axis)] for axis in axes) if image.translation else ()
