"""How other packages cut an image into windows and put the results together, over a network that pads with zeros.

MONAI's is the package's own function. The others are re-implementations of the tiling only, made after reading the sources:
nnU-Net (nnunetv2/inference/sliding_window_prediction.py), cellpose (cellpose/transforms.py), torch-em
(torch_em/util/prediction.py) and bioimageio.core (bioimageio/core/block_meta.py). Test-time mirroring, pre- and post-processing
are left out, and sums are kept in float32.

A network is a function from (B, C, *window) to (B, E, *window); an image is a numpy array (C, *shape), and so is
the result (E, *shape).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_shiftseg.network import read_window

Network = Callable[[Tensor], Tensor]
Starts = tuple[tuple[int, ...], ...]
HALOS = {2: (16, 32, 48), 3: (8, 16, 24)}


@dataclass(frozen=True, kw_only=True)
class Tiler:
    """One way of tiling.

    Attributes
    ----------
    name : str
    window : int
        Edge of what the network gets, pixels.
    run : callable
        (image, network) -> result.
    starts : callable
        Shape of an image -> first pixel of the windows per axis; negative where a window begins in the padding.
    """

    name: str
    window: int
    run: Callable[[np.ndarray, Network], np.ndarray]
    starts: Callable[[Sequence[int]], Starts]


def tilers(ndim: int, window: int, halos: Sequence[int] = ()) -> dict[str, Tiler]:
    """The peers by name; `window` is the edge of the window or of a block without its halo, pixels, as are the halos."""
    made = [
        monai(window, 0.25, "constant"),
        monai(window, 0.5, "gaussian"),
        # steps of half a window, rounded; Gaussian weights; no mirroring
        Tiler(
            name="nnU-Net-style 0.5",
            window=window,
            run=lambda image, net: _weighted(image, net, window, nnunet_starts, _gaussian(window, ndim)),
            starts=lambda shape: nnunet_starts(shape, window),
        ),
        *(blocks(window, halo) for halo in halos or HALOS[ndim]),
    ]
    if ndim == 2:  # windows spread evenly, sigmoid taper, batches of 8
        made.append(
            Tiler(
                name="cellpose-style 10 %",
                window=window,
                run=lambda image, net: _weighted(image, net, window, cellpose_starts, _taper(window), batch=8),
                starts=lambda shape: cellpose_starts(shape, window),
            )
        )
    return {tiler.name: tiler for tiler in made}


def shifted_blocks(window: int, halos: Sequence[int]) -> dict[str, Tiler]:
    """Blocks whose last one is moved back until it ends with the image, as in bioimageio.core."""
    return {tiler.name: tiler for tiler in (blocks(window, halo, shifted=True) for halo in halos)}


# -- MONAI, the package -----------------------------------------------------------------------------------------------


def monai(window: int, overlap: float, mode: str) -> Tiler:
    """`sliding_window_inference` of the installed package."""

    def run(image: np.ndarray, network: Network) -> np.ndarray:
        from monai.inferers import sliding_window_inference

        roi = (window,) * (image.ndim - 1)
        return sliding_window_inference(torch.from_numpy(image)[None], roi, 1, network, overlap=overlap, mode=mode)[0].numpy()

    def starts(shape: Sequence[int]) -> Starts:
        from monai.data.utils import dense_patch_slices
        from monai.inferers.utils import _get_scan_interval

        size, roi = tuple(max(window, n) for n in shape), (window,) * len(shape)
        found = dense_patch_slices(size, roi, _get_scan_interval(size, roi, len(shape), (overlap,) * len(shape)))
        return tuple(tuple(sorted({int(part[axis].start) for part in found})) for axis in range(len(shape)))

    return Tiler(name=f"MONAI {overlap}", window=window, run=run, starts=starts)


# -- windows that lie in the image, averaged with weights ------------------------------------------------------------------


def nnunet_starts(shape: Sequence[int], window: int, step: float = 0.5) -> Starts:
    """Steps as near to half a window as fit evenly, rounded to pixels."""
    axes = []
    for size in shape:
        last = max(0, size - window)
        count = math.ceil(last / (window * step)) + 1
        axes.append(tuple(round(last / max(1, count - 1) * k) for k in range(count)))
    return tuple(axes)


def cellpose_starts(shape: Sequence[int], window: int, overlap: float = 0.1) -> Starts:
    """Evenly spread, rounded down."""
    axes = []
    for size in shape:
        count = 1 if size <= window else math.ceil((1 + 2 * overlap) * size / window)
        axes.append(tuple(np.linspace(0, max(0, size - window), count).astype(int).tolist()))
    return tuple(axes)


def _gaussian(window: int, ndim: int) -> np.ndarray:
    """Weights of nnU-Net: sigma is an eighth of the window."""
    spike = np.zeros((window,) * ndim, np.float64)
    spike[(window // 2,) * ndim] = 1
    weights = gaussian_filter(spike, window / 8, mode="constant")
    weights *= 10 / weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return weights.astype(np.float32)


def _taper(window: int) -> np.ndarray:
    """Weights of cellpose: a sigmoid 20 px from the border."""
    edge = max(224, window)
    distance = np.abs(np.arange(edge) - (edge - 1) / 2)
    line = 1 / (1 + np.exp((distance - (edge / 2 - 20)) / 7.5))
    first = edge // 2 - window // 2
    line = line[first : first + window]
    return (line * line[:, None]).astype(np.float32)


def _weighted(
    image: np.ndarray,
    network: Network,
    window: int,
    starts: Callable[[Sequence[int], int], Starts],
    weights: np.ndarray,
    batch: int = 1,
) -> np.ndarray:
    """Weighted mean of all windows over each pixel; an image below the window is padded with zeros."""
    shape = image.shape[1:]
    x = torch.from_numpy(np.pad(image, [(0, 0), *((0, max(0, window - size)) for size in shape)]))
    corners, weight = list(product(*starts(x.shape[1:], window))), torch.from_numpy(weights)
    total, count = None, torch.zeros(x.shape[1:])
    for index in range(0, len(corners), batch):
        parts = [tuple(slice(c, c + window) for c in corner) for corner in corners[index : index + batch]]
        found = network(torch.stack([x[(slice(None), *part)] for part in parts]))
        total = torch.zeros((found.shape[1], *x.shape[1:])) if total is None else total
        for part, block in zip(parts, found, strict=True):
            total[(slice(None), *part)] += block * weight
            count[part] += weight
    total /= count
    return total[(slice(None), *(slice(0, size) for size in shape))].numpy()


# -- blocks with a halo that is cropped ------------------------------------------------------------------------------------


def blocks(block: int, halo: int, shifted: bool = False) -> Tiler:
    """Blocks side by side; each is read with a halo, reflected at the border of the image, and cropped."""

    def corners(shape: Sequence[int]) -> Starts:
        return tuple(
            tuple(min(start, max(0, size - block)) if shifted else start for start in range(0, size, block)) for size in shape
        )

    def run(image: np.ndarray, network: Network) -> np.ndarray:
        shape, result = image.shape[1:], None
        for corner in product(*corners(shape)):
            read = tuple(slice(c, c + block + 2 * halo) for c in corner)
            x = read_window(image, read, ((halo, halo),) * len(shape))
            y = network(torch.from_numpy(np.ascontiguousarray(x))[None])[0]
            size = tuple(min(block, n - c) for c, n in zip(corner, shape, strict=True))
            result = np.empty((y.shape[0], *shape), np.float32) if result is None else result
            keep = tuple(slice(halo, halo + n) for n in size)
            result[(slice(None), *(slice(c, c + n) for c, n in zip(corner, size, strict=True)))] = y[(slice(None), *keep)]
        return result

    return Tiler(
        name=f"{'bioimageio-style' if shifted else 'torch-em-style'} {block}+{halo}",
        window=block + 2 * halo,
        run=run,
        starts=lambda shape: tuple(tuple(c - halo for c in axis) for axis in corners(shape)),
    )
