"""OpenVINO computes what PyTorch does, tile by tile, and what it cannot do is said in a sentence."""

import warnings

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, plan_tiles, predict
from napari_shiftseg.errors import DeviceError, SettingsError
from napari_shiftseg.events import Stage, drain
from napari_shiftseg.geometry import choose_method, describe_methods
from napari_shiftseg.network import Device, compiled, predict_steps, stream_wish

BY_OPENVINO = Device(torch_device=torch.device("cpu"), kind="cpu", name="any", free=0, compiled=True)


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino", reason="OpenVINO is not installed")


@pytest.mark.parametrize(
    "spec",
    [
        UNetSpec(levels=2, features=8, foreground=True),
        UNetSpec(levels=2, features=4, upsampling="fixed", batch_norm=True, in_channels=2),
        UNetSpec(levels=1, features=4, pool=3, head_kernel=3),
        UNetSpec(ndim=3, levels=1, features=4),
        UNetSpec(ndim=3, levels=1, features=4, pool=((1, 2, 2),), kernel=(1, 3, 3)),
    ],
    ids=["plain", "fixed upsampling", "pooling by 3", "volume", "anisotropic volume"],
)
def test_the_same_embedding_as_by_pytorch(openvino, seeded_net, spec):
    net, shape = seeded_net(spec), tuple(9 * period + 5 for period in spec.period)
    image = np.random.default_rng(1).random((spec.in_channels, *shape), np.float32)
    plan = plan_tiles(spec, shape, tuple(4 * period for period in spec.period))
    expected = predict(net, image, plan, "cpu", method="tiles")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predict(net, image, plan, "openvino")
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_each_kind_of_tile_is_compiled_once_and_again_for_other_weights(openvino, seeded_net, monkeypatch):
    net = seeded_net(UNetSpec(levels=1, features=4))
    image = np.random.default_rng(1).random((1, 90, 70), np.float32)
    plan = plan_tiles(net.spec, image.shape[1:], 32)
    made = []
    compile_one = compiled.CompiledNet._compiled
    monkeypatch.setattr(compiled.CompiledNet, "_compiled", lambda *args: made.append(1) or compile_one(*args))
    compiled.forget()
    steps = predict_steps(net, image, plan, device="openvino")
    texts: list[str] = []
    first = drain(steps, lambda event: texts.append(event.text) if isinstance(event, Stage) else None)
    kinds = len({tuple(part.stop - part.start for part in tile.read) + tuple(map(str, tile.keep)) for tile in plan})
    assert len(made) == kinds < len(plan)
    assert len(texts) == 1 and "OpenVINO compiles" in texts[0]
    assert first.stream is None and first.device.compiled
    np.testing.assert_array_equal(predict(net, image, plan, "openvino"), first.embedding)
    assert len(made) == kinds
    with torch.no_grad():
        net.head.bias.add_(1.0)
    moved = predict(net, image, plan, "openvino")
    assert len(made) == 2 * kinds
    np.testing.assert_allclose(moved, first.embedding + 1.0, atol=1e-5)


def test_what_openvino_cannot_do(openvino, seeded_net, monkeypatch):
    net = seeded_net(UNetSpec(levels=1, features=4))
    image = np.zeros((1, 64, 64), np.float32)
    plan = plan_tiles(net.spec, (64, 64))
    with pytest.raises(SettingsError, match="OpenVINO runs whole tiles; take method 'tiles'"):
        predict(net, image, plan, "openvino", method="stream")

    class Other(torch.nn.Module):
        spec, head = net.spec, net.head

    for module in (Other(), seeded_net(UNetSpec(levels=1, features=4, padding="zero"))):
        with pytest.raises(DeviceError, match="only a UNet with valid convolutions"):
            compiled.compiled_net(module, "float32")

    def broken(*args):
        raise RuntimeError("first line\nthe reason")

    monkeypatch.setattr(compiled.CompiledNet, "_compiled", broken)
    compiled.forget()
    with pytest.raises(DeviceError, match=r"could not compute a tile of .* px \(the reason\); use --device cpu"):
        predict(net, image, plan, "openvino")


def test_a_compiled_pass_is_never_streamed():
    spec = UNetSpec()
    tiles = plan_tiles(spec, (8192, 8192))
    assert choose_method(tiles, **stream_wish(BY_OPENVINO, None)) is None
    by_tiles, stream = describe_methods(spec, (8192, 8192), **stream_wish(BY_OPENVINO, None))
    assert by_tiles.chosen and not stream.possible and "whole tiles" in stream.text
