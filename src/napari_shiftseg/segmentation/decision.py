"""`decide`: the one place that decides what a run will do, from shapes alone unless the pixels lie in memory anyway."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ComplianceError, ImageError, SettingsError
from napari_shiftseg.events import Event, drain
from napari_shiftseg.geometry import (
    METHODS,
    Judgement,
    Lattice,
    StreamPlan,
    TilePlan,
    UNetSpec,
    Violation,
    judge,
    plan_tiles,
    smaller_plan,
    value_count,
)
from napari_shiftseg.instances import LabelSettings, said_by
from napari_shiftseg.instances.pieces import check_embedding
from napari_shiftseg.io import Frame, Image, WorkFolder, from_plain, load_model, read_image, to_plain, work_path
from napari_shiftseg.machine import byte_text
from napari_shiftseg.network import (
    Device,
    Model,
    ModelRecord,
    choose_device,
    choose_precision,
    choose_stream,
    free_memory,
)
from napari_shiftseg.network.turned import check_turning
from napari_shiftseg.segmentation.constants import (
    AT_ONCE,
    BASE,
    CHUNK_BUDGET,
    DEFAULT_MEMORY,
    MOST_THREADS,
    MOST_TILES,
    PER_PIXEL,
    RESULT_SHARE,
    SLAB,
    SMALLEST_PASS,
)
from napari_shiftseg.segmentation.intensity import check_intensity
from napari_shiftseg.segmentation.job import ImageFacts, Inputs, Job, ModelFacts, gather, kept_outputs
from napari_shiftseg.segmentation.layout import (
    Layout,
    lay_out,
)
from napari_shiftseg.segmentation.settings import SegmentSettings, Status
from napari_shiftseg.segmentation.sizing import ObjectSize, check_diameter, scaled_clustering, size_of, sized_lattice
from napari_shiftseg.views import as_array, in_memory

_TILE_RULES = {"write-multiple", "lattice", "crop", "context"}


@told
def decide(
    image: Any,
    model: Model | str | Path,
    settings: SegmentSettings | None = None,
    out: str | Path | None = None,
    device: str | Device | None = None,
    *,
    refuse: bool = True,
    size: ObjectSize | None = None,
) -> Job:
    """Decide all that a run of `segment` will do.

    Parameters
    ----------
    image, model, settings, out
        As in `segment`.
    device : str or Device, optional
        Instead of `settings.device`: a device that is known already.
    refuse : bool
        Raise where a rule is broken that was not allowed to be, or a run out of core has no place to write. Without it the job
        comes back all the same, for who shows it: `Job.broken` and `Job.out` say what is wrong.
    size : ObjectSize, optional
        Of the objects, as `measure_steps` measured them; without it, a diameter of "auto" is measured here.

    Returns
    -------
    Job
        Its `intensity` and `likeness` are those of the pixels, which `look` reads; pixels on a disk are not touched here.

    Raises
    ------
    ComplianceError
        If a rule is broken and not allowed; `.violations` lists them.
    ShiftsegError
        For images, models, devices and settings that cannot work.

    >>> from napari_shiftseg import synthetic
    >>> job = decide(synthetic.disks((700, 500), 40, 12).image, "nuclei", SegmentSettings(write=256, device="cpu"))
    >>> job.method, job.plan.counts, job.large
    ('tiles', (3, 2), False)
    """
    settings = _checked(settings or SegmentSettings())
    chosen = model if isinstance(model, Model) else load_model(model)
    picture = _as_image(image, chosen.lattice)
    channels = picture.channels_for(chosen.lattice.in_channels, settings.channels)
    inputs = gather(picture, chosen, channels)
    where = device if isinstance(device, Device) else choose_device(device or settings.device)
    precision = choose_precision(settings.dtype, where, chosen.lattice.ndim)
    record = chosen.record
    if size is None and settings.diameter is not None:
        size = size_of(picture, chosen, settings)
    if settings.augment:
        check_turning(chosen.outputs, chosen.lattice.ndim)
    lattice = chosen.lattice
    if size is not None or settings.augment:
        lattice = sized_lattice(chosen, size, augment=settings.augment)
    plan = plan_image(lattice, inputs.frames[0].view.shape[1:], settings, device=where, trained=record)
    # few bits round otherwise in blocks of another size; whoever wants a stream, or tiles off the period, wants just that
    fixed = settings.deterministic or (precision.reduced and settings.method != "stream" and plan.on_lattice)
    plan = plan.canonical() if fixed else plan
    judged = judge(plan, record)
    broken = judged.violations
    if broken and refuse and not settings.allow_noncompliant:
        raise ComplianceError(" ".join(v.message for v in broken), violations=broken)
    clustering = _label_settings(chosen, settings, plan.lattice)
    check_embedding(plan.result_shape, None, clustering)
    needs, free = _needs_in_memory(inputs, plan, clustering, settings=settings, device=where), free_memory()
    began = out is not None and work_path(out).exists()
    layout, stream = None, None
    reason = _too_large(settings, needs, free)
    asked = bool(settings.out_of_core or settings.workers or settings.cluster)
    if asked or (settings.out_of_core is None and (began or reason)):
        if out is None and refuse:
            why = "was asked for" if asked else f"is needed ({reason})"
            raise SettingsError(f"a run out of core {why} and has no place to write; name a store with --out (in Python: out).")
        _ = chosen.unet  # blocks are of one
        layout = _blocks(inputs, plan, clustering, settings=settings, device=where, out=out, fixed=fixed)
        plan, needs = layout.tiles, layout.memory
    else:
        stream = _stream(inputs, plan, settings, device=where, fixed=fixed)
        if stream is not None:
            needs = {**needs, "network": stream.peak_bytes}
    return Job(
        image=ImageFacts.of(picture),
        model=ModelFacts(name=chosen.name, source=chosen.source, sha256=chosen.hash),
        settings=settings,
        channels=channels,
        device=where,
        dtype=precision.name,
        why=precision.why,
        fixed=fixed,
        plan=plan,
        stream=stream,
        layout=layout,
        clustering=clustering,
        broken=broken,
        size=size,
        status=status(broken, record),
        promises=promises(judged, record),
        needs=needs,
        free=free,
        disk=0 if layout is None else layout.disk,
        reason="" if layout is None or asked else reason,
        out=None if out is None else str(out),
        inputs=inputs,
        judged=judged,
    )


def _checked(settings: SegmentSettings) -> SegmentSettings:
    """The wish in plain values, also where lists or numpy's numbers were given."""
    if not isinstance(settings, SegmentSettings):
        raise SettingsError(f"the settings are a {type(settings).__name__}; give SegmentSettings(...).")
    for name, least in (("memory", 1), ("min_size", 0), ("workers", 0)):
        value = getattr(settings, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least):
            raise SettingsError(f"{name} is {value!r}; give an integer of {least} or more.")
    for name in ("bandwidth", "threshold", "write"):
        if isinstance(getattr(settings, name), bool):
            raise SettingsError(f"{name} is {getattr(settings, name)!r}; give a number.")
    for name in ("augment",):
        if not isinstance(getattr(settings, name), bool | np.bool_):
            raise SettingsError(f"{name} is {getattr(settings, name)!r}; give True or False.")
    if settings.method not in METHODS:
        raise SettingsError(f"method is {settings.method!r}; give {', '.join(map(repr, METHODS))}.")
    check_intensity(settings)
    if settings.diameter is not None:
        check_diameter(settings.diameter)
    if settings.no_data is not None and settings.no_data != settings.no_data:
        settings = replace(settings, no_data=None)  # NaN never is data
    return from_plain(SegmentSettings, settings, what="the settings")


