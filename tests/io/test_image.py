"""Images in: every format that is read, on files made here, and on awkward files of others."""

import gc
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from imagecodecs import jpeg8_encode, png_encode

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io import tiff
from napari_shiftseg.io.image import Image, read_image
from napari_shiftseg.views import View


def ramp(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def dask_array(data: np.ndarray):
    return pytest.importorskip("dask.array").from_array(data)


# --- views and frames


@pytest.mark.parametrize("wrap", [np.asarray, dask_array, zarr.array], ids=["numpy", "dask", "zarr"])
@pytest.mark.parametrize("axes", ["czyx", "zcyx", "zyxc", "xyzc"])
def test_frames_give_channels_first_whatever_the_order_of_the_axes(axes, wrap):
    sizes = {"c": 2, "z": 3, "y": 5, "x": 7}
    standard = ramp((2, 3, 5, 7))
    data = wrap(standard.transpose(["czyx".index(axis) for axis in axes]))
    image = Image.from_array(data, axes=axes)
    (volume,) = image.frames(3)
    assert (volume.index, volume.view.shape, volume.view.ndim) == ({}, (2, 3, 5, 7), 4)
    np.testing.assert_array_equal(volume.view[:, 1:3, 2:4, 6:], standard[:, 1:3, 2:4, 6:])
    planes = image.frames(2, channels=(1,))
    assert [plane.index for plane in planes] == [{"z": z} for z in range(sizes["z"])]
    np.testing.assert_array_equal(planes[2].view[...], standard[1:, 2])


def test_frames_loop_over_time_and_planes():
    image = Image.from_array(ramp((2, 3, 4, 5)), axes="tzyx")
    assert [frame.index for frame in image.frames(3)] == [{"t": 0}, {"t": 1}]
    frames = image.frames(2)
    assert frames[4].index == {"t": 1, "z": 1}
    np.testing.assert_array_equal(frames[4].view[0], np.asarray(image.data)[1, 1])


@pytest.mark.parametrize("channels", [(2, 0), (1, 1), (0, 2, 1), (0, 1, 3)], ids=str)
def test_frames_show_the_channels_that_were_asked_for_in_that_order(channels):
    data = ramp((4, 6, 6))
    (frame,) = Image.from_array(data, axes="cyx").frames(2, channels=channels)
    np.testing.assert_array_equal(frame.view[:, 2:4, ::2], data[list(channels)][:, 2:4, ::2])


def test_a_gray_image_can_feed_a_model_with_several_channels_by_naming_its_channel_twice():
    data = ramp((4, 5))
    (frame,) = Image.from_array(data).frames(2, channels=(0, 0))
    np.testing.assert_array_equal(frame.view[:, 1:], np.stack([data, data])[:, 1:])


def test_a_missing_channel_is_refused_with_the_channels_that_are_there():
    image = Image.from_array(ramp((2, 4, 4)), axes="cyx")
    with pytest.raises(ImageError, match=r"2 channels \(0-1\), channel 5 was asked for"):
        image.frames(2, channels=(0, 5))


@pytest.mark.parametrize(
    ("axes", "wanted", "chosen", "said"),
    [
        ("cyx", 1, None, r"cells gives 3 channels and the network wants 1; choose 1 \(channels 0 to 2\)"),
        ("cyx", 2, (0,), r"cells gives 1 channel and the network wants 2; choose 2 \(channels 0 to 2\)"),
        ("cyx", 2, (0, 1, 2), r"cells gives 3 channels and the network wants 2; choose 2 \(channels 0 to 2\)"),
        ("zyx", 3, None, r"cells gives 1 channel and the network wants 3; .*several times\), or call the right axis c"),
        ("cyx", 2, (0, 3), r"cells has 3 channels \(0-2\), channel 3 was asked for"),
        ("cyx", 2, (), "no channel was asked for"),
    ],
)
def test_another_number_of_channels_than_the_network_wants_is_refused_in_one_sentence(axes, wanted, chosen, said):
    image = Image.from_array(ramp((3, 4, 5)), axes=axes, name="cells")
    with pytest.raises(ImageError, match=said):
        image.channels_for(wanted, chosen)


def test_channels_that_fit_are_all_of_them_or_the_chosen_ones_in_their_order():
    image = Image.from_array(ramp((3, 4, 5)), axes="cyx")
    assert (image.channels_for(3), image.channels_for(3, [2, 0, 0]), image.channels_for(1, (1,))) == (None, (2, 0, 0), (1,))


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4)], ids=["2d", "one_plane"])
def test_an_image_without_depth_is_refused_for_a_3d_model(shape):
    with pytest.raises(ImageError, match="no depth"):
        Image.from_array(ramp(shape)).frames(3)


