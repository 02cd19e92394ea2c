"""Parts of a mode that lie apart from the others: which are an object, and which only pass by its code."""

import numpy as np
import pytest

from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.instances.undecided import without_islands


@pytest.mark.parametrize(
    ("ends", "kept"), [(((0.0, 0.0), (10.0, 0.0)), False), (((0.0, 8.0), (10.0, 8.0)), True)], ids=["between", "beside"]
)
def test_what_passes_by_a_code_elsewhere_is_no_object_only_if_it_mixes_what_it_touches(ends, kept):
    """A part between two objects that neither holds half of; its code is near that of a third object, which lies elsewhere."""
    modes = np.zeros((40, 40), np.int64)
    modes[4:10, 2:10], modes[4:10, 16:24], modes[20:36, 4:36] = 1, 2, 3
    island = np.zeros(modes.shape, bool)
    island[4:10, 10:16] = True
    modes[island] = 3
    mask = modes > 0
    centres = np.array([*ends, (5.0, 0.4)])
    values = centres[modes[mask] - 1].T + 0.05 * np.random.default_rng(0).standard_normal((2, mask.sum()))
    values[:, island[mask]] = [[5.0], [0.0]]
    found = without_islands(modes, mask, values, centres=centres, settings=LabelSettings(bandwidth=1.0, min_size=16))
    assert (found[island] == (3 if kept else 0)).all()
    np.testing.assert_array_equal(found[~island], modes[~island])
