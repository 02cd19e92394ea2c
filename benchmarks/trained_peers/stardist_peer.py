"""StarDist as its example notebooks train it, until a processor time is over.

Network, loss, learning rate and batches are the defaults of `Config2D` and `Config3D`; rays, grid, patches, normalisation and
augmentation those of the example notebooks (32 rays and every second pixel in 2D; 96 rays in 3D). Of the training images 15 %
choose the weights and then the two thresholds (`optimize_thresholds`), as there. The notebooks' learning rate halves after 40
of 400 epochs without a gain, here after a tenth of the epochs for which there is time.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from accuracy_runs import Clock, Pair, Run, channels_of, held_apart, written
from csbdeep.utils import normalize
from stardist import Rays_GoldenSpiral, calculate_extents, fill_label_holes
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

PACKAGES = ("stardist", "csbdeep", "tensorflow-cpu", "tensorflow", "keras", "numpy")
MODEL = "model"  # the folder of StarDist's own files
TILE = {2: 128, 3: 64}  # px, edge of the tiles that are compared with whole images
SAVED = 120.0  # s between checkpoints


def network_input(image: np.ndarray) -> np.ndarray:
    """Percentiles 1 and 99.8 become 0 and 1, for each channel alone."""
    axes = tuple(range(image.ndim - (channels_of(image) > 1)))
    return normalize(image, 1, 99.8, axis=axes).astype(np.float32)


def augmented(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flips and turns (in 3D none of the first axis), brightness and noise."""
    rng = np.random.default_rng(np.random.randint(1 << 31))  # noqa: NPY002 -- StarDist seeds the old generator
    flat = [axis for axis in range(y.ndim) if y.ndim == 2 or axis > 0]
    if rng.random() < 0.5:
        x, y = x.swapaxes(*flat), y.swapaxes(*flat)
    for axis in range(y.ndim):
        if rng.random() < 0.5:
            x, y = np.flip(x, axis), np.flip(y, axis)
    x = x * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2)
    return x + 0.02 * rng.uniform() * rng.standard_normal(x.shape), y


