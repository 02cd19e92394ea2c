"""`relabel`: labels of other settings from what a run left behind are those of a run with these settings, in bits."""

import json
from dataclasses import replace

import numpy as np
import pytest
from grey import UNCHANGED, bars, grey_model
from named import named_model

from napari_shiftseg import SegmentSettings, decide, open_result, read_image, relabel, save_model, segment
from napari_shiftseg.cli import main
from napari_shiftseg.errors import ImageError, ResultError, SettingsError
from napari_shiftseg.events import WindowDone, drain
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import Image, save_labels_tiff, save_result
from napari_shiftseg.segmentation import RelabelSettings, relabel_steps, tunable, view_steps
from napari_shiftseg.segmentation.tunable import view_labels_steps

ON_CPU = SegmentSettings(device="cpu", deterministic=True, write=32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})


def grey(ndim=2, **values):
    return grey_model(ndim, deep=0.5, normalisation=UNCHANGED, **values)


def noisy(shape):
    """Bars with an uneven edge, so that each setting makes a difference."""
    image = bars(shape) + np.random.default_rng(3).normal(0, 0.06, shape).astype(np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def holed(shape):
    """With pixels that hold no data."""
    image = noisy(shape)
    image[..., 20:29, 11:40] = np.nan
    return image


CASES = {
    "plane": (noisy((150, 130)), "yx", grey, {}),
    "no foreground": (noisy((90, 130)), "yx", lambda: grey(foreground=False), {}),
    "no data": (holed((90, 130)), "yx", grey, {}),
    "no data and no foreground": (holed((90, 130)), "yx", lambda: grey(foreground=False), {}),
    "a value for no data": ((255 * noisy((90, 130))).astype(np.uint8), "yx", lambda: grey(foreground=False), {"no_data": 0}),
    "coordinates": (noisy((90, 130)), "yx", lambda: grey(coordinates=True), {}),
    "seeds": (noisy((150, 90)), "yx", named_model, {}),
    "series": (noisy((3, 70, 60)), "tyx", grey, {"limits_per": "frame"}),
    "planes of a stack": (noisy((2, 70, 60)), "zyx", grey, {}),
    "series of a stack": (noisy((2, 2, 50, 60)), "tzyx", grey, {}),
    "volume": (noisy((14, 60, 70)), "zyx", lambda: grey(3), {}),
    "volumes of seeds": (noisy((2, 12, 50, 40)), "tzyx", lambda: named_model(3), {}),
    "at half the scale": (noisy((150, 130)), "yx", grey, {"diameter": 14.0}),
    "colours": (noisy((2, 90, 80)), "cyx", lambda: grey(in_channels=2), {}),
}
WISH = {"threshold": 0.8, "bandwidth": 1.3, "min_size": 40}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request, monkeypatch):
    pixels, axes, model, wish = request.param
    made = model()
    if "diameter" in wish:
        from napari_shiftseg.network import Known

        made = replace(made, record=replace(made.record, known=Known(ndim=2, channels=1, median=7.0)))
    return Image.from_array(pixels, axes), made, replace(ON_CPU, **wish)


def test_other_settings_give_the_labels_of_a_run_with_them(case, tmp_path):
    """From memory and from a store; and what is in view alone."""
    image, model, settings = case
    result = segment(image, model, settings)
    stored = open_result(result.save(tmp_path / "r.zarr"))
    job = decide(image, model, replace(settings, **WISH))
    expected = segment(image, model, replace(settings, **WISH))
    assert result.labels.max() >= 4 and (expected.labels != result.labels).any()
    window = {"t": slice(1, 2), "y": slice(8, 61), "x": slice(0, 40)}
    window = {axis: part for axis, part in window.items() if axis in job.axes}
    preview = drain(view_steps(job, window))
    for source in (result, stored):
        same, again = relabel(source), relabel(source, **WISH)
        np.testing.assert_array_equal(same.labels, result.labels)
        np.testing.assert_array_equal(again.labels, expected.labels)
        assert same.record["relabelled"]["changed"] == {} and same.record["instances"] == result.record["instances"]
        for name in ("clustering", "instances", "plan", "status"):
            assert again.record[name] == expected.record[name], name
        assert again.record["settings"] | WISH == again.record["settings"] and again.record["run"] != result.record["run"]
        left = tunable(source)
        seen = left.view(window)
        labels = drain(view_labels_steps(left, seen, RelabelSettings(**WISH).of(left.job.clustering)))
        np.testing.assert_array_equal(labels, preview.labels)
        assert seen.spot.origin == preview.origin
    assert "relabelled" not in result.record and stored.record["run"] == result.record["run"]


