"""Labels depend on the embedding alone: not on windows, not on noise, not on how many share a code."""

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_shiftseg import label_instances, match_score, synthetic
from napari_shiftseg.errors import DeviceError, SettingsError
from napari_shiftseg.events import WindowDone
from napari_shiftseg.instances import LabelSettings, label_steps

# cube corners, 4 apart: far more than a bandwidth of 0.75
CODES = 4.0 * np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / 2
QUIET = {"min_size": 4, "min_density": 2.0}


def embed(truth, codes=None, noise=0.0, seed=0):
    """Embedding with a code per instance (reused after the last one); 0 lies at the origin."""
    codes = CODES if codes is None else np.asarray(codes, float)
    table = np.concatenate([np.zeros((1, codes.shape[1])), codes[np.arange(int(truth.max())) % len(codes)]])
    values = np.moveaxis(table[truth], -1, 0)
    return (values + np.random.default_rng(seed).normal(0, noise, values.shape)).astype(np.float32)


def offsets(truth, noise=0.0, seed=0):
    """Embedding of a network with coordinates: the way from each pixel to the centre of its instance."""
    out = np.zeros((truth.ndim, *truth.shape))
    grid = np.indices(truth.shape)
    for number in range(1, int(truth.max()) + 1):
        inside = truth == number
        centre = grid[:, inside].mean(axis=1)
        out[:, inside] = centre[:, None] - grid[:, inside]
    return (out + np.random.default_rng(seed).normal(0, noise, out.shape)).astype(np.float32)


def blobs(shape=(120, 150), count=30, seed=1, radius=(5, 9)):
    return synthetic.blobs(shape, count, radius=radius, touching=0.4, seed=seed).labels


def far_apart_codes(truth):
    """A code per instance such that touching instances differ: greedy colouring of the neighbourhood."""
    colours = np.zeros(int(truth.max()) + 1, int)
    for number in range(1, len(colours)):
        around = ndimage.binary_dilation(truth == number, np.ones((3,) * truth.ndim), iterations=2)
        taken = {colours[n] for n in np.unique(truth[around]) if 0 < n < number}
        colours[number] = next(c for c in range(len(CODES)) if c not in taken)
    return CODES[colours[1:]]


def in_raster_order(labels):
    ids, first = np.unique(labels, return_index=True)
    first = first[ids > 0]
    return list(ids[ids > 0]) == list(range(1, len(first) + 1)) and (np.diff(first) > 0).all()


def raster(truth):
    """The truth with its instances renumbered in raster order of their first pixel."""
    ids, first = np.unique(truth, return_index=True)
    order = ids[ids > 0][np.argsort(first[ids > 0])]
    table = np.zeros(int(truth.max()) + 1, np.uint32)
    table[order] = np.arange(1, len(order) + 1)
    return table[truth]


@pytest.mark.parametrize("noise", [0.0, 0.15], ids=["exact", "noisy"])
@pytest.mark.parametrize("shape", [(120, 150), (24, 50, 40)], ids=["2d", "3d"])
def test_perfect_codes_give_perfect_labels(shape, noise):
    truth = blobs(shape, 30 if len(shape) == 2 else 12, radius=(5, 8))
    labels = label_instances(embed(truth, far_apart_codes(truth), noise), truth > 0, 0.75, **QUIET)
    score = match_score(labels, truth, 0.9)
    assert score.ap == 1.0, score
    if noise == 0:
        np.testing.assert_array_equal(labels, raster(truth))


@pytest.mark.parametrize("noise", [0.0, 0.3], ids=["exact", "noisy"])
@pytest.mark.parametrize("shape", [(120, 150), (24, 50, 40)], ids=["2d", "3d"])
def test_perfect_offsets_give_perfect_labels(shape, noise):
    truth = blobs(shape, 30 if len(shape) == 2 else 12, radius=(5, 8))
    labels = label_instances(offsets(truth, noise), truth > 0, 1.0, coordinates=True, **QUIET)
    assert match_score(labels, truth, 0.9).ap == 1.0
    if noise == 0:
        np.testing.assert_array_equal(labels, raster(truth))


