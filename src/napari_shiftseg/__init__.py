"""Tile-exact metric-learning instance segmentation: a napari plugin, a library and a command.

Names are loaded when they are first used: importing the package imports neither torch nor napari nor zarr.
"""

from __future__ import annotations

import os
from importlib import import_module

TYPE_CHECKING = False  # `typing` is long to load, and the command hears Ctrl-C only afterwards

# PyTorch takes the memory of each large map anew from the system; on Linux in large pages, as numpy asks for, too, that costs
# far fewer page faults (benchmarks/large_pages.py). The variable is read at PyTorch's first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from napari_shiftseg import synthetic as synthetic
    from napari_shiftseg.analysis import measure as measure
    from napari_shiftseg.analysis import probe_period as probe_period
    from napari_shiftseg.analysis import seam_report as seam_report
    from napari_shiftseg.analysis import verify_tiling as verify_tiling
    from napari_shiftseg.geometry import Lattice as Lattice
    from napari_shiftseg.geometry import Output as Output
    from napari_shiftseg.geometry import TilePlan as TilePlan
    from napari_shiftseg.geometry import UNetSpec as UNetSpec
    from napari_shiftseg.geometry import plan_tiles as plan_tiles
    from napari_shiftseg.geometry import violations as violations
    from napari_shiftseg.instances import label_instances as label_instances
    from napari_shiftseg.instances import match_score as match_score
    from napari_shiftseg.instances import mean_shift as mean_shift
    from napari_shiftseg.io import export_labels as export_labels
    from napari_shiftseg.io import load_model as load_model
    from napari_shiftseg.io import open_result as open_result
    from napari_shiftseg.io import read_image as read_image
    from napari_shiftseg.io import read_labels as read_labels
    from napari_shiftseg.io import save_model as save_model
    from napari_shiftseg.network import Model as Model
    from napari_shiftseg.network import TrainSettings as TrainSettings
    from napari_shiftseg.network import UNet as UNet
    from napari_shiftseg.network import discriminative_loss as discriminative_loss
    from napari_shiftseg.network import predict as predict
    from napari_shiftseg.network import train as train
    from napari_shiftseg.segmentation import Job as Job
    from napari_shiftseg.segmentation import SegmentSettings as SegmentSettings
    from napari_shiftseg.segmentation import decide as decide
    from napari_shiftseg.segmentation import link as link
    from napari_shiftseg.segmentation import relabel as relabel
    from napari_shiftseg.segmentation import segment as segment
    from napari_shiftseg.segmentation import suggest_models as suggest_models

_ROOMS = {
    "Lattice": "geometry",
    "Output": "geometry",
    "UNetSpec": "geometry",
    "TilePlan": "geometry",
    "plan_tiles": "geometry",
    "violations": "geometry",
    "Model": "network",
    "UNet": "network",
    "discriminative_loss": "network",
    "predict": "network",
    "train": "network",
    "TrainSettings": "network",
    "label_instances": "instances",
    "match_score": "instances",
    "mean_shift": "instances",
    "measure": "analysis",
    "probe_period": "analysis",
    "seam_report": "analysis",
    "verify_tiling": "analysis",
    "export_labels": "io",
    "load_model": "io",
    "save_model": "io",
    "read_image": "io",
    "read_labels": "io",
    "open_result": "io",
    "SegmentSettings": "segmentation",
    "Job": "segmentation",
    "decide": "segmentation",
    "link": "segmentation",
    "relabel": "segmentation",
    "segment": "segmentation",
    "suggest_models": "segmentation",
}

__all__ = [*_ROOMS, "__version__", "synthetic"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("napari-shiftseg")
        except PackageNotFoundError:  # used from a source tree, as on a bare GPU machine
            return "0+source"
    if name in _ROOMS:
        value = getattr(import_module(f"napari_shiftseg.{_ROOMS[name]}"), name)
    elif name == "synthetic":
        value = import_module("napari_shiftseg.synthetic")
    else:
        raise AttributeError(f"module 'napari_shiftseg' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
