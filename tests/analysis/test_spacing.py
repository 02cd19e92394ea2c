"""A lattice is seen where there is one, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest

import napari_shiftseg
from napari_shiftseg import synthetic
from napari_shiftseg.analysis.traits import lattice_spacing

LATTICES = {"on the period": 16, "off the period": 15, "per axis": (15, 20)}


@pytest.mark.parametrize("noise", [0, 0.3])
@pytest.mark.parametrize("spacing", LATTICES.values(), ids=LATTICES)
def test_the_spacing_of_disks_is_found(spacing, noise):
    image = synthetic.disks((256, 256), spacing, 5, noise=noise).image
    assert lattice_spacing(1000 + 50 * image) == (spacing if isinstance(spacing, tuple) else (spacing,) * 2)


def test_a_hot_pixel_hides_no_lattice():
    image = synthetic.disks((128, 128), 16, 5).image.copy()
    image[40, 50] = 1e4
    assert lattice_spacing(image) == (16, 16)


def test_a_3d_lattice_is_found():
    assert lattice_spacing(synthetic.disks((48, 64, 64), 16, 5).image) == (16, 16, 16)


def sample_nuclei():
    tifffile = pytest.importorskip("tifffile")
    return tifffile.imread(next(Path(napari_shiftseg.__file__).parent.rglob("nuclei.tif")))


NONE = {
    "nuclei": sample_nuclei,
    "noise": lambda: np.random.default_rng(0).random((300, 300)),
    "constant": lambda: np.ones((50, 50)),
    "ramp": lambda: np.add.outer(np.arange(90.0), np.arange(90.0)),
    "stripes": lambda: np.tile(np.arange(120) % 12 < 6, (120, 1)),
    "two pixels": lambda: np.eye(2),
}


@pytest.mark.parametrize("make", NONE.values(), ids=NONE)
def test_no_lattice_is_seen_in_other_images(make):
    assert lattice_spacing(make()) is None
