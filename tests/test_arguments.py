"""What a public function is given and cannot use is told in a sentence: by name, with what was given and what is wanted."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from grey import bars, grey_model

import napari_shiftseg
from napari_shiftseg import (
    Lattice,
    Output,
    SegmentSettings,
    TrainSettings,
    UNet,
    UNetSpec,
    decide,
    discriminative_loss,
    export_labels,
    label_instances,
    link,
    load_model,
    match_score,
    mean_shift,
    measure,
    open_result,
    plan_tiles,
    predict,
    probe_period,
    read_image,
    read_labels,
    relabel,
    save_model,
    seam_report,
    segment,
    suggest_models,
    train,
    verify_tiling,
    violations,
)
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import SettingsError, ShiftsegError
from napari_shiftseg.network import Normalisation, TrainImage

MODEL = grey_model()
IMAGE = bars((40, 48), 1)
LABELS = (np.indices((40, 48)).sum(0) // 20).astype(np.uint16)
CODES = np.random.default_rng(0).random((2, 40, 48), dtype=np.float32)
PLAN = plan_tiles(MODEL.spec, (40, 48), write=16)
CPU = SegmentSettings(device="cpu")
KNOWN = TrainImage.from_arrays(IMAGE, LABELS.astype(int), Normalisation())
LEARN = TrainSettings(spec=UNetSpec(levels=1, convs=1, features=2), steps=1)

ODD = [None, True, "", "x", "１", -1, 1.5, float("nan"), 10**30, (), [[1]], {"a": 1}, {1}, object(), b"x", 1j, int]
ODD += [np.array([1, 2]), np.array([]), torch.tensor(3), (1.5, 1.5), ("a", "b"), "\0", "q" * 5000, "\x1b[31m", "\ud800"]
# What is called, and what it is given by position.
CALLS = {
    plan_tiles: (MODEL.spec, (40, 48)),
    violations: (PLAN,),
    UNetSpec: (),
    UNet: (MODEL.spec,),
    discriminative_loss: (torch.from_numpy(CODES), torch.from_numpy(LABELS.astype(int))),
    predict: (MODEL.module, IMAGE[None], PLAN),
    train: ([KNOWN], LEARN),
    label_instances: (CODES,),
    match_score: (LABELS, LABELS),
    mean_shift: (CODES.reshape(2, -1).T[:50], 0.3),
    measure: (LABELS, IMAGE),
    probe_period: (MODEL.module,),
    seam_report: (CODES, PLAN),
    verify_tiling: (MODEL.module, IMAGE[None], PLAN),
    export_labels: ("l.csv", "no labels"),
    load_model: ("nuclei",),
    save_model: ("m", MODEL),
    read_image: ("i.tif",),
    read_labels: ("l.tif",),
    open_result: ("r.zarr",),
    decide: (IMAGE, MODEL, CPU),
    link: (None, "t"),
    relabel: (None,),
    segment: (IMAGE, MODEL, CPU),
    suggest_models: (IMAGE,),
}


def test_every_public_function_is_tried():
    public = {getattr(napari_shiftseg, name) for name in napari_shiftseg.__all__ if name[0].islower() and name != "synthetic"}
    assert {call for call in public if callable(call)} <= set(CALLS)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_what_an_argument_is_not_is_told(call, tmp_path, monkeypatch):
    """> lists, None, strings, tensors: an error that says what is wanted"""
    monkeypatch.chdir(tmp_path)
    given, names = CALLS[call], list(inspect.signature(call).parameters)
    takes_time = {(probe_period, "size"), (probe_period, "shifts"), (verify_tiling, "memory")}
    tried = [(place, None) for place in range(len(given))]
    tried += [
        (None, name) for name in names[len(given) :] if name not in ("on_event", "wishes") and (call, name) not in takes_time
    ]
    refused = 0
    for place, name in tried:
        for odd in ODD:
            args = [odd if at == place else value for at, value in enumerate(given)]
            try:
                call(*args, **({} if name is None else {name: odd}))
            except ShiftsegError as exc:
                refused += 1
                assert str(exc).isprintable() and 15 < len(str(exc)) < 2500
            except Exception as exc:
                raise AssertionError(f"{name or names[place]} is {odd!r:.60}") from exc
    assert refused >= len(ODD) // 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("batch", "checkpoint_every", "learning_rate", "gamma")
            for value in (-1, float("nan"), "x")
        ),
        ("batch", 0),
        ("average", 1.5),
        ("learning_rate", 1e308),
        ("balance", float("inf")),
        ("delta_var", None),
        ("window", object()),
    ],
)
def test_settings_of_a_training_are_numbers_that_work(name, value):
    with pytest.raises(SettingsError, match=name):
        train([KNOWN], TrainSettings(spec=LEARN.spec, steps=1, **{name: value}))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros((1, 40, 48), device="meta"),
        torch.zeros((1, 40, 48)).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    ],
    ids=["without values", "sparse", "nested"],
)
def test_tensors_that_are_no_arrays(tensor):
    for call in (
        lambda: predict(MODEL.module, tensor, PLAN),
        lambda: segment(tensor, MODEL, CPU),
        lambda: discriminative_loss(tensor, torch.from_numpy(LABELS.astype(int))),
    ):
        with pytest.raises(ShiftsegError, match="dense"):
            call()


def test_what_fits_and_fails_stays_what_it_is():
    """A mistake of ours is not blamed on who calls."""

    @told
    def divided(number: int, by: float = 2, name: str | Path = "") -> float:
        return number / by if by else [][number]

    with pytest.raises(IndexError):
        divided(1, 0)
    with pytest.raises(TypeError, match="missing"):
        divided()
    with pytest.raises(SettingsError, match=r"number is 'x'; give a whole number\."):
        divided("x")
    assert divided(np.uint8(4), by=np.float32(2)) == 2


@told
def counted(
    names: Mapping[str, int], of: Sequence[str] = (), pair: tuple[int, int] = (1, 1), kind: Literal["a", 1] = "a"
) -> int:
    return sum(names[name] // edge for name in of for edge in pair) + {"a": 1, 1: 2}[kind]


def test_parts_of_what_holds_several_are_compared():
    assert counted({"a": 4}, ["a"], pair=[1, 2], kind=1) == 8
    for given, said in (
        ({"names": [1], "of": "a"}, r"names is \[1\]; give a Mapping\."),
        ({"names": {"a": 4}, "of": ["a"], "pair": (0,)}, "pair is .*; give a tuple"),
        ({"names": {"a": 4}, "of": ["a", []]}, "of is .*; give a sequence of which each is a text"),
        ({"names": {"a": 4}, "of": "ab"}, "of is 'ab'; give a sequence of which each is a text"),
        ({"names": {}, "kind": []}, "kind is .*; give 'a' or 1"),
    ):
        with pytest.raises(SettingsError, match=said):
            counted(**given)
    with pytest.raises(ZeroDivisionError):
        counted({"a": 4}, ["a"], pair=(0, 1))


def test_a_value_that_cannot_be_shown_is_named_by_its_type():
    class Strange:
        def __init__(self, said):
            self.said = said

        def __repr__(self):
            return self.said if self.said else {}["what"]

    for said in ("", "\x1b[31mred"):
        with pytest.raises(SettingsError, match=r"names is a Strange; give"):
            counted(Strange(said), ["a"])
    with pytest.raises(SettingsError, match=r"names is a Strange \(q{60}\.\.\.\); give"):
        counted(Strange("q" * 99), ["a"])


@pytest.mark.parametrize("made", [UNetSpec, Lattice, Output])
def test_a_description_without_what_it_needs_is_an_error_of_python(made):
    with pytest.raises(TypeError, match="unexpected keyword"):
        made(colour="red")


@pytest.mark.parametrize("kind", ["swapped", "f2", ">f2", ">f8", "f8"])
def test_arrays_of_other_types_give_what_plain_ones_give(kind):
    image = IMAGE.astype("f2").astype("f4")
    other = image.astype(image.dtype.newbyteorder() if kind == "swapped" else kind)
    np.testing.assert_array_equal(predict(MODEL.module, other[None], PLAN), predict(MODEL.module, image[None], PLAN))
    np.testing.assert_array_equal(segment(other, MODEL, CPU).labels, segment(image, MODEL, CPU).labels)
    found = measure(LABELS, other)
    for name, values in measure(LABELS, image).items():
        if values.dtype.kind in "iuf":
            np.testing.assert_allclose(found[name], values, rtol=1e-6)
