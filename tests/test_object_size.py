"""Objects of another size: the network runs on a scaled image, and all else is as in any run, in pixels of the image."""

import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED, bars
from grey import grey_model as made
from skimage.transform import rescale

from napari_shiftseg import Job, SegmentSettings, decide, open_result, save_model, seam_report, segment, verify_tiling
from napari_shiftseg.cli import main
from napari_shiftseg.errors import SettingsError, ShiftsegError, TilingError
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image, load_model
from napari_shiftseg.network import Known
from napari_shiftseg.segmentation import look, measure_steps, open_job, run_steps, segment_steps, view_steps
from napari_shiftseg.segmentation.lazy import lazy_embedding
from napari_shiftseg.segmentation.sizing import ObjectSize

ON_CPU = SegmentSettings(device="cpu", deterministic=True)
KNOWN = Known(ndim=2, channels=1, median=10.0)


def grey_model(ndim=2, **values):
    values = {"known": replace(KNOWN, ndim=ndim), **values}
    return made(ndim, deep=0.5, normalisation=UNCHANGED, **values)


def magnified(image, by):
    """Each pixel many times, per axis."""
    for axis in range(image.ndim):
        image = image.repeat(by, axis)
    return image


def test_no_size_and_the_known_size_change_nothing():
    image, model = bars((90, 70)), grey_model()
    plain = decide(image, model, ON_CPU)
    for diameter in (10, 9.2, 13, 12.9):
        job = decide(image, model, replace(ON_CPU, diameter=diameter))
        assert job.plan == plain.plan and job.clustering == plain.clustering and job.size.scale == (1.0, 1.0)
        assert "as it is" in job.describe()
    assert plain.size is None and "size" not in plain.describe()
    record = segment(image, model, ON_CPU).record
    assert record["diameter"] is None and record["scaling"] is None


