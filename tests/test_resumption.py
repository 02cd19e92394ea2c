"""An unfinished run goes on with what is whole and of this image; all else is done again, or refused."""

import json
import os
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tifffile
import zarr
from grey import UNCHANGED, bars, grey_model
from power import Record, cuts

from napari_shiftseg import SegmentSettings, open_result, segment
from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.events import BlockDone, Stage, TileDone, drain
from napari_shiftseg.io import Image, WorkFolder, work_path
from napari_shiftseg.segmentation import decide, segment_steps
from napari_shiftseg.segmentation.blockwise import part_file
from napari_shiftseg.segmentation.resumption import discard_damaged

LARGE = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True, write=64)
MEMORY = replace(LARGE, out_of_core=False, memory=None)
MODEL = grey_model(deep=0.5, normalisation=UNCHANGED)
PIXELS = bars((600, 60))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Two blocks, of which the second begins at row 512."""
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    monkeypatch.setattr("napari_shiftseg.segmentation.engine.WRITERS", 1)


@cache
def labels_with(place):
    """Of the image in memory, with that pixel changed."""
    return segment(PIXELS if place is None else other_pixel(*place), MODEL, MEMORY).labels


def begin(image, out, stop, **options):
    """Run up to an event, and leave."""
    with closing(segment_steps(image, MODEL, LARGE, out, **options)) as steps:
        next(event for event in steps if stop(event))


def first_block(event):
    return isinstance(event, BlockDone) and not event.final


def last_but_one(event):
    return isinstance(event, Stage) and event.text == "table and pyramid"


# -- the image changes ------------------------------------------------------------------------------------------------


def save_zarr(path, pixels):
    if path.exists():
        zarr.open_array(str(path), mode="r+")[:] = pixels
    else:
        zarr.create_array(str(path), data=pixels, chunks=(64, 64))


def save_in_place(path, pixels):
    """As a process that holds the file open; its time of writing is put back."""
    if not path.exists():
        np.save(path, pixels)
        return
    before = path.stat()
    np.lib.format.open_memmap(path, mode="r+")[:] = pixels
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


SAVE = {
    "image.zarr": save_zarr,
    "image.npy": save_in_place,
    "image.tif": lambda path, pixels: tifffile.imwrite(path, pixels, compression="zlib", tile=(64, 64)),
}


def other_pixel(row, column):
    pixels = PIXELS.copy()
    pixels[row, column] = 1 - pixels[row, column]
    return pixels


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize(("place", "seen"), [((100, 33), True), ((520, 7), True), ((595, 30), False)], ids=str)
def test_a_pixel_that_changed_is_seen_where_work_was_done_of_it(tmp_path, monkeypatch, name, place, seen):
    """Of a block counts what it has read, its margin included; what no block has read yet is read as it is now."""
    monkeypatch.setattr("napari_shiftseg.io.tiff.EAGER_BYTES", 0)
    monkeypatch.setattr("napari_shiftseg.io.plain_file.EAGER_BYTES", 0)
    SAVE[name](tmp_path / name, PIXELS)
    begin(tmp_path / name, tmp_path / "r.zarr", first_block)
    SAVE[name](tmp_path / name, other_pixel(*place))
    if seen:
        with pytest.raises(ResultError, match=r"another image, of which pixels have changed since; .*--overwrite"):
            segment(tmp_path / name, MODEL, LARGE, tmp_path / "r.zarr")
        found = drain(segment_steps(tmp_path / name, MODEL, LARGE, tmp_path / "r.zarr", overwrite=True))
    else:
        found = segment(tmp_path / name, MODEL, LARGE, tmp_path / "r.zarr")
    np.testing.assert_array_equal(found.labels[:], labels_with(place))


def test_an_array_that_changed_is_seen(tmp_path):
    begin(PIXELS, tmp_path / "r.zarr", first_block)
    with pytest.raises(ResultError, match="another image"):
        segment(other_pixel(100, 33), MODEL, LARGE, tmp_path / "r.zarr")


def test_files_that_were_touched_alone_hold_the_same_image(tmp_path):
    save_zarr(tmp_path / "image.zarr", PIXELS)
    begin(tmp_path / "image.zarr", tmp_path / "r.zarr", first_block)
    for file in (tmp_path / "image.zarr").rglob("*"):
        os.utime(file)
    events = []
    found = segment(tmp_path / "image.zarr", MODEL, LARGE, tmp_path / "r.zarr", on_event=events.append)
    assert sum(map(first_block, events)) == 1
    np.testing.assert_array_equal(found.labels[:], labels_with(None))


def test_files_that_nobody_touched_are_not_read_again(tmp_path, monkeypatch):
    save_zarr(tmp_path / "image.zarr", PIXELS)
    begin(tmp_path / "image.zarr", tmp_path / "r.zarr", last_but_one)
    monkeypatch.setattr("napari_shiftseg.segmentation.resumption.read_region", None)
    found = segment(tmp_path / "image.zarr", MODEL, LARGE, tmp_path / "r.zarr")
    np.testing.assert_array_equal(found.labels[:], labels_with(None))


@pytest.mark.parametrize("name", SAVE)
def test_an_image_that_changes_during_a_run_out_of_core_ends_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr("napari_shiftseg.io.tiff.EAGER_BYTES", 0)
    monkeypatch.setattr("napari_shiftseg.io.plain_file.EAGER_BYTES", 0)
    SAVE[name](tmp_path / name, PIXELS)
    steps = segment_steps(tmp_path / name, MODEL, LARGE, tmp_path / "r.zarr")
    next(event for event in steps if first_block(event))
    SAVE[name](tmp_path / name, other_pixel(100, 33))
    # of a file that is written while its parts are looked up, these lie elsewhere
    with pytest.raises(
        ImageError, match="changed while it was segmented" if "tif" not in name else "cannot be read to the end"
    ):
        drain(steps)
    assert not (tmp_path / "r.zarr").exists()
    with pytest.raises(ResultError, match="another image"):
        segment(tmp_path / name, MODEL, LARGE, tmp_path / "r.zarr")


@pytest.mark.parametrize("place", [(100, 33), (3, 59), (599, 0)], ids=str)
def test_any_pixel_of_an_array_that_is_edited_during_a_run_in_memory_ends_it(place):
    pixels = PIXELS.copy()
    steps = segment_steps(pixels, MODEL, MEMORY)
    next(event for event in steps if isinstance(event, TileDone))
    pixels[place] = 1 - pixels[place]
    with pytest.raises(ImageError, match="of two images"):
        drain(steps)


@pytest.mark.parametrize("how", ["the file", "the array", "while it is copied", "before it is saved"])
def test_an_image_that_changes_during_a_run_in_memory_ends_it(tmp_path, monkeypatch, how):
    place, pixels, after = tmp_path / "image.zarr", PIXELS.copy(), other_pixel(100, 33)
    save_zarr(place, pixels)
    out = None if how in ("the file", "the array") else tmp_path / "r.zarr"
    if how == "while it is copied":
        monkeypatch.setattr("napari_shiftseg.io.result.ResultWriter.copy_image", lambda *_: save_zarr(place, after))
    if how == "before it is saved":
        result = segment(place, MODEL, MEMORY)
        save_zarr(place, after)
        with pytest.raises(ImageError, match="of two images"):
            result.save(out)
        assert not out.exists()
        result.save(out, copy_image=False)
        return
    steps = segment_steps(pixels if how == "the array" else place, MODEL, MEMORY, out)
    next(event for event in steps if isinstance(event, TileDone))
    if how == "the file":
        save_zarr(place, after)
    pixels[:] = 0.5
    with pytest.raises(ImageError, match="of two images"):
        drain(steps)
    assert os.listdir(tmp_path) == ["image.zarr"]


def test_an_image_that_changed_before_a_run_is_looked_at_again(tmp_path):
    """> the limits of one image are not those of the next"""
    from napari_shiftseg.segmentation import look

    model = grey_model(deep=0.5)
    save_zarr(tmp_path / "image.zarr", PIXELS)
    job = look(decide(tmp_path / "image.zarr", model, MEMORY))
    save_zarr(tmp_path / "image.zarr", PIXELS * 3)
    assert look(job).limits(0).high[0] == pytest.approx(3 * job.limits(0).high[0])


# -- parts are damaged ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """The folder of a run that lacks its last step."""
    folder = tmp_path_factory.mktemp("unfinished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
        begin(PIXELS, folder / "r.zarr", last_but_one)
        begin(PIXELS, folder / "early.zarr", lambda event: isinstance(event, Stage) and event.text == "labels")
    return work_path(folder / "r.zarr")


HARM = {
    "gone": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "long": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "new": lambda file: (file.parent.mkdir(), file.write_bytes(b"{")),
    "a bit": lambda file: file.write_bytes(flipped(file.read_bytes())),
}


def flipped(data):
    found = bytearray(data)
    found[len(data) // 2] ^= 4
    return bytes(found)


FILES = {
    "faces/0-1.npz": "short",
    "fragments/0/c/0/0": "all",
    "fragments/zarr.json": "empty",
    "store/labels/instances/0/zarr.json": "a bit",
    "store/labels/instances/0/c/1/0": "zeros",
    "numbers/0.npz": "a bit",
    "rest/0-0.npz": "zeros",
    "tables/0-0.npz": "short",
    "numbers/0-with-rest.npz": "gone",
    "model.safetensors": "gone",
    "run.json": "a bit",
    "store/labels/instances/3/zarr.json": "new",
}
CASES = [
    (name, harm) for name, harms in FILES.items() for harm in ([h for h in HARM if h != "new"] if harms == "all" else [harms])
]


@pytest.mark.parametrize(("name", "harm"), CASES, ids=map("-".join, CASES))
def test_what_is_damaged_is_done_again(tmp_path, unfinished, name, harm):
    # fragments are needed until the labels are written
    early = work_path(unfinished.parent / "early.zarr")
    shutil.copytree(early if "fragments" in name else unfinished, work_path(tmp_path / "r.zarr"))
    HARM[harm](work_path(tmp_path / "r.zarr") / name)
    found = segment(PIXELS, MODEL, LARGE, tmp_path / "r.zarr")
    np.testing.assert_array_equal(found.labels[:], labels_with(None))
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_what_was_made_of_a_damaged_part_goes_with_it(tmp_path, unfinished):
    """> the fragments of a block that is done again may have other numbers"""
    shutil.copytree(unfinished, work_path(tmp_path / "r.zarr"))
    work = WorkFolder(tmp_path / "r.zarr")
    layout = decide(PIXELS, MODEL, LARGE, tmp_path / "r.zarr").layout
    discard_damaged(work, layout)
    assert work.names("tables") == {"0-0", "0-1"}, "what is whole stays"
    (work.path / part_file("reach", 0, 1)).unlink()
    discard_damaged(work, layout)
    left = {name: sorted(work.names(name)) for name in ("faces", "numbers", "rest", "tables")}
    assert left == {"faces": ["0-0", "0-1"], "numbers": ["0"], "rest": ["0-0"], "tables": []}


def test_the_run_of_an_earlier_version_is_refused_or_begun_anew(tmp_path, unfinished):
    shutil.copytree(unfinished, work_path(tmp_path / "r.zarr"))
    file = work_path(tmp_path / "r.zarr") / "run.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in known.items() if name not in ("parts", "checksum")}))
    with pytest.raises(ResultError, match=r"begun by another version .* cannot be checked; finish it .* or remove"):
        segment(PIXELS, MODEL, LARGE, tmp_path / "r.zarr")
    drain(segment_steps(PIXELS, MODEL, LARGE, tmp_path / "r.zarr", overwrite=True))
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").labels[:], labels_with(None))


def swap(folder, other):
    one, two = (folder / part_file("find", 0, number) for number in (0, 1))
    one.rename(other / "kept"), two.rename(one), (other / "kept").rename(two)


def take_all(folder, other):
    shutil.copytree(other, folder, ignore=shutil.ignore_patterns("run.json"), dirs_exist_ok=True)


def take_record(folder, other):
    known = json.loads((folder / "run.json").read_text())
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    (folder / "run.json").write_text(json.dumps(known))


@pytest.mark.parametrize("mixed", [swap, take_all, take_record])
def test_a_part_counts_in_its_place_and_in_its_run_alone(tmp_path, mixed):
    """Each part was whole, and the labels were those of the other place or run."""
    np.save(tmp_path / "image.npy", PIXELS)  # whose files nobody touched
    for name, wish in (("r.zarr", LARGE), ("other.zarr", replace(LARGE, min_size=10**6))):
        with closing(segment_steps(tmp_path / "image.npy", MODEL, wish, tmp_path / name)) as steps:
            next(event for event in steps if last_but_one(event))
    mixed(work_path(tmp_path / "r.zarr"), work_path(tmp_path / "other.zarr"))
    found = segment(tmp_path / "image.npy", MODEL, LARGE, tmp_path / "r.zarr")
    np.testing.assert_array_equal(found.labels[:], labels_with(None))


def test_values_beside_a_run_are_of_that_run_and_place(tmp_path):
    """Which smaller tiles a run took was believed of any run."""
    with WorkFolder(tmp_path / "r.zarr") as one, WorkFolder(tmp_path / "s.zarr") as other:
        for folder, run in ((one, "one"), (other, "other")):
            folder.write_json("run.json", {"run": run})
            folder.write_json("smaller.json", {"tiles": run})
        shutil.copy(one.path / "smaller.json", one.path / "more.json")
        assert one.read_json("smaller.json") == {"tiles": "one"} and one.read_json("more.json") is None
        shutil.copy(one.path / "smaller.json", other.path)
        assert other.read_json("smaller.json") is None and WorkFolder(tmp_path / "s.zarr").read_json("run.json") is not None
        (one.path / "smaller.json").write_text('{"tiles": "one"}')
        assert one.read_json("smaller.json") is None


def test_values_of_a_run_that_have_changed_are_none(tmp_path):
    with WorkFolder(tmp_path / "r.zarr") as folder:
        folder.write_json("run.json", {"run": "one", "block": 512})
        file = folder.path / "run.json"
        assert folder.read_json("run.json") == {"run": "one", "block": 512}
        file.write_text(file.read_text().replace("512", "513"))
        assert folder.read_json("run.json") is None


@pytest.mark.parametrize("channels", [1, 2])
def test_the_embedding_of_a_damaged_block_is_written_again(tmp_path, channels):
    wish = replace(LARGE, keep_embedding=True)
    image = Image.from_array(PIXELS, "yx")
    with closing(segment_steps(image, MODEL, wish, tmp_path / "r.zarr")) as steps:
        next(event for event in steps if last_but_one(event))
    (file,) = (work_path(tmp_path / "r.zarr") / "store" / "embedding" / "0").glob(f"c/{channels - 1}/1/0")
    file.write_bytes(b"")
    found = segment(image, MODEL, wish, tmp_path / "r.zarr").stored.embedding[:]
    np.testing.assert_array_equal(found, segment(image, MODEL, replace(MEMORY, keep_embedding=True)).embedding)


# -- power cuts -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="its files have no numbers that tell them apart while they are open")
def test_a_power_cut_at_any_moment_costs_work_and_never_a_pixel(tmp_path, monkeypatch):
    (tmp_path / "live").mkdir()
    record = Record(tmp_path / "live")
    with monkeypatch.context() as watched:
        record.watch(watched)
        expected = segment(PIXELS, MODEL, LARGE, tmp_path / "live" / "r.zarr").labels[:]
    kinds = {kind for kind, *_ in record.steps}
    assert kinds == {"write", "names", "sync"} and len(record.steps) > 100
    for number, (count, chance) in enumerate(cuts(len(record.steps), CUTS, seed=0)):
        folder = tmp_path / str(number)
        record.after(count, folder, chance)
        done = (folder / "r.zarr").exists() and not work_path(folder / "r.zarr").exists()
        found = open_result(folder / "r.zarr") if done else segment(PIXELS, MODEL, LARGE, folder / "r.zarr")
        np.testing.assert_array_equal(found.labels[:], expected, err_msg=f"cut {number} after step {count}")
        assert [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] == ["r.zarr"]


CUTS = int(os.environ.get("SHIFTSEG_POWER_CUTS", "12"))
