"""Training keeps the rules, learns, and goes on where it was interrupted."""

import json
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from napari_shiftseg import TrainSettings, UNet, UNetSpec, synthetic, train, violations
from napari_shiftseg.errors import ComplianceError, ModelError, SettingsError, SizeError
from napari_shiftseg.events import Stage, drain
from napari_shiftseg.geometry import coverage
from napari_shiftseg.network import (
    Augmentation,
    Clustering,
    Normalisation,
    TrainImage,
    train_steps,
    training_of,
    training_violations,
)
from napari_shiftseg.network.constants import IGNORE

TRAIN = import_module("napari_shiftseg.network.train")  # the package has a function of that name
SPEC = UNetSpec(levels=1, features=4)
TINY = TrainSettings(spec=SPEC, window=8, batch=2, steps=3, device="cpu", learning_rate=1e-2)


def images_of(made, count=1):
    return [TrainImage.from_arrays(made.image, made.labels, Normalisation())] * count


@pytest.fixture(scope="module")
def disks():
    return images_of(synthetic.disks((60, 60), 13, 4.0, noise=0.05))


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.module.parameters()])


@pytest.mark.parametrize(("levels", "window", "nearest"), [(2, 4, 8), (3, 4, 12), (4, 4, 20)])
def test_a_window_within_the_period_is_refused(disks, levels, window, nearest):
    """> w <= f^l: some neighbouring output functions are never compared, and objects split on the grid."""
    settings = replace(TINY, spec=UNetSpec(levels=levels, features=2), window=window)
    with pytest.raises(ComplianceError, match=f"train with {nearest} px or more") as caught:
        train(disks, settings)
    found = caught.value.violations
    assert [(v.rule, v.axis, v.nearest) for v in found] == [
        ("training-window", 0, (nearest,)),
        ("training-window", 1, (nearest,)),
    ]
    assert training_violations(settings) == found
    assert training_violations(replace(settings, window=nearest)) == ()


def test_zero_padding_on_single_tiles_is_refused(disks):
    """> with zero padding, d+1 directly neighbouring tiles per batch."""
    settings = replace(TINY, spec=replace(SPEC, padding="zero"))
    with pytest.raises(ComplianceError, match="3 directly neighbouring tiles") as caught:
        train(disks, settings)
    assert [v.rule for v in caught.value.violations] == ["padding"]
    assert training_violations(replace(settings, neighbours=True)) == ()


@pytest.mark.parametrize(
    "settings",
    [replace(TINY, spec=UNetSpec(levels=2, features=2), window=4), replace(TINY, spec=replace(SPEC, padding="zero"))],
    ids=["window", "padding"],
)
def test_broken_rules_can_be_allowed_and_stay_in_the_record(disks, settings):
    model = train(disks, replace(settings, allow_noncompliant=True))
    assert model.record.settings["allow_noncompliant"] is True
    assert model.record.window == (settings.window,) * 2 and not model.record.neighbours


@pytest.mark.parametrize("padding", ["valid", "zero"])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_default_window_keeps_the_rules(levels, padding):
    spec = UNetSpec(levels=levels, padding=padding)
    settings = TrainSettings(spec=spec, neighbours=padding == "zero")
    assert training_violations(settings) == ()


def test_the_loss_falls_on_blobs():
    made = synthetic.blobs((90, 90), 14, radius=(5, 8), touching=0, seed=3)
    events = []
    settings = replace(TINY, spec=UNetSpec(levels=1, features=8, foreground=True), window=32, steps=60, learning_rate=0.05)
    settings = replace(settings, augmentation=Augmentation(scale=1, intensity=0), push_distance=12.0, average=0.0)
    model = train(images_of(made), settings, events.append)
    assert [(e.done, e.total) for e in events] == [(n, 60) for n in range(1, 61)]
    for name, share in (("loss", 0.7), ("push", 0.7), ("foreground", 0.9)):
        values = [getattr(event, name) for event in events]
        assert np.mean(values[-10:]) < share * np.mean(values[:10]), name
    assert set(model.record.losses) == {"loss", "pull", "push", "foreground"}


