"""What a file says of axes, steps and places is read right, or said in one sentence that the image carries."""

import logging
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import unit_name
from napari_shiftseg.io.image import Image, describe_file, read_image

logging.getLogger("tifffile").setLevel(logging.CRITICAL)

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
A_PLANE = '<TiffData IFD="0" PlaneCount="1"/>'


def ramp(*shape):
    return np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)


def image_xml(number=0, steps='PhysicalSizeX="0.1" PhysicalSizeY="0.1"', planes=A_PLANE, depth=1, order="XYZCT"):
    size = f'SizeX="48" SizeY="32" SizeZ="{depth}" SizeC="1" SizeT="1"'
    return (
        f'<Image ID="Image:{number}" Name="i{number}"><Pixels ID="Pixels:{number}" DimensionOrder="{order}" Type="uint16" '
        f'{size} {steps}><Channel ID="Channel:{number}:0" SamplesPerPixel="1" Name="DAPI"/>{planes}</Pixels></Image>'
    )


def ome_tiff(path: Path, *images: str, data=None, head="", change=lambda text: text):
    text = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{SCHEMA}"{head}>{"".join(images)}</OME>'
    data = ramp(32, 48) if data is None else data
    tifffile.imwrite(path, data, description=change(text).encode(), metadata=None, photometric="minisblack")
    return path


# --- OME-TIFF

ABSENT = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="gone.ome.tif">urn:uuid:9</UUID></TiffData>'


@pytest.mark.parametrize("first", ["<MetadataOnly/>", ABSENT, '<TiffData IFD="7" PlaneCount="1"/>', ""])
def test_a_described_image_that_is_not_in_the_file_lends_nothing_to_another(tmp_path, first):
    second = image_xml(1, 'PhysicalSizeX="0.7" PhysicalSizeY="0.8"')
    path = ome_tiff(tmp_path / "a.ome.tif", image_xml(0, planes=first), second, head=' UUID="urn:uuid:1"')
    image = read_image(path)
    assert image.scale == (0.8, 0.7)
    assert "describes 2 images, and the file holds 1" in image.note


def test_the_second_scene_has_the_steps_of_the_third_image(tmp_path):
    images = [
        image_xml(0),
        image_xml(1, planes="<MetadataOnly/>"),
        image_xml(2, 'PhysicalSizeX="0.9" PhysicalSizeY="0.9"', A_PLANE.replace("0", "1", 1)),
    ]
    path = ome_tiff(tmp_path / "a.ome.tif", *images, data=ramp(2, 32, 48))
    assert read_image(path, scene=1).scale == (0.9, 0.9)
    assert read_image(path, scene=0).scale == (0.1, 0.1)


@pytest.mark.parametrize("missing", [[2], [1, 2]])
def test_planes_whose_file_is_missing_are_counted(tmp_path, missing):
    files = [f"z{z}.ome.tif" for z in range(4)]
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(files)
    )
    for z, name in enumerate(files):
        if z not in missing:
            ome_tiff(tmp_path / name, image_xml(planes=planes, depth=4), data=ramp(32, 48) + 1, head=f' UUID="urn:uuid:{z}"')
    image = read_image(tmp_path / files[0])
    assert image.data.shape == (4, 32, 48)
    assert [z for z in range(4) if not np.asarray(image.data[z]).any()] == missing
    assert f"{len(missing)} of 4 planes" in image.note and "missing" in image.note
    assert len(missing) > 1 or "z2.ome.tif is not there" in image.note


