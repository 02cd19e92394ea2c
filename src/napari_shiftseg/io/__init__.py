"""Files in and out: images, models, results. Nothing else in the package touches a file.

Names are loaded when they are first used: what needs one of them needs neither PyTorch nor zarr for another's sake.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from napari_shiftseg.views import View, chunks_of

if TYPE_CHECKING:
    from napari_shiftseg.io.chunk_reader import ChunkReader
    from napari_shiftseg.io.export import EXPORTS, check_export, export_labels, measured
    from napari_shiftseg.io.geojson import save_geojson
    from napari_shiftseg.io.image import Frame, Image, read_image, scene_names
    from napari_shiftseg.io.labels import Labels, read_labels
    from napari_shiftseg.io.labels_tiff import save_labels_tiff
    from napari_shiftseg.io.model import (
        bundled_models,
        demonstrations,
        described_outputs,
        from_json,
        from_plain,
        load_model,
        read_record,
        save_model,
        to_json,
        to_plain,
    )
    from napari_shiftseg.io.pyramid import BlockPyramid, Overview, chunk_edges
    from napari_shiftseg.io.result import ResultWriter, check_store, save_result, work_path
    from napari_shiftseg.io.rois import save_rois
    from napari_shiftseg.io.sources import Source, find_images, names_of
    from napari_shiftseg.io.stored_edits import StoredEdits
    from napari_shiftseg.io.stored_result import StoredResult, open_result, run_of
    from napari_shiftseg.io.tables import check_table_format, save_table
    from napari_shiftseg.io.work_folder import WorkFolder

_MODULES = {
    "ChunkReader": "chunk_reader",
    "EXPORTS": "export",
    "check_export": "export",
    "export_labels": "export",
    "measured": "export",
    "save_geojson": "geojson",
    "Frame": "image",
    "Image": "image",
    "read_image": "image",
    "scene_names": "image",
    "Labels": "labels",
    "read_labels": "labels",
    "bundled_models": "model",
    "demonstrations": "model",
    "described_outputs": "model",
    "from_json": "model",
    "from_plain": "model",
    "load_model": "model",
    "read_record": "model",
    "save_model": "model",
    "to_json": "model",
    "to_plain": "model",
    "BlockPyramid": "pyramid",
    "Overview": "pyramid",
    "chunk_edges": "pyramid",
    "ResultWriter": "result",
    "StoredResult": "stored_result",
    "check_store": "result",
    "open_result": "stored_result",
    "run_of": "stored_result",
    "save_result": "result",
    "work_path": "result",
    "save_rois": "rois",
    "Source": "sources",
    "find_images": "sources",
    "names_of": "sources",
    "StoredEdits": "stored_edits",
    "check_table_format": "tables",
    "save_table": "tables",
    "save_labels_tiff": "labels_tiff",
    "WorkFolder": "work_folder",
}

__all__ = [
    "EXPORTS",
    "BlockPyramid",
    "ChunkReader",
    "Frame",
    "Image",
    "Labels",
    "Overview",
    "ResultWriter",
    "Source",
    "StoredEdits",
    "StoredResult",
    "View",
    "WorkFolder",
    "bundled_models",
    "check_export",
    "check_store",
    "check_table_format",
    "chunk_edges",
    "chunks_of",
    "demonstrations",
    "described_outputs",
    "export_labels",
    "find_images",
    "from_json",
    "from_plain",
    "load_model",
    "measured",
    "names_of",
    "open_result",
    "read_image",
    "read_labels",
    "read_record",
    "run_of",
    "save_geojson",
    "save_labels_tiff",
    "save_model",
    "save_result",
    "save_rois",
    "save_table",
    "scene_names",
    "to_json",
    "to_plain",
    "work_path",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
