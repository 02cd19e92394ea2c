"""What each part of a training gives: the training of a bundled model without it, or with one more, on the same seeds.

    python benchmarks/ablations.py nuclei-he --data data --runs runs [--seeds 0 1 2] [--variants NAME ...] [--out FILE]

Each variant changes one thing of the command in `trainings.py`, is trained from the start, and is scored on the validation
images of the model, with the clustering of the command. An interrupted training goes on; what is there is scored only.

`boundary` adds a third class to background and foreground in training: pixels of an object that touch another one or the
background. Its logit is a third channel of the last convolution, which the model that is kept does not have: background, inside
and boundary as one softmax have the same likelihood as the foreground times the boundary within it, and labels need the
foreground alone. So it can help by what it teaches the network, and costs no time where a model runs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from accuracy import EDGES, VALIDATED, Ours, area_row, by_area
from accuracy_runs import Pair, pairs_of
from bench import keep, origin, parser, told
from torch import Tensor
from torch.nn import functional as F
from trainings import TRAININGS

from napari_shiftseg import cli, load_model, match_score
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import pool_scores
from napari_shiftseg.io import save_model
from napari_shiftseg.network import Model, TrainSettings, UNet
from napari_shiftseg.network.constants import IGNORE
from napari_shiftseg.network.loss import object_weights

AS_IT_IS, BOUNDARY = "as it is", "boundary"
# options that stand in place of those of the command
VARIANTS: Mapping[str, tuple[str, ...]] = {
    AS_IT_IS: (),
    "no weights by size": ("--size-power", "0"),
    "no sampling by size": ("--small", "0"),
    "no equal shares of magnifications": ("--balance", "0"),
    "no zoom": ("--zoom", "1"),
    "no damaged images": ("--degrade", "0"),
    BOUNDARY: ("--embedding-dim", "3"),
}
ROW = 2  # of the last convolution: the channel of the boundary


def touches(labels: Tensor) -> Tensor:
    """(*shape) whether a pixel has a direct or diagonal neighbour with another label.

    >>> touches(torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 1]])).int().tolist()
    [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]
    """
    # what lies beyond the window is not known to be another object
    apart = labels.float()[None, None]
    known = apart.masked_fill(apart == IGNORE, -torch.inf), apart.masked_fill(apart == IGNORE, torch.inf)
    highest, lowest = F.max_pool2d(known[0], 3, 1, 1)[0, 0], -F.max_pool2d(-known[1], 3, 1, 1)[0, 0]
    return (highest != labels) | (lowest != labels)


def with_boundary(plain: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """The loss of a training plus that of the boundary, whose logit stands behind the offsets."""

    def loss(out: Tensor, labels: Tensor, positions: Tensor, *, settings: TrainSettings) -> dict[str, Tensor]:
        fewer = replace(settings, spec=replace(settings.spec, embedding_dim=ROW))
        terms = plain(torch.cat([out[:ROW], out[ROW + 1 :]]), labels, positions, settings=fewer)
        inside = labels > 0
        weights = object_weights(labels, settings.size_power)[inside]
        miss = F.binary_cross_entropy_with_logits(out[ROW][inside], touches(labels)[inside].float(), weights, reduction="sum")
        boundary = settings.foreground_weight * miss / inside.sum().clamp(min=1)
        return {**terms, "loss": terms["loss"] + boundary}

    return loss


def trained(name: str, variant: str, seed: int, wishes: argparse.Namespace) -> Path:
    """The file of a training, made where it is not there."""
    runs = wishes.runs / "-".join([name, variant.replace(" ", "_"), str(seed)])
    out: Path = runs / f"{name}.safetensors"
    if out.exists():
        return out
    runs.mkdir(parents=True, exist_ok=True)
    words = [*TRAININGS[name].words(name, wishes.data, runs, wishes.steps), *VARIANTS[variant], "--seed", str(seed)]
    if variant != BOUNDARY:
        run(words)
        return out
    wide = runs / "wide.safetensors"
    if not wide.exists():
        words[words.index("--out") + 1] = str(wide)
        module: Any = import_module("napari_shiftseg.network.train")  # the room has a function of that name
        plain, module._loss = module._loss, with_boundary(module._loss)
        try:
            run(words)
        finally:
            module._loss = plain
    narrow(wide, out)
    return out


def run(words: Sequence[str]) -> None:
    if cli.main([*words[1:], "--quiet"]):
        raise SystemExit(f"the training did not end: {' '.join(words)}")


def narrow(wide: Path, out: Path) -> None:
    """Write a model without the channel of the boundary."""
    model = load_model(wide)
    spec = replace(model.spec, embedding_dim=ROW)
    kept = [channel for channel in range(model.spec.out_channels) if channel != ROW]
    net = UNet(spec)
    net.load_state_dict({k: v[kept] if k.startswith("head.") else v for k, v in model.unet.state_dict().items()})
    record = model.record and replace(model.record, known=None)  # which the wide one said
    save_model(out, Model(module=net.eval(), record=record), half=True)


def scored(model: Ours, pairs: Sequence[Pair]) -> dict[str, Any]:
    """AP at an IoU of 0.5, its mean over higher ones, and AP by the area of the objects."""
    labelled = [(model.usual(pair.image()), pair.truth()) for pair in pairs]
    scores = [match_score(found, truth, IOUS) for found, truth in labelled]
    curve = [pool_scores(at).ap for at in zip(*scores, strict=True)]
    pooled = pool_scores(score[0] for score in scores)
    sizes: Any = sum(by_area(found, truth) for found, truth in labelled)
    return {
        **{"ap50": curve[0], "ap50_95": statistics.fmean(curve), "missed": pooled.fn, "extra": pooled.fp},
        **{"merges": pooled.merges, "splits": pooled.splits, "objects": pooled.tp + pooled.fn},
        "by_area": {size: area_row(row) for size, row in zip(("small", "middle", "large"), sizes.tolist(), strict=True)},
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("name", choices=[name for name in TRAININGS if name != "nuclei-3d"])
    made.add_argument("--data", type=Path, default=Path("data"), help="where the folders of images are")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the trainings")
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    made.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    made.add_argument("--steps", type=int, help="instead of those of the bundled model")
    wishes = made.parse_args()
    torch.set_num_threads(1)
    pairs = pairs_of([wishes.data / folder for folder in VALIDATED[wishes.name]], "val")
    rows = []
    for variant in wishes.variants:
        for seed in wishes.seeds:
            model = Ours(str(trained(wishes.name, variant, seed, wishes)))
            assert model.model.record is not None
            about = {"model": wishes.name, "variant": variant, "seed": seed, "steps": model.model.record.steps}
            rows.append(told({**about, **scored(model, pairs)}))
    keep(wishes.out, {**origin("scipy", "scikit-image"), "edges": EDGES[2], "rows": rows})


if __name__ == "__main__":
    main()
