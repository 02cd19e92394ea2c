"""What the Inspect widget computes, each a generator for `start_job`; nothing here knows Qt."""

from collections.abc import Generator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.constants import HIGHLIGHTED_BYTES, READ_BYTES, VERIFIED
from napari_shiftseg.plugin.subject import Subject, find_model

if TYPE_CHECKING:
    from napari_shiftseg.analysis import EffectivePeriod, PeriodProbe, SeamReport, TilingCheck
    from napari_shiftseg.analysis.compare import Comparison
    from napari_shiftseg.geometry import Naive

KINDS = ("seam", "period line", "elsewhere")
"""What a line between two rows of pixels can be."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What the seams of a result look like."""

    report: "SeamReport"
    # of every line between two rows of pixels (axis, position, mean jump, kind as an index of KINDS); empty without embedding
    lines: np.ndarray
    subject: Subject  # what was measured

    def jumps(self, kind: str) -> np.ndarray:
        """Mean jump across each line of a kind."""
        return self.lines["jump"][self.lines["kind"] == KINDS.index(kind)]


def measure_steps(subject: Subject) -> Generator[Event, None, Findings]:
    """Seams beside other lines: the report of `analysis.seam_report`, and the mean jump across every line."""
    yield Stage(done=0, total=0, text="loading")
    from napari_shiftseg.analysis import seam_report

    embedding, labels, truth = subject.embedding_of_run(), subject.frame("labels"), subject.frame("truth")
    yield Stage(done=0, total=0, text="measuring the seams")
    report = seam_report(embedding, subject.plan_values, labels, truth)
    lines = np.zeros(0, _LINE)
    if embedding is not None:
        lines = yield from _profile_steps(embedding, subject.plan_values)
    return Findings(report=report, lines=lines, subject=subject)


def verify_steps(subject: Subject, model_file: str) -> Generator[Event, None, "TilingCheck"]:
    """Compute the image of a result as it was, by its tiles or as a stream, and in one pass, and compare."""
    yield Stage(done=0, total=0, text="loading the model")
    from napari_shiftseg import analysis
    from napari_shiftseg.geometry import plan_tiles

    model, plan, method = find_model(subject, model_file), subject.tile_plan(), "tiles"
    if subject.streamed:  # a window of the result is streamed, where its columns would be all rows
        plan, method = plan_tiles(plan.lattice, plan.image_shape, None, plan.border), "stream"
    pixels = _same_pixels(subject, plan)
    wish: Any = {"dtype": subject.dtype, "max_pixels": VERIFIED, "normalisation": subject.limits(), "method": method}
    return (yield from analysis.verify_steps(model, pixels, plan, **wish))


def compare_steps(
    subject: Subject, model_file: str, how: "Naive"
) -> Generator[Event, None, tuple[Subject, "Comparison", np.ndarray]]:
    """Compute the image of a result by naive tiles; returns the result, the comparison and the colours of its embedding."""
    yield Stage(done=0, total=0, text="loading the model")
    from napari_shiftseg.analysis import compare
    from napari_shiftseg.instances import LabelSettings
    from napari_shiftseg.plugin.comparison import paint_comparison

    if subject.embedding is None or subject.labels is None:
        raise ResultError(f"{subject.name} was segmented without embedding layers; segment it with them.")
    model, plan, record = find_model(subject, model_file), subject.tile_plan(), subject.record
    pixels = _same_pixels(subject, plan)
    options = {"embedding": np.asarray(subject.embedding_of_run()), "labels": np.asarray(subject.frame("labels"))}
    options |= {"limits": subject.limits(), "clustering": LabelSettings(**record["clustering"])}
    options["dtype"] = subject.dtype
    comparison = yield from compare.compare_steps(model, pixels, plan, how=how, **options)
    yield Stage(done=0, total=0, text="drawing")
    return subject, comparison, paint_comparison(subject, comparison)


def _same_pixels(subject: Subject, plan: Any) -> Any:
    pixels = subject.pixels()
    if tuple(pixels.shape[1:]) != plan.image_shape:
        raise ResultError(
            f"the image of {subject.name} has {pixels.shape[1:]} px now, and {plan.image_shape} px were segmented; "
            "segment it again."
        )
    return pixels


