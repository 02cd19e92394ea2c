"""Draw the pictures of docs/paper.md: image, embedding and instances of each figure of the paper, with the seams.

    python docs/scripts/paper_pictures.py FOLDER [FIGURE ...] [--size quick] [--seed 0] [--tile N] [--corner N]

FOLDER is the one that `shiftseg paper FIGURE ... --out FOLDER` kept its trainings in; what is not there is trained. `--tile`:
pixels of a tile in place of those of the experiment; the picture has them behind its name. `--corner`: its first row and
column.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_shiftseg import label_instances
from napari_shiftseg.events import drain
from napari_shiftseg.network import UNet
from napari_shiftseg.paper import EXPERIMENTS
from napari_shiftseg.paper.measure import count_codes, stitch
from napari_shiftseg.picture import draw_picture, encode_png

IMAGES = Path(__file__).resolve().parents[1] / "images" / "paper"
FIGURES = (
    "fig2a", "fig2b", "fig2c", "fig3a", "fig3a-window", "fig3b", "fig3c", "window-below", "padding-single", "padding-d+1",
    "fig4", "fig5a", "fig5b", "fig6-noise", "fig6-elastic", "fig7a", "fig7b",
)  # fmt: skip
SHOWN = 128  # pixels of the result
BANDWIDTH = 0.3  # as in the paper's notebooks, about


def network_of(setup, seed, folder):
    """As trained; of random zero-padded networks the one that tells most pixels apart, as the experiment does."""
    if setup.spec.padding == "valid" or not isinstance(setup.weights, str):
        return drain(setup.network_steps(seed, folder))
    nets = []
    for start in range(8):
        torch.manual_seed(8 * seed + start)
        nets.append(UNet(setup.spec).eval())
    return max(nets, key=lambda net: codes(net, setup, seed))


def codes(net, setup, seed):
    points = stitch(net, setup, seed).embedding.reshape(setup.spec.embedding_dim, -1).T
    return count_codes(points / np.abs(points).max(), 1e-6) if np.abs(points).max() > 0 else 0


def instances(made):
    """By mean shift among the pixels of disks; each pixel of a constant image by its own output."""
    if np.ptp(made.image) == 0:
        points = made.embedding.reshape(len(made.embedding), -1).T
        return np.unique(np.round(points, 5), axis=0, return_inverse=True)[1].reshape(made.image.shape) + 1
    return label_instances(made.embedding, made.truth > 0, BANDWIDTH, min_size=4, dip=1.0)


def draw(name, size, seed, folder, tile=None, corner=0):
    setup = EXPERIMENTS[name].setups[size]
    setup = setup if tile is None else replace(setup, write=tile)
    made = stitch(network_of(setup, seed, folder), setup, seed)
    window = tuple(slice(corner, min(corner + SHOWN, n)) for n in made.image.shape)
    seams = [[p - corner for p in axis if corner < p < corner + SHOWN] for axis in made.plan.seams()]
    return draw_picture(made.image[window], instances(made)[window], made.embedding[(slice(None), *window)], seams=seams)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], default=[], metavar="FIGURE")
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--corner", type=int, default=0)
    parser.add_argument("--out", type=Path, default=IMAGES)
    wishes = parser.parse_args()
    torch.set_num_threads(1)
    wishes.out.mkdir(parents=True, exist_ok=True)
    for name in wishes.figures or FIGURES:
        path = wishes.out / f"{name}{'' if wishes.tile is None else f'-{wishes.tile}'}.png"
        path.write_bytes(encode_png(draw(name, wishes.size, wishes.seed, wishes.folder, wishes.tile, wishes.corner)))
        print(path)


if __name__ == "__main__":
    main()
