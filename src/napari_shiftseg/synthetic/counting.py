"""How many same-looking objects a periodic-t-shift-equivariant network can tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.synthetic.lattice import count_objects
from napari_shiftseg.synthetic.recipe import BlobRecipe, ConstantRecipe, LatticeRecipe, RampRecipe, Recipe, per_axis


def capacity(spacing: int | Sequence[int], period: int | Sequence[int]) -> int:
    """How many same-looking objects on a lattice a network with this period can give different embeddings.

    Objects whose distance is a multiple of the period on every axis get the same embedding. Per axis a lattice of
    spacing p meets period / gcd(p, period) different phases.

    Parameters
    ----------
    spacing : int or sequence of int
        Lattice spacing, pixels, >= 1; one number, or one per axis.
    period : int or sequence of int
        Period of the network (paper: f^l), pixels, >= 1. One number means one axis; give a tuple for more.

    Raises
    ------
    SettingsError
        If a number is below 1 or not whole, or the lengths differ.

    Source: Rumberger et al. 2021, Corollary 2, per axis.

    >>> capacity(15, (8, 8)), capacity(16, (8, 8)), capacity(12, (8, 8))
    (64, 1, 4)
    """
    periods = per_axis(period, 1 if isinstance(period, int) else len(period), "period")
    spacings = per_axis(spacing, len(periods), "spacing")
    if min(spacings + periods, default=0) < 1:
        raise SettingsError(f"spacing {spacing} or period {period} is below 1 px; give whole pixels, 1 or more.")
    return math.prod(edge // math.gcd(step, edge) for step, edge in zip(spacings, periods, strict=True))


def capacity_line(recipe: Recipe, period: int | Sequence[int], network: str = "") -> str:
    """How many objects of an image a network with this period can tell apart, in words.

    The number is an upper bound that holds where nothing but the phase on the period tells the objects apart: equal objects on
    an exact lattice, and networks that do not see the image border (valid convolutions). SettingsError if the period is below 1
    px, not whole, or has not one entry per axis.

    Parameters
    ----------
    period : int or sequence of int
        Period of the network (paper: f^l), pixels; one number, or one per axis.
    network : str
        What to call the network; by its period if not given.

    Source: Rumberger et al. 2021, Corollaries 2 and 3.

    >>> from napari_shiftseg import synthetic
    >>> capacity_line(synthetic.preset("fig2b").recipe, 8, "l = 3, f = 2")
    '64 of 225 disks are distinguishable by l = 3, f = 2'
    """
    periods = per_axis(period, len(recipe.shape), "period")
    phases = tuple(capacity(1, (edge,)) for edge in periods)
    count, noun = math.prod(recipe.shape), "pixels"
    along = recipe.shape
    if isinstance(recipe, LatticeRecipe):
        count, along = count_objects(recipe)
        phases = tuple(capacity(step, (edge,)) for step, edge in zip(recipe.spacing, periods, strict=True))
        noun = recipe.kind
    elif isinstance(recipe, BlobRecipe):
        count, noun = recipe.count, "blobs"
    if reason := _difference(recipe):
        return f"the period sets no limit to the {count:,} {noun}: {reason}"
    told = min(math.prod(map(min, along, phases)), count)
    verb = "is" if told == 1 else "are"
    return f"{told:,} of {count:,} {noun} {verb} distinguishable by {network or f'a network of period {_times(periods)} px'}"


def _difference(recipe: Recipe) -> str:
    """What makes the objects differ; "" if nothing does."""
    if isinstance(recipe, RampRecipe):
        return "each has a value of its own"
    if isinstance(recipe, BlobRecipe):
        return "they differ in size and brightness"
    reasons = [("light", "light makes them differ"), ("noise", "noise makes them differ")]
    if not isinstance(recipe, ConstantRecipe):
        reasons += [("elastic", "deformation makes them differ"), ("jitter", "jitter makes their surroundings differ")]
    return next((text for name, text in reasons if getattr(recipe, name) > 0), "")


def _times(edges: tuple[int, ...]) -> str:
    return str(edges[0]) if len(set(edges)) == 1 else " x ".join(map(str, edges))
