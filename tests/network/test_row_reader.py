"""Rows that are read part by part are those of the whole window, however they are reflected."""

import numpy as np
import pytest

from napari_shiftseg.network.windows import RowReader, read_window

PAD = ((44, 50), (3, 2))


@pytest.mark.parametrize("size", [7, 30, 100])  # rows of the image: reflected many times, once at both ends
@pytest.mark.parametrize("rows", [1, 8, 24, 43, 64, 500])
@pytest.mark.parametrize("first", [0, 60])
def test_parts_are_those_of_the_whole_window(size, rows, first):
    image = np.random.default_rng(0).random((2, size, 6))
    window = (slice(first, 94 + size), slice(1, 10))
    reader, total = RowReader(image, window, PAD), 94 + size - first
    parts = [reader.read(slice(start, min(start + rows, total))) for start in range(0, total, rows)]
    assert np.array_equal(np.concatenate(parts, 1), read_window(image, window, PAD))