def plan_image(
    lattice: Lattice | UNetSpec,
    shape: Sequence[int],
    settings: SegmentSettings,
    *,
    device: Device | None = None,
    trained: ModelRecord | None = None,
) -> TilePlan:
    """The tiles of a frame of spatial shape `shape`, pixels, for a network that was so trained.

    SettingsError if so little memory is allowed that there would be too many.
    """
    memory = pass_bytes(settings, device)
    allow = settings.allow_noncompliant
    plan = plan_tiles(lattice, shape, settings.write, allow_noncompliant=allow, memory=memory, trained=trained)
    if plan.automatic and settings.memory is not None and len(plan) > MOST_TILES:
        # tiles are found in steps of a quarter, hence a half more
        lattice, edge = plan.lattice, 1.5 * (prod(plan.result_shape) / MOST_TILES) ** (1 / plan.lattice.ndim)
        least = lattice.peak_bytes(lattice.read_shape([math.ceil(edge / period) for period in lattice.period]))
        raise SettingsError(
            f"{byte_text(settings.memory)} of memory were allowed, in which a pass of the network writes "
            f"{' x '.join(map(str, plan.write))} px, and the image takes {len(plan):,} of these; allow a pass at least "
            f"{byte_text(least)}."
        )
    return plan.canonical() if settings.deterministic else plan


