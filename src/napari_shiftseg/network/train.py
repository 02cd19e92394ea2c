"""Training under the rules: all output functions that will run, and all pairs of neighbours, meet under one loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from math import prod
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from napari_shiftseg.arguments import shown, told
from napari_shiftseg.errors import ComplianceError, OutOfMemoryError, ResultError, SettingsError
from napari_shiftseg.events import Stage, TrainStep, drain
from napari_shiftseg.geometry import Trained, UNetSpec, Violation, inner_part, violations
from napari_shiftseg.machine import free_memory
from napari_shiftseg.network.arithmetic import exact_convolutions, learning
from napari_shiftseg.network.checkpoint import Checkpoint
from napari_shiftseg.network.constants import IGNORE, MOST_POWER, MOST_SEED, MOST_STEPS, MOST_ZOOM, STATISTICS_BATCHES
from napari_shiftseg.network.crops import Augmentation, TrainImage, draw_crop, sampling_weights
from napari_shiftseg.network.device import arranged, channels_last, choose_device, choose_precision, memory_errors
from napari_shiftseg.network.loss import discriminative_loss, foreground_loss, gaussian_loss, object_weights
from napari_shiftseg.network.normalise import Normalisation
from napari_shiftseg.network.record import Clustering, Model, ModelRecord
from napari_shiftseg.network.unet import UNet

# Least and greatest of the settings that are numbers; weights end where PyTorch's do.
_WEIGHT = (0, float(np.finfo(np.float32).max))
_RANGES: Mapping[str, tuple[float, float]] = {
    "batch": (1, math.inf),
    "steps": (0, MOST_STEPS),
    "checkpoint_every": (1, math.inf),
    "average": (0, 1),
    "balance": (0, MOST_POWER),
    "size_power": (-MOST_POWER, MOST_POWER),
    **dict.fromkeys(("learning_rate", "weight_decay", "delta_var", "delta_dist", "gamma"), _WEIGHT),
    **dict.fromkeys(("embedding_weight", "foreground_weight"), _WEIGHT),
}


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A wish for a training.

    Attributes
    ----------
    spec : UNetSpec
    window : int or tuple of int, optional
        Output window of a training tile, pixels; None takes the smallest legal one of three periods or more.
    keep : int or tuple of int, optional
        Centred part of the window that alone reaches the loss, pixels, as the paper crops an output of 20 px to 16; None takes
        all of it. What is trained is counted by it: a part that does not exceed the period misses pairs of output functions.
    batch : int
        Windows per step.
    steps : int
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first 200 steps and falls to 0 along a cosine.
    delta_var, delta_dist, gamma, background_is_instance
        Of `discriminative_loss`; embedding units (pixels for coordinates).
    push_distance : float or None
        `neighbours` of `discriminative_loss`, pixels.
    loss : {"discriminative", "gaussian"}
        `discriminative_loss`, as in the paper, or `gaussian_loss`, for a network with `seeds`.
    embedding_weight, foreground_weight : float
        Weights of the two losses.
    offset_scale : float
        Pixels per unit in which offsets are learnt: 8 lets objects of tens of pixels be learnt sooner. The returned network
        gives pixels.
    size_power : float
        `power` of `object_weights` for foreground and seed: above 0 small objects count more per pixel.
    balance : float
        Of `sampling_weights`.
    neighbours : bool
        Train on a tile and its direct neighbour along each axis under one loss (for zero padding). Such a network runs on
        tiles of the training window that stand alone, as they do here.
    inner_loss : bool
        For zero padding, without `neighbours`: a loss on those pixels of the window alone that see no zeros. Such a network
        runs on tiles of any legal size, with real context and with reflection at the image's border.
    average : float
        Decay of the running mean of the weights that is returned; 0 returns the last weights.
    real_context : bool
        Draw windows evenly from where an image holds all that they read, as for regular synthetic images, whose reflection
        is another image; else mostly around instances, with reflection beyond the image.
    checkpoint : path, optional
        File from which an interrupted training goes on, written every `checkpoint_every` steps.
    allow_noncompliant : bool
        Train although a rule is broken, to show what it does.

    >>> from napari_shiftseg import UNetSpec
    >>> TrainSettings(spec=UNetSpec(levels=1, features=2), steps=3).steps
    3
    """

    spec: UNetSpec = field(default_factory=UNetSpec)
    window: int | tuple[int, ...] | None = None
    keep: int | tuple[int, ...] | None = None
    batch: int = 4
    steps: int = 10_000
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    delta_var: float = 0.5
    delta_dist: float = 1.5
    gamma: float = 1e-3
    background_is_instance: bool = False
    push_distance: float | None = None
    loss: Literal["discriminative", "gaussian"] = "discriminative"
    offset_scale: float = 1.0
    size_power: float = 0.0
    balance: float = 0.0
    embedding_weight: float = 1.0
    foreground_weight: float = 1.0
    neighbours: bool = False
    inner_loss: bool = False
    average: float = 0.999
    real_context: bool = False
    normalisation: Normalisation = field(default_factory=Normalisation)
    augmentation: Augmentation = field(default_factory=Augmentation)
    clustering: Clustering = field(default_factory=Clustering)
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    checkpoint: str | Path | None = None
    checkpoint_every: int = 500
    data: str = ""
    allow_noncompliant: bool = False


