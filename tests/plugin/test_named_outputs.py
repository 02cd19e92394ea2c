"""Each further output of a network is a layer of its own: from the widget, and from a saved result."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from grey import bars, grey_model
from named import named_model
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_shiftseg import SegmentSettings, save_model, segment
from napari_shiftseg.io import Image
from napari_shiftseg.plugin.reader import read_result
from napari_shiftseg.plugin.signature import KEY, OLDER

pytestmark = pytest.mark.gui
NAMES = ["seed", "embedding", "embedding RGB", "flow", "bandwidth", "instances"]


def roles(layers):
    return [layer.metadata[KEY]["role"] for layer in layers if KEY in layer.metadata]


def test_the_widget_shows_each_further_output_that_was_kept(qtbot, open_widget, tmp_path):
    path = save_model(tmp_path / "named.safetensors", named_model())
    image = ImageLayer(bars((60, 70)), name="cells", scale=(0.5, 0.25), translate=(3, 4))
    viewer, widget = open_widget(image, model=str(path))

    def run(kept=True):
        widget.form.keep_embedding.setChecked(kept)
        qtbot.waitUntil(widget.run_button.isEnabled, timeout=60_000)
        widget.run_button.click()
        qtbot.waitUntil(lambda: not widget.jobs, timeout=60_000)

    run()
    assert [layer.name for layer in viewer.layers[1:]] == [f"cells {name}" for name in NAMES]
    wanted = segment(Image.from_array(image.data), path, widget.settings())
    for name, shape in (("flow", (2, 60, 70)), ("bandwidth", (60, 70)), ("seed", (60, 70)), ("embedding", (2, 60, 70))):
        layer = viewer.layers[f"cells {name}"]
        assert layer.data.shape == shape and not layer.visible and not layer.rgb
        np.testing.assert_array_equal(layer.data, wanted.outputs[name])
        assert layer.data_to_world((0,) * (len(shape) - 2) + (2, 4))[-2:] == pytest.approx(image.data_to_world((2, 4)))
    assert tuple(viewer.layers["cells seed"].contrast_limits) == (0, 1), "a probability on its own scale"
    for name in ("flow", "bandwidth"):
        low, high = viewer.layers[f"cells {name}"].contrast_limits
        assert low == wanted.outputs[name].min() and high == wanted.outputs[name].max()
    assert [layer for _, layer in widget._image_layers(None)] == [image], "none of them is an image to segment"
    run()  # in their place
    assert len(viewer.layers) == 1 + len(NAMES) and len(set(roles(viewer.layers))) == len(NAMES)
    viewer.layers["cells seed"].data[0, 0] = 0.5  # somebody painted in it
    run(kept=False)
    left = {layer.name: layer for layer in viewer.layers}
    assert left[f"cells seed{OLDER}"].data[0, 0] == 0.5 and f"cells bandwidth{OLDER}" in left and "cells instances" in left


def test_the_bandwidth_of_the_form_is_a_factor_where_the_network_says_bandwidths(qtbot, open_widget, tmp_path):
    image, rows = ImageLayer(bars((60, 70)), name="cells"), []
    named = named_model()
    wide = replace(named, record=replace(named.record, clustering=replace(named.record.clustering, factor=1.2)))
    for name, model in (("named", named), ("grey", grey_model(2)), ("wide", wide)):
        _, widget = open_widget(image, model=str(save_model(tmp_path / f"{name}.safetensors", model)))
        qtbot.waitUntil(widget.run_button.isEnabled, timeout=60_000)
        rows.append((widget.form._bandwidth_label.text(), widget.form.bandwidth.text(), widget.form.bandwidth.toolTip()))
    (factor, one, tip), (width, own, other), (_, recorded, _) = rows
    assert recorded == "1.2"
    assert (factor, one, width, own) == ("Bandwidth x", "1", "Bandwidth", "from the model")
    assert "factor" in tip.lower() and "factor" not in other.lower()


@pytest.mark.parametrize(("shape", "axes"), [((40, 48), "yx"), ((2, 40, 48), "tyx"), ((3, 40, 48), "zyx")])
def test_a_saved_result_opens_with_them(tmp_path, shape, axes):
    result = segment(Image.from_array(bars(shape), axes), named_model(), SegmentSettings(device="cpu", write=16))
    viewer = ViewerModel()
    for data, options, kind in read_result(str(result.save(tmp_path / "r.zarr"))):
        getattr(viewer, f"add_{kind}")(data, **options)
    assert [layer.name for layer in viewer.layers] == ["r", "r seed", "r embedding", "r flow", "r bandwidth", "r instances"]
    for name in ("seed", "embedding", "flow", "bandwidth"):
        np.testing.assert_array_equal(viewer.layers[f"r {name}"].data, result.outputs[name])
        assert viewer.layers[f"r {name}"].metadata[KEY]["run"] == result.record["run"]
    assert roles(viewer.layers) == ["output seed", "embedding", "output flow", "output bandwidth", "instances"]
