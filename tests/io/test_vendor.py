"""Files of microscopes by bioio: a stand-in of its documented interface, and real CZI files where it is installed."""

import sys
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace

import numpy as np
import pytest

from napari_shiftseg import read_image
from napari_shiftseg.cli import main
from napari_shiftseg.errors import ImageError
from napari_shiftseg.io import scene_names
from napari_shiftseg.views import LazyArray

AWKWARD = Path(__file__).resolve().parents[3] / "shared" / "data" / "awkward"
STARTS = {"czi": b"ZISRAWFILE", "nd2": b"\xda\xce\xbe\x0a", "lif": b"p\0\0\0"}
SCENES = {"left": np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6), "right": np.arange(30).reshape(1, 1, 1, 5, 6)}


class Counted(LazyArray):
    """Pixels that count what is read of them."""

    read = 0

    def __init__(self, values):
        self.values = values

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.values.dtype

    def _read(self, ranges):
        made = self.values[np.ix_(*ranges)]
        Counted.read += made.size
        return made


class BioImage:
    """As in bioio 3: five axes, a scene that is set, steps per axis, None where the file does not say."""

    units = MappingProxyType({"T": "second"})
    scale = SimpleNamespace(T=timedelta(seconds=2.5), C=None, Z=2.0, Y=0.5, X=0.25)

    def __init__(self, image, reader=None):
        self.path, self.reader, self.scene = image, reader, "left"

    scenes = tuple(SCENES)

    def set_scene(self, number):
        self.scene = self.scenes[number]

    @property
    def dask_data(self):
        return Counted(SCENES[self.scene].astype(np.uint16))

    @property
    def dims(self):
        return SimpleNamespace(order="TCZYX")

    @property
    def channel_names(self):
        return [np.str_(name) for name in ("DAPI", "GFP", "Cy5")[: self.dask_data.shape[1]]]

    @property
    def dimension_properties(self):
        return SimpleNamespace(**{axis: SimpleNamespace(unit=self.units.get(axis)) for axis in "TCZYX"})


@pytest.fixture
def bioio(monkeypatch):
    """bioio and its readers, which need not be installed."""
    made = ModuleType("bioio")
    made.BioImage = type("BioImage", (BioImage,), {})
    monkeypatch.setitem(sys.modules, "bioio", made)
    for name in ("bioio_czi", "bioio_nd2", "bioio_lif"):
        reader = ModuleType(name)
        reader.Reader = type("Reader", (), {"name": name})
        monkeypatch.setitem(sys.modules, name, reader)
    return made


def written(folder, name):
    path = folder / name
    path.write_bytes(STARTS[path.suffix[1:].lower()] + bytes(64))
    return path


@pytest.mark.parametrize("name", ["a.czi", "a.nd2", "a.lif", "a.CZI"])
def test_axes_steps_channels_and_pixels(bioio, tmp_path, name):
    image = read_image(written(tmp_path, name), scene=0)
    assert (image.axes, image.scale, image.channels) == ("tczyx", (2.5, 1.0, 2.0, 0.5, 0.25), ("DAPI", "GFP", "Cy5"))
    assert image.units == ("second", None, "micrometer", "micrometer", "micrometer")
    assert (image.name, image.note, image.scene) == ("a#0", "", 0)
    np.testing.assert_array_equal(image.data[...], SCENES["left"])


def test_axes_of_one_position_are_left_out_and_scenes_are_chosen(bioio, tmp_path):
    path = written(tmp_path, "a.czi")
    image = read_image(path, scene=1)
    assert (image.axes, image.scale, image.channels, image.name) == ("yx", (0.5, 0.25), (), "a#1")
    np.testing.assert_array_equal(image.data[...], SCENES["right"][0, 0, 0])
    assert "holds 2 images; the first was read" in read_image(path).note
    assert scene_names(path) == ("left", "right")
    with pytest.raises(ImageError, match=r"has 2 scenes \(0-1\), scene 2"):
        read_image(path, scene=2)


