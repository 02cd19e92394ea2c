"""`shiftseg synth`: what it draws, writes and refuses."""

import json

import numpy as np
import pytest
import tifffile

from napari_shiftseg import cli, synthetic
from napari_shiftseg.io import read_image


@pytest.fixture
def synth(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(["synth", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


DRAWN = {
    "disks": (["disks", "--shape", "60,50", "--spacing", "13,15", "--offset=-2,3", "--radius", "4.5", "--noise", "0.1"],
              lambda: synthetic.disks((60, 50), (13, 15), 4.5, offset=(-2, 3), noise=0.1)),
    "squares": (["squares", "--shape", "60,50", "--jitter", "2", "--light", "0.3", "--elastic", "0.2", "--seed", "4"],
                lambda: synthetic.squares((60, 50), 16, 5, jitter=2, light=0.3, elastic=0.2, seed=4)),
    "balls": (["disks", "--shape", "20,30,30"], lambda: synthetic.disks((20, 30, 30), 16, 5)),
    "constant": (["constant", "--shape", "20,30", "--value", "0.5"], lambda: synthetic.constant((20, 30), value=0.5)),
    "ramp": (["ramp", "--shape", "20,30"], lambda: synthetic.ramp((20, 30))),
    "blobs": (["blobs", "--shape", "80,80", "--count", "5", "--radius", "4,8", "--touching", "1"],
              lambda: synthetic.blobs((80, 80), 5, radius=(4, 8), touching=1)),
    "preset": (["fig7b"], lambda: synthetic.make(synthetic.preset("fig7b").recipe)),
    "preset, changed": (["fig2b", "--shape", "20,40,40", "--noise", "0.1"],
                        lambda: synthetic.disks((20, 40, 40), 15, 5, offset=4, noise=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_the_files_hold_what_the_library_draws_and_the_recipe(synth, tmp_path, name):
    arguments, draw = DRAWN[name]
    code, out, err = synth(*arguments, "--out", "image.tif", "--labels", "truth.tif")
    assert (code, err) == (0, "")
    expected = draw()
    np.testing.assert_array_equal(tifffile.imread("image.tif"), expected.image)
    np.testing.assert_array_equal(tifffile.imread("truth.tif"), expected.labels)
    with tifffile.TiffFile("truth.tif") as file:
        assert synthetic.make(json.loads(file.pages[0].description)["recipe"]).recipe == expected.recipe
    assert read_image("image.tif").axes == "zyx"[-expected.image.ndim :]
    assert "capacity" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "truth.tif"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fig2b"], "64 of 225 disks are distinguishable by l = 3, f = 2"),
        (["fig2b", "--levels", "2"], "16 of 225 disks are distinguishable by l = 2, f = 2"),
        (["fig2b", "--spacing", "16"], "1 of 196 disks is distinguishable by l = 3, f = 2"),
        (["fig3", "--pool", "3"], "484 of 484 disks are distinguishable by l = 4, f = 3"),
        (["constant", "--shape", "9,20,20", "--levels", "2", "--pool", "1,2,2:1,2,2"], "period 1 x 4 x 4 px"),
    ],
    ids=["preset", "levels", "spacing", "pool", "anisotropic"],
)
def test_the_capacity_line_follows_the_network(synth, arguments, line):
    assert line in synth(*arguments, "--out", "image.tif")[1]


def test_the_json_document_says_what_was_drawn(synth, tmp_path):
    code, out, _ = synth("fig2a", "--out", "a.tif", "--json")
    said = json.loads(out)
    assert code == 0 and said["image"] == str(tmp_path / "a.tif") and said["objects"] == 196
    assert synthetic.make(said["recipe"]).recipe == synthetic.preset("fig2a").recipe


def test_the_list_names_every_preset(synth):
    code, out, _ = synth("--list")
    assert code == 0
    for preset in synthetic.presets().values():
        assert preset.name in out and preset.shows in out
    assert set(json.loads(synth("--list", "--json")[1])) == set(synthetic.presets())


REFUSED = {
    "nothing": ([], "kind or a preset"),
    "no file": (["disks"], "add --out"),
    "unknown": (["stars", "--out", "a.tif"], "'stars' is neither a kind nor a preset"),
    "foreign option": (["fig4", "--spacing", "5", "--out", "a.tif"], "--spacing does not apply to fig4"),
    "two radii": (["disks", "--radius", "4,5", "--out", "a.tif"], "disks take one"),
    "one radius": (["blobs", "--radius", "4", "--out", "a.tif"], "not a pair"),
    "axes": (["disks", "--spacing", "4,5,6", "--out", "a.tif"], "3 entries for 2 axes"),
    "offset": (["disks", "--offset", "left", "--out", "a.tif"], "'left' was given"),
    "no room": (["blobs", "--shape", "64,64", "--count", "500", "--out", "a.tif"], "smaller count"),
    "pool per level": (["disks", "--pool", "2,2", "--out", "a.tif"], "pool"),
    "no folder": (["disks", "--out", "none/a.tif"], "no folder"),
    "same file": (["disks", "--out", "a.tif", "--labels", "a.tif"], "two names"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_one_line_and_leaves_no_file(synth, tmp_path, name):
    arguments, says = REFUSED[name]
    code, out, err = synth(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("shiftseg synth: ") and err.count("\n") == 1 and says in err
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_without_leave(synth):
    assert synth("fig5a", "--out", "a.tif")[0] == 0
    assert "--overwrite" in synth("fig5a", "--out", "a.tif")[2]
    assert synth("fig5b", "--out", "a.tif", "--overwrite")[0] == 0
    assert tifffile.imread("a.tif").shape == (64, 64)
