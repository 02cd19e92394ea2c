"""Cellpose 3 from scratch: its network, loss, augmentation and optimiser, its schedule as shares of a processor time.

The loop is that of `cellpose.train.train_seg` with its defaults (AdamW, learning rate 0.005, batches of 8 windows of 224 px,
images scaled to a mean diameter of 30 px), but it ends by the clock and goes on after an interruption. Of the 2000 epochs of
`train_seg`, the learning rate rises over the first 10 and halves ten times over the last 100; so it does here over the same
shares of the time. Cellpose keeps the last weights and has no thresholds to choose, so it learns from all training images.
Diameters of new images come from its size model (`train_size`), which is fitted once the time is over. Cellpose learns from
planes, also for volumes; here from 2D images alone.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_runs import Clock, Pair, Run, channels_of, written
from cellpose import dynamics, models, train, transforms, utils

PACKAGES = ("cellpose", "torch", "numpy", "opencv-python-headless")
BATCH, RATE, DECAY, WINDOW = 8, 0.005, 1e-5, 224  # defaults of `train_seg`
FEWEST = 5  # objects of an image to learn from; the same
WHOLE = 1 << 14  # a block larger than any image
SAVED = 120.0  # s between checkpoints


def rate_at(share: float) -> float:
    """Learning rate after a share of the time."""
    rise, fall = 10 / 2000, 100 / 2000
    if share < rise:
        return RATE * share / rise
    halvings = 0 if share < 1 - fall else 1 + min(9, int(10 * (share - 1 + fall) / fall))
    return RATE / 2**halvings


def model_of(channels: int, weights: Path | None = None) -> Any:
    """A network for grey images, or for all channels of others; untrained without weights."""
    nchan = 2 if channels == 1 else channels
    return models.CellposeModel(gpu=False, pretrained_model=str(weights) if weights else False, nchan=nchan)


def how(channels: int) -> dict[str, Any]:
    """How Cellpose is told which channels there are."""
    return {"channels": [0, 0]} if channels == 1 else {"channels": None, "channel_axis": -1}


def network_input(image: np.ndarray, channels: int) -> np.ndarray:
    """(channels, y, x), normalised as Cellpose does; a grey image has an empty second channel."""
    nchan = 2 if channels == 1 else channels
    shown = transforms.convert_image(image, nchan=nchan, **how(channels))
    return transforms.normalize_img(shown.transpose(2, 0, 1), axis=0).astype(np.float32)


def flows_of(pair: Pair, folder: Path) -> np.ndarray:
    """Labels, mask and flows of a truth, kept on disk; none where there are too few objects."""
    path = folder / pair.data / f"{pair.name}.npy"
    if not path.exists():
        truth = pair.truth()
        enough = len(np.unique(truth)) > FEWEST
        flows = dynamics.labels_to_flows([truth], device=torch.device("cpu"))[0] if enough else np.zeros(0)
        written(path, lambda part: np.save(part, flows.astype(np.float32)))
    return np.load(path, mmap_mode="r")


def learn(pairs: list[Pair], run: Run, clock: Clock) -> None:
    """Train until the time is over."""
    if pairs[0].truth().ndim != 2:
        raise SystemExit(f"{pairs[0].data} holds volumes, and Cellpose learns from planes; give 2D images.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    flows = [flows_of(pair, run.folder / "flows") for pair in pairs]
    used = [(pair.image(), flow) for pair, flow in zip(pairs, flows, strict=True) if flow.size]
    channels = channels_of(used[0][0])
    images = [network_input(image, channels) for image, _ in used]
    flows = [flow for _, flow in used]
    diameters = np.array([max(5.0, utils.diameters(np.asarray(flow[0]).astype(int))[0]) for flow in flows])
    model = model_of(channels)
    net = model.net
    net.diam_labels.data = torch.Tensor([diameters.mean()])
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    checkpoint = run.folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
    run.images, run.parameters = len(used), sum(p.numel() for p in net.parameters())
    run.settings = {"learning_rate": RATE, "batch": BATCH, "window": WINDOW, "channels": channels, "from_scratch": True}
    saved, losses = clock.spent, []
    while clock.share < 1:
        losses.append(_step(net, optimiser, images, flows, diameters, run.steps, rate_at(clock.share)))
        run.steps += 1
        due = run.keep_weights(clock, lambda folder: net.save_model(folder / "weights"))
        if due or clock.spent - saved > SAVED:
            saved = clock.spent
            run.losses.append([round(saved, 1), round(float(np.mean(losses)), 5)])
            print(f"step {run.steps}, {saved:.0f} s: loss {run.losses[-1][1]}", flush=True)
            losses = []
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict()}
            written(checkpoint, lambda part, state=state: torch.save(state, part))
            run.seconds = clock.spent
            run.save()
    run.seconds = clock.spent
    run.save()
    started = time.process_time()
    for folder in sorted(run.folder.glob("at_*")):
        if not (folder / "weights_size.npy").exists():
            _learn_sizes(folder / "weights", images, flows, channels)
    run.calibration = {"size_model_seconds": round(time.process_time() - started, 1)}
    run.save()
    shutil.rmtree(run.folder / "flows", ignore_errors=True)


def _step(net: Any, optimiser: Any, images: list, flows: list, diameters: np.ndarray, step: int, rate: float) -> float:
    np.random.seed(step)  # noqa: NPY002 -- the generator that Cellpose draws from
    chosen = np.random.choice(len(images), BATCH)  # noqa: NPY002
    windows, targets = transforms.random_rotate_and_resize(
        [images[k] for k in chosen],
        Y=[np.asarray(flows[k][1:]) for k in chosen],
        rescale=diameters[chosen] / net.diam_mean.item(),
        scale_range=0.5,
        xy=(WINDOW, WINDOW),
    )[:2]
    for group in optimiser.param_groups:
        group["lr"] = rate
    net.train()
    loss = train._loss_fn_seg(targets, net(torch.from_numpy(windows))[0], net.device)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _learn_sizes(weights: Path, images: list, flows: list, channels: int) -> None:
    """Cellpose's regression from its style vector to the diameter, on at most 50 training images in one round."""
    chosen = slice(None, None, -(-len(images) // 50))
    train.train_size(
        model_of(channels, weights).net,
        weights,
        train_data=images[chosen],
        train_labels=[np.asarray(flow) for flow in flows[chosen]],
        normalize=False,  # they are
        n_epochs=1,
        batch_size=8,
    )


class CellposePredictor:
    """Cellpose at its defaults, with the diameter of its size model: by tiles of 224 px that overlap by a tenth, or whole."""

    usual_way = "tiles"

    def __init__(self, folder: Path, run: Run) -> None:
        torch.set_num_threads(1)
        self.channels = run.settings["channels"]
        self.model = model_of(self.channels, folder / "weights")
        self.sizes = models.SizeModel(self.model, pretrained_size=str(folder / "weights_size.npy"))
        self.settings: dict[str, Any] = {"diameter": "size model", "flow_threshold": 0.4, "cellprob_threshold": 0.0}

    def usual(self, image: np.ndarray) -> np.ndarray:
        return self._labels(image, WINDOW)

    def other(self, image: np.ndarray) -> np.ndarray:
        return self._labels(image, WHOLE)

    def _labels(self, image: np.ndarray, block: int) -> np.ndarray:
        diameter = self.sizes.eval(image, **how(self.channels))[0]
        return self.model.eval(image, diameter=diameter, bsize=block, **how(self.channels))[0]