def test_pixels_are_read_where_they_are_asked_for(bioio, tmp_path):
    Counted.read = 0
    image = read_image(written(tmp_path, "a.czi"), scene=0)
    assert Counted.read == 0
    assert image.frames(2, (1,))[5].view[0, 2:4, 1:5].shape == (2, 4) and Counted.read == 8


def test_the_content_says_which_reader(bioio, tmp_path):
    used = []
    bioio.BioImage.__init__ = lambda self, image, reader=None: (used.append(reader.name), BioImage.__init__(self, image))[1]
    path = tmp_path / "renamed.dat"
    path.write_bytes(STARTS["lif"] + bytes(64))
    read_image(path)
    assert used == ["bioio_lif"]


def test_units_that_the_file_says_are_taken_and_steps_that_it_does_not_are_none(bioio, tmp_path):
    bioio.BioImage.units = {"Y": "nm", "X": "nm"}
    bioio.BioImage.scale = SimpleNamespace(T=None, C=None, Z=None, Y=200.0, X=200.0)
    image = read_image(written(tmp_path, "a.czi"), scene=0)
    assert image.scale == (1, 1, 1, 200, 200) and image.units == (None, None, None, "nanometer", "nanometer")


def test_other_formats_take_what_reader_there_is(bioio, tmp_path):
    (tmp_path / "a.oir").write_bytes(bytes(64))
    assert read_image(tmp_path / "a.oir", scene=0).units[-1] is None  # nobody knows the unit of a reader that we do not

    class UnsupportedFileFormatError(Exception):
        pass

    def refuse(self, image, reader=None):
        raise UnsupportedFileFormatError(image)

    bioio.BioImage.__init__ = refuse
    with pytest.raises(ImageError, match="Olympus OIR file, which is not read here; convert"):
        read_image(tmp_path / "a.oir")


def test_a_damaged_file_is_one_sentence(bioio, tmp_path):
    def fail(self, image, reader=None):
        raise RuntimeError("segment 3\nis gone")

    bioio.BioImage.__init__ = fail
    with pytest.raises(ImageError, match=r"a\.czi is damaged and cannot be read"):
        read_image(written(tmp_path, "a.czi"))


@pytest.mark.parametrize("missing", ["bioio", "bioio_czi"])
def test_without_bioio_a_sentence_names_the_extra(bioio, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    path = written(tmp_path, "a.czi")
    with pytest.raises(ImageError, match=r'Zeiss CZI file.*pip install "napari-shiftseg\[bioio\]"'):
        read_image(path)
    assert scene_names(path) == ("a",)


def test_info_lists_the_scenes(bioio, tmp_path, capsys):
    path = written(tmp_path, "a.czi")
    assert main(["info", "--image", str(path), "--scene", "1"]) == 0
    assert "2, of which --scene takes one: 0 left, 1 right" in capsys.readouterr().out


# -- real files -------------------------------------------------------------------------------------------------------

REAL = {
    "NEUBIAS__xyz__multiple_images.czi": ("zyx", (2, 251, 251), (0.3, 0.195644, 0.195644), 2),
    "JahnJ__MDCK_Myo1c_KO_Zo_1.czi": ("yx", (1040, 1388), (0.102381, 0.102381), 1),
}


@pytest.mark.parametrize("name", REAL)
def test_real_czi_files(name):
    pytest.importorskip("bioio_czi", reason="bioio-czi is not installed: pip install napari-shiftseg[bioio]")
    if not (AWKWARD / name).exists():
        pytest.skip("the real images are not beside this checkout")
    axes, shape, scale, count = REAL[name]
    assert len(scene_names(AWKWARD / name)) == count
    means = set()
    for scene in range(count):
        image = read_image(AWKWARD / name, scene=scene)
        assert (image.axes, image.data.shape, image.units) == (axes, shape, ("micrometer",) * len(axes))
        np.testing.assert_allclose(image.scale, scale, rtol=1e-5)
        means.add(float(np.asarray(image.data[...]).mean()))
    assert len(means) == count  # each scene has pixels of its own
