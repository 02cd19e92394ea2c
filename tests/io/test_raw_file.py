"""Pixels that lie in a file as in memory are read as numpy reads them, and a file that is cut is an error and no signal."""

import os

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED, bars, grey_model

from napari_shiftseg import SegmentSettings, read_image
from napari_shiftseg.errors import ImageError
from napari_shiftseg.events import drain
from napari_shiftseg.io.raw_file import RawFile
from napari_shiftseg.segmentation import segment_steps

SHAPES = [(5,), (4, 6), (3, 4, 5), (2, 3, 4, 5), (2, 3, 1, 5, 2)]
PIXELS = bars((600, 60))


@pytest.fixture
def lazy(monkeypatch):
    """Files are read where they are asked for, however small."""
    for module in ("plain_file", "tiff"):
        monkeypatch.setattr(f"napari_shiftseg.io.{module}.EAGER_BYTES", 0)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_part_is_what_numpy_gives(tmp_path, shape, dtype):
    chance = np.random.default_rng(len(shape))
    values = chance.integers(0, 200, shape).astype(dtype)
    (tmp_path / "x").write_bytes(b"head" + values.tobytes() + b"tail")
    found = RawFile(tmp_path / "x", dtype=dtype, offset=4, shape=shape)
    np.testing.assert_array_equal(found[...], values)
    for _ in range(60):
        key = []
        for size in shape:
            start, stop = sorted(chance.integers(0, size + 1, 2).tolist())
            step = int(chance.choice([1, 1, 2, 3, -1]))
            key.append(
                [slice(start, stop, step) if step > 0 else slice(None, None, -1), slice(None), int(start) % size][
                    chance.integers(3)
                ]
            )
        np.testing.assert_array_equal(found[tuple(key)], values[tuple(key)])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7)], ids=str)
def test_npy_in_either_order(tmp_path, lazy, shape, order):
    values = np.random.default_rng(0).random(shape)
    np.save(tmp_path / "x.npy", np.asarray(values, order=order))
    image = read_image(tmp_path / "x.npy")
    assert not isinstance(image.data, np.ndarray)
    np.testing.assert_array_equal(image.data[...], values)
    np.testing.assert_array_equal(image.data[1:, 2:5], values[1:, 2:5])


def save_npy(path):
    np.save(path, PIXELS)


def save_tiff(path):
    tifffile.imwrite(path, PIXELS, metadata=None)


def save_turned(path):
    np.save(path, np.asfortranarray(PIXELS))


@pytest.mark.parametrize("left", [0, 100, 30_000])
@pytest.mark.parametrize("large", [True, False], ids=["out of core", "in memory"])
@pytest.mark.parametrize(
    ("name", "save"), [("i.npy", save_npy), ("i.tif", save_tiff), ("turned.npy", save_turned)], ids=["npy", "tif", "turned npy"]
)
def test_a_file_that_is_cut_during_a_run_is_an_error(tmp_path, lazy, monkeypatch, name, save, large, left):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    save(tmp_path / name)
    settings = SegmentSettings(device="cpu", out_of_core=large, memory=1 << 30, deterministic=True, write=64)
    steps = segment_steps(tmp_path / name, grey_model(normalisation=UNCHANGED), settings, tmp_path / "r.zarr")
    next(steps)
    os.truncate(tmp_path / name, left)
    with pytest.raises(ImageError, match=r"cut short|changed"):
        drain(steps)
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(64))
    raw = RawFile(path, dtype="u1", offset=0, shape=(8, 8))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ImageError, match="is none any more"):
        raw[2]
