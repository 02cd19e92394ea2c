"""Training windows show the pixels and the labels of the same place."""

import numpy as np
import pytest
import torch

from napari_shiftseg import synthetic
from napari_shiftseg.errors import ImageError
from napari_shiftseg.network import Augmentation, Normalisation, TrainImage
from napari_shiftseg.network.constants import IGNORE
from napari_shiftseg.network.crops import draw_crop, sampling_weights

AS_IS = Normalisation(low=0, high=0)
STILL = Augmentation(scale=1, rotate=False, intensity=0)


def coded(shape):
    """An image whose every pixel has its own value and its own label."""
    labels = np.arange(1, np.prod(shape) + 1).reshape(shape)
    return TrainImage.from_arrays(labels.astype(np.float32), labels, AS_IS), labels


@pytest.mark.parametrize("shape", [(30, 41), (12, 30, 25)], ids=["2d", "3d"])
def test_a_window_without_changes_is_a_piece_of_the_image(shape):
    image, labels = coded(shape)
    rng = np.random.default_rng(0)
    write = (5, 8, 8)[-len(shape) :]
    read = tuple(w + m for w, m in zip(write, (4, 6, 10)[-len(shape) :], strict=True))
    places = set()
    for _ in range(20):
        pixels, truth = draw_crop(image, rng, read=read, write=write, augmentation=STILL)
        assert pixels.shape == (1, *read) and truth.shape == write
        first = np.unravel_index(int(truth.min()) - 1, shape)
        window = tuple(slice(a, a + w) for a, w in zip(first, write, strict=True))
        np.testing.assert_array_equal(truth.numpy(), labels[window])
        inner = tuple(slice((r - w) // 2, (r - w) // 2 + w) for r, w in zip(read, write, strict=True))
        np.testing.assert_allclose(pixels[0].numpy()[inner], labels[window], rtol=1e-3)
        places.add(tuple(int(a) for a in first))
    assert len(places) > 10


def test_windows_come_in_every_phase():
    """> random crops: every output function must meet every pixel, not those of one lattice."""
    image, _ = coded((40, 40))
    rng = np.random.default_rng(0)
    phases = set()
    for _ in range(300):
        _, truth = draw_crop(image, rng, read=(12, 12), write=(8, 8), augmentation=STILL)
        row, column = np.unravel_index(int(truth.min()) - 1, (40, 40))
        phases.add((row % 4, column % 4))
    assert len(phases) == 16


def test_windows_with_real_context_read_nothing_beyond_the_image_and_come_from_everywhere():
    image, labels = coded((31, 40))
    rng, starts = np.random.default_rng(0), set()
    for _ in range(200):
        pixels, truth = draw_crop(image, rng, read=(26, 26), write=(6, 6), augmentation=STILL, real_context=True)
        row, column = np.unravel_index(int(truth.min()) - 1, (31, 40))
        starts.add((int(row) - 10, int(column) - 10))
        np.testing.assert_allclose(pixels[0], labels[row - 10 : row + 16, column - 10 : column + 16], rtol=1e-3)
    rows, columns = map(set, zip(*starts, strict=True))
    assert rows == set(range(6)) and columns == set(range(15))


@pytest.mark.parametrize("rotate", [False, True])
def test_what_lies_beyond_the_image_counts_nowhere(rotate):
    image, labels = coded((6, 20))
    augmentation = Augmentation(scale=1, rotate=rotate, intensity=0)
    for seed in range(8):
        pixels, truth = draw_crop(image, np.random.default_rng(seed), read=(20, 20), write=(12, 12), augmentation=augmentation)
        assert (truth == IGNORE).sum() >= 12 * 4
        assert torch.isfinite(pixels).all() and float(pixels.min()) >= 1, "reflected, not filled with zeros"
        assert set(np.unique(truth)) - {IGNORE} <= set(labels.ravel())


@pytest.mark.parametrize("shape", [(90, 90), (40, 60, 60)], ids=["2d", "3d"])
def test_zoom_and_rotation_move_pixels_and_labels_alike(shape):
    made = synthetic.disks(shape, 18, 6.0)
    image = TrainImage.from_arrays(made.image, made.labels, AS_IS)
    augmentation = Augmentation(scale=1.4, rotate=True, intensity=0)
    window = (24,) * len(shape)
    for seed in range(6):
        pixels, truth = draw_crop(image, np.random.default_rng(seed), read=window, write=window, augmentation=augmentation)
        inside = truth != IGNORE
        wrong = ((pixels[0] > 0.5) != (truth > 0)) & inside
        assert float(wrong.sum() / inside.sum()) < 0.08, "only pixels on an edge may differ"


def test_a_quarter_turn_interpolates_nothing():
    image, _ = coded((21, 21))
    quarter = [
        draw_crop(
            image, np.random.default_rng(seed), read=(7, 7), write=(7, 7), augmentation=Augmentation(scale=1, intensity=0)
        )
        for seed in range(40)
    ]
    whole = [pixels for pixels, truth in quarter if torch.allclose(pixels[0], truth.float(), rtol=1e-3)]
    assert 10 < len(whole) < 30, "half of the turns are quarter turns"
    assert any(pixels[0, 0, 1] < pixels[0, 0, 0] for pixels in whole)


def test_the_same_seed_draws_the_same_window():
    made = synthetic.disks((60, 60), 13, 4.0)
    image = TrainImage.from_arrays(made.image, made.labels, AS_IS)

    def draw(seed):
        return draw_crop(image, np.random.default_rng(seed), read=(20, 20), write=(12, 12), augmentation=Augmentation())

    (a, b), (c, d), (e, _) = draw(1), draw(1), draw(2)
    assert torch.equal(a, c) and torch.equal(b, d) and not torch.equal(a, e)


def test_intensities_change_only_when_wanted():
    image, _ = coded((30, 30))
    still = [draw_crop(image, np.random.default_rng(0), read=(9, 9), write=(5, 5), augmentation=STILL)[0] for _ in range(2)]
    changed = draw_crop(
        image, np.random.default_rng(0), read=(9, 9), write=(5, 5), augmentation=Augmentation(scale=1, rotate=False)
    )[0]
    assert torch.equal(*still) and not torch.allclose(still[0], changed)


def test_labels_are_numbered_and_negative_ones_ignored():
    labels = np.array([[0, 7, 7, 900], [-1, 0, -5, 900]])
    image = TrainImage.from_arrays(np.zeros((2, 2, 4)), labels, AS_IS)
    np.testing.assert_array_equal(image.labels, [[0, 1, 1, 2], [IGNORE, 0, IGNORE, 2]])
    np.testing.assert_array_equal(image.centres, [[0, 1], [0, 3]])
    full = TrainImage.from_arrays(np.zeros((2, 2)), np.array([[4, 4], [9, 9]], np.uint16), AS_IS)
    np.testing.assert_array_equal(full.labels, [[1, 1], [2, 2]])


def test_an_image_is_normalised_as_a_whole():
    pixels = np.arange(100.0).reshape(10, 10)
    image = TrainImage.from_arrays(pixels, np.zeros((10, 10), int), Normalisation(low=0, high=100))
    np.testing.assert_allclose(image.pixels[0], pixels / 99, rtol=1e-6)
    assert len(image.centres) == 0
    draw_crop(image, np.random.default_rng(0), read=(6, 6), write=(4, 4), augmentation=Augmentation())


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ImageError, match=r"\(1, 5, 6\) does not fit labels of shape \(6, 5\)"):
        TrainImage.from_arrays(np.zeros((5, 6)), np.zeros((6, 5), int), AS_IS)


def test_images_are_drawn_by_the_root_of_their_objects():
    many, one = coded((4, 4))[0], TrainImage.from_arrays(np.zeros((4, 4)), np.zeros((4, 4), int), AS_IS)
    np.testing.assert_allclose(sampling_weights([many, one]), [0.8, 0.2])
