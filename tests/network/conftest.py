"""Small networks with seeded weights."""

import pytest
import torch
from torch import nn

from napari_shiftseg import UNet


def _seeded(spec, seed=0):
    """A network in evaluation mode; biases are small and positive, so that few units are dead."""
    torch.manual_seed(seed)
    net = UNet(spec).eval().requires_grad_(False)
    for layer in net.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.bias is not None:
            nn.init.uniform_(layer.bias, 0.0, 0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return net


@pytest.fixture(scope="session")
def seeded_net():
    """`seeded_net(spec, seed)`."""
    return _seeded


def _devices():
    return [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=_devices())
def device(request):
    """Every device that networks run on; CUDA is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    return request.param
