"""Out of core: the labels of the run in memory, in bounded memory, each chunk once, and after any interruption."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import zarr
from grey import UNCHANGED, bars
from grey import grey_model as made
from scipy import ndimage

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, open_result, read_image, save_model, segment
from napari_shiftseg.errors import ResultError, SettingsError
from napari_shiftseg.events import BlockDone, Estimate, Event, Stage, TileDone
from napari_shiftseg.instances import object_table
from napari_shiftseg.io import ChunkReader, Image, ResultWriter, WorkFolder, work_path
from napari_shiftseg.network import Model, predict
from napari_shiftseg.segmentation import Pace, decide, duration, kept_of, segment_steps

SMALL = 1 << 30
LARGE = SegmentSettings(device="cpu", out_of_core=True, memory=SMALL, deterministic=True)
MEMORY = SegmentSettings(device="cpu", out_of_core=False, deterministic=True)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """The smallest blocks that there are, so that small images have several: 512 px, or 64 x 128 x 128."""
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})


def grey_model(ndim=2, **values):
    return made(ndim, deep=0.5, normalisation=UNCHANGED, **values)


CASES = {
    "plane": ((1100, 700), "yx", 2, {}),
    "coordinates": ((530, 90), "yx", 2, {"coordinates": True}),
    "no foreground": ((600, 530), "yx", 2, {"foreground": False}),
    "series of channels": ((2, 2, 530, 40), "tcyx", 2, {"in_channels": 2}),
    "planes of a stack": ((2, 530, 60), "zyx", 2, {}),
    "volume": ((20, 140, 150), "zyx", 3, {}),
    "thin volume": ((9, 140, 520), "zyx", 3, {"pool": ((1, 2, 2),)}),
}


@pytest.mark.parametrize(("shape", "axes", "ndim", "values"), CASES.values(), ids=CASES)
def test_labels_are_those_of_the_run_in_memory(tmp_path, shape, axes, ndim, values):
    model = grey_model(ndim, **values)
    image = Image.from_array(bars(shape), axes, scale=[0.5] * len(axes), units=["micrometer"] * len(axes))
    wish = {"keep_embedding": True}
    whole = segment(image, model, replace(MEMORY, **wish))
    result = segment(image, model, replace(LARGE, **wish), tmp_path / "r.ome.zarr")
    assert result.record["blocks"]["tasks"] > 1
    np.testing.assert_array_equal(result.labels[:], whole.labels)
    assert result.record["instances"] == whole.record["instances"] and whole.labels.max() >= 4
    stored = open_result(tmp_path / "r.ome.zarr")
    at = 1 if axes.startswith("t") else 0
    np.testing.assert_array_equal(np.moveaxis(stored.embedding[:], at, 0), whole.embedding)
    if whole.foreground is not None:
        np.testing.assert_array_equal(stored.foreground[:], whole.foreground)
    assert (stored.axes, stored.scale, stored.units) == (whole.axes, whole.scale, whole.units)
    for number, level in enumerate(stored.levels("labels")):
        np.testing.assert_array_equal(level[:], whole.labels[..., :: 2**number, :: 2**number])
    assert os.listdir(tmp_path) == ["r.ome.zarr"]


def spotted(shape):
    """Bars, and disks of noise whose grey values are near to no mode, at corners of blocks and elsewhere."""
    rng = np.random.default_rng(0)
    image, grid = bars(shape), np.indices(shape)
    for place, radius in (((512, 512), 60), ((500, 200), 20), ((200, 512), 30), ((900, 100), 9)):
        inside = np.hypot(*(axis - at for axis, at in zip(grid, place, strict=True))) < radius
        image[inside] = rng.uniform(0.4, 1.0, int(inside.sum()))
    return image


@pytest.mark.parametrize("values", [{"min_density": 200.0, "radius": 1.0}, {"min_density": 1e9}], ids=["some modes", "none"])
def test_what_no_instance_reaches_gets_the_labels_of_the_run_in_memory(tmp_path, values):
    """Also where the run was killed in each of its passes, and by blocks of another edge it is the same image."""
    model = grey_model()
    clustering = replace(model.record.clustering, bandwidth=0.05, min_size=30, **values)
    model = replace(model, record=replace(model.record, clustering=clustering))
    image = spotted((1000, 700))
    whole = segment(image, model, replace(MEMORY, keep_embedding=True))
    shown = ndimage.label(whole.foreground >= clustering.threshold, np.ones((3, 3)))[0]
    large = np.bincount(shown.ravel()) >= 30
    large[0] = False
    np.testing.assert_array_equal(whole.labels > 0, large[shown])
    counted = []
    for stop in (1, 3, 6, 100):  # of four blocks in each of three passes
        steps = segment_steps(image, model, LARGE, tmp_path / "r.zarr")
        counted.append([])
        for event in steps:
            counted[-1].append(event)
            if sum(type(each) in (BlockDone, Event) for each in counted[-1]) == stop:
                break
        steps.close()
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").labels[:], whole.labels)
    texts = [event.text for events in counted for event in events if isinstance(event, Stage)]
    assert "undecided pixels" in texts


def test_a_run_that_began_by_other_rules_for_labels_does_not_go_on(tmp_path, monkeypatch):
    steps = segment_steps(bars((600, 530)), grey_model(), LARGE, tmp_path / "r.zarr")
    next(event for event in steps if isinstance(event, BlockDone))
    steps.close()
    monkeypatch.setattr("napari_shiftseg.segmentation.large.LABELS", 1)
    with pytest.raises(ResultError, match="had another rule of labels"):
        segment(bars((600, 530)), grey_model(), LARGE, tmp_path / "r.zarr")


def test_labels_hardly_depend_on_blocks_and_tiles(tmp_path):
    """> up to one pixel in 10^6 by float rounding"""
    model, image = grey_model(), bars((1100, 700))
    whole = segment(image, model, replace(MEMORY, deterministic=False)).labels
    for number, write in enumerate((None, 96, 200)):
        wish = replace(LARGE, deterministic=False, write=write)
        result = segment(image, model, wish, tmp_path / f"{number}.zarr")
        assert (result.labels[:] != whole).mean() <= 1e-6
        assert result.stored.embedding is None


def test_tiles_off_the_lattice_show_as_in_memory(tmp_path):
    model, image = grey_model(), bars((600, 530))
    wish = {"deterministic": False, "write": 95, "allow_noncompliant": True}
    whole = segment(image, model, replace(MEMORY, **wish))
    result = segment(image, model, replace(LARGE, **wish), tmp_path / "r.zarr")
    np.testing.assert_array_equal(result.labels[:], whole.labels)
    assert result.record["status"] == "non-compliant"
    assert result.plan.seams() == whole.plan.seams()


def test_the_plan_of_the_record_is_that_of_the_tiles(tmp_path):
    model = grey_model()
    events = []
    image = bars((1100, 700))
    result = segment(image, model, replace(LARGE, deterministic=False), tmp_path / "r.zarr", on_event=events.append)
    assert result.plan.result_shape == (1100, 700)
    covered = np.zeros((1100, 700), int)
    for tile in result.plan:
        covered[tile.write] += 1
    assert (covered == 1).all()
    assert {512, 1024} <= set(result.plan.seams()[0]) and 512 in result.plan.seams()[1]
    in_memory = decide(image, model, MEMORY).plan
    np.testing.assert_allclose(predict(model, image, result.plan, device="cpu"), predict(model, image, in_memory), atol=1e-5)
    blocks = [event for event in events if isinstance(event, BlockDone)]
    assert [(b.done, b.total, b.final) for b in blocks] == [(n, 6, final) for final in (False, True) for n in range(1, 7)]
    assert any(isinstance(event, TileDone) for event in events)
    assert "3 x 2 blocks of 512 x 512 px" in next(event.text for event in events if isinstance(event, Stage))


def test_the_table_of_instances_is_in_the_store(tmp_path):
    model, image = grey_model(), bars((600, 530))
    result = segment(image, model, LARGE, tmp_path / "r.zarr")
    table = result.stored.objects()
    expected = object_table(result.labels[:], result.plan.seams())
    assert list(table) == list(expected)
    for name, column in expected.items():
        np.testing.assert_allclose(table[name], column)
    series = Image.from_array(bars((2, 530, 40)), "tyx")
    table = segment(series, model, LARGE, tmp_path / "t.zarr").stored.objects()
    assert set(table["t"]) == {0, 1} and (np.diff(table["t"]) >= 0).all()


@pytest.mark.parametrize(
    ("shape", "values"), [((1100, 700), {}), ((70, 140, 150), {}), ((9, 140, 520), {"pool": ((1, 2, 2),)})]
)
def test_a_stream_in_each_block_gives_the_labels_of_tiles_and_has_seams_between_columns_alone(tmp_path, shape, values):
    model, image = grey_model(len(shape), **values), bars(shape)
    wish = replace(LARGE, deterministic=False)
    whole = segment(image, model, replace(MEMORY, deterministic=False, method="tiles"))
    result = segment(image, model, replace(wish, method="stream"), tmp_path / "s.zarr")
    assert (result.labels[:] != whole.labels).mean() <= 1e-6
    layout = decide(image, model, replace(wish, method="stream"), tmp_path / "again.zarr").layout
    assert result.record["method"]["name"] == "stream"
    borders = [[*range(edge, size, edge)] for edge, size in zip(layout.grid.edge, shape, strict=True)]
    seams = result.record["plan"]["seams"]
    assert seams[0] == borders[0], "rows within a block have no seams"
    assert all(set(border) <= set(found) for border, found in zip(borders, seams, strict=True))
    assert segment(image, model, replace(wish, write=64), tmp_path / "t.zarr").record["method"] == {"name": "tiles"}


def test_blocks_are_streamed_by_themselves_where_that_saves_much():
    free = replace(LARGE, deterministic=False, memory=4 << 30)
    image = Image.from_array(np.broadcast_to(np.float32(1), (300, 300, 300)), "zyx")

    def layout(levels, **wish):
        spec = UNetSpec(ndim=3, levels=levels, features=4)
        model = Model(spec=spec, module=UNet(spec), record=None, name="m", hash="")
        return decide(image, model, replace(free, **wish), "never.zarr").layout

    deep, shallow = layout(3), layout(1)
    assert deep.stream is not None and shallow.stream is None
    part = deep.part(deep.grid[0])
    assert deep.run(deep.grid[0]).flops < 0.8 * part.flops
    for wish in ({"method": "tiles"}, {"write": 64}, {"deterministic": True}):
        assert layout(3, **wish).stream is None
    assert layout(1, method="stream").stream is not None


# -- each chunk once --------------------------------------------------------------------------------------------------


class Counted:
    """A chunked array that counts how often each chunk is decoded."""

    def __init__(self, data, chunks):
        self.data, self.chunks = data, chunks
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.reads = Counter()

    def __getitem__(self, key):
        self.reads[tuple(part.start for part in key)] += 1
        return self.data[key]


@pytest.mark.parametrize("chunks", [(100, 90), (512, 512), (64, 700)])
def test_each_input_chunk_is_decoded_once_and_each_output_file_written_once(tmp_path, monkeypatch, chunks):
    data = bars((1100, 700))
    source = Counted(data, chunks)
    written = Counter()
    put = zarr.storage.LocalStore.set

    async def counted(self, key, value):
        written[f"{self.root}/{key}"] += 1
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", counted)
    # before a run begins, ten patches are read for the digest that tells whether to go on, and three tiles for its time
    monkeypatch.setattr("napari_shiftseg.segmentation.large.pixel_digest", lambda frames: "same")
    pace = Pace(network=0.0, clustering=0.0, writing=0.0, overlap=False, threads=1)
    monkeypatch.setattr("napari_shiftseg.segmentation.large.take_pace", lambda *args: pace)
    segment(Image.from_array(source, "yx"), grey_model(), replace(LARGE, deterministic=False), tmp_path / "r.zarr")
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == -(-1100 // chunks[0]) * -(-700 // chunks[1])
    files = {name: count for name, count in written.items() if "/c/" in name}
    assert len(files) >= 12 and set(files.values()) == {1}


def test_a_reader_without_a_plan_keeps_what_was_used_last():
    data = np.arange(600).reshape(20, 30)
    source = Counted(data, (5, 10))
    reader = ChunkReader(source, 2 * 50 * 8)
    np.testing.assert_array_equal(reader[3:17:4, 5], data[3:17:4, 5])
    assert reader.decoded == 4
    reader[10:20, 0:5]  # the last two chunks of the column are there
    assert reader.decoded == 4
    reader[0:5, 0:5]
    assert reader.decoded == 5
    np.testing.assert_array_equal(reader[0:20, 0:30], data)


def test_empty_regions_cost_one_pass(tmp_path, monkeypatch):
    module = sys.modules["napari_shiftseg.network.windows"]
    image = np.zeros((1600, 1600), np.float32)
    image[:300, :300] = bars((300, 300))
    passes = []
    one_pass = module._one_pass
    monkeypatch.setattr(module, "_one_pass", lambda *args: passes.extend(args[1]) or one_pass(*args))
    wish = replace(LARGE, deterministic=False, write=128)
    empty = segment(image, grey_model(), wish, tmp_path / "r.zarr")
    assert len(passes) < 40  # of some 250 tiles
    np.testing.assert_array_equal(empty.labels[:], segment(image, grey_model(), replace(MEMORY, write=128)).labels)


def test_time_memory_and_disk_are_said_before_the_start(tmp_path):
    model, image = grey_model(), bars((1100, 700))
    events = []
    segment(image, model, LARGE, tmp_path / "r.zarr", on_event=events.append)
    (said,) = [event for event in events if isinstance(event, Estimate)]
    assert not any(isinstance(event, TileDone) for event in events[: events.index(said)])
    job = decide(image, model, LARGE, tmp_path / "again.zarr")
    assert said.seconds > 0 and (said.memory, said.disk) == (job.memory, job.disk)
    assert open_result(tmp_path / "r.zarr").record["job"]["seconds"] == said.seconds
    assert duration(said.seconds) in said.text


def test_the_expected_time_grows_with_the_image_and_follows_the_slower_half():
    model = grey_model()
    small, large = (decide(bars(shape), model, LARGE, "never.zarr") for shape in ((1024, 512), (4096, 512)))
    pace = Pace(network=1e-6, clustering=4e-6, writing=0.0, overlap=True, threads=2)
    assert pace.seconds(large) == pytest.approx(2e-6 * large.layout.redundancy * 4096 * 512)
    assert 3.9 < pace.seconds(large) / pace.seconds(small) < 4.5  # inner blocks see more margin
    assert pace.seconds(large, large.layout.tasks // 2) == pytest.approx(pace.seconds(large) / 2)
    faster = replace(pace, clustering=1e-6)
    assert faster.seconds(large) == pytest.approx(1e-6 * large.layout.redundancy * 4096 * 512)
    assert replace(faster, overlap=False).seconds(large) > faster.seconds(large)


def test_a_reader_that_knows_the_plan_keeps_what_is_needed_and_nothing_else():
    data = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    source = Counted(data, (20, 30))
    reader = ChunkReader(source, 1 << 20)
    keys = [(slice(0, 12), slice(0, 30)), (slice(10, 25), slice(0, 30)), (slice(22, 40), slice(3, 9))]
    reader.expect(keys)
    kept = []
    for key in keys:
        np.testing.assert_array_equal(reader[key], data[key])
        kept.append(reader._bytes)
    assert kept == [10 * 30 * 2, 18 * 6 * 2, 0] and set(source.reads.values()) == {1}


# -- going on after an interruption -----------------------------------------------------------------------------------


STOPS = {
    "at the beginning": lambda event: isinstance(event, Stage),
    "within a block": lambda event: isinstance(event, TileDone) and event.done == 5,
    "after two blocks": lambda event: isinstance(event, BlockDone) and not event.final and event.done == 2,
    "before joining": lambda event: isinstance(event, Stage) and event.text == "joining blocks",
    "while writing": lambda event: isinstance(event, BlockDone) and event.final and event.done == 2,
    "before the end": lambda event: isinstance(event, Stage) and event.text == "table and pyramid",
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_run_that_was_left_goes_on_and_ends_with_the_same_files(tmp_path, stop):
    model, image = grey_model(), bars((1100, 700))
    segment(image, model, LARGE, tmp_path / "whole.zarr")
    steps = segment_steps(image, model, LARGE, tmp_path / "r.zarr")
    finished = set()
    for event in steps:
        if isinstance(event, BlockDone):
            finished.add((str(event.window), event.final))
        if stop(event):
            break
    steps.close()
    # of a run that had finished no block nothing is left
    assert not (tmp_path / "r.zarr").exists() and work_path(tmp_path / "r.zarr").exists() == bool(finished)
    again = []
    segment(image, model, LARGE, tmp_path / "r.zarr", on_event=again.append)
    assert not finished & {(str(event.window), event.final) for event in again if isinstance(event, BlockDone)}
    same_files(tmp_path / "whole.zarr", tmp_path / "r.zarr")
    assert sorted(os.listdir(tmp_path)) == ["r.zarr", "whole.zarr"]


KEPT = {
    "at the beginning": "",
    "within a block": "",
    "after two blocks": "2 of 6 blocks are kept",
    "before joining": "the network's work on all 6 blocks is kept, and the labels of 0",
    "while writing": "the network's work on all 6 blocks is kept, and the labels of 2",
    "before the end": "the network's work on all 6 blocks is kept, and the labels of 6",
}


@pytest.mark.parametrize("name", STOPS)
def test_what_is_kept_is_said_and_what_is_not_does_not_bind(tmp_path, monkeypatch, name):
    monkeypatch.setattr("napari_shiftseg.segmentation.engine.WRITERS", 1)  # else one more may be written than was said
    model, image = grey_model(), bars((1100, 700))
    assert kept_of(tmp_path / "r.zarr") == ""
    with closing(segment_steps(image, model, LARGE, tmp_path / "r.zarr")) as steps:
        next(event for event in steps if STOPS[name](event))
    assert kept_of(tmp_path / "r.zarr") == KEPT[name]
    other = replace(LARGE, threshold=0.9)
    if KEPT[name]:
        with pytest.raises(ResultError, match="had another clustering"):
            segment(image, model, other, tmp_path / "r.zarr")
    else:
        found = segment(image, model, other, tmp_path / "r.zarr")
        np.testing.assert_array_equal(found.labels[:], segment(image, model, replace(other, out_of_core=False)).labels)


@pytest.mark.parametrize(("stop", "kept"), [("within a block", ""), ("before joining", "the network's work is kept")])
def test_what_is_kept_of_one_block(tmp_path, stop, kept):
    with closing(segment_steps(bars((90, 70)), grey_model(), LARGE, tmp_path / "r.zarr")) as steps:
        next(event for event in steps if STOPS[stop](event) or (isinstance(event, TileDone) and stop == "within a block"))
    assert kept_of(tmp_path / "r.zarr") == kept


def same_files(one, other):
    names = sorted(str(p.relative_to(one)) for p in one.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(other)) for p in other.rglob("*") if p.is_file())
    for name in names:
        if name != "zarr.json":  # it holds the time
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


SCRIPT = """
import sys
from napari_shiftseg import SegmentSettings, segment
import torch; torch.set_num_threads(1)
from napari_shiftseg.segmentation import layout
layout.LARGEST = {2: 512}
settings = SegmentSettings(device="cpu", out_of_core=True, memory=int(sys.argv[4]), deterministic=True)
print("ready", flush=True)
segment(sys.argv[1], sys.argv[2], settings, sys.argv[3])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_was_killed_at_any_moment_goes_on(tmp_path):
    zarr.save_array(str(tmp_path / "image.zarr"), bars((1500, 1100)))
    save_model(tmp_path / "m.safetensors", grey_model())
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "image.zarr"), str(tmp_path / "m.safetensors")]
    expected = segment(tmp_path / "image.zarr", tmp_path / "m.safetensors", LARGE, tmp_path / "whole.zarr")
    rng = np.random.default_rng(0)
    out, killed = tmp_path / "r.zarr", 0
    for _ in range(6):
        run = subprocess.Popen([*command, str(out), str(SMALL)], stdout=subprocess.PIPE, text=True)
        with run:
            run.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.5))
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
            code = run.wait()
        killed += code == -signal.SIGKILL
        if code == 0:
            break
    result = segment(tmp_path / "image.zarr", tmp_path / "m.safetensors", LARGE, out) if not out.exists() else open_result(out)
    assert killed
    np.testing.assert_array_equal(result.labels[:], expected.labels[:])
    same_files(tmp_path / "whole.zarr", out)


