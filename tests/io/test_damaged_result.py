"""A finished result of which a byte has changed or a file is gone: one sentence, and never another number."""

import shutil

import numpy as np
import pytest
import zarr
from grey import bars, grey_model

from napari_shiftseg import SegmentSettings, open_result, save_model, segment
from napari_shiftseg.cli import main
from napari_shiftseg.errors import ImageError, OutOfMemoryError, ShiftsegError
from napari_shiftseg.io import StoredEdits, read_image
from napari_shiftseg.io.store import FILES_KEY
from napari_shiftseg.io.stored_edits import write_pixels
from napari_shiftseg.views import View

WISH = SegmentSettings(device="cpu", write=6)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A result in memory with its image, and one out of core with its table; both have seams, and chunks of zeros."""
    folder = tmp_path_factory.mktemp("results")
    save_model(folder / "grey.safetensors", grey_model())
    pixels = np.zeros((600, 80), np.uint8)
    pixels[:300] = np.round(200 * bars((300, 80)))
    np.save(folder / "image.npy", pixels)
    segment(pixels, grey_model(), WISH, folder / "memory.zarr")
    large = SegmentSettings(device="cpu", write=6, out_of_core=True, memory=1 << 30, keep_embedding=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
        segment(folder / "image.npy", grey_model(), large, folder / "blocks.zarr")
    return folder


def chunks(folder):
    return sorted(path for path in (folder / "c").rglob("*") if path.is_file())


def change(file):
    """Three bytes of it: some bits of a compressed chunk mean nothing."""
    data = bytearray(file.read_bytes())
    for quarter in (1, 2, 3):
        data[quarter * len(data) // 4] ^= 0xFF
    file.write_bytes(data)


def arrays(store):
    """Every array of a store, with its chunks."""
    found = [path.parent for path in store.rglob("zarr.json") if (path.parent / "c").is_dir()]
    return {path.relative_to(store).as_posix(): chunks(path) for path in sorted(found)}


@pytest.mark.parametrize("name", ["memory.zarr", "blocks.zarr"])
def test_whichever_byte_of_a_chunk_changes_no_number_does(tmp_path, results, name):
    """> 907 of 982 single changed bytes gave other numbers, and no error, before chunks had a checksum"""
    rng = np.random.default_rng(0)
    shutil.copytree(results / name, tmp_path / "r.zarr")
    for array, files in arrays(tmp_path / "r.zarr").items():
        wanted = zarr.open_array(tmp_path / "r.zarr" / array, mode="r")[:]
        data = files[0].read_bytes()
        refused = 0
        places = {0, len(data) - 1, *rng.integers(0, len(data), 40).tolist()}
        for place in places:
            files[0].write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            try:
                found = zarr.open_array(tmp_path / "r.zarr" / array, mode="r")[:]
            except (RuntimeError, ValueError):  # of whatever reads zstd
                refused += 1
                continue
            np.testing.assert_array_equal(found, wanted, err_msg=f"{array}, byte {place}")
        assert refused > len(places) / 2, array
        files[0].write_bytes(data)


COMMANDS = {
    "seams": ("seams", "{r}", "--csv", "{folder}/seams.csv"),
    "measure": ("measure", "{r}", "--out", "{folder}/table.csv"),
    "labels": ("export", "{r}", "{folder}/labels.tif"),
    "outlines": ("export", "{r}", "{folder}/outlines.geojson"),
    "copy": ("export", "{r}", "{folder}/labels.ome.zarr"),
    "relabel": ("relabel", "{r}", "--min-size", "9", "--out", "{folder}/other.zarr"),
    "image": ("segment", "{r}", "--model", "{model}", "--device", "cpu", "--out", "{folder}/other.zarr"),
}
READ = {
    "memory.zarr": {
        "0": {"measure", "relabel", "image"},
        "embedding/0": {"seams", "relabel"},
        "foreground/0": {"relabel"},
        "labels/instances/0": {"seams", "measure", "labels", "outlines", "copy"},
    },
    "blocks.zarr": {
        "embedding/0": {"seams", "relabel"},
        "foreground/0": {"relabel"},
        "labels/instances/0": {"seams", "measure", "labels", "outlines", "copy"},
    },
}
CASES = [
    (store, array, command, harm)
    for store, read in READ.items()
    for array, commands in read.items()
    for command in sorted(commands)
    for harm in ("changed", "gone")
]


@pytest.mark.parametrize(("store", "array", "command", "harm"), CASES, ids=map("-".join, CASES))
def test_a_command_says_in_one_sentence_that_a_result_is_damaged(tmp_path, capsys, results, store, array, command, harm):
    shutil.copytree(results / store, tmp_path / "r.zarr")
    for file in chunks(tmp_path / "r.zarr" / array):
        change(file)
        if harm == "gone":
            file.unlink()
    words = {"r": tmp_path / "r.zarr", "folder": tmp_path, "model": results / "grey.safetensors"}
    assert main([word.format(**words) for word in COMMANDS[command]]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert ("cannot be read to the end" if harm == "changed" else "files of") in said
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"], "nothing is left of what was begun"


@pytest.mark.parametrize("place", ["folder", "zip"])
@pytest.mark.parametrize("shards", [None, (32, 32)], ids=str)
def test_an_empty_file_is_no_chunk_of_zeros(tmp_path, shards, place):
    """> of a shard that is empty, each chunk was taken for one of zeros"""
    store = tmp_path / "image.zarr"
    zarr.create_array(store, data=np.full((40, 48), 7, np.uint8), chunks=(16, 16), shards=shards)
    chunks(store)[1].write_bytes(b"")
    if place == "zip":
        store = shutil.make_archive(tmp_path / "image.zarr", "zip", store)
    with pytest.raises(ImageError, match=r"empty|cannot be read to the end"):
        View.whole(read_image(store).data)[:]


def test_a_table_of_which_a_column_is_damaged_is_refused(tmp_path, results):
    for harm in ("changed", "gone"):
        store = tmp_path / f"{harm}.zarr"
        shutil.copytree(results / "blocks.zarr", store)
        (file,) = chunks(store / "objects" / "area")
        change(file) if harm == "changed" else file.unlink()
        with pytest.raises(ShiftsegError, match=r"cannot be read|files of"):
            open_result(store).objects()


def test_a_table_larger_than_the_free_memory_is_not_read(results, monkeypatch):
    stored = open_result(results / "blocks.zarr")
    needed = sum(column.nbytes for column in stored.objects().values())
    monkeypatch.setattr("napari_shiftseg.io.stored_result.free_memory", lambda: needed)
    assert stored.objects()
    monkeypatch.setattr("napari_shiftseg.io.stored_result.free_memory", lambda: needed - 1)
    with pytest.raises(OutOfMemoryError, match=r"the table of .* says"):
        stored.objects()


def test_zeros_that_were_never_written_are_no_damage(results):
    labels = zarr.open_array(results / "blocks.zarr" / "labels" / "instances" / "0", mode="r")
    assert labels.attrs[FILES_KEY] == 1 < -(-labels.shape[0] // labels.shards[0]), "a block of background has no file"
    assert open_result(results / "blocks.zarr").labels[:].max() > 3
    assert read_image(results / "memory.zarr").note == "", "nothing is said of chunks that are as they were written"


def test_a_result_of_an_earlier_version_is_read_as_before(tmp_path, results):
    shutil.copytree(results / "blocks.zarr", tmp_path / "r.zarr")
    array = zarr.open_array(tmp_path / "r.zarr" / "labels" / "instances" / "0", mode="r+")
    array.attrs.clear()
    for file in chunks(tmp_path / "r.zarr" / "labels" / "instances" / "0"):
        file.unlink()
    assert open_result(tmp_path / "r.zarr").labels[:].max() == 0


def test_an_edit_of_damaged_labels_changes_nothing(tmp_path, results):
    shutil.copytree(results / "blocks.zarr", tmp_path / "r.zarr")
    for file in chunks(tmp_path / "r.zarr" / "labels" / "instances" / "0"):
        file.unlink()
    edits = StoredEdits(tmp_path / "r.zarr")
    with pytest.raises(ImageError, match="is gone"):
        edits.delete(int(edits.rows()["index"][0]))
    assert not chunks(tmp_path / "r.zarr" / "labels" / "instances" / "0") and edits.edits == []


def test_pixels_are_not_written_over_a_file_that_is_gone(tmp_path, results):
    shutil.copytree(results / "blocks.zarr", tmp_path / "r.zarr")
    for file in chunks(tmp_path / "r.zarr" / "labels" / "instances" / "1"):
        file.unlink()
    with pytest.raises(ImageError, match="is gone"):
        write_pixels(tmp_path / "r.zarr" / "labels" / "instances", (np.array([0]), np.array([0])), np.array([7]), axes="yx")


@pytest.mark.parametrize("name", ["memory.zarr", "blocks.zarr"])
def test_the_last_object_can_be_deleted_and_its_files_stay(tmp_path, results, name):
    shutil.copytree(results / name, tmp_path / "r.zarr")
    edits = StoredEdits(tmp_path / "r.zarr")
    before = edits.labels[:]
    for number in np.unique(before[before > 0]).tolist():
        edits.delete(number)
    for level in open_result(tmp_path / "r.zarr").levels("labels"):
        assert level[:].max() == 0
    assert len(open_result(tmp_path / "r.zarr").objects().get("index", ())) == 0
    edits.undo()
    assert np.unique(open_result(tmp_path / "r.zarr").labels[:]).size == 2


@pytest.mark.parametrize("shape", [[1, 600, 80], [2, 600], [2, 600, 80, 1], [2, 80, 600]], ids=str)
def test_an_embedding_of_another_shape_than_the_labels_is_not_theirs(tmp_path, results, capsys, shape):
    shutil.copytree(results / "memory.zarr", tmp_path / "r.zarr")
    shutil.rmtree(tmp_path / "r.zarr" / "embedding" / "0")
    zarr.create_array(str(tmp_path / "r.zarr" / "embedding" / "0"), data=np.zeros(shape, "f4"))
    if shape[0] == 1:
        open_result(tmp_path / "r.zarr")
        return
    assert main(["relabel", str(tmp_path / "r.zarr"), "--labels-tiff", str(tmp_path / "l.tif")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "run the segmentation again" in err
