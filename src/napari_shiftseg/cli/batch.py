"""`shiftseg segment` for many images: those of folders and plates too, each on its own, and tables of all."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_shiftseg.cli import report
from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.prepare import Targets, check_free, single_target, targets_of
from napari_shiftseg.errors import ImageError, ResultError, SettingsError
from napari_shiftseg.files import Found, check_same, free_beside

if TYPE_CHECKING:
    from napari_shiftseg.events import Event
    from napari_shiftseg.io import Image, Source
    from napari_shiftseg.segmentation import Job, Segmentation
    from napari_shiftseg.segmentation.queue import Item, Outcome

Deciding: TypeAlias = "Callable[[Image, Targets], Job]"
Running: TypeAlias = "Callable[[Job, Targets], tuple[Segmentation | None, dict[str, object]]]"


def batch_of(args: argparse.Namespace) -> Batch:
    """The images that are meant, and where their results go.

    SettingsError for wishes that contradict each other. ImageError if the only place that was given holds no image.
    """
    from napari_shiftseg.io import check_table_format, names_of

    if args.record is not None:
        raise SettingsError("--from repeats the run of one image; leave --summary, --features, --resume and --pattern out.")
    if args.resume and (args.overwrite or args.out is None):
        raise SettingsError("--resume keeps the stores of --out that are there; give --out with it, and no --overwrite.")
    for path in filter(None, (args.summary, args.features)):
        check_table_format(path)
    sources, many = _sources(args)
    if not many and (args.recursive or args.pattern != "*"):
        raise SettingsError("--pattern and --recursive are about a folder, and none was given; give the folder.")
    targets = targets_of(args, names_of([source.called for source in sources])) if many else [single_target(args)]
    _check_apart(args, targets)
    return Batch(args=args, sources=sources, targets=targets, many=many)


def _check_apart(args: argparse.Namespace, targets: list[Targets]) -> None:
    """Refuse results among the images of a folder where the next run would take them for images. ResultError."""
    from napari_shiftseg.io.ome_zarr import is_store
    from napari_shiftseg.io.sources import would_find

    places = [Path(name) for name in args.images if Path(name).is_dir() and not is_store(Path(name))]
    for path in (path for target in targets for path in target.files()):
        if place := next((one for one in places if would_find(one, path, args.pattern, recursive=args.recursive)), None):
            raise ResultError(
                f"{path} would lie among the images of {place}, and the next run would take it for one of them; give another "
                "folder for it, or say with --pattern which files are images."
            )


def _sources(args: argparse.Namespace) -> tuple[list[Source], bool]:
    """The images, and whether results go into folders; an image that is not there comes along."""
    from napari_shiftseg.io import Source, find_images
    from napari_shiftseg.io.ome_zarr import is_store

    sources: list[Source] = []
    many = len(args.images) > 1
    for name in args.images:
        path = Path(name)
        found = [Source(path=path, name=name, called=path, scene=args.scene)]
        if path.is_dir() and not (is_store(path) and args.scene is not None):
            try:
                inside = find_images(path, args.pattern, recursive=args.recursive)
                many = many or not is_store(path) or inside[0].path != path or len(inside) > 1
                # of several places, the whole path tells their images apart
                base = None if len(args.images) == 1 else path.parent if is_store(path) else path
                found = [one if base is None else replace(one, name=str(base / one.name)) for one in inside]
            except ImageError:
                if len(args.images) == 1:
                    raise
        sources += found
    return sources, many


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images and the places of their results.

    `many`: whether these are folders.
    """

    args: argparse.Namespace
    sources: list[Source]
    targets: list[Targets]
    many: bool
    documents: dict[int, dict[str, object]] = field(default_factory=dict)

    def inputs(self) -> list[Path]:
        """What is read."""
        return [source.path for source in self.sources]

    def is_new(self, path: Path) -> bool:
        """Whether something is to be written there now; what is there already may be done."""
        return not (self.args.resume and path.exists())

    def new_files(self) -> list[Path]:
        """Files that are to be written now."""
        new = [target for target in self.targets if target.store is None or self.is_new(target.store)]
        tables = filter(None, (self.args.summary, self.args.features))
        return [*(path for target in new for path in target.files()), *filter(self.is_new, tables)]

    def run(self, decided: Deciding, run: Running, console: Console, *, found: dict[Path, Found]) -> int:
        """Segment all; one that fails is named, and of several failures the first says the exit code."""
        from napari_shiftseg.events import drain
        from napari_shiftseg.segmentation.queue import Item, ItemDone, queue_steps

        args, outcomes, codes = self.args, list[Any](), list[int]()
        items = [
            Item(name=source.name, source=source.path, out=target.store, axes=args.axes,
                 scene=args.scene if source.scene is None else source.scene)
            for source, target in zip(self.sources, self.targets, strict=True)
        ]  # fmt: skip

        def deciding(item: Item, image: Image) -> Generator[Event, None, Job]:
            target = self.targets[len(outcomes)]
            if args.resume and target.store is not None and self.is_new(target.store):  # it may have come since
                found.update(check_free(target.files(), stores=target.stores(), overwrite=False))
            return decided(image, target)
            yield

        def running(job: Job) -> Generator[Event, None, Segmentation | None]:
            at = len(outcomes)
            result, self.documents[at] = run(job, self.targets[at])
            return result
            yield

        def tell(event: Event) -> None:
            if isinstance(event, ItemDone):
                codes.append(self._told(event.outcome, len(outcomes), console))
                outcomes.append(replace(event.outcome, result=None))

        steps = queue_steps(items, deciding, running, again=args.resume, features=bool(args.summary or args.features))
        try:
            drain(steps, tell)
        finally:  # also after an interrupt, of what is done
            tables = self._write_tables(outcomes, found, console) if not args.dry_run else {}
        done = [self.documents[number] for number in range(len(items))]
        more = {"tables": tables} if tables else {}
        console.document({"images": done, **more} if self.many else {**done[0], **more})
        return next(filter(None, codes), 0)

    def _told(self, outcome: Outcome, at: int, console: Console) -> int:
        """Say what became of an image; the exit code for it."""
        if outcome.problem is not None:
            if not self.many:
                raise outcome.problem
            self.documents[at] = {"image": outcome.item.name, "error": str(outcome.problem)}
            return report(outcome.problem, "segment", outcome.item.name)
        if outcome.state == "there":
            console.field("result", f"{outcome.item.out} (there already, of the same image, model and settings)")
            self.documents[at] = {**outcome.record, "written": {"result": outcome.item.out}, "there": True}
        return 0

    def _write_tables(self, outcomes: list[Outcome], found: dict[Path, Found], console: Console) -> dict[str, Path]:
        """The tables of all images; one that is there from an earlier part of the work is kept."""
        from napari_shiftseg.io import save_table
        from napari_shiftseg.segmentation.queue import images_table, objects_table

        written: dict[str, Path] = {}
        for name, make in (("summary", images_table), ("features", objects_table)):
            path = getattr(self.args, name)
            if path is None or not outcomes:
                continue
            if path in found:
                check_same(path, found[path])
            path = path if path in found else free_beside(path)
            written[name] = save_table(path, make(outcomes)).absolute()
            console.field(name, written[name])
        return written