FAULTS = {
    "not well formed": lambda text: text.replace("</Image>", "</Imag>"),
    "cut short": lambda text: text[:-30],
    "a size is gone": lambda text: text.replace('SizeZ="6"', ""),
    "an axis that is none": lambda text: text.replace("XYZCT", "XYQCT"),
    "a size that does not fit": lambda text: text.replace('SizeX="48"', 'SizeX="49"'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_xml_leave_the_pixels_and_are_said(tmp_path, fault):
    data = ramp(6, 32, 48)
    path = ome_tiff(tmp_path / "a.ome.tif", image_xml(depth=6, planes="<TiffData/>"), data=data, change=FAULTS[fault])
    image = read_image(path)
    assert np.array_equal(image.data, data)
    assert "OME-XML" in image.note
    assert image.scale == (1, 1, 1)


@pytest.mark.parametrize(
    ("depth", "said"), [(9, "3 of 9 planes are missing"), (4, "6 planes, of which its OME-XML describes 4")]
)
def test_other_numbers_of_planes_are_said(tmp_path, depth, said):
    path = ome_tiff(tmp_path / "a.ome.tif", image_xml(depth=depth, planes="<TiffData/>"), data=ramp(6, 32, 48))
    assert said in read_image(path).note


def test_a_part_of_a_set_says_so(tmp_path):
    path = ome_tiff(tmp_path / "a.ome.tif", '<BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:1"/>')
    assert "all.companion.ome" in read_image(path).note


STEPS = {
    "no number": ('PhysicalSizeX="abc"', 1.0, None, "no number"),
    "a comma": ('PhysicalSizeX="0,25"', 0.25, "micrometer", ""),
    "negative": ('PhysicalSizeX="-0.5"', 0.5, "micrometer", "-0.5"),
    "zero": ('PhysicalSizeX="0"', 1.0, None, "given as 0"),
    "nan": ('PhysicalSizeX="nan"', 1.0, None, "given as nan"),
    "decimeter": ('PhysicalSizeX="2" PhysicalSizeXUnit="dm"', 2.0, "decimeter", ""),
    "megameter": ('PhysicalSizeX="2" PhysicalSizeXUnit="Mm"', 2.0, "megameter", ""),
    "absent": ("", 1.0, None, ""),
}


@pytest.mark.parametrize(("steps", "step", "unit", "said"), STEPS.values(), ids=STEPS)
def test_steps_of_ome_are_read_or_said(tmp_path, steps, step, unit, said):
    image = read_image(ome_tiff(tmp_path / "a.ome.tif", image_xml(steps=f'{steps} PhysicalSizeY="3"')))
    assert (image.scale, image.units) == ((3.0, step), ("micrometer", unit))
    assert said in image.note and bool(image.note) == bool(said)


@pytest.mark.parametrize("scale", [(1.0, -0.5), (0.0, 1.0), (1.0, np.nan), (np.inf, 1.0), (1.0,)])
def test_an_image_has_no_step_that_is_none(scale):
    with pytest.raises(ImageError, match="scale"):
        Image.from_array(ramp(4, 5), scale=scale)


def test_units_are_told_apart_by_case_where_it_decides():
    assert [unit_name(text) for text in ("mm", "Mm", "MM", "µm", "Pm", "pm", "NM", "dm")] == [
        "millimeter", "megameter", "millimeter", "micrometer", "petameter", "picometer", "nanometer", "decimeter",
    ]  # fmt: skip


# --- ImageJ and plain TIFF


def test_a_hyperstack_that_was_cut_is_said(tmp_path):
    for axes, shape in (("ZYX", (10, 32, 40)), ("TCYX", (5, 2, 32, 40))):
        tifffile.imwrite(tmp_path / "whole.tif", ramp(*shape), imagej=True, truncate=True, metadata={"axes": axes})
        assert read_image(tmp_path / "whole.tif").note == ""
        raw = (tmp_path / "whole.tif").read_bytes()
        for share in (0.3, 0.9):
            (tmp_path / "cut.tif").write_bytes(raw[: int(len(raw) * share)])
            assert "announces 10 planes and 1 is there" in read_image(tmp_path / "cut.tif").note


def test_pages_that_were_cut_are_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "whole.tif") as writer:
        for plane in ramp(6, 32, 40):
            writer.write(plane, contiguous=False, metadata=None)
    assert "cut short" not in read_image(tmp_path / "whole.tif").note
    with tifffile.TiffFile(tmp_path / "whole.tif") as whole:
        end = whole.pages[4].offset
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:end])
    assert "breaks off after 4" in read_image(tmp_path / "cut.tif").note


