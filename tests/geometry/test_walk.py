"""The walk of a U-Net against the layers that really run, and folds over it against numbers that are known."""

import pytest
import torch
from torch import nn

from napari_shiftseg.geometry import Pass, UNetSpec, plan_stream, plan_tiles
from napari_shiftseg.network import UNet

ODD = UNetSpec(
    ndim=3, levels=2, pool=((1, 2, 3), (2, 3, 1)), kernel=(1, 3, 5), convs=1, decoder_convs=2, head_kernel=3, in_channels=2,
    features=3, growth=3, foreground=True, upsampling="fixed",
)  # fmt: skip
NETWORKS = [
    UNetSpec(levels=2, features=4, in_channels=3),
    UNetSpec(levels=1, padding="zero", head_kernel=5),
    UNetSpec(levels=0),
    ODD,
]


@pytest.mark.parametrize("spec", NETWORKS, ids=["learnt", "padded", "none", "odd"])
def test_the_walk_is_what_the_network_runs(spec):
    read, ran = spec.input_size((9, 14, 11)[: spec.ndim]), []
    net = UNet(spec).eval()
    for layer in net.modules():
        if hasattr(layer, "weight") or isinstance(layer, nn.Upsample):
            layer.register_forward_hook(lambda layer, inputs, y: ran.append((layer, inputs[0].shape[1:], y.shape[1:])))
    with torch.inference_mode():
        net(torch.zeros(1, spec.in_channels, *read))
    walked = [found for found in spec.maps(read) if found[0].kind not in ("pooling", "concatenation")]
    assert [(layer.source, *before) for layer, before, _ in walked] == [tuple(x) for _, x, _ in ran]
    assert [(layer.target, *after) for layer, _, after in walked] == [tuple(y) for _, _, y in ran]
    for (layer, _, _), (module, _, _) in zip(walked, ran, strict=True):
        assert layer.taps == (
            0 if isinstance(module, nn.Upsample) else 1 if layer.kind == "upsampling" else module.weight[0, 0].numel()
        )
        if layer.convolves:
            assert layer.kernel == module.kernel_size
        elif layer.taps:
            assert layer.factor == module.stride
    moved = [layer.kind for layer in spec.walk if layer.kind in ("pooling", "concatenation")]
    assert moved == ["pooling"] * spec.levels + ["concatenation"] * spec.levels


def test_folds_over_a_network_whose_axes_differ():
    """No two of its numbers are the same by chance: kernels, poolings and convolutions differ per axis, level and path."""
    assert (ODD.period, ODD.margin, ODD.grid_phase) == ((2, 6, 3), (2, 32, 62), (1, 5, 1))
    assert ODD.reach == (2, 21, 33)
    assert [ODD.input_size(1, axis) for axis in range(3)] == [4, 36, 64]
    assert ODD.skip_crops == ((0, 12, 24), (0, 3, 2))
    assert (ODD.flops((40, 80, 120)), ODD.peak_bytes((40, 80, 120))) == (757787616.0, 12380160.0)


def test_windows_of_a_pass():
    """From the kept pixels backwards: what is pooled and what is skipped lie anywhere in a map."""
    one = Pass.of(ODD, ODD.input_size((8, 30, 35)), (slice(1, 5), slice(3, 20), slice(4, 30)))
    ends = [
        [tuple((part.start, part.stop) for part in window) for window in maps] for maps in (one.skips, one.pooled, one.raised)
    ]
    assert one.read == (slice(0, 8), slice(0, 54), slice(3, 94))
    assert ends == [
        [((1, 7), (15, 38), (25, 61)), ((1, 7), (4, 20), (2, 23))],
        [((0, 8), (0, 52), (0, 87)), ((0, 8), (0, 24), (0, 25))],
        [((0, 6), (1, 24), (1, 37)), ((1, 7), (1, 17), (0, 21))],
    ]
    assert one.flops == 36593424.0


def test_what_a_stream_holds():
    stream = plan_stream(plan_tiles(UNetSpec(levels=2, pool=3, upsampling="fixed", head_kernel=3), (500, 300)), strip=36)
    assert (stream.state_bytes, stream.peak_bytes) == (1967552, 11602880)
