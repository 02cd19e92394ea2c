"""Scores of a model against ground truth, what limits them, and the clustering settings that raise them."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.events import Event
from napari_shiftseg.instances import LabelSettings, MatchScore, label_instances, match_score, pool_scores, said_by
from napari_shiftseg.instances.score import MeanScore, mean_scores

if TYPE_CHECKING:
    from napari_shiftseg.io import Image
    from napari_shiftseg.network import Clustering, Model
    from napari_shiftseg.segmentation import Segmentation, SegmentSettings

# Thresholds of the usual mean of AP.
IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))

# Shares of the lower of two modes, at even distances around the usual one.
VALLEYS = (0.2, 0.35, 0.5, 0.65, 0.8)
# Values that `calibrate_steps` tries, one setting after the other; bandwidths are factors of the model's own.
_GRID: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("bandwidth", (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)),
    ("factor", (0.7, 0.85, 1.0, 1.2, 1.4)),
    ("least_seed", (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)),
    ("valley", VALLEYS),
    ("dip", (0.6, 0.7, 0.8, 0.85, 0.9, 1.0)),
    ("threshold", (0.3, 0.4, 0.5, 0.6, 0.7)),
    ("min_size", (8, 16, 32, 36, 64)),
)
# Settings of the mean shift with one bandwidth, and with those that the network says.
_FIXED, _SAID = {"bandwidth", "dip"}, {"factor", "least_seed", "valley"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """An image with ground truth."""

    image: Image
    truth: npt.NDArray[np.integer]  # integers with the axes of the image except its channels; 0 is the background
    # name, group: what it is called, and the kind of image that it belongs to ("" for none)
    name: str
    group: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameOutput:
    """What a network said of a frame, kept to cluster it again.

    Embedding (E, *shape), foreground (*shape) where there is one, truth (*shape); `said`: seeds and bandwidths (*shape), where
    there are some.
    """

    embedding: npt.NDArray[np.float32]
    foreground: npt.NDArray[np.float32] | None
    truth: npt.NDArray[np.integer]
    said: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvaluatedFrame:
    """Scores of one frame."""

    name: str
    group: str
    scores: tuple[MatchScore, ...]  # one per IoU threshold of the evaluation
    centres: MatchScore | None  # of the labels of `true_centre_labels`
    baseline: MatchScore | None  # of the labels of `otsu_watershed`
    seconds: float  # that the segmentation took


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Scores of a model on a set of images."""

    iou: float  # the threshold of the scores that take one
    frames: tuple[EvaluatedFrame, ...]
    outputs: tuple[FrameOutput, ...] = ()  # as many as frames if they were to be kept, else none

    @property
    def pooled(self) -> MatchScore:
        """Over all objects at `iou`."""
        return pool_scores(_at(frame, self.iou) for frame in self.frames)

    @property
    def mean(self) -> MeanScore:
        """Over the images at `iou`."""
        return mean_scores(_at(frame, self.iou) for frame in self.frames)

    @property
    def curve(self) -> dict[float, float]:
        """Pooled AP per IoU threshold, 0.5 to 0.95."""
        return {iou: pool_scores(_at(frame, iou) for frame in self.frames).ap for iou in IOUS}

    @property
    def centres(self) -> MatchScore | None:
        """Pooled score with the true centres: what the network would reach with a perfect clustering."""
        found = [frame.centres for frame in self.frames if frame.centres is not None]
        return pool_scores(found) if found else None

    @property
    def baseline(self) -> MatchScore | None:
        """Pooled score of `otsu_watershed`."""
        found = [frame.baseline for frame in self.frames if frame.baseline is not None]
        return pool_scores(found) if found else None

    def groups(self) -> dict[str, Evaluation]:
        """The same per kind of image."""
        names = sorted({frame.group for frame in self.frames})
        return {name: replace(self, frames=tuple(f for f in self.frames if f.group == name), outputs=()) for name in names}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Clustering settings that were `tried`, in the order of the search, and the `best` with its pooled `score`."""

    best: Clustering
    score: MatchScore
    tried: tuple[tuple[Clustering, MatchScore], ...]


def evaluate_steps(
    examples: Iterable[Example],
    model: Model,
    settings: SegmentSettings | None = None,
    *,
    iou: float = 0.5,
    count: int = 0,
    baseline: bool = False,
    keep: bool = False,
) -> Generator[Event, None, Evaluation]:
    """Segment images and score them; yields an event per tile or window, returns the `Evaluation`.

    ImageError if a truth does not fit its image.

    Parameters
    ----------
    examples : iterable of Example
        Read one by one.
    iou : float
        Threshold of the scores that take one.
    count : int
        Number of examples, for the events; 0 where it is not known.
    baseline : bool
        Score `otsu_watershed` too.
    keep : bool
        Keep the outputs of the network for `calibrate_steps`.
    """
    from napari_shiftseg.segmentation import SegmentSettings, segment_steps

    chosen = replace(settings or SegmentSettings(), keep_embedding=True)
    ious = tuple(sorted({*IOUS, round(float(iou), 9)}))
    frames: list[EvaluatedFrame] = []
    outputs: list[FrameOutput] = []
    for index, example in enumerate(examples):
        started = time.perf_counter()
        result = yield from _counted(segment_steps(example.image, model, chosen), done=index, total=count)
        seconds = time.perf_counter() - started
        for position, output in _split(result, example):
            frames.append(
                EvaluatedFrame(
                    name=example.name + "".join(f" {axis}={k}" for axis, k in position.items()),
                    group=example.group,
                    scores=match_score(result.labels[tuple(position.values())], output.truth, ious),
                    centres=_centre_score(output, model, result, iou=iou),
                    baseline=_baseline_score(result, position, output, iou=iou) if baseline else None,
                    seconds=seconds / max(1, len(result.record["instances"])),
                )
            )
            if keep:
                outputs.append(output)
        yield Event(done=index + 1, total=count)
    if not frames:
        raise SettingsError("there is nothing to evaluate; give at least one image with its truth.")
    return Evaluation(iou=round(float(iou), 9), frames=tuple(frames), outputs=tuple(outputs))


def calibrate_steps(
    outputs: Sequence[FrameOutput],
    clustering: Clustering,
    *,
    coordinates: bool,
    iou: float = 0.5,
    only: Collection[str] = (),
) -> Generator[Event, None, Calibration]:
    """Search the clustering settings with the highest pooled AP, one setting after the other.

    Parameters
    ----------
    outputs : sequence of FrameOutput
        Kept by `evaluate_steps`.
    clustering : Clustering
        Where the search starts.
    coordinates : bool
        Whether the embedding holds offsets.
    iou : float
        Threshold of the AP.
    only : collection of str
        Names of the settings that are searched, all others staying as they are; () for all.

    Raises
    ------
    SettingsError
        If a setting of `only` is none that this model has.
    """
    without = _FIXED if outputs and outputs[0].said else _SAID
    known = [name for name, _ in _GRID if name not in without]
    if unknown := [name for name in only if name not in known]:
        raise SettingsError(f"{', '.join(unknown)} cannot be calibrated for this model; choose of {', '.join(known)}.")
    grid = [row for row in _GRID if row[0] in (only or known)]
    total = 1 + sum(len(values) for _, values in grid)
    tried: dict[Clustering, MatchScore] = {}
    best, done = clustering, 0

    def score(candidate: Clustering) -> Generator[Event, None, None]:
        scores = []
        for output in outputs:
            settings = LabelSettings(coordinates=coordinates, **asdict(candidate))
            labels = label_instances(
                output.embedding,
                output.foreground,
                settings=settings,
                seeds=output.said.get("seeds"),
                bandwidths=output.said.get("bandwidths"),
            )
            scores.append(match_score(labels, output.truth, iou))
            yield Event(done=done, total=total)
        tried[candidate] = pool_scores(scores)

    yield from score(best)
    for name, values in grid:
        scale = clustering.bandwidth if name == "bandwidth" else 1
        for value in values:
            done += 1
            setting = int(value) if name == "min_size" else float(round(value * scale, 6))
            candidate = replace(best, **{name: setting})  # type: ignore[arg-type]
            if candidate not in tried:
                yield from score(candidate)
        # the first of equals stays, so that nothing changes without a gain
        best = max(tried, key=lambda candidate: (tried[candidate].ap, candidate == best))
    yield Event(done=total, total=total)
    return Calibration(best=best, score=tried[best], tried=tuple(tried.items()))


def true_centre_labels(
    embedding: npt.NDArray[np.floating],
    truth: npt.NDArray[np.integer],
    foreground: npt.NDArray[np.floating] | None = None,
    *,
    threshold: float = 0.5,
    coordinates: bool = False,
) -> npt.NDArray[np.uint32]:
    """Labels that a perfect clustering would give: each foreground pixel goes to the nearest true mean embedding.

    They separate errors of the network, which stay, from errors of the clustering, which go away.

    Parameters
    ----------
    embedding : ndarray
        (E, *shape).
    truth : ndarray
        (*shape) integers, 0 is the background.
    foreground : ndarray, optional
        (*shape) probabilities; without it the true foreground is taken.
    threshold : float
        Probability from which a pixel is foreground.
    coordinates : bool
        Whether the first channels are offsets to which coordinates are to be added.

    Returns
    -------
    ndarray
        (*shape) uint32, numbered as the truth.
    """
    labels = np.zeros(truth.shape, np.uint32)
    ids = np.unique(truth)
    ids = ids[ids > 0]
    mask = truth > 0 if foreground is None else foreground >= threshold
    if not len(ids) or not mask.any():
        return labels
    values = embedding.astype(np.float64)
    if coordinates:
        values[: truth.ndim] += np.indices(truth.shape)
    means = np.stack([ndimage.mean(channel, truth, ids) for channel in values], axis=1)  # (K, E)
    labels[mask] = ids[cKDTree(means).query(values[:, mask].T)[1]]
    return labels


def otsu_watershed(
    pixels: npt.NDArray[np.number], *, sigma: float = 1.0, distance: int = 8, min_size: int = 16
) -> npt.NDArray[np.int32]:
    """Labels of a classical method, for comparison: Otsu's threshold, split by a watershed of the distance to the border.

    Parameters
    ----------
    pixels : ndarray
        (*shape) intensities, bright objects.
    sigma : float
        Of the smoothing, pixels.
    distance : int
        Smallest distance of two centres, pixels.
    min_size : int
        Smaller objects are left out, pixels.
    """
    smooth = gaussian(pixels.astype(np.float64), sigma)
    if smooth.min() == smooth.max():
        return np.zeros(pixels.shape, np.int32)
    mask = smooth > threshold_otsu(smooth)
    depth = gaussian(ndimage.distance_transform_edt(mask), sigma)
    parts, _ = ndimage.label(mask)
    peaks = peak_local_max(depth, min_distance=distance, labels=parts, exclude_border=False)
    markers = np.zeros(pixels.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-depth, markers, mask=mask)
    small = np.bincount(labels.ravel()) < min_size
    return np.where(small[labels], 0, labels).astype(np.int32)


# -- one frame --------------------------------------------------------------------------------------------------------


def _counted(steps: Generator[Event, None, Segmentation], *, done: int, total: int) -> Generator[Event, None, Segmentation]:
    """The same steps, counted in images."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Segmentation = stop.value
            return result
        yield Event(done=done, total=total)


