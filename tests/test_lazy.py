"""The embedding of an image too large to keep it: equal to the whole one, and of its tiles only those that are asked for."""

import threading

import numpy as np
import pytest

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, plan_tiles
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image
from napari_shiftseg.network import Model, ModelRecord, predict_steps
from napari_shiftseg.segmentation import decide, look
from napari_shiftseg.segmentation.lazy import lazy_embedding


@pytest.fixture(scope="module")
def tiny():
    """A 2D model of one channel and period 2 with seeded weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    spec = UNetSpec(levels=1, convs=1, features=4, foreground=True)
    return Model(spec=spec, module=UNet(spec).eval(), record=ModelRecord(window=(8, 8)), name="tiny")


def cells(shape):
    """Squares of 14 px in grey."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (*shape[:-2], *(-(-n // 14) for n in shape[-2:])))
    return np.kron(coarse, np.ones((14, 14)))[..., : shape[-2], : shape[-1]].astype(np.uint8)


def embedding_of(tiny, data, axes="yx", write=64, cache=1 << 28, **settings):
    """A lazy embedding, and the whole one."""
    wish = SegmentSettings(write=write, device="cpu", **settings)
    image = Image.from_array(data, axes)
    job = look(decide(image, tiny, wish), likeness=False)
    lazy = lazy_embedding(image, tiny, wish, limits=job.intensity, cache=cache)
    options = {"limits": job.limits(0), "device": "cpu", "deterministic": wish.deterministic}
    inputs = job.opened
    frames = [drain(predict_steps(inputs.model, f.view, job.plan, **options)).embedding for f in inputs.frames]
    whole = frames[0] if len(axes) == 2 else np.stack(frames, axis=1)
    return lazy, whole, job


def test_only_the_tiles_that_a_request_meets_are_computed(tiny):
    lazy, whole, _ = embedding_of(tiny, cells((200, 300)))
    assert (lazy.shape, lazy.chunks, lazy.computed) == ((3, 200, 300), (3, 64, 64), 0)
    np.testing.assert_array_equal(lazy[:, 70:120, 130:190], whole[:, 70:120, 130:190])
    assert lazy.computed == 1
    np.testing.assert_array_equal(lazy[1, 60:70, 100:200:3], whole[1, 60:70, 100:200:3])
    assert lazy.computed == 1 + 5  # tiles 1 to 3 of rows 0 and 1, one of them known
    np.testing.assert_array_equal(lazy[..., 199, ::-1], whole[..., 199, ::-1])
    assert lazy[2, 5:5].shape == (0, 300)
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    assert lazy.computed == len(lazy.plan)


def test_other_tiles_give_the_same_embedding(tiny):
    lazy, _, job = embedding_of(tiny, cells((200, 300)))
    plan = plan_tiles(job.plan.lattice, (200, 300), 400)
    image = job.opened.frames[0].view
    whole = drain(predict_steps(job.opened.model, image, plan, limits=job.limits(0), device="cpu")).embedding
    assert len(plan) == 1 < len(lazy.plan)
    assert np.abs(lazy[...] - whole).max() <= 1e-5 * np.abs(whole).max()


def test_frames_of_a_series_are_told_apart(tiny):
    lazy, whole, _ = embedding_of(tiny, cells((3, 70, 80)), axes="tyx", deterministic=True)
    np.testing.assert_array_equal(lazy[:, 1], whole[:, 1])
    assert lazy.computed == len(lazy.plan)
    np.testing.assert_array_equal(lazy[...], whole)


def test_tiles_are_kept_within_bounds(tiny):
    tile = 3 * 64 * 64 * 4
    lazy, whole, _ = embedding_of(tiny, cells((200, 300)), cache=2 * tile)
    assert lazy.at_once == 2
    np.testing.assert_array_equal(lazy[...], whole)
    assert sum(block.nbytes for block in lazy._tiles.values()) <= 2 * tile


def test_threads_do_not_compute_a_tile_twice(tiny):
    lazy, whole, _ = embedding_of(tiny, cells((200, 300)))
    found = [None] * 4

    def ask(number):
        found[number] = lazy[:, :120, :130]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lazy.computed == 6
    assert all(np.array_equal(part, whole[:, :120, :130]) for part in found)


def test_dask_computes_tile_by_tile(tiny):
    lazy, whole, _ = embedding_of(tiny, cells((200, 300)))
    dask = pytest.importorskip("dask.array")
    lazily = dask.from_array(lazy, chunks=lazy.chunks)
    np.testing.assert_array_equal(lazily[:, 130:140, 10:20].compute(), whole[:, 130:140, 10:20])
    assert lazy.computed == 1


def test_what_is_known_can_be_seen_without_computing(tiny):
    lazy, whole, _ = embedding_of(tiny, cells((300, 600)))
    fine, half, coarse = lazy.levels()
    assert (fine.shape, half.shape, coarse.shape) == ((3, 300, 600), (3, 150, 300), (3, 75, 150))
    assert np.isnan(np.asarray(coarse)).all()
    drain(lazy.steps(lazy.tiles([slice(70, 80), slice(64, 256)])))
    seen = np.asarray(half[:, 30:70, 20:200])
    expected = whole[:, ::2, ::2][:, 30:70, 20:200].copy()
    inside = np.zeros((40, 180), bool)
    inside[2:34, 12:108] = True
    np.testing.assert_array_equal(seen[:, inside], expected[:, inside])
    assert np.isnan(seen[:, ~inside]).all()
    np.testing.assert_array_equal(fine[1, 100, 100:110], whole[1, 100, 100:110])
    assert lazy.computed == 3


class Unread:
    """Pixels that must not be read."""

    shape, dtype, ndim, size = (40_000, 50_000), np.dtype(np.uint8), 2, 2_000_000_000

    def __getitem__(self, key):
        raise AssertionError("pixels were read")


def test_a_decision_reads_no_pixel(tiny):
    coming = decide(Image.from_array(Unread(), "yx"), tiny, SegmentSettings(out_of_core=True, device="cpu"), "never.zarr")
    assert coming.large and coming.disk > 1e9
    assert "10 x 13 blocks of 4096 x 4096 px" in coming.layout.describe()
