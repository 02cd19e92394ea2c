"""The declarations on output functions: how many a network has, by constructed weights and by trained ones (Figs. 1, 4, 5)."""

from __future__ import annotations

from typing import Any

from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.paper.experiment import Experiment, Setup, Training, both
from napari_shiftseg.paper.measure import constant_codes, padded_codes, ramp_codes
from napari_shiftseg.synthetic import ConstantRecipe, RampRecipe
from napari_shiftseg.synthetic.figures import PADDED

__all__ = ["CONSTANT", "PROOFS"]


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


PROOFS = (
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


CONSTANT = (
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
