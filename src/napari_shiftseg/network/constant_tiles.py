"""`ConstantTiles`: empty regions of an image cost one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.geometry import Window

__all__ = ["ConstantTiles"]


class ConstantTiles:
    """Outputs of tiles that read one value per channel: equal inputs give equal outputs, so each is computed once."""

    MOST = 8  # blocks kept: inner and border tiles of a few values

    def __init__(self) -> None:
        self.known: dict[Any, npt.NDArray[np.float32]] = {}

    def key(self, pixels: npt.NDArray[np.float32], keep: Window) -> Any:
        """What decides the output of a constant tile; None for any other tile."""
        values = pixels.reshape(len(pixels), -1)[:, 0]
        flat = all(bool((channel == value).all()) for channel, value in zip(pixels, values, strict=True))
        return (values.tobytes(), pixels.shape, *((s.start, s.stop) for s in keep)) if flat else None

    def keep(self, key: Any, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Remember a block, if it has a key, and give it back."""
        if key is not None:
            if len(self.known) >= self.MOST:
                self.known.pop(next(iter(self.known)))
            self.known[key] = block
        return block