@pytest.mark.parametrize("wish", [{"threshold": 0.8}, {"bandwidth": 0.9}, {"min_size": 40}], ids=str)
def test_each_setting_alone_makes_a_difference(wish):
    image, model = noisy((150, 130)), grey()
    result, expected = segment(image, model, ON_CPU), segment(image, model, replace(ON_CPU, **wish))
    np.testing.assert_array_equal(relabel(result, **wish).labels, expected.labels)
    assert (expected.labels != result.labels).any()


def test_other_settings_of_the_mean_shift_are_those_of_label_instances():
    from napari_shiftseg import label_instances

    result = segment(noisy((150, 130)), grey(), ON_CPU)
    for wish in ({"dip": 0.6}, {"min_density": 40.0}, {"radius": 0.5}):
        settings = LabelSettings(**{**result.record["clustering"], **wish})
        again = relabel(result, **wish)
        np.testing.assert_array_equal(again.labels, label_instances(result.embedding, result.foreground, settings=settings))
        (name,) = wish
        assert (again.labels != result.labels).any() or name == "min_density"
        assert again.record["relabelled"]["changed"][name][1] == wish[name]


def test_the_valley_of_a_model_is_that_of_its_runs_whatever_the_tiles_and_of_new_labels(tmp_path):
    named, image = named_model(), noisy((150, 90))
    deep, shallow = (
        replace(named, record=replace(named.record, clustering=replace(named.record.clustering, factor=0.5, valley=depth)))
        for depth in (0.05, 0.95)
    )
    few, many = (segment(image, model, ON_CPU) for model in (deep, shallow))
    assert few.record["clustering"]["valley"] == 0.05 and (few.labels != many.labels).any()
    for source in (few, open_result(few.save(tmp_path / "r.zarr"))):
        again = relabel(source, valley=0.95)
        np.testing.assert_array_equal(again.labels, many.labels)
        assert again.record["relabelled"]["changed"] == {"valley": [0.05, 0.95]}
        assert again.record["clustering"] == many.record["clustering"]
    large = SegmentSettings(device="cpu", deterministic=True, write=16, out_of_core=True, memory=10**9)
    for wish in (replace(ON_CPU, write=10_000), replace(ON_CPU, write=48), large):
        out = tmp_path / "large.zarr" if wish.out_of_core else None
        found = segment(image, shallow, wish, out)
        np.testing.assert_array_equal((open_result(out) if out else found).labels[...], many.labels)
    with pytest.raises(SettingsError, match=r"valley is 1\.5"):
        relabel(few, valley=1.5)


def test_changes_are_told_against_the_run_however_often_labels_were_made_anew(tmp_path):
    result = segment(noisy((90, 130)), grey(), ON_CPU)
    once = relabel(result, threshold=0.8, out=tmp_path / "a.zarr")
    twice = relabel(tmp_path / "a.zarr", min_size=40)
    assert twice.record["relabelled"]["changed"] == {"threshold": [0.5, 0.8], "min_size": [4, 40]}
    assert twice.record["relabelled"]["run"] == once.record["relabelled"]["run"] == result.record["run"]
    back = relabel(twice, threshold=0.5, min_size=4)
    np.testing.assert_array_equal(back.labels, result.labels)
    assert back.record["relabelled"]["changed"] == {} and len({one.record["run"] for one in (result, once, twice, back)}) == 4


def test_the_record_of_new_labels_can_be_run_again(tmp_path, capsys):
    """Also where the settings of a run do not have the wish."""
    path = save_model(tmp_path / "grey.safetensors", grey())
    np.save(tmp_path / "i.npy", noisy((90, 130)))
    wanted = ["--device", "cpu", "--deterministic", "--out", str(tmp_path / "r.zarr")]
    assert main(["segment", str(tmp_path / "i.npy"), "--axes", "yx", "--model", str(path), *wanted]) == 0
    again = relabel(tmp_path / "r.zarr", out=tmp_path / "tuned.zarr", dip=0.6, threshold=0.8)
    assert main(["segment", "--from", str(tmp_path / "tuned.zarr"), "--axes", "yx", "--out", str(tmp_path / "b.zarr")]) == 0
    np.testing.assert_array_equal(open_result(tmp_path / "b.zarr").labels[...], again.labels)


