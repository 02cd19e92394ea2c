"""A run is decided once: what is printed is what runs, what the record keeps runs again, and it keeps to its memory."""

import json
import time
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import tifffile
import zarr
from grey import UNCHANGED, bars
from grey import grey_model as made

from napari_shiftseg import Job, SegmentSettings, cli, decide, open_result, plan_tiles, save_model, segment
from napari_shiftseg.errors import ComplianceError, ImageError, ModelError, ResultError, SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image, WorkFolder, load_model
from napari_shiftseg.network import Known
from napari_shiftseg.segmentation import look, open_job, run_steps

ON_CPU = SegmentSettings(device="cpu")
decision = import_module("napari_shiftseg.segmentation.decision")


def grey_model(ndim=2, **values):
    return made(ndim, deep=0.5, normalisation=UNCHANGED, known=Known(ndim=ndim, channels=1, median=13), **values)


JOBS = {
    "tiles": ((90, 70), "yx", {"write": 16}),
    "stream": ((200, 70), "yx", {"method": "stream"}),
    "stream that ends within a period": ((201, 71), "yx", {"method": "stream"}),
    "lists and numpy's numbers": (
        (60, 50, 2),
        "yxc",
        {"write": [16, 32], "limits": [0, np.float32(1)], "channels": np.array([1])},
    ),
    "series": ((3, 60, 50), "tyx", {"bandwidth": 0.5, "percentiles": (1, 99), "limits_per": "frame"}),
    "off the lattice": ((90, 70), "yx", {"write": 15, "allow_noncompliant": True}),
    "objects of another size": ((90, 70), "yx", {"diameter": 34, "write": 32}),
    "out of core": ((600, 530), "yx", {"out_of_core": True, "memory": 1 << 30, "deterministic": True}),
    "lists out of core": ((60, 50), "yx", {"out_of_core": True, "write": [16, 32], "limits": (np.int64(0), 1)}),
    "blocks of objects of another size": ((600, 530), "yx", {"out_of_core": True, "diameter": 4.4}),
    "streamed blocks": ((600, 530), "yx", {"out_of_core": True, "memory": 1 << 30, "method": "stream"}),
}


@pytest.mark.parametrize(("shape", "axes", "wish"), JOBS.values(), ids=JOBS)
def test_a_job_goes_to_json_and_back_and_runs_again(tmp_path, shape, axes, wish):
    image, model = Image.from_array(bars(shape), axes), grey_model()
    job = look(decide(image, model, replace(ON_CPU, **wish), tmp_path / "a.zarr"))
    again = Job.from_json(job.to_json())
    assert again == job and again.describe() == job.describe()
    assert again.inputs is None and job.inputs is not None
    with pytest.raises(SettingsError, match="open it with open_job"):
        drain(run_steps(again))
    first = drain(run_steps(job))
    kept = Job.from_dict(json.loads(json.dumps(first.record["job"])))
    second = drain(run_steps(replace(open_job(kept, image, model), out=str(tmp_path / "b.zarr"))))
    np.testing.assert_array_equal(second.labels[:], first.labels[:])
    assert second.record["plan"] == first.record["plan"] and second.record["method"] == first.record["method"]
    assert job.method == ("stream" if "stream" in wish.get("method", "") else job.method) and "GB" in job.describe()


@pytest.mark.parametrize(
    ("part", "other"),
    [("device", None), ("device", []), ("device", {"where": "x"}), ("device", {"where": -1}), ("settings", {"limits": [5]})],
    ids=str,
)
def test_a_job_of_which_a_part_is_something_else_is_refused(part, other):
    values = json.loads(decide(bars((40, 30)), grey_model(), ON_CPU).to_json())
    values[part] = {**values[part], **other} if isinstance(other, dict) else other
    with pytest.raises(SettingsError):
        Job.from_dict(values)


