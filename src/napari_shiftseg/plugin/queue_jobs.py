"""What the widget for many images computes in a thread: which images there are, the queue, its tables."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.errors import SettingsError, ShiftsegError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.files import Found, check_same, found_at, free_beside
from napari_shiftseg.plugin.large import segment_large
from napari_shiftseg.plugin.layers import segment_and_draw

if TYPE_CHECKING:
    from napari_shiftseg.io import Image, Source
    from napari_shiftseg.network import Device, Model
    from napari_shiftseg.segmentation import Job, SegmentSettings
    from napari_shiftseg.segmentation.queue import Item, Outcome


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """With what the images are segmented: a model and settings, or those of a record."""

    model: str = ""  # name or path; "" for the first bundled one
    settings: "SegmentSettings | None" = None
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """What a queue runs with."""

    model: "Model"
    settings: "SegmentSettings"
    device: "Device"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the results of files go.

    `folder`: for all; None puts each beside its image. `keep_embedding`: whether stores hold it.
    """

    folder: Path | None
    keep_embedding: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """The tables of a queue, and what is at their places since."""

    paths: tuple[Path, ...] = ()
    found: dict[Path, Found] = field(default_factory=dict)


def names_steps() -> Generator[Event, None, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of the models that come with the package, and which of them only show something."""
    from napari_shiftseg.io import bundled_models, demonstrations

    return bundled_models(), demonstrations()
    yield  # jobs are generators


def find_steps(place: Path, pattern: str, recursive: bool) -> "Generator[Event, None, list[Source]]":
    """The images at a place."""
    from napari_shiftseg.io import find_images

    return find_images(place, pattern, recursive=recursive)
    yield  # jobs are generators


def ready_steps(wish: Wish) -> Generator[Event, None, Ready]:
    """The model and the settings of a wish."""
    yield Stage(done=0, total=0, text="loading the model")
    from napari_shiftseg.io import bundled_models, load_model
    from napari_shiftseg.network import choose_device
    from napari_shiftseg.segmentation import SegmentSettings, job_of

    name, settings = wish.model, wish.settings or SegmentSettings()
    if wish.record is not None:
        job = job_of(wish.record)
        name, settings = job.model.source, job.settings
        changed = {*(wish.record.get("relabelled") or {}).get("changed", ())} - {"threshold", "bandwidth", "min_size"}
        if changed:
            raise SettingsError(
                f"the result was tuned by {', '.join(sorted(changed))}, which no run has as a setting; choose other settings."
            )
        if not name:
            raise SettingsError(f"the model {job.model.name} of the result was never saved; save it, and choose its file.")
    return Ready(model=load_model(name or bundled_models()[0]), settings=settings, device=choose_device(settings.device))


def items_of(sources: "Sequence[Source]", folder: Path | None) -> "list[Item]":
    """The images of a folder or a plate with the places of their results, as `shiftseg segment` names them.

    SettingsError if the folder lies in a store.
    """
    from napari_shiftseg.io import names_of
    from napari_shiftseg.segmentation.queue import Item

    for place in [folder] if folder is not None else {source.called.parent for source in sources}:
        if outside(place) != place:
            raise SettingsError(f"{place} lies in a zarr store, which results would damage; choose another folder for them.")
    stems = dict(zip(sources, names_of([source.called for source in sources]), strict=True))
    if folder is None:  # only images that lie beside each other need to be told apart
        for parent in {source.called.parent for source in sources}:
            there = [source for source in sources if source.called.parent == parent]
            stems |= dict(zip(there, names_of([source.called for source in there]), strict=True))
    places = {
        source: source.called.parent / f"{stem}_shiftseg.ome.zarr" if folder is None else folder / f"{stem}.ome.zarr"
        for source, stem in stems.items()
    }
    return [
        Item(name=source.name, source=source.path, scene=source.scene, out=places[source], weight=source.weight)
        for source in sources
    ]


def outside(place: Path) -> Path:
    """A folder, or where it lies in a zarr store, that in which the store lies."""
    from napari_shiftseg.io.ome_zarr import is_store

    stores = [folder for folder in (place, *place.absolute().parents) if is_store(folder)]
    return stores[-1].parent if stores else place


def disk_steps(sources: "Sequence[Source]", ready: Ready, places: Places) -> "Generator[Event, None, list[Outcome]]":
    """Segment files; yields the events of `queue_steps`."""
    from napari_shiftseg.segmentation.queue import decided_steps, queue_steps

    settings = replace(ready.settings, keep_embedding=None if places.keep_embedding else False)
    items = items_of(sources, places.folder)
    if places.folder is not None:
        try:
            places.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SettingsError(f"{places.folder} cannot be made ({exc.strerror}); choose another folder.") from exc
    return (yield from queue_steps(items, partial(decided_steps, model=ready.model, settings=settings)))


def layer_steps(images: "Sequence[Image]", ready: Ready) -> "Generator[Event, None, list[Outcome]]":
    """Segment images of layers in memory, or out of core where the result would not fit; the results come with the events."""
    from math import prod

    from napari_shiftseg.segmentation.queue import Item, queue_steps

    items = [Item(name=image.name, source=image, weight=float(prod(image.data.shape))) for image in images]
    return (yield from queue_steps(items, partial(_decided_steps, ready=ready), _run_steps, again=False))


def _decided_steps(item: "Item", image: "Image", *, ready: Ready) -> "Generator[Event, None, Job]":
    from napari_shiftseg.plugin.verdict import judge

    verdict = judge(image, ready.model, ready.settings, device=ready.device)
    if not verdict.can_run or verdict.job is None:
        raise SettingsError(verdict.text)
    return verdict.job
    yield


def _run_steps(job: "Job") -> Generator[Event, None, Any]:
    return (yield from (segment_large(job) if job.large else segment_and_draw(job)))


def tables_steps(outcomes: "Sequence[Outcome]", places: Sequence[Path], ours: Written) -> Generator[Event, None, Written]:
    """Write the table of the images and that of the objects; what is there and is not `ours` is kept beside.

    `places`: of both.
    """
    from napari_shiftseg.io import save_table
    from napari_shiftseg.segmentation.queue import images_table, objects_table

    yield Stage(done=0, total=0, text="writing the tables")
    found: dict[Path, Found] = {}
    for place, make in zip(places, (images_table, objects_table), strict=True):
        path = next((known for known in ours.found if _is_of(known, place) and _is_same(known, ours.found[known])), place)
        if path == place and path not in ours.found and found_at(path) is not None:
            path = free_beside(path)
        save_table(path, make(outcomes))
        found[path] = found_at(path)
    return Written(paths=tuple(found), found=ours.found | found)


def _is_of(path: Path, place: Path) -> bool:
    """Whether a file is one that was written for a place: it, or one beside it with a number behind its name."""
    return path.parent == place.parent and path.suffix == place.suffix and path.stem.partition("-")[0] == place.stem


def _is_same(path: Path, found: Found) -> bool:
    """Whether nobody has written to a file since we did."""
    try:
        check_same(path, found)
    except ShiftsegError:
        return False
    return found_at(path) is not None
