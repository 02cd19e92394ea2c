"""What is known of a network whatever its layers are.

`Lattice` is what plans of tiles need; an `AxisPlan` what its tiles along one axis of an image read, keep and write; an `Output`
what some of its channels say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import isfinite, prod
from operator import index
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from napari_shiftseg.arguments import told_fields
from napari_shiftseg.errors import SettingsError, SizeError, TilingError
from napari_shiftseg.geometry.constants import BYTES_PER_PIXEL, FLOPS_PER_PIXEL

if TYPE_CHECKING:
    from napari_shiftseg.geometry.coverage import Zeros
    from napari_shiftseg.geometry.scaling import Scaling
    from napari_shiftseg.geometry.spec import UNetSpec
    from napari_shiftseg.geometry.turning import Turning

Activation = Literal["linear", "sigmoid", "exp"]
Meaning = Literal["code", "offset", "bandwidth", "probability", "value"]

_NAME = re.compile(r"\w([\w -]*\w)?")


@told_fields
@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Sizes that a network takes and gives, how far it sees, and what a pass costs.

    A `UNetSpec` has one (`spec.lattice`), the probe finds that of any network (`probe_period(module).lattice`), and it can be
    stated. An integer stands for all axes.

    Parameters
    ----------
    ndim : {1, 2, 3}
        Number of spatial axes.
    period : tuple of int
        Smallest shift per axis under which the network is equivariant, pixels: the product of its strides.
    margin : tuple of int
        Input edge minus output edge per axis, pixels. Default: 0.
    reach : tuple of int
        Largest distance per axis at which an input pixel can change an output pixel, pixels. Default with valid convolutions:
        half the margin and a period, less one; a network that pads has to state it.
    padding : {"valid", "zero"}
        Whether convolutions shrink the image or pad it. Default: "valid" if there is a margin.
    smallest : tuple of int
        Smallest input edge per axis, pixels; further ones follow at distances of a period. Default: a period more than the
        margin.
    grid_phase : tuple of int
        A boundary of the period grid in the uncropped output per axis, pixels in `[0, period)`. It is drawn, and no
        window depends on it. Default: 0.
    in_channels : int
        Channels of the image.
    flops_per_pixel : float
        Floating-point operations per pixel. Default: 1.5 million, as of a U-Net of four poolings and 64 features.
    bytes_per_pixel : float
        Memory that a pass takes per input pixel in float32. Default: 1504, of the same network.
    spec : UNetSpec, optional
        The network, where it is one of ours: costs are then counted layer by layer.
    scaling : Scaling, optional
        The network and its scale, where it runs on a scaled image: all sizes are then pixels of the image itself. Made by
        `scaled_lattice`.
    turning : Turning, optional
        The network, where it runs on all flips and turns of an image and their mean is taken. Made by `turned_lattice`.

    Raises
    ------
    SettingsError
        If a value is missing, or describes no network.

    >>> Lattice(ndim=2, period=(8, 8), margin=(40, 40)).reach
    (27, 27)
    >>> Lattice(period=(16, 16), reach=(61, 61)).padding
    'zero'
    """

    ndim: int = 2
    period: tuple[int, ...]
    margin: tuple[int, ...] = (0,)
    reach: tuple[int, ...] = ()
    padding: Literal["valid", "zero"] | None = None
    smallest: tuple[int, ...] = ()
    grid_phase: tuple[int, ...] = (0,)
    in_channels: int = 1
    flops_per_pixel: float = FLOPS_PER_PIXEL
    bytes_per_pixel: float = BYTES_PER_PIXEL
    spec: UNetSpec | None = None
    scaling: Scaling | None = None
    turning: Turning | None = None

    def __post_init__(self) -> None:
        if self.ndim not in (1, 2, 3) or type(self.ndim) is not int:
            raise SettingsError(f"ndim is {self.ndim!r}; give 2 for images or 3 for stacks.")
        self._set("period", self._spread("period", 1))
        self._set("margin", self._spread("margin", 0))
        self._set("padding", self.padding or ("valid" if any(self.margin) else "zero"))
        if self.padding not in ("valid", "zero"):
            raise SettingsError(f"padding is {self.padding!r}; give 'valid' or 'zero'.")
        if self.padding == "zero" and self.reach == ():
            raise SettingsError(
                "a network that pads shows false zeros at the borders of tiles as far as a pixel sees, and no reach was given; "
                "state it, or take probe_period(network).lattice."
            )
        for name, least, usual in (
            ("reach", 0, tuple(-(-m // 2) + p - 1 for m, p in zip(self.margin, self.period, strict=True))),
            ("smallest", 1, tuple(m + p for m, p in zip(self.margin, self.period, strict=True))),
            ("grid_phase", 0, (0,)),
        ):
            if getattr(self, name) == ():
                self._set(name, usual)
            self._set(name, self._spread(name, least))
        self._check()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _spread(self, name: str, least: int) -> tuple[int, ...]:
        """One whole number per axis."""
        given = getattr(self, name)
        try:
            values = tuple(map(index, given)) if isinstance(given, Iterable) else (index(given),)
        except TypeError:
            values = ()
        values = values * self.ndim if len(values) == 1 else values
        if len(values) != self.ndim or min(values) < least:
            raise SettingsError(f"{name} is {given!r}; give {self.ndim} whole pixels, one per axis, {least} or more.")
        return values

    def _check(self) -> None:
        if self.spec is not None and not hasattr(self.spec, "walk"):
            raise SettingsError(f"spec is {self.spec!r}; give the UNetSpec of the network, or None for a network of others.")
        if type(self.in_channels) is not int or self.in_channels < 1:
            raise SettingsError(f"in_channels is {self.in_channels!r}; give a whole number, 1 or more.")
        for name in ("flops_per_pixel", "bytes_per_pixel"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not (isfinite(value) and value > 0):
                raise SettingsError(f"{name} is {value!r}; give a number above 0.")
        for axis in range(self.ndim):
            least, margin, period = self.smallest[axis], self.margin[axis], self.period[axis]
            if self.grid_phase[axis] >= period:
                raise SettingsError(
                    f"grid_phase is {self.grid_phase[axis]} px on axis {axis}, and the grid has a boundary every {period} px; "
                    f"give 0 to {period - 1}."
                )
            if least <= margin:
                raise SettingsError(f"smallest is {least} px on axis {axis}, of which {margin} px are lost; give more.")
            if self.padding == "zero" and (margin or least % period):
                raise SettingsError(
                    f"axis {axis} of a padded network has a margin of {margin} px and a smallest input of {least} px; give no "
                    f"margin and a multiple of the period {period} px, or crop what sees zeros and state padding='valid'."
                )

    # -- sizes --------------------------------------------------------------------------------------------------------

    @overload
    def input_size(self, at_least: int, axis: int = -1) -> int: ...
    @overload
    def input_size(self, at_least: Sequence[int], axis: int = -1) -> tuple[int, ...]: ...
    def input_size(self, at_least: int | Sequence[int], axis: int = -1) -> int | tuple[int, ...]:
        """Smallest input edge whose output edge is `at_least` pixels or more, as `UNetSpec.input_size`."""
        if isinstance(at_least, Iterable):
            return tuple(self.input_size(int(size), k) for k, size in enumerate(self._all_axes(at_least)))
        if at_least < 1:
            raise SizeError(f"an output edge of {at_least} px was asked for; give 1 px or more.", nearest=(1,))
        period, smallest = self.period[axis], self.smallest[axis]
        missing = at_least - (smallest - self.margin[axis])
        return smallest + max(0, -(-missing // period)) * period

    @overload
    def output_size(self, size: int, axis: int = -1) -> int: ...
    @overload
    def output_size(self, size: Sequence[int], axis: int = -1) -> tuple[int, ...]: ...
    def output_size(self, size: int | Sequence[int], axis: int = -1) -> int | tuple[int, ...]:
        """Output edge of a legal input edge, before any crop, as `UNetSpec.output_size`."""
        if isinstance(size, Iterable):
            return tuple(self.output_size(int(edge), k) for k, edge in enumerate(self._all_axes(size)))
        period, smallest = self.period[axis], self.smallest[axis]
        if size < smallest or (size - smallest) % period:
            lower = max(smallest, size - (size - smallest) % period)
            nearest = (lower,) if size < smallest else (lower, lower + period)
            raise SizeError(
                f"an input edge of {size} px does not pass through the network (poolings must divide evenly); "
                f"use {' or '.join(map(str, nearest))} px.",
                nearest=nearest,
            )
        return size - self.margin[axis]

    def _all_axes(self, values: Sequence[int]) -> tuple[int, ...]:
        if len(values) != self.ndim:
            raise SizeError(f"{len(values)} sizes were given for {self.ndim} axes; give {self.ndim}.")
        return tuple(values)

    @property
    def halo(self) -> tuple[int, ...]:
        """Context of a zero-padded tile per axis: whole periods that cover all that a pixel sees, and the smallest input."""
        missing = [-(-(least - period) // 2) for least, period in zip(self.smallest, self.period, strict=True)]
        around = map(max, self.reach, missing)
        return tuple(-(-most // period) * period for most, period in zip(around, self.period, strict=True))

    def sees(self, axis: int, pixel: int) -> tuple[int, int]:
        """First and last input pixel that output pixel `pixel` of a padded network may depend on, along an axis."""
        if self.spec is not None:
            return self.spec.sees(axis, pixel)
        return pixel - self.reach[axis], pixel + self.reach[axis]

    # -- cost ---------------------------------------------------------------------------------------------------------

    def flops(self, read: Sequence[int]) -> float:
        """Floating-point operations of one pass over an input of shape `read` (a multiply-add counts as two)."""
        known = self.scaling or self.turning or self.spec
        return self.flops_per_pixel * prod(read) if known is None else known.flops(read)

    def peak_bytes(self, read: Sequence[int], itemsize: int = 4) -> float:
        """Estimate of the memory that one pass over an input of shape `read` takes, bytes; values have `itemsize` bytes."""
        known = self.scaling or self.turning or self.spec
        return self.bytes_per_pixel * prod(read) * itemsize / 4 if known is None else known.peak_bytes(read, itemsize)

    def fewer_periods(self, periods: Sequence[int], memory: float) -> list[int]:
        """Periods per axis that a tile may write, as many or fewer, so that its pass fits in `memory` bytes; at least one."""
        fewer = list(periods)
        while self.peak_bytes(self.read_shape(fewer)) > memory and max(fewer) > 1:
            axis = max(range(self.ndim), key=lambda k: fewer[k] * self.period[k] * (fewer[k] > 1))
            fewer[axis] = max(1, fewer[axis] * 3 // 4)
        return fewer

    def read_shape(self, periods: Sequence[int]) -> tuple[int, ...]:
        """Input edges of a tile inside an image that writes so many periods per axis, pixels."""
        write = tuple(n * p for n, p in zip(periods, self.period, strict=True))
        if self.padding == "zero":
            return tuple(edge + 2 * halo for edge, halo in zip(write, self.halo, strict=True))
        return self.input_size(write)

    # -- what is around the network ------------------------------------------------------------------------------------

    @property
    def network(self) -> Lattice:
        """Of the network itself: another one where it runs on a scaled image, or on turned ones."""
        around = self.scaling or self.turning
        return self if around is None else around.inner.network

    @property
    def turned(self) -> Turning | None:
        """The turns of an image that the network runs on, where it does so, also on a scaled one."""
        return self.turning or (None if self.scaling is None else self.scaling.inner.turned)

    @property
    def scale(self) -> tuple[float, ...]:
        """Pixels of the network per pixel of the image, per axis."""
        return (1.0,) * self.ndim if self.scaling is None else self.scaling.scale

    # -- records ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `as_lattice` makes the same lattice of them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        scaling, turning = values.pop("scaling"), values.pop("turning")
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        plain["spec"] = None if self.spec is None else self.spec.to_dict()
        if scaling is not None:
            plain["scaling"] = {"inner": scaling.inner.to_dict(), "factors": [list(pair) for pair in scaling.factors]}
        if turning is not None:
            plain["turning"] = {"inner": turning.inner.to_dict(), "turns": len(turning.turns)}
        return plain

    def same_sizes(self, other: Lattice) -> bool:
        """Whether both take, give and see the same, so that a plan of one is a plan of the other."""
        names = ("ndim", "padding", "in_channels", "period", "margin", "reach", "smallest")
        return all(getattr(self, name) == getattr(other, name) for name in names)


# -- windows along one axis --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AxisPlan:
    """Windows of the tiles along one axis, pixels."""

    size: int  # of the result
    origin: int  # image pixel at which result pixel 0 lies
    pad: tuple[int, int]  # pixels reflected before and after the image
    windows: tuple[tuple[slice, slice, slice], ...]  # per tile what it reads, keeps and writes, as `Tile` has them


@dataclass(frozen=True, kw_only=True)
class ImageAxis:
    """One axis of an image that a network runs along."""

    lattice: Lattice
    axis: int  # its number
    size: int  # of the image, pixels
    border: Literal["reflect", "valid"]
    zeros: Zeros  # where a network that pads meets zeros

    @property
    def period(self) -> int:
        """Of the lattice along the axis, pixels."""
        return self.lattice.period[self.axis]

    @cached_property
    def computed(self) -> int:
        """Pixels that are computed: whole periods; TilingError if the image is too small for one period without reflection."""
        padded, period = self.lattice.padding == "zero", self.period
        if self.border == "reflect" or (padded and self.zeros == "image"):
            whole = -(-self.size // period) * period
            return max(whole, self._smallest) if padded and self.zeros == "image" else whole
        if padded:
            least = 2 * self._halo + period
            if self.size < least:
                raise self._too_small(least)
            return (self.size - least) // period * period + period
        periods = (self.size - self._margin) // period
        while periods > 0 and self.lattice.input_size(periods * period, self.axis) > self.size:
            periods -= 1
        if periods < 1:
            raise self._too_small(self.lattice.input_size(period, self.axis))
        return periods * period

    @property
    def _margin(self) -> int:
        return self.lattice.margin[self.axis]

    @property
    def _halo(self) -> int:
        return self.lattice.halo[self.axis]

    @property
    def _smallest(self) -> int:
        return self.lattice.smallest[self.axis]

    def _too_small(self, least: int) -> TilingError:
        return TilingError(
            f"axis {self.axis} of the image has {self.size} px; without reflection the network needs {least} px: "
            f"use border='reflect' or a larger image.",
            nearest=(least,),
        )

    def planned(self, write: int, part: slice | None = None) -> AxisPlan:
        """Windows of tiles that paste `write` pixels; of a part that starts on the lattice its own, counted from its start.

        Source: Rumberger et al. 2021, section 3.2.
        """
        if self.zeros == "tile":
            return self._alone(write)
        if self.lattice.padding == "zero":
            return (self._with_zeros if self.zeros == "image" else self._reflected)(write, part)
        return self._valid(write, part)

    def _valid(self, write: int, part: slice | None) -> AxisPlan:
        size, period, domain, reflect = self.size, self.period, self.computed, self.border == "reflect"
        read = self.lattice.input_size(write, self.axis)
        # the crop is constant, else tiles differ in phase (section 3.2)
        crop = (self.lattice.output_size(read, self.axis) - write) // 2
        on_lattice = write % period == 0
        if not reflect and not on_lattice:
            domain = size - self._margin - 2 * crop  # naive tiling goes on as long as its tiles fit
        lost = self._margin // 2 + crop
        begin, stop = 0, size if reflect else domain
        if part is not None:
            begin, stop = part.start, part.stop
            domain = min(domain, begin + -(-(stop - begin) // period) * period)
        windows, reach = [], 0
        for start in range(begin, domain, write):
            # the last tile moves back by whole periods, so that it does not read beyond what the image needs
            back = max(0, start + write - domain) if on_lattice else 0
            first, end = start - back, min(start + write, stop)
            if end > start:
                keep = slice(crop + back, crop + back + end - start)
                windows.append((slice(first, first + read), keep, slice(start - begin, end - begin)))
                reach = max(reach, first + read)
        after = max(0, reach - lost * reflect - size)
        if not reflect and not on_lattice:
            windows = [w for w in windows if w[0].stop <= size and w[2].stop - w[2].start == write]
            stop, after = windows[-1][2].stop, 0
        before, origin = (lost, 0) if reflect else (0, lost)
        return AxisPlan(size=stop - begin, origin=origin, pad=(before, after), windows=tuple(windows))

    def _with_zeros(self, write: int, part: slice | None) -> AxisPlan:
        """Tiles of a zero-padded network: enough real context, and the image border where the whole image has it."""
        period, wanted = self.period, part or slice(0, self.size)
        windows = []
        for start in range(wanted.start, wanted.stop, write):
            end = min(start + write, wanted.stop)
            first = max(0, (start - self._halo) // period * period)
            last = min(self.computed, max(-(-(end + self._halo) // period) * period, first + self._smallest))
            first = max(0, min(first, last - self._smallest))
            pasted = slice(start - wanted.start, end - wanted.start)
            windows.append((slice(first, last), slice(start - first, end - first), pasted))
        return AxisPlan(size=windows[-1][2].stop, origin=0, pad=(0, self.computed - self.size), windows=tuple(windows))

    def _reflected(self, write: int, part: slice | None) -> AxisPlan:
        """Tiles of a padded network that never sees its zeros: what lies beyond the image is its reflection."""
        around, period = self._halo, self.period
        wanted = part or slice(0, self.size if self.border == "reflect" else self.computed)
        windows = []
        for start in range(wanted.start, wanted.stop, write):
            count = min(start + write, wanted.stop) - start
            read = slice(start, start + -(-count // period) * period + 2 * around)
            pasted = slice(start - wanted.start, start - wanted.start + count)
            windows.append((read, slice(around, around + count), pasted))
        before = around if self.border == "reflect" else 0
        after = max(0, windows[-1][0].stop - before - self.size)
        return AxisPlan(size=windows[-1][2].stop, origin=around - before, pad=(before, after), windows=tuple(windows))

    def _alone(self, edge: int) -> AxisPlan:
        """Tiles that stand alone: what they read is what they write, and the last one is filled up by reflection.

        Without reflection only whole tiles are computed.
        """
        count = -(-self.size // edge) if self.border == "reflect" else self.size // edge
        if count < 1:
            raise self._too_small(edge)
        stop = min(self.size, count * edge)
        writes = [slice(start, min(start + edge, stop)) for start in range(0, stop, edge)]
        windows = tuple((slice(w.start, w.start + edge), slice(0, w.stop - w.start), w) for w in writes)
        return AxisPlan(size=stop, origin=0, pad=(0, max(0, count * edge - self.size)), windows=windows)


# -- what the channels say ----------------------------------------------------------------------------------------------


MEANINGS: Mapping[str, Meaning] = {"foreground": "probability", "bandwidth": "bandwidth", "seed": "probability"}
"""What single values of these names say."""


@told_fields
@dataclass(frozen=True, kw_only=True)
class Output:
    """Channels of a network's output that say one thing.

    Parameters
    ----------
    name : str
        "embedding" is what instances are clustered by, "foreground" where they are, "bandwidth" and "seed" are what it says of
        each object's extent and centre.
    channels : slice
        Where they lie in the output.
    activation : {"linear", "sigmoid", "exp"}
        What makes values of the channels.
    meaning : {"code", "offset", "bandwidth", "probability", "value"}
        A free embedding; an embedding whose first `ndim` channels are offsets from a pixel to the centre of its object, pixels;
        the standard deviation of an object's embedding, in its units; a probability; or any other value.

    Raises
    ------
    SettingsError
        If a value is none of these, or there is no channel.

    >>> Output(name="embedding", channels=slice(0, 3)).shape((40, 50))
    (3, 40, 50)
    >>> Output(name="foreground", channels=slice(3, 4), activation="sigmoid", meaning="probability").shape((40, 50))
    (40, 50)
    """

    name: str
    channels: slice
    activation: Activation = "linear"
    meaning: Meaning = "code"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or self.name in ("labels", "image"):
            # it names a folder of a result, in which labels and image lie as well
            raise SettingsError(
                f"the name of an output is {self.name!r}; give a word such as 'embedding', of letters, digits, -, _ and "
                "spaces, and not 'labels' or 'image', which a result has anyway."
            )
        if self.activation not in get_args(Activation):
            raise SettingsError(f"activation is {self.activation!r}; give {', '.join(map(repr, get_args(Activation)))}.")
        if self.meaning not in get_args(Meaning):
            raise SettingsError(f"meaning is {self.meaning!r}; give {', '.join(map(repr, get_args(Meaning)))}.")
        part = self.channels
        whole = isinstance(part, slice) and isinstance(part.start, int | None) and isinstance(part.stop, int)
        if not whole or part.step not in (None, 1) or not 0 <= (part.start or 0) < part.stop:
            raise SettingsError(f"the channels of {self.name!r} are {part!r}; give a slice with an end, such as slice(0, 3).")
        object.__setattr__(self, "channels", slice(part.start or 0, part.stop))
        if self.name == "embedding" and self.meaning not in ("code", "offset"):
            raise SettingsError(f"the meaning of 'embedding' is {self.meaning!r}; give 'code' or 'offset'.")
        wanted = MEANINGS.get(self.name)
        if wanted is not None and self.vector:
            raise SettingsError(
                f"{self.name!r} has {self.count} channels, "
                f"meaning {self.meaning!r}; give one of meaning {wanted!r}, or another name."
            )

    @property
    def count(self) -> int:
        """Number of channels."""
        return int(self.channels.stop - self.channels.start)

    @property
    def vector(self) -> bool:
        """Whether a pixel has a vector of values, and an array of them a channel axis; else it has one value."""
        return self.count > 1 or self.meaning in ("code", "offset")

    def shape(self, pixels: Sequence[int]) -> tuple[int, ...]:
        """Shape of its array over so many pixels per axis."""
        return (self.count, *pixels) if self.vector else tuple(pixels)


def named_outputs(outputs: Iterable[Output]) -> dict[str, Output]:
    """Outputs by their names; SettingsError if there are none, or two of one name."""
    listed = tuple(outputs)
    if not listed or not all(isinstance(output, Output) for output in listed):
        raise SettingsError(f"the outputs of the network are {listed!r}; give one Output or more.")
    named = {output.name: output for output in listed}
    if len({name.casefold() for name in named}) < len(listed):
        raise SettingsError(f"outputs are named {', '.join(o.name for o in listed)}; give each a name of its own.")
    return named


def channel_count(outputs: Mapping[str, Output]) -> int:
    """Channels that a network with these outputs gives."""
    return max(int(output.channels.stop) for output in outputs.values())


def value_count(outputs: Mapping[str, Output]) -> int:
    """Values per pixel that arrays of these outputs hold."""
    return sum(output.count for output in outputs.values())
