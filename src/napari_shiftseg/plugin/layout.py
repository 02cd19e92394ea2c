"""The axes of a result in the order of the image's layer, and back; see `source.Placement`."""

from typing import Any

__all__ = ["in_order", "laid_out"]


def laid_out(data: Any, axes: str, layout: str) -> Any:
    """Data of a result with its axes in the order of a layout, and one pixel for each "_" in it; nothing is copied.

    Parameters
    ----------
    data : numpy, zarr or dask array
        With axes `axes`, and colour samples behind them if there are any.
    axes, layout : str
        The same letters, in two orders.
    """
    if axes == layout:
        return data
    if not hasattr(data, "transpose"):  # zarr
        import dask.array as da

        data = da.from_array(data, chunks=data.chunks)
    letters = [letter for letter in layout if letter in axes]
    data = data.transpose([*map(axes.index, letters), *range(len(axes), data.ndim)])
    return data[tuple(None if letter == "_" else slice(None) for letter in layout)]


def in_order(data: Any, layout: str) -> tuple[Any, str]:
    """The inverse of `laid_out`: data with axes (c) "tzyx" in this order, not read, and these axes."""
    from napari_shiftseg.io import View

    axes = layout[: layout.startswith("c")] + "".join(axis for axis in "tzyx" if axis in layout)
    if axes == layout:
        return data, axes
    picks = [0 if letter == "_" else range(size) for letter, size in zip(layout, data.shape, strict=True)]
    return View(data, picks, [layout.index(axis) for axis in axes], name="the result"), axes
