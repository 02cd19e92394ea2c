"""Results out and in: complete or not there, and valid OME-Zarr."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import Image as OmeImage
from ome_zarr_models.v05 import ImageLabel, Labels

from napari_shiftseg.errors import CancelledError, ResultError
from napari_shiftseg.io import pyramid
from napari_shiftseg.io.image import Image, read_image
from napari_shiftseg.io.labels_tiff import save_labels_tiff
from napari_shiftseg.io.result import ResultWriter, save_result
from napari_shiftseg.io.stored_result import open_result

RECORD = {
    "model": {"hash": "1f", "period": (8, 8)},
    "write": np.int64(64),
    "path": Path("a/b.tif"),
    "loss": np.float32(0.5),
}
STORED_RECORD = {"model": {"hash": "1f", "period": [8, 8]}, "write": 64, "path": "a/b.tif", "loss": 0.5}


def blobs(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 70000, shape).astype(np.int64)


CASES = {
    "2d": ("yx", (300, 530), "yx", (300, 530), (2, 300, 530)),
    "2d_colour": ("yx", (40, 50), "yxc", (40, 50, 3), (2, 40, 50)),
    "3d": ("zyx", (20, 140, 130), "zyx", (20, 140, 130), (3, 20, 140, 130)),
    "3d_channels": ("zyx", (5, 30, 31), "zcyx", (5, 2, 30, 31), (3, 5, 30, 31)),
    "time": ("tyx", (3, 40, 50), "tcyx", (3, 2, 40, 50), (3, 2, 40, 50)),
    "time_3d": ("tzyx", (2, 4, 40, 50), "cztyx", (2, 4, 2, 40, 50), (2, 2, 4, 40, 50)),
}


@pytest.fixture(params=CASES, scope="module")
def written(request, tmp_path_factory):
    """A saved result of every kind, with what was put in."""
    axes, shape, image_axes, image_shape, embedding_shape = CASES[request.param]
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 4000, image_shape).astype(np.uint16)
    image = Image.from_array(pixels, axes=image_axes, scale=[2.0 if a == "z" else 0.5 for a in image_axes], name="cells")
    given = {
        "labels": blobs(shape),
        "embedding": rng.normal(size=embedding_shape).astype(np.float32),
        "foreground": rng.random(shape, dtype=np.float32),
    }
    path = save_result(
        tmp_path_factory.mktemp("results") / "result.zarr",
        axes=axes,
        scale=[2.0 if a == "z" else 0.5 for a in axes],
        units=[{"t": "s"}.get(a, "um") for a in axes],
        record=RECORD,
        image=image,
        name="cells",
        **given,
    )
    return path, image, axes, given


def test_a_saved_result_is_opened_as_it_was(written):
    path, image, axes, given = written
    result = open_result(path)
    for part, data in given.items():
        np.testing.assert_array_equal(getattr(result, part)[...], data)
    assert (result.labels.dtype, result.embedding.dtype) == (np.dtype("uint32"), np.dtype("float32"))
    assert (result.axes, result.record, result.path) == (axes, STORED_RECORD, path)
    assert result.scale == tuple(2.0 if axis == "z" else 0.5 for axis in axes)
    assert result.units == tuple("second" if axis == "t" else "micrometer" for axis in axes)
    stored = image.reordered()
    assert result.image_axes == stored.axes
    assert result.image.dtype == np.uint16
    np.testing.assert_array_equal(result.image[...], stored.data[...])


def test_the_store_is_valid_ome_zarr(written):
    path, *_ = written
    root = OmeImage.from_zarr(zarr.open_group(path, mode="r"))
    assert root.labels is not None
    assert root.labels.label_paths == ["instances"]
    Labels.from_zarr(zarr.open_group(path / "labels", mode="r"))
    label = ImageLabel.from_zarr(zarr.open_group(path / "labels" / "instances", mode="r"))
    assert label.ome_attributes.image_label.source.image == "../../"
    for part in ("embedding", "foreground"):
        OmeImage.from_zarr(zarr.open_group(path / part, mode="r"))


def test_the_image_of_a_result_is_read_like_any_other(written):
    path, image, _, _ = written
    again = read_image(path)
    assert (again.name, again.axes) == ("cells", image.reordered().axes)
    np.testing.assert_array_equal(again.frames(2)[-1].view[...], image.frames(2)[-1].view[...])


def test_pyramid_of_labels_is_nearest_and_that_of_the_image_is_the_mean(tmp_path):
    labels, pixels = blobs((515, 260)), np.random.default_rng(2).integers(0, 255, (515, 260)).astype(np.uint8)
    path = save_result(
        tmp_path / "r.zarr", labels=labels, axes="yx", scale=(0.5, 0.25), record={}, image=Image.from_array(pixels)
    )
    result = open_result(path)
    levels = result.levels("labels")
    assert [level.shape for level in levels] == [(515, 260), (258, 130), (129, 65)]
    np.testing.assert_array_equal(levels[2][...], labels[::4, ::4])
    means = result.levels("image")
    assert [level.shape for level in means] == [level.shape for level in levels]
    np.testing.assert_array_equal(means[1][:257], np.rint(pixels[:514].reshape(257, 2, 130, 2).mean(axis=(1, 3))))
    assert result.levels("embedding") == ()


@pytest.mark.parametrize("part", ["embedding", "foreground"])
def test_no_level_mixes_the_codes_of_two_objects(tmp_path, part):
    """Stripes of one pixel: the mean of two by two is a value that no pixel has."""
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (600, 300))
    labels = stripes.astype(np.uint32)
    values = stripes[None] if part == "embedding" else stripes
    result = open_result(save_result(tmp_path / "r.zarr", labels=labels, axes="yx", record={}, **{part: values}))
    levels = result.levels(part)
    assert len(levels) > 2
    assert all(set(np.unique(level[...])) <= {0.0, 1.0} for level in levels)


def test_a_translation_holds_for_all_parts_and_levels(tmp_path):
    image = Image.from_array(np.zeros((600, 500), np.uint8), scale=(0.5, 0.25))
    image = replace(image, translation=(7.0, -9.0))
    path = save_result(
        tmp_path / "r.zarr",
        labels=np.zeros((600, 500), np.uint16),
        axes="yx",
        scale=(0.5, 0.25),
        translation=(7, -9),
        record={},
        image=image,
    )
    assert open_result(path).translation == (7, -9)
    assert read_image(path).translation == (7, -9)
    for folder, mean in (("", 1), ("labels/instances", 0)):
        levels = zarr.open_group(path / folder, mode="r").attrs["ome"]["multiscales"][0]["datasets"]
        for number, level in enumerate(levels):
            shift = mean * (2**number - 1) / 2
            assert level["coordinateTransformations"][1]["translation"] == [7 + 0.5 * shift, -9 + 0.25 * shift]
    with pytest.raises(ResultError, match="translation"):
        save_result(tmp_path / "s.zarr", labels=np.zeros((6, 5), np.uint8), axes="yx", translation=(1,), record={})


def test_levels_carry_scale_and_the_shift_of_the_mean(tmp_path):
    path = save_result(
        tmp_path / "r.zarr", labels=blobs((300, 20)), axes="yx", scale=(0.5, 0.25), record={},
        image=Image.from_array(np.ones((300, 20)), scale=(0.5, 0.25)),
    )  # fmt: skip
    image, labels = (
        zarr.open_group(path / part).attrs["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"]
        for part in ("", "labels/instances")
    )
    assert labels == [{"type": "scale", "scale": [1.0, 0.5]}]
    assert image == [*labels, {"type": "translation", "translation": [0.25, 0.125]}]


def test_a_result_without_image_is_valid_and_shows_its_labels(tmp_path):
    labels = blobs((300, 40))
    path = save_result(tmp_path / "r.zarr", labels=labels, axes="yx", record={})
    root = OmeImage.from_zarr(zarr.open_group(path, mode="r"))
    assert [dataset.path for dataset in root.datasets[0]] == ["labels/instances/0", "labels/instances/1"]
    result = open_result(path)
    assert (result.image, result.image_axes, result.embedding, result.foreground) == (None, "", None, None)
    assert result.levels("image") == ()
    np.testing.assert_array_equal(result.labels[...], labels)


def test_writer_fills_arrays_in_any_order(tmp_path):
    labels = blobs((6, 20, 30))
    with ResultWriter(tmp_path / "r.zarr", shape=labels.shape, axes="tyx") as writer:
        embedding, target = writer.create("embedding", channels=4), writer.create("labels")
        for t in reversed(range(6)):
            target[t] = labels[t]
            embedding[t, 1] = t
        assert not (tmp_path / "r.zarr").exists()
        writer.finish({"frames": 6})
    result = open_result(tmp_path / "r.zarr")
    assert (result.embedding.shape, result.embedding[5, 1, 0, 0]) == ((6, 4, 20, 30), 5)
    np.testing.assert_array_equal(result.labels[...], labels)


# --- nothing half-written


class Failing:
    """Array whose second half cannot be read."""

    def __init__(self, shape, dtype, error):
        self.shape, self.dtype, self.ndim, self.error = shape, np.dtype(dtype), len(shape), error

    def __getitem__(self, key):
        if key[-2].start:
            raise self.error
        return np.ones([s.stop - s.start for s in key], self.dtype)


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), CancelledError("stop"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("part", ["labels", "embedding", "foreground"])
def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path, part, error, overwrite):
    arrays = {"labels": np.ones((1024, 8), np.uint8)}
    if overwrite:
        save_result(tmp_path / "r.zarr", axes="yx", record={"run": 1}, **arrays)
    shape = (2, 1024, 8) if part == "embedding" else (1024, 8)
    arrays[part] = Failing(shape, "uint8", error)
    with pytest.raises(ResultError if isinstance(error, OSError) else type(error)):
        save_result(tmp_path / "r.zarr", axes="yx", record={"run": 2}, overwrite=overwrite, **arrays)
    assert [path.name for path in tmp_path.iterdir()] == (["r.zarr"] if overwrite else [])
    if overwrite:
        assert open_result(tmp_path / "r.zarr").record == {"run": 1}


def test_leaving_the_writer_without_finish_leaves_nothing(tmp_path):
    with ResultWriter(tmp_path / "r.zarr", shape=(8, 8), axes="yx") as writer:
        writer.create("labels")[...] = 1
    assert list(tmp_path.iterdir()) == []


def test_a_failed_move_puts_the_old_store_back(tmp_path, monkeypatch):
    settings = {"labels": np.ones((8, 8), int), "axes": "yx"}
    save_result(tmp_path / "r.zarr", record={"run": 1}, **settings)
    rename = Path.rename

    def refuse_new(self, target):
        if self.name == "store":
            raise PermissionError(13, "in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(ResultError, match="cannot be written"):
        save_result(tmp_path / "r.zarr", record={"run": 2}, overwrite=True, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]
    assert open_result(tmp_path / "r.zarr").record == {"run": 1}


# --- what may be overwritten


def test_an_existing_result_is_only_replaced_on_request(tmp_path):
    settings = {"labels": np.ones((8, 8), int), "axes": "yx"}
    save_result(tmp_path / "r.zarr", record={"run": 1}, embedding=np.ones((2, 8, 8)), **settings)
    with pytest.raises(ResultError, match=r"there already; choose another name, or overwrite it"):
        save_result(tmp_path / "r.zarr", record={"run": 2}, **settings)
    save_result(tmp_path / "r.zarr", record={"run": 2}, overwrite=True, **settings)
    result = open_result(tmp_path / "r.zarr")
    assert (result.record, result.embedding) == ({"run": 2}, None)
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]


def alien_zarr(path):
    zarr.create_group(path, attributes={"ome": {"version": "0.5"}})


@pytest.mark.parametrize(
    "make",
    [alien_zarr, Path.mkdir, Path.touch, lambda path: path.symlink_to(path.parent)],
    ids=["alien_zarr", "folder", "file", "link"],
)
def test_what_is_not_our_store_is_never_replaced_and_never_opened(tmp_path, make):
    path = tmp_path / "r.zarr"
    make(path)
    with pytest.raises(ResultError, match="is not a result of napari-shiftseg"):
        save_result(path, labels=np.ones((8, 8), int), axes="yx", record={}, overwrite=True)
    assert path.exists()
    with pytest.raises(ResultError, match="is not a result of napari-shiftseg"):
        open_result(path)


def test_a_result_can_replace_the_store_that_its_image_comes_from(tmp_path):
    labels, pixels = np.ones((8, 8), int), np.arange(64.0).reshape(8, 8)
    save_result(tmp_path / "r.zarr", labels=labels, axes="yx", record={}, image=Image.from_array(pixels))
    image = read_image(tmp_path / "r.zarr")
    save_result(tmp_path / "r.zarr", labels=labels, axes="yx", record={}, image=image, overwrite=True)
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").image[...], pixels)


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.ones((8, 8))}, "labels are integers"),
        ({"labels": np.full((8, 8), -1)}, "labels run from -1"),
        ({"labels": np.full((8, 8), 2**32)}, "relabel"),
        ({"labels": np.ones((0, 8), int)}, "empty"),
        ({"axes": "xy"}, "labels have axes tzyx"),
        ({"axes": "zyx"}, "have 2"),
        ({"scale": (1.0,)}, "one positive number per axis"),
        ({"units": ("um",)}, "one per axis"),
        ({"embedding": np.ones((2, 8, 9))}, "the embedding has shape"),
        ({"embedding": np.ones((8, 8))}, "the embedding has shape"),
        ({"foreground": np.ones((1, 8, 8))}, "the foreground has shape"),
        ({"image": Image.from_array(np.ones((8, 9)))}, "do not belong to the image"),
        ({"image": Image.from_array(np.ones((3, 8, 8)), axes="tyx")}, "do not belong to the image"),
        ({"record": {"model": object()}}, "cannot be written as JSON"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, changes, message):
    settings = {"labels": np.ones((8, 8), int), "axes": "yx", "record": {}} | changes
    with pytest.raises(ResultError, match=message):
        save_result(tmp_path / "r.zarr", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ResultError, match=r"there is no folder .*missing for r\.zarr"):
        save_result(tmp_path / "missing" / "r.zarr", labels=np.ones((8, 8), int), axes="yx", record={})


def test_an_incomplete_or_newer_store_is_not_opened(tmp_path):
    path = save_result(tmp_path / "r.zarr", labels=np.ones((8, 8), int), axes="yx", record={})
    (path / "labels" / "instances" / "0" / "zarr.json").unlink()
    with pytest.raises(ResultError, match="is not complete"):
        open_result(path)
    group = zarr.open_group(path, mode="r+")
    group.attrs["napari-shiftseg"] = {"store": 99}
    with pytest.raises(ResultError, match="store version 99"):
        open_result(path)


def test_infinite_numbers_in_the_record_become_words(tmp_path):
    path = save_result(
        tmp_path / "r.zarr", labels=np.ones((8, 8), int), axes="yx", record={"a": float("nan"), "b": np.array([np.inf])}
    )
    assert open_result(path).record == {"a": "nan", "b": ["inf"]}


def test_windows_cover_an_array_once_and_are_its_chunks():
    array = zarr.create_array({}, shape=(3, 7, 9), chunks=(1, 4, 9), dtype="uint8")
    count = np.zeros(array.shape, int)
    for window in pyramid.windows(array):
        count[window] += 1
    assert (count == 1).all()


# --- TIFF


@pytest.mark.parametrize(
    ("largest", "name", "dtype", "kind"),
    [
        (65535, "l.tif", "uint16", "is_imagej"),
        (65536, "l.tif", "uint32", "is_ome"),
        (3, "l.ome.tif", "uint16", "is_ome"),
    ],
    ids=["16_bit", "32_bit", "ome"],
)
@pytest.mark.parametrize(
    ("axes", "shape"), [("yx", (9, 7)), ("zyx", (3, 9, 7)), ("tzyx", (2, 3, 9, 7))], ids=["2d", "3d", "4d"]
)
def test_labels_tiff_keeps_values_and_calibration(tmp_path, axes, shape, largest, name, dtype, kind):
    labels = np.random.default_rng(0).integers(0, largest + 1, shape)
    labels.flat[-1] = largest
    step, unit = {"t": 60.0, "z": 2.0, "y": 0.5, "x": 0.25}, {"t": "second"}
    scale, units = [step[a] for a in axes], [unit.get(a, "micrometer") for a in axes]
    path = save_labels_tiff(tmp_path / name, labels, axes, scale, units)
    with tifffile.TiffFile(path) as file:
        assert getattr(file, kind)
    image = read_image(path)
    assert (image.axes, image.data.dtype) == (axes, np.dtype(dtype))
    assert image.scale == pytest.approx(scale)
    assert image.units == tuple(units)
    np.testing.assert_array_equal(image.data, labels)


def test_labels_tiff_without_calibration_has_none(tmp_path):
    for name in ("l.tif", "l.ome.tif"):
        image = read_image(save_labels_tiff(tmp_path / name, np.ones((4, 5), np.uint8), "yx"))
        assert (image.scale, image.units) == ((1.0, 1.0), (None, None))


def test_labels_tiff_takes_the_labels_of_a_store(tmp_path):
    labels = blobs((3, 20, 30))
    result = open_result(save_result(tmp_path / "r.zarr", labels=labels, axes="zyx", record={}))
    path = save_labels_tiff(tmp_path / "l.tif", result.labels, result.axes, scale=result.scale, units=result.units)
    np.testing.assert_array_equal(read_image(path).data, labels)


def test_failed_labels_tiff_leaves_the_old_file(tmp_path):
    save_labels_tiff(tmp_path / "l.tif", np.ones((4, 5), int), "yx")

    class Gone(Failing):
        reads = 0

        def __getitem__(self, key):
            self.reads += 1
            if self.reads > 1:  # the first pass looks for the largest label
                raise OSError(5, "Input/output error")
            return np.ones(self.shape, self.dtype)

    with pytest.raises(ResultError, match="cannot be written"):
        save_labels_tiff(tmp_path / "l.tif", Gone((4, 5), "int64", None), "yx")
    assert [path.name for path in tmp_path.iterdir()] == ["l.tif"]
    np.testing.assert_array_equal(read_image(tmp_path / "l.tif").data, np.ones((4, 5)))


@pytest.mark.parametrize(
    ("labels", "axes", "message"),
    [
        (np.ones((4, 5)), "yx", "integers"),
        (np.ones((4, 5), int), "cx", "tzyx"),
        (-np.ones((4, 5), int), "yx", "relabel"),
    ],
    ids=["float", "axes", "negative"],
)
def test_labels_tiff_refuses_what_is_no_label_image(tmp_path, labels, axes, message):
    with pytest.raises(ResultError, match=message):
        save_labels_tiff(tmp_path / "l.tif", labels, axes)
    assert list(tmp_path.iterdir()) == []


def test_every_unit_of_ngff_goes_to_ome_tiff_and_back_and_others_are_told(tmp_path):
    """> a unit outside OME's schema is lost in silence"""
    labels = np.ones((2, 16, 16), np.uint16)
    steps = ["yotta", "zetta", "exa", "peta", "tera", "giga", "mega", "kilo", "hecto"]
    steps += ["deci", "centi", "milli", "micro", "nano", "pico", "femto", "atto", "zepto", "yocto"]
    lengths = [*(f"{step}meter" for step in steps), "meter", "angstrom", "inch", "foot", "yard", "mile", "parsec"]
    times = [*(f"{step}second" for step in steps), "second", "minute", "hour", "day", *["second"] * 3]
    for length, time in zip(lengths, times, strict=True):
        save_labels_tiff(tmp_path / "l.ome.tif", labels, "tyx", (2, 0.5, 0.5), (time, length, length))
        assert read_image(tmp_path / "l.ome.tif").units == (time, length, length)
    save_labels_tiff(tmp_path / "l.ome.tif", labels, "tyx", (2, 0.5, 0.5), ("second", "cubit", "cubit"))
    with tifffile.TiffFile(tmp_path / "l.ome.tif") as file:
        assert "a step along y 0.5 cubit, along x 0.5 cubit" in file.ome_metadata
