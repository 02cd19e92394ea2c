"""Peers and our models are trained and scored alike: the same images, the same clock, the same matcher."""

import ast
import importlib
import json
import time
from argparse import Namespace
from collections import Counter
from dataclasses import replace
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
    said = runs.label(Copier(data), pairs, tmp_path / "labels", {"peer": "ours", "parameters": 3})
    assert said["megapixels"] == pytest.approx(2 * 64 * 64 / 1e6) and said["peak_memory"] >= 0
    (row,) = accuracy.rows_of("copier", tmp_path / "labels", pairs)
    assert (row["images"], row["objects"], row["missed"], row["unlabelled"], row["extra"]) == (2, 6, 2, 2, 0)
    assert row["ap50_of_images"] == {"1": 0.6667, "3": 0.6667}
    assert row["ap50"] == row["ap50_95"] == row["ap50_mean_of_images"] == pytest.approx(2 / 3)
    assert {name: (part["objects"], part["missed"], part["ap50"]) for name, part in row["by_area"].items()} == {
        "small": (2, 2, 0.0),
        "middle": (2, 0, 1.0),
        "large": (2, 0, 1.0),
    }
    assert row["other_way_ap50"] == pytest.approx(1 / 3)
    large = sum(int((pair.truth() == 3).sum()) for pair in pairs)
    assert row["other_way_otherwise"] == large and row["parameters"] == 3


def test_labels_that_are_not_there_or_of_other_images_are_said(script, data, tmp_path):
    runs, accuracy = script("accuracy_runs"), script("accuracy")
    pairs = runs.pairs_of([data], "val")
    with pytest.raises(SystemExit, match="no labels of a whole split; let stardist-x label it"):
        list(accuracy.rows_of("stardist-x", tmp_path / "labels", pairs))
    runs.label(Copier(data), pairs[:1], tmp_path / "labels", {"peer": "ours"})
    with pytest.raises(SystemExit, match="no labels of 3 and 0 more"):
        list(accuracy.rows_of("stardist-x", tmp_path / "labels", pairs))


def test_extra_objects_count_by_their_own_area(script):
    """Here a middle one whose number is that of a small true object, which is found under another."""
    truth = np.zeros((40, 40), np.int32)
    truth[2:22, 2:22], truth[30:33, 30:33] = 9, 4
    labels = np.where(truth == 4, 5, truth)
    labels[25:37, 2:14] = 4
    assert script("accuracy").by_area(labels, truth).tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_several_data_sets_have_a_row_each_and_one_together(script, data, tmp_path):
    runs, accuracy = script("accuracy_runs"), script("accuracy")
    twin = data.with_name("twin")
    twin.symlink_to(data)
    pairs = [runs.Pair(folder=data, name="1"), runs.Pair(folder=data, name="3")]
    mixed = [pairs[0], runs.Pair(folder=_copied(data, tmp_path / "other"), name="3")]
    runs.label(Copier(data), mixed, tmp_path / "labels", {"peer": "stardist", "versions": {"stardist": "0.9"}})
    rows = list(accuracy.rows_of("copier", tmp_path / "labels", mixed))
    assert [(row["data"], row["images"], row["objects"]) for row in rows] == [("disks", 1, 3), ("other", 1, 3), ("all", 2, 6)]
    assert {row["title"] for row in rows} == {"StarDist 0.9"}


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
    told = {"data": [data], "split": "val", "every": 4, "no_baseline": True, "earlier": data / "accuracy_x.json"}
    wishes = Namespace(**told, models=[f"{data}/a.safetensors=60"], runs=[data.parent / "x"])
    said = script("accuracy").command(wishes)
    assert str(data.parent) not in said and "data/disks" in said and "a.safetensors=60" in said and "runs/x" in said
    assert "--every 4 --no-baseline --earlier docs/measurements/accuracy_x.json" in said


