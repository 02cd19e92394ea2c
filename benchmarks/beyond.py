"""What docs/beyond.md says in numbers: what follows from the layers of a network, whatever its weights.

    python benchmarks/beyond.py [--out docs/measurements/beyond.json]

Networks start from seeds and are not trained. The parts:

- `counts`: output functions and pairs of neighbours that windows around the period train, in 1D to 3D;
- `norms`: one U-Net with other normalisation layers: the largest difference between tiles and one pass in evaluation, and
  between training and evaluation on one tile, both relative to the largest value (train and evaluation disparity: Buglakova et
  al. 2025);
- `adaptive`: sub-sampling of the phase with the largest values (Chaman and Dokmanic 2021) beside max pooling, by tiles;
- `pooling`: max pooling beside anti-aliased pooling (Zhang 2019): the period, and what moving the pooling grid by a pixel
  changes.
"""

from __future__ import annotations

from dataclasses import make_dataclass, replace
from typing import Any

import torch
from bench import keep, origin, parser, told
from torch import Tensor, nn
from torch.nn import functional as F

from napari_shiftseg import UNet, UNetSpec, plan_tiles, synthetic
from napari_shiftseg.analysis import effective_period, probe_period, verify_tiling
from napari_shiftseg.geometry import coverage

Trained = make_dataclass("Trained", ["window", "neighbours"])
SEEDS = range(5)
IMAGE = synthetic.disks((220, 220), 15, 5, noise=0.1).image
CHANNELS = 8
# bounds of the correction in batch renormalisation (Ioffe 2017)
MOST_SCALE, MOST_MOVE = 3.0, 5.0


def counts() -> list[dict[str, Any]]:
    """Trained and all, of windows around a period of 16 px."""
    rows = []
    for ndim in (1, 2, 3):
        for window in (15, 16, 17):
            found = coverage(UNetSpec(ndim=ndim, levels=4), Trained((window,) * ndim, False))
            rows.append({"ndim": ndim, "window": window, **found.to_dict()})
    return rows


# -- normalisation ----------------------------------------------------------------------------------------------------


