"""Each entry of each document that is read, as something else: a result or a sentence, never a traceback or a wrong number."""

import csv
import json
import math
import os
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import zarr
from entries import ODD, changed, drawn
from grey import bars, grey_model

from napari_shiftseg import Job, SegmentSettings, cli, decide, link, load_model, open_result, read_image, save_model, segment
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import Image, StoredEdits, measured, read_labels
from napari_shiftseg.views import View

# Draws of each document: with every one, as SHIFTSEG_ENTRIES=1000000 asks, they take hours.
MANY = int(os.environ.get("SHIFTSEG_ENTRIES", "2000"))
SECONDS = 10
CPU = SegmentSettings(device="cpu", keep_embedding=True, write=16)
PIXELS = bars((40, 48), 1)


@contextmanager
def in_time(what):
    """An error after ten seconds of waiting."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number, frame):
        raise AssertionError(f"{what}: {SECONDS} s were not enough")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A result of an image, and a linked one of a series."""
    folder = tmp_path_factory.mktemp("entries")
    model = load_model(save_model(folder / "m.safetensors", grey_model()))
    image = Image.from_array(PIXELS, axes="yx", scale=(0.5, 0.5), units=("micrometer",) * 2)
    segment(image, model, CPU, folder / "image.zarr")
    series = Image.from_array(np.stack([PIXELS] * 2), axes="tyx", scale=(1, 0.5, 0.5), units=("second", *("micrometer",) * 2))
    segment(series, model, CPU, folder / "frames.zarr")
    link(folder / "frames.zarr", "t", out=folder / "series.zarr")
    return folder


def opened(path):
    result = open_result(path)
    assert len(result.scale) == len(result.units) == len(result.translation) == result.labels.ndim == len(result.axes)
    assert all(math.isfinite(step) and step > 0 for step in result.scale), result.scale
    assert all(map(math.isfinite, result.translation))
    result.objects()
    for name in ("labels", "image", *result.outputs):
        result.levels(name)


def command(*words, json_out=False):
    """Run a command as the user does, and judge what it says."""

    def act(path, capsys):
        code = cli.main([str(path if word is None else word) for word in words])
        out, err = capsys.readouterr()
        assert code in (0, 2, 3, 4), err
        assert err.count("\n") == (0 if code in (0, 3) and not err else 1) and len(err) < 2500, err[:300]
        assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in out + err)
        if json_out and code == 0:
            json.loads(out, parse_constant=pytest.fail)
        return code

    return act


def table_of(path, capsys):
    target = path.parent / "t.csv"
    if command("measure", None, "--out", target, "--overwrite", "--quiet")(path, capsys) == 0:
        names, *rows = csv.reader(target.read_text(encoding="utf-8").splitlines())
        wrong = [name for at, name in enumerate(names) for row in rows if row[at] in ("inf", "-inf", "nan")]
        assert rows and not wrong, f"{wrong} are no numbers"


ACTS = {
    "open": lambda path, capsys: opened(path),
    "labels": lambda path, capsys: measured(read_labels(path)),
    "edits": lambda path, capsys: StoredEdits(path).rows(),
    "image": lambda path, capsys: read_image(path),
    "measure": table_of,
    "seams": command("seams", None, "--quiet", "--json", json_out=True),
    "info": command("info", None),
    "info as JSON": command("info", None, "--json", json_out=True),
    "code": command("info", None, "--code"),
    "command": command("info", None, "--command"),
    "geojson": command("export", None, "e.geojson", "--overwrite", "--quiet"),
    "tif": command("export", None, "e.tif", "--overwrite", "--quiet"),
    "ome-zarr": command("export", None, "e.ome.zarr", "--overwrite", "--quiet"),
    "relabel": command("relabel", None, "--labels-tiff", "l.tif", "--min-size", "9", "--overwrite", "--quiet"),
    "again": command("segment", "--from", None, "--labels-tiff", "f.tif", "--overwrite", "--quiet"),
    "link": command("link", None, "--through", "t", "--out", "k.zarr", "--overwrite", "--quiet"),
}
FAST = ("open", "edits", "info", "code", "labels", "seams")
FILES = ("zarr.json", "0/zarr.json", "labels/zarr.json", "labels/instances/zarr.json", "labels/instances/0/zarr.json")


def tried(path, file, chosen, acts, capsys):
    """Each change of a file, read in one of the ways; how many were refused."""
    whole = (path / file).read_text(encoding="utf-8")
    refused = 0
    for number, (at, odd) in enumerate(chosen):
        name = acts[number % len(acts)]
        told = f"{name} of {file} where {'.'.join(map(str, at))} is {odd}"
        (path / file).write_text(json.dumps(changed(json.loads(whole), at, ODD[odd])), encoding="utf-8")
        try:
            with in_time(told):
                refused += ACTS[name](path, capsys) == 2
        except ShiftsegError as exc:
            refused += 1
            assert "\n" not in str(exc), told
        except Exception as exc:
            raise AssertionError(told) from exc
        finally:
            (path / file).write_text(whole, encoding="utf-8")
    return refused


