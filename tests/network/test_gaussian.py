"""The loss with a bandwidth per object, against its definition in numpy, and what learns with it."""

from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_shiftseg import TrainSettings, UNet, UNetSpec, plan_tiles, synthetic, train
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.network import Augmentation, Normalisation, TrainImage, gaussian_loss, predict_steps
from napari_shiftseg.network.constants import FEWEST_PIXELS, FIRST_BANDWIDTH, MOST_WEIGHT, SEED_WEIGHT, SPREAD_WEIGHT
from napari_shiftseg.network.crops import degraded, draw_crop, sampling_weights
from napari_shiftseg.network.loss import foreground_loss, object_weights

SPEC = UNetSpec(levels=1, features=8, embedding_dim=2, coordinates=True, foreground=True, seeds=True, batch_norm=True)
TINY = TrainSettings(spec=SPEC, window=16, batch=2, steps=3, device="cpu", loss="gaussian", offset_scale=8.0)


def lovasz_of(errors, truth):
    """Lovasz extension of 1 - IoU by its definition: each error times what the loss grows by when its pixel is wrong, too."""
    order = np.argsort(-errors, kind="stable")
    total, wrong, before = 0.0, np.zeros(len(truth), bool), 0.0
    for pixel in order:
        wrong[pixel] = True
        guess = truth ^ wrong
        now = 1 - (guess & truth).sum() / (guess | truth).sum()
        total += max(errors[pixel], 0) * (now - before)
        before = now
    return total


def by_definition(embedding, log_bandwidth, seed, labels, ignore):
    counted, near = labels != ignore, 1 / (1 + np.exp(-seed))
    overlaps, spreads, misses = [], [], list(near[labels == 0] ** 2)
    for number in np.unique(labels[(labels != 0) & counted]):
        mask = labels == number
        if mask.sum() < FEWEST_PIXELS:
            continue
        own = log_bandwidth[mask].mean()
        mean = embedding[:, mask].mean(axis=1)
        square = ((embedding - mean.reshape(-1, *[1] * labels.ndim)) ** 2).sum(axis=0)
        profile = np.exp(-square / (2 * np.exp(own) ** 2))
        errors = np.where(mask, 1 - (2 * profile - 1), 1 + (2 * profile - 1))
        overlaps.append(lovasz_of(errors[counted], mask[counted]))
        spreads.append(((log_bandwidth[mask] - own) ** 2).mean())
        misses += list((near[mask] - profile[mask]) ** 2)
    return [float(np.mean(term)) if term else 0.0 for term in (overlaps, spreads, misses)]


@pytest.mark.parametrize("shape", [(9, 11), (4, 5, 6)], ids=["2d", "3d"])
@pytest.mark.parametrize("seed", range(3))
def test_terms_are_those_of_the_definition(shape, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 4, shape)
    labels.flat[:3] = 9  # three pixels say nothing of a shape
    embedding, scale, near = rng.normal(0, 1, (2, *shape)), rng.normal(0, 0.5, shape), rng.normal(0, 2, shape)
    tensors = [torch.from_numpy(part) for part in (embedding.astype(np.float32), scale, near, labels)]
    embedded, scales, nears, truth = tensors
    loss = gaussian_loss(embedded, truth, log_bandwidth=scales, seed=nears, ignore=-1)
    found = [float(loss.overlap), float(loss.spread), float(loss.seed)]
    wanted = by_definition(embedding, scale, near, labels, -1)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)
    assert float(loss.total) == pytest.approx(wanted[0] + SPREAD_WEIGHT * wanted[1] + SEED_WEIGHT * wanted[2], rel=2e-5)


def test_what_is_far_from_an_object_is_not_compared_with_it():
    """Same-looking objects may share a code: there are few (Corollary 2)."""
    labels = torch.zeros((20, 100), dtype=torch.long)
    labels[5:10, 5:10], labels[5:10, 85:90] = 1, 2
    codes = torch.where(labels > 0, 0.0, 9.0)[None]
    assert (
        float(gaussian_loss(codes, labels, log_bandwidth=torch.zeros(20, 100), seed=50 * (2.0 * (labels > 0) - 1)).total) < 1e-6
    )
    near = labels.roll(-70, 1) * (labels == 2).roll(-70, 1) + labels * (labels == 1)
    codes = torch.where(near > 0, 0.0, 9.0)[None]
    assert float(gaussian_loss(codes, near, log_bandwidth=torch.zeros(20, 100), seed=50 * (2.0 * (near > 0) - 1)).overlap) > 0.5


