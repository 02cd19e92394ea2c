"""`shiftseg train`: images with masks in, a model out."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_shiftseg.cli.check import report_rules, training_rules
from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import edges, indices, number, pooling, whole, words
from napari_shiftseg.cli.pairs import Notes, Pair, describe_data, describe_notes, files_of, find_pairs, read_pair
from napari_shiftseg.cli.prepare import check_free, refusal
from napari_shiftseg.errors import SettingsError, ShiftsegError, SizeError
from napari_shiftseg.events import Event, Stage, TrainStep, drain
from napari_shiftseg.files import check_targets, found_at, free_beside

if TYPE_CHECKING:
    from napari_shiftseg.geometry import UNetSpec
    from napari_shiftseg.network import TrainImage, TrainSettings

EXAMPLE = (
    "shiftseg train data/nuclei --split train --coordinates --foreground --embedding-dim 2 --window 196 \\\n"
    "    --delta-var 1 --delta-dist 4 --push-distance 8 --checkpoint nuclei.ckpt --out nuclei.safetensors"
)

# names of the options, which are those of the fields
_SPEC = (
    "ndim", "levels", "pool", "convs", "kernel", "features", "growth", "embedding_dim", "foreground", "coordinates",
    "upsampling", "padding", "batch_norm", "seeds", "decoder_convs", "head_kernel",
)  # fmt: skip
_SETTINGS = (
    "window", "keep", "batch", "steps", "learning_rate", "weight_decay", "delta_var", "delta_dist", "gamma",
    "background_is_instance", "push_distance", "embedding_weight", "foreground_weight", "neighbours", "inner_loss", "average",
    "seed", "device", "dtype", "checkpoint", "checkpoint_every", "allow_noncompliant", "loss", "offset_scale", "size_power",
    "balance",
)  # fmt: skip
_AUGMENTATION = {"scale": "zoom", "degrade": "degrade", "small": "small"}
_CLUSTERING = (
    "bandwidth", "threshold", "min_size", "radius", "dip", "min_density", "factor", "least_seed", "valley",
)  # fmt: skip

_POSITIVE = number(positive=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command; the defaults are those of the settings that they fill."""
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="folder with images/ and masks/ of equal names")
    parser.add_argument("--out", type=Path, required=True, help="model file to write (.safetensors)")
    parser.add_argument("--split", help="only rows of DATA/meta.csv whose column split says so, or one of train,val")
    parser.add_argument("--channels", type=indices, metavar="0,2", help="channels for the network, from 0")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier model")
    parser.add_argument("--half", action="store_true", help="store float16 weights: half the size")
    parser.add_argument(
        "--kind", type=words, default="", metavar="WORDS", help='what images show, such as "fluorescent nuclei"'
    )
    parser.add_argument("--note", type=words, default="", help="a remark for the model's record")
    _add_network_options(parser)
    _add_training_options(parser)
    _add_clustering_options(parser)


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network (values in brackets: default)")
    flag = argparse.BooleanOptionalAction
    group.add_argument("--ndim", type=int, default=2, choices=(2, 3), help="spatial axes [%(default)s]")
    group.add_argument("--levels", type=whole(0), default=3, help="number of poolings, l [%(default)s]")
    group.add_argument("--pool", type=pooling, default=2, help="factor f, or 1,2,2:2,2,2 per level and axis [%(default)s]")
    group.add_argument("--convs", type=whole(1), default=2, help="convolutions per level [%(default)s]")
    group.add_argument("--kernel", type=edges, default=3, help="odd edge of the convolutions [%(default)s]")
    group.add_argument("--features", type=whole(1), default=16, help="channels of the finest level [%(default)s]")
    group.add_argument("--growth", type=whole(1), default=2, help="factor of channels per level [%(default)s]")
    group.add_argument("--embedding-dim", type=whole(1), default=3, help="length of the embedding, E [%(default)s]")
    group.add_argument("--foreground", action=flag, default=False, help="predict a foreground too")
    group.add_argument("--coordinates", action=flag, default=False, help="embedding = coordinate + offset")
    group.add_argument("--batch-norm", action=flag, default=False, help="normalise batches")
    group.add_argument("--upsampling", choices=("learnt", "fixed"), default="learnt", help="[%(default)s]")
    group.add_argument("--seeds", action=flag, default=False, help="predict each object's bandwidth and centre too")
    group.add_argument("--decoder-convs", type=whole(1), help="convolutions per level of the decoder [as --convs]")
    group.add_argument("--head-kernel", type=whole(1), default=1, help="odd edge of the last convolution [%(default)s]")
    group.add_argument("--padding", choices=("valid", "zero"), default="valid", help="[%(default)s]")


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training (values in brackets: default)")
    flag = argparse.BooleanOptionalAction
    group.add_argument("--window", type=edges, help="output window, px [legal, three periods or more]")
    group.add_argument("--keep", type=edges, help="centred part of the window with a loss, px [all of it]")
    group.add_argument("--batch", type=whole(1), default=4, help="windows per step [%(default)s]")
    group.add_argument("--steps", type=whole(1), default=10_000, help="[%(default)s]")
    group.add_argument("--learning-rate", type=_POSITIVE, default=1e-3, help="of AdamW [%(default)s]")
    group.add_argument("--weight-decay", type=number(), default=1e-4, help="[%(default)s]")
    group.add_argument("--delta-var", type=number(), default=0.5, help="pull beyond this distance [%(default)s]")
    group.add_argument("--delta-dist", type=_POSITIVE, default=1.5, help="push within twice this distance [%(default)s]")
    group.add_argument("--gamma", type=number(), default=1e-3, help="weight of the length [%(default)s]")
    group.add_argument("--push-distance", type=_POSITIVE, help="push only instances this near, px [all]")
    group.add_argument("--loss", choices=("discriminative", "gaussian"), default="discriminative",
                       help="gaussian: each object has its own bandwidth, needs --seeds [%(default)s]")  # fmt: skip
    group.add_argument("--offset-scale", type=_POSITIVE, default=1.0, help="px per unit of what is learnt [%(default)s]")
    group.add_argument("--size-power", type=number(), default=0.0, help="above 0 small objects count more [%(default)s]")
    group.add_argument("--balance", type=number(0, 1), default=0.0, help="1: all magnifications alike [%(default)s]")
    group.add_argument("--zoom", type=_POSITIVE, default=1.4, help="largest random zoom [%(default)s]")
    group.add_argument("--degrade", type=number(0, 1), default=0.0, help="chance of blur, noise, debris, ... [%(default)s]")
    group.add_argument("--small", type=number(), default=0.0, help="draw objects by size to minus this [%(default)s]")
    group.add_argument("--embedding-weight", type=number(), default=1.0, help="[%(default)s]")
    group.add_argument("--foreground-weight", type=number(), default=1.0, help="[%(default)s]")
    group.add_argument("--background-is-instance", action=flag, default=False, help="the background has a code too")
    group.add_argument("--neighbours", action=flag, default=False, help="tiles with their neighbours, for zero padding")
    group.add_argument("--inner-loss", action=flag, default=False,
                       help="loss on pixels alone that see no zeros, for zero padding")  # fmt: skip
    group.add_argument("--average", type=number(0, 1), default=0.999, help="decay of the mean of the weights [%(default)s]")
    group.add_argument("--seed", type=whole(0), default=0, help="[%(default)s]")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps [%(default)s]")
    group.add_argument("--dtype", default="float32", help="float32, bfloat16, or tf32 on NVIDIA GPUs [%(default)s]")
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="the training goes on from here if it is there")
    group.add_argument("--checkpoint-every", type=whole(1), default=500, metavar="N", help="steps [%(default)s]")
    group.add_argument("--allow-noncompliant", action="store_true", help="train though a rule is broken")