def pass_bytes(settings: SegmentSettings, device: Device | None = None) -> int | None:
    """Bytes that one pass of the network may take; None where nothing bounds it."""
    if settings.memory is not None:
        # of a GPU, its own memory is meant; and what is less than Python takes can only mean a pass
        bound = device is None or device.kind == "cpu"
        return max(SMALLEST_PASS, (settings.memory - BASE) // 2) if bound and settings.memory > BASE else settings.memory
    if device is not None and device.free:
        # the estimate leaves out what the libraries themselves take
        return device.free // (2 if device.kind == "cuda" else 8)
    return None


def status(broken: Sequence[Violation], record: ModelRecord | None) -> Status:
    """What can be promised of a result.

    "tile-exact": it equals the whole-image result; "compliant": every output function that ran was trained, and every pair of
    neighbours under one loss. A compliant result is tile-exact, too, unless the tiles of a padded network stand alone as in
    its training: `promises` says both.
    """
    if any(v.rule in _TILE_RULES for v in broken):
        return "non-compliant"
    return "compliant" if record is not None and not broken else "tile-exact"


def promises(judged: Judgement, record: ModelRecord | None) -> dict[str, Any]:
    """The two promises apart, and the counts behind the second, as JSON values.

    Returns
    -------
    dict
        "tile_exact": whether the result equals that of one pass; "as_trained": whether all that ran was trained under one loss
        (None: not known); "functions", "pairs": how many were, and of how many (None: not known).
    """
    count = judged.coverage
    as_trained = None if record is None else count is not None and count.complete and not judged.violations
    return {
        "tile_exact": judged.tile_exact,
        "as_trained": as_trained,
        **({"functions": None, "pairs": None} if count is None else count.to_dict()),
    }


def pixel_digest(frames: Sequence[Frame]) -> str:
    """Hash of small patches over the first and the last frame: an image that changed is not taken for the same."""
    digest = hashlib.sha256()
    for frame in (frames[0], frames[-1]):
        shape = frame.view.shape
        for share in np.linspace(0, 1, 5):
            corner = [int(share * max(0, n - 16)) for n in shape[1:]]
            digest.update(frame.view[(slice(None), *(slice(at, at + 16) for at in corner))].tobytes())
    return digest.hexdigest()


def part_sum(pixels: npt.NDArray[np.generic], corner: Sequence[int], frame: int) -> int:
    """One number for all pixels of a part of a frame; those of parts add up to that of an image, whatever the parts.

    A pixel counts with a weight of its place. The weight is odd and the sum is one modulo 2^64, so that one pixel that has
    changed always shows.

    Parameters
    ----------
    pixels : ndarray
        (C, *part).
    corner : sequence of int
        Place of the first of them along each spatial axis.
    frame : int
        Its number.
    """
    if pixels.dtype.itemsize > 8:
        pixels = pixels.astype(np.float64)
    bits = pixels.view(f"u{pixels.dtype.itemsize}")
    *before, along = [
        _weights(axis, start + size)[start:] for axis, (start, size) in enumerate(zip((0, *corner), bits.shape, strict=True))
    ]
    places = np.full(1, _weights(bits.ndim, frame + 1)[frame])
    for weights in before:
        places = np.multiply.outer(places, weights).ravel()
    rows, total = bits.reshape(-1, bits.shape[-1]), 0
    step = max(1, AT_ONCE // max(1, bits.shape[-1]))
    for at in range(0, len(rows), step):
        some = rows[at : at + step]
        # the last bits of many floats are zeros, and those before them leave the product at its other end
        some = some ^ (some >> (4 * some.dtype.itemsize))
        of_rows = (some.astype(np.uint64) * along).sum(axis=1, dtype=np.uint64)
        total += int((of_rows * places[at : at + step]).sum(dtype=np.uint64))
    return total % (1 << 64)


def sum_steps(frames: Sequence[Frame]) -> Generator[Event, None, str]:
    """Of all pixels of all frames, in words: yields bare events, reads each pixel once."""
    total = 0
    for number, frame in enumerate(frames):
        channels, rows, *rest = frame.view.shape
        step = max(1, SLAB // max(1, channels * prod(rest)))
        for at in range(0, rows, step):
            pixels = np.ascontiguousarray(frame.view[:, at : at + step])
            total += part_sum(pixels, (at, *(0 for _ in rest)), number)
            yield Event(done=number, total=len(frames))
    return sum_text(total)


def sum_of(frames: Sequence[Frame]) -> str:
    """As `sum_steps`, at once."""
    return drain(sum_steps(frames))


def sum_text(total: int) -> str:
    """A sum as a record has it."""
    return f"{total % (1 << 64):016x}"


def _weights(axis: int, count: int) -> npt.NDArray[np.uint64]:
    """Odd numbers for the first places along an axis."""
    return _drawn(axis, 1 << (count - 1).bit_length())[:count]


@lru_cache(maxsize=16)
def _drawn(axis: int, count: int) -> npt.NDArray[np.uint64]:
    # numpy promises that the raw numbers of a generator stay what they are
    found: npt.NDArray[np.uint64] = np.random.PCG64(axis).random_raw(count) | np.uint64(1)
    return found


# -- image, channels, clustering --------------------------------------------------------------------------------------


def _as_image(image: Any, lattice: Lattice) -> Image:
    if isinstance(image, Image):
        return image
    if isinstance(image, str | Path):
        return read_image(image)
    if not hasattr(type(image), "shape") and not hasattr(image, "shape"):  # a nested tensor raises an error when it is asked
        raise ImageError(f"a {type(image).__name__} was given as the image; give a path, an Image or an array.")
    image = as_array(image, "the image", kinds="biufcOSUVMm")  # whose types `Image` judges
    spatial = "zyx"[-lattice.ndim :]
    # channels first is this library's order; an array with the network's axes and nothing else needs no guess
    if len(image.shape) == lattice.ndim + 1 and image.shape[0] == lattice.in_channels:
        return Image.from_array(image, axes="c" + spatial)
    if len(image.shape) == lattice.ndim:
        return Image.from_array(image, axes=spatial)
    return Image.from_array(image)


def _label_settings(model: Model, settings: SegmentSettings, lattice: Lattice) -> LabelSettings:
    seeds = bool(said_by(model.outputs))
    base = LabelSettings(coordinates=model.embedding.meaning == "offset", seeds=seeds)
    if model.record is not None:
        base = replace(base, **asdict(model.record.clustering))
    if lattice.scaling is not None:
        base = scaled_clustering(base, lattice.scale)
    width = "factor" if seeds else "bandwidth"
    wishes: dict[str, Any] = {width: settings.bandwidth, "threshold": settings.threshold, "min_size": settings.min_size}
    return replace(base, **{name: value for name, value in wishes.items() if value is not None})


# -- memory, blocks, stream -------------------------------------------------------------------------------------------


def _needs_in_memory(
    inputs: Inputs, plan: TilePlan, clustering: LabelSettings, *, settings: SegmentSettings, device: Device
) -> dict[str, int]:
    """Bytes by purpose of a run that keeps all of its result in memory."""
    model, image = inputs.model, inputs.image
    pixels, frames = prod(plan.result_shape), len(inputs.frames)
    kept = value_count(kept_outputs(settings, model.outputs, large=False))
    there = in_memory(image.data) or inputs.reader is None
    size = prod(image.data.shape) * np.dtype(image.data.dtype).itemsize
    return {
        "base": BASE,
        "image": size if there else min(size, chunk_budget(settings)),
        "network": int(plan.lattice.peak_bytes(plan.read)) if device.kind == "cpu" else 0,
        "clustering": min(MOST_THREADS, device.spare_cores)
        * clustering.window_bytes(model.lattice.ndim, model.embedding.count),
        "result": 4 * pixels * frames * (1 + kept),
        # the frame in work has all outputs in any case
        "frame": pixels * (4 * value_count(model.outputs) + PER_PIXEL),
    }


def chunk_budget(settings: SegmentSettings) -> int:
    """Bytes of decoded chunks that a run in memory keeps, since tiles overlap."""
    return CHUNK_BUDGET if settings.memory is None else min(CHUNK_BUDGET, settings.memory // 8)


def _too_large(settings: SegmentSettings, needs: dict[str, int], free: int) -> str:
    """Why a run does not fit in memory, as half a sentence; "" where it does."""
    result, allowed = needs["result"] + needs["frame"], settings.memory
    # less than Python takes can only mean a pass of the network
    if allowed is not None and BASE < allowed < sum(needs.values()):
        return f"in memory the run takes {byte_text(sum(needs.values()))}, {byte_text(allowed)} were allowed"
    if free and result > RESULT_SHARE * free:
        return f"the result takes {result / 1e9:.3g} GB in memory, {free / 1e9:.3g} GB are free"
    return ""


def _blocks(
    inputs: Inputs,
    plan: TilePlan,
    clustering: LabelSettings,
    *,
    settings: SegmentSettings,
    device: Device,
    out: str | Path | None,
    fixed: bool,
) -> Layout:
    """The blocks of a run out of core, or those with which it began."""
    layout = None
    while layout is None:
        try:
            layout = lay_out(
                inputs,
                plan,
                clustering,
                device=device,
                memory=_memory_out_of_core(settings, device),
                fixed=fixed,
                kept=kept_outputs(settings, inputs.model.outputs, large=True),
                method=settings.method,
                began=_began(inputs, out),
            )
        except SettingsError:
            # what tiles that nobody wished for leave is too little for the smallest blocks
            smaller = smaller_plan(plan) if plan.automatic else None
            if smaller is None:
                raise
            plan = smaller
    return layout


def _began(inputs: Inputs, out: str | Path | None) -> dict[str, Any] | None:
    """What is kept of an unfinished run into `out`, if there is one to go on with."""
    if out is None:
        return None
    work = WorkFolder(out)
    known: dict[str, Any] | None = work.read_json("run.json")
    # without a finished block nothing of an earlier run is left to go on with, and of another network nothing fits
    if known is None or not (work.names("faces") or Path(out).exists()):
        return None
    return known if known.get("spec") == to_plain(inputs.model.spec) else None


def _memory_out_of_core(settings: SegmentSettings, device: Device) -> int:
    """Bytes that the run, or each of its workers, may take."""
    if settings.memory is not None:
        return settings.memory
    free = device.free if device.kind == "cpu" else 0
    share = free // (2 * max(1, settings.workers)) if free else DEFAULT_MEMORY
    return int(min(DEFAULT_MEMORY, max(share, 1 << 30)))


def _stream(inputs: Inputs, plan: TilePlan, settings: SegmentSettings, *, device: Device, fixed: bool) -> StreamPlan | None:
    """The stream that runs over whole frames, or None where tiles do."""
    return choose_stream(
        inputs.model.module,
        plan,
        "tiles" if fixed and settings.method == "auto" else settings.method,
        device=device,
        memory=None if settings.memory is None else pass_bytes(settings, device),
        deterministic=fixed,
        images=[frame.view for frame in inputs.frames],
    )