LARGE = {
    "plane": ((530, 200), "yx", 2, {}),
    "series, no foreground": ((2, 530, 40), "tyx", 2, {"foreground": False}),
    "volume": ((20, 140, 150), "zyx", 3, {}),
}


@pytest.mark.parametrize(("shape", "axes", "ndim", "values"), LARGE.values(), ids=LARGE)
def test_a_result_out_of_core_is_labelled_anew_block_by_block(tmp_path, shape, axes, ndim, values):
    image, model = Image.from_array(bars(shape), axes, scale=[0.5] * len(axes)), grey(ndim, **values)
    settings = replace(ON_CPU, out_of_core=True, memory=1 << 30, keep_embedding=True, write=None)
    segment(image, model, settings, tmp_path / "r.zarr")
    wish = {"threshold": 0.9, "bandwidth": 1.2, "min_size": 150}
    expected = segment(image, model, replace(settings, **wish), tmp_path / "expected.zarr")
    before = open_result(tmp_path / "r.zarr").labels[...]
    again = relabel(tmp_path / "r.zarr", out=tmp_path / "again.zarr", image=image, **wish)
    assert again.stored is not None and again.record["blocks"]["tasks"] > 1
    np.testing.assert_array_equal(again.labels[...], expected.labels[...])
    assert (before != again.labels[...]).any()
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").labels[...], before)
    for name in ("instances", "clustering", "likeness", "blocks", "plan"):
        assert again.record[name] == expected.record[name], name
    for name, column in expected.stored.objects().items():
        np.testing.assert_array_equal(again.stored.objects()[name], column)
    assert again.scale == expected.scale and again.stored.scale == expected.stored.scale
    back = {"threshold": 0.5, "bandwidth": 0.4, "min_size": 4}
    third = relabel(tmp_path / "again.zarr", out=tmp_path / "third.zarr", image=image, **back)
    np.testing.assert_array_equal(third.labels[...], before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zarr", "expected.zarr", "r.zarr", "third.zarr"]


def test_what_is_cancelled_out_of_core_leaves_nothing(tmp_path):
    image = Image.from_array(bars((530, 90)), "yx")
    segment(image, grey(), replace(ON_CPU, out_of_core=True, keep_embedding=True, write=None), tmp_path / "r.zarr")
    steps = relabel_steps(tmp_path / "r.zarr", RelabelSettings(threshold=0.9), tmp_path / "b.zarr", image=image)
    for _ in range(3):
        next(steps)
    assert len([*tmp_path.iterdir()]) > 1
    steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]


def test_without_the_embedding_the_smallest_size_alone_can_be_changed(tmp_path):
    image, model = noisy((150, 130)), grey()
    result = segment(image, model, replace(ON_CPU, keep_embedding=False))
    stored = open_result(result.save(tmp_path / "r.zarr"))
    for source in (result, stored):
        np.testing.assert_array_equal(relabel(source).labels, result.labels)
        for wish in ({"threshold": 0.8}, {"bandwidth": 0.9, "min_size": 40}, {"dip": 0.5}):
            with pytest.raises(SettingsError, match=r"embedding of the run was not kept.*Embedding layers.*min_size alone"):
                relabel(source, **wish)
        again = relabel(source, min_size=60)
        assert again.record["relabelled"]["from"] == "labels" and again.record["relabelled"]["changed"] == {"min_size": [4, 60]}
        sizes = np.bincount(again.labels.ravel())[1:]
        assert len(sizes) and sizes.min() >= 60 and len(sizes) < result.labels.max()
        # large objects lose no pixel, and nothing appears where nothing was
        large = np.flatnonzero(np.bincount(result.labels.ravel()) >= 60)[1:]
        for number in large:
            assert len(np.unique(again.labels[result.labels == number])) == 1
        expected = segment(image, model, replace(ON_CPU, min_size=60))
        assert ((expected.labels > 0) != (again.labels > 0)).mean() < 0.01


def test_each_window_is_an_event_so_that_cancelling_waits_for_one():
    result = segment(noisy((600, 530)), grey(), ON_CPU)
    events = list(relabel_steps(result, RelabelSettings(threshold=0.8)))
    assert sum(isinstance(event, WindowDone) for event in events) > 2


