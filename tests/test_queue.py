"""Many images: those of a folder and of a plate are found, each is done or named, and one table tells of all."""

import csv
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from grey import grey_model

from napari_shiftseg import SegmentSettings, cli, load_model, measure, open_result, read_image, save_model
from napari_shiftseg.errors import ImageError
from napari_shiftseg.events import drain
from napari_shiftseg.io import find_images, names_of, save_result
from napari_shiftseg.segmentation import queue
from napari_shiftseg.segmentation.queue import Item, ItemBegins, ItemDone, TimeLeft, decided_steps, queue_steps

ON_CPU = SegmentSettings(device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m.safetensors", grey_model(2, deep=0.5))


@pytest.fixture
def shiftseg(tmp_path, monkeypatch, capsys, model):
    """Segment in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(["segment", *map(str, arguments), "--model", str(model), "--device", "cpu", "--quiet"])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def bars(count=1, shape=(60, 60)):
    """So many bars of 44 x 6 px."""
    picture = np.zeros(shape, np.float32)
    for k in range(count):
        picture[8:52, 4 + 11 * k : 10 + 11 * k] = 1
    return picture


def draw(path, count=1):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, bars(count), resolution=(2, 2), resolutionunit="NONE", metadata={"unit": "um"}, imagej=True)
    return path


def draw_plate(path, version, fields=(("A/1", "0", 1), ("A/2", "0", 2), ("B/1", "0", 3), ("B/1", "1", 4)), **broken):
    """An OME-Zarr plate with so many bars per field."""
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    wells = list(dict.fromkeys(well for well, _, _ in fields))
    listed = [{"path": well, "rowIndex": 0, "columnIndex": 0} for well in wells]
    put = {"plate": {"version": version, "wells": listed, "rows": [], "columns": []} | broken}
    plate = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)

    def tell(group, values):
        group.attrs.update(values if version == "0.4" else {"ome": {"version": version, **values}})

    tell(plate, put)
    for well in wells:
        inner = plate.require_group(well)
        tell(inner, {"well": {"version": version, "images": [{"path": name} for at, name, _ in fields if at == well]}})
        for at, name, count in fields:
            if at == well:
                image = inner.create_group(name)
                entry = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}], "version": version}
                tell(image, {"multiscales": [entry]})
                image.create_array("0", data=bars(count), chunks=(32, 32))
    return path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# -- what is there -----------------------------------------------------------------------------------------------------


def test_the_images_of_a_folder_and_nothing_else_are_found(tmp_path):
    for name in ("b10.tif", "b9.TIF", "A1.tif", "deep/er/c.tif", ".hidden.tif", ".dark/d.tif"):
        draw(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "table.csv").write_text("x")
    (tmp_path / "broken.tif").write_bytes(b"no TIFF")
    (tmp_path / "vendor.czi").write_bytes(b"ZISRAWFILE")
    tifffile.imwrite(tmp_path / "without_suffix.tif", bars())
    (tmp_path / "without_suffix.tif").rename(tmp_path / "without_suffix")
    zarr.open_array(tmp_path / "deep" / "z.zarr", mode="w", shape=(8, 8), dtype="u1")[:] = 1
    save_result(tmp_path / "b9_shiftseg.ome.zarr", labels=np.ones((8, 8), int), axes="yx", record={})

    def found(*wish, **wishes):
        return [one.name for one in find_images(tmp_path, *wish, **wishes)]

    top = ["A1.tif", "b9.TIF", "b10.tif", "broken.tif", "vendor.czi", "without_suffix"]
    assert found() == top
    assert found(recursive=True) == [*top, "deep/z.zarr", "deep/er/c.tif"]
    assert found("*.tif") == ["A1.tif", "b9.TIF", "b10.tif", "broken.tif"]
    assert found("b*.TIF;*.txt") == ["b9.TIF", "b10.tif", "broken.tif", "notes.txt"]
    assert found("deep/*.tif", recursive=True) == ["deep/er/c.tif"]
    for place, pattern in ((tmp_path, "*.png"), (tmp_path / "nowhere", "*"), (tmp_path / ".dark" / "none", "*")):
        with pytest.raises(ImageError, match=r"no image that matches \*.png|there is no"):
            find_images(place, pattern)
    os.symlink(tmp_path, tmp_path / "deep" / "loop")
    assert found(recursive=True) == [*top, "deep/z.zarr", "deep/er/c.tif"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_fields_of_a_plate_are_found_and_read(tmp_path, version):
    plate = draw_plate(tmp_path / "my.plate.zarr", version)
    found = find_images(plate)
    assert [one.name for one in found] == [f"my.plate.zarr/{at}" for at in ("A/1/0", "A/2/0", "B/1/0", "B/1/1")]
    assert names_of([one.called for one in found]) == [f"my.plate_{at}" for at in ("A_1_0", "A_2_0", "B_1_0", "B_1_1")]
    assert all(one.called.parent == tmp_path for one in found), "results lie beside the plate, not in it"
    assert [read_image(one.path).data[:].sum() for one in found] == [264, 528, 792, 1056]
    assert [one.name for one in find_images(tmp_path)] == [one.name for one in found], "also where it lies in a folder"
    assert [one.path for one in find_images(plate / "B" / "1")] == [plate / "B" / "1" / at for at in "01"]
    for one in (plate / "A" / "1" / "0", plate / "A" / "1" / "0" / "0"):
        assert [found.path for found in find_images(one)] == [one]


BROKEN = {
    "no wells": {"wells": None},
    "a well without a path": {"wells": [{}]},
    "a well outside": {"wells": [{"path": "../../etc"}]},
    "an absolute well": {"wells": [{"path": "/etc"}]},
    "numbers": {"wells": [1, 2]},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_plate_that_does_not_say_what_is_on_it_has_its_sentence(tmp_path, broken):
    with pytest.raises(ImageError, match="plate or well with broken metadata"):
        find_images(draw_plate(tmp_path / "p.zarr", "0.4", **broken))


# -- one table of all --------------------------------------------------------------------------------------------------


def test_one_table_tells_of_every_image_of_a_folder_and_one_of_every_object(shiftseg, tmp_path):
    for number, count in enumerate((2, 3, 0, 4)):
        draw(f"in/{number}.tif", count)
    Path("in/1b.tif").write_bytes(b"no image")
    code, _, err = shiftseg("in", "--out", "s", "--summary", "images.csv", "--features", "objects.csv")
    assert code == 2 and err.count("\n") == 1 and "1b.tif" in err
    table = rows("images.csv")
    assert [row["image"] for row in table] == ["0.tif", "1.tif", "1b.tif", "2.tif", "3.tif"]
    assert [row["state"] for row in table] == ["done", "done", "failed", "done", "done"]
    assert [row["objects"] for row in table] == ["2", "3", "", "0", "4"]
    assert [row["area"] for row in table] == ["132.0", "198.0", "", "0.0", "264.0"], "44 x 6 px of 0.5 um each"
    assert {row["unit"] for row in table if row["objects"] not in ("", "0")} == {"micrometer"}
    assert "no TIFF" in table[2]["error"] or "not a TIFF" in table[2]["error"]
    assert all(float(row["seconds"]) > 0 for row in table if row["state"] == "done")
    assert {row["verdict"] for row in table} == {"", open_result("s/0.ome.zarr").record["status"]}
    objects = rows("objects.csv")
    assert [row["image"] for row in objects] == ["0.tif"] * 2 + ["1.tif"] * 3 + ["3.tif"] * 4
    stored = open_result("s/1.ome.zarr")
    alone = measure(stored.labels, read_image("in/1.tif").data, spacing=stored.scale, units=stored.units)
    for name, column in alone.items():
        got = [row[name] for row in objects if row["image"] == "1.tif"]
        assert got == [str(value) for value in column.tolist()], name


def test_images_of_all_kinds_go_into_one_table_of_objects(shiftseg):
    draw("in/plane.tif", 2)
    series = np.stack([bars(1), bars(3)])
    tifffile.imwrite("in/series.tif", series, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite("in/colours.ome.tif", np.stack([bars(2), bars(2)]), photometric="minisblack", metadata={"axes": "CYX"})
    assert shiftseg("in", "--pattern", "*s.tif", "--channels", "0", "--features", "one.csv")[0] == 0
    code, _, err = shiftseg("in", "--features", "all.csv", "--summary", "s.csv", "--json")
    assert code == 2 and "colours gives 2 channels" in err
    got = rows("all.csv")
    assert [(row["image"], row["t"]) for row in got] == [("plane.tif", "")] * 2 + [("series.tif", "0.0")] + [
        ("series.tif", "1.0")
    ] * 3
    assert [row["objects"] for row in rows("s.csv")] == ["", "2", "4"]


def test_a_table_of_images_is_parquet_where_its_name_says_so(shiftseg):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    draw("in/plane.tif", 2)
    Path("in/none.tif").write_text("no image")
    assert shiftseg("in", "--features", "all.csv", "--summary", "s.parquet")[0] == 2
    assert pyarrow.read_table("s.parquet").column("objects").to_pylist() == [None, 2]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_gives_a_row_per_field_and_a_store_per_field(shiftseg, version):
    plate = draw_plate("plate.zarr", version)
    if version == "0.4":
        (Path(plate) / "A" / "2" / "0" / ".zattrs").write_text("{")
    code, _, err = shiftseg(plate, "--out", "s", "--summary", "t.csv")
    table = rows("t.csv")
    assert [row["image"] for row in table] == [f"plate.zarr/{at}" for at in ("A/1/0", "A/2/0", "B/1/0", "B/1/1")]
    assert [row["objects"] for row in table] == (["1", "2", "3", "4"] if version == "0.5" else ["1", "", "3", "4"])
    assert code == (0 if version == "0.5" else 2) and err.count("\n") == (version == "0.4")
    there = {path.name for path in Path("s").iterdir()}
    assert there == {
        f"plate_{at}.ome.zarr" for at, row in zip(("A_1_0", "A_2_0", "B_1_0", "B_1_1"), table, strict=True) if row["objects"]
    }


WRONG = {
    "a folder without images": (["empty", "--out", "s"], "holds no image"),
    "a pattern without a folder": (["in/0.tif", "--pattern", "*.tif", "--out", "s"], "about a folder"),
    "resume without stores": (["in", "--resume", "--summary", "t.csv"], "--resume keeps the stores"),
    "resume and overwrite": (["in", "--resume", "--overwrite", "--out", "s"], "--resume keeps the stores"),
    "no table": (["in", "--out", "s", "--summary", "t.txt"], ".csv or .parquet"),
    "a table over an image": (["in", "--out", "s", "--summary", "in/0.csv/t.csv"], "no folder"),
    "a table that is there": (["in", "--out", "s", "--summary", "there.csv"], "is there already"),
    "two tables at one place": (["in", "--summary", "t.csv", "--features", "t.csv"], "two results"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_bad_wishes_are_refused_before_anything_is_done(shiftseg, arguments, words):
    Path("empty").mkdir()
    Path("there.csv").write_text("mine")
    draw("in/0.tif")
    code, _, err = shiftseg(*arguments)
    assert code == 2 and words in err and err.count("\n") == 1
    assert Path("there.csv").read_text() == "mine" and not list(Path().glob("s/*"))


# -- going on ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_batch_goes_on_and_computes_nothing_twice(shiftseg, monkeypatch):
    for number in range(3):
        draw(f"in/{number}.tif", number + 1)
    from napari_shiftseg import segmentation

    real, ran = segmentation.run_steps, []

    def stop(job, **wish):
        ran.append(job.image.name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return real(job, **wish)

    monkeypatch.setattr(segmentation, "run_steps", stop)
    arguments = ("in", "--out", "s", "--summary", "t.csv", "--features", "o.csv", "--resume")
    assert shiftseg(*arguments)[0] == 130
    assert [row["objects"] for row in rows("t.csv")] == ["1"] and len(rows("o.csv")) == 1
    first = open_result("s/0.ome.zarr").record["run"]
    code, out, _ = shiftseg(*arguments)
    assert code == 0 and ran == ["0", "1", "1", "2"] and "there already, of the same image" in out
    assert open_result("s/0.ome.zarr").record["run"] == first
    assert [row["objects"] for row in rows("t.csv")] == ["1"], "an earlier table is kept"
    assert [(row["state"], row["objects"]) for row in rows("t-2.csv")] == [("there", "1"), ("done", "2"), ("done", "3")]
    assert len(rows("o-2.csv")) == 6


def change_a_pixel(path):
    pixels = tifffile.imread(path)
    times = os.stat(path)
    pixels[30, 55] += 0.01  # beyond all places of which a record keeps a digest
    tifffile.imwrite(path, pixels, imagej=True)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


OTHERS = {
    "the image": (lambda: change_a_pixel("in/0.tif"), (), "another image"),
    "the settings": (lambda: None, ("--min-size", "9"), "other settings"),
    "how the work is done": (lambda: None, ("--memory", "3GB"), None),
    "nothing": (lambda: None, (), None),
    "the labels, by hand": (lambda: edit("s/0.ome.zarr"), (), None),
    "a store of others": (lambda: other_store("s/0.ome.zarr"), (), "0.ome.zarr"),
}


def edit(store):
    group = zarr.open_group(store, mode="r+")
    ours = group.attrs["napari-shiftseg"]
    group.attrs["napari-shiftseg"] = ours | {"record": ours["record"] | {"edits": [{"kind": "delete"}]}}


def other_store(store):
    import shutil

    shutil.rmtree(store)
    zarr.open_group(store, mode="w").attrs["mine"] = 1


@pytest.mark.parametrize(("change", "wish", "words"), OTHERS.values(), ids=OTHERS)
def test_a_result_counts_as_done_only_if_it_is_of_the_same_image_model_and_settings(shiftseg, change, wish, words):
    draw("in/0.tif", 2)
    draw("in/1.tif", 3)
    assert shiftseg("in", "--out", "s")[0] == 0
    change()
    before = {path: path.stat().st_mtime_ns for path in Path("s").rglob("*")}
    code, _, err = shiftseg("in", "--out", "s", "--resume", "--summary", "t.csv", *wish)
    assert {path: path.stat().st_mtime_ns for path in Path("s").rglob("*")} == before, "nothing is replaced"
    first, second = rows("t.csv")
    assert (first["state"], code) == (("there", 0) if words is None else ("failed", 2))
    assert words is None or (words in err and words in first["error"])
    assert second["state"] == ("failed" if "settings" in str(words) else "there")
    assert first["verdict"].endswith(", edited") == ("--json" not in wish and change is OTHERS["the labels, by hand"][0])


def test_another_model_of_the_same_name_is_another_result(shiftseg, model, tmp_path):
    draw("in/0.tif", 2)
    assert shiftseg("in", "--out", "s")[0] == 0
    before = model.read_bytes()
    try:
        model.unlink()
        save_model(model, grey_model(2, deep=0.4))
        code, _, err = shiftseg("in", "--out", "s", "--resume")
    finally:
        model.write_bytes(before)
    assert code == 2 and "another model" in err


# -- the queue itself --------------------------------------------------------------------------------------------------


def test_who_stops_asking_keeps_what_is_done(tmp_path, model):
    items = [Item(name=f"{k}", source=draw(tmp_path / f"{k}.tif", k + 1), out=tmp_path / f"{k}.ome.zarr") for k in range(3)]
    steps = queue_steps(items, partial(decided_steps, model=load_model(model), settings=ON_CPU))
    while not isinstance(next(steps), ItemDone):
        pass
    while "network" not in getattr(next(steps), "text", ""):  # of the second
        pass
    next(steps)
    steps.close()
    assert sorted(path.name for path in tmp_path.glob("*.zarr")) == ["0.ome.zarr"]
    assert not list(tmp_path.glob(".*"))
    made = drain(queue_steps(items, partial(decided_steps, model=load_model(model), settings=ON_CPU)))
    assert [one.state for one in made] == ["there", "done", "done"]
    assert queue.images_table(made)["objects"].tolist() == [1, 2, 3]


def test_an_error_of_any_kind_is_the_outcome_of_its_image(tmp_path, model):
    """Also one of PyTorch, which says in its own words that memory ran out; and its arrays are let go."""

    def running(job):
        if job.image.name == "1":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return (yield from queue.run_steps(job))

    items = [Item(name=f"{k}", source=draw(tmp_path / f"{k}.tif")) for k in range(3)]
    kept = []
    made = drain(queue_steps(items, partial(decided_steps, model=load_model(model), settings=ON_CPU), running), kept.append)
    assert [one.state for one in made] == ["done", "failed", "done"]
    assert made[1].error.startswith("memory ran out (RuntimeError") and all(one.result is None for one in made)
    assert [event.outcome.result is None for event in kept if isinstance(event, ItemDone)] == [False, True, False]


def test_the_time_left_follows_the_weight_of_what_is_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(queue.time, "perf_counter", lambda: now[0])
    items = [Item(name=str(weight), source="x", weight=weight) for weight in (1.0, 3.0, 6.0)]
    left = TimeLeft()

    def over(item, state, seconds):
        left.follow(ItemDone(done=1, total=3, outcome=queue.Outcome(item=item, state=state, seconds=seconds)))

    assert left.seconds is None
    left.follow(ItemBegins(done=0, total=3, text="1", left=tuple(items)))
    now[0] = 1.0
    left.follow(queue.Event(done=1, total=2))
    assert left.seconds == pytest.approx(19.0), "half of the first in 1 s: 2 s for a weight of 1"
    now[0] = 2.0
    over(items[0], "done", 2.0)
    assert left.seconds == pytest.approx(18.0)
    left.follow(ItemBegins(done=1, total=3, text="3", left=tuple(items[1:])))
    now[0] = 4.0
    assert left.seconds == pytest.approx(16.0)
    over(items[1], "there", 0.1)  # what was there takes no time, and says nothing of the others
    assert left.seconds == pytest.approx(12.0)


def test_the_document_has_the_tables(shiftseg):
    draw("in/0.tif")
    code, out, _ = shiftseg("in", "--out", "s", "--summary", "t.csv", "--json")
    said = json.loads(out)
    assert code == 0 and said["tables"] == {"summary": str(Path("t.csv").absolute())}
    assert [Path(one["written"]["result"]).name for one in said["images"]] == ["0.ome.zarr"]
