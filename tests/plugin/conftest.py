"""Small models, and the Segment widget in a viewer."""

import pytest


@pytest.fixture(autouse=True)
def kept_place(monkeypatch, tmp_path_factory):
    """No test sees or writes what the user's widgets keep between sessions."""
    pytest.importorskip("napari")
    from napari_shiftseg.plugin import kept

    path = tmp_path_factory.mktemp("kept") / "napari-shiftseg.json"
    monkeypatch.setattr(kept, "place", lambda: path)
    return path


@pytest.fixture(scope="session")
def save_tiny(tmp_path_factory):
    """`save_tiny(name, window=..., neighbours=..., **spec)`: path of a model with seeded weights; nothing of it was trained."""
    torch = pytest.importorskip("torch")
    from napari_shiftseg import UNet, UNetSpec, save_model
    from napari_shiftseg.network import ModelRecord

    folder = tmp_path_factory.mktemp("models")

    def save(name, window=(8, 8), neighbours=False, **spec):
        torch.manual_seed(0)
        net = UNet(UNetSpec(**{"levels": 1, "convs": 1, "features": 4, "foreground": True, **spec})).eval()
        with torch.no_grad():
            net.head.weight *= 30  # distances beyond the bandwidth: several instances
        return save_model(folder / name, net, None if window is None else ModelRecord(window=window, neighbours=neighbours))

    return save


@pytest.fixture(scope="session")
def tiny(save_tiny):
    """A 2D model of one channel and period 2, compliant by its record."""
    return save_tiny("tiny")


@pytest.fixture
def open_widget(request, qtbot, tiny):
    """`open_widget(*layers, model=..., window=False, show=False)`: a viewer with these layers, and the widget, model loaded.

    Without a window the viewer is a model only, which is much faster and tells the widget of layers as a window does.
    """
    from napari.components import ViewerModel

    from napari_shiftseg.plugin.segment_widget import SegmentWidget

    def open_it(*layers, model=tiny, window=False, show=False):
        viewer = request.getfixturevalue("make_napari_viewer")(show=show) if window else ViewerModel()
        for layer in layers:
            viewer.add_layer(layer)
        widget = SegmentWidget(viewer)
        if window:
            viewer.window.add_dock_widget(widget, name="Segment")
        else:
            qtbot.addWidget(widget)
            for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed):
                event.connect(widget.reset_choices)
        if model is not None:
            widget.form.model.choose_file(model)
            qtbot.waitUntil(lambda: widget.equipment is not None, timeout=60_000)
        return viewer, widget

    return open_it


@pytest.fixture
def put_result(tiny):
    """`put_result(viewer, shape, write=16, **layer options)`: segment noise, show it as the Segment widget does."""
    import numpy as np
    from napari.layers import Image as ImageLayer

    from napari_shiftseg import SegmentSettings
    from napari_shiftseg.events import drain
    from napari_shiftseg.plugin.layers import layer_tuples, segment_and_draw
    from napari_shiftseg.plugin.replacement import put_layers
    from napari_shiftseg.plugin.source import image_of, placement_of

    def put(viewer, shape=(40, 48), write=16, axes="zyx", model=tiny, bad=False, method="auto", **options):
        data = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        layer = viewer.add_layer(ImageLayer(data, name="cells", **options))
        axes = axes[-len(shape) :]
        settings = SegmentSettings(write=write, allow_noncompliant=bad, method=method)
        drawn = drain(segment_and_draw(image_of(layer, axes), model, settings))
        tuples = layer_tuples(drawn, placement_of(layer, axes, drawn.result.axes), "cells", source_id=layer.unique_id)
        put_layers(viewer, tuples)
        return drawn.result

    return put


@pytest.fixture
def cells():
    """`cells(shape)`: squares of 14 px in grey."""
    import numpy as np

    def draw(shape=(600, 700)):
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (*shape[:-2], *(-(-n // 14) for n in shape[-2:])))
        return np.kron(coarse, np.ones((14, 14)))[..., : shape[-2], : shape[-1]].astype(np.uint8)

    return draw


@pytest.fixture
def open_large(open_widget, cells, monkeypatch, tmp_path):
    """`open_large(path, data, choice=..., **options)`: as `open_widget`, with a run out of core on request.

    Blocks are the smallest that there are, so that small images have several, and the home folder is a new one.
    """
    from napari.layers import Image as ImageLayer

    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    monkeypatch.setenv("HOME", str(tmp_path))

    def open_it(path=None, data=None, choice="Always", window=False, show=False, **options):
        layer = ImageLayer(cells() if data is None else data, name="cells", **options)
        viewer, widget = open_widget(layer, window=window, show=show)
        widget.form.large.choice.setCurrentText(choice)
        if path is not None:
            widget.form.large.store.value = path
        return viewer, widget

    return open_it
