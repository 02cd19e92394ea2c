"""Every lazy array answers an index as numpy does, and reads what it asks for and nothing else."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from napari_shiftseg import synthetic, views
from napari_shiftseg.errors import DeviceError, ImageError
from napari_shiftseg.io import ChunkReader, Image
from napari_shiftseg.views import LazyArray, View, chunks_of, in_memory

SHAPE = (4, 7, 9)
DATA = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)


class Source:
    """An array on a disk, in chunks, that writes down what is read of it."""

    chunks = (1, 3, 4)

    def __init__(self, data=DATA, error=None):
        self.data, self.shape, self.dtype, self.error, self.keys = data, data.shape, data.dtype, error, []

    def __getitem__(self, key):
        if self.error is not None:
            raise self.error
        assert all(isinstance(item, int) or (item.step or 1) > 0 for item in key)
        self.keys.append(key)
        return self.data[key]


def drawn():
    """A lazy drawing, and the whole of it."""
    recipe = synthetic.DiskRecipe(shape=SHAPE, spacing=(3, 4, 4), radius=1.5, offset=(0, 0, 0))
    return synthetic.lazy(recipe), synthetic.make(recipe).image


MADE = {
    "whole": lambda: (View.whole(Source()), DATA),
    "swapped": lambda: (View.whole(Source(), (2, None, 0, 1)), DATA.transpose(2, 0, 1)[:, None]),
    "big_endian": lambda: (View.whole(Source(DATA.astype(">u2"))), DATA),
    "at": lambda: (View.at(Source(), {1: 3}), DATA[:, 3]),
    "channels": lambda: (
        View(Source(), [(2, 0, 0, 3), range(7), range(1, 8, 2)], (2, 0, 1)),
        DATA[[2, 0, 0, 3], :, 1:8:2].transpose(2, 0, 1),
    ),
    "of_a_view": lambda: (View.at(View(Source(), [range(3), range(7), range(9)], (1, 2, 0)), {2: 1}), DATA[1]),
    "chunks": lambda: (ChunkReader(Source(), 100), DATA),
    "view_of_chunks": lambda: (
        View(ChunkReader(Source(), 100), [(3, 1), range(7), range(9)], (1, 2, 0)),
        DATA[[3, 1]].transpose(1, 2, 0),
    ),
    "drawn": drawn,
}  # fmt: skip
KEYS = [
    ..., 0, -1, np.int64(1), slice(1, 3), slice(None, None, -1), slice(3, 0, -2), slice(5, 5), slice(-2, None),
    (slice(None), 0), (..., -1), (1, ...), (slice(1, 2), ..., slice(None, None, 3)), (0, slice(5, 1, -3)), (slice(100, 200), 0),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("kind", MADE)
def test_an_index_gives_what_numpy_gives(kind, key):
    lazy, whole = MADE[kind]()
    assert isinstance(lazy, LazyArray) and isinstance(lazy[key], np.ndarray | np.generic)
    np.testing.assert_array_equal(lazy[key], whole[key], strict=True)


@pytest.mark.parametrize("kind", MADE)
def test_a_lazy_array_says_its_size_and_becomes_an_array_by_numpy_and_dask(kind):
    da = pytest.importorskip("dask.array")
    lazy, whole = MADE[kind]()
    assert (lazy.shape, lazy.ndim, lazy.size, lazy.nbytes) == (whole.shape, whole.ndim, whole.size, whole.nbytes)
    assert (lazy.dtype, len(lazy)) == (whole.dtype, len(whole))
    np.testing.assert_array_equal(np.asarray(lazy, np.float64), whole)
    np.testing.assert_array_equal(da.from_array(lazy, chunks=2)[1:].compute(), whole[1:])


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    "key", [99, -99, (0,) * 9, (..., ...), 1.5, None, True, (0, False), "x", [0, 1], (0, None), np.array([True])], ids=str
)
def test_an_index_that_a_lazy_array_does_not_take_is_an_index_error(kind, key):
    lazy, _ = MADE[kind]()
    with pytest.raises(IndexError):
        lazy[key]


def test_a_view_reads_what_is_asked_for_and_nothing_else():
    source = Source()
    view = View(source, [(2, 0), range(7), range(9)], (1, 2, 0))
    assert view.shape == (7, 9, 2) and source.keys == []
    view[2:6:3, -1, 1]
    assert source.keys == [(slice(0, 1, 1), slice(2, 6, 3), slice(8, 9, 1))]
    source.keys.clear()
    assert view[:, 5:5].size == 0 and source.keys == []
    View.at(source, {0: 3, 2: 4})[::-2]
    assert source.keys == [(3, slice(0, 7, 2), 4)]


def test_what_a_source_raises_becomes_an_image_error_unless_it_is_ours():
    for error in (OSError("gone"), ValueError("bad checksum"), RuntimeError("decoder")):
        with pytest.raises(ImageError, match="cells cannot be read to the end"):
            View.whole(Source(error=error), name="cells")[0]
    with pytest.raises(DeviceError, match="no such device"):
        View.whole(Source(error=DeviceError("no such device")))[0]


def test_a_view_of_an_array_is_in_memory_and_one_of_a_disk_is_not():
    for array, there in ((DATA, True), (Source(), False), (ChunkReader(Source(), 1), False), (drawn()[0], False)):
        assert in_memory(array) == in_memory(View.whole(View.at(array, {0: 1}), (1, 0))) == there
    image = Image.from_array(DATA, "cyx")
    assert in_memory(image.frames(2, (2, 0))[0].view) and not in_memory(replace(image, data=Source()).frames(2)[0].view)


def test_chunks_of_equal_size_are_known_and_others_are_none():
    da = pytest.importorskip("dask.array")
    assert chunks_of(Source()) == (1, 3, 4) and chunks_of(DATA) is None
    assert chunks_of(da.zeros((10, 9), chunks=(4, 3))) == (4, 3)
    assert chunks_of(da.zeros((10, 9), chunks=((4, 2, 4), (9,)))) is None
    assert chunks_of(da.zeros((10, 9), chunks=((4, 6), (9,)))) is None


@pytest.mark.parametrize(
    ("view", "chunks"),
    [
        (View.whole(Source(DATA.astype(">u2")), (2, None, 0, 1)), (4, 1, 1, 3)),
        (View.at(Source(), {0: 2}), (3, 4)),
        (View(Source(), [range(4), range(7), range(3)], (0, 1, 2)), (1, 3, 3)),
        (View(Source(), [range(4), range(1, 7), range(9)], (0, 1, 2)), None),
        (View(Source(), [(0, 2), range(7), range(9)], (0, 1, 2)), None),
        (View.whole(DATA), None),
    ],
)
def test_a_view_has_the_chunks_of_its_source_and_decodes_each_once(view, chunks):
    assert view.chunks == chunks_of(view) == chunks
    if chunks is not None:
        reader, whole = ChunkReader(view, 1 << 20), np.asarray(view)
        for _ in range(2):
            np.testing.assert_array_equal(reader[..., ::2], whole[..., ::2])
        assert reader.decoded == np.prod([-(-size // edge) for size, edge in zip(view.shape, chunks, strict=True)])


def test_examples():
    failed, tried = doctest.testmod(views)
    assert tried > 0 and failed == 0
