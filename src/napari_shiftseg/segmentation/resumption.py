"""What of an unfinished run can be gone on with: parts that are whole on the disk, and made of the image that is there now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_shiftseg.files import Stamp, remove_folder, stamp_of
from napari_shiftseg.io import WorkFolder
from napari_shiftseg.segmentation.blockwise import FOLDERS, NUMBERS, expect_blocks, part_file, read_region
from napari_shiftseg.segmentation.decision import sum_text
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.layout import Layout


def discard_damaged(work: WorkFolder, layout: Layout) -> None:
    """Remove each part that is damaged or has lost one of its files, and all that was made of it."""
    for frame in range(layout.frames):
        rounds = {which: [part_file(which, frame, number) for number in range(len(layout.grid))] for which in FOLDERS}
        joins = {name: [file.format(frame)] for name, file in NUMBERS.items()}
        complete = True
        for names in (rounds["find"], joins["join"], rounds["reach"], joins["join_rest"], rounds["settle"]):
            for name in names:
                if work.has(name) and (not complete or work.whole(name) is None):
                    work.discard(name)
            complete = complete and all(map(work.has, names))


def changed_block(job: Job, work: WorkFolder) -> tuple[int, int] | None:
    """Frame and number of the first block that is done whose pixels are others now; ShiftsegError if they cannot be read."""
    layout = job.layout
    assert layout is not None
    tasks = [(frame, number) for frame in range(layout.frames) for number in range(len(layout.grid))]
    done = [task for task in tasks if work.has(part_file("find", *task))]
    expect_blocks(job, done)
    for frame, number in done:
        told = work.told(part_file("find", frame, number))
        if told["pixels"] != read_region(job, frame, layout.grid[number]).digest():
            return frame, number
    return None


def gaps_found(work: WorkFolder, layout: Layout) -> list[tuple[int, list[int], bool]]:
    """What each block has found that holds no data, as `counted` takes it."""
    tasks = [(frame, number) for frame in range(layout.frames) for number in range(len(layout.grid))]
    return [work.told(part_file("find", *task))["gaps"] for task in tasks]


def sum_found(work: WorkFolder, layout: Layout) -> str | None:
    """The sum of all pixels, of which each block has found its part; None where one has not."""
    tasks = [(frame, number) for frame in range(layout.frames) for number in range(len(layout.grid))]
    parts = [work.told(part_file("find", *task)).get("sum") for task in tasks]
    return None if None in parts else sum_text(sum(int(str(part), 16) for part in parts))


def same_files(job: Job, stamp: Stamp | None) -> bool:
    """Whether the files of the image are those that were seen before, so that none of it needs to be read again."""
    return stamp is not None and stamp_of(job.opened.image.data) == stamp


def descriptions(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Digest of what each group and array in a folder is, without its attributes; "" for what cannot be read.

    `names`: of the files that hold that, all by default.
    """
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("zarr.json")]
    return {name: _described(folder / name) for name in sorted(names)}


def _described(file: Path) -> str:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        plain = {name: value for name, value in found.items() if name != "attributes"}
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16).hexdigest()


def forget_broken(folder: Path, known: Mapping[str, str]) -> None:
    """Remove descriptions that are not what they were: they are made again, and the chunks beside them stay.

    What is not known at all came with the last step of a run, which takes all of it anew.
    """
    for name, found in descriptions(folder, known).items():
        if found != known[name]:
            (folder / name).unlink(missing_ok=True)
    places = {Path(name).parent for name in known}
    groups = {parent for place in places for parent in place.parents if parent != Path()}
    for group in groups:
        for inner in (folder / group).glob("*/"):
            if inner.relative_to(folder) not in places | groups:
                remove_folder(inner)
