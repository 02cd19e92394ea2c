"""Link objects in napari: a new layer, tracks with their lineage, and nothing else changed."""

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from napari.layers import Labels, Layer, Tracks

from napari_shiftseg import link, open_result, segment, synthetic
from napari_shiftseg.io import Image, measured
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.link_widget import LinkWidget
from napari_shiftseg.plugin.reader import read_result
from napari_shiftseg.plugin.writers import labels_of_layer, write_labels

DATA = np.zeros((3, 40, 40), np.int32)
DATA[0, 10:30, 10:30] = 5
DATA[1:, 8:18, 12:28] = 3
DATA[1:, 22:32, 12:28] = 9


@pytest.fixture
def open_link(qtbot):
    def open_it(*layers):
        viewer = ViewerModel()
        for layer in layers:
            viewer.add_layer(layer)
        widget = LinkWidget(viewer)
        qtbot.addWidget(widget)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed):
            event.connect(widget.reset_choices)
        return viewer, widget

    return open_it


def run(qtbot, widget):
    widget.form.link.click()
    qtbot.waitUntil(lambda: not widget.jobs, timeout=60_000)


def series(**options):
    where = {"scale": (1, 0.5, 0.5), "units": ("second", "micrometer", "micrometer"), "translate": (0, 3, 4)}
    return Labels(DATA.copy(), name="cells", axis_labels=("t", "y", "x"), **where, **options)


def test_frames_become_tracks_with_a_lineage(open_link, qtbot):
    viewer, widget = open_link(series())
    assert widget.form.axis == "t"
    run(qtbot, widget)
    source, labels, tracks = viewer.layers
    np.testing.assert_array_equal(source.data, DATA)
    assert source.name == "cells" and KEY not in source.metadata
    assert (labels.name, tracks.name) == ("cells linked through t", "cells tracks")
    assert isinstance(tracks, Tracks) and tracks.graph == {2: [1], 3: [1]}
    assert [np.unique(frame)[1:].tolist() for frame in labels.data] == [[1], [2, 3], [2, 3]]
    for layer in (labels, tracks):
        np.testing.assert_array_equal(layer.scale, source.scale)
        np.testing.assert_array_equal(layer.translate, source.translate)
        assert layer.units == source.units
    for number, t, y, x in tracks.data.tolist():
        assert labels.data[int(t), round(y), round(x)] == number
    assert labels.features.set_index("index").parent.to_dict() == {1: 0, 2: 1, 3: 1}
    assert "3 tracks through t, 2 of them daughters" in widget.form.status.text()


def test_settings_reach_the_work(open_link, qtbot):
    viewer, widget = open_link(series())
    widget.form.splits.setChecked(False)
    widget.form.distance.setValue(3)
    run(qtbot, widget)
    told = viewer.layers[1].metadata[KEY]["record"]["linked"][0]
    assert told["settings"] == {"distance": 3, "gap": 1, "splits": False} and viewer.layers[2].graph == {}


def test_planes_go_by_the_embedding_layers_of_their_run(open_link, qtbot):
    from napari_shiftseg.events import drain
    from napari_shiftseg.plugin.layers import layer_tuples, segment_and_draw
    from napari_shiftseg.plugin.source import image_of, placement_of

    sample = synthetic.blobs((18, 72, 72), count=6, radius=(7, 9), seed=1)
    image = Layer.create(sample.image, {"name": "blobs", "scale": (2, 1, 1)}, "image")
    viewer, widget = open_link(image)
    drawn = drain(segment_and_draw(image_of(image, "zyx"), "nuclei"))
    for made in layer_tuples(drawn, placement_of(image, "zyx", "zyx"), "blobs", source_id=image.unique_id):
        viewer.add_layer(Layer.create(*made))
    before = [(layer.name, layer.metadata) for layer in viewer.layers]
    assert widget.layer.name == "blobs instances" and widget.form.axis == "z"
    run(qtbot, widget)
    np.testing.assert_array_equal(viewer.layers[-1].data, np.asarray(link(drawn.result, "z").labels.data))
    assert "agreement of codes" in widget.form.status.text()
    assert [(layer.name, layer.metadata) for layer in viewer.layers[:-1]] == before
    known = viewer.layers[-1].metadata[KEY]
    assert known["role"] == "linked" and known["run"] != drawn.result.record["run"]
    stored = labels_of_layer(*viewer.layers[-1].as_layer_data_tuple()[:2])
    assert stored.ndim == 3 and len(measured(stored)["label"]) == viewer.layers[-1].data.max()


def test_a_layer_without_names_of_axes_can_be_a_series(open_link, qtbot):
    viewer, widget = open_link(Labels(DATA.copy(), name="cells"))
    widget.form.choose("t")
    run(qtbot, widget)
    assert "through t" in viewer.layers[1].name
    widget.form.layers.value = viewer.layers[0]
    widget.form.choose("z")
    run(qtbot, widget)
    assert viewer.layers[-1].name == "cells linked through z"


def test_what_cannot_be_linked_is_a_sentence(open_link, qtbot):
    viewer, widget = open_link(Labels(DATA[0], name="plane"))
    run(qtbot, widget)
    assert len(viewer.layers) == 1 and "not a stack" in widget.form.status.text()


def test_cancel_adds_nothing(open_link, qtbot):
    viewer, widget = open_link(series())
    widget.form.link.click()
    widget.form.cancel.click()
    qtbot.waitUntil(lambda: not widget.jobs, timeout=60_000)
    assert len(viewer.layers) == 1 and "Cancelled" in widget.form.status.text()
    assert widget.form.link.isEnabled() and not widget.form.cancel.isEnabled()


def test_tracks_are_saved_with_their_lineage_and_open_again(open_link, qtbot, tmp_path):
    viewer, widget = open_link(series())
    run(qtbot, widget)
    labels = viewer.layers[1]
    write_labels(str(tmp_path / "t.ome.zarr"), *labels.as_layer_data_tuple()[:2])
    assert open_result(tmp_path / "t.ome.zarr").record["linked"][0]["parents"] == [[2, 1], [3, 1]]
    again, tracks = (Layer.create(*made) for made in read_result(str(tmp_path / "t.ome.zarr")))
    np.testing.assert_array_equal(again.data, labels.data)
    np.testing.assert_array_equal(tracks.data, viewer.layers[2].data)
    assert tracks.graph == {2: [1], 3: [1]} and again.metadata[KEY]["role"] == "linked"
    np.testing.assert_allclose(again.scale, labels.scale)
    assert again.features.equals(labels.features)


def test_a_linked_store_with_its_image_opens(tmp_path):
    image = Image.from_array(np.random.default_rng(0).random((2, 64, 64), np.float32), axes="tyx")
    link(segment(image, "nuclei"), "t", out=tmp_path / "r.ome.zarr")
    made = [Layer.create(*each) for each in read_result(str(tmp_path / "r.ome.zarr"))]
    assert [layer.name for layer in made][:2] == ["r.ome", "r.ome linked through t"]