def test_coordinates_are_exact_far_from_the_origin():
    """In float32 a coordinate of 10^5 px would be rounded to 1/128 px; the offsets are added in double precision."""
    truth = np.zeros((4, 100_020), np.int32)
    truth[:, 100_000:100_008] = 1
    truth[:, 100_008:100_016] = 2
    embedding = offsets(truth[:, 99_900:])
    wide = np.zeros((2, *truth.shape), np.float32)
    wide[:, :, 99_900:] = embedding
    labels = label_instances(wide, truth > 0, 0.5, coordinates=True, window=4096, **QUIET)
    np.testing.assert_array_equal(labels, truth)


def test_equal_codes_far_apart_are_two_objects():
    """> same-looking objects at distances that are multiples of f^l get the same embedding (Corollary 2)."""
    truth = np.zeros((40, 60), np.int32)
    truth[5:15, 5:15] = 1
    truth[5:15, 40:50] = 2
    labels = label_instances(embed(truth, CODES[[3, 3]]), truth > 0, 0.75)
    np.testing.assert_array_equal(labels, truth)


def test_touching_objects_with_different_codes_stay_two():
    truth = np.zeros((40, 40), np.int32)
    truth[5:30, 5:18] = 1
    truth[5:30, 18:35] = 2
    labels = label_instances(embed(truth), truth > 0, 0.75)
    np.testing.assert_array_equal(labels, truth)


def test_touching_objects_with_one_code_are_one():
    truth = np.zeros((40, 40), np.int32)
    truth[5:30, 5:18] = 1
    truth[5:30, 18:35] = 2
    labels = label_instances(embed(truth, CODES[[2, 2]]), truth > 0, 0.75)
    np.testing.assert_array_equal(labels, truth > 0)


def test_without_a_foreground_the_background_is_one_more_cluster():
    truth = np.zeros((40, 40), np.int32)
    truth[10:20, 10:20] = 1
    labels = label_instances(embed(truth), bandwidth=0.75)
    np.testing.assert_array_equal(labels, truth + 1)


def test_an_object_keeps_its_code_beside_a_code_that_many_share():
    """Codes 3 apart, the margin of the loss (2 delta_dist), at the default bandwidth."""
    truth = np.zeros((12, 42 * 12), np.int32)
    for number in range(41):
        truth[1:11, 12 * number + 1 : 12 * number + 11] = number + 1
    truth[1:11, 491:501] = 42  # touches object 41
    codes = np.zeros((42, 2))
    codes[41] = (3, 0)
    labels = label_instances(embed(truth, codes, 0.1), truth > 0)
    np.testing.assert_array_equal(labels, raster(truth))


@pytest.mark.parametrize("shape", [(100, 130), (30, 44, 52)], ids=["2d", "3d"])
@pytest.mark.parametrize("coordinates", [False, True], ids=["codes", "coordinates"])
def test_windows_do_not_show(shape, coordinates):
    """An object that lies across the borders of windows is one object, whatever the windows."""
    truth = blobs(shape, 24 if len(shape) == 2 else 14, radius=(5, 8))
    embedding = offsets(truth, 0.2) if coordinates else embed(truth, far_apart_codes(truth), 0.1)
    labels = [
        label_instances(embedding, truth > 0, 0.75, coordinates=coordinates, window=window, halo=halo, **QUIET)
        for window, halo in ((1000, 0), (16, 16), (23, 12), (40, 20))
    ]
    for other in labels[1:]:
        np.testing.assert_array_equal(labels[0], other)


def test_an_object_of_many_windows_is_one():
    truth = np.zeros((90, 90), np.int32)
    truth[3:87, 3:87] = 1
    truth[30:60, 30:60] = 2
    labels = label_instances(embed(truth, noise=0.1), truth > 0, 0.75, window=16, halo=8)
    np.testing.assert_array_equal(labels, truth)


def test_objects_that_touch_only_at_a_corner_of_windows_are_joined_as_inside_one():
    truth = np.zeros((32, 32), np.int32)
    truth[8:16, 8:16] = 1
    truth[16:24, 16:24] = 1
    whole = label_instances(embed(truth), truth > 0, 0.75, window=100)
    split = label_instances(embed(truth), truth > 0, 0.75, window=16, halo=8)
    np.testing.assert_array_equal(whole, truth)
    np.testing.assert_array_equal(split, whole)