@dataclass(frozen=True, kw_only=True)
class _Trained:
    window: tuple[int, ...]
    neighbours: bool
    inner: tuple[int, ...] | None


def training_of(settings: TrainSettings, images: Sequence[TrainImage] = ()) -> Trained:
    """What a training with these settings puts under one loss: window, batch rule, and the part of the window with a loss.

    Images that are smaller than the window leave a part of it without labels.
    """
    inner, window = _inner(settings), _window(settings)
    if images and settings.spec.padding == "valid" and (filled := _filled(settings, images)) != window:
        inner = tuple(map(min, filled, inner or window))
    return _Trained(window=window, neighbours=settings.neighbours, inner=inner)


def training_violations(settings: TrainSettings) -> tuple[Violation, ...]:
    """Rules that a training with these settings would break."""
    return violations(settings.spec, training_of(settings))


@told
def train(images: Sequence[TrainImage], settings: TrainSettings, on_event: Any = None, start: UNet | None = None) -> Model:
    """Train a U-Net with the discriminative loss.

    Parameters
    ----------
    images : sequence of TrainImage
        `TrainImage.from_arrays(image, labels, settings.normalisation)` makes one.
    settings : TrainSettings
    on_event : callable, optional
        Called with a `TrainStep` after each step.
    start : UNet, optional
        Weights to start from.

    Returns
    -------
    Model
        In evaluation mode, with its training record.

    Raises
    ------
    ComplianceError
        If a rule is broken and `settings.allow_noncompliant` is false; it names the nearest legal window.
    SettingsError, OutOfMemoryError
    ResultError
        If the place of the checkpoint is taken by what is no file.

    Source: De Brabandere et al. 2017 (loss); Rumberger et al. 2021, section 3.2 (rules).

    >>> from napari_shiftseg import UNetSpec, synthetic
    >>> drawn = synthetic.disks((64, 64), 16, 5)
    >>> settings = TrainSettings(spec=UNetSpec(levels=1, features=2), window=(12, 12), steps=2, batch=1, device="cpu")
    >>> images = [TrainImage.from_arrays(drawn.image, drawn.labels, settings.normalisation)]
    >>> train(images, settings).record.steps
    2
    """
    return drain(train_steps(images, settings, start), on_event)


