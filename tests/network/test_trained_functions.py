"""The count of trained functions and pairs is what really reaches the loss, read off networks whose outputs are unique IDs."""

from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from math import prod

import numpy as np
import pytest
import torch

from napari_shiftseg import TrainSettings, UNet, UNetSpec, plan_tiles, predict, train, violations
from napari_shiftseg.analysis import prime_network
from napari_shiftseg.geometry import coverage, judge
from napari_shiftseg.network import Augmentation, Normalisation, TrainImage, training_of
from napari_shiftseg.network.constants import IGNORE

TRAIN = import_module("napari_shiftseg.network.train")  # the package has a function of that name
PLAIN = Normalisation(low=0, high=0)
IDS = {}  # of the output functions of padded networks


@cache
def random_network(spec):
    """Weights of both signs on several channels keep a maximum from hiding a zero; values stay above zero for the ReLUs."""
    generator = torch.Generator().manual_seed(0)
    net = UNet(replace(spec, features=6, growth=1, embedding_dim=2)).double()
    with torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
            value *= 0.5 / prod(value.shape[1:]) ** 0.5  # a sum of many terms stays small beside the bias
            if name.endswith("bias"):
                value += 10.0
    return net, float(net(torch.ones(1, 1, *spec.period, dtype=torch.float64)).abs().max())


class Labelled(UNet):
    """A padded network whose output is one number per output function.

    On a constant image two pixels of a random network differ by their place in the period and by the zeros that they see, and
    by nothing else.
    """

    def forward(self, x):
        exact, scale = random_network(self.spec)
        with torch.no_grad():
            codes = exact(x.double())
        keys = (codes.movedim(1, -1).reshape(-1, codes.shape[1]).numpy() / scale * 1e10).round().astype(np.int64)
        names = [IDS.setdefault((self.spec, *key), len(IDS)) for key in keys.tolist()]
        made = torch.tensor(names, dtype=torch.float32).reshape(codes.shape[0], 1, *codes.shape[2:])
        return made + 0 * next(self.parameters()).sum()


def network(spec):
    spec = replace(spec, features=1, growth=1, embedding_dim=1)
    return prime_network(spec) if spec.padding == "valid" else Labelled(spec)


def read(ids, positions):
    """Functions, and pairs of direct neighbours with their axis, of IDs (n,) at positions (ndim, n)."""
    known = {tuple(place): name for place, name in zip(positions.T.tolist(), ids.tolist(), strict=True)}
    pairs = set()
    for place, name in known.items():
        for axis in range(len(place)):
            following = known.get((*place[:axis], place[axis] + 1, *place[axis + 1 :]))
            if following is not None:
                pairs.add((axis, name, following))
    return set(known.values()), pairs


def square(ndim, edge):
    return TrainImage.from_arrays(np.ones((edge,) * ndim, np.float32), np.ones((edge,) * ndim, np.int32), PLAIN)


def of_the_loss(monkeypatch, settings, edge=None):
    """What a training puts under one loss, batch by batch; `edge` is that of the image, by default large enough."""
    functions, pairs = set(), set()
    original = TRAIN.discriminative_loss

    def caught(embedding, labels, **options):
        kept = (labels != IGNORE).flatten()
        ids = embedding.detach()[0].flatten()[kept].round().long()
        f, p = read(ids, options["positions"].flatten(1)[:, kept].long())
        functions.update(f)
        pairs.update(p)
        return original(embedding, labels, **options)

    monkeypatch.setattr(TRAIN, "discriminative_loss", caught)
    spec, net = settings.spec, network(settings.spec)
    settings = replace(settings, spec=net.spec, allow_noncompliant=True, device="cpu", average=0.0, normalisation=PLAIN)
    settings = replace(settings, augmentation=Augmentation(scale=1, rotate=False, intensity=0), batch=2, steps=2)
    if spec.ndim == 1:  # `train` draws no lines; the step that it takes is the same
        write = TRAIN._window(settings)[0] * (2 if settings.neighbours else 1)
        batch = torch.ones(2, 1, write + spec.margin[0]), torch.ones(2, write, dtype=torch.long)
        TRAIN._step(net, batch, settings, where=torch.device("cpu"), dtype=torch.float32, layout=torch.contiguous_format)
    else:
        edge = edge or 2 * max(TRAIN._window(settings)) + max(spec.margin) + 9
        # the weights, and so the IDs, stay as they are
        train([square(spec.ndim, edge)], replace(settings, learning_rate=0.0, real_context=True), start=net)
    return functions, pairs


