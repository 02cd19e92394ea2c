"""The U-Net on torch: network, loss, training and compliant prediction."""

from napari_shiftseg.machine import free_memory
from napari_shiftseg.network.crops import Augmentation, TrainImage
from napari_shiftseg.network.device import Device, Precision, choose_device, choose_precision, stream_wish
from napari_shiftseg.network.loss import discriminative_loss, gaussian_loss
from napari_shiftseg.network.normalise import Limits, Normalisation, Scaling
from napari_shiftseg.network.predict import Prediction, choose_stream, predict, predict_steps
from napari_shiftseg.network.rate import Rates, measure_pass, measure_rates
from napari_shiftseg.network.record import Clustering, Known, Model, ModelRecord
from napari_shiftseg.network.train import TrainSettings, train, train_steps, training_of, training_violations
from napari_shiftseg.network.unet import UNet
from napari_shiftseg.network.windows import ConstantTiles, needed_pixels, read_window

__all__ = [
    "Augmentation",
    "Clustering",
    "ConstantTiles",
    "Device",
    "Known",
    "Limits",
    "Model",
    "ModelRecord",
    "Normalisation",
    "Precision",
    "Prediction",
    "Rates",
    "Scaling",
    "TrainImage",
    "TrainSettings",
    "UNet",
    "choose_device",
    "choose_precision",
    "choose_stream",
    "discriminative_loss",
    "free_memory",
    "gaussian_loss",
    "measure_pass",
    "measure_rates",
    "needed_pixels",
    "predict",
    "predict_steps",
    "read_window",
    "stream_wish",
    "train",
    "train_steps",
    "training_of",
    "training_violations",
]