def test_a_job_that_is_none_is_a_sentence():
    job = decide(bars((40, 30)), grey_model(), ON_CPU)
    for values in ({}, [], {**job.to_dict(), "version": 0}, {**job.to_dict(), "settings": {"tile": 3}}):
        with pytest.raises(SettingsError, match="segment the image anew"):
            Job.from_dict(values)
    with pytest.raises(SettingsError, match="no JSON"):
        Job.from_json("{")
    with pytest.raises(SettingsError, match="no JSON"):
        Job.from_json("[" * 100_000)
    missing = job.to_dict()
    del missing["plan"]["write"]
    with pytest.raises(SettingsError, match="the job is damaged"):
        Job.from_dict(missing)


def test_a_job_of_a_device_that_is_gone_still_opens():
    job = decide(bars((40, 30)), grey_model(), ON_CPU)
    older = job.to_dict()
    older["device"] |= {"name": "2 threads, tiles by OpenVINO 9.9", "compiled": True}
    assert Job.from_dict(older) == replace(job, device=replace(job.device, name="2 threads, tiles by OpenVINO 9.9"))


def test_a_job_is_opened_with_what_it_was_made_for(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", bars((40, 30)))
    path = save_model(tmp_path / "m.safetensors", grey_model())
    job = Job.from_json(decide(tmp_path / "a.tif", load_model(path), ON_CPU).to_json())
    assert open_job(job).opened.model.hash == job.model.sha256
    with pytest.raises(ModelError, match="was in memory alone"):
        open_job(replace(job, model=replace(job.model, source="")))
    save_model(path, grey_model(features=4))
    with pytest.raises(ModelError, match="has changed since"):
        open_job(job)
    tifffile.imwrite(tmp_path / "a.tif", bars((41, 30)))
    with pytest.raises(ImageError, match=r"has shape \(41, 30\) .* run has shape \(40, 30\)"):
        open_job(job, model=grey_model())
    (tmp_path / "a.tif").unlink()
    with pytest.raises(ImageError, match="is not there"):
        open_job(job, model=grey_model())


def test_a_run_decides_once(monkeypatch):
    """Plan, method, device and rules are each looked for once, also in a series, and with an empty image."""
    calls = []

    def counted(module, name):
        call = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **values: calls.append(name) or call(*args, **values))

    predict = import_module("napari_shiftseg.network.predict")
    for module, name in (
        (decision, "plan_tiles"),
        (decision, "choose_device"),
        (decision, "judge"),
        (predict, "choose_method"),
    ):
        counted(module, name)
    counted(predict, "choose_device")
    for image in (bars((400, 300)), Image.from_array(bars((3, 300, 90)), "tyx"), np.zeros((400, 300), np.float32)):
        calls.clear()
        segment(image, grey_model(), ON_CPU)
        assert sorted(calls) == ["choose_device", "choose_method", "judge", "plan_tiles"]


@pytest.mark.parametrize("filled", [True, False])
def test_what_is_said_before_is_what_runs(filled):
    """Tiles that are constant cost nothing, so an image that is nearly empty runs by tiles, and the job says so before."""
    image = bars((1200, 1100)) if filled else np.zeros((1200, 1100), np.float32)
    image[:60, :60] = bars((60, 60))
    model = grey_model(levels=2)
    job = decide(image, model, ON_CPU)
    result = segment(image, model, ON_CPU)
    assert job.method == result.record["method"]["name"] == ("stream" if filled else "tiles")
    assert (job.stream.passes if filled else job.plan) == result.plan


def test_the_plan_stays_the_one_that_was_decided_when_memory_changes(monkeypatch):
    image, model = bars((900, 900)), grey_model(levels=3, features=16, window=(32, 32))
    job = decide(image, model, replace(ON_CPU, method="tiles"))
    monkeypatch.setattr("napari_shiftseg.machine.free_memory", lambda: 1 << 20)
    result = drain(run_steps(job))
    assert result.plan == job.plan and job.plan.automatic


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shiftseg(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "m.safetensors", grey_model())
    zarr.save_array(str(tmp_path / "image.zarr"), bars((600, 530)))
    tifffile.imwrite(tmp_path / "series.tif", (bars((2, 60, 50)) * 200).astype(np.uint8))

    def run(*words):
        code = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


