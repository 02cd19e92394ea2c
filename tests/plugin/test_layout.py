"""The axes of a result in the order of the image's layer, and back: whatever kind of array it is, and without reading it."""

import dask.array as da
import numpy as np
import pytest
import zarr

pytest.importorskip("napari")

from napari_shiftseg.plugin.layers import in_order, laid_out
from napari_shiftseg.views import LazyArray, View

DATA = np.arange(3 * 4 * 5).reshape(3, 4, 5)


class Lazy(LazyArray):
    """As the known part of an embedding, which is computed and not stored."""

    shape, dtype, read = DATA.shape, DATA.dtype, 0

    def _read(self, ranges):
        Lazy.read += 1
        return DATA[np.ix_(*ranges)]


def stored():
    array = zarr.create_array(store={}, shape=DATA.shape, chunks=(1, 4, 5), dtype=DATA.dtype)
    array[:] = DATA
    return array


KINDS = {
    "numpy": lambda: DATA,
    "zarr": stored,
    "dask": lambda: da.from_array(DATA),
    "view": lambda: View.whole(DATA),
    "computed": Lazy,
}


@pytest.mark.parametrize("layout", ["cyx", "cxy", "ycx", "xyc", "c_yx", "cy_x"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_gets_the_order_of_a_layer_and_comes_back(kind, layout):
    Lazy.read = 0
    array = KINDS[kind]()
    shown = laid_out(array, "cyx", layout)
    expected = DATA.transpose(["cyx".index(axis) for axis in layout if axis != "_"])
    expected = expected[tuple(None if axis == "_" else slice(None) for axis in layout)]
    assert shown.shape == expected.shape and Lazy.read == 0
    np.testing.assert_array_equal(np.asarray(shown[1:, :2]), expected[1:, :2])
    if layout.startswith("c"):
        back, axes = in_order(shown, layout)
        assert axes == "cyx"
        np.testing.assert_array_equal(np.asarray(back[...]), DATA)


def test_colour_samples_stay_behind():
    colours = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    for array in (colours, View.whole(colours)):
        np.testing.assert_array_equal(np.asarray(laid_out(array, "yx", "x_y")), colours.transpose(1, 0, 2)[:, None])
