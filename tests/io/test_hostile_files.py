"""Kinds of faults that the hostile cases of `tests/corpus` found: each is one sentence, and none a wrong result."""

import json
import os
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import torch
import zarr
from grey import bars, grey_model
from zarr.codecs import GzipCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from napari_shiftseg import SegmentSettings, UNetSpec, cli, load_model, read_image, save_model, segment, synthetic
from napari_shiftseg.errors import ImageError, ModelError, ResultError, SettingsError, TilingError
from napari_shiftseg.files import check_targets
from napari_shiftseg.geometry import plan_again, plan_tiles
from napari_shiftseg.io import Image, find_images, open_result, scene_names
from napari_shiftseg.io.constants import LARGEST_METADATA, MOST_ELEMENTS
from napari_shiftseg.io.store import FILES_KEY, ReadStore
from napari_shiftseg.io.stored_result import our_attributes

PIXELS = np.arange(96 * 80).reshape(96, 80).astype("u2") + 1


@pytest.fixture
def store(tmp_path):
    zarr.create_array(str(tmp_path / "i.zarr"), data=PIXELS, chunks=(32, 32))
    return tmp_path / "i.zarr"


def described(store, **values):
    file = store / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("gone", [["1.1"], ["0.0", "2.2"], [f"{y}.{x}" for y in range(3) for x in range(3)]], ids=len)
def test_chunks_that_are_not_there_are_counted(tmp_path, version, gone):
    path = tmp_path / "i.zarr"
    zarr.create_array(str(path), data=PIXELS, chunks=(32, 32), zarr_format=version)
    assert read_image(path).note == ""
    for name in gone:
        (path / (name if version == 2 else f"c/{name.replace('.', '/')}")).unlink()
    verb = "is" if len(gone) == 1 else "are"
    assert f"{len(gone)} of 9 chunks {verb} not in the store; its fill value, 0" in read_image(path).note


EMPTY = {
    "pixels": ((900_000, 900_000), {"chunks": (4096, 4096)}),
    "chunks": ((70_000, 8192), {"chunks": (32, 32)}),
    "shards": ((900_000, 900_000), {"chunks": (32, 32), "shards": (1024, 1024)}),
    "version 2": ((900_000, 900_000), {"chunks": (512, 512), "zarr_format": 2}),
    "a column": ((10**12,), {"chunks": (512,)}),
    "planes": ((10**7, 10, 10), {"chunks": (10**6, 10, 10)}),
}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("kind", EMPTY)
def test_a_store_announces_no_more_than_can_be_read_of_nothing(tmp_path, kind, packed):
    """> 900,000 x 900,000 px of which no chunk was there were read for hours"""
    shape, values = EMPTY[kind]
    path = tmp_path / "i.zarr"
    zarr.create_array(str(path), shape=shape, dtype="u4", **values)
    if packed:
        with zipfile.ZipFile(tmp_path / "i.zip", "w") as archive:
            for file in filter(Path.is_file, path.rglob("*")):
                archive.write(file, str(file.relative_to(path)))
        path = tmp_path / "i.zip"
    with pytest.raises(ImageError, match=r"announces \d+ (pixels in \d+ chunks, of which none|planes, and its store has 0 of)"):
        read_image(path)


def test_a_chunk_or_two_do_not_stand_for_a_slide(tmp_path):
    array = zarr.create_array(str(tmp_path / "i.zarr"), shape=(900_000, 900_000), chunks=(512, 512), dtype="u4")
    array[:600, :9] = 1
    with pytest.raises(ImageError, match="of which 2 are there"):
        read_image(tmp_path / "i.zarr")


