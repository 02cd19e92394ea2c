"""A model says what it knows, and a run whether its image is like that: of pixels before it, and of objects after it."""

import csv
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from skimage.transform import rescale

from napari_shiftseg import SegmentSettings, load_model, read_image, save_model, segment, synthetic
from napari_shiftseg.errors import ModelError
from napari_shiftseg.events import drain
from napari_shiftseg.io import Image, bundled_models, demonstrations, from_plain
from napari_shiftseg.network import Known, Model, ModelRecord, Normalisation, TrainImage, UNet
from napari_shiftseg.segmentation import decide, learned_steps, likeness, look
from napari_shiftseg.segmentation.likeness import compare_result

SAMPLE = Path(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
POLARITIES = {"cells-phase": "dark", "nuclei-he": "dark", "axons-sem": "dark"}


@pytest.fixture(scope="module")
def nuclei():
    return load_model("nuclei")


@pytest.fixture(scope="module")
def sample():
    return np.asarray(read_image(SAMPLE).data)


def traits_of(told):
    return {one.trait for one in told.differences}


# -- models -----------------------------------------------------------------------------------------------------------


def test_every_bundled_model_states_what_it_knows():
    for name in bundled_models():
        model = load_model(name)
        known = model.record.known
        assert (known.ndim, known.channels) == (model.spec.ndim, model.spec.in_channels), name
        assert known.kind and known.images and known.objects and known.polarity == POLARITIES.get(name, "bright"), name
        assert len(known.traits) == known.channels and len(known.traits[0]) > 20 and len(known.found) > 8, name
        assert 0 < known.diameters[0] <= known.diameters[1], name
        assert known.demonstration == name.startswith("disks-"), name


def test_demonstrations_stand_apart_and_come_last():
    shown = demonstrations()
    assert shown and bundled_models()[-len(shown) :] == shown and "nuclei" not in shown


def test_a_statement_survives_its_file_and_older_files_have_none(tmp_path):
    known = Known(ndim=2, channels=1, kind="dots", polarity="dark", diameters=(3.0, 9.5), traits=({"lean": (0.0, 0.5)},))
    net = UNet(load_model("nuclei").spec)
    path = save_model(tmp_path / "m", net, ModelRecord(window=(196, 196), known=known))
    assert load_model(path).record.known == known
    assert "dots of 3 to 9.5 px, dark on bright, 2D, 1 channel" in known.describe()
    older = ModelRecord(window=(196, 196)).to_dict()
    del older["known"]
    assert from_plain(ModelRecord, older).known is None
    for broken in ({"ndim": 2}, {"ndim": 2, "channels": 1, "traits": [{"lean": 1}]}, "text"):
        with pytest.raises(ModelError):
            from_plain(ModelRecord, older | {"known": broken}, error=ModelError)


def test_training_data_are_stated_from_images_truth_and_results():
    """Dark objects, in two sizes, in two channels: all of it is in the statement."""
    rng = np.random.default_rng(0)
    images = []
    for seed in range(3):
        drawn = synthetic.disks((120, 140), 24, 5 + seed, offset=(4, 4))
        pixels = np.stack([1 - drawn.image, 1 - 0.5 * drawn.image]) + rng.normal(0, 0.01, (2, 120, 140))
        images.append(TrainImage.from_arrays(pixels, drawn.labels, Normalisation()))
    net = UNet(type(load_model("nuclei").spec)(levels=1, features=2, in_channels=2, foreground=True)).eval()
    model = Model(spec=net.spec, module=net, record=ModelRecord(window=(8, 8)))
    known = drain(learned_steps(images, model, "dark disks"))
    assert (known.polarity, known.images, known.channels, len(known.traits)) == ("dark", 3, 2, 2)
    assert known.diameters == pytest.approx((10, 14), abs=1.2)
    assert known == drain(learned_steps(images, model, "dark disks")), "the same images make the same statement"
    assert json.loads(json.dumps(known.describe()))


# -- before a run -----------------------------------------------------------------------------------------------------


def test_the_sample_of_a_model_is_like_what_it_knows(nuclei, sample):
    told = likeness(SAMPLE, nuclei)
    assert (told.verdict, told.level, told.remedy) == ("like", "pass", "")
    assert told.text == "Like what nuclei knows: fluorescent nuclei."
    assert likeness(sample, nuclei) == told
    lattice = synthetic.make(synthetic.preset("fig3").recipe).image
    shown = likeness(lattice, "disks-fig3")
    assert shown.verdict == "like" and "(a demonstration)" in shown.text
    assert likeness(sample, "disks-fig3").verdict == "unlike"


@pytest.mark.parametrize("name", ["wide", "cropped", "counts", "float", "mirrored"])
def test_other_forms_of_the_same_picture_are_as_much_alike(nuclei, sample, name):
    made = {
        "wide": np.tile(sample, (1, 3)),
        "cropped": sample[100:400, 200:500],
        "counts": sample.astype(np.uint16) * 200 + 100,
        "float": sample / 255,
        "mirrored": sample[::-1, ::-1],
    }[name]
    assert likeness(made, nuclei).verdict == "like"


def test_an_inverted_image_is_told_to_be_dark_on_bright_with_its_remedy(nuclei, sample):
    told = likeness(255 - sample, nuclei)
    assert told.differences[0].text == "dark objects on a bright background"
    assert told.remedy.startswith("Invert it") and told.text.startswith("Unlike what nuclei knows")
    assert len(told.differences) > 3 and all(one.low <= one.high for one in told.differences)


def test_a_zoomed_image_is_told_the_scale_that_helps(nuclei, sample):
    told = likeness(rescale(sample[:260, :348], 4, order=1, preserve_range=True), nuclei)
    assert (
        told.verdict == "unlike"
        and told.remedy == "Scale it by 0.25 (Object diameter, or --diameter auto): it is like that then."
    )


@pytest.mark.parametrize("kind", ["noise", "empty", "grating", "text"])
def test_what_holds_no_objects_is_unlike(nuclei, kind):
    y, x = np.mgrid[:400, :400]
    image = {
        "noise": np.random.default_rng(0).normal(size=(400, 400)),
        "empty": np.full((400, 400), 7.0),
        "grating": np.sin(x / 4 + y / 9),
        "text": np.kron(np.random.default_rng(0).random((50, 50)) > 0.3, np.ones((8, 8))),
    }[kind]
    told = likeness(image.astype(np.float32), nuclei)
    assert told.verdict == "unlike" and told.remedy


def test_a_stack_and_channels_are_told_whatever_they_look_like(nuclei, sample):
    stack = Image.from_array(np.stack([sample] * 4), axes="zyx")
    told = likeness(stack, nuclei)
    assert traits_of(told) == {"dimensions"} and "4 planes" in told.text and "one by one" in told.remedy
    series = Image.from_array(np.stack([sample] * 4), axes="tyx")
    assert likeness(series, nuclei).verdict == "like"
    colours = Image.from_array(np.stack([sample] * 3, axis=-1), axes="yxc")
    told = likeness(colours, nuclei)
    assert told.differences[0].trait == "channels" and "3 channels" in told.text
    assert likeness(colours, nuclei, SegmentSettings(channels=(1,))).verdict == "like"


def test_a_model_without_a_statement_says_so(sample, tmp_path):
    net = UNet(type(load_model("nuclei").spec)(levels=1, features=2))
    path = save_model(tmp_path / "bare", net, ModelRecord(window=(8, 8)))
    told = likeness(sample, path)
    assert (told.verdict, told.differences) == ("unknown", ()) and "bare does not state" in told.text


class Counted:
    """An array of one value that counts how many pixels are read of it."""

    def __init__(self, shape):
        self.shape, self.dtype, self.ndim, self.read = shape, np.dtype(np.uint16), len(shape), 0

    def __getitem__(self, key):
        lengths = [len(range(*part.indices(n))) for part, n in zip(key, self.shape, strict=True) if isinstance(part, slice)]
        self.read += int(np.prod(lengths))
        return np.full(lengths, 9, np.uint16)


def test_of_a_huge_image_little_is_read(nuclei):
    huge = Counted((200_000, 200_000))
    assert likeness(Image.from_array(huge, axes="yx"), nuclei).verdict == "unlike"
    assert huge.read < 20_000_000


# -- after a run ------------------------------------------------------------------------------------------------------


def test_a_record_says_it_of_image_and_objects_whatever_the_tiles(nuclei, sample):
    crop = sample[:300, :340]
    results = [segment(crop, nuclei, SegmentSettings(write=write)) for write in (64, 1000)]
    told = [result.record["likeness"] for result in results]
    assert told[0] == told[1]
    assert (told[0]["verdict"], told[0]["objects"], told[0]["differences"]) == ("like", True, [])
    assert told[0]["text"].endswith("Its objects are, too.")
    json.dumps(told)


def test_a_run_that_finds_nothing_says_so(nuclei):
    noise = np.random.default_rng(0).normal(1000, 3, (256, 256)).astype(np.float32)
    noise[:4, :4] = 60_000  # the scaling leaves the rest dark
    told = segment(noise, nuclei, SegmentSettings(threshold=0.999)).record["likeness"]
    assert told["verdict"] == "unlike" and "objects" in {one["trait"] for one in told["differences"]}


def test_objects_can_be_unlike_in_an_image_that_is_like(nuclei, sample):
    """The truth is; the background as an object, squares, crumbs and one large object are not."""
    job = look(decide(sample, nuclei, SegmentSettings()))
    truth = np.asarray(read_image(SAMPLE.with_name("nuclei_truth.tif")).data)
    y, x = np.mgrid[: sample.shape[0], : sample.shape[1]]
    wrong = {
        "background": np.where(truth > 0, 0, 1 + (y // 40) * 100 + x // 40),
        "squares": 1 + (y // 12) * 1000 + x // 12,
        "crumbs": np.where(truth > 0, 1 + (y // 3) * 1000 + x // 3, 0),
        "one": np.ones_like(truth),
        "none": np.zeros_like(truth),
    }
    assert compare_result(job, truth).verdict == "like"
    for name, labels in wrong.items():
        told = compare_result(job, labels.astype(np.uint32))
        assert told.verdict == "unlike" and told.remedy and told.objects, name


def test_a_run_out_of_core_says_the_same_of_the_image(nuclei, sample, tmp_path):
    result = segment(sample, nuclei, SegmentSettings(out_of_core=True), tmp_path / "a.ome.zarr")
    assert result.record["likeness"]["verdict"] == "like" and result.record["likeness"]["objects"]


# -- real images ------------------------------------------------------------------------------------------------------


def test_validation_images_of_the_known_kind_raise_no_alarm(nuclei, shared_data):
    """All 64 of both folders, before a run."""
    unlike, count = [], 0
    for kind in ("dsb2018_fluo", "bitdepth_dapi16"):
        with open(shared_data / kind / "meta.csv", encoding="utf-8") as lines:
            names = [row["id"] for row in csv.DictReader(lines) if row["split"] == "val"]
        for name in names:
            told = likeness(shared_data / kind / "images" / f"{name}.tif", nuclei)
            count += 1
            unlike.extend([f"{name}: {told.text}"] if told.differences else [])
    assert count == 64 and len(unlike) <= 0.02 * count, unlike


@pytest.mark.parametrize(
    "kind",
    [
        "axon_sem",
        "dsb2018_histology_rgb",
        "fibsem_neurons_3d",
        "mdck_zo1_epithelium",
        "omnipose_bacteria",
        "usiigaci_t98g_phase",
    ],
)
def test_other_kinds_raise_one(nuclei, shared_data, kind):
    """Four of each, a plane or a channel where there are several, before a run."""
    for path in sorted((shared_data / kind / "images").iterdir())[:4]:
        image = read_image(path)
        pixels = np.asarray(image.data)
        if pixels.ndim == 3:
            assert likeness(image, nuclei).verdict == "unlike"
            pixels = pixels[..., 1] if "c" in image.axes else pixels[len(pixels) // 2]
        told = likeness(pixels, nuclei)
        assert told.verdict == "unlike", (path.name, told.text)