def new_model(images: list[np.ndarray], truths: list[np.ndarray], folder: Path) -> Any:
    """An untrained model for images of this kind."""
    channels, ndim = channels_of(images[0]), truths[0].ndim
    smallest = np.min([truth.shape for truth in truths], axis=0)
    if ndim == 2:
        patch = tuple(int(min(256, edge // 16 * 16)) for edge in smallest)
        config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=channels, train_patch_size=patch, train_tensorboard=False)
        return StarDist2D(config, name=MODEL, basedir=str(folder))
    extents = calculate_extents(truths)
    anisotropy = tuple(np.max(extents) / extents)
    patch = tuple(int(min(wish, edge // 16 * 16)) for wish, edge in zip((48, 96, 96), smallest, strict=True))
    config = Config3D(
        rays=Rays_GoldenSpiral(96, anisotropy=anisotropy),
        grid=tuple(1 if a > 1.5 else 2 for a in anisotropy),
        anisotropy=anisotropy,
        n_channel_in=channels,
        train_patch_size=patch,
        train_batch_size=2,
        train_tensorboard=False,
    )
    return StarDist3D(config, name=MODEL, basedir=str(folder))


def read(pairs: list[Pair]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Normalised images, and truths without holes."""
    return [network_input(pair.image()) for pair in pairs], [fill_label_holes(pair.truth()) for pair in pairs]


class ByTheClock(keras.callbacks.Callback):
    """Ends the training, keeps checkpoints and the weights of earlier times."""

    def __init__(self, run: Run, clock: Clock, others: list[Any]) -> None:
        super().__init__()
        self.run, self.clock, self.saved = run, clock, clock.spent
        self.plateau = next(one for one in others if isinstance(one, keras.callbacks.ReduceLROnPlateau))
        self.best = next(one for one in others if isinstance(one, keras.callbacks.ModelCheckpoint))
        self.path, self.model_folder = run.folder / "checkpoint.npz", run.folder / MODEL
        self.first_epoch: float | None = None

    def restore(self, model: Any) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        with np.load(self.path) as kept:
            model.optimizer.build(model.trainable_variables)
            for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
                for index, variable in enumerate(variables):
                    variable.assign(kept[f"{kind}{index}"])
            self.resumed = kept["plateau"].tolist()

    def on_train_begin(self, logs: Any = None) -> None:
        # both callbacks forget what they know when a training begins
        if hasattr(self, "resumed"):
            wait, best, patience, saved = self.resumed
            if np.isfinite(saved):  # an epoch was over
                self.plateau.wait, self.plateau.best, self.plateau.patience = int(wait), best, int(patience)
                self.best.best, self.first_epoch = saved, 0.0
        self.started = self.clock.spent

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.run.steps += 1
        due = self.run.keep_weights(self.clock, self.copy)
        if due or self.clock.spent - self.saved > SAVED:
            self.save()
        if self.clock.share >= 1:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.first_epoch is None:
            self.first_epoch = self.clock.spent - self.started
            self.plateau.patience = max(1, round(self.clock.budget / self.first_epoch / 10))
        logs = logs or {}
        said = [round(float(logs.get(name, np.nan)), 5) for name in ("loss", "val_loss")]
        self.run.losses.append([round(self.clock.spent, 1), *said])
        print(f"step {self.run.steps}, {self.clock.spent:.0f} s: loss {said[0]}, held {said[1]}", flush=True)
        self.save()

    def copy(self, folder: Path) -> None:
        """The best weights so far, as StarDist would end with."""
        best = self.model_folder / "weights_best.h5"
        if best.exists():
            shutil.copy(best, folder)
        else:
            self.model.save_weights(str(folder / best.name))
        shutil.copy(self.model_folder / "config.json", folder)

    def save(self) -> None:
        self.saved = self.clock.spent
        kinds = (("model", self.model.variables), ("optimizer", self.model.optimizer.variables))
        arrays = {f"{kind}{k}": np.asarray(one) for kind, variables in kinds for k, one in enumerate(variables)}
        over = (self.model_folder / "weights_best.h5").exists()
        best = self.best.best if over else np.nan
        plateau = np.array([self.plateau.wait, self.plateau.best, self.plateau.patience, best], np.float64)
        written(self.path, lambda part: np.savez(part, plateau=plateau, **arrays))
        self.run.seconds = self.clock.spent
        self.run.save()


def learn(pairs: list[Pair], run: Run, clock: Clock) -> None:
    """Train until the time is over, then choose the thresholds of all weights that were kept."""
    one_thread()
    used, held = (read(part) for part in held_apart(pairs))
    if clock.share < 1:
        model = new_model(*used, run.folder)
        model.prepare_for_training()
        by_the_clock = ByTheClock(run, clock, model.callbacks)
        by_the_clock.restore(model.keras_model)
        model.callbacks.append(by_the_clock)
        fit = model.keras_model.fit
        model.keras_model.fit = lambda *data, **wishes: fit(
            *data, **{**wishes, "verbose": 0}
        )  # a line of its own per epoch is enough
        run.images, run.parameters = len(used[0]), int(model.keras_model.count_params())
        run.settings = {
            name: getattr(model.config, name)
            for name in ("n_rays", "grid", "train_patch_size", "train_batch_size", "train_learning_rate", "unet_n_filter_base")
        }
        model.train(*used, validation_data=held, augmenter=augmented, seed=run.steps, epochs=1_000_000)
        # the last part of an epoch may have been the best
        last = sorted(run.folder.glob("at_*"))[-1]
        shutil.copy(run.folder / MODEL / "weights_best.h5", last / "weights_best.h5")
        run.seconds = clock.spent
        run.save()
    started = time.process_time()
    for folder in sorted(run.folder.glob("at_*")):
        if not (folder / "thresholds.json").exists():
            loaded(folder).optimize_thresholds(*held)
    run.calibration = {**loaded(folder).thresholds._asdict(), "seconds": round(time.process_time() - started, 1)}
    run.save()


def one_thread() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def loaded(folder: Path) -> Any:
    """The model that lies in a folder."""
    three = '"n_dim": 3' in (folder / "config.json").read_text(encoding="utf-8")
    model = (StarDist3D if three else StarDist2D)(None, name=folder.name, basedir=str(folder.parent))
    model.load_weights("weights_best.h5")
    return model


class StarDistPredictor:
    """StarDist with its chosen thresholds: the whole image at once, or by tiles (`n_tiles`)."""

    usual_way = "whole"

    def __init__(self, folder: Path, run: Run) -> None:
        one_thread()
        self.model = loaded(folder)
        tile = TILE[self.model.config.n_dim]
        self.settings: dict[str, Any] = {**self.model.thresholds._asdict(), "other_tile": tile}

    def usual(self, image: np.ndarray) -> np.ndarray:
        return self.model.predict_instances(network_input(image))[0]

    def other(self, image: np.ndarray) -> np.ndarray:
        tile = self.settings["other_tile"]
        tiles = [-(-edge // tile) for edge in image.shape[: self.model.config.n_dim]]
        counts = (*tiles, 1) if channels_of(image) > 1 else tuple(tiles)
        return self.model.predict_instances(network_input(image), n_tiles=counts, show_tile_progress=False)[0]
