"""Saved results open as the layers that the Segment widget made, and other folders are left to other readers."""

import json
import os
import shutil
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

import zarr
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest

import napari_shiftseg
from napari_shiftseg import SegmentSettings, load_model, open_result, segment
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.io import Image, save_result
from napari_shiftseg.io.constants import LARGEST_METADATA
from napari_shiftseg.plugin import reader as module
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.overlays import Overlays
from napari_shiftseg.plugin.reader import get_reader, read_result
from napari_shiftseg.plugin.subject import is_result, subject_of


def image_of(shape, axes, scale):
    data = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    return Image.from_array(data, axes=axes, scale=scale, units=["second" if a == "t" else "micrometer" for a in axes])


@pytest.fixture(scope="session")
def saved(tmp_path_factory, tiny):
    """`saved(axes)`: a result in memory and where it was saved."""
    kinds = {"yx": (40, 48), "tyx": (2, 40, 48), "zyx": (3, 40, 48)}
    folder = tmp_path_factory.mktemp("results")

    def save(axes):
        image = image_of(kinds[axes], axes, (4.0, 0.5, 0.5)[-len(axes) :])
        result = segment(image, load_model(tiny), SegmentSettings(write=16))
        return result, result.save(folder / f"{axes}.zarr", overwrite=True)

    return save


@pytest.fixture
def said():
    """`said()`: the last thing that napari was told to say."""
    notification_manager.records.clear()
    yield lambda: notification_manager.records[-1].message
    notification_manager.records.clear()


def opened(path):
    viewer = ViewerModel()
    for made in get_reader(str(path))(str(path)):
        getattr(viewer, f"add_{made[2]}")(made[0], **made[1])
    return viewer


@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx"])
def test_a_saved_result_comes_back(saved, axes):
    result, path = saved(axes)
    image, embedding, labels = opened(path).layers
    assert [layer.name for layer in (image, embedding, labels)] == [axes, f"{axes} embedding", f"{axes} instances"]
    assert (image.visible, embedding.visible, labels.visible) == (True, False, True)
    assert np.array_equal(image.data, result.image.data)
    assert np.array_equal(embedding.data, result.embedding)  # channels first, before time
    assert np.array_equal(labels.data, result.labels)
    assert labels.scale.tolist() == list(result.scale)
    assert [str(unit) for unit in labels.units] == list(result.units)
    known = labels.metadata[KEY]
    assert known["record"] == json.loads(json.dumps(open_result(path).record))
    assert isinstance(known["plan"], TilePlan)
    assert known["plan"].to_dict() == result.plan.to_dict()
    assert KEY not in image.metadata  # the Segment widget offers it


def test_lines_lie_over_a_result_from_disk(saved):
    result, path = saved("yx")
    viewer = opened(path)
    overlays = Overlays(viewer)
    overlays.look_at(viewer.layers["yx instances"])
    overlays.show("seams", True)
    seams = overlays.layers["seams"].data
    down = sorted(seams[seams[:, 1, 0] > 0][:, 0, 1])
    assert down == [p - 0.5 for p in result.plan.seams()[1]]


def test_a_result_from_disk_finds_its_image_and_its_other_layers(saved):
    result, path = saved("tyx")
    viewer = opened(path)
    viewer.dims.current_step = (0, 1, 0, 0)
    subject = subject_of(viewer, viewer.layers["tyx instances"])
    assert subject.where == "t = 1"
    assert np.array_equal(subject.frame("embedding")[...], result.embedding[:, 1])
    assert np.array_equal(subject.pixels()[...], result.image.data[1][None])
    assert subject.tile_plan().seams() == result.plan.seams()


def test_large_parts_are_not_read_whole(saved, monkeypatch):
    result, path = saved("tyx")
    monkeypatch.setattr(module, "WHOLE_BYTES", 0)
    viewer = opened(path)
    _, embedding, labels = viewer.layers
    assert not isinstance(embedding.data, np.ndarray)
    data = embedding.data[0] if embedding.multiscale else embedding.data
    assert np.array_equal(np.asarray(data), result.embedding)
    subject = subject_of(viewer, labels)
    assert np.array_equal(subject.frame("labels")[...], result.labels[0])


def test_labels_alone_are_a_result(tmp_path):
    path = save_result(tmp_path / "bare.zarr", labels=np.eye(16, dtype=np.uint16), axes="yx", record={"by": "hand"})
    (labels,) = opened(path).layers
    assert np.array_equal(labels.data, np.eye(16))
    assert not is_result(labels)  # nothing says how it was tiled


@pytest.fixture
def strangers(tmp_path):
    zarr.create_array(str(tmp_path / "plain.zarr"), shape=(8, 8), dtype="u1")
    zarr.open_group(str(tmp_path / "group.zarr"), mode="w")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "file.zarr").write_bytes(b"\x00\x01")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text('{"attributes": [1')
    return tmp_path


@pytest.mark.parametrize("name", ["empty", "file", "absent"])
def test_what_is_no_store_is_declined_at_once(strangers, name):
    started = time.perf_counter()
    assert get_reader(str(strangers / f"{name}.zarr")) is None
    assert time.perf_counter() - started < 0.1


def test_a_description_that_is_none_is_not_read(tmp_path):
    """One longer than any, and a pipe, at whose other end nobody is."""
    for name in ("long", "pipe"):
        (tmp_path / name).mkdir()
    told = json.dumps({"attributes": {KEY: {}}})
    (tmp_path / "long" / "zarr.json").write_text(told)
    assert get_reader(str(tmp_path / "long")) is read_result
    (tmp_path / "long" / "zarr.json").write_text(told + " " * LARGEST_METADATA)
    assert get_reader(str(tmp_path / "long")) is not read_result
    os.mkfifo(tmp_path / "pipe" / "zarr.json")
    found = []
    look = Thread(target=lambda: found.append(get_reader(str(tmp_path / "pipe"))), daemon=True)
    look.start()
    look.join(20)
    assert len(found) == 1 and found[0] is not read_result


@pytest.mark.parametrize("name", ["group", "broken"])
def test_a_store_without_an_image_is_one_sentence(strangers, name, said):
    path = str(strangers / f"{name}.zarr")
    assert get_reader(path)(path) == [(None,)]
    assert name in said() and "\n" not in said()


def test_a_damaged_result_is_one_sentence(saved, tmp_path, said):
    _, path = saved("yx")
    broken = shutil.copytree(path, tmp_path / "broken.zarr")
    shutil.rmtree(broken / "labels")
    assert get_reader(str(broken))(str(broken)) == [(None,)]
    assert "run the segmentation again" in said()


def test_file_open_finds_the_reader(saved, npe2pm):
    _, path = saved("yx")
    manifest = PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))
    with npe2pm.tmp_plugin(manifest=manifest):
        viewer = ViewerModel()
        layers = viewer.open(path, plugin=None)
    assert [layer.name for layer in layers] == ["yx", "yx embedding", "yx instances"]
    assert layers[-1].source.reader_plugin == "napari-shiftseg"
