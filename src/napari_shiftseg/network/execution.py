"""How a network runs on a device: the form that it has there."""

from __future__ import annotations

from napari_shiftseg.network import onednn
from napari_shiftseg.network.compiled import CompiledNet, compiled_net
from napari_shiftseg.network.device import Device, arranged, channels_last, check_volumes, choose_dtype
from napari_shiftseg.network.inference import InferenceNet, PlainNet, inference_form
from napari_shiftseg.network.unet import UNet

__all__ = ["ready_network"]


def ready_network(module: UNet, device: Device, dtype: str, *, tiled: bool = False) -> InferenceNet | PlainNet | CompiledNet:
    """The inference form on the device; the head stays in float32, where distances are made.

    With `tiled`, layers are merged or compiled where the device does so; without, each layer of the network is there.
    """
    number = choose_dtype(dtype, device)
    if tiled and device.compiled:
        return compiled_net(module, dtype)
    check_volumes(number, module.spec.ndim, device)
    one_step = tiled and device.kind == "cpu" and onednn.works(module.spec.ndim, number)
    net = inference_form(module, fold=None if tiled else False, one_step=one_step).to(device.torch_device, number)
    net.head.float()
    return arranged(net, channels_last(module.spec.ndim))