def of_the_run(spec, trained, write=None, shape=None, **options):
    """What runs over an image by the product's own plan."""
    net = network(spec)
    shape = shape or tuple(2 * max(edge, period) + period + 1 for edge, period in zip(trained.window, spec.period, strict=True))
    plan = plan_tiles(net.spec, shape, write, trained=trained, **options)
    ids = predict(net, np.ones((1, *shape), np.float32), plan, device="cpu")[0].round().astype(int)
    places = np.stack(np.meshgrid(*map(np.arange, ids.shape), indexing="ij")).reshape(spec.ndim, -1)
    return plan, *read(ids.ravel(), places)


def check(monkeypatch, settings, write=None, **options):
    trained = training_of(settings)
    plan, functions, pairs = of_the_run(settings.spec, trained, write, **options)
    seen, met = of_the_loss(monkeypatch, settings)
    count = judge(plan, trained).coverage
    assert (len(functions & seen), len(functions)) == (count.functions, count.of_functions)
    assert (len(pairs & met), len(pairs)) == (count.pairs, count.of_pairs)
    assert count.complete == (functions <= seen and pairs <= met) == (violations(plan, trained) == ())
    return count


VALID = [
    # spec, window, neighbours: below, at and above the period
    (UNetSpec(ndim=1, levels=3, convs=3), 6, False),
    (UNetSpec(ndim=1, levels=3, convs=3), 14, False),
    (UNetSpec(ndim=1, levels=3, convs=3), 6, True),
    (UNetSpec(ndim=1, levels=2), 4, False),
    (UNetSpec(ndim=1, levels=2), 4, True),
    (UNetSpec(ndim=1, levels=2, pool=3, convs=1), 1, True),
    (UNetSpec(levels=3, convs=3), 6, True),
    (UNetSpec(levels=3, convs=3), 6, False),
    (UNetSpec(levels=3), (4, 12), False),
    (UNetSpec(levels=3), (12, 4), True),
    (UNetSpec(levels=2), 4, False),
    (UNetSpec(levels=2), 4, True),
    (UNetSpec(levels=2), (4, 8), True),
    (UNetSpec(levels=2), 8, False),
    (UNetSpec(levels=1), 2, False),
    (UNetSpec(levels=1), 2, True),
    (UNetSpec(levels=1, pool=3), 2, True),
    (UNetSpec(levels=1, pool=3), 5, False),
    (UNetSpec(levels=1, pool=3, decoder_convs=3), 3, False),
    (UNetSpec(levels=1, pool=3, decoder_convs=3), 3, True),
    (UNetSpec(levels=2, pool=((2, 3), (2, 1)), convs=1), (2, 4), True),
    (UNetSpec(ndim=3, levels=1, convs=1), 2, True),
    (UNetSpec(ndim=3, levels=1, convs=1), 2, False),
    (UNetSpec(ndim=3, levels=1, convs=1), (4, 2, 4), False),
    (UNetSpec(ndim=3, levels=1, pool=3, convs=1), 1, True),
    (UNetSpec(ndim=3, levels=1, pool=3, convs=1), 4, False),
    (UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 1, 2)), kernel=(1, 3, 3), convs=1), (2, 2, 3), True),
]


@pytest.mark.parametrize(("spec", "window", "neighbours"), VALID)
def test_valid_convolutions_train_what_is_counted(monkeypatch, spec, window, neighbours):
    """> w > f^l ensures that all pairs of neighbouring output functions are in the training window"""
    window = tuple(
        spec.output_size(spec.input_size(edge, k), k)
        for k, edge in enumerate((window,) * spec.ndim if isinstance(window, int) else window)
    )
    check(monkeypatch, TrainSettings(spec=spec, window=window, neighbours=neighbours), write=spec.period)