RUNS = {
    "in memory": ("series.tif", "--axes", "tyx", "--tile", "16", "--bandwidth", "0.5"),
    "stream": ("image.zarr", "--method", "stream"),
    "out of core": ("image.zarr", "--out-of-core", "--memory", "1GB", "--embedding"),
}


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_a_recorded_run_is_repeated_by_its_record(shiftseg, tmp_path, words):
    common = ("--model", "m.safetensors", "--device", "cpu", "--quiet")
    code, told, err = shiftseg("segment", *words, *common, "--out", "a.ome.zarr", "--json")
    assert (code, err) == (0, "")
    assert shiftseg("segment", "--from", "a.ome.zarr", "--out", "b.ome.zarr", "--quiet")[0] == 0
    (tmp_path / "told.json").write_text(told)
    assert shiftseg("segment", "--from", "told.json", "--out", "c.ome.zarr", "--quiet")[0] == 0
    first, *others = (open_result(f"{name}.ome.zarr") for name in "abc")
    for other in others:
        np.testing.assert_array_equal(other.labels[:], first.labels[:])
        for key in ("plan", "settings", "clustering", "limits", "status"):
            assert other.record[key] == first.record[key]
        assert other.record["run"] != first.record["run"]


def test_a_dry_run_and_a_scene_of_a_file_are_repeated(shiftseg, tmp_path):
    common = ("--model", "m.safetensors", "--device", "cpu", "--quiet")
    with tifffile.TiffWriter("several.tif") as file:
        file.write(bars((40, 30)))
        file.write(bars((60, 50)))
    words = ("segment", "several.tif", "--scene", "1", *common)
    code, told, _ = shiftseg(*words, "--dry-run", "--json")
    (tmp_path / "dry.json").write_text(told)
    assert code == 0 and shiftseg(*words, "--out", "a.ome.zarr")[0] == 0
    (tmp_path / "several.tif").rename("moved.tif")
    assert shiftseg("segment", "moved.tif", "--from", "a.ome.zarr", "--out", "b.ome.zarr")[0] == 0
    (tmp_path / "moved.tif").rename("several.tif")
    assert shiftseg("segment", "--from", "dry.json", "--out", "c.ome.zarr")[0] == 0
    first, *others = (open_result(f"{name}.ome.zarr").labels[:] for name in "abc")
    assert first.shape == (60, 50)
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"images": [{}, {}]}, "tells of 2 runs"),
        ({"dry_run": {}}, "an older version made it"),
        ({"job": {"version": 1}}, "an older version made it"),
        ({"job": {"version": 1}, "image": None}, "an older version made it"),
        ({"job": {"version": 1, "image": {}}, "image": {"pixels": ""}}, "the job is damaged"),
        ({"job": {"version": 99}, "image": {"pixels": ""}}, "of another version"),
        ([], "an older version made it"),
    ],
)
def test_what_is_no_record_is_a_sentence(shiftseg, tmp_path, record, reason):
    (tmp_path / "told.json").write_text(json.dumps(record))
    code, _, err = shiftseg("segment", "--from", "told.json", "--out", "b.ome.zarr")
    assert code == 2 and reason in err and err.count("\n") == 1


