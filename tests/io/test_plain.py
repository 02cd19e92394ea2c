"""Descriptions survive JSON by the types of their fields, and what does not fit is named in one sentence."""

import json
import math
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from napari_shiftseg import SegmentSettings, UNetSpec, load_model, violations
from napari_shiftseg.errors import ModelError, ResultError, SettingsError
from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import from_json, from_plain, to_json, to_plain
from napari_shiftseg.network import Clustering, Known, Limits, ModelRecord, Normalisation

RECORD = ModelRecord(
    window=(24, 24),
    neighbours=True,
    inner=(24, 5),
    steps=500,
    data="disks",
    losses={"loss": 0.25, "push": math.inf},
    settings={"learning_rate": 1e-3, "folder": "x", "window": [24, 24]},
    normalisation=Normalisation(low=2.0, high=99.0),
    clustering=Clustering(bandwidth=2.0, min_size=5),
    known=Known(ndim=2, channels=1, polarity="dark", diameters=(3.0, 9.5), traits=({"lean": (0.0, 0.5)},)),
    note="a note",
)
HUGE = 2**60 + 1  # no float is this number
VALUES = [
    RECORD,
    replace(RECORD, inner=None, known=None),
    UNetSpec(levels=2, pool=((1, 2), (2, 2)), kernel=(3, 5), padding="zero"),
    UNetSpec(ndim=3, decoder_convs=1, upsampling="fixed"),
    SegmentSettings(limits=(HUGE, HUGE + 7), no_data=HUGE),
    SegmentSettings(limits=((0.5, HUGE), (HUGE, HUGE + 7))),
    SegmentSettings(write=352, limits=(0.5, 3.0), channels=(1, 0), keep_embedding=False),
    SegmentSettings(write=(160, 352), limits=((0.0, 1.0), (2.0, 3.0)), method="stream", no_data=-1.0, cluster="tcp://a:1"),
    Limits(low=(HUGE,), high=(HUGE + 7,), no_data=HUGE, empty=((HUGE - 1, None),)),
    Limits(low=(0.0, 1.5), high=(math.inf, 2.0), clip=None, invert=True, empty=((None, None), (0.0, 4.0))),
    BlockGrid(shape=(700, 900), edge=(512, 512), halo=40),
    LabelSettings(coordinates=True),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_json_gives_the_value_back_to_the_last_digit(value):
    back = from_json(type(value), to_json(value))
    assert back == value and repr(back) == repr(value)  # 1 is not 1.0, and a list is no tuple
    assert from_plain(type(value), to_plain(value)) == value
    assert from_plain(tuple[type(value), ...], to_plain([value, value])) == (value, value)


def test_a_record_says_the_same_of_the_rules_after_json():
    spec = UNetSpec(levels=3, features=2)
    assert violations(spec, RECORD) != ()
    assert violations(spec, from_json(ModelRecord, to_json(RECORD))) == violations(spec, RECORD)


@pytest.mark.parametrize("older", [("inner",), ("known", "note"), ("clustering", "normalisation", "losses")], ids=str)
def test_what_an_older_version_did_not_write_takes_its_default(older):
    values = {name: value for name, value in to_plain(RECORD).items() if name not in older}
    bare = ModelRecord(window=(1,))
    assert from_plain(ModelRecord, values) == replace(RECORD, **{name: getattr(bare, name) for name in older})


def test_a_clustering_that_an_older_version_wrote_parts_objects_as_it_did():
    """Of a model, and of a result."""
    for kind in (Clustering, LabelSettings):
        values = {name: value for name, value in to_plain(kind(min_size=5)).items() if name != "valley"}
        assert from_plain(kind, values) == kind(min_size=5, valley=0.35) == kind(**values)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (ModelRecord, {}, "window is missing; give it"),
        (ModelRecord, {"window": 24}, "window is 24; give a valid tuple"),
        (ModelRecord, {"window": ["a"]}, "window.0 is 'a'; give a valid integer"),
        (ModelRecord, {"window": [24, 24], "epochs": 3}, "epochs is not known; leave it out"),
        (ModelRecord, {"window": [24, 24], "normalisation": {"mean": 0}}, "normalisation.mean is not known"),
        (ModelRecord, {"window": [24, 24], "clustering": None}, "clustering is None; give a dictionary"),
        (ModelRecord, {"window": [24, 24], "known": {"ndim": 2}}, "known.channels is missing"),
        (ModelRecord, [1, 2], "it is [1, 2]; give a dictionary"),
        (UNetSpec, {"padding": "same"}, "padding is 'same'; give 'valid' or 'zero'"),
        (UNetSpec, {"features": 0}, "features is 0; give an integer of 1 or more"),
        (UNetSpec, {"levels": 2, "pool": [[1, 2]]}, "pool is ((1, 2),); give one factor, or 2 tuples"),
        (SegmentSettings, {"write": "many"}, "write is 'many'; give a valid integer or a valid tuple."),
        (SegmentSettings, {"write": [352, None]}, "write.1 is None; give a valid integer"),
        (SegmentSettings, {"method": "rows"}, "method is 'rows'; give 'auto', 'tiles' or 'stream'"),
        (SegmentSettings, {"percentiles": [1, 50, 99]}, "percentiles is [1, 50, 99]; give as many"),
        (SegmentSettings, "auto", "it is 'auto'; give a dictionary"),
        (tuple[Limits, ...], [{"low": [0], "high": [1]}, {"low": [0]}], "1.high is missing"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_its_place_and_what_is_wanted(kind, values, said):
    with pytest.raises(ModelError) as caught:
        from_plain(kind, values, what="the description", error=ModelError)
    assert str(caught.value).startswith(f"the description does not fit this version: {said}")
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", b"\xff\xfe"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(SettingsError, match="the job is not JSON"):
        from_json(SegmentSettings, text, what="the job")


@dataclass(frozen=True)
class _Odd:
    edge: np.int64
    path: Path


def test_numpy_paths_and_mappings_become_what_json_has():
    odd = {"a": [np.float32(2.5), np.bool_(True)], "b": np.arange(4).reshape(2, 2), "c": MappingProxyType({3: {"x"}})}
    plain = to_plain({**odd, "d": _Odd(np.int64(7), Path("a/b")), "e": (None, "µ")})
    assert plain == {
        "a": [2.5, True],
        "b": [[0, 1], [2, 3]],
        "c": {"3": ["x"]},
        "d": {"edge": 7, "path": "a/b"},
        "e": [None, "µ"],
    }
    assert type(plain["d"]["edge"]) is int and type(plain["a"][0]) is float
    assert from_plain(SegmentSettings, {"write": np.int64(352), "channels": np.array([0, 2])}).channels == (0, 2)


def test_nan_and_infinity_are_kept_named_or_left_out():
    values = {"a": math.nan, "b": [np.float64(np.inf), np.array([-np.inf, 1.5])]}
    assert to_plain(values, beyond="named") == {"a": "nan", "b": ["inf", ["-inf", 1.5]]}
    assert to_plain(values, beyond="none") == {"a": None, "b": [None, [None, 1.5]]}
    kept = to_plain(values)
    assert math.isnan(kept["a"]) and kept["b"] == [math.inf, [-math.inf, 1.5]]


def test_a_stored_record_whose_infinities_are_names_is_read_again():
    limits = Limits(low=(-math.inf, 0.5), high=(7, math.inf), no_data=math.inf)
    assert from_plain(Limits, to_plain(limits, beyond="named")) == limits


class _Long:
    """Whose text has many lines."""

    def __repr__(self):
        return "line\n" * 100


def test_what_has_no_form_in_json_is_refused():
    circle = []
    circle.append(circle)
    for wrong in (object(), slice(0, 3), circle, _Long()):
        with pytest.raises(ResultError, match="the record cannot be written as JSON") as caught:
            to_plain({"a": [wrong]}, what="the record", error=ResultError)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_every_bundled_model_has_a_description_that_comes_back():
    for file in (files("napari_shiftseg") / "weights").iterdir():
        model = load_model(file.name.removesuffix(".safetensors"))
        assert from_plain(UNetSpec, json.loads(to_json(model.spec))) == model.spec
        assert from_json(ModelRecord, to_json(model.record)) == model.record