class Counting:
    """Array that remembers how many values were read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim, self.read = data, data.shape, data.dtype, data.ndim, 0

    def __getitem__(self, key):
        part = self.data[key]
        self.read += part.size
        return part


def test_a_view_reads_only_what_is_asked_for():
    data = Counting(ramp((3, 4, 20, 20)))
    view = Image.from_array(data, axes="tcyx").frames(2, channels=(3,))[2].view
    assert data.read == 0
    np.testing.assert_array_equal(view[:, 5:10, 3:5], data.data[2, 3:, 5:10, 3:5])
    assert data.read == 10


@pytest.mark.parametrize(
    "key",
    [np.s_[1], np.s_[..., 2], np.s_[:, -1, 1:3], np.s_[0:0], np.s_[:, ::-1], np.s_[-2:, ..., 1], np.s_[:, 1:4:2, 4:1]],
    ids=str,
)
def test_a_view_is_indexed_like_the_array_that_it_shows(key):
    data = ramp((4, 5, 3))
    view = View(data, [range(4), range(1, 5), (2, 0)], [2, 0, 1])
    np.testing.assert_array_equal(view[key], data[:, 1:, [2, 0]].transpose(2, 0, 1)[key])


def test_a_source_that_fails_while_it_is_read_gives_an_image_error():
    class Broken(Counting):
        def __getitem__(self, key):
            raise RuntimeError("bad stream")

    with pytest.raises(ImageError, match="cell cannot be read to the end"):
        Image.from_array(Broken(ramp((4, 4))), name="cell").frames(2)[0].view[...]


# --- arrays


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((8, 9), "float32", "yx"),
        ((8, 9, 3), "uint8", "yxc"),
        ((8, 9, 3), "uint16", "zyx"),
        ((5, 8, 9), "uint8", "zyx"),
        ((1, 8, 9), "uint8", "zyx"),
        ((2, 5, 8, 9), "uint16", "czyx"),
        ((20, 5, 8, 9), "uint16", "tzyx"),
        ((5, 8, 9, 3), "uint8", "zyxc"),
        ((2, 2, 2, 8, 9), "float32", "tczyx"),
    ],
    ids=str,
)
def test_axes_of_arrays_are_guessed_and_the_guess_is_noted(shape, dtype, axes):
    image = Image.from_array(np.ones(shape, dtype))
    assert image.axes == axes
    assert bool(image.note) == (len(shape) > 2)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (np.ones((4, 4)), {"axes": "zyx"}, "have 2"),
        (np.ones((4, 4)), {"axes": "yy"}, "each at most once"),
        (np.ones((4, 4)), {"axes": "zy"}, "y and x always"),
        (np.ones((4, 4)), {"scale": (1.0, 0.0)}, "positive"),
        (np.ones((4, 4)), {"units": ("micrometer",)}, "one per axis"),
        (np.ones(4), {}, "not an image"),
        (np.ones((1,) * 6), {}, "more than the five"),
        (np.ones((4, 4), "complex64"), {}, "not gray values"),
        (np.ones((0, 4)), {}, "empty"),
    ],
    ids=["count", "twice", "no_x", "scale", "units", "1d", "6d", "complex", "empty"],
)
def test_arrays_that_are_no_images_are_refused(data, settings, message):
    with pytest.raises(ImageError, match=message):
        Image.from_array(data, **settings)


def test_big_endian_values_become_native():
    image = Image.from_array(ramp((3, 4), ">u2"))
    assert np.dtype(image.data.dtype).isnative
    np.testing.assert_array_equal(image.data, ramp((3, 4)))


def test_reordered_image_has_the_axes_of_ome_zarr_and_reads_nothing():
    data = Counting(ramp((4, 2, 5, 6)))
    image = Image.from_array(data, axes="zcyx", scale=(3, 1, 0.5, 0.25), units=("um", None, "um", "um")).reordered()
    assert (image.axes, image.scale) == ("czyx", (1, 3, 0.5, 0.25))
    assert image.units == (None, "micrometer", "micrometer", "micrometer")
    assert data.read == 0
    np.testing.assert_array_equal(image.data[...], data.data.swapaxes(0, 1))


# --- TIFF


@pytest.fixture(params=["eager", "lazy"])
def loading(request, monkeypatch):
    """Small files are decoded at once; with a limit of 0 bytes they take the way of large ones."""
    if request.param == "lazy":
        monkeypatch.setattr(tiff, "EAGER_BYTES", 0)
    return request.param


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw", "byteorder": ">"},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_tiff_stack_is_read_with_its_values(tmp_path, options, loading):
    data = ramp((3, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", metadata={"axes": "ZYX"}, **options)
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.data.shape, image.data.dtype) == ("zyx", data.shape, np.dtype("uint16"))
    assert (image.name, image.source, image.note) == ("a", str(tmp_path / "a.tif"), "")
    np.testing.assert_array_equal(image.frames(3)[0].view[0, 1:, 30:, 7:9], data[1:, 30:, 7:9])
    assert isinstance(image.data, np.ndarray) == (loading == "eager")


def test_ome_tiff_keeps_axes_scale_and_units(tmp_path, loading):
    data = ramp((2, 3, 4, 20, 30))
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 300.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 1.5,
        "TimeIncrement": 5.0,
        "TimeIncrementUnit": "min",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata=metadata, compression="zlib", photometric="minisblack")
    image = read_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.scale) == ("tczyx", (5.0, 1.0, 1.5, 300.0, 0.2))
    assert image.units == ("minute", None, "micrometer", "nanometer", "micrometer")
    np.testing.assert_array_equal(image.frames(3)[1].view[...], data[1])


def test_imagej_tiff_keeps_axes_scale_and_units(tmp_path, loading):
    data = ramp((4, 2, 20, 30))
    metadata = {"axes": "ZCYX", "unit": "um", "spacing": 3.0}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(4.0, 2.0), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.scale) == ("zcyx", (3.0, 1.0, 0.5, 0.25))
    assert image.units == ("micrometer", None, "micrometer", "micrometer")
    np.testing.assert_array_equal(image.frames(3)[0].view[...], data.swapaxes(0, 1))


@pytest.mark.parametrize(("samples", "left", "axes"), [(4, 3, "yxc"), (2, 1, "yx")], ids=["rgba", "gray_alpha"])
def test_alpha_channel_of_a_tiff_is_dropped_and_noted(tmp_path, loading, samples, left, axes):
    data = ramp((10, 12, samples), "uint8")
    settings = {"photometric": "rgb" if samples == 4 else "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", data, extrasamples=["unassalpha"], compression="zlib", **settings)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == axes
    assert "alpha" in image.note
    np.testing.assert_array_equal(image.frames(2)[0].view[...], data[..., :left].transpose(2, 0, 1))


def test_palette_tiff_keeps_its_values_and_says_so(tmp_path):
    data = ramp((8, 8), "uint8")
    colours = np.stack([np.arange(256), np.zeros(256), np.zeros(256)]).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="palette", colormap=colours)
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, "colour table" in image.note) == ("yx", True)
    np.testing.assert_array_equal(image.data, data)


def test_centimetre_resolution_is_a_pixel_size_and_dots_per_inch_are_not(tmp_path):
    tifffile.imwrite(tmp_path / "cm.tif", ramp((8, 8)), resolution=(20000, 10000), resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "dpi.tif", ramp((8, 8)), resolution=(72, 72), resolutionunit="INCH")
    image = read_image(tmp_path / "cm.tif")
    assert (image.scale, image.units) == ((1.0, 0.5), ("micrometer", "micrometer"))
    assert read_image(tmp_path / "dpi.tif").units == (None, None)


def test_scenes_of_a_tiff_are_chosen_by_number_and_the_choice_is_noted(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(ramp((8, 8)), metadata=None)
        file.write(ramp((5, 6)) + 1, metadata=None)
    assert "2 images; the first was read" in read_image(tmp_path / "a.tif").note
    second = read_image(tmp_path / "a.tif", scene=1)
    assert (second.data.shape, second.note) == ((5, 6), "")
    with pytest.raises(ImageError, match=r"2 scenes \(0-1\), scene 2 was asked for"):
        read_image(tmp_path / "a.tif", scene=2)


@pytest.mark.parametrize("kept", [6, 200, 1500], ids=["header", "no_directory", "half"])
def test_cut_off_tiff_gives_one_sentence(tmp_path, kept):
    tifffile.imwrite(tmp_path / "a.tif", ramp((40, 40)), compression="zlib", metadata=None)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:kept])
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_image(tmp_path / "a.tif")


# --- PNG, JPEG, npy


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "shown"),
    [
        ((9, 7), "uint8", "yx", 1),
        ((9, 7), "uint16", "yx", 1),
        ((9, 7, 2), "uint8", "yx", 1),
        ((9, 7, 3), "uint16", "yxc", 3),
        ((9, 7, 4), "uint8", "yxc", 3),
    ],
    ids=str,
)
def test_png_keeps_its_values_and_loses_its_alpha(tmp_path, shape, dtype, axes, shown):
    data = ramp(shape, dtype) * (100 if dtype == "uint16" else 1)
    (tmp_path / "a.png").write_bytes(png_encode(data))
    image = read_image(tmp_path / "a.png")
    assert (image.axes, image.data.dtype, "alpha" in image.note) == (axes, np.dtype(dtype), shape[2:] in ((2,), (4,)))
    np.testing.assert_array_equal(image.frames(2)[0].view[...], data.reshape(9, 7, -1)[..., :shown].transpose(2, 0, 1))


def test_a_damaged_png_is_a_sentence_and_no_line_of_a_library(tmp_path, capfd):
    """Whatever byte is another one or lacks: the pixels are right, or there is an error, and libpng says nothing."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8)
    path, whole = tmp_path / "a.png", png_encode(pixels)
    text = b"tEXtComment\0of the microscope"
    whole = whole[:33] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + whole[33:]
    path.write_bytes(whole)
    assert np.array_equal(read_image(path).frames(2)[0].view[0], pixels)
    refused = 0
    for at in range(8, len(whole)):
        for data in (whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :], whole[:at]):
            path.write_bytes(data)
            try:
                assert np.array_equal(read_image(path).frames(2)[0].view[0], pixels)
            except ImageError:
                refused += 1
    assert refused > len(whole)
    body = bytearray(zlib.decompress(b"".join(part[1] for part in parts_of(whole) if part[0] == b"IDAT")))
    path.write_bytes(
        of_parts([(b"IHDR", parts_of(whole)[0][1]), (b"IDAT", zlib.compress(body)[:-9] + bytes(9)), (b"IEND", b"")])
    )
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)
    assert capfd.readouterr().err == ""