def test_the_model_comes_back_ready_to_use(disks):
    model = train(disks, replace(TINY, data="disks", clustering=Clustering(bandwidth=1.25), seed=4))
    assert not model.module.training and model.spec == SPEC
    assert all(p.is_contiguous() and p.device.type == "cpu" for p in model.module.parameters())
    record = model.record
    assert (record.window, record.steps, record.batch, record.seed, record.data) == ((8, 8), 3, 2, 4, "disks")
    assert record.clustering.bandwidth == 1.25 and record.settings["learning_rate"] == 1e-2
    assert json.loads(json.dumps(record.to_dict()))["window"] == [8, 8]


def test_a_seed_decides_everything(disks):
    first, again, other = (train(disks, replace(TINY, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("steps", [10**9 + 1, 10**30])
def test_a_training_has_an_end(disks, steps):
    with pytest.raises(SettingsError, match="give a number from 0 to 1e"):
        next(train_steps(disks, replace(TINY, steps=steps)))  # the first, where nobody refuses so many


def changed(images):
    one = images[0]
    yield "2 images, and 1", images[:1]
    yield "other images: number 1 ", images[::-1]
    yield "other images: number 1 ", [replace(one, pixels=one.pixels + 1e-3), *images[1:]]
    across = [part.reshape(*part.shape[:-2], part.shape[-2] * 2, -1) for part in (one.pixels, one.labels)]
    yield "other images: number 1 ", [replace(one, pixels=across[0], labels=across[1]), *images[1:]]
    yield "other images: number 1 ", [replace(one, labels=one.labels.T.contiguous()), *images[1:]]


def test_a_training_goes_on_with_the_images_that_it_began_with(disks, tmp_path):
    path, images = tmp_path / "run.ckpt", [*disks[:1], replace(disks[0], pixels=disks[0].pixels * 2)]
    settings = replace(TINY, checkpoint=path)
    train(images, settings)
    for words, others in changed(images):
        with pytest.raises(ModelError, match=f"belongs to a training on {words}"):
            train(others, settings)
    saved = torch.load(path, weights_only=True)
    del saved["images"]
    torch.save(saved, path)
    events = []
    train(images[:1], replace(settings, steps=TINY.steps + 1), events.append)
    assert "of an earlier version" in events[0].text and len(events) == 2


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(disks, tmp_path):
    settings = replace(TINY, spec=replace(SPEC, batch_norm=True), steps=7, average=0.9)
    whole_events, resumed_events = [], []
    whole = train(disks, settings, whole_events.append)
    saved = replace(settings, checkpoint=tmp_path / "run.ckpt", checkpoint_every=2)
    steps = train_steps(disks, saved)
    for _ in range(5):  # step 5 is lost: the last checkpoint is that of step 4
        next(steps)
    steps.close()
    resumed = train(disks, saved, resumed_events.append)
    assert [e.done for e in resumed_events] == [5, 6, 7]
    assert resumed_events == whole_events[4:]
    assert torch.equal(weights(resumed), weights(whole))
    whole_state, resumed_state = whole.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(whole_state[name], resumed_state[name]) for name in whole_state)
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
def test_a_full_disk_at_a_checkpoint_costs_the_checkpoint_and_not_the_training(disks, tmp_path):
    """> hours of work are not given up for a disk"""
    import resource

    path = tmp_path / "run.ckpt"
    saved, events = replace(TINY, checkpoint=path, checkpoint_every=2), []
    steps = train_steps(disks, saved)
    for _ in range(2):
        next(steps)
    kept, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, before[1]))
    try:
        model = drain(steps, events.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = [event.text for event in events if isinstance(event, Stage)]
    assert said and all("was not written" in text and "the training goes on" in text for text in said)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]
    undisturbed = train(disks, TINY).module.state_dict()
    assert all(torch.equal(value, undisturbed[name]) for name, value in model.module.state_dict().items())


def test_a_file_that_is_no_checkpoint_of_this_network_is_named(disks, tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="is not a checkpoint"):
        train(disks, replace(TINY, checkpoint=path))
    path.unlink()
    train(disks, replace(TINY, checkpoint=path))
    with pytest.raises(ModelError, match="belongs to another network"):
        train(disks, replace(TINY, spec=replace(SPEC, features=5), checkpoint=path))


