"""The number format is decided like the rest: said, kept and repeated; in each the labels are equal at every tile size."""

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import tifffile
from grey import bars, grey_model

from napari_shiftseg import SegmentSettings, cli, decide, load_model, segment, synthetic
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image
from napari_shiftseg.segmentation import Job, open_job, run_steps

ON_CPU = SegmentSettings(device="cpu")
UNITS = (True, "the processor has matrix units for bfloat16 (AMX)")


@pytest.fixture
def matrix_units(monkeypatch):
    """A processor with matrix units; what they compute, any processor does, only slower."""
    monkeypatch.setattr("napari_shiftseg.network.device.matrix_units", lambda device: UNITS)


def test_auto_is_said_kept_and_repeated(matrix_units, monkeypatch):
    image, model = Image.from_array(bars((90, 70)), "yx"), grey_model(deep=0.5)
    job = decide(image, model, ON_CPU)
    assert (job.settings.dtype, job.dtype, job.why, job.fixed) == ("auto", "bfloat16", UNITS[1], True)
    assert f"bfloat16 ({UNITS[1]})" in job.describe()
    result = segment(image, model, ON_CPU)
    kept = json.loads(json.dumps(result.record["job"]))
    assert (kept["dtype"], kept["why"], kept["fixed"]) == ("bfloat16", UNITS[1], True)
    # where there are no such units, a run that is repeated is the same one, and a new one is not
    monkeypatch.setattr("napari_shiftseg.network.device.matrix_units", lambda device: (False, "none"))
    again = drain(run_steps(open_job(Job.from_dict(kept), image, model)))
    np.testing.assert_array_equal(again.embedding, result.embedding)
    np.testing.assert_array_equal(again.labels, result.labels)
    assert not np.array_equal(segment(image, model, ON_CPU).embedding, result.embedding)


def test_without_matrix_units_auto_is_float32_to_the_last_bit(monkeypatch):
    image, model = bars((90, 70)), grey_model(deep=0.5)
    wished, auto = (segment(image, model, replace(ON_CPU, dtype=dtype, write=16)) for dtype in ("float32", "auto"))
    np.testing.assert_array_equal(auto.embedding, wished.embedding)
    assert auto.plan == wished.plan and auto.record["job"]["dtype"] == "float32" and not auto.record["job"]["fixed"]


@pytest.mark.parametrize(
    ("wish", "write", "fixed"),
    [
        ({"write": 16}, None, True),
        ({"write": (64, 16)}, None, True),
        ({}, None, True),
        ({"write": 10_000}, None, True),
        ({"write": 15, "allow_noncompliant": True}, (15, 15), False),  # what it shows is to be seen
        ({"write": (16, 15), "allow_noncompliant": True}, (16, 15), False),
        ({"write": 16, "method": "stream"}, (16, 16), False),
        ({"write": 15, "allow_noncompliant": True, "deterministic": True}, None, True),
    ],
)
def test_tiles_of_a_short_format_have_the_size_that_the_network_fixes(wish, write, fixed):
    image, model = bars((300, 270)), grey_model(deep=0.5)
    canonical = decide(image, model, replace(ON_CPU, deterministic=True)).plan
    job = decide(image, model, replace(ON_CPU, dtype="bfloat16", **wish))
    assert job.fixed is fixed and job.plan.write == (write or canonical.write)
    assert job.method == wish.get("method", "tiles")
    exact = decide(image, model, replace(ON_CPU, dtype="float32", **wish))
    assert exact.fixed is wish.get("deterministic", False) and (exact.fixed or exact.dtype == "float32")


@pytest.fixture(scope="module")
def nuclei():
    return load_model("nuclei")


@pytest.fixture(scope="module")
def blobs():
    return synthetic.blobs((600, 240), 60, radius=(6, 10), touching=0.3, seed=3).image


def test_bits_are_equal_at_five_tile_sizes_in_blocks_and_with_workers(tmp_path, monkeypatch, matrix_units, nuclei, blobs):
    """> 0 px between five tile sizes, blocks, and two workers"""
    first, *others = (segment(blobs, nuclei, replace(ON_CPU, write=write)) for write in (None, 64, 104, 352, 10_000))
    assert first.record["job"]["dtype"] == "bfloat16" and first.labels.max() > 40
    for other in others:
        np.testing.assert_array_equal(other.embedding, first.embedding)
        np.testing.assert_array_equal(other.labels, first.labels)
    tifffile.imwrite(tmp_path / "image.tif", blobs)
    monkeypatch.setitem(import_module("napari_shiftseg.segmentation.layout").LARGEST, 2, 512)
    for workers in (0, 2):
        wish = replace(ON_CPU, out_of_core=True, memory=1 << 30, workers=workers)
        assert decide(blobs, nuclei, wish, tmp_path / "x.zarr").layout.grid.counts == (2, 1)
        blocks = segment(tmp_path / "image.tif", nuclei, wish, tmp_path / f"{workers}.zarr")
        assert blocks.record["job"]["dtype"] == "bfloat16"
        np.testing.assert_array_equal(blocks.labels[:], first.labels)


def test_bfloat16_changes_next_to_nothing(nuclei, blobs):
    """> adjusted Rand index against float32 >= .999"""
    exact, rough = (segment(blobs, nuclei, replace(ON_CPU, dtype=dtype)).labels for dtype in ("float32", "bfloat16"))
    assert exact.max() == rough.max() and ((exact > 0) != (rough > 0)).mean() < 3e-4
    pairs = np.unique(np.stack([exact[exact > 0], rough[exact > 0]]), axis=1, return_counts=True)[1]
    assert pairs[pairs > 8].sum() > 0.999 * pairs.sum() and (pairs > 8).sum() == exact.max()


def test_the_command_says_which_format_runs_and_takes_a_wish(tmp_path, capsys, matrix_units):
    tifffile.imwrite(tmp_path / "a.tif", bars((90, 70)))
    for wish, said in (([], "; bfloat16 (the processor has matrix"), (["--dtype", "float32"], "; float32 (as asked)")):
        words = ["segment", str(tmp_path / "a.tif"), "--model", "nuclei", "--device", "cpu", "--dry-run", *wish]
        assert cli.main([*words, "--out", str(tmp_path / "r.zarr")]) == 0
        assert said in capsys.readouterr().out
    tifffile.imwrite(tmp_path / "b.tif", bars((230, 210)))
    assert cli.main(["verify", str(tmp_path / "b.tif"), "--tile", "40", "--device", "cpu"]) == 0
    assert "tolerance 2e-02 in bfloat16" in capsys.readouterr().out
