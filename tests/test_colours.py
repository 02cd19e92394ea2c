"""Colours of an embedding: one scale for the whole image."""

import numpy as np
import pytest

from napari_shiftseg.colours import embedding_colours, value_range


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", [(12, 9), (3, 8, 7)], ids=["2d", "3d"])
def test_equal_embeddings_get_equal_colours_wherever_they_are(channels, shape):
    codes = np.random.default_rng(channels).normal(size=(channels, 4)).astype(np.float32)
    which = np.arange(np.prod(shape)).reshape(shape) % 4
    colours = embedding_colours(codes[:, which])
    assert (colours.shape, colours.dtype) == ((*shape, 3), np.uint8)
    for code in range(4):
        assert len(np.unique(colours[which == code], axis=0)) == 1
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_constant_embedding_has_one_colour(channels):
    assert len(np.unique(embedding_colours(np.full((channels, 5, 6), 0.5, np.float32)).reshape(-1, 3), axis=0)) == 1


def test_the_background_is_dark():
    embedding = np.random.default_rng(0).normal(size=(2, 10, 10)).astype(np.float32)
    foreground = np.zeros((10, 10), np.float32)
    foreground[:5] = 1
    colours = embedding_colours(embedding, foreground)
    assert colours[5:].max() == 0
    assert colours[:5].max(axis=-1).min() == 255


def test_a_value_range_is_never_empty():
    assert value_range(np.zeros((1, 4, 4), np.float32)) == (0.0, 1.0)
