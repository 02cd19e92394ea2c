"""The paper's experiments: their declarations, and those that need no training."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, cli
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import TrainStep, drain
from napari_shiftseg.geometry import plan_tiles, violations
from napari_shiftseg.network import UNet, training_of, training_violations
from napari_shiftseg.paper import EXPERIMENTS, Training, run_steps
from napari_shiftseg.paper.measure import count_codes, noisy_disk_codes, stitch
from napari_shiftseg.synthetic import ConstantRecipe, DiskRecipe, capacity, make

UNTRAINED = [name for name, one in EXPERIMENTS.items() if one.setups["quick"].weights in ("primes", "passing", "random")]
SETUPS = [(name, size) for name, one in EXPERIMENTS.items() for size in one.setups]


@pytest.mark.parametrize("name", UNTRAINED)
def test_what_needs_no_training_comes_out_as_the_paper_says(name):
    finding = drain(run_steps(EXPERIMENTS[name], "quick", seed=0))
    assert finding.met, f"{finding.expected}; found {finding.measured}"
    json.dumps(finding.measured, allow_nan=False)


@pytest.mark.parametrize(("name", "size"), SETUPS)
def test_a_training_has_legal_sizes_and_breaks_a_rule_only_where_that_is_the_point(name, size):
    setup = EXPERIMENTS[name].setups[size]
    if isinstance(setup.weights, Training):
        broken = {v.rule for v in training_violations(setup.weights.settings(setup.spec, 0, None))}
        assert bool(broken) == (name in {"fig3a", "window-below", "padding-single", "fig5-trained"}), broken
        assert setup.spec.ndim == len(setup.test.shape)


@pytest.mark.parametrize("size", ["quick", "full"])
def test_tiles_of_the_seam_experiments_differ_only_in_the_crop(size):
    """> Fig. 3b and 3c: one network, stitched without and with the crop"""
    off, on = (EXPERIMENTS[name].setups[size] for name in ("fig3b", "fig3c"))
    assert off.weights == on.weights and off.spec == on.spec and off.test == on.test
    assert off.write % off.spec.period[0] != 0 and on.write % on.spec.period[0] == 0
    assert not violations(on.spec)


@pytest.mark.parametrize("size", ["quick", "full"])
def test_what_splits_disks_on_the_grid_is_the_crop_of_the_output_alone(size):
    """> Fig. 3a against 3b: one network on the same windows, of which 16 px of 20 or all reach the loss"""
    cropped, whole = (EXPERIMENTS[name].setups[size] for name in ("fig3a", "fig3a-window"))
    period = cropped.spec.period[0]
    assert cropped.weights.keep == period < whole.weights.window
    assert replace(cropped, weights=replace(cropped.weights, keep=None)) == whole
    assert training_of(cropped.weights.settings(cropped.spec, 0, None)).inner == (period, period)


@pytest.mark.parametrize("name", ["fig6-noise", "fig6-elastic", "fig7a", "fig7b"])
def test_noise_and_deformation_are_drawn_anew_at_every_step(name):
    """> Fig. 6 and 7: no image is seen twice, and that which is measured was never seen"""
    setup = EXPERIMENTS[name].setups["quick"]
    images = [setup.weights.draw(seed, step).pixels for seed, step in [(0, 0), (0, 1), (0, 2), (1, 0)]]
    images.append(torch.from_numpy(make(setup.test_recipe(0)).image)[None, :172, :172])
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(images, 2))
    assert torch.equal(images[1], setup.weights.draw(0, 1).pixels)
    still = EXPERIMENTS["fig2b"].setups["quick"].weights
    assert torch.equal(still.draw(0, 0).pixels, still.draw(0, 5).pixels)


def test_a_training_on_fresh_images_asks_for_one_a_step(monkeypatch, tmp_path):
    asked = []
    draw = Training.draw
    monkeypatch.setattr(Training, "draw", lambda self, seed, step=0: asked.append(step) or draw(self, seed, step))
    image = DiskRecipe(shape=(60, 60), spacing=(8, 8), radius=3, offset=(0, 0), noise=0.1)
    spec = UNetSpec(levels=1, features=2)
    training = Training(image=image, window=12, steps=4, fresh=True)
    drain(training.train_steps(spec, 0, UNet(spec), checkpoint=None))
    assert asked[:5] == [0, 0, 1, 2, 3], "the first to check the settings by; the next one is drawn ahead"
    asked.clear()
    drain(replace(training, fresh=False).train_steps(spec, 0, UNet(spec), checkpoint=None))
    assert asked == [0]


@pytest.mark.parametrize("size", ["quick", "full"])
@pytest.mark.parametrize("name", ["padding-single", "padding-d+1"])
def test_padded_networks_are_measured_on_the_tiles_of_their_training(name, size):
    """> with zero padding, d+1 directly neighbouring tiles per batch; the plan that keeps the rules is the product's own"""
    setup = EXPERIMENTS[name].setups[size]
    spec = replace(setup.spec, features=1, growth=1)
    trained = training_of(setup.weights.settings(spec, 0, None))
    made = stitch(UNet(spec), replace(setup, spec=spec), 0)
    assert [tile.read for tile in made.plan] == [tile.write for tile in made.plan] == windows(made)
    assert (violations(made.plan, trained) == ()) == (name == "padding-d+1")
    if name == "padding-d+1":
        assert made.plan == plan_tiles(spec, made.image.shape, border="valid", trained=trained)