def _add_clustering_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("clustering that the model will suggest (values in brackets: default)")
    group.add_argument("--bandwidth", type=_POSITIVE, default=0.75, help="of the mean shift [%(default)s]")
    group.add_argument("--threshold", type=number(0, 1), default=0.5, help="foreground probability [%(default)s]")
    group.add_argument("--min-size", type=whole(0), default=16, help="px [%(default)s]")
    group.add_argument("--radius", type=_POSITIVE, default=3.0, help="bandwidths around a mode [%(default)s]")
    group.add_argument("--dip", type=number(0, 1), default=0.95, help="depth that parts two modes [%(default)s]")
    group.add_argument("--min-density", type=number(), default=4.0, help="of a mode, px [%(default)s]")
    group.add_argument("--factor", type=_POSITIVE, default=1.0, help="on bandwidths that it says itself [%(default)s]")
    group.add_argument(
        "--least-seed", type=number(0, 1), default=0.5, help="mean seed of an object that it says itself [%(default)s]"
    )
    group.add_argument(
        "--valley", type=number(0, 1), default=0.35, help="depth that parts two objects that it says itself [%(default)s]"
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Train, or go on with a training, and write the model."""
    from napari_shiftseg.io import save_model
    from napari_shiftseg.network import train_steps, training_violations
    from napari_shiftseg.segmentation import learned_steps

    out = args.out if args.out.suffix or not args.out.name.strip(".") else args.out.with_suffix(".safetensors")
    pairs = find_pairs(args.data, args.split)
    found = check_free([out], inputs=files_of(pairs), overwrite=args.overwrite)
    check_targets([out, *filter(None, [args.checkpoint])], inputs=files_of(pairs))
    settings = train_settings(args, describe_data(pairs, args.split))
    _check_window(settings)
    broken = training_violations(settings)
    console.field("data", settings.data)
    report_rules(training_rules(settings.spec, settings), console)
    if broken and not args.allow_noncompliant:
        raise refusal(broken)
    notes: Notes = {}
    images = read_images(pairs, settings, args.channels, notes=notes)
    told = describe_notes(notes)
    for note in told:
        console.field("note", note)
    data = "; ".join([settings.data, *told])
    settings = replace(settings, data=data, spec=replace(settings.spec, in_channels=images[0].pixels.shape[0]))
    console.field("training", f"{len(images)} images with {sum(len(i.centres) for i in images)} instances")
    resumed = args.checkpoint is not None and args.checkpoint.exists()
    console.field("start", f"goes on from {args.checkpoint}" if resumed else "from random weights")
    started = time.perf_counter()
    log = _Log(console, every=settings.checkpoint_every)
    try:
        with console.progress() as show:
            model = drain(train_steps(images, settings), lambda event: log.show(event, show))
    except KeyboardInterrupt as exc:
        left = args.checkpoint is not None and args.checkpoint.exists()
        hint = f"the same command goes on from {args.checkpoint}" if left else "nothing was written"
        raise type(exc)(f"interrupted after step {log.step}; {hint}.") from None
    known = None
    try:
        with console.progress() as show:
            known = drain(learned_steps(images, model, args.kind), show)
    except ShiftsegError as exc:  # a training is too dear to be thrown away
        console.warn(f"what the model knows is not in its record, since its own images cannot be segmented by it: {exc}")
    record = replace(model.record, note=args.note, known=known) if model.record else None
    if found_at(out) not in (None, found[out]):  # a training is too dear to be thrown away
        console.warn(f"{out} was written by somebody else meanwhile and is kept; the model goes to {free_beside(out)}.")
        out = free_beside(out)
    path = save_model(out, replace(model, record=record), half=args.half).absolute()
    seconds = time.perf_counter() - started
    losses = dict(record.losses) if record else {}
    console.field("losses", ", ".join(f"{name} {value:.4g}" for name, value in losses.items()) or "none: no step was left")
    console.field("knows", known.describe() if known is not None else "not known")
    console.field("seconds", f"{seconds:.1f} for {log.count} steps")
    console.field("model", f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
    console.document(
        {
            "model": path,
            "bytes": path.stat().st_size,
            "record": record.to_dict() if record else None,
            "spec": settings.spec.to_dict(),
            "violations": broken,
            "steps": log.count,
            "seconds": seconds,
        }
    )


def train_settings(args: argparse.Namespace, data: str = "") -> TrainSettings:
    """Settings from the arguments, name by name."""
    from napari_shiftseg.geometry import UNetSpec
    from napari_shiftseg.network import Augmentation, Clustering, TrainSettings

    given = vars(args)
    return TrainSettings(
        spec=UNetSpec(**{name: given[name] for name in _SPEC}),
        clustering=Clustering(**{name: given[name] for name in _CLUSTERING}),
        augmentation=Augmentation(**{name: given[option] for name, option in _AUGMENTATION.items()}),
        data=data,
        **{name: given[name] for name in _SETTINGS},
    )


def read_images(
    pairs: list[Pair], settings: TrainSettings, channels: tuple[int, ...] | None, *, notes: Notes
) -> list[TrainImage]:
    """Training images in the order of the pairs; a stack gives a 2D network one per plane. `notes`: as of `read_pair`."""
    from napari_shiftseg.network import TrainImage

    ndim, found = settings.spec.ndim, []
    for pair in pairs:
        image, truth = read_pair(pair, notes)
        order = [axis for axis in image.axes if axis != "c"]
        truth = truth.transpose([order.index(axis) for axis in "tzyx" if axis in order])
        for frame in image.frames(ndim, channels):
            labels = truth[tuple(frame.index.values())]
            found.append(TrainImage.from_arrays(frame.view[...], labels, settings.normalisation))
            if found[-1].pixels.shape[0] != found[0].pixels.shape[0]:
                raise SettingsError(
                    f"{pair.image} has {found[-1].pixels.shape[0]} channels, the images before it {found[0].pixels.shape[0]}; "
                    "choose with --channels."
                )
    return found


def _check_window(settings: TrainSettings) -> None:
    """Say in terms of the output window what its size must be."""
    spec = settings.spec
    for axis, edge in enumerate(_per_axis(settings.window, spec)):
        try:
            spec.output_size(edge + spec.margin[axis], axis)
        except SizeError as exc:
            legal = tuple(size - spec.margin[axis] for size in exc.nearest)
            raise SizeError(
                f"an output window of {edge} px does not come out of this network; "
                f"use --window {' or '.join(map(str, legal))}.",
                nearest=legal,
            ) from exc


def _per_axis(window: int | tuple[int, ...] | None, spec: UNetSpec) -> tuple[int, ...]:
    if window is None:
        return ()
    edges_ = (window,) * spec.ndim if isinstance(window, int) else window
    if len(edges_) != spec.ndim:
        raise SettingsError(f"--window has {len(edges_)} edges; give 1 or {spec.ndim}.")
    return edges_


class _Log:
    """A line of mean losses now and then, where no bar is drawn."""

    def __init__(self, console: Console, *, every: int) -> None:
        self._console, self._every = console, max(1, every)
        self._steps: list[TrainStep] = []
        self._since = time.perf_counter()
        self.step = self.count = 0

    def show(self, event: Event, draw: object) -> None:
        if callable(draw):
            draw(event)
        if isinstance(event, Stage):  # a checkpoint that could not be written
            self._console.warn(event.text)
        if not isinstance(event, TrainStep):
            return
        self.step, self.count = event.done, self.count + 1
        self._steps.append(event)
        if self._console.quiet or self._console.animated or (event.done % self._every and event.done != event.total):
            return
        names = [
            name
            for name in ("loss", "pull", "push", "overlap", "seed", "foreground")
            if any(getattr(s, name) for s in self._steps)
        ]
        means = [sum(getattr(step, name) for step in self._steps) / len(self._steps) for name in names]
        now = time.perf_counter()
        pace = (now - self._since) / len(self._steps)
        losses = ", ".join(f"{name} {mean:.4g}" for name, mean in zip(names, means, strict=True))
        self._console.warn(f"step {event.done} of {event.total}: {losses}; {pace:.3f} s per step")
        self._steps, self._since = [], now
