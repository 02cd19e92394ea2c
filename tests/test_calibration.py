"""The search for settings of the clustering: each that a model has, one after the other, by images with a truth."""

from dataclasses import replace

import numpy as np
import pytest
from votes import said_of

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.evaluation import VALLEYS, FrameOutput, calibrate_steps
from napari_shiftseg.events import drain
from napari_shiftseg.network import Clustering

USUAL = Clustering(min_size=8)


def near_votes(truth, *, apart):
    """What a network says of squares that touch, whose votes are drawn together until they are so many bandwidths apart."""
    offsets, foreground, seeds, widths = said_of(truth, share=0.7, noise=0)
    middle = (np.argwhere(truth > 0)[:, 1].mean() - np.indices(truth.shape)[1])[truth > 0]
    offsets[1][truth > 0] = middle + np.sign(-middle) * apart / 2 * widths[truth > 0]
    return FrameOutput(embedding=offsets, foreground=foreground, truth=truth, said={"seeds": seeds, "bandwidths": widths})


@pytest.fixture
def squares():
    truth = np.zeros((40, 60), int)
    truth[10:30, 10:30], truth[10:30, 30:50] = 1, 2
    return truth


def test_objects_whose_votes_run_together_want_another_valley(squares):
    """Two objects 0.75 bandwidths apart, with 0.65 of the lower density between them; and one that says two places."""
    two = near_votes(squares, apart=0.75)
    only = ("least_seed", "valley", "threshold", "min_size")  # a smaller factor would part them as well
    found = drain(calibrate_steps([two], USUAL, coordinates=True, only=only))
    assert found.best == replace(USUAL, valley=0.8) and found.score.ap == 1
    everything = drain(calibrate_steps([two], USUAL, coordinates=True))
    assert {clustering.valley for clustering, _ in everything.tried} == {*VALLEYS}
    one = replace(two, truth=np.where(squares > 0, 1, 0))
    assert drain(calibrate_steps([one], USUAL, coordinates=True)).best == USUAL, "nothing changes without a gain"
    wide = drain(calibrate_steps([one], replace(USUAL, valley=0.8), coordinates=True, only=only)).best
    assert wide.valley < 0.65, "one object is no two"


def test_only_what_is_asked_for_is_searched(squares):
    two = near_votes(squares, apart=0.75)
    found = drain(calibrate_steps([two], USUAL, coordinates=True, only=["valley"]))
    assert [clustering for clustering, _ in found.tried] == [
        USUAL, *(replace(USUAL, valley=valley) for valley in VALLEYS if valley != USUAL.valley),
    ]  # fmt: skip
    assert found.best.valley == 0.8
    for name, output in (("dip", two), ("valley", replace(two, said={})), ("depth", two)):
        with pytest.raises(SettingsError, match=f"{name} cannot be calibrated"):
            drain(calibrate_steps([output], USUAL, coordinates=True, only=[name]))