def test_labels_without_an_object_stay_labels(tmp_path):
    """Zarr writes no chunk that holds zeros alone."""
    zarr.create_array(str(tmp_path / "i.zarr"), shape=(32_768, 32_768), chunks=(256, 256), dtype="u4")
    assert "16384 of 16384 chunks are not in the store" in read_image(tmp_path / "i.zarr").note
    zarr.create_array(str(tmp_path / "s.zarr"), shape=(900, 900), chunks=(32, 32), dtype="u4", attributes={})
    assert cli.main(["measure", str(tmp_path / "s.zarr"), "--out", str(tmp_path / "t.csv"), "--quiet"]) == 0
    # of our own, which says so, those of a slide
    zarr.create_array(
        str(tmp_path / "o.zarr"), shape=(131_072, 131_072), chunks=(512, 512), dtype="u4", attributes={FILES_KEY: 0}
    )
    assert read_image(tmp_path / "o.zarr").note == ""
    zarr.create_array(
        str(tmp_path / "l.zarr"), shape=(900_000, 900_000), chunks=(4096, 4096), dtype="u4", attributes={FILES_KEY: 0}
    )
    with pytest.raises(ImageError, match="of which none are there"):
        read_image(tmp_path / "l.zarr")


def test_few_objects_on_a_slide_are_read(tmp_path):
    """Who marks some cells of a slide, or of a long series, has written few of its chunks."""
    slide = zarr.create_array(str(tmp_path / "s.zarr"), shape=(40_000, 40_000), chunks=(256, 256), dtype="u4")
    slide[9_000:9_040, 300:340] = 7
    image = read_image(tmp_path / "s.zarr")
    assert "24648 of 24649 chunks are not in the store" in image.note
    assert image.data[9_000, 300] == 7
    series = zarr.create_array(str(tmp_path / "t.zarr"), shape=(70_000, 40, 40), chunks=(1, 40, 40), dtype="u2")
    series[65_999] = 3
    assert np.asarray(read_image(tmp_path / "t.zarr").data[65_999]).max() == 3


def test_many_planes_in_few_chunks_are_read_where_all_are_there(tmp_path):
    film = zarr.create_array(str(tmp_path / "f.zarr"), shape=(70_000, 16, 16), chunks=(5_000, 16, 16), dtype="u2")
    film[:] = 5
    image = read_image(tmp_path / "f.zarr")
    assert image.data.shape == (70_000, 16, 16) and "not in the store" not in image.note


def test_arrays_that_a_group_describes_as_well_are_looked_at_each_by_itself(tmp_path):
    zarr.create_array(str(tmp_path / "g.zarr" / "0"), shape=(900_000, 900_000), chunks=(512, 512), dtype="u4")
    zarr.create_array(str(tmp_path / "g.zarr" / "1"), data=PIXELS, chunks=(32, 32))
    zarr.open_group(str(tmp_path / "g.zarr"), mode="a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(str(tmp_path / "g.zarr"))
    assert read_image(tmp_path / "g.zarr" / "1").note == ""
    group = zarr.open_group(ReadStore(tmp_path / "g.zarr"), mode="r", use_consolidated=False)
    np.testing.assert_array_equal(group["1"][:], PIXELS)
    with pytest.raises(ImageError, match="announces"):
        group["0"]


def test_more_planes_than_pixels_of_a_plane_are_no_image(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((70_000, 9, 11), np.uint8))
    with pytest.raises(ImageError, match="70000 planes of less than 100 bytes"):
        read_image(tmp_path / "a.npy", axes="tyx")
    assert read_image(tmp_path / "a.npy", axes="yxc").sizes["c"] == 11
    np.save(tmp_path / "a.npy", np.zeros((700, 9, 11), np.uint8))
    assert read_image(tmp_path / "a.npy", axes="tyx").sizes["t"] == 700


def test_a_plane_that_does_not_fit_in_memory_is_no_tiff(tmp_path, monkeypatch, capsys):
    zarr.create_array(str(tmp_path / "l.zarr"), data=PIXELS)
    monkeypatch.setattr("napari_shiftseg.io.labels_tiff.free_memory", lambda: 4 * PIXELS.size - 1)
    assert cli.main(["export", str(tmp_path / "l.zarr"), str(tmp_path / "l.tif"), "--quiet"]) == 4
    assert "as .ome.zarr, which is written chunk by chunk" in capsys.readouterr().err and not (tmp_path / "l.tif").exists()
    monkeypatch.setattr("napari_shiftseg.io.labels_tiff.free_memory", lambda: 4 * PIXELS.size)
    assert cli.main(["export", str(tmp_path / "l.zarr"), str(tmp_path / "l.tif"), "--quiet"]) == 0


def test_chunks_of_an_archive_and_of_shards_are_counted_too(tmp_path):
    zarr.create_array(str(tmp_path / "s.zarr"), data=PIXELS, chunks=(16, 16), shards=(48, 32))
    assert read_image(tmp_path / "s.zarr").note == ""
    (tmp_path / "s.zarr/c/0/0").unlink()
    assert "1 of 6 chunks is not in the store" in read_image(tmp_path / "s.zarr").note
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for file in (tmp_path / "s.zarr").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "s.zarr"))
    assert "1 of 6 chunks" in read_image(tmp_path / "s.zip").note


