"""Coarse levels of a pyramid that is being written, kept up block by block."""

import itertools

import numpy as np
import pytest
import zarr

from napari_shiftseg.io import BlockPyramid, Overview


@pytest.mark.parametrize(
    ("shape", "axes", "edges"),
    [
        ((1100, 2300), "yx", {"y": 512, "x": 512}),
        ((300, 290), "yx", {"y": 512, "x": 512}),
        ((3, 530, 40), "tyx", {"y": 512, "x": 512}),
        ((70, 300, 600), "zyx", {"z": 64, "y": 128, "x": 128}),
    ],
)
def test_all_levels_are_those_of_the_labels(tmp_path, shape, axes, edges):
    labels = np.random.default_rng(0).integers(1, 1 << 30, shape).astype(np.int32)
    pyramid = BlockPyramid.create(zarr.open_group(str(tmp_path / "a"), mode="a"), shape, axes, dtype=np.int32, edges=edges)
    steps = [edges.get(axis, 1) for axis in axes]
    starts = [range(0, size, step) for size, step in zip(shape, steps, strict=True)]
    windows = [
        tuple(slice(at, min(at + step, size)) for at, step, size in zip(corner, steps, shape, strict=True))
        for corner in itertools.product(*starts)
    ]
    seen = Overview(tmp_path / "a", tmp_path / "b", axes)
    coarsest = seen.levels[-1]
    assert len(seen.levels) > len(pyramid.levels) or axes == "yx"
    for number, window in enumerate(windows):
        pyramid.write(window, labels[window])
        seen.update(window)
        if number == len(windows) // 2:  # a later run goes on
            seen = Overview(tmp_path / "a", tmp_path / "b", axes)
            coarsest = seen.levels[-1]
    for level, array in enumerate(seen.levels):
        np.testing.assert_array_equal(array[...], labels[..., :: 1 << level, :: 1 << level])
    assert max(seen.levels[-1].shape[-2:]) < 256
    assert seen.levels[-1] is coarsest  # changed in place
