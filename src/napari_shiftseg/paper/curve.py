"""The poster's curve: what the size of the tiles does to real nuclei, by the bundled model."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.compare import changed_pixels
from napari_shiftseg.instances import match_score
from napari_shiftseg.io import load_model, read_image
from napari_shiftseg.network import Model, UNet
from napari_shiftseg.paper.experiment import Measured, Setup
from napari_shiftseg.segmentation import SegmentSettings, segment

__all__ = ["tile_sizes"]


def tile_sizes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Splits, AP and changed pixels of the nuclei sample, by tiles on and off the lattice; the seed changes nothing."""
    image, truth = _sample("nuclei.tif"), _sample("nuclei_truth.tif").astype(np.int32)
    model, period = load_model("nuclei"), setup.spec.period[0]
    whole = _labels(model, image, max(image.shape))
    sizes = range(7 * period, 9 * period + 1, 2)
    rows = []
    for size in sizes:
        labels = _labels(model, image, size)
        score = match_score(labels, truth)
        changed = int(np.count_nonzero(changed_pixels(whole, labels)))
        rows.append({"size": size, "changed": changed, "splits": score.splits, "ap": round(score.ap, 4)})
    return {
        "period": period,
        "changed_on": [row["changed"] for row in rows if row["size"] % period == 0],
        "changed_off": [row["changed"] for row in rows if row["size"] % period],
        "curve": rows,
    }


def _labels(model: Model, image: npt.NDArray[np.uint8], write: int) -> npt.NDArray[np.uint32]:
    settings = SegmentSettings(write=write, device="cpu", allow_noncompliant=True)
    return np.asarray(segment(image, model, settings=settings).labels)


def _sample(name: str) -> npt.NDArray[np.uint8]:
    with as_file(files("napari_shiftseg") / "samples" / name) as path:
        return np.asarray(read_image(path).data[...])
