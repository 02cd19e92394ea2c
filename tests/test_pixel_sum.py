"""The sum of all pixels of an image: that of its blocks, whatever they are, and another one if any pixel is another one."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from grey import UNCHANGED, bars, grey_model

from napari_shiftseg import SegmentSettings, cli, open_result, save_model, segment
from napari_shiftseg.io import Image
from napari_shiftseg.network import Known
from napari_shiftseg.segmentation import sum_of

KNOWN = Known(ndim=2, channels=1, median=10.0)
LARGE = {"device": "cpu", "out_of_core": True, "memory": 1 << 30}
IMAGES = {
    "a plane": (bars((600, 60)), "yx", {}),
    "16 bits": ((bars((530, 60)) * 999).astype("u2"), "yx", {}),
    "a series": (np.stack([bars((530, 40)), bars((530, 40), 1)]), "tyx", {}),
    "a stack plane by plane": (np.stack([bars((30, 530))] * 2), "zyx", {}),
    "channels": (np.stack([bars((530, 40)), bars((530, 40), 1)]), "cyx", {"channels": (1,)}),
    "shrunk": (bars((600, 530)), "yx", {"diameter": 40.0}),
    "grown": (bars((300, 530)), "yx", {"diameter": 3.4}),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})


def sum_in(record):
    return record["image"]["sum"]


@pytest.mark.parametrize(("pixels", "axes", "wish"), IMAGES.values(), ids=IMAGES)
def test_blocks_add_up_to_the_image(tmp_path, pixels, axes, wish):
    image, model = Image.from_array(pixels, axes), grey_model(normalisation=UNCHANGED, known=KNOWN)
    large = segment(image, model, SegmentSettings(**LARGE, **wish), tmp_path / "r.zarr").record
    whole = segment(image, model, SegmentSettings(device="cpu", out_of_core=False, **wish)).record
    frames = image.frames(2, wish.get("channels"))
    assert sum_in(large) == sum_in(whole) == sum_of(frames) and len(sum_in(large)) == 16
    assert large["blocks"]["tasks"] > 1


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "f2", "f4", ">f4", "f8", "u8", "i8"])
def test_one_pixel_more_or_less_is_another_sum(dtype):
    pixels = np.random.default_rng(0).integers(0, 2, (2, 7, 9)).astype(dtype)

    def found(values):
        return sum_of(Image.from_array(values, "tyx").frames(2))

    sums = {found(pixels)}
    for place in np.ndindex(pixels.shape):
        other = pixels.copy()
        other[place] = 1 - other[place].astype("f4")
        sums.add(found(other))
    assert len(sums) == 1 + pixels.size
    assert found(pixels[::-1]) not in sums and found(pixels[:, ::-1]) not in sums, "places count"


def test_slabs_do_not_matter(monkeypatch):
    frames = Image.from_array(bars((70, 50))).frames(2)
    whole = sum_of(frames)
    monkeypatch.setattr("napari_shiftseg.segmentation.decision.SLAB", 130)
    monkeypatch.setattr("napari_shiftseg.segmentation.decision.AT_ONCE", 70)
    assert sum_of(frames) == whole


def write(path, pixels):
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    elif path.exists():
        zarr.open_array(str(path), mode="r+")[:] = pixels
    else:
        zarr.create_array(str(path), data=pixels, chunks=(64, 64))


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize("how", [[], ["--out-of-core"]], ids=["in memory", "out of core"])
def test_an_image_of_which_a_pixel_has_changed_is_another_one(tmp_path, monkeypatch, capsys, name, how):
    """A pixel that no patch of `pixel_digest` holds."""
    monkeypatch.chdir(tmp_path)
    pixels = bars((90, 80))
    write(Path(name), pixels)
    save_model("m.safetensors", grey_model(normalisation=UNCHANGED))
    command = ["segment", name, "--model", "m.safetensors", "--device", "cpu", "--out", "r.zarr", *how]
    assert cli.main(command) == 0
    assert cli.main([*command, "--resume"]) == 0 and "there already" in capsys.readouterr().out
    assert cli.main(["segment", "--from", "r.zarr", "--out", "again.zarr"]) == 0
    pixels[70, 33] = 1 - pixels[70, 33]
    write(Path(name), pixels)
    for words, said in (
        ([*command, "--resume"], "the result of another image"),
        (["segment", "--from", "r.zarr", "--out", "new.zarr"], "has other pixels"),
        (["segment", name, "--from", "r.zarr", "--out", "new.zarr"], "has other pixels"),
    ):
        assert cli.main(words) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and said in err
    assert not Path("new.zarr").exists()
    file = Path("r.zarr/zarr.json")  # of an earlier version, whose records have no sum
    told = json.loads(file.read_text())
    assert told["attributes"]["napari-shiftseg"]["record"]["image"].pop("sum")
    file.write_text(json.dumps(told))
    assert "sum" not in open_result("r.zarr").record["image"]
    assert cli.main(["segment", "--from", "r.zarr", "--out", "new.zarr"]) == 0
