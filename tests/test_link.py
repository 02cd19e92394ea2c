"""Ids through z and t: what is linked, what the record says of it, and who takes it from there."""

import csv
import json

import numpy as np
import pytest

from napari_shiftseg import link, open_result, read_labels, relabel, segment, synthetic
from napari_shiftseg.cli import main
from napari_shiftseg.errors import ResultError, SettingsError
from napari_shiftseg.instances import object_table
from napari_shiftseg.io import Image, StoredEdits, export_labels, measured, save_labels_tiff, save_result
from napari_shiftseg.io.labels import labels_of


def labels(data, axes, scale=None, units=None):
    return labels_of(Image.from_array(np.asarray(data, np.uint16), axes=axes, scale=scale, units=units))


def disk(frame, y, x, number, radius=4):
    grid = np.indices(frame.shape)
    frame[(grid[0] - y) ** 2 + (grid[1] - x) ** 2 <= radius**2] = number


def numbers(linked):
    return [np.unique(frame)[1:].tolist() for frame in np.asarray(linked.labels.data)]


@pytest.fixture(scope="module")
def stack():
    return synthetic.blobs((18, 72, 72), count=6, radius=(7, 9), seed=1)


@pytest.fixture(scope="module")
def segmented(stack):
    image = Image.from_array(stack.image[None], axes="tzyx", scale=(1, 2, 0.5, 0.5), units=("second", *["micrometer"] * 3))
    return segment(image, "nuclei")


# -- through z --------------------------------------------------------------------------------------------------------


def test_memory_store_and_parts_give_the_same_objects(segmented, tmp_path):
    segmented.save(tmp_path / "r.zarr")
    made = link(segmented, "z")
    whole = np.asarray(made.labels.data)
    assert made.count == whole.max() and made.labels.ndim == 3
    for source in (tmp_path / "r.zarr", open_result(tmp_path / "r.zarr")):
        np.testing.assert_array_equal(np.asarray(link(source, "z").labels.data), whole)
    written = link(tmp_path / "r.zarr", "z", out=tmp_path / "z.zarr")
    again = open_result(written.path)
    np.testing.assert_array_equal(again.labels[...], whole)
    assert (again.scale, again.units, again.axes) == (segmented.scale, segmented.units, segmented.axes)
    np.testing.assert_array_equal(again.image[...], segmented.image.data)


def test_planes_keep_their_numbers_where_nobody_asks(segmented, tmp_path):
    before = segmented.labels.copy()
    segmented.save(tmp_path / "r.zarr")
    link(segmented, "z")
    link(tmp_path / "r.zarr", "z", out=tmp_path / "z.zarr")
    np.testing.assert_array_equal(segmented.labels, before)
    np.testing.assert_array_equal(open_result(tmp_path / "r.zarr").labels[...], before)


def test_the_record_says_what_was_linked_and_measure_takes_volumes(segmented, tmp_path):
    made = link(segmented, "z", out=tmp_path / "z.zarr", gap=0)
    told = open_result(tmp_path / "z.zarr").record
    assert told["linked"] == [
        {"through": "z", "settings": {"overlap": 0.5, "agreement": 0.75, "gap": 0}, "objects": made.count,
         "of": segmented.record["run"], "codes": True}
    ]  # fmt: skip
    assert told["run"] != segmented.record["run"] and told["instances"] == [made.count]
    stored = read_labels(tmp_path / "z.zarr")
    table = measured(stored)
    assert stored.ndim == 3 and len(table["label"]) == made.count and "parent" not in table
    pixels = object_table(np.asarray(stored.data)[0])
    np.testing.assert_allclose(table["area"], pixels["area"] * 0.5)
    assert "mean_intensity" in table


def test_each_stack_of_a_series_has_numbers_of_its_own():
    data = np.zeros((2, 3, 8, 8), int)
    data[0, :, 1:4, 1:4] = [[[5]], [[3]], [[9]]]
    data[1, :, 5:8, 1:4] = [[[2]], [[2]], [[1]]]
    made = link(labels(data, "tzyx"), "z")
    assert np.asarray(made.labels.data).max() == 1 and made.count == 2
    assert made.labels.record["instances"] == [1, 1] and not made.labels.record["linked"][0]["codes"]