@pytest.mark.parametrize("by", [2, 3, 4])
def test_a_magnified_image_gives_the_magnified_labels(by):
    """The mean over the area of a pixel that was repeated is that pixel: the network sees what it saw."""
    image, model = bars((60, 50)), made(2, normalisation=UNCHANGED, known=KNOWN)
    small = segment(image, model, ON_CPU)
    size = ObjectSize(how="given", factors=((1, by),) * 2, diameter=10.0 * by)
    large = drain(run_steps(decide(magnified(image, by), model, ON_CPU, size=size)))
    assert large.labels.shape == (60 * by, 50 * by) and large.record["diameter"] == 10 * by
    assert large.record["scaling"]["factors"] == ((1, by),) * 2
    middle = tuple(slice(by // 2, None, by) for _ in range(2))
    overlap = [np.bincount(large.labels[middle][small.labels == k]).max() for k in range(1, small.labels.max() + 1)]
    assert small.labels.max() >= 4 and sum(overlap) > 0.95 * (small.labels > 0).sum()
    assert ((large.labels[middle] > 0) == (small.labels > 0)).mean() > 0.97


CASES = {
    "shrunk": ((600, 530), 2, 40, {}),
    "a ratio": ((560, 200), 2, 17, {"coordinates": True}),
    "grown": ((150, 560), 2, 3.4, {"foreground": False}),
    "volume": ((20, 140, 150), 3, 26, {}),
}


@pytest.mark.parametrize(("shape", "ndim", "diameter", "values"), CASES.values(), ids=CASES)
def test_tiles_blocks_previews_and_runs_again_give_the_labels_of_one_run(tmp_path, monkeypatch, shape, ndim, diameter, values):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    model, image = grey_model(ndim, **values), Image.from_array(bars(shape), "zyx"[-ndim:])
    wish = replace(ON_CPU, diameter=diameter)
    whole = segment(image, model, wish)
    assert whole.record["scaling"]["scale"] != (1.0,) * ndim and whole.labels.shape == shape and whole.labels.max() > 2
    period = whole.plan.lattice.period
    assert whole.record["plan"]["period"] == list(period) and whole.plan.lattice.network == model.lattice
    tiled = segment(image, model, replace(wish, write=tuple(-(-48 // p) * p for p in period)))
    np.testing.assert_array_equal(tiled.labels, whole.labels)
    np.testing.assert_array_equal(tiled.embedding, whole.embedding)
    blocks = segment(image, model, replace(wish, out_of_core=True, memory=1 << 30, keep_embedding=True), tmp_path / "a.zarr")
    assert blocks.record["blocks"]["tasks"] > 1 and blocks.record["scaling"] == json.loads(json.dumps(whole.record["scaling"]))
    np.testing.assert_array_equal(blocks.labels[:], whole.labels)
    np.testing.assert_array_equal(blocks.stored.embedding[:], whole.embedding)
    again = open_job(Job.from_dict(json.loads(json.dumps(blocks.record["job"]))), image, model)
    np.testing.assert_array_equal(drain(run_steps(replace(again, out=str(tmp_path / "b.zarr")))).labels[:], whole.labels)
    assert open_result(tmp_path / "b.zarr").record["diameter"] == diameter
    lazy = lazy_embedding(image, model, wish, limits=look(decide(image, model, wish)).limits(0))
    asked = (..., *(slice(5, 60) for _ in shape))
    np.testing.assert_array_equal(lazy[asked], whole.embedding[asked])
    part = {axis: slice(n // 3, n // 2) for axis, n in zip("zyx"[-ndim:], shape, strict=True)}
    seen = drain(view_steps(decide(image, model, wish), part))
    here = whole.labels[tuple(slice(o, o + n) for o, n in zip(seen.origin, seen.labels.shape, strict=True))]
    np.testing.assert_array_equal(seen.labels > 0, here > 0)
    check = verify_tiling(model, np.asarray(image.data)[None], tiled.plan, device="cpu")
    assert check.ok and check.compared > 1
    assert seam_report(tiled.embedding, tiled.plan).seams == sum(map(len, tiled.plan.seams())) > 0


def test_an_unfinished_run_at_another_scale_is_not_gone_on_with(tmp_path):
    model, image = grey_model(), bars((600, 530))
    job = decide(image, model, replace(ON_CPU, diameter=20, out_of_core=True), tmp_path / "a.zarr")
    other = decide(image, model, replace(ON_CPU, diameter=40, out_of_core=True), tmp_path / "a.zarr")
    from napari_shiftseg.segmentation.large import _fingerprint

    ours, theirs, none = (_fingerprint(look(one)) for one in (job, other, decide(image, model, ON_CPU)))
    assert ours["size of objects"] != theirs["size of objects"] and "size of objects" not in none


def test_two_workers_give_the_labels_of_one_process(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    image = bars((1030, 600))
    tifffile.imwrite(tmp_path / "a.tif", image)
    model = load_model(save_model(tmp_path / "m.safetensors", grey_model()))
    wish = replace(ON_CPU, diameter=20, memory=1 << 30)
    run = segment(tmp_path / "a.tif", model, replace(wish, out_of_core=True, workers=2), tmp_path / "r.zarr")
    assert run.record["blocks"]["tasks"] > 1
    np.testing.assert_array_equal(run.labels[:], segment(image, model, replace(wish, memory=None)).labels)


def test_lengths_of_the_clustering_are_those_of_the_image_and_wishes_hold():
    plain = decide(bars((90, 70)), grey_model(), ON_CPU).clustering
    for coordinates, length in ((False, 1), (True, 2)):
        scaled = decide(bars((90, 70)), grey_model(coordinates=coordinates), replace(ON_CPU, diameter=27)).clustering
        assert scaled.bandwidth == plain.bandwidth * length
        assert scaled.min_size == plain.min_size * 4 and scaled.min_density == plain.min_density * 4
    small = decide(bars((90, 70)), grey_model(), replace(ON_CPU, diameter=1.1)).clustering
    assert small.min_size == 1
    wished = replace(ON_CPU, diameter=27, bandwidth=0.9, min_size=7)
    told = decide(bars((90, 70)), grey_model(coordinates=True), wished).clustering
    assert (told.bandwidth, told.min_size) == (0.9, 7)


def test_the_scale_is_as_near_to_one_as_may_be():
    scale = {diameter: decide(bars((40, 30)), grey_model(), replace(ON_CPU, diameter=diameter)).size.scale[0]
             for diameter in (1, 3.3, 6, 9, 10, 13.3, 14, 27, 54, 1000)}  # fmt: skip
    assert list(scale.values()) == [8.0, 3.0, 1.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]
    for diameter, by in scale.items():
        assert diameter in (1, 1000) or 10 / 1.16 < diameter * by < 10 * 4 / 3 * 1.16  # to the nearest ratio


def micrometres(shape, step):
    return Image.from_array(bars(shape), "zyx"[-len(shape) :], step, units=["micrometer"] * len(shape))


def test_pixel_sizes_say_the_scale_of_each_axis():
    model = grey_model(3, known=Known(ndim=3, channels=1, pixel=(2.0, 0.5, 0.5)))
    wish = replace(ON_CPU, diameter="pixel-size")
    job = decide(micrometres((9, 60, 50), (1.0, 0.125, 0.25)), model, wish)
    assert job.size.factors == ((1, 2), (1, 4), (1, 2)) and job.size.diameter is None
    assert "1/2 x 1/4 x 1/2" in job.describe() and Job.from_json(job.to_json()) == job
    nano = Image.from_array(bars((9, 60, 50)), "zyx", (2000, 500, 1000), units=["nm"] * 3)
    assert decide(nano, model, wish).size.factors == ((1, 1), (1, 1), (2, 1))
    with pytest.raises(SettingsError, match="does not say how large a pixel is on axis z"):
        decide(bars((9, 60, 50)), model, wish)
    with pytest.raises(SettingsError, match="does not know a pixel size"):
        decide(micrometres((60, 50), (1, 1)), grey_model(), wish)


@pytest.mark.parametrize("diameter", [0, -3, float("nan"), float("inf"), "large", True, [10]])
def test_what_is_no_size_is_a_sentence(diameter):
    with pytest.raises(ShiftsegError, match="diameter"):
        decide(bars((40, 30)), grey_model(), replace(ON_CPU, diameter=diameter))


def test_a_model_that_knows_no_size_and_a_tile_that_does_not_fit_are_sentences():
    for known in (None, Known(ndim=2, channels=1)):
        with pytest.raises(SettingsError, match="leave the diameter out"):
            decide(bars((40, 30)), grey_model(known=known), replace(ON_CPU, diameter=10))
    with pytest.raises(TilingError, match="not a multiple of the period 8 px"):
        decide(bars((90, 70)), grey_model(), replace(ON_CPU, diameter=54, write=20))
    with pytest.raises(SettingsError, match="scaled image"):
        decide(bars((90, 70)), grey_model(), replace(ON_CPU, deterministic=False, diameter=40, method="stream"))


@pytest.fixture(scope="module")
def nuclei():
    model = load_model("nuclei")
    with resources.as_file(resources.files("napari_shiftseg") / "samples" / "nuclei.tif") as path:
        image = tifffile.imread(path)[:144, :160].astype(np.float32)
    return model, image


def measured(model, image, **wish):
    return drain(measure_steps(image, model, replace(SegmentSettings(device="cpu", dtype="float32"), **wish)))


def test_the_coarse_pass_measures_what_was_magnified(nuclei):
    model, image = nuclei
    found = {by: measured(model, rescale(image, by, order=1, anti_aliasing=by < 1)) for by in (0.5, 1, 3)}
    labels = segment(image, model, replace(ON_CPU, dtype="float32")).labels
    truth = np.median(2 * np.sqrt(np.unique(labels[labels > 0], return_counts=True)[1] / np.pi))
    for by, size in found.items():
        assert size.how == "measured" and size.diameter == pytest.approx(by * truth, rel=0.4), by
    assert found[3].diameter / found[1].diameter == pytest.approx(3, rel=0.3)
    assert found[1].diameter / found[0.5].diameter == pytest.approx(2, rel=0.4)


def test_the_measure_does_not_depend_on_the_tiles_and_the_run_takes_it(nuclei):
    model, image = nuclei
    large = image.repeat(2, 0).repeat(2, 1)
    size = measured(model, large)
    assert measured(model, large, write=32, memory=1 << 30, diameter="auto", workers=2) == size
    job = decide(large, model, SegmentSettings(device="cpu", dtype="float32", diameter="auto"))
    assert job.size == size and "(measured)" in job.describe() and job.settings.diameter == "auto"
    given = decide(large, model, SegmentSettings(device="cpu", dtype="float32", diameter=size.diameter))
    assert given.plan == job.plan and Job.from_json(job.to_json()) == job
    steps = segment_steps(large, model, SegmentSettings(device="cpu", dtype="float32", diameter="auto"))
    assert next(steps).text == "size of the objects"


def test_where_nothing_is_found_the_image_stays_as_it_is(nuclei):
    size = measured(nuclei[0], np.zeros((120, 90), np.float32))
    assert size.diameter is None and size.scale == (1.0, 1.0) and "no object was found" in size.describe()
    with pytest.raises(SettingsError, match="leave the diameter out"):
        measured(grey_model(known=None), bars((90, 70)))


def test_commands_take_a_diameter_and_say_the_scale(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", bars((90, 70)))
    save_model("m.safetensors", grey_model())
    shared = ["a.tif", "--model", "m.safetensors", "--device", "cpu", "--diameter", "27"]
    assert main(["segment", *shared, "--labels-tiff", "l.tif", "--out", "r.ome.zarr"]) == 0
    assert open_result("r.ome.zarr").record["scaling"]["scale"] == [0.5, 0.5]
    assert tifffile.imread("l.tif").shape == (90, 70)
    assert main(["segment", "--from", "r.ome.zarr", "--labels-tiff", "again.tif"]) == 0
    np.testing.assert_array_equal(tifffile.imread("again.tif"), tifffile.imread("l.tif"))
    assert main(["seams", "r.ome.zarr"]) == 0
    capsys.readouterr()
    assert main(["segment", *shared, "--dry-run"]) == 0
    assert "objects of 27 px (given); the network runs at scale 1/2" in capsys.readouterr().out
    assert main(["verify", *shared, "--tile", "16"]) == 0
    assert "tiles equal one pass" in capsys.readouterr().out
    assert main(["segment", *shared[:-1], "0", "--labels-tiff", "n.tif"]) == 2
    assert "pixels above 0, auto or pixel-size" in capsys.readouterr().err