def test_labels_of_a_bundled_model_are_scored_in_one_go(script, data, tmp_path, monkeypatch):
    """`label` and `score` as the command line asks for them, in one process."""
    accuracy = script("accuracy")
    run = tmp_path / "run"
    monkeypatch.setattr(accuracy, "in_own_process", lambda verb, name, *words, **more: _label(accuracy, name, data, words[-1]))
    out = tmp_path / "out.json"
    told = {"data": [data], "split": "val", "every": 1, "runs": [], "no_baseline": False, "earlier": None}
    accuracy.score(Namespace(**told, models=["nuclei=5400", "nuclei+augment"], out=out))
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    times = [("nuclei", 5400.0), ("nuclei+augment", None), ("otsu", None)]
    assert [(row["method"], row["trained_seconds"]) for row in rows] == times
    assert [row["label_settings"].get("augment") for row in rows] == [False, True, None]
    ours, _, baseline = rows
    assert ours["parameters"] > 1e6 and ours["other_way_otherwise"] == 0 and ours["other_way_ap50"] == ours["ap50"]
    assert baseline["ap50"] > 0.9 and not run.exists()


def test_rows_of_methods_that_are_not_scored_now_stay_as_they_were(script, data, tmp_path, monkeypatch):
    accuracy, out = script("accuracy"), tmp_path / "out.json"
    monkeypatch.setattr(accuracy, "in_own_process", lambda *words, **more: None)
    row = {"title": "x", "data": "disks", "ap50": 0.5, "ap50_95": 0.25, "seconds_per_megapixel": 1.0, "peak_memory": 7}
    now = {"ap50": 0.75, "seconds_per_megapixel": 2.0, "peak_memory": 9}
    monkeypatch.setattr(accuracy, "rows_of", lambda name, *_: [{**row, **now, "method": name}])
    before = {"command": "python then", "date": "2026-01-01", "split": "val", "every": 1}
    rows = [{**row, "method": name, "title": name} for name in ("nuclei", "otsu", "peer")]
    out.write_text(json.dumps({**before, "rows": rows}))
    told = {"data": [data], "split": "val", "runs": [], "no_baseline": True, "models": ["nuclei=60"], "out": out}
    accuracy.score(Namespace(**told, every=1, earlier=out))
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["method"], row["ap50"]) for row in found["rows"]] == [("nuclei", 0.75), ("otsu", 0.5), ("peer", 0.5)]
    took = {(row["seconds_per_megapixel"], row["peak_memory"]) for row in found["rows"]}
    assert took == {(1.0, 7)}, "the network is as it was"
    assert found["earlier"] == {"methods": ["otsu", "peer"], "command": "python then", "date": "2026-01-01"}
    with pytest.raises(SystemExit, match="scores other images"):
        accuracy.score(Namespace(**told, every=2, earlier=out))


def _label(accuracy, name, data, run):
    accuracy.label_split(Namespace(model=name, data=[data], split="val", every=1, run=run))


# -- the worst objects ------------------------------------------------------------------------------------------------


@pytest.fixture
def found(script, data):
    """`found(truth=..., labels=..., centred=..., helped=...)`: rows of numbers become an image of 4 x n px."""
    worst = script("worst_objects")

    def of(**rows):
        arrays = {name: np.repeat([row], 4, axis=0) for name, row in rows.items()}
        pair = script("accuracy_runs").Pair(folder=data, name="1")
        grey = np.linspace(0, 255, arrays["truth"].size).reshape(arrays["truth"].shape)
        return worst.Found(pair=pair, pixels=grey, foreground=None, **arrays)

    return of


@pytest.mark.parametrize(
    ("labels", "centred", "helped", "faults"),
    [
        # three objects under one label: with the true centres they would be three
        ([7, 7, 7, 7, 7, 7], [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], {"missed clustering": 3, "extra clustering": 1}),
        # an object cut in two: one half still matches at an IoU of 0.5
        ([1, 1, 2, 5, 3, 3], [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], {"extra clustering": 1}),
        # two thirds of an object have no foreground
        ([7, 7, 0, 0, 3, 3], [1, 1, 0, 0, 3, 3], [1, 1, 2, 2, 3, 3], {"missed foreground": 1}),
        # its pixels lie with its neighbour whatever one helps
        ([1, 1, 1, 1, 0, 3], [1, 1, 1, 1, 1, 3], [1, 1, 1, 1, 3, 3], {"missed embedding": 1}),
        # all is right
        ([4, 4, 9, 9, 5, 5], [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], {}),
    ],
)
def test_each_mistake_has_its_fault(script, found, labels, centred, helped, faults):
    image = found(truth=[1, 1, 2, 2, 3, 3], labels=labels, centred=centred, helped=helped)
    of = Counter(f"{one.kind} {one.fault}" for one in script("worst_objects").mistakes(image))
    assert of == Counter(faults)


