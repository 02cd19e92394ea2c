"""Copied from any result: the script and the line for a shell are run by others, and give its labels in bits."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from grey import bars, grey_model

from napari_shiftseg import SegmentSettings, cli, open_result, read_image, relabel, save_model, segment
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.network import Known
from napari_shiftseg.segmentation import as_code, as_command

ON_CPU = SegmentSettings(device="cpu")

# Settings that change no label: they say how, and not what.
SILENT = {"write", "method", "deterministic", "out_of_core", "memory", "keep_embedding"}

# image, settings, what is labelled anew, whether it is a store of its own
CASES = {
    "tiles": ("plane.tif", {"write": (16, 32), "method": "tiles", "deterministic": True}, {}, False),
    "stream": ("plane.tif", {"method": "stream"}, {}, False),
    "channels": ("both.ome.tif", {"channels": (1,)}, {}, False),
    "limits": ("plane.tif", {"limits": (-0.2, 1.7), "invert": True}, {}, True),
    "diameter": ("plane.tif", {"diameter": 20.0}, {}, False),
    "clustering": ("plane.tif", {"bandwidth": 0.1, "threshold": 0.9999, "min_size": 30}, {}, False),
    "in a group": ("my store.zarr/it's $HOME/0", {"limits": (20, 120)}, {}, True),
    "series": ("series.tif", {"percentiles": (1.0, 95.0), "limits_per": "frame"}, {}, False),
    "limits of channels of a series": ("both.ome.tif", {"channels": (0,), "limits": ((0.1, 1.4),)}, {}, False),
    "second scene": ("scenes.ome.tif", {"write": 32}, {}, False),
    "out of core": ("series.tif", {"out_of_core": True, "memory": 2_000_000_000, "min_size": 30}, {}, True),
    "tuned": ("plane.tif", {"min_size": 60}, {"bandwidth": 0.1, "threshold": 0.9999, "min_size": 4}, False),
    "tuned as no run is": ("plane.tif", {"bandwidth": 0.2}, {"dip": 0.2}, False),
    "tuned without an embedding": ("plane.tif", {"keep_embedding": False}, {"min_size": 70}, True),
    "tuned out of core": ("plane.tif", {"out_of_core": True, "keep_embedding": True}, {"dip": 0.2, "min_size": 70}, True),
}

# What a shell makes of a line: each command as JSON, and not run.
_SHELL = r"""shiftseg() { "$PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"; }
"""
# A child that knows nothing of this process: runs what it is told, folder by folder, and saves the labels of the scripts.
_CHILD = """
import json, os, sys
import numpy as np
from napari_shiftseg import cli
for folder, code, commands in json.load(sys.stdin):
    os.makedirs(f"{folder}/code")
    os.chdir(f"{folder}/code")
    found = {}
    exec(code, found)
    np.save("../code.npy", np.asarray(found["labels"]))
    os.chdir(folder)
    for words in commands:
        assert cli.main([*words, "--quiet"]) == 0, words
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model and images in a folder whose name wants quotes."""
    folder = tmp_path_factory.mktemp("made") / "my \"images' `folder $1"
    folder.mkdir()
    known = Known(ndim=2, channels=1, median=10.0)
    save_model(folder / "grey.safetensors", grey_model(2, deep=0.5, known=known))
    shade = np.linspace(0.3, 1, 60, dtype=np.float32)  # so that each threshold cuts somewhere
    one = np.stack([bars((70, 60), seed) * shade for seed in range(4)])
    tifffile.imwrite(folder / "plane.tif", one[0])
    tifffile.imwrite(folder / "both.ome.tif", one.reshape(2, 2, 70, 60), photometric="minisblack", metadata={"axes": "TCYX"})
    fading = (one * np.array([1, 0.8, 0.5, 0.3])[:, None, None] * 200).astype(np.uint16)
    tifffile.imwrite(folder / "series.tif", fading, imagej=True, metadata={"axes": "TYX"})
    with tifffile.TiffWriter(folder / "scenes.ome.tif") as scenes:
        scenes.write(one[1], photometric="minisblack", metadata={"axes": "YX"})
        scenes.write(one[2], photometric="minisblack", metadata={"axes": "YX"})
    multiscales = {
        "version": "0.4",
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}],
    }
    group = zarr.open_group(folder / "my store.zarr", mode="w", zarr_format=2).create_group("it's $HOME").create_group("0")
    group.attrs["multiscales"] = [multiscales]
    group.create_array("0", data=(one[3] * 200).astype(np.uint8), chunks=(32, 32))
    return folder


def made(files, folder, name, wish, anew, stored):
    """Labels, record and place of a result."""
    image = read_image(files / name, scene=1 if name.startswith("scenes") else None)
    store = folder / "result.ome.zarr" if stored else None
    result = segment(image, files / "grey.safetensors", replace(ON_CPU, **wish), store)
    for lost in {*wish} - SILENT - {"channels"}:  # what would not show in the labels could be lost here and nobody would see it
        rest = {name: value for name, value in wish.items() if name != lost and name != "out_of_core"}
        less = segment(image, files / "grey.safetensors", replace(ON_CPU, **rest))
        assert not np.array_equal(np.asarray(less.labels), np.asarray(result.labels)), lost
    if anew:
        place = folder / "tuned.ome.zarr" if stored else None
        before, result = np.asarray(result.labels), relabel(result if store is None else store, out=place, **anew)
        assert not np.array_equal(before, np.asarray(result.labels))
        store = place
    record = result.record if store is None else open_result(store).record
    return np.asarray(result.labels), record, store


def test_scripts_and_commands_that_were_copied_give_the_labels_of_their_results(files, tmp_path):
    expected, runs = {}, []
    for number, (title, (name, wish, anew, stored)) in enumerate(CASES.items()):
        folder = tmp_path / f"{number} {title}"
        folder.mkdir()
        expected[folder], record, store = made(files, folder, name, wish, anew, stored)
        assert len(np.unique(expected[folder])) > 2, title
        code, command = as_code(record, store), as_command(json.loads(json.dumps(record)), store)
        assert "#" not in command and "# " not in code.splitlines()[0], title
        read = subprocess.run(
            ["sh", "-c", _SHELL + command], env={"PYTHON": sys.executable}, capture_output=True, text=True, check=True
        )
        words = [json.loads(line) for line in read.stdout.splitlines()]
        assert len(words) == 1 + (" && shiftseg relabel " in command)
        runs.append((str(folder), code, words))
    child = subprocess.run([sys.executable, "-c", _CHILD], input=json.dumps(runs), text=True, capture_output=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    for folder, labels in expected.items():
        np.testing.assert_array_equal(np.load(folder / "code.npy"), labels, err_msg=folder.name)
        tiffs = list(folder.glob("*_labels.tif"))
        stores = sorted(folder.glob("*_again*.ome.zarr"))  # a store that was relabelled comes behind that of its run
        found = tifffile.imread(tiffs[0]) if tiffs else open_result(stores[-1]).labels[...]
        np.testing.assert_array_equal(found, labels, err_msg=folder.name)


def test_what_a_result_does_not_repeat_is_said_above_it(files, tmp_path):
    """Edits, an image that has changed or is gone, a model that is another one or gone; a store that holds the image helps."""
    image, model = tmp_path / "a.tif", tmp_path / "m.safetensors"
    shutil.copy(files / "plane.tif", image)
    shutil.copy(files / "grey.safetensors", model)
    record = segment(image, model, ON_CPU, tmp_path / "r.ome.zarr").record
    assert "#" not in as_command(record)
    assert "edited by hand (2 edits)" in as_command(record | {"edits": [{}, {}]})
    pixels = tifffile.imread(image)
    tifffile.imwrite(image, pixels + 1)
    assert "# The image" in as_command(record) and "IMAGE.tif" in as_command(record) and "array = ..." in as_code(record)
    beside = as_command(record, tmp_path / "r.ome.zarr")
    assert "#" not in beside and str(tmp_path / "r.ome.zarr") in beside
    image.unlink()
    assert "#" not in as_command(record, tmp_path / "r.ome.zarr") and "IMAGE.tif" in as_command(record)
    model.unlink()
    assert "is not there any more" in as_code(record)
    shutil.copy(save_model(tmp_path / "other.safetensors", grey_model(2, deep=0.1)), model)
    assert "is another one now" in as_command(record)
    for wrong in ({}, [], {"images": []}):
        with pytest.raises(ShiftsegError, match="segment the image again"):
            as_code(wrong)


def test_info_shows_a_result_and_prints_what_makes_it_again(files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = Path("my result.ome.zarr")
    record = segment(files / "plane.tif", files / "grey.safetensors", replace(ON_CPU, write=32), place).record

    def info(*words):
        code = cli.main(["info", *map(str, words)])
        return code, *capsys.readouterr()

    assert info(place, "--code") == (0, as_code(record, place), "")
    assert info(place, "--command") == (0, as_command(record, place) + "\n", "")
    assert json.loads(info(place, "--command", "--json")[1]) == {"result": {"command": as_command(record, place)}}
    code, out, _ = info(place)
    assert code == 0 and "plane.tif" in out and f"{sum(record['instances'])}" in out and as_command(record, place) in out
    Path("run.json").write_text(json.dumps(record))
    assert info("run.json", "--command")[1] == as_command(record) + "\n"
    for wrong in (["--code"], ["nowhere.zarr", "--code"], [files / "plane.tif", "--command"]):
        code, out, err = info(*wrong)
        assert (code, out) == (2, "") and err.count("\n") == 1
