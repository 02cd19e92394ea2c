"""`shiftseg`: what it says, writes and returns, command by command."""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_shiftseg import SegmentSettings, cli, load_model, open_result, segment, synthetic
from napari_shiftseg.cli.options import byte_count, edges, pooling
from napari_shiftseg.cli.pairs import find_pairs
from napari_shiftseg.cli.train import read_images, train_settings
from napari_shiftseg.errors import OutOfMemoryError
from napari_shiftseg.geometry import UNetSpec, plan_stream, plan_tiles
from napari_shiftseg.io import save_model
from napari_shiftseg.network import Clustering, Model, ModelRecord, TrainSettings, UNet

SPEC = UNetSpec(levels=2, features=4, embedding_dim=2, foreground=True, coordinates=True)
TRAINED = ModelRecord(window=(16, 16), clustering=Clustering(bandwidth=3.0, min_size=8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two images with masks and a meta.csv, a model, and models that break a rule or hold no record."""
    root = tmp_path_factory.mktemp("cli")
    data = root / "data"
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    rows = ["id,split,kind"]
    for seed, (name, split) in enumerate((("b", "train"), ("a", "train"), ("c", "val"))):
        drawn = synthetic.blobs((72, 60), 8, radius=(5, 8), seed=seed)
        tifffile.imwrite(data / "images" / f"{name}.tif", (drawn.image * 200).astype(np.uint8))
        tifffile.imwrite(data / "masks" / f"{name}.tif", drawn.labels.astype(np.uint16))
        rows.append(f"{name},{split},{'odd' if seed % 2 else 'even'}")
    (data / "meta.csv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(0)
    module = UNet(SPEC).eval()
    with torch.no_grad():
        module.head.bias[-1] = 3.0  # foreground nearly everywhere, so that there are instances
    model = Model(spec=SPEC, module=module, record=TRAINED)
    save_model(root / "model.safetensors", model)
    save_model(root / "short.safetensors", replace(model, record=replace(TRAINED, window=(4, 4))))
    save_model(root / "bare.safetensors", replace(model, record=None))
    return root


@pytest.fixture
def shiftseg(folder, tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def one_line(err: str) -> str:
    assert err.startswith("shiftseg") and err.count("\n") == 1, err
    return err


def fields(out: str) -> dict[str, str]:
    """First line of each field of a report."""
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line[:1].strip()]
    return {name: text for name, *rest in reversed(lines) for text in (*rest, "")[:1]}


# ---- usage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(shiftseg, name):
    code, out, err = shiftseg(name, "--help")
    assert (code, err) == (0, "")
    assert f"example:\n  shiftseg {name}" in out


def test_the_overview_names_every_command(shiftseg):
    code, out, _ = shiftseg()
    assert code == 0
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)


USAGE = {
    "unknown command": ["segmnt"],
    "missing argument": ["train"],
    "unknown option": ["info", "--colour"],
    "tile that is no number": ["segment", "x.tif", "--tile", "big"],
    "memory without unit": ["segment", "x.tif", "--memory", "lots"],
    "no result asked for": ["segment", "x.tif"],
    "negative steps": ["train", "d", "--out", "m", "--steps", "-3"],
    "threshold above 1": ["segment", "x.tif", "--out", "r.zarr", "--threshold", "1.5"],
    "no such image": ["info", "--image", "x.tif"],
    "no such model": ["info", "--model", "x.safetensors"],
    "no such data": ["evaluate", "nowhere"],
    "whole and tile": ["evaluate", "nowhere", "--whole", "--tile", "8"],
    "only without calibrate": ["evaluate", "nowhere", "--only", "valley"],
    "write without calibrate": ["evaluate", "nowhere", "--write-model", "m.safetensors"],
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_bad_usage_is_one_line_and_exit_code_2(shiftseg, tmp_path, arguments):
    code, out, err = shiftseg(*arguments)
    assert (code, out) == (2, "")
    assert len(one_line(err)) > 30
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (edges, "96,200", (96, 200)),
        (edges, "200", 200),
        (pooling, "1,2,2:2,2,2", ((1, 2, 2), (2, 2, 2))),
        (byte_count, "1.5GiB", 3 * 2**29),
        (byte_count, "4096", 4096),
    ],
)
def test_options_read_what_people_write(read, text, value):
    assert read(text) == value


# ---- segment -------------------------------------------------------------------------------------------------------


def test_segment_writes_a_result_that_opens(shiftseg, folder, tmp_path):
    image = folder / "data" / "images" / "a.tif"
    results = ("--out", "r.ome.zarr", "--labels-tiff", "r.tif", "--picture", "r.png", "--table", "r.csv")
    code, out, err = shiftseg("segment", image, "--model", folder / "model.safetensors", "--tile", "24,16", *results)
    assert (code, err) == (0, "")
    stored = open_result(tmp_path / "r.ome.zarr")
    assert stored.labels.shape == (72, 60) and stored.embedding.shape == (2, 72, 60)
    assert stored.record["plan"]["write"] == [24, 16]
    assert np.array_equal(tifffile.imread(tmp_path / "r.tif"), stored.labels[...])
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in rows] == list(range(1, stored.labels[...].max() + 1))
    assert sum(int(row["area"]) for row in rows) == (stored.labels[...] > 0).sum()
    assert {row["on_seam"] for row in rows} <= {"0", "1"}
    said = fields(out)
    assert said["plan"].startswith("3 x 4 tiles of 24 x 16 px = 6 x 4 periods of 4 px")
    assert said["status"].startswith("compliant")
    assert int(said["instances"]) == stored.labels[...].max() > 0
    assert said["result"] == str(tmp_path / "r.ome.zarr")


def test_axes_that_the_file_does_not_name_are_said_and_can_be_given(shiftseg, folder, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 40, 48), np.uint8), metadata=None, photometric="minisblack")
    model = ("--model", folder / "model.safetensors", "--quiet")
    _, said, _ = shiftseg("segment", "a.tif", *model, "--out", "guess.zarr")
    assert "3 planes as depth" in said and "--axes" in said
    assert open_result(tmp_path / "guess.zarr").axes == "zyx"
    code, said, _ = shiftseg("segment", "a.tif", *model, "--axes", "TYX", "--out", "named.zarr")
    assert code == 0 and "--axes" not in said
    assert open_result(tmp_path / "named.zarr").axes == "tyx"
    assert json.loads(shiftseg("info", "--image", "a.tif", "--axes", "tyx", "--json")[1])["image"]["axes"] == "tyx"
    for wrong in ("yx", "qyx", "tzyx", "yyx"):
        code, _, complaint = shiftseg("segment", "a.tif", *model, "--axes", wrong, "--out", "no.zarr")
        assert code == 2 and wrong in complaint and complaint.count("\n") == 1


def test_segment_prints_one_json_document(shiftseg, folder):
    image = folder / "data" / "images" / "a.tif"
    code, out, err = shiftseg("segment", image, "--model", folder / "model.safetensors", "--picture", "p.png", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["status"] == "compliant" and document["device"]["name"]
    assert Path(document["written"]["picture"]).is_file()


def test_a_dry_run_says_what_the_run_would_take_and_writes_nothing(shiftseg, folder, tmp_path):
    common = ("segment", folder / "data/images/a.tif", "--model", folder / "model.safetensors", "--dry-run")
    before = sorted(tmp_path.iterdir())
    code, out, _ = shiftseg(*common, "--out-of-core", "--out", "new.zarr")
    assert code == 0 and {"blocks", "memory", "time"} <= set(fields(out))
    assert sorted(tmp_path.iterdir()) == before
    code, out, _ = shiftseg(*common, "--json")
    told = json.loads(out)["dry_run"]
    assert code == 0 and told["seconds"] > 0 and not told["out_of_core"] and told["memory"] > 0


def test_the_command_takes_shows_and_records_limits(shiftseg, folder, tmp_path):
    model = ["--model", folder / "model.safetensors"]
    image = folder / "data" / "images" / "a.tif"
    for number, (words, shown) in enumerate((
        (["--limits", "10,150"], "10 and 150 become 0 and 1"),
        (["--limits=-5,150", "--invert"], "-5 and 150 become 1 and 0"),
        (["--limits", "-5,150"], "-5 and 150 become 0 and 1"),
        (["--no-data", "-1e3", "--limits", "-.5,-.25"], "-0.5 and -0.25 become 0 and 1"),
        (["--percentiles", "5,95", "--no-data", "0"], " become 0 and 1"),
    )):  # fmt: skip
        out = tmp_path / f"{number}.zarr"
        code, text, _ = shiftseg("segment", image, *model, "--out", out, *words)
        assert code == 0 and shown in text
        record = open_result(out).record
        wish = {name: record["settings"][name] for name in ("limits", "percentiles", "invert", "no_data")}
        again = segment(image, folder / "model.safetensors", SegmentSettings(**wish))
        np.testing.assert_array_equal(again.labels, open_result(out).labels[:])
        assert record["limits"] == json.loads(json.dumps(again.record["limits"]))
    code, text, _ = shiftseg("segment", image, *model, "--dry-run", "--limits", "0,1")
    assert code == 0 and "above the upper limit" in text
    code, text, _ = shiftseg("verify", image, *model, "--tile", "16", "--limits", "10,150", "--invert")
    assert code == 0 and "10 and 150 become 1 and 0" in text
    code, text, _ = shiftseg("evaluate", folder / "data", *model, "--percentiles", "2,98")
    assert code == 0


@pytest.mark.parametrize("words", [
    ["--limits", "5"], ["--limits", "5,2"], ["--limits", "a,b"], ["--limits", "1,nan"], ["--percentiles", "1,2,3"],
    ["--no-data", "nan"], ["--limits-per", "tile"], ["--limits", "1,2", "--percentiles", "1,99"],
])  # fmt: skip
def test_limits_that_are_none_are_bad_usage(shiftseg, folder, words):
    code, _, said = shiftseg("segment", folder / "data" / "images" / "a.tif", "--out", "r.zarr", *words)
    assert code == 2 and words[-2] in said


def test_segment_never_replaces_a_result_unasked(shiftseg, folder):
    common = ("segment", folder / "data/images/a.tif", "--model", folder / "model.safetensors", "--out", "r.ome.zarr")
    assert shiftseg(*common, "--no-embedding")[0] == 0
    assert open_result("r.ome.zarr").embedding is None
    code, out, err = shiftseg(*common)
    assert (code, out) == (2, "") and "--overwrite" in one_line(err)
    assert shiftseg(*common, "--overwrite")[0] == 0
    assert open_result("r.ome.zarr").embedding is not None


def test_several_images_go_into_a_folder_and_one_that_fails_stops_no_other(shiftseg, folder, tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0 no")
    images = [folder / "data/images/a.tif", "broken.tif", folder / "data/images/b.tif"]
    code, out, err = shiftseg("segment", *images, "--model", folder / "model.safetensors", "--labels-tiff", "all", "--json")
    assert code == 2 and "broken.tif" in one_line(err)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["a.tif", "b.tif"]
    assert ["error" in entry for entry in json.loads(out)["images"]] == [False, True, False]


def test_progress_goes_to_a_terminal_and_not_into_the_report(shiftseg, folder, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    common = ("segment", folder / "data/images/a.tif", "--model", folder / "model.safetensors", "--picture", "p.png")
    code, out, err = shiftseg(*common, "--tile", 16, "--method", "tiles")
    assert code == 0 and "network:" in err and "/20 [" in err
    assert "network:" not in out
    assert shiftseg(*common, "--overwrite", "--quiet")[2] == ""


BROKEN = {
    "tile": ("model.safetensors", ["--tile", "18"], "use 20 px or 16 px", "non-compliant"),
    "tile of a deterministic run": ("model.safetensors", ["--tile", "18", "--deterministic"], "use 20 px or 16 px", None),
    "training window": ("short.safetensors", [], "train with 8 px or more", "tile-exact"),
}


@pytest.mark.parametrize(("model", "options", "remedy", "status"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_exit_code_3_unless_it_is_allowed(shiftseg, folder, tmp_path, model, options, remedy, status):
    common = ("segment", folder / "data/images/a.tif", "--model", folder / model, "--out", "r.ome.zarr", *options)
    code, _, err = shiftseg(*common)
    assert code == 3
    assert remedy in one_line(err) and "--allow-noncompliant" in err
    assert not list(tmp_path.iterdir())
    code, out, err = shiftseg(*common, "--allow-noncompliant")
    assert (code, err) == (0, "")
    if status:
        assert fields(out)["status"].startswith(status) and "broken: " in out
        assert open_result("r.ome.zarr").record["status"] == status


FAILURES = {
    "no memory, ours": (OutOfMemoryError("memory ran out while computing a tile; use smaller tiles."), 4),
    "no memory, Python's": (MemoryError(), 4),
    "interrupted": (KeyboardInterrupt(), 130),
    "disk full": (OSError(28, "No space left on device"), 2),
}


@pytest.mark.parametrize(("failure", "expected"), FAILURES.values(), ids=FAILURES)
def test_a_run_that_stops_half_way_leaves_nothing(shiftseg, folder, tmp_path, monkeypatch, failure, expected):
    from napari_shiftseg.segmentation import pipeline

    def stop(*_, **__):
        raise failure
        yield

    monkeypatch.setattr(pipeline, "piece_steps", stop)
    image, model = folder / "data/images/a.tif", folder / "model.safetensors"
    code, _, err = shiftseg("segment", image, "--model", model, "--out", "r.ome.zarr", "--labels-tiff", "r.tif")
    assert code == expected
    assert len(one_line(err)) > 30
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_the_result_is_written_leaves_nothing(shiftseg, folder, tmp_path, monkeypatch):
    from napari_shiftseg.io import result

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(result, "_fill", stop)
    image, model = folder / "data/images/a.tif", folder / "model.safetensors"
    assert shiftseg("segment", image, "--model", model, "--out", "r.ome.zarr")[0] == 130
    assert not list(tmp_path.iterdir())


# ---- train ---------------------------------------------------------------------------------------------------------

TINY = [
    "--levels", "1", "--features", "4", "--embedding-dim", "2", "--coordinates", "--foreground", "--window", "12",
    "--batch", "1", "--device", "cpu",
]  # fmt: skip


def parsed(name: str, *arguments: object) -> argparse.Namespace:
    return cli.build_parser(name).parse_args([str(argument) for argument in arguments])


def test_the_defaults_of_train_are_those_of_the_settings():
    assert train_settings(parsed("train", "data", "--out", "m")) == TrainSettings()


def test_options_of_train_become_the_fields_of_their_names():
    text = (
        "a b --split train --features 32 --embedding-dim 2 --coordinates --foreground --window 196 --batch 2 --steps 12000 "
        "--learning-rate 1e-3 --dtype bfloat16 --delta-var 1 --delta-dist 4 --embedding-weight 0.1 --push-distance 8 "
        "--seed 0 --checkpoint nuclei.ckpt --checkpoint-every 250 --out nuclei.safetensors"
    )
    assert train_settings(parsed("train", *text.split())) == TrainSettings(
        spec=UNetSpec(features=32, embedding_dim=2, foreground=True, coordinates=True),
        window=196, batch=2, steps=12000, learning_rate=1e-3, dtype="bfloat16", delta_var=1.0, delta_dist=4.0,
        embedding_weight=0.1, push_distance=8.0, checkpoint=Path("nuclei.ckpt"), checkpoint_every=250, seed=0,
    )  # fmt: skip


def test_pairs_come_in_the_order_of_the_table_and_else_by_name(folder, tmp_path):
    data = folder / "data"
    assert [pair.name for pair in find_pairs([data, data], "train")] == ["b", "a", "b", "a"]
    (tmp_path / "images").symlink_to(data / "images")
    (tmp_path / "masks").symlink_to(data / "masks")
    assert [pair.name for pair in find_pairs([tmp_path])] == ["a", "b", "c"]


def test_training_sees_the_pixels_of_the_files(folder):
    pair, *_ = find_pairs([folder / "data"], "val")
    (image,) = read_images([pair], TrainSettings(), None, notes={})
    pixels, truth = tifffile.imread(pair.image), tifffile.imread(pair.mask)
    assert image.pixels.shape == (1, *pixels.shape)
    assert np.corrcoef(image.pixels[0].numpy().ravel(), pixels.ravel())[0, 1] > 0.99
    assert np.array_equal(image.labels.numpy() > 0, truth > 0)


def test_train_resumes_from_its_checkpoint_and_writes_a_model(shiftseg, folder, tmp_path, monkeypatch):
    common = ["train", folder / "data", "--split", "train", "--out", "m.safetensors", *TINY]
    common += ["--checkpoint", "m.ckpt", "--checkpoint-every", 1, "--steps", 3, "--note", "tiny", "--half"]

    from napari_shiftseg.cli import train as command

    whole = command._Log.show

    def interrupt_after_two(self, event, draw):
        whole(self, event, draw)
        if event.done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(command._Log, "show", interrupt_after_two)
    code, _, err = shiftseg(*common)
    assert code == 130
    assert "goes on from m.ckpt" in err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.ckpt"]

    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, out, err = shiftseg(*common)
    assert code == 0 and err.startswith("step 3 of 3: loss ")
    assert fields(out)["seconds"].endswith("for 1 steps")
    model = load_model(tmp_path / "m.safetensors")
    assert model.record.steps == 3 and model.record.note == "tiny" and model.record.window == (12, 12)
    assert model.record.data == "data (train): 2 images"
    code, _, err = shiftseg(*common)
    assert code == 2 and "--overwrite" in one_line(err)


def test_train_prints_one_json_document(shiftseg, folder):
    code, out, err = shiftseg("train", folder / "data", "--out", "m", *TINY, "--steps", 1, "--json", "--quiet")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["steps"] == 1 and Path(document["model"]).name == "m.safetensors"


WINDOWS = {
    "below the period": (["--levels", "3", "--window", "4"], 3, "train with 12 px or more"),
    "zero padding on single tiles": (["--padding", "zero", "--window", "16"], 3, "valid convolutions"),
    "no output of the network": (["--levels", "3", "--window", "195"], 2, "--window 188 or 196"),
    "kept below the period": (["--levels", "3", "--window", "12", "--keep", "8"], 3, "some were never compared"),
    "kept beyond the window": (["--levels", "3", "--window", "12", "--keep", "13"], 2, "from 1 px to those"),
    "three edges": (["--window", "8,8,8"], 2, "give 1 or 2"),
}


@pytest.mark.parametrize(("options", "expected", "remedy"), WINDOWS.values(), ids=WINDOWS)
def test_train_refuses_a_window_with_the_nearest_legal_one(shiftseg, folder, tmp_path, options, expected, remedy):
    code, _, err = shiftseg("train", folder / "data", "--out", "m.safetensors", "--features", "4", *options)
    assert code == expected
    assert remedy in one_line(err)
    assert not list(tmp_path.iterdir())


DATA_FAULTS = {
    "no such split": ("--split", "test", "no images of the split 'test'"),
    "no such channel": ("--channels", "3", "channel 3"),
}


@pytest.mark.parametrize(("option", "value", "complaint"), DATA_FAULTS.values(), ids=DATA_FAULTS)
def test_train_says_what_is_wrong_with_the_data(shiftseg, folder, option, value, complaint):
    code, _, err = shiftseg("train", folder / "data", "--out", "m", *TINY, option, value)
    assert code == 2 and complaint in one_line(err)


@pytest.mark.parametrize("fault", ["missing", "shape", "floats"])
def test_a_mask_that_does_not_fit_is_named(shiftseg, tmp_path, fault):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    tifffile.imwrite(tmp_path / "images" / "x.tif", np.zeros((32, 32), np.uint8))
    if fault != "missing":
        mask = np.zeros((32, 32), np.float32) if fault == "floats" else np.zeros((32, 31), np.uint8)
        tifffile.imwrite(tmp_path / "masks" / "x.tif", mask)
    code, _, err = shiftseg("train", tmp_path, "--out", "m", *TINY)
    assert code == 2 and "mask" in one_line(err) and "x" in err


# ---- evaluate ------------------------------------------------------------------------------------------------------


def test_evaluate_scores_calibrates_and_saves(shiftseg, folder, tmp_path, monkeypatch):
    from napari_shiftseg import evaluation

    monkeypatch.setattr(evaluation, "_GRID", (("bandwidth", (1.0, 2.0)), ("threshold", (0.5,)), ("min_size", (8, 16))))
    code, out, err = shiftseg(
        "evaluate", folder / "data", "--model", folder / "model.safetensors", "--by", "kind", "--baseline", "--tile", 16,
        "--csv", "s.csv", "--calibrate", "--write-model", "best.safetensors", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    document = json.loads(out)
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 == 1 + len(document["frames"])
    assert [entry["name"] for entry in document["frames"]] == ["b", "a", "c"]
    assert sum(entry["tp"] + entry["fn"] for entry in document["frames"]) == 24
    assert set(document["by"]) == {"odd", "even"}
    assert len(document["ap_by_iou"]) == 10
    assert document["baseline"]["ap"] > 0.5  # bright blobs: the classical method works
    tried = {json.dumps(entry, sort_keys=True) for entry in document["calibration"]["tried"]}
    assert len(tried) == 3  # what was tried before is not tried again
    best = document["calibration"]["score"]["ap"]
    assert best == max(entry["ap"] for entry in document["calibration"]["tried"]) >= document["pooled"]["ap"]
    assert vars(load_model("best.safetensors").record.clustering) == document["calibration"]["best"]


def test_one_setting_is_calibrated_and_all_others_stay(shiftseg, folder):
    common = ("evaluate", folder / "data", "--model", folder / "model.safetensors", "--tile", 16, "--calibrate", "--json")
    document = json.loads(shiftseg(*common, "--only", "min_size,threshold")[1])
    tried = document["calibration"]["tried"]
    assert {entry["bandwidth"] for entry in tried} == {3.0} and len({entry["min_size"] for entry in tried}) > 3
    code, _, err = shiftseg(*common, "--only", "valley")  # which no network without seeds has
    assert code == 2 and "valley cannot be calibrated for this model; choose of bandwidth, dip, threshold, min_size" in err


def test_evaluate_whole_and_tiled_agree(shiftseg, folder):
    common = ("evaluate", folder / "data", "--model", folder / "model.safetensors", "--split", "val", "--json")
    whole, tiled = (json.loads(shiftseg(*common, *more)[1]) for more in (["--whole"], ["--tile", 8]))
    assert whole["pooled"] == tiled["pooled"]


def test_evaluate_reports_in_words(shiftseg, folder):
    code, out, _ = shiftseg("evaluate", folder / "data", "--model", folder / "model.safetensors", "--split", "val")
    assert code == 0
    assert all(f"\n{name} " in out for name in ("objects", "images", "network", "AP at IoU"))
    (pooled,) = (line.split() for line in out.splitlines() if line.startswith("objects "))
    (mistakes,) = (line for line in out.splitlines() if line.startswith("mistakes "))
    missed, extra = pooled[5:7]
    assert f" {missed} of " in mistakes and f"; {extra} of " in mistakes and "missed (" in mistakes
    document = json.loads(
        shiftseg("evaluate", folder / "data", "--model", folder / "model.safetensors", "--split", "val", "--json")[1]
    )
    assert (document["pooled"]["fn"], document["pooled"]["fp"]) == (int(missed), int(extra))
    assert document["pooled"]["unlabelled"] == sum(frame["unlabelled"] for frame in document["frames"])


def test_evaluate_says_which_column_is_missing(shiftseg, folder):
    code, _, err = shiftseg("evaluate", folder / "data", "--model", folder / "model.safetensors", "--by", "colour")
    assert code == 2 and "--by colour" in one_line(err)


# ---- likeness ------------------------------------------------------------------------------------------------------


def test_train_states_what_the_model_knows_and_others_are_compared_with_it(shiftseg, folder):
    """Trained on bright blobs: such an image is alike, its negative is not, and check, segment and info say so."""
    code, out, err = shiftseg("train", folder / "data", "--out", "m", *TINY, "--steps", 1, "--kind", "round blobs", "--quiet")
    assert code == 0, err
    known = load_model("m.safetensors").record.known
    assert (known.kind, known.polarity, known.images, known.channels) == ("round blobs", "bright", 3, 1)
    assert fields(out)["knows"] == known.describe() == fields(shiftseg("info", "--model", "m.safetensors")[1])["knows"]
    image = folder / "data" / "images" / "a.tif"
    pixels = tifffile.imread(image)
    tifffile.imwrite("negative.tif", pixels.max() - pixels)
    for name, start in (
        (image, "Like what m knows: round blobs."),
        ("negative.tif", "Unlike what m knows, round blobs: dark objects"),
    ):
        code, out, _ = shiftseg("check", "--model", "m.safetensors", "--image", name)
        assert code == 0 and fields(out)["likeness"].startswith(start)
        before = fields(out)["likeness"]
        code, out, _ = shiftseg("segment", name, "--model", "m.safetensors", "--dry-run")
        assert code == 0 and fields(out)["likeness"] == before
    code, out, _ = shiftseg("segment", "negative.tif", "--model", "m.safetensors", "--picture", "p.png", "--json", "--quiet")
    told = json.loads(out)["likeness"]
    assert (code, told["verdict"], told["objects"]) == (0, "unlike", True)
    assert (
        json.loads(shiftseg("check", "--model", "m.safetensors", "--image", image, "--json")[1])["likeness"]["verdict"]
        == "like"
    )


def test_a_training_whose_own_images_cannot_be_segmented_is_kept(shiftseg, folder):
    """> the network was there, and the last look at what it knows ended the command without it"""
    words = ("train", folder / "data", "--out", "m", *TINY, "--steps", 1, "--quiet", "--bandwidth", "1e-300")
    code, out, err = shiftseg(*words)
    assert code == 0 and "the bandwidth is 1e-300" in err and err.count("\n") == 1, err
    assert fields(out)["knows"] == "not known" and load_model("m.safetensors").record.known is None


def test_info_lists_demonstrations_apart(shiftseg):
    said = fields(shiftseg("info")[1])
    assert "nuclei" in said["models"] and "disks" not in said["models"] and "disks-fig3" in said["demos"]


# ---- check and info ------------------------------------------------------------------------------------------------

CHECKS = {
    "kept": ("model.safetensors", ["--tile", "16"], 0, {"write-multiple": "pass", "training-window": "pass"}),
    "tile": ("model.safetensors", ["--tile", "18,16"], 3, {"write-multiple": "FAIL", "lattice": "FAIL", "crop": "pass"}),
    "training": ("short.safetensors", [], 3, {"write-multiple": "pass", "training-window": "FAIL"}),
    "no record": ("bare.safetensors", [], 0, {"training-window": "not known", "padding": "pass"}),
}


@pytest.mark.parametrize(("model", "options", "expected", "verdicts"), CHECKS.values(), ids=CHECKS)
def test_check_judges_every_rule(shiftseg, folder, model, options, expected, verdicts):
    image = folder / "data" / "images" / "a.tif"
    code, out, err = shiftseg("check", "--model", folder / model, "--image", image, *options, "--json")
    assert (code, err) == (expected, "")
    rules = {rule["rule"]: rule for rule in json.loads(out)["rules"]}
    assert len(rules) == 6
    assert {name: rules[name]["verdict"] for name in verdicts} == verdicts
    assert all(bool(rule["fix"]) == (rule["verdict"] == "FAIL") for rule in rules.values())
    assert all(rule["source"] for rule in rules.values())


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_check_counts_for_every_number_of_axes(shiftseg, ndim):
    spec = UNetSpec(levels=1, convs=1, features=2, ndim=ndim)
    save_model("m.safetensors", UNet(spec), ModelRecord(window=(3,) * ndim))
    code, out, _ = shiftseg("check", "--model", "m.safetensors")
    assert code == 0 and f"{2**ndim} of {2**ndim} functions, {ndim * 2**ndim} of {ndim * 2**ndim} pairs" in out


def test_check_without_an_image_judges_a_stand_in(shiftseg, folder):
    code, out, _ = shiftseg("check", "--model", folder / "model.safetensors", "--tile", "18")
    assert code == 3 and "none given; judged for 2048 x 2048 px" in out
    assert "use 20 px or 16 px" in out and out.count("FAIL") == 2


def test_info_names_versions_devices_and_why_there_is_no_cuda(shiftseg):
    code, out, _ = shiftseg("info", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["versions"]["torch"] == torch.__version__.split("+")[0] or document["versions"]["torch"]
    assert any(device["device"] == "cpu" for device in document["devices"])
    assert bool(document["no_cuda"]) == (not torch.cuda.is_available())


def test_info_shows_the_card_of_a_model_and_an_image(shiftseg, folder):
    image = folder / "data" / "images" / "a.tif"
    code, out, _ = shiftseg("info", "--model", folder / "model.safetensors", "--image", image)
    said = fields(out)
    assert code == 0
    assert said["image"] == "a: y 72, x 60; uint8"
    assert "windows of 16 x 16 px" in said["training"] and len(said["sha256"]) == 64


def test_info_weighs_tiles_and_the_network_against_what_the_device_can_do(shiftseg, folder):
    asked = ("--model", folder / "model.safetensors", "--device", "cpu", "--measure", "--tile", "40", "--plan")
    code, out, _ = shiftseg("info", *asked, "--shape", "120x100", "--json")
    assert code == 0
    said = json.loads(out)
    plan, limits = plan_tiles(SPEC, (120, 100), 40), said["limits"]
    tiles, stream = said["plan"]["methods"]
    assert (said["plan"]["tiles"], tiles["redundancy"]) == (len(plan), pytest.approx(plan.redundancy))
    assert stream["flops"] == pytest.approx(plan_stream(plan).flops) and tiles["chosen"] != stream["chosen"]
    assert sum(layer["flops"] for layer in limits["layers"]) == pytest.approx(SPEC.flops_per_pixel)
    for dtype, rate in limits["rates"]["matrix"].items():
        floor, bandwidth = limits["floor"][dtype], limits["rates"]["bandwidth"]
        by = {"arithmetic": limits["flops_per_pixel"] / rate, "memory": floor["bytes_per_pixel"] / bandwidth}
        assert floor["seconds_per_pixel"] == pytest.approx(max(by.values())) and by[floor["bound"]] == max(by.values())
        tile = said["measured"]["by_dtype"][dtype]
        assert tile["flops"] == pytest.approx(plan_tiles(SPEC, (40, 40), 40).flops)
        assert tile["seconds"] > 0 and tile["flops_per_second"] == pytest.approx(tile["flops"] / tile["seconds"])


def test_info_plans_the_image_that_is_given(shiftseg, folder):
    image = folder / "data" / "images" / "a.tif"
    code, out, _ = shiftseg("info", "--model", folder / "model.safetensors", "--device", "cpu", "--plan", "--image", image)
    said = fields(out)
    assert (code, said["tiles"].split(" = ")[0]) == (0, "1 x 1 tile of 72 x 60 px")
    assert said["stream"].startswith("strips of")
    code, _, err = shiftseg("info", "--model", folder / "model.safetensors", "--plan", "--shape", "8x8x8")
    assert code == 2 and "give 2" in one_line(err)
    code, _, err = shiftseg("info", "--plan")
    assert code == 2 and "--model" in one_line(err)


# ---- demo ----------------------------------------------------------------------------------------------------------


def test_demo_runs_twice_without_a_display(shiftseg, folder, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for _ in range(2):
        code, out, err = shiftseg("demo", "--model", folder / "model.safetensors", "--threshold", 1)
        assert (code, err) == (0, "")
    assert "no display" in fields(out)["napari"]
    assert fields(out)["score"].startswith("AP ")
    demo = tmp_path / "shiftseg-demo"
    assert shiftseg("demo", "--model", "none", "--out", "new")[0] == 2 and not (tmp_path / "new").exists()
    assert sorted(path.name for path in demo.iterdir()) == ["nuclei.ome.zarr", "nuclei.png"]
    result = open_result(demo / "nuclei.ome.zarr")
    assert result.labels.shape == (520, 696)
    assert fields(out)["method"] == result.record["method"]["name"] == "tiles"
    assert all(result.record["plan"]["seams"])  # which the viewer is to show


def buffered():
    """The environment of a child that keeps what it says until its end, as a shell gives it."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return own | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}


@pytest.mark.parametrize("words", ["--help", "synth --list", "synth disks --out s.tif --json"])
def test_a_closed_pipe_is_no_error(tmp_path, words):
    """As in `shiftseg --help | head -1`."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "napari_shiftseg", *words.split()],
            cwd=tmp_path, stdout=pipe, stderr=subprocess.PIPE, text=True, env=buffered(), check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


NOBODY = [(">&-", 0), (">&- 2>&-", 0), (">/dev/full", 2), ("2>/dev/full", 0), (">/dev/full 2>&1", 2)]
NOBODY = [*[("synth --list", *one) for one in NOBODY], ("--help", ">/dev/full", 2), ("--help", ">&-", 0)]
NOBODY += [("info --image none", "2>&-", 2), ("info --image none", "2>/dev/full", 2), ("nothing", ">&- 2>&-", 2)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")
@pytest.mark.parametrize(("words", "to", "code"), NOBODY)
def test_output_that_nobody_takes_is_no_mistake_of_ours(to, code, words):
    command = f"exec {sys.executable} -m napari_shiftseg {words} {to}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=buffered())
    assert done.returncode == code, done.stderr
    said = "cannot be written (No space left on device)" if to == ">/dev/full" else ""
    assert said in done.stderr and done.stderr.count("\n") == bool(said)


# Where a signal comes, as code that sends it there.
MOMENTS = {
    "as modules are loaded": "sys.meta_path.insert(0, Sends())",
    "in a finaliser": "from napari_shiftseg import cli; cli._run = lambda *_: id(Sends()) and time.sleep(30)",
    "in the last finaliser": "from napari_shiftseg import cli; cli._run = lambda *_: id(Sends()) * 0",
    "as threads are joined": "threading.Thread(target=lambda: (threading.main_thread().join(), kill())).start()",
    "at exit": "from napari_shiftseg import cli; cli._run = lambda *_: atexit.register(kill) and 0",
    "as Python ends": "sys.modules['last'] = Sends()",
}
SENT = """
import atexit, os, signal, sys, threading, time
from napari_shiftseg import __main__
class Sends:
    def find_spec(self, *_, kill=os.kill, mine=os.getpid()): kill(mine, {number})
    __del__ = find_spec
kill = Sends.find_spec.__get__(0)
signal.signal(signal.SIGINT, signal.default_int_handler)
{code}
sys.argv = ["shiftseg", "--version"]
sys.exit(__main__.main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows sends no signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_is_one_sentence_at_any_moment(moment, number):
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    code = SENT.format(number=int(number), code=MOMENTS[moment])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    word = "interrupted" if number == signal.SIGINT else "terminated"
    done_before = moment == "as Python ends"  # and all is said
    assert done.returncode == (0 if done_before else 128 + number), done.stderr
    assert done.stderr == ("" if done_before else f"shiftseg: {word}; nothing was half written.\n")


LOSES = """
import sys
from napari_shiftseg import __main__, cli
class Loses:
    def __del__(self): raise RuntimeError("Event loop is closed")
def work(*_):
    Loses()
    raise cli.ShiftsegError("no such chunk.")
cli._run = work
sys.argv = ["shiftseg", "info"]
sys.exit(__main__.main())
"""


def test_what_readings_that_nobody_waits_for_lose_is_not_said():
    """> a damaged chunk among many left 150 lines of the readings that were begun beside it"""
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", LOSES], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (2, "shiftseg info: no such chunk.\n")


@pytest.mark.gui
def test_demo_opens_the_sample_its_truth_and_the_result_in_napari(shiftseg, folder, monkeypatch):
    napari = pytest.importorskip("napari", reason="napari is not installed")
    pytest.importorskip("qtpy", reason="Qt is not installed")
    shown: list[list[str]] = []

    def look_and_close():
        viewer = napari.current_viewer()
        shown.append([layer.name for layer in viewer.layers])
        viewer.close()

    monkeypatch.setattr(napari, "run", look_and_close)
    code, out, err = shiftseg("demo", "--model", folder / "model.safetensors", "--threshold", 1)
    assert (code, err) == (0, "")
    assert fields(out)["napari"].startswith("opens now")
    assert shown == [["nuclei", "nuclei truth", "nuclei embedding", "nuclei embedding RGB", "nuclei instances"]]
