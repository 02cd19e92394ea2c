"""A job in words that run it again: the script and the command give the labels of the run."""

import shlex
from dataclasses import fields, replace

import numpy as np
import pytest
import tifffile
from grey import bars, grey_model

from napari_shiftseg import SegmentSettings, cli, decide, load_model, open_result, read_image, save_model
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image
from napari_shiftseg.segmentation import Job, look, run_steps

ON_CPU = SegmentSettings(device="cpu")

# Of each setting, values that differ from its default.
VALUES = {
    "write": [48, (48, 96)],
    "method": ["tiles", "stream"],
    "device": ["cpu", "cuda:1"],
    "dtype": ["bfloat16"],
    "memory": [1_500_000_000, 3 << 30],
    "bandwidth": [0.5, 1e-05],
    "min_size": [0, 17],
    "deterministic": [True],
    "allow_noncompliant": [True],
    "threshold": [0.25, 1.0],
    "channels": [(0,)],
    "limits": [(-5, 4000), (-0.5, 1.5), ((0, 2**53 + 1),), (1e-300, 1e300), (np.float32(0.5), np.int64(7))],
    "percentiles": [(0.0, 100.0), (1.5, 99.8)],
    "limits_per": ["frame"],
    "invert": [True],
    "no_data": [0, -1, -1.5, 2**60],
    "diameter": [40.0, 0.5, "auto", "pixel-size"],
    "augment": [True],
    "keep_embedding": [True, False],
    "out_of_core": [True, False],
    "workers": [2],
    "cluster": ["tcp://10.0.0.1:8786"],
}


@pytest.fixture(scope="module")
def job():
    return decide(bars((40, 48)), grey_model(2, deep=0.5), ON_CPU)


def settings_in(code):
    """Those of a script, which does not run."""
    start = code.find("SegmentSettings(", code.index("model = "))
    return eval(code[start : code.index("result = ")]) if start > 0 else SegmentSettings()


def settings_of(command):
    name, verb, *words = shlex.split(command, comments=True)
    assert (name, verb) == ("shiftseg", "segment")
    args = cli.build_parser("segment").parse_args(cli._with_signs(words))
    return replace(cli.segment._settings(args))


