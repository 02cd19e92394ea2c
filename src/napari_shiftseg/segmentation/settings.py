"""`SegmentSettings`: a wish for a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from napari_shiftseg.geometry import Method

Number: TypeAlias = int | float
"""Of an intensity: no float tells huge integers apart."""

Diameter: TypeAlias = Number | Literal["auto", "pixel-size"]
"""Of objects, pixels; or how it is to be found."""

Status = Literal["compliant", "tile-exact", "non-compliant"]


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """A wish for a segmentation; None takes what the model's record or the machine suggests.

    Attributes
    ----------
    write : int or tuple of int, optional
        Output edge per tile, a multiple of the period, pixels. A zero-padded network that was trained on neighbouring tiles
        has one edge only, that of its training.
    method : {"auto", "tiles", "stream"}
        How the network runs over the image: tile by tile, or in strips that compute no row twice; "auto" takes what costs less
        (see `geometry.choose_method`).
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    dtype : str
        "auto" (bfloat16 where the device has matrix units for it, else float32), "float32", "bfloat16", "float16" (GPUs) or
        "tf32" (NVIDIA GPUs). All but float32 run in blocks whose size the network fixes, as `deterministic` does.
    memory : int, optional
        Bytes of main memory that the run, or each of its workers, may take; less than Python itself takes (440 MB) bounds a
        pass of the network alone. On a GPU also what a pass may take there.
    bandwidth, threshold, min_size : optional
        Of the labelling; see `instances.LabelSettings`. Of a network that says bandwidths itself, `bandwidth` is
        a factor on these.
    deterministic : bool
        Equal labels to the last pixel whatever the tile size: the arithmetic runs in blocks that the network alone decides.
    allow_noncompliant : bool
        Run although a rule is broken; the result is stamped.
    channels : tuple of int, optional
        Channels of the image that the network gets.
    limits : (float, float) or one such pair per channel, optional
        Intensities that become 0 and 1.
    percentiles : (float, float), optional
        Percentiles of the intensities that become 0 and 1, from 0 to 100, exactly as they are: neither areas without data nor
        outliers are left out. None takes those of the model's record, with what `network.robust` leaves out.
    limits_per : {"image", "frame"}
        One pair of limits for all frames of a series or stack, or one for each.
    invert : bool
        Dark objects on a bright background: the upper limit becomes 0 and the lower one becomes 1.
    no_data : float, optional
        Value of pixels without data, besides NaN and infinite ones. They count as background, and no object lies there.
    diameter : float, "auto" or "pixel-size", optional
        Of the objects, pixels of the image. The network runs on the image at the scale, as near to 1 as may be, at which they
        are about as large as those that the model knows (a ratio of small numbers from 1/8 to 8), and its output is brought
        back to the image's own pixels before it is clustered, tile-exact as ever. "auto" measures them with the network at
        several scales in a few places; with "pixel-size" the pixel sizes of image and model say the scale of each axis. None
        takes the image as it is.
    augment : bool
        Run the network on the image flipped and turned in all ways (8 in 2D; in 3D the 8 flips, and quarter turns about z where
        the network treats y and x alike, 16 in all) and average what it says before instances are clustered. Takes so many
        times the time, and is tile-exact as ever. Of models whose embedding is offsets.
    keep_embedding : bool, optional
        Whether the result holds the embedding and all else that the network says; None means in memory yes, out of core no.
        The foreground is held in memory in any case.
    out_of_core : bool, optional
        Work block by block from disk to disk; None does so when the result would not fit in memory and has a place on disk.
    workers : int
        Processes on this machine that share the blocks; 0 works in this one. Out of core only.
    cluster : str, optional
        Address of a dask scheduler whose workers share the blocks. Out of core only.

    >>> SegmentSettings(write=64, bandwidth=0.5).write
    64
    """

    write: int | tuple[int, ...] | None = None
    method: Method = "auto"
    device: str = "auto"
    dtype: str = "auto"
    memory: int | None = None
    bandwidth: float | None = None
    min_size: int | None = None
    deterministic: bool = False
    allow_noncompliant: bool = False
    threshold: float | None = None
    channels: tuple[int, ...] | None = None
    limits: tuple[Number, Number] | tuple[tuple[Number, Number], ...] | None = None
    percentiles: tuple[float, float] | None = None
    limits_per: Literal["image", "frame"] = "image"
    invert: bool = False
    no_data: Number | None = None
    diameter: Diameter | None = None
    augment: bool = False
    keep_embedding: bool | None = None
    out_of_core: bool | None = None
    workers: int = 0
    cluster: str | None = None
