"""Do objects of another size cost accuracy? Magnified validation images, with the diameter given, measured, and left out.

    python benchmarks/magnification.py DATA [--images N] [--crop PX] [--out docs/measurements/magnification.json]

DATA is a folder with `images/`, `masks/` and `meta.csv` (columns id, split). Of N validation images at even distances the
middle (PX x PX at most) is magnified: the image by linear interpolation (smoothed first where it shrinks), the truth by its
nearest pixel. Each is segmented as it is, with the median diameter of the true objects as `diameter`, and with "auto". Scores
are pooled over the objects of all images. Intensity limits are those of the whole image as it is, in all ways alike. The times
are of all images of a row, on a machine that may have other work.
"""

from __future__ import annotations

import time

import numpy as np
from bench import keep, named, origin, read, split_parser
from skimage.segmentation import relabel_sequential
from skimage.transform import rescale

from napari_shiftseg import SegmentSettings, load_model, match_score, segment
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import pool_scores

MAGNIFICATIONS = (0.5, 1.0, 2.0, 3.0, 4.0)
WAYS = ("none", "given", "auto")


def middle(image, truth, edge):
    """The middle of an image and its truth, numbered anew."""
    window = tuple(slice(max(0, (n - edge) // 2), max(0, (n - edge) // 2) + edge) for n in truth.shape)
    return image[window], relabel_sequential(truth[window])[0]


def magnified(image, truth, by):
    """Both, by as many times as many pixels per axis."""
    if by == 1:
        return image, truth
    large = rescale(image.astype(np.float32), by, order=1, anti_aliasing=by < 1, preserve_range=True).astype(np.float32)
    places = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1) for n, m in zip(large.shape, truth.shape, strict=True)
    )
    return large, truth[np.ix_(*places)]


def diameter(truth):
    """Median diameter of the objects, pixels."""
    sizes = np.unique(truth[truth > 0], return_counts=True)[1]
    return float(np.median(2 * np.sqrt(sizes / np.pi)))


def measure(data, names, model, edge):
    """A row per magnification and way."""
    pairs = []
    for name in names:
        image, truth = read(data, name)
        limits = model.record.normalisation.limits(image[None])
        pairs.append((*middle(image, truth, edge), (float(limits.low[0]), float(limits.high[0]))))
    pairs = [pair for pair in pairs if pair[1].any()]
    rows = []
    for by in MAGNIFICATIONS:
        for way in WAYS:
            scores, factors, sizes, started = [], [], [], time.perf_counter()
            for image, truth, limits in pairs:
                pixels, wanted = magnified(image, truth, by)
                # small objects may have lost their last pixel
                wish = {"none": None, "given": diameter(wanted) if wanted.any() else None, "auto": "auto"}[way]
                result = segment(pixels, model, SegmentSettings(device="cpu", diameter=wish, limits=limits))
                scores.append(match_score(result.labels, wanted, IOUS))
                scaling = result.record["scaling"]
                factors.append(1.0 if scaling is None else scaling["scale"][0])
                if way == "auto" and result.record["diameter"] and wanted.any():
                    sizes.append(result.record["diameter"] / diameter(wanted))
            pooled = [pool_scores(at) for at in zip(*scores, strict=True)]
            row = {
                "magnification": by,
                "diameter": way,
                "found": pooled[0].tp + pooled[0].fp,
                "objects": pooled[0].tp + pooled[0].fn,
                "ap50": pooled[0].ap,
                "ap50_95": float(np.mean([score.ap for score in pooled])),
                "scales": [min(factors), float(np.median(factors)), max(factors)],
                "measured_over_true": [float(v) for v in np.percentile(sizes, (0, 50, 100))] if sizes else None,
                "seconds": time.perf_counter() - started,
            }
            print(row, flush=True)
            rows.append(row)
    return {"images": len(pairs), "rows": rows}


def main() -> None:
    made = split_parser(__doc__, images=10)
    made.add_argument("--crop", type=int, default=256)
    wishes = made.parse_args()
    model, names = load_model(wishes.model), sorted(named(wishes.data, wishes.split))
    names = [names[int((k + 0.5) * len(names) / wishes.images)] for k in range(min(wishes.images, len(names)))]
    known = {"name": model.name, "sha256": model.hash, "typical": model.record.known.typical}
    data = {"name": wishes.data.resolve().name, "split": wishes.split, "crop": wishes.crop}
    keep(
        wishes.out, {**origin("scikit-image"), "model": known, "data": data, **measure(wishes.data, names, model, wishes.crop)}
    )


if __name__ == "__main__":
    main()