def test_a_folder_in_the_place_of_a_chunk_is_no_chunk_of_zeros(store):
    (store / "c/1/1").unlink()
    (store / "c/1/1").mkdir()
    with pytest.raises(ImageError, match="is a folder where a chunk was"):
        read_image(store).frames(2)[0].view[...]


@pytest.mark.parametrize("shape", [[10**9, 10**9], [10**30, 80], [1 << 25, 2], [4, 10**12]], ids=str)
def test_more_pixels_than_any_image_has(store, shape):
    described(store, shape=shape)
    with pytest.raises(ImageError, match="more pixels than any image has"):
        read_image(store)


@pytest.mark.parametrize("name", ["zarr.json", "c/0/0"])
def test_what_unpacks_to_more_than_it_should_is_not_unpacked(tmp_path, store, name):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in store.rglob("*"):
            if file.is_file() and (inside := file.relative_to(store).as_posix()) != name:
                archive.write(file, inside)
        archive.writestr(name, b" " * (LARGEST_METADATA + 1))
    with pytest.raises(ImageError, match="unpacks to 67108865 bytes"):
        read_image(tmp_path / "bomb.zip").frames(2)[0].view[...]


@pytest.mark.parametrize("shape", [[8, 8], [64, 64]], ids=str)
def test_what_a_group_says_of_its_arrays_does_not_stand_for_what_they_say(tmp_path, shape):
    """Consolidated metadata of an older state cut the image off, or filled it up."""
    group = zarr.open_group(str(tmp_path / "i.zarr"), mode="w")
    group.create_array("0", data=PIXELS[:32, :32], chunks=(8, 8))
    steps = [{"type": "scale", "scale": [1, 1]}]
    entry = {
        "axes": [{"name": name, "type": "space"} for name in "yx"],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    group.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(str(tmp_path / "i.zarr"))
    file = tmp_path / "i.zarr/zarr.json"
    told = json.loads(file.read_text())
    told["consolidated_metadata"]["metadata"]["0"]["shape"] = shape
    file.write_text(json.dumps(told))
    assert np.array_equal(read_image(tmp_path / "i.zarr").data[...], PIXELS[:32, :32])


COMPRESSORS = {"blosc": numcodecs.Blosc(), "zstd": numcodecs.Zstd(), "gzip": numcodecs.GZip(), "bz2": numcodecs.BZ2(),
               "lzma": numcodecs.LZMA()}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_chunk_that_unpacks_to_more_than_its_array_says_is_not_unpacked(tmp_path, monkeypatch, name, packed):
    path, codec = tmp_path / "i.zarr", COMPRESSORS[name]
    zarr.create_array(str(path), data=PIXELS, chunks=(32, 32), zarr_format=2, compressors=codec)
    assert np.array_equal(read_image(path).data[...], PIXELS)
    (path / "1.1").write_bytes(codec.encode(bytes(4 << 20)))
    if packed:
        with zipfile.ZipFile(tmp_path / "i.zip", "w") as archive:
            for file in path.iterdir():
                archive.write(file, file.name)
        path = tmp_path / "i.zip"
    monkeypatch.setattr(type(codec), "decode", None)
    with pytest.raises(ImageError, match=r"1\.1 of the store unpacks to \d+ bytes or more, its array says 2048"):
        read_image(path).data[32:64, 32:64]


@pytest.mark.parametrize("place", ["start", "end"])
@pytest.mark.parametrize("packing", [GzipCodec(), ZstdCodec(), None], ids=["gzip", "zstd", "plain"])
def test_a_shard_is_no_chunk_that_unpacks_to_too_much(tmp_path, packing, place):
    """The last four bytes of a chunk of gzip say its size; those of a shard are of its index."""
    pixels = PIXELS.copy()
    pixels[0, :4] = np.frombuffer(b"\x28\xb5\x2f\xfd\xe0\xff\xff\xff", pixels.dtype)  # as zstd begins
    shards = {"shape": (32, 32), "index_location": place}
    made = {"chunks": (16, 16), "shards": shards, "compressors": packing}
    zarr.create_array(str(tmp_path / "i.zarr"), data=pixels, **made)
    np.testing.assert_array_equal(read_image(tmp_path / "i.zarr").data[...], pixels)


@pytest.mark.parametrize("kind", [0, 3], ids=["grey", "palette"])
def test_a_png_that_unpacks_to_more_than_its_pixels_is_not_unpacked(tmp_path, kind):
    def part(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(bytes(4 << 20))
    head = part(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, kind, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", rows) + part(b"IEND", b""))
    with pytest.raises(ImageError, match="unpacks to more than its pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(300, 300), (300, 300, 3), (300, 300, 4)], ids=str)
def test_a_png_of_many_samples_is_no_bomb(tmp_path, shape):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").data[...], pixels[..., :3] if len(shape) > 2 else pixels)


def test_a_long_header_of_an_array_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "load", None)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 29) + b" " * 100)
    with pytest.raises(ImageError, match="a header of 536870912 bytes"):
        read_image(tmp_path / "a.npy")


def test_lists_without_end_are_not_made_of_a_description(store, tmp_path, monkeypatch, capsys):
    """> 64 MB of "[]," were more than a gigabyte of Python's lists"""
    monkeypatch.setattr("napari_shiftseg.io.store.MOST_PARTS", 40)
    assert read_image(store).note == ""
    found = json.loads((store / "zarr.json").read_text())
    described(store, attributes={"napari-shiftseg": {"store": 1, "x": [[]] * 40}})
    with pytest.raises(ImageError, match="lists and tables, more than a description takes"):
        read_image(store)
    with pytest.raises(ResultError, match="is not a result"):
        open_result(store)
    (tmp_path / "r.json").write_text(json.dumps({**found, "x": [[]] * 40}))
    assert cli.main(["segment", "--from", str(tmp_path / "r.json"), "--labels-tiff", str(tmp_path / "l.tif")]) == 2
    os.truncate(tmp_path / "r.json", LARGEST_METADATA + 1)
    assert cli.main(["segment", "--from", str(tmp_path / "r.json"), "--labels-tiff", str(tmp_path / "l.tif")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "lists and tables" in first and "more than a record takes" in second
    monkeypatch.undo()
    (tmp_path / "new").mkdir()
    result = segment(PIXELS, grey_model(), SegmentSettings(device="cpu"), tmp_path / "new" / "r.zarr").path
    assert our_attributes(result)
    monkeypatch.setattr("napari_shiftseg.io.stored_result.LARGEST_METADATA", 10)
    assert our_attributes(result) is None


def test_a_long_description_of_a_folder_is_not_read(store):
    os.truncate(store / "zarr.json", LARGEST_METADATA + 1)
    with pytest.raises(ImageError, match="more than a description takes"):
        read_image(store)


def test_what_a_library_warns_of_is_said_of_the_image(tmp_path):
    path = tmp_path / "v2.zarr"
    zarr.create_array(str(path), data=PIXELS, zarr_format=2)
    file = path / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "filters": []}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ZarrUserWarning)
        assert "What reads the file says: Found an empty list of filters" in read_image(path).note


def test_a_damaged_chunk_under_a_measurement_is_a_sentence(tmp_path, store, capsys):
    for file in (store / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(bytes(range(256)))
    np.save(tmp_path / "labels.npy", PIXELS % 5)
    for words in (["measure", str(store)], ["measure", str(tmp_path / "labels.npy"), "--image", str(store)]):
        assert cli.main([*words, "--out", str(tmp_path / "t.csv")]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_weights_that_are_no_numbers_make_no_model(tmp_path, value):
    model = grey_model()
    with torch.no_grad():
        model.module.head.weight[0, 0] = value
    with pytest.raises(ModelError, match=r"head\.weight holds values that are not finite"):
        load_model(save_model(tmp_path / "m.safetensors", model))


@pytest.mark.parametrize("kind", ["I32", "U32"])
def test_weights_of_another_kind_are_not_taken_for_numbers(tmp_path, kind):
    path = save_model(tmp_path / "m.safetensors", grey_model())
    data = path.read_bytes()
    at = data.index(b'"head.weight":{"dtype":"F32"')
    path.write_bytes(data[:at] + data[at:].replace(b'"F32"', f'"{kind}"'.encode(), 1))
    with pytest.raises(ModelError, match=r"head\.weight holds torch\.u?int32 values"):
        load_model(path)


@pytest.mark.parametrize("wrong", [{"low": -1}, {"high": 101}, {"low": 60, "high": 40}, {"low": float("nan")}], ids=str)
def test_percentiles_of_a_record_are_percentiles(tmp_path, wrong):
    path = save_model(tmp_path / "m.safetensors", grey_model())
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    record = json.loads(header["__metadata__"]["record"])
    record["normalisation"].update(wrong)
    header["__metadata__"]["record"] = json.dumps(record)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(ModelError, match="percentiles"):
        load_model(path)


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["segment", "i" * 5000, "--out", "r.zarr"],
        ["info", "--image", "i" * 400],
        ["segment", "x", "--memory", "9" * 400 + "GB", "--out", "r.zarr"],
        ["probe", "--seed", "-1"],
        ["probe", "--seed", "1" + "0" * 30],
        ["synth", "disks", "--offset", "1" + "0" * 30, "--out", "s.tif"],
        ["synth", "disks", "--spacing", "1" + "0" * 20, "--out", "s.tif"],
        ["synth", "disks", "--shape", "1000000000x1000000000", "--out", "s.tif"],
        ["synth", "blobs", "--shape", "1000000000,1000000000", "--out", "s.tif"],
        ["info", "--model", "nuclei", "--plan", "--shape", f"{10**30}x{10**30}"],
        ["segment", "x", "--diameter", "9" * 500, "--out", "r.zarr"],
        ["segment", "x", "--no-data", "9" * 500, "--out", "r.zarr"],
        ["relabel", "x", "--min-size", "9" * 500, "--out", "r.zarr"],
        ["train", "x", "--kernel", "9" * 500, "--out", "m.safetensors"],
        ["train", "x", "--growth", "9" * 500, "--out", "m.safetensors"],
        ["probe", "--shifts", "1" + "0" * 12],
        ["measure", "x", "--out", "t.csv", "--unit", "\udcff"],
        ["train", "x", "--out", "m.safetensors", "--kind", "\udcff"],
    ],
    ids=lambda words: ascii(" ".join(words))[1:50],
)
def test_numbers_and_names_beyond_all_are_refused_in_a_line(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "[Errno" not in err and not list(tmp_path.iterdir())


def test_a_nul_is_in_no_name(tmp_path):
    with pytest.raises(ResultError, match="NUL"):
        check_targets([tmp_path / "a\0b"])
    with pytest.raises(ImageError, match="NUL"):
        read_image("a\0b")


@pytest.mark.parametrize(
    "words",
    [
        ["segment", "", "--model", "m.safetensors", "--labels-tiff", "found"],
        ["segment", "a.npy", "", "--model", "m.safetensors", "--out", "found"],
        ["segment", "a.npy", "--model", "", "--out", "found"],
        ["segment", "a.npy", "--model", "m.safetensors", "--out="],
        ["train", "", "--out", "found"],
        ["evaluate", "", ""],
    ],
    ids=" ".join,
)
def test_an_empty_word_is_not_the_folder_that_one_works_in(tmp_path, monkeypatch, capsys, words):
    """As `"$IMAGE"` gives it; it took all images that lay there."""
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", bars((40, 40)))
    save_model("m.safetensors", grey_model())
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "empty word" in err
        and {path.name for path in tmp_path.iterdir()} == {"a.npy", "m.safetensors"}
    )


def test_an_empty_text_is_no_path(tmp_path):
    for read, error in ((read_image, ImageError), (find_images, ImageError), (open_result, ResultError)):
        with pytest.raises(error, match="empty text"):
            read("")
    with pytest.raises(ResultError, match="empty text"):
        check_targets([""])


def maps(path):
    """Arrays of a user that show a file, and what they show."""
    np.save(path, PIXELS)
    whole = np.load(path, mmap_mode="r")
    yield "whole", whole
    yield "rows", whole[20:60]
    yield "big-endian", np.memmap(path, ">u2", "r", offset=128, shape=PIXELS.shape)
    yield "written", np.load(path, mmap_mode="r+")
    yield "reshaped", np.memmap(path, "u2", "r", offset=128 + 160, shape=PIXELS[1:].shape)


@pytest.mark.skipif(sys.platform != "linux", reason="others do not say which file is mapped")
@pytest.mark.parametrize("way", ["whole", "rows", "big-endian", "written", "reshaped"])
def test_a_mapped_file_that_is_cut_short_is_an_error(tmp_path, way):
    """The system ended the process."""
    array = dict(maps(tmp_path / "a.npy"))[way]
    image = Image.from_array(array)
    np.testing.assert_array_equal(image.data[:], array)
    np.testing.assert_array_equal(image.data[5:9, ::3], array[5:9, ::3])
    if way == "written":
        array[0, 0] = 77
        assert image.data[0, 0] == 77, "what the user writes is seen, flushed or not"
    os.truncate(tmp_path / "a.npy", 4000)
    assert not isinstance(image.data, np.ndarray), "reading it would end the process"
    with pytest.raises(ImageError, match="cut short"):
        segment(image, grey_model(), SegmentSettings(device="cpu"))


def test_maps_whose_values_are_not_those_of_the_file_stay_as_they_are(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS)
    own = np.load(tmp_path / "a.npy", mmap_mode="c")
    own[0, 0] = 77
    whole = np.load(tmp_path / "a.npy", mmap_mode="r")
    for array in (own, whole.T, whole[:, ::2], whole + 1, whole.copy(), np.sqrt(whole), whole[[3, 4]]):
        np.testing.assert_array_equal(Image.from_array(array).data[...], array)
    np.save(tmp_path / "b.npy", 0 * PIXELS)
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")  # under the same name, and not what is mapped
    np.testing.assert_array_equal(Image.from_array(whole).data[...], PIXELS)
    (tmp_path / "a.npy").unlink()
    np.testing.assert_array_equal(Image.from_array(whole).data[...], PIXELS)


@pytest.mark.parametrize("shape", [(10**9, 40), (40, 10**9), (2**27 + 1, 2), (10**30, 10**30)], ids=str)
def test_edges_beyond_any_image_are_refused_before_a_plan_is_made(shape):
    """A plan of 10^9 px took seven seconds and a list of millions."""
    with pytest.raises(TilingError, match="beyond any image"):
        plan_tiles(UNetSpec(), shape)
    with pytest.raises(TilingError, match="beyond any image"):
        plan_again(UNetSpec(), {"image_shape": list(shape), "write": [40, 40], "border": "reflect"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", True),
        ("status", ["compliant"]),
        ("status", "fine"),
        ("model", "words"),
        ("model", None),
        ("model", []),
        ("limits", "words"),
        ("limits", ["\x1b"]),
        ("limits", {"low": "a"}),
    ],
    ids=str,
)
def test_a_record_that_says_what_no_run_says_is_refused_by_relabel(tmp_path, capsys, key, value):
    """It was a mistake of the program, after the labels were written."""
    out = tmp_path / "r.zarr"
    segment(PIXELS, grey_model(), SegmentSettings(device="cpu"), out)
    found = json.loads((out / "zarr.json").read_text())
    record = found["attributes"]["napari-shiftseg"]["record"]
    assert key in record
    record[key] = value
    (out / "zarr.json").write_text(json.dumps(found))
    assert cli.main(["relabel", str(out), "--min-size", "9", "--labels-tiff", str(tmp_path / "new.tif")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "damaged" in err and not (tmp_path / "new.tif").exists()


def test_a_level_whose_path_is_longer_than_names_can_be_is_a_plain_sentence(tmp_path):
    zarr.open_group(str(tmp_path / "i.zarr"), mode="w").attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "m" * 5000}]}],
    }
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "i.zarr")
    assert "[Errno" not in str(caught.value) and len(str(caught.value)) < 500


