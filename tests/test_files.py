"""Results are written completely or not at all, and never over a device, a pipe, a socket, a folder or an input."""

import os
import shutil
import socket
import stat
import threading
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED, bars
from grey import grey_model as made

from napari_shiftseg import cli, open_result, save_model, segment, train
from napari_shiftseg.errors import ModelError, ResultError
from napari_shiftseg.events import drain
from napari_shiftseg.files import check_file, check_folder, remove_folder, replacing
from napari_shiftseg.io import save_labels_tiff
from napari_shiftseg.network import TrainImage, TrainSettings
from napari_shiftseg.segmentation import segment_steps

needs_nodes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def pipe(path):
    os.mkfifo(path)


def listening(path):
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name may have 100 letters
    try:
        with socket.socket(socket.AF_UNIX) as found:
            found.bind(path.name)
    finally:
        os.chdir(here)


def device(kind):
    def make(path):
        try:
            os.mknod(path, 0o600 | kind, os.makedev(1, 3) if kind == stat.S_IFCHR else os.makedev(7, 200))
        except OSError:
            pytest.skip("only the owner of the system makes devices")

    return make


def link_to(make):
    def link(path):
        target = path.with_name(f"behind {path.name}")
        make(target)
        path.symlink_to(target)

    return link


NODES = {
    "a pipe": pipe,
    "a socket": listening,
    "a character device": device(stat.S_IFCHR),
    "a block device": device(stat.S_IFBLK),
    "a link to a pipe": link_to(pipe),
    "a link to a device": link_to(device(stat.S_IFCHR)),
    "a link to a link": link_to(link_to(pipe)),
}
FILES_TOO = {**NODES, "a folder": Path.mkdir, "a link to a folder": link_to(Path.mkdir)}


