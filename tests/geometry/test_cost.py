"""Arithmetic and memory traffic: reference networks, the counter of torch, and the tensors that really pass through."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_shiftseg.geometry import Cost, Pass, UNetSpec, layer_costs, network_cost, plan_cost, plan_tiles
from napari_shiftseg.network import UNet
from napari_shiftseg.network.unet import InferenceNet

# ndim, levels, features: MFLOP and bytes in bfloat16 per output pixel, with the copies that concatenate and without
REFERENCE = {
    (2, 4, 64): (1.469, 3770, 2810),
    (2, 4, 32): (0.368, 1894, 1414),
    (2, 3, 16): (0.070, 902, 678),
    (3, 3, 32): (0.428, 1303, 967),
    (3, 4, 32): (0.454, 1315, 975),
}
NETWORKS = [
    UNetSpec(levels=2, features=4, embedding_dim=8),
    UNetSpec(levels=2, features=3, upsampling="fixed", head_kernel=3, foreground=True, decoder_convs=1),
    UNetSpec(levels=1, features=4, padding="zero"),
    UNetSpec(ndim=3, levels=2, features=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3)),
]


@pytest.mark.parametrize("key", REFERENCE)
def test_costs_of_the_reference_networks(key):
    ndim, levels, features = key
    mega, copied, joined = REFERENCE[key]
    spec = UNetSpec(ndim=ndim, levels=levels, features=features, embedding_dim=8)
    with_copy, without = (network_cost(spec, itemsize=2, concatenated=wish) for wish in (True, False))
    assert with_copy.flops / 1e6 == pytest.approx(mega, abs=5e-4)
    assert (round(with_copy.bytes), round(without.bytes)) == (copied, joined)
    assert network_cost(spec).bytes == pytest.approx(2 * with_copy.bytes)


@pytest.mark.parametrize("spec", NETWORKS)
def test_costs_are_those_of_the_tensors_that_pass_through_the_network(spec):
    read = spec.input_size((9, 14, 11)[: spec.ndim])
    net = UNet(spec).eval()
    moved = {"read": 0, "written": 0}

    def note(layer, inputs, output):
        moved["read"] += inputs[0].numel()
        moved["written"] += output.numel()

    for layer in net.modules():
        if hasattr(layer, "weight"):
            layer.register_forward_hook(note)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, *read))
    layers = list(layer_costs(spec, read))
    assert sum(layer.flops for layer in layers) == counter.get_total_flops()
    counted = [layer for layer in layers if layer.flops]
    assert sum(layer.reads for layer in counted) == moved["read"]
    assert sum(layer.writes for layer in counted) == moved["written"]
    joins = [layer for layer in layers if layer.kind == "concatenation"]
    assert len(joins) == spec.levels and all(layer.reads == layer.writes > 0 for layer in joins)


@pytest.mark.parametrize("spec", [spec for spec in NETWORKS if spec.padding == "valid"])
def test_a_cropped_pass_costs_what_its_tensors_do(spec):
    read = spec.input_size((20, 21, 22)[: spec.ndim])
    keep = (slice(1, 9), slice(3, 14), slice(4, 20))[: spec.ndim]
    net = InferenceNet(UNet(spec), fold=False)
    moved = {"read": 0, "written": 0}

    def note(layer, inputs, output):
        moved["read"] += inputs[0].numel()
        moved["written"] += output.numel()

    for layer in net.modules():
        if hasattr(layer, "weight"):
            layer.register_forward_hook(note)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, *read), keep)
    counted = [layer for layer in layer_costs(spec, Pass.of(spec, read, keep)) if layer.flops]
    assert sum(layer.flops for layer in counted) == counter.get_total_flops()
    assert (sum(layer.reads for layer in counted), sum(layer.writes for layer in counted)) == tuple(moved.values())


@pytest.mark.parametrize("padding", ["valid", "zero"])
def test_a_plan_costs_the_sum_of_its_tiles(padding):
    plan = plan_tiles(UNetSpec(levels=2, features=4, padding=padding), (150, 90), (64, 40))
    cost = plan_cost(plan, itemsize=2)
    reads = [[s.stop - s.start for s in tile.read] for tile in plan]
    whole = [network_cost(plan.spec, read, itemsize=2) for read in reads]
    assert cost.flops == pytest.approx(plan.flops)
    assert (sum(one.bytes for one in whole) > 1.01 * cost.bytes) == (padding == "valid")
    if padding == "zero":
        assert cost.bytes == pytest.approx(sum(one.bytes for one in whole))


def test_the_slower_of_arithmetic_and_memory_is_the_floor():
    cost = Cost(flops=100.0, bytes=30.0)
    assert (cost.floor(50.0, 30.0), cost.bound(50.0, 30.0)) == (2.0, "arithmetic")
    assert (cost.floor(50.0, 10.0), cost.bound(50.0, 10.0)) == (3.0, "memory")