@pytest.mark.parametrize(
    ("seeds", "places", "width", "fault"),
    [
        (0.9, [0, 0, 2.5, 2.5, 5, 5], 0.5, "clustering"),  # a Gaussian that holds it, far from the others'
        (0.4, [0, 0, 2.5, 2.5, 5, 5], 0.5, "centre"),  # its seeds doubt it
        (0.9, [0, 0, 2.5, 2.5, 5, 5], 9.0, "centre"),  # all lies within the bandwidth
        (0.9, [0, 0, 0, 5, 5, 5], 0.5, "centre"),  # its halves say the places of its neighbours
        (0.9, [0, 0, 1, 1, 5, 5], 1.2, "pair"),  # it is held, and its neighbour: half of what is held is its own
        (0.9, [0, 0, 1, 1, 2, 2], 1.2, "centre"),  # two neighbours are held
    ],
)
def test_what_the_network_does_not_say_is_no_fault_of_the_clustering(script, found, seeds, places, width, fault):
    worst = script("worst_objects")
    image = found(truth=[1, 1, 2, 2, 3, 3], labels=[1, 1, 0, 0, 3, 3], centred=[1, 1, 2, 2, 3, 3], helped=[1, 1, 2, 2, 3, 3])
    (one,) = worst.mistakes(replace(image, said=said_as(worst, image.truth.shape, seeds=seeds, places=places, width=width)))
    assert (one.kind, one.fault) == ("missed", fault)


def said_as(worst, shape, *, seeds, places, width, **more):
    """What a network says that gives each column a code."""
    said = {"inside": np.ones(shape, bool), "least_seed": 0.5, **more}
    embedding = np.broadcast_to(np.array(places, float), (1, *shape))
    return worst.Said(places=embedding, seeds=np.full(shape, seeds), widths=np.full(shape, width), **said)


def test_the_gaussian_of_the_loss_has_the_bandwidth_that_the_network_says(script, found):
    """The factor widens what the clustering takes, and nothing that the loss trained."""
    worst, mask = script("worst_objects"), np.repeat([[False] * 2 + [True] * 2 + [False] * 2], 4, axis=0)
    wide = {"seeds": 0.9, "places": [0, 0, 1, 1, 2, 2], "width": 1.2}
    assert not said_as(worst, mask.shape, **wide).has(mask)
    assert said_as(worst, mask.shape, **wide, factor=1.6).has(mask)


@pytest.mark.parametrize(
    ("gap", "together", "valley"),
    [(2.0, True, 0.35), (8.5, True, 0.35), (8.5, False, 0.65), (10.5, False, 0.35), (10.5, True, 0.1), (60.0, False, 0.35)],
)
def test_two_objects_are_told_apart_by_the_valley_between_their_votes(script, gap, together, valley):
    """Kernels are 2.5 px wide, so that the valley is 2 exp(-gap^2 / 50): 0.35 where the modes are 9.3 px apart."""
    worst, (y, x) = script("worst_objects"), np.indices((30, 120)).astype(float)
    one, other = x < 60, x >= 60
    said = worst.Said(
        places=np.stack([np.full(y.shape, 15.0), np.where(one, 30.0, 30.0 + gap)]),
        seeds=np.full(y.shape, 0.8),
        widths=np.full(y.shape, 10.0),
        inside=np.ones(y.shape, bool),
        least_seed=0.5,
        valley=valley,
    )
    assert said.together(one, other) is together and said.together(other, one) is together


# -- pairs of modes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_disks():
    """`two_disks(apart, two=True)`: what a network says of disks of 8 px that are so far apart, as two objects or as one."""
    from napari_shiftseg.instances import LabelSettings

    y, x = np.indices((40, 70)).astype(float)

    def of(apart, *, two=True):
        centres = [(20, 20), (20, 20 + apart)]
        gaps = np.stack([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres])
        near, inside = gaps.argmin(axis=0), gaps.min(axis=0) < 64
        aims = np.array(centres, float)[near]
        return {
            "embedding": np.stack([aims[..., 0] - y, aims[..., 1] - x]).astype(np.float32),
            "foreground": np.where(inside, 1, 0).astype(np.float32),
            "seeds": np.where(inside, np.exp(-gaps.min(axis=0) / 300), 0).astype(np.float32),
            "bandwidths": np.full(y.shape, 7.0, np.float32),
            "truth": np.where(inside, near + 1 if two else 1, 0),
            "settings": LabelSettings(coordinates=True, min_size=8),
        }

    return of