def parts_of(png):
    """Names and bodies of the parts of a PNG."""
    at, found = 8, []
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        found.append((kind, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def of_parts(parts):
    """A PNG of such parts, with right checksums."""
    made = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


@pytest.mark.parametrize("form", ["palette", "transparent", "interlaced"])
def test_png_of_all_forms_keep_their_values(tmp_path, form):
    from imagecodecs import png_decode

    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    table = bytes(np.repeat(np.arange(64, dtype=np.uint8), 3))
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0 if form == "interlaced" else 3, 0, 0, 0)
    more = [] if form == "interlaced" else [(b"PLTE", table)]
    more += [(b"tRNS", bytes(range(64)))] if form == "transparent" else []
    if form == "interlaced":
        head = head[:-1] + b"\1"
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx])
    whole = of_parts([(b"IHDR", head), (b"tIME", b"\0" * 7), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    (tmp_path / "a.png").write_bytes(whole)
    wanted = png_decode(whole)
    shown = wanted if wanted.ndim == 2 else wanted[..., :3] if wanted.shape[2] == 4 else wanted
    found = read_image(tmp_path / "a.png").frames(2)[0].view[...]
    assert np.array_equal(found, shown.reshape(8, 8, -1).transpose(2, 0, 1)[: len(found)])
    assert np.array_equal(found[0], pixels)


@pytest.mark.parametrize(("shape", "axes"), [((16, 24), "yx"), ((16, 24, 3), "yxc")], ids=["gray", "colour"])
def test_jpeg_is_read(tmp_path, shape, axes):
    (tmp_path / "a.jpg").write_bytes(jpeg8_encode(np.full(shape, 77, np.uint8), level=95))
    image = read_image(tmp_path / "a.jpg")
    assert image.axes == axes
    np.testing.assert_allclose(image.data, 77, atol=1)  # JPEG rounds colours


def test_npy_is_mapped_from_disk(tmp_path):
    np.save(tmp_path / "a.npy", ramp((5, 6, 7)))
    image = read_image(tmp_path / "a.npy")
    assert (image.axes, type(image.data)) == ("zyx", np.ndarray)
    np.testing.assert_array_equal(image.data, ramp((5, 6, 7)))


def test_npy_with_pickled_objects_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


# --- OME-Zarr


def write_zarr(path: Path, data: np.ndarray, version: str, axes: str, scale: list[float], name: str | None = "cells"):
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=data)
    types = {"t": "time", "c": "channel"}
    units = {"t": "second", "c": None}
    entry = {
        "axes": [{"name": axis, "type": types.get(axis, "space"), "unit": units.get(axis, "micrometer")} for axis in axes],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    if name:
        entry["name"] = name
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}
    else:
        group.attrs["multiscales"] = [entry | {"version": version}]
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_is_read_lazily_with_scale_and_units(tmp_path, version):
    data = ramp((2, 3, 4, 5))
    write_zarr(tmp_path / "a.zarr", data, version, "tcyx", [10.0, 1.0, 0.5, 0.25])
    image = read_image(tmp_path / "a.zarr")
    assert isinstance(image.data, zarr.Array)
    assert (image.axes, image.scale, image.name) == ("tcyx", (10.0, 1.0, 0.5, 0.25), "cells")
    assert image.units == ("second", None, "micrometer", "micrometer")
    np.testing.assert_array_equal(image.frames(2)[1].view[...], data[1])


def test_big_endian_zarr_becomes_native(tmp_path):
    write_zarr(tmp_path / "a.zarr", ramp((4, 5), ">u2"), "0.4", "yx", [1.0, 1.0])
    image = read_image(tmp_path / "a.zarr")
    assert np.dtype(image.data.dtype).isnative
    np.testing.assert_array_equal(image.data[...], ramp((4, 5)))


@pytest.mark.parametrize("names", [None, ("y", "x", "c")], ids=["unnamed", "named"])
def test_plain_zarr_array_is_read(tmp_path, names):
    zarr.create_array(tmp_path / "a.zarr", data=ramp((6, 7, 2)), dimension_names=names)
    image = read_image(tmp_path / "a.zarr")
    assert image.axes == ("yxc" if names else "zyx")
    assert bool(image.note) == (names is None)


def test_scenes_of_a_zarr_store_are_chosen_by_number(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for number in range(2):
        write_zarr(tmp_path / "a.zarr" / str(number), ramp((4, 5 + number)), "0.4", "yx", [1.0, 1.0])
    assert "2 images; the first was read" in read_image(tmp_path / "a.zarr").note
    assert read_image(tmp_path / "a.zarr", scene=1).data.shape == (4, 6)
    with pytest.raises(ImageError, match="2 scenes"):
        read_image(tmp_path / "a.zarr", scene=2)


def test_broken_or_foreign_zarr_stores_are_refused_with_one_sentence(tmp_path):
    def store(name, **attributes):
        group = write_zarr(tmp_path / name, ramp((4, 5)), "0.4", "yx", [1.0, 1.0])
        entry = group.attrs["multiscales"][0]
        group.attrs["multiscales"] = [entry | attributes]
        return tmp_path / name

    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {}
    (tmp_path / "folder").mkdir()
    cases = {
        store("old.zarr", version="0.2"): "version 0.2",
        store("no_axes.zarr", axes=[]): "broken OME-Zarr metadata",
        store("no_level.zarr", datasets=[{"path": "7", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]): (
            "array 7, which is not there"
        ),
        tmp_path / "plate.zarr": "plate",
        tmp_path / "folder": "without zarr metadata",
    }
    for path, message in cases.items():
        with pytest.raises(ImageError, match=message):
            read_image(path)


def test_damaged_zarr_chunk_gives_an_image_error_when_it_is_read(tmp_path):
    write_zarr(tmp_path / "a.zarr", ramp((40, 50)), "0.5", "yx", [1.0, 1.0])
    (chunk,) = (tmp_path / "a.zarr" / "0" / "c").rglob("0/0")
    chunk.write_bytes(b"nonsense")
    view = read_image(tmp_path / "a.zarr").frames(2)[0].view
    with pytest.raises(ImageError, match="cannot be read to the end"):
        view[...]


# --- what is not read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.czi", b"ZISRAWFILE" + bytes(20), "Zeiss CZI"),
        ("a.tif", b"ZISRAWFILE" + bytes(20), "Zeiss CZI"),
        ("a.nd2", b"\xda\xce\xbe\n" + bytes(20), "Nikon ND2"),
        ("a.txt", b"hello", "not a TIFF, PNG, JPEG"),
        ("a.tif", b"", "empty file"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "cut short"),
        ("a.jpg", b"\xff\xd8\xff" + bytes(20), "damaged"),
        ("a.npy", b"\x93NUMPY" + bytes(20), "damaged"),
    ],
    ids=["czi", "czi_named_tif", "nd2", "text", "empty", "png", "jpeg", "npy"],
)
def test_files_that_are_not_read_are_refused_with_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_path_without_a_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match="there is no image"):
        read_image(tmp_path / "a.tif")