def test_half_written_files_are_never_taken_for_finished_ones(tmp_path):
    model, image = grey_model(), bars((1100, 700))
    expected = segment(image, model, LARGE, tmp_path / "whole.zarr").labels[:]
    steps = segment_steps(image, model, LARGE, tmp_path / "r.zarr")
    for event in steps:
        if isinstance(event, BlockDone) and event.final and event.done == 2:
            break
    steps.close()
    folder = work_path(tmp_path / "r.zarr")
    # as if the process had died between the labels of a block and its table; two blocks are written side by side
    newest = max((folder / "tables").iterdir(), key=lambda p: p.stat().st_mtime)
    row, column = divmod(int(newest.stem.split("-")[1]), 2)
    last = folder / f"store/labels/instances/0/c/{row}/{column}"
    last.write_bytes(last.read_bytes()[:100])
    newest.unlink()
    (folder / "faces" / ".0-9.npz.ab.partial").write_bytes(b"PK")
    np.testing.assert_array_equal(segment(image, model, LARGE, tmp_path / "r.zarr").labels[:], expected)


def test_an_unfinished_run_of_something_else_is_refused_and_kept(tmp_path, monkeypatch):
    model, image = grey_model(), bars((600, 530))
    steps = segment_steps(image, model, LARGE, tmp_path / "r.zarr")
    for event in steps:
        if isinstance(event, BlockDone):
            break
    steps.close()
    other = grey_model()
    other.module.head.bias[0] = 1.0
    with pytest.raises(ResultError, match="had another model; finish it as it began, or remove"):
        segment(image, other, LARGE, tmp_path / "r.zarr")
    with pytest.raises(ResultError, match="had another clustering"):
        segment(image, model, replace(LARGE, bandwidth=0.5), tmp_path / "r.zarr")
    with pytest.raises(ResultError, match="had another image"):
        segment(image + 1, model, LARGE, tmp_path / "r.zarr")
    # more memory is no other run: the blocks stay as they are, and it goes on out of core without being asked
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 4096})
    result = segment(image, model, replace(LARGE, memory=3 << 30, out_of_core=None), tmp_path / "r.zarr")
    assert result.record["blocks"]["edge"] == [512, 512]
    assert result.plan.to_dict()["seams"] == result.record["plan"]["seams"]