def test_stacks_of_planes_then_series_of_stacks():
    data = np.zeros((2, 2, 20, 20), int)
    for t in range(2):
        for z in range(2):
            disk(data[t, z], 8 + t, 8, 1 + z + t)
    planes = labels(data, "tzyx")
    made = link(link(planes, "z").labels, "t")
    assert [step["through"] for step in made.labels.record["linked"]] == ["z", "t"]
    assert np.unique(np.asarray(made.labels.data)).tolist() == [0, 1]


# -- through t --------------------------------------------------------------------------------------------------------


def series(frames, shape=(60, 60)):
    """Frames of disks: (y, x, number, radius)."""
    made = np.zeros((len(frames), *shape), int)
    for frame, there in zip(made, frames, strict=True):
        for spot in there:
            disk(frame, *spot)
    return made


def test_objects_keep_their_numbers_though_frames_number_them_otherwise():
    data = series([[(10, 10, 1), (40, 40, 2)], [(12, 11, 7), (41, 42, 3)], [(14, 12, 1), (42, 44, 9)]])
    made = link(labels(data, "tyx"), "t")
    assert numbers(made) == [[1, 2]] * 3 and made.count == 2 and made.tracks.parents == {}
    assert (np.asarray(made.labels.data)[:, 41, 41] == 2).all()