def test_moving_the_image_moves_the_labels():
    """The lattice of windows lies in the image, but the labels do not follow it."""
    truth = blobs()
    codes = far_apart_codes(truth)
    plain = label_instances(embed(truth, codes, 0.1), truth > 0, 0.75, window=64, halo=24)
    embedding = embed(truth, codes, 0.1)
    moved = label_instances(
        np.pad(embedding, ((0, 0), (21, 0), (37, 0))), np.pad(truth > 0, ((21, 0), (37, 0))), 0.75, window=64, halo=24
    )
    np.testing.assert_array_equal(moved[21:, 37:], plain)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), coordinates=st.booleans())
def test_rounding_noise_changes_no_label(seed, coordinates):
    """Two tilings agree to 1e-7 or so; their labels must be equal to the last pixel."""
    truth = blobs((64, 72), 12, seed=seed % 7, radius=(4, 7))
    embedding = offsets(truth, 0.3, seed) if coordinates else embed(truth, far_apart_codes(truth), 0.3, seed)
    noise = np.random.default_rng(seed + 1).normal(0, 1e-7, embedding.shape).astype(np.float32)
    first, second = (
        label_instances(e, truth > 0, 1.0, coordinates=coordinates, **QUIET) for e in (embedding, embedding + noise)
    )
    np.testing.assert_array_equal(first, second)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), bandwidth=st.floats(0.2, 3.0))
def test_labels_are_numbered_in_raster_order_on_any_embedding(seed, bandwidth):
    rng = np.random.default_rng(seed)
    embedding = ndimage.gaussian_filter(rng.normal(0, 10, (2, 40, 30)), (0, 2, 2)).astype(np.float32)
    mask = rng.random((40, 30)) < 0.8
    labels = label_instances(embedding, mask, bandwidth, min_size=int(rng.integers(0, 20)))
    assert labels.dtype == np.uint32 and labels.shape == (40, 30)
    assert set(np.unique(labels)) == set(range(int(labels.max()) + 1))
    assert (labels[~mask] == 0).all()
    # where all pixels find a mode and keep it, the neighbours decide nothing
    assert in_raster_order(label_instances(embedding, mask, bandwidth, min_size=0, radius=1e6, min_density=0.0, dip=1.0))


def test_the_foreground_decides_what_can_belong_to_an_instance():
    truth = np.zeros((30, 30), np.int32)
    truth[5:20, 5:20] = 1
    probability = np.where(truth > 0, 0.7, 0.1).astype(np.float32)
    embedding = embed(np.ones_like(truth))  # one code everywhere
    np.testing.assert_array_equal(label_instances(embedding, probability, 0.75), truth)
    np.testing.assert_array_equal(label_instances(embedding, truth > 0, 0.75), truth)
    assert not label_instances(embedding, probability, 0.75, threshold=0.8).any()
    assert label_instances(embedding, probability, 0.75, threshold=0.05).all()


def test_no_foreground_at_all_gives_no_labels():
    labels = label_instances(np.zeros((3, 20, 20), np.float32), np.zeros((20, 20), bool))
    assert labels.shape == (20, 20) and labels.dtype == np.uint32 and not labels.any()


def test_small_instances_go_to_a_neighbour_or_away():
    truth = np.zeros((30, 40), np.int32)
    truth[5:20, 5:20] = 1
    truth[10:12, 20:22] = 2  # touches 1
    truth[25:27, 30:32] = 3  # stands alone
    embedding = embed(truth)
    all_of_them = label_instances(embedding, truth > 0, 0.75, min_size=1, min_density=0.0)
    np.testing.assert_array_equal(all_of_them, raster(truth))
    large = label_instances(embedding, truth > 0, 0.75, min_size=5, min_density=0.0)
    np.testing.assert_array_equal(large, (truth == 1) | (truth == 2))


