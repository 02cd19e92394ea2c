"""The model that knows images of a kind is named: the one that knows them best, and none where none does."""

import json
from dataclasses import replace
from importlib import import_module
from importlib.resources import files

import numpy as np
import pytest

from napari_shiftseg import SegmentSettings, load_model, read_image, save_model, segment, suggest_models
from napari_shiftseg.cli import main
from napari_shiftseg.io import Image, read_record
from napari_shiftseg.network import Known, Model, ModelRecord, UNet
from napari_shiftseg.segmentation import likeness

MODULE = import_module(likeness.__module__)

SAMPLE = files("napari_shiftseg") / "samples" / "nuclei.tif"


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """`bundle(name=Known(...), ...)`: instead of the models of the package, networks that know so much."""

    def make(**knowledge):
        names = []
        for name, known in knowledge.items():
            spec = replace(
                load_model("nuclei").spec, ndim=known.ndim, in_channels=known.channels, embedding_dim=3, levels=1, features=2
            )
            net = UNet(spec).eval()
            record = ModelRecord(window=(12,) * known.ndim, known=known)
            names.append(str(save_model(tmp_path / name, Model(spec=net.spec, module=net, record=record))))
        monkeypatch.setattr(MODULE, "bundled_models", lambda: tuple(names))
        MODULE._cards.cache_clear()
        return dict(zip(knowledge, names, strict=True))

    yield make
    MODULE._cards.cache_clear()


def knows(low, high, *, ndim=2, channels=1, **options):
    """Backgrounds between two values, in every channel."""
    return Known(ndim=ndim, channels=channels, kind="flat", traits=({"background": (low, high)},) * channels, **options)


def flat(middle, shape=(96, 96), seed=0):
    """An image whose background lies at a share of its range."""
    pixels = np.full(shape, middle, np.float32)
    rng = np.random.default_rng(seed)
    few = rng.random(shape)
    pixels[few < 0.04], pixels[few > 0.96] = 0, 1
    return pixels


def test_the_sample_is_for_nuclei_and_the_networks_of_the_package_are_not_touched(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a network ran")

    monkeypatch.setattr(UNet, "forward", refuse)
    assert suggest_models(SAMPLE)[0] == "nuclei"
    assert suggest_models(np.asarray(read_image(SAMPLE).data))[0] == "nuclei"


def test_the_model_that_knows_the_image_is_named_and_of_several_the_one_whose_images_are_most_alike(bundle):
    paths = bundle(wide=knows(-1, 1), dark=knows(0.1, 0.3), bright=knows(0.6, 0.9))
    assert suggest_models(flat(0.2)) == (paths["dark"], paths["wide"])
    assert suggest_models(flat(0.75)) == (paths["bright"], paths["wide"])
    assert suggest_models(flat(0.45)) == (paths["wide"],)
    bundle(dark=knows(0.1, 0.3))
    assert suggest_models(flat(0.75)) == ()


def test_channels_and_axes_decide_before_intensities(bundle):
    paths = bundle(grey=knows(-9, 9), colours=knows(-9, 9, channels=3), volumes=knows(-9, 9, ndim=3))
    colours = Image.from_array(np.stack([flat(0.2)] * 3), axes="cyx")
    assert suggest_models(colours) == (paths["colours"],)
    volume = Image.from_array(np.stack([flat(0.2, seed=k) for k in range(48)]), axes="zyx")
    assert suggest_models(volume) == (paths["volumes"],)
    series = Image.from_array(np.stack([flat(0.2, seed=k) for k in range(4)]), axes="tyx")
    assert suggest_models(series) == (paths["grey"],)
    assert suggest_models(Image.from_array(np.stack([flat(0.2)] * 2), axes="cyx")) == ()


def test_demonstrations_and_models_that_state_nothing_are_never_named(bundle):
    bundle(shown=knows(-9, 9, demonstration=True), silent=Known(ndim=2, channels=1, kind="unknown"))
    assert suggest_models(flat(0.2)) == ()


def test_where_the_chosen_model_knows_the_image_nothing_is_suggested_and_else_the_remedy_is_the_other_model(bundle):
    paths = bundle(dark=knows(0.1, 0.3), bright=knows(0.6, 0.9))
    alike = likeness(flat(0.2), paths["dark"])
    assert (alike.verdict, alike.suggested) == ("like", ())
    told = likeness(flat(0.2), paths["bright"])
    assert told.suggested == (paths["dark"],)
    assert told.remedy == f"Use the model {paths['dark']}: it is like what that knows." and told.text.endswith(told.remedy)
    none = likeness(flat(0.45), paths["bright"])
    assert none.suggested == () and "train one" in none.remedy
    record = segment(flat(0.2), paths["bright"], SegmentSettings(device="cpu")).record
    assert record["model"]["name"] == "bright", "a model is suggested, never taken"
    assert record["likeness"]["suggested"] == [paths["dark"]]


def test_an_image_that_is_upside_down_is_inverted_and_not_given_to_a_model_that_knows_it_less_well(bundle):
    paths = bundle(dark=knows(0.15, 0.25), anything=knows(-1, 2))
    told = likeness(1 - flat(0.2), paths["dark"])
    assert told.suggested == () and told.remedy.startswith("Invert it")
    paths = bundle(dark=knows(-1, 0.4), bright=knows(0.75, 0.85))
    assert likeness(1 - flat(0.2), paths["dark"]).suggested == (paths["bright"],), "which knows it better than the inverted one"


def test_a_model_for_another_number_of_channels_leaves_the_suggestion_to_others(bundle):
    paths = bundle(grey=knows(-9, 9), colours=knows(-9, 9, channels=3))
    told = likeness(Image.from_array(np.stack([flat(0.2)] * 3), axes="cyx"), paths["grey"])
    assert told.suggested == (paths["colours"],) and told.differences[0].trait == "channels"
    chosen = SegmentSettings(channels=(1,))
    assert likeness(Image.from_array(np.stack([flat(0.2)] * 3), axes="cyx"), paths["grey"], chosen).suggested == ()


def test_the_command_names_it(bundle, tmp_path, capsys):
    paths = bundle(dark=knows(0.1, 0.3), wide=knows(-1, 1))
    np.save(tmp_path / "image.npy", flat(0.2))
    assert main(["info", "--image", str(tmp_path / "image.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suggested"] == [paths["dark"], paths["wide"]]
    bundle(dark=knows(0.1, 0.3))
    np.save(tmp_path / "image.npy", flat(0.75))
    assert main(["info", "--image", str(tmp_path / "image.npy")]) == 0
    assert "no bundled model knows such images" in capsys.readouterr().out


def test_a_record_is_read_without_weights(tmp_path, monkeypatch):
    record = load_model("nuclei").record
    monkeypatch.setattr(UNet, "__init__", lambda *_, **__: 1 / 0)
    assert read_record("nuclei") == record


def test_a_colour_image_of_which_one_channel_was_chosen_is_given_to_the_model_of_all_its_channels(bundle):
    """Though that channel, upside down, is what the chosen model knows well, and the other model knows much else."""
    paths = bundle(dark=knows(0.15, 0.25), colours=knows(-1, 2, channels=3))
    image = Image.from_array(np.stack([1 - flat(0.2)] * 3), axes="cyx")
    for channel in range(3):
        told = likeness(image, paths["dark"], SegmentSettings(channels=(channel,)))
        assert told.suggested == (paths["colours"],), told.remedy
