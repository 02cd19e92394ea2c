"""What is dropped on napari opens with a reader that can: results, stores of others, zipped ones, and plain folders."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")
pytest.importorskip("napari_builtins")

import napari_builtins
import tifffile
import zarr
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.plugins import _npe2
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest

import napari_shiftseg
from napari_shiftseg import SegmentSettings
from napari_shiftseg.events import drain
from napari_shiftseg.io import save_result
from napari_shiftseg.plugin.layers import segment_and_draw
from napari_shiftseg.plugin.reader import get_reader
from napari_shiftseg.plugin.source import image_of

rng = np.random.default_rng(0)


@pytest.fixture
def plugins(npe2pm):
    """This plugin beside napari's own readers, as on every machine."""
    own = PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))
    theirs = PluginManifest.from_file(Path(napari_builtins.__file__).with_name("builtins.yaml"))
    with npe2pm.tmp_plugin(manifest=own), npe2pm.tmp_plugin(manifest=theirs):
        yield npe2pm


@pytest.fixture
def said():
    """`said()`: what napari was told to say."""
    notification_manager.records.clear()
    yield lambda: [record.message for record in notification_manager.records]
    notification_manager.records.clear()


def drop(path, qtbot):
    """Open a path as a drop and Enter in napari's dialog do."""
    from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog

    readers = _npe2.get_readers(str(path))
    chosen = next(iter(readers))
    if len(readers) > 1:
        dialog = QtReaderDialog(pth=str(path), readers=readers)
        qtbot.addWidget(dialog)
        chosen = next(name for name, shown in readers.items() if shown == dialog._get_plugin_choice())
    viewer = ViewerModel()
    viewer.open(str(path), plugin=chosen)
    return viewer


def ome_zarr(path, data, axes="tczyx", version="0.4", scale=None, translation=None, levels=1, **more):
    """A store of somebody else."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    kinds = {"t": "time", "c": "channel"}
    datasets = []
    for level in range(levels):
        group.create_array(str(level), data=data[..., :: 2**level, :: 2**level])
        steps = [step * (2**level if axis in "yx" else 1) for step, axis in zip(scale or (1.0,) * len(axes), axes, strict=True)]
        transforms = [{"type": "scale", "scale": steps}]
        transforms += [{"type": "translation", "translation": translation}] if translation else []
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    named = [{"name": a, "type": kinds.get(a, "space"), **({"unit": "micrometer"} if a in "zyx" else {})} for a in axes]
    entry = {"version": version, "axes": named, "datasets": datasets, **more}
    if version == "0.4":
        group.attrs["multiscales"] = [entry]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [entry]}
    return group


def test_a_dropped_result_opens_by_the_reader_that_napari_chooses_first(plugins, qtbot, tmp_path):
    """Without an image and an embedding the store holds no arrays that napari's own reader finds."""
    path = save_result(tmp_path / "r.ome.zarr", labels=np.eye(16, dtype=np.uint16), axes="yx", record={})
    (labels,) = drop(path, qtbot).layers
    assert isinstance(labels, Labels)
    assert labels.source.reader_plugin == "napari-shiftseg"
    with pytest.raises(ValueError, match="No arrays"):
        ViewerModel().open(str(path), plugin="napari")


def test_a_dropped_folder_of_images_still_opens(plugins, qtbot, tmp_path):
    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", rng.integers(0, 9, (20, 24)).astype(np.uint8))
    (layer,) = drop(tmp_path, qtbot).layers
    assert layer.data.shape == (3, 20, 24)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_store_of_others_opens_with_axes_steps_place_and_levels(plugins, qtbot, tmp_path, version):
    data = rng.integers(0, 99, (2, 2, 3, 40, 48)).astype(np.uint16)
    group = ome_zarr(
        tmp_path / "a.zarr", data, version=version, scale=(1, 1, 2, 0.5, 0.5), translation=(0, 0, 5, 7, 9), levels=2
    )
    labels = group.create_group("labels")
    found = {"labels": ["nuclei"]}
    labels.attrs.update(found if version == "0.4" else {"ome": {"version": "0.5", **found}})
    ome_zarr(tmp_path / "a.zarr" / "labels" / "nuclei", data[:, :1].astype(np.uint32), version=version)
    image, nuclei = drop(tmp_path / "a.zarr", qtbot).layers
    assert isinstance(image, ImageLayer) and isinstance(nuclei, Labels) and nuclei.name == "nuclei"
    assert image.multiscale and np.array_equal(np.asarray(image.data[0]), data)
    assert image.axis_labels == ("t", "channel", "z", "y", "x")
    assert (image.scale.tolist(), image.translate.tolist()) == ([1, 1, 2, 0.5, 0.5], [0, 0, 5, 7, 9])
    assert [str(unit) for unit in image.units][2:] == ["micrometer"] * 3


