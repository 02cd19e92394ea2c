"""What a network says goes by name to the end: in memory, out of core, with workers, and opened again."""

import json
import shutil
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from grey import bars
from named import BANDWIDTH, FLOW, OUTPUTS, SEED, named_model

from napari_shiftseg import (
    Output,
    SegmentSettings,
    decide,
    label_instances,
    load_model,
    open_result,
    plan_tiles,
    save_model,
    segment,
)
from napari_shiftseg.errors import ResultError, ShiftsegError
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import named_outputs
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import Image, from_plain, save_result, to_plain
from napari_shiftseg.network import Model, ModelRecord, predict_steps
from napari_shiftseg.segmentation import look, view_steps

MEMORY = SegmentSettings(device="cpu", out_of_core=False, deterministic=True)
LARGE = replace(MEMORY, out_of_core=True, memory=1 << 30, keep_embedding=True)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})


def in_file(values, labels_axes):
    """An array of a result in memory as a store has it: time first."""
    return np.moveaxis(values, 0, 1) if labels_axes.startswith("t") and values.ndim > len(labels_axes) else values


def check_store(path, whole):
    """All that a run in memory says lies in a store, under its name and with its meaning."""
    stored = open_result(path)
    assert list(stored.outputs) == list(whole.outputs) == [output.name for output in OUTPUTS]
    for name, values in whole.outputs.items():
        np.testing.assert_array_equal(stored.outputs[name][...], in_file(values, whole.axes))
        levels = stored.levels(name)
        np.testing.assert_array_equal(levels[-1][...], levels[0][..., :: 2 ** (len(levels) - 1), :: 2 ** (len(levels) - 1)])
    told = {name: (output.count, output.activation, output.meaning) for name, output in stored.described.items()}
    assert told == {output.name: (output.count, output.activation, output.meaning) for output in OUTPUTS}
    np.testing.assert_array_equal(stored.labels[...], whole.labels)
    return stored


CASES = {
    "plane": ((700, 90), "yx", 2, {}),
    "series": ((2, 40, 600), "tyx", 2, {}),
    "planes": ((3, 530, 40), "zyx", 2, {}),
    "series of volumes": ((2, 9, 140, 30), "tzyx", 3, {}),
    "series of one frame": ((1, 2, 530, 40), "tcyx", 2, {"in_channels": 2}),
}


@pytest.mark.parametrize(("shape", "axes", "ndim", "values"), CASES.values(), ids=CASES)
def test_all_outputs_come_to_the_end_in_memory_and_out_of_core(tmp_path, shape, axes, ndim, values):
    model, image = named_model(ndim, **values), Image.from_array(bars(shape), axes)
    whole = segment(image, model, MEMORY)
    for name, output in model.outputs.items():
        assert whole.outputs[name].shape == output.shape(whole.labels.shape)
        assert whole.outputs[name].dtype == np.float32
    job = look(decide(image, model, MEMORY))
    for number, frame in enumerate(job.opened.frames):  # what the network says of each frame by itself
        how = {"device": "cpu", "deterministic": True, "limits": job.limits(number)}
        made = drain(predict_steps(model, frame.view, job.plan, **how))
        for name, values in made.outputs.items():
            at = (slice(None),) * model.outputs[name].vector + tuple(frame.index.values())
            np.testing.assert_array_equal(whole.outputs[name][at], values)
    check_store(whole.save(tmp_path / "memory.zarr"), whole)
    large = segment(image, model, LARGE, tmp_path / "large.zarr")
    assert large.record["blocks"]["tasks"] > 1 and large.outputs == {}
    stored = check_store(tmp_path / "large.zarr", whole)
    assert list(large.stored.outputs) == list(stored.outputs)


@pytest.mark.parametrize("factor", [None, 0.5])
def test_objects_are_found_by_what_the_network_says_of_them(factor):
    """A wish for a bandwidth is a factor on those; a network without seeds has objects of its own with the same settings."""
    model, image = named_model(), Image.from_array(bars((300, 90)), "yx")
    found = segment(image, model, replace(MEMORY, bandwidth=factor))
    known = found.record["clustering"]
    assert known["seeds"] and known["factor"] == (factor or 1) and found.labels.any()
    said = {"seeds": found.outputs["seed"], "bandwidths": found.outputs["bandwidth"]}
    wish = LabelSettings(**known)
    np.testing.assert_array_equal(label_instances(found.embedding, found.foreground, settings=wish, **said), found.labels)
    plain = segment(image, named_model(outputs=[output for output in OUTPUTS if output is not BANDWIDTH]), MEMORY)
    assert not plain.record["clustering"]["seeds"] and (plain.labels != found.labels).any()