def test_a_pair_of_modes_is_two_objects_or_one_as_the_truth_says(script, two_disks):
    pairs = script("mode_pairs")
    for two in (True, False):
        (pair,) = pairs.pairs_in(two_disks(11, two=two))
        assert pair["two"] == two and pair["gap"] == pytest.approx(11 / 7, abs=0.02)
        assert pair["seeds"] > 0, "each seed says a place near its own mode"
        assert pair["seed_border"] > 0.02 and pair["foreground_border"] == 0
    assert list(pairs.pairs_in(two_disks(30))) == [], "two modes that are far apart"
    mixed = two_disks(11)
    mixed["truth"] = np.where(mixed["truth"] > 0, 1 + np.indices((40, 70))[0] % 2, 0)
    assert list(pairs.pairs_in(mixed)) == [], "a mode of no object"
    deep, shallow = (next(iter(pairs.pairs_in(two_disks(apart))))["valley"] for apart in (13, 9))
    assert deep < shallow


def test_other_rules_are_tried_and_left(script, two_disks):
    pairs, outputs = script("mode_pairs"), [two_disks(6), two_disks(11)]
    found = {name: pairs.scored(outputs, changes) for name, changes in pairs.rules_of(outputs[0]["settings"]).items()}
    assert found["as it is"] == pairs.scored(outputs, []), "nothing stays changed"
    doubtful = [dict(said, seeds=0.4 * said["seeds"], settings=replace(said["settings"], least_seed=0.0)) for said in outputs]
    rules = pairs.rules_of(outputs[0]["settings"])
    counts = {
        name: pairs.scored(doubtful, rules[name])["missed"] for name in ("as it is", "squares of seeds", "half of the votes")
    }
    assert counts["squares of seeds"] > counts["as it is"] >= counts["half of the votes"], counts
    apart = [pairs.scored(outputs, [(None, "valley", value)])["missed"] for value in (0.01, 0.35, 1.0)]
    assert apart[0] >= apart[1] >= apart[2] and apart[0] > apart[2], apart


def test_what_a_valley_gains_is_told_with_its_standard_error(script, two_disks):
    """Kernels are 1.75 px wide, so that between modes 6 px apart 0.46 of the density is left: the usual valley joins them."""
    valleys = script("valleys")
    images = [valleys.scores_of(two_disks(6, two=two)) for two in (True, True, False)]
    rows = {row["valley"]: row for row in valleys.rows_of(images)}
    assert list(rows) == [0.2, 0.35, 0.5, 0.65, 0.8]
    assert rows[0.35]["gain"] == rows[0.35]["error"] == 0 and rows[0.2]["ap50"] == rows[0.35]["ap50"] == 0.6
    # 3 of 5 objects, then 5 and an extra one; without an image 2 of 3 and 3 of 4 with an extra one, or 2 and 4 of 4
    assert rows[0.5]["gain"] == pytest.approx(5 / 6 - 3 / 5, abs=1e-4)
    assert rows[0.5]["error"] == pytest.approx((2 * np.var([1 / 12, 1 / 12, 1 / 2])) ** 0.5, abs=1e-4)
    assert (rows[0.35]["merges"], rows[0.5]["merges"], rows[0.5]["splits"]) == (2, 0, 1)
    assert valleys.error_of_gain(images[:1], 0.5) is None


def test_ranks_are_counted_and_regression_ranks_what_it_does_not_know(script):
    pairs, rng = script("mode_pairs"), np.random.default_rng(0)
    two = np.repeat([True, False], 100)
    assert pairs.area_under(two * 1.0, two) == 1 and pairs.area_under(np.zeros(200), two) == 0.5
    assert pairs.area_under(-1.0 * two, two) == 0 and pairs.area_under(rng.normal(size=200), two[:1]) is None
    noise = rng.normal(size=(200, 8))
    assert 0.35 < pairs.by_all(noise, two) < 0.65
    assert pairs.by_all(np.column_stack([noise, two + rng.normal(0, 0.3, 200)]), two) > 0.95
    rows = [{"two": float(at % 2), "valley": valley, "gap": 1.0} for at, valley in enumerate((0.1, 0.1, 0.4, 0.4, 0.9, 1.0))]
    made = pairs.table(rows, 0.35)
    assert [(row["pairs"], row["two"]) for row in made["rows"]] == [(2, 1), (0, 0), (2, 1), (0, 0), (0, 0), (2, 1)]
    assert pairs.table(rows, 0.45)["run_together"]["pairs"] == 1, "those that the clustering does not part"
    assert made["run_together"]["pairs"] == 3 and made["run_together"]["area_under_curve"]["gap"] == 0.5


