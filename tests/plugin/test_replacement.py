"""A new run replaces what earlier runs left, and nothing that a user has made."""

import random
from copy import deepcopy
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from napari_shiftseg import SegmentSettings, segment
from napari_shiftseg.plugin.layers import draw, layer_tuples
from napari_shiftseg.plugin.replacement import PREVIEW, put_layers, replace_layers, words_on_kept
from napari_shiftseg.plugin.signature import KEY, OLDER, Digests, is_untouched
from napari_shiftseg.plugin.source import image_of, placement_of
from napari_shiftseg.plugin.subject import is_result, subject_of


@pytest.fixture
def desk(tiny):
    """A viewer with an image, and `run(embedding=True, number=0, status=...)`, which shows what a run would."""

    class Desk:
        def __init__(self):
            self.viewer = ViewerModel()
            data = np.random.default_rng(0).integers(0, 255, (20, 24)).astype(np.uint8)
            self.image = self.viewer.add_layer(ImageLayer(data, name="cells"))
            self.result = segment(image_of(self.image, "yx"), tiny, SegmentSettings(write=8))
            self.runs = []

        def tuples(self, embedding=True, status="compliant"):
            """Layers of a run that found other labels and another embedding than those before."""
            number = len(self.runs) + 1
            self.runs.append(uuid4().hex)
            labels = np.where(self.result.labels > 0, self.result.labels + number, 0).astype(np.uint32)
            outputs = {"embedding": self.result.embedding + number} if embedding else {}
            record = {**self.result.record, "run": self.runs[-1], "status": status}
            drawn = draw(replace(self.result, labels=labels, outputs=outputs, record=record))
            return layer_tuples(drawn, placement_of(self.image, "yx", "yx"), "cells", source_id=self.image.unique_id)

        def run(self, **options):
            return replace_layers(self.viewer, self.tuples(**options), whole=True)

        def of(self, layer):
            return layer.metadata[KEY]["run"]

    return Desk()


def duplicate(viewer, layer):
    """As napari does: metadata are copied."""
    data, options, kind = layer.as_layer_data_tuple()
    copy = Layer.create(deepcopy(data), {**options, "name": f"{layer.name} copy"}, kind)
    viewer.layers.insert(viewer.layers.index(layer) + 1, copy)
    return copy


def paint(layer, at=3, value=99):
    layer.data_setitem((np.array([at, at]), np.array([at, at + 1])), value)


