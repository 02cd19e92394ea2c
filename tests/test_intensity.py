"""Which intensities become 0 and 1: found in spite of what lies in an image, wished, recorded, and the same for all tiles."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from grey import bars, grey_model
from scipy import ndimage

from napari_shiftseg import SegmentSettings, load_model, match_score, open_result, segment
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image
from napari_shiftseg.network import Limits, Normalisation, TrainImage, robust
from napari_shiftseg.network.constants import IGNORE
from napari_shiftseg.segmentation import decide, view_steps
from napari_shiftseg.segmentation.intensity import few_objects, recorded_limits
from napari_shiftseg.segmentation.lazy import lazy_embedding

ON_CPU = SegmentSettings(device="cpu", keep_embedding=False)
SMALL = 1 << 30


@pytest.fixture(scope="module")
def nuclei():
    return load_model("nuclei")


@pytest.fixture(scope="module")
def crop():
    """Pixels (uint8) and truth of a part of the sample, 22 nuclei."""
    from importlib.resources import files

    found = [tifffile.imread(str(files("napari_shiftseg") / "samples" / name)) for name in ("nuclei.tif", "nuclei_truth.tif")]
    return tuple(each[150:350, 200:460] for each in found)


def right(labels, truth):
    return match_score(labels, truth).tp


# -- what is found ----------------------------------------------------------------------------------------------------

DISTURBED = {
    "hot pixels": lambda a: np.where(np.random.default_rng(1).random(a.shape) < 0.003, 60000, a),
    "dead pixels": lambda a: np.where(np.random.default_rng(1).random(a.shape) < 0.02, 0, a + 1000),
    "a strip of zeros beside an offset": lambda a: np.where(np.arange(a.shape[1]) < 9, 0, a + 4000),
    "a mosaic": lambda a: np.pad(a + 4000, ((0, 200), (0, 60))),
    "NaN": lambda a: np.where(np.arange(a.shape[1]) < 9, np.nan, a),
    "infinite rows": lambda a: np.where(np.arange(a.shape[0])[:, None] < 4, np.inf, a),
    "debris": lambda a: np.where(np.hypot(*np.ogrid[-20 : a.shape[0] - 20, -240 : a.shape[1] - 240]) < 14, 60000, a),
}


@pytest.mark.parametrize("disturb", DISTURBED.values(), ids=DISTURBED)
def test_nuclei_are_found_beside_what_is_none(nuclei, crop, disturb):
    pixels, truth = crop
    image = disturb(pixels * 10.0)
    size = [slice(0, edge) for edge in image.shape]
    known = np.pad(truth, [(0, max(0, a - b)) for a, b in zip(image.shape, truth.shape, strict=True)])[tuple(size)]
    result = segment(image.astype(np.float32), nuclei, ON_CPU)
    assert right(result.labels, known) >= 19


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a / 100 + 1e9,
        lambda a: a.astype(np.uint32) + 2**28,
        lambda a: a.astype(np.uint64) + np.uint64(2**63),
        lambda a: a.astype(np.int64) + 2**61,
        lambda a: a.astype(np.int16) * 3 - 30000,
        lambda a: (a * 2.0**-90).astype(np.float32),
        lambda a: a.astype(">u2") + 60000,
    ],
)
def test_gain_and_offset_do_not_change_a_label(nuclei, crop, change):
    pixels, _ = crop
    known = segment(pixels, nuclei, ON_CPU).labels
    np.testing.assert_array_equal(segment(change(pixels), nuclei, ON_CPU).labels, known)


def test_dark_nuclei_are_found_on_request(nuclei, crop):
    pixels, truth = crop
    turned = segment(255 - pixels, nuclei, replace(ON_CPU, invert=True))
    assert right(segment(255 - pixels, nuclei, ON_CPU).labels, truth) < right(turned.labels, truth) == 22
    np.testing.assert_array_equal(turned.labels, segment(pixels, nuclei, replace(ON_CPU)).labels)


def bleached(pixels):
    rng = np.random.default_rng(1)
    frames = [pixels * 60.0 * share + rng.normal(200, 4, pixels.shape) for share in (1, 0.25, 0.03)]
    return Image.from_array(np.stack(frames).clip(0).astype(np.uint16), axes="tyx")


def test_a_series_that_bleaches_warns_and_is_found_frame_by_frame(nuclei, crop):
    pixels, truth = crop
    series = bleached(pixels)
    shared = segment(series, nuclei, ON_CPU)
    assert right(shared.labels[2], truth) == 0
    assert any("time points (2)" in text and "--limits-per frame" in text for text in shared.record["intensity"]["warnings"])
    each = segment(series, nuclei, replace(ON_CPU, limits_per="frame"))
    assert [right(frame, truth) for frame in each.labels] == [22, 22, 22]
    assert each.record["intensity"]["warnings"] == [] and len(each.record["frame_limits"]) == 3
    for number in range(3):
        alone = segment(series.data[number], nuclei, ON_CPU)
        np.testing.assert_array_equal(each.labels[number], alone.labels)


def test_series_that_keep_their_brightness_do_not_warn(nuclei, crop):
    series = Image.from_array(np.stack([crop[0], crop[0][::-1], crop[0] // 2]), axes="tyx")
    assert segment(series, nuclei, ON_CPU).record["intensity"]["warnings"] == []


@pytest.mark.parametrize("per", ["image", "frame"])
def test_a_frame_without_data_is_its_share_of_the_series(nuclei, crop, per):
    series = np.stack([crop[0], np.full_like(crop[0], 7), crop[0], crop[0]]).astype(np.float32)
    series[1] = np.nan
    found = segment(Image.from_array(series, axes="tyx"), nuclei, replace(ON_CPU, limits_per=per))
    assert [right(frame, crop[1]) for frame in found.labels] == [22, 0, 22, 22]
    assert found.record["intensity"]["notes"][0].startswith("25 % of the pixels hold no data")


@pytest.mark.parametrize("wish", [
    {"limits": 5}, {"limits": (1,)}, {"limits": (2, 1)}, {"limits": "1,2"}, {"percentiles": 5}, {"percentiles": (1,)},
    {"percentiles": "ab"}, {"percentiles": (1, 101)}, {"percentiles": ("1", "99")}, {"limits_per": "tile"}, {"no_data": "0"},
])  # fmt: skip
def test_wishes_that_are_none_are_said_in_a_sentence(nuclei, crop, wish):
    (name,) = wish
    with pytest.raises(SettingsError, match=rf"^{name} (is|are) .*; give "):
        segment(crop[0], nuclei, replace(ON_CPU, **wish))


# -- no data ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})


@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize("marked", [np.nan, np.inf, -5.0])
@pytest.mark.usefixtures("small_blocks")
def test_no_object_lies_where_there_is_no_data(tmp_path, foreground, marked):
    """In memory, out of core and in a preview; and pixels without data do not change those that lie elsewhere."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((620, 90)), 3) > 0.5
    image = image.astype(np.float32) * 90 + rng.random((620, 90), np.float32)
    lacking = np.hypot(*np.ogrid[-300:320, -40:50]) < 30
    lacking |= np.hypot(*np.ogrid[-520:100, -40:50]) < 12
    image[lacking] = marked
    model = grey_model(foreground=foreground, deep=0.1, normalisation=Normalisation(low=0.5, high=99.5))
    wish = replace(ON_CPU, no_data=marked if np.isfinite(marked) else None, deterministic=True, out_of_core=False)
    whole = segment(image, model, wish)
    filled = segment(np.where(lacking, recorded_limits(whole.record).of(0).low[0], image), model, replace(
        wish, limits=(whole.record["limits"]["low"][0], whole.record["limits"]["high"][0])))  # fmt: skip
    assert whole.labels.max() > 3 and (whole.labels[lacking] == 0).all()
    assert ((whole.labels > 0) == ((filled.labels > 0) & ~lacking)).mean() > 0.999
    if foreground:
        assert (whole.foreground[lacking] == 0).all()
    large = replace(wish, out_of_core=True, memory=SMALL)
    stored = segment(image, model, large, tmp_path / "r.ome.zarr")
    assert stored.record["blocks"]["tasks"] > 1
    np.testing.assert_array_equal(stored.labels[:], whole.labels)
    assert stored.record["limits"] == json.loads(json.dumps(whole.record["limits"]))
    part = drain(view_steps(decide(image, model, wish), {"y": slice(250, 350)}))
    place = tuple(slice(at, at + edge) for at, edge in zip(part.origin, part.labels.shape, strict=True))
    assert (part.labels[lacking[place]] == 0).all() and part.labels.max() > 0


