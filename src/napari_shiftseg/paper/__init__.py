"""The figures of the paper as declared experiments, each with its claim, its recipe and its expected outcome."""

from napari_shiftseg.paper.experiment import Experiment, Finding, Setup, Training, run_steps
from napari_shiftseg.paper.figures import EXPERIMENTS

__all__ = ["EXPERIMENTS", "Experiment", "Finding", "Setup", "Training", "run_steps"]
