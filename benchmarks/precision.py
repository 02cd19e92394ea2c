"""What bfloat16 changes: labels and scores against float32 on images with a truth, the rounding itself, and the time.

- images: each image of a data set in float32 and in bfloat16 on blocks of a fixed size: adjusted Rand index of their
  labels, objects, average precision against the truth.
- orders: how far apart two runs in bfloat16 can be that take their sums in another order, as another tile size or processor
  may; `verify_tiling` allows two and a half units in the last place. Simulated: float32 sums, disturbed by `noise` and rounded.
- speed: image to labels in turns, for processors with matrix units for bfloat16 (elsewhere it does not pay as much).

    python benchmarks/precision.py [--data FOLDER] [--split val] [--out docs/measurements/precision.json]
    python benchmarks/precision.py --parts speed --edge 2048 --turns 5
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench import adjusted_rand
from machine import processor
from torch import nn

from napari_shiftseg import SegmentSettings, load_model, match_score, read_image, segment, synthetic
from napari_shiftseg.cli.pairs import find_pairs, read_mask
from napari_shiftseg.network import choose_device, choose_precision
from napari_shiftseg.network.unet import InferenceNet

FORMATS = {
    "float32, tiles": SegmentSettings(device="cpu", dtype="float32", method="tiles"),
    "float32, stream": SegmentSettings(device="cpu", dtype="float32", method="stream"),
    "bfloat16, fixed blocks": SegmentSettings(device="cpu", dtype="bfloat16", deterministic=True),
}
SAMPLE = Path(sys.modules["napari_shiftseg"].__file__).parent / "samples" / "nuclei.tif"
DATA = Path(__file__).resolve().parents[2] / "shared/data/dsb2018_fluo"
EXACT, ROUGH = FORMATS["float32, tiles"], FORMATS["bfloat16, fixed blocks"]


def images(options: argparse.Namespace, model) -> Iterator[dict]:
    """Each image of the data set in both formats."""
    for pair in find_pairs([options.data], options.split):
        image = read_image(pair.image)
        truth = read_mask(pair, image)
        exact, rough = (segment(image, model, settings) for settings in (EXACT, ROUGH))
        aps = [match_score(result.labels, truth, iou=0.5).ap for result in (exact, rough)]
        row = {
            "image": pair.image.stem[:12],
            "objects": [int(exact.labels.max()), int(rough.labels.max())],
            "adjusted_rand": adjusted_rand(np.asarray(exact.labels), np.asarray(rough.labels)),
            "pixels": int(((exact.labels > 0) != (rough.labels > 0)).sum()),
            "ap": aps,
        }
        print(row, flush=True)
        yield row


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


def speed(options: argparse.Namespace, model) -> Iterator[dict]:
    """Seconds of each format, in turns."""
    image = synthetic.blobs((options.edge, options.edge), count=options.edge**2 // 1600, seed=0).image
    seconds: dict[str, list[float]] = {name: [] for name in FORMATS}
    for _ in range(options.turns):
        for name, settings in FORMATS.items():
            start = time.perf_counter()
            segment(image, model, settings)
            seconds[name].append(time.perf_counter() - start)
            print(name, round(seconds[name][-1], 2), flush=True)
    first = seconds["float32, tiles"]
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(first, found, strict=True))
        yield {"edge": options.edge, "format": name, "seconds": statistics.median(found), "times_faster": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("images", "orders", "speed"), default=["images", "orders", "speed"])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images, masks and meta.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--edge", type=int, default=2048, help="of the image that is timed, px")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, device = load_model(options.model), choose_device("cpu")
    document = json.loads(options.out.read_text(encoding="utf-8")) if options.out and options.out.exists() else {}
    document["command"] = " ".join(["python benchmarks/precision.py", *sys.argv[1:]])
    document["date"] = datetime.date.today().isoformat()
    document["model"], document["split"] = model.name, options.split
    document["machine"] = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    document["auto"] = f"{(found := choose_precision('auto', device, 2)).name}: {found.why}"
    makers = {"images": partial(images, options), "orders": orders, "speed": partial(speed, options)}
    for part in options.parts:
        document[part] = list(makers[part](model))
    if "images" in options.parts:
        rows = document["images"]
        document["summary"] = {
            "images": len(rows),
            "lowest_adjusted_rand": min(row["adjusted_rand"] for row in rows),
            "equal": sum(row["adjusted_rand"] == 1 for row in rows),
            "largest_ap_difference": max(abs(row["ap"][0] - row["ap"][1]) for row in rows),
            "mean_ap": [statistics.mean(row["ap"][k] for row in rows) for k in (0, 1)],
        }
    print(json.dumps({name: value for name, value in document.items() if name != "images"}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
