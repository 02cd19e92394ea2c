"""What is decided and checked before pixels are computed: image, device, tile plan, rules, places of the results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.errors import ComplianceError, ResultError, TilingError
from napari_shiftseg.files import check_file, replacing

if TYPE_CHECKING:
    from napari_shiftseg.geometry import Lattice
    from napari_shiftseg.io import Image
    from napari_shiftseg.network import Model
    from napari_shiftseg.segmentation import Job, SegmentSettings

__all__ = ["check_free", "decide_run", "describe_image", "describe_model", "frame_shape", "refusal", "replace_file"]


def decide_run(image: Image, model: Model, settings: SegmentSettings, out: Path | None = None) -> Job:
    """Decide a run, so that nothing is computed in vain.

    Raises
    ------
    ComplianceError
        If a rule is broken and `settings.allow_noncompliant` is false.
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
) -> None:
    """Refuse a place that is taken, holds what a result cannot replace, or has no folder, before the work begins.

    Parameters
    ----------
    files, stores : iterable of Path
        What will be written: files, and OME-Zarr stores, which are folders.
    overwrite : bool
        Replace earlier results.
    inputs : iterable of path
        What will be read, and is never replaced.

    Raises
    ------
    ResultError
    """
    from napari_shiftseg.io import check_store, work_path

    files, stores = list(files), list(stores)
    read, written = {_place(path) for path in inputs}, set[Path]()
    for path in (*files, *stores):
        if _place(path) in read:
            raise ResultError(f"{path} is one of the inputs, which a result does not replace; choose another name.")
        if _place(path) in written:
            raise ResultError(f"two results would be written to {path}; give each a name of its own.")
        written.add(_place(path))
        if path in files:
            check_file(path)
        # a store beside which an unfinished run lies is for that run to judge
        # of a link that leads nowhere, the link itself is there
        if os.path.lexists(path) and not overwrite and not work_path(path).exists():
            raise ResultError(f"{path} is there already; choose another name or add --overwrite.")
        if path in stores:
            check_store(path, overwrite=True)
        if not path.absolute().parent.is_dir():
            raise ResultError(f"there is no folder {path.absolute().parent} for {path.name}; make it first.")


def _place(path: str | Path) -> Path:
    """One name for each place in the file system, links followed."""
    return Path(os.path.realpath(path))


def replace_file(path: Path, data: bytes) -> Path:
    """Write a file completely or not at all."""
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another place or make room.") from exc
    return path


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