def seen(path):
    """What a place is, without following links."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_rdev


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "masks"):
        (root / "data" / name).mkdir(parents=True)
    picture = (bars((60, 60)) * 200).astype(np.uint8)
    tifffile.imwrite(root / "data/images/a.tif", picture)
    tifffile.imwrite(root / "data/masks/a.tif", (picture > 100).astype(np.uint16))
    model = made(2, deep=0.5, normalisation=UNCHANGED)
    save_model(root / "model.safetensors", model)
    segment(bars((90, 60)), model, out=root / "r.ome.zarr")
    return root


SEGMENT = ("segment", "{folder}/data/images/a.tif", "--model", "{folder}/model.safetensors")
TRAIN = ("train", "{folder}/data", "--levels", "1", "--steps", "1")
# every option of every command that names a file to write
FILES = {
    "labels": (*SEGMENT, "--labels-tiff", "{place}"),
    "picture": (*SEGMENT, "--picture", "{place}"),
    "table": (*SEGMENT, "--table", "{place}"),
    "model": (*TRAIN, "--out", "{place}.safetensors"),
    "checkpoint": (*TRAIN, "--out", "m.safetensors", "--checkpoint", "{place}"),
    "synthetic image": ("synth", "constant", "--out", "{place}"),
    "synthetic truth": ("synth", "disks", "--out", "i.tif", "--labels", "{place}"),
    "seams": ("seams", "{folder}/r.ome.zarr", "--csv", "{place}"),
    "scores": ("evaluate", "{folder}/data", "--model", "{folder}/model.safetensors", "--csv", "{place}"),
    "calibrated model": (
        *("evaluate", "{folder}/data", "--model", "{folder}/model.safetensors", "--calibrate"),
        *("--write-model", "{place}.safetensors"),
    ),
}
FOLDERS = {
    "store": (*SEGMENT, "--out", "{place}"),
    "store out of core": (*SEGMENT, "--out", "{place}", "--out-of-core"),
    "several stores": ("segment", "{folder}/data/masks/a.tif", *SEGMENT[1:], "--out", "{place}"),
    "several labels": ("segment", "{folder}/data/masks/a.tif", *SEGMENT[1:], "--labels-tiff", "{place}"),
    "trainings": ("paper", "fig5a", "--out", "{place}"),
    "demo": ("demo", "--no-viewer", "--out", "{place}"),
}


def refused(make, arguments, folder, tmp_path, monkeypatch, capsys):
    """The command ends at once with a sentence, and the place is what it was."""
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    given = [argument.format(folder=folder, place=inner / "place") for argument in arguments]
    place = next(Path(argument) for argument in given if argument.startswith(str(inner)))
    make(place)
    before = {path.name: seen(path) for path in inner.iterdir()}
    if given[0] not in ("paper", "demo") and "--checkpoint" not in given:
        given.append("--overwrite")
    monkeypatch.setattr("napari_shiftseg.segmentation.pipeline.predict_steps", never)
    monkeypatch.setattr(import_module("napari_shiftseg.network.train"), "UNet", never)
    found = []
    runner = threading.Thread(target=lambda: found.append(cli.main(given)), daemon=True)
    runner.start()
    runner.join(60)
    assert not runner.is_alive(), "it waits for somebody at the other end of the pipe"
    err = capsys.readouterr().err
    assert found == [2] and str(place) in err and err.count("\n") == 1
    assert {path.name: seen(path) for path in inner.iterdir()} == before


def never(*_, **__):
    raise AssertionError("the work began")


@needs_nodes
@pytest.mark.parametrize("make", FILES_TOO.values(), ids=FILES_TOO)
@pytest.mark.parametrize("arguments", FILES.values(), ids=FILES)
def test_no_command_writes_a_file_over_what_is_none(arguments, make, folder, tmp_path, monkeypatch, capsys):
    refused(make, arguments, folder, tmp_path, monkeypatch, capsys)


@needs_nodes
@pytest.mark.parametrize("make", {**NODES, "a file": Path.touch}.values(), ids=[*NODES, "a file"])
@pytest.mark.parametrize("arguments", FOLDERS.values(), ids=FOLDERS)
def test_no_command_makes_a_folder_over_what_is_none(arguments, make, folder, tmp_path, monkeypatch, capsys):
    refused(make, arguments, folder, tmp_path, monkeypatch, capsys)


@needs_nodes
@pytest.mark.parametrize("make", FILES_TOO.values(), ids=FILES_TOO)
@pytest.mark.parametrize("save", ["labels", "model", "checkpoint", "store"])
def test_nor_does_the_library(make, save, tmp_path):
    place, model = tmp_path / "x.safetensors", made(2)
    make(place)
    before = seen(place)
    with pytest.raises(ModelError if save == "model" else ResultError, match=r"x\.safetensors is "):
        if save == "labels":
            save_labels_tiff(place, np.ones((4, 4), np.uint8), "yx")
        elif save == "model":
            save_model(place, model)
        elif save == "store":
            segment(bars((60, 60)), model, out=place)
        else:
            settings = TrainSettings(spec=model.spec, steps=1, device="cpu", checkpoint=place)
            train([TrainImage.from_arrays(bars((60, 60)), np.ones((60, 60), int), settings.normalisation)], settings)
    assert seen(place) == before


@pytest.mark.parametrize("arguments", {**FILES, **FOLDERS}.values(), ids=[*FILES, *FOLDERS])
def test_a_place_that_cannot_be_written_is_said_as_that(arguments, folder, tmp_path, monkeypatch, capsys):
    """Whatever happens to the system's own words: some libraries under this one have errors of their own for it."""
    monkeypatch.chdir(tmp_path)
    place = "/proc/nobody-writes-here" if Path("/proc/self").exists() else str(tmp_path / "missing" / "place")
    assert cli.main([argument.format(folder=folder, place=place) for argument in arguments]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert place in err and "another run" not in err


@needs_nodes
@pytest.mark.parametrize("check", [check_file, check_folder])
@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/dev/new", "{link}/new", "/proc/self/fd/1", "/sys/new"])
def test_no_result_takes_a_name_among_those_of_the_system(place, check, tmp_path, capfd):
    """What such a name leads to may be a plain file, as /dev/stdout where that is sent to one, which root may replace."""
    (tmp_path / "link").symlink_to("/dev")
    with pytest.raises(ResultError, match=r"of the system|cannot replace"):
        check(place.format(link=tmp_path / "link"))
    check(Path("/dev/shm") / tmp_path.name)


@pytest.mark.parametrize("place", ["", ".", "..", "/"])
@pytest.mark.parametrize("arguments", [*FILES.values(), FOLDERS["store"], FOLDERS["store out of core"]])
def test_a_place_without_a_name_is_refused(arguments, place, folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    given = [argument.format(folder=folder, place="{place}") for argument in arguments]
    assert cli.main([place if argument.startswith("{place}") else argument for argument in given]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and sorted(tmp_path.rglob("*")) == [tmp_path / "in"]


@pytest.mark.parametrize("arguments", [FILES[kind] for kind in FILES if kind != "checkpoint"])
def test_a_link_that_leads_nowhere_is_replaced_only_on_request(arguments, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [argument.format(folder=folder, place=tmp_path / "place") for argument in arguments]
    link = next(Path(argument) for argument in given if argument.startswith(str(tmp_path / "place")))
    link.symlink_to(tmp_path / "nowhere")
    assert cli.main(given) == 2 and "add --overwrite" in capsys.readouterr().err
    assert os.readlink(link) == str(tmp_path / "nowhere") and list(tmp_path.iterdir()) == [link]


def test_a_link_to_a_result_is_not_replaced(folder, tmp_path):
    """The store that it leads to may be in use, and would stay where it is under no name."""
    link, target = tmp_path / "link.ome.zarr", folder / "r.ome.zarr"
    link.symlink_to(target)
    before = open_result(target).labels[:]
    with pytest.raises(ResultError, match=r"link\.ome\.zarr is there"):
        drain(segment_steps(bars((60, 60)), made(2), out=link, overwrite=True))
    assert link.is_symlink()
    np.testing.assert_array_equal(open_result(target).labels[:], before)


def test_a_file_and_a_link_to_one_are_replaced(tmp_path):
    """What the link leads to stays."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    for place in (link, real):
        with replacing(place) as partial:
            partial.write_text("new")
            assert place.read_text() == "old"
        assert place.read_text() == "new" and real.read_text() == ("old" if place is link else "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_folder_that_is_being_removed_goes_whoever_interrupts_that(tmp_path, monkeypatch):
    real, place = shutil.rmtree, tmp_path / "left"
    (place / "inner").mkdir(parents=True)

    def interrupted(path, **how):
        monkeypatch.setattr(shutil, "rmtree", real)
        (path / "inner").rmdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        remove_folder(place)
    assert not place.exists()


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    place = tmp_path / ("n" * 250 + ".tif")
    place.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(place) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert place.read_text() == "old" and list(tmp_path.iterdir()) == [place]


@needs_nodes
def test_what_comes_in_between_is_not_replaced(tmp_path):
    place = tmp_path / "place"
    with pytest.raises(ResultError, match="named pipe"), replacing(place) as partial:
        partial.write_text("new")
        os.mkfifo(place)
    assert list(tmp_path.iterdir()) == [place] and stat.S_ISFIFO(place.stat().st_mode)


@pytest.mark.parametrize("option", ["--labels-tiff", "--picture", "--table"])
@pytest.mark.parametrize("other", ["image", "model", "through a link"])
def test_no_result_is_written_over_what_is_read(option, other, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "a.tif"
    image.write_bytes((folder / "data/images/a.tif").read_bytes())
    model = tmp_path / "m.safetensors"
    model.write_bytes((folder / "model.safetensors").read_bytes())
    Path("link.tif").symlink_to(image)
    target = {"image": "./a.tif", "model": "m.safetensors", "through a link": "link.tif"}[other]
    before = image.read_bytes(), model.read_bytes()
    code = cli.main(["segment", str(image), "--model", str(model), option, target, "--overwrite"])
    assert code == 2 and "is one of the inputs" in capsys.readouterr().err
    assert (image.read_bytes(), model.read_bytes()) == before
    # in a batch, the labels of a.tif in this folder would be a.tif
    image.with_name("b.tif").write_bytes(image.read_bytes())
    if option == "--labels-tiff":
        assert cli.main(["segment", "a.tif", "b.tif", "--model", str(model), option, ".", "--overwrite"]) == 2
    assert image.read_bytes() == before[0]


def test_two_results_have_two_places(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image, model = folder / "data/images/a.tif", folder / "model.safetensors"
    assert cli.main(["segment", str(image), "--model", str(model), "--table", "x", "--labels-tiff", "./x"]) == 2
    assert "two results would be written to x" in capsys.readouterr().err and not list(tmp_path.iterdir())