FAULTS = {
    "bandwidth of 0": {"bandwidth": 0},
    "negative size": {"min_size": -1},
    "half a pixel": {"min_size": 4.5},
    "a word": {"threshold": "high"},
    "true": {"min_size": True},
    "NaN": {"threshold": float("nan")},
    "infinite": {"radius": float("inf")},
    "unknown": {"width": 3},
}


@pytest.mark.parametrize("wish", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("model", [grey, named_model], ids=["mean shift", "seeds"])
def test_a_wish_that_cannot_work_is_one_sentence(wish, model):
    if model is named_model and "radius" in wish:
        wish = {"radius": -1.0}
    with pytest.raises(SettingsError, match=next(iter(wish)) + "|factor"):
        relabel(segment(bars((60, 50)), model(), ON_CPU), **wish)


def test_nothing_is_written_over_what_is_read_or_is_there(tmp_path):
    result = segment(bars((60, 50)), grey(), ON_CPU)
    result.save(tmp_path / "r.zarr")
    with pytest.raises(ResultError):
        relabel(tmp_path / "r.zarr", out=tmp_path / "r.zarr", overwrite=True)
    (tmp_path / "other.zarr").mkdir()
    with pytest.raises(ResultError):
        relabel(result, out=tmp_path / "other.zarr")
    assert open_result(tmp_path / "r.zarr").record["run"] == result.record["run"]


def test_what_does_not_say_how_it_was_made_is_refused(tmp_path):
    save_result(tmp_path / "r.zarr", labels=np.eye(8, dtype=int), axes="yx", record={"made": "by hand"})
    with pytest.raises(ResultError, match="segment the image again"):
        relabel(tmp_path / "r.zarr", min_size=3)


def test_an_image_that_is_gone_is_missed_only_where_it_is_needed(tmp_path):
    """Pixels without data are known by the foreground; a network without one has to look."""
    for name, model in (("with", grey()), ("without", grey(foreground=False))):
        np.save(tmp_path / "i.npy", holed((60, 50)))
        image = read_image(tmp_path / "i.npy", axes="yx")
        result = segment(image, model, ON_CPU)
        result.save(tmp_path / f"{name}.zarr", copy_image=False)
        (tmp_path / "i.npy").unlink()
        if name == "with":
            again = relabel(tmp_path / "with.zarr", min_size=40)
            np.testing.assert_array_equal(again.labels, segment(image, model, replace(ON_CPU, min_size=40)).labels)
            assert "likeness" not in again.record
        else:
            with pytest.raises(ImageError, match=r"i\.npy.*give the image"):
                relabel(tmp_path / "without.zarr", min_size=40)
            again = relabel(tmp_path / "without.zarr", min_size=40, image=Image.from_array(holed((60, 50)), "yx"))
            np.testing.assert_array_equal(again.labels, segment(image, model, replace(ON_CPU, min_size=40)).labels)


def test_the_command_says_what_it_changed(tmp_path, capsys):
    result = segment(noisy((90, 130)), grey(), ON_CPU)
    result.save(tmp_path / "r.zarr")
    words = ["relabel", str(tmp_path / "r.zarr"), "--threshold", "0.8", "--min-size", "40"]
    places = ["--out", str(tmp_path / "b.zarr"), "--labels-tiff", str(tmp_path / "b.tif"), "--table", str(tmp_path / "b.csv")]
    assert main([*words, *places]) == 0
    said = capsys.readouterr().out
    assert "threshold 0.8 (of the run: 0.5)" in said and "min_size 40 (of the run: 4)" in said
    again = relabel(result, threshold=0.8, min_size=40)
    np.testing.assert_array_equal(open_result(tmp_path / "b.zarr").labels[...], again.labels)
    save_labels_tiff(tmp_path / "c.tif", again.labels, "yx")
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "c.tif").read_bytes()
    assert len((tmp_path / "b.csv").read_text().splitlines()) == 1 + again.labels.max()
    assert main([*words, *places]) == 2 and "--overwrite" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "r.zarr"), "--overwrite"]) == 2
    assert main(words) == 2 and "--out" in capsys.readouterr().err
    assert main([*words, *places, "--overwrite", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["relabelled"]["changed"] == {"threshold": [0.5, 0.8], "min_size": [4, 40]}
