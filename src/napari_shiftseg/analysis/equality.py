"""When two output functions of a network are equal: at their own places, or on the image as it stands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_shiftseg.analysis.bench import Network, bench_network, run_network, scale
from napari_shiftseg.analysis.constants import DRAWS, EQUAL
from napari_shiftseg.errors import SettingsError


def absolutely_equal(
    network: Network, here: Sequence[int], there: Sequence[int], *, size: Sequence[int], channels: int = 1, seed: int = 0
) -> bool:
    """Whether two output pixels have the same value on every image: u_i(I) = u_j(I).

    Parameters
    ----------
    network : Module or callable
        Maps (1, C, *in) to (1, E, *out); a copy of a Module runs in evaluation mode on the CPU, in float64 if it can.
    here, there : sequence of int
        Output pixels, one position per axis.
    size : sequence of int
        Edges of the images that are drawn, pixels; the network has to take them.
    channels : int
        Of the images.
    seed : int
        Of the images, which are uniform noise of both signs; a difference that none of them shows stays unseen.

    Raises
    ------
    SettingsError
        If a position lies outside the output, or has another number of axes.

    Source: Rumberger et al. 2021, Definition 1.

    >>> cell = torch.nn.Sequential(torch.nn.MaxPool1d(2), torch.nn.Upsample(scale_factor=2))
    >>> absolutely_equal(cell, (4,), (5,), size=(12,)), absolutely_equal(cell, (4,), (6,), size=(12,))
    (True, False)
    """
    return _equal(network, here, there, size=size, shift=[0] * len(size), channels=channels, seed=seed)


def relatively_equal(
    network: Network, here: Sequence[int], there: Sequence[int], *, size: Sequence[int], channels: int = 1, seed: int = 0
) -> bool:
    """Whether two output pixels do the same to their own surroundings: u_i(I) = u_j(T I), where T moves pixel i to pixel j.

    Parameters and errors as for `absolutely_equal`.

    Source: Rumberger et al. 2021, Definition 1.

    >>> cell = torch.nn.Sequential(torch.nn.MaxPool1d(2), torch.nn.Upsample(scale_factor=2))
    >>> relatively_equal(cell, (4,), (5,), size=(12,)), relatively_equal(cell, (4,), (6,), size=(12,))
    (False, True)
    """
    shift = [b - a for a, b in zip(here, there, strict=False)]
    return _equal(network, here, there, size=size, shift=shift, channels=channels, seed=seed)


def _equal(
    network: Network,
    here: Sequence[int],
    there: Sequence[int],
    *,
    size: Sequence[int],
    shift: Sequence[int],
    channels: int,
    seed: int,
) -> bool:
    if not len(here) == len(there) == len(size):
        raise SettingsError(f"positions {tuple(here)} and {tuple(there)} are given for {len(size)} axes; give one per axis.")
    run, dtype = bench_network(network)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(DRAWS):
        room = [edge + abs(step) for edge, step in zip(size, shift, strict=True)]
        drawn = 2 * torch.rand((1, channels, *room), generator=generator, dtype=torch.float64, device="cpu").to(dtype) - 1
        # a pixel of the moved image stands `shift` farther along the axis than it does in the image
        image, moved = drawn, drawn
        for axis, (edge, step) in enumerate(zip(size, shift, strict=True), start=2):
            image = image.narrow(axis, max(step, 0), edge)
            moved = moved.narrow(axis, max(-step, 0), edge)
        first, second = run_network(run, image), run_network(run, moved)
        if float((_at(first, here) - _at(second, there)).abs().max()) > EQUAL[dtype] * scale(first):
            return False
    return True


def _at(out: Tensor, place: Sequence[int]) -> Tensor:
    if any(not 0 <= p < n for p, n in zip(place, out.shape[1:], strict=True)):
        raise SettingsError(f"pixel {tuple(place)} lies outside of an output of {tuple(out.shape[1:])} px; give one inside.")
    window: tuple[slice | int, ...] = (slice(None), *place)
    return out[window]