@pytest.mark.parametrize(
    "other", [{"window": 20}, {"delta_dist": 2.0}, {"normalisation": Normalisation(high=90)}, {"offset_scale": 2.0}], ids=str
)
def test_a_training_does_not_go_on_under_what_its_record_would_not_say(disks, tmp_path, other):
    path = tmp_path / "run.ckpt"
    train(disks, replace(TINY, checkpoint=path))
    before = path.read_bytes()
    with pytest.raises(ModelError, match=f"belongs to a training with {next(iter(other))} "):
        train(disks, replace(TINY, checkpoint=path, **other))
    assert path.read_bytes() == before
    train(disks, replace(TINY, checkpoint=path, batch=1, learning_rate=1e-4, steps=TINY.steps + 1))


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, coordinates=True, embedding_dim=2, foreground=True),
        replace(SPEC, batch_norm=True, in_channels=2),
        UNetSpec(ndim=3, levels=1, convs=1, features=2, foreground=True),
        UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3), convs=1, features=2),
        UNetSpec(ndim=3, levels=1, features=2, padding="zero"),
    ],
    ids=["coordinates", "batch-norm", "3d", "anisotropic", "3d-neighbours"],
)
def test_a_few_steps_of_every_kind(spec):
    made = synthetic.disks((40,) * spec.ndim, 13, 4.0)
    image = np.stack([made.image] * spec.in_channels)
    images = [TrainImage.from_arrays(image, made.labels, Normalisation())]
    settings = replace(TINY, spec=spec, window=None, push_distance=8.0, neighbours=spec.padding == "zero")
    events = []
    model = train(images, settings, events.append)
    assert len(events) == 3 and all(np.isfinite([e.loss, e.pull, e.push, e.foreground]).all() for e in events)
    assert all(e.loss > 0 for e in events)
    torch.manual_seed(0)
    assert not torch.equal(weights(model), weights(replace(model, module=UNet(spec))))


def test_neighbouring_tiles_are_one_label_image(monkeypatch):
    """> d+1 directly neighbouring tiles: instance means span them, each tile passes the network with its own padding."""
    seen, passes = [], []
    original, forward = TRAIN.discriminative_loss, UNet.forward
    monkeypatch.setattr(
        TRAIN, "discriminative_loss", lambda *a, **k: seen.append((a[0], a[1], k["positions"])) or original(*a, **k)
    )
    monkeypatch.setattr(UNet, "forward", lambda self, x: passes.append(tuple(x.shape)) or forward(self, x))
    coded = np.arange(1, 1601).reshape(40, 40)
    images = [TrainImage.from_arrays(coded / 1600, coded, Normalisation())]
    settings = replace(TINY, spec=replace(SPEC, padding="zero"), neighbours=True, steps=1)
    train(images, replace(settings, augmentation=Augmentation(scale=1, rotate=False, intensity=0)))
    assert passes == [(1, 1, 8, 8)] * 6 and len(seen) == 2
    for embedding, labels, positions in seen:
        assert (tuple(embedding.shape), tuple(labels.shape)) == ((3, 3 * 64), (3 * 64,))
        assert {tuple(positions[:, k * 64].int().tolist()) for k in range(3)} == {(0, 0), (0, 8), (8, 0)}
        # 40 labels per row: a label tells where its pixel lies
        np.testing.assert_array_equal(labels - labels[0], positions[0] * 40 + positions[1])


def test_offsets_become_coordinates_in_the_loss(monkeypatch, disks):
    seen = []
    original = TRAIN.discriminative_loss
    monkeypatch.setattr(TRAIN, "discriminative_loss", lambda *a, **k: seen.append((a[0].detach(), k)) or original(*a, **k))
    spec = replace(SPEC, coordinates=True, embedding_dim=2)
    start = UNet(spec)
    torch.nn.init.zeros_(start.head.weight)
    torch.nn.init.zeros_(start.head.bias)
    list(train_steps(disks, replace(TINY, spec=spec, steps=1, batch=1, neighbours=False), start))
    ((embedding, keywords),) = seen
    np.testing.assert_array_equal(embedding, np.indices((8, 8)))
    assert keywords["gamma"] == 0 and keywords["ignore"] == IGNORE


def test_training_starts_from_given_weights_and_leaves_them(disks):
    torch.manual_seed(5)
    start = UNet(SPEC)
    before = torch.cat([p.detach().clone().ravel() for p in start.parameters()])
    still = train(disks, replace(TINY, learning_rate=0.0, weight_decay=0.0), start=start)
    moved = train(disks, replace(TINY, average=0.0), start=start)
    assert torch.allclose(weights(still), before, atol=1e-7)
    assert not torch.allclose(weights(moved), before)
    assert torch.equal(torch.cat([p.detach().ravel() for p in start.parameters()]), before)