def test_two_runs_do_not_write_one_store(tmp_path):
    with WorkFolder(tmp_path / "r.zarr"), pytest.raises(ResultError, match="another run is writing"):
        segment(bars((600, 530)), grey_model(), LARGE, tmp_path / "r.zarr")


def test_a_killed_move_is_finished_by_the_next_call(tmp_path, monkeypatch):
    """Killed between the move of the store and the removal of the folder: there is nothing left to compute."""
    model, image = grey_model(), bars((600, 530))
    with monkeypatch.context() as killed:
        killed.setattr(WorkFolder, "remove", lambda self: None)
        expected = segment(image, model, LARGE, tmp_path / "r.zarr").labels[:]
    assert work_path(tmp_path / "r.zarr").exists()
    events = []
    result = segment(image, model, LARGE, tmp_path / "r.zarr", on_event=events.append)
    np.testing.assert_array_equal(result.labels[:], expected)
    assert not any(isinstance(event, TileDone) for event in events)
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_a_run_that_was_killed_before_it_replaced_an_older_result_does_not_take_that_for_its_own(tmp_path, monkeypatch):
    model, old, new = grey_model(), bars((600, 530), seed=1), bars((600, 530))
    segment(old, model, LARGE, tmp_path / "r.zarr")

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as late, pytest.raises(KeyboardInterrupt):
        late.setattr(ResultWriter, "_move", killed)
        for _ in segment_steps(new, model, LARGE, tmp_path / "r.zarr", overwrite=True):
            pass
    for _ in segment_steps(new, model, LARGE, tmp_path / "r.zarr", overwrite=True):
        pass
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").labels[:], segment(new, model, MEMORY).labels)
    assert os.listdir(tmp_path) == ["r.zarr"]


