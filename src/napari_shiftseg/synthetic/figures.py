"""Recipes with names: the images of the paper's figures, and what else shows its point."""

from __future__ import annotations

from dataclasses import dataclass

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.synthetic.counting import capacity_line
from napari_shiftseg.synthetic.recipe import ConstantRecipe, DiskRecipe, RampRecipe, Recipe, SquareRecipe

THREE, FOUR = UNetSpec(levels=3), UNetSpec(levels=4)
FIXED = UNetSpec(levels=3, upsampling="fixed")
NARROW = UNetSpec(levels=4, features=3)
PADDED = UNetSpec(levels=2, features=3, upsampling="fixed", padding="zero", decoder_convs=1, head_kernel=3)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A recipe with a name."""

    name: str
    recipe: Recipe
    shows: str  # one sentence on what the image shows
    spec: UNetSpec  # the network that the image is meant for

    @property
    def capacity(self) -> str:
        """How many of the objects the network can tell apart, in words."""
        network = f"l = {self.spec.levels}, f = {self.spec.pool}"
        if self.spec.padding == "zero":
            return f"near the border {network} knows the place by its zero padding, so the period alone sets no limit there"
        return capacity_line(self.recipe, self.spec.period, network)


def presets() -> dict[str, Preset]:
    """All presets by name, those of the paper's figures first.

    Source: Rumberger et al. 2021, Fig. 2 to 7, and the sizes of its public notebooks.

    >>> ", ".join(list(presets())[:4])
    'fig1, fig2a, fig2b, fig2c'
    """
    return {preset.name: preset for preset in (*_figures(), *_variations())}


def preset(name: str) -> Preset:
    """A preset by name; SettingsError if there is no preset of that name.

    >>> preset("fig2a").capacity
    '1 of 196 disks is distinguishable by l = 3, f = 2'
    """
    known = presets()
    if name not in known:
        raise SettingsError(f"there is no preset {name!r}; use one of {', '.join(known)}.")
    return known[name]


def _figures() -> tuple[Preset, ...]:
    ramp = RampRecipe(shape=(220, 220))
    return (
        Preset(
            name="fig1",
            recipe=ramp,
            shows="Moved about, this image makes each place meet all f^(dl) output functions.",
            spec=FOUR,
        ),
        _disks("fig2a", (220, 16, 4), "Disks at multiples of the period look the same to the network: one embedding."),
        _disks("fig2b", (220, 15, 4), "Disks at a spacing that shares no factor with the period get different embeddings."),
        _disks(
            "fig2c", (220, 15, 4), "Fixed upsampling tells as many of them apart, since the image is not constant.", spec=FIXED
        ),
        _disks(
            "fig3", (284, 13, 0), "Stitched from tiles that are not cropped to the period, disks break at the seams.", spec=FOUR
        ),
        _constant("fig4", 236, "Learnt upsampling gives a constant image as many embeddings as it has phases.", spec=NARROW),
        _constant("fig5a", 40, "Zero padding tells all pixels of a small constant image apart.", spec=PADDED),
        _constant("fig5b", 64, "Beyond the reach of the zero padding, the pixels of a constant image repeat.", spec=PADDED),
        _disks("fig6_noise", (292, 16, 0), "Slight noise suffices to tell disks on the period apart.", spec=FOUR, noise=0.1),
        _disks("fig6_elastic", (284, 16, 0), "Slight deformation suffices as well.", spec=FOUR, elastic=0.2),
        _disks(
            "fig7a", (288, 16, -4), "Noisy disks break at the seams of tiles that are off the period.", spec=FOUR, noise=0.1
        ),
        _disks(
            "fig7b",
            (288, 16, -4),
            "Deformed disks break at the seams of tiles that are off the period.",
            spec=FOUR,
            elastic=0.2,
        ),
    )


def _variations() -> tuple[Preset, ...]:
    squares = SquareRecipe(shape=(220, 220), spacing=(15, 15), radius=5.0, offset=(4, 4))
    return (
        Preset(name="spaced_squares", recipe=squares, shows="The rule does not depend on the form of objects.", spec=THREE),
        _disks("touching_disks", (220, 9, 4), "Equal disks that touch: only their embeddings tell them apart."),
        _disks("jittered_disks", (220, 16, 4), "Equal disks that are not on an exact lattice.", jitter=3),
        _disks("shaded_disks", (220, 16, 4), "Uneven light tells disks on the period apart.", light=0.5),
    )


def _disks(
    name: str,
    sizes: tuple[int, int, int],
    shows: str,
    *,
    spec: UNetSpec = THREE,
    noise: float = 0.0,
    elastic: float = 0.0,
    jitter: int = 0,
    light: float = 0.0,
) -> Preset:
    edge, spacing, offset = sizes
    recipe = DiskRecipe(
        shape=(edge, edge),
        spacing=(spacing, spacing),
        radius=5.0,
        offset=(offset, offset),
        noise=noise,
        elastic=elastic,
        jitter=jitter,
        light=light,
    )
    return Preset(name=name, recipe=recipe, shows=shows, spec=spec)


def _constant(name: str, edge: int, shows: str, *, spec: UNetSpec) -> Preset:
    return Preset(name=name, recipe=ConstantRecipe(shape=(edge, edge)), shows=shows, spec=spec)