def test_the_share_of_right_objects_of_each_mean_seed_is_counted(script, data, tmp_path, monkeypatch):
    confidence, out = script("seed_confidence"), tmp_path / "out.json"
    monkeypatch.setattr(confidence, "pairs_of", lambda folders, split: ["a", "b"])
    monkeypatch.setattr(
        confidence, "objects_of", lambda pair, model: (np.array([0.3, 0.52, 0.9]), np.array([False, pair == "a", True]))
    )
    monkeypatch.setattr("sys.argv", ["seed_confidence.py", str(data), "--out", str(out)])
    confidence.main()
    rows = [row for row in json.loads(out.read_text())["rows"] if row["objects"]]
    assert [(row["from"], row["objects"], row["right"], row["share"]) for row in rows] == [
        (0.0, 2, 0, 0.0), (0.5, 2, 1, 0.5), (0.7, 2, 2, 1.0),
    ]  # fmt: skip


def test_an_object_on_no_true_one_is_a_fault_of_the_foreground(script, found):
    image = found(truth=[1, 1, 0, 0, 0, 0], labels=[1, 1, 0, 5, 5, 0], centred=[1, 1, 0, 1, 1, 0], helped=[1, 1, 0, 0, 0, 0])
    (one,) = script("worst_objects").mistakes(image)
    assert (one.kind, one.area, one.iou, one.wrong, one.fault) == ("extra", 8, 0, 8, "foreground")


def test_no_image_fills_the_gallery_alone(script, found):
    worst = script("worst_objects")
    first = found(truth=[1, 2, 3, 4, 5, 5], labels=[0] * 6, centred=[0] * 6, helped=[0] * 6)
    many = list(worst.mistakes(first))
    assert len(many) == 5
    taken = worst.chosen(many, 20, 58)
    assert len(taken) == 2 and taken[0].area == 8 and len(worst.chosen(many, 20, 4)) == 5
    picture = worst.drawn(taken)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    white = (picture == 255).all(axis=-1).sum()
    assert white > (worst.drawn([]) == 255).all(axis=-1).sum(), "each object has an outline"


def test_objects_of_a_volume_are_shown_in_their_largest_plane(script):
    mask = np.zeros((5, 64, 80), bool)
    mask[1, 30, 30] = mask[3, 20:50, 60:70] = True
    plane, y, x = script("worst_objects").window_of(mask)
    assert plane == 3 and y.start <= 20 and y.stop >= 50 and x.start <= 60 and x.stop <= 80


# -- the picture ------------------------------------------------------------------------------------------------------


