"""Seams and period grid lie where the plan says, wherever the layer lies."""

import json

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_shiftseg import Lattice, UNetSpec, plan_tiles
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.overlays import Overlays
from napari_shiftseg.plugin.subject import plan_of_record

PLANS = {
    "2D": (UNetSpec(levels=3), (64, 96), (16, 32)),
    "2D, valid border": (UNetSpec(levels=2), (150, 140), (16, 8)),
    "3D, other period per axis": (UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2))), (20, 40, 48), (8, 16, 16)),
}
PLACES = {
    "plain": {},
    "moved": {"scale": (2.0, 0.5, 0.25), "translate": (7, 3, -4)},
    "turned": {"scale": (4.0, 0.5, 0.5), "rotate": ("y-x", 30), "translate": (1, 2, 3)},
    "affine": {"affine": np.array([[1, 0, 0, 0], [0, 2, 0.5, 5], [0, -0.5, 2, 6], [0, 0, 0, 1.0]])},
}


def plan_of(name):
    spec, shape, write = PLANS[name]
    return plan_tiles(spec, shape, write, "valid" if "valid" in name else "reflect")


def place_of(name, ndim):
    """Options of a layer with `ndim` axes."""
    known = dict(PLACES[name])
    for key in {"scale", "translate"} & known.keys():
        known[key] = known[key][-ndim:]
    if "rotate" in known:
        turn = np.deg2rad(known["rotate"][1])
        known["rotate"] = np.eye(ndim)
        known["rotate"][-2:, -2:] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    if "affine" in known:
        known["affine"] = known["affine"][3 - ndim :, 3 - ndim :]
    return known


def result_of(plan, axes, lead=(), kind=Labels, **options):
    known = {"role": "instances", "source": "cells", "source_id": 1, "axes": axes, "plan": plan}
    shape = plan["result_shape"] if isinstance(plan, dict) else plan.result_shape
    return kind(np.zeros((*lead, *shape), np.uint8), name="cells instances", metadata={KEY: known}, **options)


def shown(*layers, ndisplay=2):
    viewer = ViewerModel(ndisplay=ndisplay)
    for layer in layers:
        viewer.add_layer(layer)
    viewer.reset_view()
    overlays = Overlays(viewer)
    overlays.look_at(layers[-1])
    overlays.show("grid", True)
    overlays.show("seams", True)
    return viewer, overlays


def lines_in_data(layer, vectors):
    """Both ends of each line in the data coordinates of the result layer: (N, 2, n)."""
    ends = np.stack([vectors.data[:, 0], vectors.data[:, 0] + vectors.data[:, 1]], axis=1)
    lead = (0,) * (layer.ndim - vectors.ndim)
    mapped = [[layer.world_to_data((*lead, *vectors.data_to_world(end)))[len(lead) :] for end in line] for line in ends]
    return np.asarray(mapped)


def positions(lines, across, along):
    """Where lines along one axis cross another."""
    chosen = lines[np.abs(lines[:, 1, along] - lines[:, 0, along]) > 0.6]
    return sorted({round(float(value), 6) for value in chosen[:, 0, across]})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PLANS)
def test_lines_lie_between_the_pixels_that_the_plan_names(name, place):
    plan = plan_of(name)
    layer = result_of(plan, "zyx"[-plan.spec.ndim :], **place_of(place, plan.spec.ndim))
    _, overlays = shown(layer)
    for kind, expected in (("seams", plan.seams()), ("grid", plan.grid())):
        found = lines_in_data(layer, overlays.layers[kind])
        for axis, other in ((-2, -1), (-1, -2)):
            wanted = [p - 0.5 for p in expected[axis] if 0 < p < plan.result_shape[axis]]
            assert positions(found, axis, other) == pytest.approx(wanted, abs=1e-5)


def test_a_record_from_disk_draws_the_same_lines():
    plan = plan_of("2D")
    _, ours = shown(result_of(plan, "yx"))
    _, stored = shown(result_of(json.loads(json.dumps(plan.to_dict())), "yx"))
    for kind in ("seams", "grid"):
        assert np.array_equal(ours.layers[kind].data, stored.layers[kind].data)


@pytest.mark.parametrize("place", PLACES)
def test_the_lines_follow_a_layer_that_is_moved(place):
    plan = plan_of("2D")
    layer = result_of(plan, "yx")
    _, overlays = shown(layer)
    for name, value in place_of(place, 2).items():
        setattr(layer, name, value)
    found = lines_in_data(layer, overlays.layers["seams"])
    assert positions(found, 1, 0) == pytest.approx([p - 0.5 for p in plan.seams()[1]], abs=1e-5)