def test_what_cannot_be_repeated_is_said(shiftseg, tmp_path):
    common = ("--model", "m.safetensors", "--device", "cpu", "--quiet")
    assert shiftseg("segment", "image.zarr", *common, "--out", "a.ome.zarr")[0] == 0
    for words, reason in (
        (("--tile", "16"), "repeats a run as it was"),
        (("--bandwidth", "0.3"), "repeats a run as it was"),
        (("image.zarr", "series.tif"), "repeats one run"),
        (("series.tif",), "give that image"),
    ):
        code, _, err = shiftseg("segment", *words, "--from", "a.ome.zarr", "--out", "b.ome.zarr")
        assert code == 2 and reason in err and err.count("\n") == 1
    array = zarr.open_array(str(tmp_path / "image.zarr"), mode="r+")
    array[:] = array[:] * np.float32(0.9)
    code, _, err = shiftseg("segment", "--from", "a.ome.zarr", "--out", "b.ome.zarr")
    assert code == 2 and "other pixels" in err
    assert shiftseg("segment", "--out", "b.ome.zarr")[0] == 2
    segment(array[:], "m.safetensors", SegmentSettings(device="cpu"), "memory.ome.zarr")
    code, _, err = shiftseg("segment", "--from", "memory.ome.zarr", "--out", "b.ome.zarr")
    assert code == 2 and "name its file: shiftseg segment IMAGE --from memory.ome.zarr" in err
    assert not (tmp_path / "b.ome.zarr").exists()


def test_the_command_prints_the_job_that_runs(shiftseg):
    code, out, _ = shiftseg(
        "segment", "image.zarr", "--model", "m.safetensors", "--device", "cpu", "--out", "a.ome.zarr", "--quiet"
    )
    job = Job.from_dict(open_result("a.ome.zarr").record["job"])
    assert code == 0
    for name, text in job.lines():
        assert text in out, name


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_is_that_of_the_whole_run(tmp_path):
    """A run that would take more in memory goes block by block, and where it cannot, it says what it would take."""
    image, model = Image.from_array(np.broadcast_to(np.float32(1), (9000, 9000)), "yx"), grey_model()
    whole = decide(image, model, replace(ON_CPU, memory=16 << 30))
    assert not whole.large and whole.memory <= 16 << 30 and whole.needs["result"] == 9000**2 * 16
    blocks = decide(image, model, replace(ON_CPU, memory=1 << 30), tmp_path / "r.zarr")
    assert blocks.large and blocks.memory <= 1 << 30 and "were allowed" in blocks.reason
    with pytest.raises(SettingsError, match=r"in memory the run takes [\d.]+ GB, 1.07 GB were allowed\) and has no place"):
        decide(image, model, replace(ON_CPU, memory=1 << 30))
    assert not decide(image, model, replace(ON_CPU, memory=1 << 30, out_of_core=False)).large
    small = decide(bars((300, 200)), model, replace(ON_CPU, memory=40 << 20))
    assert not small.large, "less than Python itself takes bounds a pass"


@pytest.mark.parametrize(
    "wish", [{"out_of_core": False}, {}, {"method": "stream", "out_of_core": False}, {"deterministic": True}]
)
@pytest.mark.parametrize("shape", [(30_000, 30_000), (3000, 400_000)])
def test_too_little_memory_for_a_huge_image_is_refused_at_once_with_what_it_takes(shape, wish):
    image, model = Image.from_array(np.broadcast_to(np.uint8(1), shape), "yx"), grey_model()
    begun = time.process_time()
    with pytest.raises(
        SettingsError, match=r"a pass of the network writes .* the image takes [\d,]+ of these; allow"
    ) as caught:
        decide(image, model, replace(ON_CPU, memory=1000, **wish), refuse=False)
    assert time.process_time() - begun < 10
    number, unit = str(caught.value).removesuffix(".").split()[-2:]
    enough = int(float(number) * {"bytes": 1, "kB": 1e3, "MB": 1e6}[unit])
    few = decision.plan_image(model.lattice, shape, replace(ON_CPU, memory=enough, **wish))
    assert 10_000 < len(few) <= decision.MOST_TILES
    assert len(decision.plan_image(model.lattice, shape, replace(ON_CPU, memory=1000, write=2))) > decision.MOST_TILES, "a wish"


