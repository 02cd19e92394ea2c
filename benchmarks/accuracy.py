"""Our models, peers that were trained on the same images for the same time, and a tuned baseline: one matcher scores them all.

    python benchmarks/accuracy.py peer stardist data/A data/B --python peers/stardist/bin/python \\
        --seconds 5400 --run runs/stardist-nuclei                            # trains, then labels; takes hours
    python benchmarks/accuracy.py score data/A data/B --models nuclei --runs runs/stardist-nuclei --out FILE
    python benchmarks/accuracy.py label nuclei data/A data/B --run FOLDER    # what `score` does for each model
    python benchmarks/accuracy.py all --data data --out docs/measurements    # `score` of each bundled model
    python benchmarks/accuracy.py score data/A --no-baseline --earlier FILE --out FILE    # ours anew, all else as it was

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Peers learn and label by `accuracy_peers.py`, each
with the Python of its own environment; how to make these stands there. `score` labels with our models (bundled names or files)
and with Otsu's threshold and a watershed, whose settings are chosen on training images, each in a process of its own, and then
reads the labels of all. With `--earlier`, what ours take is as it was, for a network whose clustering alone is another.
NAME+augment is a model that runs on all flips and turns of an image. Per method and data set:

- AP = TP / (TP + FP + FN) over all objects at an IoU of 0.5, and its mean over 0.5, 0.55, ..., 0.95; per image; for objects by
  their area (missed ones by that of the truth, extra ones by their own); missed, extra, split and merged objects;
- processor seconds per megapixel on one core from an image in memory to its labels, after one of equal shape; peak memory above
  that of the loaded model; parameters; processor seconds of the training;
- what tiles change: pixels that they label otherwise than the whole image, and AP.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from accuracy_runs import Pair, channels_of, label, pairs_of
from bench import in_own_process, installed, keep, origin

from napari_shiftseg import SegmentSettings, load_model, match_score, segment
from napari_shiftseg.analysis.compare import changed_pixels
from napari_shiftseg.evaluation import IOUS, otsu_watershed
from napari_shiftseg.instances import mistaken_objects, pool_scores
from napari_shiftseg.io import bundled_models

BASELINE = "otsu"
PEERS = {"stardist": "StarDist", "cellpose": "Cellpose"}
# Folders whose validation images each bundled model is scored on; those of no other folder that it learnt from are apart.
VALIDATED = {
    "nuclei": ("dsb2018_fluo", "bitdepth_dapi16"),
    "nuclei-he": ("dsb2018_histology_rgb",),
    "cells-phase": ("usiigaci_t98g_phase",),
    "axons-sem": ("axon_sem",),
    "nuclei-3d": ("gonuclear_1136_apart",),
    "nuclei-codes": ("dsb2018_fluo", "bitdepth_dapi16"),
}
TILE = {2: 128, 3: 64}  # px, edge of the tiles that are compared with the usual way
# Areas that part small, middle and large objects, px; in 3D the balls of the same diameters.
EDGES = {2: (100, 400), 3: (752, 6018)}
AUGMENT = "+augment"
TUNED_ON = 100  # training images, evenly spread
TUNED: tuple[tuple[tuple[str, ...], list[Any]], ...] = (
    (("dark", "sigma"), list(product((False, True), (0.5, 1.0, 2.0, 4.0)))),
    (("distance",), [(4,), (8,), (16,), (32,)]),
    (("min_size",), [(8,), (16,), (24,), (36,), (48,), (64,), (96,)]),
)


# -- our labels -------------------------------------------------------------------------------------------------------


class Ours:
    """A model with all settings as they are by themselves, and by tiles; NAME+augment on all turns of an image."""

    usual_way = "as planned"

    def __init__(self, name: str) -> None:
        self.augment = name.endswith(AUGMENT)
        self.model = load_model(name.removesuffix(AUGMENT))
        self.tile = TILE[self.model.lattice.ndim]
        self.settings: dict[str, Any] = {"other_tile": self.tile, "augment": self.augment}

    def usual(self, image: np.ndarray) -> np.ndarray:
        return self._labels(image, None)

    def other(self, image: np.ndarray) -> np.ndarray:
        return self._labels(image, self.tile)

    def _labels(self, image: np.ndarray, tile: int | None) -> np.ndarray:
        settings = SegmentSettings(write=tile, device="cpu", augment=self.augment, keep_embedding=False)
        return np.asarray(segment(pixels_of(image), self.model, settings).labels)

    def about(self) -> dict[str, Any]:
        record = self.model.record
        count = sum(weight.numel() for weight in self.model.unet.parameters())
        steps = record.steps if record else None
        return {"peer": "ours", "model": self.model.name, "sha256": self.model.hash, "parameters": count, "steps": steps}


class Otsu:
    """The classical method; polarity, smoothing, distance of centres and least area are chosen on training images."""

    usual_way = "whole"

    def __init__(self, pairs: Sequence[Pair]) -> None:
        chosen = pairs[:: max(1, len(pairs) // TUNED_ON)][:TUNED_ON]
        grey = [(grey_of(pair.image()), pair.truth()) for pair in chosen]
        wish: dict[str, Any] = {"dark": False, "sigma": 1.0, "distance": 8, "min_size": 16}
        for names, values in TUNED:  # one after the other, as our clustering is calibrated
            tried = [{**wish, **dict(zip(names, value, strict=True))} for value in values]
            wish = max(tried, key=lambda one: pool_scores(match_score(baseline_labels(i, one), t) for i, t in grey).ap)
        self.settings = {**wish, "tuned_on": len(grey)}

    def usual(self, image: np.ndarray) -> np.ndarray:
        return baseline_labels(grey_of(image), self.settings)

    other = usual

    def about(self) -> dict[str, Any]:
        return {"peer": "otsu", "parameters": 0, "steps": None}


def pixels_of(image: np.ndarray) -> np.ndarray:
    """Channels first, as our models take them."""
    return np.moveaxis(image, -1, 0) if channels_of(image) > 1 else image


def grey_of(image: np.ndarray) -> np.ndarray:
    """The mean of the channels."""
    return image.mean(axis=-1) if channels_of(image) > 1 else image


def baseline_labels(grey: np.ndarray, wish: dict[str, Any]) -> np.ndarray:
    """Otsu's threshold and a watershed, of bright or dark objects."""
    bright = grey.max() - grey if wish["dark"] else grey
    return otsu_watershed(bright, sigma=wish["sigma"], distance=wish["distance"], min_size=wish["min_size"])