# --- awkward files of others

AWKWARD = [
    ("NEUBIAS__xy_12bit__saturated_plant.tif", "yx", (512, 512), "uint16"),
    ("NEUBIAS__xyc_16bit__hela-cells.tif", "yxc", (512, 672, 3), "uint16"),
    ("NEUBIAS__xyc_8bit__membranes_nuclei.tif", "cyx", (2, 354, 475), "uint8"),
    ("NEUBIAS__xyzc_16bit__dna_conf_wf.tif", "zcyx", (45, 2, 130, 133), "uint16"),
    ("NEUBIAS__xyt_calibrated_16bit__golgi_bfa_sum_projection.tif", "tyx", (30, 137, 147), "float32"),
    ("NEUBIAS__xy_16bit__scanR_datatype_issue.tif", "yx", (1024, 1344), "uint16"),
    ("NEUBIAS__xyz_8bit__nuclei_autothresh.tif", "zyx", (37, 118, 132), "uint8"),
    ("NEUBIAS__anchor_nuclei_downsampled.tiff", "yx", (912, 630), "float32"),
    ("instanseg__HE_example.tif", "yxc", (1484, 1380, 3), "uint8"),
    ("instanseg__Fluorescence_example.tif", "cyx", (2, 450, 450), "uint8"),
    ("haesleinhuepf__IXMtest_A02_s9.tif", "cyx", (3, 395, 695), "uint16"),
    ("kevinjohncutler__caulo_15.tif", "yx", (281, 310), "uint16"),
    ("kevinjohncutler__Sample000306.tiff", "yxc", (396, 390, 3), "uint8"),
    ("CellProfiler__01_POS002_D.TIF", "yx", (1006, 1000), "uint8"),
    ("rahi-lab__2020_3_19_frame_100_cropped.tif", "yx", (1164, 1280), "uint8"),
    ("AdaptiveMotorControlLab__c5image.tif", "zyx", (124, 86, 94), "float32"),
    ("kreshuklab__rgb_3D_c_raw.tif", "czyx", (2, 75, 75, 75), "uint16"),
    ("axondeepseg__test3-TRITC_2_(560).ndpi", "yxc", (4864, 3968, 3), "uint8"),
    ("BioImageTools__image-02.zarr", "yx", (200, 200), "float64"),
    ("BioImageTools__image-03.zarr", "zyx", (2, 100, 100), "float64"),
    ("BioImageTools__2d_testing/2d_dataset_v4.ome.zarr", "yx", (64, 64), "uint8"),
    ("BioImageTools__2d_testing/2d_dataset_v5.ome.zarr", "yx", (64, 64), "uint8"),
    ("BioImageTools__5d_dataset_v4.ome.zarr", "tczyx", (4, 3, 16, 64, 64), "uint8"),
    ("BioImageTools__xy_8bit__nuclei_PLK1_control.ome.zarr", "tczyx", (1, 1, 1, 682, 682), "uint8"),
    ("../large/brain_planes_zyx.tif", "zyx", (12, 510, 667), "uint16"),
    ("../large/wsi_trit_v04.ome.zarr", "yx", (4864, 3968), "uint8"),
    ("../large/phase_mosaic_v05.ome.zarr", "yx", (2044, 3072), "uint16"),
]


