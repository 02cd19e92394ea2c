"""The model and the image that ship with the package, and real images beside the repository."""

import csv
import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from napari_shiftseg import (
    SegmentSettings,
    load_model,
    match_score,
    plan_tiles,
    read_image,
    segment,
    suggest_models,
    violations,
)
from napari_shiftseg.io import bundled_models
from napari_shiftseg.io.model import demonstrations
from napari_shiftseg.segmentation import likeness

SAMPLE = Path(str(files("napari_shiftseg") / "samples"))


@pytest.fixture(scope="module")
def nuclei():
    return load_model("nuclei")


@pytest.fixture(scope="module")
def sample():
    image = np.asarray(read_image(SAMPLE / "nuclei.tif").data)
    truth = np.asarray(read_image(SAMPLE / "nuclei_truth.tif").data)
    return image, truth


def test_bundled_models_are_small_and_say_how_they_were_trained():
    names = bundled_models()
    assert "nuclei" in names
    size = sum(f.stat().st_size for f in Path(str(files("napari_shiftseg") / "weights")).glob("*.safetensors"))
    assert size <= 20e6
    for name in names:
        record = load_model(name).record
        assert record is not None
        assert record.steps > 0
        assert record.data


# SHA-256 of all bytes behind the header of a file, as they were trained; statements of what is known change the header alone.
WEIGHTS = {
    "axons-sem": "c6013e32f106efad",
    "cells-phase": "1c75dcec7b211f57",
    "nuclei-3d": "d2725ca27de1ff65",
    "nuclei-he": "b22f609845bf0494",
    "nuclei": "45b2286559023875",
    "disks-fig2b": "f745492e05884c11",
    "disks-fig3": "1c9d8999977e263a",
    "disks-fig3a": "bb947cc5fa4632c3",
}


def test_the_weights_are_those_that_were_trained_bit_for_bit():
    folder = Path(str(files("napari_shiftseg") / "weights"))
    data = {path.stem: path.read_bytes() for path in folder.glob("*.safetensors")}
    found = {name: hashlib.sha256(b[8 + int.from_bytes(b[:8], "little") :]).hexdigest()[:16] for name, b in data.items()}
    assert found == WEIGHTS


# AP of a model on the sample of its kind: below what was found by so much that rounding on another machine does not matter.
LEAST = {"cells-phase": 0.15, "nuclei-he": 0.6, "axons-sem": 0.55, "nuclei-3d": 0.5}


@pytest.mark.parametrize("name", LEAST)
def test_a_model_finds_the_objects_of_its_sample_whatever_the_tiles(name):
    image = np.asarray(read_image(SAMPLE / f"{name}.tif").reordered().data[...])
    truth = np.asarray(read_image(SAMPLE / f"{name}_truth.tif").data)
    model = load_model(name)
    whole = segment(image, model, SegmentSettings(write=10_000, dtype="float32"))
    assert match_score(whole.labels, truth).ap >= LEAST[name]
    assert whole.record["status"] == "compliant"
    assert violations(whole.plan, model.record) == ()
    tiled = segment(image, model, SegmentSettings(write=160, dtype="float32"))
    assert (tiled.labels != whole.labels).sum() <= 1  # float rounding may decide a pixel otherwise


@pytest.mark.parametrize("name", LEAST)
def test_the_model_of_a_sample_is_suggested_for_it(name):
    assert suggest_models(SAMPLE / f"{name}.tif")[0] == name
    assert name in likeness(SAMPLE / f"{name}.tif", "nuclei").text


def test_nuclei_model_obeys_every_rule(nuclei):
    """> the training output window has to exceed f^l"""
    plan = plan_tiles(nuclei.spec, (520, 696))
    assert violations(plan, nuclei.record) == ()
    assert all(w > p for w, p in zip(nuclei.record.window, nuclei.spec.period, strict=True))


def test_nuclei_model_finds_the_nuclei_of_the_sample(nuclei, sample):
    image, truth = sample
    result = segment(image, nuclei, SegmentSettings(write=256))
    score = match_score(result.labels, truth, seams=result.plan.seams())
    assert score.ap >= 0.9
    assert result.record["status"] == "compliant"
    # objects on a seam must not fare worse: at most one of them is lost
    assert score.at_seams.fn <= 1


def test_labels_of_the_sample_do_not_depend_on_the_tile_size(nuclei, sample):
    image = sample[0][:300, :300]
    whole = segment(image, nuclei, SegmentSettings(write=10_000))
    for write in (64, 200):
        tiled = segment(image, nuclei, SegmentSettings(write=write))
        assert tiled.labels.max() == whole.labels.max()
        # float rounding may decide a pixel in a million otherwise
        assert (tiled.labels != whole.labels).sum() <= 1
        assert np.abs(tiled.embedding - whole.embedding).max() <= 1e-5 * np.abs(whole.embedding).max()
    blocks = [segment(image, nuclei, SegmentSettings(write=w, deterministic=True)).labels for w in (64, 200, 10_000)]
    assert all(np.array_equal(blocks[0], other) for other in blocks[1:])


def test_nuclei_model_does_well_on_real_images(nuclei, shared_data):
    """Every eighth validation image of the smallest kind, pooled: the whole split is in docs/results.md."""
    folder = shared_data / "dsb2018_fluo"
    with open(folder / "meta.csv", encoding="utf-8") as lines:
        names = [r["id"] for r in csv.DictReader(lines) if r["split"] == "val" and r["shape"] == "256x256"][::8]
    hits = total = 0
    for name in names:
        truth = np.asarray(read_image(folder / "masks" / f"{name}.tif").data)
        score = match_score(segment(folder / "images" / f"{name}.tif", nuclei).labels, truth)
        hits, total = hits + score.tp, total + score.tp + score.fp + score.fn
    assert hits / total >= 0.6


def test_demonstrations_are_the_models_that_say_so():
    said = {name for name in bundled_models() if load_model(name).record.known.demonstration}
    assert set(demonstrations()) == said and "nuclei" not in said and len(said) == 3
