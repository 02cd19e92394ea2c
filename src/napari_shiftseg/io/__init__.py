"""Files in and out: images, models, results. Nothing else in the package touches a file."""

from napari_shiftseg.io.chunk_reader import ChunkReader
from napari_shiftseg.io.export import EXPORTS, check_export, export_labels, measured
from napari_shiftseg.io.geojson import save_geojson
from napari_shiftseg.io.image import Frame, Image, read_image, scene_names
from napari_shiftseg.io.labels import Labels, read_labels
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
from napari_shiftseg.io.result import ResultWriter, StoredResult, check_store, open_result, save_result, work_path
from napari_shiftseg.io.rois import save_rois
from napari_shiftseg.io.sources import Source, find_images, names_of
from napari_shiftseg.io.stored_edits import StoredEdits
from napari_shiftseg.io.tables import check_table_format, save_table
from napari_shiftseg.io.tiff import save_labels_tiff
from napari_shiftseg.io.work_folder import WorkFolder
from napari_shiftseg.views import View, chunks_of

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
