"""The axes of a result in the order of the image's layer, and back; see `source.Placement`."""

from typing import Any

from napari_shiftseg.views import LazyArray, View


def from_zarr(array: Any) -> Any:
    """The array as dask, of whose pyramids napari reads no more than it shows."""
    import dask.array as da

    return da.from_array(array, chunks=array.chunks)


def laid_out(data: Any, axes: str, layout: str) -> Any:
    """Data of a result with its axes in the order of a layout, and one pixel for each "_" in it; nothing is copied.

    Parameters
    ----------
    data : numpy, zarr, dask or lazy array
        With axes `axes`, and colour samples behind them if there are any.
    axes, layout : str
        The same letters, in two orders.
    """
    if axes == layout:
        return data
    samples = range(len(axes), len(data.shape))
    order = [*(None if letter == "_" else axes.index(letter) for letter in layout), *samples]
    if isinstance(data, LazyArray):
        return View.whole(data, order, name="the result")
    data = data if hasattr(data, "transpose") else from_zarr(data)
    data = data.transpose([axis for axis in order if axis is not None])
    return data[tuple(None if axis is None else slice(None) for axis in order)]


def in_order(data: Any, layout: str) -> tuple[Any, str]:
    """The inverse of `laid_out`: data with axes (c) "tzyx" in this order, not read, and these axes."""
    axes = layout[: layout.startswith("c")] + "".join(axis for axis in "tzyx" if axis in layout)
    if axes == layout:
        return data, axes
    picks = [0 if letter == "_" else range(size) for letter, size in zip(layout, data.shape, strict=True)]
    return View(data, picks, [layout.index(axis) for axis in axes], name="the result"), axes
