"""What bfloat16 changes: labels and scores against float32 on images with a truth, and the rounding itself.

- images: each image of a data set in float32 and in bfloat16 on blocks of a fixed size: adjusted Rand index of their
  labels, objects, average precision against the truth.
- orders: how far apart two runs in bfloat16 can be that take their sums in another order, as another tile size or processor
  may; `verify_tiling` allows two and a half units in the last place. Simulated: float32 sums, disturbed by `noise` and rounded.

    python benchmarks/precision.py [--data FOLDER] [--split val] [--out docs/measurements/precision.json]

`ways.py` says what the format saves.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from bench import adjusted_rand, keep, origin, parser, told
from torch import nn

from napari_shiftseg import SegmentSettings, load_model, match_score, read_image, segment
from napari_shiftseg.cli.pairs import find_pairs, read_pair
from napari_shiftseg.network.unet import InferenceNet

SAMPLE = Path(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
DATA = Path(__file__).resolve().parents[2] / "shared/data/dsb2018_fluo"
EXACT = SegmentSettings(device="cpu", dtype="float32", method="tiles")
ROUGH = SegmentSettings(device="cpu", dtype="bfloat16", deterministic=True)


def images(model, data: Path, split: str) -> Iterator[dict]:
    """Each image of the data set in both formats."""
    for pair in find_pairs([data], split):
        image, truth = read_pair(pair, {})
        exact, rough = (segment(image, model, settings) for settings in (EXACT, ROUGH))
        aps = [match_score(result.labels, truth, iou=0.5).ap for result in (exact, rough)]
        yield {
            "image": pair.image.stem[:12],
            "objects": [int(exact.labels.max()), int(rough.labels.max())],
            "adjusted_rand": adjusted_rand(np.asarray(exact.labels), np.asarray(rough.labels)),
            "pixels": int(((exact.labels > 0) != (rough.labels > 0)).sum()),
            "ap": aps,
        }


class Rounded(nn.Module):
    """A layer whose sums are taken in another order, and rounded to bfloat16."""

    def __init__(self, layer: nn.Module, noise: float, seed: int) -> None:
        super().__init__()
        layer.weight.data, layer.bias.data = layer.weight.data.bfloat16().float(), layer.bias.data.bfloat16().float()
        self.layer, self.weight, self.noise, self.generator = layer, layer.weight, noise, torch.Generator().manual_seed(seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return (y * (1 + self.noise * (2 * torch.rand(y.shape, generator=self.generator) - 1))).bfloat16().float()


@torch.inference_mode()
def orders(model, edge: int = 252) -> Iterator[dict]:
    """Largest difference of two runs, relative to the largest value."""
    image = read_image(SAMPLE).data[...][None]
    pixels = model.record.normalisation.limits(image).apply(image)[:, :edge, :edge]
    x = torch.from_numpy(pixels)[None].bfloat16().float()
    keep = tuple(slice(0, size) for size in model.spec.output_size((edge, edge)))

    def output(noise: float, seed: int) -> torch.Tensor:
        net = InferenceNet(model.module, fold=False)
        for block in (*net.encoder, *net.up, *net.decoder):
            for index, layer in enumerate(block):
                if hasattr(layer, "kernel_size"):
                    block[index] = Rounded(layer, noise, seed)
        return net(x, keep)[0, : model.spec.embedding_dim]

    plain = output(0.0, 0)
    for noise in (1e-7, 1e-6, 1e-5):
        apart = [float((output(noise, seed) - plain).abs().max() / plain.abs().max()) for seed in range(3)]
        yield {"noise": noise, "largest": max(apart), "units": max(apart) / 2**-7}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="nuclei")
    made.add_argument("--data", type=Path, default=DATA, help="folder with images, masks and meta.csv")
    made.add_argument("--split", default="val")
    wishes = made.parse_args()
    model = load_model(wishes.model)
    rows = [told(row) for row in images(model, wishes.data, wishes.split)]
    summary = {
        "images": len(rows),
        "lowest_adjusted_rand": min(row["adjusted_rand"] for row in rows),
        "equal": sum(row["adjusted_rand"] == 1 for row in rows),
        "largest_ap_difference": max(abs(row["ap"][0] - row["ap"][1]) for row in rows),
        "mean_ap": [statistics.mean(row["ap"][k] for row in rows) for k in (0, 1)],
    }
    found = {"model": model.name, "split": wishes.split, "summary": told(summary), "images": rows}
    keep(wishes.out, origin() | found | {"orders": [told(row) for row in orders(model)]})


if __name__ == "__main__":
    main()