def test_a_window_without_objects_has_a_loss_with_a_gradient():
    outputs = torch.zeros((4, 12, 12), requires_grad=True)
    loss = gaussian_loss(outputs[:2], torch.full((12, 12), -1), log_bandwidth=outputs[2], seed=outputs[3], ignore=-1)
    loss.total.backward()
    assert float(loss.total.detach()) == 0 and outputs.grad is not None and not outputs.grad.any()


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(SettingsError, match="three times"):
        gaussian_loss(torch.zeros(2, 5, 5), torch.zeros(5, 5), log_bandwidth=torch.zeros(5, 5), seed=torch.zeros(5, 4))
    with pytest.raises(SettingsError, match="2 or 3 axes"):
        gaussian_loss(torch.zeros(2, 5), torch.zeros(5), log_bandwidth=torch.zeros(5), seed=torch.zeros(5))


@given(power=st.floats(0, 2), seed=st.integers(0, 9))
def test_objects_weigh_less_the_larger_they_are(power, seed):
    labels = torch.from_numpy(np.random.default_rng(seed).integers(-1, 6, (30, 30)) ** 2)
    weight = object_weights(labels, power)
    assert (
        bool((weight[labels == 0] == 1).all()) and 1 / MOST_WEIGHT <= float(weight.min()) <= float(weight.max()) <= MOST_WEIGHT
    )
    of = sorted((int((labels == i).sum()), float(weight[labels == i][0])) for i in labels.unique() if i > 0)
    assert all(a[1] >= b[1] for a, b in pairwise(of))


def test_weights_of_one_change_nothing_and_others_do():
    labels = torch.zeros((20, 20), dtype=torch.long)
    labels[:3, :3], labels[8:, 8:] = 1, 2
    logits = torch.linspace(-2, 2, 400).reshape(20, 20)
    plain = foreground_loss(logits, labels)
    assert float(foreground_loss(logits, labels, weights=torch.ones(20, 20))) == pytest.approx(float(plain), rel=1e-6)
    assert float(foreground_loss(logits, labels, weights=object_weights(labels, 1))) > float(plain)  # the small one is missed


def test_an_embedding_has_a_bandwidth_and_a_seed_beside_it():
    outputs = SPEC.outputs
    assert {name: (out.channels.start, out.activation) for name, out in outputs.items()} == {
        "embedding": (0, "linear"), "foreground": (2, "sigmoid"), "bandwidth": (3, "exp"), "seed": (4, "sigmoid"),
    }  # fmt: skip
    assert SPEC.out_channels == 5 and not outputs["bandwidth"].vector and not outputs["seed"].vector
    assert list(replace(SPEC, foreground=False).outputs) == ["embedding", "bandwidth", "seed"]


