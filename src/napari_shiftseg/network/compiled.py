"""`CompiledNet`: a network whose tiles OpenVINO runs on the CPU, compiled once for each kind of tile."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_shiftseg.errors import DeviceError, OutOfMemoryError, memory_ran_out
from napari_shiftseg.geometry import UNetSpec, Window
from napari_shiftseg.network.device import choose_device, choose_precision
from napari_shiftseg.network.unet import InferenceNet, UNet

__all__ = ["CompiledNet", "compiled_net", "forget"]

# Kinds of tiles that stay compiled, each with the memory of a pass: those of two neighbouring rows of tiles and more.
_KINDS = 9
# Networks that stay compiled for a later call: the blocks of a large image, the frames of a series.
_NETWORKS = 2
_PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16"}

_kept: OrderedDict[tuple[str, torch.dtype, int], CompiledNet] = OrderedDict()


class CompiledNet(nn.Module):
    """A network in its inference form, with the face of an `InferenceNet`.

    Parameters
    ----------
    form : InferenceNet
        In float32 on the CPU, without merged operators.
    dtype : torch.dtype
        Number format of the convolutions.
    """

    def __init__(self, form: InferenceNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.spec: UNetSpec = form.spec
        self.layout = torch.contiguous_format
        self.form = form
        self._hints = {"INFERENCE_PRECISION_HINT": _PRECISION[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._kinds: OrderedDict[Any, Any] = OrderedDict()

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, out_channels, *keep), of an input (B, C, *in)."""
        pixels = np.ascontiguousarray(x.float().numpy())
        key = (pixels.shape, tuple((part.start, part.stop) for part in keep))
        what = f"a tile of {' x '.join(map(str, pixels.shape[2:]))} px"
        try:
            if key not in self._kinds:
                if len(self._kinds) >= _KINDS:
                    self._kinds.popitem(last=False)
                self._kinds[key] = self._compiled(pixels.shape, keep)
            found = self._kinds[key].infer([pixels])
            return torch.from_numpy(np.array(found[0]))  # the request writes its next result to the same place
        except (RuntimeError, MemoryError) as exc:
            if memory_ran_out(exc) or "allocate" in str(exc):
                raise OutOfMemoryError(f"memory ran out while computing {what}; use smaller tiles.") from exc
            reason = str(exc).strip().splitlines()[-1]
            raise DeviceError(f"OpenVINO could not compute {what} ({reason}); use --device cpu.") from exc

    def _compiled(self, shape: Sequence[int], keep: Window) -> Any:
        from openvino import Core

        return Core().compile_model(_graph(self.form, shape, keep), "CPU", self._hints).create_infer_request()


def _graph(net: InferenceNet, shape: Sequence[int], keep: Window) -> Any:
    """The pass of a network over tiles of one kind, as OpenVINO's operations.

    Written out, since OpenVINO's own converter needs `torch.jit.trace`, which PyTorch has deprecated, and reports its use.
    """
    from openvino import Model, opset13

    ops: Any = opset13
    model: Any = Model
    ndim, plan = net.spec.ndim, net.planned(tuple(shape[2:]), keep)
    pixels = ops.parameter(list(shape), np.float32)
    x, skips = _part(ops, pixels, plan.read), []
    for level, factor in enumerate(net.spec.factors):
        x = _layers(ops, x, net.encoder[level])
        skips.append(_part(ops, x, plan.skips[level]))
        x, none = _part(ops, x, plan.pooled[level]), [0] * ndim
        x = ops.max_pool(x, list(factor), [1] * ndim, none, none, list(factor)).output(0)
    x = _layers(ops, x, net.encoder[-1])
    for level in reversed(range(net.spec.levels)):
        raised = _part(ops, _layers(ops, x, net.up[level]), plan.raised[level])
        x = _layers(ops, ops.concat([skips.pop(), raised], 1), net.decoder[level])
    return model([_layers(ops, x, [net.head])], [pixels], "tile")


def _layers(ops: Any, x: Any, layers: Any) -> Any:
    """PyTorch's layers, one after the other."""
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            x = ops.relu(x)
        elif isinstance(layer, nn.Upsample):
            factors = np.array(layer.scale_factor, np.float32)
            axes = np.arange(2, 2 + len(factors))
            x = ops.interpolate(x, factors, "nearest", "scales", None, None, "asymmetric", "floor", axes=axes)
        else:
            weight, bias = layer.weight.numpy(), layer.bias.numpy()
            none, ones, strides = [0] * len(layer.stride), [1] * len(layer.stride), list(layer.stride)
            if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                x = ops.convolution_backprop_data(x, weight, strides, None, none, none)
            else:
                x = ops.convolution(x, weight, strides, none, none, ones)
            x = ops.add(x, bias.reshape(1, -1, *ones))
    return x


def _part(ops: Any, x: Any, window: Window) -> Any:
    starts, stops = np.array([(part.start, part.stop) for part in window]).T
    return ops.slice(x, starts, stops, np.ones(len(window), int), np.arange(2, 2 + len(window)))


def compiled_net(module: nn.Module, dtype: str) -> CompiledNet:
    """The network as OpenVINO runs it; one with the same weights that ran before is still compiled.

    Raises
    ------
    DeviceError
        If the network is not a `UNet` with valid convolutions.
    """
    if not isinstance(module, UNet) or type(module).forward is not UNet.forward or module.spec.padding != "valid":
        raise DeviceError("only a UNet with valid convolutions runs with OpenVINO; use --device cpu.")
    number = choose_precision(dtype, choose_device("openvino"), module.spec.ndim).dtype
    digest = hashlib.blake2b(repr(module.spec).encode())
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    key = (digest.hexdigest(), number, torch.get_num_threads())
    if key not in _kept:
        _kept[key] = CompiledNet(InferenceNet(module, fold=False).float().cpu(), number)
    _kept.move_to_end(key)
    while len(_kept) > _NETWORKS:
        _kept.popitem(last=False)
    return _kept[key]


def forget() -> None:
    """Give back the memory of all that is kept compiled."""
    _kept.clear()
