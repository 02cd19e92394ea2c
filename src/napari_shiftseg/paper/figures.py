"""The declarations: what the paper claims, figure by figure, and the recipe that puts it to the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.paper.experiment import Experiment, Setup, Training, both
from napari_shiftseg.paper.measure import (
    constant_codes,
    disk_codes,
    grid_jumps,
    noisy_disk_codes,
    padded_codes,
    ramp_codes,
    seam_jumps,
    seam_sizes,
    sliding_codes,
    stitching,
    tile_sizes,
)
from napari_shiftseg.synthetic import ConstantRecipe, DiskRecipe, RampRecipe
from napari_shiftseg.synthetic.figures import PADDED

# of the bundled model
NUCLEI = UNetSpec(features=32, embedding_dim=2, foreground=True, coordinates=True)


def _disks(edge: int, spacing: int, radius: int, *, offset: int = 0, ndim: int = 2, **noise: Any) -> DiskRecipe:
    return DiskRecipe(shape=(edge,) * ndim, spacing=(spacing,) * ndim, radius=radius, offset=(offset,) * ndim, **noise)


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
        setups=both(Setup(spec=spec, test=RampRecipe(shape=edges), weights="passing")),
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
        setups=both(Setup(spec=spec, test=_constant(spec), weights="primes")),
    )


_PROOFS = (
    *(_lemma(levels) for levels in (2, 3, 4)),
    *(_corollary(f"l{levels}", _tiny(levels=levels), f"here with {levels} poolings in 2D") for levels in (2, 3, 4)),
    _corollary("f3", _tiny(levels=2, pool=3), "here with 2 poolings by 3"),
    _corollary("3d", _tiny(levels=2, ndim=3), "here with 2 poolings in 3D"),
)

# -- constant images --------------------------------------------------------------------------------------------------


def _learnt(spec: UNetSpec, steps: int, learning_rate: float) -> Setup:
    # the smallest window above the period
    window = spec.output_size(spec.input_size(spec.period[0] + 1, 0), 0)
    image = ConstantRecipe(shape=spec.input_size((window,) * spec.ndim))
    training = Training(image=image, window=window, steps=steps, learning_rate=learning_rate)
    return Setup(spec=spec, test=_constant(spec), weights=training)


def _fixed(levels: int, steps: int) -> Setup:
    spec = UNetSpec(levels=levels, features=3, upsampling="fixed", decoder_convs=1, head_kernel=3)
    window = spec.output_size(spec.input_size(2 * spec.period[0], 0), 0)
    image = ConstantRecipe(shape=spec.input_size((window, window)))
    return Setup(spec=spec, test=_constant(spec), weights=Training(image=image, window=window, steps=steps))


_CONSTANT = (
    Experiment(
        name="fig4",
        source="Fig. 4",
        claim="Trained on a constant image, a valid U-Net with learnt upsampling gives f^(dl) IDs that repeat with the period.",
        measure=constant_codes,
        expected="{wanted} distinct codes",
        met=lambda found: found["codes"] == found["wanted"] == found["exact"],
        setups={
            "quick": _learnt(UNetSpec(levels=2, features=8), 4000, 1e-3),
            "full": _learnt(UNetSpec(levels=4, features=3), 20_000, 5e-4),
        },
    ),
    Experiment(
        name="fig4-f3",
        source="Fig. 4, f = 3",
        claim="So it is with poolings by 3.",
        measure=constant_codes,
        expected="{wanted} distinct codes",
        met=lambda found: found["codes"] == found["wanted"] == found["exact"],
        setups={
            "quick": _learnt(UNetSpec(levels=1, pool=3, features=8), 3000, 1e-3),
            "full": _learnt(UNetSpec(levels=2, pool=3, features=8), 10_000, 1e-3),
        },
    ),
    Experiment(
        name="fig4-3d",
        source="Fig. 4, d = 3",
        claim="So it is in 3D.",
        measure=constant_codes,
        expected="{wanted} distinct codes",
        met=lambda found: found["codes"] == found["wanted"] == found["exact"],
        setups={
            "quick": _learnt(UNetSpec(ndim=3, levels=1, features=8), 2000, 1e-3),
            "full": _learnt(UNetSpec(ndim=3, levels=2, convs=1, features=8), 10_000, 1e-3),
        },
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
        setups=both(Setup(spec=PADDED, test=ConstantRecipe(shape=(40, 40)), weights="random")),
    ),
    Experiment(
        name="fig5b",
        source="Fig. 5b",
        claim="Zero padding tells the place only near the border: in a larger constant image codes repeat.",
        measure=padded_codes,
        expected="41 x 41 = 1681 distinct outputs of {pixels} pixels",
        met=lambda found: found["codes"] == 1681,
        setups={
            "quick": Setup(spec=PADDED, test=ConstantRecipe(shape=(48, 48)), weights="random"),
            "full": Setup(spec=PADDED, test=ConstantRecipe(shape=(64, 64)), weights="random"),
        },
    ),
)

# -- same-looking disks -----------------------------------------------------------------------------------------------


def _same_looking(levels: int, spacing: int, upsampling: Literal["learnt", "fixed"] = "learnt", *, full: bool = False) -> Setup:
    # radius 5 as in the paper; the crops of one large image have all phases
    spec = UNetSpec(levels=levels, features=16 if full else 8, upsampling=upsampling)
    window = spec.output_size(spec.input_size(76, 0), 0)
    image = _disks(400 if full else 220, spacing, 5, offset=4)
    test = _disks(spec.input_size(16 * spacing, 0), spacing, 5, offset=4) if full else image
    training = Training(image=image, window=window, steps=14_000 if full else 3000, learning_rate=1e-3 if full else 2e-3)
    return Setup(spec=spec, test=test, weights=training)


def _balls(*, full: bool = False) -> Setup:
    spec = UNetSpec(ndim=3, levels=2 if full else 1, convs=1 if full else 2, features=8)
    image = _disks(60 if full else 48, 7, 3, ndim=3)
    window = spec.output_size(spec.input_size(16, 0), 0)
    training = Training(image=image, window=window, steps=6000 if full else 1500, learning_rate=2e-3)
    test = _disks(spec.input_size(42 if full else 28, 0), 7, 3, ndim=3)
    return Setup(spec=spec, test=test, weights=training)


def _slid() -> Setup:
    made = _same_looking(2, 15)
    return replace(made, test=_disks(made.spec.input_size(48, 0), 15, 5), write=1)


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
    Experiment(
        name="fig2b-3d",
        source="Fig. 2b, d = 3",
        claim="Balls whose spacing is co-prime to f^l get f^(dl) codes in 3D, and no more.",
        measure=disk_codes,
        expected="{capacity} codes for {disks} balls",
        met=lambda found: found["codes"] == found["capacity"],
        setups={"quick": _balls(), "full": _balls(full=True)},
    ),
    Experiment(
        name="sliding",
        source="Appendix A.1",
        claim="A sliding window of 1 px makes the same network shift equivariant, and same-looking disks get one code.",
        measure=sliding_codes,
        expected="1 code for {disks} disks, which have {whole} codes in one pass",
        met=lambda found: found["codes"] == 1 < found["whole"],
        setups=both(_slid()),
    ),
)

# -- tiles ------------------------------------------------------------------------------------------------------------


def _tiled(window: int, write: int | None, *, full: bool = False, keep: int | None = None, spacing: int = 12) -> Setup:
    """Period 8 and disks that fit it (quick), or the paper's sizes (full)."""
    spec = UNetSpec(levels=4 if full else 3, features=16 if full else 8)
    edges = (284, 468) if full else (228, 228)  # a larger image than the paper's to measure on has more seams
    image, test = (_disks(edge, 13 if full else spacing, 5 if full else 4) for edge in edges)
    steps, rate = (20_000, 5e-4) if full else (4000, 1e-3)
    training = Training(image=image, window=window, keep=keep, steps=steps, learning_rate=rate)
    return Setup(spec=spec, test=test, weights=training, write=write)


