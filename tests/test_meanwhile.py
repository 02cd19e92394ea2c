"""What comes to the place of a result, or happens to what is read, while a command works: no file is lost, no result mixed."""

import os
import shutil
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import tifffile
import zarr
from grey import UNCHANGED, bars, grey_model

from napari_shiftseg import SegmentSettings, UNetSpec, cli, save_model, segment, synthetic
from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.events import Stage, TrainStep, drain
from napari_shiftseg.files import unchanged
from napari_shiftseg.io import read_image, read_labels, save_result
from napari_shiftseg.io.export import export_labels, measured
from napari_shiftseg.network import TrainImage, TrainSettings, train_steps
from napari_shiftseg.segmentation import Segmentation, relabel_steps
from napari_shiftseg.segmentation.linking import link_steps

LARGE = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, keep_embedding=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An image, a model, a result, pairs of images and masks, and labels of a series."""
    folder = tmp_path_factory.mktemp("kept")
    image, model = bars((90, 60)), grey_model(deep=0.5, normalisation=UNCHANGED)
    save_model(folder / "m.safetensors", model)
    tifffile.imwrite(folder / "a.tif", image)
    labels = segment(read_image(folder / "a.tif"), model, SegmentSettings(device="cpu"), folder / "r.zarr").labels
    segment(image, model, LARGE, folder / "large.zarr")
    for name, values in (("images", image), ("masks", labels)):
        (folder / "data" / name).mkdir(parents=True)
        np.save(folder / "data" / name / "a.npy", values)
    save_result(folder / "series.zarr", labels=np.stack([labels] * 3), axes="tyx", record={"by": "hand"})
    return folder


@pytest.fixture
def here(kept, tmp_path, monkeypatch):
    shutil.copytree(kept, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


# what is computed before a file is written, and the command that does it
WORK = {
    "measure": ("napari_shiftseg.io.measured", ["measure", "r.zarr", "--out", "new.csv"]),
    "export": ("napari_shiftseg.io.export.measured", ["export", "r.zarr", "new.geojson"]),
    "export a table": ("napari_shiftseg.io.export.measured", ["export", "r.zarr", "new.csv"]),
    "seams": ("napari_shiftseg.analysis.seam_report", ["seams", "r.zarr", "--csv", "new.csv"]),
    "scores": (
        "napari_shiftseg.evaluation.evaluate_steps",
        ["evaluate", "data", "--model", "m.safetensors", "--csv", "new.csv"],
    ),
    "calibrated": (
        "napari_shiftseg.evaluation.calibrate_steps",
        ["evaluate", "data", "--model", "m.safetensors", "--calibrate", "--write-model", "new.safetensors"],
    ),
    "synthetic": ("napari_shiftseg.synthetic.make", ["synth", "disks", "--out", "new.tif"]),
    "labels": ("napari_shiftseg.segmentation.run.Segmentation.save",
               ["segment", "a.tif", "--model", "m.safetensors", "--out", "s.zarr", "--labels-tiff", "new.tif"]),
    "picture": ("napari_shiftseg.picture.draw_segmentation",
                ["segment", "a.tif", "--model", "m.safetensors", "--picture", "new.png"]),
    "table": ("napari_shiftseg.cli.segment._table", ["segment", "a.tif", "--model", "m.safetensors", "--table", "new.csv"]),
}  # fmt: skip


@pytest.mark.parametrize("before", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize(("work", "words"), WORK.values(), ids=WORK)
def test_a_file_that_comes_while_a_command_computes_is_kept(here, monkeypatch, capsys, work, words, before):
    place = here / next(word for word in words if word.startswith("new."))
    if before:
        place.write_text("an earlier one")
        words = [*words, "--overwrite"]
    room, _, name = work.rpartition(".")
    owner = Segmentation if room.endswith("Segmentation") else import_module(room)
    computed = getattr(owner, name)

    def slow(*args, **named):
        found = computed(*args, **named)
        place.unlink(missing_ok=True)
        place.write_text("of somebody else")
        return found

    monkeypatch.setattr(owner, name, slow)
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "somebody else meanwhile" in err
    assert place.read_text() == "of somebody else"


@pytest.mark.parametrize("name", ["r.geojson", "r.csv"])
def test_what_comes_while_the_library_measures_is_kept_too(here, monkeypatch, name):
    def slow(*args, **named):
        (here / name).write_text("of somebody else")
        return measured(*args, **named)

    monkeypatch.setattr("napari_shiftseg.io.export.measured", slow)
    with pytest.raises(ResultError, match="somebody else"):
        export_labels(here / name, read_labels(here / "r.zarr"))
    assert (here / name).read_text() == "of somebody else"


def test_of_two_trainings_with_one_checkpoint_none_writes_over_that_of_the_other(tmp_path):
    drawn, place = synthetic.disks((64, 64), 16, 5), tmp_path / "c.ckpt"
    spec = UNetSpec(levels=1, features=2)
    settings = TrainSettings(spec=spec, window=12, steps=4, batch=1, device="cpu", checkpoint=place, checkpoint_every=2)
    images = [TrainImage.from_arrays(drawn.image, drawn.labels, settings.normalisation)]
    one, other = train_steps(images, settings), train_steps(images, replace(settings, seed=1))
    assert isinstance(next(one), TrainStep) and isinstance(next(other), TrainStep)
    assert isinstance(next(one), TrainStep)  # which writes the first one
    first = place.read_bytes()
    told = next(other)
    assert isinstance(told, Stage) and "somebody else meanwhile" in told.text and "that of an earlier step is kept" in told.text
    assert place.read_bytes() == first
    assert drain(one).record.steps == 4 and place.read_bytes() != first
    last = place.read_bytes()
    assert drain(other).record.steps == 4 and place.read_bytes() == last


# -- what is read changes ---------------------------------------------------------------------------------------------


def write(store, array):
    """One chunk anew, as an edit of its labels or another run would."""
    found = zarr.open_array(str(store / array), mode="r+")
    found[...] = found[...][..., ::-1]


# what is read, where the reading is, the command
READ = {
    "labels": ("labels/instances/0", "napari_shiftseg.io.export.measure", ["measure", "r.zarr", "--out", "new.csv"]),
    "image": ("0", "napari_shiftseg.io.export.measure", ["export", "r.zarr", "new.geojson"]),
    "seams": ("embedding/0", "napari_shiftseg.analysis.seam_report", ["seams", "r.zarr", "--csv", "new.csv"]),
}


@pytest.mark.parametrize(("array", "work", "words"), READ.values(), ids=READ)
def test_what_is_read_while_it_is_written_is_no_result(here, monkeypatch, capsys, array, work, words):
    room, _, name = work.rpartition(".")
    computed = getattr(import_module(room), name)

    def slow(*args, **named):
        found = computed(*args, **named)
        write(here / "r.zarr", array)
        return found

    monkeypatch.setattr(work, slow)
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "was changed while it was read" in err
    assert not list(here.glob("new.*"))


@pytest.mark.parametrize("name", ["r.zarr", "large.zarr"])
def test_a_result_that_is_written_while_it_is_labelled_anew_gives_none(here, name):
    steps = relabel_steps(here / name, out=here / "new.zarr")
    next(steps)
    write(here / name, "embedding/0")
    with pytest.raises(ImageError, match="was changed while it was read"):
        drain(steps)
    assert not list(here.glob("*new.zarr*"))


@pytest.mark.parametrize("out", [None, "new.zarr"])
def test_labels_that_are_written_while_they_are_linked_give_none(here, out):
    steps = link_steps(here / "series.zarr", "t", None if out is None else here / out)
    next(steps)
    write(here / "series.zarr", "labels/instances/0")
    with pytest.raises(ImageError, match="was changed while it was read"):
        drain(steps)
    assert not list(here.glob("*new.zarr*"))


def test_of_what_lies_in_memory_or_has_not_changed_nothing_is_said(here):
    array = np.zeros((4, 4))
    with unchanged("it", array, None, read_labels(here / "r.zarr").data):
        array[0] = 1
        os.utime(here / "r.zarr")