def test_what_is_left_out_is_left_out_with_the_embedding(tmp_path):
    """The foreground stays in memory, as it did."""
    model, image = named_model(), bars((530, 60))
    everything, few = segment(image, model, MEMORY), segment(image, model, replace(MEMORY, keep_embedding=False))
    assert list(few.outputs) == ["foreground"] and few.embedding is None
    np.testing.assert_array_equal(few.foreground, everything.foreground)
    np.testing.assert_array_equal(few.labels, everything.labels)
    assert list(open_result(few.save(tmp_path / "few.zarr")).outputs) == ["foreground"]
    large = segment(image, model, replace(LARGE, keep_embedding=None), tmp_path / "large.zarr").stored
    assert large.outputs == {} and large.embedding is None and large.levels("seed") == ()
    np.testing.assert_array_equal(large.labels[...], everything.labels)


def test_workers_write_all_outputs(tmp_path):
    pytest.importorskip("distributed", reason="workers need dask (the extra `distributed`)")
    model, path = named_model(), tmp_path / "image.npy"
    np.save(path, bars((700, 530)))
    whole = segment(path, model, MEMORY)
    segment(path, model, replace(LARGE, workers=2), tmp_path / "r.zarr")
    check_store(tmp_path / "r.zarr", whole)


def test_a_model_file_brings_its_outputs_to_the_end(tmp_path):
    path = save_model(tmp_path / "named.safetensors", named_model())
    result = segment(bars((60, 70)), path, MEMORY)
    assert result.described == {output.name: output for output in OUTPUTS}
    assert set(result.outputs) == {"embedding", "foreground", "flow", "bandwidth", "seed"}


def test_pixels_without_data_are_background_whatever_else_is_said(tmp_path):
    """Of a model without a foreground, too, and nothing is written that the network does not say."""
    image = bars((530, 60))
    image[100:140, 10:30] = np.nan
    for outputs in (OUTPUTS, tuple(output for output in OUTPUTS if output.name != "foreground")):
        model = named_model(outputs=outputs)
        whole = segment(image, model, MEMORY)
        assert list(whole.outputs) == [output.name for output in outputs]
        assert not whole.labels[100:140, 10:30].any()
        large = segment(image, model, LARGE, tmp_path / f"{len(outputs)}.zarr").stored
        assert list(large.outputs) == list(whole.outputs)
        np.testing.assert_array_equal(large.labels[...], whole.labels)
        if whole.foreground is not None:
            assert not whole.foreground[100:140, 10:30].any() and not large.foreground[100:140, 10:30].any()


def test_a_preview_runs_with_outputs_of_any_kind():
    model, image = named_model(), bars((200, 300))
    job = decide(image, model, MEMORY)
    whole, part = segment(image, model, MEMORY), drain(view_steps(job, {"y": slice(0, 200), "x": slice(0, 300)}))
    np.testing.assert_array_equal(part.labels > 0, whole.labels > 0)


# -- memory and disk are counted by the outputs ------------------------------------------------------------------------


def made(*outputs):
    return named_model(outputs=(Output(name="embedding", channels=slice(0, 2)), *outputs))


@pytest.mark.parametrize("further", [(SEED,), (FLOW, BANDWIDTH), (Output(name="same", channels=slice(0, 2)),)])
def test_estimates_count_the_channels_of_all_outputs(tmp_path, further):
    image, more = bars((600, 530)), sum(output.count for output in further)
    few, many = (decide(image, model, MEMORY) for model in (made(), made(*further)))
    pixels = prod(image.shape)
    assert many.needs["result"] - few.needs["result"] == 4 * more * pixels
    assert many.needs["frame"] - few.needs["frame"] == 4 * more * pixels
    less = replace(MEMORY, keep_embedding=False)
    assert decide(image, made(*further), less).needs["result"] == 4 * pixels
    few, many = (decide(image, model, LARGE, tmp_path / "r.zarr") for model in (made(), made(*further)))
    seen = few.layout.memory["block"], many.layout.memory["block"]
    one = seen[1] - seen[0]
    assert one % (2 * 4 * more) == 0 and one >= 2 * 4 * more * prod(few.layout.grid.edge) * 0.9
    assert many.disk - few.disk == pytest.approx(4 * 1.34 * more * pixels, abs=2)
    left_out = replace(LARGE, keep_embedding=None)
    few, many = (decide(image, model, left_out, tmp_path / "r.zarr") for model in (made(), made(*further)))
    assert few.disk == many.disk, "nothing is written of them"


# -- stores ------------------------------------------------------------------------------------------------------------