def test_the_picture_is_that_of_the_measurements(monkeypatch):
    """`python docs/scripts/accuracy_picture.py` draws it anew."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "scripts"))
    drawn = importlib.import_module("accuracy_picture").picture(ROOT / "docs" / "measurements")
    assert drawn == (ROOT / "docs" / "images" / "accuracy.svg").read_text(encoding="utf-8")


def test_a_training_is_a_line_and_the_end_of_it_a_point(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "scripts"))
    scripts = importlib.import_module("accuracy_picture")
    row = {"data": "a", "seconds_per_megapixel": 2.0, "peer": "stardist", "title": "StarDist 1"}
    rows = [{**row, "trained_seconds": seconds, "ap50": ap} for seconds, ap in ((1000, 0.5), (100, 0.25), (10_000, 0.75))]
    other = {**row, "peer": "otsu", "title": "Otsu", "trained_seconds": None, "ap50": 0.5}
    (tmp_path / "accuracy_x.json").write_text(json.dumps({"rows": [*rows, other]}), encoding="utf-8")
    drawn = scripts.picture(tmp_path)
    # three points on the left, one per method on the right, one per method in the legend
    assert drawn.count("<circle") == 3 + 2 + 2 and drawn.count('fill="none"') == 1
    left, top, width, height = scripts.LEFT, scripts.TOP, scripts.WIDTH, scripts.HEIGHT
    assert f"M{left}.0 {top + 0.75 * height} L{left + width / 2} {top + 0.5 * height} L{left + width}.0" in drawn


def test_all_bundled_models_are_scored_on_images_of_their_kind_beside_the_peers_of_these(script, tmp_path, monkeypatch):
    accuracy, asked = script("accuracy"), []
    monkeypatch.setattr(accuracy, "score", asked.append)
    (tmp_path / "stardist-axons-sem" / "labels" / "val").mkdir(parents=True)
    (tmp_path / "stardist-nuclei-he").mkdir()  # not labelled yet
    accuracy.score_all(Namespace(data=Path("data"), runs=tmp_path, models=None, out=Path("out")))
    found = {wish.models[0]: wish for wish in asked}
    assert {"nuclei", "nuclei-he", "cells-phase", "axons-sem"} <= {*found} and "disks-fig3" not in found
    assert found["nuclei"].data == [Path("data/dsb2018_fluo"), Path("data/bitdepth_dapi16")]
    assert found["axons-sem"].runs == [tmp_path / "stardist-axons-sem"] and found["nuclei-he"].runs == []
    assert found["nuclei-he"].out == Path("out/accuracy_nuclei_he.json")
    for name, wish in found.items():  # all that a wish of the command line says
        said = accuracy.command(wish)
        assert f"--split val --models {name}" in said and wish.every == 1


def test_weights_of_a_second_training_are_compared_bit_by_bit(script):
    """Equal ones differ in nothing, a number that moves by its last bit is counted, and another form is refused."""
    import torch

    twice = script("trained_twice")

    def trained(**weights):
        return Namespace(model=Namespace(name="x", unet=torch.nn.ParameterDict(weights)))

    one = trained(a=torch.ones(3), b=torch.zeros(2))
    assert twice.difference(one, trained(a=torch.ones(3), b=torch.zeros(2))) == {
        "weights": 5, "weights_that_differ": 0, "largest_difference": 0.0,
    }  # fmt: skip
    moved = torch.ones(3)
    moved[1] = torch.nextafter(moved[1], torch.tensor(2.0))
    found = twice.difference(one, trained(a=moved, b=torch.zeros(2)))
    assert found["weights_that_differ"] == 1 and 0 < found["largest_difference"] < 2e-7
    with pytest.raises(SystemExit, match="not of one form"):
        twice.difference(one, trained(a=torch.ones(3)))


def test_what_an_image_shows_of_its_objects_is_told_from_what_was_lost(script, tmp_path):
    """A smooth image shows them, with noise only after a blur; its lower byte has lost them and has no neighbours alike."""
    from scipy import ndimage as ndi

    signal, runs = script("image_signal"), script("accuracy_runs")
    rng = np.random.default_rng(0)
    truth = np.zeros((96, 96), np.uint16)
    truth[16:40, 16:40], truth[56:80, 50:74] = 1, 2
    smooth = ndi.gaussian_filter((truth > 0) * 30_000.0, 3) + 2000
    noise = rng.normal(0, 1, truth.shape)
    kinds = {"smooth": smooth, "noisy": smooth + 30_000 * noise, "lost": (smooth + 500 * noise).astype(np.int64) % 256}
    for name, image in kinds.items():
        for folder, pixels in (("images", image.astype(np.float32)), ("masks", truth)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", pixels)
    rows = {name: signal.row_of(runs.Pair(folder=tmp_path, name=name)) for name in kinds}
    assert rows["smooth"]["correlation"] > 0.9 and rows["smooth"]["contrast"] > 1.5 and rows["smooth"]["objects"] == 2
    assert rows["noisy"]["correlation"] < 0.5 and rows["noisy"]["contrast_blurred"] > 2 * rows["noisy"]["contrast"] > 0
    assert abs(rows["lost"]["correlation"]) < 0.1 and abs(rows["lost"]["contrast_blurred"]) < 0.5


def test_peers_learn_from_several_splits_as_we_do(script, data):
    runs = script("accuracy_runs")
    assert (
        len(runs.pairs_of([data], "train,val")) == len(runs.pairs_of([data], "train")) + len(runs.pairs_of([data], "val")) == 5
    )