def test_offsets_of_recipes_have_an_end():
    with pytest.raises(SettingsError, match="beyond any image"):
        synthetic.disks((60, 60), 20, 5, offset=10**20)


LENGTHS = {482_803_720: "planes of 482803720 px", 16_000_000: "3.07 GB of pixels and holds none"}


@pytest.mark.parametrize("length", LENGTHS)
def test_a_tiff_of_some_bytes_does_not_announce_gigabytes(tmp_path, length):
    """> 350 bytes whose planes were read as 22 GB of zeros"""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 192), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[0].tags
        tags[257].overwrite(length, dtype=4)
        places = [tags[code].offset for code in (273, 279)]
    data = bytearray(path.read_bytes())
    for place in places:  # no tag says where the strips lie
        data[place : place + 2] = (60_000).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(ImageError, match=LENGTHS[length]):
        read_image(path)


def chain(path, pages, back_to):
    """A TIFF whose last page names an earlier one as the next."""
    tifffile.imwrite(path, np.zeros((pages, 8, 8), np.uint8), metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
    data = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from("<H", data, offsets[-1])
    struct.pack_into("<I", data, offsets[-1] + 2 + 12 * tags, offsets[back_to])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("pages", "back_to"), [(1, 0), (2, 0), (3, 1), (150, 120)])