def train_steps(
    images: Sequence[TrainImage],
    settings: TrainSettings,
    start: UNet | None = None,
    *,
    redraw: Redraw = None,
) -> Generator[TrainStep | Stage, None, Model]:
    """Generator form of `train`: yields a `TrainStep` per step, returns the `Model`.

    `redraw` gives a step's own image, of the kind of `images`, by the number of the step: the same one for the same number.
    """
    _check(images, settings)
    torch.manual_seed(settings.seed)
    device = choose_device(settings.device)
    dtype = choose_precision(settings.dtype, device, settings.spec.ndim).dtype
    where = device.torch_device
    with learning(), memory_errors("the weights of the network"):
        net = UNet(settings.spec).float() if start is None else copy.deepcopy(start)
        # on the CPU and on tensor cores, channels-last convolutions are the fast ones
        layout = channels_last(settings.spec.ndim)
        net = arranged(net.to(where), layout).train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings.steps))
        average = torch.optim.swa_utils.AveragedModel(
            net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average), use_buffers=True
        )
        state = {"net": net, "average": average, "optimiser": optimiser, "schedule": schedule}
        checkpoint = _checkpoint(images, settings)
        first, unsure = (0, "") if checkpoint is None else checkpoint.resume(state)
    if unsure:
        yield Stage(done=first, total=settings.steps, text=unsure)
    recent: dict[str, float] = {}
    for step, batch in _batches(images, settings, first, redraw=redraw):
        with learning(), memory_errors(f"training step {step}"), exact_convolutions(tf32=settings.dtype == "tf32"):
            losses = _step(net, batch, settings, where=where, dtype=dtype, layout=layout)
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(net)
            values = {name: float(value.detach()) for name, value in losses.items()}
        recent = {name: 0.98 * recent.get(name, value) + 0.02 * value for name, value in values.items()}
        if checkpoint is not None and ((step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps):
            try:
                checkpoint.save(state, step=step + 1)
            except ResultError as exc:  # hours of work are not given up for a disk that may have room later
                kept = "that of an earlier step is kept" if checkpoint.path.exists() else "there is none yet"
                text = f"The checkpoint of step {step + 1} was not written ({exc}); {kept}, and the training goes on."
                yield Stage(done=step + 1, total=settings.steps, text=text)
        yield TrainStep(done=step + 1, total=settings.steps, **values)
    best: Any = average.module if settings.average else net
    if settings.spec.batch_norm:
        with learning(), memory_errors("statistics of the batches"):
            _take_statistics(best, images, settings, layout=layout, redraw=redraw)
    final: UNet = arranged(best.to("cpu"), torch.contiguous_format).eval()
    _unscale(final, settings)
    return Model(spec=settings.spec, module=final, record=_record(settings, images, recent))


def _take_statistics(
    net: UNet, images: Sequence[TrainImage], settings: TrainSettings, *, layout: torch.memory_format, redraw: Redraw
) -> None:
    """Let batch normalisation see the batches once more: averaged statistics do not fit averaged weights.

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", section 3.2.
    """
    for layer in net.modules():
        if isinstance(layer, _NormBase):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
    where = next(net.parameters()).device
    longer = replace(settings, steps=settings.steps + STATISTICS_BATCHES)
    net.train()
    with torch.no_grad():
        for _, (pixels, _) in _batches(images, longer, settings.steps, redraw=redraw):
            net(pixels.to(where).to(memory_format=layout))


def _unscale(net: UNet, settings: TrainSettings) -> None:
    """Let the last layer give the offsets in pixels."""
    head: nn.Module = net.head
    if settings.offset_scale != 1 and settings.spec.coordinates:
        with torch.no_grad():
            for weight in head.parameters():
                weight[: settings.spec.ndim] *= settings.offset_scale


def _check(images: Sequence[TrainImage], settings: TrainSettings) -> None:
    if not isinstance(settings, TrainSettings):
        raise SettingsError(f"the settings are a {type(settings).__name__}; give TrainSettings(...).")
    if not isinstance(settings.seed, int) or not 0 <= settings.seed < MOST_SEED:
        raise SettingsError(f"the seed is {settings.seed!r}; give an integer from 0 to {MOST_SEED - 1}.")
    if not 0 <= settings.augmentation.small <= MOST_POWER:
        raise SettingsError(f"small objects are drawn by size to minus {settings.augmentation.small}; give 0 to {MOST_POWER}.")
    for name, (low, high) in _RANGES.items():
        if not low <= (value := getattr(settings, name)) <= high:
            raise SettingsError(f"{name} is {shown(value)}; give a number from {low} to {high:g}.")
    if not 0 < settings.augmentation.scale <= MOST_ZOOM:
        raise SettingsError(f"the largest zoom is {settings.augmentation.scale}; give a number above 0, up to {MOST_ZOOM}.")
    images = () if images is None else images
    wrong = next((type(image).__name__ for image in images if not isinstance(image, TrainImage)), None)
    if wrong is not None:
        raise SettingsError(f"a {wrong} was given as a training image; give TrainImage.from_arrays(...).")
    if settings.loss not in ("discriminative", "gaussian"):
        raise SettingsError(f"loss is {settings.loss!r}; give 'discriminative' or 'gaussian'.")
    if (settings.loss == "gaussian") != settings.spec.seeds:
        lacks = "has none" if settings.loss == "gaussian" else "has them"
        raise SettingsError(
            f"the {settings.loss} loss was asked for, and the network {lacks} of the outputs bandwidth and seed, which the "
            "gaussian one trains; give seeds and loss='gaussian' together, or neither."
        )
    if settings.loss == "gaussian" and settings.neighbours:
        raise SettingsError("the gaussian loss compares pixels of one window; leave neighbours out.")
    if not settings.offset_scale > 0:
        raise SettingsError(f"offset_scale is {settings.offset_scale}; give a number above 0, pixels.")
    if settings.spec.ndim == 1:
        raise SettingsError("training works on 2D and 3D images; ndim is 1.")
    if settings.inner_loss and (settings.neighbours or settings.spec.padding == "valid"):
        raise SettingsError("a loss on the inner part alone is for zero padding on single tiles; leave inner_loss out.")
    if settings.keep is not None and (settings.neighbours or settings.inner_loss):
        raise SettingsError("keep is the part of a single window with a loss; leave neighbours and inner_loss out, or keep.")
    if settings.inner_loss and min(_inner(settings) or ()) < 1:
        least = tuple(2 * (around + period) for around, period in zip(_around(settings), settings.spec.period, strict=True))
        raise SettingsError(f"a window of {_window(settings)} px has no pixel that sees no zeros; take {least} px or more.")
    if not len(images):
        raise SettingsError("there are no training images; give at least one image with its labels.")
    for image in images:
        if image.pixels.shape[0] != settings.spec.in_channels or image.labels.ndim != settings.spec.ndim:
            raise SettingsError(
                f"a training image has {image.pixels.shape[0]} channels and {image.labels.ndim} axes; the network wants "
                f"{settings.spec.in_channels} channels and {settings.spec.ndim} axes."
            )
    window, filled = _window(settings), _filled(settings, images)
    if settings.spec.padding == "zero" and filled != window:
        edges = tuple(edge * (1 + settings.neighbours) for edge in window)
        raise SettingsError(f"no training image fills {edges} px, which a padded network is trained on; give a larger one.")
    # pixels and labels of a batch, before the network takes its part
    needed = settings.batch * prod(window) * (1 + settings.neighbours) ** len(window) * (4 * settings.spec.in_channels + 8)
    if needed > (free := free_memory()):
        raise OutOfMemoryError(
            f"a batch of {settings.batch} windows of {window} px takes {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free; "
            "give a smaller batch or window."
        )
    broken = violations(settings.spec, training_of(settings, images))
    if broken and not settings.allow_noncompliant:
        small = f"The training images fill no more than {filled} px of the window of {window} px. " * (filled != window)
        raise ComplianceError(small + " ".join(v.message for v in broken), violations=broken)


def _window(settings: TrainSettings) -> tuple[int, ...]:
    """Output window of one tile: as wished, else legal and larger than the period."""
    spec = settings.spec
    if settings.window is None:
        sizes = tuple(3 * period for period in spec.period)
        if spec.padding == "zero":
            return tuple(size + 2 * around for size, around in zip(sizes, _around(settings), strict=True))
        return spec.output_size(spec.input_size(sizes))
    window = (settings.window,) * spec.ndim if isinstance(settings.window, int | Integral) else tuple(settings.window)
    if len(window) != spec.ndim:
        raise SettingsError(f"the training window {window} does not have {spec.ndim} edges.")
    for axis, edge in enumerate(window):
        spec.output_size(edge + spec.margin[axis], axis)  # raises SizeError with the nearest input edges
    return window


def _filled(settings: TrainSettings, images: Sequence[TrainImage]) -> tuple[int, ...]:
    """Pixels of a window, per axis, that the labels of the largest images fill."""
    sizes = [max(image.labels.shape[axis] for image in images) for axis in range(settings.spec.ndim)]
    if settings.augmentation.rotate:
        sizes[-2:] = [max(sizes[-2:])] * 2
    tiles = 1 + settings.neighbours
    return tuple(
        min(edge, int(size * settings.augmentation.scale) // tiles) for edge, size in zip(_window(settings), sizes, strict=True)
    )


def _around(settings: TrainSettings) -> tuple[int, ...]:
    """Pixels at each side of a window that have no loss: whole periods that cover all that a pixel sees."""
    spec = settings.spec
    if not settings.inner_loss:
        return (0,) * spec.ndim
    return tuple(-(-reach // period) * period for reach, period in zip(spec.reach, spec.period, strict=True))


def _inner(settings: TrainSettings) -> tuple[int, ...] | None:
    """Edges of the centred part of the window that alone has a loss; None where all of it has one."""
    if settings.keep is not None:
        window, ndim = _window(settings), settings.spec.ndim
        keep = (settings.keep,) * ndim if isinstance(settings.keep, int | Integral) else tuple(settings.keep)
        if len(keep) != ndim or any(not 1 <= kept <= edge for kept, edge in zip(keep, window, strict=False)):
            raise SettingsError(f"keep is {settings.keep} px of a window of {window} px; give edges from 1 px to those.")
        return None if keep == window else keep
    if not settings.inner_loss:
        return None
    return tuple(edge - 2 * around for edge, around in zip(_window(settings), _around(settings), strict=True))


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 200)
    return float(warm * 0.5 * (1 + np.cos(np.pi * min(1.0, step / max(1, steps)))))


# -- one step ---------------------------------------------------------------------------------------------------------

Batch = tuple[Tensor, Tensor]
Redraw = Callable[[int], TrainImage] | None
"""The image of a step, by its number; None where all steps draw from the same images."""


def _batches(
    images: Sequence[TrainImage], settings: TrainSettings, first: int, *, redraw: Redraw
) -> Iterator[tuple[int, Batch]]:
    """Batches in order; the next one is drawn while the network works, each from its own seed so that a training resumes."""
    weights = sampling_weights(images, settings.balance)
    write = _window(settings)
    if settings.neighbours:
        write = tuple(2 * edge for edge in write)  # a tile and its next neighbour along each axis
    read = tuple(edge + margin for edge, margin in zip(write, settings.spec.margin, strict=True))

    def draw(step: int) -> Batch:
        rng = np.random.default_rng([settings.seed, step])
        chosen = [images[i] for i in rng.choice(len(images), settings.batch, p=weights)]
        if redraw is not None:
            chosen = [redraw(step)] * settings.batch
        draw_one = partial(draw_crop, rng=rng, read=read, write=write, augmentation=settings.augmentation)
        crops = [draw_one(image, real_context=settings.real_context) for image in chosen]
        pixels, labels = zip(*crops, strict=True)
        return torch.stack(pixels), torch.stack(labels)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draw, first) if first < settings.steps else None
        for step in range(first, settings.steps):
            assert following is not None
            batch = following.result()
            following = pool.submit(draw, step + 1)
            yield step, batch


def _step(
    net: UNet, batch: Batch, settings: TrainSettings, *, where: torch.device, dtype: torch.dtype, layout: torch.memory_format
) -> dict[str, Tensor]:
    pixels, labels = batch[0].to(where), batch[1].to(where)
    cast = torch.autocast(where.type, dtype) if dtype != torch.float32 else nullcontext()
    samples: list[tuple[Tensor, Tensor, Tensor]]
    with cast:
        if settings.neighbours:
            samples = [_neighbouring_tiles(net, x, y, settings=settings) for x, y in zip(pixels, labels, strict=True)]
        else:
            kept = _inner(settings) or labels.shape[1:]
            starts = [(edge - own) // 2 for edge, own in zip(labels.shape[1:], kept, strict=True)]
            part = tuple(slice(start, start + own) for start, own in zip(starts, kept, strict=True))
            outputs = net(pixels.to(memory_format=layout)).float()[(slice(None), slice(None), *part)]
            labels = labels[(slice(None), *part)]
            positions = _positions(labels.shape[1:], where)
            samples = [(out, truth, positions) for out, truth in zip(outputs, labels, strict=True)]
    terms = [_loss(out, truth, positions, settings=settings) for out, truth, positions in samples]
    return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}


def _positions(shape: Sequence[int], where: torch.device) -> Tensor:
    """(ndim, *shape) pixel coordinates."""
    axes = [torch.arange(n, device=where, dtype=torch.float32) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _neighbouring_tiles(net: UNet, pixels: Tensor, labels: Tensor, *, settings: TrainSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, labels and positions of a tile and its direct neighbour along each axis, as one list of pixels.

    > d+1 directly neighbouring tiles

    Each tile passes the network on its own, as it will at test time; the loss then compares across their borders.
    """
    edge, margin = _window(settings), settings.spec.margin
    positions = _positions(labels.shape, labels.device)
    outputs, truths, places = [], [], []
    for corner in product((0, 1), repeat=settings.spec.ndim):
        if sum(corner) > 1:
            continue
        write = tuple(slice(c * e, (c + 1) * e) for c, e in zip(corner, edge, strict=True))
        read = tuple(slice(w.start, w.stop + m) for w, m in zip(write, margin, strict=True))
        outputs.append(net(pixels[(slice(None), *read)][None])[0].float().flatten(1))
        truths.append(labels[write].flatten())
        places.append(positions[(slice(None), *write)].flatten(1))
    return torch.cat(outputs, 1), torch.cat(truths), torch.cat(places, 1)


def _loss(out: Tensor, labels: Tensor, positions: Tensor, *, settings: TrainSettings) -> dict[str, Tensor]:
    spec, outputs = settings.spec, settings.spec.outputs
    embedding, offsets = out[outputs["embedding"].channels], outputs["embedding"].meaning == "offset"
    if offsets:
        embedding = torch.cat([settings.offset_scale * embedding[: spec.ndim] + positions, embedding[spec.ndim :]])
    weights = object_weights(labels, settings.size_power) if settings.size_power else None
    if settings.loss == "gaussian":
        scale, seed = (out[outputs[name].channels.start] for name in ("bandwidth", "seed"))
        found = gaussian_loss(embedding, labels, log_bandwidth=scale, seed=seed, ignore=IGNORE, weights=weights)
        loss, terms = found.total, {"overlap": found.overlap, "seed": found.seed}
    else:
        loss, terms = _discriminative(embedding, labels, positions, settings=settings)
    loss = settings.embedding_weight * loss
    foreground = torch.zeros_like(loss)
    if "foreground" in outputs:
        foreground = foreground_loss(out[outputs["foreground"].channels.start], labels, ignore=IGNORE, weights=weights)
        loss = loss + settings.foreground_weight * foreground
    return {"loss": loss, **terms, "foreground": foreground}


def _discriminative(
    embedding: Tensor, labels: Tensor, positions: Tensor, *, settings: TrainSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    offsets = settings.spec.coordinates
    parts = discriminative_loss(
        embedding,
        labels,
        delta_var=settings.delta_var,
        delta_dist=settings.delta_dist,
        gamma=0.0 if offsets else settings.gamma,  # the length of a coordinate means nothing
        background_is_instance=settings.background_is_instance,
        ignore=IGNORE,
        neighbours=settings.push_distance,
        positions=positions,
    )
    return parts.total, {"pull": parts.pull, "push": parts.push}


# -- records ----------------------------------------------------------------------------------------------------------


def _record(settings: TrainSettings, images: Sequence[TrainImage], losses: dict[str, float]) -> ModelRecord:
    trained = training_of(settings, images)
    skip = {"spec", "checkpoint", "checkpoint_every", "normalisation", "clustering", "data", "seed", "batch", "steps"}
    return ModelRecord(
        window=trained.window,
        neighbours=trained.neighbours,
        inner=inner_part(trained),
        steps=settings.steps,
        batch=settings.batch,
        seed=settings.seed,
        data=settings.data or f"{len(images)} images",
        losses={name: round(value, 5) for name, value in losses.items()},
        settings={k: v for k, v in asdict(settings).items() if k not in skip},
        normalisation=settings.normalisation,
        clustering=settings.clustering,
    )


def _checkpoint(images: Sequence[TrainImage], settings: TrainSettings) -> Checkpoint | None:
    if settings.checkpoint is None:
        return None
    return Checkpoint(settings.checkpoint, spec=settings.spec, settings=_lasting(settings), images=images)


def _lasting(settings: TrainSettings) -> dict[str, str]:
    """What all steps of a training have in common, in words: by it weights mean what they mean, and promises are judged."""
    promised = ("keep", "neighbours", "inner_loss", "real_context", "normalisation")
    meant = ("loss", "offset_scale", "background_is_instance", "delta_var", "delta_dist")
    return {"window": repr(_window(settings)), **{name: repr(getattr(settings, name)) for name in (*promised, *meant)}}