@pytest.mark.parametrize("name", ["a.ozx", "a.ome.zarr.zip"])
@pytest.mark.parametrize("inner", ["", "a.ome.zarr"])
def test_a_zipped_store_opens(plugins, qtbot, tmp_path, name, inner):
    import zipfile

    ome_zarr(tmp_path / "a.ome.zarr", rng.integers(0, 99, (3, 40, 48)).astype(np.uint16), "zyx", "0.5")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in sorted((tmp_path / "a.ome.zarr").rglob("*")):
            archive.write(file, Path(inner) / file.relative_to(tmp_path / "a.ome.zarr"))
    (layer,) = drop(tmp_path / name, qtbot).layers
    assert layer.axis_labels == ("z", "y", "x")
    assert np.asarray(layer.data).shape == (3, 40, 48)


def test_stores_of_real_projects_open_or_give_one_sentence(plugins, qtbot, shared_data, said):
    stores = [path for path in sorted(shared_data.rglob("*.zarr")) if not any(p.suffix == ".zarr" for p in path.parents)]
    opened = {}
    for path in stores:
        notification_manager.records.clear()
        layers = drop(path, qtbot).layers
        opened[path.name] = len(layers)
        if not layers:
            assert len(said()) == 1 and path.name in said()[0] and "\n" not in said()[0]
    assert sum(map(bool, opened.values())) == 8
    assert "invalid" in str(next(path for path in stores if not opened[path.name]))


PLACES = {
    "moved": {"translate": (5.0, 100.0, 250.0)},
    "scaled": {"scale": (3.0, 0.5, 0.25), "units": ("um", "um", "um")},
    "mirrored": {"scale": (-2.0, 0.5, -0.5), "translate": (10.0, 20.0, 30.0)},
    "turned and sheared": {"rotate": (10.0, 20.0, 30.0), "shear": (0.1, 0.2, 0.3), "scale": (2.0, 1.0, 1.0)},
    "by an affine": {"affine": [[1, 0, 0, 4], [0, 0.8, -0.6, 5], [0, 0.6, 0.8, 6], [0, 0, 0, 1]], "translate": (1, 2, 3)},
}


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("axes", ["zyx", "tyx", "cyx", "yxz", "ytx", "ycx"])
@pytest.mark.parametrize("place", PLACES)
def test_a_result_reopens_where_its_image_was(tiny, tmp_path, axes, place):
    # napari shows no plane that is turned out of the screen, so other orders are moved and scaled alone
    options = PLACES[place] if axes in ("zyx", "tyx") or place in ("moved", "scaled", "mirrored") else {}
    layer = ImageLayer(rng.integers(0, 255, (3, 20, 24)[: len(axes)]).astype(np.uint8), name="cells", rgb=False, **options)
    settings = SegmentSettings(channels=(1,) if "c" in axes else None)
    drawn = drain(segment_and_draw(image_of(layer, axes), tiny, settings, tmp_path / "r.ome.zarr"))
    path = str(tmp_path / "r.ome.zarr")
    image, _, labels = (getattr(ViewerModel(), f"add_{kind}")(data, **look) for data, look, kind in get_reader(path)(path))
    assert np.array_equal(image.data, layer.data)
    for pixel in np.ndindex(2, 2, 2):
        np.testing.assert_allclose(image.data_to_world(pixel), layer.data_to_world(pixel), atol=1e-9)
        here = dict(zip(axes, pixel, strict=True))
        world = np.asarray(layer.data_to_world(pixel))[-labels.ndim :]
        found = tuple(np.rint(labels.world_to_data(world)).astype(int))
        assert labels.data[found] == drawn.result.labels[tuple(here[axis] for axis in drawn.result.axes)]
    assert image.units == layer.units
    assert image.axis_labels == tuple("channel" if axis == "c" else axis for axis in axes)


def test_other_programs_find_a_moved_result_there(tiny, tmp_path):
    layer = ImageLayer(rng.integers(0, 255, (20, 24)).astype(np.uint8), name="cells", scale=(0.5, 0.5), translate=(100, 250))
    drain(segment_and_draw(image_of(layer, "yx"), tiny, SegmentSettings(), tmp_path / "r.zarr"))
    for part in ("", "labels/instances", "embedding"):
        attributes = json.loads((tmp_path / "r.zarr" / part / "zarr.json").read_text())["attributes"]
        transforms = attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert transforms[1]["translation"][-2:] == [100, 250]


def test_the_palette_asks_for_a_result(plugins, make_napari_viewer, qtbot, tmp_path, said):
    from napari._app_model import get_app_model
    from qtpy.QtWidgets import QApplication, QFileDialog

    viewer = make_napari_viewer()
    path = save_result(tmp_path / "r.zarr", labels=np.eye(16, dtype=np.uint16), axes="yx", record={})
    get_app_model().commands.execute_command("napari-shiftseg.read_result").result()
    (dialog,) = (widget for widget in QApplication.topLevelWidgets() if isinstance(widget, QFileDialog) and widget.isVisible())
    dialog.fileSelected.emit(str(tmp_path / "nothing"))
    assert "no saved result" in said()[-1]
    dialog.fileSelected.emit(str(path))
    assert [layer.name for layer in viewer.layers] == ["r instances"]
    dialog.close()