def test_planes_that_hold_no_pixels_are_said(tmp_path):
    """As a copy leaves them that skipped a part of the disk: tifffile reads zeros without a word."""
    path = tmp_path / "a.tif"
    for options in (
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}},
    ):
        tifffile.imwrite(path, ramp(6, 32, 40), compression="zlib", rowsperstrip=16, **options)
        assert "lack" not in read_image(path).note
        raw = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            counts = [file.pages[page].aspage().tags["StripByteCounts"] for page in (2, 3)]
        for number, tag in enumerate(counts, 1):
            size = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
            raw[tag.valueoffset : tag.valueoffset + size] = bytes(size)  # the first strip alone
            path.write_bytes(raw)
            said = f"{number} of 6 planes {'lacks' if number == 1 else 'lack'} pixels"
            assert said in read_image(path).note and said in describe_file(path).note


@pytest.mark.parametrize(
    ("spacing", "step", "said"), [(-0.5, 0.5, "-0.5"), (0, 1.0, "given as 0"), ("abc", 1.0, "no number"), (None, 1.0, "")]
)
def test_the_spacing_of_imagej_is_read_or_said(tmp_path, spacing, step, said):
    metadata = {"axes": "ZYX", "unit": "um", **({} if spacing is None else {"spacing": spacing})}
    tifffile.imwrite(tmp_path / "a.tif", ramp(4, 32, 48), imagej=True, metadata=metadata, resolution=(4, 4))
    image = read_image(tmp_path / "a.tif")
    assert image.scale == (step, 0.25, 0.25)
    assert said in image.note and bool(image.note) == bool(said)


def test_the_user_names_axes_that_the_file_does_not(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ramp(5, 32, 48), metadata=None, photometric="minisblack")
    guess, named = read_image(tmp_path / "a.tif"), read_image(tmp_path / "a.tif", axes="tyx")
    assert guess.assumed and guess.assumed in guess.note
    assert (named.axes, named.assumed, named.note) == ("tyx", "", "")
    with pytest.raises(ImageError, match="axes"):
        read_image(tmp_path / "a.tif", axes="yx")


def test_a_step_of_depth_is_no_step_of_time(tmp_path):
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 3}
    tifffile.imwrite(tmp_path / "a.tif", ramp(4, 32, 48), imagej=True, metadata=metadata, resolution=(4, 4))
    named = read_image(tmp_path / "a.tif", axes="tyx")
    assert (named.scale, named.units) == ((1, 0.25, 0.25), (None, "micrometer", "micrometer"))


# --- OME-Zarr


def store(path, axes, transforms, shape=(4, 32, 48), version="0.4", **entry):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=ramp(*shape))
    axes = [{"name": name, "type": "space"} for name in axes] if isinstance(axes, str) else axes
    dataset = {"path": "0"} if transforms is None else {"path": "0", "coordinateTransformations": transforms}
    entries = [{"version": version, "axes": axes, "datasets": [dataset], **entry}]
    if version == "0.4":
        group.attrs["multiscales"] = entries
    else:
        group.attrs["ome"] = {"version": version, "multiscales": entries}
    return path


def scaled(*steps):
    return {"type": "scale", "scale": list(steps)}


def shifted(*starts):
    return {"type": "translation", "translation": list(starts)}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_transformations_of_level_and_whole_image_follow_each_other(tmp_path, version):
    whole = [scaled(1, 0.5, 0.5), shifted(10, 20, 30)]
    path = store(
        tmp_path / "a.zarr", "zyx", [scaled(2, 2, 2), shifted(1, 2, 3)], version=version, coordinateTransformations=whole
    )
    image = read_image(path)
    assert (image.scale, image.translation, image.note) == ((2, 1, 1), (11, 21, 31.5), "")