def test_a_run_that_goes_on_says_the_blocks_and_the_memory_that_it_has(tmp_path, monkeypatch):
    """Less memory than it began with changes no block, and is not claimed to do."""
    out, image, model = tmp_path / "r.zarr", Image.from_array(bars((2200, 600)), "yx"), grey_model()
    large = replace(ON_CPU, out_of_core=True)
    small = decide(image, model, replace(large, memory=540_000_000), out)
    first = decide(image, model, replace(large, memory=4 << 30), out)
    assert small.layout.grid.edge != first.layout.grid.edge and small.memory < first.memory
    running = run_steps(first)
    next(event for event in running if len(WorkFolder(out).names("faces")) == 1)
    running.close()
    for memory in (540_000_000, 450_000_000, 1 << 30):
        again = decide(image, model, replace(large, memory=memory), out)
        assert again.layout.grid == first.layout.grid and again.memory == first.memory
    with pytest.raises(ResultError, match="had another size of blocks; finish it as it began"):
        drain(run_steps(small))
    result = drain(run_steps(again))
    assert sum(result.record["memory"].values()) == first.memory
    np.testing.assert_array_equal(result.labels[:], segment(image, model, ON_CPU).labels)


def test_a_broken_rule_comes_back_for_who_shows_it():
    model = grey_model(window=(2, 2))
    with pytest.raises(ComplianceError):
        decide(bars((40, 30)), model, ON_CPU)
    job = decide(bars((40, 30)), model, ON_CPU, refuse=False)
    assert [v.rule for v in job.broken] == ["training-window"] * 2 and job.status == "tile-exact"
    assert job.plan == plan_tiles(model.spec, (40, 30), memory=decision.pass_bytes(ON_CPU, job.device))


# -- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [True, False])
def test_the_number_format_is_decided_like_the_rest(monkeypatch, units):
    """bfloat16 where there are matrix units for it, in blocks that the network fixes; float32 elsewhere, as ever."""
    said = (units, f"there are {'' if units else 'no '}matrix units for it")
    monkeypatch.setattr("napari_shiftseg.network.device.matrix_units", lambda device: said)
    model, image = grey_model(), bars((420, 200))
    job = decide(image, model, ON_CPU)
    assert (job.dtype, job.fixed) == (("bfloat16", True) if units else ("float32", False)) and "matrix units" in job.why
    assert f"{job.dtype} ({job.why})" in job.describe()
    assert decide(image, model, replace(ON_CPU, dtype="float32")).dtype == "float32"
    assert decide(image, model, replace(ON_CPU, dtype="bfloat16", method="stream")).method == "stream"
    float32 = segment(image, model, replace(ON_CPU, dtype="float32"))
    auto = segment(image, model, ON_CPU)
    assert auto.record["job"]["dtype"] == job.dtype
    if not units:
        np.testing.assert_array_equal(auto.embedding, float32.embedding)
        assert auto.plan == float32.plan
        return
    for write in (16, 64, 100, 400):
        other = segment(image, model, replace(ON_CPU, write=write))
        np.testing.assert_array_equal(other.embedding, auto.embedding)
        np.testing.assert_array_equal(other.labels, auto.labels)


def test_a_short_format_gives_equal_bits_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512})
    image, model = bars((600, 530)), grey_model()
    wish = replace(ON_CPU, dtype="bfloat16")
    whole = segment(image, model, wish)
    large = replace(wish, out_of_core=True, memory=1 << 30, keep_embedding=True)
    blocks = segment(image, model, large, tmp_path / "r.zarr")
    assert blocks.record["blocks"]["tasks"] > 1
    np.testing.assert_array_equal(blocks.labels[:], whole.labels)
    np.testing.assert_array_equal(blocks.stored.embedding[:], whole.embedding)


def test_more_memory_never_means_smaller_passes_from_where_python_ends():
    passes = [decision.pass_bytes(SegmentSettings(memory=mega << 20)) for mega in (421, 450, 600, 840, 841, 900, 2000, 64000)]
    assert passes == sorted(passes) and passes[0] == 16 << 20


def test_not_a_number_as_no_data_says_what_holds_anyway():
    job = decide(bars((40, 30)), grey_model(), replace(ON_CPU, no_data=float("nan")))
    assert job.settings.no_data is None and Job.from_json(job.to_json()) == job