def test_the_averaged_weights_lag_behind_the_last_ones(disks):
    torch.manual_seed(5)
    start = UNet(SPEC)
    before = torch.cat([p.detach().clone().ravel() for p in start.parameters()])
    last, average = (train(disks, replace(TINY, steps=6, average=decay), start=start) for decay in (0.0, 0.9))
    distances = [float((weights(model) - before).norm()) for model in (average, last)]
    assert 0 < distances[0] < distances[1]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"spec": UNetSpec(ndim=1, levels=1), "window": None}, SettingsError, "2D and 3D"),
        ({"spec": UNetSpec(levels=1, in_channels=2)}, SettingsError, "1 channels and 2 axes; the network wants 2 channels"),
        ({"spec": UNetSpec(ndim=3, levels=1)}, SettingsError, "3 axes"),
        ({"window": 7}, SizeError, "use 22 or 24 px"),
        ({"window": (8, 8, 8)}, SettingsError, "does not have 2 edges"),
    ],
    ids=["1d", "channels", "axes", "size", "edges"],
)
def test_settings_that_do_not_fit_are_named(disks, change, error, said):
    with pytest.raises(error, match=said):
        train(disks, replace(TINY, **change))


def test_without_images_there_is_nothing_to_train_on():
    with pytest.raises(SettingsError, match="give at least one image"):
        train([], TINY)


def test_training_on_every_device_and_in_bfloat16(disks, device):
    events = []
    model = train(disks, replace(TINY, device=device, dtype="bfloat16"), events.append)
    assert len(events) == 3 and next(model.module.parameters()).dtype == torch.float32
    assert next(model.module.parameters()).device.type == "cpu"


@pytest.mark.parametrize("axis", [0, 1])
def test_images_that_do_not_fill_the_window_train_fewer_functions(axis):
    """Only labelled pixels reach the loss: of a window of 12 px an image of 5 px gives 5 of 8 functions, always the same."""
    shape = [60, 60]
    shape[axis] = 5
    made = synthetic.disks(tuple(shape), 13, 4.0)
    plain = Augmentation(scale=1, rotate=False, intensity=0)
    settings = replace(TINY, spec=UNetSpec(levels=3, features=2), window=12, augmentation=plain, steps=1)
    with pytest.raises(ComplianceError, match=r"fill no more than .* of the window of \(12, 12\) px") as caught:
        train(images_of(made), settings)
    assert [(v.axis, v.found) for v in caught.value.violations] == [(axis, 5)]
    model = train(images_of(made), replace(settings, allow_noncompliant=True))
    assert model.record.inner[axis] == 5 and violations(model.spec, model.record) != ()
    # one image that fills it is enough
    train([*images_of(made), *images_of(synthetic.disks((60, 60), 13, 4.0))], settings)


@pytest.mark.parametrize("neighbours", [True, False])
def test_a_padded_network_needs_images_that_fill_its_tiles(disks, neighbours):
    padded = replace(TINY, spec=replace(SPEC, padding="zero"), neighbours=neighbours, augmentation=Augmentation(scale=1))
    fits = 30 if neighbours else 60
    train(disks, replace(padded, window=fits, steps=1, batch=1, allow_noncompliant=True))
    with pytest.raises(SettingsError, match=f"no training image fills \\({62 if not neighbours else 64},"):
        train(disks, replace(padded, window=fits + 2, allow_noncompliant=True))


def test_a_loss_on_the_inner_part_is_recorded_and_compliant(disks):
    settings = replace(TINY, spec=replace(SPEC, padding="zero"), window=None, inner_loss=True, steps=1)
    model = train(disks, settings)
    # a pixel sees 9 px, and 10 px are whole periods
    assert (model.record.window, model.record.inner) == ((26, 26), (6, 6))
    assert violations(model.spec, model.record) == ()
    with pytest.raises(ComplianceError, match="with a loss on its inner 2 px"):
        train(disks, replace(settings, window=22))
    for wrong in ({"neighbours": True}, {"spec": SPEC, "window": 32}):
        with pytest.raises(SettingsError, match="on the inner part alone is for zero padding"):
            train(disks, replace(settings, allow_noncompliant=True, **wrong))
    with pytest.raises(SettingsError, match="has no pixel that sees no zeros"):
        train(disks, replace(settings, window=20, allow_noncompliant=True))