TOUCHES = {
    "painted": paint,
    "renamed": lambda layer: setattr(layer, "name", "my nuclei"),
    "moved": lambda layer: setattr(layer, "translate", (3, 4)),
    "stretched": lambda layer: setattr(layer, "scale", (0.5, 0.5)),
    "turned": lambda layer: setattr(layer, "rotate", 30),
    "other pixels by a script": lambda layer: layer.data.__setitem__((0, 0), 77),
    "other array": lambda layer: setattr(layer, "data", layer.data + 1),
    "features edited": lambda layer: setattr(layer, "features", layer.features.assign(mine=1.0)),
    "a note in the metadata": lambda layer: layer.metadata.update(mine="checked by hand"),
    "locked": lambda layer: setattr(layer, "locked", True),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_what_a_user_touched_is_kept_and_said(desk, touch):
    labels = desk.run().layers[-1]
    touch(labels)
    before = labels.data.copy(), labels.translate.copy(), labels.features.copy(), labels.metadata.copy()
    named = labels.name
    put = desk.run()
    assert put.kept == [labels] and labels in desk.viewer.layers and put.layers[-1] is not labels
    assert np.array_equal(labels.data, before[0]) and np.array_equal(labels.translate, before[1])
    assert labels.features.equals(before[2]) and labels.metadata == before[3]
    assert labels.name == (named if named == "my nuclei" else named + OLDER), "only our own name is changed"
    assert labels.visible and labels.name in words_on_kept(put.kept)
    assert put.layers[-1].name == "cells instances" and desk.of(put.layers[-1]) == desk.runs[-1]
    again = desk.run()
    assert again.layers[-1] is put.layers[-1] and again.kept == [], "it is said once"
    assert np.array_equal(labels.data, before[0])


def test_an_undone_stroke_is_no_touch_and_comes_not_back_into_other_labels(desk):
    labels = desk.run().layers[-1]
    paint(labels)
    labels.undo()
    put = desk.run()
    assert put.layers[-1] is labels and put.kept == []
    new = labels.data.copy()
    labels.redo()
    labels.undo()
    assert np.array_equal(labels.data, new)


@pytest.mark.parametrize("original", ["above", "below", "deleted"])
def test_a_duplicate_is_the_users_although_its_metadata_are_ours(desk, original):
    labels = desk.run().layers[-1]
    copy = duplicate(desk.viewer, labels)
    if original == "above":
        desk.viewer.layers.move(desk.viewer.layers.index(copy), 0)
    elif original == "deleted":
        desk.viewer.layers.remove(labels)
    before = copy.data.copy()
    put = desk.run()
    assert np.array_equal(copy.data, before) and copy.name == "cells instances copy" and desk.of(copy) == desk.runs[0]
    assert (put.layers[-1] is labels) == (original != "deleted") and copy in put.kept


def test_other_layers_of_ours_are_kept_as_well(desk):
    embedding, colours, _ = desk.run().layers
    embedding.data[0] += 1
    colours.name = "figure 2"
    before = embedding.data.copy(), colours.data.copy()
    put = desk.run()
    assert {embedding, colours} == set(put.kept)
    assert np.array_equal(embedding.data, before[0]) and np.array_equal(colours.data, before[1])
    assert [layer.name for layer in put.layers] == ["cells embedding", "cells embedding RGB", "cells instances"]


def test_a_new_result_comes_below_what_is_accepted_of_its_image_and_is_the_active_layer(desk):
    from napari_shiftseg.plugin.correction import accept_layer

    def names():
        return [layer.name for layer in desk.viewer.layers]

    desk.run()
    accepted = desk.viewer.layers[-1]
    accept_layer(accepted)
    before = names()
    assert before[-1] == "cells accepted" and before[:2] == ["cells", "cells embedding"]
    desk.run()
    new = desk.viewer.layers["cells instances"]
    assert names() == [*before[:-1], "cells instances", "cells accepted"] and accepted.visible and new.visible
    assert desk.viewer.layers.selection.active is new
    desk.run()  # in place
    assert names() == [*before[:-1], "cells instances", "cells accepted"]
    accept_layer(new)
    desk.run()
    assert names()[-3:] == ["cells instances", "cells accepted [1]", "cells accepted"], "below all of them"
    other = desk.viewer.add_layer(ImageLayer(desk.image.data, name="others"))
    desk.image = other
    desk.run()
    assert desk.viewer.layers[-1].metadata[KEY]["source_id"] == other.unique_id, (
        "what is accepted of another image does not count"
    )


def test_a_preview_lies_on_top_of_what_is_accepted(desk):
    from napari_shiftseg.plugin.correction import accept_layer

    desk.run()
    accept_layer(desk.viewer.layers[-1])
    data, options, kind = desk.tuples()[-1]
    known = {**options["metadata"][KEY], "role": PREVIEW}
    put_layers(desk.viewer, [(data, {**options, "metadata": {KEY: known}, "name": "cells preview"}, kind)])
    assert desk.viewer.layers[-1].name == "cells preview"


def test_how_a_layer_looks_is_no_touch_but_stays(desk):
    embedding, _, labels = desk.run().layers
    labels.opacity, labels.contour, embedding.contrast_limits = 0.3, 2, (0.0, 0.5)
    put = desk.run()
    assert put.layers[-1] is labels and put.kept == []
    assert (labels.opacity, labels.contour, embedding.contrast_limits) == (0.3, 2, [0.0, 0.5])


def test_what_a_run_does_not_make_anew_is_hidden_and_says_that_it_is_older(desk):
    embedding, colours, labels = desk.run().layers
    colours.visible = True
    put = desk.run(embedding=False)
    assert put.layers == [labels] and put.kept == []
    assert [layer.name for layer in (embedding, colours)] == ["cells embedding" + OLDER, "cells embedding RGB" + OLDER]
    assert not colours.visible and desk.of(embedding) == desk.runs[0]
    desk.run()
    assert [layer.name for layer in desk.viewer.layers[1:]] == ["cells embedding", "cells embedding RGB", "cells instances"]
    assert colours.visible and not embedding.visible, "as they were before they were hidden"


def test_a_result_by_bad_tiles_has_it_in_its_name_until_it_is_cured(desk):
    put = desk.run(status="non-compliant")
    assert all(layer.name.endswith("(non-compliant)") for layer in put.layers)
    cured = desk.run()
    assert cured.layers == put.layers
    assert [layer.name for layer in put.layers] == ["cells embedding", "cells embedding RGB", "cells instances"]


def test_layers_that_others_made_are_nothing_to_us(desk):
    """Also where they carry our metadata: those of an opened result, or made by a script."""
    tuples = desk.tuples()
    foreign = [desk.viewer.add_layer(Layer.create(*deepcopy(made))) for made in tuples]
    before = [layer.data.copy() for layer in foreign]
    put = desk.run()
    assert not set(map(id, foreign)) & set(map(id, put.layers))
    assert all(np.array_equal(layer.data, data) for layer, data in zip(foreign, before, strict=True))


def test_a_viewer_that_hides_its_private_side_is_as_good(desk):
    """napari hands such a viewer to a plugin that a script docks, and such layers with it."""
    from napari.utils._proxies import PublicOnlyProxy

    first = desk.run().layers
    desk.viewer = PublicOnlyProxy(desk.viewer)
    assert is_untouched(desk.viewer.layers[-1])
    put = desk.run()
    assert put.kept == [] and [a is b for a, b in zip(first, put.layers, strict=True)] == [True] * 3
    put.layers[-1].name = "mine"
    put = desk.run()
    assert put.kept == first[-1:] and put.layers[-1] is not first[-1]


def test_previews_of_other_parts_of_an_image_use_one_layer(desk):
    for number, shape in enumerate([(5, 6), (9, 4), (9, 4)]):
        known = {"role": PREVIEW, "source_id": desk.image.unique_id, "axes": "yx", "run": str(number)}
        data = np.full(shape, number + 1, np.int32)
        put = replace_layers(desk.viewer, [(data, {"name": "cells preview", "metadata": {KEY: known}}, "labels")])
        if number == 1:
            put.layers[0].name = "mine"
    assert [layer.data.shape for layer in desk.viewer.layers[1:]] == [(9, 4), (9, 4)]
    assert [layer.data.max() for layer in desk.viewer.layers[1:]] == [2, 3]


# -- random orders ----------------------------------------------------------------------------------------------------


class User:
    """Does something, and remembers what has to be there from then on."""

    def __init__(self, desk, seed):
        self.desk, self.random = desk, random.Random(seed)
        self.pixels, self.names, self.places = {}, {}, {}  # by layer, what the user made

    def layers(self, kind=Layer):
        return [layer for layer in self.desk.viewer.layers[1:] if isinstance(layer, kind)]

    def act(self):
        verbs = [self.run, self.run, self.paint, self.assign, self.rename, self.duplicate, self.move, self.shift, self.delete]
        self.random.choice([*verbs, self.undo, self.script])()

    def run(self):
        self.desk.run(embedding=self.random.random() < 0.7, status=self.random.choice(["compliant", "non-compliant"]))

    def paint(self):
        for layer in self.random.sample(self.layers(Labels), min(1, len(self.layers(Labels)))):
            paint(layer, self.random.randrange(15), self.random.randrange(200, 300))
            self.pixels[layer] = layer.data.copy()

    def undo(self):
        for layer in list(self.pixels):
            if isinstance(layer, Labels):
                layer.undo()
                self.pixels[layer] = layer.data.copy()
                if is_untouched(layer):
                    del self.pixels[layer]  # as if nothing had happened

    def script(self):
        for layer in self.random.sample(self.layers(), min(1, len(self.layers()))):
            layer.data[..., self.random.randrange(3)] += 1
            self.pixels[layer] = layer.data.copy()

    def assign(self):
        for layer in self.random.sample(self.layers(), min(1, len(self.layers()))):
            layer.data = layer.data + 1
            self.pixels[layer] = layer.data.copy()

    def rename(self):
        for layer in self.random.sample(self.layers(), min(1, len(self.layers()))):
            layer.name = self.random.choice(["mine", "cells instances", "copy"])
            if not is_untouched(layer):
                self.names[layer], self.pixels[layer] = layer.name, layer.data.copy()

    def duplicate(self):
        for layer in self.random.sample(self.layers(), min(1, len(self.layers()))):
            copy = duplicate(self.desk.viewer, layer)
            self.pixels[copy], self.names[copy] = copy.data.copy(), copy.name

    def move(self):
        layers = self.desk.viewer.layers
        layers.move(self.random.randrange(len(layers)), self.random.randrange(len(layers)))
        layers.move(layers.index(self.desk.image), 0)

    def shift(self):
        for layer in self.random.sample(self.layers(), min(1, len(self.layers()))):
            layer.translate = np.full(layer.ndim, self.random.randrange(1, 9))
            self.places[layer], self.pixels[layer] = layer.translate.copy(), layer.data.copy()

    def delete(self):
        for layer in self.random.sample(self.layers(), min(1, len(self.layers()))):
            self.desk.viewer.layers.remove(layer)
            for made in (self.pixels, self.names, self.places):
                made.pop(layer, None)

    def finds_all(self):
        for layer, data in self.pixels.items():
            assert layer in self.desk.viewer.layers
            assert layer.data.dtype == data.dtype and np.array_equal(layer.data, data)
        for layer, name in self.names.items():
            assert layer.name == name
        for layer, place in self.places.items():
            assert np.array_equal(layer.translate, place)


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_all_that_a_user_made_is_there_bit_for_bit(desk, seed):
    user = User(desk, seed)
    user.run()
    for _ in range(25):
        user.act()
        user.finds_all()
        for layer in filter(is_result, desk.viewer.layers):
            subject = subject_of(desk.viewer, layer)
            parts = [p for p in (subject.embedding, subject.labels) if p is not None]
            holders = [other for other in desk.viewer.layers if any(other.data is part for part in parts)]
            assert {desk.of(holder) for holder in holders} == {subject.run} == {subject.record["run"]}, "of one run"
    put = desk.run()
    assert {desk.of(layer) for layer in put.layers} == {desk.runs[-1]}
    assert [layer for layer in desk.viewer.layers if KEY in layer.metadata and desk.of(layer) == desk.runs[-1]]
    user.finds_all()
    for layer in desk.viewer.layers[1:]:
        if is_untouched(layer) and layer not in put.layers:
            assert OLDER in layer.name and not layer.visible, "nothing older is taken for the present"


def test_put_layers_gives_the_layers(desk):
    assert [layer.name for layer in put_layers(desk.viewer, desk.tuples(embedding=False))] == ["cells instances"]


@pytest.mark.parametrize("touch", ["", "painted", "painted before", "other data", "painted and undone"])
def test_hashes_that_a_thread_took_hold_until_somebody_writes(desk, touch, monkeypatch):
    """A stroke between the hash and the new result is kept as any other; where nobody wrote, nothing is hashed anew."""
    from napari_shiftseg.plugin import signature

    desk.run()
    layer = desk.viewer.layers["cells instances"]
    before, digests = layer.data.copy(), Digests()
    if touch == "painted before":
        layer.paint((3, 4), 7)
    digests.take(desk.viewer.layers)
    if touch.startswith("painted and") or touch == "painted":
        layer.paint((3, 4), 7)
    if touch == "painted and undone":
        layer.undo()
    if touch == "other data":
        layer.data = np.where(layer.data, 0, 7).astype(np.int32)
    if touch == "":
        monkeypatch.setattr(signature, "digest_of", lambda _: pytest.fail("hashed anew"))
    mine = layer.data.copy()
    tuples = desk.tuples()
    put = replace_layers(desk.viewer, tuples, whole=True, digests=digests)
    if touch in ("", "painted and undone"):
        assert put.kept == [] and layer in put.layers and not np.array_equal(layer.data, before)
    else:
        assert put.kept == [layer] and layer not in put.layers and np.array_equal(layer.data, mine)


def test_a_new_result_in_place_is_drawn_as_often_as_other_data(desk):
    """Each attribute of the place that is set draws the whole layer, half a second for 8,192 px."""
    desk.image.scale, desk.image.translate = (2, 3), (5, 7)
    desk.run()
    layer, drawn = desk.viewer.layers["cells instances"], []
    layer.events.set_data.connect(lambda _: drawn.append(1))
    layer.data = layer.data.copy()  # as bare napari does
    count = len(drawn)
    desk.run()
    assert len(drawn) == 2 * count, "no more than that"
    moved = {"translate": (1, 1), "rotate": 30, "shear": (0.25,), "scale": (4, 4), "affine": np.diag([2, 3, 1])}
    for name, value in moved.items():
        setattr(desk.image, name, value)
        desk.run()
    for name in moved:
        np.testing.assert_allclose(np.asarray(getattr(layer, name)), np.asarray(getattr(desk.image, name)))
