"""No result costs a file: no input, no other result, nothing that came meanwhile; and nothing is left of what was refused."""

import hashlib
import os
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED, bars
from grey import grey_model as made

from napari_shiftseg import SegmentSettings, cli, open_result, save_model, segment
from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import drain
from napari_shiftseg.files import check_same, check_targets, found_at, replacing
from napari_shiftseg.io import WorkFolder, read_image, save_result, work_path
from napari_shiftseg.segmentation import pipeline, segment_steps

LARGE = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30)
ALONE = {"--out": "elsewhere.zarr", "--labels-tiff": "l.tif", "--picture": "p.png", "--table": "t.csv"}


def digest(folder: Path) -> dict[str, str]:
    """All files below a folder, with what they hold."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A result with its image, the image as a file, and a model."""
    folder = tmp_path_factory.mktemp("kept")
    image, model = bars((90, 60)), made(2, deep=0.5, normalisation=UNCHANGED)
    save_model(folder / "m.safetensors", model)
    tifffile.imwrite(folder / "a.tif", (image * 200).astype(np.uint8))
    segment(read_image(folder / "a.tif"), model, out=folder / "holder.zarr")
    return folder


@pytest.fixture
def here(kept, tmp_path, monkeypatch):
    """A copy of that as the working folder, where nothing is ever computed."""
    folder = tmp_path / "here"
    shutil.copytree(kept, folder)
    monkeypatch.chdir(folder)

    def never(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr(pipeline, "predict_steps", never)
    monkeypatch.setattr("napari_shiftseg.segmentation.run.look", never)
    return folder


def links(folder: Path) -> None:
    (folder / "soft").symlink_to(folder / "holder.zarr")
    (folder / "hard.tif").hardlink_to(folder / "a.tif")


# input, option and its value, each with and without --overwrite
INPUTS = {
    "the store": ("holder.zarr", "--out", "holder.zarr"),
    "the store by a link": ("soft", "--out", "holder.zarr"),
    "the store by dots": ("holder.zarr", "--out", "holder.zarr/../holder.zarr"),
    "in the store": ("holder.zarr", "--out", "holder.zarr/new.zarr"),
    "in the store by a link": ("holder.zarr", "--labels-tiff", "soft/new.tif"),
    "deep in the store": ("holder.zarr", "--table", "holder.zarr/labels/instances/new.csv"),
    "a chunk": ("holder.zarr", "--picture", "holder.zarr/0/c/0/0"),
    "metadata": ("holder.zarr", "--labels-tiff", "holder.zarr/zarr.json"),
    "around the image": ("holder.zarr/0", "--out", "holder.zarr"),
    "the file": ("a.tif", "--labels-tiff", "a.tif"),
    "the file by another name": ("a.tif", "--table", "hard.tif"),
    "the model": ("a.tif", "--picture", "m.safetensors"),
}


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--overwrite", "--out-of-core"]], ids=str)
@pytest.mark.parametrize(("image", "option", "place"), INPUTS.values(), ids=INPUTS)
def test_no_target_is_an_input_nor_lies_in_one(here, capsys, image, option, place, more):
    links(here)
    before = digest(here)
    code = cli.main(["segment", image, "--model", "m.safetensors", option, place, *more])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and "one of the inputs" in err
    assert digest(here) == before


@pytest.mark.parametrize("settings", [LARGE, SegmentSettings(device="cpu")], ids=["out of core", "in memory"])
@pytest.mark.parametrize("place", ["holder.zarr", "holder.zarr/new.zarr"])
def test_nor_does_the_library_segment_into_its_image(here, settings, place):
    before = digest(here)
    with pytest.raises(ResultError, match="one of the inputs"):
        drain(segment_steps("holder.zarr", made(2), settings, place, overwrite=True))
    assert digest(here) == before


def test_a_result_without_its_image_does_not_replace_the_store_that_holds_it(kept, tmp_path):
    place = shutil.copytree(kept / "holder.zarr", tmp_path / "r.zarr")
    before = digest(tmp_path)
    result = segment(str(place), made(2, normalisation=UNCHANGED))
    with pytest.raises(ResultError, match="one of the inputs"):
        result.save(place, overwrite=True, copy_image=False)
    assert digest(tmp_path) == before
    result.save(place, overwrite=True)
    np.testing.assert_array_equal(read_image(place).data[...], result.image.data[...])


@pytest.mark.parametrize(
    "places",
    [
        ("--labels-tiff", "x", "--picture", "x"),
        ("--out", "x", "--table", "./x"),
        ("--out", "x.zarr", "--picture", "x.zarr/p.png"),
        ("--out", "holder.zarr", "--picture", "holder.zarr/p.png", "--overwrite"),
        ("--labels-tiff", "hard.tif", "--table", "other.tif", "--overwrite"),
    ],
    ids=" ".join,
)
def test_no_result_is_another_one_nor_lies_in_it(here, capsys, places):
    (here / "hard.tif").write_bytes(b"an earlier result")
    (here / "other.tif").hardlink_to(here / "hard.tif")
    before = digest(here)
    assert cli.main(["segment", "a.tif", "--model", "m.safetensors", *places]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and ("two results" in err or "lies in the other" in err)
    assert digest(here) == before


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (("seams", "holder.zarr", "--csv", "holder.zarr/zarr.json"), "holder.zarr"),
        (("seams", "holder.zarr", "--csv", "holder.zarr/new.csv"), "holder.zarr"),
        (("measure", "holder.zarr", "--out", "holder.zarr/new.csv"), "holder.zarr"),
        (("measure", "a.tif", "--image", "t.csv", "--out", "t.csv"), "t.csv"),
        (("export", "a.tif", "a.tif"), "a.tif"),
        (("export", "holder.zarr", "holder.zarr"), "holder.zarr"),
        (("export", "holder.zarr", "holder.zarr/labels.zip"), "holder.zarr"),
        (("evaluate", "data", "--model", "m.safetensors", "--csv", "data/images/a.tif"), "a.tif"),
        (("evaluate", "data", "--model", "m.safetensors", "--csv", "data/meta.csv"), "meta.csv"),
        (("train", "data", "--levels", "1", "--steps", "1", "--out", "data/masks/a.tif"), "a.tif"),
        (
            ("train", "data", "--levels", "1", "--steps", "1", "--out", "n.safetensors", "--checkpoint", "data/images/a.tif"),
            "a.tif",
        ),
        (("train", "data", "--levels", "1", "--steps", "1", "--out", "n.pt", "--checkpoint", "n.pt"), "n.pt"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]} {value[-2]}",
)
def test_other_commands_keep_what_they_read_too(here, capsys, command, place):
    for kind in ("images", "masks"):
        (here / "data" / kind).mkdir(parents=True)
        shutil.copy(here / "a.tif", here / "data" / kind / "a.tif")
    (here / "data/meta.csv").write_text("id\na\n")
    before = digest(here)
    assert cli.main([*command, "--overwrite"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and place in err and ("one of the inputs" in err or "two results" in err)
    assert digest(here) == before


def test_a_place_that_takes_no_file_or_is_too_small_is_known_before_a_pixel_is_read(here, capsys, monkeypatch):
    command = ["segment", "a.tif", "--model", "m.safetensors"]
    before = digest(here)
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
        assert cli.main([*command, "--out", "new.zarr"]) == 2
    assert "make room" in capsys.readouterr().err
    opened = os.open

    def read_only(path, flags, *rest, **more):
        if flags & os.O_CREAT and Path(path).parent == here:
            raise OSError(30, "Read-only file system")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    for option, place in ALONE.items():
        assert cli.main([*command, option, place]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and place in err and "Read-only" in err
    assert digest(here) == before


# -- what comes meanwhile ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("settings", [LARGE, SegmentSettings(device="cpu")], ids=["out of core", "in memory"])
def test_of_two_runs_into_one_store_the_second_replaces_nothing(tmp_path, settings, overwrite):
    place, image, model = tmp_path / "r.zarr", bars((90, 60)), made(2)
    if overwrite:
        save_result(place, labels=np.ones((4, 4), int), axes="yx", record={"by": "an earlier one"})
    steps = segment_steps(image, model, settings, place, overwrite=overwrite)
    next(steps)
    save_result(place, labels=np.ones((4, 4), int), axes="yx", record={"by": "another"}, overwrite=True)
    with pytest.raises(ResultError, match=r"somebody else meanwhile|there already"):
        drain(steps)
    assert open_result(place).record == {"by": "another"}
    assert work_path(place).exists() == (settings is LARGE)  # blocks are not thrown away
    assert settings is LARGE or os.listdir(tmp_path) == ["r.zarr"]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=str)
@pytest.mark.parametrize("option", ["--labels-tiff", "--picture", "--table"])
def test_of_two_runs_into_one_file_the_second_replaces_nothing(kept, tmp_path, monkeypatch, capsys, option, overwrite):
    place = tmp_path / "place"
    if overwrite:
        place.write_text("an earlier one")
    settle = pipeline.settle

    def slow(*args):
        place.unlink(missing_ok=True)
        place.write_text("another")
        return settle(*args)

    monkeypatch.setattr("napari_shiftseg.segmentation.run.settle", slow)
    code = cli.main(["segment", str(kept / "a.tif"), "--model", str(kept / "m.safetensors"), option, str(place), *overwrite])
    assert code == 2 and "somebody else meanwhile" in capsys.readouterr().err
    assert place.read_text() == "another" and list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("before", ["nothing", "a file"])
def test_a_file_that_comes_while_another_is_written_stays(tmp_path, before):
    place = tmp_path / "place"
    if before != "nothing":
        place.write_text("earlier")
    with pytest.raises(ResultError, match="somebody else"), replacing(place) as partial:
        partial.write_text("new")
        other = tmp_path / "other"
        other.write_text("came")
        other.replace(place)
    assert place.read_text() == "came" and list(tmp_path.iterdir()) == [place]


def test_a_place_is_the_same_until_something_takes_it(tmp_path):
    place = tmp_path / "place"
    found = check_targets([place])
    assert found == {place: None} and not list(tmp_path.iterdir())
    check_same(place, None)
    place.write_text("x")
    with pytest.raises(ResultError):
        check_same(place, None)
    check_same(place, found_at(place))


# -- nothing is left --------------------------------------------------------------------------------------------------


def test_a_run_out_of_core_that_fails_before_its_first_block_is_in_nobodys_way(tmp_path, monkeypatch):
    image, model, place = bars((90, 60)), made(2), tmp_path / "r.zarr"

    def fails(*_, **__):
        raise ResultError("refused")
        yield

    for name in ("cluster_steps", "block_steps"):
        with monkeypatch.context() as late, pytest.raises(ResultError, match="refused"):
            late.setattr(f"napari_shiftseg.segmentation.blockwise.{name}", fails)
            segment(image, model, LARGE, place)
        assert not list(tmp_path.iterdir())
    other = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, bandwidth=0.4)
    assert segment(image, model, other, place).labels[:].max() > 0


STOPS = {"Ctrl-C": (signal.SIGINT, 130, "interrupted"), "SIGTERM": (signal.SIGTERM, 143, "terminated")}
if hasattr(signal, "SIGHUP"):
    STOPS["a closed terminal"] = (signal.SIGHUP, 143, "terminated")


@pytest.fixture
def heard():
    """Signals end the process, as in a terminal; who starts the tests in the background or with nohup lets them be ignored."""
    usual = {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, usual.get(number, signal.SIG_DFL)) for number, *_ in STOPS.values()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("where", ["_fill_labels", "pyramid.add_levels", "zarr.open_group", "save_labels_tiff"])
@pytest.mark.parametrize(("number", "code", "word"), STOPS.values(), ids=STOPS)
def test_who_is_stopped_while_writing_leaves_nothing_half_written(
    heard, kept, tmp_path, monkeypatch, capsys, number, code, word, where
):
    monkeypatch.chdir(tmp_path)
    module, name = ("napari_shiftseg.io", where) if where == "save_labels_tiff" else ("napari_shiftseg.io.result", where)
    place = f"{module}.{name}"

    def stopped(*args, **named):
        if name == "zarr.open_group":  # the folder is there by then
            opened(*args, **named)
        assert signal.getsignal(number) is not signal.SIG_DFL, "the process would die here"
        os.kill(os.getpid(), number)
        raise AssertionError("it went on")

    import zarr

    opened = zarr.open_group
    monkeypatch.setattr(place, stopped)
    image, model = str(kept / "a.tif"), str(kept / "m.safetensors")
    got = cli.main(["segment", image, "--model", model, "--out", "r.zarr", "--labels-tiff", "l.tif"])
    err = capsys.readouterr().err
    assert got == code and err.count("\n") == 1 and word in err
    left = [path.name for path in tmp_path.iterdir()]
    if where == "save_labels_tiff":
        assert left == ["r.zarr"] and "r.zarr is complete" in err
    else:
        assert left == [] and "nothing was half written" in err


@pytest.mark.parametrize(("number", "code", "word"), STOPS.values(), ids=STOPS)
def test_a_training_that_is_stopped_says_by_what(heard, kept, tmp_path, monkeypatch, capsys, number, code, word):
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
        np.save(tmp_path / "data" / name / "a.npy", np.pad(np.ones((9, 9), np.uint8), 30))

    def stopped(*_):
        os.kill(os.getpid(), number)
        yield

    monkeypatch.setattr("napari_shiftseg.network.train_steps", stopped)
    words = ["train", str(tmp_path / "data"), "--out", str(tmp_path / "m.safetensors"), "--levels", "1", "--window", "12"]
    assert cli.main(words) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "nothing was written" in err
    assert not (tmp_path / "m.safetensors").exists()


def test_signals_are_as_before_after_a_command(capsys):
    before = [signal.getsignal(number) for number, *_ in STOPS.values()]
    assert cli.main(["info", "--help"]) == 0
    assert [signal.getsignal(number) for number, *_ in STOPS.values()] == before


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "link in the folder", "link deep in the folder", "a chunk", "lock"])
def test_no_work_goes_through_a_link(tmp_path, kind):
    place, victim = tmp_path / "r.zarr", tmp_path / "victim"
    victim.mkdir()
    (victim / "dear").write_text("dear")
    folder = work_path(place)
    if kind == "folder":
        folder.symlink_to(victim)
    elif kind == "lock":
        folder.with_suffix(".lock").symlink_to(victim / "dear")
    elif kind == "a chunk":
        (folder / "fragments/0/c/0").mkdir(parents=True)
        (folder / "fragments/0/c/0/0").symlink_to(victim / "dear")
    elif "deep" in kind:
        (folder / "store/labels/instances").mkdir(parents=True)
        (folder / "store/labels/instances/0").symlink_to(victim)
    else:
        folder.mkdir()
        (folder / "faces").symlink_to(victim)
    before = digest(tmp_path)
    with pytest.raises(ResultError, match="is a link; remove it"):
        segment(bars((90, 60)), made(2), LARGE, place)
    assert digest(tmp_path) == before


