"""How often `nuclei` says of real images that they are unlike what it knows: of its own kind, and of all others.

    python benchmarks/likeness.py [--data ../shared/data] [--out docs/measurements/likeness.json]

Its known ranges come from the training splits of dsb2018_fluo and bitdepth_dapi16 alone (`benchmarks/known_models.py`). Here
each image is compared before a run (pixels alone) and after one (with the objects that were found); where there is truth, the
AP of those runs stands beside it. Volumes and files of several channels are compared as they are, and plane by plane and
channel by channel. Twins of validation images are inverted, blurred, zoomed and drowned in noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import keep, named, origin, parser, read
from scipy import ndimage
from skimage.transform import rescale
from tqdm import tqdm

from napari_shiftseg import SegmentSettings, load_model, match_score, read_image, segment
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.instances.score import pool_scores
from napari_shiftseg.io import Image
from napari_shiftseg.segmentation import likeness

KNOWN = ("dsb2018_fluo", "bitdepth_dapi16")
OTHERS = (
    "axon_sem", "colicoords_ecoli_2ch", "dsb2018_histology_rgb", "fibsem_neurons_3d", "gonuclear_ovule_nuclei_3d",
    "laptrack_timelapse", "mdck_zo1_epithelium", "omnipose_bacteria", "plantseg_nuclei_3d_u16", "qcanet_mouse_embryo_3d",
    "usiigaci_t98g_phase",
)  # fmt: skip
# planes of a volume, twins of every so many validation images, synthetic images of a kind
PLANES, EVERY, DRAWN = 12, 6, 5
# images of a group of other kinds that are run
RUN = 12
# larger images of folders are run by a part: what is compared is bounded anyway
LARGEST = 1024


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image of a group; `pixels` None compares the file as it is and runs nothing."""

    group: str
    name: str
    file: Path | None = None
    pixels: np.ndarray | None = None
    truth: np.ndarray | None = None


def pixels_of(path: Path) -> np.ndarray:
    image = read_image(path).reordered()
    return np.asarray(image.data[...])


def validation(data: Path) -> Iterator[Case]:
    for kind in KNOWN:
        for name in named(data / kind, "val"):
            pixels, truth = read(data / kind, name)
            yield Case(group=f"{kind} (validation)", name=name, pixels=pixels, truth=truth)


def others(data: Path) -> Iterator[Case]:
    for kind in OTHERS:
        for path in sorted((data / kind / "images").iterdir()):
            image = read_image(path)
            if set(image.axes) - set("yx"):
                yield Case(group=f"{kind}, files as they are", name=path.stem, file=path)
            pixels = pixels_of(path)
            truth = pixels_of(data / kind / "masks" / path.name)
            if "c" in image.axes:
                for channel, part in enumerate(pixels):
                    yield Case(group=f"{kind}, channel {channel}", name=path.stem, pixels=part, truth=truth)
            elif pixels.ndim == 3:
                what = "frames" if "t" in image.axes else "planes"
                for z in np.unique(np.linspace(0, len(pixels) - 1, min(PLANES, len(pixels))).round().astype(int)):
                    yield Case(group=f"{kind}, {what}", name=f"{path.stem} {z}", pixels=pixels[z], truth=truth[z])
            else:
                yield Case(group=kind, name=path.stem, pixels=pixels, truth=truth)