@pytest.mark.parametrize(
    ("transforms", "scale", "said"),
    [
        ([scaled(-2, 0.5, 0.5)], (2, 0.5, 0.5), "given as -2"),
        ([scaled(0, 0.5, 0.5)], (1, 0.5, 0.5), "given as 0"),
        (None, (1, 1, 1), "no step"),
        ([], (1, 1, 1), "no step"),
        ([scaled(1, 2)], (1, 1, 1), "not usable"),
        ([scaled(2, 1, 1), shifted(0, float("nan"), 0)], (2, 1, 1), "translation"),
        ([scaled(2, 1, 1), shifted(float("inf"), 0, 0)], (2, 1, 1), "translation"),
        ([{"type": "rotation", "rotation": [1]}], (1, 1, 1), "'rotation'"),
    ],
    ids=["negative", "zero", "absent", "empty", "too few", "nowhere", "far away", "another kind"],
)
def test_steps_that_are_wrong_leave_the_pixels_and_are_said(tmp_path, transforms, scale, said):
    image = read_image(store(tmp_path / "a.zarr", "zyx", transforms))
    assert image.scale == scale
    assert said in image.note
    assert np.array_equal(np.asarray(image.data[...]), ramp(4, 32, 48))


def axes_of(*pairs):
    return [
        {"name": name, **({"type": kind} if kind else {}), **({"unit": unit} if unit else {})} for name, kind, unit in pairs
    ]


SPACE = (("y", "space", None), ("x", "space", None))
NAMES = {
    "the type names time": (axes_of(("phase", "time", None), *SPACE), "tyx"),
    "the type names channels": (axes_of(("t", "channel", None), *SPACE), "cyx"),
    "names without types": (axes_of(("Time", None, None), ("row", None, None), ("col", None, None)), "tyx"),
    "capitals": (axes_of(("Z", "space", None), ("Y", "space", None), ("X", "space", None)), "zyx"),
    "a unit of time": (axes_of(("q", None, "second"), ("y", None, None), ("x", None, None)), "tyx"),
}


@pytest.mark.parametrize(("axes", "wanted"), NAMES.values(), ids=NAMES)
def test_axes_are_known_by_type_name_and_unit(tmp_path, axes, wanted):
    image = read_image(store(tmp_path / "a.zarr", axes, [scaled(1, 1, 1)]))
    assert image.axes == wanted
    assert not image.assumed


def test_spatial_axes_may_have_any_names(tmp_path):
    axes = axes_of(("c", "space", None), ("b", "space", None), ("a", "space", None))
    assert read_image(store(tmp_path / "a.zarr", axes, [scaled(1, 1, 1)])).axes == "zyx"


def test_each_axis_keeps_its_own_unit(tmp_path):
    axes = axes_of(("z", "space", "millimeter"), ("y", "space", "nm"), ("x", "space", "decimeter"))
    image = read_image(store(tmp_path / "a.zarr", axes, [scaled(1, 2, 3)]))
    assert (image.scale, image.units) == ((1, 2, 3), ("millimeter", "nanometer", "decimeter"))


def test_axes_of_one_pixel_stay_where_they_are_named(tmp_path):
    axes = axes_of(("t", "time", None), ("c", "channel", None), ("z", "space", None), *SPACE)
    image = read_image(store(tmp_path / "a.zarr", axes, [scaled(1, 1, 1, 1, 1)], shape=(1, 1, 1, 32, 48)))
    assert (image.axes, image.data.shape) == ("tczyx", (1, 1, 1, 32, 48))
    assert image.frames(2)[0].view.shape == (1, 32, 48)


def test_several_images_in_one_group_are_said(tmp_path):
    path = store(tmp_path / "a.zarr", "zyx", [scaled(1, 1, 1)])
    group = zarr.open_group(path, mode="r+")
    group.attrs["multiscales"] = list(group.attrs["multiscales"]) * 2
    assert "2 images; the first was read" in read_image(path).note
    assert read_image(path, scene=1).note == ""


def test_channels_have_the_names_of_the_viewer_settings(tmp_path):
    path = store(tmp_path / "a.zarr", axes_of(("c", "channel", None), *SPACE), [scaled(1, 1, 1)], shape=(2, 32, 48))
    zarr.open_group(path, mode="r+").attrs["omero"] = {"channels": [{"label": "DAPI"}, {"label": "actin"}]}
    assert read_image(path).channels == ("DAPI", "actin")


