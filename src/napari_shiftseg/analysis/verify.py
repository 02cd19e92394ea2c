"""`verify_tiling`: the tiles of a plan against one pass of the network over all that they cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import DEFAULT_MEMORY, TOLERANCE
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.geometry import Tile, TilePlan, channel_count
from napari_shiftseg.network import Limits, Model, Prediction, UNet, choose_device, choose_precision, predict_steps
from napari_shiftseg.network.unet import Network, PlainNet
from napari_shiftseg.views import ArrayLike, as_array

_ALONE = (
    "That is as it must be: each tile stands alone with its own zeros, as in training, so the result is compliant as trained "
    "and not tile-exact."
)

Windows = tuple[tuple[slice, slice, slice], ...]


@dataclass(frozen=True, kw_only=True)
class TilingCheck:
    """Whether a plan's tiles give what one pass gives.

    Attributes
    ----------
    ok : bool
        The largest difference is within the tolerance.
    tolerance, max_difference, mean_difference : float
        Relative to the largest absolute value of the reference (each output has its own).
    first : Tile or None
        First tile in raster order that differs by more than the tolerance.
    where : tuple of int or None
        Result pixel of the largest difference; None if nothing differs.
    differing : int
        Tiles that differ by more than the tolerance.
    compared : int
        Tiles that were compared.
    window : tuple of slice
        Part of the result that was compared, pixels.
    whole : bool
        Whether that is all of it.
    dtype : str
        Number format in which both were computed.
    text : str
        The finding in one sentence.
    """

    ok: bool
    tolerance: float
    max_difference: float
    mean_difference: float
    first: Tile | None
    where: tuple[int, ...] | None
    differing: int
    compared: int
    window: tuple[slice, ...]
    whole: bool
    dtype: str
    text: str


@told
def verify_tiling(
    model: Model | Network,
    image: ArrayLike,
    plan: TilePlan,
    *,
    device: str = "auto",
    dtype: str = "float32",
    max_pixels: int = 1 << 22,
    normalisation: Literal["global", "none"] | Limits = "global",
    tolerance: float | None = None,
    method: Literal["tiles", "stream"] = "tiles",
    on_event: Callable[[Event], None] | None = None,
) -> TilingCheck:
    """Compute a result twice, by the plan's tiles and in one pass, and compare.

    Parameters
    ----------
    model : Model, UNet, Module or callable
        Another network than a `UNet` maps (1, C, *in) to (1, E, *out) with the sizes that `plan.lattice` states.
    image : array-like
        (C, *shape), or (*shape) for a network of one channel.
    plan : TilePlan
        Made for the image's spatial shape.
    device, dtype : str
        As in `predict`; both passes are computed in this format.
    max_pixels : int
        Result pixels of the single pass. Where the result is larger, or memory smaller, a window around seams in its middle is
        compared.
    normalisation : "global", "none" or Limits
        The model's own over the whole image, none, or given limits (of a series that the image is a frame of).
    tolerance : float, optional
        Relative; None takes 1e-5 for float32, 2e-3 for float16 and tf32, 2e-2 for bfloat16.
    method : {"tiles", "stream"}
        What is compared with the single pass: the plan's tiles, or the stream over all that they cover.
    on_event : callable, optional
        Called with each `Stage` and `TileDone`.

    Returns
    -------
    TilingCheck

    Raises
    ------
    ShiftsegError
        For images, devices, settings and networks that cannot work.

    Notes
    -----
    The single pass has the phase of the plan's first tile and the tiles' own context, so a rule that is broken by tiles among
    each other shows, and nothing else does. The paper: stitched tiles of n * f^l px equal the whole image's output.

    >>> from napari_shiftseg import UNetSpec, plan_tiles
    >>> spec = UNetSpec(ndim=1, levels=2, features=2)
    >>> check = verify_tiling(UNet(spec), np.linspace(0, 1, 100, dtype=np.float32), plan_tiles(spec, (100,), write=16))
    >>> check.ok, check.compared, check.whole
    (True, 7, True)
    """
    steps = verify_steps(
        model, image, plan,
        device=device, dtype=dtype, max_pixels=max_pixels, normalisation=normalisation, tolerance=tolerance, method=method,
    )  # fmt: skip
    return drain(steps, on_event)


def verify_steps(
    model: Model | Network,
    image: ArrayLike,
    plan: TilePlan,
    *,
    device: str = "auto",
    dtype: str = "float32",
    max_pixels: int = 1 << 22,
    normalisation: Literal["global", "none"] | Limits = "global",
    tolerance: float | None = None,
    method: Literal["tiles", "stream"] = "tiles",
) -> Generator[Event, None, TilingCheck]:
    """Generator form of `verify_tiling`: yields events, returns the check."""
    image = as_array(image, "the image")
    if not isinstance(plan, TilePlan):
        raise SettingsError(f"the plan is a {type(plan).__name__}; give one that plan_tiles made.")
    chosen = choose_device(device)
    dtype = choose_precision(dtype, chosen, plan.lattice.ndim).name
    allowed = _allowed(dtype, tolerance)
    if isinstance(normalisation, str) and normalisation not in ("global", "none"):
        raise SettingsError(f"normalisation is {normalisation!r}; give 'global', 'none' or Limits.")
    network = _as_it_is(model, plan)
    if normalisation == "none" and isinstance(network, Model):
        network = network.module  # a bare network takes intensities as they are
    limits = normalisation if isinstance(normalisation, Limits) else None
    window = _window(plan, max_pixels, chosen.free)
    options: Any = {"device": chosen, "dtype": dtype, "limits": limits}
    tiles, single = plan.within(window), _one_tile(plan, window)
    yield Stage(done=0, total=len(tiles), text="tiles")
    tiled = yield from predict_steps(network, image, tiles, method=method, **options)
    yield Stage(done=0, total=1, text="one pass")
    reference = yield from predict_steps(network, image, single, method="tiles", **options)
    corner = tuple(axis[0][2].start for axis in _covering(plan, window))
    part = tuple(slice(w.start - c, w.stop - c) for w, c in zip(window, corner, strict=True))
    check = _compare(plan, window, _differences(tiled, reference, part), allowed=allowed, dtype=dtype)
    if plan.zeros == "tile" and check.compared > 1:
        return replace(check, text=f"{check.text} {_ALONE}")
    return check if method == "tiles" else replace(check, text=_stream_text(check))


def _as_it_is(model: Model | Network, plan: TilePlan) -> Model | Network:
    """The network, also one that a run by tiles would refuse: what it does there is to be seen."""
    module = model.module if isinstance(model, Model) else model
    if isinstance(module, UNet):
        return model
    if isinstance(model, Model):
        return replace(model, module=PlainNet(module, model.lattice, channel_count(model.outputs)))
    spec = plan.lattice.spec
    return PlainNet(module, plan.lattice, None if spec is None else spec.out_channels)


def _allowed(dtype: str, tolerance: float | None) -> float:
    if tolerance is None:
        return TOLERANCE[dtype]
    if not tolerance > 0:
        raise SettingsError(f"tolerance is {tolerance}; give a positive relative difference such as 1e-5.")
    return float(tolerance)


# -- which part of the result, and by which windows -------------------------------------------------------------------


def _window(plan: TilePlan, max_pixels: int, free: int) -> tuple[slice, ...]:
    """Largest part of the result that one pass can take: all of it, or whole periods around seams in its middle."""
    period, memory = plan.lattice.period, free // 4 or DEFAULT_MEMORY
    if max_pixels < prod(2 * p for p in period):
        raise SettingsError(f"max_pixels is {max_pixels}; give {prod(2 * p for p in period)} or more, two periods per axis.")
    edges = list(plan.result_shape)

    def too_large() -> bool:
        context = plan.lattice.margin if plan.lattice.padding == "valid" else tuple(2 * r for r in plan.lattice.reach)
        read = [edge + around for edge, around in zip(edges, context, strict=True)]
        return prod(edges) > max_pixels or plan.lattice.peak_bytes(read) > memory

    while too_large() and any(edge > 2 * p for edge, p in zip(edges, period, strict=True)):
        axis = max(range(len(edges)), key=lambda k: edges[k] / period[k])
        periods = math.ceil(edges[axis] / period[axis])
        edges[axis] = max(2, min(periods - 1, periods * 7 // 8)) * period[axis]
    return tuple(_around_seam(plan, axis, edge) for axis, edge in enumerate(edges))


def _around_seam(plan: TilePlan, axis: int, edge: int) -> slice:
    """Window of `edge` pixels whose middle is near a seam and whose start has the phase of a tile."""
    size, period, windows = plan.result_shape[axis], plan.lattice.period[axis], plan.axes[axis]
    if edge >= size:
        return slice(0, size)
    seams = plan.seams()[axis]
    middle = min(seams, key=lambda p: abs(p - size // 2)) if seams else size // 2
    start = max(0, min(middle - edge // 2, size - edge))
    tile = max((write.start for _, _, write in windows if write.start <= start), default=0)
    start = tile + (start - tile) // period * period
    return slice(start, start + edge)


def _covering(plan: TilePlan, window: tuple[slice, ...]) -> tuple[Windows, ...]:
    """Per axis the plan's tiles that write into a window."""
    return tuple(
        tuple(tile for tile in axis if tile[2].start < part.stop and tile[2].stop > part.start)
        for axis, part in zip(plan.axes, window, strict=True)
    )