def _tiled_3d(write: int) -> Setup:
    # period 4; one convolution per level, so that an uncropped output is no multiple of it, as in 2D with three levels
    spec = UNetSpec(ndim=3, levels=2, convs=1, features=8)
    window = spec.output_size(spec.input_size(13, 0), 0)
    image, test = _disks(48, 10, 3, ndim=3), _disks(spec.input_size(56, 0), 10, 3, ndim=3)
    training = Training(image=image, window=window, steps=3000, learning_rate=1e-3)
    return Setup(spec=spec, test=test, weights=training, write=write)


def _untrained(levels: int, edge: int, write: int) -> Setup:
    return Setup(spec=UNetSpec(levels=levels, features=8), test=_disks(edge, 13, 5), weights="random", write=write)


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
        setups={"quick": _tiled(12, None, keep=8, spacing=9), "full": _tiled(20, None, full=True, keep=16)},
    ),
    Experiment(
        name="fig3a-window",
        source="Section 3.2",
        claim="Trained with a larger output window, the same network shows no such grid.",
        measure=grid_jumps,
        expected="jumps inside disks at the grid below 1.5 times those elsewhere",
        met=lambda found: found["ratio"] < 1.5,
        setups={"quick": _tiled(12, None, spacing=9), "full": _tiled(20, None, full=True)},
    ),
    Experiment(
        name="window-below",
        source="Section 3.2",
        claim="Trained with an output window below f^l, a network splits disks once per period, even in one pass.",
        measure=grid_jumps,
        expected="more than 1 in 4 disks split at the period grid, or half a period beside it",
        met=lambda found: max(found["share"], found["share_elsewhere"]) > 0.25,
        setups={"quick": _tiled(4, None, spacing=9), "full": _tiled(4, None, full=True)},
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
    Experiment(
        name="fig3c",
        source="Fig. 3c",
        claim="The same network's outputs, cropped to n f^l before stitching, leave none.",
        measure=seam_jumps,
        expected="no seam exposed, and at most 1 in 20 of {crossing} disks on a seam split",
        met=lambda found: found["exposed"] is False and found["share"] <= 0.05,
        setups={"quick": _tiled(20, 16), "full": _tiled(20, 32, full=True)},
    ),
    Experiment(
        name="fig3b-3d",
        source="Fig. 3b, d = 3",
        claim="Stitching uncropped outputs leaves seams in 3D.",
        measure=seam_jumps,
        expected="seams exposed, and more than 1 in 4 of {crossing} balls on a seam split",
        met=lambda found: found["exposed"] is True and found["share"] > 0.25,
        setups=both(_tiled_3d(14)),
    ),
    Experiment(
        name="fig3c-3d",
        source="Fig. 3c, d = 3",
        claim="The same network's outputs, cropped to n f^l before stitching, leave none.",
        measure=seam_jumps,
        expected="no seam exposed, and at most 1 in 20 of {crossing} balls on a seam split",
        met=lambda found: found["exposed"] is False and found["share"] <= 0.05,
        setups=both(_tiled_3d(12)),
    ),
    Experiment(
        name="tile-size",
        source="Poster (there with nuclei of BBBC006)",
        claim="Real nuclei come out the same for all tile sizes that are multiples of f^l, and for no other.",
        measure=tile_sizes,
        expected="0 pixels labelled otherwise at multiples of {period} px, more at other sizes",
        met=lambda found: max(found["changed_on"]) == 0 < min(found["changed_off"]),
        setups=both(Setup(spec=NUCLEI, test="nuclei", weights="nuclei")),
    ),
)