def test_labels_without_data_are_not_trained():
    pixels = np.arange(100.0).reshape(10, 10)
    pixels[3:5] = np.nan
    made = TrainImage.from_arrays(pixels, np.ones((10, 10), int), Normalisation())
    assert (made.labels[3:5] == IGNORE).all() and (made.labels[:3] == 1).all() and made.pixels.isfinite().all()


# -- one scaling ------------------------------------------------------------------------------------------------------


class Lazy:
    """An array that is not in memory."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim

    def __getitem__(self, key):
        return self.data[key]


@pytest.mark.parametrize("per", ["image", "frame"])
@pytest.mark.usefixtures("small_blocks")
def test_limits_are_equal_in_memory_lazily_and_out_of_core(tmp_path, monkeypatch, per):
    monkeypatch.setattr(robust, "SAMPLE", 1 << 14)  # so that patches decide
    rng = np.random.default_rng(0)
    series = (ndimage.gaussian_filter(rng.random((3, 530, 80)), (0, 4, 4)) > 0.5) * rng.gamma(9, 20, (3, 530, 80))
    series *= np.array([1, 0.5, 0.2])[:, None, None]
    model, wish = (
        grey_model(normalisation=Normalisation()),
        replace(ON_CPU, limits_per=per, deterministic=True, out_of_core=False),
    )
    whole = segment(Image.from_array(series, "tyx"), model, wish)
    lazily = segment(Image.from_array(Lazy(series), "tyx"), model, replace(wish, write=64))
    stored = segment(Image.from_array(series, "tyx"), model, replace(wish, out_of_core=True, memory=SMALL), tmp_path / "r.zarr")
    kept = open_result(tmp_path / "r.zarr").record
    for other in (lazily.record, stored.record, kept):
        assert recorded_limits(other) == recorded_limits(whole.record)
    assert len(recorded_limits(kept).limits) == (3 if per == "frame" else 1)
    np.testing.assert_array_equal(lazily.labels, whole.labels)
    np.testing.assert_array_equal(stored.labels[:], whole.labels)
    with_embedding = segment(Image.from_array(series, "tyx"), model, replace(wish, keep_embedding=True))
    on_demand = lazy_embedding(Image.from_array(series, "tyx"), model, wish, limits=recorded_limits(kept))
    np.testing.assert_allclose(on_demand[...], with_embedding.embedding, atol=1e-5)


def test_the_record_repeats_every_wish(nuclei, crop):
    pixels, _ = crop
    for wish in (
        {"limits": (2, 60)},
        {"limits": ((5, 80),)},
        {"percentiles": (5, 99)},
        {"invert": True},
        {"no_data": 3.0},
        {"limits": (2, 60), "invert": True, "no_data": 7},
    ):
        first = segment(pixels, nuclei, replace(ON_CPU, **wish))
        record = json.loads(json.dumps(first.record))
        again = segment(pixels, nuclei, SegmentSettings(**record["settings"]))
        np.testing.assert_array_equal(again.labels, first.labels)
        assert recorded_limits(record) == recorded_limits(again.record)


def test_older_records_and_models_still_open():
    record = {"limits": {"low": [1.0], "high": [2.0], "clip": [-1.0, 4.0]}}
    assert recorded_limits(record).limits == (Limits(low=(1.0,), high=(2.0,)),)
    record["limits"]["clip"] = None
    assert recorded_limits(record).of(5).clip is None
    assert Normalisation(**{"low": 1.0, "high": 99.8}) == Normalisation()


# -- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"limits": (0, 2)}, "are above the upper limit"),
        ({"limits": (90, 200)}, "are below the lower limit"),
        ({"limits": (0, 65535)}, "of the scale only"),
        ({"percentiles": (99, 99.5)}, "are below the lower limit"),
        ({"limits": (0, 65535)}, "No object was found"),
    ],
)
def test_limits_that_do_not_suit_the_image_warn(nuclei, crop, wish, said):
    found = segment(crop[0], nuclei, replace(ON_CPU, **wish)).record["intensity"]
    assert any(said in text for text in found["warnings"])
    assert segment(crop[0], nuclei, ON_CPU).record["intensity"] == {"notes": [], "warnings": []}


@pytest.mark.parametrize(("disturb", "kind", "said"), [
    (DISTURBED["hot pixels"], "notes", "0.31 % of the pixels are like none of their neighbours"),
    (DISTURBED["a strip of zeros beside an offset"], "notes", "3.5 % of the image is a constant area without data"),
    (DISTURBED["NaN"], "notes", "3.5 % of the pixels hold no data"),
    (DISTURBED["infinite rows"], "warnings", "infinite values; they count as no data"),
    (DISTURBED["debris"], "warnings", "far brighter than many objects"),
])  # fmt: skip
def test_what_was_left_out_is_said(nuclei, crop, disturb, kind, said):
    found = segment(disturb(crop[0] * 10.0), nuclei, ON_CPU).record["intensity"]
    assert any(said in text for text in found[kind]), found


def test_results_that_are_nearly_empty_warn():
    assert few_objects([0], (100, 100)) and few_objects([0, 0], (100, 100))
    assert few_objects([1], (1000, 1000)) == ("Only 1 object in 1 million pixels; look at the intensity limits.",)
    assert few_objects([1], (100, 100)) == () == few_objects([3], (700, 700))
    assert few_objects([20, 0, 19], (100, 100)) == ("No object was found in 1 of 3 frames (1).",)
    assert few_objects([1, 0, 1], (100, 100)) == (), "few objects leave frames empty"


# -- what holds no data, beyond the sample ----------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True], ids=["in memory", "out of core"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -7.0], ids=str)
def test_what_holds_no_data_is_counted_in_images_that_are_sampled(tmp_path, monkeypatch, large, value):
    """> the same result and the same note, whatever the size of the image"""
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512})
    model, image = grey_model(), bars((600, 100))
    image[530:542, 40:50] = value
    image[4, 70:73] = value
    wish = SegmentSettings(device="cpu", deterministic=True, limits=(0, 1), no_data=value if value == -7 else None)
    seen = segment(image, model, wish)
    monkeypatch.setattr("napari_shiftseg.network.robust._planes", lambda view, channel, budget: view[channel, :4][None])
    monkeypatch.setattr("napari_shiftseg.network.robust.SAMPLE", 4 * 100)
    where = {"out": tmp_path / "r.zarr"} if large else {}
    found = segment(image, model, replace(wish, out_of_core=large, memory=1 << 30 if large else None), **where)
    np.testing.assert_array_equal(found.labels[:], seen.labels)
    told = [segmented.record["intensity"] for segmented in (seen, found)]
    assert told[0]["notes"] == told[1]["notes"] and told[1]["notes"][0].startswith("0.21 % of the pixels hold no data")
    assert [any("infinite" in text for text in one["warnings"]) for one in told] == [value == np.inf] * 2
    assert found.record["job"]["intensity"]["missing"] == pytest.approx(123 / 60000)


def test_what_a_sample_took_for_more_is_told_as_it_is(monkeypatch):
    image = bars((64, 64))
    image[:4, :32] = np.nan
    monkeypatch.setattr("napari_shiftseg.network.robust._planes", lambda view, channel, budget: view[channel, :4][None])
    found = segment(image, grey_model(), SegmentSettings(device="cpu", limits=(0, 1))).record["intensity"]["notes"]
    assert [note for note in found if "hold no data" in note] == [
        "3.1 % of the pixels hold no data; they count as background, and no object lies there."
    ]