def _one_tile(plan: TilePlan, window: tuple[slice, ...]) -> TilePlan:
    """A plan of the same image with a single tile that writes the window, in phase with the first tile that it meets."""
    axes, pads, shape = [], [], []
    for axis, (tiles, part) in enumerate(zip(_covering(plan, window), window, strict=True)):
        size = part.stop - part.start
        read, keep = _single_axis(plan, axis, tiles[0], part=part)
        before = plan.pad[axis][0]
        pads.append((before, max(plan.pad[axis][1], read.stop - before - plan.image_shape[axis])))
        axes.append(((read, keep, slice(0, size)),))
        shape.append(size)
    return replace(plan, axes=tuple(axes), pad=tuple(pads), result_shape=tuple(shape), write=tuple(shape))


def _single_axis(plan: TilePlan, axis: int, tile: tuple[slice, slice, slice], *, part: slice) -> tuple[slice, slice]:
    lattice, (read, keep, write) = plan.lattice, tile
    period, size = lattice.period[axis], part.stop - part.start
    if lattice.padding == "zero":
        # the border of the image is where the whole image has it, and false zeros stay out of reach
        halo = -(-lattice.reach[axis] // period) * period
        last = plan.pad[axis][0] + plan.image_shape[axis] + plan.pad[axis][1]
        ahead = read.start + keep.start - write.start  # from a result pixel to the padded image
        begin, end = part.start + ahead, part.stop + ahead
        start = max(read.start % period, (begin - halo) // period * period + read.start % period)
        stop = min(last, start + -(-(end + halo - start) // period) * period)
        return slice(start, stop), slice(begin - start, end - start)
    # whole periods after the tile's own start, the same crop
    ahead = (part.start - write.start) // period * period
    start, crop = read.start + ahead, keep.start + (part.start - write.start - ahead)
    back = keep.start // period * period  # a tile that was moved back is undone
    start, crop = start + back, crop - back
    length = lattice.input_size(crop + size, axis)
    return slice(start, start + length), slice(crop, crop + size)


# -- comparison -------------------------------------------------------------------------------------------------------


def _differences(tiled: Prediction, reference: Prediction, part: tuple[slice, ...]) -> npt.NDArray[np.float32]:
    """(*window) largest difference of the channels, each kind relative to the largest value of the reference."""
    largest = []
    for name, wanted in reference.outputs.items():
        found = tiled.outputs[name][(..., *part)]
        scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
        difference = np.abs(found - wanted).reshape(-1, *wanted.shape[-len(part) :]).max(axis=0) / (scale or 1.0)
        largest.append(np.where(np.isnan(difference), np.inf, difference))
    return np.asarray(np.maximum.reduce(largest), np.float32)


def _compare(
    plan: TilePlan, window: tuple[slice, ...], difference: npt.NDArray[np.float32], *, allowed: float, dtype: str
) -> TilingCheck:
    maximum = float(difference.max())
    at = np.unravel_index(int(difference.argmax()), difference.shape)
    tiles = list(replace(plan, axes=_covering(plan, window)))
    differing = [
        tile
        for tile in tiles
        if difference[
            tuple(slice(max(t.start, w.start) - w.start, min(t.stop, w.stop) - w.start)
                  for t, w in zip(tile.write, window, strict=True))
        ].max() > allowed
    ]  # fmt: skip
    whole = all(w.start == 0 and w.stop == size for w, size in zip(window, plan.result_shape, strict=True))
    ok = not differing
    return TilingCheck(
        ok=ok,
        tolerance=allowed,
        dtype=dtype,
        max_difference=maximum,
        mean_difference=float(difference.mean(dtype=np.float64)),
        first=None if ok else differing[0],
        where=None if maximum == 0 else tuple(int(p) + w.start for p, w in zip(at, window, strict=True)),
        differing=len(differing),
        compared=len(tiles),
        window=window,
        whole=whole,
        text=_text(ok, _numbers(maximum, allowed, dtype), tiles=len(tiles), differing=differing, window=window, whole=whole),
    )


def _numbers(maximum: float, allowed: float, dtype: str) -> str:
    where = "" if dtype == "float32" else f" in {dtype}"
    return f"largest difference {maximum:.1e} of the largest value, tolerance {allowed:.0e}{where}"


def _stream_text(check: TilingCheck) -> str:
    where = "the whole result" if check.whole else f"a window of {' x '.join(str(w.stop - w.start) for w in check.window)} px"
    numbers = _numbers(check.max_difference, check.tolerance, check.dtype)
    return f"The stream {'equals' if check.ok else 'differs from'} one pass over {where} ({numbers})."


def _text(ok: bool, numbers: str, *, tiles: int, differing: list[Tile], window: tuple[slice, ...], whole: bool) -> str:
    edges = " x ".join(str(w.stop - w.start) for w in window)
    where = "the whole result" if whole else f"a window of {edges} px of the result"
    if tiles == 1:
        return f"A single tile covers {where}, so there was nothing to compare."
    if ok:
        return f"{tiles} tiles equal one pass over {where} ({numbers})."
    corner = ", ".join(f"{w.start}" for w in differing[0].write)
    found = f"{len(differing)} of {tiles} tiles differ from one pass over {where} ({numbers})"
    return f"{found}; the first starts at pixel ({corner})."