def test_pages_that_go_round_have_an_end(tmp_path, pages, back_to):
    with pytest.raises(ImageError, match="names an earlier page"):
        read_image(chain(tmp_path / "a.tif", pages, back_to))


def test_pages_of_another_file_of_a_set_that_go_round_have_an_end(tmp_path):
    other = chain(tmp_path / "b.ome.tif", 3, 1)
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="{ifd}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
        for z, (name, ifd) in enumerate([("a.ome.tif", 0), (other.name, 0), (other.name, 1)])
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a.ome.tif"><Image ID="Image:0"><Pixels '
        'ID="Pixels:0" SizeX="8" SizeY="8" SizeZ="3" SizeC="1" SizeT="1" Type="uint8" DimensionOrder="XYZCT">'
        f"{planes}</Pixels></Image></OME>"
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((8, 8), np.uint8), description=xml, metadata=None)
    with pytest.raises(ImageError, match=r"of b\.ome\.tif names an earlier page"):
        read_image(tmp_path / "a.ome.tif")


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="8" '
    'SizeY="8" SizeZ="1" SizeC="1" SizeT="1" Type="uint8" DimensionOrder="XYZCT"><TiffData IFD="0"/></Pixels></Image>{}</OME>'
)
MANY = {"deep": "<a>" * 101 + "</a>" * 101, "deep and cut off": "<a>" * 10**5, "flat": "<a/>" * (MOST_ELEMENTS + 1)}


