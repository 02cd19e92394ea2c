"""The declarations: what the paper claims, figure by figure, and the recipe that puts it to the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.paper.experiment import Experiment, Setup, Size, Training
from napari_shiftseg.paper.measure import (
    constant_codes,
    disk_codes,
    grid_jumps,
    noisy_disk_codes,
    padded_codes,
    ramp_codes,
    seam_jumps,
    stitching,
)
from napari_shiftseg.synthetic import ConstantRecipe, DiskRecipe, RampRecipe

__all__ = ["EXPERIMENTS"]


def _both(setup: Setup) -> Mapping[Size, Setup]:
    return {"quick": setup, "full": setup}


def _disks(edge: int, spacing: int, radius: int, offset: int = 0, **noise: Any) -> DiskRecipe:
    return DiskRecipe(shape=(edge, edge), spacing=(spacing,) * 2, radius=radius, offset=(offset,) * 2, **noise)


# -- the proofs: nothing is trained -----------------------------------------------------------------------------------


def _tiny(**values: Any) -> UNetSpec:
    return UNetSpec(features=1, growth=1, embedding_dim=1, **values)


def _lemma(levels: int) -> Experiment:
    spec = _tiny(levels=levels)
    edges = tuple(size + period - 1 for size, period in zip(spec.input_size(spec.period), spec.period, strict=True))
    return Experiment(
        name=f"fig1-l{levels}",
        source="Lemma 1, part I, Fig. 1",
        claim=f"Over all shifts of an image, a U-Net with {levels} poolings gives one place f^(dl) different outputs.",
        measure=ramp_codes,
        expected="{wanted} distinct outputs over {shifts} shifts",
        met=lambda found: found["codes"] == found["wanted"],
        setups=_both(Setup(spec=spec, test=RampRecipe(shape=edges), weights="passing")),
    )


def _constant(spec: UNetSpec) -> ConstantRecipe:
    return ConstantRecipe(shape=spec.input_size(tuple(2 * period for period in spec.period)))


def _corollary(name: str, spec: UNetSpec, where: str) -> Experiment:
    return Experiment(
        name=f"cor4-{name}",
        source="Corollary 4",
        claim=f"Weights exist that tell all pixels of a window of f^l pixels per edge apart, {where}.",
        measure=constant_codes,
        expected="{wanted} distinct outputs, each repeated with the period",
        met=lambda found: found["codes"] == found["wanted"] and found["period_error"] == 0,
        setups=_both(Setup(spec=spec, test=_constant(spec), weights="primes")),
    )


# -- constant images --------------------------------------------------------------------------------------------------


def _learnt(levels: int, features: int, window: int, steps: int, learning_rate: float) -> Setup:
    spec = UNetSpec(levels=levels, features=features)
    image = ConstantRecipe(shape=spec.input_size((window, window)))
    training = Training(image=image, window=window, steps=steps, learning_rate=learning_rate)
    return Setup(spec=spec, test=_constant(spec), weights=training)


def _fixed(levels: int, steps: int) -> Setup:
    spec = UNetSpec(levels=levels, features=3, upsampling="fixed", decoder_convs=1, head_kernel=3)
    window = spec.output_size(spec.input_size(2 * spec.period[0], 0), 0)
    image = ConstantRecipe(shape=spec.input_size((window, window)))
    return Setup(spec=spec, test=_constant(spec), weights=Training(image=image, window=window, steps=steps))


_PADDED = UNetSpec(levels=2, features=3, upsampling="fixed", padding="zero", decoder_convs=1, head_kernel=3)

_CONSTANT = (
    Experiment(
        name="fig4",
        source="Fig. 4",
        claim="Trained on a constant image, a valid U-Net with learnt upsampling gives f^(dl) IDs that repeat with the period.",
        measure=constant_codes,
        expected="{wanted} distinct codes",
        met=lambda found: found["codes"] == found["wanted"] == found["exact"],
        setups={"quick": _learnt(2, 8, 8, 4000, 1e-3), "full": _learnt(4, 3, 20, 20_000, 5e-4)},
    ),
    Experiment(
        name="fig4-fixed",
        source="Fig. 4, caption",
        claim="With fixed upsampling no training can tell the pixels of a constant image apart.",
        measure=constant_codes,
        expected="exactly 1 distinct output",
        met=lambda found: found["exact"] == 1,
        setups={"quick": _fixed(2, 300), "full": _fixed(2, 1000)},
    ),
    Experiment(
        name="fig5a",
        source="Fig. 5a",
        claim="With zero padding every pixel of a 40 px constant image can know its place.",
        measure=padded_codes,
        expected="{pixels} distinct outputs, one per pixel",
        met=lambda found: found["codes"] == found["pixels"],
        setups=_both(Setup(spec=_PADDED, test=ConstantRecipe(shape=(40, 40)), weights="random")),
    ),
    Experiment(
        name="fig5b",
        source="Fig. 5b",
        claim="Zero padding tells the place only near the border: in a larger constant image codes repeat.",
        measure=padded_codes,
        expected="41 x 41 = 1681 distinct outputs of {pixels} pixels",
        met=lambda found: found["codes"] == 1681,
        setups={
            "quick": Setup(spec=_PADDED, test=ConstantRecipe(shape=(48, 48)), weights="random"),
            "full": Setup(spec=_PADDED, test=ConstantRecipe(shape=(64, 64)), weights="random"),
        },
    ),
)

# -- same-looking disks -----------------------------------------------------------------------------------------------


def _same_looking(levels: int, spacing: int, upsampling: Literal["learnt", "fixed"] = "learnt", *, full: bool = False) -> Setup:
    # radius 5 as in the paper; the crops of one large image have all phases
    spec = UNetSpec(levels=levels, features=16 if full else 8, upsampling=upsampling)
    window = spec.output_size(spec.input_size(76, 0), 0)
    image = _disks(400 if full else 220, spacing, 5, 4)
    test = _disks(spec.input_size(16 * spacing, 0), spacing, 5, 4) if full else image
    training = Training(image=image, window=window, steps=14_000 if full else 3000, learning_rate=1e-3 if full else 2e-3)
    return Setup(spec=spec, test=test, weights=training)


_SAME_LOOKING = (
    Experiment(
        name="fig2a",
        source="Fig. 2a, Corollary 2",
        claim="Disks whose spacing is a multiple of f^l get one and the same code.",
        measure=disk_codes,
        expected="1 code for {disks} disks",
        met=lambda found: found["codes"] == 1,
        setups={"quick": _same_looking(2, 16), "full": _same_looking(3, 16, full=True)},
    ),
    Experiment(
        name="fig2b",
        source="Fig. 2b, Corollary 2",
        claim="Disks whose spacing is co-prime to f^l get f^(dl) codes, and no more.",
        measure=disk_codes,
        expected="{capacity} codes for {disks} disks",
        met=lambda found: found["codes"] == found["capacity"],
        setups={"quick": _same_looking(2, 15), "full": _same_looking(3, 15, full=True)},
    ),
    Experiment(
        name="fig2c",
        source="Fig. 2c",
        claim="Fixed upsampling reaches the same number of codes, because the image is not constant.",
        measure=disk_codes,
        expected="{capacity} codes for {disks} disks",
        met=lambda found: found["codes"] == found["capacity"],
        setups={"quick": _same_looking(2, 15, "fixed"), "full": _same_looking(3, 15, "fixed", full=True)},
    ),
)

# -- tiles ------------------------------------------------------------------------------------------------------------


def _tiled(window: int, write: int | None, *, full: bool = False, head: int = 1, spacing: int = 12) -> Setup:
    """Period 8 and disks that fit it (quick), or the paper's sizes (full)."""
    spec = UNetSpec(levels=4 if full else 3, features=16 if full else 8, head_kernel=head)
    edges = (284, 468) if full else (228, 228)  # a larger image than the paper's to measure on has more seams
    image, test = (_disks(edge, 13 if full else spacing, 5 if full else 4) for edge in edges)
    training = Training(image=image, window=window, steps=20_000 if full else 4000, learning_rate=5e-4 if full else 1e-3)
    return Setup(spec=spec, test=test, weights=training, write=write)


