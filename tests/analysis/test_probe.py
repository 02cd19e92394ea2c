"""The probe finds period, margin and reach of networks that it knows nothing of."""

import math
from contextlib import closing
from itertools import takewhile

import pytest
import torch
from torch import nn

from napari_shiftseg import UNet, UNetSpec
from napari_shiftseg.analysis import prime_network, probe_period, probe_steps
from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.events import Stage

SPECS = {
    "no pooling": UNetSpec(levels=0, features=2),
    "l2": UNetSpec(levels=2, features=3),
    "l3": UNetSpec(levels=3, features=2, convs=1),
    "f3": UNetSpec(levels=2, pool=3, features=4, convs=1),
    "anisotropic": UNetSpec(levels=2, pool=((1, 2), (2, 2)), features=2),
    "wide head": UNetSpec(levels=2, features=2, convs=1, decoder_convs=2, head_kernel=3),
    "zero padding": UNetSpec(levels=2, features=2, padding="zero"),
    "fixed": UNetSpec(levels=2, features=2, upsampling="fixed"),
    "1D": UNetSpec(ndim=1, levels=3, features=4),
    "3D": UNetSpec(ndim=3, levels=1, features=1),
}


def unet(spec, seed=0):
    torch.manual_seed(seed)
    return UNet(spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_what_the_probe_finds_is_what_the_spec_declares(spec):
    """> a valid U-Net is periodic-f^l shift equivariant"""
    probe = probe_period(unet(spec))
    assert (probe.period, probe.margin, probe.reach) == (spec.period, spec.margin, spec.reach)
    assert probe.agrees and "keeps what is declared" in probe.text
    assert probe.precision == "float64"
    assert probe.location_aware == (spec.padding == "zero")


def test_a_network_without_a_spec_is_probed_in_float32():
    spec = UNetSpec(levels=2, features=3)
    net = unet(spec)
    probe = probe_period(lambda x: net(x))
    assert (probe.period, probe.margin, probe.reach) == (spec.period, spec.margin, spec.reach)
    assert probe.declared is None and probe.agrees is None and probe.precision == "float32"


def test_shorter_shifts_are_felt_the_more_the_less_they_share_with_the_period():
    felt = probe_period(unet(UNetSpec(levels=3, features=3)), shifts=(1, 2, 4, 8)).sensitivity[0]
    assert felt[1] > felt[2] > felt[4] > 1e-6 > 1e-12 > felt[8]


class Faint(nn.Module):
    """Hands the image on, with a trace of the maximum of each cell of 4."""

    def forward(self, x):
        return x + 1e-6 * nn.functional.interpolate(nn.functional.max_pool1d(x, 4), scale_factor=4.0)


def test_functions_that_differ_faintly_are_others():
    """> Definition 2: equivariant to multiples of t, and to no other shift"""
    assert probe_period(Faint().double(), ndim=1).period == (4,)


@pytest.mark.parametrize(("upsampling", "distinct"), [("learnt", 16), ("fixed", 1)])
def test_a_constant_image_gives_as_many_outputs_as_there_are_output_functions(upsampling, distinct):
    """> Fig. 4: f^(d*l) different embeddings on a constant image; with fixed upsampling one"""
    spec = UNetSpec(levels=2, features=3, upsampling=upsampling)
    found = max(probe_period(unet(spec, seed), shifts=(4,)).distinct for seed in range(4))  # some seeds have dead units
    assert found == distinct


def test_the_construction_with_primes_reaches_the_bound():
    spec = UNetSpec(levels=2, features=1, growth=1, embedding_dim=1)
    assert probe_period(prime_network(spec), shifts=spec.period).distinct == math.prod(spec.period)


def test_a_layer_that_sees_the_whole_image_leaves_no_period():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2))
    probe = probe_period(net)
    assert probe.period == (None, None) and probe.reach == (None, None)
    assert "No tested shift" in probe.text


def test_a_wrong_declaration_is_contradicted():
    net = unet(UNetSpec(levels=2, pool=((1, 2), (2, 2)), features=2))
    claimed = UNetSpec(levels=2, pool=((2, 1), (2, 2)), features=2)
    probe = probe_period(net, spec=claimed)
    assert probe.agrees is False and probe.period == (2, 4)


def test_a_smaller_period_than_declared_is_no_contradiction():
    net = unet(UNetSpec(levels=1, features=2, padding="zero"))
    claimed = UNetSpec(levels=2, features=2, padding="zero")
    assert probe_period(net, spec=claimed).agrees


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    probe_period(net, shifts=(1,))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_that_takes_nothing_is_an_error_of_one_sentence():
    with pytest.raises(ModelError, match="takes no image"):
        probe_period(nn.Conv2d(5, 1, 3))
    with pytest.raises(SettingsError, match="1 or more"):
        probe_period(nn.Conv2d(1, 1, 3), shifts=(0,))
    with pytest.raises(SettingsError, match="2 axes"):
        probe_period(nn.Conv2d(1, 1, 3), size=(9, 9, 9))


# -- step by step -----------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A network that counts its passes."""

    def __init__(self, net):
        super().__init__()
        self.net, self.passes = net, []

    def __deepcopy__(self, _):
        copied = Counting(self.net.double())
        copied.passes = self.passes
        return copied

    def forward(self, x):
        self.passes.append(x.shape)
        return self.net(x)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("name", ["l2", "zero padding", "3D"])
def test_each_step_is_one_pass_of_the_network_at_most(name, declared):
    """So that cancelling never waits for more than that."""
    spec = SPECS[name]
    net = Counting(unet(spec))
    steps, events, before = probe_steps(net, ndim=spec.ndim, spec=spec if declared else None), [], 0
    with closing(steps):
        for event in steps:
            assert len(net.passes) - before <= 1
            before = len(net.passes)
            events.append(event)
            if not declared and len(events) > 60:
                break
    stages = [event for event in events if isinstance(event, Stage)]
    assert stages[0].text == "looking for sizes that the network takes"
    if declared:
        assert {stage.text for stage in stages[1:]} >= {
            f"looking how far the network sees on axis {k}" for k in range(spec.ndim)
        }
        assert stages[-1].text == "looking at a constant image"
        for first, stage in enumerate(events):
            if isinstance(stage, Stage) and stage.total:  # each stage counts up to its total
                counted = [event.done for event in takewhile(lambda event: not isinstance(event, Stage), events[first + 1 :])]
                assert counted == list(range(1, stage.total + 1))


def test_a_probe_that_is_cancelled_runs_the_network_no_more():
    net = Counting(unet(SPECS["l2"]))
    steps = probe_steps(net, spec=SPECS["l2"])
    for _ in range(20):
        next(steps)
    passes = len(net.passes)
    steps.close()
    assert len(net.passes) == passes > 5
    with pytest.raises(StopIteration):
        next(steps)


def test_events_of_a_probe_reach_who_asks_for_them():
    events, net = [], unet(SPECS["l2"])
    probe = probe_period(net, on_event=events.append)
    assert probe == probe_period(net) and len(events) > 30
