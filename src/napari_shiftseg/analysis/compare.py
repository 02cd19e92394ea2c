"""`compare_steps`: what an image becomes by tiles as they come, beside what it became by tiles that keep the rules."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import TilingError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.geometry import NAIVE, Naive, TilePlan, Violation, naive_plan, violations
from napari_shiftseg.instances import LabelSettings, label_steps, said_by
from napari_shiftseg.network import Limits, Model, predict_steps
from napari_shiftseg.views import ArrayLike


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A result by naive tiles, and where it differs from the one that it was compared with."""

    plan: TilePlan  # the naive tiles
    broken: tuple[Violation, ...]  # rules that they break
    # embedding, labels: (E, *shape) float32 and (*shape) uint32, by the naive tiles
    embedding: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint32]
    foreground: npt.NDArray[np.float32] | None  # (*shape) float32 probability
    difference: npt.NDArray[np.float32]  # (*shape) float32, L2 distance of the two embeddings
    changed: npt.NDArray[np.bool_]  # (*shape) bool, pixels of instances that the other result has not; see `changed_pixels`
    text: str  # the finding in one sentence


def compare_steps(
    model: Model,
    image: ArrayLike,
    plan: TilePlan,
    *,
    embedding: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    clustering: LabelSettings,
    how: Naive = "uncropped",
    limits: Limits | None = None,
    device: str = "auto",
    dtype: str = "float32",
) -> Generator[Event, None, Comparison]:
    """Compute an image again by naive tiles, and compare; ShiftsegError if there is nothing to compare, or as `predict`.

    Parameters
    ----------
    image : array-like
        (C, *shape).
    plan : TilePlan
        By which the result was made, with reflection at the borders.
    embedding, labels : ndarray
        (E, *shape) and (*shape), the result.
    how : {"uncropped", "one period", "shifted"}
        Which rules to break, as `naive_plan`.
    clustering, limits, device, dtype
        As it was made.

    Returns
    -------
    Comparison
    """
    naive = naive_plan(plan, how)
    if naive.result_shape != tuple(embedding.shape[1:]):
        raise TilingError("the result covers only a part of its image; compare one that was reflected at the borders.")
    yield Stage(done=0, total=len(naive), text="naive tiles")
    made = yield from predict_steps(model, image, naive, device=device, dtype=dtype, limits=limits)
    yield Stage(done=0, total=0, text="instances of the naive tiles")
    found = yield from label_steps(made.embedding, made.foreground, clustering, **said_by(made.outputs))
    difference = np.zeros(naive.result_shape, np.float32)
    for channel, other in zip(made.embedding, embedding, strict=True):  # one at a time: embeddings are large
        difference += np.square(channel - np.asarray(other, np.float32))
    np.sqrt(difference, out=difference)
    changed = changed_pixels(np.asarray(labels), found)
    return Comparison(
        plan=naive,
        broken=violations(naive, model.record),
        embedding=made.embedding,
        labels=found,
        foreground=made.foreground,
        difference=difference,
        changed=changed,
        text=_text(np.asarray(labels), changed, difference, plan=naive, how=how),
    )


def changed_pixels(labels: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels at which two labellings differ; the numbers of the instances do not matter.

    Two instances are the same if each overlaps the other more than any third; of equal overlaps the first counts.

    >>> changed_pixels(np.array([1, 1, 1, 0, 2]), np.array([7, 7, 5, 0, 3])).tolist()
    [False, False, True, False, False]
    """
    both = np.stack([labels.ravel(), others.ravel()]).astype(np.int64)
    pairs, inverse, counts = np.unique(both, axis=1, return_inverse=True, return_counts=True)
    a, b = pairs
    equal = (a == 0) & (b == 0)
    real = np.flatnonzero((a > 0) & (b > 0))
    order = real[np.argsort(-counts[real], kind="stable")]
    best_of_a = order[np.unique(a[order], return_index=True)[1]]
    best_of_b = order[np.unique(b[order], return_index=True)[1]]
    equal[np.intersect1d(best_of_a, best_of_b)] = True
    return np.asarray(~equal[inverse.reshape(labels.shape)])


def _text(
    labels: npt.NDArray[Any], changed: npt.NDArray[np.bool_], difference: npt.NDArray[np.float32], *, plan: TilePlan, how: Naive
) -> str:
    hit, there = (np.count_nonzero(np.unique(seen)) for seen in (labels[changed], labels))
    tiles = " x ".join(map(str, plan.write))
    return (
        f"Naive tiles of {tiles} px ({NAIVE[how]}) change pixels of {hit} of {there} instances; the embedding differs by "
        f"{float(np.median(difference)):.2g} at half of the pixels, and by {float(difference.max()):.2g} at most."
    )