# -- decisions and refusals -------------------------------------------------------------------------------------------


def test_a_result_that_does_not_fit_goes_to_disk_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.decision.free_memory", lambda: 10 << 20)
    image, model = bars((600, 530)), grey_model()
    with pytest.raises(SettingsError, match=r"is needed \(the result takes .* free\) and has no place to write; name a store"):
        segment(image, model, SegmentSettings(device="cpu"))
    assert segment(image, model, SegmentSettings(device="cpu"), tmp_path / "r.zarr").stored is not None
    assert segment(image, model, SegmentSettings(device="cpu", out_of_core=False)).stored is None


def test_too_little_memory_and_too_small_a_disk_are_refused_before_the_start(tmp_path, monkeypatch):
    image, model = bars((600, 530)), grey_model()
    with pytest.raises(SettingsError, match="524 MB of memory were allowed and the smallest blocks take"):
        segment(image, model, replace(LARGE, memory=500 << 20), tmp_path / "r.zarr")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ResultError, match=r"may write up to 0\.000318 GB and .* has 1e-06 GB free; make room"):
        segment(image, model, LARGE, tmp_path / "r.zarr")


def test_the_memory_of_a_layout_bounds_it(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 4096, 3: 512})
    source = Counted(np.broadcast_to(np.float32(0), (40_000, 50_000)), (1024, 1024))
    image = Image.from_array(source, "yx")
    for memory in (1000 << 20, 1 << 30, 2 << 30, 8 << 30):
        layout = decide(image, grey_model(), replace(LARGE, memory=memory), "never.zarr").layout
        assert sum(layout.memory.values()) <= memory
        assert all(edge % 512 == 0 for edge in layout.grid.edge)
    assert layout.grid.edge == (4096, 4096)  # whole chunks of 1024