@pytest.mark.parametrize("root", [OME, "<scn>{}</scn>"], ids=["OME", "another"])
@pytest.mark.parametrize("more", MANY)
def test_no_tree_is_made_of_xml_that_describes_no_image(tmp_path, monkeypatch, more, root):
    """> a description that was a million elements deep took 23 s"""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), description=root.format(MANY[more]), metadata=None)
    monkeypatch.setattr("xml.etree.ElementTree.fromstring", None)
    for read in (read_image, scene_names):
        with pytest.raises(ImageError, match=r"the XML in a\.tif (is more than 100 levels deep|has over 524288 elements)"):
            read(path)


def test_xml_of_many_planes_is_read(tmp_path):
    planes = "".join(f'<Plane TheZ="{t}" TheC="0" DeltaT="{t / 10}"><a/></Plane>' for t in range(20_000))
    text = (
        OME.replace("</Pixels>", f"{planes}</Pixels>")
        .format("<a>" * 99 + "</a>" * 99)
        .replace(' SizeZ="1"', ' SizeZ="1" PhysicalSizeX="2"')
    )
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), description=text, metadata=None)
    assert read_image(tmp_path / "a.tif").scale == (1.0, 2.0)


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "from disk"])
@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
@pytest.mark.parametrize("fault", ["cut", "zeros"])
def test_a_tile_of_a_jpeg_that_is_cut_is_not_read_as_grey(tmp_path, monkeypatch, compression, lazy, fault):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, (PIXELS % 251).astype("u1"), tile=(32, 32), compression=compression)
    if lazy:
        monkeypatch.setattr("napari_shiftseg.io.tiff.EAGER_BYTES", 0)
    assert read_image(path).data[...].shape == PIXELS.shape
    with tifffile.TiffFile(path, mode="r+b") as file:
        counts = file.pages[0].tags["TileByteCounts"]
        offset, count = file.pages[0].dataoffsets[4], counts.value[4]
        if fault == "cut":
            counts.overwrite([*counts.value[:4], count - 40, *counts.value[5:]])
    if fault == "zeros":
        with path.open("r+b") as file:
            file.seek(offset + count - 40)
            file.write(bytes(40))
    with pytest.raises(ImageError, match=r"tile that was cut short|is damaged|cannot be read"):
        read_image(path).reordered().frames(2)[0].view[...]


