"""The mean of all flips and turns: the network says it, and all else is as in any run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED, bars
from grey import grey_model as made

from napari_shiftseg import Job, SegmentSettings, decide, open_result, save_model, seam_report, segment, verify_tiling
from napari_shiftseg.cli import main
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image, load_model
from napari_shiftseg.network import Known
from napari_shiftseg.segmentation import look, open_job, run_steps, view_steps
from napari_shiftseg.segmentation.lazy import lazy_embedding

ON_CPU = SegmentSettings(device="cpu", deterministic=True)
AVERAGED = replace(ON_CPU, augment=True)


def offsets_model(ndim=2, **values):
    """A model of offsets, which are ten times the grey value: turned, they point elsewhere."""
    known = Known(ndim=ndim, channels=1, median=10.0)
    values = {"embedding_dim": ndim, "coordinates": True, "known": known, **values}
    return made(ndim, deep=0.5, normalisation=UNCHANGED, **values)


CASES = {
    "plane": ((560, 150), 2, {}, {}),
    "another size": ((560, 150), 2, {}, {"diameter": 17}),
    "padded": ((200, 170), 2, {"padding": "zero"}, {"allow_noncompliant": True}),
    "volume": ((20, 140, 150), 3, {}, {}),
}


# the volume takes as long as all others together; tests/network/test_turned.py has one too
LONG = {"volume": pytest.mark.slow}


@pytest.mark.parametrize(
    ("shape", "ndim", "values", "wish"),
    [pytest.param(*case, marks=LONG.get(name, ()), id=name) for name, case in CASES.items()],
)
def test_tiles_blocks_previews_and_runs_again_give_the_labels_of_one_run(tmp_path, monkeypatch, shape, ndim, values, wish):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    model, image = offsets_model(ndim, **values), Image.from_array(bars(shape), "zyx"[-ndim:])
    wish = replace(AVERAGED, **wish)
    whole = segment(image, model, wish)
    assert whole.labels.shape == shape and whole.labels.max() > 2
    plain = segment(image, model, replace(wish, augment=False))
    assert not np.array_equal(plain.embedding, whole.embedding)
    assert plain.plan.lattice.period == whole.plan.lattice.period and whole.plan.lattice.network == model.lattice
    assert whole.record["status"] == plain.record["status"] and whole.record["promises"] == plain.record["promises"]
    if whole.plan.zeros == "tile":
        return  # which no other tiles give
    tiled = segment(image, model, replace(wish, write=tuple(-(-48 // p) * p for p in whole.plan.lattice.period)))
    np.testing.assert_array_equal(tiled.labels, whole.labels)
    np.testing.assert_array_equal(tiled.embedding, whole.embedding)
    blocks = segment(image, model, replace(wish, out_of_core=True, memory=1 << 30, keep_embedding=True), tmp_path / "a.zarr")
    assert blocks.record["blocks"]["tasks"] > 1 and blocks.record["settings"]["augment"]
    np.testing.assert_array_equal(blocks.labels[:], whole.labels)
    np.testing.assert_array_equal(blocks.stored.embedding[:], whole.embedding)
    again = open_job(Job.from_dict(json.loads(json.dumps(blocks.record["job"]))), image, model)
    np.testing.assert_array_equal(drain(run_steps(replace(again, out=str(tmp_path / "b.zarr")))).labels[:], whole.labels)
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


def test_a_job_says_the_turns_and_costs_them():
    image, model = bars((300, 270)), offsets_model()
    plain, job = decide(image, model, ON_CPU), decide(image, model, AVERAGED)
    assert "the mean of 8 flips and turns" in job.describe() and "turns" not in plain.describe()
    assert job.plan.flops > 6 * plain.plan.flops and job.memory >= plain.memory
    assert Job.from_json(job.to_json()) == job
    assert "augment=True" in job.to_code() and "--augment" in job.to_command() and "augment" not in plain.to_code()
    old = plain.to_dict()
    del old["settings"]["augment"]
    assert "turning" in job.to_dict()["plan"]["lattice"] and "turning" not in old["plan"]["lattice"]
    assert Job.from_dict(old) == plain


def test_an_unfinished_run_without_turns_is_not_gone_on_with(tmp_path):
    from napari_shiftseg.segmentation.large import _fingerprint

    model, image = offsets_model(), bars((600, 530))
    jobs = (decide(image, model, replace(wish, out_of_core=True), tmp_path / "a.zarr") for wish in (ON_CPU, AVERAGED))
    plain, ours = (_fingerprint(look(job)) for job in jobs)
    assert "turns" not in plain and plain == {name: value for name, value in ours.items() if name != "turns"} != ours


def test_two_workers_give_the_labels_of_one_process(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    image = bars((1030, 300))
    tifffile.imwrite(tmp_path / "a.tif", image)
    model = load_model(save_model(tmp_path / "m.safetensors", offsets_model()))
    wish = replace(AVERAGED, memory=1 << 30)
    run = segment(tmp_path / "a.tif", model, replace(wish, out_of_core=True, workers=2), tmp_path / "r.zarr")
    assert run.record["blocks"]["tasks"] > 1
    np.testing.assert_array_equal(run.labels[:], segment(image, model, replace(wish, memory=None)).labels)


@pytest.mark.parametrize("values", [{"coordinates": False}, {"embedding_dim": 3}], ids=["codes", "codes beside offsets"])
def test_free_codes_are_refused_before_anything_runs(values):
    with pytest.raises(SettingsError, match="free codes"):
        decide(bars((40, 30)), offsets_model(**values), AVERAGED)
    with pytest.raises(SettingsError, match="flipped and turned"):
        decide(bars((90, 70)), offsets_model(), replace(AVERAGED, deterministic=False, method="stream"))
    with pytest.raises(SettingsError, match="augment is 'yes'; give True or False"):
        decide(bars((40, 30)), offsets_model(), replace(AVERAGED, augment="yes"))


def test_commands_average(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", bars((90, 70)))
    save_model("m.safetensors", offsets_model())
    save_model("codes.safetensors", offsets_model(coordinates=False))
    shared = ["a.tif", "--model", "m.safetensors", "--device", "cpu", "--augment"]
    assert main(["segment", *shared, "--labels-tiff", "l.tif", "--out", "r.ome.zarr"]) == 0
    assert open_result("r.ome.zarr").record["settings"]["augment"] is True
    assert main(["segment", "--from", "r.ome.zarr", "--labels-tiff", "again.tif"]) == 0
    np.testing.assert_array_equal(tifffile.imread("again.tif"), tifffile.imread("l.tif"))
    assert main(["seams", "r.ome.zarr"]) == 0
    capsys.readouterr()
    assert main(["segment", *shared, "--dry-run"]) == 0
    assert "the mean of 8 flips and turns" in capsys.readouterr().out
    assert main(["verify", *shared, "--tile", "16"]) == 0
    assert "tiles equal one pass" in capsys.readouterr().out
    assert main(["segment", "a.tif", "--model", "codes.safetensors", "--augment", "--labels-tiff", "n.tif"]) == 2
    assert "free codes" in capsys.readouterr().err