def test_a_store_without_a_list_of_outputs_opens_as_before(tmp_path):
    """As older versions wrote it: two arrays, and nothing says what they mean."""
    labels, vectors = np.ones((40, 50), np.uint32), np.ones((2, 40, 50), np.float32)
    path = save_result(tmp_path / "r.zarr", labels=labels, axes="yx", record={}, embedding=vectors, foreground=vectors[0])
    metadata = json.loads((path / "zarr.json").read_text())
    del metadata["attributes"]["napari-shiftseg"]["outputs"]
    metadata.pop("consolidated_metadata", None)
    (path / "zarr.json").write_text(json.dumps(metadata))
    stored = open_result(path)
    assert list(stored.outputs) == ["embedding", "foreground"] and stored.described == {}
    np.testing.assert_array_equal(stored.embedding[...], vectors)
    shutil.rmtree(path / "embedding")
    assert open_result(path).embedding is None


def test_names_that_are_folders_cannot_leave_the_store():
    for name in ("", "..", "a/b", "a\\b", "labels", "image", " seed", "seed ", "a.b", "\n"):
        with pytest.raises(ShiftsegError, match="the name of an output is"):
            Output(name=name, channels=slice(0, 1), meaning="value")
    for name in ("seed", "distance to border", "σ", "b-2_x"):
        assert Output(name=name, channels=slice(0, 1), meaning="value").name == name
    twins = [Output(name=name, channels=slice(0, 1), meaning="value") for name in ("Seed", "seed")]
    with pytest.raises(ShiftsegError, match="a name of its own"):
        named_outputs(twins)


@pytest.mark.parametrize("values", [np.zeros((40, 51)), np.zeros((1, 40, 50)), np.zeros(3)])
def test_an_output_of_another_shape_is_refused_and_nothing_is_left(tmp_path, values):
    with pytest.raises(ResultError, match=r"the seed has shape .* \(40, 50\) fits the labels"):
        save_result(tmp_path / "r.zarr", labels=np.ones((40, 50), int), axes="yx", record={}, outputs=[(SEED, values)])
    assert not list(tmp_path.iterdir())


def test_an_output_that_was_given_twice_is_refused(tmp_path):
    embedding, labels = np.zeros((2, 8, 8)), np.ones((8, 8), int)
    with pytest.raises(ResultError, match="the embedding was given twice"):
        save_result(
            tmp_path / "r.zarr", labels=labels, axes="yx", record={}, embedding=embedding, outputs=[(OUTPUTS[1], embedding)]
        )


def test_a_strangers_outputs_are_kept_too(tmp_path):
    """A function with a lattice, which gives more channels than are named."""
    from napari_shiftseg import Lattice
    from napari_shiftseg.network import ModelRecord

    lattice = Lattice(period=(1, 1), reach=(0, 0))
    outputs = (Output(name="embedding", channels=slice(1, 2)), Output(name="twice", channels=slice(2, 3), meaning="value"))
    model = Model(
        module=lambda x: x * x.new_tensor([0.0, 1.0, 2.0])[:, None, None],
        lattice=lattice,
        outputs=outputs,
        record=ModelRecord(window=(64, 64), inner=(32, 32)),
    )
    image = np.random.default_rng(0).random((40, 50), np.float32)
    result = segment(image, model, replace(MEMORY, bandwidth=0.1, deterministic=False, limits=(0, 1), allow_noncompliant=True))
    np.testing.assert_allclose(result.outputs["twice"], 2 * image, rtol=1e-6)
    stored = open_result(result.save(tmp_path / "r.zarr"))
    np.testing.assert_array_equal(stored.outputs["twice"][...], result.outputs["twice"])
    assert plan_tiles(lattice, image.shape, 16).lattice == lattice


def test_the_factor_on_the_bandwidths_that_a_network_says_is_the_records_until_one_is_wished_for(tmp_path):
    model, image = named_model(), bars((60, 70))
    record = replace(model.record, clustering=replace(model.record.clustering, factor=1.7))
    kept = load_model(save_model(tmp_path / "m.safetensors", replace(model, record=record)))
    assert kept.record.clustering.factor == 1.7 and model.record.clustering.factor == 1.0
    for wish, factor in ((None, 1.7), (0.8, 0.8), (1.0, 1.0)):
        job = decide(image, kept, replace(MEMORY, bandwidth=wish))
        assert job.clustering.factor == factor and job.clustering.bandwidth == record.clustering.bandwidth
    old = to_plain(record)
    del old["clustering"]["factor"]
    assert from_plain(ModelRecord, old).clustering.factor == 1.0
    for factor in (0.0, float("nan"), float("inf")):
        with pytest.raises(ShiftsegError, match="factor"):
            label_instances(np.zeros((6, 8, 8)), factor=factor)
