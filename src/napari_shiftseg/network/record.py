"""What is known of a trained network: how it was trained, how its images were normalised, how to cluster its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from napari_shiftseg.errors import ModelError
from napari_shiftseg.geometry import Lattice, Output, UNetSpec, named_outputs
from napari_shiftseg.network.normalise import Normalisation
from napari_shiftseg.network.unet import Network, UNet

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest known value per trait."""

Polarity = Literal["bright", "dark", ""]
"""Whether objects are brighter or darker than what is around them; "" where neither holds."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A statement about training data, made from images, labels and results on them."""

    kind: str = ""  # in words, such as "fluorescent nuclei"
    ndim: int
    channels: int
    polarity: Polarity = ""  # of the objects against what is around them
    diameters: tuple[float, float] = (0.0, 0.0)  # of 98 % of the objects, pixels: of circles (balls) of the same size
    median: float = 0.0  # diameter that half of the objects exceed, pixels; 0 where it is not stated
    pixel: tuple[float, ...] = ()  # edges of a pixel per axis, micrometres, where the data have one size; () where not
    # images, objects: how many there were
    images: int = 0
    objects: int = 0
    demonstration: bool = False  # the model shows something and is not meant for images of users
    traits: tuple[Ranges, ...] = ()  # of the images as the network sees them, per channel (`analysis.image_traits`)
    found: Ranges = field(default_factory=dict)  # of what the network found in them (`analysis.found_traits`)

    @property
    def typical(self) -> float:
        """Diameter of an object in the middle of those that are known, pixels; 0 where no size is stated."""
        low, high = self.diameters
        return self.median or (low * high) ** 0.5

    def describe(self) -> str:
        """The statement in a line."""
        what = self.kind or "objects"
        size = "" if self.diameters[1] == 0 else f" of {self.diameters[0]:.3g} to {self.diameters[1]:.3g} px"
        ground = {"bright": ", bright on dark", "dark": ", dark on bright", "": ""}[self.polarity]
        channels = f"{self.channels} channel" + "s" * (self.channels > 1)
        data = f"; from {self.images} images with {self.objects} objects" if self.images else ""
        return f"{what}{size}{ground}, {self.ndim}D, {channels}{data}"


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Defaults of `label_instances` that were calibrated for a model; fields as in `instances.LabelSettings`."""

    bandwidth: float = 0.75
    threshold: float = 0.5
    min_size: int = 16
    radius: float = 3.0
    dip: float = 0.95
    min_density: float = 4.0
    factor: float = 1.0  # on the bandwidths that a network says itself
    least_seed: float = 0.5
    valley: float = 0.35


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """How a model came to be; stored in the model file as JSON.

    Attributes
    ----------
    window : tuple of int
        Output window of a training tile, pixels per axis.
    neighbours : bool
        Whether a batch held a tile and its direct neighbours under one loss.
    inner : tuple of int, optional
        Edges of the centred part of the window that alone reached the loss, pixels; None where all of it did.
    steps, batch, seed : int
    data : str
        What it was trained on.
    losses : dict
        Means over the last steps.
    settings : dict
        All other settings of the training.
    known : Known or None
        What the images were like, so that others can be compared with them; None where it is not stated.
    """

    window: tuple[int, ...]
    neighbours: bool = False
    steps: int = 0
    batch: int = 1
    seed: int = 0
    data: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = field(default_factory=Normalisation)
    clustering: Clustering = field(default_factory=Clustering)
    note: str = ""
    inner: tuple[int, ...] | None = None
    known: Known | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)


_NONE: Any = None  # of what a model fills in itself


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A network with its description: a `UNet` has one, of any other network it is given.

    Attributes
    ----------
    module : UNet, Module or callable
        (B, C, *in) -> (B, channels, *out); runs in evaluation mode.
    spec : UNetSpec
        Of a `UNet`; None for another network.
    lattice : Lattice
        The sizes of the network, stated or found (`probe_period(module).lattice`).
    outputs : mapping of str to Output
        What its channels say, by name; given as a sequence of `Output`.
    record : ModelRecord or None
        None for a network without a known training.
    name : str
    hash : str
        SHA-256 of the model file, hexadecimal; empty for a model that was never saved.
    source : str
        Name of a bundled model, or path of the file; empty for a model that was never saved.

    Raises
    ------
    ModelError
        If the network does not say its sizes or outputs itself and they are not given.

    >>> from napari_shiftseg import Lattice, Output
    >>> outputs = (Output(name="embedding", channels=slice(0, 1)),)
    >>> model = Model(module=lambda x: 2 * x, lattice=Lattice(period=(1, 1), reach=(0, 0)), outputs=outputs)
    >>> model.lattice.padding, list(model.outputs)
    ('zero', ['embedding'])
    """

    module: Network
    spec: UNetSpec = _NONE
    lattice: Lattice = _NONE
    outputs: Mapping[str, Output] = field(default_factory=dict)
    record: ModelRecord | None = None
    name: str = "unnamed"
    hash: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        spec, lattice, outputs = self.spec, self.lattice, self.outputs
        if spec is None and (lattice is None or isinstance(self.module, UNet)):
            spec = getattr(self.module, "spec", None)
        if isinstance(spec, UNetSpec):
            object.__setattr__(self, "spec", spec)
            lattice, outputs = spec.lattice, outputs or spec.outputs
        if not callable(self.module):
            raise ModelError(f"a {type(self.module).__name__} was given as the network; give a Module or a callable.")
        if not isinstance(lattice, Lattice):
            raise ModelError(
                f"nothing says which sizes {type(self.module).__name__!r} takes and how far it sees; give a lattice: state it "
                "(Lattice), or take probe_period(module).lattice."
            )
        if not outputs:
            raise ModelError(
                f"nothing says what the channels of {type(self.module).__name__!r} mean; give outputs, such as "
                "(Output(name='embedding', channels=slice(0, 3)),)."
            )
        object.__setattr__(self, "lattice", lattice)
        named = named_outputs(outputs.values() if isinstance(outputs, Mapping) else outputs)
        object.__setattr__(self, "outputs", named)
        last = max(named.values(), key=lambda output: int(output.channels.stop))
        if isinstance(spec, UNetSpec) and last.channels.stop > spec.out_channels:
            raise ModelError(
                f"{last.name!r} is said to be in channels {last.channels.start} to {last.channels.stop - 1}, and the network "
                f"has {spec.out_channels}, from 0; give outputs of the network's own channels."
            )
        for output in named.values():
            if output.meaning == "offset" and output.count < lattice.ndim:
                raise ModelError(
                    f"{output.name!r} has {output.count} channels of offsets, for {lattice.ndim} axes; "
                    "give one channel per axis, or another meaning."
                )

    @property
    def unet(self) -> UNet:
        """The network, for what needs its layers.

        Raises
        ------
        ModelError
            If it is no `UNet`.
        """
        if not isinstance(self.module, UNet):
            name = type(self.module).__name__
            raise ModelError(f"{name!r} is no UNet, and only a UNet can be written to a file or run out of core; give one.")
        return self.module

    @property
    def embedding(self) -> Output:
        """The channels that instances are clustered by.

        Raises
        ------
        ModelError
            If no output has that name.
        """
        if "embedding" not in self.outputs:
            found = ", ".join(self.outputs)
            raise ModelError(f"instances are clustered by an output named 'embedding', and the model has {found}; name one so.")
        return self.outputs["embedding"]