def test_lines_are_equally_wide_on_axes_of_other_scale():
    _, overlays = shown(result_of(plan_of("2D"), "yx", scale=(3.0, 0.5)))
    assert np.ptp(overlays.layers["grid"].scale) == 0


@pytest.mark.parametrize(("axes", "lead"), [("tyx", (3,)), ("zyx", (4,)), ("tzyx", (3, 4))], ids=["time", "planes", "both"])
def test_the_lines_are_there_in_every_frame(axes, lead):
    viewer, overlays = shown(result_of(plan_of("2D"), axes, lead))
    for step in np.ndindex(lead):
        viewer.dims.current_step = (*step, 0, 0)
        assert len(overlays.layers["seams"]._view_indices) == 3 + 2


def test_in_a_volume_each_plane_shows_its_seams_and_other_planes_show_theirs():
    plan = plan_of("3D, other period per axis")
    layer = result_of(plan, "zyx", scale=(4, 1, 1))
    viewer, overlays = shown(layer)
    seams = overlays.layers["seams"]
    for z in (0, 7, 19):
        viewer.dims.current_step = (z, 0, 0)
        assert len(seams._view_indices) == len(plan.seams()[1]) + len(plan.seams()[2])
    viewer.dims.order = (1, 0, 2)
    found = lines_in_data(layer, seams)
    assert positions(found, 0, 2) == [p - 0.5 for p in plan.seams()[0]]
    assert len(seams._view_indices) == len(plan.seams()[0]) + len(plan.seams()[2])


def test_a_3d_view_shows_the_tiles_as_boxes():
    plan = plan_of("3D, other period per axis")
    layer = result_of(plan, "zyx", scale=(4, 1, 1))
    _, overlays = shown(layer, ndisplay=3)
    found = lines_in_data(layer, overlays.layers["seams"])
    counts = [len(axis) + 2 for axis in plan.seams()]
    assert len(found) == counts[0] * counts[1] + counts[1] * counts[2] + counts[0] * counts[2]
    assert set(positions(found, 0, 1)) >= {p - 0.5 for p in plan.seams()[0]}
    assert len(overlays.layers["grid"].data) == 0


def test_an_axis_that_no_line_knows_hides_the_lines():
    viewer, overlays = shown(result_of(plan_of("2D"), "tyx", (3,)))
    viewer.dims.order = (1, 0, 2)
    assert len(overlays.layers["seams"].data) == 0
    viewer.dims.order = (0, 1, 2)
    assert len(overlays.layers["seams"].data) == 5


def test_an_embedding_with_its_channels_in_front_has_the_same_lines():
    plan = plan_of("2D")
    embedding = result_of(plan, "cyx", (2,), kind=Image)
    _, overlays = shown(embedding)
    _, of_labels = shown(result_of(plan, "yx"))
    found, wanted = (o.layers["seams"] for o in (overlays, of_labels))
    assert np.array_equal(found.data, wanted.data)


# -- a large image ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def million_cells():
    return plan_tiles(UNetSpec(levels=3), (8192, 8192), 256)


def large(plan):
    known = {"role": "instances", "source": "cells", "source_id": 1, "axes": "yx", "plan": plan}
    return Image(np.broadcast_to(np.uint8(9), (8192, 8192)), contrast_limits=(0, 9), metadata={KEY: known}, name="cells")


def test_few_lines_are_drawn_at_any_zoom_and_never_closer_than_the_eye_can_part(million_cells):
    viewer, overlays = shown(large(million_cells))
    for zoom in 0.05 * 1.5 ** np.arange(14):
        viewer.scene.camera.zoom = zoom
        viewer.scene.camera.center = (0, 4000, 4000)
        assert len(overlays.layers["grid"].data) < 1000
        at = overlays.layers["grid"].data
        rows = np.unique(at[at[:, 1, 1] > 0][:, 0, 0])
        assert np.diff(rows).min(initial=np.inf) * zoom >= 6 or len(rows) < 2
        assert set((rows + 0.5) % 8) == {0.0}


def test_panning_keeps_the_window_covered(million_cells):
    viewer, overlays = shown(large(million_cells))
    viewer.scene.camera.zoom = 4
    for centre in np.linspace(1000, 7000, 25):
        viewer.scene.camera.center = (0, centre, 8192 - centre)
        view, drawn = overlays.view(), overlays.layers["grid"].data
        rows = drawn[drawn[:, 1, 1] > 0]
        seen = np.arange(np.ceil((view.low[0] + 0.5) / 8) * 8, view.high[0], 8) - 0.5
        assert set(seen) <= set(rows[:, 0, 0])
        assert rows[:, 0, 1].max() <= view.low[1]
        assert (rows[:, 0, 1] + rows[:, 1, 1]).min() >= view.high[1]