@pytest.mark.parametrize("coordinates", [False, True])
def test_a_network_begins_with_a_bandwidth_that_can_be_learnt_from(coordinates):
    net = UNet(replace(SPEC, coordinates=coordinates)).eval()
    torch.nn.init.zeros_(net.head.weight)
    made = drain(predict_steps(net, np.zeros((40, 40), np.float32), plan_tiles(net.spec, (40, 40), 16), device="cpu")).outputs
    np.testing.assert_allclose(made["bandwidth"], FIRST_BANDWIDTH[coordinates], rtol=1e-6)
    np.testing.assert_allclose(made["seed"], 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": replace(SPEC, seeds=False)}, "has none of the outputs bandwidth and seed"),
        ({"loss": "discriminative"}, "has them of the outputs bandwidth and seed"),
        ({"loss": "hinge"}, "give 'discriminative' or 'gaussian'"),
        ({"neighbours": True}, "leave neighbours out"),
        ({"offset_scale": 0.0}, "offset_scale is 0.0"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, said, discs):
    with pytest.raises(SettingsError, match=said):
        train(discs, replace(TINY, **change))


@pytest.fixture(scope="module")
def discs():
    made = synthetic.disks((90, 90), 22, 6.0, noise=0.05)
    return [TrainImage.from_arrays(made.image, made.labels, Normalisation())]


def test_evaluation_agrees_with_training_after_the_statistics_were_taken(discs, monkeypatch):
    """Averaged statistics do not fit averaged weights: both modes have to see the same."""
    settings = replace(TINY, steps=60, batch=4, learning_rate=1e-2, augmentation=Augmentation(scale=1.2))
    net = train(discs, settings).module
    rng = np.random.default_rng(0)
    crops = [draw_crop(discs[0], rng, read=(24, 24), write=(16, 16), augmentation=settings.augmentation)[0] for _ in range(64)]
    pixels = torch.stack(crops)
    with torch.no_grad():
        held, batch = net.eval()(pixels), net.train()(pixels)
    spread = batch.std(dim=(0, 2, 3))
    assert bool(((held - batch).abs().mean(dim=(0, 2, 3)) < 0.25 * spread).all())
    monkeypatch.setattr(import_module("napari_shiftseg.network.train"), "_take_statistics", lambda *_, **__: None)
    net = train(discs, settings).module
    with torch.no_grad():
        held, batch = net.eval()(pixels), net.train()(pixels)
    assert bool(((held - batch).abs().mean(dim=(0, 2, 3)) > 0.25 * batch.std(dim=(0, 2, 3))).any())


def test_offsets_come_out_in_pixels_whatever_they_were_learnt_in(discs):
    """The network that is returned gives eight times what the same weights gave the loss."""
    start = UNet(SPEC)
    still = replace(TINY, learning_rate=0.0, weight_decay=0.0, steps=1, average=0.0)
    scaled, plain = train(discs, still, start=start).module, train(discs, replace(still, offset_scale=1.0), start=start).module
    pixels = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        ours, theirs = scaled(pixels), plain(pixels)
    torch.testing.assert_close(ours[:, :2], 8 * theirs[:, :2])
    torch.testing.assert_close(ours[:, 2:], theirs[:, 2:])


def test_a_training_with_seeds_learns_disks(discs):
    losses = []
    train(discs, replace(TINY, steps=80, batch=4, learning_rate=1e-2), losses.append)
    first, last = (np.mean([[s.overlap, s.seed, s.foreground] for s in part], axis=0) for part in (losses[:8], losses[-8:]))
    assert (last < 0.85 * first).all(), (first, last)


def test_small_objects_are_drawn_more_often_where_that_is_wished():
    labels = np.zeros((200, 200), int)
    labels[20:24, 20:24], labels[100:180, 100:180] = 1, 2
    image = TrainImage.from_arrays(labels.astype(np.float32), labels, Normalisation(low=0, high=0))
    assert image.sizes.tolist() == [16, 6400] and image.diameter == pytest.approx(2 * np.sqrt(3208 / np.pi))
    counts = []
    for small in (0.0, 0.5):
        rng, still = np.random.default_rng(0), Augmentation(scale=1, rotate=False, intensity=0, small=small)
        crops = [draw_crop(image, rng, read=(24, 24), write=(16, 16), augmentation=still)[1] for _ in range(200)]
        counts.append(sum(bool((crop == 1).any()) for crop in crops))
    assert 50 < counts[0] < 110 and counts[1] > 130


def test_magnifications_are_drawn_alike_where_that_is_wished():
    def image(edge, count):
        labels = np.zeros((64, 640), int)
        for k in range(count):
            labels[:edge, k * 30 : k * 30 + edge] = k + 1
        return TrainImage.from_arrays(labels.astype(np.float32), labels, Normalisation(low=0, high=0))

    images = [image(5, 16), image(5, 16), image(20, 1)]
    np.testing.assert_allclose(sampling_weights(images), [4 / 9, 4 / 9, 1 / 9])
    np.testing.assert_allclose(sampling_weights(images, 1.0), [1 / 4, 1 / 4, 1 / 2])


@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 30, 30), (1, 12, 20, 20)], ids=["2d", "rgb", "3d"])
def test_degraded_images_differ_in_every_way_and_stay_in_range(shape):
    pixels = torch.rand(shape)
    assert degraded(pixels, np.random.default_rng(0), 0.0) is pixels
    before = pixels.clone()
    made = [degraded(pixels, np.random.default_rng(seed), 0.5) for seed in range(24)]
    assert torch.equal(pixels, before)
    assert all(
        m.shape == pixels.shape and m.dtype == torch.float32 and -1 <= float(m.min()) <= float(m.max()) <= 4 for m in made
    )
    assert torch.equal(made[3], degraded(pixels, np.random.default_rng(3), 0.5))
    correlations = [np.corrcoef(pixels.numpy().ravel(), m.numpy().ravel())[0, 1] for m in made]
    assert min(correlations) < 0 < max(correlations)  # some are inverted
    assert max(float(m.max()) for m in made) > 1.5  # debris and hot pixels
