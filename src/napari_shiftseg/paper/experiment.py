"""An experiment of the paper as a value, and the verb that runs it."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from napari_shiftseg.analysis import passing_network, prime_network
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Event, Stage, TrainStep
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.io import load_model
from napari_shiftseg.network import Augmentation, Model, Normalisation, TrainImage, TrainSettings, UNet, train_steps
from napari_shiftseg.paper.constants import MARGIN, MOST_STEPS, STARTS, TEST_SEED
from napari_shiftseg.synthetic import DiskRecipe, Recipe, make

Measured: TypeAlias = dict[str, Any]
Size: TypeAlias = Literal["quick", "full"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained for an experiment, with the paper's loss."""

    image: Recipe
    window: int  # output window, pixels
    steps: int
    keep: int | None = None  # centred part of the window that alone reaches the loss, pixels; None for all of it
    learning_rate: float = 5e-4
    fresh: bool = False  # noise and deformation are drawn anew at every step
    neighbours: bool = False  # a tile and its direct neighbours under one loss (zero padding)

    def settings(self, spec: UNetSpec, seed: int, checkpoint: Path | None) -> TrainSettings:
        """Settings of `network.train`: one window per step, no augmentation, background as an instance, margin 6."""
        return TrainSettings(
            spec=spec,
            window=self.window,
            keep=self.keep,
            batch=1,
            steps=self.steps,
            learning_rate=self.learning_rate,
            delta_var=0.0,
            delta_dist=MARGIN / 2,
            gamma=1e-4,
            background_is_instance=True,
            neighbours=self.neighbours,
            average=min(0.999, 1 - 20 / max(21, self.steps)),
            real_context=True,
            normalisation=Normalisation(low=0, high=0),
            augmentation=Augmentation(scale=1, rotate=False, intensity=0),
            seed=seed,
            device="auto",
            checkpoint=checkpoint,
            data=self.image.kind,
            allow_noncompliant=True,
        )

    def draw(self, seed: int, step: int = 0) -> TrainImage:
        """The image of a step; of one that is not `fresh` that of all steps."""
        drawn = make(_seeded(self.image, (2 + seed) * MOST_STEPS + step * self.fresh))
        return TrainImage.from_arrays(drawn.image, drawn.labels, Normalisation(low=0, high=0))

    def train_steps(
        self, spec: UNetSpec, seed: int, start: UNet, *, checkpoint: Path | None
    ) -> Generator[TrainStep | Stage, None, Model]:
        """Train from these weights on; yields events, returns the model."""
        redraw = partial(self.draw, seed) if self.fresh else None
        settings = self.settings(spec, seed, checkpoint)
        return (yield from train_steps([self.draw(seed)], settings, start, redraw=redraw))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One size of an experiment."""

    spec: UNetSpec
    test: Recipe | Literal["nuclei"]  # image that the network is measured on; "nuclei" is the sample of real nuclei
    # constructed as in the proofs, initialised and left so, the bundled model, or trained
    weights: Literal["primes", "passing", "random", "nuclei"] | Training
    write: int | None = None  # edge that a tile pastes, pixels

    def network_steps(self, seed: int, folder: Path | None) -> Generator[Event, None, UNet]:
        """The network of this setup; a training in `folder` goes on where it stopped."""
        if isinstance(self.weights, Training):
            checkpoint = None if folder is None else folder / f"{self.key()}-seed{seed}.pt"
            yield Stage(done=0, total=self.weights.steps, text="training")
            model = yield from self.weights.train_steps(self.spec, seed, self.start(seed), checkpoint=checkpoint)
            return model.unet
        torch.manual_seed(seed)
        kinds: Mapping[str, Callable[[UNetSpec], UNet]] = {
            "primes": prime_network,
            "passing": passing_network,
            "random": UNet,
            "nuclei": lambda spec: load_model("nuclei").unet,
        }
        return kinds[self.weights](self.spec).eval()

    def start(self, seed: int) -> UNet:
        """The first of a few initialisations whose output is not constant on the test image; else the first."""
        image = torch.from_numpy(make(self.test_recipe(seed)).image)[None, None].double()
        nets = []
        for index in range(STARTS if self.spec.padding == "valid" else 1):
            torch.manual_seed(STARTS * seed + index)
            nets.append(UNet(self.spec))
            with torch.inference_mode():
                out = copy.deepcopy(nets[-1]).double()(image)[0].flatten(1)
            if float((out - out[:, :1]).abs().max()) > 0:
                return nets[-1]
        return nets[0]

    @property
    def random(self) -> bool:
        """Whether another seed is another run: of constructed weights and a drawn image without noise it is the same one."""
        drawn = isinstance(self.test, DiskRecipe) and (self.test.noise > 0 or self.test.elastic > 0)
        return drawn or isinstance(self.weights, Training) or self.weights == "random"

    def key(self) -> str:
        """Name of the weights: equal for experiments that share their network, another for any other training."""
        training = asdict(self.weights) if isinstance(self.weights, Training) else self.weights
        text = json.dumps({"spec": self.spec.to_dict(), "weights": training}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def test_recipe(self, seed: int) -> Recipe:
        """The image to measure, with noise of its own."""
        if isinstance(self.test, str):
            raise SettingsError("the image is a sample and has no recipe; read it.")
        return _seeded(self.test, TEST_SEED + seed)


def both(setup: Setup) -> Mapping[Size, Setup]:
    """The same setup for both sizes."""
    return {"quick": setup, "full": setup}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What an experiment found."""

    name: str
    seed: int
    measured: Measured  # JSON values
    expected: str  # the expectation, with its numbers
    met: bool
    seconds: float
    size: Size


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim of the paper and how it is put to the test."""

    name: str
    source: str  # where the paper makes the claim
    claim: str  # one sentence
    measure: Callable[[UNet, Setup, int], Measured]  # (network, setup, seed) to the measured values
    expected: str  # a sentence; `{name}` stands for a measured value
    met: Callable[[Measured], bool]  # whether measured values meet the expectation
    setups: Mapping[Size, Setup]  # "quick" for minutes, "full" for the size in the paper
    certain: bool = False  # follows from the layers and not from what was learnt: a check of the code


def run_steps(
    experiment: Experiment, size: Size = "quick", seed: int = 0, *, folder: str | Path | None = None
) -> Generator[Event, None, Finding]:
    """Run an experiment: yields events, returns its `Finding`; SettingsError if the size is unknown or the seed negative.

    Parameters
    ----------
    seed : int
        Of the weights, the crops and the noise.
    folder : path, optional
        Where trainings keep their checkpoints, so that they go on and are shared; it must exist.
    """
    if size not in experiment.setups:
        raise SettingsError(f"size is {size!r}; give 'quick' or 'full'.")
    if seed < 0:
        raise SettingsError(f"seed is {seed}; give 0 or a positive whole number.")
    started = time.perf_counter()
    setup = experiment.setups[size]
    network = yield from setup.network_steps(seed, None if folder is None else Path(folder))
    yield Stage(done=0, total=0, text="measuring")
    measured = experiment.measure(network, setup, seed)
    return Finding(
        name=experiment.name,
        seed=seed,
        measured=measured,
        expected=experiment.expected.format(**measured),
        met=bool(experiment.met(measured)),
        seconds=round(time.perf_counter() - started, 1),
        size=size,
    )


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, seed=seed) if isinstance(recipe, DiskRecipe) else recipe