PAPER = UNetSpec(levels=4, features=1, growth=1)


@pytest.mark.parametrize(
    ("spec", "window", "keep", "counted"),
    [
        (PAPER, 20, 16, ((16, 16), "256 of 256 functions, 480 of 512 pairs")),
        (PAPER, 20, (12, 20), ((12, 20), "192 of 256 functions, 368 of 512 pairs")),
        (UNetSpec(levels=1, pool=3, features=1), 8, 3, ((3, 3), "9 of 9 functions, 12 of 18 pairs")),
        (UNetSpec(ndim=3, levels=1, features=1), 4, 2, ((2, 2, 2), "8 of 8 functions, 12 of 24 pairs")),
    ],
    ids=["20 -> 16", "one axis", "f = 3", "3D"],
)
def test_a_crop_of_the_output_to_the_period_trains_fewer_pairs_and_is_refused(spec, window, keep, counted):
    """> Fig. 3a: the output of 20 px is cropped to w = 16 = f^l"""
    settings = TrainSettings(spec=spec, window=window, keep=keep, device="cpu")
    trained = training_of(settings)
    assert (trained.inner, coverage(spec, trained).describe()) == counted
    assert {v.rule for v in training_violations(settings)} == {"training-window"}
    edges = (60,) * spec.ndim
    image = TrainImage.from_arrays(np.ones(edges, np.float32), np.ones(edges, np.int32), Normalisation())
    with pytest.raises(ComplianceError, match="some were never compared"):
        train([image], settings)
    assert not training_violations(replace(settings, keep=spec.period[0] + 1)), "one pixel more has all pairs"


def test_what_is_kept_alone_reaches_the_loss_and_is_recorded(monkeypatch, disks):
    seen, original = [], TRAIN.discriminative_loss

    def caught(embedding, labels, **options):
        seen.append((tuple(embedding.shape[1:]), tuple(labels.shape), labels.clone()))
        return original(embedding, labels, **options)

    monkeypatch.setattr(TRAIN, "discriminative_loss", caught)
    whole = replace(TINY, window=8, augmentation=Augmentation(scale=1, rotate=False), average=0.0)
    for keep, part in ((8, slice(0, 8)), (4, slice(2, 6)), (3, slice(2, 5))):
        seen.clear()
        model = train(disks, replace(whole, keep=keep))
        kept = [labels for *_, labels in seen]
        assert {shape[:2] for shape in seen} == {((keep, keep), (keep, keep))}
        assert model.record.inner == (None if keep == 8 else (keep, keep)) and model.record.window == (8, 8)
        if keep == 8:
            every = kept
        assert all(torch.equal(a[part, part], b) for a, b in zip(every, kept, strict=True)), "the centred part"


def test_an_image_that_fills_less_than_is_kept_is_counted_by_what_it_fills():
    images = images_of(synthetic.disks((10, 60), 13, 4.0))
    settings = TrainSettings(spec=PAPER, window=20, keep=18, augmentation=Augmentation(scale=1, rotate=False))
    assert training_of(settings).inner == (18, 18) and training_of(settings, images).inner == (10, 18)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keep": 9}, "from 1 px to those"),
        ({"keep": 0}, "from 1 px to those"),
        ({"keep": (4, 4, 4)}, "from 1 px to those"),
        ({"keep": 4, "neighbours": True}, "leave neighbours"),
        ({"keep": 16, "inner_loss": True, "window": None, "spec": replace(SPEC, padding="zero")}, "inner_loss out"),
    ],
)
def test_a_crop_that_does_not_fit_is_refused(disks, change, said):
    with pytest.raises(SettingsError, match=said):
        train(disks, replace(TINY, **change))


def test_the_middle_of_a_padded_window_counts_if_it_sees_no_zeros():
    spec = UNetSpec(levels=1, features=2, padding="zero")
    inside = TrainSettings(spec=spec, window=32, keep=32 - 2 * spec.reach[0])
    assert training_violations(inside) == ()
    assert training_violations(replace(inside, keep=inside.keep + 2)) != ()