def twins(cases: list[Case]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for case in cases[::EVERY]:
        pixels = case.pixels.astype(np.float32)
        spread = np.percentile(pixels, 99.8) - np.percentile(pixels, 1)
        made = {
            "inverted": pixels.max() - pixels,
            "blurred by 8 px": ndimage.gaussian_filter(pixels, 8),
            "zoomed by 4": rescale(pixels[: LARGEST // 4, : LARGEST // 4], 4, order=1, preserve_range=True),
            "zoomed by 0.25": rescale(pixels, 0.25, anti_aliasing=True, preserve_range=True),
            "with noise of half the contrast": pixels + rng.normal(0, spread / 2, pixels.shape).astype(np.float32),
        }
        for name, twin in made.items():
            yield Case(group=f"validation images {name}", name=case.name, pixels=twin.astype(np.float32))


def drawn() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512].astype(float)
    for k in range(DRAWN):
        ramp = x * np.cos(k) + y * np.sin(k)
        seeds = rng.uniform(0, 512, (60 + 40 * k, 2))
        marks = np.ones((512, 512), bool)
        marks[tuple(seeds.astype(int).T)] = False
        index = ndimage.distance_transform_edt(marks, return_distances=False, return_indices=True)
        cells = index[0] * 512 + index[1]
        edges = ndimage.gaussian_filter((ndimage.morphological_gradient(cells, 3) > 0).astype(float), 1.5)
        made = {
            "noise": rng.normal(size=x.shape),
            "smoothed noise": ndimage.gaussian_filter(rng.normal(size=x.shape), 1 + k),
            "gradients": ramp + rng.normal(0, 1 + 5 * k, x.shape),
            "gratings": np.sin(ramp * 2 * np.pi / (4 + 6 * k)) + rng.normal(0, 0.05 * k, x.shape),
            "bright membranes": edges + rng.normal(0, 0.03, x.shape),
            "dark membranes": 1 - edges + rng.normal(0, 0.03, x.shape),
        }
        for name, image in made.items():
            yield Case(group=f"drawn: {name}", name=str(k), pixels=image.astype(np.float32))


def awkward(data: Path) -> Iterator[Case]:
    for path in sorted((data / "awkward").iterdir()):
        try:
            image = read_image(path)
        except ShiftsegError:
            continue
        yield Case(group=f"awkward: {path.name}, as it is", name=path.name, file=path)
        pixels = pixels_of(path)
        if pixels.ndim == 3 and "c" in image.axes:
            for channel, part in enumerate(pixels):
                yield Case(group=f"awkward: {path.name}, channel {channel}", name=path.name, pixels=part)
        elif pixels.ndim == 3:
            yield Case(group=f"awkward: {path.name}, middle plane", name=path.name, pixels=pixels[len(pixels) // 2])
        elif pixels.ndim == 2:
            yield Case(group=f"awkward: {path.name}", name=path.name, pixels=pixels)


def look(case: Case, model: Any, *, run: bool) -> dict[str, Any]:
    """What is said before and after a run, and the score of the run."""
    found: dict[str, Any] = {"group": case.group, "name": case.name}
    if case.pixels is None:
        told = likeness(case.file, model)
        return found | {"before": told.verdict, "text": told.text}
    window = tuple(slice(0, LARGEST) for _ in case.pixels.shape)
    image = Image.from_array(case.pixels[window], axes="yx", name=case.name)
    told = likeness(image, model)
    if not run:
        return found | {"before": told.verdict, "text": told.text}
    result = segment(image, model, SegmentSettings())
    after = result.record["likeness"]
    found |= {"before": told.verdict, "after": after["verdict"], "text": after["text"]}
    found["objects"] = result.record["instances"][0]
    if case.truth is not None:
        found["score"] = match_score(result.labels, case.truth[window])
    return found


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of a group."""
    scores = [one["score"] for one in found if "score" in one]
    ran = [one for one in found if "after" in one]
    return {
        "images": len(found),
        "ran": len(ran),
        "before": sum(one["before"] == "unlike" for one in found),
        "after": sum(one["after"] == "unlike" for one in ran) if ran else None,
        "ap": round(pool_scores(scores).ap, 3) if scores else None,
        "text": found[len(found) // 2]["text"],
    }


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=root.parent / "shared/data")
    wishes = made.parse_args()
    model = load_model("nuclei")
    known = list(validation(wishes.data))
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in tqdm([*known, *others(wishes.data), *twins(known), *drawn(), *awkward(wishes.data)], mininterval=30):
        group = groups.setdefault(case.group, [])
        group.append(look(case, model, run="validation)" in case.group or len(group) < RUN))
    summaries = {name: summary(found) for name, found in groups.items()}
    keep(wishes.out, {**origin(), "model": model.hash, "groups": summaries})
    for one in (one for found in groups.values() for one in found):
        print(one["group"], one["name"], one["before"], one.get("after"), one["text"], sep="; ")


if __name__ == "__main__":
    main()
