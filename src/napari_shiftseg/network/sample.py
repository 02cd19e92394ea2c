"""`Sample`: the pixels that decide how an image is scaled, all of them or small patches on a regular lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import floor, prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayLike", "Sample", "minus"]

# Pixels per channel that decide the limits of a large image; a regular lattice of them is the same for every tiling.
_SAMPLE = 1 << 22
# Largest edge of a patch by number of axes, and fewest patches.
_PATCH = {1: 4096, 2: 64, 3: 16}
_FEWEST = 256
# Frames of a long series that are looked at, evenly spread.
_FRAMES = 64
# Integers up to here are exact in double precision.
_EXACT = 1 << 53


class ArrayLike(Protocol):
    """What an image must offer: a shape, a type, and slices that give numpy arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Edges, pixels."""

    @property
    def dtype(self) -> Any:
        """Type of a pixel."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Pixels of one channel, as planes.

    Attributes
    ----------
    planes : ndarray
        (n, y, x) float64, less `base`.
    valid : ndarray
        (n, y, x) bool: finite, and not the value that stands for no data.
    frames : ndarray
        (n,) int, the frame that each plane is of.
    base : int
        What was taken off before integers of 64 bits became floats; 0 where they are exact.
    infinite : bool
        Whether any value is infinite.
    whole : bool
        Whether borders of planes are borders of the image.
    """

    planes: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    frames: npt.NDArray[np.int64]
    base: int
    infinite: bool
    whole: bool

    @classmethod
    def of(cls, images: Sequence[ArrayLike], channel: int, no_data: float | None = None) -> Sample:
        """The sample of a channel of one image (C, *shape), or of the frames of a series.

        Patches and not single pixels, since a file is read by chunks: how many are touched does not grow with the image.
        """
        count = len(images)
        pixels = prod(images[0].shape[1:])
        budget = _SAMPLE
        chosen = list(range(count))
        if pixels * count > _SAMPLE:
            chosen = np.unique(np.linspace(0, count - 1, _FRAMES).round().astype(int)).tolist()
            budget = max(_SAMPLE // len(chosen), _SAMPLE // _FRAMES)
        parts = [_planes(images[number], channel, budget) for number in chosen]
        planes = np.concatenate(parts) if len(parts) > 1 else parts[0]
        frames = np.repeat(np.asarray(chosen, np.int64), [len(part) for part in parts])
        finite = np.isfinite(planes) if planes.dtype.kind == "f" else np.ones(planes.shape, bool)
        infinite = planes.dtype.kind == "f" and bool(np.isinf(planes).any())
        valid = finite if no_data is None else finite & (planes != no_data)
        base = 0
        if planes.dtype.kind in "iu" and planes.dtype.itemsize == 8 and max(-int(planes.min()), int(planes.max())) > _EXACT:
            base = int(planes.min())
        return cls(planes=minus(planes, base), valid=valid, frames=frames, base=base, infinite=infinite, whole=pixels <= budget)

    def negated(self) -> Sample:
        """The same with dark and bright exchanged."""
        return replace(self, planes=-self.planes)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """All values that count."""
        return self.planes[self.valid]


def minus(block: npt.NDArray[Any], base: float) -> npt.NDArray[np.float64]:
    """A block less a number, in double precision, rounded after the subtraction and not before it.

    >>> minus(np.array([2**63 + 5], np.uint64), 2**63 + 2).tolist()
    [3.0]
    """
    if block.dtype.kind == "f" and block.dtype.itemsize > 8:
        return np.asarray(block - block.dtype.type(base), np.float64)
    if block.dtype.kind in "iu" and block.dtype.itemsize == 8:
        whole = floor(base)
        halves = (block >> 32).astype(np.int64) - (whole >> 32), (block & 0xFFFFFFFF).astype(np.int64) - (whole & 0xFFFFFFFF)
        return np.asarray(halves[0] * 2.0**32 + (halves[1] - float(base - whole)), np.float64)
    out: npt.NDArray[np.float64] = block.astype(np.float64)
    if base:
        out -= base
    return out


def _planes(image: ArrayLike, channel: int, budget: int) -> npt.NDArray[Any]:
    """Pixels of one channel of an image, (n, y, x): all of them, or those of small patches on a regular lattice."""
    shape: Sequence[int] = image.shape[1:]
    picked = slice(channel, channel + 1)
    if prod(shape) <= budget:
        return _as_planes(np.asarray(image[(picked, *(slice(0, n) for n in shape))])[0])
    edge = min(_PATCH.get(len(shape), 16), max(1, int((budget / _FEWEST) ** (1 / len(shape)))))
    wanted = budget / edge ** len(shape)
    apart = (prod(shape) / wanted) ** (1 / len(shape))
    starts = []
    for size in shape:
        count = min(max(1, round(size / apart)), -(-size // edge))
        starts.append(np.unique(np.linspace(0, max(0, size - edge), count).round().astype(int)).tolist())
    corners = product(*starts)
    windows = [(picked, *(slice(at, at + edge) for at in corner)) for corner in corners]
    return np.concatenate([_as_planes(np.asarray(image[window])[0]) for window in windows])


def _as_planes(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return block.reshape(-1, *(block.shape[-2:] if block.ndim > 1 else (1, block.shape[-1])))