def _untrained(levels: int, edge: int, write: int) -> Setup:
    return Setup(spec=UNetSpec(levels=levels, features=8), test=_disks(edge, 13, 5), weights="random", write=write)


def _low_bits(window: int) -> Experiment:
    # spacing 9: neighbours differ by 1 modulo the period 8, so the two low bits of the phase tell all disks of a window apart,
    # and a shift by 4, as at the seams, can go unseen; at spacing 12 neighbours differ in the high bit alone
    return Experiment(
        name=f"fig3b-9px-w{window}",
        source="Fig. 3b",
        claim=f"So it is for disks 9 px apart and a training window of {window} px (quick size; full as fig3b).",
        measure=seam_jumps,
        expected="seams exposed, and more than 1 in 4 of {crossing} disks on a seam split",
        met=lambda found: found["exposed"] is True and found["share"] > 0.25,
        setups={"quick": _tiled(window, window, spacing=9), "full": _tiled(20, 20, full=True)},
    )


_TILES = (
    Experiment(
        name="stitching",
        source="Section 3.2",
        claim="Tiles cropped to n f^l reproduce the whole image; tiles of another size do not.",
        measure=stitching,
        expected="within {tolerance:.0e} on the lattice, above it off the lattice",
        met=lambda found: found["on_lattice"] <= found["tolerance"] < found["off_lattice"],
        setups={"quick": _untrained(3, 172, 12), "full": _untrained(4, 284, 20)},
    ),
    Experiment(
        name="fig3a",
        source="Fig. 3a, section 3.2",
        claim="Trained with an output window of f^l, a network splits disks along its own period grid, even in one pass.",
        measure=grid_jumps,
        expected="jumps inside disks at the grid at least 1.5 times those elsewhere",
        met=lambda found: found["ratio"] >= 1.5,
        setups={"quick": _tiled(8, None, head=5, spacing=9), "full": _tiled(16, None, full=True, head=5)},
    ),
    Experiment(
        name="fig3a-window",
        source="Section 3.2",
        claim="Trained with a larger output window, the same network shows no such grid.",
        measure=grid_jumps,
        expected="jumps inside disks at the grid below 1.5 times those elsewhere",
        met=lambda found: found["ratio"] < 1.5,
        setups={"quick": _tiled(20, None), "full": _tiled(20, None, full=True)},
    ),
    Experiment(
        name="fig3b",
        source="Fig. 3b",
        claim="Stitching the uncropped outputs of a network trained with a window above f^l leaves seams.",
        measure=seam_jumps,
        expected="seams exposed, and more than 1 in 4 of {crossing} disks on a seam split",
        met=lambda found: found["exposed"] is True and found["share"] > 0.25,
        setups={"quick": _tiled(20, 20), "full": _tiled(20, 20, full=True)},
    ),
    _low_bits(12),
    _low_bits(20),
    Experiment(
        name="fig3c",
        source="Fig. 3c",
        claim="The same network's outputs, cropped to n f^l before stitching, leave none.",
        measure=seam_jumps,
        expected="no seam exposed, and at most 1 in 20 of {crossing} disks on a seam split",
        met=lambda found: found["exposed"] is False and found["share"] <= 0.05,
        setups={"quick": _tiled(20, 16), "full": _tiled(20, 32, full=True)},
    ),
)

