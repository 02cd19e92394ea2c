"""Files in and out: images, models, results. Nothing else in the package touches a file."""

from napari_shiftseg.io.image import Frame, Image, View, read_image
from napari_shiftseg.io.model import bundled_models, load_model, save_model
from napari_shiftseg.io.result import ResultWriter, StoredResult, open_result, save_labels_tiff, save_result

__all__ = [
    "Frame",
    "Image",
    "ResultWriter",
    "StoredResult",
    "View",
    "bundled_models",
    "load_model",
    "open_result",
    "read_image",
    "save_labels_tiff",
    "save_model",
    "save_result",
]
