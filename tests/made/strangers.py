"""Networks that are not ours, written as others write theirs: nothing in them knows of a spec, a lattice or a plan."""

import torch
from torch import nn


def shaken(net, seed=0):
    """Weights and running statistics that are none of the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*net.named_parameters(), *net.named_buffers()]:
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if "running_var" in name or value.ndim == 1 else value + 0.1 * (noise - 0.5))
    return net


class MonaiUNet(nn.Module):
    """The `UNet` of MONAI (no residual units, `norm="batch"`), layer by layer.

    Strided convolutions of 3 px go down, transposed ones of 3 px up, all padded; skips are concatenated. PReLU after each.
    """

    def __init__(self, ndim=2, source=1, target=3, channels=(4, 8, 8), strides=(2, 2)):
        super().__init__()
        self.ndim = ndim
        self.model = self._level(source, target, channels, strides, True)

    def _level(self, source, target, channels, strides, top):
        width, stride = channels[0], strides[0]
        if len(channels) > 2:
            inner, raised = self._level(width, width, channels[1:], strides[1:], False), 2 * width
        else:
            inner, raised = self._down(width, channels[1], 1), width + channels[1]
        down, up = self._down(source, width, stride), self._up(raised, target, stride, top)
        return nn.Sequential(down, _Skip(inner), up)

    def _down(self, source, target, stride):
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if self.ndim == 2 else (nn.Conv3d, nn.BatchNorm3d)
        return nn.Sequential(conv(source, target, 3, stride, 1), norm(target), nn.PReLU())

    def _up(self, source, target, stride, top):
        conv, norm = (nn.ConvTranspose2d, nn.BatchNorm2d) if self.ndim == 2 else (nn.ConvTranspose3d, nn.BatchNorm3d)
        raise_ = conv(source, target, 3, stride, 1, output_padding=stride - 1)
        return nn.Sequential(raise_) if top else nn.Sequential(raise_, norm(target), nn.PReLU())

    def forward(self, x):
        return self.model(x)


class _Skip(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.cat([x, self.inner(x)], 1)


class ValidUNet(nn.Module):
    """A U-Net as in the first paper: convolutions of 3 px without padding, max pooling, cropped skips."""

    def __init__(self, source=1, target=3, width=4, levels=2):
        super().__init__()
        self.down = nn.ModuleList(self._two(source if k == 0 else width, width) for k in range(levels + 1))
        self.raised = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(levels))
        self.up = nn.ModuleList(self._two(2 * width, width) for _ in range(levels))
        self.last = nn.Conv2d(width, target, 1)

    @staticmethod
    def _two(source, target):
        layers = []
        for a in (source, target):
            layers += [nn.Conv2d(a, target, 3), nn.BatchNorm2d(target), nn.LeakyReLU()]
        return nn.Sequential(*layers)

    def forward(self, x):
        kept = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.raised):
                kept.append(x)
                if x.shape[-1] % 2 or x.shape[-2] % 2:
                    raise ValueError(f"cannot pool {tuple(x.shape)} evenly")
                x = nn.functional.max_pool2d(x, 2)
        for raised, block in zip(self.raised, self.up, strict=True):
            x, skip = raised(x), kept.pop()
            cut = [(a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:], strict=True)]
            skip = skip[:, :, cut[0] : cut[0] + x.shape[2], cut[1] : cut[1] + x.shape[3]]
            x = block(torch.cat([skip, x], 1))
        return self.last(x)