@pytest.mark.parametrize(("name", "axes", "shape", "dtype"), AWKWARD, ids=[case[0] for case in AWKWARD])
def test_awkward_files_open_with_their_axes_shape_and_values(shared_data, name, axes, shape, dtype, loading):
    path = shared_data / "awkward" / name
    image = read_image(path)
    assert (image.axes, tuple(image.data.shape), np.dtype(image.data.dtype)) == (axes, shape, np.dtype(dtype))
    if path.is_file():
        reference = tifffile.imread(path, series=0, level=0)
        kept = reference[..., :3] if axes.endswith("c") else reference
        window = tuple(slice(0, 40) if size > 40 else slice(None) for size in shape)
        np.testing.assert_array_equal(np.asarray(image.data[window]), kept[window])
    assert image.frames(2)[-1].view[:, :4, :4].shape[1:] == (4, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NEUBIAS__xyz__multiple_images.czi", "Zeiss CZI"),
        ("JahnJ__MDCK_Myo1c_KO_Zo_1.czi", "Zeiss CZI"),
        ("BioImageTools__invalid/image-01.zarr", "without OME-Zarr image metadata"),
        ("BioImageTools__invalid/image-02.zarr", "without OME-Zarr image metadata"),
        ("BioImageTools__invalid/image-03.zarr", "which is not there"),
        ("BioImageTools__invalid/image-04.zarr", "they name 3 axes"),
        ("BioImageTools__invalid", "without zarr metadata"),
    ],
)
def test_awkward_files_that_cannot_be_read_are_refused(shared_data, name, message):
    with pytest.raises(ImageError, match=message) as caught:
        read_image(shared_data / "awkward" / name)
    assert "\n" not in str(caught.value)


