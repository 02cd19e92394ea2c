"""napari reader of image files: axes, steps, units and names as `read_image` gives them to the command."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.types import LayerDataTuple
from napari.utils.notifications import show_info, show_warning

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.constants import MOST_SCENES
from napari_shiftseg.plugin.layers import placed
from napari_shiftseg.plugin.signature import FILE

if TYPE_CHECKING:
    from napari_shiftseg.io import Image


def read_file(path: str) -> list[LayerDataTuple]:
    """A layer for each image of a file, the first of them shown; a sentence and no layer where it cannot be read."""
    from napari_shiftseg.io import read_image, scene_names

    made: list[LayerDataTuple] = []
    try:
        names = scene_names(path)
        for scene in range(min(len(names), MOST_SCENES)):
            image = read_image(path, scene=scene if len(names) > 1 else None)
            made.append(image_layer(image, scene_name=names[scene] if len(names) > 1 else "", shown=not made))
    except ShiftsegError as exc:
        show_warning(str(exc))
        if not made:
            return [(None,)]
    if len(names) > MOST_SCENES:
        show_info(f"{Path(path).name} holds {len(names)} images; the first {MOST_SCENES} were opened.")
    return made


def image_layer(image: "Image", *, scene_name: str = "", shown: bool = True) -> LayerDataTuple:
    """The layer of an image; colours stay colours, and other channels are an axis in front."""
    from napari_shiftseg.plugin.reader import plain_place

    if image.note and shown:
        show_info(f"{image.name}: {image.note}")
    rgb = is_rgb(image)
    if not rgb and image.axes.endswith("c"):
        image = image.reordered("c" + image.axes.removesuffix("c"))
    axes = image.axes.removesuffix("c") if rgb else image.axes
    count = len(axes)
    place = plain_place(axes, image.scale[:count], image.units[:count], translation=image.translation[:count])
    told: dict[str, Any] = {
        "axes": image.axes,
        "channels": list(image.channels),
        "scene": image.scene,
        "scene_name": scene_name,
    }
    name = image.name if image.scene is None or "#" in image.name else f"{image.name}#{image.scene}"
    if image.assumed:  # nothing says what they are: they stay open to the user, as in layers of others
        place = replace(place, axis_labels=tuple(x if x in "yx" else str(at) for at, x in enumerate(axes, -count)))
    options = {"name": name, "rgb": rgb, "visible": shown, "metadata": {FILE: told}, "multiscale": False, **placed(place)}
    return _pixels(image), options, "image"


def is_rgb(image: "Image") -> bool:
    """Whether napari shows the channels as colours: three of 8 bits behind the other axes."""
    return image.axes.endswith("c") and image.data.shape[-1] == 3 and np.dtype(image.data.dtype) == np.uint8


def _pixels(image: "Image") -> Any:
    """Pixels in memory where they are, else as dask, by planes, which napari reads as it shows them."""
    import dask.array as da

    if isinstance(image.data, np.ndarray):
        return image.data
    chunks = getattr(image.data, "chunks", None) or tuple(
        size if axis in "yx" or (axis == "c" and is_rgb(image)) else 1 for axis, size in image.sizes.items()
    )
    return da.from_array(image.data, chunks=chunks)


def scene_of(layer: Any) -> int | None:
    """Which image of its file a layer shows; None for the first."""
    return (layer.metadata.get(FILE) or {}).get("scene")


def described(path: Path, scene: int | None) -> "Image":
    """What a file says of one of its images; ShiftsegError where it cannot be read."""
    from napari_shiftseg.io import read_image
    from napari_shiftseg.io.image import describe_file

    return describe_file(path) if scene is None else replace(read_image(path, scene=scene), scene=scene)
