"""What the paper claims of how many places and objects a network tells apart, and the recipes that put it to the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.paper.experiment import Experiment, Setup, Size, Training, both
from napari_shiftseg.paper.measure import (
    constant_codes,
    disk_codes,
    noisy_disk_codes,
    padded_codes,
    places,
    ramp_codes,
    sliding_codes,
)
from napari_shiftseg.paper.recipes import imperfect, lattice
from napari_shiftseg.synthetic import ConstantRecipe, RampRecipe
from napari_shiftseg.synthetic.figures import PADDED

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
        certain=True,
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
        certain=True,
    )


_PROOFS = (
    *(_lemma(levels) for levels in (2, 3, 4)),
    *(_corollary(f"l{levels}", _tiny(levels=levels), f"here with {levels} poolings in 2D") for levels in (2, 3, 4)),
    _corollary("f3", _tiny(levels=2, pool=3), "here with 2 poolings by 3"),
    _corollary("3d", _tiny(levels=2, ndim=3), "here with 2 poolings in 3D"),
)

# -- same-looking disks -----------------------------------------------------------------------------------------------


def _same_looking(levels: int, spacing: int, upsampling: Literal["learnt", "fixed"] = "learnt", *, full: bool = False) -> Setup:
    # radius 5 as in the paper; the crops of one large image have all phases
    spec = UNetSpec(levels=levels, features=16 if full else 8, upsampling=upsampling)
    window = spec.output_size(spec.input_size(76, 0), 0)
    image = lattice(400 if full else 220, spacing, 5, offset=4)
    test = lattice(spec.input_size(16 * spacing, 0), spacing, 5, offset=4) if full else image
    training = Training(image=image, window=window, steps=14_000 if full else 3000, learning_rate=1e-3 if full else 2e-3)
    return Setup(spec=spec, test=test, weights=training)


def _balls(*, full: bool = False) -> Setup:
    spec = UNetSpec(ndim=3, levels=2 if full else 1, convs=1 if full else 2, features=8)
    image = lattice(60 if full else 48, 7, 3, ndim=3)
    window = spec.output_size(spec.input_size(16, 0), 0)
    training = Training(image=image, window=window, steps=6000 if full else 1500, learning_rate=2e-3)
    test = lattice(spec.input_size(42 if full else 28, 0), 7, 3, ndim=3)
    return Setup(spec=spec, test=test, weights=training)


def _slid() -> Setup:
    made = _same_looking(2, 15)
    return replace(made, test=lattice(made.spec.input_size(48, 0), 15, 5), write=1)


def _so_many_codes(name: str, source: str, claim: str, *, setups: Mapping[Size, Setup], what: str = "disks") -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=claim,
        measure=disk_codes,
        expected=f"{{capacity}} codes for {{disks}} {what}",
        met=lambda found: found["codes"] == found["capacity"],
        setups=setups,
    )


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
    _so_many_codes(
        "fig2b",
        "Fig. 2b, Corollary 2",
        "Disks whose spacing is co-prime to f^l get f^(dl) codes, and no more.",
        setups={"quick": _same_looking(2, 15), "full": _same_looking(3, 15, full=True)},
    ),
    _so_many_codes(
        "fig2c",
        "Fig. 2c",
        "Fixed upsampling reaches the same number of codes, because the image is not constant.",
        setups={"quick": _same_looking(2, 15, "fixed"), "full": _same_looking(3, 15, "fixed", full=True)},
    ),
    _so_many_codes(
        "fig2b-3d",
        "Fig. 2b, d = 3",
        "Balls whose spacing is co-prime to f^l get f^(dl) codes in 3D, and no more.",
        setups={"quick": _balls(), "full": _balls(full=True)},
        what="balls",
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


def _all_places(features: int, steps: int, learning_rate: float) -> Setup:
    image = ConstantRecipe(shape=(40, 40))
    training = Training(image=image, window=40, steps=steps, learning_rate=learning_rate)
    return Setup(spec=replace(PADDED, features=features), test=image, weights=training)


def _repeated(name: str, source: str, claim: str, *, setups: Mapping[Size, Setup]) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=claim,
        measure=constant_codes,
        expected="{wanted} distinct codes",
        met=lambda found: found["codes"] == found["wanted"] == found["exact"],
        setups=setups,
    )


_CONSTANT = (
    _repeated(
        "fig4",
        "Fig. 4",
        "Trained on a constant image, a valid U-Net with learnt upsampling gives f^(dl) IDs that repeat with the period.",
        setups={
            "quick": _learnt(UNetSpec(levels=2, features=8), 4000, 1e-3),
            "full": _learnt(UNetSpec(levels=4, features=3), 20_000, 5e-4),
        },
    ),
    _repeated(
        "fig4-f3",
        "Fig. 4, f = 3",
        "So it is with poolings by 3.",
        setups={
            "quick": _learnt(UNetSpec(levels=1, pool=3, features=8), 3000, 1e-3),
            "full": _learnt(UNetSpec(levels=2, pool=3, features=8), 10_000, 1e-3),
        },
    ),
    _repeated(
        "fig4-3d",
        "Fig. 4, d = 3",
        "So it is in 3D.",
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
        certain=True,
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
    Experiment(
        name="fig5-trained",
        source="Fig. 5",
        claim="Trained with zero padding on 40 px, all pixels are told apart; of larger images those are that see a border.",
        measure=places,
        expected="{wanted} codes and clusters, on constant images of {edges} px",
        met=lambda found: found["codes"] == found["clusters"] == found["wanted"],
        setups={"quick": _all_places(16, 1200, 3e-3), "full": _all_places(3, 120_000, 1e-4)},
    ),
)

# -- images that are not quite periodic -------------------------------------------------------------------------------


def _told_apart(name: str, source: str, what: str, **noise: Any) -> Experiment:
    return Experiment(
        name=name,
        source=source,
        claim=f"{what} tells disks apart that the network could not tell apart on a perfect lattice.",
        measure=noisy_disk_codes,
        expected="4 of 5 disks have a code that no other within a training window has, and 1 code on the perfect lattice",
        met=lambda found: found["apart"] >= 0.8 and found["perfect_codes"] == 1,
        setups={"quick": imperfect(52, None, **noise), "full": imperfect(52, None, full=True, **noise)},
    )


CODES = (
    *_PROOFS,
    *_SAME_LOOKING,
    *_CONSTANT,
    _told_apart("fig6-noise", "Fig. 6, top", "Slight noise", noise=0.1),
    _told_apart("fig6-elastic", "Fig. 6, bottom", "A slight elastic deformation", elastic=0.2),
)