def test_pixel_sizes_of_real_files_are_kept(shared_data):
    folder = shared_data / "awkward"
    golgi = read_image(folder / "NEUBIAS__xyt_calibrated_16bit__golgi_bfa_sum_projection.tif")
    assert golgi.scale == pytest.approx((59.86, 1 / 2.845474, 1 / 2.845474))
    assert golgi.units == ("second", "micrometer", "micrometer")
    slide = read_image(folder / "instanseg__HE_example.tif")
    assert slide.scale[:2] == pytest.approx((0.50008, 0.50008), rel=1e-4)
    assert read_image(folder / "axondeepseg__test3-TRITC_2_(560).ndpi").scale[:2] == pytest.approx((0.2282, 0.2282), rel=1e-3)


def test_read_image_leaves_no_file_open(tmp_path, loading):
    """An open file cannot be moved on Windows; the warning that Python gives for one is an error here."""
    tifffile.imwrite(tmp_path / "a.tif", ramp((20, 20)), compression="zlib")
    image = read_image(tmp_path / "a.tif")
    assert image.data[...].shape == (20, 20)
    del image
    gc.collect()


def test_result_without_image_is_not_taken_for_an_image(tmp_path):
    zarr.create_group(tmp_path / "a.zarr", attributes={"napari-shiftseg": {"store": 1, "image": False}})
    with pytest.raises(ImageError, match="saved without its image"):
        read_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_a_jpeg_that_was_cut_is_no_image(tmp_path, share, thumbnail):
    """> What lacks is grey in what the decoder gives, and looks like background."""
    from imagecodecs import jpeg8_encode

    data = jpeg8_encode((np.random.default_rng(0).random((64, 64)) * 255).astype(np.uint8))
    if thumbnail:  # a small picture with an end of its own in a block of notes
        inner = jpeg8_encode(np.zeros((8, 8), np.uint8))
        data = data[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + data[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_image(path).data.shape == (64, 64)
    start = data.rfind(b"\xff\xda")
    path.write_bytes(data[: start + int(share * (len(data) - start))])
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1])
@pytest.mark.parametrize(
    "form", [{}, {"restart_marker_blocks": 2}, {"restart_marker_blocks": 7}, {"optimize": True}, {"progressive": True}]
)
@pytest.mark.parametrize("shape", [(64, 64), (50, 70, 3)])
def test_a_jpeg_that_was_cut_and_ended_anew_is_no_image(tmp_path, share, form, shape):
    """Some programs end a file that they got in part."""
    from io import BytesIO

    from PIL import Image as Pillow

    written = BytesIO()
    pixels = (np.random.default_rng(0).random(shape) * 255).astype(np.uint8)
    Pillow.fromarray(pixels).save(written, "JPEG", quality=90, **form)
    data, path = written.getvalue(), tmp_path / "a.jpg"
    start = data.rfind(b"\xff\xda") + 16
    path.write_bytes(data[: start + int(share * (len(data) - 2 - start))] + b"\xff\xd9")
    if share == 1:
        assert read_image(path).data.shape == shape
    else:
        with pytest.raises(ImageError, match="cut short"):
            read_image(path)


