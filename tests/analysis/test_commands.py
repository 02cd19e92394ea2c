"""`shiftseg verify`, `seams` and `probe`: what they say and return."""

import json

import numpy as np
import pytest
import tifffile
import torch

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, cli, match_score, open_result, segment, synthetic
from napari_shiftseg.io import save_model
from napari_shiftseg.network import Model, ModelRecord

SPEC = UNetSpec(levels=2, features=3, embedding_dim=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image, a series, their truth, a model, and a result of the series."""
    root = tmp_path_factory.mktemp("analysis")
    torch.manual_seed(0)
    model = Model(spec=SPEC, module=UNet(SPEC).eval(), record=ModelRecord(window=(16, 16)))
    save_model(root / "model.safetensors", model)
    drawn = synthetic.blobs((70, 66), 8, radius=(5, 8), seed=0)
    image, truth = (drawn.image * 200).astype(np.uint8), drawn.labels.astype(np.uint16)
    series = {"imagej": True, "metadata": {"axes": "TYX"}}
    tifffile.imwrite(root / "image.tif", image)
    tifffile.imwrite(root / "series.tif", np.stack([image, image[::-1]]), **series)
    tifffile.imwrite(root / "truth.tif", np.stack([truth, truth[::-1]]), **series)
    segment(root / "series.tif", model, SegmentSettings(write=16, device="cpu"), root / "result.zarr")
    return root


@pytest.fixture
def shiftseg(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


def test_verify_passes_on_whole_periods_and_fails_on_others(shiftseg, folder):
    common = ("verify", folder / "image.tif", "--model", folder / "model.safetensors", "--device", "cpu", "--tile")
    code, out, _ = shiftseg(*common, 16)
    assert code == 0 and "25 tiles equal one pass over the whole result" in out
    code, _, err = shiftseg(*common, 18)
    assert code == 3 and "--allow-noncompliant" in err
    code, out, _ = shiftseg(*common, 18, "--allow-noncompliant", "--json")
    assert code == 3 and json.loads(out)["first"] == [[0, 18], [18, 36]]


def test_verify_takes_a_frame_of_a_series(shiftseg, folder):
    common = ("verify", folder / "series.tif", "--model", folder / "model.safetensors", "--tile", 16, "--device", "cpu")
    assert shiftseg(*common, "--frame", 1)[0] == 0
    code, _, err = shiftseg(*common, "--frame", 2)
    assert code == 2 and "give 0 to 1" in err


def test_seams_reports_a_frame_and_writes_a_table(shiftseg, folder, tmp_path):
    code, out, _ = shiftseg(
        "seams", folder / "result.zarr", "--truth", folder / "truth.tif", "--frame", 1, "--csv", tmp_path / "s.csv"
    )
    assert code == 0 and "the tiles do not show" in out and "true objects at seams" in out
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + 8
    code, out, _ = shiftseg("seams", folder / "result.zarr", "--json")
    document = json.loads(out)
    assert code == 0 and document["seams"] == 8 and document["exposed"] is False


def test_seams_tells_missed_and_extra_objects_and_which_statement_is_which(shiftseg, folder, tmp_path):
    common = ("seams", folder / "result.zarr", "--frame", 1)
    code, out, _ = shiftseg(*common, "--truth", folder / "truth.tif")
    assert code == 0 and "warn: No seam shows, but the objects are not all right." in out
    code, out, _ = shiftseg(*common, "--truth", folder / "truth.tif", "--json")
    document = json.loads(out)
    labels = open_result(folder / "result.zarr").labels[1]
    score = match_score(labels, tifffile.imread(folder / "truth.tif")[1])
    assert not score.right and all(document["score"][name] == score.row()[name] for name in ("fn", "fp", "unlabelled"))
    assert (document["exposed"], document["right"], document["finding"]) == (False, False, "warn")
    assert sum(row["missed"] for row in document["table"]) >= document["splits"]["at_seams"]["fn"] > 0
    tifffile.imwrite(tmp_path / "same.tif", open_result(folder / "result.zarr").labels[...], imagej=False)
    code, out, _ = shiftseg(*common, "--truth", tmp_path / "same.tif", "--json")
    assert (json.loads(out)["right"], json.loads(out)["finding"]) == (True, "pass")
    code, out, _ = shiftseg(*common)
    assert code == 0 and "pass: No seam shows; whether the objects are right, only a truth tells." in out


def test_seams_refuses_a_frame_and_a_mask_that_are_not_there(shiftseg, folder):
    code, _, err = shiftseg("seams", folder / "result.zarr", "--frame", 2)
    assert code == 2 and err.count("\n") == 1
    code, _, err = shiftseg("seams", folder / "result.zarr", "--truth", folder / "image.tif")
    assert code == 2 and "give a mask of their shape" in err


def test_probe_finds_what_the_model_declares(shiftseg, folder):
    code, out, _ = shiftseg("probe", "--model", folder / "model.safetensors")
    assert code == 0 and "period of 4 px" in out and "keeps what is declared" in out
    code, out, _ = shiftseg("probe", "--model", folder / "model.safetensors", "--shifts", "2", "--json")
    assert code == 0 and json.loads(out)["period"] == [None, None]


def test_probe_says_the_effective_period_on_noise_and_on_an_image(shiftseg, folder):
    code, out, _ = shiftseg("probe", "--model", folder / "model.safetensors")
    assert code == 0 and "On noise the output changes" in out and "effective period is" in out
    common = ("probe", folder / "image.tif", "--model", folder / "model.safetensors")
    code, out, _ = shiftseg(*common, "--json")
    found = json.loads(out)["effective"]
    assert code == 0 and found["declared"] == [4, 4] and "On this image" in found["text"]
    assert [sorted(felt) for felt in found["change"]] == [["1", "2", "3"]] * 2
    code, out, _ = shiftseg(*common, "--tolerance", "1000", "--json")
    assert code == 0 and json.loads(out)["effective"]["period"] == [1, 1]