def test_what_is_left_out_is_told(million_cells):
    viewer, overlays = shown(large(million_cells))
    viewer.scene.camera.zoom = 0.1
    assert overlays.every == {"grid": 8, "seams": 1}
    viewer.scene.camera.zoom = 1
    assert overlays.every == {"grid": 1, "seams": 1}


# -- in the viewer ----------------------------------------------------------------------------------------------------


def test_the_viewer_stays_as_it_is():
    layer = result_of(plan_of("3D, other period per axis"), "zyx", scale=(4, 1, 1))
    viewer = ViewerModel()
    viewer.add_layer(layer)
    viewer.dims.current_step = (7, 0, 0)
    before = viewer.dims.range, viewer.dims.point, viewer.scene.camera.center, viewer.scene.camera.zoom
    overlays = Overlays(viewer)
    overlays.look_at(layer)
    overlays.show("seams", True)
    overlays.show("grid", True)
    assert (viewer.dims.range, viewer.dims.point, viewer.scene.camera.center, viewer.scene.camera.zoom) == before
    assert viewer.layers.selection.active is layer


def test_on_and_off_and_deleted_by_the_user():
    told = []
    viewer, overlays = shown(result_of(plan_of("2D"), "yx"))
    overlays._changed = lambda: told.append(overlays.shown("seams"))
    overlays.show("seams", False)
    assert not overlays.shown("seams")
    overlays.layers["seams"].visible = True
    assert told[-1]
    viewer.layers.remove(overlays.layers["seams"])
    assert not told[-1]
    overlays.show("seams", True)
    assert overlays.shown("seams")
    assert len(overlays.layers["seams"].data) == 5


def test_lines_go_with_their_result():
    viewer, overlays = shown(result_of(plan_of("2D"), "yx"))
    viewer.layers.remove(overlays.target)
    assert len(viewer.layers) == 0
    viewer.scene.camera.zoom = 3


def test_a_new_plan_moves_the_lines():
    layer = result_of(plan_of("2D"), "yx")
    _, overlays = shown(layer)
    other = plan_tiles(UNetSpec(levels=3), (64, 96), 48)
    layer.metadata = {KEY: layer.metadata[KEY] | {"plan": other}}
    found = lines_in_data(layer, overlays.layers["seams"])
    assert positions(found, 1, 0) == [47.5]


@pytest.mark.gui
def test_on_the_screen_a_seam_lies_on_the_border_of_two_pixels(make_napari_viewer):
    """A row of dark and a row of bright pixels meet at the seam; the line covers as much of both."""
    viewer = make_napari_viewer(show=True)
    plan = plan_tiles(UNetSpec(levels=2), (16, 16), 8)
    image = np.zeros((16, 16), np.uint8)
    image[:, 8:] = 255
    known = {"role": "embedding", "source": "cells", "source_id": 1, "axes": "yx", "plan": plan}
    layer = viewer.add_image(image, contrast_limits=(0, 255), colormap="blue", metadata={KEY: known})
    overlays = Overlays(viewer)
    overlays.look_at(layer)
    overlays.show("seams", True)
    overlays.layers["seams"].opacity = 1.0
    viewer.scene.camera.center = (0, 3.5, 7.5)  # the corner of four pixels, between two grid lines
    viewer.scene.camera.zoom = 40
    overlays.layers["seams"].edge_width = 0.25  # 10 screen pixels
    picture = viewer.screenshot(flash=False)
    row = picture[picture.shape[0] // 2, :, :3].astype(int)
    middle = row.shape[0] / 2
    line = np.flatnonzero(row[:, 0] > 200)  # orange has red, the image has none
    bright = np.flatnonzero((row[:, 2] > 200) & (row[:, 0] < 50))
    assert (line.min() + line.max() + 1) / 2 == pytest.approx(middle, abs=1)
    assert len(line) == pytest.approx(10, abs=2)
    assert bright.min() == line.max() + 1
    assert (row[: line.min()] < 50).all()


def test_the_plan_of_a_network_that_is_not_ours_is_made_again_from_its_record():
    plan = plan_tiles(Lattice(period=(4, 4), reach=(10, 10)), (60, 50), 16)
    values = json.loads(json.dumps(plan.to_dict()))
    made = plan_of_record({"model": {"spec": None}, "plan": values})
    assert made == plan and made.grid() == plan.grid() and made.seams() == plan.seams()
    assert plan_of_record({"model": {"spec": None}, "plan": {k: v for k, v in values.items() if k != "lattice"}}) is None
