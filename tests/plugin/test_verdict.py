"""The verdict says before a run what it can promise."""

import pytest

pytest.importorskip("napari")

import numpy as np

from napari_shiftseg import SegmentSettings, UNetSpec, load_model
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.io import Image
from napari_shiftseg.network import choose_device
from napari_shiftseg.plugin.verdict import describe_model, judge, tile_sizes, tile_wish

DEEP = UNetSpec(levels=3)
FLAT = UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)))


def verdict_on(path, shape=(40, 48), axes=None, **settings):
    image = Image.from_array(np.zeros(shape, np.uint8), axes=axes)
    return judge(image, load_model(path), SegmentSettings(**settings), device=choose_device("cpu"))


def test_legal_tiles_of_a_trained_network_pass(tiny):
    verdict = verdict_on(tiny, write=16)
    assert (verdict.level, verdict.can_run, len(verdict.plan)) == ("pass", True, 9)
    assert "windows of 8 px (4 of 4 functions, 8 of 8 pairs)" in verdict.text


def test_a_padded_network_is_compliant_as_trained_and_not_tile_exact(save_tiny):
    model = save_tiny("padded", padding="zero", neighbours=True)
    for write in (None, 8):
        verdict = verdict_on(model, write=write)
        assert (verdict.level, verdict.plan.write, len(verdict.plan)) == ("pass", (8, 8), 30)
        assert verdict.text.startswith("Compliant as trained") and "Not tile-exact" in verdict.text
        assert "(64 of 64 functions, 128 of 128 pairs)" in verdict.text and verdict.job.stream is None
    other = verdict_on(model, write=16)
    assert (other.level, other.plan) == ("fail", None) and "use 8 x 8 px" in other.text
    allowed = verdict_on(model, write=16, allow_noncompliant=True)
    assert allowed.level == "warn" and allowed.text.startswith("Tile-exact only") and "never trained" in allowed.text
    assert verdict_on(model, method="stream").level == "fail"


def test_a_network_of_unknown_training_is_tile_exact_only(save_tiny):
    verdict = verdict_on(save_tiny("untold", window=None))
    assert (verdict.level, verdict.can_run) == ("warn", True)
    assert "Tile-exact" in verdict.text


@pytest.mark.parametrize("allowed", [False, True])
def test_a_small_training_window_is_refused_unless_allowed(save_tiny, allowed):
    verdict = verdict_on(save_tiny("small", window=(2, 2)), allow_noncompliant=allowed)
    assert (verdict.level, verdict.can_run) == (("warn", True) if allowed else ("fail", False))
    assert verdict.text.count("training output window") == 1


def test_an_illegal_tile_names_the_legal_ones(tiny):
    verdict = verdict_on(tiny, write=15)
    assert (verdict.level, verdict.plan) == ("fail", None)
    assert "use 14 or 16" in verdict.text


def test_an_illegal_tile_can_be_allowed(tiny):
    verdict = verdict_on(tiny, write=15, allow_noncompliant=True)
    assert verdict.level == "warn"
    assert verdict.text.startswith("Non-compliant, allowed.")


def test_channels_have_to_fit(tiny, save_tiny):
    three = verdict_on(tiny, (3, 40, 48), "cyx")
    assert (three.level, "gives 3 channels and the network wants 1; choose 1" in three.text) == ("fail", True)
    assert verdict_on(tiny, (3, 40, 48), "cyx", channels=(1,)).level == "pass"
    assert verdict_on(save_tiny("two", in_channels=2), (40, 48), "yx").level == "fail"


def test_a_flat_image_does_not_fit_a_3d_model(save_tiny):
    assert "no depth" in verdict_on(save_tiny("deep", ndim=3, window=(8, 8, 8))).text


def test_a_number_format_that_the_device_lacks_is_refused(tiny):
    assert "float16" in verdict_on(tiny, dtype="float16").text


def test_offered_tiles_are_multiples_of_the_period():
    assert tile_sizes(DEEP, (100, 300)) == (8, 16, 32, 64, 128, 256, 512)
    assert all(size % 4 == 0 for size in tile_sizes(FLAT, (30, 100, 100)))
    assert tile_sizes(DEEP, (100_000, 100_000))[0] >= 512


WISHES = {
    "automatic": ("Automatic", DEEP, True, None),
    "nothing": ("", DEEP, True, None),
    "legal": ("64", DEEP, True, 64),
    "snapped": ("100", DEEP, True, 96),
    "never zero": ("1", DEEP, True, 8),
    "as typed": ("100", DEEP, False, 100),
    "per axis": ("60 x 100", DEEP, True, (64, 96)),
    "other signs": ("60\u00d7100 px", DEEP, True, (64, 96)),
    "per axis of a flat period": ("3, 30, 30", FLAT, True, (4, 32, 32)),
}


@pytest.mark.parametrize(("text", "spec", "snap", "wish"), WISHES.values(), ids=WISHES)
def test_a_typed_tile_size_means(text, spec, snap, wish):
    assert tile_wish(text, spec, snap=snap) == wish


@pytest.mark.parametrize("text", ["big", "-8", "8 x 8 x 8"])
def test_a_tile_size_that_is_none_is_refused(text):
    with pytest.raises(SettingsError, match="tile size"):
        tile_wish(text, DEEP, snap=True)


def test_a_model_is_described_in_a_line(tiny):
    assert describe_model(load_model(tiny)) == "2D, 1 channel, period 2 px, free embedding of 3 channels"