def probe_steps(subject: Subject, model_file: str) -> Generator[Event, None, tuple["PeriodProbe", "EffectivePeriod"]]:
    """Find the period of the network by moving its input, and the effective one on the image that was segmented."""
    yield Stage(done=0, total=0, text="loading the model")
    from napari_shiftseg import analysis

    model = find_model(subject, model_file)
    probe = yield from analysis.probe_steps(model)
    effective = yield from analysis.effective_steps(model, subject.pixels(), limits=subject.limits())
    return probe, effective


@dataclass(frozen=True, kw_only=True, eq=False)
class Highlights:
    """Objects to outline."""

    on_seams: np.ndarray  # (*axes) int32, those instances only that have a pixel beside a seam
    # split, missed: (*axes) int32, those true objects only that are split, or that nothing matches; None without a truth
    split: np.ndarray | None
    missed: np.ndarray | None
    extra: np.ndarray | None  # (*axes) int32, those instances only that match no true object; None without a truth
    text: str  # how many there are


def highlight_steps(subject: Subject) -> Generator[Event, None, Highlights]:
    """Instances beside seams, and with a truth what is split, missed and extra, in all frames."""
    labels = subject.labels
    if labels is None:
        raise ResultError(f"{subject.name} has no instances layer; segment it again.")
    size = prod(labels.shape) * 4
    if size > HIGHLIGHTED_BYTES:
        raise ResultError(f"the labels take {size / 2**30:.1f} GiB, more than 1 GiB; open a part of the result.")
    from napari_shiftseg.instances import match_score, mistaken_objects, object_table, pool_scores

    whole = np.asarray(labels).astype(np.int32, copy=False)
    found = np.zeros_like(whole)
    truth = None if subject.truth is None else np.asarray(subject.truth).astype(np.int32, copy=False)
    wrong = {} if truth is None else {name: np.zeros_like(truth) for name in ("split", "missed", "extra")}
    on_seams, scores = 0, []
    for index in np.ndindex(whole.shape[: len(subject.index)]):
        yield Stage(done=0, total=0, text="looking for instances on seams")
        frame = whole[index]
        table = object_table(frame, subject.plan_values["seams"])
        numbers = table["index"][table["on_seam"]]
        found[index] = np.where(np.isin(frame, numbers), frame, 0)
        on_seams += len(numbers)
        if truth is not None:
            scores.append(match_score(frame, truth[index], seams=subject.plan_values["seams"]))
            mistakes = mistaken_objects(frame, truth[index])
            for name, made in wrong.items():
                of = frame if name == "extra" else truth[index]
                made[index] = np.where(np.isin(of, getattr(mistakes, name)), of, 0)
    text = f"{on_seams} instances have a pixel beside a seam."
    if scores:
        score = pool_scores(scores)
        at = score.at_seams
        text += f" {score.splits} true objects are split, {at.splits} of them across seams; {at.fn} across seams are missed."
        text += f" Against the truth, {score.text}."
    layers = {name: wrong.get(name) for name in ("split", "missed", "extra")}
    return Highlights(on_seams=found, **layers, text=text)


_LINE = np.dtype([("axis", int), ("position", int), ("jump", float), ("kind", int)])


def _profile_steps(embedding: Any, plan: Any) -> Generator[Event, None, np.ndarray]:
    """Mean L2 distance of the two pixels across each line of each axis."""
    shape, parts = tuple(embedding.shape[1:]), []
    for axis, size in enumerate(shape):
        row = prod(embedding.shape) // size * 4
        block = max(1, READ_BYTES // row)
        for first in range(1, size, block):
            yield Stage(done=0, total=0, text="measuring all lines")
            last = min(first + block, size)
            window = (slice(None), *(slice(first - 1, last) if k == axis else slice(None) for k in range(len(shape))))
            values = np.moveaxis(np.asarray(embedding[window], np.float32), axis + 1, 0)
            step = np.linalg.norm(np.diff(values, axis=0), axis=1)
            part = np.zeros(last - first, _LINE)
            part["axis"], part["position"] = axis, np.arange(first, last)
            part["jump"] = step.reshape(len(step), -1).mean(axis=1)
            part["kind"] = _kinds(part["position"], plan, axis)
            parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, _LINE)


def _kinds(positions: np.ndarray, plan: Any, axis: int) -> np.ndarray:
    on_grid = (positions - plan["grid_phase"][axis]) % plan["period"][axis] == 0
    kinds = np.where(on_grid, KINDS.index("period line"), KINDS.index("elsewhere"))
    return np.where(np.isin(positions, plan["seams"][axis]), KINDS.index("seam"), kinds)