def test_mixed_pixels_on_a_border_go_to_the_nearest_instance():
    """Pixels between two codes belong to no mode; they are decided by their neighbours."""
    truth = np.zeros((30, 40), np.int32)
    truth[5:25, 5:20] = 1
    truth[5:25, 20:35] = 2
    embedding = embed(truth)
    embedding[:, 5:25, 19:21] = 50.0  # far from all codes, too few for a mode of their own
    labels = label_instances(embedding, truth > 0, 0.5, min_size=60)
    np.testing.assert_array_equal(labels, truth)


def test_windows_are_reported_in_order():
    truth = blobs((50, 70), 5)
    events = []
    label_instances(embed(truth), truth > 0, 0.75, window=32, on_event=events.append)
    assert [(e.done, e.total) for e in events] == [(n, 6) for n in range(1, 7)]
    assert events[-1] == WindowDone(done=6, total=6, window=(slice(32, 50), slice(64, 70)))


class Lazy:
    def __init__(self, data):
        self.data, self.shape, self.dtype, self.largest = data, data.shape, data.dtype, 0

    def __getitem__(self, key):
        block = self.data[key]
        self.largest = max(self.largest, block[:1].size if block.ndim == 3 else block.size)
        return block


def test_a_lazy_embedding_is_read_window_by_window():
    truth = blobs((90, 110), 20)
    embedding = embed(truth, far_apart_codes(truth), 0.05)
    lazy = Lazy(embedding)
    labels = label_instances(lazy, truth > 0, 0.75, window=32, halo=10)
    assert lazy.largest <= 52 * 52
    np.testing.assert_array_equal(labels, label_instances(embedding, truth > 0, 0.75, window=32, halo=10))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("coordinates", [False, True])
def test_a_gpu_gives_the_labels_of_the_processor(coordinates, device, monkeypatch):
    """On the processor, by the way that a GPU takes."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    truth = blobs((90, 110), 20)
    embedding = offsets(truth, 0.3) if coordinates else embed(truth, far_apart_codes(truth), 0.05)
    wish = LabelSettings(coordinates=coordinates, window=32, halo=16, bandwidth=1.0, **QUIET)
    labels = label_instances(embedding, truth > 0, settings=wish)
    assert labels.max() == truth.max()
    for name in ("neighbours", "density"):
        monkeypatch.setattr(import_module(f"napari_shiftseg.instances.{name}"), "has_trees", lambda values: False)
    np.testing.assert_array_equal(label_instances(embedding, truth > 0, settings=wish, device=device), labels)


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="sees 0 CUDA devices"):
        label_instances(np.zeros((2, 8, 8), np.float32), device="cuda")


def test_keywords_win_over_settings():
    truth = np.zeros((30, 30), np.int32)
    truth[5:20, 5:20] = 1
    wish = LabelSettings(bandwidth=0.3, min_size=10_000)
    embedding = embed(truth)
    assert not label_instances(embedding, truth > 0, settings=wish).any()
    np.testing.assert_array_equal(label_instances(embedding, truth > 0, settings=wish, min_size=4), truth)
    for bandwidth in (0.75, 2.0):
        one = label_instances(embedding, truth > 0, bandwidth, settings=wish, min_size=4)
        np.testing.assert_array_equal(one, truth)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda e: label_instances(e, np.ones((9, 8), bool)), r"has shape \(9, 8\), the embedding \(8, 8\)"),
        (lambda e: label_instances(e, bandwidth=0.0), "give positive numbers"),
        (lambda e: label_instances(e, radius=-1.0), "give positive numbers"),
        (lambda e: label_instances(e, colour="red"), "knows no such setting"),
        (lambda e: label_instances(e[0, 0]), "0 spatial axes"),
        (lambda e: label_instances(np.full_like(e, np.nan)), "finite"),
    ],
    ids=["foreground", "bandwidth", "radius", "keyword", "axes", "nan"],
)
def test_what_cannot_be_labelled_is_named(call, said):
    with pytest.raises(SettingsError, match=said):
        call(np.zeros((2, 8, 8), np.float32))


@pytest.mark.parametrize("wish", [{"window": -5}, {"halo": -5}], ids=str)
def test_windows_that_cannot_be_are_named(wish):
    with pytest.raises(SettingsError, match=r"window|halo"):
        list(label_steps(np.zeros((2, 8, 8), np.float32), None, LabelSettings(**wish)))