def test_a_half_written_file_is_not_a_link_that_somebody_laid(tmp_path, monkeypatch):
    victim = tmp_path / "dear"
    victim.write_text("dear")
    monkeypatch.setattr("napari_shiftseg.files.uuid.uuid4", lambda: SimpleNamespace(hex="0" * 32))
    (tmp_path / f".{'0' * 12}.partial.tif").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(tmp_path / "x.tif") as partial:
        partial.write_text("new")
    assert victim.read_text() == "dear"


def test_what_is_left_in_a_work_folder_is_removed_without_following_links(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/dear").write_text("dear")
    with WorkFolder(tmp_path / "r.zarr") as work:
        (work.path / "faces").symlink_to(tmp_path / "victim")
        work.clear()
        assert not list(work.path.iterdir())
    assert (tmp_path / "victim/dear").read_text() == "dear"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_library_makes_of_a_signal_is_no_mistake_of_ours(monkeypatch, tmp_path, capsys, request, number):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, usual)))  # what else this process does with it

    def swallowed(*_):
        try:
            os.kill(os.getpid(), number)
            time.sleep(30)
        except KeyboardInterrupt:
            pass
        raise RuntimeError("the event loop was stopped")

    monkeypatch.setattr(cli, "_run", swallowed)
    assert cli.main(["info"]) == 128 + number
    assert capsys.readouterr().err.count("nothing was half written") == 1 and not list(tmp_path.iterdir())
    assert signal.getsignal(number) is usual
    monkeypatch.setattr(cli, "_run", lambda *_: [][0])
    assert cli.main(["info"]) == 70 and len(list(tmp_path.iterdir())) == 1
