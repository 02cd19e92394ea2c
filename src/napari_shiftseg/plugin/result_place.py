"""Where the result of a run goes when nobody says where."""

import os
import re
from pathlib import Path

from napari_shiftseg.io import Image

_SUFFIX = "_shiftseg"


def free_place(image: Image) -> Path | None:
    """A store beside the image's file, else in the home folder, under a name that is not taken.

    A name under which an unfinished run lies is not taken: the run can go on.

    Parameters
    ----------
    image : Image
        Its source is a path, or words where there is none.

    Returns
    -------
    Path or None
        None where no folder can be written to.
    """
    source = Path(image.source)
    stem = _stem(source) if source.exists() else re.sub(r"[^\w.-]+", "_", image.name).strip("_.") or "image"
    folders = [source.absolute().parent] if source.exists() else []
    folder = next((f for f in [*folders, Path.home()] if f.is_dir() and os.access(f, os.W_OK)), None)
    if folder is None:
        return None
    names = (f"{stem}{_SUFFIX}{f'_{number}' if number > 1 else ''}.ome.zarr" for number in range(1, 10_000))
    return next((folder / name for name in names if not (folder / name).exists()), None)


def _stem(path: Path) -> str:
    """Name without the suffixes of images: `a.ome.tif` gives `a`."""
    return path.stem.removesuffix(".ome") or path.stem
