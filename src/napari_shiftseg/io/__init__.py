"""Files in and out: images, models, results. Nothing else in the package touches a file."""

from napari_shiftseg.io.block_pyramid import BlockPyramid
from napari_shiftseg.io.chunk_reader import ChunkReader, chunks_of
from napari_shiftseg.io.image import Frame, Image, View, read_image
from napari_shiftseg.io.model import bundled_models, demonstrations, load_model, save_model
from napari_shiftseg.io.overview import Overview
from napari_shiftseg.io.plain import from_json, from_plain, to_json, to_plain
from napari_shiftseg.io.result import ResultWriter, StoredResult, open_result, save_labels_tiff, save_result
from napari_shiftseg.io.store import chunk_edges
from napari_shiftseg.io.work_folder import WorkFolder, work_path
from napari_shiftseg.io.writer import check_store

__all__ = [
    "BlockPyramid",
    "ChunkReader",
    "Frame",
    "Image",
    "Overview",
    "ResultWriter",
    "StoredResult",
    "View",
    "WorkFolder",
    "bundled_models",
    "check_store",
    "chunk_edges",
    "chunks_of",
    "demonstrations",
    "from_json",
    "from_plain",
    "load_model",
    "open_result",
    "read_image",
    "save_labels_tiff",
    "save_model",
    "save_result",
    "to_json",
    "to_plain",
    "work_path",
]