@pytest.mark.parametrize(
    ("spec", "write"),
    [
        (UNetSpec(ndim=1, levels=3), 12),
        (UNetSpec(ndim=1, levels=2, pool=3, convs=1), 11),
        (UNetSpec(levels=2), 5),
        (UNetSpec(levels=2), 6),
        (UNetSpec(levels=2), (4, 6)),
        (UNetSpec(ndim=3, levels=1, convs=1), (3, 2, 5)),
    ],
)
def test_pairs_that_meet_at_seams_off_the_lattice_are_counted_and_were_never_trained(monkeypatch, spec, write):
    window = tuple(spec.output_size(spec.input_size(edge + 1, k), k) for k, edge in enumerate(spec.period))
    shape = tuple(
        3 * edge * period for edge, period in zip(np.broadcast_to(write, spec.ndim).tolist(), spec.period, strict=True)
    )
    count = check(monkeypatch, TrainSettings(spec=spec, window=window), write, shape=shape, allow_noncompliant=True)
    assert count.functions == count.of_functions and count.pairs < count.of_pairs


@pytest.mark.parametrize(
    ("edge", "neighbours"), [(4, False), (8, False), (10, False), (5, False), (10, True), (20, True), (30, True)]
)
def test_images_smaller_than_the_window_train_what_is_counted(monkeypatch, edge, neighbours):
    spec = UNetSpec(levels=3)
    settings = TrainSettings(spec=spec, window=12, neighbours=neighbours, augmentation=Augmentation(scale=1, rotate=False))
    trained = training_of(settings, [square(2, edge)])
    plan, functions, pairs = of_the_run(spec, trained, spec.period)
    seen, met = of_the_loss(monkeypatch, settings, edge)
    count = judge(plan, trained).coverage
    assert len(functions & seen) >= count.functions and len(pairs & met) >= count.pairs, "never more than was trained"
    if not neighbours and edge % 2 == 0:  # an odd image lies on half pixels of the window, and is read a pixel wider
        assert (len(functions & seen), len(pairs & met)) == (count.functions, count.pairs)
    assert (violations(plan, trained) == ()) == count.complete == (edge > 8 * (1 + neighbours))


def test_windows_of_every_size_beside_the_period_are_among_them():
    seen = {sign for spec, window, _ in VALID for sign in np.sign(np.subtract(window, spec.period)).tolist()}
    assert seen == {-1, 0, 1} and {spec.ndim for spec, _, _ in VALID} == {1, 2, 3}


def padded(**values):
    return UNetSpec(padding="zero", convs=1, **values)


ALONE = [
    (padded(ndim=1, levels=2), 4),
    (padded(ndim=1, levels=2), 12),
    (padded(ndim=1, levels=1, pool=3), 6),
    (padded(levels=1), 2),
    (padded(levels=1), 4),
    (padded(levels=2), (4, 8)),
    (padded(levels=1, pool=3), 3),
    (padded(levels=1, pool=3), 6),
    (padded(ndim=3, levels=1), 4),
    (padded(ndim=3, levels=1, pool=((1, 2, 2),)), (3, 2, 4)),
]


@pytest.mark.parametrize("neighbours", [True, False])
@pytest.mark.parametrize(("spec", "window"), ALONE)
def test_padded_tiles_that_stand_alone_train_what_is_counted(monkeypatch, spec, window, neighbours):
    """> with zero padding, batches of d + 1 directly neighbouring tiles: each place in a tile is a function of its own"""
    settings = TrainSettings(spec=spec, window=window, neighbours=neighbours)
    trained = training_of(settings)
    plan, functions, pairs = of_the_run(spec, training_of(replace(settings, neighbours=True)))
    assert plan.zeros == "tile"
    seen, met = of_the_loss(monkeypatch, settings)
    count = coverage(spec, trained, "tile")
    assert (len(functions & seen), len(functions)) == (count.functions, count.of_functions)
    assert (len(pairs & met), len(pairs)) == (count.pairs, count.of_pairs)
    assert count.complete == neighbours
    if neighbours:
        assert violations(plan, trained) == () and functions <= seen and pairs <= met