def windows(made):
    edge = made.plan.write[0]
    starts = itertools.product(range(0, made.image.shape[0], edge), range(0, made.image.shape[1], edge))
    return [tuple(slice(start, start + edge) for start in corner) for corner in starts]


@pytest.mark.parametrize("size", ["quick", "full"])
@pytest.mark.parametrize(("name", "codes"), [("fig2a", 1), ("fig2b", None), ("fig6-noise", 1), ("fig6-elastic", 1)])
def test_the_lattice_decides_how_many_disks_look_different(name, size, codes):
    """> Corollary 2"""
    setup = EXPERIMENTS[name].setups[size]
    assert isinstance(setup.test, DiskRecipe)
    assert capacity(setup.test.spacing, setup.spec.period) == (codes or math.prod(setup.spec.period))


def test_the_full_size_is_the_paper_s():
    assert EXPERIMENTS["fig4"].setups["full"].spec == UNetSpec(levels=4, features=3)
    assert EXPERIMENTS["fig2b"].setups["full"].spec == UNetSpec(levels=3, features=16)
    assert EXPERIMENTS["fig3b"].setups["full"].write == 20


def test_a_training_stops_and_goes_on_from_its_folder(tmp_path):
    experiment = EXPERIMENTS["fig4-fixed"]
    quick = experiment.setups["quick"]
    setup = replace(quick, weights=replace(quick.weights, steps=3))
    short = replace(experiment, setups={"quick": setup})
    steps = [event for event in run_steps(short, "quick", folder=tmp_path) if isinstance(event, TrainStep)]
    assert [event.done for event in steps] == [1, 2, 3]
    again = [event for event in run_steps(short, "quick", folder=tmp_path) if isinstance(event, TrainStep)]
    assert not again, "the training began anew"
    assert drain(run_steps(short, "quick", folder=tmp_path)).met


def test_codes_are_groups_of_near_points():
    points = np.array([[0.0], [0.3], [0.6], [5.0]])
    assert [count_codes(points, gap) for gap in (0.1, 0.4, 9.0)] == [4, 2, 1]


def test_a_constant_image_shares_its_network_between_experiments_only_if_it_is_the_same_training():
    setup = EXPERIMENTS["fig4"].setups["quick"]
    other = replace(setup, weights=replace(setup.weights, image=ConstantRecipe(shape=(9, 9))))
    assert setup.key() != other.key()
    assert EXPERIMENTS["fig3b"].setups["quick"].key() == EXPERIMENTS["fig3c"].setups["quick"].key()


def test_a_sliding_window_sees_all_disks_alike():
    """> the sliding window with w = 1 applies one and the same function everywhere"""
    experiment = EXPERIMENTS["sliding"]
    setup = replace(experiment.setups["quick"], weights="random")
    found = drain(run_steps(replace(experiment, setups={"quick": setup}))).measured
    assert found["codes"] == 1 and found["disks"] > 1


