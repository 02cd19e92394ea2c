"""The strip loop: the strips of a streamed plan are read, normalised and put through the network, column by column."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.geometry import Pass, StreamPlan, Strip, Window
from napari_shiftseg.network import onednn
from napari_shiftseg.network.arithmetic import exact_convolutions
from napari_shiftseg.network.device import Device, channels_last, choose_dtype, is_tf32, memory_errors
from napari_shiftseg.network.execution import ready_network
from napari_shiftseg.network.normalise import ArrayLike, Limits
from napari_shiftseg.network.row_reader import RowReader
from napari_shiftseg.network.stream import StreamNet
from napari_shiftseg.network.transfer import Copies
from napari_shiftseg.network.unet import UNet
from napari_shiftseg.network.windows import in_memory
from napari_shiftseg.threads import ahead

__all__ = ["computed_strips", "streamable"]

Block = npt.NDArray[np.float32]

# Strips that are read, or being read, before they are needed.
_AHEAD = 2


def streamable(module: object) -> bool:
    """Whether the layers of a network are those that a stream runs one by one."""
    return isinstance(module, UNet) and type(module).forward is UNet.forward


def computed_strips(
    module: UNet, image: ArrayLike, plan: StreamPlan, *, device: Device, dtype: str, limits: Limits
) -> Generator[tuple[Window, Block]]:
    """What the network gives for each strip, column by column: its window in the result and (channels, *window) float32.

    Where the image has one value per channel over more rows than the network sees, strips repeat and are not computed again.
    Where reading takes time, and on GPUs, the next strips are read in a thread while the network runs, and a strip comes back
    from a GPU while it computes the next one. Closing the generator ends that thread. Parameters as in `predict_steps`; the
    image has a channel axis.
    """
    spec, layout = module.spec, channels_last(module.spec.ndim)
    with memory_errors("the weights of the network"):
        net: Any = ready_network(module, device, dtype)
    one_step = device.kind == "cpu" and onednn.works(spec.ndim, choose_dtype(dtype, device))
    # what is held and what a strip gives depend on no row further back
    memory = plan.strip + spec.margin[0] + 2 * spec.period[0]
    copies = Copies(device.torch_device)
    running: deque[tuple[Window, str, Callable[[], Block]]] = deque()
    for column in plan.columns:
        one = Pass.of(spec, [part.stop - part.start for part in column.read], column.keep)
        window = tuple(
            slice(whole.start + part.start, whole.start + part.stop) for whole, part in zip(column.read, one.read, strict=True)
        )
        size = " x ".join(str(part.stop - part.start) for part in window[1:])
        what = f"a strip of {plan.strip} rows" + f" of a column of {size} px" * bool(size)
        with memory_errors(what):
            stream = StreamNet(net, one, plan.strip, layout, one_step=one_step)
        strips = _read_strips(RowReader(image, window, plan.tiles.pad), plan, limits, what)
        if copies.overlap or not in_memory(image):
            strips = ahead(strips, _AHEAD)
        last: Callable[[], Block] | None = None
        with closing(strips):
            for strip, pixels, plain in strips:
                rows = pixels.shape[1]
                inside = strip.read.stop <= one.read[0].stop - memory
                if last is not None and inside and rows == plan.strip and plain - rows >= memory:
                    stream.skip(rows)
                else:
                    with memory_errors(what), exact_convolutions(False, tf32=is_tf32(dtype)):
                        y = stream.push(copies.there(pixels)[None])
                        last = None if y is None else copies.back(y[0].float())
                if last is not None and strip.write.start < strip.write.stop:
                    running.append(((strip.write, *column.write[1:]), what, last))
                    if len(running) > copies.overlap:
                        yield _finished(*running.popleft())
    while running:
        yield _finished(*running.popleft())


def _read_strips(reader: RowReader, plan: StreamPlan, limits: Limits, what: str) -> Generator[tuple[Strip, Block, int]]:
    """Strips of a column, each with its pixels, normalised, and the rows up to here that have the values of its last."""
    plain = _PlainRows()
    for strip in plan.strips():
        with memory_errors(what):
            pixels = limits.apply(reader.read(strip.read))
            seen = plain.seen(pixels)
        yield strip, pixels, seen


def _finished(window: Window, what: str, finish: Callable[[], Block]) -> tuple[Window, Block]:
    with memory_errors(what):
        return window, finish()


class _PlainRows:
    """Counts rows with one value per channel."""

    def __init__(self) -> None:
        self._values: bytes | None = None
        self._count = 0

    def seen(self, pixels: Block) -> int:
        """Rows up to here that have the values of the last; 0 if these have several."""
        values = pixels.reshape(len(pixels), -1)[:, 0]
        flat = all(bool((channel == value).all()) for channel, value in zip(pixels, values, strict=True))
        if not flat:
            self._values, self._count = None, 0
        elif values.tobytes() == self._values:
            self._count += pixels.shape[1]
        else:
            self._values, self._count = values.tobytes(), pixels.shape[1]
        return self._count
