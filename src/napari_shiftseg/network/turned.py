"""`TurnedNet`: a network that is given an image, runs on it flipped and turned in all ways, and says the mean of what it finds.

What each turn says is brought back to the image's own pixels, where offsets are turned as vectors. Sums have one order, and
each pass reads and keeps the same pixels of the image, so a pixel gets equal bits whatever tile it lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import Lattice, Output, Turn, Turning, Window
from napari_shiftseg.network.between import Between


class TurnedNet(Between):
    """A network in the form in which it runs, on all turns of an image.

    Logits of probabilities are averaged, and of bandwidths what their activation makes them of: of an "exp" the logarithm.
    Other values than these and offsets are those of the image as it is, since nothing says how they turn.

    Parameters
    ----------
    net, enter
        As of `Between`.
    turning : Turning
    outputs : mapping of str to Output or None
        What its channels say; None averages all as they are.
    """

    def __init__(
        self,
        net: nn.Module,
        enter: Callable[[nn.Module, Tensor], Tensor],
        turning: Turning,
        outputs: Mapping[str, Output] | None,
    ) -> None:
        super().__init__(net, enter)
        self.turning = turning
        ndim = turning.inner.ndim
        self._vectors, self._others = [], []
        for output in (outputs or {}).values():
            first, stop = output.channels.start, output.channels.stop
            if output.meaning == "offset":
                self._vectors.append(first)
                first += ndim
            if output.meaning in ("offset", "code", "value") and first < stop:
                self._others.append(slice(first, stop))

    @property
    def lattice(self) -> Lattice:
        """Of the network together with all turns."""
        return self.turning.lattice()

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, channels, *keep) float32, of pixels (B, C, *in)."""
        total, others = None, []
        for turn in self.turning.turns:
            y = self._passed(x, keep, turn)
            if total is None:
                # what a network of others gives may be its own
                total, others = y.clone(), [y[:, part].clone() for part in self._others]
            else:
                total += y
        assert total is not None
        total /= len(self.turning.turns)
        for part, values in zip(self._others, others, strict=True):
            total[:, part] = values
        return total

    def _passed(self, x: Tensor, keep: Window, turn: Turn) -> Tensor:
        """What the network says of a turned image, at the image's own pixels."""
        backwards = [2 + place for place, flipped in enumerate(turn.flipped) if flipped]
        turned = x.permute(0, 1, *(2 + axis for axis in turn.axes)).flip(backwards)
        y = self.inner(turned, self.turning.window(turn, x.shape[2:], keep))
        ndim = len(turn.axes)
        y = y.flip(backwards).permute(0, 1, *(2 + turn.place(axis) for axis in range(ndim)))
        for first in self._vectors:
            along = [y[:, first + turn.place(axis)] * turn.sign(axis) for axis in range(ndim)]
            y[:, first : first + ndim] = torch.stack(along, 1)
        return y


def check_turning(outputs: Mapping[str, Output] | None, ndim: int) -> None:
    """Refuse to average what a network says of turned images where that has no mean; SettingsError."""
    if outputs is None:
        raise SettingsError(
            "nothing says what the channels of the network mean, so what it says of a turned image cannot be turned back; give "
            "a Model with outputs, or leave augment out."
        )
    embedding = outputs.get("embedding")
    if embedding is not None and (embedding.meaning != "offset" or embedding.count > ndim):
        raise SettingsError(
            "the embedding of the model has free codes, and those of a turned image are others, so they have no mean; take a "
            "model whose embedding is offsets alone, or leave augment out."
        )
