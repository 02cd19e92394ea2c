"""Faces of a block: what its neighbours, and the join of all blocks, need of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.instances.pieces import REACH, Fragments, Pieces

__all__ = ["RIM", "BlockFaces", "BlockRest", "faces_of", "rim"]

RIM = REACH + 1
"""Pixels around a block that decide its labels: those of the next pixels decide what the rest touches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockFaces:
    """What the neighbours of a block, and the join of all blocks, need of it.

    Attributes
    ----------
    sizes, first : ndarray
        Of each fragment, as in `Fragments`.
    modes : ndarray
        (Q + 1, E) float64, of the pieces on the faces; of 0 zeros.
    fragment : ndarray
        (Q + 1,) int64, their fragments; -1 for 0.
    faces : mapping
        For each axis and side (0, 1) the outermost pixels: number of the piece from 1 to Q, or 0.
    rims : mapping
        For each axis and side the codes of the outermost `REACH` + 1 pixels; empty for what needs none.
    """

    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    modes: npt.NDArray[np.float64]
    fragment: npt.NDArray[np.int64]
    faces: Mapping[tuple[int, int], npt.NDArray[np.int32]]
    rims: Mapping[tuple[int, int], npt.NDArray[np.int32]]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain named arrays, as files hold them."""
        out: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in ("sizes", "first", "modes", "fragment")}
        for kind in ("faces", "rims"):
            out |= {f"{kind}_{axis}_{side}": array for (axis, side), array in getattr(self, kind).items()}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BlockFaces:
        """The faces that `to_arrays` wrote down."""
        places: dict[str, dict[tuple[int, int], npt.NDArray[np.int32]]] = {"faces": {}, "rims": {}}
        for name in arrays:
            kind, *place = name.split("_")
            if kind in places and len(place) == 2:
                places[kind][int(place[0]), int(place[1])] = arrays[name]
        return cls(
            sizes=arrays["sizes"],
            first=arrays["first"],
            modes=arrays["modes"],
            fragment=arrays["fragment"],
            faces=places["faces"],
            rims=places["rims"],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockRest:
    """What the join of the rest needs of a block.

    Attributes
    ----------
    faces : BlockFaces
        Parts of the rest as pieces and fragments, all of one mode.
    border, contacts : ndarray
        As in `Rest`.
    """

    faces: BlockFaces
    border: npt.NDArray[np.int64]
    contacts: npt.NDArray[np.int64]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain named arrays, as files hold them."""
        return {**self.faces.to_arrays(), "border": self.border, "contacts": self.contacts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BlockRest:
        """The rest that `to_arrays` wrote down."""
        return cls(faces=BlockFaces.from_arrays(arrays), border=arrays["border"], contacts=arrays["contacts"])


def faces_of(found: Pieces, fragments: Fragments) -> BlockFaces:
    """What others need of a block."""
    ndim = found.pixels.ndim
    sides = list(product(range(ndim), (0, 1)))
    outermost = {(axis, side): np.take(found.pixels, -side, axis) for axis, side in sides}
    there = np.unique(np.concatenate([np.unique(face) for face in outermost.values()] + [np.zeros(1, np.int64)]))
    rims = {}
    for axis, side in sides:
        part = [slice(None)] * ndim
        part[axis] = slice(None, RIM) if side == 0 else slice(-RIM, None)
        rims[axis, side] = np.ascontiguousarray(fragments.codes[tuple(part)])
    return BlockFaces(
        sizes=fragments.sizes,
        first=fragments.first,
        modes=found.modes[there],
        fragment=found.fragment[there],
        faces={place: np.searchsorted(there, face).astype(np.int32) for place, face in outermost.items()},
        rims=rims,
    )


def rim(faces: BlockFaces, step: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Codes of the pixels of a neighbour, that many places away, that lie within `RIM` of the block."""
    axis = next(k for k, by in enumerate(step) if by)
    codes = faces.rims[axis, 1 if step[axis] < 0 else 0]
    part = [slice(None)] * codes.ndim
    for k in range(axis + 1, codes.ndim):
        if step[k]:
            part[k] = slice(-RIM, None) if step[k] < 0 else slice(None, RIM)
    return codes[tuple(part)]