def _at(frame: EvaluatedFrame, iou: float) -> MatchScore:
    return next(score for score in frame.scores if score.iou == iou)


def _split(result: Segmentation, example: Example) -> Iterable[tuple[dict[str, int], FrameOutput]]:
    """Frames of a result with their truth, each with its position on the axes that the network does not have."""
    ndim = result.plan.lattice.ndim
    loops = result.axes[:-ndim]
    order = [axis for axis in example.image.axes if axis != "c"]
    wanted = tuple(example.image.sizes[axis] for axis in order)
    if example.truth.shape != wanted:
        raise ImageError(f"the truth of {example.name} has shape {example.truth.shape}, its image {wanted}; give equal ones.")
    truth = example.truth.transpose([order.index(axis) for axis in result.axes])
    assert result.embedding is not None
    for at in np.ndindex(result.labels.shape[: len(loops)]):
        foreground = None if result.foreground is None else result.foreground[at]
        yield (
            dict(zip(loops, at, strict=True)),
            FrameOutput(
                embedding=result.embedding[(slice(None), *at)],
                foreground=foreground,
                truth=truth[at],
                said={name: values[at] for name, values in said_by(result.outputs).items()},
            ),
        )


def _centre_score(output: FrameOutput, model: Model, result: Segmentation, *, iou: float) -> MatchScore:
    labels = true_centre_labels(
        output.embedding,
        output.truth,
        output.foreground,
        threshold=result.record["clustering"]["threshold"],
        coordinates=model.embedding.meaning == "offset",
    )
    return match_score(labels, output.truth, iou)


def _baseline_score(result: Segmentation, position: dict[str, int], output: FrameOutput, *, iou: float) -> MatchScore:
    channels = result.record["settings"]["channels"]
    for frame in result.image.frames(result.plan.lattice.ndim, None if channels is None else tuple(channels)):
        if frame.index == position:
            break
    pixels = np.asarray(frame.view[...], np.float64).mean(axis=0)
    labels = otsu_watershed(pixels, min_size=result.record["clustering"]["min_size"])
    return match_score(labels, output.truth, iou)
