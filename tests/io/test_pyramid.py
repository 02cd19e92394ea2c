"""Levels of a pyramid: half as large, and true up to the last row and column."""

import numpy as np
import pytest

from napari_shiftseg.io.pyramid import reduced


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(5, 7), (4, 7), (5, 6), (1, 1), (3, 5, 7)])
def test_a_constant_image_is_as_bright_on_every_level_also_where_its_edges_are_odd(shape, dtype):
    image = np.full(shape, 200, dtype)
    level = reduced(image, "zyx"[-image.ndim :], "mean")
    assert level.dtype == dtype and level.shape[-2:] == tuple(-(-n // 2) for n in shape[-2:])
    assert (level == 200).all()


def test_a_pixel_of_a_level_is_the_mean_of_those_that_it_stands_for():
    image = np.arange(15, dtype=np.float32).reshape(3, 5)
    expected = [[image[y : y + 2, x : x + 2].mean() for x in range(0, 5, 2)] for y in range(0, 3, 2)]
    np.testing.assert_allclose(reduced(image, "yx", "mean"), expected)
    np.testing.assert_array_equal(reduced(image, "yx", "nearest"), image[::2, ::2])
