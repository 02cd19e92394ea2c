"""Labels out, opened again by what others read: same pixels, numbers, scale and place."""

import csv
import json
import zipfile

import numpy as np
import pytest
import roifile
import tifffile

from napari_shiftseg import export_labels, read_image, read_labels
from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.io import (
    Image,
    check_export,
    measured,
    open_result,
    save_geojson,
    save_labels_tiff,
    save_result,
    save_rois,
    save_table,
)

SCALE = {"t": 30.0, "z": 2.0, "y": 0.5, "x": 0.5}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def plane(numbers=(3, 7, 41)):
    """A ring with an object in its hole, an object in two pieces, one that touches itself at a corner, and numbers left out."""
    ring, pieces, corner = numbers
    labels = np.zeros((12, 16), np.int64)
    labels[1:7, 1:7], labels[2:6, 2:6], labels[3:5, 3:5] = ring, 0, pieces
    labels[8, 9:14] = pieces
    labels[9:11, 2:4], labels[11, 4] = corner, corner
    return labels


def stack(axes):
    planes = {"yx": (), "zyx": (3,), "tyx": (2,), "tzyx": (2, 3)}[axes]
    labels = np.zeros((*planes, 12, 16), np.int64)
    for number, place in enumerate(np.ndindex(planes)):
        if number != 1:  # one plane is empty
            labels[place] = plane((3, 7 + number, 41))
    return labels


def result(folder, axes="yx", labels=None, **more):
    labels = stack(axes) if labels is None else labels
    path = folder / "result.ome.zarr"
    kinds = {"scale": [SCALE[axis] for axis in axes], "units": [UNITS[axis] for axis in axes]}
    save_result(path, labels=labels, axes=axes, record={"made": "by hand"}, **kinds, **more)
    return labels, path