@pytest.mark.parametrize("names", [("time", "y", "x"), ("t", "Y", "X"), ("frame", "row", "col")])
@pytest.mark.parametrize("form", [2, 3])
def test_dimension_names_of_a_plain_array_are_its_axes(tmp_path, names, form):
    more = {"dimension_names": names} if form == 3 else {"attributes": {"_ARRAY_DIMENSIONS": names}}
    zarr.create_array(tmp_path / "a.zarr", data=ramp(3, 32, 48), zarr_format=form, **more)
    image = read_image(tmp_path / "a.zarr")
    assert (image.axes, image.note) == ("tyx", "")


@pytest.mark.parametrize("names", [("t", "x", "x"), ("y", "y", "y"), ("a", "b", "c"), ("y", "x"), "yx", 7], ids=str)
@pytest.mark.parametrize("form", [2, 3])
def test_dimension_names_that_are_not_used_are_told(tmp_path, names, form):
    more = {"dimension_names": names} if form == 3 else {"attributes": {"_ARRAY_DIMENSIONS": names}}
    if form == 3 and len(names if isinstance(names, tuple) else ()) != 3:
        more = {"attributes": {"_ARRAY_DIMENSIONS": names}}
    zarr.create_array(tmp_path / "a.zarr", data=ramp(3, 32, 48), zarr_format=form, **more)
    image = read_image(tmp_path / "a.zarr")
    assert image.axes == "zyx" and "do not say which is which, and were left aside" in image.note
    assert read_image(tmp_path / "a.zarr", axes="tyx").axes == "tyx"


def test_dimensions_without_a_name_are_no_news(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=ramp(32, 48), dimension_names=(None, None))
    assert read_image(tmp_path / "a.zarr").note == ""


def test_a_plain_array_of_four_axes_is_a_guess(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=ramp(3, 4, 32, 48))
    image = read_image(tmp_path / "a.zarr")
    assert image.axes[-2:] == "yx" and image.assumed


# --- zip files


@pytest.mark.parametrize("inner", ["", "image.ome.zarr"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zipped_store_is_read(tmp_path, inner, version, compression):
    folder = store(tmp_path / "a.zarr", "zyx", [scaled(2, 0.5, 0.5)], version=version)
    with zipfile.ZipFile(tmp_path / "a.ozx", "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(inner) / file.relative_to(folder))
    image = read_image(tmp_path / "a.ozx")
    assert (image.axes, image.scale) == ("zyx", (2, 0.5, 0.5))
    assert np.array_equal(image.frames(3)[0].view[0], ramp(4, 32, 48))


@pytest.mark.parametrize("content", [{"a.txt": b"hello"}, {"a/zarr.json": b"{}", "b/zarr.json": b"{}"}])
def test_other_zip_files_are_refused_in_one_sentence(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(ImageError, match="zip file") as caught:
        read_image(tmp_path / "a.zip")
    assert "\n" not in str(caught.value)


HUGE = {
    "time points": {"SizeT": 10**9},
    "channels": {"SizeC": 10**9},
    "depth and time": {"SizeZ": 10**5, "SizeT": 10**4},
    "planes of a part": {"PlaneCount": 10**9},
    "width": {"SizeX": 10**9},
}


@pytest.mark.parametrize("sizes", HUGE.values(), ids=HUGE)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by its limits")
def test_sizes_beyond_the_bytes_that_are_there_are_refused_at_once(tmp_path, sizes):
    """> SizeT of 10^9 in 12 KB"""
    import resource

    attributes = {"SizeX": 16, "SizeY": 16, "SizeC": 1, "SizeZ": 1, "SizeT": 1} | {
        k: v for k, v in sizes.items() if "Size" in k
    }
    told = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" {told}><Channel ID="Channel:0" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="{sizes.get("PlaneCount", 1)}"/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "i.ome.tif", np.zeros((16, 16), np.uint8), description=xml, metadata=None)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), before[1]))
    try:
        with pytest.raises(ImageError, match="announces"):
            read_image(tmp_path / "i.ome.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