class Renorm(nn.BatchNorm2d):
    """Batch renormalisation (Ioffe 2017): in training it is corrected to the running statistics, within bounds."""

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, *shape), the same shape."""
        if not self.training:
            return super().forward(x)
        mean, spread = self.running_mean, (self.running_var + self.eps).sqrt()
        own, own_spread = x.mean((0, 2, 3)), (x.var((0, 2, 3), unbiased=False) + self.eps).sqrt()
        scale = (own_spread / spread).clamp(1 / MOST_SCALE, MOST_SCALE)
        move = ((own - mean) / spread).clamp(-MOST_MOVE, MOST_MOVE)
        parts = [part[:, None, None] for part in (own, own_spread, scale, move, self.weight, self.bias)]
        normal = (x - parts[0]) / parts[1] * parts[2] + parts[3]
        return normal * parts[4] + parts[5]


KINDS = {
    "none": lambda count: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "batch renormalisation": Renorm,
    "batch, of the tile": lambda count: nn.BatchNorm2d(count, track_running_stats=False),
    "group": lambda count: nn.GroupNorm(4, count),
    "instance": lambda count: nn.InstanceNorm2d(count, affine=True),
}


def normed(kind: str, seed: int) -> UNet:
    """A U-Net with layers of this kind, whose running statistics, where it has any, are those of the image."""
    torch.manual_seed(seed)
    net = UNet(UNetSpec(levels=2, features=CHANNELS, batch_norm=True))
    # batch normalisation learns its statistics before it is taken out, so that all kinds have the same weights
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        net.train()(torch.from_numpy(IMAGE)[None, None])
    for block in (*net.encoder, *net.decoder):
        for index, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                other = KINDS[kind](layer.num_features)
                if getattr(other, "running_mean", None) is not None:
                    other.load_state_dict(layer.state_dict())
                block[index] = other
    return net.eval()


def norms() -> list[dict[str, Any]]:
    """Per kind the worst of the seeds by tiles, and the least and the largest disparity."""
    rows = []
    plan = plan_tiles(UNetSpec(levels=2), IMAGE.shape, 32, "valid")
    tile = torch.from_numpy(IMAGE[:72, :72])[None, None]
    for kind in KINDS:
        checks, apart = [], []
        for seed in SEEDS:
            net = normed(kind, seed)
            checks.append(verify_tiling(lambda x, net=net: net(x), IMAGE, plan, device="cpu"))
            with torch.no_grad():
                quiet = net.eval()(tile)
                apart.append(float((net.train()(tile) - quiet).abs().max() / quiet.abs().max()))
        rows.append(
            {
                "norm": kind,
                "tiles_differ": max(check.differing for check in checks),
                "tiles": checks[0].compared,
                "difference": max(check.max_difference for check in checks),
                "train_against_evaluation": [min(apart), max(apart)],
            }
        )
    return rows


# -- sub-sampling -----------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A valid U-Net with one sub-sampling by 2: "max", "blurred" (anti-aliased) or "adaptive"."""

    def __init__(self, pool: str, seed: int, *, learnt: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.pool = pool
        self.first = nn.Sequential(nn.Conv2d(1, CHANNELS, 3), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, 2) if learnt else nn.Upsample(scale_factor=2)
        self.last = nn.Sequential(nn.Conv2d(2 * CHANNELS, CHANNELS, 3), nn.ReLU(), nn.Conv2d(CHANNELS, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, *out) of (B, 1, *in)."""
        skip, phase = self.first(x), (0, 0)
        if self.pool == "adaptive":
            maximum = F.max_pool2d(skip, 2, stride=1)
            phases = {(i, j): maximum[..., i::2, j::2] for i in (0, 1) for j in (0, 1)}
            phase = max(phases, key=lambda name: float(phases[name].square().mean()))
            rows, columns = (edge // 2 - 1 for edge in skip.shape[2:])
            pooled = phases[phase][..., :rows, :columns]
        elif self.pool == "blurred":
            taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype)
            kernel = (taps[:, None] * taps / 16).expand(CHANNELS, 1, 3, 3)
            pooled = F.conv2d(F.max_pool2d(skip, 2, stride=1), kernel, stride=2, groups=CHANNELS)
        else:
            pooled = F.max_pool2d(skip, 2)
        deep = self.up(self.deep(pooled))
        before = 3 if self.pool == "blurred" else 2
        window = (slice(before + own, before + own + edge) for own, edge in zip(phase, deep.shape[2:], strict=True))
        out = self.last(torch.cat([skip[(..., *window)], deep], 1))
        if self.pool != "adaptive":
            return out
        # pixels that every phase has, at the same places of the input
        rows, columns = (slice(2 - own, 2 - own + edge - 14) for own, edge in zip(phase, x.shape[2:], strict=True))
        return out[..., rows, columns]


def adaptive() -> list[dict[str, Any]]:
    """Tiles of whole periods against one pass."""
    rows = []
    for pool in ("max", "adaptive"):
        found = [adaptive_check(pool, seed) for seed in SEEDS]
        rows.append(
            {
                "pool": pool,
                "tiles_differ": [check.differing for check in found],
                "tiles": found[0].compared,
                "difference": max(check.max_difference for check in found),
            }
        )
    return rows


def adaptive_check(pool: str, seed: int) -> Any:
    """Of one network; both have a border of 7 px, of which max pooling needs 5."""
    lattice = replace(probe_period(Small("max", seed).eval()).lattice, margin=(14, 14), smallest=(18, 18))
    plan = plan_tiles(lattice, (180, 180), 32, "valid")
    return verify_tiling(Small(pool, seed).eval(), IMAGE[:180, :180], plan, device="cpu")


def pooling() -> list[dict[str, Any]]:
    """Period, and the change of the output when the grid moves by one pixel, as a part of its spread."""
    rows = []
    for learnt in (True, False):
        for pool in ("max", "blurred"):
            probes = [(net, probe_period(net)) for net in (Small(pool, seed, learnt=learnt).eval() for seed in SEEDS)]
            felt = [effective_period(net, IMAGE, lattice=probe.lattice).change[0][1] for net, probe in probes]
            periods = sorted({probe.period for _, probe in probes})
            upsampling = "learnt" if learnt else "fixed"
            rows.append({"upsampling": upsampling, "pool": pool, "periods": periods, "change": [round(v, 4) for v in felt]})
    return rows


def main() -> None:
    wishes = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    document = origin()
    for part in (counts, norms, adaptive, pooling):
        document[part.__name__] = [told(row) for row in part()]
    keep(wishes.out, document)


if __name__ == "__main__":
    main()