@pytest.mark.parametrize("name", ["phase_mosaic_v05.ome.zarr", "wsi_trit_v04.ome.zarr", "brain_planes_zyx.tif"])
def test_real_images_go_from_disk_to_disk(shared_data, tmp_path, name):
    """Corners of real stores with their chunks, types and scales; whole ones take minutes."""
    image = read_image(shared_data / "large" / name)
    part = tuple(slice(0, 700) if axis in "yx" else slice(0, 2) for axis in image.axes)
    image = replace(image, data=image.data[part])
    model = grey_model(in_channels=1)
    result = segment(image, model, replace(LARGE, threshold=0.9), tmp_path / "r.ome.zarr")
    np.testing.assert_array_equal(result.labels[:], segment(image, model, replace(MEMORY, threshold=0.9)).labels)
    assert dict(zip(result.axes, result.scale, strict=True)).items() <= dict(zip(image.axes, image.scale, strict=True)).items()


def test_the_command_goes_out_of_core(tmp_path, capsys):
    import csv
    import json

    from napari_shiftseg.cli import main

    zarr.save_array(str(tmp_path / "image.zarr"), bars((600, 530)))
    save_model(tmp_path / "m.safetensors", grey_model())
    command = ["segment", str(tmp_path / "image.zarr"), "--model", str(tmp_path / "m.safetensors"), "--device", "cpu", "--json"]
    out, table = tmp_path / "r.ome.zarr", tmp_path / "t.csv"
    wish = ["--out", str(out), "--table", str(table), "--out-of-core", "--memory", "1GB"]
    assert main([*command, *wish]) == 0
    told = json.loads(capsys.readouterr().out)
    count = told["instances"][0]
    assert told["blocks"]["tasks"] == 4 and open_result(out).labels[:].max() == count
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == count and {"index", "area", "centroid_y", "on_seam"} <= set(rows[0])
    assert main([*command, *wish]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, *wish, "--overwrite"]) == 0
    assert main([*command, "--out-of-core", "--table", str(table), "--overwrite"]) == 2
    assert "name a store with --out" in capsys.readouterr().err
    assert main([*command, *wish, "--overwrite", "--labels-tiff", "l.tif"]) == 2
    assert "leave --labels-tiff and --picture out" in capsys.readouterr().err