def test_numbers_of_the_frames_and_their_order_do_not_matter():
    rng = np.random.default_rng(0)
    places = rng.permutation([(y, x) for y in range(6, 60, 12) for x in range(6, 60, 12)])
    data = series([[(y + t, x + t, n + 1) for n, (y, x) in enumerate(places)] for t in range(3)])
    other = np.stack([np.append(0, rng.permutation(len(places)) + 1)[frame] for frame in data])
    one, two = (np.asarray(link(labels(each, "tyx"), "t").labels.data) for each in (data, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("gap", "expected"), [(0, [[1], [], [2]]), (1, [[1], [], [1]])])
def test_an_object_may_vanish_for_a_frame(gap, expected):
    data = series([[(20, 20, 4)], [], [(21, 21, 2)]])
    assert numbers(link(labels(data, "tyx"), "t", gap=gap)) == expected


def test_an_object_that_splits_ends_and_two_begin():
    data = series([[(30, 30, 1, 8)], [(30, 30, 1, 8)], [(26, 30, 1, 5), (37, 30, 2, 5)], [(25, 30, 5, 5), (38, 30, 6, 5)]])
    made = link(labels(data, "tyx"), "t")
    assert numbers(made) == [[1], [1], [2, 3], [2, 3]] and made.tracks.parents == {2: 1, 3: 1}
    assert link(labels(data, "tyx"), "t", splits=False).tracks.parents == {}


@pytest.mark.parametrize("sizes", [(4, 6), (6, 4)])
def test_no_daughter_is_larger_than_what_it_came_from(sizes):
    """Neither the one that seems to go on, nor the one that is new."""
    data = series([[(30, 30, 1, 5)], [(28, 30, 1, sizes[0]), (41, 30, 2, sizes[1])]])
    assert link(labels(data, "tyx"), "t", distance=2).tracks.parents == {}


def test_a_way_is_counted_in_diameters_and_a_change_of_size_is_one():
    far = series([[(20, 20, 1)], [(32, 20, 1)]])  # 12 px, diameter 8
    assert numbers(link(labels(far, "tyx"), "t")) == [[1], [2]]
    assert numbers(link(labels(far, "tyx"), "t", distance=2)) == [[1], [1]]
    grown = series([[(30, 20, 1, 6), (30, 44, 2, 12)], [(30, 32, 1, 12)]])  # between both: the one of its size
    assert numbers(link(labels(grown, "tyx"), "t", splits=False)) == [[1, 2], [2]]


def test_steps_of_the_axes_count():
    """Four planes of 4 micrometers are as far as 16 pixels of one."""
    data = np.zeros((2, 12, 30, 30), int)
    data[0, 1:5, 8:16, 8:16] = 1
    data[1, 5:9, 8:16, 8:16] = 1
    assert numbers(link(labels(data, "tzyx"), "t")) == [[1], [1]]
    micro = ("second", *["micrometer"] * 3)
    assert numbers(link(labels(data, "tzyx", (1, 4, 1, 1), micro), "t")) == [[1], [2]]
    nano = ("second", "nanometer", "micrometer", "micrometer")
    assert numbers(link(labels(data, "tzyx", (1, 4000, 1, 1), nano), "t")) == [[1], [2]]


@pytest.mark.parametrize("count", [1, 3])
def test_series_without_objects_and_of_one_frame(count):
    data = np.zeros((count, 9, 9), int)
    made = link(labels(data, "tyx"), "t")
    assert made.count == 0 and made.tracks.places.shape == (0, 4)
    data[0, 4, 4] = 3
    assert numbers(link(labels(data, "tyx"), "t"))[0] == [1]


def test_places_are_the_data_of_a_tracks_layer():
    data = series([[(10, 10, 1), (40, 40, 2)], [(12, 11, 2)]])
    tracks = link(labels(data, "tyx"), "t").tracks
    assert tracks.places.tolist() == [[1, 0, 10, 10], [1, 1, 12, 11], [2, 0, 40, 40]]


def test_tables_and_geojson_say_where_objects_come_from(tmp_path):
    data = series([[(30, 30, 1, 8)], [(26, 30, 1, 5), (37, 30, 2, 5)], [(26, 30, 1, 5), (37, 30, 2, 5)]])
    made = link(labels(data, "tyx"), "t", out=tmp_path / "t.zarr")
    stored = read_labels(tmp_path / "t.zarr")
    table = measured(stored)
    rows = zip(*(table[name].tolist() for name in ("t", "label", "parent", "lineage")), strict=True)
    assert sorted(rows) == [(0, 1, 0, 1), (1, 2, 1, 1), (1, 3, 1, 1), (2, 2, 1, 1), (2, 3, 1, 1)]
    assert list(table)[:4] == ["t", "label", "parent", "lineage"]
    np.testing.assert_array_equal(stored.data[...], np.asarray(made.labels.data))
    export_labels(tmp_path / "t.geojson", stored)
    measures = [entry["properties"]["measurements"] for entry in json.loads((tmp_path / "t.geojson").read_text())["features"]]
    assert {entry["parent"] for entry in measures} == {0, 1}


def test_a_stack_of_one_plane_is_no_stack():
    data = np.zeros((3, 1, 9, 9), int)
    data[:, 0, 2:5, 2:5] = [[[3]], [[1]], [[2]]]
    assert numbers(link(labels(data, "tzyx"), "t")) == [[1]] * 3


@pytest.mark.parametrize("through", ["z", "t"])
def test_linked_objects_are_corrected_as_what_they_are(segmented, through, tmp_path):
    """Volumes as a whole, tracks frame by frame, also where no run made the labels."""
    if through == "z":
        link(segmented, "z", out=tmp_path / "l.zarr")
    else:
        data = series([[(10, 10, 1), (40, 40, 2)], [(11, 10, 1), (40, 40, 2)]])
        link(labels(data, "tyx"), "t", out=tmp_path / "l.zarr")
    stored = StoredEdits(tmp_path / "l.zarr")
    before = open_result(tmp_path / "l.zarr").labels[...]
    stored.delete(1, (0,))
    gone = before.copy()
    gone[0][gone[0] == 1] = 0
    np.testing.assert_array_equal(open_result(tmp_path / "l.zarr").labels[...], gone)
    assert before[0][before[0] == 1].size and (through == "z" or (gone[1] == 1).any())


# -- what cannot be linked --------------------------------------------------------------------------------------------


DAMAGED_LINKS = (
    5, {"through": "t"}, [5], ["through"], [{}], [{"through": "q"}], [{"through": ["t"]}],
    [{"through": "t", "parents": 3}], [{"through": "t", "parents": [[1]]}], [{"through": "t", "parents": [[2, "1"]]}],
    [{"through": "t", "parents": [[2, -1]]}], [{"through": "t", "parents": {"2": 1}}],
)  # fmt: skip


@pytest.mark.parametrize("told", DAMAGED_LINKS, ids=str)
def test_links_that_nobody_has_written_are_one_sentence(told, tmp_path, capsys):
    frames = np.zeros((2, 9, 9), np.uint16)
    frames[:, 2:6, 2:6] = 1
    link(labels(frames, "tyx"), "t", out=tmp_path / "t.zarr")
    described = json.loads((tmp_path / "t.zarr" / "zarr.json").read_text())
    described["attributes"]["napari-shiftseg"]["record"]["linked"] = told
    (tmp_path / "t.zarr" / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(ResultError, match="damaged"):
        measured(read_labels(tmp_path / "t.zarr"))
    assert main(["measure", str(tmp_path / "t.zarr"), "--out", str(tmp_path / "t.csv")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "linked" in said and not (tmp_path / "t.csv").exists()


def test_labels_that_cannot_be_linked_are_refused_by_name(segmented, tmp_path):
    plane = labels(np.ones((4, 4)), "yx")
    for through, word in (("z", "not a stack"), ("t", "not a series"), ("x", '"z" for a stack')):
        with pytest.raises(SettingsError, match=word):
            link(plane, through)
    with pytest.raises(SettingsError, match="through z first"):
        link(segmented, "t")
    linked = link(segmented, "z", out=tmp_path / "z.zarr")
    with pytest.raises(SettingsError, match="through z already"):
        link(linked.labels, "z")
    with pytest.raises(ResultError, match="is there already"):
        link(segmented, "z", out=tmp_path / "z.zarr")
    with pytest.raises(ResultError, match="linked through planes"):
        relabel(tmp_path / "z.zarr", min_size=3)
    with pytest.raises(SettingsError, match="no such setting"):
        link(segmented, "z", distance=3)


def test_a_volume_of_a_3d_model_is_no_pile_of_planes(tmp_path):
    plan = {"image_shape": [2, 4, 4]}
    save_result(tmp_path / "r.zarr", labels=np.ones((2, 4, 4), int), axes="zyx", record={"plan": plan})
    with pytest.raises(SettingsError, match="3D model"):
        link(tmp_path / "r.zarr", "z")


def test_the_result_that_is_read_is_never_replaced(tmp_path):
    save_result(tmp_path / "r.zarr", labels=np.ones((2, 4, 4), int), axes="tyx", record={})
    with pytest.raises(ResultError):
        link(tmp_path / "r.zarr", "t", out=tmp_path / "r.zarr", overwrite=True)
    assert open_result(tmp_path / "r.zarr").record == {}


@pytest.mark.parametrize("wish", [{"distance": 0}, {"distance": float("nan")}, {"gap": -1}, {"gap": True}, {"splits": 1}])
def test_settings_that_cannot_work(wish):
    with pytest.raises(SettingsError, match=next(iter(wish))):
        link(labels(np.zeros((2, 4, 4)), "tyx"), "t", **wish)


def test_without_laptrack_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "laptrack", None)
    with pytest.raises(SettingsError, match=r"napari-shiftseg\[track\]"):
        link(labels(np.zeros((2, 4, 4)), "tyx"), "t")


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_library_gives(tmp_path, capsys):
    data = series([[(30, 30, 1, 8)], [(26, 30, 1, 5), (37, 30, 2, 5)]]).astype(np.uint16)
    save_labels_tiff(tmp_path / "l.tif", data, "tyx")
    out, table = tmp_path / "t.ome.zarr", tmp_path / "t.csv"
    command = ["link", str(tmp_path / "l.tif"), "--through", "t", "--out", str(out), "--table", str(table), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["objects"], told["splits"], told["settings"]["distance"]) == (3, 1, 1.0)
    np.testing.assert_array_equal(open_result(out).labels[...], np.asarray(link(tmp_path / "l.tif", "t").labels.data))
    with table.open() as file:
        assert [row["parent"] for row in csv.DictReader(file)] == ["0", "1", "1"]
    assert main(command) == 2 and "is there already" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--no-splits"]) == 0 and json.loads(capsys.readouterr().out)["splits"] == 0


@pytest.mark.parametrize("option", [["--overlap", "0.2"], ["--agreement", "1"]])
def test_options_of_the_other_axis_are_refused(option, tmp_path, capsys):
    save_labels_tiff(tmp_path / "l.tif", np.ones((2, 4, 4), np.uint16), "tyx")
    assert main(["link", str(tmp_path / "l.tif"), "--through", "t", "--out", str(tmp_path / "o.zarr"), *option]) == 2
    assert option[0] in capsys.readouterr().err and not (tmp_path / "o.zarr").exists()
