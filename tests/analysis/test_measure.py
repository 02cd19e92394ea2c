"""Objects are measured in physical units, by scikit-image's names, and in parts as in one piece."""

import gc
from importlib import import_module

import numpy as np
import pytest
import zarr
from skimage.draw import disk
from skimage.measure import regionprops_table

from napari_shiftseg import measure
from napari_shiftseg.analysis import measure_steps
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances import parts


def cells(shape=(40, 50), numbers=(3, 70_000, 7), seed=0):
    labels = np.zeros(shape, np.uint32)
    for number, at in zip(numbers, np.random.default_rng(seed).uniform(8, 30, (len(numbers), 2)), strict=True):
        labels[disk(at, 5.5, shape=shape)] = number
    return labels


def volume():
    labels = np.zeros((9, 20, 20), np.int32)
    labels[1:5, 2:9, 3:8], labels[5:8, 10:15, 12:19], labels[3:5, 3, 3:6] = 2, 9, 0
    return labels


FORM = [
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
    "solidity",
    "extent",
    "euler_number",
    "perimeter",
]
PLANE = ["num_pixels", "area", "centroid", "bbox", "equivalent_diameter_area", *FORM, "mean_intensity", "std_intensity"]


@pytest.mark.parametrize("pixels", [1, 100, 1 << 20])
def test_features_are_those_of_scikit_image_however_many_parts(pixels, monkeypatch):
    monkeypatch.setattr(parts.whole_parts, "__kwdefaults__", {"pixels": pixels})
    labels = cells()
    image = np.random.default_rng(1).normal(size=labels.shape)
    table = measure(labels, image, spacing=(0.5, 0.5), units="micrometer")
    compact = np.searchsorted([0, 3, 7, 70_000], labels)
    truth = regionprops_table(compact, image, properties=PLANE, spacing=(0.5, 0.5))
    assert table["label"].tolist() == [3, 7, 70_000]
    assert set(truth) < set(table)
    for name in truth:
        np.testing.assert_allclose(table[name], truth[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("pixels", [1, 1 << 20])
def test_volumes_are_measured_as_scikit_image_measures_them(pixels, monkeypatch):
    monkeypatch.setattr(parts.whole_parts, "__kwdefaults__", {"pixels": pixels})
    table = measure(volume(), spacing=(2, 0.5, 0.25), units=("micrometer", "micrometer", "micrometer"))
    names = ("area", "centroid", "bbox", "equivalent_diameter_area", "axis_major_length", "axis_minor_length", "solidity")
    truth = regionprops_table(np.searchsorted([0, 2, 9], volume()), properties=names, spacing=(2, 0.5, 0.25))
    for name in truth:
        np.testing.assert_allclose(table[name], truth[name], rtol=1e-12, err_msg=name)
    assert table["spacing-z"].tolist() == [2, 2]
    assert not {"eccentricity", "perimeter", "orientation"} & set(table)


def test_number_of_pixels_unit_and_spacing_stand_beside_the_area():
    table = measure(cells(), spacing=(0.5, 0.25), units="micrometer")
    assert list(table)[:6] == ["label", "num_pixels", "area", "unit", "spacing-y", "spacing-x"]
    np.testing.assert_allclose(table["area"], table["num_pixels"] * 0.125)
    assert table["unit"].tolist() == ["micrometer"] * 3
    assert np.isnan(table["perimeter"]).all(), "scikit-image knows no perimeter of pixels that are not square"
    rounded = measure(cells(), spacing=(0.25, 0.25 * (1 + 1e-9)), units="micrometer")
    assert np.isfinite(rounded["perimeter"]).all()


@pytest.mark.parametrize(
    ("spacing", "units", "unit"),
    [(None, None, "pixel"), ((0.5, 0.5), None, "unknown"), ((500, 0.5), ("nanometer", "micrometer"), "micrometer")],
)
def test_the_unit_is_said(spacing, units, unit):
    table = measure(cells(), spacing=spacing, units=units)
    assert set(table["unit"]) == {unit}
    if unit == "micrometer":
        np.testing.assert_allclose(table["area"], table["num_pixels"] * 0.25)


def test_frames_keep_their_numbers_and_planes_can_stand_alone():
    series = np.stack([cells(seed=seed, numbers=numbers) for seed, numbers in ((0, (3, 5)), (1, (5,)), (2, (5, 900)))])
    series[1] = 0
    table = measure(series, axes="tyx", spacing=(60, 0.5, 0.5), units=("second", "micrometer", "micrometer"))
    assert list(zip(table["t"].tolist(), table["label"].tolist(), strict=True)) == [(0, 3), (0, 5), (2, 5), (2, 900)]
    alone = measure(series[2], spacing=(0.5, 0.5), units="micrometer")
    for name in alone:
        np.testing.assert_array_equal(table[name][2:], alone[name])
    planes = measure(series, axes="zyx", ndim=2)
    assert planes["z"].tolist() == [0, 0, 2, 2]
    assert measure(series, axes="zyx")["label"].tolist() == [3, 5, 900]


def test_channels_have_columns_each_and_other_kinds_of_pixels_are_averaged():
    labels = cells()
    image = np.stack([labels > 0, labels == 7]).astype(bool)
    table = measure(labels, image)
    assert table["mean_intensity-0"].tolist() == [1, 1, 1]
    assert table["mean_intensity-1"].tolist() == [0, 1, 0]
    assert measure(labels, image[0])["mean_intensity"].tolist() == [1, 1, 1]
    halves = np.full(labels.shape, 60_000, np.float16)  # whose sum is beyond float16
    assert measure(labels, halves)["mean_intensity"].tolist() == [float(halves[0, 0])] * 3


def test_labels_on_disk_give_the_same_table():
    stored = zarr.array(volume(), chunks=(4, 6, 7))
    image = zarr.array(np.random.default_rng(0).random((2, *volume().shape)), chunks=(1, 3, 9, 9))
    one, other = measure(stored, image), measure(volume(), image[:])
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("axes", ["yx", "zyx", "tyx", "tzyx"])
@pytest.mark.parametrize("image", [False, True])
def test_no_objects_are_a_table_of_all_columns(axes, image):
    some = np.zeros((3,) * len(axes), int)
    none = some.copy()
    some[(1,) * len(axes)] = 4
    pixels = np.zeros((2, *some.shape)) if image else None
    one, other = measure(some, pixels, axes=axes), measure(none, pixels, axes=axes)
    assert list(one) == list(other)
    assert all(len(column) == 0 for column in other.values())
    assert all(one[name].dtype.kind == other[name].dtype.kind for name in one)


def test_events_count_parts_or_frames(monkeypatch):
    monkeypatch.setattr(parts.whole_parts, "__kwdefaults__", {"pixels": 100})
    events = []
    alone = measure(cells(), on_event=events.append)
    assert [(event.done, event.total) for event in events[1:]] == [(n, len(events) - 1) for n in range(1, len(events))]
    assert len(events) > 2
    events.clear()
    series = measure(np.stack([cells(), np.zeros_like(cells()), cells()]), axes="tyx", on_event=events.append)
    told = [(event.done, event.total) for event in events]  # a frame of several parts is told again while it is measured
    assert list(dict.fromkeys(told)) == [(0, 3), (1, 3), (2, 3), (3, 3)] and len(told) > 4
    np.testing.assert_array_equal(series["area"], np.tile(alone["area"], 2))


def test_a_user_who_goes_away_ends_the_measuring():
    steps = measure_steps(np.stack([cells()] * 3), axes="tyx")
    next(steps), next(steps)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_flat_volumes_have_no_hull_and_no_warning():
    labels = np.zeros((4, 5, 6), int)
    labels[1, 1, 1], labels[2, 1:4, 1:5], labels[0, 0, 3:] = 1, 2, 3
    labels[[0, 1, 2, 3], [4, 4, 4, 4], [0, 1, 2, 3]] = 4
    table = measure(labels)
    assert np.isnan(table["solidity"]).all()
    assert table["num_pixels"].tolist() == [1, 12, 3, 4]


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (SettingsError, "axes", {"axes": "cyx"}),
        (SettingsError, "3 axes", {"ndim": 3}),
        (SettingsError, "3 values of spacing", {"spacing": (1, 1, 1)}),
        (SettingsError, "positive", {"spacing": (0, 1)}),
        (SettingsError, "cannot be brought to one", {"units": (None, "micrometer")}),
        (SettingsError, "cannot be brought to one", {"units": ("second", "micrometer")}),
        (ImageError, "does not belong", {"image": np.zeros((40, 49))}),
    ],
)
def test_what_does_not_fit_is_said(error, words, options):
    with pytest.raises(error, match=words):
        measure(cells(), **options)


