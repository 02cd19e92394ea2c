"""What is decided and checked before pixels are computed: image, device, tile plan, rules, places of the results."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.errors import ComplianceError, ResultError, SettingsError, TilingError
from napari_shiftseg.files import Found, check_same, check_targets, replacing

if TYPE_CHECKING:
    from napari_shiftseg.geometry import Lattice
    from napari_shiftseg.io import Image
    from napari_shiftseg.network import Model
    from napari_shiftseg.segmentation import Job, SegmentSettings


NAMING = "named after their image, with its folder in front (p1_im, p2_im) where two images have one name"
"""How results in a folder are named, for `--help`."""

_SUFFIX = {"store": ".ome.zarr", "labels": ".tif", "picture": ".png", "table": ".csv"}


def decide_run(image: Image, model: Model, settings: SegmentSettings, *, out: Path | None = None) -> Job:
    """Decide a run, so that nothing is computed in vain.

    ComplianceError if a rule is broken and `settings.allow_noncompliant` is false.
    """
    from napari_shiftseg.segmentation import decide

    try:
        return decide(image, model, settings, out)
    except ComplianceError as exc:
        raise refusal(exc.violations) from exc
    except TilingError as exc:
        if settings.allow_noncompliant or not exc.nearest:
            raise
        # the wish itself is judged, also where `deterministic` would replace its tiles
        wish = replace(settings, allow_noncompliant=True, deterministic=False)
        if broken := decide(image, model, wish, refuse=False).broken:
            raise refusal(broken) from exc
        raise


def frame_shape(image: Image, lattice: Lattice, channels: tuple[int, ...] | None) -> tuple[int, ...]:
    """Spatial shape of what the network sees, px."""
    chosen = image.channels_for(lattice.in_channels, channels)
    return tuple(image.frames(lattice.ndim, chosen)[0].view.shape[1:])


def refusal(broken: Sequence[Any]) -> ComplianceError:
    """The error for the first broken rule."""
    others = len({v.message for v in broken}) - 1
    more = f" ({others} more: shiftseg check lists all.)" if others else ""
    return ComplianceError(
        f"{broken[0].message} To run all the same, add --allow-noncompliant.{more}", violations=tuple(broken)
    )


def check_free(
    files: Iterable[Path], *, overwrite: bool, stores: Iterable[Path] = (), inputs: Iterable[str | Path] = ()
) -> dict[Path, Found]:
    """Refuse a place that is taken, an input, not to be replaced by a result or not to be written, before the work begins.

    Parameters
    ----------
    files, stores : iterable of Path
        What will be written: files, and OME-Zarr stores, which are folders.
    overwrite : bool
        Replace earlier results.
    inputs : iterable of path
        What will be read, and is never replaced.

    Returns
    -------
    dict
        What is at each place now, for `check_same` before it is written.

    Raises
    ------
    ResultError
    """
    from napari_shiftseg.io import check_store, work_path

    files, stores = list(files), list(stores)
    found = check_targets(files, stores=stores, inputs=inputs)
    for path in (*files, *stores):
        # a store beside which an unfinished run lies is for that run to judge
        # of a link that leads nowhere, the link itself is there
        if os.path.lexists(path) and not overwrite and not work_path(path).exists():
            raise ResultError(f"{path} is there already; choose another name or add --overwrite.")
        if path in stores:
            check_store(path, overwrite=True)
    return found


def replace_file(path: Path, data: bytes, found: Mapping[Path, Found]) -> Path:
    """Write a file completely or not at all, and not over what came since `found`."""
    check_same(path, found[path])
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another place or make room.") from exc
    return path


def record_at(path: Path) -> Any:
    """The record of a result: of a store, or what ``shiftseg segment --json`` printed of one image.

    ResultError if the store is none. SettingsError if what was printed is no JSON, or tells of several images.
    """
    from napari_shiftseg.io import open_result
    from napari_shiftseg.io.constants import LARGEST_METADATA
    from napari_shiftseg.io.store import description

    if not (path.is_file() and path.suffix == ".json"):
        return open_result(path).record
    if (size := path.stat().st_size) > LARGEST_METADATA:
        raise SettingsError(f"{path} has {size} bytes, more than a record takes; give a result, or what a run printed.")
    try:
        record = description(path.read_bytes(), path.name)
    except ValueError as exc:  # an ImageError is one
        raise SettingsError(f"{path} is no JSON ({exc}); give a result, or what shiftseg segment --json printed.") from exc
    if isinstance(record, dict) and "images" in record:
        raise SettingsError(f"{path} tells of {len(record['images'])} runs, and one is asked for; give the result of one.")
    return record


def describe_image(image: Image) -> str:
    """An image in one line: name, axes and sizes, type, step, what was guessed."""
    sizes = ", ".join(f"{axis} {size}" for axis, size in image.sizes.items())
    steps = [
        f"{axis} {step:g} {unit or ''}".strip()
        for axis, step, unit in zip(image.axes, image.scale, image.units, strict=True)
        if unit or step != 1
    ]
    parts = [f"{image.name}: {sizes}", str(image.data.dtype), *([f"step {', '.join(steps)}"] if steps else [])]
    question = " --axes names them." * bool(image.assumed)
    return "; ".join([*parts, image.note + question] if image.note else parts)


def describe_model(model: Model) -> str:
    """A model in one line: name, hash, axes, period."""
    period = " x ".join(map(str, model.lattice.period))
    digest = f" (sha256 {model.hash[:12]})" if model.hash else ""
    return f"{model.name}{digest}: {model.lattice.ndim}D, period {period} px"


# -- places of the results ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where the results of one image go."""

    store: Path | None
    labels: Path | None
    picture: Path | None
    table: Path | None = None

    def files(self) -> list[Path]:
        """Files that were asked for."""
        return [path for path in (self.labels, self.picture, self.table) if path is not None]

    def stores(self) -> list[Path]:
        """The store, if one was asked for."""
        return [] if self.store is None else [self.store]


def single_target(args: argparse.Namespace) -> Targets:
    """Where the results of the one image of `shiftseg segment` go. SettingsError if none was asked for."""
    return Targets(**_wished(args))


def targets_of(args: argparse.Namespace, names: Sequence[str]) -> list[Targets]:
    """Targets of each of many images, whose results have these names: in folders, which are made.

    SettingsError if no result was asked for. ResultError if a folder cannot be made.
    """
    wished = _wished(args)
    for folder in filter(None, wished.values()):
        _make_folder(folder)
    return [Targets(**{kind: folder and folder / (name + _SUFFIX[kind]) for kind, folder in wished.items()}) for name in names]


def _wished(args: argparse.Namespace) -> dict[str, Any]:
    wished = {"store": args.out, "labels": args.labels_tiff, "picture": args.picture, "table": args.table}
    if not any((*wished.values(), args.summary, args.features)) and not args.dry_run:
        raise SettingsError("no result was asked for; give --out, --labels-tiff, --picture, --table, --summary or --features.")
    return wished


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ResultError(f"{folder} cannot be the folder of several results ({exc.strerror}); name another.") from exc