def test_every_setting_has_its_place_in_both(job):
    """What differs from the defaults is said, and nothing else, and comes back as it was, type and all."""
    assert set(VALUES) == {field.name for field in fields(SegmentSettings)}
    for wish in (SegmentSettings(), *(SegmentSettings(**{name: value}) for name in VALUES for value in VALUES[name])):
        said = replace(job, settings=wish, channels=wish.channels)
        for found in (settings_in(said.to_code()), settings_of(said.to_command())):
            assert found == wish or (wish.limits == ((0, 2**53 + 1),) and found.limits == (0, 2**53 + 1))
        changed = [name for name in VALUES if getattr(wish, name) != getattr(SegmentSettings(), name)]
        assert all(f"{name}=" not in said.to_code() for name in VALUES if name not in changed)
    assert "np." not in said.to_code() and "SegmentSettings" not in replace(job, settings=SegmentSettings()).to_code()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model and images in a folder whose name wants quotes, and another folder to work in."""
    folder = tmp_path / "my images' folder"
    folder.mkdir()
    for name, work in (("grey", {}), ("three", {"in_channels": 2})):
        save_model(folder / f"{name}.safetensors", grey_model(2, deep=0.5, **work))
    one = np.stack([bars((70, 60), seed) for seed in range(4)])
    tifffile.imwrite(folder / "plane.tif", one[0])
    tifffile.imwrite(folder / "untold.tif", one, photometric="minisblack")  # a series, or a stack, or channels
    tifffile.imwrite(folder / "both.ome.tif", one.reshape(2, 2, 70, 60), photometric="minisblack", metadata={"axes": "TCYX"})
    tifffile.imwrite(folder / "fiji.tif", (one * 200).astype(np.uint16), imagej=True, metadata={"axes": "TYX"})
    np.save(folder / "plane.npy", (one[1] * 200).astype(np.uint8))
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(there)
    return folder


# name of the image -> axes by hand, model, settings, name of a store
RUNS = {
    "tile size": ("plane.tif", None, "grey", {"write": 16}, None),
    "clustering": ("plane.npy", None, "grey", {"bandwidth": 0.9, "min_size": 30, "threshold": 0.7, "method": "tiles"}, None),
    "percentiles": ("fiji.tif", None, "grey", {"percentiles": (2.0, 90.0), "limits_per": "frame"}, None),
    "limits": ("plane.tif", None, "grey", {"limits": (-0.1, 1.2), "invert": True, "no_data": 0.0}, None),
    "axes by hand": ("untold.tif", "tyx", "grey", {}, None),
    "channels by hand": ("untold.tif", "cyx", "grey", {"channels": (2,)}, None),
    "series with channels": ("both.ome.tif", None, "grey", {"channels": (1,)}, None),
    "two channels": ("both.ome.tif", "ctyx", "three", {"channels": (1, 0)}, None),
    "store": ("plane.tif", None, "grey", {"keep_embedding": False}, "result.ome.zarr"),
    "out of core": ("untold.tif", "tyx", "grey", {"out_of_core": True, "memory": 2_000_000_000}, "a b.ome.zarr"),
}


@pytest.mark.parametrize(("name", "axes", "model", "wish", "out"), RUNS.values(), ids=RUNS)
def test_both_give_the_labels_of_the_run(files, capsys, name, axes, model, wish, out):
    image = read_image(files / name, axes=axes)
    settings = replace(ON_CPU, **wish)
    where = None if out is None else files / out
    decided = decide(image, files / f"{model}.safetensors", settings, where)
    result = drain(run_steps(look(decided)))
    expected, again = np.asarray(result.labels), Job.from_dict(result.record["job"])
    assert len(np.unique(expected)) > 3
    kept = replace(decided, out=None if out is None else str(files.parent / out))
    for said in (kept, replace(again, out=kept.out)):
        assert (said.to_code(), said.to_command()) == (kept.to_code(), kept.to_command()), "a record says the same"
    found = {}
    exec(compile(kept.to_code(), "script", "exec"), found)
    np.testing.assert_array_equal(np.asarray(found["labels"]), expected)
    command = replace(kept, out=None if out is None else out).to_command()
    assert cli.main([*shlex.split(command)[1:], "--quiet"]) == 0, capsys.readouterr().err
    written = open_result(out).labels if out else tifffile.imread(f"{name.partition('.')[0]}_labels.tif")
    np.testing.assert_array_equal(np.asarray(written), expected)


def layer_like(path, data, axes):
    """An image as a viewer holds it: pixels in memory, and the name of their file."""
    return replace(Image.from_array(data, axes, name="cells"), source=str(path))


def test_a_viewer_that_split_the_channels_or_left_axes_out(files):
    """The channel is found by its pixels; also where its file has the name of another axis for it."""
    pixels = tifffile.imread(files / "both.ome.tif")
    for channel in (0, 1):
        said = decide(layer_like(files / "both.ome.tif", pixels[:, channel], "tyx"), files / "grey.safetensors", ON_CPU)
        assert f"channels=({channel},)" in said.to_code() and f"--channels {channel} " in said.to_command()
        assert "#" not in said.to_command()
    plane, found = tifffile.imread(files / "plane.tif"), {}
    exec(
        decide(layer_like(files / "plane.tif", plane[None, None], "tcyx"), files / "grey.safetensors", ON_CPU).to_code(), found
    )
    assert found["labels"].shape == (1, *plane.shape) and found["labels"].max() > 3


def test_what_no_file_holds_is_said_and_not_made_up(files):
    """In memory, changed since, a part of a file, a channel like another one, a file that is gone, a model without a file."""
    pixels, model = tifffile.imread(files / "both.ome.tif"), grey_model(2, deep=0.5)
    painted = tifffile.imread(files / "plane.tif")
    painted[3, 5] += 1
    twice = np.stack([painted, painted])
    tifffile.imwrite(files / "twice.ome.tif", twice, photometric="minisblack", metadata={"axes": "CYX"})
    images = {
        "in memory alone": Image.from_array(painted, name='my "cells"'),
        "not what plane.tif holds": layer_like(files / "plane.tif", painted, "yx"),
        "not what plane.npy holds": layer_like(files / "plane.npy", painted.astype(np.float64), "yx"),
        "not what both.ome.tif holds": layer_like(files / "both.ome.tif", pixels[1, :1], "tyx"),
        "not what twice.ome.tif holds": layer_like(files / "twice.ome.tif", painted, "yx"),
        "lies in memory": layer_like(files / "gone.tif", painted, "yx"),
        "not what grey.safetensors holds": layer_like(files / "grey.safetensors", painted, "yx"),
    }
    for words, image in images.items():
        said = decide(image, model, replace(ON_CPU, write=16))
        code, command = said.to_code(), said.to_command()
        assert words in code and "array = ..." in code and "never saved" in code and str(files) not in code
        assert words in command and "IMAGE.tif" in command and "MODEL.safetensors" in command
        assert [line[:1] for line in command.splitlines()] == ["#", "#", "s"], "a shell takes the words for comments"
        saved = code.replace("MODEL.safetensors", str(files / "grey.safetensors"))
        found = {}
        exec(saved.replace("array = ...", "array = array"), found | {"array": image.data}, found)
        np.testing.assert_array_equal(found["labels"], drain(run_steps(look(said))).labels)


def test_a_bundled_model_goes_by_its_name(files):
    said = decide(read_image(files / "plane.tif"), load_model("nuclei"))
    assert 'load_model("nuclei")' in said.to_code() and "--model" not in said.to_command()