# -- zero padding -----------------------------------------------------------------------------------------------------


def _zero_padded(*, neighbours: bool, full: bool = False) -> Setup:
    spec = UNetSpec(levels=3 if full else 2, features=16 if full else 8, padding="zero")
    image = _disks(192, 9, 4)
    training = Training(
        image=image, window=48 if full else 32, steps=20_000 if full else 3000, learning_rate=1e-3, neighbours=neighbours
    )
    return Setup(spec=spec, test=image, weights=training, write=48 if full else 32)


_PADDED_TILES = (
    Experiment(
        name="padding-single",
        source="Section 3.2",
        claim="A zero-padded network that was trained on single tiles splits disks at the seams of such tiles.",
        measure=seam_jumps,
        expected="more than 1 in 4 of {crossing} disks on a seam split",
        met=lambda found: found["share"] > 0.25,
        setups={"quick": _zero_padded(neighbours=False), "full": _zero_padded(neighbours=False, full=True)},
    ),
    Experiment(
        name="padding-d+1",
        source="Section 3.2",
        claim="Trained on batches of d + 1 directly neighbouring tiles under one loss, it does not.",
        measure=seam_jumps,
        expected="at most 1 in 20 of {crossing} disks on a seam split",
        met=lambda found: found["share"] <= 0.05,
        setups={"quick": _zero_padded(neighbours=True), "full": _zero_padded(neighbours=True, full=True)},
    ),
)

