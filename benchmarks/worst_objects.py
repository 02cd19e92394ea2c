"""The worst objects of a model as one picture: image, truth, labels and foreground of each, and what is at fault.

    python benchmarks/worst_objects.py DATA [DATA ...] --model nuclei --picture worst.png [--out FILE]

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Missed objects of the truth and extra ones of the
labels (IoU 0.5) are ranked by the pixels that are wrong: those of the object outside its best partner. An image gives two of
them at most, or its share where there are few images. What is at fault is found out for *all* missed and extra objects of the
split, and counted:

- *clustering*: with the true centres the same output of the network would have given the object (`true_centre_labels`), the
  network says the object itself (`Said.has`), and tells it from its neighbours (`Said.together`);
- *pair*: the true centres would have given it, and the network says it, but does not tell it from a neighbour: between the two
  the density of the votes nowhere falls to the share of the lower one at which modes are told apart. How often two modes that
  look so are two objects says `mode_pairs.py`;
- *centre*: the true centres would have given it, and the network says it not: its seeds doubt that it is one, or it is not what
  lies in the Gaussian that the loss trains, around the mean of its votes with the mean of its bandwidths;
- *foreground*: it would have been given only with the true foreground as well; or an extra object lies on no true one;
- *embedding*: not even then.

The fault of an extra object on a true one is that of the true one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import pixels_of
from accuracy_runs import Pair, channels_of, pairs_of
from bench import keep, origin, parser
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.evaluation import true_centre_labels
from napari_shiftseg.instances import mistaken_objects, said_by
from napari_shiftseg.instances.constants import FAINT, LEAST_WIDTH, VALLEY, WAY
from napari_shiftseg.instances.votes import Votes, density_of
from napari_shiftseg.picture import encode_png, instance_colours

PANEL, GAP, CAPTION = 160, 4, 14  # px
AROUND, SMALLEST = 12, 48  # px of the image: beside the object, and the least edge of what is shown
COLUMNS = 2
FAULTS = ("clustering", "pair", "centre", "foreground", "embedding")
HALF = (2 * math.log(2)) ** 0.5  # bandwidths: where a Gaussian is half, by which the loss parts an object from the rest
TOUCHING = 3  # px between two objects that touch, as wide as the borders that the clustering leaves undecided


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What a network says of an image's objects."""

    places: np.ndarray  # (E, *shape), where each pixel's object is
    seeds: np.ndarray  # (*shape)
    widths: np.ndarray  # (*shape) bandwidth of its object, as the clustering takes it
    inside: np.ndarray  # (*shape) bool, foreground
    least_seed: float  # mean seed of an object
    factor: float = 1.0  # of the clustering, on the bandwidths
    valley: float = VALLEY  # at which it parts two objects

    def has(self, mask: np.ndarray) -> bool:
        """Whether the network says a true object: its seeds do not doubt it, and its Gaussian holds it and little else."""
        own = mask & self.inside
        if not own.any() or self.seeds[own].mean() < self.least_seed:
            return False
        middle = self.places[:, own].mean(axis=1)
        gaps = ((self.places - middle.reshape(-1, *[1] * mask.ndim)) ** 2).sum(axis=0) ** 0.5
        held = self.inside & (gaps < HALF * self.widths[own].mean() / self.factor)
        return iou(held, mask) >= 0.5

    def together(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Whether the density of all votes has no valley between the modes of two true objects' own votes."""
        (first, wide), (second, wider) = self.mode_of(one), self.mode_of(other)
        if np.linalg.norm(first - second) >= 2 * max(wide, wider):
            return False
        steps = np.concatenate([[0.0], WAY, [1.0]])[:, None]
        density = self.field.at((1 - steps) * first + steps * second)
        return bool(density[1:-1].min() > self.valley * min(density[0], density[-1]))

    def mode_of(self, mask: np.ndarray) -> tuple[np.ndarray, float]:
        """Where the votes of an object are densest, and its bandwidth."""
        own = mask & self.inside
        votes = self._votes(own)
        return votes.places[:, density_of(votes, self.edge).at(votes.places.T).argmax()], float(self.widths[own].mean())

    @cached_property
    def field(self) -> Any:
        """Density of all votes."""
        return density_of(self._votes(self.inside), self.edge)

    @property
    def edge(self) -> float | None:
        """Of a node of the density, px; of codes as the clustering takes it."""
        return 1.0 if len(self.places) == self.inside.ndim else None

    def _votes(self, where: np.ndarray) -> Votes:
        where = where & (self.widths > 0)
        seeds, widths = self.seeds[where].astype(float), np.maximum(self.widths[where].astype(float), LEAST_WIDTH)
        amounts = np.where(seeds >= FAINT, seeds, 1e-9) / widths ** len(self.places)
        return Votes(places=self.places[:, where], amounts=amounts, widths=widths)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """An image with its truth, what a model says of it, and what that would be with perfect help."""

    pair: Pair
    pixels: np.ndarray  # (*shape) one grey value per pixel
    truth: np.ndarray
    labels: np.ndarray
    foreground: np.ndarray | None
    centred: np.ndarray  # labels with the true centres
    helped: np.ndarray  # and with the true foreground
    said: Said | None = None  # of a network that says seeds and bandwidths

    @classmethod
    def of(cls, pair: Pair, model: Any) -> Found:
        image, truth = pair.image(), pair.truth()
        result = segment(pixels_of(image), model, SegmentSettings(device="cpu", keep_embedding=True))
        coordinates, threshold = model.embedding.meaning == "offset", result.record["clustering"]["threshold"]
        helps = ((result.foreground, threshold), (None, 0.5))
        centred, helped = (
            true_centre_labels(result.embedding, truth, mask, threshold=value, coordinates=coordinates) for mask, value in helps
        )
        grey = image.mean(axis=-1) if channels_of(image) > 1 else image
        labels = np.asarray(result.labels)
        return cls(
            pair=pair,
            pixels=grey,
            truth=truth,
            labels=labels,
            foreground=result.foreground,
            centred=centred,
            helped=helped,
            said=said_of(result, coordinates=coordinates),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Worst:
    """A missed or extra object."""

    found: Found
    kind: str  # "missed" or "extra"
    number: int
    area: int
    iou: float  # with its best partner
    wrong: int  # of its pixels, those outside its best partner
    fault: str

    @property
    def mask(self) -> np.ndarray:
        return (self.found.truth if self.kind == "missed" else self.found.labels) == self.number


def said_of(result: Any, *, coordinates: bool) -> Said | None:
    """What the network says of the objects of a result; None where it says no seeds."""
    said, clustering = said_by(result.outputs), result.record["clustering"]
    if not said:
        return None
    inside = result.foreground >= clustering["threshold"]
    places = result.embedding.astype(float)
    if coordinates:
        places[: inside.ndim] += np.indices(inside.shape)
    return Said(
        places=places,
        seeds=said["seeds"],
        widths=said["bandwidths"] * clustering["factor"],
        inside=inside,
        least_seed=clustering["least_seed"],
        factor=clustering["factor"],
        valley=clustering["valley"],
    )


def mistakes(found: Found) -> Iterator[Worst]:
    """All missed and extra objects of an image."""
    wrong = mistaken_objects(found.labels, found.truth)
    for kind, numbers, own, other in (
        ("missed", wrong.missed, found.truth, found.labels),
        ("extra", wrong.extra, found.labels, found.truth),
    ):
        for number in numbers.tolist():
            mask = own == number
            partner, shared = partner_of(mask, other)
            area = int(mask.sum())
            union = area + int((other == partner).sum()) - shared if partner else area
            fault = fault_of_missed(found, number) if kind == "missed" else fault_of_extra(found, mask, partner)
            yield Worst(found=found, kind=kind, number=number, area=area, iou=shared / union, wrong=area - shared, fault=fault)


def partner_of(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """The object that shares most pixels with a mask, and how many; 0 and 0 for none."""
    counts = np.bincount(other[mask])
    counts[:1] = 0
    return (int(counts.argmax()), int(counts.max())) if counts.any() else (0, 0)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def fault_of_missed(found: Found, number: int) -> str:
    """What is at fault if a true object is not found as it is."""
    mask = found.truth == number
    if iou(found.centred == number, mask) >= 0.5:
        return fault_of_said(found, number)
    return "foreground" if iou(found.helped == number, mask) >= 0.5 else "embedding"


def fault_of_said(found: Found, number: int) -> str:
    """What is at fault if the true centres would have given a true object."""
    if found.said is None:
        return "clustering"
    mask = found.truth == number
    if not found.said.has(mask):
        return "centre"
    around = np.unique(found.truth[ndimage.binary_dilation(mask, iterations=TOUCHING)])
    others = [found.truth == other for other in around if other not in (0, number)]
    together = any(found.said.together(mask, other) for other in others if (other & found.said.inside).any())
    return "pair" if together else "clustering"


def fault_of_extra(found: Found, mask: np.ndarray, partner: int) -> str:
    """What is at fault if there is an object too many."""
    outside = not partner or 2 * (found.truth[mask] > 0).sum() < mask.sum()
    return "foreground" if outside else fault_of_missed(found, partner)


def chosen(all_of_them: Sequence[Worst], count: int, images: int) -> list[Worst]:
    """The worst ones; none of the images has more than two, or than its share."""
    most = max(2, -(-count // images))
    taken: Counter[tuple[str, str]] = Counter()
    worst = []
    for one in sorted(all_of_them, key=lambda one: -one.wrong):
        place = (one.found.pair.data, one.found.pair.name)
        if taken[place] < most and len(worst) < count:
            taken[place] += 1
            worst.append(one)
    return worst


# -- the picture ------------------------------------------------------------------------------------------------------


def window_of(mask: np.ndarray) -> tuple[Any, ...]:
    """A square around an object, in the plane that shows most of it."""
    planes = mask.reshape(-1, *mask.shape[-2:])
    plane = int(planes.sum(axis=(1, 2)).argmax())
    places = np.nonzero(planes[plane])
    edge = max(SMALLEST, max(int(np.ptp(place)) + 1 for place in places) + 2 * AROUND)
    window = []
    for place, size in zip(places, mask.shape[-2:], strict=True):
        start = int(np.clip((place.min() + place.max() + 1 - edge) // 2, 0, max(0, size - edge)))
        window.append(slice(start, start + edge))
    return (*(np.unravel_index(plane, mask.shape[:-2]) if mask.ndim > 2 else ()), *window)


def panels(one: Worst) -> list[np.ndarray]:
    """Image, truth, labels and foreground, (y, x, 3), 0 to 1; the object has a white outline."""
    found, window = one.found, window_of(one.mask)
    low, high = np.percentile(found.pixels, (0.5, 99.8))
    grey = np.clip((found.pixels[window].astype(float) - low) / max(float(high - low), 1e-9), 0, 1) ** 0.7
    said = np.full(grey.shape, 0.5) if found.foreground is None else found.foreground[window]
    shown = [gray_rgb(grey), *(instance_colours(one[window]) for one in (found.truth, found.labels)), gray_rgb(said)]
    outline = one.mask[window]
    return [_with_outline(_sized(panel), _sized(outline.astype(float)[..., None])[..., 0] > 0.5) for panel in shown]


def gray_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, float)[..., None], 3, axis=-1)


def _sized(panel: np.ndarray) -> np.ndarray:
    return np.asarray(resize(panel, (PANEL, PANEL, panel.shape[-1]), order=0, anti_aliasing=False))


def _with_outline(panel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(find_boundaries(mask, mode="outer")[..., None], 1.0, panel)


def drawn(worst: Sequence[Worst]) -> np.ndarray:
    """(height, width, 3) uint8: two columns of rows, each with a caption."""
    rows = -(-max(1, len(worst)) // COLUMNS)
    width, height = 4 * (PANEL + GAP) + 2 * GAP, PANEL + CAPTION + GAP
    picture = Image.new("RGB", (COLUMNS * width, rows * height), (32, 32, 32))
    pen = ImageDraw.Draw(picture)
    for index, one in enumerate(worst):
        left, top = index // rows * width, index % rows * height
        name = f"{one.found.pair.data} {one.found.pair.name[:12]}"
        words = (
            f"{index + 1} {one.kind}, {one.area} px, IoU {one.iou:.2f}: {one.fault} | {name} | image, truth, labels, foreground"
        )
        pen.text((left + GAP, top + 1), words, fill=(255, 255, 255))
        for place, panel in enumerate(panels(one)):
            at = (left + GAP + place * (PANEL + GAP), top + CAPTION)
            picture.paste(Image.fromarray(np.rint(panel * 255).astype(np.uint8)), at)
    return np.asarray(picture)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("data", nargs="+", type=Path)
    made.add_argument("--model", default="nuclei", help="bundled name or file")
    made.add_argument("--split", default="val")
    made.add_argument("--count", type=int, default=20)
    made.add_argument("--picture", type=Path, help="PNG")
    wishes = made.parse_args()
    torch.set_num_threads(1)
    model = load_model(wishes.model)
    pairs = pairs_of(wishes.data, wishes.split)
    everything = [one for pair in pairs for one in mistakes(Found.of(pair, model))]
    worst = chosen(everything, wishes.count, len(pairs))
    if wishes.picture:
        wishes.picture.write_bytes(encode_png(drawn(worst)))
    counts = Counter((one.kind, one.fault) for one in everything)
    faults = {kind: {fault: counts[kind, fault] for fault in FAULTS} for kind in ("missed", "extra")}
    shown = [
        {"kind": one.kind, "area": one.area, "iou": round(one.iou, 3), "wrong": one.wrong, "fault": one.fault}
        | {"data": one.found.pair.data, "image": one.found.pair.name}
        for one in worst
    ]
    print(faults, *shown, sep="\n")
    known = {"name": model.name, "sha256": model.hash}
    keep(wishes.out, {**origin("scipy", "scikit-image"), "model": known, "faults": faults, "worst": shown})


if __name__ == "__main__":
    main()
