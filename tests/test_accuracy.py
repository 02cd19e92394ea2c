"""Peers and our models are trained and scored alike: the same images, the same clock, the same matcher."""

import ast
import importlib
import json
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"

if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not part of a source distribution", allow_module_level=True)


@pytest.fixture
def script(monkeypatch):
    """`script(name)`: a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def data(tmp_path):
    """A folder of dark disks on a bright ground: three images to learn from and two others."""
    folder = tmp_path / "disks"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    y, x = np.indices((64, 64))
    rows = ["id,split"]
    for index, split in enumerate(("train", "val", "train", "val", "train")):
        truth = np.zeros((64, 64), np.uint16)
        for number, (centre, radius) in enumerate((((15, 15 + index), 4), ((15, 45), 8), ((45, 30), 14)), 1):
            truth[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = number
        tifffile.imwrite(folder / "images" / f"{index}.tif", np.where(truth > 0, 40, 200).astype(np.uint8))
        tifffile.imwrite(folder / "masks" / f"{index}.tif", truth)
        rows.append(f"{index},{split}")
    (folder / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


# -- what peers may know, and for how long ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["accuracy_peers.py", "accuracy_runs.py", *(f"trained_peers/{peer}_peer.py" for peer in ("stardist", "cellpose"))]
)
def test_peers_need_nothing_of_this_package(name):
    """Their environments do not hold it, nor what the other benchmarks share."""
    tree = ast.parse((FOLDER / name).read_text(encoding="utf-8"))
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert modules and not {module.partition(".")[0] for module in modules} & {"napari_shiftseg", "bench"}


def test_each_peer_stands_in_the_list_of_scripts(script):
    listed = (FOLDER / "README.md").read_text(encoding="utf-8").lower()
    for name, (module, predictor) in script("accuracy_peers").PEERS.items():
        source = (FOLDER / "trained_peers" / f"{module}.py").read_text(encoding="utf-8")
        assert name in listed and f"class {predictor}" in source and "def learn(" in source and "PACKAGES" in source


def test_images_that_choose_are_training_images_that_are_not_learnt_from(script, data):
    runs = script("accuracy_runs")
    pairs = runs.pairs_of([data], "train")
    learnt, held = runs.held_apart(pairs)
    assert sorted(pair.name for pair in learnt + held) == ["0", "2", "4"] and len(held) == 1
    assert runs.held_apart(pairs) == (learnt, held)
    with pytest.raises(SystemExit, match="is of the split 'test'"):
        runs.pairs_of([data], "test")


def test_a_training_that_goes_on_has_the_time_left_that_it_had(script):
    clock = script("accuracy_runs").Clock(100.0, 60.0)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        sum(range(1000))
    assert 60.05 <= clock.spent < 70 and clock.share == pytest.approx(clock.spent / 100, abs=1e-3)


def test_weights_are_kept_once_for_each_fraction_of_the_time(script, tmp_path):
    runs = script("accuracy_runs")
    run = runs.Run(folder=tmp_path / "run", peer="a", data=["b"], budget=80.0)
    spent = []

    def write(folder):
        spent.append(folder.name)
        (folder / "weights").write_text("w", encoding="utf-8")

    assert not run.keep_weights(runs.Clock(80.0, 5.0), write)
    assert run.keep_weights(runs.Clock(80.0, 21.0), write) and not run.keep_weights(runs.Clock(80.0, 22.0), write)
    assert run.keep_weights(runs.Clock(80.0, 80.0), write)
    assert sorted(path.name for path in run.folder.glob("*/weights")) == ["weights"] * 4
    assert sorted(path.name for path in run.folder.iterdir()) == ["at_00010", "at_00020", "at_00040", "at_00080"]


def test_weights_that_were_half_written_are_written_again(script, tmp_path):
    runs = script("accuracy_runs")
    run, clock = runs.Run(folder=tmp_path, peer="a", data=["b"], budget=80.0), runs.Clock(80.0, 11.0)

    def killed(folder):
        (folder / "half").write_text("w", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.keep_weights(clock, killed)
    assert not list(tmp_path.glob("at_*"))
    assert run.keep_weights(clock, lambda folder: (folder / "whole").touch())
    assert [path.name for path in tmp_path.glob("at_*/*")] == ["whole"]


def test_a_folder_of_another_training_is_refused(script, tmp_path):
    runs = script("accuracy_runs")
    run = runs.Run.opened(tmp_path, "stardist", ["a", "b"])
    run.seconds, run.steps = 12.5, 7
    run.save()
    again = runs.Run.opened(tmp_path, "stardist", ["a", "b"])
    assert (again.seconds, again.steps, again.machine) == (12.5, 7, run.machine)
    for peer, names in (("cellpose", ["a", "b"]), ("stardist", ["a"]), ("stardist", ["b", "a"])):
        with pytest.raises(SystemExit, match="name another folder"):
            runs.Run.opened(tmp_path, peer, names)


# -- scores -----------------------------------------------------------------------------------------------------------


class Copier:
    """A predictor that knows the truth, leaves out the smallest object, and by tiles also the largest one."""

    usual_way = "whole"
    settings = {"threshold": 1}  # noqa: RUF012

    def __init__(self, data):
        self.known = {tifffile.imread(data / "images" / f"{k}.tif").tobytes(): k for k in range(5)}
        self.data = data

    def _truth(self, image):
        return tifffile.imread(self.data / "masks" / f"{self.known[image.tobytes()]}.tif")

    def usual(self, image):
        truth = self._truth(image)
        return np.where(truth == 1, 0, truth)

    def other(self, image):
        return np.where(self._truth(image) == 2, 2, 0)


def test_scores_are_those_of_the_labels(script, data, tmp_path):
    """Small, middle and large objects apart; the other way counts by itself."""
    runs, accuracy = script("accuracy_runs"), script("accuracy")
    pairs = runs.pairs_of([data], "val")
    said = runs.label(Copier(data), pairs, tmp_path / "labels", {"peer": "copier", "parameters": 3})
    assert said["megapixels"] == pytest.approx(2 * 64 * 64 / 1e6) and said["peak_memory"] >= 0
    (row,) = accuracy.rows_of("copier", tmp_path / "labels", pairs)
    assert (row["images"], row["objects"], row["missed"], row["unlabelled"], row["extra"]) == (2, 6, 2, 2, 0)
    assert row["ap50"] == row["ap50_95"] == row["ap50_mean_of_images"] == pytest.approx(2 / 3)
    assert {name: (part["objects"], part["missed"], part["ap50"]) for name, part in row["by_area"].items()} == {
        "small": (2, 2, 0.0),
        "middle": (2, 0, 1.0),
        "large": (2, 0, 1.0),
    }
    assert row["other_way_ap50"] == pytest.approx(1 / 3)
    large = sum(int((pair.truth() == 3).sum()) for pair in pairs)
    assert row["other_way_otherwise"] == large and row["parameters"] == 3


def test_extra_objects_count_by_their_own_area(script):
    truth = np.zeros((40, 40), np.int32)
    truth[2:22, 2:22] = 9
    labels = truth.copy()
    labels[30:33, 30:33] = 4
    assert script("accuracy").by_area(labels, truth).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_several_data_sets_have_a_row_each_and_one_together(script, data, tmp_path):
    runs, accuracy = script("accuracy_runs"), script("accuracy")
    twin = data.with_name("twin")
    twin.symlink_to(data)
    pairs = [runs.Pair(folder=data, name="1"), runs.Pair(folder=data, name="3")]
    mixed = [pairs[0], runs.Pair(folder=_copied(data, tmp_path / "other"), name="3")]
    runs.label(Copier(data), mixed, tmp_path / "labels", {})
    rows = list(accuracy.rows_of("copier", tmp_path / "labels", mixed))
    assert [(row["data"], row["images"], row["objects"]) for row in rows] == [("disks", 1, 3), ("other", 1, 3), ("all", 2, 6)]


def _copied(data, folder):
    import shutil

    return Path(shutil.copytree(data, folder))


def test_the_baseline_is_tuned_on_the_training_images(script, data):
    """They are dark on bright, which the method by itself cannot."""
    runs, accuracy = script("accuracy_runs"), script("accuracy")
    tuned = accuracy.Otsu(runs.pairs_of([data], "train"))
    assert tuned.settings["dark"] and tuned.settings["tuned_on"] == 3
    pair = runs.pairs_of([data], "val")[0]
    assert len(np.unique(tuned.usual(pair.image()))) == 4


def test_a_command_names_no_place_of_this_machine(script, data):
    wishes = Namespace(data=[data], split="val", models=[f"{data}/a.safetensors=60"], runs=[data.parent / "x"])
    said = script("accuracy").command(wishes)
    assert str(data.parent) not in said and "data/disks" in said and "a.safetensors=60" in said and "runs/x" in said


def test_labels_of_a_bundled_model_are_scored_in_one_go(script, data, tmp_path, monkeypatch):
    """`label` and `score` as the command line asks for them, in one process."""
    accuracy = script("accuracy")
    run = tmp_path / "run"
    monkeypatch.setattr(accuracy, "in_own_process", lambda verb, name, *words, **more: _label(accuracy, name, data, words[-1]))
    out = tmp_path / "out.json"
    accuracy.score(Namespace(data=[data], split="val", models=["nuclei=5400"], runs=[], no_baseline=False, out=out))
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [(row["method"], row["trained_seconds"]) for row in rows] == [("nuclei", 5400.0), ("otsu", None)]
    ours, baseline = rows
    assert ours["parameters"] > 1e6 and ours["other_way_otherwise"] == 0 and ours["other_way_ap50"] == ours["ap50"]
    assert baseline["ap50"] > 0.9 and not run.exists()


def _label(accuracy, name, data, run):
    accuracy.label_split(Namespace(model=name, data=[data], split="val", run=run))