# -- images that are not quite periodic -------------------------------------------------------------------------------


def _imperfect(window: int, write: int | None, *, full: bool = False, noise: float = 0.0, elastic: float = 0.0) -> Setup:
    # spacing = period: only noise or deformation tells the disks apart
    spec = UNetSpec(levels=4 if full else 3, features=16 if full else 8)
    image = _disks(300 if full else 172, 16, 5, noise=noise, elastic=elastic)
    steps = 25_000 if full else 4000
    training = Training(image=image, window=window, steps=steps, realisations=64, learning_rate=5e-4 if full else 1e-3)
    return Setup(spec=spec, test=image, weights=training, write=write)


def _told_apart(name: str, source: str, what: str, *, noise: float = 0.0, elastic: float = 0.0) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=f"{what} tells disks apart that the network could not tell apart on a perfect lattice.",
        measure=noisy_disk_codes,
        expected="9 of 10 disks have a code of their own, and 1 code on the perfect lattice",
        met=lambda found: found["apart"] >= 0.9 and found["perfect_codes"] == 1,
        setups={
            "quick": _imperfect(52, None, noise=noise, elastic=elastic),
            "full": _imperfect(52, None, full=True, noise=noise, elastic=elastic),
        },
    )


def _split_at_seams(name: str, source: str, what: str, *, noise: float = 0.0, elastic: float = 0.0) -> Experiment:
    def setup(full: bool) -> Setup:
        # larger than the training image, so that there are seams
        made = _imperfect(52, 52, full=full, noise=noise, elastic=elastic)
        return replace(made, test=_disks(396 if full else 300, 16, 5, noise=noise, elastic=elastic))

    return Experiment(
        name=name,
        source=source,
        claim=f"Stitched without the crop, disks with {what} are split at the seams.",
        measure=seam_jumps,
        expected="seams exposed",
        met=lambda found: found["exposed"] is True,
        setups={"quick": setup(full=False), "full": setup(full=True)},
    )


_IMPERFECT = (
    _told_apart("fig6-noise", "Fig. 6, top", "Slight noise", noise=0.1),
    _told_apart("fig6-elastic", "Fig. 6, bottom", "A slight elastic deformation", elastic=0.2),
    _split_at_seams("fig7a", "Fig. 7a", "noise", noise=0.1),
    _split_at_seams("fig7b", "Fig. 7b", "elastic deformation", elastic=0.2),
)

_PROOFS = (
    *(_lemma(levels) for levels in (2, 3, 4)),
    *(_corollary(f"l{levels}", _tiny(levels=levels), f"here with {levels} poolings in 2D") for levels in (2, 3, 4)),
    _corollary("f3", _tiny(levels=2, pool=3), "here with 2 poolings by 3"),
    _corollary("3d", _tiny(levels=2, ndim=3), "here with 2 poolings in 3D"),
)

EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one for one in (*_PROOFS, *_SAME_LOOKING, *_TILES, *_PADDED_TILES, *_CONSTANT, *_IMPERFECT)
}