def label_split(wishes: argparse.Namespace) -> None:
    """Label a split with a model of ours or the baseline."""
    torch.set_num_threads(1)
    method = Otsu(pairs_of(wishes.data, "train")) if wishes.model == BASELINE else Ours(wishes.model)
    said = {**method.about(), "versions": {name: installed(name) for name in ("torch", "numpy", "scikit-image")}}
    label(method, chosen_pairs(wishes), wishes.run / "labels" / wishes.split, said)
    print(json.dumps({"labelled": str(wishes.run)}))


def chosen_pairs(wishes: argparse.Namespace) -> list[Pair]:
    """Those of a split, or every so many of each data set."""
    return [pair for folder in wishes.data for pair in pairs_of([folder], wishes.split)[:: wishes.every]]


def train_peer(wishes: argparse.Namespace) -> None:
    """Train a peer in its environment and let it label a split."""
    script = [wishes.python, Path(__file__).with_name("accuracy_peers.py")]
    where = [wishes.peer, *wishes.data, "--run", wishes.run]
    for verb, more in (("train", ["--seconds", wishes.seconds]), ("label", ["--split", wishes.split])):
        subprocess.run([*map(str, [*script, verb, *where, *more])], check=True)


# -- scores -----------------------------------------------------------------------------------------------------------