def test_a_tile_that_is_said_to_be_nowhere_is_counted(tmp_path):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, PIXELS, tile=(32, 32), compression="zlib")
    assert read_image(path).note == ""
    with tifffile.TiffFile(path, mode="r+b") as file:
        values = file.pages[0].tags["TileOffsets"]
        values.overwrite([*values.value[:4], 0, *values.value[5:]])
    assert "1 of 1 planes lacks pixels in the file; zeros" in read_image(path).note


LABELS = np.kron(np.arange(1, 31).reshape(6, 5), np.pad(np.ones((12, 12), int), 2)).astype("u2")
TOLD = {
    "measure": (["measure", "lost.tif", "--out", "t.csv"], "1 of 1 planes"),
    "export": (["export", "lost.zarr", "t.geojson"], "1 of 9 chunks"),
    "link": (["link", "series.zarr", "--axes", "tyx", "--through", "t", "--out", "t.zarr"], "1 of 18 chunks"),
    "seams": (["seams", "r.zarr", "--truth", "lost.tif"], "1 of 1 planes"),
    "evaluate": (["evaluate", "data", "--model", "m.safetensors", "--device", "cpu"], "2 more: 1 of 1 planes"),
    "train": (["train", "data", "--levels", "1", "--device", "cuda:99", "--out", "t.safetensors"], "2 more: 1 of 1 planes"),
}


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    """Labels of which a part is gone, in each form, a result, and pairs with such labels."""
    folder = tmp_path_factory.mktemp("lossy")
    for name, pixels, gone in (("lost", LABELS, "1/1"), ("series", np.stack([LABELS] * 2), "1/1/1")):
        zarr.create_array(str(folder / f"{name}.zarr"), data=pixels, chunks=(1, 32, 32)[-pixels.ndim :])
        (folder / f"{name}.zarr" / "c" / gone).unlink()
    tifffile.imwrite(folder / "lost.tif", LABELS, rowsperstrip=16)
    with tifffile.TiffFile(folder / "lost.tif", mode="r+b") as file:
        counts = file.pages[0].tags["StripByteCounts"]
        counts.overwrite([0, *counts.value[1:]])
    save_model(folder / "m.safetensors", grey_model())
    segment((LABELS > 0).astype("f4"), grey_model(), SegmentSettings(device="cpu", write=32), folder / "r.zarr")
    for kind, name in (("images", "lost.tif"), ("masks", "lost.tif")):
        (folder / "data" / kind).mkdir(parents=True)
        for stem in "ab" if kind == "masks" else "a":
            (folder / "data" / kind / f"{stem}.tif").write_bytes((folder / name).read_bytes())
    tifffile.imwrite(folder / "data" / "images" / "b.tif", LABELS)
    return folder


@pytest.mark.parametrize(("words", "said"), TOLD.values(), ids=TOLD)
def test_labels_of_which_a_part_is_gone_are_told(lossy, tmp_path, monkeypatch, capsys, words, said):
    """> zeros in the place of labels are objects that nobody misses: a measurement or a score without them looks right"""
    monkeypatch.chdir(lossy)
    words = [str(tmp_path / word) if word.startswith("t.") else word for word in words]
    if words[0] == "link":
        pytest.importorskip("laptrack")
    # a training says it before it begins, and this one cannot
    assert cli.main([*words, "--json"] if words[0] != "train" else words) in ((0, 3) if words[0] != "train" else (2,))
    assert said in capsys.readouterr().out