# -- zero padding -----------------------------------------------------------------------------------------------------


def _zero_padded(*, neighbours: bool, full: bool = False) -> Setup:
    spec = UNetSpec(levels=3 if full else 2, features=16 if full else 8, padding="zero")
    image = _disks(192, 9, 4)
    training = Training(
        image=image, window=48 if full else 32, steps=20_000 if full else 8000, learning_rate=1e-3, neighbours=neighbours
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
    spec = UNetSpec(levels=4 if full else 3, features=16)
    image = _disks(300 if full else 172, 16, 5, noise=noise, elastic=elastic)
    steps, rate = (25_000, 5e-4) if full else (10_000, 1e-3)
    training = Training(image=image, window=window, steps=steps, fresh=True, learning_rate=rate)
    return Setup(spec=spec, test=image, weights=training, write=write)


def _told_apart(name: str, source: str, what: str, *, noise: float = 0.0, elastic: float = 0.0) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=f"{what} tells disks apart that the network could not tell apart on a perfect lattice.",
        measure=noisy_disk_codes,
        expected="4 of 5 disks have a code that no other within a training window has, and 1 code on the perfect lattice",
        met=lambda found: found["apart"] >= 0.8 and found["perfect_codes"] == 1,
        setups={
            "quick": _imperfect(52, None, noise=noise, elastic=elastic),
            "full": _imperfect(52, None, full=True, noise=noise, elastic=elastic),
        },
    )


def _off(*, full: bool = False, noise: float = 0.0, elastic: float = 0.0) -> Setup:
    # 52 is a quarter of the period of 16 beyond a multiple of it, as 50 is of 8: the two deepest poolings are off
    made = _imperfect(52, 52 if full else 50, full=full, noise=noise, elastic=elastic)
    return replace(made, test=_disks(604, 16, 5, noise=noise, elastic=elastic))


def _split_at_seams(name: str, source: str, what: str, *, noise: float = 0.0, elastic: float = 0.0) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=f"Stitched by tiles of no n f^l pixels, disks with {what} are split at the seams.",
        measure=seam_jumps,
        expected="seams exposed",
        met=lambda found: found["exposed"] is True,
        setups={"quick": _off(noise=noise, elastic=elastic), "full": _off(full=True, noise=noise, elastic=elastic)},
    )


def _felt_at_seams(name: str, source: str, what: str, *, noise: float = 0.0, elastic: float = 0.0) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=f"On disks with {what}, tiles off the effective period show, and those on it do not.",
        measure=seam_sizes,
        expected="seams exposed at those sizes that are no multiple of {effective} px, the effective period",
        met=lambda found: all(
            (exposed is True) == (size % found["effective"] != 0)
            for size, exposed in zip(found["sizes"], found["exposed"], strict=True)
        ),
        setups={"quick": _off(noise=noise, elastic=elastic), "full": _off(full=True, noise=noise, elastic=elastic)},
    )


_IMPERFECT = (
    _told_apart("fig6-noise", "Fig. 6, top", "Slight noise", noise=0.1),
    _told_apart("fig6-elastic", "Fig. 6, bottom", "A slight elastic deformation", elastic=0.2),
    _split_at_seams("fig7a", "Fig. 7a", "noise", noise=0.1),
    _split_at_seams("fig7b", "Fig. 7b", "elastic deformation", elastic=0.2),
    _felt_at_seams("fig7a-sizes", "Fig. 7a", "noise", noise=0.1),
    _felt_at_seams("fig7b-sizes", "Fig. 7b", "elastic deformation", elastic=0.2),
)

EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one for one in (*_PROOFS, *_SAME_LOOKING, *_TILES, *_PADDED_TILES, *_CONSTANT, *_IMPERFECT)
}