def test_disks_that_never_met_in_a_window_may_share_a_code():
    setup = EXPERIMENTS["fig6-noise"].setups["quick"]
    small = replace(setup, weights=replace(setup.weights, window=12))  # disks are 16 px apart
    network = UNet(setup.spec).eval()
    apart = [noisy_disk_codes(network, one, 0)["apart"] for one in (setup, small)]
    assert apart == [0.0, 1.0], "an untrained network tells no disks apart"


@pytest.mark.parametrize("seed", range(4))
def test_a_training_does_not_start_from_a_network_that_is_born_dead(seed):
    setup = replace(EXPERIMENTS["fig4"].setups["quick"], spec=UNetSpec(levels=2, features=3))
    start = setup.start(seed)
    assert EXPERIMENTS["fig4"].measure(start, setup, seed)["exact"] == 16


@pytest.mark.parametrize("bad", [{"size": "huge"}, {"seed": -1}], ids=["size", "seed"])
def test_bad_wishes_are_refused(bad):
    with pytest.raises(SettingsError, match="give"):
        drain(run_steps(EXPERIMENTS["fig5a"], **bad))


def test_the_command_prints_a_row_per_experiment_and_seed_of_what_is_random(capsys):
    assert cli.main(["paper", "cor4-l2", "stitching", "fig1-l2", "--seed", "3", "1"]) == 0
    out = capsys.readouterr().out
    runs = ["cor4-l2, seed 3", "stitching, seed 3", "stitching, seed 1", "fig1-l2, seed 3"]
    assert out.count(": met, as it has to be: a check of the code (") == 4
    assert all(f"{run}: met" in out for run in runs) and "16 distinct outputs" in out


@pytest.mark.parametrize("size", ["quick", "full"])
def test_seeds_that_change_nothing_are_no_further_runs(size):
    same = {name for name, one in EXPERIMENTS.items() if not one.setups[size].random}
    assert same == {name for name in EXPERIMENTS if name.startswith(("fig1-", "cor4-"))} | {"tile-size"}
    drawn = EXPERIMENTS["fig6-noise"].setups[size].test
    constructed = EXPERIMENTS["cor4-l2"].setups[size]
    assert replace(constructed, test=drawn).random and not replace(constructed, test=replace(drawn, noise=0.0)).random


@pytest.mark.parametrize("size", ["quick", "full"])
def test_what_follows_from_the_layers_is_told_as_a_check_of_the_code(size, capsys):
    """A training is evidence for a claim only where the network could have come out otherwise."""
    certain = {name for name, one in EXPERIMENTS.items() if one.certain}
    assert certain == {name for name in EXPERIMENTS if name.startswith(("fig1-", "cor4-"))} | {
        "stitching",
        "tile-size",
        "fig4-fixed",
    }
    setup = EXPERIMENTS["fig4-fixed"].setups[size]
    for seed in range(3):
        torch.manual_seed(seed)
        assert EXPERIMENTS["fig4-fixed"].met(EXPERIMENTS["fig4-fixed"].measure(UNet(setup.spec), setup, seed)), "untrained"
    assert cli.main(["paper", "fig5a"]) == 0
    assert "check of the code" not in capsys.readouterr().out


def test_the_command_tells_by_its_exit_code_that_an_expectation_was_not_met(capsys, monkeypatch):
    never = replace(EXPERIMENTS["cor4-l2"], met=lambda found: False)
    monkeypatch.setattr("napari_shiftseg.paper.EXPERIMENTS", {"cor4-l2": never})
    assert cli.main(["paper", "all", "--json"]) == 3
    (row,) = json.loads(capsys.readouterr().out)["findings"]
    assert row["met"] is False and row["measured"]["codes"] == 16


def test_the_command_names_the_experiments_there_are(capsys):
    assert cli.main(["paper", "fig99"]) == 2
    assert "fig5a" in capsys.readouterr().err
    assert cli.main(["paper"]) == 0
    assert all(name in capsys.readouterr().out for name in ["fig2a"])
