"""What the paper claims of training windows, of tiles and of their seams, and the recipes that put it to the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.paper.experiment import Experiment, Setup, Size, Training, both
from napari_shiftseg.paper.measure import grid_jumps, seam_jumps, seam_sizes, stitching, tile_sizes
from napari_shiftseg.paper.recipes import imperfect, lattice

# of the bundled model
NUCLEI = UNetSpec(features=32, embedding_dim=2, foreground=True, coordinates=True)


# -- tiles ------------------------------------------------------------------------------------------------------------


def _tiled(window: int, write: int | None, *, full: bool = False, keep: int | None = None, spacing: int = 12) -> Setup:
    """Period 8 and disks that fit it (quick), or the paper's sizes (full)."""
    spec = UNetSpec(levels=4 if full else 3, features=16 if full else 8)
    edges = (284, 468) if full else (228, 228)  # a larger image than the paper's to measure on has more seams
    image, test = (lattice(edge, 13 if full else spacing, 5 if full else 4) for edge in edges)
    steps, rate = (20_000, 5e-4) if full else (4000, 1e-3)
    training = Training(image=image, window=window, keep=keep, steps=steps, learning_rate=rate)
    return Setup(spec=spec, test=test, weights=training, write=write)


def _tiled_3d(write: int) -> Setup:
    # period 4; one convolution per level, so that an uncropped output is no multiple of it, as in 2D with three levels
    spec = UNetSpec(ndim=3, levels=2, convs=1, features=8)
    window = spec.output_size(spec.input_size(13, 0), 0)
    image, test = lattice(48, 10, 3, ndim=3), lattice(spec.input_size(56, 0), 10, 3, ndim=3)
    training = Training(image=image, window=window, steps=3000, learning_rate=1e-3)
    return Setup(spec=spec, test=test, weights=training, write=write)


def _untrained(levels: int, edge: int, write: int) -> Setup:
    return Setup(spec=UNetSpec(levels=levels, features=8), test=lattice(edge, 13, 5), weights="random", write=write)


def _split(name: str, source: str, claim: str, *, setups: Mapping[Size, Setup], what: str = "disks") -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=claim,
        measure=seam_jumps,
        expected=f"seams exposed, and more than 1 in 4 of {{crossing}} {what} on a seam split",
        met=lambda found: found["exposed"] is True and found["share"] > 0.25,
        setups=setups,
    )


def _whole(name: str, source: str, claim: str, *, setups: Mapping[Size, Setup], what: str = "disks") -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=claim,
        measure=seam_jumps,
        expected=f"no seam exposed, and at most 1 in 20 of {{crossing}} {what} on a seam split",
        met=lambda found: found["exposed"] is False and found["share"] <= 0.05,
        setups=setups,
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
        certain=True,
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
        setups={"quick": _tiled(4, None, spacing=9), "full": _tiled(20, None, full=True, keep=12)},
    ),
    _split(
        "fig3b",
        "Fig. 3b",
        "Stitching the uncropped outputs of a network trained with a window above f^l leaves seams.",
        setups={"quick": _tiled(20, 20), "full": _tiled(20, 20, full=True)},
    ),
    _whole(
        "fig3c",
        "Fig. 3c",
        "The same network's outputs, cropped to n f^l before stitching, leave none.",
        setups={"quick": _tiled(20, 16), "full": _tiled(20, 32, full=True)},
    ),
    _split(
        "fig3b-3d",
        "Fig. 3b, d = 3",
        "Stitching uncropped outputs leaves seams in 3D.",
        setups=both(_tiled_3d(14)),
        what="balls",
    ),
    _whole(
        "fig3c-3d",
        "Fig. 3c, d = 3",
        "The same network's outputs, cropped to n f^l before stitching, leave none.",
        setups=both(_tiled_3d(12)),
        what="balls",
    ),
    Experiment(
        name="tile-size",
        source="Poster (there with nuclei of BBBC006)",
        claim="Real nuclei come out the same for all tile sizes that are multiples of f^l, and for no other.",
        measure=tile_sizes,
        expected="0 pixels labelled otherwise at multiples of {period} px, more at other sizes",
        met=lambda found: max(found["changed_on"]) == 0 < min(found["changed_off"]),
        setups=both(Setup(spec=NUCLEI, test="nuclei", weights="nuclei")),
        certain=True,
    ),
)

# -- zero padding -----------------------------------------------------------------------------------------------------


def _zero_padded(*, neighbours: bool, full: bool = False) -> Setup:
    spec = UNetSpec(levels=3 if full else 2, features=16 if full else 8, padding="zero")
    image = lattice(192, 9, 4)
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


def _off(*, full: bool = False, **noise: Any) -> Setup:
    # 52 is a quarter of the period of 16 beyond a multiple of it, as 50 is of 8: the two deepest poolings are off
    made = imperfect(52, 52 if full else 50, full=full, **noise)
    return replace(made, test=lattice(604, 16, 5, **noise))


def _split_at_seams(name: str, source: str, what: str, **noise: Any) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=f"Stitched by tiles of no n f^l pixels, disks with {what} are split at the seams.",
        measure=seam_jumps,
        expected="seams exposed",
        met=lambda found: found["exposed"] is True,
        setups={"quick": _off(**noise), "full": _off(full=True, **noise)},
    )


def _felt_at_seams(name: str, source: str, what: str, **noise: Any) -> Experiment:
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
        setups={"quick": _off(**noise), "full": _off(full=True, **noise)},
    )


SEAMS = (
    *_TILES,
    *_PADDED_TILES,
    _split_at_seams("fig7a", "Fig. 7a", "noise", noise=0.1),
    _split_at_seams("fig7b", "Fig. 7b", "elastic deformation", elastic=0.2),
    _felt_at_seams("fig7a-sizes", "Fig. 7a", "noise", noise=0.1),
    _felt_at_seams("fig7b-sizes", "Fig. 7b", "elastic deformation", elastic=0.2),
)