def rows_of(name: str, folder: Path, pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """Scores of a method on each data set and on all, from the labels of a folder."""
    if not (folder / "labels.json").exists():
        raise SystemExit(f"{folder} has no labels of a whole split; let {name} label it first (accuracy_peers.py label).")
    said = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    about = {key: value for key, value in said.items() if key not in ("images", "megapixels", "seconds_per_megapixel")}
    seconds = {(row["data"], row["name"]): row["seconds"] for row in said["images"]}
    missing = [pair.name for pair in pairs if (pair.data, pair.name) not in seconds]
    if missing:
        raise SystemExit(f"{folder} has no labels of {missing[0]} and {len(missing) - 1} more; label the data that are scored.")
    images = [(pair, image_scores(folder, pair), seconds[pair.data, pair.name]) for pair in pairs]
    names = list(dict.fromkeys(pair.data for pair in pairs))
    for data in names + ["all"] * (len(names) > 1):
        chosen = [one for one in images if data in (one[0].data, "all")]
        row = {"method": name, "title": title_of(name, about), "data": data, **summary(chosen), **about}
        if data != "all":
            row["ap50_of_images"] = {pair.name: round(one["scores"][0].ap, 4) for pair, one, _ in chosen}
        yield row


def title_of(name: str, about: dict[str, Any]) -> str:
    """What a table calls a method."""
    if about["peer"] in PEERS:
        return f"{PEERS[about['peer']]} {about['versions'][about['peer']]}"
    return "Otsu + watershed, tuned" if about["peer"] == BASELINE else f"ours: {name}"


def image_scores(folder: Path, pair: Pair) -> dict[str, Any]:
    """Scores of an image."""
    usual, other = (tifffile.imread(folder / way / pair.data / f"{pair.name}.tif") for way in ("usual", "other"))
    truth = pair.truth()
    return {
        "scores": match_score(usual, truth, IOUS),
        "other": match_score(other, truth),
        "otherwise": int(changed_pixels(usual, other).sum()),
        "pixels": truth.size,
        "by_area": by_area(usual, truth),
    }


def by_area(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(3, 3) counts: small, middle and large; true objects, missed ones, extra ones."""
    wrong = mistaken_objects(labels, truth)
    areas, found = np.bincount(truth.ravel()), np.bincount(labels.ravel())
    real = np.flatnonzero(areas)[1:] if areas[0] else np.flatnonzero(areas)
    kinds = [areas[real], areas[wrong.missed], found[wrong.extra]]
    return np.stack([np.bincount(np.digitize(kind, EDGES[truth.ndim]), minlength=3) for kind in kinds], axis=1)


def summary(images: Sequence[tuple[Pair, dict[str, Any], float]]) -> dict[str, Any]:
    """Scores and costs of several images."""
    scores = [one["scores"] for _, one, _ in images]
    curve = [pool_scores(at) for at in zip(*scores, strict=True)]
    first, other = curve[0], pool_scores(one["other"] for _, one, _ in images)
    counts = sum(one["by_area"] for _, one, _ in images)
    pixels = sum(one["pixels"] for _, one, _ in images)
    return {
        "images": len(images),
        "objects": first.tp + first.fn,
        "ap50": first.ap,
        "ap50_95": statistics.fmean(score.ap for score in curve),
        "ap_by_iou": {f"{iou:.2f}": round(score.ap, 4) for iou, score in zip(IOUS, curve, strict=True)},
        "ap50_mean_of_images": float(np.nanmean([image[0].ap for image in scores])),
        "missed": first.fn,
        "unlabelled": first.unlabelled,
        "extra": first.fp,
        "splits": first.splits,
        "merges": first.merges,
        "by_area": {name: area_row(row) for name, row in zip(("small", "middle", "large"), counts.tolist(), strict=True)},
        "seconds_per_megapixel": sum(seconds for _, _, seconds in images) / pixels * 1e6,
        "pixels": pixels,
        "other_way_otherwise": sum(one["otherwise"] for _, one, _ in images),
        "other_way_ap50": other.ap,
    }


def area_row(counts: Sequence[int]) -> dict[str, Any]:
    """AP of the objects of one kind."""
    objects, missed, extra = counts
    return {"objects": objects, "missed": missed, "extra": extra, "ap50": (objects - missed) / max(1, objects + extra)}


def score(wishes: argparse.Namespace) -> None:
    """Label with ours, read the others, score all."""
    pairs = chosen_pairs(wishes)
    asked = {"split": wishes.split, "every": wishes.every}
    before = json.loads(wishes.earlier.read_text(encoding="utf-8")) if wishes.earlier else {**asked, "rows": []}
    if asked != {name: before[name] for name in asked}:
        raise SystemExit(f"{wishes.earlier} scores other images; give one of the split {wishes.split}, every {wishes.every}.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in [*wishes.models, *([] if wishes.no_baseline else [BASELINE])]:
            name, _, seconds = model.partition("=")
            called = Path(name.removesuffix(AUGMENT)).stem + AUGMENT * name.endswith(AUGMENT)
            run = Path(folder) / called
            how = ("--split", wishes.split, "--every", wishes.every, "--run", run)
            in_own_process("label", name, *wishes.data, *how, OMP_NUM_THREADS="1")
            found = rows_of(called, run / "labels" / wishes.split, pairs)
            rows += [{**row, "trained_seconds": float(seconds) if seconds else row.get("trained_seconds")} for row in found]
    for run in wishes.runs:
        labelled = [*sorted((run / "labels").glob(f"{wishes.split}@*")), run / "labels" / wishes.split]
        for labels in labelled:
            rows += rows_of(run.name, labels, pairs)
    rows, kept = with_earlier(rows, before["rows"])
    for row in rows:
        print(f"{row['method']} {row['data']} AP@0.5 {row['ap50']:.3f}, AP@0.5:0.95 {row['ap50_95']:.3f}", flush=True)
    said = origin("scipy", "scikit-image")
    said["command"] = command(wishes)
    if kept:
        came = before.get("earlier", before)
        said["earlier"] = {"methods": sorted({row["title"] for row in kept}), "command": came["command"], "date": came["date"]}
    areas = {str(ndim): list(edges) for ndim, edges in EDGES.items()}
    keep(wishes.out, {**said, **asked, "area_edges": areas, "rows": rows})


def with_earlier(rows: list[dict[str, Any]], before: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows with what an earlier measurement took of the same methods, and the rows of others in it, which stand behind them."""
    known = {(row["method"], row["data"]): row for row in before}
    took = ("seconds_per_megapixel", "peak_memory")
    now = [{**row, **{name: known.get((row["method"], row["data"]), row)[name] for name in took}} for row in rows]
    scored = {(row["method"], row["data"]) for row in rows}
    kept = [row for key, row in known.items() if key not in scored]
    return [*now, *kept], kept


def score_all(wishes: argparse.Namespace) -> None:
    """Score each bundled model on the validation images of its kind, beside the baseline and the peers of these."""
    for name, folders in VALIDATED.items():
        if name in bundled_models() and name in (wishes.models or VALIDATED):
            data = [wishes.data / folder for folder in folders]
            runs = sorted(run for run in wishes.runs.glob(f"*-{name}") if (run / "labels" / "val").is_dir())
            out = wishes.out / f"accuracy_{name.replace('-', '_')}.json"
            told = {"split": "val", "every": 1, "no_baseline": False, "earlier": None}
            score(argparse.Namespace(data=data, models=[name], runs=runs, out=out, **told))


def command(wishes: argparse.Namespace) -> str:
    """The command without the places of this machine."""
    words = ["python", "benchmarks/accuracy.py", "score", *(f"data/{folder.resolve().name}" for folder in wishes.data)]
    words += ["--split", wishes.split, "--models", *(Path(model).name for model in wishes.models)]
    words += ["--every", str(wishes.every)] * (wishes.every > 1) + ["--no-baseline"] * wishes.no_baseline
    words += ["--earlier", f"docs/measurements/{wishes.earlier.name}"] if wishes.earlier else []
    return " ".join([*words, *(["--runs"] if wishes.runs else []), *(f"runs/{run.name}" for run in wishes.runs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, does in (("score", score), ("label", label_split), ("peer", train_peer)):
        verb = verbs.add_parser(name)
        verb.set_defaults(does=does)
        if name == "label":
            verb.add_argument("model", help=f"bundled name, file, or {BASELINE}")
        if name == "peer":
            verb.add_argument("peer")
            verb.add_argument("--python", required=True, help="that of the peer's environment")
            verb.add_argument("--seconds", type=float, required=True, help="of processor time")
        verb.add_argument("data", nargs="+", type=Path)
        verb.add_argument("--split", default="val")
        if name != "peer":
            verb.add_argument("--every", type=int, default=1, metavar="N", help="every Nth image of each data set alone")
        if name == "score":
            verb.add_argument("--models", nargs="*", default=["nuclei"], metavar="MODEL[=SECONDS]", help="and their training")
            verb.add_argument("--runs", nargs="*", type=Path, default=[], help="folders of peers' trainings, with labels")
            verb.add_argument("--no-baseline", action="store_true")
            verb.add_argument(
                "--earlier", type=Path, help="JSON of rows that stand for methods not scored now, and of times for others"
            )
            verb.add_argument("--out", type=Path, help="JSON")
        else:
            verb.add_argument("--run", type=Path, required=True, help="folder for the labels")
    every = verbs.add_parser("all")
    every.set_defaults(does=score_all)
    every.add_argument("--data", type=Path, default=Path("data"), help="where the folders of images are")
    every.add_argument("--runs", type=Path, default=Path("runs"), help="folders of peers' trainings, PEER-MODEL")
    every.add_argument("--models", nargs="*", help="not all of them")
    every.add_argument("--out", type=Path, required=True, help="folder of accuracy_MODEL.json")
    wishes = parser.parse_args()
    wishes.does(wishes)


if __name__ == "__main__":
    sys.exit(main())
