"""Bundled models come from the commands that are documented, and data are named as these commands name them."""

import csv
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_shiftseg import UNetSpec, load_model, save_model
from napari_shiftseg.cli import build_parser
from napari_shiftseg.cli.pairs import find_pairs
from napari_shiftseg.cli.train import train_settings
from napari_shiftseg.io import bundled_models
from napari_shiftseg.network import TrainSettings, UNet, training_violations
from napari_shiftseg.network.loss import object_weights

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("nuclei-he", "cells-phase", "axons-sem", "nuclei-3d", "nuclei-codes")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return importlib.import_module


def settings_of(training, name):
    words = training.words(name, Path("data"), Path("runs"))
    assert words[:2] == ["shiftseg", "train"]
    return train_settings(build_parser("train").parse_args(words[2:]))


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_training_keeps_every_rule_and_says_what_objects_are_near_and_large(script, name):
    settings = settings_of(script("trainings").TRAININGS[name], name)
    assert training_violations(settings) == ()
    assert settings.loss == "gaussian" and settings.spec.seeds and settings.spec.foreground
    assert settings.spec.coordinates == (name != "nuclei-codes")


@pytest.mark.parametrize("name", sorted({*NAMES} & {*bundled_models()}))
def test_a_bundled_model_was_trained_by_its_documented_command(script, name):
    training, model = script("trainings").TRAININGS[name], load_model(name)
    wanted, record = settings_of(training, name), model.record
    assert replace(wanted.spec, in_channels=model.spec.in_channels) == model.spec
    assert (record.steps, record.batch, record.seed) == (training.steps, wanted.batch, wanted.seed)
    assert record.settings["average"] == training.average
    assert record.known.kind == training.kind and all(folder in record.data for folder in training.data)
    card = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    said = " ".join(card.replace("\\\n", " ").split())
    assert " ".join((training.common, training.options, f"--average {training.average:g} --steps {training.steps}")) in said


def test_several_splits_are_taken_and_each_image_once(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in "abcd":
            tifffile.imwrite(tmp_path / kind / f"{name}.tif", np.zeros((4, 4), np.uint8))
    (tmp_path / "meta.csv").write_text("id,split\na,train\nb,extra\nc,val\nd,train,extra\n")
    assert [pair.name for pair in find_pairs([tmp_path], "train,extra")] == ["a", "b", "d"]
    assert [pair.name for pair in find_pairs([tmp_path], " extra , val")] == ["b", "c"]
    assert [pair.name for pair in find_pairs([tmp_path], "train")] == ["a", "d"]


def test_drawn_volumes_are_the_same_each_time_and_lie_flat_where_planes_are_far_apart(script, tmp_path, monkeypatch):
    made = script("made_volumes")
    monkeypatch.setattr(made, "EDGE", 40)
    monkeypatch.setattr(made, "KINDS", (((4.0, 5.0), 6, 0.5),) * 2)
    monkeypatch.setattr(made, "TISSUE", 40)
    monkeypatch.setattr(made, "TISSUES", (((5.0, 7.0), 6, 0.5),) * 2)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        monkeypatch.setattr(sys, "argv", ["made_volumes.py", str(folder), "--count", "2"])
        made.main()
    with open(folders[0] / "meta.csv", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["id"], row["split"], row["n_instances"]) for row in rows] == [
        ("made00", "train", "6"),
        ("made01", "train", "12"),
        ("tissue00", "train", "12"),
        ("tissue01", "train", "12"),
    ]
    for kind, name in (("images", "tissue01"), ("masks", "tissue01"), ("images", "made01"), ("masks", "made01")):
        first, second = (tifffile.imread(folder / kind / f"{name}.tif") for folder in folders)
        assert first.shape == (40, 40, 40) and np.array_equal(first, second)
    extents = [np.ptp(np.nonzero(first == number), axis=1) + 1 for number in np.unique(first[first > 0])]
    assert np.median([extent[0] for extent in extents]) < 0.7 * np.median([extent[1:].mean() for extent in extents])


def test_a_volume_that_scores_are_of_is_none_that_the_network_learns_from(script, tmp_path):
    trainings = script("trainings")
    source = tmp_path / trainings.OVULES
    for kind in ("images", "masks"):
        (source / kind).mkdir(parents=True)
        for name in ("1135", "1136", "1137"):
            tifffile.imwrite(source / kind / f"{name}.tif", np.full((2, 2, 2), int(name) % 256, np.uint8))
    (source / "meta.csv").write_text("id,split,axes\n1135,train,ZYX\n1136,train,ZYX\n1137,val,ZYX\n")
    training = replace(trainings.TRAININGS["nuclei-3d"], data=(trainings.APART,))
    trainings.make_missing(training, tmp_path)
    trainings.make_missing(training, tmp_path)  # it is there
    learnt, scored = (find_pairs([tmp_path / trainings.APART], split) for split in (training.split, "val"))
    assert [pair.name for pair in learnt] == ["1135"] and [pair.name for pair in scored] == ["1136"]
    assert tifffile.imread(scored[0].image)[0, 0, 0] == 1136 % 256
    assert trainings.APART in script("accuracy").VALIDATED["nuclei-3d"]


def test_a_boundary_is_where_an_object_touches_another_or_the_background_and_is_unknown_beyond_the_window(script):
    labels = torch.tensor([[0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2], [0, 1, 1, 1, -1, -1]])
    found = script("ablations").touches(labels)[labels > 0].int().tolist()
    assert found == [1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]


def test_a_third_class_is_learnt_in_a_channel_that_the_model_does_not_keep(script, tmp_path):
    """Its loss moves nothing but what it is told to, and what is left computes as before."""
    ablations = script("ablations")
    spec = UNetSpec(levels=1, features=2, embedding_dim=3, coordinates=True, foreground=True, seeds=True)
    settings = TrainSettings(spec=spec, loss="gaussian", size_power=0.4)
    labels = torch.zeros((12, 12), dtype=torch.long)
    labels[2:8, 2:8] = 1
    out, places = torch.randn(spec.out_channels, 12, 12), torch.zeros(2, 12, 12)
    plain = importlib.import_module("napari_shiftseg.network.train")._loss
    without = plain(out[[0, 1, 3, 4, 5]], labels, places, settings=replace(settings, spec=replace(spec, embedding_dim=2)))
    for logit, wanted in ((40.0 * (2 * ablations.touches(labels).float() - 1), 0.0), (torch.zeros(12, 12), np.log(2))):
        out[2] = logit
        extra = ablations.with_boundary(plain)(out, labels, places, settings=settings)["loss"] - without["loss"]
        weight = object_weights(labels, 0.4)[4, 4]
        assert float(extra) == pytest.approx(float(weight) * wanted, abs=1e-5)

    wide, image = UNet(spec).eval(), torch.rand(1, 1, 24, 24)
    ablations.narrow(save_model(tmp_path / "wide", wide, half=True), tmp_path / "narrow.safetensors")
    kept = load_model(tmp_path / "narrow.safetensors")
    assert kept.spec == replace(spec, embedding_dim=2)
    whole = load_model(tmp_path / "wide.safetensors").unet(image)
    assert torch.equal(kept.unet(image), whole[:, [0, 1, 3, 4, 5]])
