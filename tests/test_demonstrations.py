"""The demonstration models show on the sample of Fig. 3 what the tour says they show."""

from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_shiftseg import (
    SegmentSettings,
    load_model,
    match_score,
    plan_tiles,
    predict,
    seam_report,
    segment,
    synthetic,
    violations,
)
from napari_shiftseg.io import bundled_models
from napari_shiftseg.network import training_of
from napari_shiftseg.paper.measure import count_codes


@pytest.fixture(scope="module")
def disks():
    return synthetic.make(synthetic.preset("fig3").recipe)


def run(disks, model, write):
    result = segment(
        disks.image, load_model(model), settings=SegmentSettings(write=write, device="cpu", allow_noncompliant=True)
    )
    report = seam_report(result.embedding, result.plan, result.labels, disks.labels)
    return result, report


def test_the_model_for_real_images_is_the_first_on_offer():
    assert bundled_models()[0] == "nuclei"
    assert {"disks-fig2b", "disks-fig3", "disks-fig3a"} < set(bundled_models())


def test_off_the_lattice_disks_break_at_the_seams_and_on_it_they_do_not(disks):
    """> Fig. 3b, 3c"""
    broken, shown = run(disks, "disks-fig3", 20)
    whole, hidden = run(disks, "disks-fig3", 32)
    assert broken.record["status"] == "non-compliant" and whole.record["status"] == "compliant"
    assert shown.exposed and shown.interval[0] > 10
    assert hidden.exposed is False and hidden.interval[0] < 1 < hidden.interval[1]
    assert shown.score.at_seams.splits > 5 * hidden.score.at_seams.splits
    assert np.array_equal(whole.labels, run(disks, "disks-fig3", 1000)[0].labels)


@pytest.mark.parametrize(("name", "codes"), [("fig2a", 1), ("fig2b", 64)])
def test_the_period_decides_how_many_disks_are_told_apart(name, codes):
    """> Fig. 2a, 2b"""
    drawn, net = synthetic.make(synthetic.preset(name).recipe), load_model("disks-fig2b")
    plan = plan_tiles(net.spec, drawn.image.shape, 1000, "valid")
    embedding = predict(net, drawn.image, plan, device="cpu")
    inner = drawn.labels[tuple(slice(o, o + n) for o, n in zip(plan.origin, plan.result_shape, strict=True))]
    numbers = [n for n in np.unique(inner) if n and (inner == n).sum() == (drawn.labels == n).sum()]
    means = np.array([embedding[:, inner == n].mean(axis=1) for n in numbers])
    assert len(numbers) >= 64 and count_codes(means, 0.5) == codes


def test_a_training_window_of_one_period_breaks_disks_without_any_tile(disks):
    """> Fig. 3a"""
    model = load_model("disks-fig3a")
    assert {v.rule for v in violations(model.spec, model.record)} == {"training-window"}
    result, report = run(disks, "disks-fig3a", 1000)
    assert len(result.plan) == 1
    assert match_score(result.labels, disks.labels).splits > 50
    assert report.finding == "warn" and "are split" in report.verdict, "without a seam, and yet not right"


@pytest.mark.parametrize("write", [32, 1000])
def test_disks_without_a_label_are_told_though_no_tile_shows(disks, write):
    result, _ = run(disks, "disks-fig3", write)
    labels = np.where(result.labels % 4 == 1, 0, result.labels)  # every fourth instance is lost
    report = seam_report(result.embedding, result.plan, labels, disks.labels)
    bare = [n for n in np.unique(disks.labels)[1:] if not labels[disks.labels == n].any()]
    assert report.score.unlabelled == len(bare) > 100 and report.score.fn >= len(bare)
    assert report.finding == "warn" and not report.right
    assert f"({len(bare)} have no label at all)" in report.verdict


@pytest.mark.parametrize("model", ["disks-fig2b", "disks-fig3", "disks-fig3a"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("fig3", 20),
        *((name, 1000) for name in ("fig2a", "fig2b", "fig3", "fig6_noise", "fig6_elastic", "fig7a", "jittered_disks")),
    ],
)
def test_no_disk_of_any_preset_vanishes(name, write, model):
    """Disks share codes with many others, in every demonstration."""
    drawn, net = synthetic.make(synthetic.preset(name).recipe), load_model(model)
    result = segment(drawn.image, net, SegmentSettings(write=write, device="cpu", allow_noncompliant=True))
    pieces = ndimage.label(result.foreground >= net.record.clustering.threshold, np.ones((3, 3)))[0]
    large = np.bincount(pieces.ravel()) >= net.record.clustering.min_size
    large[0] = False
    np.testing.assert_array_equal(result.labels > 0, large[pieces])
    sizes, labelled = np.bincount(drawn.labels.ravel()), np.bincount(drawn.labels[result.labels > 0], minlength=1)
    whole = np.flatnonzero(sizes >= sizes[1:].max() / 2)[1:]  # the image cuts off others
    assert len(whole) > 100 and (labelled[whole] > 0).all()


@pytest.mark.parametrize(
    ("name", "model", "least"), [("fig3", "disks-fig3", 0.97), ("fig2b", "disks-fig2b", 0.99), ("fig7a", "disks-fig3", 0.98)]
)
def test_disks_of_shared_codes_are_found(name, model, least):
    drawn = synthetic.make(synthetic.preset(name).recipe)
    labels = segment(drawn.image, load_model(model), SegmentSettings(write=1000, device="cpu")).labels
    assert match_score(labels, drawn.labels).ap >= least


@pytest.fixture(scope="module")
def script():
    folder = Path(__file__).parents[1] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the benchmarks are not part of a source distribution")
    spec = util.spec_from_file_location("demo_weights", folder / "demo_weights.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["disks-fig2b", "disks-fig3", "disks-fig3a"])
def test_each_model_is_trained_again_by_the_script_that_says_so(script, name, tmp_path, monkeypatch):
    spec, training = script.MODELS[name]
    record = load_model(name).record
    trained = training_of(training.settings(spec, 0, None))
    assert load_model(name).spec == spec and record.note == script.NOTES[name] and record.steps == training.steps
    assert (record.window, record.neighbours, record.inner) == (trained.window, trained.neighbours, trained.inner)
    monkeypatch.setitem(script.MODELS, name, (spec, replace(training, steps=2)))
    again = script.train_one(name, tmp_path)
    assert again.record.steps == 2 and (tmp_path / f"{name}.pt").exists()


def test_the_window_that_reaches_the_loss_alone_makes_the_difference(script):
    """> Fig. 3a against 3b: one network, the same windows"""
    (spec, whole), (cropped_spec, cropped) = script.MODELS["disks-fig3"], script.MODELS["disks-fig3a"]
    assert spec == cropped_spec and replace(cropped, keep=None) == whole and cropped.keep == spec.period[0]