@pytest.fixture
def collections():
    """Generations at which Python's collector of cycles has looked."""
    seen = []

    def note(phase, told):
        if phase == "start":
            seen.append(told["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_what_is_made_for_each_object_is_no_work_for_the_collector_of_cycles(collections):
    """A full collection takes a quarter of a second of all threads, that of a window as well."""
    squares = np.kron(np.arange(1, 1601, dtype=np.int32).reshape(40, 40), np.pad(np.ones((4, 4), np.int32), 1))
    measure(squares[:12, :12], squares[:12, :12])  # modules are loaded
    gc.collect()
    collections.clear()
    measure(squares, squares)
    assert max(collections, default=0) == 0


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_of_cycles_is_afterwards_as_it_was(on, monkeypatch):
    """Also where a part cannot be measured, or one is measured inside another."""
    module = import_module("napari_shiftseg.analysis.measure")
    before, seen = module.regionprops_table, []

    def fail(*_, **__):
        seen.append(gc.isenabled())
        with module._uncollected():
            pass
        seen.append(gc.isenabled())
        raise MemoryError

    (gc.enable if on else gc.disable)()
    try:
        monkeypatch.setattr(module, "regionprops_table", fail)
        with pytest.raises(MemoryError):
            measure(cells())
        assert (seen, gc.isenabled()) == ([False, False], on)
        monkeypatch.setattr(module, "regionprops_table", before)
        measure(cells())
        assert gc.isenabled() is on
    finally:
        gc.enable()