def fill(rings, shape):
    """Pixels whose centre is inside, by the even-odd rule: a ray to the left meets an odd number of edges."""
    inside = np.zeros((shape[0], shape[1] + 1), bool)
    for ring in rings:
        ring = np.asarray(ring)
        for (x, y), (end_x, end_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if x == end_x and y != end_y:
                inside[int(min(y, end_y)) : int(max(y, end_y)), int(x) :] ^= True
    return inside[:, :-1]


def rings_of(geometry):
    """Rings of a geometry, checked by RFC 7946: closed, of four positions or more, outer ones counterclockwise, holes not."""
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for polygon in polygons:
        for number, ring in enumerate(polygon):
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            x, y = np.array(ring[:-1]).T
            assert ((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0) == (number == 0)
    return [ring[:-1] for polygon in polygons for ring in polygon]


@pytest.mark.parametrize("axes", ["yx", "zyx", "tyx", "tzyx"])
def test_geojson_gives_the_labels_back(axes, tmp_path):
    labels, path = result(tmp_path, axes)
    document = json.loads(export_labels(tmp_path / "cells.geojson", read_labels(path)).read_text())
    assert set(document) == {"type", "features"}
    assert document["type"] == "FeatureCollection"
    back = np.zeros_like(labels)
    for feature in document["features"]:
        assert set(feature) == {"type", "geometry", "properties"}
        assert (feature["type"], feature["properties"]["objectType"]) == ("Feature", "detection")
        number = feature["properties"]["label"]
        assert feature["properties"]["name"] == str(number)
        at = feature["geometry"].get("plane", {})
        assert ("plane" in feature["geometry"]) == (axes != "yx")
        inside = fill(rings_of(feature["geometry"]), labels.shape[-2:])
        place = tuple(at[axis] for axis in axes[:-2])
        assert not back[place][inside].any(), "one feature per object and plane"
        back[place][inside] = number
    np.testing.assert_array_equal(back, labels)


def test_geojson_has_the_measurements_of_each_object(tmp_path):
    labels, path = result(tmp_path, "tyx")
    table = measured(read_labels(path))
    document = json.loads(export_labels(tmp_path / "cells.geojson", read_labels(path)).read_text())
    assert len(document["features"]) == len(table["label"])
    for feature in document["features"]:
        number, values = feature["properties"]["label"], feature["properties"]["measurements"]
        pixels = int((labels[feature["geometry"]["plane"]["t"]] == number).sum())
        assert (values["num_pixels"], values["area"], feature["properties"]["unit"]) == (pixels, pixels / 4, "micrometer")
        assert all(isinstance(value, int | float) for value in values.values())
        assert not any(name.startswith(("bbox", "spacing", "label", "t")) for name in values)
    alone = json.loads(save_geojson(tmp_path / "plain.geojson", labels, "tyx").read_text())
    assert "measurements" not in alone["features"][0]["properties"]


def test_what_has_no_value_is_not_written_as_json_that_none_can_read(tmp_path):
    save_result(tmp_path / "r.zarr", labels=plane(), axes="yx", scale=(0.5, 0.25), record={})
    text = export_labels(tmp_path / "cells.geojson", read_labels(tmp_path / "r.zarr")).read_text()
    assert "NaN" not in text
    assert all("perimeter" not in one["properties"]["measurements"] for one in json.loads(text)["features"])


@pytest.mark.parametrize("axes", ["yx", "zyx", "tyx", "tzyx"])
def test_regions_of_imagej_give_the_labels_back(axes, tmp_path):
    labels, path = result(tmp_path, axes)
    regions = roifile.roiread(export_labels(tmp_path / "cells.zip", read_labels(path)))
    assert len(regions) == len({region.name for region in regions})
    back = np.zeros_like(labels)
    for region in regions:
        place = tuple({"z": region.z_position, "t": region.t_position}[axis] - 1 for axis in axes[:-2])
        corners = region.coordinates(multi=True) if region.composite else [region.coordinates()]
        inside = fill([ring[:-1] if (ring[0] == ring[-1]).all() else ring for ring in corners], labels.shape[-2:])
        number, *where = region.name.split("-")
        assert where == [f"{axis}{at + 1:04}" for axis, at in sorted(zip(axes, place, strict=False), reverse=True)]
        rows, columns = np.nonzero(inside)
        box = (region.top, region.left, region.bottom, region.right)
        assert box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert not back[place][inside].any(), "one region per object and plane"
        back[place][inside] = int(number)
    np.testing.assert_array_equal(back, labels)


def test_only_objects_with_holes_or_pieces_are_composite(tmp_path):
    labels = plane()
    labels[9:12, 8:12] = 99
    regions = {one.name: one for one in roifile.roiread(save_rois(tmp_path / "r.zip", labels, "yx"))}
    assert {name: one.composite for name, one in regions.items()} == {"3": True, "7": True, "41": True, "99": False}
    assert regions["99"].roitype == roifile.ROI_TYPE.POLYGON


def test_an_archive_is_replaced_and_never_added_to(tmp_path):
    _, path = result(tmp_path)
    place = export_labels(tmp_path / "cells.zip", read_labels(path))
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr("old.roi", b"old")
    with pytest.raises(ResultError, match="there already"):
        export_labels(place, read_labels(path))
    export_labels(place, read_labels(path), overwrite=True)
    with zipfile.ZipFile(place) as archive:
        assert sorted(archive.namelist()) == ["3.roi", "41.roi", "7.roi"]


def test_regions_in_planes_that_imagej_cannot_name_are_refused(tmp_path):
    wide = np.zeros((2, 60_536), np.uint8)
    with pytest.raises(ResultError, match="60535"):
        save_rois(tmp_path / "r.zip", wide, "yx")
    assert not (tmp_path / "r.zip").exists()
    wide = wide[:, :60_535]
    wide[:, 60_530:], wide[0, :3] = 1, 1
    [region] = roifile.roiread(save_rois(tmp_path / "r.zip", wide, "yx"))
    np.testing.assert_array_equal(fill([ring[:-1] for ring in region.coordinates(multi=True)], wide.shape), wide == 1)


@pytest.mark.parametrize("name", ["cells.tif", "cells.ome.tif", "cells.ome.zarr"])
@pytest.mark.parametrize("largest", [41, 4_000_000_000])
def test_images_of_labels_keep_numbers_and_calibration(name, largest, tmp_path):
    _, path = result(tmp_path, labels=plane((3, 7, largest)))
    written = export_labels(tmp_path / name, read_labels(path))
    again = read_labels(written)
    np.testing.assert_array_equal(again.data[:], plane((3, 7, largest)))
    assert (again.axes, again.scale, again.units) == ("yx", (0.5, 0.5), ("micrometer", "micrometer"))
    if name.endswith(".tif"):
        with tifffile.TiffFile(written) as file:
            assert file.is_ome == (name == "cells.ome.tif" or largest > 65535)
    else:
        assert open_result(written).record == {"made": "by hand"}


def test_numbers_beyond_16_bits_are_kept_as_outlines_and_in_tables(tmp_path):
    _, path = result(tmp_path, labels=plane((3, 70_000, 4_000_000_000)))
    labels = read_labels(path)
    names = [one.name for one in roifile.roiread(export_labels(tmp_path / "cells.zip", labels))]
    assert sorted(names) == ["3", "4000000000", "70000"]
    features = json.loads(export_labels(tmp_path / "cells.geojson", labels).read_text())["features"]
    assert sorted(one["properties"]["label"] for one in features) == [3, 70_000, 4_000_000_000]
    rows = list(csv.DictReader(export_labels(tmp_path / "cells.csv", labels).read_text().splitlines()))
    assert [row["label"] for row in rows] == ["3", "70000", "4000000000"]


def test_a_result_is_measured_with_its_image_and_planes_by_themselves(tmp_path):
    pixels = np.arange(2 * 3 * 12 * 16, dtype=np.float32).reshape(2, 3, 12, 16)
    labels, path = result(tmp_path, "zyx", image=Image.from_array(pixels, axes="czyx"))
    table = measured(read_labels(path))
    for number, one, other in zip(*(table[name] for name in ("label", "mean_intensity-0", "mean_intensity-1")), strict=True):
        np.testing.assert_allclose((one, other), pixels[:, labels == number].mean(axis=1), rtol=1e-6)
    record = {"plan": {"image_shape": [12, 16]}}
    save_result(tmp_path / "planes.zarr", labels=labels, axes="zyx", record=record)
    assert read_labels(tmp_path / "planes.zarr").ndim == 2
    assert measured(read_labels(tmp_path / "planes.zarr"))["z"].tolist() == [0, 0, 0, 2, 2, 2]


def test_any_image_of_labels_will_do(tmp_path):
    np.save(tmp_path / "a.npy", plane().astype(np.int32))
    np.save(tmp_path / "b.npy", plane()[None])
    save_labels_tiff(tmp_path / "c.ome.tif", stack("tzyx"), "tzyx")
    assert [read_labels(tmp_path / name).axes for name in ("a.npy", "b.npy", "c.ome.tif")] == ["yx", "zyx", "tzyx"]
    alone = read_labels(tmp_path / "b.npy")  # a stack of one plane
    assert alone.ndim == 2
    assert {one.name for one in roifile.roiread(export_labels(tmp_path / "b.zip", alone))} == {"3", "7", "41"}
    features = json.loads(export_labels(tmp_path / "b.geojson", alone).read_text())["features"]
    assert all("plane" not in one["geometry"] and one["properties"]["measurements"]["area"] > 0 for one in features)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.npy").data[:], plane())
    turned = read_labels(tmp_path / "a.npy", axes="xy")
    np.testing.assert_array_equal(turned.data[:], plane().T)


def test_what_holds_no_labels_is_said(tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ImageError, match="3 channels"):
        read_labels(tmp_path / "rgb.tif")
    np.save(tmp_path / "float.npy", np.zeros((8, 8)))
    with pytest.raises(ResultError, match="integers"):
        read_labels(tmp_path / "float.npy")
    labels, path = result(tmp_path)
    with pytest.raises(ImageError, match="does not belong"):
        measured(read_labels(path), Image.from_array(np.zeros((12, 17))))
    with pytest.raises(ImageError, match="does not belong"):
        measured(read_labels(path), Image.from_array(np.zeros((2, *labels.shape)), axes="zyx"))


@pytest.mark.parametrize("name", ["cells", "cells.png", "cells.zarr.zip", "cells.ozx", "cells.json", "zip"])
def test_a_name_without_a_format_is_refused(name):
    with pytest.raises(ResultError, match="does not say a format"):
        check_export(name)


def test_tables_leave_fields_empty_that_have_no_value(tmp_path):
    table = {"label": np.array([1, 2]), "a": np.array([0.1, np.nan]), "b": np.array([True, False])}
    text = save_table(tmp_path / "t.csv", table).read_text()
    assert text == "label,a,b\n1,0.1,1\n2,,0\n"


def test_parquet_gives_the_table_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    _, path = result(tmp_path)
    table = measured(read_labels(path))
    back = parquet.read_table(export_labels(tmp_path / "t.parquet", read_labels(path)))
    assert back.column_names == list(table)
    for name, column in table.items():
        assert back[name].to_pylist() == column.tolist()


@pytest.mark.parametrize(("name", "package"), [("t.parquet", "pyarrow"), ("t.zip", "roifile")])
def test_a_format_whose_writer_is_not_installed_names_the_extra(name, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ResultError, match=rf'{package}.*pip install "napari-shiftseg\[export\]"'):
        check_export(name)


def test_a_place_is_left_as_it_was_when_writing_fails(tmp_path):
    place = tmp_path / "cells.zip"
    place.write_bytes(b"mine")
    with pytest.raises(ImageError, match="negative"):
        save_rois(place, np.array([[-1, 2]]), "yx")
    assert place.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [place]


def test_the_sample_goes_out_and_comes_back(tmp_path):
    from importlib.resources import files

    labels = read_labels(str(files("napari_shiftseg") / "samples" / "nuclei_truth.tif"))
    truth = np.asarray(read_image(str(files("napari_shiftseg") / "samples" / "nuclei_truth.tif")).data[:])
    back = np.zeros_like(truth)
    for region in roifile.roiread(export_labels(tmp_path / "cells.zip", labels)):
        rings = region.coordinates(multi=True) if region.composite else [region.coordinates()]
        back[fill(rings, truth.shape)] = int(region.name)
    np.testing.assert_array_equal(back, truth)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize(
    ("step", "unit"),
    [
        (1.2e-10, "meter"), (3e-12, "meter"), (5e9, "nanometer"), (1.2e-10, None), (1.2, "angstrom"), (0.2, "micrometer"),
        (120.0, "picometer"), (0.5, "foot"),
    ],
)  # fmt: skip
def test_steps_of_any_size_and_units_in_any_letters_come_back_from_labels(tmp_path, name, step, unit):
    path = save_labels_tiff(tmp_path / name, np.ones((8, 8), np.uint8), "yx", (step, 2 * step), (unit, unit))
    found = read_image(path)
    np.testing.assert_allclose(found.scale, (step, 2 * step), rtol=1e-9)
    assert found.units == (unit, unit)


@pytest.mark.parametrize(
    "units", [("ångström",) * 3, ("長さ", "micrometer", "micrometer"), ("\U0001d707\n=\\", "inch", "foot")]
)
def test_units_that_nobody_knows_come_back_from_labels_of_imagej(tmp_path, units):
    path = save_labels_tiff(tmp_path / "a.tif", np.ones((2, 8, 8), np.uint8), "zyx", (3.0, 2.0, 1.0), units)
    assert read_image(path).units == units
