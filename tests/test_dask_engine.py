"""Workers: the labels of a run in one process, whoever dies meanwhile, and errors that say what to do."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from grey import bars
from grey import grey_model as made
from no_memory import FORMS, in_turn

from napari_shiftseg import SegmentSettings, open_result, segment
from napari_shiftseg.errors import OutOfMemoryError, ResultError, SettingsError
from napari_shiftseg.events import BlockDone, Event, Stage
from napari_shiftseg.io import Image, WorkFolder, read_image, work_path
from napari_shiftseg.segmentation import segment_steps

pytest.importorskip("distributed", reason="workers need dask (the extra `distributed`)")
psutil = pytest.importorskip("psutil")

from napari_shiftseg.segmentation import block_worker, dask_engine, local_workers  # noqa: E402
from napari_shiftseg.segmentation.block_worker import finish_blocks  # noqa: E402
from napari_shiftseg.segmentation.local_workers import LocalWorkers  # noqa: E402

LOCAL = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 512 px, each a task of its own."""
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    monkeypatch.setattr(dask_engine, "LEAST_PIXELS", 1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with LocalWorkers(2, tmp_path_factory.mktemp("log") / "workers.log", failures=10) as workers:
        yield workers.address


@pytest.fixture
def shared(cluster):
    return replace(LOCAL, cluster=cluster)


@pytest.fixture(scope="module")
def model():
    """Weights by hand: the embedding is ten times the grey value and some of the deep path, the foreground what is bright."""
    return grey_model()


def grey_model(**values):
    return made(deep=0.5, **values)


@pytest.fixture(scope="module")
def plane(tmp_path_factory, model):
    """A file of 3 x 3 blocks, and the labels of a run in one process."""
    folder = tmp_path_factory.mktemp("plane")
    path = folder / "image.npy"
    np.save(path, bars((1100, 1100)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
        labels = segment(path, model, LOCAL, folder / "r.zarr").labels[:]
    assert labels.max() > 50
    return path, labels


def nannies_children():
    """Worker processes that the nannies of this process keep alive."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            found += [process] if any("spawn_main" in part for part in process.cmdline()) else []
    return found


@pytest.mark.parametrize("deterministic", [True, False])
def test_labels_are_those_of_one_process(tmp_path, shared, model, plane, deterministic):
    path, labels = plane
    result = segment(path, model, replace(shared, deterministic=deterministic), tmp_path / "r.zarr")
    assert (result.labels[:] != labels).mean() <= (0 if deterministic else 1e-6)
    assert result.record["blocks"]["tasks"] == 9
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_what_no_instance_reaches_is_that_of_one_process(tmp_path, shared, model, plane):
    """Without any mode each connected piece of foreground becomes an instance, across the workers' blocks."""
    path, _ = plane
    clustering = replace(model.record.clustering, min_density=1e9)
    bare = replace(model, record=replace(model.record, clustering=clustering))
    result = segment(path, bare, shared, tmp_path / "r.zarr")
    whole = segment(path, bare, replace(LOCAL, out_of_core=False)).labels
    assert whole.max() > 50
    np.testing.assert_array_equal(result.labels[:], whole)


def test_frames_channels_axes_and_embedding_reach_the_workers(tmp_path, shared):
    """The axes of the file say less than the user knows."""
    pixels = bars((2, 530, 40, 3))
    tifffile.imwrite(tmp_path / "series.tif", pixels, photometric="minisblack")
    image = replace(read_image(tmp_path / "series.tif"), axes="tyxc", scale=(1.0, 0.5, 0.5, 1.0), units=(None,) * 4)
    model = grey_model(in_channels=2, foreground=True)
    wish = {"channels": (2, 0), "keep_embedding": True}
    one = segment(image, model, replace(LOCAL, **wish), tmp_path / "one.zarr")
    many = segment(image, model, replace(shared, **wish), tmp_path / "many.zarr")
    np.testing.assert_array_equal(many.labels[:], one.labels[:])
    np.testing.assert_array_equal(many.stored.embedding[:], one.stored.embedding[:])
    np.testing.assert_array_equal(many.stored.foreground[:], one.stored.foreground[:])
    assert many.scale == one.scale == (1.0, 0.5, 0.5) and one.labels[:].max() > 10


def test_small_blocks_are_handed_out_together(tmp_path, shared, model, plane, monkeypatch):
    monkeypatch.setattr(dask_engine, "LEAST_PIXELS", 2 << 20)
    monkeypatch.setattr(dask_engine, "AHEAD", 1)
    handed = []
    submit = dask_engine.DaskEngine._submit
    monkeypatch.setattr(
        dask_engine.DaskEngine, "_submit", lambda self, which, batch: handed.append(batch.blocks) or submit(self, which, batch)
    )
    path, labels = plane
    result = segment(path, model, shared, tmp_path / "r.zarr")
    np.testing.assert_array_equal(result.labels[:], labels)
    assert [len(blocks) for blocks in handed] == [4, 4, 1] * 3


def test_killed_workers_do_not_matter(tmp_path, shared, model, plane):
    """> 5 worker kills do not fail a run"""
    path, labels = plane
    killed, blocks = 0, []
    for event in segment_steps(path, model, shared, tmp_path / "r.zarr"):
        blocks += [event] if isinstance(event, BlockDone) else []
        if len(blocks) > killed and killed < 2 and (alive := nannies_children()):
            os.kill(alive[killed % len(alive)].pid, signal.SIGKILL)
            killed += 1
    assert killed == 2 and len(blocks) == 18
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").labels[:], labels)


def test_workers_of_this_machine_end_with_a_run_that_is_cancelled(monkeypatch, tmp_path, model, plane):
    path, labels = plane
    # that the run waits for them, however long the scheduler takes to start
    monkeypatch.setattr(local_workers, "_NANNY", "import time; time.sleep(3)" + local_workers._NANNY)
    out = tmp_path / "r.zarr"
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    steps = segment_steps(path, model, replace(LOCAL, workers=2), out)
    times, texts = [time.monotonic()], []
    for event in steps:
        times.append(time.monotonic())
        texts += [event.text] if isinstance(event, Stage) else []
        if isinstance(event, BlockDone):
            break
    assert max(np.diff(times)) < 5, "waiting for workers can be cancelled"
    assert "waiting for workers" in texts
    started = time.monotonic()
    steps.close()
    assert time.monotonic() - started < 5
    assert not {p.pid for p in psutil.Process().children(recursive=True)} - before
    done = {file.name for file in (work_path(out) / "faces").iterdir() if not file.name.startswith(".")}
    assert done and not list((work_path(out) / "workers").iterdir())
    result = segment(path, model, LOCAL, out)  # which goes on, in this process
    np.testing.assert_array_equal(result.labels[:], labels)
    assert not work_path(out).exists()


def until_started(steps):
    """Run to where the workers get their first tasks."""
    for event in steps:
        if isinstance(event, Stage) and event.text == "network and clustering":
            return


def change_order(out, **values):
    """What the workers are told, changed behind the back of the run."""
    (order,) = (work_path(out) / "workers").iterdir()
    work, name = WorkFolder(out), f"workers/{order.name}"
    work.write_json(name, {**work.read_json(name), **values})


def test_an_error_of_ours_arrives_as_it_was(tmp_path, shared, model, plane):
    steps = segment_steps(plane[0], model, shared, tmp_path / "r.zarr")
    until_started(steps)
    change_order(tmp_path / "r.zarr", version="0.0.1")
    with pytest.raises(SettingsError, match=r"the run began with 0\.0\.1; install the same version"):
        list(steps)


def test_any_other_error_is_one_sentence_and_the_run_goes_on_later(tmp_path, shared, model, plane):
    path, labels = plane
    steps = segment_steps(path, model, shared, tmp_path / "r.zarr")
    until_started(steps)
    change_order(tmp_path / "r.zarr", outputs=[])
    with pytest.raises(ResultError, match=r"block \d failed 3 times \(AttributeError: .*\); the same call goes on") as caught:
        list(steps)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(segment(path, model, shared, tmp_path / "r.zarr").labels[:], labels)


def test_a_task_that_kills_its_workers_is_given_up():
    from distributed import KilledWorker

    inputs = SimpleNamespace(image=SimpleNamespace(source=__file__, name="x"))
    blocks = SimpleNamespace(
        job=SimpleNamespace(opened=inputs, settings=replace(LOCAL, workers=1)),
        work=SimpleNamespace(target=Path("r.zarr")),
        layout=SimpleNamespace(frames=2),
    )
    engine = dask_engine.DaskEngine(blocks)
    failed = SimpleNamespace(status="error", exception=lambda: KilledWorker("key", None, 10))
    batch = dask_engine._Batch(number=3, blocks=((1, 7),))
    assert engine._failed(failed, replace(batch, tries=5)), "workers die of other things than their task"
    with pytest.raises(ResultError, match=r"block 7 of frame 1 failed 10 times \(its workers were killed"):
        engine._failed(failed, replace(batch, tries=9))


def test_a_worker_without_the_folder_says_so(tmp_path):
    with pytest.raises(ResultError, match="on a disk that all workers see under the same path"):
        finish_blocks(str(tmp_path / "nowhere.zarr"), "run", "find", [(0, 0)])
    assert list(tmp_path.iterdir()) == []


def test_a_worker_stops_in_the_middle_of_a_block_that_nobody_wants(tmp_path, monkeypatch):
    """The command was cancelled or killed, and its scheduler is not there to tell the workers of a cluster."""
    seen = []

    def steps(frame, block):
        for done in range(1, 100):
            seen.append((block, done))
            if seen[-1] == ("b", 3):
                (work.path / "workers" / "run.json").unlink()
            yield Event(done=done, total=99)

    work = WorkFolder(tmp_path / "r.zarr")
    work.write_json("workers/run.json", {})
    layout = SimpleNamespace(grid=["a", "b", "c", "d"])
    job = SimpleNamespace(work=work, layout=layout, find_steps=steps, is_done=lambda which, frame, number: number == 0)
    monkeypatch.setattr(block_worker, "ASK_EVERY", 0)
    monkeypatch.setattr(block_worker, "_job_of", lambda target, run: job)
    finish_blocks(str(work.target), "run", "find", [(0, number) for number in range(4)])
    assert seen == [("b", 1), ("b", 2), ("b", 3)]


def test_a_lost_scheduler_is_a_sentence(tmp_path, model, plane):
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"]
    files = ["--scheduler-file", str(tmp_path / "scheduler.json")]
    process = subprocess.Popen([*command, *files], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = wait_for_address(tmp_path / "scheduler.json")
        steps = segment_steps(plane[0], model, replace(LOCAL, cluster=address), tmp_path / "r.zarr")
        for event in steps:
            if isinstance(event, Stage) and event.text == "waiting for workers":
                break
        process.kill()
        with pytest.raises(ResultError, match=f"the scheduler {address} does not answer any more") as caught:
            list(steps)
        assert "\n" not in str(caught.value)
    finally:
        process.kill()
        process.wait()


def wait_for_address(file):
    for _ in range(200):
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            time.sleep(0.1)
    raise AssertionError("no scheduler")


def test_an_image_in_memory_is_refused_in_time(tmp_path, model):
    for image in (bars((600, 40)), replace(Image.from_array(bars((600, 40)), "yx"), source="gone.tif")):
        with pytest.raises(SettingsError, match="is in memory only; save it as OME-Zarr or TIFF"):
            segment(image, model, replace(LOCAL, workers=2), tmp_path / "r.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_not_its_file_is_refused(tmp_path, shared, model, plane):
    """A layer that was painted on, or cropped, has its file's name still."""
    image = read_image(plane[0])
    painted = replace(image, data=np.asarray(image.data) + 1)
    with pytest.raises(SettingsError, match="that file has other pixels"):
        segment(painted, model, shared, tmp_path / "r.zarr")
    with pytest.raises(SettingsError, match=r"that file has shape \(1100, 1100\) and type float32, where .* \(600, 1100\)"):
        segment(replace(image, data=image.data[:600]), model, shared, tmp_path / "cropped.zarr")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workers": 2, "cluster": "tcp://127.0.0.1:1"}, "give one of them"),
        ({"workers": -1}, "workers is -1; give an integer of 0 or more"),
        ({"cluster": "tcp://127.0.0.1:1"}, "no dask scheduler answers at tcp://127.0.0.1:1"),
    ],
    ids=["both", "negative", "nobody there"],
)
def test_settings_that_cannot_work(tmp_path, model, plane, monkeypatch, values, said):
    monkeypatch.setattr(dask_engine, "CONNECT", 0.5)
    with pytest.raises(SettingsError, match=said) as caught:
        segment(plane[0], model, replace(LOCAL, **values), tmp_path / "r.zarr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.0 400 Bad request\r\n\r\n" * 3, bytes(64), None], ids=["nothing", "web", "zeros", "ends"]
)
def test_what_is_no_scheduler_is_one_sentence_in_time(tmp_path, model, plane, monkeypatch, says):
    """> A web server kept a client waiting for ever, or was taken for want of memory."""
    monkeypatch.setattr(dask_engine, "CONNECT", 2)
    held = []

    def serve(server):
        with suppress(OSError):
            while True:
                caller, _ = server.accept()
                held.append(caller)
                if says is None:
                    caller.close()
                else:
                    caller.sendall(says)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(SettingsError, match=f"^no dask scheduler answers at {address}; [^\\n]*$"):
            segment(plane[0], model, replace(LOCAL, cluster=address), tmp_path / "r.zarr")
        assert time.monotonic() - start < 8
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for caller in held:
        caller.close()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_is_no_scheduler(tmp_path, shared, model, plane):
    from distributed import Client

    with Client(shared.cluster, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=30)
        worker = next(iter(client.scheduler_info()["workers"]))
    with pytest.raises(SettingsError, match="no dask scheduler answers"):
        segment(plane[0], model, replace(shared, cluster=worker), tmp_path / "r.zarr")


def test_without_dask_one_sentence_says_what_to_install(tmp_path, model, plane, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match=r'pip install "napari-shiftseg\[distributed\]"'):
        segment(plane[0], model, replace(LOCAL, workers=2), tmp_path / "r.zarr")
    assert list(tmp_path.iterdir()) == []


def test_more_workers_than_memory_holds_are_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.dask_engine.LocalWorkers", None)
    np.save(tmp_path / "a.npy", np.ones((64, 64), "u2"))
    with pytest.raises(
        OutOfMemoryError, match=r"1000000000 workers take 2e\+08 GB or more, and [\d.]+ GB are free; give fewer"
    ):
        segment(tmp_path / "a.npy", made(2), SegmentSettings(workers=10**9, device="cpu"), tmp_path / "r.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("form", **in_turn(FORMS))
def test_a_worker_without_memory_is_not_asked_again(form):
    error = form()
    future = SimpleNamespace(status="error", exception=lambda: error)
    with pytest.raises(OutOfMemoryError, match="memory ran out in a worker"):
        object.__new__(dask_engine.DaskEngine)._failed(future, None)