def test_a_tiff_without_strips_says_that_it_lacks_pixels(tmp_path):
    import struct

    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1), (278, 3, 1, 8)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4))
    try:
        note = read_image(tmp_path / "a.tif").note
    except ImageError:
        return
    assert "lacks pixels" in note


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i8", "u8"])
def test_integers_of_64_bits_are_of_a_type_that_zarr_can_write(tmp_path, loading, kind, order):
    """> C has two names for them, and zarr knows one. Values that no float holds come back as they were."""
    data = ramp((3, 20, 30), kind) + np.array(2**62 + 1, kind)
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=order, metadata={"axes": "ZYX"}, photometric="minisblack")
    twin = np.dtype("longlong" if kind == "i8" else "ulonglong")
    arrays = [read_image(tmp_path / "a.tif").data, Image.from_array(data.astype(twin)).data]
    for array in [*arrays, dask_array(data.astype(twin)), View.whole(data.astype(twin), name="a")]:
        found = Image.from_array(array, "zyx").reordered().data
        stored = zarr.create_array({}, shape=found.shape, dtype=np.dtype(found.dtype))
        stored[...] = found[...]
        np.testing.assert_array_equal(stored[...], data)


@pytest.mark.parametrize("level", [logging.NOTSET, logging.CRITICAL])
@pytest.mark.parametrize("old", [b'SizeX="64"', b'SizeZ="3"'])
def test_what_tifffile_logs_is_in_the_note_and_not_on_stderr(tmp_path, capfd, caplog, loading, old, level):
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(level)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, ramp((3, 64, 64)), metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(old, old[:-3] + b'99"' if old[-3:-2] != b'"' else old[:-2] + b'9"'))
    note, after = read_image(path).note, logger.level
    logger.setLevel(before)
    assert "tifffile says: " in note and after == level
    assert not caplog.records and not capfd.readouterr().err