@pytest.mark.parametrize("name", ["image", "series"])
def test_a_result_of_which_an_entry_is_something_else(stores, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = stores / f"{name}.zarr"
    chosen = drawn(json.loads((path / "zarr.json").read_text(encoding="utf-8")), 60, seed=len(name))
    assert tried(path, "zarr.json", chosen, FAST, capsys) > 5


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", ["image", "series"])
def test_every_description_of_a_result(stores, name, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = stores / f"{name}.zarr"
    chosen = drawn(json.loads((path / file).read_text(encoding="utf-8")), MANY // len(FILES), seed=7)
    assert tried(path, file, chosen, list(ACTS), capsys) > MANY // 100


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("count", [120, pytest.param(MANY, marks=pytest.mark.slow)])
def test_an_image_of_which_an_entry_is_something_else(tmp_path, version, count):
    """Steps and places are numbers, and what was there is the same wherever it is read."""
    path = tmp_path / "i.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    group.create_array("0", data=pixels)
    entry = {
        "version": "0.4",
        "name": "a",
        "axes": [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, 2.0]},
                    {"type": "translation", "translation": [3.0, 4.0]},
                ],
            }
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}],
    }
    omero = {"channels": [{"label": "DAPI", "color": "0000FF", "window": {"start": 0, "end": 9}}]}
    if version == 2:
        group.attrs.update({"multiscales": [entry], "omero": omero})
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{**entry, "version": "0.5"}], "omero": omero}
    files = (".zattrs", "0/.zarray") if version == 2 else ("zarr.json", "0/zarr.json")
    refused = 0
    for file in files:
        whole = (path / file).read_text(encoding="utf-8")
        for at, odd in drawn(json.loads(whole), count // 2, seed=version):
            (path / file).write_text(json.dumps(changed(json.loads(whole), at, ODD[odd])), encoding="utf-8")
            told = f"{file} where {'.'.join(map(str, at))} is {odd}"
            try:
                with in_time(told):
                    image = read_image(path)
                    values = View.whole(image.data)[...]
            except ShiftsegError as exc:
                refused += 1
                assert "\n" not in str(exc) and len(str(exc)) < 2500, told
                continue
            except Exception as exc:
                raise AssertionError(told) from exc
            assert len(image.scale) == len(image.axes) == len(image.units) == image.data.ndim, told
            assert all(1e-30 <= step <= 1e30 for step in image.scale) and all(map(math.isfinite, image.translation)), told
            assert values.shape == image.data.shape, told
        (path / file).write_text(whole, encoding="utf-8")
    assert refused > count // 10


@pytest.mark.parametrize("count", [400, pytest.param(20 * MANY, marks=pytest.mark.slow)])
def test_a_job_of_which_an_entry_is_something_else(count):
    whole = json.loads(decide(PIXELS, grey_model(), CPU).to_json())
    refused, chosen = 0, drawn(whole, count, seed=3)
    for at, odd in chosen:
        try:
            job = Job.from_dict(changed(whole, at, ODD[odd]))
            job.describe()
        except ShiftsegError as exc:
            refused += 1
            assert "\n" not in str(exc)
        except Exception as exc:
            raise AssertionError(f"{'.'.join(map(str, at))} is {odd}") from exc
    assert refused > len(chosen) // 4


@pytest.mark.parametrize("count", [150, pytest.param(2 * MANY, marks=pytest.mark.slow)])
def test_a_model_of_which_an_entry_is_something_else(tmp_path, count):
    """Of its header, and of the descriptions in it, which are texts of JSON."""
    path = save_model(tmp_path / "m.safetensors", grey_model())
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, refused = json.loads(data[8 : 8 + size]), 0
    inner = {key: json.loads(text) for key, text in header["__metadata__"].items() if text.startswith(("{", "["))}
    whole = {"header": header, "inner": inner}
    for at, odd in drawn(whole, count, seed=5):
        made = changed(whole, at, ODD[odd])
        if not isinstance(made, dict) or not isinstance(made.get("inner"), dict) or not isinstance(made.get("header"), dict):
            continue
        if isinstance(made["header"].get("__metadata__"), dict):
            texts = {key: json.dumps(value) for key, value in made["inner"].items()}
            made["header"]["__metadata__"] = {**made["header"]["__metadata__"], **(texts if at[0] == "inner" else {})}
        text = json.dumps(made["header"]).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
        told = f"{'.'.join(map(str, at))} is {odd}"
        try:
            with in_time(told):
                model = load_model(path)
                assert model.spec is not None and model.spec.period, told
        except ShiftsegError as exc:
            refused += 1
            assert "\n" not in str(exc) and len(str(exc)) < 2500, told
        except Exception as exc:
            raise AssertionError(told) from exc
    assert refused > count // 3


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such limit")
def test_the_sweep_sees_a_hang():
    with pytest.raises(AssertionError, match="were not enough"), in_time("a wait"):
        signal.raise_signal(signal.SIGALRM)