@pytest.mark.parametrize(
    ("spec", "axis"),
    [(padded(levels=1), 0), (padded(levels=1), 1), (padded(ndim=3, levels=1), 0), (padded(ndim=3, levels=1), 2)],
)
def test_d_tiles_that_leave_an_axis_out_never_see_what_meets_along_it(monkeypatch, spec, axis):
    """> d + 1 directly neighbouring tiles: with one fewer all functions are trained, and the pairs of an axis are not"""
    window, corners = 4, TRAIN.product
    settings = TrainSettings(spec=spec, window=window, neighbours=True)
    _, functions, pairs = of_the_run(spec, training_of(settings))
    monkeypatch.setattr(TRAIN, "product", lambda *sides, repeat: [c for c in corners(*sides, repeat=repeat) if not c[axis]])
    seen, met = of_the_loss(monkeypatch, settings)
    missing = pairs - met
    assert functions <= seen and {along for along, _, _ in missing} == {axis}
    assert len(missing) == window ** (spec.ndim - 1), "those at the seam, and no other"


@pytest.mark.parametrize(
    ("spec", "window"), [(padded(levels=1), 4), (padded(levels=1, pool=3), 6), (padded(ndim=3, levels=1), 4)]
)
def test_the_same_network_with_context_runs_functions_that_no_loss_saw(monkeypatch, spec, window):
    """Every other plan than that of the training is refused, as its functions are others."""
    settings = TrainSettings(spec=spec, window=window, neighbours=True)
    trained = training_of(settings)
    # whole periods, so that the last place before the border is one of the image
    shape = tuple((3 * window + 2 * reach) // p * p for reach, p in zip(spec.reach, spec.period, strict=True))
    plan, functions, pairs = of_the_run(spec, trained, 2 * window, shape, allow_noncompliant=True)
    seen, met = of_the_loss(monkeypatch, settings)
    count = judge(plan, trained).coverage
    assert (len(functions), len(pairs)) == (count.of_functions, count.of_pairs)
    assert (len(functions & seen), len(pairs & met)) == (count.functions, count.pairs)
    assert not functions <= seen and not pairs <= met
    assert {v.rule for v in violations(plan, trained)} == {"padding"}


INNER = [
    (padded(ndim=1, levels=1, pool=3), 9),
    (padded(levels=1), 4),
    (padded(levels=1, pool=3), 9),
    (padded(levels=1), 2),
    (padded(ndim=3, levels=1), 4),
]


@pytest.mark.parametrize("border", ["reflect", "valid"])
@pytest.mark.parametrize(("spec", "inner"), INNER)
def test_a_loss_on_pixels_that_see_no_zeros_trains_the_functions_of_the_period(monkeypatch, spec, inner, border):
    """Then the run meets no zeros either: beyond the image lies its reflection."""
    around = tuple(-(-reach // period) * period for reach, period in zip(spec.reach, spec.period, strict=True))
    settings = TrainSettings(spec=spec, window=tuple(inner + 2 * n for n in around), inner_loss=True)
    shape = tuple(2 * n + 7 + 2 * period for n, period in zip(around, spec.period, strict=True))
    count = check(monkeypatch, settings, spec.period, shape=shape, border=border)
    assert count.of_functions == prod(spec.period) and count.complete == (inner > max(spec.period))


def test_an_inner_loss_near_the_border_sees_zeros():
    spec = padded(levels=1)
    (reach, _), (period, _) = spec.reach, spec.period
    enough = period * -(-reach // period)
    for inner, complete in ((enough, True), (enough - 1, True), (reach, True), (reach - 1, False)):
        trained = Trained(window=(24 + 2 * enough,) * 2, inner=(24 + 2 * (enough - inner),) * 2)
        assert coverage(spec, trained).complete == complete == (violations(spec, trained) == ())


@dataclass(frozen=True, kw_only=True)
class Trained:
    window: tuple[int, ...]
    inner: tuple[int, ...]
    neighbours: bool = False
