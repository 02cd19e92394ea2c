"""A reader of chunks keeps no more than it was allowed, whether it knows what will be read or not."""

import numpy as np
import pytest

from napari_shiftseg.io import ChunkReader
from napari_shiftseg.views import positions


class Chunked:
    """An array on disk, in chunks of 10 x 10."""

    chunks = (10, 10)

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim

    def __getitem__(self, key):
        return self.data[key]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("chunks", [0, 1, 3, 100])
def test_what_is_kept_fits_the_budget_and_what_is_read_is_right(told, chunks):
    data = np.random.default_rng(0).integers(0, 999, (50, 70)).astype(np.uint16)
    reader = ChunkReader(Chunked(data), chunks * 200)
    rng = np.random.default_rng(1)
    keys = []
    for _ in range(60):
        y, x = rng.integers(0, 45), rng.integers(0, 60)
        keys.append((slice(y, y + rng.integers(1, 30)), slice(x, x + rng.integers(1, 30))))
    if told:
        reader.expect(keys)
    most = 0
    for key in keys:
        np.testing.assert_array_equal(reader[key], data[key])
        most = max(most, sum(part.pixels.nbytes for part in reader._kept.values()))
        assert most <= reader.budget
    assert (most > 0) == (chunks > 0)
    asked = sum(len(list(reader._touched(positions(key, reader.shape)[0]))) for key in keys)
    assert reader.decoded < asked if chunks == 100 else reader.decoded <= asked
