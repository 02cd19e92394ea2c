"""Recipes: frozen values that say everything about a synthetic image, so that the same recipe gives the same pixels."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, SupportsIndex, TypeAlias

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.synthetic.constants import LARGEST_EXACT_FLOAT32, LARGEST_LABEL, LARGEST_RADIUS


@dataclass(frozen=True, kw_only=True)
class LatticeRecipe:
    """Equal objects on a lattice; every tuple has one entry per axis, pixels. Its kinds are disks and squares."""

    shape: tuple[int, ...]
    spacing: tuple[int, ...]
    radius: float
    offset: tuple[int, ...]
    jitter: int = 0
    light: float = 0.0
    noise: float = 0.0
    elastic: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_shape(self.shape)
        _check_axes(self.spacing, "spacing", len(self.shape))
        _check_axes(self.offset, "offset", len(self.shape))
        if min(self.spacing) < 1:
            raise SettingsError(f"spacing {self.spacing} is below 1 px; give whole pixels, 1 or more, per axis.")
        if not 0 < self.radius <= LARGEST_RADIUS:
            raise SettingsError(f"radius {self.radius} px is out of range; give more than 0, at most {LARGEST_RADIUS}.")
        _check_whole((self.jitter,), "jitter")
        if self.jitter < 0:
            raise SettingsError(f"jitter {self.jitter} px is negative; give 0 or more whole pixels.")
        if self.jitter and max(self.jitter, self.radius / 2) > min(self.spacing):
            raise SettingsError(
                f"jitter {self.jitter} px does not suit radius {self.radius:g} px and spacing {self.spacing}; give a jitter "
                "of at most the spacing, and a radius of at most twice the spacing."
            )
        _check_share(self.light, "light")
        _check_amount(self.noise, "noise")
        _check_amount(self.elastic, "elastic")
        _check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class DiskRecipe(LatticeRecipe):
    """Disks (balls) on a lattice."""

    kind: Literal["disks"] = field(default="disks", init=False)


@dataclass(frozen=True, kw_only=True)
class SquareRecipe(LatticeRecipe):
    """Squares (cubes) on a lattice; `radius` is half of an edge."""

    kind: Literal["squares"] = field(default="squares", init=False)


@dataclass(frozen=True, kw_only=True)
class ConstantRecipe:
    """One value everywhere; every pixel is an object of its own."""

    kind: Literal["constant"] = field(default="constant", init=False)
    shape: tuple[int, ...]
    value: float = 1.0
    light: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_shape(self.shape)
        if not 0 <= self.value <= 1:
            raise SettingsError(f"value {self.value} is not between 0 and 1; give a grey value in that range.")
        _check_share(self.light, "light")
        _check_amount(self.noise, "noise")
        _check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class RampRecipe:
    """Pixel values that grow strictly along every diagonal; every pixel is an object of its own."""

    kind: Literal["ramp"] = field(default="ramp", init=False)
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape(self.shape)
        if math.prod(self.shape) > LARGEST_EXACT_FLOAT32:
            raise SettingsError(
                f"shape {self.shape} has more pixels than float32 has exact whole numbers ({LARGEST_EXACT_FLOAT32}), "
                "so a strict ramp is not possible; give a smaller shape."
            )


@dataclass(frozen=True, kw_only=True)
class BlobRecipe:
    """Nuclei-like ellipsoids of different sizes; `radius` is the smallest and the largest mean radius, pixels."""

    kind: Literal["blobs"] = field(default="blobs", init=False)
    shape: tuple[int, ...]
    count: int
    radius: tuple[float, float] = (6.0, 10.0)
    touching: float = 0.3
    noise: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        check_shape(self.shape)
        _check_whole((self.count,), "count")
        if self.count < 0:
            raise SettingsError(f"count {self.count} is negative; give 0 or more blobs.")
        if len(self.radius) != 2:
            raise SettingsError(f"radius {self.radius} is not a pair; give (smallest, largest), pixels.")
        if not 1 <= self.radius[0] <= self.radius[1] <= min(self.shape) / 2:
            raise SettingsError(
                f"radius {self.radius} px is out of range for shape {self.shape}; give (smallest, largest), "
                f"1 or more each and at most half of the shortest edge ({min(self.shape) / 2:g} px)."
            )
        _check_share(self.touching, "touching")
        _check_amount(self.noise, "noise")
        _check_seed(self.seed)


Recipe: TypeAlias = DiskRecipe | SquareRecipe | ConstantRecipe | RampRecipe | BlobRecipe
KINDS: dict[str, type[Recipe]] = {
    "disks": DiskRecipe,
    "squares": SquareRecipe,
    "constant": ConstantRecipe,
    "ramp": RampRecipe,
    "blobs": BlobRecipe,
}


def recipe_from(stored: Mapping[str, object]) -> Recipe:
    """Recipe from what `dataclasses.asdict` gave, also after a trip through JSON (which turns tuples into lists).

    SettingsError if the kind is unknown, or a field is unknown, missing or has a bad value.
    """
    kind = stored.get("kind")
    recipe = KINDS.get(kind) if isinstance(kind, str) else None
    if recipe is None:
        raise SettingsError(f"recipe kind {kind!r} is unknown; use one of {', '.join(KINDS)}.")
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items() if name != "kind"}
    unknown = sorted(set(values) - {f.name for f in fields(recipe)})
    if unknown:
        raise SettingsError(f"a {kind} recipe has no field {', '.join(unknown)}; leave it out.")
    try:
        return recipe(**values)  # type: ignore[arg-type]  # stored values are checked by the recipe itself
    except TypeError as error:
        raise SettingsError(f"the stored {kind} recipe lacks a field or has one of a wrong type: {error}") from error


def recipe_of(kind: str, shape: Sequence[int], **values: object) -> Recipe:
    """Recipe from plain values: one number for `spacing` or `offset` means the same on every axis.

    SettingsError if the kind or a field is unknown, or a value is bad.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    shape : sequence of int
        Image edges, pixels.
    **values
        Fields of the recipe.

    >>> recipe_of("disks", (64, 64), spacing=15, radius=5, offset=0).spacing
    (15, 15)
    """
    edges = shape_tuple(shape)
    types = {field.name: field.type for field in fields(KINDS[kind])} if kind in KINDS else {}
    plain: dict[object, Callable[[Any, str], object]] = {
        "int": whole,
        "float": number,
        "tuple[float, float]": pair,
        "tuple[int, ...]": lambda value, name: per_axis(value, len(edges), name),
    }
    made = {name: plain[types[name]](value, name) if types.get(name) in plain else value for name, value in values.items()}
    return recipe_from({**made, "kind": kind, "shape": edges})


def per_axis(value: int | Sequence[int], ndim: int, name: str) -> tuple[int, ...]:
    """`value` as a tuple with one whole number per axis; one number means the same on every axis."""
    items = list(value) if isinstance(value, Sequence) or hasattr(value, "__iter__") else [value] * ndim
    try:
        result = tuple(operator.index(item) for item in items)
    except TypeError:
        raise SettingsError(f"{name} {value!r} is not made of whole numbers; give whole pixels.") from None
    _check_axes(result, name, ndim)
    return result


def shape_tuple(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of whole numbers, checked."""
    try:
        result = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise SettingsError(f"shape {shape!r} is not made of whole numbers; give for example (256, 256).") from None
    check_shape(result)
    return result


