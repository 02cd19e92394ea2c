"""`UNetSpec`: the integers of a U-Net, and the walk through its layers.

All that is known of a network is a fold over this one list: forwards for sizes, memory and arithmetic, backwards for what an
output pixel sees, and for what has to be computed for the pixels of a tile that are kept (`Pass`).

Source of all rules: Rumberger et al. 2021, "How Shift Equivariance Impacts Metric Learning for Instance Segmentation".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal, overload

from napari_shiftseg.arguments import told_fields
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry.constants import LARGEST_IMAGE, MOST_CONVS, MOST_LEVELS
from napari_shiftseg.geometry.lattice import Lattice, Meaning, Output, channel_count, named_outputs
from napari_shiftseg.geometry.scaling import scaled_lattice
from napari_shiftseg.geometry.turning import turned_lattice

if TYPE_CHECKING:
    from napari_shiftseg.geometry.plan import Pass


Kind = Literal["convolution", "pooling", "upsampling", "concatenation", "head"]
Path = Literal["encoder", "decoder"]
Edges = tuple[int, ...]
Map = tuple["Layer", tuple[float, ...], tuple[float, ...]]
"""A layer, and the shapes of the maps that it reads and writes, pixels."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a U-Net."""

    kind: Kind  # what is pooled also waits as a skip, until the concatenation of its level
    path: Path  # the bottleneck ends the encoder
    level: int  # 0 is the finest; of a pooling or an upsampling the finer one
    scale: tuple[int, ...]  # pixels of the image per pixel of the level
    kernel: tuple[int, ...]  # edge of a convolution's kernel per axis, pixels; 1 of other layers
    lost: tuple[int, ...]  # pixels that a map loses on each side
    factor: tuple[int, ...]  # what a pooling divides edges by, and an upsampling multiplies them with; 1 of other layers
    # source, target: channels of the maps that it reads and writes
    source: int
    target: int
    taps: int = 0  # weights per channel read and channel written that make one value; 0 of layers that only move values

    @property
    def convolves(self) -> bool:
        """Whether a pixel of it sees its neighbours."""
        return self.kind in ("convolution", "head")

    def after(self, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Shape of what it makes of a map, pixels."""
        if self.kind == "pooling":
            return tuple(size / f for size, f in zip(shape, self.factor, strict=True))
        if self.kind == "upsampling":
            return tuple(size * f for size, f in zip(shape, self.factor, strict=True))
        return tuple(size - 2 * lost for size, lost in zip(shape, self.lost, strict=True))

    def flops(self, shape: Sequence[float]) -> float:
        """Floating-point operations of a map of this shape that it writes (a multiply-add counts as two)."""
        return 2.0 * self.taps * self.source * self.target * prod(shape)


@told_fields
@dataclass(frozen=True, kw_only=True)
class UNetSpec:
    """Description of a U-Net: everything that its arithmetic of sizes depends on.

    Parameters
    ----------
    ndim : {2, 3}
        Number of spatial axes.
    levels : int
        Number of poolings (paper: l).
    pool : int or tuple of tuple of int
        Pooling factor (paper: f), the same for all levels and axes, or one tuple of `ndim` factors per level, finest level
        first: `((1, 2, 2), (2, 2, 2))`.
    convs : int
        Convolutions per encoder level, and per decoder level unless `decoder_convs` says otherwise.
    kernel : int or tuple of int
        Odd edge of the convolution kernels, pixels; a tuple has one per axis.
    in_channels : int
        Channels of the image.
    features : int
        Channels of the finest level.
    growth : int
        Factor of channels from one level to the next coarser one.
    embedding_dim : int
        Length of the embedding vector of a pixel (E).
    foreground : bool
        Whether the network also predicts a foreground logit (channel E).
    seeds : bool
        Whether the network also predicts, of each pixel, the bandwidth of its object's embedding and how near the pixel's own
        embedding is to the object's centre (Neven et al. 2019).
    coordinates : bool
        Whether the first `ndim` embedding channels are the pixel's coordinate plus a predicted offset (Neven et al. 2019),
        pixels, instead of a free code.
    upsampling : {"learnt", "fixed"}
        Transposed convolution with ReLU, or nearest neighbour.
    padding : {"valid", "zero"}
        Whether convolutions shrink the image or pad it with zeros.
    batch_norm : bool
        Batch normalisation after each convolution (constants at test time, hence no effect on equivariance).
    decoder_convs : int, optional
        Convolutions per decoder level where they differ from `convs`.
    head_kernel : int
        Odd edge of the kernel of the last, linear convolution.

    Raises
    ------
    SettingsError
        If a value cannot describe a U-Net.

    >>> spec = UNetSpec(levels=4)
    >>> spec.period, spec.margin, spec.input_size(16)
    ((16, 16), (184, 184), 204)
    """

    ndim: int = 2
    levels: int = 3
    pool: int | tuple[tuple[int, ...], ...] = 2
    convs: int = 2
    kernel: int | tuple[int, ...] = 3
    in_channels: int = 1
    features: int = 16
    growth: int = 2
    embedding_dim: int = 3
    foreground: bool = False
    coordinates: bool = False
    upsampling: Literal["learnt", "fixed"] = "learnt"
    padding: Literal["valid", "zero"] = "valid"
    batch_norm: bool = False
    decoder_convs: int | None = None
    head_kernel: int = 1
    seeds: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def weights(self) -> int:
        """Numbers that the convolutions hold, without their offsets: the least that a file of the network has.

        >>> UNetSpec(levels=0, convs=1, features=4).weights
        48
        """
        return sum(layer.taps * layer.source * layer.target for layer in self.walk)

    @cached_property
    def walk(self) -> tuple[Layer, ...]:
        """All layers in the order in which they run; sizes, positions and costs are folds over them.

        >>> print(*(layer.kind for layer in UNetSpec(levels=1, convs=1).walk))
        convolution pooling convolution upsampling concatenation convolution head
        """
        return tuple(_layers_of(self))

    # -- per level and axis -------------------------------------------------------------------------------------------

    @property
    def factors(self) -> tuple[tuple[int, ...], ...]:
        """Pooling factors, one tuple of `ndim` integers per level, finest level first."""
        if isinstance(self.pool, int):
            return ((self.pool,) * self.ndim,) * self.levels
        return self.pool

    @property
    def kernels(self) -> tuple[int, ...]:
        """Edge of the convolution kernels per axis, pixels."""
        return (self.kernel,) * self.ndim if isinstance(self.kernel, int) else self.kernel

    @property
    def channels(self) -> tuple[int, ...]:
        """Feature channels of each level, finest first; the last is the bottleneck."""
        return tuple(self.features * self.growth**level for level in range(self.levels + 1))

    @property
    def out_channels(self) -> int:
        """Channels of the network's output."""
        return channel_count(self.outputs)

    @property
    def outputs(self) -> dict[str, Output]:
        """What the channels of the network's output say, by name, in their order.

        >>> {name: output.channels for name, output in UNetSpec(foreground=True).outputs.items()}
        {'embedding': slice(0, 3, None), 'foreground': slice(3, 4, None)}
        """
        count = self.embedding_dim
        meaning: Meaning = "offset" if self.coordinates else "code"
        outputs = [Output(name="embedding", channels=slice(0, count), meaning=meaning)]
        if self.foreground:
            last = slice(count, count + 1)
            outputs.append(Output(name="foreground", channels=last, activation="sigmoid", meaning="probability"))
        if self.seeds:
            first = outputs[-1].channels.stop
            scale, seed = slice(first, first + 1), slice(first + 1, first + 2)
            outputs.append(Output(name="bandwidth", channels=scale, activation="exp", meaning="bandwidth"))
            outputs.append(Output(name="seed", channels=seed, activation="sigmoid", meaning="probability"))
        return named_outputs(outputs)

    @property
    def period(self) -> tuple[int, ...]:
        """Smallest shift per axis under which the network is equivariant, pixels (paper: f^l)."""
        return tuple(prod(level[axis] for level in self.factors) for axis in range(self.ndim))

    @property
    def margin(self) -> tuple[int, ...]:
        """Input edge minus output edge per axis, pixels; 0 with zero padding.

        >>> UNetSpec(levels=4).margin
        (184, 184)
        """
        return tuple(2 * side for side in _lost(self.walk))

    # -- sizes --------------------------------------------------------------------------------------------------------

    @overload
    def input_size(self, at_least: int, axis: int = -1) -> int: ...
    @overload
    def input_size(self, at_least: Sequence[int], axis: int = -1) -> tuple[int, ...]: ...
    def input_size(self, at_least: int | Sequence[int], axis: int = -1) -> int | tuple[int, ...]:
        """Smallest input edge whose output edge is `at_least` pixels or more.

        Valid sizes are `period` pixels apart.

        Parameters
        ----------
        at_least : int or sequence of int
            Wanted output edge, pixels, >= 1; a sequence has one per axis.
        axis : int
            The axis that an integer refers to.

        Raises
        ------
        SizeError
            If `at_least` is below 1.

        Source: Rumberger et al. 2021, section 3.2 and Fig. 3.

        >>> UNetSpec(levels=4).input_size(16)
        204
        """
        return self.lattice.input_size(at_least, axis)

    @overload
    def output_size(self, size: int, axis: int = -1) -> int: ...
    @overload
    def output_size(self, size: Sequence[int], axis: int = -1) -> tuple[int, ...]: ...
    def output_size(self, size: int | Sequence[int], axis: int = -1) -> int | tuple[int, ...]:
        """Output edge of a legal input edge, before any crop.

        Parameters
        ----------
        size : int or sequence of int
            Input edge, pixels; a sequence has one per axis.
        axis : int
            The axis that an integer refers to.

        Raises
        ------
        SizeError
            If a pooling would not divide evenly or nothing would be left; `nearest` holds the legal input edges.

        >>> UNetSpec(levels=4).output_size(204)
        20
        """
        return self.lattice.output_size(size, axis)

    @property
    def smallest(self) -> tuple[int, ...]:
        """Smallest input edge per axis, pixels.

        >>> UNetSpec(levels=4).smallest
        (188, 188)
        """
        before = _lost(layer for layer in self.walk if layer.path == "encoder")
        # the bottleneck and the output must keep one pixel
        return tuple(
            period * max(1, (margin - 2 * side) // period + 1) + 2 * side
            for period, margin, side in zip(self.period, self.margin, before, strict=True)
        )

    @cached_property
    def lattice(self) -> Lattice:
        """What a plan needs to know of the network.

        >>> UNetSpec(levels=4).lattice.reach
        (107, 107)
        """
        edge = 2**20 * prod(self.period)
        return Lattice(
            ndim=self.ndim,
            period=self.period,
            margin=self.margin,
            reach=self.reach,
            padding=self.padding,
            smallest=self.smallest,
            grid_phase=self.grid_phase,
            in_channels=self.in_channels,
            flops_per_pixel=self.flops_per_pixel,
            bytes_per_pixel=self.peak_bytes((edge,) * self.ndim) / float(edge) ** self.ndim,
            spec=self,
        )

    # -- where the pooling grid lies, and how far a pixel sees -------------------------------------------------------

    @property
    def grid_phase(self) -> tuple[int, ...]:
        """Position of a bottleneck-cell boundary in the uncropped output per axis, pixels in `[0, period)`.

        >>> UNetSpec(levels=4).grid_phase
        (2, 2)
        """
        after = _lost(layer for layer in self.walk if layer.path == "decoder")
        return tuple(-side % period for side, period in zip(after, self.period, strict=True))

    @property
    def poolings(self) -> tuple[Layer, ...]:
        """The pooling of each level, finest first."""
        return tuple(layer for layer in self.walk if layer.kind == "pooling")

    @cached_property
    def skip_crops(self) -> tuple[tuple[int, ...], ...]:
        """What a skip loses on each side before it is joined, per level, finest first, and axis, pixels of its level."""
        deeper = [_lost(layer for layer in self.walk if layer.level > pooling.level) for pooling in self.poolings]
        return tuple(
            tuple(side // scale for side, scale in zip(sides, pooling.scale, strict=True))
            for sides, pooling in zip(deeper, self.poolings, strict=True)
        )

    @property
    def reach(self) -> tuple[int, ...]:
        """Largest distance per axis at which an input pixel can change an output pixel, pixels.

        It exceeds half the margin, because a pooled pixel stands for `f` pixels.

        >>> UNetSpec(levels=4).reach
        (107, 107)
        """
        return tuple(
            max(max(x - lo, hi - x) for x in range(period) for lo, hi in [self.sees(axis, x)])
            for axis, period in enumerate(self.period)
        )

    def sees(self, axis: int, pixel: int) -> tuple[int, int]:
        """First and last input pixel that output pixel `pixel` of a zero-padded twin depends on, along an axis."""
        return _sees(self.walk, axis, pixel)

    # -- cost ---------------------------------------------------------------------------------------------------------

    def maps(self, read: Sequence[int], part: Pass | None = None) -> Iterator[Map]:
        """Layers with the shapes of the maps that they read and write, in a pass over an input or over a part of each map.

        Parameters
        ----------
        read : sequence of int
            Shape of the input, pixels.
        part : Pass, optional
            Of which levels' maps how much goes on.
        """
        shape = tuple(map(float, read))
        for layer in self.walk:
            if part is not None and layer.kind in ("pooling", "concatenation"):
                shape = tuple(map(float, part.edges(layer)))
            before, shape = shape, layer.after(shape)
            yield layer, before, shape

    def flops(self, read: Sequence[int]) -> float:
        """Floating-point operations of one pass over an input of shape `read` (a multiply-add counts as two)."""
        return sum(layer.flops(after) for layer, _, after in self.maps(read))

    @property
    def flops_per_pixel(self) -> float:
        """Floating-point operations per output pixel of an infinitely large image: what no tiling can go below."""
        edge = 2**40 * prod(self.period)
        return self.flops((edge,) * self.ndim) / float(edge) ** self.ndim

    def peak_bytes(self, read: Sequence[int], itemsize: int = 4) -> float:
        """Estimate of the memory that one pass over an input of shape `read` takes, bytes.

        Skips that wait for the decoder, plus input, padding copy and output of the running convolution.
        """
        waiting, peak, pixels = 0.0, 0.0, float(prod(read))
        for layer, before, after in self.maps(read):
            if layer.kind == "pooling":
                waiting += layer.source * prod(before)
            elif layer.taps:
                peak = max(peak, waiting + layer.source * pixels + 2 * layer.target * prod(after))
                pixels = prod(after)
        return peak * itemsize

    # -- records ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, object]:
        """Plain values that JSON can hold; `from_dict` gives the same spec back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> UNetSpec:
        """Spec from plain values, as a model file holds them.

        Raises
        ------
        SettingsError
            If a name is unknown or a value cannot describe a U-Net.
        """
        if not isinstance(values, Mapping):
            raise SettingsError(f"the description of a network is a mapping from names to values, not {values!r:.60}.")
        known = dict(values)
        for name in ("pool", "kernel"):
            value = known.get(name)
            if isinstance(value, list | tuple):
                known[name] = tuple(tuple(v) if isinstance(v, list | tuple) else v for v in value)
        try:
            return cls(**known)  # type: ignore[arg-type]
        except TypeError as exc:
            raise SettingsError(f"the description of the network does not fit this version ({exc}).") from exc


def _layers_of(spec: UNetSpec) -> Iterator[Layer]:
    """All layers, from the image to the output: encoder, bottleneck, decoder, head."""
    channels, factors, ones = spec.channels, spec.factors, (1,) * spec.ndim
    learnt, valid = spec.upsampling == "learnt", spec.padding == "valid"

    def layer(kind: Kind, path: Path, level: int, *, kernel: Edges = ones, factor: Edges = ones, **counts: int) -> Layer:
        scale = tuple(prod(f[axis] for f in factors[:level]) for axis in range(spec.ndim))
        lost = tuple((k - 1) // 2 * valid for k in kernel)
        return Layer(kind=kind, path=path, level=level, scale=scale, kernel=kernel, lost=lost, factor=factor, **counts)

    def block(path: Path, level: int, *, source: int, count: int) -> Iterator[Layer]:
        taps, kernel = prod(spec.kernels), spec.kernels
        for before in (source, *(channels[level],) * (count - 1)):
            yield layer("convolution", path, level, source=before, target=channels[level], taps=taps, kernel=kernel)

    for level, source in enumerate((spec.in_channels, *channels[:-1])):
        yield from block("encoder", level, source=source, count=spec.convs)
        if level < spec.levels:
            yield layer("pooling", "encoder", level, source=channels[level], target=channels[level], factor=factors[level])
    for level in reversed(range(spec.levels)):
        deep, raised = channels[level + 1], channels[level + (not learnt)]
        # each output pixel of a transposed convolution has one tap
        yield layer("upsampling", "decoder", level, source=deep, target=raised, taps=int(learnt), factor=factors[level])
        joined = channels[level] + raised
        yield layer("concatenation", "decoder", level, source=joined, target=joined)
        yield from block("decoder", level, source=joined, count=spec.decoder_convs or spec.convs)
    kernel = (spec.head_kernel,) * spec.ndim
    yield layer("head", "decoder", 0, source=channels[0], target=spec.out_channels, taps=prod(kernel), kernel=kernel)


# -- folds ------------------------------------------------------------------------------------------------------------


def _lost(layers: Iterable[Layer]) -> tuple[int, ...]:
    """Pixels of the image that layers take from each side, per axis."""
    taken = [[side * scale for side, scale in zip(layer.lost, layer.scale, strict=True)] for layer in layers]
    return tuple(map(sum, zip(*taken, strict=True)))


def _sees(layers: Sequence[Layer], axis: int, pixel: int) -> tuple[int, int]:
    """First and last input pixel that output pixel `pixel` depends on, along an axis, if no map lost a pixel."""
    lo = hi = pixel
    for layer in reversed(layers):
        side, factor = (layer.kernel[axis] - 1) // 2, layer.factor[axis]
        if layer.kind == "upsampling":
            lo, hi = lo // factor, hi // factor
        elif layer.kind == "pooling":  # which sees whole pools, and so all that the skip beside it sees
            lo, hi = lo * factor, hi * factor + factor - 1
        lo, hi = lo - side, hi + side
    return lo, hi


def as_lattice(network: Lattice | UNetSpec | Mapping[str, Any]) -> Lattice:
    """The lattice of a network, of what describes one, or of what `Lattice.to_dict` wrote down.

    SettingsError if it is something else, or the values describe no network.

    >>> as_lattice(UNetSpec(levels=4).lattice.to_dict()) == UNetSpec(levels=4).lattice
    True
    """
    if isinstance(network, UNetSpec):
        return network.lattice
    if isinstance(network, Lattice):
        return network
    if not isinstance(network, Mapping):
        raise SettingsError(f"a {type(network).__name__} was given to describe a network; give a Lattice or a UNetSpec.")
    around = network.get("scaling") or network.get("turning")
    if around:
        return lattice_around(as_lattice(around["inner"]).network, network)
    if network.get("spec"):
        return UNetSpec.from_dict(network["spec"]).lattice
    try:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in network.items()}
        return Lattice(**values)
    except TypeError as exc:
        raise SettingsError(f"the description of the network does not fit this version ({exc}).") from exc


def lattice_around(network: Lattice, known: Mapping[str, Any]) -> Lattice:
    """A network with the scale and the turns that `Lattice.to_dict` wrote down of one."""
    if scaling := known.get("scaling"):
        inner = lattice_around(network, scaling["inner"])
        return scaled_lattice(inner, [(int(steps), int(per)) for steps, per in scaling["factors"]])
    return turned_lattice(network) if known.get("turning") else network


def _check(spec: UNetSpec) -> None:
    if spec.ndim not in (1, 2, 3):
        raise SettingsError(f"ndim is {spec.ndim}; give 2 for images or 3 for stacks.")
    for name, least in (
        ("levels", 0), ("convs", 1), ("in_channels", 1), ("features", 1), ("growth", 1), ("embedding_dim", 1),
        ("head_kernel", 1),
    ):  # fmt: skip
        value = getattr(spec, name)
        if not isinstance(value, int) or value < least:
            raise SettingsError(f"{name} is {value!r}; give an integer of {least} or more.")
    if spec.decoder_convs is not None and spec.decoder_convs < 1:
        raise SettingsError(f"decoder_convs is {spec.decoder_convs}; give 1 or more.")
    for name, most in (("levels", MOST_LEVELS), ("convs", MOST_CONVS), ("decoder_convs", MOST_CONVS)):
        if (getattr(spec, name) or 0) > most:
            raise SettingsError(f"{name} is {getattr(spec, name)}; give {most} or less, which is beyond any image.")
    if isinstance(spec.pool, int):
        if spec.pool < 1:
            raise SettingsError(f"pool is {spec.pool}; give a factor of 1 or more.")
    elif (
        not isinstance(spec.pool, tuple)  # a list would make the spec unhashable
        or len(spec.pool) != spec.levels
        or any(not isinstance(level, tuple) or len(level) != spec.ndim or min(level) < 1 for level in spec.pool)
    ):
        raise SettingsError(
            f"pool is {spec.pool}; give one factor, or {spec.levels} tuples (one per level) of {spec.ndim} factors."
        )
    if max(spec.period) > LARGEST_IMAGE:
        raise SettingsError(
            f"the poolings have a period of {' x '.join(map(str, spec.period))} px, beyond any image; give smaller factors "
            "or fewer levels."
        )
    kernels = (spec.kernel,) * spec.ndim if isinstance(spec.kernel, int) else spec.kernel
    if (
        not isinstance(kernels, tuple)
        or len(kernels) != spec.ndim
        or any(k < 1 or k % 2 == 0 for k in (*kernels, spec.head_kernel))
    ):
        raise SettingsError(f"kernel is {spec.kernel}, head {spec.head_kernel}; give odd sizes, one or one per axis.")
    if spec.upsampling not in ("learnt", "fixed"):
        raise SettingsError(f"upsampling is {spec.upsampling!r}; give 'learnt' or 'fixed'.")
    if spec.padding not in ("valid", "zero"):
        raise SettingsError(f"padding is {spec.padding!r}; give 'valid' or 'zero'.")
    if spec.coordinates and spec.embedding_dim < spec.ndim:
        raise SettingsError(
            f"embedding_dim is {spec.embedding_dim}, but coordinates take {spec.ndim} channels; give {spec.ndim} or more."
        )
