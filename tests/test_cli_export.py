"""`shiftseg measure` and `shiftseg export`."""

import csv
import json

import numpy as np
import pytest
import tifffile

from napari_shiftseg.cli import main
from napari_shiftseg.io import save_labels_tiff, save_result


@pytest.fixture
def folder(tmp_path, monkeypatch):
    labels = np.zeros((3, 20, 24), np.uint16)
    labels[:, 2:8, 3:9], labels[1, 10:15, 10:20] = 5, 12
    save_labels_tiff(tmp_path / "stack.tif", labels, "zyx", (2, 0.5, 0.5), ("um", "um", "um"))
    save_result(tmp_path / "result.ome.zarr", labels=labels[1], axes="yx", scale=(0.5, 0.5), units=("um", "um"), record={})
    tifffile.imwrite(tmp_path / "image.tif", np.where(labels[1] == 5, 7, 100).astype(np.uint16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_measure_writes_a_row_per_object(folder, capsys):
    assert main(["measure", "result.ome.zarr", "--out", "cells.csv", "--image", "image.tif", "--json"]) == 0
    one, other = rows(folder / "cells.csv")
    assert (one["label"], one["num_pixels"], one["area"], one["unit"]) == ("5", "36", "9.0", "micrometer")
    assert (other["label"], other["mean_intensity"], one["mean_intensity"]) == ("12", "100.0", "7.0")
    told = json.loads(capsys.readouterr().out)
    assert (told["objects"], told["unit"]) == (2, "micrometer")


def test_measure_takes_steps_and_planes_from_the_user(folder, capsys):
    assert main(["measure", "stack.tif", "--out", "a.csv", "--spacing", "3,1,1", "--unit", "nm"]) == 0
    assert [(row["area"], row["unit"]) for row in rows(folder / "a.csv")] == [("324.0", "nanometer"), ("150.0", "nanometer")]
    assert "objects in 3D" in capsys.readouterr().out
    assert main(["measure", "stack.tif", "--out", "b.csv", "--planes"]) == 0
    assert [(row["z"], row["label"], row["area"]) for row in rows(folder / "b.csv")] == [
        ("0", "5", "9.0"), ("1", "5", "9.0"), ("1", "12", "12.5"), ("2", "5", "9.0"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["c.tif", "c.ome.tif", "c.ome.zarr", "c.geojson", "c.zip", "c.csv"])
def test_export_writes_each_format_and_replaces_it_when_asked(name, folder, capsys):
    assert main(["export", "result.ome.zarr", name]) == 0
    assert name in capsys.readouterr().out
    assert main(["export", "result.ome.zarr", name]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", "result.ome.zarr", name, "--overwrite"]) == 0
    assert main(["measure", name, "--out", "again.csv"]) == (0 if name.startswith(("c.t", "c.o")) else 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "result.ome.zarr", "c.png"), "does not say a format"),
        (("export", "stack.tif", "stack.tif", "--overwrite"), "one of the inputs"),
        (("export", "result.ome.zarr", "result.ome.zarr", "--overwrite"), "one of the inputs"),
        (("export", "result.ome.zarr", "result.ome.zarr/c.zip"), "lies in"),
        (("export", "nowhere.tif", "c.zip"), "no image"),
        (("measure", "result.ome.zarr", "--out", "c.xlsx"), ".csv or .parquet"),
        (("measure", "stack.tif", "--out", "image.tif"), ".csv or .parquet"),
        (("measure", "stack.tif", "--out", "c.csv", "--image", "image.tif"), "does not belong"),
        (("measure", "stack.tif", "--out", "c.csv", "--spacing", "1,1"), "one for each of z, y, x"),
        (("measure", "stack.tif", "--out", "c.csv", "--spacing", "0,1,1"), "above 0"),
        (("measure", "stack.tif", "--out", "no/c.csv"), "no folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_nothing_is_written(words, said, folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