def number(value: float, name: str) -> float:
    """`value` as a plain float (numpy scalars would not survive JSON)."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} {value!r} is not a number; give a number.") from None


def pair(values: tuple[float, float], name: str) -> tuple[float, float]:
    """`values` as two plain floats."""
    try:
        lowest, highest = values
    except (TypeError, ValueError):
        raise SettingsError(f"{name} {values!r} is not a pair; give (smallest, largest).") from None
    return number(lowest, name), number(highest, name)


def whole(value: SupportsIndex | float, name: str) -> int:
    """`value` as a plain int."""
    try:
        return operator.index(value)  # type: ignore[arg-type]  # a float is refused below
    except TypeError:
        raise SettingsError(f"{name} {value!r} is not a whole number; give a whole number.") from None


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise unless `shape` has 1 to 3 positive edges and its pixels can be counted by an int32 label."""
    _check_whole(shape, "shape")
    if not 1 <= len(shape) <= 3:
        raise SettingsError(f"shape {shape} has {len(shape)} dimensions; give 1, 2 or 3 edges, for example (256, 256).")
    if min(shape) < 1:
        raise SettingsError(f"shape {shape} has an edge below 1 px; give positive edges.")
    if math.prod(shape) > LARGEST_LABEL:
        raise SettingsError(f"shape {shape} has more than {LARGEST_LABEL} pixels; give a smaller shape.")


def _check_whole(values: tuple[int, ...], name: str) -> None:
    if not all(isinstance(value, int) for value in values):  # numpy integers would not survive JSON
        raise SettingsError(f"{name} {values} is not made of whole numbers; give plain integers.")


def _check_axes(values: tuple[int, ...], name: str, ndim: int) -> None:
    _check_whole(values, name)
    if len(values) != ndim:
        raise SettingsError(f"{name} {values} has {len(values)} entries for {ndim} axes; give one number or {ndim}.")
    if max(map(abs, values)) > LARGEST_LABEL:
        raise SettingsError(f"{name} {values} px is beyond any image; give less than {LARGEST_LABEL}.")


def _check_share(share: float, name: str) -> None:
    if not 0 <= share <= 1:
        raise SettingsError(f"{name} {share} is not a fraction; give a number from 0 to 1.")


def _check_amount(sigma: float, name: str) -> None:
    if not 0 <= sigma < math.inf:
        raise SettingsError(f"{name} {sigma} is not a standard deviation; give 0 or a positive number.")


def _check_seed(seed: int) -> None:
    _check_whole((seed,), "seed")
    if seed < 0:
        raise SettingsError(f"seed {seed} is negative; give 0 or a positive whole number.")
