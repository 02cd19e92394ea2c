"""What `peers.py` runs: our prediction and the peers' tilers over the same weights, image, number format and memory layout."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from peer_tilers import Network, Tiler, tilers
from scipy.special import expit

from napari_shiftseg import geometry
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import TilePlan, UNetSpec, plan_tiles
from napari_shiftseg.network import Normalisation, UNet, choose_device, predict_steps
from napari_shiftseg.network.device import channels_last

OURS = ("tiles", "stream")
WHOLE, PADDED_WHOLE = "whole image", "whole image, zero-padded"
PARAMETERS = inspect.signature(predict_steps).parameters
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Number format and memory layout, equal on both sides.

    Attributes
    ----------
    dtype : {"fp32", "bf16"}
    layout : {"contiguous", "channels_last"}
    tf32 : bool
        Whether convolutions of a GPU may round to TF32, as is PyTorch's default; our prediction never does.
    """

    dtype: str
    layout: str
    tf32: bool = False

    @property
    def name(self) -> str:
        return f"{self.dtype} {self.layout}" + " TF32" * self.tf32

    @classmethod
    def of(cls, name: str) -> Config:
        dtype, layout, *rest = name.split()
        return cls(dtype=dtype, layout=layout, tf32=bool(rest))


CONFIGS = tuple(Config.of(name) for name in ("fp32 contiguous", "fp32 channels_last", "bf16 channels_last"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network with its zero-padded twin of the same weights, and an image."""

    net: UNet
    twin: UNet
    image: np.ndarray
    device: torch.device
    forms: dict[Config, Network] = field(default_factory=dict)

    @classmethod
    def random(cls, ndim: int, edge: int, levels: int, features: int, device: str) -> Subject:
        """An untrained network: times do not depend on the weights."""
        torch.manual_seed(0)
        spec = UNetSpec(ndim=ndim, levels=levels, features=features, embedding_dim=8)
        image = np.random.default_rng(0).random((1, *(edge,) * ndim), np.float32)
        return cls.of(UNet(spec), image, device)

    @classmethod
    def of(cls, net: UNet, image: np.ndarray, device: str) -> Subject:
        twin = UNet(replace(net.spec, padding="zero"))
        twin.load_state_dict(net.state_dict())
        return cls(net=net.eval(), twin=twin.eval(), image=image, device=torch.device(device))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape[1:]


def methods() -> tuple[str, ...]:
    """Ways of ours that this version has."""
    return OURS if "method" in PARAMETERS else OURS[:1]


def run_ours(subject: Subject, method: str, config: Config, write: Any = None, strip: int | None = None) -> np.ndarray:
    """Our prediction, (out_channels, *shape): `WHOLE` is one tile, `PADDED_WHOLE` the same of the twin."""
    net = subject.twin if method == PADDED_WHOLE else subject.net
    plan = plan_tiles(net.spec, subject.shape, 1 << 30 if method in (WHOLE, PADDED_WHOLE) else write)
    wishes = {"method": "stream" if method == "stream" else "tiles"} if "method" in PARAMETERS else {}
    device = str(subject.device)
    with laid_out(config):
        if strip is not None:
            return run_strips(net, subject.image, plan, strip, device, config)
        found = drain(predict_steps(net, subject.image, plan, device=device, dtype=DTYPES[config.dtype], **wishes))
    return found.embedding if found.foreground is None else np.concatenate([found.embedding, found.foreground[None]])


def run_strips(net: UNet, image: np.ndarray, plan: TilePlan, strip: int, device: str, config: Config) -> np.ndarray:
    """The stream with strips of a height that `predict` does not let one choose."""
    from napari_shiftseg.network.windows import computed_strips

    stream, limits = geometry.plan_stream(plan, strip=strip), Normalisation(low=0, high=0).limits(image)
    blocks = computed_strips(net, image, stream, device=choose_device(device), dtype=DTYPES[config.dtype], limits=limits)
    found = np.empty((net.spec.out_channels, *plan.result_shape), np.float32)
    for write, block in blocks:
        found[(slice(None), *write)] = block
    if net.spec.foreground:
        found[-1] = expit(found[-1])
    return found


@contextmanager
def laid_out(config: Config) -> Iterator[None]:
    """Our prediction always takes channels last; for the comparison it can be told to take contiguous maps."""
    if config.layout == "channels_last":
        yield
        return
    held = {
        name: module
        for name, module in sys.modules.items()
        if name.startswith("napari_shiftseg.network") and getattr(module, "channels_last", None) is channels_last
    }
    try:
        for module in held.values():
            module.channels_last = lambda ndim: torch.contiguous_format
        yield
    finally:
        for module in held.values():
            module.channels_last = channels_last


def run_peer(subject: Subject, tiler: Tiler, config: Config) -> np.ndarray:
    """A peer's tiler over the twin, (out_channels, *shape)."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=config.tf32):
        found = tiler.run(subject.image, prepared(subject, config), subject.device)
    if subject.net.spec.foreground:
        found[-1] = expit(found[-1])
    return found


def prepared(subject: Subject, config: Config) -> Network:
    """The twin in a number format and a layout, made once; its head stays in float32, as ours does."""
    if config in subject.forms:
        return subject.forms[config]
    ndim = subject.twin.spec.ndim
    form = channels_last(ndim) if config.layout == "channels_last" else torch.contiguous_format
    dtype = getattr(torch, DTYPES[config.dtype])
    net = UNet(subject.twin.spec).eval().requires_grad_(False)
    net.load_state_dict(subject.twin.state_dict())
    net = net.to(subject.device, dtype).to(memory_format=form)
    net.head.float()
    subject.forms[config] = lambda x: net(x.to(dtype).contiguous(memory_format=form)).float()
    return subject.forms[config]


def runners(subject: Subject, window: int, batch: int) -> dict[str, Callable[[Config], np.ndarray]]:
    """All that is compared, by name: first ours, then the peers."""
    found: dict[str, Callable[[Config], np.ndarray]] = {
        name: lambda config, name=name: run_ours(subject, name, config) for name in (WHOLE, *methods(), PADDED_WHOLE)
    }
    for name, tiler in tilers(len(subject.shape), window, batch=batch).items():
        found[name] = lambda config, tiler=tiler: run_peer(subject, tiler, config)
    return found


def planned_flops(subject: Subject, name: str, window: int) -> float:
    """Operations by formula: of our plans, or of all windows of a peer."""
    spec, shape = subject.net.spec, subject.shape
    if name in (WHOLE, *OURS):
        plan = plan_tiles(spec, shape, 1 << 30 if name == WHOLE else None)
        return geometry.plan_stream(plan).flops if name == "stream" else plan.flops
    if name == PADDED_WHOLE:
        return plan_tiles(subject.twin.spec, shape, 1 << 30).flops
    tiler = tilers(len(shape), window)[name]
    return prod(len(axis) for axis in tiler.starts(shape)) * subject.twin.spec.flops((tiler.window,) * len(shape))


def ideal_flops(subject: Subject) -> float:
    """Operations for the pixels of the image, if it were a part of an infinitely large one."""
    return subject.net.spec.flops_per_pixel * prod(subject.shape)


def difference(found: np.ndarray, wanted: np.ndarray, border: int) -> dict[str, float]:
    """How far a result is from that of the whole image.

    The error of a pixel is the length of the difference of its two embeddings, over the root mean square length of all
    embeddings of the whole image.

    Parameters
    ----------
    found, wanted : ndarray
        (E, *shape).
    border : int
        Pixels at each border of the image that `inside` leaves out.
    """
    squares = np.zeros(found.shape[1:], np.float64)
    total = 0.0
    for one, other in zip(found, wanted, strict=True):
        squares += np.square(one.astype(np.float64) - other)
        total += float(np.square(other, dtype=np.float64).mean())
    error = np.sqrt(squares / total)
    inner = error[tuple(slice(border, max(border + 1, size - border)) for size in error.shape)]
    return {
        "max": float(error.max()),
        "relative_l2": float(np.sqrt(np.square(error).mean())),
        "share_above_1_percent": float((error > 0.01).mean()),
        "inside_max": float(inner.max()),
        "inside_relative_l2": float(np.sqrt(np.square(inner).mean())),
        "inside_share_above_1_percent": float((inner > 0.01).mean()),
    }


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, whose calls return before their work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def versions() -> dict[str, str]:
    """Of what takes part."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "monai", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "python": sys.version.split()[0]}
